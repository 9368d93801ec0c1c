#!/usr/bin/env python3
"""Serving disks side by side: strata-disk serve against qemu-nbd and qemu-storage-daemon, over NBD and vhost-user-blk.

4K random reads and writes at depth 64 on an allocated qcow2 image (1 GiB, 64K clusters) in a memory file system; each server in
turn, interleaved, with the same client: fio's nbd engine, and tests/vmm/vhost_user_guest, which drives a ring from memory.
Printed for each: IOPS, the server's CPU-seconds (all threads, user and kernel), IOPS per CPU-second, and ratios of medians.

Needs BUILD (the build directory) and root or access to /dev/shm.  disk-serve.py [SECONDS [ROUNDS]]
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILD", "build")
SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
T = tempfile.mkdtemp(prefix="strata-bench.", dir="/dev/shm")
IMAGE, SOCK = T + "/a.qcow2", T + "/s"
HZ = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def qsd(kind):
    export = {"nbd": ["--nbd-server", f"addr.type=unix,addr.path={SOCK}", "--export", "type=nbd,id=e,node-name=n,name=x,writable=on"],
              "vhost-user": ["--export", f"type=vhost-user-blk,id=e,addr.type=unix,addr.path={SOCK},node-name=n,writable=on"]}[kind]
    return ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={IMAGE},aio=io_uring",
            "--blockdev", "driver=qcow2,node-name=n,file=f,l2-cache-size=16M", *export]


SERVERS = {
    "nbd": {
        "strata": [BUILD + "/bin/strata-disk", "serve", f"path={IMAGE},name=x", "--nbd", "unix:" + SOCK, "--threads", "1"],
        "qemu-nbd": ["qemu-nbd", "-t", "-e", "4", "-f", "qcow2", "-x", "x", "-k", SOCK, "--aio=io_uring", IMAGE],
        "qsd": qsd("nbd"),
    },
    "vhost-user": {
        "strata": [BUILD + "/bin/strata-disk", "serve", IMAGE, "--vhost-user", SOCK, "--threads", "1"],
        "qsd": qsd("vhost-user"),
    },
}


def load(kind, rw):
    if kind == "nbd":
        r = subprocess.run(["fio", "--name=x", "--ioengine=nbd", f"--uri=nbd+unix:///x?socket={SOCK}", "--rw=" + rw, "--bs=4k",
                            "--iodepth=64", f"--runtime={SECONDS}", "--time_based", "--size=1G", "--output-format=json"],
                           capture_output=True, text=True, timeout=SECONDS + 60, check=True)
        job = json.loads(r.stdout[r.stdout.index("{"):])["jobs"][0]
        return job["read" if rw == "randread" else "write"]["total_ios"]
    r = subprocess.run([BUILD + "/tests/vmm/vhost_user_guest", SOCK, str(SECONDS), rw], capture_output=True, text=True,
                       timeout=SECONDS + 60, check=True)
    return int(r.stdout.split("requests")[0].split()[-1])


def run(kind, name, rw):
    if os.path.exists(SOCK):
        os.unlink(SOCK)
    p = subprocess.Popen(SERVERS[kind][name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not os.path.exists(SOCK):
            if p.poll() is not None or time.monotonic() > end:
                raise RuntimeError(name + " does not start")
            time.sleep(0.02)
        time.sleep(0.2)
        before, start = cpu(p.pid), time.monotonic()
        n = load(kind, rw)
        return n / (time.monotonic() - start), n / max(cpu(p.pid) - before, 1 / HZ)
    finally:
        p.terminate()
        p.wait()


try:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=full", IMAGE, "1G"], check=True)
    for kind, servers in SERVERS.items():
        for rw in ("randread", "randwrite"):
            got = {name: [] for name in servers}
            for _ in range(ROUNDS):
                for name in servers:
                    got[name].append(run(kind, name, rw))
            per_cpu = {n: statistics.median(x[1] for x in v) for n, v in got.items()}
            for name, v in got.items():
                print(f"{kind:10} {rw:9} {name:9} {statistics.median(x[0] for x in v):9.0f} IOPS {per_cpu[name]:9.0f} IOPS per CPU-second"
                      + ("" if name == "strata" else f"   strata {per_cpu['strata'] / per_cpu[name]:.2f} times"), flush=True)
finally:
    shutil.rmtree(T)
