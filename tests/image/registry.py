#!/usr/bin/env python3
"""Pull and push against the real docker-registry: plain, TLS with a password, tokens, and through a proxy that cuts,
stalls, spoils, and refuses."""
import base64, collections, glob, gzip, hashlib, http.server, io, json, os, shutil, socket, subprocess, sys, tarfile, tempfile, threading, time
import http.client
import urllib.parse

count = failed = 0


def ok(cond, name, why=""):
    global count, failed
    count += 1
    print(f"{'ok' if cond else 'not ok'} {count} - {name}", flush=True)
    if not cond:
        failed += 1
        for line in str(why).splitlines()[-30:]:
            print(f"# {line}")
    return cond


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


for need in ("docker-registry", "skopeo", "openssl", "zstd"):
    if not shutil.which(need):
        skip("needs " + need)
if os.geteuid() != 0:
    skip("needs root")
T = tempfile.mkdtemp(prefix="strata-registry.")
procs, servers = [], []
ENV = {**os.environ, "HOME": T, "DOCKER_CONFIG": T + "/docker", "XDG_RUNTIME_DIR": T}


def port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    p = s.getsockname()[1]
    s.close()
    return p


def registry(name, extra="", tls=False):
    p = port()
    os.makedirs(f"{T}/{name}")
    t = f"\n  tls: {{certificate: {T}/cert.pem, key: {T}/key.pem}}" if tls else ""
    open(f"{T}/{name}.yml", "w").write(
        f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {T}/{name}}}\n  delete: {{enabled: true}}\n"
        f"http:\n  addr: 127.0.0.1:{p}{t}\n{extra}")
    procs.append(subprocess.Popen(["docker-registry", "serve", f"{T}/{name}.yml"], stdout=subprocess.DEVNULL,
                                  stderr=open(f"{T}/{name}.log", "w"), env={**ENV, "OTEL_TRACES_EXPORTER": "none"}))
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", p), 1).close()
            return p
        except OSError:
            time.sleep(0.05)
    raise SystemExit("docker-registry does not start: " + open(f"{T}/{name}.log").read())


def image(name, sizes, kinds=None):
    """An OCI layout with a layer of random bytes for each size."""
    d, diffs, layers = f"{T}/{name}", [], []
    os.makedirs(d + "/blobs/sha256")

    def put(b, mt):
        h = hashlib.sha256(b).hexdigest()
        open(f"{d}/blobs/sha256/{h}", "wb").write(b)
        return {"mediaType": mt, "digest": "sha256:" + h, "size": len(b)}
    for i, size in enumerate(sizes):
        f = io.BytesIO()
        with tarfile.open(fileobj=f, mode="w") as t:
            ti = tarfile.TarInfo(f"f{i}")
            ti.size = size
            t.addfile(ti, io.BytesIO(hashlib.shake_256(f"{name[0]}{i}".encode()).digest(size)))
        raw = f.getvalue()
        diffs.append("sha256:" + hashlib.sha256(raw).hexdigest())
        kind = kinds[i] if kinds else "gzip"
        packed = {"gzip": lambda: gzip.compress(raw, 1, mtime=0), "": lambda: raw,
                  "zstd": lambda: subprocess.run(["zstd", "-qc"], input=raw, capture_output=True, check=True).stdout}[kind]()
        layers.append(put(packed, "application/vnd.oci.image.layer.v1.tar" + (kind and "+" + kind)))
    c = put(json.dumps({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/x"]},
                        "rootfs": {"type": "layers", "diff_ids": diffs}}).encode(), "application/vnd.oci.image.config.v1+json")
    m = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": c,
                        "layers": layers}).encode(), "application/vnd.oci.image.manifest.v1+json")
    open(d + "/index.json", "w").write(json.dumps({"schemaVersion": 2, "manifests": [
        {**m, "annotations": {"org.opencontainers.image.ref.name": "x"}}]}))
    open(d + "/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
    return d, m["digest"], layers


def run(store, *args, timeout=60, **kw):
    return subprocess.run(["strata-image", "--store", f"{T}/{store}", *args], capture_output=True, text=True, timeout=timeout,
                          env=ENV, **kw)


class Proxy(http.server.ThreadingHTTPServer):
    """In front of a registry; plan: what to do to which request, one after the other."""
    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.plan, self.seen, self.lock = upstream, collections.deque(), [], threading.Lock()
        self.token = None
        threading.Thread(target=self.serve_forever, daemon=True).start()
        servers.append(self)

    def handle_error(self, *a):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def any(self):
        p = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with p.lock:
            p.seen.append((self.command, self.path, self.headers.get("Range")))
            act = None
            if p.plan and p.plan[0][0] in self.path and p.plan[0][1] == self.command:
                act = p.plan.popleft()[2]
        if p.token:
            me = f"http://127.0.0.1:{p.server_port}/token"
            if self.path.startswith("/token"):
                q = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                good = "Basic " + base64.b64encode(b"user:pa:ss").decode()
                p.scopes = q.get("scope")
                if self.headers.get("Authorization") != good:
                    return self.answer(401, body=b'{"errors":[{"message":"wrong password"}]}')
                return self.answer(200, body=json.dumps({"token": p.token, "expires_in": 60}).encode())
            if self.headers.get("Authorization") != "Bearer " + p.token:
                return self.answer(401, [("WWW-Authenticate", f'Bearer realm="{me}",service="svc",scope="repository:a/b:pull,push"')])
        if act and act[0] == "status":
            return self.answer(act[1], act[2] if len(act) > 2 else (), b'{"errors":[{"code":"TOOMANY","message":"go away"}]}')
        c = http.client.HTTPConnection("127.0.0.1", p.upstream, timeout=30)
        h = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "authorization")}
        h["Host"] = self.headers["Host"]
        c.request(self.command, self.path, body, h)
        r = c.getresponse()
        data = r.read()
        self.send_response(r.status)
        for k, v in r.getheaders():
            if k.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(k, v)
        self.send_header("Content-Length", r.getheader("Content-Length") or str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if act and act[0] == "cut":
            self.wfile.write(data[:act[1]])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif act and act[0] == "stall":
            self.wfile.write(data[:act[1]])
            self.wfile.flush()
            time.sleep(act[2])
            self.close_connection = True
        elif act and act[0] == "spoil":
            self.wfile.write(data[:act[1]] + bytes([data[act[1]] ^ 1]) + data[act[1] + 1:])
        elif act and act[0] == "more":
            self.wfile.write(data)
        else:
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = any


def fresh(name="pulled"):
    shutil.rmtree(f"{T}/{name}", ignore_errors=True)
    return name


def main():
    lay, digest, layers = image("lay", [300000, 2000000, 700000], ["gzip", "zstd", ""])
    plain = registry("plain")
    r = run("store", "import", lay, "--name", f"127.0.0.1:{plain}/a/b:1")
    ok(r.returncode == 0, "import", r.stderr)

    # ---- push, pull, tags, cross-repository mount
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1")
    ok(r.returncode == 1 and "wrong version" in r.stderr or "TLS" in r.stderr or "ssl" in r.stderr.lower() or "tls" in r.stderr.lower(),
       "TLS is spoken unless asked otherwise", r.stderr)
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1", "--plain-http")
    ok(r.returncode == 0 and r.stdout.strip() == digest and "4 blobs uploaded" in r.stderr, "push", r.stderr)
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1", "--plain-http")
    ok("0 blobs uploaded" in r.stderr and "4 were there" in r.stderr, "push again sends nothing", r.stderr)
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1", f"127.0.0.1:{plain}/c/d:2", "--plain-http")
    ok(r.returncode == 0 and "4 mounted" in r.stderr, "push to another repository mounts", r.stdout + r.stderr)
    r = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://127.0.0.1:{plain}/c/d:2"], capture_output=True)
    ok("sha256:" + hashlib.sha256(r.stdout).hexdigest() == digest, "skopeo sees the same digest", r.stderr)
    r = run("store", "tags", f"127.0.0.1:{plain}/a/b", "--plain-http")
    ok(r.stdout == "1\n", "tags", r.stderr)
    r = run(fresh(), "pull", f"127.0.0.1:{plain}/a/b:1", "--plain-http")
    ok(r.returncode == 0 and r.stdout.strip() == digest and "3 layers fetched" in r.stderr, "pull", r.stderr)
    r = run("pulled", "copy", f"127.0.0.1:{plain}/a/b:1", T + "/copy")
    ok(r.returncode == 0 and sorted(os.listdir(T + "/copy")) == ["f0", "f1", "f2"], "its files", r.stderr)
    r = run("pulled", "pull", f"127.0.0.1:{plain}/a/b:1", "--plain-http")
    ok("0 layers fetched" in r.stderr and "3 were there" in r.stderr, "pull again fetches nothing", r.stderr)
    r = run(fresh(), "pull", f"127.0.0.1:{plain}/a/b@{digest}", "--plain-http")
    ok(r.returncode == 0, "pull by digest", r.stderr)
    r = run("pulled", "pull", f"127.0.0.1:{plain}/a/b:none", "--plain-http")
    ok(r.returncode == 1 and "manifest unknown" in r.stderr, "a tag that is not there", r.stderr)
    r = run("pulled", "pull", "example.invalid/a/b:1", "--plain-http")
    ok(r.returncode == 1 and "only spoken with this host" in r.stderr, "plain HTTP elsewhere is refused", r.stderr)
    lay2, digest2, _ = image("lay2", [300000, 2000000, 700000, 1000], ["gzip", "zstd", "", "gzip"])
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{lay2}:x", f"docker://127.0.0.1:{plain}/a/b:2"], check=True)
    r = run("store", "pull", f"127.0.0.1:{plain}/a/b:2", "--plain-http")
    ok(r.returncode == 0 and "1 layers fetched" in r.stderr and "3 were there" in r.stderr, "a changed tag: only the new layer", r.stderr)

    # ---- multi-arch
    other = image("other", [5000])
    idx = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": other[1],
         "size": os.path.getsize(f"{other[0]}/blobs/sha256/{other[1][7:]}"), "platform": {"os": "linux", "architecture": "arm64"}},
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
         "size": os.path.getsize(f"{lay}/blobs/sha256/{digest[7:]}"), "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{other[0]}:x", f"docker://127.0.0.1:{plain}/a/b:arm"], check=True)
    c = http.client.HTTPConnection("127.0.0.1", plain)
    c.request("PUT", "/v2/a/b/manifests/multi", idx, {"Content-Type": "application/vnd.oci.image.index.v1+json"})
    ok(c.getresponse().status == 201, "an index is there")
    r = run(fresh(), "pull", f"127.0.0.1:{plain}/a/b:multi", "--plain-http", "--platform", "linux/amd64")
    ok(r.stdout.strip() == digest, "the index leads to amd64", r.stderr)
    r = run(fresh(), "pull", f"127.0.0.1:{plain}/a/b:multi", "--plain-http", "--platform", "linux/arm64")
    ok(r.stdout.strip() == other[1], "and to arm64 when asked", r.stderr)
    r = run(fresh(), "pull", f"127.0.0.1:{plain}/a/b:multi", "--plain-http", "--platform", "linux/s390x")
    ok(r.returncode == 1 and "linux/amd64" in r.stderr, "what is not there is refused with what is", r.stderr)

    # a whole index: what skopeo wrote as a layout goes to another repository with all its platforms
    r = subprocess.run(["skopeo", "copy", "-q", "--all", "--dest-oci-accept-uncompressed-layers", "--src-tls-verify=false", f"docker://127.0.0.1:{plain}/a/b:multi", f"oci:{T}/all:multi"],
                       capture_output=True, text=True)
    r = run("store", "import", T + "/all", "--name", "multi:1")
    ok(r.returncode == 0, "import an index with two platforms", r.stderr)
    r = run("store", "push", "multi:1", f"127.0.0.1:{plain}/x/y:m", "--plain-http")
    want = "sha256:" + hashlib.sha256(idx).hexdigest()
    ok(r.returncode == 0 and r.stdout.strip() == want, "push the index", (r.stdout, r.stderr))
    r = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://127.0.0.1:{plain}/x/y:m"], capture_output=True)
    ok(r.stdout == idx, "the registry has it as it was", r.stderr)
    for arch, d in (("amd64", digest), ("arm64", other[1])):
        r = run(fresh(), "pull", f"127.0.0.1:{plain}/x/y:m", "--plain-http", "--platform", "linux/" + arch)
        ok(r.stdout.strip() == d, f"{arch} can be pulled from there", r.stderr)
    r = run("store", "push", "multi:1", f"127.0.0.1:{plain}/x/z:arm", "--plain-http", "--platform", "linux/arm64")
    ok(r.returncode == 0 and r.stdout.strip() == other[1], "push one platform of it", r.stderr)
    os.unlink(f"{T}/store/blobs/sha256/{other[1][7:]}")
    r = run("store", "push", "multi:1", f"127.0.0.1:{plain}/x/w:m", "--plain-http")
    ok(r.returncode == 1 and "linux/arm64 is missing" in r.stderr, "an index with a hole in it is refused", r.stderr)

    # ---- faults
    proxy = Proxy(plain)
    via = f"127.0.0.1:{proxy.server_port}/a/b:1"
    big = "blobs/" + layers[1]["digest"]
    half = layers[1]["size"] // 2
    pull = ["pull", via, "--plain-http", "--stall", "1"]

    def fault(name, plan, *more, fails=None):
        proxy.plan = collections.deque(plan)
        proxy.seen = []
        r = run(fresh(), *pull, *more)
        if fails:
            ok(r.returncode == 1 and fails in r.stderr, name, r.stderr)
        else:
            ok(r.returncode == 0 and r.stdout.strip() == digest and not proxy.plan, name, (r.stderr, proxy.plan))
        return [x for x in proxy.seen if big in x[1]]
    seen = fault("cut at 50 %", [(big, "GET", ("cut", half))])
    ok(len(seen) == 2 and seen[1][2] and 0 < int(seen[1][2][6:-1]) <= half, "resumed, not started over", seen)
    fault("cut at once, three times", [(big, "GET", ("cut", 0))] * 3)
    seen = fault("stalled", [(big, "GET", ("stall", half, 5))])
    ok(len(seen) == 2 and seen[1][2], "resumed after the stall", seen)
    seen = fault("a bit spoiled on the way", [(big, "GET", ("spoil", half))])
    ok(len(seen) == 2 and not seen[1][2], "fetched anew", seen)
    fault("spoiled for good", [(big, "GET", ("spoil", half))] * 9, fails="instead of " + layers[1]["digest"])
    ok(not os.path.exists(f"{T}/pulled/blobs/sha256/{layers[1]['digest'][7:]}"), "nothing false is kept")
    start = time.time()
    fault("429 with Retry-After", [(big, "GET", ("status", 429, [("Retry-After", "2")]))])
    ok(time.time() - start >= 2, "and the time is kept")
    fault("503 twice", [(big, "GET", ("status", 503)), (big, "GET", ("status", 500))])
    fault("503 on the manifest", [("manifests", "GET", ("status", 503))])
    fault("cut in the manifest", [("manifests", "GET", ("cut", 100))])
    fault("spoiled config", [("blobs/", "GET", ("spoil", 10))])
    fault("503 for good", [(big, "GET", ("status", 503))] * 9, "--tries", "3", fails="answers 503")
    # killed in the middle, then taken up
    proxy.plan = collections.deque([(big, "GET", ("stall", half, 8))])
    p = subprocess.Popen(["strata-image", "--store", f"{T}/{fresh()}", "pull", via, "--plain-http"], env=ENV, stderr=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL)
    part = f"{T}/pulled/ingest/{layers[1]['digest'][7:]}.part"
    for _ in range(100):
        time.sleep(0.05)
        if os.path.exists(part) and os.path.getsize(part) >= half - 70000:
            break
    for _ in range(400):
        early = [x for x in glob.glob(f"{T}/pulled/tmp/layer-*/fs/f1") if os.path.getsize(x)]
        if early:
            break
        time.sleep(0.01)
    ok(early, "a layer unpacks while it still downloads", glob.glob(f"{T}/pulled/tmp/*/*/*"))
    ok(not os.path.exists(f"{T}/pulled/layers") or not glob.glob(f"{T}/pulled/layers/*/fs/f1"), "but is not there before it is verified")
    p.kill()
    p.wait()
    proxy.seen = []
    r = run("pulled", *pull)
    seen = [x for x in proxy.seen if big in x[1]]
    ok(r.returncode == 0 and len(seen) == 1 and seen[0][2], "kill -9 in the middle: the next pull resumes", (r.stderr, seen))
    proxy.plan = collections.deque([("uploads", "PUT", ("status", 503)), ("manifests", "PUT", ("status", 429))])
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1", f"127.0.0.1:{proxy.server_port}/e/f:1", "--plain-http")
    ok(r.returncode == 0 and not proxy.plan, "push through faults", r.stderr)
    # a mirror first, the registry when it has none
    r = run(fresh(), "pull", f"127.0.0.1:1/a/b:1", "--plain-http", "--mirror", f"127.0.0.1:{plain}")
    ok(r.returncode == 0 and f"127.0.0.1:1/a/b" in run("pulled", "ls").stdout, "a mirror serves for a registry that is away", r.stderr)
    r = run(fresh(), "pull", f"127.0.0.1:{plain}/a/b:1", "--plain-http", "--mirror", "127.0.0.1:1", "--tries", "1")
    ok(r.returncode == 0, "a registry serves for a mirror that is away", r.stderr)

    # ---- tokens
    tok = Proxy(plain)
    tok.token = "t0k3n"
    os.makedirs(T + "/docker", exist_ok=True)
    name = f"127.0.0.1:{tok.server_port}"
    r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
    ok(r.returncode == 1 and "denied" in r.stderr, "no credentials: denied", r.stderr)

    def login(pw):
        json.dump({"auths": {name: {"auth": base64.b64encode(b"user:" + pw).decode()}}}, open(T + "/docker/config.json", "w"))
    login(b"wrong")
    r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
    ok(r.returncode == 1 and "wrong password" in r.stderr, "wrong password: denied, with the reason", r.stderr)
    login(b"pa:ss")
    r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
    ok(r.returncode == 0 and tok.scopes == ["repository:a/b:pull,push"], "token authentication", r.stderr)
    tok.token = "another"
    r = run("pulled", "push", f"{name}/a/b:1", f"{name}/g/h:1", "--plain-http")
    ok(r.returncode == 0, "push with a token", r.stderr)

    # ---- credential helpers
    os.makedirs(T + "/bin")
    open(T + "/bin/docker-credential-test", "w").write(f"""#!/bin/sh
read -r server
echo "$1 $server" >>{T}/asked
case $server in
{name}) printf '{{"ServerURL":"%s","Username":"user","Secret":"pa:ss"}}' "$server" ;;
locked) echo "the keyring is locked"; exit 1 ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
""")
    os.chmod(T + "/bin/docker-credential-test", 0o755)
    ENV["PATH"] += ":" + T + "/bin"
    for kind, conf in (("credsStore", {"credsStore": "test", "auths": {name: {}}}), ("credHelpers", {"credHelpers": {name: "test"}})):
        json.dump(conf, open(T + "/docker/config.json", "w"))
        r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
        ok(r.returncode == 0, f"{kind}: the helper is asked", r.stderr)
    ok(open(T + "/asked").read() == f"get {name}\n" * 2, "for this server", open(T + "/asked").read())
    json.dump({"credHelpers": {name: "none"}}, open(T + "/docker/config.json", "w"))
    r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
    ok(r.returncode == 1 and "docker-credential-none" in r.stderr, "a helper that is not there is named", r.stderr)
    json.dump({"credHelpers": {name: "../x"}}, open(T + "/docker/config.json", "w"))
    r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
    ok(r.returncode == 1 and "names no credential helper" in r.stderr, "a helper elsewhere is refused", r.stderr)
    sed = open(T + "/bin/docker-credential-test").read().replace("locked)", name + "x|*)").replace(name + ")", "other)")
    open(T + "/bin/docker-credential-test", "w").write(sed)
    json.dump({"credsStore": "test"}, open(T + "/docker/config.json", "w"))
    r = run(fresh(), "pull", f"{name}/a/b:1", "--plain-http")
    ok(r.returncode == 1 and "the keyring is locked" in r.stderr, "a helper that refuses is quoted", r.stderr)

    # ---- TLS and a password
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", T + "/key.pem", "-out", T + "/cert.pem", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    h = subprocess.run(["/usr/bin/python3", "-Wignore", "-c", "import crypt; print(crypt.crypt('secret', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) or '')"],
                       capture_output=True, text=True).stdout.strip()
    if not h.startswith("$2"):
        ok(True, "TLS with a password # SKIP this host's crypt has no bcrypt")
        return
    open(T + "/htpasswd", "w").write(f"user:{h}\n")
    tls = registry("tls", f"auth:\n  htpasswd: {{realm: r, path: {T}/htpasswd}}\n", tls=True)
    name = f"localhost:{tls}"
    json.dump({"auths": {f"https://{name}": {"auth": base64.b64encode(b"user:secret").decode()}}}, open(T + "/docker/config.json", "w"))
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1", f"{name}/a/b:1", "--tries", "1")
    ok(r.returncode == 1 and "certificate" in r.stderr.lower(), "an unknown authority is refused", r.stderr)
    r = run("store", "push", f"127.0.0.1:{plain}/a/b:1", f"{name}/a/b:1", "--ca", T + "/cert.pem")
    ok(r.returncode == 0, "push over TLS with a password", r.stderr)
    r = run(fresh(), "pull", f"{name}/a/b:1", "--ca", T + "/cert.pem")
    ok(r.returncode == 0 and r.stdout.strip() == digest, "pull over TLS with a password", r.stderr)
    os.unlink(T + "/docker/config.json")
    r = run(fresh(), "pull", f"{name}/a/b:1", "--ca", T + "/cert.pem")
    ok(r.returncode == 1 and "denied" in r.stderr, "without the password: denied", r.stderr)


try:
    main()
finally:
    for s in servers:
        s.shutdown()
    for p in procs:
        p.kill()
        p.wait()
    shutil.rmtree(T, ignore_errors=True)
print(f"1..{count}")
sys.exit(1 if failed else 0)
