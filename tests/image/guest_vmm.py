#!/usr/bin/env python3
"""OCI images under strata-vmm, inside a lab host: run by guest_lab.sh.  Arguments: the folders of two prepared VMs.
The port, the vsock of strata-vmm's own, and the kernel's vhost-vsock."""
import json, os, struct, subprocess, sys, time
from protocol import *

count = failed = 0
procs = []


def ok(cond, name, why=""):
    global count, failed
    count += 1
    print(f"{'ok' if cond else 'not ok'} {count} - {name}", flush=True)
    if not cond:
        failed += 1
        for line in str(why).splitlines()[-40:]:
            print(f"# {line}")
    return cond


def start(dir, *extra):
    vm = json.load(open(dir + "/vm.json"))
    here = lambda path: f"{dir}/{os.path.basename(path)}"  # made elsewhere, brought along
    cmd = ["strata-vmm", "run", "--kernel", here(vm["kernel"]), "--initrd", here(vm["initrd"]), "--append", vm["append"], "--memory", "256M",
           "--console", "stdio", "--rng", "--port", f"name=org.strata.guest.0,socket={dir}/port.sock"]
    for d in vm["disks"]:
        cmd += ["--disk", f"path={here(d['path'])},format=raw,serial={d['serial']}" + (",readonly" if d["readonly"] else "")]
    p = subprocess.Popen(cmd + list(extra), stdin=subprocess.DEVNULL, stdout=open(dir + "/log", "w"), stderr=subprocess.STDOUT)
    procs.append(p)
    return p, lambda: open(dir + "/log", errors="replace").read()


def first(dir):
    begin = time.time()
    p, log = start(dir)
    try:
        g = Guest(dir + "/port.sock", 600)
        type, _, data = g.recv()
        ok(type == HELLO and json.loads(data)["state"] == "config", "hello over the port, waiting for its config", (data, log()))
        g.send(CONFIG, 0, json.load(open(dir + "/config.json")))
        status, out, err = g.finish(0, b"fed by the host\n")
        ok(status == {"code": 7}, "exit status 7", (status, out, err, log()))
        ok(out == b"uid=1000(web) gid=1001(web) groups=50(extra),1001(web)\n/home/web\nimage b c /home/web\ng1\nfed by the host\n",
           "user, folder, environment, host name, input", out)
        ok(err == b"bad\n", "standard error is apart", err)
        ok(p.wait(300) == 0, "the machine switches itself off", log())
    except Exception as x:
        ok(False, "first VM", repr(x) + log())
        p.kill()
    print(f"# first VM took {time.time() - begin:.1f} s", flush=True)


def second(dir):
    kernel = subprocess.run(["modprobe", "vhost_vsock"], capture_output=True).returncode == 0 and os.path.exists("/dev/vhost-vsock")
    p, log = start(dir, "--vsock", f"cid=42,socket={dir}/vsock")
    try:
        port = Guest(dir + "/port.sock", 600)
        ok(port.recv()[0] == HELLO, "hello over the port", log())
        g = Guest(("hybrid", dir + "/vsock"), 600)
        type, _, data = g.recv()
        ok(type == HELLO and json.loads(data)["state"] == "config", "hello over vsock, at the same time", (data, log()))
        g.send(CONFIG, 0, json.load(open(dir + "/config.json")))
        type, sid, data = g.recv()
        ok(type == STARTED and sid == 0, "the config over vsock starts the main process", (type, data, log()))
        checks(g, "vsock")
        other = Guest(("hybrid", dir + "/vsock"), 600)
        ok(other.recv()[0] == HELLO and other.recv()[0] == STARTED, "a second connection is greeted, and told what runs")
        ok(other.exec("/bin/echo", "two")[1] == b"two\n" and g.exec("/bin/echo", "one")[1] == b"one\n", "both work")
        other.send(EXEC, 77, {"args": ["/bin/sleep", "1000"]})
        while other.recv()[:2] != (STARTED, 77):
            pass
        other.s.close()
        for _ in range(100):
            left = g.exec("/bin/sh", "-c", "ps -o args | grep -c '^[/]bin/sleep 1000'")[1].strip()
            if left == b"0":
                break
            time.sleep(0.1)
        ok(left == b"0", "what a connection ran ends with it", left)
        g.send(POWER, 0, {"action": "poweroff", "timeout": 20})
        status = g.finish(0)[0]
        ok(status == {"code": 42}, "poweroff over vsock: the main process says 42", status)
        ok(p.wait(300) == 0, "the machine switches itself off", log())
    except Exception as x:
        ok(False, "second VM", repr(x) + log())
        p.kill()
    if not kernel:
        ok(True, "vhost-vsock # SKIP this kernel has none")
        return
    p, log = start(dir, "--vsock", "cid=43", "--seccomp", "kill")
    try:
        g = Guest((43, 1024), 600)
        ok(g.recv()[0] == HELLO, "hello over the kernel's vsock", log())
        g.send(CONFIG, 0, json.load(open(dir + "/config.json")))
        ok(g.recv()[0] == STARTED, "the main process starts", log())
        status, out, err = g.get("/home/file")
        ok(status == {"code": 0} and len(out) == 300000, "the private disk kept what was copied in before", (status, len(out)))
        checks(g, "vhost-vsock")
        g.send(POWER, 0, {"action": "poweroff", "timeout": 20})
        ok(g.finish(0)[0] == {"code": 42} and p.wait(300) == 0, "off", log())
    except Exception as x:
        ok(False, "third VM", repr(x) + log())
        p.kill()


def checks(g, how):
    status, out, err = g.exec("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    ok((status, out, err) == ({"code": 3}, b"out\n", b"err\n"), f"{how}: exec", (status, out, err))
    blob = os.urandom(300000)
    ok(g.put("/home/file", blob, mode=0o640, uid=1000, gid=1001) == {"code": 0}, f"{how}: copy in")
    status, out, err = g.get("/home/file")
    ok(status == {"code": 0} and out == blob, f"{how}: copy out", (status, len(out)))
    status, out, err = g.exec("/bin/sh", "-c", "tty; stty size; read x; echo got $x", tty=True, rows=33, cols=77, feed=b"hi\n")
    ok(status == {"code": 0} and b"/dev/pts/" in out and b"33 77" in out and b"got hi" in out, f"{how}: a shell on a terminal", (status, out))
    g.send(EXEC, 900, {"args": ["/bin/sleep", "100"]})
    while g.recv()[:2] != (STARTED, 900):
        pass
    g.send(SIGNAL, 900, struct.pack("<I", 15))
    ok(g.finish(900)[0] == {"signal": 15}, f"{how}: a signal")


try:
    first(sys.argv[1])
    second(sys.argv[2])
finally:
    for p in procs:
        if p.poll() is None:
            p.kill()
        p.wait()
print(f"1..{count}")
sys.exit(1 if failed else 0)
