#!/bin/bash
# Man pages: mandoc and man have nothing to say about them, every program and command has one, none tells of what is not there.
. "$SOURCE/tests/lib.sh"
requires cmd:mandoc cmd:man

pages=("$BUILD"/docs/man/man*/* "$BUILD"/docs/man/*.[158])
lint() {
	mandoc -T lint -W warning "$@" || return 1
	for page; do
		[ -z "$(man --warnings -E UTF-8 -l -Tutf8 "$page" 2>&1 >/dev/null)" ] || { man --warnings -E UTF-8 -l -Tutf8 "$page" 2>&1 >/dev/null | head; return 1; }
	done
}
t "mandoc and man accept every page" lint "${pages[@]}"
"$SOURCE/tools/schemac" --planned --man "$T/planned" "$SOURCE/schema"
t "and those of all that is designed (mandoc)" mandoc -T lint -W warning "$T"/planned/man*/*
for page in strata.1 stratad.8 stratad.yaml.5 strata-vmm.1 strata-oci.8 strata-disk.1 strata-image.1 strata-net.1; do
	t "$page is there" sh -c "ls '$BUILD/docs/man/$page' '$BUILD/docs/man/man${page##*.}/$page' 2>/dev/null | grep -q ."
done
every_command() {
	local c
	strata --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' >"$T/commands"
	[ -s "$T/commands" ] || return 1
	while read -r c; do
		ls "$BUILD"/docs/man/man1/strata-"$c"{,-command}.1 >/dev/null 2>&1 || ls "$BUILD"/docs/man/man1/strata-"$c"*.1 >/dev/null 2>&1 ||
			{ echo "$c has no page"; return 1; }
	done <"$T/commands"
}
t "every command of strata has a page" every_command
t_eq "and no other" "$(ls "$BUILD"/docs/man/man1 | sed -n 's/^strata-\(.*\)\.1$/\1/p' | sed 's/-command//' | sort | tr '\n' ' ')" "$(sort "$T/commands" | tr '\n' ' ')"
options_of() { # PROGRAM PAGE: every option of --help is in the page
	"$1" --help 2>&1 | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE '\--[a-z-]+' | sort -u | while read -r o; do
		man -E ascii -l "$BUILD/docs/man/$2" 2>/dev/null | grep -qe "$o" || { echo "$2 lacks $o"; exit 1; }
	done
}
t "stratad(8) has every option" options_of stratad stratad.8
t "strata-vmm(1) has every option" options_of strata-vmm strata-vmm.1
t "strata-oci(8) has every option" options_of strata-oci strata-oci.8
done_testing
