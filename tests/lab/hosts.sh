#!/bin/bash
# Commands, files, consoles and states of a host, as a person would use them.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
lab_use 1 --disks 2x1G --nics 3

# What a host is
t_eq "systemd is up and nothing has failed" "$(in_host h1 'systemctl is-system-running')" running
t "cgroup v2 with favordynmods" in_host h1 'grep " /sys/fs/cgroup cgroup2 .*favordynmods" /proc/mounts'
t_eq "every controller is there" "$(in_host h1 'tr " " "\n" </sys/fs/cgroup/cgroup.controllers | grep -cE "^(cpu|cpuset|io|memory|pids)$"')" 5
t_eq "two disks of 1 GiB" "$(in_host h1 'lsblk -bdno NAME,SIZE /dev/vdb /dev/vdc | tr -s " \n" " "')" "vdb 1073741824 vdc 1073741824 "
t_eq "known by number" "$(in_host h1 'readlink -f /dev/disk/by-id/virtio-disk2')" /dev/vdc
t_eq "three cards with the right addresses" "$(in_host h1 'ip -4 -br addr show up | awk "/eth/{print \$1, \$3}" | sort | tr "\n" " "')" \
	"eth0 10.77.0.1/24 eth1 10.77.1.1/24 eth2 10.77.2.1/24 "
for module in 8021q bonding vxlan ip_gre wireguard openvswitch nbd iscsi_tcp drbd vfio_pci softdog nfsd vhost_net; do
	modules="${modules:-} $module"
done
t "kernel modules for the tests of every room" in_host h1 "modprobe -a $modules"
for p in nft ovs-vsctl etcd tgtd iscsiadm exportfs qemu-system-x86_64 podman crun runc fio iperf3 tshark dhclient dig strace criu; do
	programs="${programs:-} $p"
done
t "programs for the tests of every room" in_host h1 "for p in $programs; do command -v \$p >/dev/null || { echo no \$p; exit 1; }; done"
t "its clock is right within two seconds" clock_right h1

# exec
status_of() { "$@" >/dev/null 2>&1; echo $?; }
t_eq "exit status" "$(status_of lab exec h1 -- sh -c 'exit 7')" 7
t_eq "killed by a signal" "$(status_of lab exec h1 -- sh -c 'kill -9 $$')" 137
t_eq "no such program" "$(status_of lab exec h1 nonesuch)" 127
t_eq "time-out" "$(status_of lab exec --timeout 1 h1 sleep 60)" 124
t_eq "and it is gone" "$(in_host h1 'pgrep -xfc "sleep 60"')" 0
t_eq "no such host" "$(status_of lab exec h9 true)" 2
t_eq "output and errors are apart" "$(lab exec h1 -- sh -c 'echo out; echo err >&2' 2>"$T/err"; cat "$T/err")" "out
err"
t_eq "input" "$(echo hello | lab exec h1 -- tr a-z A-Z)" HELLO
t_eq "environment and folder" "$(lab exec -e A='b c' -C /tmp h1 -- sh -c 'echo "$A" $PWD')" "b c /tmp"
t_eq "options after the host, before --" "$(lab exec h1 -C / -- pwd)" /
t_eq "words stay words" "$(lab exec h1 -- printf '<%s>' 'a b' '' '*')" "<a b><><*>"
t "a command that leaves a daemon returns" timeout 200 lab exec h1 -- sh -c 'sleep 1000 & echo'
lab exec h1 -- sleep 33 & runner=$!
eventually in_host h1 'pgrep -xf "sleep 33"' >/dev/null
kill $runner; wait $runner 2>/dev/null
no_sleeper() { [ "$(in_host h1 'pgrep -xfc "sleep 33"')" = 0 ]; }
t "the command dies with its client" eventually no_sleeper
head -c 3000000 /dev/urandom >"$T/data"
t_eq "bytes go through unchanged" "$(lab exec h1 -- cat <"$T/data" | cksum)" "$(cksum <"$T/data")"
(lab exec h1 -- sh -c 'echo >/run/slow; yes | head -c 30000000' | (eventually [ -e "$T/go" ]; wc -c) >"$T/slow") &
eventually in_host h1 '[ -e /run/slow ]'
t "a reader that is slow does not hold others up" timeout 100 lab exec -n h1 true
touch "$T/go"
wait
t_eq "and gets all" "$(cat "$T/slow")" 30000000
for i in 1 2 3 4 5 6; do lab exec h1 -- sh -c "head -c 200000 /dev/zero | tr '\0' $i" | cksum >"$T/par$i" & done; wait
good=0
for i in 1 2 3 4 5 6; do [ "$(cat "$T/par$i")" = "$(head -c 200000 /dev/zero | tr '\0' $i | cksum)" ] && good=$((good + 1)); done
t_eq "six at once" $good 6
t_eq "a terminal when there is one" "$(script -qec 'lab exec h1 -- tty' /dev/null </dev/null | tr -d '\r')" "not a tty"
t_eq "a terminal on demand" "$(script -qec 'lab exec -t h1 -- sh -c "tty >/dev/null && stty size"' /dev/null </dev/null | tr -d '\r' | grep -c '[0-9]')" 1

# put, get, share
mkdir -p "$T/tree/sub"
cp "$T/data" "$T/tree/sub/data"; ln -s sub/data "$T/tree/link"; chmod 751 "$T/tree/sub/data"
t "put a folder" lab put h1 "$T/tree" /root/
t_eq "with modes, links and bytes" "$(in_host h1 'cd /root/tree && stat -c %a sub/data && readlink link && cksum <link')" "751
sub/data
$(cksum <"$T/data")"
t "put over it again" lab put h1 "$T/tree" /root/
t "put under another name" lab put h1 "$T/data" /root/other
t "put several" lab put h1 "$T/data" "$T/tree/link" /root/new/
t_eq "in a new folder" "$(in_host h1 'ls /root/new')" "data
link"
t_fails "put what is not there" lab put h1 "$T/nonesuch" /root/
t "get a folder" lab get h1 /root/tree "$T/back"
t "unchanged" diff -r "$T/tree" "$T/back"
t_fails "get what is not there" lab get h1 /root/nonesuch "$T/"
t "share a folder" lab share h1 "$T/tree" /mnt/tree
t_eq "it is there" "$(in_host h1 'cksum </mnt/tree/sub/data')" "$(cksum <"$T/data")"
t_fails "and cannot be written" in_host h1 'touch /mnt/tree/x'

# states
t "pause" lab pause h1
t_eq "is seen" "$(lab ls --json | jq -r '.[].hosts[0].state' | sort -u | grep paused)" paused
t_fails "no command runs meanwhile" lab exec -n h1 true
t "resume" lab resume h1
t "the clock is right again" clock_right h1
in_host h1 'echo "echo console works >/dev/ttyS0" | sh'
t "the console log has what the host prints" eventually grep -q "console works" "/run/strata-lab/$LAB_NAME/h1.console"
typed() { # a line, again and again until the host has read one
	for _ in $(seq 20); do
		echo 'echo typed-$((6 * 7)) >/root/typed'
		for _ in $(seq 10); do in_host h1 '[ -s /root/typed ]' && return; sleep 0.2; done
	done
}
typed | timeout 200 lab console h1 >/dev/null
ok "typing on the console"
t_eq "reaches root's shell" "$(in_host h1 'cat /root/typed')" typed-42
port=$(lab forward h1:8099)
in_host h1 'cd /root/tree && (python3 -m http.server 8099 >/dev/null 2>&1 &) ; for i in $(seq 50); do ss -Htln sport = 8099 | grep -q . && break; sleep 0.1; done'
t_eq "a forwarded port" "$(curl -sS --max-time 20 "http://$port/sub/data" | cksum)" "$(cksum <"$T/data")"
t_eq "the lab's network from outside" "$(lab ns -- ip -br link show type bridge | awk '{print $1}' | sort | tr '\n' ' ')" "mgmt net1 net2 "
boot=$(in_host h1 'cat /proc/sys/kernel/random/boot_id')
t "reboot" lab reboot h1
t "is a boot of its own" [ "$(in_host h1 'cat /proc/sys/kernel/random/boot_id')" != "$boot" ]
t_eq "as itself" "$(in_host h1 'hostname; ip -4 -br addr show eth2 | awk "{print \$3}"; systemctl is-system-running --wait')" "h1
10.77.2.1/24
running"
done_testing
