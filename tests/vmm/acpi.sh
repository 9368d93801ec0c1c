#!/bin/bash
# The ACPI tables judged by iasl: each disassembles, the DSDT compiles again without error or warning.
. "$SOURCE/tests/lib.sh"
requires cmd:iasl
t "the tables are written out" "$1" "$T"
for table in DSDT FACP APIC MCFG XSDT; do
	for kind in 0 1; do
		f=$table$kind
		t "$f disassembles" bash -c "cd '$T' && iasl -d $f.dat 2>&1 | tee $f.log; ! grep -iE 'checksum|error|invalid' $f.log && test -s $f.dsl"
		[ $table = XSDT ] || t "$f compiles again, without a warning" bash -c "cd '$T' && iasl -p $f.new $f.dsl 2>&1 | tee $f.log; grep -qE '0 Errors, 0 Warnings|Table Input' $f.log && ! grep -E '^(Error|Warning)' $f.log"
	done
done
done_testing
