#!/usr/bin/env python3
"""A bootable disk made of an image: its structure by the tools of others (sfdisk, e2fsck, debugfs, fsck.vfat, qemu-img),
and the boot itself: SeaBIOS (and OVMF), GRUB, the distribution's kernel, under QEMU without KVM.

Always: a small image that brings kernel and initramfs along; it prints a word on the serial line and switches off.
STRATA_LONG=1: the distribution's own archive, bootstrapped, made a disk, booted to a login prompt with a cloud-init
seed whose user, key, host name and files must be there: two minutes."""
import glob, json, os, re, select, shutil, stat, struct, subprocess, sys, tempfile, time

count = failed = 0


def ok(cond, name, why=""):
    global count, failed
    count += 1
    print(f"{'ok' if cond else 'not ok'} {count} - {name}", flush=True)
    if not cond:
        failed += 1
        for line in str(why).splitlines()[-40:]:
            print(f"# {line}")
    return cond


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


os.environ["PATH"] += ":/usr/sbin:/sbin"
for need in ("qemu-system-x86_64", "qemu-img", "mke2fs", "busybox", "dpkg-deb", "grub-mkimage", "sfdisk", "e2fsck", "debugfs"):
    if not shutil.which(need):
        skip("needs " + need)
if not os.path.exists("/usr/lib/grub/i386-pc/boot.img"):
    skip("needs grub-pc-bin")
if os.geteuid() != 0:
    skip("needs root")
efi = os.path.exists("/usr/lib/grub/x86_64-efi/normal.mod") and all(shutil.which(x) for x in ("mkfs.vfat", "mmd", "mcopy"))
ovmf = "/usr/share/OVMF/OVMF_CODE.fd"
T = tempfile.mkdtemp(prefix="strata-disk.")
procs = []


def run(*args, timeout=120):
    return subprocess.run(["strata-image", "--store", T + "/store", "-q", *args], capture_output=True, text=True, timeout=timeout)


def tool(*args):
    r = subprocess.run(args, capture_output=True, text=True, timeout=100)
    return r.returncode, r.stdout + r.stderr


def cpio(path, files):
    """An initramfs (newc) of {name: (mode, data)}."""
    out = b""
    for ino, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        head = "070701" + "".join(f"{v:08x}" for v in (ino, mode, 0, 0, 1, 0, len(data), 0, 0, 5 if name == "dev/console" else 0,
                                                      1 if name == "dev/console" else 0, len(name) + 1, 0))
        part = head.encode() + name.encode() + b"\0"
        out += part + b"\0" * (-len(part) % 4) + data + b"\0" * (-len(data) % 4)
    open(path, "wb").write(out)


class Machine:
    def __init__(self, disk, *extra, memory=256, cpus=1):
        self.seen = b""
        self.p = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max", "-m", str(memory), "-smp", str(cpus),
             "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
             "-drive", f"if=virtio,file={disk},format=qcow2", *extra],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        procs.append(self.p)

    def expect(self, text, timeout=150):
        """Read until text comes; what came before it is given back, or None."""
        end = time.time() + timeout
        while text.encode() not in self.seen:
            if time.time() > end or not select.select([self.p.stdout], [], [], max(0, end - time.time()))[0]:
                return None
            data = os.read(self.p.stdout.fileno(), 65536)
            if not data:
                return None
            self.seen += data
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode(errors="replace")

    def say(self, text):
        self.p.stdin.write(text.encode())
        self.p.stdin.flush()

    def tail(self):
        return self.seen.decode(errors="replace")[-3000:]


def small():
    root = T + "/root"
    for d in ("bin", "boot", "etc", "sbin"):
        os.makedirs(f"{root}/{d}")
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    os.symlink("busybox", root + "/bin/sh")
    open(root + "/etc/os-release", "w").write('PRETTY_NAME="Small $(reboot) \'Linux\'"\n')
    open(root + "/etc/motd", "w").write("the same content\n")
    os.chown(root + "/etc/motd", 7, 8)
    deb = os.environ.get("STRATA_KERNEL_DEB")
    r = run("kernel-install", *(["--deb", deb] if deb else []))
    if r.returncode and "download" in r.stderr:
        skip("the distribution's kernel package cannot be had: " + r.stderr.strip())
    ok(r.returncode == 0, "a kernel", r.stderr)
    version = r.stdout.strip()
    shutil.copy(f"{T}/store/kernels/{version}/vmlinuz", f"{root}/boot/vmlinuz-{version}")
    open(f"{root}/boot/vmlinuz-1.0-old", "w").write("no kernel")
    init = b"#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n/bin/busybox echo BOOTED $(/bin/busybox cat /proc/cmdline)\n" \
           b"/bin/busybox poweroff -f\n"
    cpio(f"{root}/boot/initrd.img-{version}", {
        "bin": (0o40755, b""), "proc": (0o40755, b""), "dev": (0o40755, b""), "dev/console": (stat.S_IFCHR | 0o600, b""),
        "bin/busybox": (0o100755, open(shutil.which("busybox"), "rb").read()), "init": (0o100755, init)})
    subprocess.run(["tar", "-C", root, "-cf", T + "/root.tar", "."], check=True)
    r = run("import", T + "/root.tar", "--name", "small:1", "--cmd", "/bin/sh")
    ok(r.returncode == 0, "import", r.stderr)

    # ---- refusals
    r = run("disk", "small:1", T + "/x.qcow2", "--append", "a'; reboot")
    ok(r.returncode == 1 and "cannot be in" in r.stderr, "a command line that is GRUB's language is refused", r.stderr)
    r = run("disk", "small:1", T + "/x.qcow2", "--size", "100M")
    ok(r.returncode == 1 and "at least" in r.stderr, "a disk that is too small is refused", r.stderr)
    subprocess.run(["tar", "-C", root, "-cf", T + "/bare.tar", "bin"], check=True)
    run("import", T + "/bare.tar", "--name", "bare:1", "--cmd", "/bin/sh")
    r = run("disk", "bare:1", T + "/x.qcow2")
    ok(r.returncode == 1 and "no apt-get" in r.stderr, "an image with neither kernel nor apt-get is refused", r.stderr)
    ok(not os.path.exists(T + "/x.qcow2") and not os.listdir(T + "/store/tmp"), "nothing is left of them", os.listdir(T + "/store/tmp"))

    # ---- structure
    start = time.time()
    r = run("disk", "small:1", T + "/d.qcow2", "--size", "256M", "--append", "panic=-1 mark=1")
    if not ok(r.returncode == 0, "a bootable disk", r.stderr):
        return
    print(f"# made in {time.time() - start:.1f} s", flush=True)
    rc, out = tool("qemu-img", "check", T + "/d.qcow2")
    ok(rc == 0, "qemu-img finds it whole", out)
    r = run("disk", "small:1", T + "/d.qcow2")
    ok(r.returncode == 1 and "exists" in r.stderr, "what exists is not overwritten", r.stderr)
    subprocess.run(["qemu-img", "convert", "-O", "raw", T + "/d.qcow2", T + "/d.raw"], check=True)
    rc, out = tool("sfdisk", "--verify", T + "/d.raw")
    ok(rc == 0 and "No errors" in out, "sfdisk finds both tables whole", out)
    parts = json.loads(tool("sfdisk", "--json", T + "/d.raw")[1])["partitiontable"]
    ok(parts["label"] == "gpt" and [p["name"] for p in parts["partitions"]] == ["bios", "efi", "root"], "GPT with three partitions", parts)
    root_part = parts["partitions"][2]
    with open(T + "/d.raw", "rb") as f, open(T + "/root.img", "wb") as g:
        mbr = f.read(512)
        f.seek(root_part["start"] * 512)
        g.write(f.read(root_part["size"] * 512))
    ok(mbr[510:] == b"\x55\xaa" and mbr[450] == 0xee and struct.unpack_from("<Q", mbr, 0x5c)[0] == parts["partitions"][0]["start"],
       "the boot sector leads to the core")
    rc, out = tool("e2fsck", "-fn", T + "/root.img")
    ok(rc == 0, "e2fsck finds the root file system whole", out)
    rc, out = tool("debugfs", "-R", "cat /etc/motd", T + "/root.img")
    ok("the same content" in out, "the content of the image is in it", out)
    rc, out = tool("debugfs", "-R", "stat /etc/motd", T + "/root.img")
    ok(re.search(r"User:\s+7\s+Group:\s+8", out), "with its owners", out)
    rc, cfg = tool("debugfs", "-R", "cat /boot/grub/grub.cfg", T + "/root.img")
    ok(f"/boot/vmlinuz-{version} root=UUID=" in cfg and f"initrd /boot/initrd.img-{version}" in cfg, "the newest kernel is chosen", cfg)
    ok("menuentry 'Small $(reboot) Linux'" in cfg, "the title cannot break out of its quotes", cfg)
    uuid = re.search(r"root=UUID=(\S+)", cfg).group(1)
    ok(tool("blkid", "-p", "-s", "UUID", "-o", "value", T + "/root.img")[1].strip() == uuid, "the UUID is the file system's")
    if efi:
        esp = parts["partitions"][1]
        with open(T + "/d.raw", "rb") as f, open(T + "/esp.img", "wb") as g:
            f.seek(esp["start"] * 512)
            g.write(f.read(esp["size"] * 512))
        rc, out = tool("fsck.vfat", "-n", T + "/esp.img")
        ok(rc == 0, "fsck.vfat finds the EFI system partition whole", out)
        ok("BOOTX64" in tool("mdir", "-i", T + "/esp.img", "::/EFI/BOOT")[1], "with the loader's name of the removable-media path")

    # ---- the boots
    for name, args, need in (("SeaBIOS", (), True),
                             ("OVMF", ("-drive", f"if=pflash,format=raw,readonly=on,file={ovmf}"), efi and os.path.exists(ovmf))):
        if not need:
            print(f"ok {count + 1} - {name} # SKIP needs grub-efi-amd64-bin and ovmf")
            globals()["count"] += 1
            continue
        if name == "OVMF" and not os.environ.get("STRATA_LONG"):
            continue
        start = time.time()
        m = Machine(T + "/d.qcow2", *args)
        line = m.expect("BOOTED ") is not None and m.expect("\n")
        ok(line and "mark=1" in line and f"root=UUID={uuid}" in line and f"/boot/vmlinuz-{version}" in line,
           f"{name}, GRUB, the kernel and its initramfs run", m.tail())
        ok(m.p.wait(30) == 0, "and switch off")
        print(f"# {name}: {time.time() - start:.1f} s", flush=True)


def debian():
    name = os.environ.get("STRATA_SUITE", "debian:bookworm")
    start = time.time()
    r = run("bootstrap", name, timeout=400)
    if r.returncode and ("resolve" in r.stderr or "connect" in r.stderr):
        print(f"ok {count + 1} - {name} # SKIP the archive cannot be reached")
        globals()["count"] += 1
        return
    ok(r.returncode == 0, f"bootstrap {name}", r.stderr)
    r = run("disk", name, T + "/deb.qcow2", timeout=400)
    if not ok(r.returncode == 0, "a disk of it", r.stderr):
        return
    print(f"# made in {time.time() - start:.1f} s", flush=True)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBpZ2mYzWZmYzWZmYzWZmYzWZmYzWZmYzWZmYzWZmYzW test"
    open(T + "/user-data", "w").write(
        f"#cloud-config\nssh_authorized_keys:\n  - {key}\nwrite_files:\n  - {{path: /etc/made, content: by-cloud-init}}\n"
        "users:\n  - default\n  - {name: strata, lock_passwd: false, plain_text_passwd: secret, sudo: 'ALL=(ALL) NOPASSWD:ALL', shell: /bin/bash}\n"
        "runcmd:\n  - [touch, /run/ran]\n")
    open(T + "/net", "w").write("version: 2\nethernets:\n  nic:\n    match: {macaddress: '52:54:00:12:34:99'}\n    addresses: [10.7.8.9/24]\n")
    r = run("seed", T + "/seed.iso", "--instance-id", "i-1", "--hostname", "cloudy", "--user-data", T + "/user-data", "--network-config", T + "/net")
    ok(r.returncode == 0, "seed", r.stderr)
    m = Machine(T + "/deb.qcow2", "-drive", f"if=virtio,file={T}/seed.iso,format=raw,readonly=on", "-nic",
                "user,restrict=on,model=virtio-net-pci,mac=52:54:00:12:34:99", memory=768, cpus=2)
    start = time.time()
    ok(m.expect("cloudy login: ", 300) is not None, "SeaBIOS to a login prompt with the seed's host name", m.tail())
    print(f"# login prompt after {time.time() - start:.1f} s", flush=True)
    m.say("strata\n")
    ok(m.expect("Password: ", 100) is not None, "it asks for the password", m.tail())
    m.say("secret\n")
    ok(m.expect("$ ", 100) is not None, "the user of the seed can log in", m.tail())

    def ask(cmd, timeout=200):
        m.say(f"{cmd} 2>&1; echo E''ND\n")
        out = m.expect("\nEND", timeout) or m.expect("END", 1)
        return (out or m.tail()).replace("\r", "")
    out = ask("sudo cloud-init status --wait --long")
    ok("status: done" in out and "errors: []" in out or "status: done" in out and "error" not in out, "cloud-init is done, without error", out)
    out = ask("cat /etc/made; ls /run/ran; ip -br addr; df -h /; sudo cat /home/debian/.ssh/authorized_keys; systemctl is-system-running; cat /proc/cmdline")
    ok("by-cloud-init" in out and "/run/ran" in out, "its files and commands", out)
    ok("10.7.8.9/24" in out, "its network", out)
    ok(key in out, "its ssh key", out)
    ok("running" in out, "the system is up without failed units", out + ask("systemctl --failed --no-legend"))
    ok(re.search(r"\s3\.[0-9]G\s", out), "the root file system has the size of the disk", out)
    m.say("sudo systemctl poweroff\n")
    try:
        ok(m.p.wait(300) == 0, "it switches off")
    except subprocess.TimeoutExpired:
        ok(False, "it switches off", m.tail())
    # a second life of the same disk, larger: cloud-init's growpart and resize2fs
    subprocess.run(["qemu-img", "resize", "-q", T + "/deb.qcow2", "6G"], check=True)
    m = Machine(T + "/deb.qcow2", "-drive", f"if=virtio,file={T}/seed.iso,format=raw,readonly=on", memory=768, cpus=2)
    ok(m.expect("cloudy login: ", 300) is not None, "it starts again", m.tail())
    m.say("strata\n")
    m.expect("Password: ", 100)
    m.say("secret\n")
    m.expect("$ ", 100)
    m.say("sudo cloud-init status --wait >/dev/null; df -h / | tail -1; echo E''ND\n")
    out = m.expect("\nEND", 200) or m.tail()
    ok(re.search(r"\s5\.[0-9]G\s", out), "a disk that grew: so did partition and file system", out)


try:
    small()
    if os.environ.get("STRATA_LONG"):
        debian()
    else:
        print("# the distribution to a login prompt, and OVMF: with STRATA_LONG=1")
finally:
    for p in procs:
        if p.poll() is None:
            p.kill()
        p.wait()
    shutil.rmtree(T)
print(f"1..{count}")
sys.exit(1 if failed else 0)
