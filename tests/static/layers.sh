#!/bin/bash
# tools/check-layers finds what it is there to find.
. "$SOURCE/tests/lib.sh"
check=$SOURCE/tools/check-layers
tree() { # tree ROOM/FILE 'include line'...
	rm -rf "$T/src"
	mkdir -p "$T/src/base" "$T/src/net" "$T/src/node"
	printf 'base:\nnet: base!\nnode: base! net\n' >"$T/src/LAYERS"
	while [ $# -gt 0 ]; do printf '%s\n' "$2" >"$T/src/$1"; shift 2; done
}

tree net/a.c '#include "base/err.h"' node/b.c '#include "net/net.h"'
t "allowed includes pass" "$check" "$T/src"
tree base/a.c '#include "net/net.h"'
t_fails "an include upwards is found" "$check" "$T/src"
tree node/b.c '#include "net/port.h"'
t_fails "a private header of another room is found" "$check" "$T/src"
tree node/b.c '#include "port.h"'
t_fails "an include without a room is found" "$check" "$T/src"
tree node/b.c '#include "net/../base/err.h"'
t_fails "a way around is found" "$check" "$T/src"
tree net/b.c '#include "vmm/x.h"'
t_fails "an unknown room is found" "$check" "$T/src"
tree net/b.c '  #  include "node/x.h"'
t_fails "blanks do not hide an include" "$check" "$T/src"
t_eq "the message names file, line and rule" "$("$check" "$T/src" | sed "s|$T/||")" \
	'src/net/b.c:1: #include "node/x.h": net may not include node'
done_testing
