"""The short-lived side of the control socket: questions, commands with their streams, consoles."""

import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import termios
import tty

from . import wire
from .err import LabError

ESCAPE = b'\x1d'                        # Ctrl-]


def connect(directory):
    """A connection to the supervisor of the lab in `directory`."""
    sock = socket.socket(socket.AF_UNIX)
    path = os.path.join(directory, 'ctl.sock')
    try:
        # By descriptor: a socket's path may have 107 bytes, a directory's more.
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            sock.connect('/proc/self/fd/%d/ctl.sock' % fd)
        finally:
            os.close(fd)
    except OSError as e:
        sock.close()
        hint = "no lab there; 'lab up 1' starts one" \
            if isinstance(e, (FileNotFoundError, ConnectionRefusedError)) else str(e)
        raise LabError('%s: %s' % (path, hint), 125) from None
    return sock


def ask(directory, verb, timeout=None, say=lambda text: None, **arguments):
    """One question, its answer; progress goes to say()."""
    with connect(directory) as sock:
        sock.settimeout(timeout)
        sock.sendall(json.dumps(dict(arguments, do=verb)).encode() + b'\n')
        with sock.makefile('rb') as lines:
            try:
                for line in lines:
                    answer = json.loads(line)
                    if 'say' in answer:
                        say(answer['say'])
                    else:
                        return _value(answer)
            except socket.timeout:
                raise LabError('%s: no answer within %d s' % (verb, timeout)) from None
    raise LabError('%s: the lab went away' % verb, 125)


def execute(directory, host, argv, env=None, cwd=None, use_tty=False, stdin=0, stdout=1, stderr=2,
            timeout=None):
    """Run argv in the host with these descriptors (stdin None: empty); its exit status, 124 when
    `timeout` seconds were not enough."""
    spec = {'argv': argv, 'env': env, 'cwd': cwd, 'stdin': stdin is not None}
    if use_tty:
        spec['tty'] = _tty_size(stdin)
    with connect(directory) as sock:
        sock.sendall(json.dumps({'do': 'exec', 'host': host, 'spec': spec}).encode() + b'\n')
        head = _line(sock)
        _value(json.loads(head or b'{"error": "the lab went away", "status": 125}'))
        raw = _Raw(stdin) if use_tty else None
        try:
            return _Streams(sock, stdin, stdout, stderr, timeout).run()
        finally:
            if raw:
                raw.restore()


class _Streams:
    """Moves bytes between our descriptors and the frames of one command."""

    def __init__(self, sock, stdin, stdout, stderr, timeout):
        self.sock, self.stdin = sock, stdin
        self.out = {wire.STDOUT: stdout, wire.STDERR: stderr}
        self.timeout = timeout
        self.window = wire.WINDOW
        self.parser = wire.Parser()
        self.sel = selectors.DefaultSelector()
        self.stdin_file = False         # a regular file cannot be polled: always ready

    def run(self):
        sel = self.sel
        sel.register(self.sock, selectors.EVENT_READ)
        old = {}
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            old[sig] = signal.signal(sig, lambda s, frame: self.send(wire.KILL, bytes([s])))
        expired = False

        def alarm(sig, frame):
            nonlocal expired
            if expired:
                self.send(wire.KILL, bytes([signal.SIGKILL]))
            else:
                expired = True
                self.send(wire.KILL, bytes([signal.SIGTERM]))
                signal.setitimer(signal.ITIMER_REAL, 5)

        if self.timeout:
            old[signal.SIGALRM] = signal.signal(signal.SIGALRM, alarm)
            signal.setitimer(signal.ITIMER_REAL, self.timeout)
        if self.stdin is not None and os.isatty(self.stdin):
            old[signal.SIGWINCH] = signal.signal(
                signal.SIGWINCH,
                lambda s, f: self.send(wire.RESIZE, struct.pack('!HH', *_tty_size(self.stdin))))
        try:
            self._watch_stdin()
            while True:
                busy = self.stdin_file and self.window > 0
                for key, _ in sel.select(0 if busy else None):
                    if key.fileobj is self.sock:
                        status = self._receive()
                        if status is not None:
                            return 124 if expired else status
                    else:
                        self._input()
                if busy:
                    self._input()
        finally:
            if self.timeout:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for sig, handler in old.items():
                signal.signal(sig, handler)
            sel.close()

    def send(self, kind, payload=b''):
        try:
            self.sock.sendall(wire.pack(kind, 0, payload))
        except OSError:
            pass                        # the end is noticed by the reader

    def _watch_stdin(self):
        if self.stdin is None:
            return
        try:
            self.sel.register(self.stdin, selectors.EVENT_READ)
        except PermissionError:
            self.stdin_file = True
        except (OSError, ValueError):   # closed
            self.stdin = None
            self.send(wire.STDIN)

    def _input(self):
        if self.stdin is None:
            return
        try:
            data = os.read(self.stdin, min(wire.MAX_PAYLOAD, self.window))
        except OSError:
            data = b''
        self.send(wire.STDIN, data)
        self.window -= len(data)
        if not data:
            if not self.stdin_file:
                self.sel.unregister(self.stdin)
            self.stdin_file, self.stdin = False, None
        elif self.window <= 0 and not self.stdin_file:
            self.sel.unregister(self.stdin)

    def _receive(self):
        data = self.sock.recv(65536)
        if not data:
            raise LabError('the lab went away', 125)
        for kind, _, payload in self.parser.feed(data):
            if kind in self.out:
                _write_all(self.out[kind], payload)
                self.send(wire.CREDIT, struct.pack('!I', len(payload)))
            elif kind == wire.CREDIT:
                before = self.window
                self.window += struct.unpack('!I', payload)[0]
                if before <= 0 < self.window and self.stdin is not None and not self.stdin_file:
                    self.sel.register(self.stdin, selectors.EVENT_READ)
            elif kind == wire.EXIT:
                done = json.loads(payload)
                if done.get('error'):
                    print('lab: ' + done['error'], file=sys.stderr)
                return done['status']
        return None


def console(directory, host):
    """Join our terminal with the host's serial console until Ctrl-] or end of input."""
    with connect(directory) as sock:
        sock.sendall(json.dumps({'do': 'console', 'host': host}).encode() + b'\n')
        _value(json.loads(_line(sock) or b'{"error": "the lab went away", "status": 125}'))
        raw = _Raw(0) if os.isatty(0) else None
        try:
            with selectors.DefaultSelector() as sel:
                sel.register(sock, selectors.EVENT_READ)
                sel.register(0, selectors.EVENT_READ)
                while True:
                    for key, _ in sel.select():
                        if key.fileobj is sock:
                            data = sock.recv(65536)
                            if not data:
                                return
                            _write_all(1, data)
                        else:
                            data = os.read(0, 4096)
                            if not data or ESCAPE in data:
                                return
                            sock.sendall(data)
        finally:
            if raw:
                raw.restore()


class _Raw:
    """A terminal in raw mode until restore()."""

    def __init__(self, fd):
        self.fd = fd
        self.saved = termios.tcgetattr(fd)
        tty.setraw(fd)

    def restore(self):
        termios.tcsetattr(self.fd, termios.TCSADRAIN, self.saved)


def _tty_size(fd):
    try:
        rows, columns = struct.unpack('HHHH', fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]
    except OSError:
        rows, columns = 24, 80
    return [rows or 24, columns or 80]


def _write_all(fd, data):
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view):]
        except BlockingIOError:
            selectors_wait(fd)
        except BrokenPipeError:
            raise LabError('', 141) from None   # like a command killed by SIGPIPE


def selectors_wait(fd):
    """Until `fd` takes bytes again (somebody made our output non-blocking)."""
    with selectors.DefaultSelector() as sel:
        sel.register(fd, selectors.EVENT_WRITE)
        sel.select()


def _line(sock):
    """One line, and not a byte more: what follows are frames."""
    line = b''
    while not line.endswith(b'\n'):
        data = sock.recv(1)
        if not data:
            return b''
        line += data
    return line


def _value(answer):
    if 'error' in answer:
        raise LabError(answer['error'], answer.get('status', 1))
    return answer['ok']
