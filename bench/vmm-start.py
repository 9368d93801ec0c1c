#!/usr/bin/env python3
"""Start-up of strata-vmm against QEMU microvm: posix_spawn to exit of a guest whose first instruction writes the debug
exit port.  Interleaved pairs on one CPU mask; prints medians, the 95th percentile of the ratio per pair, and the spawn
time of /bin/true beside them.  Host A of PERFORMANCE.md: needs /dev/kvm, qemu-system-x86_64, as, ld.

  bench/vmm-start.py [PAIRS]        default 50
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

VMM = os.environ.get('STRATA_VMM', 'strata-vmm')
PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 50


def assemble(folder, name, text, base):
    src, obj, out = (os.path.join(folder, name + x) for x in ('.s', '.o', '.bin'))
    with open(src, 'w', encoding='ascii') as f:
        f.write(text)
    subprocess.run(['as', '--32', src, '-o', obj], check=True)
    subprocess.run(['ld', '-m', 'elf_i386', '-e', '0', '-Ttext', base, '--oformat', 'binary', obj, '-o', out], check=True)
    return out


def run(argv, want):
    null = os.open(os.devnull, os.O_RDWR)
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, i) for i in (0, 1, 2)])
    _, status = os.waitpid(pid, 0)
    took = time.perf_counter() - begin
    os.close(null)
    if os.waitstatus_to_exitcode(status) != want:
        sys.exit(f'{argv[0]}: exit status {os.waitstatus_to_exitcode(status)}, not {want}')
    return took * 1000


def p95(values):
    return sorted(values)[int(len(values) * 0.95)]


def main():
    for tool in (VMM, 'qemu-system-x86_64', 'as', 'ld'):
        if not shutil.which(tool):
            sys.exit(f'{tool} is missing')
    with tempfile.TemporaryDirectory() as folder:
        # exit status (3 << 1) | 1 of both
        flat = assemble(folder, 'flat', '.code16\n mov $3, %al\n out %al, $0xf4\n1: hlt\n jmp 1b\n', '0x7c00')
        rom = assemble(folder, 'rom', '.code16\n.org 0xfff0\n mov $3, %al\n out %al, $0xf4\n1: hlt\n jmp 1b\n.org 0x10000\n', '0')
        ours = [VMM, 'run', '--kernel', flat, '--test-devices', '--console', 'none', '--memory', '128M']
        qemu = ['qemu-system-x86_64', '-M', 'microvm,accel=kvm,kernel-irqchip=split,pit=off,pic=off,rtc=off,isa-serial=off',
                '-nodefaults', '-no-user-config', '-display', 'none', '-m', '128',
                '-bios', rom, '-device', 'isa-debug-exit,iobase=0xf4,iosize=4']
        for argv, want in ((ours, 7), (qemu, 7)):
            run(argv, want)  # page cache hot for both
        a, b, spawn = [], [], []
        for _ in range(PAIRS):
            a.append(run(ours, 7))
            b.append(run(qemu, 7))
            spawn.append(run(['/bin/true'], 0))
        ratio = [y / x for x, y in zip(a, b)]
        print(f'kernel {os.uname().release}, {PAIRS} interleaved pairs, load {os.getloadavg()[0]:.2f}')
        print(f'strata-vmm      median {statistics.median(a):7.2f} ms   p95 {p95(a):7.2f} ms')
        print(f'qemu microvm    median {statistics.median(b):7.2f} ms   p95 {p95(b):7.2f} ms')
        print(f'spawn of true   median {statistics.median(spawn):7.2f} ms')
        print(f'ratio per pair  median {statistics.median(ratio):7.1f} x    worst twentieth {sorted(ratio)[len(ratio) // 20]:7.1f} x')


main()
