#!/bin/bash
# What users and programs rely on does not change unseen: help texts, error ids, routes.  `tests/schema/golden.sh --update`
# writes the files anew ($BUILD: the build folder); look at the difference before you commit it.
SOURCE=${SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
BUILD=${BUILD:-$SOURCE/build}
golden=$SOURCE/tests/golden/schema
show=$BUILD/tests/schema/schema-show
if [ "${1:-}" = --update ]; then
	for what in help errors routes; do "$show" $what >"$golden/$what.txt"; done
	exit
fi
. "$SOURCE/tests/lib.sh"
for what in help errors routes; do
	"$show" $what >"$T/$what.txt"
	t "$what as in tests/golden/schema/$what.txt" diff -u "$golden/$what.txt" "$T/$what.txt"
done
done_testing
