#!/usr/bin/env python3
"""Damaged images: random wrong entries in L1 and L2 tables, refcount tables and blocks.  `check` says so,
`check --repair` mends it, and what it leaves is clean to qemu-img check and to ourselves.

STRATA_OPS: images in all (default 40).  STRATA_SEED: the seed (default 1)."""
import os, random, shutil, struct, subprocess, sys, tempfile

N = int(os.environ.get("STRATA_OPS", "40"))
SEED = int(os.environ.get("STRATA_SEED", "1"))
LAYOUTS = [[], ["cluster_size=4k"], ["extended_l2=on", "cluster_size=16k"], ["compat=0.10"], ["refcount_bits=1"],
           ["refcount_bits=64", "cluster_size=512"]]


def run(*cmd, ok=(0,)):
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    if p.returncode not in ok:
        raise RuntimeError("%s: %d\n%s" % (" ".join(cmd), p.returncode, p.stdout[-3000:]))
    return p


def damage(rng, path):
    with open(path, "r+b") as f:
        head = f.read(104)
        bits, = struct.unpack(">I", head[20:24])
        l1n, = struct.unpack(">I", head[36:40])
        l1, rt = struct.unpack(">QQ", head[40:56])
        size = os.path.getsize(path)

        def u64(at):
            f.seek(at)
            return struct.unpack(">Q", f.read(8))[0]
        what = []
        for _ in range(1 + rng.randrange(3)):
            bad = rng.choice([size + (1 << 30), 1 << 55, (rng.randrange(size) & ~511) + 512, rng.randrange(1, size)])
            bad &= 0x00fffffffffffe00
            kind = rng.randrange(5)
            tables = [u64(l1 + 8 * i) & 0x00fffffffffffe00 for i in range(l1n)]
            tables = [t for t in tables if t and t + (1 << bits) <= size and not t & ((1 << bits) - 1)]
            if kind == 0:
                at, value = l1 + 8 * rng.randrange(l1n), bad | 1 << 63
            elif kind == 1 and tables:
                words = (1 << bits) // 8
                at, value = rng.choice(tables) + 8 * (rng.randrange(words) & ~1), bad | rng.choice([0, 1 << 63])
            elif kind == 2 and tables:
                at, value = rng.choice(tables) + 16 * rng.randrange((1 << bits) // 16), bad | 1 << 62
            elif kind == 3:
                at, value = rt, bad
            else:
                block = u64(rt) & 0x00fffffffffffe00
                if not block or block + 64 > size:
                    continue
                at, value = block + 8 * rng.randrange(8), rng.getrandbits(64)
            f.seek(at)
            f.write(struct.pack(">Q", value))
            what.append("%d at %#x: %#x" % (kind, at, value))
        return what


def main():
    rng = random.Random(SEED)
    tmp = tempfile.mkdtemp()
    found = 0
    try:
        for i in range(N):
            image = os.path.join(tmp, "i.qcow2")
            layout = LAYOUTS[i % len(LAYOUTS)]
            run("qemu-img", "create", "-q", "-f", "qcow2", *[x for o in layout for x in ("-o", o)], image, "8M")
            args = []
            for _ in range(12):
                off = rng.randrange(8 << 20) & ~4095
                args += ["-c", "write -P %d %d %d" % (rng.randrange(1, 255), off, min(65536, (8 << 20) - off))]
            run("qemu-io", "-f", "qcow2", *args, image)
            what = damage(rng, image)
            try:
                before = run("strata-disk", "check", image, ok=(0, 1, 2, 3))
                if before.returncode:
                    found += 1
                mended = run("strata-disk", "check", "--repair", image)
                if before.returncode and "ERROR" not in mended.stdout and "Leaked" not in mended.stdout:
                    raise RuntimeError("a silent repair:\n" + mended.stdout)
                run("qemu-img", "check", "-q", "-f", "qcow2", image)
                run("strata-disk", "check", image)
            except RuntimeError as e:
                keep = os.path.join(os.environ.get("STRATA_KEEP", tmp), "bad.qcow2")
                if keep != os.path.join(tmp, "bad.qcow2"):
                    shutil.copy(image, keep)
                print("not ok 1 - image %d %s %s\n# %s" % (i, layout, what, str(e).replace("\n", "\n# ")))
                print("1..1")
                return 1
        print("ok 1 - %d damaged images, %d of them seen by check, all clean afterwards" % (N, found))
        if found < N // 2:
            print("not ok 2 - too few were damaged")
        print("1..1")
        return 0
    finally:
        shutil.rmtree(tmp)


if not shutil.which("qemu-img"):
    print("1..0 # SKIP no qemu-img")
    sys.exit(0)
sys.exit(main())
