"""A client of strata-shim: frames of base/rpc.h over a unix socket.  For tests."""
import array, json, os, socket, struct, subprocess, time


class Shim:
    """One connection.  call() sends a request and returns its reply; events that come meanwhile are kept in .events."""

    def __init__(self, sock):
        self.sock = sock
        self.seq = 0
        self.events = []
        self.replies = {}
        self.closed = False
        sock.settimeout(60)

    @classmethod
    def start(cls, folder, program='strata-shim', **kw):
        a, b = socket.socketpair()
        proc = subprocess.Popen([program, '--dir', folder, '--fd', str(b.fileno())], pass_fds=[b.fileno()], **kw)
        b.close()
        shim = cls(a)
        shim.proc = proc
        return shim

    @classmethod
    def connect(cls, folder):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(folder + '/shim.sock')
        return cls(s)

    def send(self, op, fds=(), **fields):
        self.seq += 1
        text = json.dumps(dict(fields, op=op, seq=self.seq)).encode()
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        data = struct.pack('<II', len(text), len(fds)) + text
        n = self.sock.sendmsg([data], anc)
        self.sock.sendall(data[n:])
        return self.seq

    def recv(self):
        """The next frame as (object, fds), or None at the end."""
        data, fds = b'', []
        while len(data) < 8 or len(data) < 8 + struct.unpack('<I', data[:4])[0]:
            want = 8 - len(data) if len(data) < 8 else 8 + struct.unpack('<I', data[:4])[0] - len(data)
            try:
                more, anc, _, _ = self.sock.recvmsg(want, 1024)
            except ConnectionResetError:
                more, anc = b'', []
            for level, kind, value in anc:
                a = array.array('i')
                a.frombytes(value[:len(value) - len(value) % a.itemsize])
                fds += a
            if not more:
                self.closed = True
                return None
            data += more
        return json.loads(data[8:]), fds

    def reply(self, seq):
        while seq not in self.replies:
            got = self.recv()
            if not got:
                raise EOFError('the shim closed the connection; events %r' % self.events)
            if 'event' in got[0]:
                self.events.append(got[0])
            else:
                self.replies[got[0]['seq']] = got
        return self.replies.pop(seq)

    def call(self, op, fds=(), want_fds=False, **fields):
        r, got = self.reply(self.send(op, fds, **fields))
        if want_fds:
            return r, got
        for fd in got:
            os.close(fd)
        return r

    def event(self, kind, **match):
        """Wait for an event of that kind."""
        while True:
            for e in self.events:
                if e['event'] == kind and all(e.get(k) == v for k, v in match.items()):
                    self.events.remove(e)
                    return e
            got = self.recv()
            if not got:
                return None
            if 'event' in got[0]:
                self.events.append(got[0])
            else:
                self.replies[got[0]['seq']] = got


def read_all(fd, timeout=60):
    end, data = time.monotonic() + timeout, b''
    s = socket.socket(fileno=fd)
    s.settimeout(timeout)
    try:
        while time.monotonic() < end:
            b = s.recv(65536)
            if not b:
                break
            data += b
    except ConnectionResetError:
        pass
    s.close()
    return data
