#!/usr/bin/env python3
"""vhost-user-blk, judged by QEMU and by Linux' driver: firmware boots from it, the guest reads, writes, discards and flushes
through two queues, the server is killed in the middle and another one takes over, and ends by SIGTERM.
"""
import glob
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 110
SIZE = 96 << 20
count = failed = 0
T = tempfile.mkdtemp(prefix="strata-vu.")
procs = []

INIT = r"""#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc p /proc
busybox --install -s /bin
mount -t sysfs s /sys; mount -t devtmpfs d /dev
echo 0 >/proc/sys/kernel/printk
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m 2>/dev/null; done
i=0; while [ ! -b /dev/vda ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
B=/sys/block/vda
say() { echo "@@ $*" >/dev/console; }
say size $(cat $B/size)
say queues $(ls $B/mq | wc -l)
say serial "$(cat $B/serial)"
say cache "$(cat $B/queue/write_cache)"
say discard $(($(cat $B/queue/discard_max_bytes) > 0)) $(($(cat $B/queue/write_zeroes_max_bytes) > 0))
say boot $(dd if=/dev/vda bs=512 count=1 2>/dev/null | sha256sum)
dd if=/dev/urandom of=/tmp/r bs=1M count=8 2>/dev/null
for k in 1 2 3 4; do dd if=/tmp/r of=/dev/vda bs=64k seek=$((k * 128)) conv=notrunc,fsync 2>/dev/null & done
wait
echo 3 >/proc/sys/vm/drop_caches
want=$(sha256sum </tmp/r)
for k in 1 2 3 4; do
	[ "$(dd if=/dev/vda bs=64k skip=$((k * 128)) count=128 2>/dev/null | sha256sum)" = "$want" ] && say parallel $k
done
blkdiscard -o 8388608 -l 8388608 /dev/vda
echo 3 >/proc/sys/vm/drop_caches
[ "$(dd if=/dev/vda bs=64k skip=128 count=128 2>/dev/null | tr -d '\0' | wc -c)" = 0 ] && say discarded
# Streams of synchronous writes while the server is killed and comes back.  Over clusters that are allocated: a killed
# server loses the allocations that no flush asked for, like any volatile cache.
dd if=/dev/zero of=/dev/vda bs=64k seek=640 count=384 conv=notrunc,fsync 2>/dev/null
say kill
for k in 5 6; do
	(i=0; while [ $i -lt 60 ]; do
		dd if=/tmp/r of=/dev/vda bs=64k skip=$((i * 2)) seek=$((k * 128 + i * 2)) count=2 conv=notrunc,fsync 2>/dev/null
		i=$((i + 1))
	done; say stream $k) &
done
dd if=/tmp/r of=/dev/vda bs=4k seek=$((7 * 2048)) conv=notrunc,fsync 2>/dev/null
wait
echo 3 >/proc/sys/vm/drop_caches
for k in 5 6; do
	[ "$(dd if=/dev/vda bs=64k skip=$((k * 128)) count=120 2>/dev/null | sha256sum)" = \
		"$(dd if=/tmp/r bs=64k count=120 2>/dev/null | sha256sum)" ] && say survived $k
done
[ "$(dd if=/dev/vda bs=64k skip=$((7 * 128)) count=128 2>/dev/null | sha256sum)" = "$want" ] && say survived 7
sync
say all $(sha256sum </dev/vda)
say end
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
"""


def ok(cond, name, why=""):
    global count, failed
    count += 1
    print(f"{'ok' if cond else 'not ok'} {count} - {name}", flush=True)
    if not cond:
        failed += 1
        for line in str(why() if callable(why) else why).splitlines()[-40:]:
            print(f"# {line}")
        raise Failed


def skip(why):
    print(f"1..0 # SKIP {why}")
    shutil.rmtree(T)
    sys.exit(0)


def start(args, **kw):
    p = subprocess.Popen(args, stdin=subprocess.DEVNULL, start_new_session=True, **kw)
    procs.append(p)
    return p


def serve(image, path, *more):
    out = open(T + "/serve.out", "a+", encoding="ascii")
    at = out.seek(0, 2)
    p = start(["strata-disk", "serve", image, "--vhost-user", path, *more], stdout=out, stderr=open(T + "/serve.err", "a"))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and p.poll() is None:
        out.seek(at)
        if out.read():
            return p
        time.sleep(0.02)
    raise RuntimeError("the server does not start: " + open(T + "/serve.err").read())


def qemu(memory, path, *more):
    return start(["qemu-system-x86_64", "-accel", "tcg,thread=single", "-M", "q35", "-cpu", "max", "-m", str(memory), "-nodefaults",
                  "-no-user-config", "-display", "none", "-no-reboot",
                  "-object", f"memory-backend-memfd,id=m,size={memory}M,share=on", "-numa", "node,memdev=m",
                  "-chardev", f"socket,id=c,path={path},reconnect=1", *more],
                 stdout=open(T + "/qemu.out", "w"), stderr=subprocess.STDOUT)


def finish(p):
    try:
        return p.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        p.kill()
        return None


def cpio(path, files):
    with open(path, "ab") as out:
        ino = 1000
        for name, mode, data in files + [("TRAILER!!!", 0, b"")]:
            ino += 1
            n = name.encode() + b"\0"
            head = "070701" + "".join(f"{v:08x}" for v in (ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(n), 0))
            out.write(head.encode() + n)
            out.write(b"\0" * (-(110 + len(n)) % 4) + data + b"\0" * (-len(data) % 4))


def firmware():
    """SeaBIOS reads the boot sector; the boot sector reads sector 100 (int 13h) and ends QEMU with its first byte."""
    code = bytes.fromhex("31c08ed88ec0bc007c"        # xor ax,ax; mov ds,es,ax; mov sp,0x7c00
                         "be407cb442cd13"            # mov si,0x7c40; mov ah,0x42; int 13h
                         "a00080e6f4f4ebfe")         # mov al,[0x8000]; out 0xf4,al; hlt; jmp $
    sector = bytearray(512)
    sector[:len(code)] = code
    sector[0x40:0x50] = bytes.fromhex("10000100" "00800000" "6400000000000000")  # packet: 1 sector to 0:8000 from LBA 100
    sector[510:] = b"\x55\xaa"
    with open(T + "/boot.raw", "wb") as f:
        f.write(sector)
        f.seek(100 * 512)
        f.write(bytes([0x15]) * 512)
        f.truncate(SIZE)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", T + "/boot.raw", T + "/a.qcow2"], check=True)
    p = serve(T + "/a.qcow2", T + "/v")
    q = qemu(64, T + "/v", "-device", "vhost-user-blk-pci,chardev=c,bootindex=0",
             "-device", "isa-debug-exit,iobase=0xf4,iosize=4")
    status = finish(q)
    ok(status == 0x15 << 1 | 1, "SeaBIOS boots from it", (status, open(T + "/qemu.out").read(), open(T + "/serve.err").read()))
    p.send_signal(signal.SIGTERM)
    ok(finish(p) == 0, "SIGTERM ends the server", open(T + "/serve.err").read())
    ok(not os.path.exists(T + "/v"), "its socket is gone")
    return hashlib.sha256(sector).hexdigest()


class Failed(Exception):
    pass


class Console(threading.Thread):
    """What the guest says, as it comes."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.said, self.news = path, [], threading.Condition()
        self.start()

    def run(self):
        while not os.path.exists(self.path):
            time.sleep(0.05)
        with open(self.path, "rb") as f:
            line = b""
            while True:
                part = f.read()
                if not part:
                    time.sleep(0.02)
                    continue
                line += part
                *whole, line = line.split(b"\n")
                with self.news:
                    self.said += [w.decode(errors="replace").strip()[3:] for w in whole if w.startswith(b"@@ ")]
                    self.news.notify_all()

    def wait(self, what):
        """Until a line begins with `what`: that line, or None."""
        end = time.monotonic() + PATIENCE
        with self.news:
            while True:
                for s in self.said:
                    if s.startswith(what):
                        return s
                if not self.news.wait(end - time.monotonic()):
                    return None


def linux(boot):
    store = T + "/store"
    deb = os.environ.get("STRATA_KERNEL_DEB")
    r = subprocess.run(["strata-image", "--store", store, "-q", "kernel-install", *(["--deb", deb] if deb else [])],
                       capture_output=True, text=True, timeout=200)
    if r.returncode:
        print(f"ok {count + 1} - a Linux guest # SKIP no kernel package: {r.stderr.strip()}")
        globals()["count"] += 1
        return
    where = glob.glob(store + "/kernels/*")[0]
    cpio(where + "/initrd", [("bin", 0o40755, b""), ("tmp", 0o41777, b""),
                             ("bin/busybox", 0o100755, open(shutil.which("busybox"), "rb").read()),
                             ("testinit", 0o100755, INIT.encode())])
    p = serve(T + "/a.qcow2", T + "/v", "--threads", "2")
    q = qemu(192, T + "/v", "-smp", "2", "-kernel", where + "/vmlinuz", "-initrd", where + "/initrd",
             "-append", "console=ttyS0 rdinit=/testinit panic=-1 quiet", "-serial", "file:" + T + "/console",
             "-device", "vhost-user-blk-pci,chardev=c,num-queues=2")
    c = Console(T + "/console")
    try:
        why = lambda: "\n".join([str(c.said), open(T + "/console", errors="replace").read()[-2000:],
                                 open(T + "/serve.err").read(), open(T + "/qemu.out").read()])
        ok(c.wait("kill") is not None, "the guest gets to work", why)
        for line in (f"size {SIZE // 512}", "queues 2", "serial a.qcow2", "cache write back", "discard 1 1", f"boot {boot}",
                     "parallel 1", "parallel 2", "parallel 3", "parallel 4", "discarded"):
            ok(any(s.startswith(line) for s in c.said), line.split()[0] + " " + line.split()[1][:12] if " " in line else line, why)
        # in the middle of writes, twice; the guest only sees a pause
        for n in range(2):
            p.kill()
            p.wait()
            p = serve(T + "/a.qcow2", T + "/v", "--threads", "2")
            end = time.monotonic() + PATIENCE
            while "io" not in subprocess.run(["ps", "-L", "-o", "comm=", str(p.pid)], capture_output=True, text=True).stdout \
                    and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.5)  # let the front end come back and the guest write on; nothing depends on how far it gets
        for k in (5, 6, 7):
            ok(c.wait(f"survived {k}") is not None, f"stream {k} lost nothing in two kills", why)
        total = c.wait("all ")
        ok(c.wait("end") is not None and finish(q) == 0, "the guest switches itself off", why)
        p.send_signal(signal.SIGTERM)
        ok(finish(p) == 0, "SIGTERM ends the server", why)
        r = subprocess.run(["qemu-img", "check", "-q", T + "/a.qcow2"], capture_output=True, text=True)
        ok(r.returncode in (0, 3), "the kills cost at most leaked clusters", r.stdout + r.stderr)
        r = subprocess.run(["strata-disk", "check", "--repair", T + "/a.qcow2"], capture_output=True, text=True)
        r = subprocess.run(["qemu-img", "check", "-q", T + "/a.qcow2"], capture_output=True, text=True)
        ok(r.returncode == 0, "which check gives back", r.stdout + r.stderr)
        subprocess.run(["qemu-img", "convert", "-O", "raw", T + "/a.qcow2", T + "/out.raw"], check=True)
        h = hashlib.sha256(open(T + "/out.raw", "rb").read()).hexdigest()
        ok(total is not None and total.split()[1] == h, "the image holds what the guest saw", (total, h))
    finally:
        for x in (p, q):
            if x.poll() is None:
                x.kill()


for need in ("qemu-system-x86_64", "qemu-img", "busybox", "ps"):
    if not shutil.which(need):
        skip("needs " + need)
try:
    linux(firmware())
except Failed:
    pass
finally:
    for x in procs:
        if x.poll() is None:
            x.kill()
        x.wait()
    shutil.rmtree(T, ignore_errors=True)
print(f"1..{count}")
sys.exit(failed > 0)
