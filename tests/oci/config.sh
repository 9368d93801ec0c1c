#!/bin/bash
# Fields of config.json, each seen from inside the container (or refused with its name).
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"
b=$T/a

# is NAME PYTHON WANTED: what the program prints
is() { bundle "$b" "$2"; t_eq "$1" "$(out "$b")" "$3"; }
# says NAME PYTHON TEXT: refused, with TEXT in the message
says() {
	bundle "$b" "$2"
	local got
	got=$(out "$b")
	case $got in *"$3"*) ok "$1" ;; *) not_ok "$1"; echo "$got" | diag ;; esac
}

is "arguments, variables, working folder" "sh('echo \$A \$PWD'); c['process']['env'].append('A=b c'); c['process']['cwd']='/tmp'" "b c /tmp"
is "a working folder that is missing is made" "sh('pwd'); c['process']['cwd']='/var/a/b'" /var/a/b
is "of a repeated variable the last counts" "sh('echo \$A'); c['process']['env'] += ['A=1','A=2']" 2
is "HOME comes from the image's passwd" "sh('echo \$HOME'); c['process']['user']=dict(uid=1000,gid=1000)" /home/user
is "user, group, more groups" "sh('id -u; id -g; id -G'); c['process']['user']=dict(uid=5,gid=6,additionalGids=[7,8])" "5
6
6 7 8"
is "umask" "sh('umask'); c['process']['user']['umask']=0o027" 0027
is "umask is not inherited" "sh('umask')" 0022
is "hostname and domain name" "sh('hostname; cat /proc/sys/kernel/domainname'); c['hostname']='h1'; c['domainname']='d1'" "h1
d1"
is "capabilities: exactly these" "sh('grep Cap /proc/self/status | tr -d \"\\\\n\"')
k=['CAP_KILL','CAP_CHOWN']
c['process']['capabilities']=dict(bounding=k,permitted=k,effective=k,inheritable=k,ambient=k)" \
	"CapInh:	0000000000000021CapPrm:	0000000000000021CapEff:	0000000000000021CapBnd:	0000000000000021CapAmb:	0000000000000021"
is "ambient capabilities for a user that is not root" "sh('grep CapEff /proc/self/status'); k=['CAP_NET_RAW']
c['process']['user']=dict(uid=1000,gid=1000); c['process']['capabilities']=dict(bounding=k,permitted=k,effective=k,inheritable=k,ambient=k)" \
	"CapEff:	0000000000002000"
is "no capabilities for a user without any given" "sh('grep CapEff /proc/self/status'); c['process']['user']=dict(uid=1000,gid=1000); del c['process']['capabilities']" \
	"CapEff:	0000000000000000"
is "no_new_privs" "sh('grep NoNewPrivs /proc/self/status'); c['process']['noNewPrivileges']=False" "NoNewPrivs:	0"
is "rlimits" "sh('ulimit -n; ulimit -c'); c['process']['rlimits']=[dict(type='RLIMIT_NOFILE',soft=77,hard=99),dict(type='RLIMIT_CORE',soft=0,hard=0)]" "77
0"
is "oom score" "sh('cat /proc/self/oom_score_adj'); c['process']['oomScoreAdj']=321" 321
is "personality" "sh('uname -m 2>/dev/null || busybox uname -m'); c['linux']['personality']=dict(domain='LINUX32')" i686
is "scheduler" "sh('grep -E \"^policy|^prio\" /proc/self/sched | tr -s \" \"'); c['process']['scheduler']=dict(policy='SCHED_BATCH',nice=5)" "policy : 3
prio : 125"
is "I/O priority" "sh('busybox ionice'); c['process']['ioPriority']={'class':'IOPRIO_CLASS_BE','priority':6}" "best-effort: prio 6"
is "sysctl of its own network" "sh('cat /proc/sys/net/ipv4/ip_default_ttl'); c['linux']['sysctl']={'net.ipv4.ip_default_ttl':'77'}" 77
is "read-only root" "sh('touch /x 2>&1; echo \$?'); c['root']['readonly']=True" "touch: /x: Read-only file system
1"
is "a device node" "sh('stat -c \"%F %t:%T %a %u:%g\" /dev/mynull'); c['linux']['devices']=[dict(path='/dev/mynull',type='c',major=1,minor=3,fileMode=0o640,uid=3,gid=4)]" \
	"character special file 1:3 640 3:4"
is "a fifo" "sh('stat -c %F /run1/p'); c['linux']['devices']=[dict(path='/run1/p',type='p')]" fifo
is "masked file and folder" "sh('cat /proc/1/../keys | wc -c; ls /sys/firmware | wc -l')" "0
0"
is "read-only path" "sh('echo 1 >/proc/sys/kernel/core_pattern' ' 2>&1; echo \$?')" "sh: can't create /proc/sys/kernel/core_pattern: Read-only file system
1"
is "loopback is up" "sh('ifconfig lo | grep -c UP')" 1
is "time namespace" "sh('test \$(cut -d. -f1 /proc/uptime 2>/dev/null || busybox cut -d. -f1 /proc/uptime) -gt 900000 && echo shifted'); ns('time'); c['linux']['timeOffsets']=dict(boottime=dict(secs=1000000,nanosecs=0))" shifted
is "user namespace" "sh('id -u; head -1 /proc/self/uid_map | tr -s \" \"; touch /tmp/f && stat -c %u /tmp/f'); userns(); c['mounts'].append(dict(destination='/tmp',type='tmpfs',source='tmpfs'))" "0
 0 100000 65536
0"
is "user namespace: devices, cgroup, sysfs" "sh('echo x >/dev/null && cat /proc/self/cgroup | head -1 | grep -c : && ls /sys/class | grep -c net'); userns()" "1
1"
bundle "$b" "sh('readlink /proc/self/ns/net'); ns('network', path='/proc/$$/ns/net')"
t_eq "joins a network namespace" "$(out "$b")" "$(readlink /proc/$$/ns/net)"
bundle "$b" "sh('readlink /proc/self/ns/pid'); ns('pid', path='/proc/$$/ns/pid')"
t_eq "joins a pid namespace" "$(out "$b")" "$(readlink /proc/$$/ns/pid)"
is "no namespaces but a mount namespace" "sh('echo in'); c['linux']['namespaces']=[dict(type='mount')]; del c['hostname']; c['linux']['maskedPaths']=[]" in

mkdir -p "$T/src/sub" "$T/src2"
echo data >"$T/src/f"
is "bind mount" "sh('cat /m/f; echo x >/m/g; echo \$?'); mount('/m','$T/src','bind','rbind')" "data
0"
is "read-only bind mount of a file" "sh('cat /etc/f; echo x 2>/dev/null >/etc/f; echo \$?'); mount('/etc/f','$T/src/f','bind','bind','ro')" "data
1"
mount -t tmpfs tmpfs "$T/src/sub"
at_exit "umount -l $T/src/sub 2>/dev/null"
is "ro leaves what lies below writable" "sh('touch /m/sub/x && echo ok'); mount('/m','$T/src','bind','rbind','ro')" ok
is "rro does not" "sh('touch /m/sub/x 2>/dev/null || echo no'); mount('/m','$T/src','bind','rbind','rro')" no
is "nosuid, nodev, noexec, noatime" "sh('grep \" /m \" /proc/mounts | busybox cut -d\" \" -f4'); mount('/m','tmpfs','tmpfs','nosuid','nodev','noexec','noatime','size=4k','mode=700')" \
	"rw,nosuid,nodev,noexec,noatime,size=4k,mode=700"
is "a later word wins" "sh('grep \" /m \" /proc/mounts | grep -c nosuid'); mount('/m','tmpfs','tmpfs','nosuid','suid')" 0
is "tmpcopyup" "sh('cat /etc/passwd | head -1 | busybox cut -c1-4; touch /etc/new && echo rw'); mount('/etc','tmpfs','tmpfs','tmpcopyup'); c['root']['readonly']=True" "root
rw"
is "idmapped mount" "sh('stat -c %u /m/f'); mount('/m','$T/src','bind','bind','idmap'); c['mounts'][-1]['uidMappings']=c['mounts'][-1]['gidMappings']=[dict(containerID=0,hostID=5000,size=1000)]" 5000
is "rootfs propagation" "sh('grep \" / / \" /proc/self/mountinfo | grep -c shared; grep -c \" / .* shared\" /proc/self/mountinfo'); c['linux']['rootfsPropagation']='rprivate'" "0
0"
is "remount" "sh('grep \" /dev/shm \" /proc/mounts | grep -c ro,'); mount('/dev/shm','','','remount','ro')" 1
is "the annotations are in the state" "sh('true'); c['annotations']={'a':'b'}" ""
is "hooks run in order with the state" "sh('cat /hooks; echo main')
import os
open('$T/h.sh','w').write('#!/bin/sh\nread -r s; echo \"\$1\" >>$T/order; case \$s in *\"\\\\\"id\\\\\":\\\\\"r\"*) ;; *) exit 1;; esac\n'); os.chmod('$T/h.sh',0o755)
open('$b/rootfs/h.sh','w').write('#!/bin/sh\necho startContainer >>/hooks\n'); os.chmod('$b/rootfs/h.sh',0o755)
c['hooks']={k:[dict(path='$T/h.sh',args=['h',k])] for k in ['prestart','createRuntime','createContainer','poststart','poststop']}
c['hooks']['startContainer']=[dict(path='/h.sh')]" "startContainer
main"
t_eq "every hook ran" "$(tr '\n' ' ' <"$T/order")" "prestart createRuntime createContainer poststart poststop "
says "a hook that takes too long" "c['hooks']=dict(createRuntime=[dict(path='/bin/sleep',args=['sleep','9'],timeout=1)])" "took more than 1 s"
says "a hook that fails has its words" "c['hooks']=dict(createRuntime=[dict(path='/bin/sh',args=['sh','-c','echo because >&2; exit 3'])])" "exit status 3: because"
says "a failing hook inside" "c['hooks']=dict(createContainer=[dict(path='/bin/false')])" "createContainer hook '/bin/false' failed"

is "seccomp: an error number" "sh('mkdir /tmp/d 2>&1'); c['linux']['seccomp']=dict(defaultAction='SCMP_ACT_ALLOW',architectures=['SCMP_ARCH_X86_64'],syscalls=[dict(names=['mkdir','mkdirat'],action='SCMP_ACT_ERRNO',errnoRet=28)])" \
	"mkdir: can't create directory '/tmp/d': No space left on device"
is "seccomp: arguments" "sh('busybox chmod 0700 /tmp && echo a; busybox chmod 0711 /tmp 2>/dev/null || echo b'); c['linux']['seccomp']=dict(defaultAction='SCMP_ACT_ALLOW',syscalls=[dict(names=['chmod'],action='SCMP_ACT_ERRNO',args=[dict(index=1,value=0o711,op='SCMP_CMP_EQ')])])" "a
b"
is "seccomp without no_new_privs" "sh('mkdir /tmp/d 2>/dev/null || echo no'); c['process']['noNewPrivileges']=False; c['linux']['seccomp']=dict(defaultAction='SCMP_ACT_ALLOW',syscalls=[dict(names=['mkdir'],action='SCMP_ACT_ERRNO')])" no
says "seccomp: an unknown action" "c['linux']['seccomp']=dict(defaultAction='SCMP_ACT_NO')" "defaultAction: 'SCMP_ACT_NO' is not a seccomp action"
is "device rules" "sh('head -c1 /dev/zero | wc -c; mknod /tmp/k c 1 1 && head -c1 /tmp/k 2>&1 | grep -c \"not permitted\"'); k=c['process']['capabilities']; [k[x].append('CAP_MKNOD') for x in k]" "1
1"
is "limits" "sh('cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max; cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'); c['linux']['resources'].update(pids=dict(limit=55),memory=dict(limit=33554432))" "55
33554432"
umount "$T/src/sub"
t_eq "nothing is left" "$(leftovers)" ""

says "unknown namespace" "c['linux']['namespaces'].insert(0, dict(type='moon'))" "linux.namespaces[0].type: 'moon' is not a namespace"
says "a number where text belongs" "c['hostname']=5" "hostname: not a string"
says "a relative cwd" "c['process']['cwd']='tmp'" "process.cwd: 'tmp' is not an absolute path"
says "soft above hard" "c['process']['rlimits']=[dict(type='RLIMIT_CORE',soft=2,hard=1)]" "process.rlimits[0].soft: is above hard"
says "an unknown limit" "c['process']['rlimits']=[dict(type='RLIMIT_X',soft=1,hard=1)]" "'RLIMIT_X' is not a limit"
says "a sysctl of the host" "c['linux']['sysctl']={'vm.swappiness':'1'}" "is not in a namespace"
says "a network sysctl without a network namespace" "no_ns('network'); c['linux']['sysctl']={'net.ipv4.ip_forward':'1'}" "needs a network namespace"
says "resource director technology" "c['linux']['intelRdt']={}" "linux.intelRdt: resource director technology is not supported"
says "a user namespace without maps" "ns('user')" "linux.uidMappings"
says "the root of the hierarchy as cgroup" "c['linux']['cgroupsPath']='/'" "linux.cgroupsPath"
says "another version" "c['ociVersion']='2.0.0'" "ociVersion"
says "a mount source that is missing" "mount('/m','$T/none','bind','bind')" "mount '/m': source '$T/none': No such file"
says "a wrong mount option" "mount('/m','tmpfs','tmpfs','nonsense=1')" "option 'nonsense=1'"
says "an unknown file system" "mount('/m','x','nofs')" "file system 'nofs'"
printf '{"ociVersion": "1.0.0", "root": {"path": "rootfs"' >"$b/config.json"
t_eq "broken JSON has line and column" "$(out "$b" | grep -c 'line 1 column')" 1
t_eq "nothing is left" "$(leftovers)" ""
done_testing
