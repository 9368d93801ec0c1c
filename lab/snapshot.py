"""Saved hosts as files: a template (one host without cards or disks, cloned by every `lab up`) and
the snapshots of a lab.

    FOLDER/h1.state     devices, as QEMU's migration code writes them
    FOLDER/h1.ram0      memory of node 0, a sparse file
    (root disk and others: layers in the lab's disks folder, or root.qcow2 of a template)"""

import asyncio
import dataclasses
import os


@dataclasses.dataclass
class Saved:
    """One saved host."""

    folder: str
    name: str
    has_devices: bool                   # cards and disks are part of the state
    layers: dict = dataclasses.field(default_factory=dict)  # disk -> layer that must not change
    powered: bool = True                # False: it was off, there is no state
    running: bool = True                # False: it was paused
    fresh: bool = True                  # it had not got its identity yet
    cut: frozenset = frozenset()
    shares: tuple = ()
    plugged: dict = dataclasses.field(default_factory=dict)

    @property
    def state(self):
        """Path of the device state."""
        return os.path.join(self.folder, self.name + '.state')

    def ram(self, node):
        """Path of the memory of one NUMA node."""
        return os.path.join(self.folder, '%s.ram%d' % (self.name, node))

    def load_ram(self, node, fd):
        """Fill the memory file `fd`."""
        with open(self.ram(node), 'rb') as f:
            copy_sparse(f.fileno(), fd)


async def save(hosts, folder):
    """All `hosts` as of one moment, into `folder`: freeze them all, write, let them go on as they
    were.  {name: Saved}."""
    running = {h.name: h.state != 'paused' for h in hosts}
    frozen = []
    saved = {}
    try:
        for host in hosts:
            frozen.append(host)
            await host.stop_clock()
        for host in hosts:
            saved[host.name] = Saved(folder, host.name, True, await host.freeze(),
                                     host.proc is not None, running[host.name], host.fresh,
                                     frozenset(host.cut), tuple(host.shares), dict(host.plugged))
        await asyncio.gather(*(_write(host, saved[host.name]) for host in hosts if host.proc))
    finally:
        for host in frozen:
            if running[host.name]:
                await host.thaw()
    return saved


async def _write(host, saved):
    await host.save_state(saved.state)
    for node, fd in enumerate(host.rams):
        await asyncio.to_thread(_store, fd, saved.ram(node))


def _store(fd, path):
    with open(path, 'wb') as f:
        os.ftruncate(f.fileno(), os.fstat(fd).st_size)
        copy_sparse(fd, f.fileno())


def copy_sparse(source, target):
    """Copy the parts of a file that hold data to the same places of another, empty one."""
    size = os.fstat(source).st_size
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError:                 # ENXIO: only a hole is left
            break
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            n = os.sendfile(target, source, start, min(end - start, 1 << 30))
            if n <= 0:
                raise OSError('short copy')
            start += n
        at = end
