#!/usr/bin/env python3
"""Debian's own cloud kernel under strata-vmm, in a virtual host (QEMU TCG with emulated SVM; prints TAP).

The virtual host is an initramfs of its own: busybox, KVM's modules, strata-vmm with its libraries, the guest kernel and an
initramfs for the guest.  Everything runs from one script inside; what it prints is judged here.
Needs qemu-system-x86_64, busybox, a linux-image-*-cloud-amd64 package: $STRATA_KERNEL_DEB, the lab's cache, or apt-get download.
"""
import glob
import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

GUEST_INIT = r'''#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev; mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for m in @MODULES@; do [ -e /m/$m.ko ] && insmod /m/$m.ko 2>/dev/null; done
echo "GUEST cpus=$(nproc) mem=$(awk '/MemTotal/ {print $2}' /proc/meminfo) clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
case "$(cat /proc/cmdline)" in
*mode=off*) ;;
*mode=reboot*) reboot -f;;
*mode=panic*) echo 1 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger;;
*mode=button*) echo WAIT; dd if=/dev/input/event0 bs=24 count=1 2>/dev/null | wc -c; echo PRESSED;;
*mode=tick*) i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo tick $i; sleep 1; done;;
*mode=blk*) dd if=/dev/vda bs=64k count=16 2>/dev/null | md5sum
	dd if=/dev/urandom of=/r bs=64k count=8 2>/dev/null; dd if=/r of=/dev/vda bs=64k count=8 conv=fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=64k count=8 2>/dev/null | cmp - /r && echo BLK-OK
	echo RNG-$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c);;
esac
poweroff -f
'''

HOST_INIT = r'''#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp; mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
ifconfig lo 127.0.0.1 up
for m in irqbypass kvm ccp kvm-amd kvm-intel; do [ -e /m/$m.ko ] && insmod /m/$m.ko 2>/dev/null; done
echo 1 >/proc/sys/kernel/printk
A="console=ttyS0 panic=-1 quiet"
run() { timeout 900 strata-vmm run --console stdio "$@" </dev/null; echo "RC=$?"; }
linux() { run --kernel /vmlinuz --initrd /guest.gz "$@"; }
ctl() { strata-vmm ctl /tmp/c "$@"; }
until_says() { for _ in $(seq 900); do grep -q "$1" "$2" && return; sleep 1; done; echo "never said $1"; }
echo "== smp"; linux --append "$A mode=off" --cpus 4 --memory 256M
echo "== big"; linux --append "$A mode=off" --cpus 2 --memory 5G
[ -e /vmlinux ] && { echo "== pvh"; run --kernel /vmlinux --initrd /guest.gz --append "$A mode=off" --memory 192M; }
echo "== reboot"; linux --append "$A mode=reboot" --no-reboot
echo "== panic"; linux --append "$A mode=panic"
echo "== small"; linux --append "$A mode=off" --memory 32M
echo "== firmware"; dd if=/dev/zero of=/tmp/m.img bs=1M count=4 2>/dev/null; dd if=/mbr.bin of=/tmp/m.img conv=notrunc 2>/dev/null
[ -e /bios.bin ] && run --firmware /bios.bin --disk path=/tmp/m.img,format=raw
echo "== blk"; dd if=/dev/urandom of=/tmp/d.img bs=1M count=8 2>/dev/null; dd if=/tmp/d.img bs=64k count=16 2>/dev/null | md5sum
linux --append "$A mode=blk" --cpus 2 --memory 256M --disk path=/tmp/d.img,format=raw --rng --seccomp kill
echo "== button"; linux --append "$A mode=button" --ctl /tmp/c >/tmp/o & until_says WAIT /tmp/o; ctl shutdown; wait; cat /tmp/o
echo "== snapshot"; linux --append "$A mode=tick" --cpus 2 --ctl /tmp/c >/tmp/o & until_says "tick 3" /tmp/o; ctl snapshot '{"dir": "/tmp/s"}'; ctl kill; wait; cat /tmp/o
echo "== restore"; run --restore /tmp/s --ctl /tmp/c >/tmp/o & sleep 1; until_says "tick 6" /tmp/o
ctl reset '{"to": "snapshot"}'; sleep 3; ctl pause; ctl resume; ctl status; ctl kill; wait; cat /tmp/o
echo "== end"
poweroff -f
'''

MBR = '''.code16
 xor %ax, %ax
 mov %ax, %ds
 mov $msg, %si
1: lodsb
 test %al, %al
 jz 2f
 mov $0x3f8, %dx
 out %al, %dx
 jmp 1b
2: mov $0x3400, %ax
 mov $0x604, %dx
 out %ax, %dx
3: hlt
 jmp 3b
msg: .asciz "BOOT-SECTOR-RUNS\\n"
.org 510
.word 0xaa55
'''

MODULES = ('virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk rng-core virtio-rng '
           'button evdev pvpanic pvpanic-mmio').split()
count = 0
failed = False


def check(what, good, text=''):
    global count, failed
    count += 1
    failed |= not good
    print(f'{"ok" if good else "not ok"} {count} - {what}', flush=True)
    if not good:
        for line in text.splitlines()[-25:]:
            print('# ' + line)


def skip(why):
    print(f'1..0 # SKIP {why}')
    sys.exit(0)


def cpio(root):
    """The tree in newc form."""
    out, ino = [], 1

    def add(name, mode, data):
        nonlocal ino
        raw = name.encode() + b'\0'
        head = b'070701' + b''.join(b'%08X' % v for v in (ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)) + raw
        out.append(head + b'\0' * (-len(head) % 4) + data + b'\0' * (-len(data) % 4))
        ino += 1
    for folder, subs, files in os.walk(root):
        rel = os.path.relpath(folder, root)
        if rel != '.':
            add(rel, 0o40755, b'')
        for name in files:
            path = os.path.join(folder, name)
            with open(path, 'rb') as f:
                add(os.path.relpath(path, root), 0o100000 | os.stat(path).st_mode & 0o777, f.read())
    add('TRAILER!!!', 0, b'')
    return b''.join(out)


def lz4_legacy(p):
    out, i = bytearray(), 4
    while i + 4 <= len(p):
        n = struct.unpack_from('<I', p, i)[0]
        i += 4
        if n == 0 or i + n > len(p):
            break
        b, i, j, o = p[i:i + n], i + n, 0, bytearray()

        def length(v, j):
            while v >= 15:
                x = b[j]
                j, v = j + 1, v + x
                if x != 255:
                    break
            return v, j
        while j < n:
            token = b[j]
            lit, j = length(token >> 4, j + 1)
            o += b[j:j + lit]
            j += lit
            if j >= n:
                break
            back = b[j] | b[j + 1] << 8
            size, j = length(token & 15, j + 2)
            size += 4
            pattern = bytes(o[len(o) - back:])
            o += (pattern * (size // back + 1))[:size]
        out += o
    return bytes(out)


def vmlinux(bz):
    """The ELF inside a bzImage that is packed with LZ4 (Debian's cloud kernel), else None."""
    start = ((bz[0x1f1] or 4) + 1) * 512
    off, size = struct.unpack_from('<II', bz, 0x248)
    payload = bz[start + off:start + off + size]
    elf = lz4_legacy(payload) if payload[:4] == b'\x02\x21\x4c\x18' else b''
    return elf if elf[:4] == b'\x7fELF' else None


def find_kernel(folder):
    deb = os.environ.get('STRATA_KERNEL_DEB')
    if not deb:
        found = [d for d in glob.glob('/var/cache/strata-lab/debs/linux-image-[0-9]*-cloud-amd64_*.deb')]
        if not found:
            subprocess.run('apt-get download $(apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: //p" | head -1)',
                           shell=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            found = glob.glob(folder + '/linux-image-*.deb')
        deb = max(found, default=None)
    if not deb:
        skip('needs a cloud kernel package')
    subprocess.run(['dpkg-deb', '-x', deb, folder + '/k'], check=True)
    return glob.glob(folder + '/k/boot/vmlinuz-*')[0], glob.glob(folder + '/k/lib/modules/*')[0]


def modules(tree, names, to):
    os.makedirs(to, exist_ok=True)
    for name in names:
        for path in glob.glob(f'{tree}/**/{name}.ko', recursive=True):
            shutil.copy(path, to)


def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    os.chmod(path, mode)


def build(folder):
    kernel, tree = find_kernel(folder)
    guest, host = folder + '/guest', folder + '/host'
    busybox = shutil.which('busybox')
    vmm = os.path.realpath(shutil.which('strata-vmm'))
    for root in (guest, host):
        os.makedirs(root + '/bin')
        shutil.copy(busybox, root + '/bin/busybox')
    modules(tree, MODULES, guest + '/m')
    write(guest + '/init', GUEST_INIT.replace('@MODULES@', ' '.join(MODULES)), 0o755)
    modules(tree, ['irqbypass', 'kvm', 'ccp', 'kvm-amd', 'kvm-intel'], host + '/m')
    shutil.copy(vmm, host + '/bin/strata-vmm')
    for lib in re.findall(r'(/\S+)', subprocess.run(['ldd', vmm], capture_output=True, text=True, check=True).stdout):
        if os.path.exists(lib) and lib.startswith('/lib'):
            os.makedirs(host + os.path.dirname(lib), exist_ok=True)
            shutil.copy(os.path.realpath(lib), host + lib)
    write(host + '/guest.gz', gzip.compress(cpio(guest), 1))
    shutil.copy(kernel, host + '/vmlinuz')
    with open(kernel, 'rb') as f:
        elf = vmlinux(f.read())
    if elf:
        write(host + '/vmlinux', elf)
    if os.path.exists('/usr/share/seabios/bios-256k.bin'):
        shutil.copy('/usr/share/seabios/bios-256k.bin', host + '/bios.bin')
    write(folder + '/mbr.s', MBR)
    subprocess.run(['as', '--32', folder + '/mbr.s', '-o', folder + '/mbr.o'], check=True)
    subprocess.run(['ld', '-m', 'elf_i386', '-e', '0', '-Ttext', '0x7c00', '--oformat', 'binary', folder + '/mbr.o', '-o',
                    host + '/mbr.bin'], check=True)
    write(host + '/init', HOST_INIT, 0o755)
    write(folder + '/host.gz', gzip.compress(cpio(host), 1))
    return kernel, folder + '/host.gz', elf is not None


def main():
    if not os.environ.get('STRATA_LONG'):
        skip('ten nested boots of a stock kernel take minutes: set STRATA_LONG=1')
    for tool in ('qemu-system-x86_64', 'busybox', 'strata-vmm', 'dpkg-deb', 'as', 'ld'):
        if not shutil.which(tool):
            skip('needs ' + tool)
    with tempfile.TemporaryDirectory(prefix='strata-vmm-linux.') as folder:
        kernel, initrd, has_elf = build(folder)
        qemu = ['qemu-system-x86_64', '-accel', 'tcg,thread=single', '-cpu', 'max', '-m', '8192', '-nodefaults', '-display', 'none',
                '-serial', 'stdio', '-no-reboot', '-kernel', kernel, '-initrd', initrd, '-append', 'console=ttyS0 quiet panic=-1']
        try:
            out = subprocess.run(qemu, stdin=subprocess.DEVNULL, capture_output=True, timeout=3000, check=False).stdout
        except subprocess.TimeoutExpired as e:
            out = e.stdout or b''
    parts = dict(re.findall(r'== (\w+)\n(.*?)(?=\n== |\Z)', out.decode(errors='replace').replace('\r', ''), re.S))

    def says(part, what, *patterns):
        text = parts.get(part, '')
        check(what, all(re.search(p, text, re.S) for p in patterns), text)
    says('smp', 'four CPUs; kvmclock; power off ends with 0', r'GUEST cpus=4 .*clock=kvm-clock', 'RC=0')
    says('big', 'memory beyond 4 GiB', r'GUEST cpus=2 mem=5\d{6}', 'RC=0')
    if has_elf:
        says('pvh', 'vmlinux by PVH', 'GUEST cpus=1', 'RC=0')
    says('reboot', 'reboot with --no-reboot ends with 3', 'GUEST', 'RC=3')
    says('panic', 'a panic ends with 4', 'GUEST', 'RC=4')
    says('small', 'too little memory is refused in one line', 'give the guest more memory', 'RC=1')
    if os.path.exists('/usr/share/seabios/bios-256k.bin'):
        says('firmware', 'SeaBIOS boots a disk', 'BOOT-SECTOR-RUNS', 'RC=0')
    sums = re.findall(r'[0-9a-f]{32}', parts.get('blk', ''))
    check('virtio-blk reads what is in the file', len(sums) >= 2 and sums[0] == sums[1], parts.get('blk', ''))
    says('blk', 'and keeps what is written; virtio-rng; under filters that kill', 'BLK-OK', 'RNG-16', 'RC=0')
    says('button', 'the power button reaches the guest', r'24\s+PRESSED', 'RC=0')
    says('snapshot', 'a snapshot of a running Linux', r'tick 3.*|"stopped_ns"', '"stopped_ns"')
    ticks = [int(t) for t in re.findall(r'tick (\d+)', parts.get('restore', ''))]
    check('the restored guest goes on where it was', bool(ticks) and 3 <= ticks[0] <= 6 and 6 in ticks, parts.get('restore', ''))
    back = [i for i in range(1, len(ticks)) if ticks[i] <= ticks[i - 1]]
    check('reset in place goes back to it', len(back) == 1 and ticks[back[0]] <= ticks[0], parts.get('restore', ''))
    says('restore', 'pause and resume', '"state": "running"')
    check('the script came to its end', 'end' in parts, out.decode(errors='replace'))
    print(f'1..{count}')
    sys.exit(failed)


main()
