#!/bin/bash
# strata-shim: streams, logs, exec, terminals, events, the end; a daemon that dies and comes back; a killed shim; its size.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"
requires cmd:strata-shim
bundle "$T/a"
ln -sf busybox "$T/a/rootfs/bin/tail"
ln -sf busybox "$T/a/rootfs/bin/stty"
# A script that failed in the middle leaves its last shim.
at_exit 'for f in "$T"/s/*/shim.json; do [ -e "$f" ] && kill -9 "$(grep -o "\"pid\":[0-9]*" "$f" | cut -d: -f2)"; done 2>/dev/null'
while IFS= read -r line; do
	case $line in
	"ok "*) ok "${line#ok }" ;;
	"not ok "*) not_ok "${line#not ok }" ;;
	"skip "*) skip "${line#skip }" "not on this host" ;;
	*) echo "# $line" ;;
	esac
done < <(timeout 200 "$PYTHON" "$SOURCE/tests/oci/shim_test.py" "$T/a" "$T/s" "$ROOT" 2>&1 || echo "not ok the script ran to its end")
t_eq "nothing is left" "$(leftovers)" ""
t_eq "no shim is left" "$(pgrep -f "strata-shim --dir $T")" ""
done_testing
