#!/bin/bash
# The Debian package holds the programs, man pages, completions, units and configuration, and nothing else.
. "$SOURCE/tests/lib.sh"
requires cmd:dpkg-deb cmd:dpkg-shlibdeps

t "the package builds" "$SOURCE/packaging/build-deb" "$T" || { done_testing; exit; }
deb=$(ls "$T"/strata_*.deb)
nothing_else() {
	! dpkg-deb -c "$deb" | awk '$1 !~ /^d/ {print $6}' | grep -vE '^\./(usr/(bin|sbin)/strata[a-z-]*|usr/libexec/strata/|usr/share/(man/man[158]/strata|bash-completion/completions/strata|zsh/vendor-completions/_strata|doc/strata/|strata/)|(usr/)?lib/systemd/system/strata|(usr/)?lib/(sysusers|tmpfiles|modules-load)\.d/strata|(usr/)?lib/systemd/network/[0-9]+-strata|etc/strata/|etc/apparmor\.d/)'
}
no_build_paths() {
	dpkg-deb -x "$deb" "$T/x" && ! grep -rlF "$BUILD" "$T/x"
}
programs_start() {
	local p
	for p in "$T"/x/usr/bin/*; do
		[ -x "$p" ] || continue
		"$p" --help >/dev/null || { echo "$p --help: $?"; return 1; }
	done
}
root_owned() { ! dpkg-deb -c "$deb" | awk '{print $2}' | grep -v '^root/root$'; }
t "it installs where it should and nothing else" nothing_else
t "no path of the build machine is inside" no_build_paths
t "every program answers --help" programs_start
t "all files belong to root" root_owned
t "man pages, completions and the unit are in it" sh -c "dpkg-deb -c '$deb' | awk '{print \$6}' >'$T/list' &&
	grep -q 'man/man1/strata.1' '$T/list' && grep -q 'man/man5/stratad.yaml.5' '$T/list' && grep -q 'man/man8/stratad.8' '$T/list' &&
	grep -q 'bash-completion/completions/strata' '$T/list' && grep -q 'vendor-completions/_strata' '$T/list' && grep -q 'system/stratad.service' '$T/list'"
t "it names its libraries" sh -c "dpkg-deb -f '$deb' Depends | grep -q libc6"
done_testing
