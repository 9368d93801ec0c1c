#!/bin/bash
# Three hosts are up within 45 s; snapshots keep memory, disks, cables and power, and are back within 10 s.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
lab_possible
lab_image
start=$(date +%s%N)
lab_up 3 --disks 1x1G
up=$((($(date +%s%N) - start) / 1000000))
within "three hosts up" $up 45000
ids=$(for h in h1 h2 h3; do in_host $h 'cat /etc/machine-id /proc/sys/kernel/random/boot_id /sys/class/dmi/id/product_uuid /proc/sys/kernel/random/uuid; cat /sys/class/net/eth?/address'; done)
t_eq "no number is shared by two hosts" "$(echo "$ids" | sort | uniq -d)" ""
t_eq "and all are there" "$(echo "$ids" | wc -l)" 18

for h in h1 h2 h3; do
	in_host $h 'echo one >/root/file; echo one >/dev/shm/file; printf disk1 | dd of=/dev/vdb conv=fsync status=none
		(while sleep 0.2; do date +%s >>/dev/shm/ticks; done >/dev/null 2>&1 </dev/null &)'
done
lab cut h1 net1
start=$(date +%s%N)
t "snapshot" lab snapshot one
echo "# snapshot took $((($(date +%s%N) - start) / 1000000)) ms"
t "hosts go on" in_host h2 true
for h in h1 h2 h3; do
	in_host $h 'echo two >/root/file; echo two >/dev/shm/file; printf disk2 | dd of=/dev/vdb conv=fsync status=none; sync'
done
lab heal h1
lab kill h3
t "a second snapshot, with a host that is off" lab snapshot two

start=$(date +%s%N)
t "restore" lab restore one
took=$((($(date +%s%N) - start) / 1000000))
within "restore of three hosts" $took 10000
for h in h1 h2 h3; do
	t_eq "$h: file, memory and disk as they were" "$(in_host $h 'cat /root/file /dev/shm/file; head -c 5 /dev/vdb')" "one
one
disk1"
	t "$h: its clock is right within two seconds" clock_right $h
	t "$h: what ran runs on" in_host $h 'a=$(wc -l </dev/shm/ticks); until [ $(wc -l </dev/shm/ticks) -gt $a ]; do sleep 0.2; done'
done
t_eq "the cable is cut as it was" "$(in_host h1 'cat /sys/class/net/eth1/carrier')" 0
t "the management network works" in_host h1 'ping -c 3 -W 20 h3'
t "random numbers differ after two restores" sh -c '
	a=$(lab exec -n h1 -- head -c 16 /dev/urandom | od -An -tx1); lab restore one 2>/dev/null
	b=$(lab exec -n h1 -- head -c 16 /dev/urandom | od -An -tx1); [ "$a" != "$b" ]'
t "restore of the later one" lab restore two
t_eq "h1 has the later file" "$(in_host h1 'cat /root/file')" two
t_eq "h3 is off" "$(lab ls --json | jq -r '.[].hosts[] | select(.name == "h3").state')" off
t "and can be switched on" lab poweron h3
t_eq "with what it had flushed" "$(in_host h3 'cat /root/file; head -c 5 /dev/vdb')" "two
disk2"
t_fails "a snapshot that is not there" lab restore none
t_fails "a name that is none" lab snapshot ../x
t "a snapshot of a paused host" sh -c 'lab pause h2 && lab snapshot paused && lab resume h2 && lab restore paused'
t_eq "comes back paused" "$(lab ls --json | jq -r '.[].hosts[] | select(.name == "h2").state')" paused
t "and goes on" lab resume h2
t "as a host that answers" eventually in_host h2 true
done_testing
