"""The host image: kernel, initial RAM disk and root disk, made from the distribution's archive.

One image is one folder of the cache, images/KEY, where KEY is a hash of the recipe (this file, the
files that go into the image, the package lists) and of the version of every package that apt would
install today: when either changes, the next `lab build` makes a new one.  A folder is made under
another name and renamed when it is whole, so whoever finds images/KEY finds a good image.  Makers
hold build.lock; users hold a shared lock on images/KEY/lock, which keeps prune() away.

The same recipe makes the same files twice, but not the same disk: its file system has another
number and its blocks lie elsewhere.  A layer over one is damage over the other (ext4: "Bad
message"), so whatever is kept on top of a disk goes by Image.identity, which every making draws
anew."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

from . import archive, initrd, place, process
from .err import LabError
from .place import Lock, cache_dir

DISK_SIZE = '24G'
INODES = 600000
KEEP = 2                                # images that stay in the cache

# Units that start by themselves; every other unit of every package stays off until a test starts
# it.
ENABLED = ('strata-lab.service', 'serial-getty@.service', 'dbus.service', 'dbus.socket')
MASKED = ('apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer',
          'fstrim.timer', 'e2scrub_reap.service', 'getty-static.service', 'ldconfig.service',
          'systemd-firstboot.service', 'systemd-sysusers.service', 'systemd-hwdb-update.service',
          'systemd-journal-catalog-update.service', 'systemd-update-done.service',
          'systemd-journal-flush.service', 'systemd-machine-id-commit.service',
          'systemd-random-seed.service', 'systemd-pstore.service', 'systemd-binfmt.service',
          'proc-sys-fs-binfmt_misc.automount', 'systemd-update-utmp.service',
          'systemd-update-utmp-runlevel.service', 'blk-availability.service',
          'lvm2-monitor.service', 'ipmievd.service', 'systemd-ask-password-wall.path',
          'systemd-ask-password-console.path', 'systemd-pcrphase.service',
          'systemd-pcrphase-sysinit.service', 'run-rpc_pipefs.mount', 'systemd-networkd.service',
          'openipmi.service', 'nvmf-autoconnect.service', 'getty@tty1.service',
          # What needs these modules asks the kernel for them; loading them all takes an emulated
          # host five seconds.
          'systemd-modules-load.service', 'modprobe@drm.service', 'modprobe@dm_mod.service',
          'modprobe@loop.service', 'modprobe@fuse.service', 'modprobe@efi_pstore.service')
# Modules that udev would load for the emulated processor; the portable versions of these ciphers
# do.
BLACKLIST = ('aesni_intel', 'ghash_clmulni_intel', 'sha1_ssse3', 'sha256_ssse3', 'sha512_ssse3',
             'crct10dif_pclmul', 'crc32_pclmul', 'serio_raw')

# Programs that systemd runs at each boot to find disks and states that no host has.
GENERATORS = ('systemd-cryptsetup-generator', 'systemd-debug-generator',
              'systemd-gpt-auto-generator', 'systemd-hibernate-resume-generator',
              'systemd-integritysetup-generator',
              'systemd-rc-local-generator', 'systemd-run-generator',
              'systemd-system-update-generator', 'systemd-veritysetup-generator')

FILES = {
    'etc/hostname': 'lab\n',
    'etc/hosts': '127.0.0.1 localhost\n::1 localhost ip6-localhost\n',
    'etc/fstab': '',
    'etc/machine-id': '',
    'etc/resolv.conf': '',
    'etc/gai.conf': 'precedence ::ffff:0:0/96 100\n',     # names mean IPv4 first
    'etc/systemd/system-preset/00-lab.preset':
        ''.join('enable %s\n' % u for u in ENABLED) + 'disable *\n',
    'etc/systemd/journald.conf.d/lab.conf':
        '[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nRateLimitBurst=0\n',
    'etc/systemd/system.conf.d/lab.conf':
        '[Manager]\nDefaultTimeoutStopSec=10s\nDefaultLimitNOFILE=65536:1048576\n'
        'DefaultTasksMax=infinity\nStatusUnitFormat=name\n',
    'etc/systemd/system/serial-getty@.service.d/lab.conf':
        '[Service]\nExecStart=\n'
        'ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 - $TERM\n',
    'etc/udev/rules.d/80-net-setup-link.rules': '# network cards keep the kernel\'s names\n',
    'etc/sysctl.d/lab.conf': 'kernel.printk = 4 4 1 7\nkernel.panic = -1\n'
                             'fs.inotify.max_user_instances = 1024\n',
    'etc/modprobe.d/lab.conf': 'options kvm_amd nested=0\noptions nbd max_part=8\n'
                               + ''.join('blacklist %s\n' % m for m in BLACKLIST),
    # Devices that matter, not every virtual terminal and every ACPI object.
    'etc/systemd/system/systemd-udev-trigger.service.d/lab.conf':
        '[Service]\nExecStart=\n'
        'ExecStart=-udevadm trigger --type=devices --action=add -s block -s net -s virtio '
        '-s virtio-ports -s pci -s misc -s acpi -s input -s nvme -s scsi -s usb\n'
        'ExecStart=-udevadm trigger --action=add -y ttyS0\n',
    'root/.profile': '[ -t 0 ] && resize >/dev/null 2>&1\nmesg n 2>/dev/null || true\n',
}


class Image:
    """A finished image; hold() keeps it from being pruned while hosts run from it, ensure() has
    done so for its caller."""

    def __init__(self, folder):
        self.folder = folder
        self.key = os.path.basename(folder)
        self.kernel = os.path.join(folder, 'vmlinuz')
        self.initrd = os.path.join(folder, 'initrd')
        self.disk = os.path.join(folder, 'disk.raw')
        self.held = None

    @property
    def identity(self):
        """The number of this very disk."""
        with open(os.path.join(self.folder, 'image.json')) as f:
            return json.load(f)['identity']

    def hold(self):
        """A shared lock, held until closed; LabError when the image was pruned just now."""
        return place.hold(self.folder)


def key():
    """The hash that names today's image."""
    h = hashlib.sha256()
    for path in _recipe_files():
        with open(path, 'rb') as f:
            h.update(os.path.basename(path).encode() + b'\0' + f.read())
    h.update(json.dumps([archive.packages(), archive.versions()], sort_keys=True).encode())
    return h.hexdigest()[:16]


def ensure(say=lambda text: None):
    """Today's image, made if the cache does not have it, and kept while this process lives."""
    image = Image(os.path.join(cache_dir(), 'images', key()))
    if not os.path.exists(image.folder):
        with Lock(os.path.join(cache_dir(), 'build.lock')):
            if not os.path.exists(image.folder):    # somebody else made it while we waited
                _make(image.folder, say)
            os.utime(image.folder)
            image.held = image.hold()
            prune()
    else:
        os.utime(image.folder)
        image.held = image.hold()
    return image


def prune():
    """Remove all images but the KEEP newest and those in use."""
    folder = os.path.join(cache_dir(), 'images')
    entries = [e for e in os.scandir(folder) if e.is_dir()]
    entries.sort(key=lambda e: e.stat().st_mtime, reverse=True)
    for entry in entries[KEEP:]:
        try:
            with Lock(os.path.join(entry.path, 'lock'), wait=False):
                gone = entry.path + '.gone'
                os.rename(entry.path, gone)
                shutil.rmtree(gone)
        except LabError:
            continue
    for entry in entries:
        if entry.name.endswith(('.gone', '.new')):
            shutil.rmtree(entry.path, ignore_errors=True)


def _recipe_files():
    here = os.path.dirname(__file__)
    names = ['image.py', 'initrd.py', 'wire.py']
    guest = os.path.join(here, 'guest')
    return ([os.path.join(here, n) for n in names]
            + sorted(os.path.join(guest, n) for n in os.listdir(guest)
                     if not n.startswith(('.', '__'))))


def _make(folder, say):
    if os.geteuid() != 0:
        raise LabError("build the host image: needs root, because a root file system is unpacked")
    for tool in ('mmdebstrap', 'mke2fs', 'modprobe'):
        if not shutil.which(tool):
            raise LabError("build the host image: %s is missing; run 'packaging/install-deps run'"
                           % tool)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    new = folder + '.new'
    shutil.rmtree(new, ignore_errors=True)
    os.mkdir(new)
    for entry in os.scandir(cache_dir()):   # of a build that was killed; we hold the lock
        if entry.name.startswith('build.') and entry.is_dir():
            shutil.rmtree(entry.path, ignore_errors=True)
    work = tempfile.mkdtemp(prefix='build.', dir=cache_dir())
    started = time.monotonic()
    log = os.path.join(cache_dir(), 'build.log')
    try:
        root = os.path.join(work, 'root')
        say('unpacking %d packages' % len(archive.versions()))
        _bootstrap(root, log)
        say('configuring')
        _configure(root)
        version = sorted(os.listdir(os.path.join(root, 'lib/modules')))[-1]
        shutil.copyfile(os.path.join(root, 'boot', 'vmlinuz-' + version),
                        os.path.join(new, 'vmlinuz'))
        with open(os.path.join(new, 'initrd'), 'wb') as f:
            f.write(initrd.build(root, version))
        say('writing the disk')
        _run(['mke2fs', '-q', '-t', 'ext4', '-L', 'lab', '-m', '0', '-N', str(INODES),
              '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', root,
              os.path.join(new, 'disk.raw'), DISK_SIZE], log)
        with open(os.path.join(new, 'image.json'), 'w') as f:
            json.dump({'identity': str(uuid.uuid4()), 'kernel': version,
                       'packages': archive.versions(),
                       'seconds': round(time.monotonic() - started, 1)}, f, indent=1)
        open(os.path.join(new, 'lock'), 'w').close()
        os.rename(new, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)
    say('image %s: %.0f s' % (os.path.basename(folder), time.monotonic() - started))


def _bootstrap(root, log):
    """Debian into `root`; packages come from our own store where it has them already."""
    suite, lines = archive.sources()
    debs = os.path.join(cache_dir(), 'debs')
    os.makedirs(debs, exist_ok=True)
    into = '"$1/var/cache/apt/archives"'
    put = 'mkdir -p %s; find %s -name "*.deb" -exec cp -l -t %s {} + 2>/dev/null || true' \
        % (into, debs, into)
    # The store keeps exactly what this image was made from.
    take = 'rm -f %s/*.deb; cp -l %s/*.deb %s/; rm -rf "$1"/var/cache/apt/archives/*.deb ' \
        '"$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' % (debs, into, debs)
    env = dict(os.environ, INITRD='No', LC_ALL='C', DEBIAN_FRONTEND='noninteractive',
               SOURCE_DATE_EPOCH='0')
    argv = ['mmdebstrap', '--mode=root', '--variant=minbase', '--format=directory',
            '--skip=download/empty,essential/unlink,cleanup/apt,cleanup/reproducible',
            '--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
            '--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Retries "5"',
            '--dpkgopt=force-unsafe-io']
    for path in ('doc', 'man', 'locale', 'info', 'lintian', 'iso-codes', 'xml/iso-codes'):
        argv.append('--dpkgopt=path-exclude=/usr/share/%s/*' % path)
    argv += ['--setup-hook=' + put, '--customize-hook=' + take,
             '--include=' + ','.join(archive.packages()), suite, root, '-']
    _run(argv, log, env=env, data='\n'.join(lines) + '\n')


def _configure(root):
    """Our files, an empty root password, and only our own units switched on."""
    lib = os.path.join(root, 'usr/lib/strata-lab')
    os.makedirs(lib, exist_ok=True)
    here = os.path.dirname(__file__)
    for name in ('guest/agent.py', 'guest/prepare', 'wire.py'):
        shutil.copyfile(os.path.join(here, name), os.path.join(lib, os.path.basename(name)))
    units = os.path.join(root, 'etc/systemd/system')
    shutil.copyfile(os.path.join(here, 'guest/strata-lab.service'),
                    os.path.join(units, 'strata-lab.service'))
    for path, text in FILES.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.islink(path):
            os.unlink(path)
        with open(path, 'w') as f:
            f.write(text)
    for level in '2345S':               # services of the old kind have no presets
        folder = os.path.join(root, 'etc/rc%s.d' % level)
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name.startswith('S'):
                os.unlink(os.path.join(folder, name))
    _run(['chroot', root, 'systemctl', 'preset-all'])
    _run(['chroot', root, 'systemctl', 'enable', 'serial-getty@ttyS0.service'])
    for unit in MASKED:
        path = os.path.join(units, unit)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink('/dev/null', path)
    _run(['chroot', root, 'systemctl', 'set-default', 'multi-user.target'])
    _run(['chroot', root, 'passwd', '-d', 'root'])
    _run(['chroot', root, 'ldconfig'])
    # A host's number is its own: an empty one is filled at its first boot, a shared one never.
    bus = os.path.join(root, 'var/lib/dbus/machine-id')
    if os.path.lexists(bus):
        os.unlink(bus)
        os.symlink('/etc/machine-id', bus)
    generators = os.path.join(root, 'etc/systemd/system-generators')
    os.makedirs(generators, exist_ok=True)
    for name in GENERATORS:
        os.symlink('/dev/null', os.path.join(generators, name))
    # Compiling Python's modules here spares every host from doing it at its first start.
    _run(['chroot', root, 'python3', '-m', 'compileall', '-q', '/usr/lib/strata-lab'])


def _run(argv, log=None, env=None, data=None):
    """Run a build step; its last words are in the error when it fails."""
    with tempfile.TemporaryFile() as out:
        done = subprocess.run(argv, stdout=out, stderr=out, env=env, timeout=1800,
                              preexec_fn=process.die_with_parent,
                              **({'input': data.encode()} if data is not None
                                 else {'stdin': subprocess.DEVNULL}))
        out.seek(0)
        text = out.read()
    if log:
        with open(log, 'ab') as f:
            f.write(text)
    if done.returncode:
        tail = text.decode(errors='replace').strip().splitlines()[-12:]
        raise LabError("build the host image: %s failed:\n  %s%s"
                       % (argv[0] if argv[0] != 'chroot' else ' '.join(argv[2:4]),
                          '\n  '.join(tail), '\n(whole log: %s)' % log if log else ''))


if __name__ == '__main__':
    print(ensure(lambda text: print(text, file=sys.stderr)).folder)
