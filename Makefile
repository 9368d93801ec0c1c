# Thin front of meson.  The two commands that matter: `make up` and `make check`.
PREFIX ?= /usr
DESTDIR ?=
SUITE ?=
MESON_SETUP = meson setup --prefix=$(PREFIX)

.PHONY: all deps check check-fast asan install deb up down clean format

all: build/build.ninja
	@ninja -C build --quiet

build/build.ninja:
	@packaging/install-deps build
	@$(MESON_SETUP) build >/dev/null

build-asan/build.ninja:
	@packaging/install-deps build check
	@CC=clang $(MESON_SETUP) build-asan -Db_sanitize=address,undefined -Db_lundef=false -Dfuzz=true >/dev/null

# An AddressSanitizer and UndefinedBehaviorSanitizer build by clang, with the fuzz targets.
asan: build-asan/build.ninja
	@ninja -C build-asan --quiet

# Everything, or one suite with SUITE=name; the last line counts.
check:
	@packaging/install-deps build run check disk
	@tools/check $(if $(SUITE),--suite $(SUITE))

check-fast:
	@packaging/install-deps build run check disk
	@tools/check --fast

install: all
	@DESTDIR=$(DESTDIR) meson install -C build --no-rebuild --quiet

# A Debian package in build/.
deb: all
	@packaging/install-deps build
	@packaging/build-deb build

# Everything a new user needs, and a demonstration; `make down` stops it.
up:
	@tools/up

down:
	@tools/down

clean:
	rm -rf build build-asan

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
