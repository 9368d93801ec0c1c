#!/usr/bin/env python3
"""Random operations on one image by Strata and by QEMU in turn, against a plain file; qemu-img judges.

After every batch: qemu-img check finds nothing, qemu-img compare and strata-disk compare say "identical".
STRATA_OPS: operations in all (default 10000, with STRATA_LONG 100000). STRATA_SEED: the seed (default 1)."""
import os, random, shutil, subprocess, sys, tempfile

OPS = int(os.environ.get("STRATA_OPS", "100000" if os.environ.get("STRATA_LONG") else "10000"))
SEED = int(os.environ.get("STRATA_SEED", "1"))
BUILD = os.environ["BUILD"]
DISKIO = os.path.join(BUILD, "tests/storage/diskio")
SIZE = 24 << 20

LAYOUTS = [
    ("default", [], False),
    ("default, backing file", [], True),
    ("clusters of 512", ["cluster_size=512"], False),
    ("clusters of 2M, refcounts of 64 bits", ["cluster_size=2M", "refcount_bits=64"], True),
    ("extended L2", ["extended_l2=on", "cluster_size=128k"], True),
    ("extended L2, 16K, preallocated", ["extended_l2=on", "cluster_size=16k", "preallocation=metadata"], False),
    ("refcounts of 1 bit", ["refcount_bits=1"], False),
    ("version 2", ["compat=0.10"], True),
    ("lazy refcounts", ["lazy_refcounts=on"], False),
    ("external data file", ["data_file=DATA"], False),
    ("raw external data file", ["data_file=DATA", "data_file_raw=on"], False),
]


def run(*cmd, **kw):
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if p.returncode:
        raise RuntimeError("%s: %d\n%s" % (" ".join(map(str, cmd)), p.returncode, p.stdout[-2000:]))
    return p.stdout


def batch(rng, n, v2_backing):
    ops = []
    for _ in range(n):
        kind = rng.choice("wwwwzudf")
        length = 1 + rng.randrange(1 << rng.randrange(6, 19))
        off = rng.randrange(SIZE)
        length = min(length, SIZE - off)
        off, length = off & ~511, (length + 511) & ~511
        length = min(length, SIZE - off)
        if kind == "d":  # what a discard leaves is not defined with a backing file: whole ranges only, then zeroes
            kind = "u"
        ops.append((kind, off, length, rng.randrange(1, 256)))
    return ops


def apply_model(model, ops):
    for kind, off, length, value in ops:
        if kind != "f":
            model.seek(off)
            model.write(bytes([value if kind == "w" else 0]) * length)
    model.flush()


def by_strata(image, ops):
    text = "".join("f\n" if k == "f" else "%s %d %d %d\n" % (k, o, l, v) for k, o, l, v in ops)
    run(DISKIO, image, "qcow2", input=text)


def by_qemu(image, ops):
    words = {"w": "write -P %(v)d %(o)d %(l)d", "z": "write -z %(o)d %(l)d", "u": "write -z -u %(o)d %(l)d", "f": "flush"}
    args = []
    for k, o, l, v in ops:
        args += ["-c", words[k] % {"o": o, "l": l, "v": v}]
    out = run("qemu-io", "-f", "qcow2", "-d", "unmap", *args, image)
    if "failed" in out:
        raise RuntimeError(out)


def judge(image, model):
    run("qemu-img", "check", "-q", "-f", "qcow2", image)
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, model)
    run("strata-disk", "check", image)
    run("strata-disk", "compare", "-F", "raw", image, model)


def main():
    for tool in ("qemu-img", "qemu-io"):
        if not shutil.which(tool):
            print("1..0 # SKIP %s is missing" % tool)
            return 0
    print("1..%d" % len(LAYOUTS))
    status = 0
    per = max(OPS // len(LAYOUTS), 40)
    for i, (name, opts, backing) in enumerate(LAYOUTS):
        d = tempfile.mkdtemp(prefix="strata-diff-")
        rng = random.Random(SEED * 1000 + i)
        done = 0
        try:
            image, model = os.path.join(d, "a.qcow2"), os.path.join(d, "model.raw")
            opts = [o.replace("DATA", os.path.join(d, "data")) for o in opts]
            with open(model, "w+b") as m:
                m.truncate(SIZE)
                args = ["-o", ",".join(opts)] if opts else []
                if backing:
                    base = os.path.join(d, "base.qcow2")
                    run("qemu-img", "create", "-q", "-f", "qcow2", base, str(SIZE - 999936))
                    ops = [o for o in batch(rng, 60, False) if o[1] + o[2] <= SIZE - 999936]
                    by_qemu(base, ops)
                    apply_model(m, ops)
                    args += ["-b", base, "-F", "qcow2"]
                if i % 2 or backing:
                    run("qemu-img", "create", "-q", "-f", "qcow2", *args, image, str(SIZE))
                else:
                    run("strata-disk", "create", *args, image, str(SIZE))
                turn = 0
                while done < per:
                    ops = batch(rng, min(200, per - done), backing)
                    (by_qemu if turn % 3 == 2 else by_strata)(image, ops)
                    apply_model(m, ops)
                    judge(image, model)
                    done += len(ops)
                    turn += 1
            print("ok %d - %s: %d operations" % (i + 1, name, done))
        except Exception as e:
            status = 1
            print("not ok %d - %s after %d operations, seed %d" % (i + 1, name, done, SEED))
            print("# " + str(e).replace("\n", "\n# "))
            if os.environ.get("STRATA_KEEP"):
                print("# kept in " + d)
                continue
        shutil.rmtree(d, ignore_errors=True)
        sys.stdout.flush()
    return status


sys.exit(main())
