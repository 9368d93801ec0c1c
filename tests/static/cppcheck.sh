#!/bin/bash
# cppcheck over our sources; results are kept in the build folder, so a second run is quick.
command -v cppcheck >/dev/null || { echo "needs cppcheck"; exit 77; }
mkdir -p "$BUILD/cppcheck"
cd "$SOURCE" || exit 1
exec cppcheck --quiet -j "$(nproc)" --cppcheck-build-dir="$BUILD/cppcheck" --std=c11 --error-exitcode=1 \
	--enable=warning,portability --inline-suppr --suppressions-list=tests/static/cppcheck.txt \
	-D_GNU_SOURCE -D__linux__ -D__x86_64__ -DSTRATA_VERSION='"0"' -I src src
