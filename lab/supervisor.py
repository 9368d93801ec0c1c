"""The process behind one lab: owns the network namespace, the hosts and the control socket.

Started by `lab up` (or by template.py); lives until `lab down`, the end of its owner, or a signal.
Everything it makes dies with it: QEMUs by PDEATHSIG, bridges and taps with the namespace, memory
files with their descriptors.  What stays are plain files, which `lab down` removes.

Control socket: one request a connection, a line of JSON {"do": verb, ...}; answers are lines
{"say": text}* and then {"ok": value} or {"error": text, "status": n}.  `exec` and `console` go on
with the frames of wire.py in both directions."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import uuid

from . import net, snapshot, state, wire
from .bmc import Bmc, certificate
from .err import LabError
from .host import Host
from .image import Image
from .place import Lock, hold
from .shape import Shape


class Lab:
    """What all hosts of the lab share, and the verbs of the control socket (do_*)."""

    def __init__(self, directory, config):
        self.directory = directory
        self.config = config
        self.data = config['data']
        self.disks = os.path.join(self.data, 'disks')
        self.shape = Shape(**config['shape'])
        self.image = Image(config['image'])
        self.template = config.get('template')
        self.anonymous = bool(config.get('make_template'))
        self.layer = 0                  # number of the newest disk layer
        self.parents = {}               # layer -> layer below
        self.snapshots = {}
        self.locks = []
        self.hosts = {}
        self.bmcs = {}
        self.servers = []               # of forwarded ports
        self.ending = asyncio.Event()
        self.busy = asyncio.Lock()      # snapshot and restore one at a time
        self.outer = -1                 # the namespace we came from

    # ---- life

    async def run(self, started):
        """Until the end of the lab; started() is called when the control socket answers."""
        os.makedirs(self.disks, exist_ok=True)
        self.locks.append(self.image.hold())
        if self.template:
            self.locks.append(hold(self.template))
        self.outer = net.enter()
        net.build(self.config['count'], self.shape.nics)
        for k in range(1, self.config['count'] + 1):
            host = Host(self, k)
            self.hosts[host.name] = host
            if self.template:
                host.make_disks(os.path.join(self.template, 'root.qcow2'), 'qcow2')
            else:
                host.make_disks(self.image.disk, 'raw')
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sig, self.ending.set)
        if self.config.get('owner'):
            self._follow(self.config['owner'])
        await self._start_bmcs()
        server = await asyncio.start_unix_server(
            self._serve, os.path.join(self.directory, 'ctl.sock'), limit=1 << 20)
        started()
        await self.ending.wait()
        server.close()
        for host in self.hosts.values():
            await host.kill()
            host.console.close()
        for bmc in self.bmcs.values():
            bmc.close()

    async def _start_bmcs(self):
        account = ('admin', self.config['password'])
        tls = certificate(self.log)
        for host in self.hosts.values():
            bmc = Bmc(host, account)
            await bmc.listen(self.outer, tls)
            self.bmcs[host.name] = bmc

    def log(self, text):
        """A line for supervisor.log."""
        print(time.strftime('%H:%M:%S'), text, file=sys.stderr, flush=True)

    def _follow(self, pid):
        """End when process `pid` ends."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.ending.set()
            return
        asyncio.get_running_loop().add_reader(fd, self.ending.set)

    def identity(self, host):
        """What makes a host itself; guest/agent.py applies it."""
        seed = hashlib.sha256(('%s/%s' % (self.directory, host.name)).encode()).hexdigest()
        return {'name': host.name, 'machine_id': seed[:32], 'uuid': host.uuid(),
                'boot_id': str(uuid.uuid4()) if host.cloned else None,
                'hosts': net.hosts_file(self.config['count'], self.shape.nics),
                'nics': [{'mac': nic['mac'], 'name': 'eth%d' % nic['n'],
                          'addresses': net.addresses(host.number, nic['n'])}
                         for nic in host.nics()]}

    def host_off(self, host):
        """A host's process has ended."""
        self.log('%s: off%s' % (host.name, host.exited))

    def host(self, name):
        """The host of that name."""
        if name not in self.hosts:
            raise LabError("host '%s': this lab has %s"
                           % (name, ', '.join(self.hosts) or 'none'), 2)
        return self.hosts[name]

    def nic(self, word):
        """The network number that '1', 'eth1', 'net1' or 'mgmt' means."""
        for n in range(self.shape.nics):
            if word in (str(n), 'eth%d' % n, net.network_name(n)):
                return n
        raise LabError("network card '%s': this lab has %s"
                       % (word, ', '.join('eth%d (%s)' % (n, net.network_name(n))
                                          for n in range(self.shape.nics)) or 'none'), 2)

    # ---- verbs

    async def do_up(self, say):
        """Start all hosts and wait for them."""
        started = time.monotonic()
        saved = None
        if self.template:
            saved = snapshot.Saved(self.template, 'h1', False)
        await _all(host.start(saved) for host in self.hosts.values())
        await _all(host.wait_up() for host in self.hosts.values())
        return {'seconds': round(time.monotonic() - started, 2)}

    async def do_ls(self, say):
        """The lab as data."""
        return {'pid': os.getpid(), 'directory': self.directory, 'data': self.data,
                'shape': self.shape.dump(), 'hosts': [h.describe() for h in self.hosts.values()],
                'snapshots': sorted(self.snapshots)}

    async def do_bmc(self, say, host):
        """How to reach the power controller of a host."""
        return self.bmcs[self.host(host).name].describe()

    async def do_wait(self, say, host):
        """Until the host is up."""
        await self.host(host).wait_up()

    async def do_kill(self, say, host):
        """Pull the plug."""
        await self.host(host).kill()

    async def do_pause(self, say, host):
        """Freeze."""
        await self.host(host).pause()

    async def do_resume(self, say, host):
        """Go on."""
        await self.host(host).resume()

    async def do_reboot(self, say, host, force=False, wait=True):
        """Reboot and wait until it is back."""
        await self.host(host).reboot(force)
        if wait:
            await self.host(host).wait_up()

    async def do_poweroff(self, say, host):
        """Power button, wait."""
        await self.host(host).poweroff()

    async def do_poweron(self, say, host, wait=True):
        """A cold start."""
        await self.host(host).start()
        if wait:
            await self.host(host).wait_up()

    async def do_cut(self, say, host, nic=None, cut=True):
        """Cut (or heal) one cable or all of a host."""
        host = self.host(host)
        for n in range(self.shape.nics) if nic is None else [self.nic(nic)]:
            await host.set_cut(n, cut)

    async def do_forward(self, say, host, port, listen=0):
        """A TCP port of this machine's loopback that leads to a port of the host; its number."""
        address = net.addresses(self.host(host).number, 0)[0].split('/')[0]
        if not self.shape.nics:
            raise LabError('forward a port: this lab has no network')

        async def join(reader, writer):
            try:
                far_reader, far_writer = await asyncio.open_connection(address, port)
            except OSError as e:
                self.log('forward %s:%d: %s' % (host, port, e))
                writer.close()
                return
            await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))

        def open_port():
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(('127.0.0.1', listen))
            except OSError as e:
                raise LabError('forward 127.0.0.1:%d: %s' % (listen, e.strerror)) from None
            return sock

        sock = net.inside(self.outer, open_port)
        self.servers.append(await asyncio.start_server(join, sock=sock))
        return {'port': sock.getsockname()[1]}

    async def do_share(self, say, host, path, serial, where):
        """Plug a disk image in and mount it."""
        await self.host(host).share(path, serial, where)

    async def do_settle(self, say, host):
        """Idle, disks written, caches dropped; what systemd says has failed."""
        return await self.host(host).link.call('settle', timeout=900)

    async def do_save_template(self, say, folder):
        """Host h1 into `folder`, without cards and disks."""
        host = self.host('h1')
        saved = await snapshot.save([host], folder)
        await host.kill()
        os.rename(saved['h1'].layers['root'], os.path.join(folder, 'root.qcow2'))

    async def do_snapshot(self, say, name):
        """All hosts as they are, under a name; a snapshot of that name is replaced."""
        started = time.monotonic()
        async with self.busy:
            folder = os.path.join(self.data, 'snapshots', name)
            new = folder + '.new'
            shutil.rmtree(new, ignore_errors=True)
            os.makedirs(new)
            try:
                saved = await snapshot.save(list(self.hosts.values()), new)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(new, folder)
            for one in saved.values():
                one.folder = folder
            self.snapshots[name] = saved
            self._drop_layers()
        return {'seconds': round(time.monotonic() - started, 2)}

    async def do_restore(self, say, name):
        """All hosts back to the snapshot: what ran then runs, what was off is off."""
        started = time.monotonic()
        async with self.busy:
            if name not in self.snapshots:
                raise LabError("restore '%s': this lab has %s"
                               % (name, ', '.join(sorted(self.snapshots)) or 'no snapshot'))
            saved = self.snapshots[name]
            await _all(host.kill() for host in self.hosts.values())
            for host in self.hosts.values():
                host.put_back(saved[host.name])
            self._drop_layers()
            powered = [h for h in self.hosts.values() if saved[h.name].powered]
            await _all(host.start(saved[host.name]) for host in powered)
            await _all(host.wait_state(('up', 'paused'), 300, 'come back') for host in powered)
        return {'seconds': round(time.monotonic() - started, 2)}

    def _drop_layers(self):
        """Remove the disk layers that neither a host nor a snapshot stands on."""
        used = {path for host in self.hosts.values() for path in host.layers.values()}
        for saved in self.snapshots.values():
            for one in saved.values():
                used.update(one.layers.values())
        for path in list(used):
            while path in self.parents:
                path = self.parents[path]
                used.add(path)
        for entry in os.scandir(self.disks):
            if entry.path not in used:
                os.unlink(entry.path)
                self.parents.pop(entry.path, None)

    async def do_down(self, say):
        """The end; the client waits for our process."""
        self.ending.set()
        return os.getpid()

    # ---- the socket

    async def _serve(self, reader, writer):
        try:
            line = await reader.readline()
            if not line:
                return
            request = json.loads(line)
            verb = request.pop('do')

            def say(text):
                writer.write(json.dumps({'say': text}).encode() + b'\n')

            try:
                if verb == 'exec':
                    await self._exec(reader, writer, **request)
                    return
                if verb == 'console':
                    await self._console(reader, writer, **request)
                    return
                method = getattr(self, 'do_' + verb, None)
                if not method:
                    raise LabError("verb '%s': unknown to this lab's supervisor" % verb, 2)
                answer = {'ok': await method(say, **request)}
            except LabError as e:
                answer = {'error': str(e), 'status': e.status}
            except Exception as e:      # a defect: say it, keep the lab alive
                self.log('%s: %r' % (verb, e))
                answer = {'error': '%s: %s: %s' % (verb, type(e).__name__, e), 'status': 1}
            writer.write(json.dumps(answer).encode() + b'\n')
            await writer.drain()
        except (ConnectionError, ValueError, OSError):
            pass
        finally:
            writer.close()

    async def _exec(self, reader, writer, host, spec, timeout=None):
        """Run a command; frames both ways until EXIT.  When the client goes, the command is
        killed."""
        host = self.host(host)
        await host.wait_up()
        done = asyncio.Event()

        def on_frame(kind, payload):
            if kind is None:            # the host went away
                text = json.dumps({'status': 125, 'error': '%s went away' % host.name})
                kind, payload = wire.EXIT, text.encode()
            writer.write(wire.pack(kind, 0, payload))
            if kind == wire.EXIT:
                done.set()

        writer.write(b'{"ok": null}\n')
        stream = host.link.open(spec, on_frame)
        alive = host.link.streams

        async def relay():
            parser = wire.Parser()
            while True:
                data = await reader.read(65536)
                if not data:
                    host.link.send(wire.KILL, stream, bytes([signal.SIGKILL]))
                    return
                for kind, _, payload in parser.feed(data):
                    if kind in (wire.STDIN, wire.KILL, wire.CREDIT, wire.RESIZE):
                        host.link.send(kind, stream, payload)

        task = asyncio.ensure_future(relay())
        waiter = asyncio.ensure_future(done.wait())
        await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
        if not done.is_set() and stream in alive:
            alive[stream] = lambda kind, payload: None      # nobody listens any more
        task.cancel()
        waiter.cancel()
        await writer.drain()

    async def _console(self, reader, writer, host):
        """Frames STDOUT to the client, STDIN from it, until it goes."""
        console = self.host(host).console
        writer.write(b'{"ok": null}\n')

        def watch(data):
            if writer.transport.get_write_buffer_size() < 1 << 20:
                writer.write(data)

        watch(console.tail)
        console.watchers.add(watch)
        try:
            while True:
                data = await reader.read(4096)
                if not data:
                    return
                console.type(data)
        finally:
            console.watchers.discard(watch)


async def _pour(reader, writer):
    """Bytes from one connection to another until either ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _all(coroutines):
    """Run them at once; the first failure is raised after all have ended."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def main(directory, ready_fd):
    """The supervisor process; `ready_fd` gets one line: ok, or what went wrong."""
    with open(os.path.join(directory, 'lab.json')) as f:
        config = json.load(f)
    lock = Lock(os.path.join(directory, 'lock'), wait=False).__enter__()

    def tell(text):
        nonlocal ready_fd
        if ready_fd >= 0:
            os.write(ready_fd, text.encode())
            os.close(ready_fd)
            ready_fd = -1

    async def live():
        lab = Lab(directory, config)
        await lab.run(lambda: tell('ok'))

    try:
        asyncio.run(live())
    except LabError as e:
        print(e, file=sys.stderr)
        tell(str(e))
        return 1
    except BaseException as e:
        tell('%s: %s' % (type(e).__name__, e))
        raise
    finally:
        state.remove_files(directory, config['data'])
        lock.close()
    return 0
