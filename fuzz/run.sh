#!/bin/bash
# run.sh PROGRAM SECONDS FINDS SEEDS: fuzz for a while; quiet, but for a crash, whose input stays in FINDS.
mkdir -p "$3"
seeds=()
[ -d "$4" ] && seeds=("$4")
out=$("$1" -max_total_time="${FUZZ_SECONDS:-$2}" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -artifact_prefix="$3/crash-" \
	-print_final_stats=0 -error_exitcode=99 -verbosity=0 "$3" "${seeds[@]}" 2>&1) && exit 0
status=$?
echo "$out" | grep -vE '^(INFO|#[0-9]+)' | tail -n 60
exit $status
