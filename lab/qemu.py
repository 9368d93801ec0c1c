"""QEMU's command line for one host, and the same devices as QMP arguments for hot-plugging.

The machine is a q35 with everything that never changes on the root bus and PORTS empty root ports
for cards and disks.  A template is saved with the ports empty; a clone gets its cards and disks
plugged in before it runs on, so it may have any number and any addresses."""

import json
import os
import shutil
import subprocess

from .err import LabError
from .shape import PORTS

PROGRAM = 'qemu-system-x86_64'
CMDLINE = ('console=ttyS0,115200 mitigations=off tsc=reliable net.ifnames=0 nokaslr quiet '
           'random.trust_cpu=on no_timer_check nowatchdog audit=0 systemd.show_status=no '
           'panic=-1')
TCG_CACHE = 512                         # MiB of translated code


def version():
    """QEMU's version line; LabError when there is no QEMU."""
    if not shutil.which(PROGRAM):
        raise LabError("start a host: %s is missing; run 'packaging/install-deps run'" % PROGRAM)
    done = subprocess.run([PROGRAM, '--version'], capture_output=True, text=True, timeout=30)
    return done.stdout.splitlines()[0] if done.stdout else ''


def accel(shape):
    """The -accel argument."""
    if shape.accel == 'kvm':
        return 'kvm'
    return 'tcg,thread=%s,tb-size=%d' % (shape.threads, TCG_CACHE)


def cpu(shape):
    """The -cpu argument.  Five-level page tables cost a fifth level of every emulated walk."""
    return 'host' if shape.accel == 'kvm' else 'max,la57=off'


def arguments(shape, image, name, uuid, fds):
    """The part that a template and its clones share.  fds: ram, qmp, agent, console."""
    machine = 'q35,smbus=off,usb=off,vmport=off,mem-merge=off,dump-guest-core=off'
    if shape.iommu:
        machine += ',kernel-irqchip=split'
    argv = [PROGRAM, '-name', '%s,debug-threads=on' % name, '-nodefaults', '-no-user-config',
            '-display', 'none', '-S', '-uuid', uuid, '-rtc', 'base=utc',
            '-accel', accel(shape), '-cpu', cpu(shape),
            '-smp', 'cpus=%d,sockets=%d' % (shape.cpus, shape.numa),
            '-m', '%dM' % (shape.memory >> 20),
            '-kernel', image.kernel, '-initrd', image.initrd, '-append', _cmdline(shape)]
    argv += _memory(shape, machine, fds['ram'])
    for which in ('qmp', 'agent', 'console'):
        argv += ['-chardev', 'socket,id=%s,fd=%d' % (which, fds[which])]
    argv += ['-mon', 'chardev=qmp,mode=control', '-serial', 'chardev:console']
    if shape.iommu:
        argv += ['-device', 'intel-iommu,intremap=on,caching-mode=on']
    argv += ['-device', 'virtio-serial-pci,id=serial,bus=pcie.0,addr=2',
             '-device', 'virtserialport,chardev=agent,name=strata.lab,bus=serial.0,nr=1',
             '-device', 'virtio-rng-pci,bus=pcie.0,addr=3']
    # Last port first: QEMU's ACPI tables announce devices plugged at the same time port by port in
    # the reverse order of creation, and disks are named in the order they are announced.
    for i in reversed(range(PORTS)):
        argv += ['-device', 'pcie-root-port,id=port%d,bus=pcie.0,addr=%x.%x,chassis=%d,slot=%d%s'
                 % (i, 8 + i // 8, i % 8, i + 1, i + 1, '' if i % 8 else ',multifunction=on')]
    return argv + list(shape.qemu)


def _cmdline(shape):
    return CMDLINE + (' intel_iommu=on iommu=pt' if shape.iommu else '')


def _memory(shape, machine, fds):
    """Memory is a file without a name that the supervisor shares: saving it is a file copy."""
    part = shape.memory // shape.numa
    argv, at = [], 0
    for i in range(shape.numa):
        argv += ['-object', 'memory-backend-file,id=ram%d,size=%d,share=on,'
                 'mem-path=/proc/self/fd/%d' % (i, part, fds[i])]
        if shape.numa > 1:
            last = at + shape.cpus // shape.numa - 1
            argv += ['-numa', 'node,nodeid=%d,cpus=%d-%d,memdev=ram%d' % (i, at, last, i)]
            at = last + 1
    if shape.numa == 1:
        machine += ',memory-backend=ram0'
    return ['-machine', machine] + argv


def blockdev(node, path, read_only=False, fmt='qcow2'):
    """A disk's bytes: file below, format above.  Nothing is flushed to the machine's disk: a host's
    power cut is the death of a process, which the page cache survives."""
    return {'driver': fmt, 'node-name': node, 'read-only': read_only, 'discard': 'unmap',
            'cache': {'direct': False, 'no-flush': True},
            'file': {'driver': 'file', 'filename': path, 'discard': 'unmap',
                     'aio': 'threads', 'cache': {'direct': False, 'no-flush': True}}}


def disk_device(node, serial, port):
    """The virtio disk with those bytes; port None is the root disk."""
    device = {'driver': 'virtio-blk-pci', 'id': 'dev-' + serial, 'drive': node, 'serial': serial}
    device.update({'bus': 'pcie.0', 'addr': '1'} if port is None else {'bus': 'port%d' % port})
    return device


def netdev(nic):
    """The host's end of a cable: the tap was made by net.py."""
    return {'type': 'tap', 'id': 'cable%d' % nic['n'], 'ifname': nic['tap'],
            'script': 'no', 'downscript': 'no'}


def nic_device(nic, port):
    """The network card on that cable."""
    return {'driver': 'virtio-net-pci', 'id': 'nic%d' % nic['n'], 'netdev': 'cable%d' % nic['n'],
            'mac': nic['mac'], 'bus': 'port%d' % port, 'romfile': ''}


def device_words(blockdevs, netdevs, devices):
    """The same things on the command line."""
    argv = []
    for b in blockdevs:
        argv += ['-blockdev', json.dumps(b)]
    for n in netdevs:
        argv += ['-netdev', ','.join('%s=%s' % item for item in n.items())]
    for d in devices:
        argv += ['-device', json.dumps(d)]
    return argv


def make_overlay(path, backing, fmt):
    """A new empty layer over `backing`."""
    _img(['create', '-q', '-f', 'qcow2', '-b', os.path.abspath(backing), '-F', fmt, path])


def make_disk(path, size):
    """A new empty disk."""
    _img(['create', '-q', '-f', 'qcow2', path, str(size)])


def check_disk(path):
    """LabError when a disk that nobody uses is damaged."""
    _img(['check', '-q', path])


def _img(argv):
    done = subprocess.run(['qemu-img'] + argv, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise LabError('qemu-img %s: %s' % (argv[0], done.stderr.strip()))
