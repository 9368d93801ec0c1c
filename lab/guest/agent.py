"""The agent inside a lab host: runs commands for the supervisor and gives the host its identity.

One process, one loop, one virtio-serial port.  Frames are described in wire.py.  A RESET from the
supervisor kills the commands of an earlier connection and starts afresh."""

import base64
import collections
import fcntl
import json
import os
import pty
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import wire

PORT = '/dev/virtio-ports/strata.lab'
STATE = '/var/lib/strata-lab/identity.json'
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
CHUNK = wire.MAX_PAYLOAD
PIPE = 256 * 1024
# Modules that most tests want: a template has them loaded, a boot loads them when they are asked
# for.
COMMON = ['tun', 'bridge', 'veth', 'vhost_net', 'vhost_vsock', 'overlay', 'loop', 'fuse', 'dm_mod',
          'nf_tables', 'vxlan', '8021q']


class Command:
    """One running command and what is on the way to and from it."""

    def __init__(self, agent, stream, spec):
        self.agent, self.stream = agent, stream
        self.window = wire.WINDOW           # bytes of output that we may still send
        self.input = bytearray()
        self.input_ends = False
        self.status = None
        self.tty = spec.get('tty')
        env = dict(os.environ, **(spec.get('env') or {}))
        master = slave = -1
        options = dict(cwd=spec.get('cwd') or '/root', env=env, start_new_session=True)
        if self.tty:
            master, slave = pty.openpty()
            resize(master, self.tty)
            options.update(stdin=slave, stdout=slave, stderr=slave,
                           preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        else:
            options.update(stdin=subprocess.PIPE if spec.get('stdin') else subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self.proc = subprocess.Popen(spec['argv'], **options)
        except BaseException:
            if master >= 0:
                os.close(master)
            raise
        finally:
            if slave >= 0:
                os.close(slave)
        if self.tty:
            self.stdin = master
            self.outs = {master: wire.STDOUT}
        else:
            self.stdin = os.dup(self.proc.stdin.fileno()) if self.proc.stdin else -1
            self.outs = {os.dup(self.proc.stdout.fileno()): wire.STDOUT,
                         os.dup(self.proc.stderr.fileno()): wire.STDERR}
            for f in (self.proc.stdin, self.proc.stdout, self.proc.stderr):
                if f:
                    f.close()
        for fd in set(self.outs) | ({self.stdin} - {-1}):
            os.set_blocking(fd, False)
            if not self.tty:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)
        self.pidfd = os.pidfd_open(self.proc.pid)

    def watch(self):
        """Tell the loop what we wait for now."""
        want = {self.pidfd: selectors.EVENT_READ} if self.status is None else {}
        if self.window > 0 and self.agent.room():
            for fd in self.outs:
                want[fd] = selectors.EVENT_READ
        if self.stdin >= 0 and (self.input or self.input_ends):
            want[self.stdin] = want.get(self.stdin, 0) | selectors.EVENT_WRITE
        return want

    def event(self, fd, mask):
        """One of our descriptors is ready."""
        if fd == self.pidfd and self.status is None:
            self.status = self.proc.wait()
            if self.status < 0:
                self.status = 128 - self.status
        if fd == self.stdin and mask & selectors.EVENT_WRITE:
            self.feed()
        if fd in self.outs and mask & selectors.EVENT_READ:
            while self.window > 0 and self.agent.room() and self.pump(fd):
                pass

    def pump(self, fd):
        """Send what the command has written; False when there is nothing more just now."""
        try:
            data = os.read(fd, min(CHUNK, self.window))
        except BlockingIOError:
            return False
        except OSError:                     # a pty whose last user is gone
            data = b''
        if not data:
            self.close_out(fd)
            return False
        self.window -= len(data)
        self.agent.send(self.outs[fd], self.stream, data)
        return True

    def feed(self):
        """Give the command its input."""
        try:
            if self.input:
                n = os.write(self.stdin, self.input)
                del self.input[:n]
                self.agent.send(wire.CREDIT, self.stream, struct.pack('!I', n))
        except BlockingIOError:
            return
        except OSError:                     # it does not read: swallow the rest
            self.agent.send(wire.CREDIT, self.stream, struct.pack('!I', len(self.input)))
            self.input.clear()
            self.input_ends = True
        if self.input_ends and not self.input:
            if self.tty:
                self.input += b'\x04'       # the terminal's own end of file
                self.input_ends = False
            else:
                os.close(self.stdin)
                self.stdin = -1

    def drained(self):
        """True when the command is over and its output is sent.  What children that stay behind may
        write later is nobody's business: a command that starts a daemon must return."""
        if self.status is None:
            return False
        for fd in list(self.outs):
            while self.window > 0 and self.agent.room() and self.pump(fd):
                pass
        return not self.outs or (self.window > 0 and self.agent.room())

    def close_out(self, fd):
        del self.outs[fd]
        if fd == self.stdin:
            self.stdin = -1
        os.close(fd)

    def kill(self, sig):
        """A signal for the command and its process group."""
        if self.status is None:
            try:
                os.killpg(self.proc.pid, sig)
            except ProcessLookupError:
                pass

    def close(self):
        """Let go of everything; a command that still runs is killed."""
        self.kill(signal.SIGKILL)
        if self.status is None:
            self.proc.wait()
        for fd in (set(self.outs) | {self.stdin, self.pidfd}) - {-1}:
            os.close(fd)


class Agent:
    """The loop: the port on one side, commands on the other."""

    def __init__(self, port):
        self.port = port
        self.parser = wire.Parser()
        self.out = collections.deque()      # frames for the port
        self.queued = 0                     # bytes in them
        self.commands = {}
        self.sel = selectors.DefaultSelector()
        self.watched = {}

    def room(self):
        """May more output be queued for the port?"""
        return self.queued < 16 * CHUNK

    def send(self, kind, stream, payload=b''):
        frame = wire.pack(kind, stream, payload)
        self.out.append(frame)
        self.queued += len(frame)

    def run(self):
        self.send(wire.READY, 0)            # "I have just started"
        while True:
            self.rewatch()
            for key, mask in self.sel.select():
                if key.fd == self.port:
                    self.port_event(mask)
                elif key.data in self.commands and key.fd in self.watched:
                    self.commands[key.data].event(key.fd, mask)
            for stream, command in list(self.commands.items()):
                if command.drained():
                    self.send(wire.EXIT, stream, json.dumps({'status': command.status}).encode())
                    command.close()
                    del self.commands[stream]
            self.flush()

    def rewatch(self):
        """Bring the selector in line with what is wanted now."""
        write = selectors.EVENT_WRITE if self.out else 0
        want = {self.port: (selectors.EVENT_READ | write, None)}
        for stream, command in self.commands.items():
            for fd, mask in command.watch().items():
                want[fd] = (mask, stream)
        for fd in list(self.watched):
            if want.get(fd) != self.watched[fd]:
                try:
                    self.sel.unregister(fd)
                except (KeyError, ValueError):
                    pass
                del self.watched[fd]
        for fd, (mask, stream) in want.items():
            if fd not in self.watched:
                self.sel.register(fd, mask, stream)
                self.watched[fd] = (mask, stream)

    def port_event(self, mask):
        if not mask & selectors.EVENT_READ:
            return
        got = []                            # the driver hands out a page at a time
        try:
            while len(got) < 128:
                data = os.read(self.port, 65536)
                if not data:                # nobody at the other end: look again in a moment
                    time.sleep(0.05)
                    break
                got.append(data)
        except BlockingIOError:
            pass
        for kind, stream, payload in self.parser.feed(b''.join(got)):
            self.frame(kind, stream, payload)

    def flush(self):
        while self.out:
            frame = self.out[0]
            try:
                n = os.write(self.port, frame)
            except BlockingIOError:
                return
            self.queued -= n
            if n == len(frame):
                self.out.popleft()
            else:
                self.out[0] = frame[n:]

    def frame(self, kind, stream, payload):
        command = self.commands.get(stream)
        if kind == wire.RESET:
            for old in self.commands.values():
                old.close()
            self.commands.clear()
            self.out.clear()
            self.queued = 0
            self.send(wire.READY, 0, payload)
        elif kind == wire.CALL:
            self.send(wire.REPLY, stream, json.dumps(call(json.loads(payload))).encode())
        elif kind == wire.EXEC:
            try:
                self.commands[stream] = Command(self, stream, json.loads(payload))
            except (OSError, ValueError) as e:
                status = 127 if isinstance(e, FileNotFoundError) else 126
                self.send(wire.EXIT, stream,
                          json.dumps({'status': status, 'error': str(e)}).encode())
        elif command is None:
            return                          # it has just ended
        elif kind == wire.STDIN:
            if payload and command.stdin >= 0:
                command.input += payload
            elif payload:
                self.send(wire.CREDIT, stream, struct.pack('!I', len(payload)))
            else:
                command.input_ends = True
        elif kind == wire.CREDIT:
            command.window += struct.unpack('!I', payload)[0]
        elif kind == wire.KILL:
            command.kill(payload[0])
        elif kind == wire.RESIZE and command.tty and command.outs:
            resize(next(iter(command.outs)), struct.unpack('!HH', payload))


def resize(fd, size):
    """Set a terminal's rows and columns."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', size[0], size[1], 0, 0))


def call(request):
    """A question of the supervisor about the host itself."""
    try:
        return {'value': CALLS[request.pop('call')](**request)}
    except Exception as e:                  # the answer, whatever went wrong, is for the other side
        return {'error': '%s: %s' % (type(e).__name__, e)}


def set_clock(now, entropy=None):
    """The host slept: step its clock to `now` (seconds since the epoch).  `entropy` (base64): it
    may be awake a second time since the same snapshot, and must not draw the same random numbers
    again."""
    time.clock_settime(time.CLOCK_REALTIME, now)
    if entropy:
        stir(entropy)


def stir(entropy):
    """New bytes for the kernel's random numbers, used from now on."""
    raw = base64.b64decode(entropy)
    with open('/dev/urandom', 'wb', buffering=0) as f:
        fcntl.ioctl(f, RNDADDENTROPY, struct.pack('ii', len(raw) * 8, len(raw)) + raw)
        fcntl.ioctl(f, RNDRESEEDCRNG)


def set_identity(identity, entropy):
    """Become host `identity['name']`: see supervisor.py for the fields.  Kept on disk, so that a
    reboot finds it.  `entropy` (base64) keeps clones of one template from drawing equal numbers."""
    stir(entropy)
    kept = {k: v for k, v in identity.items() if k != 'boot_id'}    # the next boot has its own
    write(STATE, json.dumps(kept))
    apply(identity)
    os.sync()


def apply(identity):
    """Names, ids and network from `identity`."""
    changed = not os.path.exists('/etc/machine-id') \
        or read('/etc/machine-id') != identity['machine_id']
    socket.sethostname(identity['name'])
    write('/etc/hostname', identity['name'] + '\n')
    write('/etc/hosts', identity['hosts'])
    if changed:
        write('/etc/machine-id', identity['machine_id'] + '\n')
        for kind, link in (('iscsi', '/etc/iscsi/initiatorname.iscsi'),):
            if os.path.isdir(os.path.dirname(link)):
                write(link, 'InitiatorName=iqn.2024-01.lab.strata:%s\n' % identity['name'])
    # A clone has its template's boot id and board number; everybody reads them from these files.
    cover('/proc/sys/kernel/random/boot_id', identity.get('boot_id'))
    cover('/sys/class/dmi/id/product_uuid', identity.get('uuid'))
    network(identity['nics'])
    if changed:
        subprocess.Popen(['systemctl', 'restart', '--no-block', 'systemd-journald'],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()


def network(nics):
    """Name the cards by their addresses and give them what the identity says."""
    deadline = time.monotonic() + 30
    want = {n['mac']: n for n in nics}
    while True:
        have = {}
        for name in os.listdir('/sys/class/net'):
            path = '/sys/class/net/%s/' % name
            if os.path.exists(path + 'device'):
                have[read(path + 'address')] = name
        if set(want) <= set(have):
            break
        if time.monotonic() > deadline:
            raise RuntimeError('no network card with address ' + ', '.join(set(want) - set(have)))
        time.sleep(0.02)
    batch = ['link set lo up']
    moved = [m for m in want if have[m] != want[m]['name']]
    for mac in moved:                       # two steps, as the names may be swapped
        batch += ['link set %s down' % have[mac],
                  'link set %s name lab.%s' % (have[mac], want[mac]['name'])]
    for mac in moved:
        batch.append('link set lab.%s name %s' % (want[mac]['name'], want[mac]['name']))
    for nic in nics:
        batch.append('link set %s up' % nic['name'])
        for address in nic['addresses']:
            nodad = ' nodad' if ':' in address else ''
            batch.append('address replace %s dev %s%s' % (address, nic['name'], nodad))
    done = subprocess.run(['ip', '-batch', '-'], input='\n'.join(batch) + '\n', text=True,
                          capture_output=True)
    if done.returncode:
        raise RuntimeError('ip: ' + done.stderr.strip())


def cover(path, text):
    """Lay a file with `text` over a file of /proc or /sys."""
    if not text or not os.path.exists(path):
        return
    os.makedirs('/run/strata-lab', exist_ok=True)
    mine = '/run/strata-lab/' + os.path.basename(path)
    bound = os.path.exists(mine)
    with open(mine, 'w') as f:              # in place: a bind mount follows the inode
        f.write(text + '\n')
    if not bound:
        subprocess.run(['mount', '--bind', mine, path], check=True)


def attach(serial, where):
    """Mount the read-only disk that carries `serial` on the folder `where`."""
    path = '/dev/disk/by-id/virtio-' + serial
    deadline = time.monotonic() + 30
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise RuntimeError('no disk ' + serial)
        time.sleep(0.02)
    os.makedirs(where, exist_ok=True)
    done = subprocess.run(['mount', '-o', 'ro', path, where], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


def settle():
    """Before a template is taken: the system is up, the disk is written, the caches are empty."""
    subprocess.run(['systemctl', 'is-system-running', '--wait'], stdout=subprocess.DEVNULL)
    subprocess.run(['modprobe', '-qa'] + COMMON)
    subprocess.run(['udevadm', 'settle'])
    os.sync()
    write('/proc/sys/vm/drop_caches', '3')
    write('/proc/sys/vm/compact_memory', '1')
    return subprocess.run(['systemctl', '--failed', '--plain', '--no-legend'],
                          capture_output=True, text=True).stdout


def read(path):
    with open(path) as f:
        return f.read().strip()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as f:
        f.write(text)


CALLS = {'clock': set_clock, 'identity': set_identity, 'attach': attach, 'settle': settle}


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if os.path.exists(STATE):
        try:
            apply(json.loads(read(STATE)))
        except Exception as e:
            print('identity:', e, file=sys.stderr)
    while not os.path.exists(PORT):
        time.sleep(0.02)
    port = os.open(PORT, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.environ.update(HOME='/root', USER='root', LOGNAME='root', TERM='linux', LANG='C.UTF-8',
                      PATH='/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')
    for name in ('INVOCATION_ID', 'JOURNAL_STREAM', 'NOTIFY_SOCKET', 'SYSTEMD_EXEC_PID'):
        os.environ.pop(name, None)
    Agent(port).run()


if __name__ == '__main__':
    main()
