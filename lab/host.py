"""One host of a lab: its QEMU process, disks, cables, console and agent, and the verbs on them.

    off ──start──▶ starting ──agent answers──▶ up ◀──pause/resume──▶ paused
     ▲                ▲  └───────guest resets──┘ │
     └──process ends──┴──────────────────────────┘

Runs on the supervisor's loop.  A host is killed by killing its process; what the guest had flushed
is in the page cache of this machine and stays.

Saving (snapshot.py does it): stop, put a new layer on every disk, write the device state with
QEMU's migration code, copy the memory file, go on.  Memory is left out of the migration stream by
x-ignore-shared because the file is copied as a whole, holes left out."""

import asyncio
import base64
import json
import os
import socket
import subprocess
import time

from . import net, process, qemu
from .console import Console
from .err import BROKEN, LabError
from .link import Link
from .qmp import Qmp

BOOT_TIMEOUT = int(os.environ.get('LAB_BOOT_TIMEOUT', '600'))


class Host:
    """lab gives shape, image, data folder and the identity of each host."""

    def __init__(self, lab, number):
        self.lab = lab
        self.number = number
        self.name = 'h%d' % number
        self.state = 'off'
        self.before = 'up'              # the state that a pause interrupted
        self.proc = None
        self.qmp = None
        self.rams = []                  # descriptors of the memory files, one per NUMA node
        self.cut = set()                # numbers of the networks whose cable is cut
        self.layers = {}                # disk -> path of its top layer
        self.shares = []                # (serial, path, mount point) of read-only disks
        self.plugged = {}               # disk or 'nic0'… -> port
        self.fresh = True               # False after a restore: the host knows who it is
        self.cloned = False             # runs since a template, not since a boot of its own
        self.events = asyncio.Event()   # set and replaced at every change of state
        self.since = time.monotonic()
        self.broken = ''                # why the agent could not make it a host of this lab
        self.exited = ''                # why the process ended, for people
        self.crashed = False            # it ended by a fault of QEMU's own
        self.console = Console(os.path.join(lab.directory, self.name + '.console'))
        self.link = Link(self.name, self._agent_ready)

    # ---- starting

    def make_disks(self, base, fmt):
        """Empty layers over the image (or the template's root disk), and the extra disks."""
        self.layers = {'root': self._layer('root')}
        qemu.make_overlay(self.layers['root'], base, fmt)
        for i, size in enumerate(self.lab.shape.disks, 1):
            disk = 'disk%d' % i
            self.layers[disk] = self._layer(disk)
            qemu.make_disk(self.layers[disk], size)

    async def start(self, saved=None):
        """Start the process: cold, or from `saved` (snapshot.Saved).  Returns when it runs;
        wait_up() tells when the agent has answered."""
        if self.proc:
            raise LabError('%s: it runs already' % self.name)
        self._enter('starting')
        self.exited, self.crashed = '', False
        try:
            await self._start(saved)
        except BaseException as e:
            await self.kill()
            if self.crashed and isinstance(e, LabError):
                raise LabError('%s: it does not start%s' % (self.name, self.exited),
                               BROKEN) from None
            raise

    async def _start(self, saved):
        shape = self.lab.shape
        self.rams = [os.memfd_create('%s-ram%d' % (self.name, i)) for i in range(shape.numa)]
        for i, fd in enumerate(self.rams):
            os.ftruncate(fd, shape.memory // shape.numa)
            if saved:
                await asyncio.to_thread(saved.load_ram, i, fd)
        plugged = self._devices(only_root=bool(saved) and not saved.has_devices)
        ours, theirs = {}, {}
        for which in ('qmp', 'agent', 'console'):
            ours[which], theirs[which] = socket.socketpair()
            ours[which].setblocking(False)
        fds = {which: s.fileno() for which, s in theirs.items()}
        fds['ram'] = self.rams
        argv = qemu.arguments(shape, self.lab.image, self.name, self.uuid(), fds)
        argv += qemu.device_words(*plugged)
        if saved:
            argv += ['-incoming', 'defer']
        log = open(os.path.join(self.lab.directory, self.name + '.qemu'), 'ab')
        with log:
            log.write((' '.join(argv) + '\n').encode())
            log.flush()
            self.proc = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=process.die_with_parent,
                pass_fds=[*self.rams, *(s.fileno() for s in theirs.values())])
        for s in theirs.values():
            s.close()
        self._watch(self.proc)
        await self.console.connect(ours['console'])
        self.qmp = Qmp(ours['qmp'], self._event)
        await self.link.connect(ours['agent'], resync=saved is not None)
        await self.qmp.start(120)
        if saved:
            await self._load_state(saved.state)
            if not saved.has_devices:
                await self._plug_all()
        self.fresh = not saved or saved.fresh
        self.cloned = bool(saved) and not saved.has_devices
        for n in range(shape.nics):
            await self._set_cable(n, n not in self.cut)
        if saved and not saved.running:
            self.before = 'starting'    # until the agent answers after the resume
            self._enter('paused')
        else:
            await self.qmp.run('cont')

    async def wait_up(self, timeout=BOOT_TIMEOUT):
        """Until the agent has answered and the host is who it should be."""
        await self.wait_state(('up',), timeout, 'come up')

    async def wait_state(self, states, timeout, what):
        """Until the host is in one of `states`; LabError when it dies or time is up."""
        deadline = time.monotonic() + timeout
        while self.state not in states:
            if self.broken:
                raise LabError(self.broken)
            if self.state == 'off':
                raise LabError('%s: waiting for it to %s: it is off%s'
                               % (self.name, what, self.exited), BROKEN if self.crashed else 125)
            if self.state == 'paused':
                raise LabError("%s: waiting for it to %s: it is paused; 'lab resume %s'"
                               % (self.name, what, self.name))
            left = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self.events.wait(), left)
            except asyncio.TimeoutError:
                raise LabError("%s: it did not %s within %d s; see 'lab console %s' or %s"
                               % (self.name, what, timeout, self.name, self.console.path)) from None

    # ---- verbs

    async def kill(self):
        """As if the mains failed."""
        proc = self.proc
        if proc and proc.poll() is not None:
            self._ended(proc)           # by itself, and nobody has noticed yet
        elif proc:
            self.exited = self.exited or ' (killed)'
            proc.kill()
            await asyncio.to_thread(proc.wait)
            self._ended(proc)

    async def pause(self):
        """Freeze every cpu of the host."""
        self._need_process('pause')
        await self.qmp.run('stop')

    async def resume(self):
        """Let a paused host go on; its clock is stepped to the present."""
        self._need_process('resume')
        await self.qmp.run('cont')

    async def power_button(self):
        """A press of the power button: a host that listens shuts down."""
        self._need_process('power off')
        await self.qmp.run('system_powerdown')

    async def poweroff(self, timeout=300):
        """Press the button, wait for the host to go."""
        self._need_process('power off')
        if self.state == 'paused':
            await self.resume()
        await self.power_button()
        deadline = time.monotonic() + timeout
        while self.proc:
            try:
                await asyncio.wait_for(self.events.wait(), max(0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                raise LabError("%s: it did not shut down within %d s; 'lab kill %s' pulls the plug"
                               % (self.name, timeout, self.name)) from None

    async def reboot(self, force=False):
        """An orderly reboot through systemd, or a reset."""
        if force:
            await self.reset()
        else:
            self._need_process('reboot')
            await self.wait_up()
            self.tell_reboot()
        await self.wait_state(('starting',), 300, 'reset')

    async def reset(self):
        """The reset line."""
        self._need_process('reset')
        if self.state == 'paused':
            await self.qmp.run('cont')
        await self.qmp.run('system_reset')

    def tell_reboot(self):
        """Ask systemd; the host must be up."""
        self.link.open({'argv': ['systemctl', 'reboot']}, lambda kind, payload: None)

    async def nmi(self):
        """A non-maskable interrupt."""
        self._need_process('interrupt')
        await self.qmp.run('inject-nmi')

    async def set_cut(self, n, cut):
        """Cut or heal the cable to network n."""
        (self.cut.add if cut else self.cut.discard)(n)
        if self.proc and self.qmp:
            await self._set_cable(n, not cut)
        else:
            net.plug(self.number, n, not cut)

    async def share(self, path, serial, where):
        """Plug the image file `path` in as a read-only disk and mount it on `where`."""
        self._need_process('share a folder')
        port = self._port(serial)
        node = self._node(serial)
        await self.qmp.run('blockdev-add', **qemu.blockdev(node, path, read_only=True, fmt='raw'))
        await self.qmp.run('device_add', **qemu.disk_device(node, serial, port))
        self.shares.append((serial, path, where))
        await self.link.call('attach', serial=serial, where=where)

    # ---- saving

    async def stop_clock(self):
        """First step of saving: the cpus stop."""
        if self.proc:
            await self.qmp.run('stop')

    async def freeze(self):
        """Put a new layer on every disk of a stopped host; what lies below does not change any
        more.  Returns {disk: path below}."""
        below = dict(self.layers)
        for disk, path in below.items():
            top = self._layer(disk)
            if self.proc:
                await asyncio.to_thread(qemu.make_overlay, top, path, 'qcow2')
                await self.qmp.run('blockdev-snapshot-sync', node_name=self._node(disk, path),
                                   snapshot_file=top, snapshot_node_name=self._node(disk, top),
                                   mode='existing', format='qcow2')
            else:
                qemu.make_overlay(top, path, 'qcow2')
            self.lab.parents[top] = path
            self.layers[disk] = top
        return below

    def put_back(self, saved):
        """Before start(saved) of a host that is off: its disks, cables and slots as they were."""
        self.layers = {}
        for disk, path in saved.layers.items():
            self.layers[disk] = self._layer(disk)
            qemu.make_overlay(self.layers[disk], path, 'qcow2')
            self.lab.parents[self.layers[disk]] = path
        self.cut = set(saved.cut)
        self.shares = list(saved.shares)
        self.plugged = dict(saved.plugged)

    async def save_state(self, path):
        """The devices of a frozen host into a file."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            await self.qmp.run('getfd', fdname='state', fd=fd)
        finally:
            os.close(fd)
        await self._migration_setup()
        await self.qmp.run('migrate', uri='fd:state')
        await self._migration_done('save')

    async def thaw(self):
        """Let a frozen host go on."""
        if self.proc:
            await self.qmp.run('cont')

    async def _load_state(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self.qmp.run('getfd', fdname='state', fd=fd)
        finally:
            os.close(fd)
        await self._migration_setup()
        await self.qmp.run('migrate-incoming', uri='fd:state')
        await self._migration_done('load')

    async def _migration_setup(self):
        await self.qmp.run('migrate-set-capabilities', capabilities=[
            {'capability': 'x-ignore-shared', 'state': True}])
        await self.qmp.run('migrate-set-parameters', max_bandwidth=1 << 40)

    async def _migration_done(self, what):
        deadline = time.monotonic() + 300
        pause = 0.005
        while True:
            info = await self.qmp.run('query-migrate')
            status = info.get('status', 'none')
            if status == 'completed':
                return
            if status in ('failed', 'cancelled') or time.monotonic() > deadline:
                raise LabError('%s: %s its state: QEMU says %s %s; see %s.qemu in %s'
                               % (self.name, what, status, info.get('error-desc', ''), self.name,
                                  self.lab.directory))
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    # ---- inside

    def uuid(self):
        """The number on the host's board."""
        return '5354524c-4142-4000-8000-%012x' % self.number

    def nics(self):
        """Its network cards."""
        return [{'n': n, 'tap': net.tap_name(self.number, n), 'mac': net.mac(self.number, n)}
                for n in range(self.lab.shape.nics)]

    def _devices(self, only_root=False):
        """(blockdevs, netdevs, devices) that are on the command line."""
        blockdevs = [qemu.blockdev(self._node('root', self.layers['root']), self.layers['root'])]
        devices = [qemu.disk_device(blockdevs[0]['node-name'], 'root', None)]
        netdevs = []
        if only_root:
            return blockdevs, netdevs, devices
        for nic in self.nics():
            netdevs.append(qemu.netdev(nic))
            devices.append(qemu.nic_device(nic, self._port('nic%d' % nic['n'])))
        for disk, path in self.layers.items():
            if disk != 'root':
                node = self._node(disk, path)
                blockdevs.append(qemu.blockdev(node, path))
                devices.append(qemu.disk_device(node, disk, self._port(disk)))
        for serial, path, _ in self.shares:
            node = self._node(serial)
            blockdevs.append(qemu.blockdev(node, path, read_only=True, fmt='raw'))
            devices.append(qemu.disk_device(node, serial, self._port(serial)))
        return blockdevs, netdevs, devices

    async def _plug_all(self):
        """Cards and disks into a clone that was saved without any."""
        blockdevs, netdevs, devices = self._devices()
        for b in blockdevs[1:]:
            await self.qmp.run('blockdev-add', **b)
        for n in netdevs:
            await self.qmp.run('netdev_add', **n)
        for d in devices[1:]:
            await self.qmp.run('device_add', **d)

    def _port(self, what):
        """The root port of a device, given out once and kept."""
        if what not in self.plugged:
            free = [i for i in range(qemu.PORTS) if i not in self.plugged.values()]
            if not free:
                raise LabError('%s: all %d slots are taken' % (self.name, qemu.PORTS))
            self.plugged[what] = free[0]
        return self.plugged[what]

    def _layer(self, disk):
        """A path for one more layer of a disk."""
        self.lab.layer += 1
        return os.path.join(self.lab.disks, '%s-%s.%d' % (self.name, disk, self.lab.layer))

    @staticmethod
    def _node(disk, path=None):
        """QEMU's name of the layer at `path`."""
        return '%s-%s' % (disk, path.rsplit('.', 1)[1]) if path else disk

    async def _set_cable(self, n, connected):
        await self.qmp.run('set_link', name='nic%d' % n, up=connected)
        net.plug(self.number, n, connected)

    def _need_process(self, what):
        if not self.proc or not self.qmp:
            raise LabError("%s: cannot %s: it is off; 'lab poweron %s'"
                           % (self.name, what, self.name))

    def _enter(self, state):
        if state == 'starting' and self.state != 'starting':
            self.since = time.monotonic()
            self.broken = ''
        self.state = state
        self.events.set()
        self.events = asyncio.Event()

    def _event(self, name, data):
        if name == 'RESET':
            self.link.lost()
            self.fresh, self.cloned = True, False
            self._enter('starting')
            self.link.hello()
        elif name == 'STOP' and self.state in ('up', 'starting'):
            self.before = self.state
            self._enter('paused')
        elif name == 'RESUME' and self.state == 'paused':
            self._enter(self.before)
            if self.state == 'up':
                asyncio.ensure_future(self._step_clock())
        elif name == 'SHUTDOWN':
            self.exited = ' (it shut down: %s)' % data.get('reason', '?')

    async def _step_clock(self):
        try:
            await self.link.call('clock', now=time.time(), timeout=10)
        except LabError:
            pass                        # paused again, or gone: the next resume sets it

    def _agent_ready(self):
        asyncio.ensure_future(self._introduce())

    async def _introduce(self):
        try:
            entropy = base64.b64encode(os.urandom(64)).decode()
            if self.fresh and not self.lab.anonymous:
                await self.link.call('identity', identity=self.lab.identity(self), entropy=entropy)
            await self.link.call('clock', now=time.time(), entropy=entropy)
        except LabError as e:
            if self.proc:
                self.lab.log(str(e))
                self.broken = str(e)
                self._enter(self.state)
            return
        if self.state == 'paused':
            self.before = 'up'
        else:
            self._enter('up')

    def _watch(self, proc):
        """Notice the end of the process."""
        pidfd = os.pidfd_open(proc.pid)
        loop = asyncio.get_running_loop()

        def gone():
            loop.remove_reader(pidfd)
            os.close(pidfd)
            proc.wait()
            self._ended(proc)

        loop.add_reader(pidfd, gone)

    def _ended(self, proc):
        if self.proc is not proc:
            return
        self.proc = None
        if proc.returncode and not self.exited:
            self.crashed = True
            self.exited = ' (QEMU ended with status %d: %s)' % (proc.returncode, self._last_words())
        if self.qmp:
            self.qmp.close()
            self.qmp = None
        self.link.close()
        for fd in self.rams:
            os.close(fd)
        self.rams = []
        self._enter('off')
        self.lab.host_off(self)

    def _last_words(self):
        try:
            with open(os.path.join(self.lab.directory, self.name + '.qemu'), 'rb') as f:
                return f.read()[-300:].decode(errors='replace').strip().splitlines()[-1][-200:]
        except (OSError, IndexError):
            return ''

    def describe(self):
        """For `lab ls` and the power controller."""
        return {'name': self.name, 'state': self.state, 'pid': self.proc.pid if self.proc else None,
                'cut': [net.network_name(n) for n in sorted(self.cut)],
                'addresses': [net.addresses(self.number, n)[0].split('/')[0]
                              for n in range(self.lab.shape.nics)]}
