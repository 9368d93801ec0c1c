# Virtual hosts for a test.  Source after tests/lib.sh; `lab` is then a command.
#   lab_inside [option…]    the rest of this script runs in a fresh virtual host of its own kernel, as root, with build/bin in
#                           the PATH and tests/ at $SOURCE/tests; its TAP comes out here
#   lab_use N [option…]     a lab that tests of one `meson test` share: each finds its hosts as freshly booted
#   lab_up N [option…]      a lab for this test alone, gone when the test ends
# All skip the test where no lab can be, and fail it when the lab does not start.  Options are those of `lab up`.
# The first lab_use of a run takes some 5 s, each later one with the same options 1 to 2 s.
export PATH="$SOURCE/lab:$PATH"

lab_possible() {
	local free
	requires root cmd:qemu-system-x86_64 cmd:qemu-img cmd:mmdebstrap cmd:mke2fs cmd:ip cmd:jq file:/dev/net/tun
	unshare -n true 2>/dev/null || skip_all "needs network namespaces"
	free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	[ "$free" -ge 4096 ] || skip_all "virtual hosts need 4 GiB of free memory, $free MiB are"
}

lab_fail() { # what failed; its output is in $T/.lab
	if grep -q 'mmdebstrap failed' "$T/.lab" && ! apt-get update -q -o APT::Update::Error-Mode=any >/dev/null 2>&1; then
		skip_all "the distribution's archive does not answer"
	fi
	echo "Bail out! $1"
	diag <"$T/.lab"
	exit 1
}

# The image and the template.  An archive that changes or stumbles while packages come gets a second chance.
lab_image() {
	timeout 1100 lab build >"$T/.lab" 2>&1 && return
	diag <"$T/.lab"
	apt-get update -q >/dev/null 2>&1
	timeout 1100 lab build >"$T/.lab" 2>&1 || lab_fail "the host image could not be made"
}

lab_start() { timeout 1200 lab up "$@" >"$T/.lab" 2>&1 || lab_fail "the lab did not start"; }

lab_up() {
	lab_possible
	export LAB_DIR=$T/lab
	unset LAB_NAME
	at_exit 'lab down >/dev/null 2>&1'
	lab_start "$@" --owner $$
}

# What hosts of lab_use find at /mnt/strata: bin/ (build/bin, links followed) and tests/, read-only.
lab_kit() {
	mkdir "$T/.kit"
	cp -rL "$BUILD/bin" "$T/.kit/bin" && cp -r "$SOURCE/tests" "$T/.kit/tests"
}

lab_use() {
	local count=$1 stamp host hosts=
	lab_possible
	unset LAB_DIR
	export LAB_NAME
	# The lab ends with the process that started this test: meson, or a person's shell.
	LAB_NAME=test-$PPID-$(printf '%s ' "$@" | cksum | cut -d' ' -f1)
	exec 8>"/tmp/$LAB_NAME.lock"
	at_exit "rm -f /tmp/$LAB_NAME.lock"
	timeout 1200 flock 8 || { echo "Bail out! $LAB_NAME is in use"; exit 1; }
	# Another build since the lab started: start it again, with that one inside.
	stamp=clean-$(find -L "$BUILD/bin" "$SOURCE/tests" -type f -printf '%p %s %T@\n' | sort | cksum | cut -d' ' -f1)
	timeout 200 lab restore "$stamp" >"$T/.lab" 2>&1 && return
	lab down >>"$T/.lab" 2>&1
	lab_start "$@" --owner $PPID
	lab_kit >"$T/.lab" 2>&1 || lab_fail "what the hosts shall have inside could not be put together"
	for ((host = 1; host <= count; host++)); do hosts+=${hosts:+,}h$host; done
	timeout 200 lab share "$hosts" "$T/.kit" /mnt/strata >"$T/.lab" 2>&1 || lab_fail "the hosts did not take the folder"
	timeout 200 lab snapshot "$stamp" >"$T/.lab" 2>&1 || lab_fail "the hosts could not be saved"
}

lab_inside() {
	[ -z "${LAB_HOST:-}" ] || return 0
	local me
	me=$(realpath "$0")
	case $me in
	"$SOURCE"/tests/*) ;;
	*) echo "Bail out! lab_inside: $me is not below $SOURCE/tests"; exit 1 ;;
	esac
	lab_use 1 "$@"
	lab exec -n --timeout "${LAB_TIMEOUT:-300}" h1 -- env LAB_HOST=h1 SOURCE=/mnt/strata BUILD=/mnt/strata \
		PATH=/mnt/strata/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		${STRATA_LONG:+STRATA_LONG=1} bash "/mnt/strata/tests/${me#"$SOURCE"/tests/}"
	exit $?
}

# eventually command…: until it succeeds, at most two minutes
eventually() {
	local end=$((SECONDS + 120))
	until "$@"; do [ $SECONDS -lt $end ] && sleep 0.2 || return 1; done
}

# within "what" MILLISECONDS LIMIT: a figure of the specification, which holds on a machine that others leave some room on
within() {
	local load
	load=$(cut -d. -f1 /proc/loadavg)
	echo "# $1: $2 ms, load $load"
	if [ "$2" -ge "$3" ] && [ "$load" -gt $((6 * $(nproc))) ]; then
		skip "$1 within $3 ms" "the machine is busy: load $load"
	else
		t "$1 within $3 ms" [ "$2" -lt "$3" ]
	fi
}

# clock_right H: its clock is ours, within two seconds, however long asking takes
clock_right() {
	local before after now
	before=$(date +%s)
	now=$(in_host "$1" 'date +%s')
	after=$(date +%s)
	[ "$now" -ge $((before - 2)) ] && [ "$now" -le $((after + 2)) ] || { echo "it says $now, here it is $before to $after"; return 1; }
}

# in_host H 'script': a line of shell in a host, at most LAB_TIMEOUT seconds (300)
in_host() { lab exec -n --timeout "${LAB_TIMEOUT:-300}" "$1" -- bash -c "$2"; }
