"""The initial RAM disk of a lab host: busybox, six virtio modules and a script of ten lines.

The distribution's own generator would give a bigger one that takes seconds longer to run under
emulation.  Format: cpio "newc", the one the kernel unpacks
(Documentation/driver-api/early-userspace)."""

import io
import os
import subprocess

from .err import LabError

MODULES = ('virtio_pci', 'virtio_blk')

INIT = b'''#!/bin/busybox sh
# Mounts the root disk and hands over to systemd; anything wrong ends in a shell on the console.
b=/bin/busybox
$b mkdir -p /proc /dev /root
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read m; do $b insmod /$m; done </modules
n=0
until [ -b /dev/vda ] || [ $n = 200 ]; do $b sleep 0.05; n=$((n + 1)); done
$b mount -t ext4 -o rw,noatime /dev/vda /root || exec $b sh
$b mount -o move /dev /root/dev
$b umount /proc
exec $b switch_root /root /lib/systemd/systemd
exec $b sh
'''


class Cpio:
    """Writes one newc archive; owners are root, times are zero, so the same input gives the same
    bytes."""

    def __init__(self):
        self.out = io.BytesIO()
        self.ino = 1

    def add(self, name, mode, data=b''):
        """One member; mode has the file type bits; data is the content or the link's target."""
        raw = name.encode() + b'\0'
        fields = (self.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        self.ino += 1
        self.out.write(b'070701' + b''.join(b'%08X' % f for f in fields) + raw)
        self._pad()
        self.out.write(data)
        self._pad()

    def close(self):
        """The whole archive."""
        self.add('TRAILER!!!', 0)
        return self.out.getvalue()

    def _pad(self):
        self.out.write(b'\0' * (-self.out.tell() % 4))


def build(root, version):
    """The archive for the kernel `version` installed in the folder `root`."""
    cpio = Cpio()
    for name in ('bin', 'dev', 'proc', 'root'):
        cpio.add(name, 0o040755)
    cpio.add('bin/busybox', 0o100755, _read(os.path.join(root, 'bin/busybox')))
    cpio.add('bin/sh', 0o120777, b'busybox')
    order = []
    for module in MODULES:
        for path in _depends(root, version, module):
            if path not in order:
                order.append(path)
    for path in order:
        cpio.add(os.path.basename(path), 0o100644, _read(path))
    cpio.add('modules', 0o100644, ''.join(os.path.basename(p) + '\n' for p in order).encode())
    cpio.add('init', 0o100755, INIT)
    return cpio.close()


def _depends(root, version, module):
    """Paths of the .ko files in loading order; nothing for what is built in."""
    done = subprocess.run(['modprobe', '-d', root, '-S', version, '--show-depends', module],
                          capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise LabError("find kernel module %s of %s: %s" % (module, version, done.stderr.strip()))
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith('insmod')]


def _read(path):
    with open(path, 'rb') as f:
        return f.read()
