#!/bin/sh
# embed.sh PROGRAM OUTPUT.S SYMBOL: an assembler file that holds the program's bytes between SYMBOL and SYMBOL_end.
set -eu
cat >"$2" <<EOF
	.section .rodata
	.balign 64
	.globl $3
$3:
	.incbin "$(realpath "$1")"
	.globl $3_end
$3_end:
	.byte 0
	.section .note.GNU-stack,"",%progbits
EOF
