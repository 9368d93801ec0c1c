"""Which accelerator the hosts get: KVM where it runs stock guests at speed and lets them run guests
of their own, else emulation (TCG).

That /dev/kvm opens says little: there are KVMs that interpret instruction by instruction.  So a
throw-away VM counts down in 64-bit mode and the rate is measured; under MIN_RATE it is not used.
Nor does QEMU take every KVM: it must bring its firmware to a boot sector there.  Each probe runs in a
child with a time-out, because a bad KVM may hang.  The answer is kept for this boot of the machine;
distrust() turns it around when a host dies of KVM later on."""

import ctypes
import fcntl
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from .err import LabError
from .place import SOURCE, cache_dir

MIN_RATE = 50e6                         # iterations of the counting loop in a second
PROBE_TIMEOUT = 10
# Documentation/virt/kvm/api.rst and include/uapi/linux/kvm.h
KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
KVM_CREATE_VCPU, KVM_SET_TSS_ADDR, KVM_RUN = 0xAE41, 0xAE47, 0xAE80
KVM_SET_USER_MEMORY_REGION, KVM_SET_REGS = 0x4020AE46, 0x4090AE82
KVM_GET_SREGS, KVM_SET_SREGS = 0x8138AE83, 0x4138AE84
KVM_EXIT_HLT = 5
CODE = b'\x48\xff\xc8\x75\xfb\xf4'      # 1: dec rax; jnz 1b; hlt
MEMORY = 1 << 21
# mov al, 0x15; out 0xf4, al; 1: hlt; jmp 1b: QEMU's isa-debug-exit makes 2 * 0x15 + 1 of it.
BOOT_SECTOR = (b'\xb0\x15\xe6\xf4\xf4\xeb\xfd').ljust(510, b'\0') + b'\x55\xaa'
BOOT_STATUS = 43


def choose(wish='auto'):
    """(accelerator, reason) for --accel auto, kvm or tcg; LabError when the wish cannot be met."""
    if wish == 'tcg':
        return 'tcg', 'asked for'
    good, reason = _kvm()
    if good and wish == 'auto' and not _nested():
        good, reason = False, 'KVM here does not nest, so hosts would have no /dev/kvm (load ' \
            'kvm_amd or kvm_intel with nested=1, or ask for --accel kvm and do without)'
    if good:
        return 'kvm', reason
    if wish == 'kvm':
        raise LabError('use KVM for the hosts: ' + reason)
    return 'tcg', reason


def distrust(reason):
    """A host died of KVM although the probes were content: no KVM until the machine boots again."""
    _keep((False, reason))


def _kvm():
    """The kept answer, measured when there is none of this boot."""
    try:
        with open(_memo()) as f:
            kept = json.load(f)
        if kept['boot'] == _boot():
            return tuple(kept['answer'])
    except (OSError, ValueError, KeyError):
        pass
    return _keep(_measure())


def _keep(answer):
    tmp = '%s.%d' % (_memo(), os.getpid())
    with open(tmp, 'w') as f:
        json.dump({'boot': _boot(), 'answer': answer}, f)
    os.rename(tmp, _memo())
    return answer


def _memo():
    return os.path.join(cache_dir(), 'accel.json')


def _boot():
    with open('/proc/sys/kernel/random/boot_id') as f:
        return f.read().strip()


def _nested():
    for module in ('kvm_amd', 'kvm_intel'):
        try:
            with open('/sys/module/%s/parameters/nested' % module) as f:
                if f.read().strip() in ('1', 'Y'):
                    return True
        except OSError:
            continue
    return False


def _measure(device='/dev/kvm', probe=None, qemu='qemu-system-x86_64'):
    """(good, reason), from a loop in a child and from QEMU itself."""
    if not os.access(device, os.R_OK | os.W_OK):
        return False, '%s: %s' % (device, 'no access' if os.path.exists(device) else 'not there')
    try:
        done = subprocess.run(probe or [sys.executable, '-m', 'lab.accel'], cwd=SOURCE,
                              capture_output=True, text=True, timeout=PROBE_TIMEOUT)
        rate = float(done.stdout) if done.returncode == 0 else 0.0
    except subprocess.TimeoutExpired:
        return False, 'the probe VM did not end within %d s' % PROBE_TIMEOUT
    if done.returncode:
        words = done.stderr.strip().splitlines() or ['status %d' % done.returncode]
        return False, 'the probe VM failed: ' + words[-1]
    text = 'a loop in a probe VM makes %.1f million iterations a second' % (rate / 1e6)
    if rate < MIN_RATE:
        return False, text + ': this KVM emulates'
    bad = qemu_boots(qemu)
    return (False, bad) if bad else (True, text)


def qemu_boots(qemu='qemu-system-x86_64', accel='kvm', cpu='host'):
    """Empty when QEMU runs its firmware and a boot sector, else why not."""
    if not shutil.which(qemu):
        return '%s is missing' % qemu
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(BOOT_SECTOR)
        disk.flush()
        argv = [qemu, '-machine', 'pc', '-accel', accel, '-cpu', cpu, '-m', '64', '-nodefaults',
                '-display', 'none', '-no-reboot', '-drive', 'format=raw,file=' + disk.name,
                '-device', 'isa-debug-exit,iobase=0xf4,iosize=1']
        try:
            done = subprocess.run(argv, timeout=PROBE_TIMEOUT, stdin=subprocess.DEVNULL,
                                  capture_output=True)
        except subprocess.TimeoutExpired:
            return 'QEMU with -accel %s does not get to a boot sector within %d s' \
                % (accel, PROBE_TIMEOUT)
    if done.returncode == BOOT_STATUS:
        return ''
    words = done.stderr.decode(errors='replace').strip()[-200:] or 'no word'
    return 'QEMU with -accel %s fails (status %d): %s' % (accel, done.returncode, words)


def loop_rate():
    """Iterations a second of the counting loop in a VM of our own.  May hang on a bad KVM."""
    kvm = os.open('/dev/kvm', os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, KVM_GET_API_VERSION) != 12:
        raise LabError('KVM API version is not 12')
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    try:
        fcntl.ioctl(vm, KVM_SET_TSS_ADDR, 0x7ffbd000)
    except OSError:
        pass                            # only Intel wants it
    memory = mmap.mmap(-1, MEMORY, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    # Four-level tables: one 2 MiB page maps all memory at its own address.
    for at, entry in ((0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x83)):
        memory[at:at + 8] = struct.pack('<Q', entry)
    memory[0x4000:0x4000 + len(CODE)] = CODE
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct.pack('<IIQQQ', 0, 0, 0, MEMORY, address))
    cpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap.mmap(cpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
    sregs = bytearray(312)
    fcntl.ioctl(cpu, KVM_GET_SREGS, sregs)
    segment = struct.Struct('<QIHBBBBBBBBBB')
    for i in range(6):                  # cs ds es fs gs ss
        code = i == 0
        sregs[i * 24:i * 24 + 24] = segment.pack(0, 0xffffffff, 8 if code else 16,
                                                 11 if code else 3, 1, 0, not code, 1, code, 1,
                                                 0, 0, 0)
    # cr0 = PG NE ET PE, cr3, cr4 = PAE, efer = LMA LME
    struct.pack_into('<QQQQQQ', sregs, 224, 0x80000031, 0, 0x1000, 0x20, 0, 0x500)
    fcntl.ioctl(cpu, KVM_SET_SREGS, bytes(sregs))
    rate = 0.0
    for count in (100000, 10000000):
        regs = [count] + [0] * 15 + [0x4000, 2]
        fcntl.ioctl(cpu, KVM_SET_REGS, struct.pack('<18Q', *regs))
        started = time.perf_counter()
        fcntl.ioctl(cpu, KVM_RUN, 0)
        seconds = time.perf_counter() - started
        reason = struct.unpack_from('<I', run, 8)[0]
        if reason != KVM_EXIT_HLT:
            raise LabError('the loop left the guest with exit reason %d' % reason)
        rate = count / seconds
        if rate < MIN_RATE / 4:
            break                       # no need to wait for the long round
    return rate


if __name__ == '__main__':
    try:
        print(loop_rate())
    except (LabError, OSError) as error:
        sys.exit('%s' % error)
