#!/usr/bin/env python3
"""Clones and resets of strata-vmm, against posix_spawn of /bin/true in the same run.

A guest of 128 MiB parks with a nonce in its RAM; a snapshot is taken.  Then, interleaved:
  clone   posix_spawn of `run --restore` to its exit: the clone puts the nonce out of the debug exit port
  spawn   posix_spawn of /bin/true
and 100 clones at once against 100 spawns at once, and reset in place (`ctl reset {"to": "snapshot"}`, the VMM's part of
it as the control client sees it, over one connection).

  bench/vmm-clone.py [PAIRS]        default 50
"""
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

VMM = os.environ.get('STRATA_VMM', 'strata-vmm')
PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
NONCE = 0x2a

# Waits for a byte on the serial port; a clone gets one from the pipe that is its standard input.
GUEST = '''.code16
 xor %ax, %ax
 mov %ax, %ds
 movb $0x2a, 0x5000
 mov $0x3fd, %dx
1: in %dx, %al
 test $1, %al
 jz 1b
 mov 0x5000, %al
 out %al, $0xf4
2: hlt
 jmp 2b
'''


class Ctl:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)

    def call(self, **req):
        text = json.dumps(req).encode()
        self.s.sendall(struct.pack('<II', len(text), 0) + text)
        head = self.s.recv(8, socket.MSG_WAITALL)
        answer = json.loads(self.s.recv(struct.unpack('<II', head)[0], socket.MSG_WAITALL))
        if not answer['ok']:
            sys.exit(f'{req}: {answer["error"]}')
        return answer


def spawn(argv):
    read, write = os.pipe()
    os.write(write, b'x')
    null = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[
        (os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)])
    for fd in (read, write, null):
        os.close(fd)
    return pid


def reap(pid, want):
    got = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if got != want:
        sys.exit(f'exit status {got}, not {want}')


def timed(argv, want, n=1):
    begin = time.perf_counter()
    pids = [spawn(argv) for _ in range(n)]
    for pid in pids:
        reap(pid, want)
    return (time.perf_counter() - begin) * 1000


def start(argv, ctl):
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    for _ in range(200):
        try:
            return p, Ctl(ctl)
        except OSError:
            time.sleep(0.02)
    sys.exit('the vm did not start')


def main():
    with tempfile.TemporaryDirectory() as folder:
        src, obj, guest = (os.path.join(folder, x) for x in ('g.s', 'g.o', 'g.bin'))
        with open(src, 'w', encoding='ascii') as f:
            f.write(GUEST)
        subprocess.run(['as', '--32', src, '-o', obj], check=True)
        subprocess.run(['ld', '-m', 'elf_i386', '-e', '0', '-Ttext', '0x7c00', '--oformat', 'binary', obj, '-o', guest], check=True)
        ctl, snap = (os.path.join(folder, x) for x in ('ctl', 'snap'))
        p, c = start([VMM, 'run', '--kernel', guest, '--test-devices', '--console', 'none', '--memory', '128M', '--ctl', ctl], ctl)
        time.sleep(0.3)
        c.call(verb='snapshot', dir=snap)
        c.call(verb='kill')
        p.wait()
        clone = [VMM, 'run', '--restore', snap, '--console', 'stdio']
        want = NONCE * 2 + 1
        for _ in range(3):
            timed(clone, want)
        a, b = [], []
        for _ in range(PAIRS):
            a.append(timed(clone, want))
            b.append(timed(['/bin/true'], 0))
        ratio = sorted(x / y for x, y in zip(a, b))
        print(f'kernel {os.uname().release}, {PAIRS} interleaved pairs, load {os.getloadavg()[0]:.2f}')
        print(f'clone to exit       median {statistics.median(a):7.2f} ms')
        print(f'spawn of true       median {statistics.median(b):7.2f} ms   clone/spawn {statistics.median(ratio):.2f} (p95 {ratio[int(len(ratio) * 0.95)]:.2f})')
        many, true = timed(clone, want, 100), timed(['/bin/true'], 0, 100)
        print(f'100 clones at once  {many:7.1f} ms; 100 spawns {true:7.1f} ms; ratio {many / true:.2f}')
        p, c = start([VMM, 'run', '--restore', snap, '--console', 'none', '--ctl', ctl], ctl)
        times = []
        for _ in range(PAIRS):
            begin = time.perf_counter()
            c.call(verb='reset', to='snapshot')
            times.append((time.perf_counter() - begin) * 1000)
        c.call(verb='kill')
        p.wait()
        print(f'reset in place      median {statistics.median(times):7.3f} ms   reset/spawn {statistics.median(times) / statistics.median(b):.2f}')


main()
