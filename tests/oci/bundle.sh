# For tests of strata-oci, after tests/lib.sh.
#	bundle DIR [PYTHON]     makes DIR/rootfs with busybox and DIR/config.json; PYTHON changes the configuration `c`
#	cfg DIR PYTHON          changes it again
#	oci ARGS…               strata-oci with a folder of its own for its containers
#	leftovers               prints what containers of this test left on the host; nothing when all is well
requires root cmd:strata-oci cmd:busybox cmd:python3
file -L "$(command -v busybox)" 2>/dev/null | grep -q dynamically && skip_all "needs a static busybox"
# Not a version manager's wrapper, which takes longer than what it runs.
PYTHON=/usr/bin/python3
[ -x $PYTHON ] || PYTHON=$(command -v python3)
ROOT=$T/run
TAG=octest$$
at_exit 'for d in "$ROOT"/*/; do [ -d "$d" ] && strata-oci --root "$ROOT" delete --force "$(basename "$d")"; done >/dev/null 2>&1'

oci() { strata-oci --root "$ROOT" "$@"; }

bundle() {
	local dir=$1 app
	mkdir -p "$dir"/rootfs/{bin,proc,sys,dev,etc,tmp,root,var}
	[ -e "$dir/rootfs/bin/busybox" ] || cp "$(command -v busybox)" "$dir/rootfs/bin/busybox"
	for app in sh true false cat echo ls id ps mount sleep hostname env grep stat tty head mkdir touch umask \
		kill readlink dd test wc tr sort date ifconfig ip nc mknod chroot ulimit; do
		ln -sf busybox "$dir/rootfs/bin/$app"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >"$dir/rootfs/etc/passwd"
	rm -f "$dir/config.json"
	(cd "$dir" && strata-oci spec) || return 1
	cfg "$dir" "c['process']['terminal']=False; c['process']['args']=['sh','-c','true']; c['root']['readonly']=False
c['linux']['cgroupsPath']='/$TAG/'+'$(basename "$dir")'
del c['process']['rlimits']
${2-}"
}

cfg() {
	"$PYTHON" - "$1/config.json" <<EOF
import json, sys
p = sys.argv[1]
c = json.load(open(p))
def ns(kind, **kw):
    l = c['linux']['namespaces']
    l[:] = [n for n in l if n['type'] != kind] + [dict(type=kind, **kw)]
def no_ns(kind):
    c['linux']['namespaces'] = [n for n in c['linux']['namespaces'] if n['type'] != kind]
def sh(text):
    c['process']['args'] = ['sh', '-c', text]
def mount(dest, source, type, *options):
    c['mounts'].append(dict(destination=dest, source=source, type=type, options=list(options)))
def userns(base=100000):
    ns('user')
    c['linux']['uidMappings'] = c['linux']['gidMappings'] = [dict(containerID=0, hostID=base, size=65536)]
$2
json.dump(c, open(p, 'w'), indent=1)
EOF
}

# Run the bundle and print what its program printed; extra arguments go to `run`.
out() {
	local dir=$1
	shift
	oci run -b "$dir" "$@" "r$RANDOM" 2>&1 </dev/null
}

leftovers() {
	ls "$ROOT" 2>/dev/null
	find /sys/fs/cgroup -mindepth 2 -path "*/$TAG/*" -type d 2>/dev/null
	grep -F "$T" /proc/self/mountinfo
	pgrep -f "strata-final" 2>/dev/null | while read -r p; do
		grep -q "$TAG" "/proc/$p/cgroup" 2>/dev/null && echo "process $p"
	done
	return 0
}
at_exit 'find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -name "$TAG" -exec rmdir {} + 2>/dev/null'
