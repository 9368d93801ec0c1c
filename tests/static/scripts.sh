#!/bin/bash
# Shell scripts parse, Python files compile, nothing is left over from a merge.
. "$SOURCE/tests/lib.sh"
cd "$SOURCE" || exit 1

shells() { git grep -lE '^#!/bin/(ba)?sh' -- . | while read -r f; do bash -n "$f" || exit 1; done; }
pythons() { git grep -lE '^#!/usr/bin/env python3' -- . | xargs -r python3 -c '
import ast, sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as f:
        ast.parse(f.read(), path)'; }
executable() { [ -z "$(git ls-files -s | awk '$1=="100644"{print $4}' | xargs -r grep -lE '^#!/' 2>/dev/null | grep -vE '\.(md|txt|build)$')" ]; }
no_conflict_marks() { ! git grep -nE '^(<<<<<<<|>>>>>>>) ' -- .; }

t "shell scripts parse" shells
t "Python scripts compile" pythons
t "scripts are executable" executable
t "no conflict marks" no_conflict_marks
done_testing
