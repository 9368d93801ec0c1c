#!/usr/bin/env python3
"""bench/disk.py [PAIRS] [DIR]: strata-disk and its library against qemu-img 7.2, in turn, on files in DIR (default
/dev/shm).  Prints medians and the ratio of each pair's medians; needs a build (build/bin) and qemu-img.

create      one empty 10 GiB qcow2, spawn to exit
clone       a linked clone: volume_clone() in process, made durable, against `qemu-img create -b`
overlay     the same made by `strata-disk create -b`, spawn to exit
depth       4K reads of an image with 64 files below it against one, by each; 64 MiB of data spread over the files
read, write 4K requests, queue depth 32, on an allocated image: requests per second and per CPU second
convert     a 512 MiB image, half full, to qcow2"""
import os, random, resource, shutil, statistics, subprocess, sys, tempfile, time

PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
DIR = sys.argv[2] if len(sys.argv) > 2 else "/dev/shm"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SD = os.path.join(ROOT, "build/bin/strata-disk")
VOLBENCH = os.path.join(ROOT, "build/tests/storage/volbench")


def run(*cmd):
    """seconds of wall, of CPU; stdout"""
    a, t = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    t, b = time.monotonic() - t, resource.getrusage(resource.RUSAGE_CHILDREN)
    if p.returncode:
        sys.exit("%s: %s" % (" ".join(cmd), p.stdout))
    return t, b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime, p.stdout


def pair(name, ours, theirs, unit="ms", scale=1000):
    a, b = [], []
    for _ in range(PAIRS):
        a.append(ours())
        b.append(theirs())
    ratios = sorted(y / x for x, y in zip(a, b))
    print("%-26s strata %10.3f %s   qemu %10.3f %s   qemu/strata %.2f (%.2f to %.2f)" % (
        name, statistics.median(a) * scale, unit, statistics.median(b) * scale, unit, statistics.median(ratios),
        ratios[0], ratios[-1]), flush=True)


def fresh(path, *cmd):
    if os.path.exists(path):
        os.unlink(path)
    return run(*cmd)[0]


def main():
    tmp = tempfile.mkdtemp(dir=DIR)
    os.chdir(tmp)
    rng = random.Random(1)
    print("load %.1f, %s, %s pairs" % (os.getloadavg()[0], os.uname().release, PAIRS))
    pair("create", lambda: fresh("a", SD, "create", "a", "10G"),
         lambda: fresh("b", "qemu-img", "create", "-q", "-f", "qcow2", "b", "10G"))
    run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "10G")
    pair("overlay", lambda: fresh("a", SD, "create", "-b", "base.qcow2", "-F", "qcow2", "a"),
         lambda: fresh("b", "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "b"))

    def clone(what):
        return float(run(VOLBENCH, what, "vol")[2].split()[0]) / 1e9
    run(SD, "volume", "create", "vol", "10G")
    pair("clone in process", lambda: clone("clone"),
         lambda: fresh("b", "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "b"))
    print("%-26s strata %10.3f ms" % ("live row snapshot", clone("snapshot") * 1000))

    # chains: file k holds every 64th 4 MiB piece of 64 MiB... all of them data
    def chain(n):
        names = []
        for k in range(n):
            name = "chain%d-%d.qcow2" % (n, k)
            back = ["-b", names[-1], "-F", "qcow2"] if names else []
            run("qemu-img", "create", "-q", "-f", "qcow2", *back, name, "64M")
            args = []
            for piece in range(k, 1024, n):
                args += ["-c", "write -q -P %d %d 64k" % (piece % 255 + 1, piece * 65536)]
            run("qemu-io", "-f", "qcow2", *args, name)
            names.append(name)
        return names[-1]
    top1, top64 = chain(1), chain(64)
    count = "100000"

    def ours(img, *more):
        return run(SD, "bench", "-c", count, "-d", "32", "-s", "4096", *more, img)[:2]

    def theirs(img, *more):
        return run("qemu-img", "bench", "-f", "qcow2", "-c", count, "-d", "32", "-s", "4096", "-i", "io_uring", *more,
                   img)[:2]
    for i, what in ((0, "wall"), (1, "CPU")):
        pair("100k reads, " + what, lambda: ours(top1)[i], lambda: theirs(top1)[i])
        pair("100k reads, depth 64, " + what, lambda: ours(top64)[i], lambda: theirs(top64)[i])
    a1 = statistics.median(ours(top1, "--random")[1] for _ in range(PAIRS))
    a64 = statistics.median(ours(top64, "--random")[1] for _ in range(PAIRS))
    print("%-26s strata %10.3f of depth 1 (CPU, random reads)" % ("depth 64", a64 / a1))
    for i, what in ((0, "wall"), (1, "CPU")):
        pair("100k writes, " + what, lambda: ours(top1, "-w")[i], lambda: theirs(top1, "-w")[i])
    run("qemu-img", "create", "-q", "-f", "qcow2", "src.qcow2", "512M")
    args = []
    for piece in range(0, 512, 2):
        args += ["-c", "write -q -P %d %dM 1M" % (rng.randrange(1, 255), piece)]
    run("qemu-io", "-f", "qcow2", *args, "src.qcow2")
    pair("convert 512 MiB", lambda: fresh("a.qcow2", SD, "convert", "-O", "qcow2", "src.qcow2", "a.qcow2"),
         lambda: fresh("b.qcow2", "qemu-img", "convert", "-O", "qcow2", "src.qcow2", "b.qcow2"))
    os.chdir("/")
    shutil.rmtree(tmp)


main()
