#!/bin/bash
# The lab: three hosts up without a template, from one, each booted by itself (what a plain QEMU costs); snapshot and restore.
#	bench/lab.sh [HOSTS [ROUNDS]]
# The host image exists (made first where it does not, and not counted); the templates are this run's own.
set -eu
hosts=${1:-3} rounds=${2:-5}
cd "$(dirname "$0")/.."
export PATH=$PWD/lab:$PATH LAB_NAME=bench$$
T=$(mktemp -d)
trap 'lab down 2>/dev/null || true; rm -rf "$T"' EXIT
image=$(lab build --image-only)
old=$(dirname "$(dirname "$image")")
mkdir "$T/cache"
ln -s "$old/images" "$T/cache/images"
cp "$old"/{versions,accel}.json "$T/cache/" 2>/dev/null || true
export LAB_CACHE=$T/cache

now() { date +%s%N; }
timed() { # NAME COMMAND...: adds milliseconds to file NAME
	local began name=$1
	shift
	began=$(now)
	"$@" >"$T/log" 2>&1 || { cat "$T/log" >&2; exit 1; }
	echo $((($(now) - began) / 1000000)) >>"$T/$name"
}
median() { sort -n "$T/$1" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
worst() { sort -n "$T/$1" | tail -n 1; }
row() { printf '%-58s %8d ms %8d ms\n' "$1" "$(median "$2")" "$(worst "$2")"; }

timed first lab up "$hosts"
lab down
for ((i = 0; i < rounds; i++)); do
	timed up lab up "$hosts"
	[ $((i + 1)) -eq "$rounds" ] || lab down
done
timed snapshot lab snapshot clean
for ((i = 0; i < rounds; i++)); do timed restore lab restore clean; done
lab down
timed boot lab up "$hosts" --cold

echo "$hosts hosts of 2 CPUs and 2 GiB, $(jq -r '.answer | if .[0] then "KVM" else "TCG" end' "$T/cache/accel.json"), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-58s %11s %11s\n' '' median worst
row "up, image there, no template (the template is made)" first
row "up from the template" up
row "snapshot" snapshot
row "restore" restore
row "up without templates: each host boots (peer: plain QEMU)" boot
awk -v a="$(median boot)" -v b="$(median up)" 'BEGIN { printf "up from the template is %.1f times as fast as booting\n", a / b }'
