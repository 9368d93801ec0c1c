"""strata-init's protocol (docs/internals/guest.md) spoken by this file, not by our own C code."""
import json, socket, struct, time

(HELLO, CONFIG, STARTED, EXITED, ERROR, EXEC, STDIN, STDOUT, STDERR, CREDIT, SIGNAL, RESIZE, PUT, GET, POWER, PING,
 PONG) = range(1, 18)


class Guest:
    """where: the unix socket of a console port; or ("hybrid", path): strata-vmm's socket for vsock; or (cid, port): the
    kernel's vsock."""

    def __init__(self, where, timeout=60):
        end = time.time() + timeout
        while True:
            try:
                self.s = self.connect(where, timeout)
                break
            except OSError:
                if time.time() > end:
                    raise
                time.sleep(0.05)
        self.buf, self.next = b"", 1

    @staticmethod
    def connect(where, timeout):
        vsock = isinstance(where, tuple) and where[0] != "hybrid"
        s = socket.socket(socket.AF_VSOCK if vsock else socket.AF_UNIX)
        s.settimeout(timeout)
        try:
            s.connect(where[1] if isinstance(where, tuple) and not vsock else where)
            if isinstance(where, tuple) and not vsock:
                s.sendall(b"CONNECT 1024\n")
                line = b""
                while not line.endswith(b"\n"):
                    c = s.recv(1)
                    if not c:
                        raise OSError("the guest does not listen yet")
                    line += c
                if not line.startswith(b"OK "):
                    raise OSError(line.decode())
        except BaseException:
            s.close()
            raise
        return s

    def send(self, type, stream, data=b""):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        self.s.sendall(struct.pack("<IIB3x", len(data), stream, type) + data)

    def recv(self):
        while len(self.buf) < 12 or len(self.buf) < 12 + struct.unpack("<I", self.buf[:4])[0]:
            more = self.s.recv(65536)
            if not more:
                raise EOFError
            self.buf += more
        n, stream, type = struct.unpack("<IIB3x", self.buf[:12])
        data, self.buf = self.buf[12:12 + n], self.buf[12 + n:]
        return type, stream, data

    def finish(self, sid, feed=b""):
        """Run a stream to its end: (result, stdout, stderr)."""
        out = err = b""
        window, fed, closed = 262144, 0, False
        while True:
            while fed < len(feed) and window > 0:
                part = feed[fed:fed + min(window, 60000)]
                self.send(STDIN, sid, part)
                fed += len(part)
                window -= len(part)
            if not closed and fed == len(feed):
                self.send(STDIN, sid)
                closed = True
            type, stream, data = self.recv()
            if stream != sid:
                continue
            if type in (STDOUT, STDERR):
                if type == STDOUT:
                    out += data
                else:
                    err += data
                self.send(CREDIT, sid, struct.pack("<I", len(data)))
            elif type == CREDIT:
                window += struct.unpack("<I", data)[0]
            elif type in (EXITED, ERROR):
                return json.loads(data), out, err

    def exec(self, *args, feed=b"", **kw):
        sid, self.next = self.next, self.next + 1
        self.send(EXEC, sid, {"args": list(args), **kw})
        return self.finish(sid, feed)

    def put_tree(self, path, tar):
        sid, self.next = self.next, self.next + 1
        self.send(PUT, sid, {"path": path, "archive": True})
        return self.finish(sid, tar)

    def get_tree(self, path):
        sid, self.next = self.next, self.next + 1
        self.send(GET, sid, {"path": path, "archive": True})
        return self.finish(sid)

    def put(self, path, data, **kw):
        sid, self.next = self.next, self.next + 1
        self.send(PUT, sid, {"path": path, **kw})
        return self.finish(sid, data)[0]

    def get(self, path):
        sid, self.next = self.next, self.next + 1
        self.send(GET, sid, {"path": path})
        return self.finish(sid)
