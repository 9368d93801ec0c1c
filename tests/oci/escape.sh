#!/bin/bash
# Classes of container escapes of the past, each tried.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"
b=$T/a

# 1 /proc/self/exe of the runtime (CVE-2019-5736): what is executed in the container is a sealed memory file.
bundle "$b" "c['process']['args']=['/evil']"
printf '#!/proc/self/exe\n' >"$b/rootfs/evil"
chmod 755 "$b/rootfs/evil"
before=$(sha256sum "$(realpath "$(command -v strata-oci)")")
out "$b" >/dev/null
t_eq "#!/proc/self/exe runs nothing of the host" "$(sha256sum "$(realpath "$(command -v strata-oci)")")" "$before"
bundle "$b" "sh('sleep 100')"
t "create" oci create -b "$b" e1
pid=$(oci state e1 | "$PYTHON" -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
t_eq "the waiting process is not the host's program" "$(readlink "/proc/$pid/exe")" "/memfd:strata-final (deleted)"
t_fails "and cannot be overwritten" bash -c "echo x >/proc/$pid/exe"
t_eq "nothing of the host is open in it" \
	"$(for f in /proc/$pid/fd/*; do readlink "$f"; done | grep -vE '^(/dev/null|socket:|pipe:|/memfd:|/proc$|'"$T"'/.out)' | tr '\n' ' ')" ""
oci start e1

# 2 exec: processes of the container watch it come in.
cfg "$b" "sh('while :; do for p in /proc/[0-9]*; do l=\$(readlink \$p/exe 2>/dev/null); case \$l in */busybox|\"\"|*strata-final*) ;; *) echo \$l >>/tmp/seen;; esac; done; done')"
oci delete -f e1
oci run -d -b "$b" e2 >/dev/null 2>&1 </dev/null
for i in 1 2 3 4 5 6 7 8; do oci exec e2 true </dev/null >/dev/null 2>&1; done
t_eq "no process of the container sees the runtime" "$(cat "$b/rootfs/tmp/seen" 2>/dev/null)" ""
oci delete -f e2

# 3 symlinks in mount targets, masked paths and devices lead nowhere outside the root.
bundle "$b" "sh('ls /m | head -1; ls /a/x'); mount('/link/x','$T/src','bind','bind'); mount('/m','tmpfs','tmpfs')"
mkdir -p "$T/src" "$T/victim"
touch "$T/src/inside"
ln -sfn "../../../../../../../../../..$T/victim" "$b/rootfs/link"
mkdir -p "$b/rootfs$T/victim"
out "$b" >/dev/null
t_eq "a mount target through a symlink stays inside" "$(ls "$T/victim")" ""
bundle "$b" "sh('true'); c['linux']['devices']=[dict(path='/link2/d',type='c',major=1,minor=3)]"
ln -sfn "$T/victim" "$b/rootfs/link2"
out "$b" >/dev/null
t_eq "a device through a symlink stays inside" "$(ls "$T/victim")" ""
bundle "$b" "sh('true'); c['linux']['maskedPaths']=['/link2/f']; c['linux']['readonlyPaths']=['/link2']"
echo secret >"$T/victim/f"
out "$b" >/dev/null
t_eq "masks through a symlink touch nothing outside" "$(cat "$T/victim/f"; grep -c "$T/victim" /proc/self/mountinfo)" "secret
0"
bundle "$b" "sh('cat /proc/keys | wc -c')
import os
os.path.lexists('$b/rootfs/dev/null') and os.unlink('$b/rootfs/dev/null')
os.symlink('/etc/passwd','$b/rootfs/dev/null')
c['mounts']=[m for m in c['mounts'] if m['destination'] not in ('/dev','/dev/pts','/dev/shm','/dev/mqueue')]"
case $(out "$b") in 0 | *"something else is there"*) ok "a false /dev/null is no mask" ;; *) not_ok "a false /dev/null is no mask" ;; esac

# 4 /proc: not over symlinks, nothing mounted over its files, not another file system in its place.
bundle "$b" "sh('true')"
rmdir "$b/rootfs/proc"
ln -s /tmp "$b/rootfs/proc"
t_eq "/proc as a symlink is refused" "$(out "$b" | grep -c 'goes over a symlink')" 1
rm "$b/rootfs/proc"
bundle "$b" "sh('true'); mount('/proc/self/attr','tmpfs','tmpfs')"
t_eq "a mount inside /proc is refused" "$(out "$b" | grep -c 'inside /proc')" 1
bundle "$b" "sh('true'); mount('/tmp/../proc','tmpfs','tmpfs')"
t_eq "another file system as /proc is refused" "$(out "$b" | grep -c 'only proc can be mounted')" 1
bundle "$b" "sh('mount -o remount,rw /proc/sys 2>/dev/null; echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo no')"
t_eq "read-only paths cannot be remounted" "$(out "$b")" no

# 5 descriptors and the working folder.
bundle "$b" "sh('ls /proc/self/fd | tr \"\\\\n\" \" \"')"
t_eq "no descriptor leaks in" "$(exec 7</etc/passwd 9</; out "$b")" "0 1 2 3 "
cfg "$b" "sh('cat; ls /proc/self/fd | wc -l'); c['process']['args']=['sh','-c','cat <&3; test -e /proc/self/fd/4 && echo four; true']"
t_eq "preserved descriptors come in, and no other" "$(exec 3<<<three 4</etc/passwd; oci run --preserve-fds 1 -b "$b" p1 2>&1 </dev/null)" three
for fd in 3 4 5 6 7 8 9 10; do
	bundle "$b" "sh('echo in'); c['process']['cwd']='/proc/self/fd/$fd'"
	oci run -b "$b" "w$fd" </dev/null 2>&1 | grep -qx in && echo "cwd fd $fd"
done >"$T/leaks"
t_eq "no descriptor serves as working folder" "$(cat "$T/leaks")" ""

# 6 cgroup v1 release_agent, and cgroups above its own.
bundle "$b" "sh('for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do test -e \$f && echo \$f; done; mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>/dev/null && echo made; true')"
t_eq "no release_agent, no writing to cgroups" "$(out "$b")" ""

# 7 seccomp holds for 32-bit and x32 entries.
bundle "$b" "c['process']['args']=['/probe']; c['process']['noNewPrivileges']=True
c['linux']['seccomp']=dict(defaultAction='SCMP_ACT_ALLOW',architectures=['SCMP_ARCH_X86_64','SCMP_ARCH_X86','SCMP_ARCH_X32'],syscalls=[dict(names=['mkdir'],action='SCMP_ACT_ERRNO',errnoRet=13)])"
cat >"$T/probe.c" <<'C'
#include <stdio.h>
#include <unistd.h>
#include <sys/mman.h>
#include <string.h>
#include <sys/syscall.h>
int main(void)
{
	char *p = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	long r;
	strcpy(p, "/tmp/d");
	r = syscall(SYS_mkdir, p, 0755);
	printf("64 %s\n", r < 0 ? "no" : "made");
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(39L), "b"(p), "c"(0755L) : "memory", "r8", "r9", "r10", "r11");
	printf("32 %s\n", (int)r < 0 ? "no" : "made");
	__asm__ volatile("syscall" : "=a"(r) : "a"(0x40000000L + SYS_mkdir), "D"(p), "S"(0755L) : "memory", "rcx", "r11");
	printf("x32 %s\n", (int)r < 0 ? "no" : "made");
	return 0;
}
C
if gcc -static -O1 -o "$b/rootfs/probe" "$T/probe.c" 2>/dev/null; then
	t_eq "seccomp holds for every entry" "$(out "$b")" "64 no
32 no
x32 no"
else
	skip "seccomp holds for every entry" "needs a compiler"
fi

# 8 ptrace of what comes in: a process with CAP_SYS_PTRACE of the container cannot look at exec's last stage.
bundle "$b" "sh('sleep 100')"
oci run -d -b "$b" t1 >/dev/null 2>&1 </dev/null
t_eq "exec's process was not dumpable before it was the container's" \
	"$(oci exec t1 sh -c 'ls -ld /proc/self/fd | wc -l' </dev/null)" 1
oci delete -f t1

# 9 signals, umask, dispositions of the caller do not come in.
bundle "$b" "sh('grep -E \"Sig(Ign|Blk)\" /proc/self/status; umask')"
t_eq "ignored signals, masks and umask are not inherited" \
	"$(trap '' PIPE INT HUP; umask 000; out "$b")" "SigBlk:	0000000000000000
SigIgn:	0000000000000000
0022"

# 10 setgroups in a user namespace: groups cannot be dropped to pass a deny entry where only one id is mapped.
bundle "$b" "sh('cat /proc/self/setgroups'); userns()"
t_eq "root's own map may set groups" "$(out "$b")" allow
t_eq "nothing is left" "$(leftovers)" ""
done_testing
