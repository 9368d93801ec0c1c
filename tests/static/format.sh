#!/bin/bash
# Every C file has the form that .clang-format gives it; `make format` mends.
cd "$SOURCE" || exit 1
command -v clang-format >/dev/null || { echo "needs clang-format"; exit 77; }
bad=$(git ls-files '*.c' '*.h' | xargs -r clang-format --dry-run --Werror 2>&1 | sed -n 's/: error: code should.*//p' | sort -u)
[ -z "$bad" ] || { echo "not formatted (run 'make format'):"; echo "$bad" | head -20; exit 1; }
