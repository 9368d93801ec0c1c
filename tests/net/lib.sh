# For the tests of the network: everything happens in namespaces of the test's own, under a private /run/netns.
# Source it first; it starts the test again inside `unshare` and goes on there.
. "${SOURCE:?}/tests/lib.sh" || exit 1
requires root cmd:strata-net cmd:ip cmd:nft
if [ -z "${STRATA_NET_INSIDE:-}" ]; then
	trap - EXIT
	rm -rf "$T"
	STRATA_NET_INSIDE=1 exec unshare -n -m --propagation private bash "$0" "$@"
fi
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up
S=$T/state
pids=()
at_exit 'kill "${pids[@]}" 2>/dev/null; umount -l /run/netns/* 2>/dev/null; umount -l /run/netns'
export STRATA_LOG=${STRATA_LOG:-warn}

sn() { strata-net --state-dir "$S" "$@"; }
netns() { local n; for n; do ip netns add "$n" && ip -n "$n" link set lo up; done; }
in_ns() { ip netns exec "$@"; }
# A command in the background that ends with the test.
bg() { "$@" >"$T/bg.$#.${#pids[@]}" 2>&1 & pids+=($!); }
# An outside world behind the host: namespace ext, 192.0.2.2, reached through link e0.
outside() {
	netns ext
	ip link add e0 type veth peer name e1 netns ext
	ip addr add 192.0.2.1/24 dev e0
	ip -6 addr add 2001:db8::1/64 dev e0 nodad
	ip link set e0 up
	ip -n ext addr add 192.0.2.2/24 dev e1
	ip -n ext -6 addr add 2001:db8::2/64 dev e1 nodad
	ip -n ext link set e1 up
	ip -n ext route add default via 192.0.2.1
}
addr4() { ip -n "$1" -4 -o addr show "${2:-eth0}" | awk '{ sub("/.*", "", $4); print $4; exit }'; }
addr6() { ip -n "$1" -6 -o addr show "${2:-eth0}" scope global | awk '{ sub("/.*", "", $4); print $4; exit }'; }
png() { in_ns "$1" busybox ping -c "${3:-1}" -W 1 "$2"; }
png6() { in_ns "$1" busybox ping6 -c "${3:-1}" -W 1 "$2"; }
# web NS PORT: an HTTP server there, up when this returns.
web() {
	in_ns "$1" python3 -m http.server "$2" --bind "${3:-0.0.0.0}" --directory /var/empty >/dev/null 2>&1 &
	pids+=($!)
	for _ in $(seq 50); do
		in_ns "$1" ss -ltnH "sport = :$2" | grep -q . && return
		sleep 0.1
	done
}
get() { in_ns "$1" curl -s -m "${3:-2}" -o /dev/null "$2"; }
net_of() { sn show "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["networks"][int(sys.argv[1])]["netns"])' "${2:-0}"; }
field() { sn show "$1" | python3 -c "import json,sys; d=json.load(sys.stdin); print($2)"; }
# until_true COMMAND...: wait for it, at most 20 s.
until_true() {
	local i
	for ((i = 0; i < 200; i++)); do
		"$@" >/dev/null 2>&1 </dev/null && return
		sleep 0.1
	done
	return 1
}
# The namespace of the network that has this address.
netns_of() {
	local n
	for n in $(ip netns | awk '/^strata-/ { print $1 }'); do
		ip -n "$n" -o addr | grep -q " $1/" && echo "$n"
	done
}
nothing_left() {
	[ -z "$(ip -o link | grep -vE '^[0-9]+: (lo|e0)[:@]' | cat)" ] && [ -z "$(nft list ruleset)" ] &&
		! ip netns | grep -q strata- && [ -z "$(tc qdisc | grep -v noqueue)" ]
}
