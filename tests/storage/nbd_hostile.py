#!/usr/bin/env python3
"""NBD clients that misbehave: nbd_hostile.py SOCKET PID|starttls.

The server runs with one thread, a time limit of 1 s, 64 MiB of buffers and at most 40 clients.
"""
import socket
import struct
import sys
import time

PATIENCE = 60
READ, WRITE, DISC, FLUSH = 0, 1, 2, 3


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(path)
    return s


def get(s, n):
    out = b""
    while len(out) < n:
        part = s.recv(n - len(out))
        if not part:
            raise EOFError
        out += part
    return out


def greet(s):
    assert get(s, 18)[:16] == b"NBDMAGICIHAVEOPT"
    s.sendall(struct.pack(">I", 3))


def begin(path):
    """A client in the transmission phase, simple replies."""
    s = connect(path)
    greet(s)
    s.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 0))
    get(s, 10)
    return s


def request(kind, off, length, flags=0, cookie=7):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, off, length)


def reply(s):
    magic, error, cookie = struct.unpack(">IIQ", get(s, 16))
    assert magic == 0x67446698, hex(magic)
    return error


def is_dropped(s):
    """True when the server hangs up (what it still sends is thrown away)."""
    try:
        while s.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
    return True


def rss(pid):
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def limits(path, pid):
    # negotiation that never goes on; a request that never ends; a payload that never comes
    silent = connect(path)
    head = begin(path)
    head.sendall(request(READ, 0, 512)[:20])
    payload = begin(path)
    payload.sendall(request(WRITE, 0, 1 << 20) + b"x" * 1000)
    idle = begin(path)
    for s in silent, head, payload:
        assert is_dropped(s)

    # wrong magic; unknown commands and flags are answered and do no harm
    s = begin(path)
    s.sendall(b"\0" * 28)
    assert is_dropped(s)
    s = begin(path)
    for kind, off, length, flags, want in ((99, 0, 0, 0, 22), (READ, 0, 512, 0x80, 22), (READ, 1 << 40, 512, 0, 22),
                                           (READ, 0, 1 << 31, 0, 22), (FLUSH, 0, 0, 0, 0), (READ, 2 ** 64 - 1, 512, 0, 22)):
        s.sendall(request(kind, off, length, flags))
        error = reply(s)
        assert error == want, (kind, off, length, flags, error)
    # a write outside: its payload is skipped, the next request is understood
    s.sendall(request(WRITE, 1 << 40, 100000) + b"y" * 100000 + request(FLUSH, 0, 0))
    assert reply(s) == 28 and reply(s) == 0
    s.close()

    # more requests at once than the limit, replies read late: all are answered
    s = begin(path)
    for i in range(100):
        s.sendall(request(READ, i * 4096, 512) * 10)
    for _ in range(1000):
        assert reply(s) == 0
        get(s, 512)

    # readers that ask for much and read nothing, writers that begin much and send nothing: memory stays bounded,
    # they are dropped, and a client in line behind them is served
    greedy = []
    for i in range(12):
        c = begin(path)
        c.setblocking(False)
        try:
            if i % 2:
                c.send(request(READ, 0, 32 << 20) * 100)
            else:
                c.send(request(WRITE, 0, 32 << 20) + b"z" * 100)
        except BlockingIOError:
            pass
        greedy.append(c)
    s.sendall(request(READ, 0, 16 << 20))
    assert reply(s) == 0
    get(s, 16 << 20)
    for c in greedy:
        c.close()
    assert rss(pid) < 256 << 20, rss(pid)

    # no more than 40
    many = [idle]
    refused = 0
    for _ in range(60):
        c = connect(path)
        try:
            greet(c)
            many.append(c)
        except (EOFError, ConnectionError):
            refused += 1
    assert refused >= 20 and len(many) <= 40, (refused, len(many))
    for c in many[1:]:
        c.close()

    # an idle client has lived through all of it
    idle.sendall(request(READ, 0, 512))
    assert reply(idle) == 0
    get(idle, 512)
    idle.close()
    # the places are free again
    end = time.monotonic() + PATIENCE
    while True:
        try:
            begin(path).close()
            break
        except (EOFError, ConnectionError):
            assert time.monotonic() < end


def starttls(path):
    s = connect(path)
    greet(s)
    s.sendall(b"IHAVEOPT" + struct.pack(">II", 5, 0) + b"IHAVEOPT" + struct.pack(">II", 3, 0))
    assert is_dropped(s)
    s = connect(path)
    greet(s)
    s.sendall(b"IHAVEOPT" + struct.pack(">II", 3, 0))
    magic, opt, kind, length = struct.unpack(">QIII", get(s, 20))
    assert kind == 0x80000005, hex(kind)
    s.close()


if __name__ == "__main__":
    if sys.argv[2] == "starttls":
        starttls(sys.argv[1])
    else:
        limits(sys.argv[1], int(sys.argv[2]))
