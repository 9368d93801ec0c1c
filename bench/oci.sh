#!/bin/bash
# The life of a container, `run` of /bin/true in a busybox bundle: strata-oci against crun and runc, in turn, on the same
# bundle, in a private mount namespace whose /sys/fs/cgroup is plain cgroup2 (crun 1.8 refuses hybrid layouts).
#	bench/oci.sh [PAIRS]
# Prints medians and the median and 95th percentile of the ratio of each pair.  Rows: all usual namespaces with seccomp,
# masked and read-only paths; the same without a network namespace.
set -eu
pairs=${1:-30}
cd "$(dirname "$0")/.."
export PATH=$PWD/build/bin:$PATH PAIRS=$pairs
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/rootfs/{bin,proc,sys,dev}
cp "$(command -v busybox)" "$dir/rootfs/bin/busybox"
ln -s busybox "$dir/rootfs/bin/true"
(cd "$dir" && strata-oci spec)
unshare -m bash -c 'mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec python3 - "$1"' - "$dir" <<'P'
import json, os, shutil, statistics, subprocess, sys, time
d, pairs = sys.argv[1], int(os.environ['PAIRS'])
base = json.load(open(d + '/config.json'))
base['process'].update(terminal=False, args=['/bin/true'])
del base['process']['rlimits'], base['linux']['resources']
prof = '/usr/share/containers/seccomp.json'
if os.path.exists(prof):
    s = json.load(open(prof))
    keep = ('names', 'action', 'args', 'errnoRet')
    base['linux']['seccomp'] = dict(defaultAction=s['defaultAction'], architectures=['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
        syscalls=[{k: v for k, v in r.items() if k in keep and v is not None} for r in s['syscalls'] if not r.get('includes') or 'amd64' in r['includes'].get('arches', [])])
peers = {'crun': ['crun', '--cgroup-manager=cgroupfs'], 'runc': ['runc']}
peers = {k: v for k, v in peers.items() if shutil.which(v[0])}
n = 0
def once(cmd):
    global n
    n += 1
    t = time.perf_counter()
    r = subprocess.run(cmd + ['run', '-b', d, 'bench%d' % n], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    t = time.perf_counter() - t
    if r.returncode:
        raise SystemExit('%s: %s' % (cmd, r.stderr.decode()))
    return t * 1e3
def spawn():
    t = time.perf_counter()
    subprocess.run(['/bin/true'])
    return (time.perf_counter() - t) * 1e3
print('load %s, kernel %s, %d pairs, seccomp %s' % (os.getloadavg()[0], os.uname().release, pairs, 'seccomp' in base['linux']))
for row, drop in (('all namespaces', ()), ('without a network namespace', ('network',))):
    c = json.loads(json.dumps(base))
    c['linux']['namespaces'] = [x for x in c['linux']['namespaces'] if x['type'] not in drop]
    if drop:
        c['mounts'] = [dict(m, type='none', source='/sys', options=['rbind', 'ro']) if m['type'] == 'sysfs' else m for m in c['mounts']]
    json.dump(c, open(d + '/config.json', 'w'))
    once(['strata-oci'])
    for name, cmd in peers.items():
        a, b = [], []
        once(cmd)
        for _ in range(pairs):
            a.append(once(['strata-oci']))
            b.append(once(cmd))
        q = sorted(y / x for x, y in zip(a, b))
        print('%-28s %s: strata-oci %.2f ms, %s %.2f ms, ratio %.2f (p95 %.2f, worst %.2f)' % (row, name,
            statistics.median(a), name, statistics.median(b), statistics.median(q), q[int(len(q) * .95)], q[0]))
print('spawn of /bin/true %.2f ms' % statistics.median(spawn() for _ in range(pairs)))
P
