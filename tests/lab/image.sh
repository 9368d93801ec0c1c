#!/bin/bash
# The host image and its template: made from the archive where the cache has none, found again where it has.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
lab_possible
lab_image
began=$(date +%s)
t "a second build finds both" lab build
t "and makes nothing" sh -c '! grep -E "unpacking|booting" "$1"' - "$T/.out"
folder=$(lab build --image-only 2>/dev/null)
t "kernel, initial RAM disk and disk are there" [ -s "$folder/vmlinuz" -a -s "$folder/initrd" -a -s "$folder/disk.raw" ]
t "the disk is whole" e2fsck -fn "$folder/disk.raw"
for package in $(sed 's/#.*//' "$SOURCE"/packaging/deps-{lab,run}.txt); do
	jq -e --arg p "$package" '.packages | has($p)' "$folder/image.json" >/dev/null || missing="${missing:-} $package"
done
t_eq "every package of the lists is in it" "${missing:-}" ""
t "the template knows its disk" sh -c 'cat "$2"/*/template.json | jq -es --arg f "$1" --arg id "$(jq -r .identity "$1/image.json")" \
	"any(.[]; .image == \$f and .identity == \$id)"' - "$folder" "$(dirname "$(dirname "$folder")")/templates"
echo "# $(($(date +%s) - began)) s after the build"
done_testing
