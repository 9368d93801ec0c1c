#!/bin/bash
# run.sh PROGRAM SECONDS FINDS SEEDS: fuzz for a while; quiet, but for a crash, whose input stays in FINDS.
# `make check` asks the same questions each time (seed 1) and is no lottery; with STRATA_LONG=1 they are new ones, for ten times
# as long.  FUZZ_SECONDS overrides.
seconds=$2 seed=1
[ -z "${STRATA_LONG:-}" ] || { seconds=$((seconds * 10)); seed=0; }
mkdir -p "$3"
seeds=()
[ -d "$4" ] && seeds=("$4")
out=$("$1" -seed=$seed -max_total_time="${FUZZ_SECONDS:-$seconds}" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -artifact_prefix="$3/crash-" \
	-print_final_stats=0 -error_exitcode=99 -verbosity=0 "$3" "${seeds[@]}" 2>&1) && exit 0
status=$?
echo "$out" | grep -vE '^(INFO|#[0-9]+)' | tail -n 60
exit $status
