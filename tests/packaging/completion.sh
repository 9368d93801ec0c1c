#!/bin/bash
# Completion in real shells, against a daemon: commands, flags, values and live names.
. "$SOURCE/tests/lib.sh"
requires root cmd:bash cmd:zsh

setsid stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" 2>"$T/log" </dev/null &
pid=$!
at_exit "kill $pid 2>/dev/null; wait $pid 2>/dev/null"
export STRATA_SERVER=unix:$T/r/strata.sock
for _ in $(seq 200); do strata version >/dev/null 2>&1 && break; sleep 0.05; done
strata project create blue-team >/dev/null

in_bash() { # LINE: what bash offers at its end
	timeout 20 bash --norc --noprofile -c '
		[ -r /usr/share/bash-completion/bash_completion ] && . /usr/share/bash-completion/bash_completion
		. "$1"
		COMP_LINE=$2 COMP_POINT=${#2}
		read -ra COMP_WORDS <<<"$2"
		[ "${2: -1}" != " " ] || COMP_WORDS+=("")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		_strata
		printf "%s\n" "${COMPREPLY[@]}"' - "$SOURCE/packaging/completions/strata.bash" "$1"
}
t_eq "bash: a command" "$(in_bash 'strata proj')" project
t_eq "bash: a subcommand" "$(in_bash 'strata project cr')" create
t_eq "bash: a flag" "$(in_bash 'strata project create x --mem')" --memory
t_eq "bash: a value" "$(in_bash 'strata task ls --state ca')" cancelled
t_eq "bash: a live name" "$(in_bash 'strata project show blue')" blue-team
t_eq "bash: the name after others" "$(in_bash 'strata project rm default blue')" blue-team
t_eq "bash: nothing after the last operand" "$(in_bash 'strata project create x y')" ""
t_eq "bash: files" "$(cd "$T" && touch some-token && in_bash 'strata --token-file some-')" some-token

in_zsh() { # a terminal is needed: zsh completes in its line editor only
	timeout 30 python3 - "$SOURCE/packaging/completions" "$1" "$2" <<'PY'
import os, pty, re, select, sys, time
folder, line, want = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(TERM='dumb', PS1='', ZDOTDIR='/nonexistent')
    os.execvp('zsh', ['zsh', '-f', '-i'])
seen = b''
def until(text, seconds=20):
    global seen
    end = time.monotonic() + seconds
    while text not in seen:
        if time.monotonic() > end or not select.select([fd], [], [], 0.2)[0] and time.monotonic() > end:
            return False
        try:
            seen += os.read(fd, 4096) if select.select([fd], [], [], 0.2)[0] else b''
        except OSError:
            return False
    return True
os.write(fd, b"unsetopt zle_bracketed_paste 2>/dev/null; PS1=; fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D; print R''EADY\n" % folder.encode())
ok = until(b'READY')
seen = b''
os.write(fd, line.encode() + b'\t')
ok = ok and until(want.encode())
os.write(fd, b'\x03')
os.close(fd)
os.kill(pid, 9)
os.waitpid(pid, 0)
if not ok:
    print(repr(seen))
sys.exit(not ok)
PY
}
t "zsh: a command" in_zsh 'strata proj' 'strata project'
t "zsh: a live name" in_zsh 'strata project show blue' 'blue-team'
t "zsh: a value" in_zsh 'strata task ls --state ca' 'cancelled'
done_testing
