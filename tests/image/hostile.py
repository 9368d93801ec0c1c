#!/usr/bin/env python3
"""Layer tars that try to leave their directory, or to eat the host: each is refused with the entry's name,
nothing is written outside, and nothing stays in the store."""
import gzip, hashlib, io, json, os, shutil, subprocess, sys, tarfile, tempfile

count = failed = 0


def ok(cond, name, why=""):
    global count, failed
    count += 1
    print(f"{'ok' if cond else 'not ok'} {count} - {name}")
    if not cond:
        failed += 1
        for line in str(why).splitlines():
            print(f"# {line}")


if os.geteuid() != 0:
    print("1..0 # SKIP needs root")
    sys.exit(0)

T = tempfile.mkdtemp(prefix="strata-hostile.")
OUT = os.path.join(T, "outside")
os.mkdir(OUT)


def entry(name, type=tarfile.REGTYPE, data=b"", link="", **kw):
    ti = tarfile.TarInfo(name)
    ti.type, ti.linkname, ti.size = type, link, len(data)
    ti.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
    for k, v in kw.items():
        setattr(ti, k, v)
    return ti, data


def tar(entries, path):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as t:
        for ti, data in entries:
            t.addfile(ti, io.BytesIO(data))


def run(*args, **kw):
    return subprocess.run(["strata-image", "--store", os.path.join(T, "store"), "-q", *args],
                          capture_output=True, text=True, timeout=100, **kw)


def snapshot():
    r = []
    for top in ("blobs", "layers", "ingest", "tmp"):
        for d, dirs, files in os.walk(os.path.join(T, "store", top)):
            if top == "layers" and d.count("/") > T.count("/") + 3:
                continue
            r += [os.path.join(d, f) for f in files + dirs]
    return sorted(r)


def refused(what, entries, says, ident=None):
    path = os.path.join(T, "x.tar")
    if callable(entries):
        entries(path)
    else:
        tar(entries, path)
    before = snapshot()
    r = run("import", path, "--name", "hostile:1")
    ok(r.returncode == 1 and says in r.stderr, f"{what}: refused", f"{r.returncode} {r.stderr}")
    ok(snapshot() == before, f"{what}: nothing kept", "\n".join(set(snapshot()) ^ set(before)))
    ok(os.listdir(OUT) == [], f"{what}: nothing outside", os.listdir(OUT))


run("ls")
base = [entry("etc", tarfile.DIRTYPE), entry("etc/a", data=b"a")]
refused("dot-dot", base + [entry("../outside/x", data=b"x")], "entry '../outside/x'")
refused("dot-dot inside", base + [entry("etc/../../outside/x", data=b"x")], "'..'")
refused("absolute", base + [entry(OUT + "/x", data=b"x")], "absolute")
refused("symlinked parent", base + [entry("l", tarfile.SYMTYPE, link=OUT), entry("l/x", data=b"x")], "entry 'l/x'")
refused("symlink to dot-dot", base + [entry("l", tarfile.SYMTYPE, link=".."), entry("l/l/outside/x", data=b"x")], "l/l")
refused("directory through a link", base + [entry("l", tarfile.SYMTYPE, link=OUT), entry("l/d", tarfile.DIRTYPE)], "l/d")
refused("hard link out", base + [entry("h", tarfile.LNKTYPE, link="../../../../etc/passwd")], "entry 'h'")
refused("absolute hard link", base + [entry("h", tarfile.LNKTYPE, link="/etc/passwd")], "absolute")
refused("hard link through a link", base + [entry("l", tarfile.SYMTYPE, link="/etc"), entry("h", tarfile.LNKTYPE, link="l/passwd")],
        "entry 'h'")
refused("hard link to nothing", base + [entry("h", tarfile.LNKTYPE, link="nope")], "which the layer does not have")
refused("hard link to a directory", base + [entry("h", tarfile.LNKTYPE, link="etc")], "neither file")
refused("block device", base + [entry("sda", tarfile.BLKTYPE, devmajor=8, devminor=0)], "block device 8:0")
refused("kernel memory", base + [entry("mem", tarfile.CHRTYPE, devmajor=1, devminor=1)], "character device 1:1")
refused("ready-made whiteout", base + [entry("w", tarfile.CHRTYPE, devmajor=0, devminor=0)], "character device 0:0")
refused("whiteout of dot-dot", base + [entry(".wh...")], "whiteout of nothing")
refused("whiteout of nothing", base + [entry("etc/.wh.")], "whiteout of nothing")
refused("whiteout as directory", base + [entry(".wh.etc/x", data=b"x")], "name of a whiteout")
refused("whiteout outside", base + [entry("../.wh.outside")], "'..'")
refused("overlay mark", base + [entry("etc", tarfile.DIRTYPE, pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/x"})],
        "trusted.overlay.redirect")
refused("user overlay mark", base + [entry("f", pax_headers={"SCHILY.xattr.user.overlay.opaque": "y"})], "user.overlay.opaque")
refused("many attributes", base + [entry("f", pax_headers={f"SCHILY.xattr.user.a{i}": "v" for i in range(100)})], "more than 64")
refused("long component", base + [entry("n" * 300, data=b"x")], "component longer")
refused("deep path", base + [entry("/".join("d" * 200), data=b"x")], "directories deep")
refused("root as file", base + [entry(".", data=b"x")], "replace the root")
refused("empty name", base + base + [entry("./", tarfile.SYMTYPE, link="x")], "replace the root")
refused("owner out of range", base + [entry("f", uid=-2)], "out of range")


def truncated(path):
    tar(base + [entry("big", data=b"z" * 100000)], path)
    os.truncate(path, 50000)


refused("truncated", truncated, "Truncated")


def bomb(path):
    """60 GB that compress to nothing: stops at the ratio, long before the end."""
    ti, _ = entry("bomb")
    ti.size = 60 << 30
    header = ti.tobuf(tarfile.GNU_FORMAT)
    chunk = subprocess.run(["zstd", "-q", "-c"], input=b"\0" * (256 << 20), capture_output=True, check=True).stdout
    head = subprocess.run(["zstd", "-q", "-c"], input=header, capture_output=True, check=True).stdout
    with open(path, "wb") as f:
        f.write(head)
        for _ in range(240):
            f.write(chunk)


refused("zstd bomb", bomb, "decompression bomb")


def sparse(path):
    """GNU sparse 1.0 by pax: 8 EiB without data."""
    ti, data = entry("hole", data=b"0\n".ljust(512, b"\0"))
    ti.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "hole",
                      "GNU.sparse.realsize": str(1 << 62)}
    tar([(ti, data)], path)


refused("sparse bomb", sparse, "entry 'hole'")

# ---- image archives ----


def oci(layer, tweak=lambda d: d, name="lay"):
    d = os.path.join(T, name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d + "/blobs/sha256")

    def put(b):
        h = hashlib.sha256(b).hexdigest()
        open(f"{d}/blobs/sha256/{h}", "wb").write(b)
        return {"digest": "sha256:" + h, "size": len(b)}
    m = {"layer": layer, "diff": hashlib.sha256(layer).hexdigest()}
    m = tweak(m) or m
    l = put(m["layer"]) | {"mediaType": "application/vnd.oci.image.layer.v1.tar"} | m.get("ldesc", {})
    c = put(json.dumps({"os": "linux", "architecture": "amd64",
                        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + m["diff"]]}}).encode())
    c["mediaType"] = "application/vnd.oci.image.config.v1+json"
    mf = put(json.dumps({"schemaVersion": 2, "config": c, "layers": [l]}).encode())
    mf["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
    open(d + "/index.json", "w").write(json.dumps({"schemaVersion": 2, "manifests": [mf]}))
    open(d + "/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
    return d, m


tar(base, os.path.join(T, "good.tar"))
good = open(os.path.join(T, "good.tar"), "rb").read()
d, m = oci(good)
r = run("import", d, "--name", "good:1", "--unpack")
ok(r.returncode == 0, "a good layout is taken", r.stderr)
d, m = oci(good, lambda m: {**m, "diff": "0" * 64})
r = run("import", d, "--name", "bad:1", "--unpack")
ok(r.returncode == 1 and "0000000000" in r.stderr and "unpacks to" in r.stderr, "wrong diff_id is refused", r.stderr)
r = run("inspect", "bad:1")
d, m = oci(good + b"\0" * 512)
h = m["diff"]
open(f"{d}/blobs/sha256/{h}", "r+b").write(b"X")
r = run("import", d, "--name", "bad:2")
ok(r.returncode == 1 and "digest" in r.stderr and h in r.stderr, "changed blob is refused, by name", r.stderr)
ok(not os.path.exists(f"{T}/store/blobs/sha256/{h}"), "changed blob is not kept")
d, m = oci(good + b"\0" * 1024)
h = m["diff"]
os.unlink(f"{d}/blobs/sha256/{h}")
os.symlink("/etc/passwd", f"{d}/blobs/sha256/{h}")
r = run("import", d, "--name", "bad:3")
ok(r.returncode == 1, "a blob that is a link to the host is refused", r.stderr)
d, m = oci(good + b"\0" * 1536, lambda m: {**m, "ldesc": {"digest": "sha256:../../../../etc/passwd"}})
r = run("import", d, "--name", "bad:4")
ok(r.returncode == 1 and "digest" in r.stderr, "a digest that is a path is refused", r.stderr)
d, m = oci(good)
open(d + "/index.json", "w").write('{"schemaVersion":2,"manifests":' + "[" * 200000)
r = run("import", d, "--name", "bad:5")
ok(r.returncode == 1, "deep JSON is refused", r.stderr)

# docker save with links out of the archive
p = os.path.join(T, "save.tar")
tar([entry("manifest.json", data=json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]).encode()),
     entry("c.json", tarfile.SYMTYPE, link="/etc/passwd"), entry("l/layer.tar", tarfile.SYMTYPE, link="../../x")], p)
r = run("import", p)
ok(r.returncode == 1 and "link out" in r.stderr, "docker save with links out is refused", r.stderr)
tar([entry("blobs/sha256/" + "0" * 64, data=b"x"), entry("index.json", data=b"{}")], p)
r = run("import", p)
ok(r.returncode == 1 and "0" * 64 in r.stderr, "OCI tar with a wrong digest is refused", r.stderr)

# ---- whiteouts act on lower layers only, in overlay and in copy ----


def two(entries1, entries2):
    d, diffs, layers = os.path.join(T, "two"), [], []
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d + "/blobs/sha256")

    def put(b, mt):
        h = hashlib.sha256(b).hexdigest()
        open(f"{d}/blobs/sha256/{h}", "wb").write(b)
        return {"mediaType": mt, "digest": "sha256:" + h, "size": len(b)}
    for e in (entries1, entries2):
        tar(e, p)
        b = open(p, "rb").read()
        diffs.append("sha256:" + hashlib.sha256(b).hexdigest())
        layers.append(put(gzip.compress(b, 1), "application/vnd.oci.image.layer.v1.tar+gzip"))
    c = put(json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diffs}}).encode(),
            "application/vnd.oci.image.config.v1+json")
    mf = put(json.dumps({"schemaVersion": 2, "config": c, "layers": layers}).encode(),
             "application/vnd.oci.image.manifest.v1+json")
    open(d + "/index.json", "w").write(json.dumps({"schemaVersion": 2, "manifests": [mf]}))
    return d


def tree(d):
    return subprocess.run(f"cd {d} && find . -printf '%P %y %m %U:%G %l\\n' | sort", shell=True,
                          capture_output=True, text=True).stdout


d = two([entry("a", tarfile.DIRTYPE), entry("a/low", data=b"1"), entry("b", tarfile.DIRTYPE, mode=0o2770, uid=7, gid=8),
         entry("b/low", data=b"2"), entry("c", tarfile.DIRTYPE), entry("c/low", data=b"3"), entry("gone", data=b"4"),
         entry("bin", tarfile.SYMTYPE, link="a"), entry("f", data=b"5")],
        [entry("a", tarfile.DIRTYPE), entry("a/.wh..wh..opq"), entry("a/new", data=b"1"),
         entry("b/new", data=b"2"),  # b itself is not described: it keeps the looks of the lower layer
         entry("c/new", data=b"3"), entry(".wh.c"), entry(".wh.gone"), entry(".wh.nothing"), entry("bin", tarfile.DIRTYPE),
         entry("bin/x", data=b"6"), entry(".wh.f"), entry("f", tarfile.DIRTYPE), entry("f/in", data=b"7")])
r = run("import", d, "--name", "two:1", "--unpack")
ok(r.returncode == 0, "two layers with whiteouts", r.stderr)
os.mkdir(T + "/mnt")
r = run("mount", "two:1", T + "/mnt")
ok(r.returncode == 0, "overlay mounts", r.stderr)
over = tree(T + "/mnt")
run("umount", T + "/mnt")
r = run("copy", "two:1", T + "/copy")
ok(r.returncode == 0, "copy", r.stderr)
flat = tree(T + "/copy")
names = [l.split()[0] for l in flat.splitlines() if l.split()]
ok("a/new" in names and "a/low" not in names, "opaque directory hides the lower files", flat)
ok("c/new" in names and "c/low" not in names, "whiteout of a directory of the same layer hides the lower one", flat)
ok("gone" not in names and "f/in" in names and "bin/x" in names and "b/low" in names, "the rest is right", flat)
ok("b d 2770 7:8 " in flat, "a directory without entry looks as below", flat)
ok(over == flat, "overlay and copy show the same tree", over + "---\n" + flat)
if shutil.which("umoci"):
    subprocess.run(["skopeo", "copy", "-q", f"oci:{T}/store:docker.io/library/two:1", f"oci:{T}/um:x"], check=True)
    r = subprocess.run(["umoci", "raw", "unpack", "--image", T + "/um:x", T + "/umtree"], capture_output=True, text=True)
    ok(r.returncode == 0 and "f/in" in tree(T + "/umtree"), "umoci unpacks the same image", r.stderr)
    theirs = tree(T + "/umtree")
    ok(theirs == flat, "umoci shows the same tree", theirs + "---\n" + flat)
else:
    ok(True, "umoci # SKIP umoci is not installed")
shutil.rmtree(T)
print(f"1..{count}")
sys.exit(1 if failed else 0)
