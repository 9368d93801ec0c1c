# TAP for bash tests.  Source it, then:
#   requires root cmd:qemu-img file:/dev/kvm        skips the whole test with the reason
#   t "name" command args…                          passes when the command succeeds; its output is shown only when it fails
#   t_fails "name" command args…                    passes when the command fails (but not by a signal)
#   t_eq "name" "$got" "$want"
#   skip "name" "reason"
#   done_testing                                    prints the plan; the last line of the test
# $T is a private scratch folder, removed at exit; add clean-up with: at_exit 'command'
set -u
tap_n=0
tap_failed=0
at_exit_cmds=()
T=$(mktemp -d "${TMPDIR:-/tmp}/strata-test.XXXXXX")

at_exit() { at_exit_cmds+=("$1"); }
tap_cleanup() {
	local i status=$?
	trap - EXIT
	for ((i = ${#at_exit_cmds[@]} - 1; i >= 0; i--)); do eval "${at_exit_cmds[i]}"; done
	rm -rf --one-file-system "$T"
	exit $status
}
trap tap_cleanup EXIT
trap 'exit 143' TERM INT

skip_all() { echo "1..0 # SKIP $*"; exit 0; }

requires() {
	local r
	for r in "$@"; do
		case $r in
		root) [ "$(id -u)" = 0 ] || skip_all "needs root" ;;
		cmd:*) command -v "${r#cmd:}" >/dev/null || skip_all "needs ${r#cmd:}" ;;
		file:*) [ -e "${r#file:}" ] || skip_all "needs ${r#file:}" ;;
		*) echo "Bail out! requires: unknown need '$r'"; exit 1 ;;
		esac
	done
}

ok() { tap_n=$((tap_n + 1)); echo "ok $tap_n - $1"; }
not_ok() { tap_n=$((tap_n + 1)); tap_failed=$((tap_failed + 1)); echo "not ok $tap_n - $1"; }
skip() { tap_n=$((tap_n + 1)); echo "ok $tap_n - $1 # SKIP $2"; }
diag() { sed 's/^/# /'; }

t() {
	local name=$1 status
	shift
	"$@" >"$T/.out" 2>&1 </dev/null
	status=$?
	if [ $status = 0 ]; then
		ok "$name"
	else
		not_ok "$name"
		{ echo "exit status $status: $*"; tail -n 40 "$T/.out"; } | diag
	fi
	return $status
}

t_fails() {
	local name=$1 status
	shift
	"$@" >"$T/.out" 2>&1 </dev/null
	status=$?
	if [ $status -gt 0 ] && [ $status -lt 126 ]; then
		ok "$name"
	else
		not_ok "$name"
		{ echo "exit status $status, wanted a failure: $*"; tail -n 40 "$T/.out"; } | diag
		return 1
	fi
}

t_eq() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1"
		{ echo "got:  $2"; echo "want: $3"; } | diag
		return 1
	fi
}

done_testing() { echo "1..$tap_n"; [ $tap_failed = 0 ]; }
