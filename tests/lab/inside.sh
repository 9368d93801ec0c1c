#!/bin/bash
# A test that runs in a virtual host as a whole: what lab_inside promises to the tests of other rooms.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
lab_inside

t_eq "we are in a host" "$(hostname)" h1
t "with a kernel of its own and all of systemd" systemctl is-system-running
t_eq "root" "$(id -u)" 0
for p in "$BUILD"/bin/*; do
	p=${p##*/}
	t "$p of this build finds its libraries" sh -c '! ldd "$1" | grep "not found"' - "$(command -v "$p")"
done
t "a network device of a kind that needs a module" sh -c 'ip link add b0 type bond && ip link add link eth1 name eth1.5 type vlan id 5'
t "/dev/kvm" [ -c /dev/kvm ]
done_testing
