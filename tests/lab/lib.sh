# Virtual hosts for a test.  Source after tests/lib.sh; `lab` is then a command.
#   lab_up N [option…]      a lab for this test alone, gone when the test ends
#   lab_use N [option…]     a lab that tests of one `meson test` share: each finds its hosts as freshly booted
# Both skip the test where no lab can be, and fail it when the lab does not start.  Options are those of `lab up`.
export PATH="$SOURCE/lab:$PATH"

lab_possible() {
	requires root cmd:qemu-system-x86_64 cmd:qemu-img cmd:mmdebstrap cmd:mke2fs cmd:ip file:/dev/net/tun
}

lab_start() {
	timeout 900 lab up "$@" >"$T/.lab" 2>&1 && return
	echo "Bail out! the lab did not start"
	diag <"$T/.lab"
	exit 1
}

lab_up() {
	lab_possible
	export LAB_DIR=$T/lab
	unset LAB_NAME
	at_exit 'lab down >/dev/null 2>&1'
	lab_start "$@" --owner $$
}

lab_use() {
	local key
	lab_possible
	key=$(printf '%s ' "$@" | cksum | cut -d' ' -f1)
	unset LAB_DIR
	export LAB_NAME=test-$PPID-$key
	exec 8>"/tmp/$LAB_NAME.lock"
	at_exit "rm -f /tmp/$LAB_NAME.lock"
	flock 8
	if ! timeout 100 lab restore clean >/dev/null 2>&1; then
		timeout 60 lab down >/dev/null 2>&1
		lab_start "$@" --owner $PPID
		timeout 100 lab snapshot clean >/dev/null 2>&1
	fi
	at_exit 'exec 8>&-'
}

# in_host H 'script': a line of shell in a host, at most a minute
in_host() { lab exec -n --timeout 60 "$1" -- bash -c "$2"; }
