#!/bin/bash
# --jail, seen from outside: ids, capabilities, namespaces, root, descriptors, filters; and that the guest's life goes on.
. "$SOURCE/tests/lib.sh"
requires root file:/dev/kvm cmd:strata-vmm cmd:as cmd:ld

printf '.code16\n1: incl 0x5000\n jmp 1b\n' >"$T/count.s"
as --32 "$T/count.s" -o "$T/count.o" && ld -m elf_i386 -e 0 -Ttext 0x7c00 --oformat binary "$T/count.o" -o "$T/count.bin"
printf '.code16\n mov $3, %%al\n out %%al, $0xf4\n1: hlt\n jmp 1b\n' >"$T/exit.s"
as --32 "$T/exit.s" -o "$T/exit.o" && ld -m elf_i386 -e 0 -Ttext 0x7c00 --oformat binary "$T/exit.o" -o "$T/exit.bin"
ctl() { timeout 10 strata-vmm ctl "$T/ctl" "$@"; }

timeout 20 strata-vmm run --kernel "$T/exit.bin" --test-devices --jail --console none </dev/null
t_eq "the exit status comes out of the jail" $? 7
timeout 20 strata-vmm run --kernel "$T/exit.bin" --test-devices --seccomp kill --console none </dev/null
t_eq "filters alone" $? 7

strata-vmm run --kernel "$T/count.bin" --jail --jail-uid 64999 --console none --ctl "$T/ctl" --cpus 2 </dev/null &
outer=$!
at_exit "kill $outer 2>/dev/null"
for _ in $(seq 100); do [ -S "$T/ctl" ] && ctl status >/dev/null 2>&1 && break; sleep 0.05; done
pid=$(tr -d ' ' <"/proc/$outer/task/$outer/children")
status() { awk -v k="$1:" '$1 == k { $1 = ""; sub(/^ /, ""); print }' "/proc/$pid/status"; }
t_eq "all four uids" "$(status Uid)" "64999 64999 64999 64999"
t_eq "all four gids" "$(status Gid)" "64999 64999 64999 64999"
t_eq "no other group" "$(status Groups)" ""
t_eq "no effective capability" "$(status CapEff)" 0000000000000000
t_eq "no permitted capability" "$(status CapPrm)" 0000000000000000
t_eq "no new privileges" "$(status NoNewPrivs)" 1
t_eq "every thread has a filter" "$(cat "/proc/$pid"/task/*/status | grep -c '^Seccomp:.*2')" "$(ls "/proc/$pid/task" | wc -l)"
t_eq "the root is empty" "$(ls -A "/proc/$pid/root/" | wc -l)" 0
for ns in mnt net ipc uts pid cgroup; do
	t "own $ns namespace" test "$(readlink "/proc/$pid/ns/$ns")" != "$(readlink "/proc/self/ns/$ns")"
done
t_eq "one mount" "$(wc -l <"/proc/$pid/mountinfo")" 1
t "reset" ctl reset
t "pause" ctl pause
t "resume" ctl resume
t "stats" ctl stats
t_fails "a snapshot to a path that the jail cannot see is refused" ctl snapshot '{"dir": "/s"}'
t "  and the vm lives" ctl status
ctl kill >/dev/null
wait $outer
t_eq "killed" $? 0
t "the socket is gone" test ! -e "$T/ctl"
done_testing
