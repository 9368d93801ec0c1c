#!/bin/bash
# Whatever part of a lab is killed, nothing is left of it after `lab down`; labs do not disturb each other.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
lab_possible
lab_image
mkdir "$T/labs"
A=$T/labs/a B=$T/labs/b
at_exit 'lab down --dir "$A" >/dev/null 2>&1; lab down --dir "$B" >/dev/null 2>&1'
unset LAB_NAME LAB_DIR

# Everything on the machine that a lab could leave: processes, mounts, sockets, namespaces, links.
left() { # lab folder
	local found=0 p
	for p in /proc/[0-9]*; do
		[ "${p#/proc/}" = $$ ] && continue
		if tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -qE "(qemu-system|__supervise).*$1"; then
			echo "process ${p#/proc/}: $(tr '\0' ' ' <"$p/cmdline" | cut -c1-100)"; found=1
		fi
	done
	grep -F "$1" /proc/self/mounts && found=1
	grep -F "$1" /proc/net/unix && found=1
	[ -e "$1" ] && { ls -lR "$1"; found=1; }
	ls /run/netns 2>/dev/null | grep -i lab && found=1
	[ "$(ours)" = "$before" ] || { ours; found=1; }
	return $found
}
supervisor() { lab ls --json --dir "$1" | jq -r --arg d "$1" '.[] | select(.directory == $d).pid'; }
host_pid() { lab ls --json --dir "$1" | jq -r --arg d "$1" --arg h "$2" '.[] | select(.directory == $d).hosts[] | select(.name == $h).pid'; }
state_of() { lab ls --json --dir "$1" | jq -r --arg d "$1" '.[] | select(.directory == $d).state'; }
gone() { local i; for i in $(seq 600); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done; return 1; }
ours() { ip -br link | awk '{ print $1 }' | grep -E '^(mgmt|net[0-9]+|h[0-9]+e[0-9]+)$' | sort; }
before=$(ours)

t "two labs at once" sh -c 'lab up 2 --dir "$1" & lab up 2 --dir "$2" & wait %1 && wait %2' up "$A" "$B"
t_eq "both have the same addresses" "$(lab exec --dir "$A" -n h2 -- hostname -I | cut -d' ' -f1) $(lab exec --dir "$B" -n h2 -- hostname -I | cut -d' ' -f1)" "10.77.0.2 10.77.0.2"
lab exec --dir "$A" -n h1 -- touch /root/only-a
t_fails "but not the same disks" lab exec --dir "$B" -n h1 -- ls /root/only-a
t "the machine's own network is as it was" [ "$(ours)" = "$before" ]
t_fails "a host does not reach this machine" lab exec --dir "$A" -n h1 -- timeout 3 ping -c 1 -W 1 "$(hostname -I | cut -d' ' -f1)"
t_fails "a second lab in the same folder" lab up 1 --dir "$A"

pid=$(host_pid "$A" h1)
kill -9 "$pid"
t "kill -9 of a host's QEMU" gone "$pid"
t_eq "is a host that is off" "$(lab ls --json --dir "$A" | jq -r --arg d "$A" '.[] | select(.directory == $d).hosts[0].state')" off
t "the others go on" lab exec --dir "$A" -n h2 true
t "it can be switched on" lab poweron --dir "$A" h1

pids="$(host_pid "$A" h1) $(host_pid "$A" h2)"
pid=$(supervisor "$A")
kill -9 "$pid"
t "kill -9 of the supervisor" gone "$pid"
for p in $pids; do t "takes a host with it" gone "$p"; done
t_eq "the lab is seen to be dead" "$(state_of "$A")" dead
t_fails "and says so" lab exec --dir "$A" -n h1 true
t "the other lab does not notice" lab exec --dir "$B" -n h1 -- ping -c 3 -W 20 h2
t "down" lab down --dir "$A"
t "nothing is left of it" left "$A"

# A lab that died is no obstacle for the next one in its place.
t "up" lab up 1 --dir "$A"
kill -9 "$(supervisor "$A")"
t "up over a dead one" lab up 1 --dir "$A"
t "down" lab down --dir "$A"
t "nothing is left of it" left "$A"
t "down again has no effect" lab down --dir "$A"

# Clients
lab exec --dir "$B" h1 sleep 44 & client=$!
sleepers() { lab exec --dir "$B" -n h1 -- pgrep -xfc "sleep 44"; }
one_sleeper() { [ "$(sleepers)" = 1 ]; }
no_sleeper() { [ "$(sleepers)" = 0 ]; }
eventually one_sleeper
kill -9 $client
wait $client 2>/dev/null
t "a killed client's command ends" eventually no_sleeper
lab up 1 --cold --dir "$A" 2>/dev/null & client=$!
eventually [ -S "$A/ctl.sock" ]
kill -9 $client
wait $client 2>/dev/null
t "down of a lab whose lab up was killed" lab down --dir "$A"
t "nothing is left of it" left "$A"

# Owners
sleep 5000 & owner=$!
t "up with an owner" lab up 1 --dir "$A" --owner $owner
pid=$(supervisor "$A")
kill $owner
wait $owner 2>/dev/null
t "the lab ends with its owner" gone "$pid"
t "and leaves nothing" left "$A"
t_eq "run gives the status of its command" "$(lab run 1 --dir "$A" -- sh -c 'lab exec -n h1 -- test -e /dev/kvm && exit 9' 2>/dev/null; echo $?)" 9
t "and leaves nothing" left "$A"

# Strangers' files
mkdir "$A"; touch "$A/mine"
t_fails "a folder that is not empty is refused" lab up 1 --dir "$A"
t "and not touched" [ -e "$A/mine" ]
rm -r "$A"
t "kill -TERM of the supervisor" sh -c 'kill "$1"' kill "$(supervisor "$B")"
eventually [ ! -e "$B" ]
t "is an orderly end" left "$B"
done_testing
