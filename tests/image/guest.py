#!/usr/bin/env python3
"""An OCI image inside a VM (QEMU, emulated): strata-init's protocol spoken by this file, not by our own C code."""
import hashlib, io, json, os, shutil, struct, subprocess, sys, tarfile, tempfile, time
from protocol import *

count = failed = 0
def ok(cond, name, why=""):
    global count, failed
    count += 1
    print(f"{'ok' if cond else 'not ok'} {count} - {name}", flush=True)
    if not cond:
        failed += 1
        for line in str(why).splitlines()[-40:]:
            print(f"# {line}")


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


for need in ("qemu-system-x86_64", "mkfs.erofs", "mke2fs", "busybox", "dpkg-deb"):
    if not shutil.which(need) and not os.path.exists("/usr/sbin/" + need):
        skip("needs " + need)
if os.geteuid() != 0:
    skip("needs root")
T = tempfile.mkdtemp(prefix="strata-guest.")


def run(*args):
    return subprocess.run(["strata-image", "--store", T + "/store", "-q", *args], capture_output=True, text=True, timeout=200)


procs = []


def boot(dir, log, *extra):
    vm = json.load(open(dir + "/vm.json"))
    cmd = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max", "-m", "256", "-smp", "1", "-nodefaults",
           "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:" + log,
           "-kernel", vm["kernel"], "-initrd", vm["initrd"], "-append", vm["append"],
           "-device", "virtio-serial-pci", "-chardev", f"socket,id=g,path={dir}/guest.sock,server=on,wait=off",
           "-device", "virtserialport,chardev=g,name=org.strata.guest.0"]
    for i, d in enumerate(vm["disks"]):
        cmd += ["-drive", f"if=none,id=d{i},format=raw,file={d['path']}" + (",readonly=on" if d["readonly"] else ""),
                "-device", f"virtio-blk-pci,drive=d{i},serial={d['serial']}"]
    p = subprocess.Popen(cmd + list(extra), stdin=subprocess.DEVNULL, stdout=open(dir + "/qemu.out", "w"), stderr=subprocess.STDOUT)
    procs.append(p)
    return p, Guest(dir + "/guest.sock"), vm


def folders(g):
    """A folder goes in as python's and as tar's archive, and comes out for python and for tar."""
    def entries(data):
        with tarfile.open(fileobj=io.BytesIO(data)) as t:
            return {m.name.removeprefix("./").strip("."): (m.type, m.mode, m.uid, m.gid, m.linkname.removeprefix("./"), int(m.mtime),
                    hashlib.sha256(t.extractfile(m).read()).hexdigest() if m.isreg() else "", m.pax_headers.get("SCHILY.xattr.user.a")) for m in t}
    f = io.BytesIO()
    deep = "/".join(["a" * 60] * 4)
    with tarfile.open(fileobj=f, mode="w", format=tarfile.PAX_FORMAT) as t:
        def add(name, type=tarfile.REGTYPE, data=b"", **kw):
            ti = tarfile.TarInfo(name)
            ti.type, ti.size, ti.mode, ti.mtime, ti.uid, ti.gid = type, len(data), 0o644, 1700000000, 5, 6
            for k, v in kw.items():
                setattr(ti, k, v)
            t.addfile(ti, io.BytesIO(data))
        add("", tarfile.DIRTYPE, mode=0o750)
        add("d", tarfile.DIRTYPE, mode=0o2770, uid=70000)
        add("d/big", data=os.urandom(1000001), uid=3000000, mode=0o4755, pax_headers={"SCHILY.xattr.user.a": "value"})
        add("d/empty")
        add("d/hard", tarfile.LNKTYPE, linkname="d/big", size=0)
        add("d/soft", tarfile.SYMTYPE, linkname="../../../etc/passwd", mode=0o777)
        add("d/pipe", tarfile.FIFOTYPE)
        add("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
        for i in range(1, 5):
            add("/".join(["a" * 60] * i), tarfile.DIRTYPE, mode=0o755)
        add(deep + "/f", data=b"deep")
        add(deep + "/l", tarfile.SYMTYPE, linkname="x" * 200, mode=0o777)
    sent = f.getvalue()
    status, out, err = g.put_tree("/home/tree", sent)
    ok(status == {"code": 0}, "a folder goes in", (status, err))
    status, out, err = g.exec("/bin/sh", "-c", "cat /home/tree/d/soft | head -1; ls -l /home/tree/d/null; stat -c %h /home/tree/d/big")
    ok(out.startswith(b"root:") and b"1,   3" in out and out.endswith(b"2\n"), "with links and devices", (out, err))
    status, out, err = g.get_tree("/home/tree")
    ok(status == {"code": 0}, "it comes out", (status, err))
    a, b = entries(sent), entries(out)
    ok(all(a[k] == b.get(k) for k in a if k not in ("d/big", "d/hard")),
       "python reads the same from it", [(k, a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)])
    both = {k: v for k, v in b.items() if k in ("d/big", "d/hard")}
    file, link = (("d/big", "d/hard") if both.get("d/big", (b"",))[0] == b"0" else ("d/hard", "d/big"))
    ok(both[file][6] == a["d/big"][6] and both[file][1:4] == (0o4755, 3000000, 6) and both[file][7] == "value" and both[link][0] == b"1" and
       both[link][4] == file, "the hard link is one, large owner and attribute are kept", both)
    ok(set(a) == set(b), "the same names", set(a) ^ set(b))
    r = subprocess.run(["tar", "-t"], input=out, capture_output=True)
    ok(r.returncode == 0 and not r.stderr, "tar reads it without complaint", r.stderr)
    tree = T + "/gnu"
    os.makedirs(tree + "/" + "b" * 99 + "/" + "c" * 99)
    open(tree + "/" + "b" * 99 + "/" + "c" * 99 + "/file", "w").write("gnu")
    sent = subprocess.run(["tar", "--format=gnu", "-C", tree, "-c", "."], capture_output=True, check=True).stdout
    ok(g.put_tree("/home/gnu", sent)[0] == {"code": 0} and g.get("/home/gnu/" + "b" * 99 + "/" + "c" * 99 + "/file")[1] == b"gnu", "tar's long names go in")

    def evil(name):
        f = io.BytesIO()
        with tarfile.open(fileobj=f, mode="w") as t:
            for n, type, link in (("out", tarfile.SYMTYPE, "/etc"), (name, tarfile.REGTYPE, "")):
                ti = tarfile.TarInfo(n)
                ti.type, ti.linkname = type, link
                t.addfile(ti)
        return f.getvalue()
    status, out, err = g.put_tree("/home/evil", evil("../../evil"))
    ok(status == {"code": 1} and b"../../evil" in err, "a name that leaves the folder is refused", (status, err))
    status, out, err = g.put_tree("/home/evil", evil("out/evil"))
    ok(g.get("/etc/evil")[0].get("errno") == 2, "a link out of the folder leads nowhere out", (status, err))
    status, out, err = g.put_tree("/home/cut", sent[:-5000][:1500])
    ok(status == {"code": 1}, "a tar that is cut is refused", (status, err))
    status, out, err = g.get_tree("/etc/passwd")
    ok(status == {"code": 1} and b"Not a directory" in err, "a file is no folder", (status, err))


def main():
    root = T + "/root"
    for d in ("bin", "etc", "tmp", "home/web"):
        os.makedirs(f"{root}/{d}")
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    for a in ("sh", "cat", "id", "ls", "sleep", "echo", "env", "pwd", "tty", "sha256sum", "kill", "ip", "hostname", "stty", "dd",
              "mount", "ps", "touch", "head", "stat"):
        os.symlink("busybox", f"{root}/bin/{a}")
    open(root + "/etc/passwd", "w").write("root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n")
    open(root + "/etc/group", "w").write("root:x:0:\nweb:x:1001:\nextra:x:50:web\n")
    subprocess.run(["tar", "-C", root, "-cf", T + "/root.tar", "."], check=True)
    r = run("import", T + "/root.tar", "--name", "bb:1", "--cmd", "/bin/sh", "--env", "FROM=image")
    ok(r.returncode == 0, "import", r.stderr)
    deb = os.environ.get("STRATA_KERNEL_DEB")
    r = run("kernel-install", *(["--deb", deb] if deb else []))
    if r.returncode and "download" in r.stderr:
        skip("the distribution's kernel package cannot be had: " + r.stderr.strip())
    ok(r.returncode == 0 and r.stdout.startswith("6."), "kernel install", r.stderr)
    version = r.stdout.strip()

    # ---- a command with its user, environment and folder, config over fw_cfg, status to the host
    r = run("vm", "bb:1", T + "/vm1", "--attach", "--user", "web", "--workdir", "/home/web", "-e", "A=b c", "--hostname", "g1", "--",
            "/bin/sh", "-c", "id; pwd; echo $FROM $A $HOME; hostname; cat; echo bad >&2; exit 7")
    ok(r.returncode == 0, "prepare a VM", r.stderr)
    start = time.time()
    p, g, vm = boot(T + "/vm1", T + "/vm1/log", "-fw_cfg", "name=opt/strata/config,file=" + T + "/vm1/config.json")
    log = lambda n=1: open(f"{T}/vm{n}/log", errors="replace").read()
    try:
        type, _, data = g.recv()
        ok(type == HELLO and json.loads(data)["kernel"] == version, "hello", data)
        status, out, err = g.finish(0, b"fed by the host\n")
        ok(status == {"code": 7}, "exit status 7", (status, out, err, log()))
        ok(out == b"uid=1000(web) gid=1001(web) groups=50(extra),1001(web)\n/home/web\nimage b c /home/web\ng1\nfed by the host\n",
           "user, folder, environment, host name, input", out)
        ok(err == b"bad\n", "standard error is apart", err)
        ok(p.wait(20) == 0, "the machine switches itself off", log())
    except Exception as x:
        ok(False, "first VM", repr(x) + log())
        p.kill()
    print(f"# first VM took {time.time() - start:.1f} s", flush=True)

    # ---- exec, copy, terminal, signals, reaping, private disk, network; config over the port
    r = run("vm", "bb:1", T + "/vm2", "--size", "64M", "--net", "52:54:00:00:00:07,10.9.8.7/24,fd00::7/64,10.9.8.1", "--",
            "/bin/sh", "-c", "trap 'exit 42' TERM; echo main runs; while :; do sleep 0.2; done")
    p, g, vm = boot(T + "/vm2", T + "/vm2/log", "-netdev", "user,id=n,restrict=on", "-device",
                    "virtio-net-pci,netdev=n,mac=52:54:00:00:00:07")
    try:
        type, _, data = g.recv()
        ok(type == HELLO and json.loads(data)["state"] == "config", "it waits for its config", data)
        g.send(CONFIG, 0, json.load(open(T + "/vm2/config.json")))
        type, sid, data = g.recv()
        ok(type == STARTED and sid == 0, "the main process starts", (type, data, log(2)))
        status, out, err = g.exec("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
        ok((status, out, err) == ({"code": 3}, b"out\n", b"err\n"), "exec", (status, out, err))
        status, out, err = g.exec("/no/such")
        ok(status.get("errno") == 2 and "/no/such" in status["message"], "exec of nothing says so", status)
        status, out, err = g.exec("/bin/id", user="nobody-here")
        ok("no user" in status.get("message", ""), "exec as a stranger says so", status)
        blob = os.urandom(3 << 20)
        ok(g.put("/home/file", blob, mode=0o640, uid=1000, gid=1001) == {"code": 0}, "copy 3 MB in")
        status, out, err = g.get("/home/file")
        ok(status == {"code": 0} and out == blob, "copy it out", (status, len(out)))
        status, out, err = g.exec("/bin/ls", "-ln", "/home/file")
        ok(out.startswith(b"-rw-r-----") and b"1000     1001" in out, "its owner and mode", out)
        ok(g.get("/etc")[0].get("errno") == 22, "a directory is no file")
        folders(g)
        status, out, err = g.exec("/bin/cat", feed=blob)
        ok(status == {"code": 0} and out == blob, "3 MB through a process", (status, len(out)))
        status, out, err = g.exec("/bin/sh", "-c", "tty; stty size; read x; echo got $x", tty=True, rows=33, cols=77, feed=b"hi\n")
        ok(status == {"code": 0} and b"/dev/pts/" in out and b"33 77" in out and b"got hi" in out, "a terminal", (status, out))
        g.send(EXEC, 900, {"args": ["/bin/sleep", "100"]})
        while g.recv()[:2] != (STARTED, 900):
            pass
        g.send(SIGNAL, 900, struct.pack("<I", 9))
        ok(g.finish(900)[0] == {"signal": 9}, "a signal reaches its process")
        g.exec("/bin/sh", "-c", "(sleep 0.1 &) ; exit 0")
        time.sleep(1)
        status, out, err = g.exec("/bin/sh", "-c", "ps -o stat,comm | grep -c ^Z; true")
        ok(out.strip() == b"0", "orphans are reaped", out)
        status, out, err = g.exec("/bin/sh", "-c", "ip addr; ip route; mount")
        ok(b"10.9.8.7/24" in out and b"fd00::7/64" in out and b"default via 10.9.8.1" in out, "network", out.decode())
        ok(b"overlay on / type overlay" in out, "the root is an overlay of disks", out.decode())
        g.s.close()
        time.sleep(0.5)  # a port tells the guest that its host went, not that it came back at once
        g = Guest(T + "/vm2/guest.sock")
        type, _, data = g.recv()
        ok(type == HELLO and json.loads(data)["state"] == "running", "a host that comes back is greeted", data)
        ok(g.recv()[0] == STARTED, "and told what runs")
        g.send(POWER, 0, {"action": "poweroff", "timeout": 5})
        ok(g.finish(0)[0] == {"code": 42}, "poweroff: the main process gets its stop signal and says 42")
        ok(p.wait(20) == 0, "the machine switches itself off", log(2))
        ok("main runs" in log(2), "the console shows what the main process says", log(2))
    except Exception as x:
        ok(False, "second VM", repr(x) + log(2))
        p.kill()
    # the private disk holds what was written, the layers do not
    r = subprocess.run(["debugfs", "-R", "ls -l /upper/home", T + "/vm2/upper.img"], capture_output=True, text=True)
    ok("file" in r.stdout, "what was written is on the private disk", r.stdout + r.stderr)


try:
    main()
finally:
    for p in procs:
        if p.poll() is None:
            p.kill()
        p.wait()
    shutil.rmtree(T)
print(f"1..{count}")
sys.exit(1 if failed else 0)
