#!/bin/bash
# Flat, bare ELF and multiboot payloads on the host's own KVM: the life of a VM, its control socket, snapshots and
# clones, and what is refused.
. "$SOURCE/tests/lib.sh"
requires file:/dev/kvm cmd:strata-vmm cmd:as cmd:ld

build() { # name, text address: assembles $T/name.s into a flat $T/name.bin
	as --32 "$T/$1.s" -o "$T/$1.o" && ld -m elf_i386 -e 0 -Ttext "$2" --oformat binary "$T/$1.o" -o "$T/$1.bin"
}
vmm() { timeout 20 strata-vmm run --console none "$@" </dev/null; }
ctl() { timeout 10 strata-vmm ctl "$T/ctl" "$@"; }
status_is() { local want=$1; shift; "$@"; local got=$?; [ $got = "$want" ] || { echo "exit status $got, want $want"; return 1; }; }
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^\",}]*\).*/\1/p"; }
wait_ctl() { for _ in $(seq 100); do [ -S "$T/ctl" ] && ctl status >"$T/status" 2>&1 && return; sleep 0.05; done; return 1; }
start() { vmm --ctl "$T/ctl" "$@" & pid=$!; at_exit "kill $pid 2>/dev/null"; wait_ctl; }

cat >"$T/hello.s" <<'S'
.code16
	mov $0, %ax
	mov %ax, %ds
	mov $msg, %si
1:	lodsb
	test %al, %al
	jz 2f
	mov $0x3f8, %dx
	out %al, %dx
	jmp 1b
2:	mov $0x21, %al
	out %al, $0xf4
3:	hlt
	jmp 3b
msg:	.asciz "hello from a flat guest\n"
S
# Ends the VM the way its command line says: byte to port.
port() { printf '.code16\n mov $%s, %%dx\n mov $%s, %%a%s\n out %%a%s, %%dx\n1: hlt\n jmp 1b\n' "$1" "$2" "$3" "$3" >"$T/$4.s"; build "$4" 0x7c00; }
# Counts at 0x5000 for ever; says nothing.
cat >"$T/count.s" <<'S'
.code16
	xor %ax, %ax
	mov %ax, %ds
1:	incl 0x5000
	jmp 1b
S
# A nonce in RAM (0x5000): the first run writes it there and waits at a port read; whoever runs on puts it out.
cat >"$T/nonce.s" <<'S'
.code16
	xor %ax, %ax
	mov %ax, %ds
	movb $0x2a, 0x5000
	movb $1, 0x5001
1:	cmpb $0, 0x5002
	pause
	mov $0x3f8 + 5, %dx
	in %dx, %al
	test $1, %al
	jz 1b
	mov 0x5000, %al
	out %al, $0xf4
2:	hlt
	jmp 2b
S
t "payloads are assembled" build hello 0x7c00
build count 0x7c00
build nonce 0x7c00

timeout 20 strata-vmm run --kernel "$T/hello.bin" --test-devices --console stdio </dev/null >"$T/out"
t_eq "debug exit gives (value << 1) | 1" $? 67
t_eq "serial output reaches stdout" "$(cat "$T/out")" "hello from a flat guest"
port 0x604 0x3400 x off
t "ACPI S5 ends with 0" status_is 0 vmm --kernel "$T/off.bin"
port 0xcf9 6 l reset
t "reset with --no-reboot ends with 3" status_is 3 vmm --kernel "$T/reset.bin" --no-reboot
port 0x64 0xfe l kbd
t "the keyboard controller resets too" status_is 3 vmm --kernel "$T/kbd.bin" --no-reboot
port 0x505 1 l panic
t "pvpanic ends with 4" status_is 4 vmm --kernel "$T/panic.bin"
port 0xf4 3 l exit
t "8 vCPUs" status_is 7 vmm --kernel "$T/exit.bin" --test-devices --cpus 8
t "memory beyond 4 GiB" status_is 7 vmm --kernel "$T/exit.bin" --test-devices --memory 6G
t "shared memory" status_is 7 vmm --kernel "$T/exit.bin" --test-devices --shared-memory

# bare ELF, 64-bit, entered in long mode
printf '.globl _start\n_start: mov $0x15, %%al\n out %%al, $0xf4\n1: hlt\n jmp 1b\n' >"$T/elf.s"
as --64 "$T/elf.s" -o "$T/elf.o" && ld -m elf_x86_64 -Ttext 0x200000 "$T/elf.o" -o "$T/elf"
t "a bare ELF64 runs" status_is 43 vmm --kernel "$T/elf" --test-devices

# multiboot: magic in eax
cat >"$T/mb.s" <<'S'
.globl _start
	.long 0x1badb002, 0, -0x1badb002
_start:	cmp $0x2badb002, %eax
	jne 1f
	mov $0x10, %al
	out %al, $0xf4
1:	hlt
	jmp 1b
S
as --32 "$T/mb.s" -o "$T/mb.o" && ld -m elf_i386 -Ttext 0x100000 "$T/mb.o" -o "$T/mb"
t "a multiboot payload runs" status_is 33 vmm --kernel "$T/mb" --test-devices

# control socket
t "a VM with a control socket starts" start --kernel "$T/count.bin"
t_eq "status says running" "$(ctl status | field state)" running
t "pause" ctl pause
t_eq "status says paused" "$(ctl status | field state)" paused
t "pause twice is no error" ctl pause
t_fails "a paused vm has no power button" ctl shutdown
t "resume" ctl resume
t "reset" ctl reset
t "stats" ctl stats
t_fails "an unknown verb is refused" ctl fly
t_fails "a second verb is refused" ctl status '{"verb": "kill"}'
t_fails "what is no JSON is refused" ctl snapshot '{"dir": }'
t_fails "a snapshot needs a folder" ctl snapshot
t_fails "live migration is refused" ctl migrate '{"to": "x"}'
t "kill" ctl kill
wait $pid
t_eq "a killed vm ends with 0" $? 0
t "the socket is gone" test ! -e "$T/ctl"

# snapshot, restore, clones, reset in place
t "the nonce guest starts" start --kernel "$T/nonce.bin" --memory 64M --console "socket:$T/con"
sleep 0.3
t "snapshot of a running vm" ctl snapshot "{\"dir\": \"$T/snap\"}"
t_eq "the vm runs on" "$(ctl status | field state)" running
t_fails "a second snapshot there is refused" ctl snapshot "{\"dir\": \"$T/snap\"}"
ctl kill >/dev/null
wait $pid
t "the memory file is sparse" test "$(du -k "$T/snap/memory" | cut -f1)" -lt 1024
poke() { # the restored guest waits for a byte on its serial port, then puts out the nonce
	(sleep 0.5; echo x; sleep 2) | timeout 20 strata-vmm run --restore "$1" --console stdio >/dev/null
}
t "the nonce guest starts with test devices" start --kernel "$T/nonce.bin" --memory 64M --test-devices
sleep 0.3
t "snapshot" ctl snapshot "{\"dir\": \"$T/snap2\"}"
ctl kill >/dev/null
wait $pid
poke "$T/snap2"
t_eq "a restored vm has the saved memory" $? $((0x2a * 2 + 1))
for i in 1 2 3 4; do (poke "$T/snap2"; echo $? >"$T/clone$i") & done
wait
t_eq "four clones of one snapshot at once" "$(cat "$T"/clone? | tr '\n' ' ')" "85 85 85 85 "
t "a restored vm starts" start --restore "$T/snap2"
t "reset in place to the snapshot" ctl reset '{"to": "snapshot"}'
t_eq "it runs" "$(ctl status | field state)" running
ctl kill >/dev/null
wait $pid

# refused snapshots
damage() { rm -rf "$T/bad"; cp -r "$T/snap2" "$T/bad"; }
damage; printf 'X' | dd of="$T/bad/state" bs=1 seek=200 conv=notrunc 2>/dev/null
t_fails "an altered state is refused" vmm --restore "$T/bad"
damage; truncate -s 1000 "$T/bad/state"
t_fails "a state cut short is refused" vmm --restore "$T/bad"
damage; truncate -s 1M "$T/bad/memory"
t_fails "memory cut short is refused" vmm --restore "$T/bad"
damage; printf 'X' | dd of="$T/bad/memory" bs=1 seek=20480 conv=notrunc 2>/dev/null
vmm --restore "$T/bad" 2>"$T/o"
t_eq "altered memory is refused" $? 1
t "  and the reason is said" grep -q checksum "$T/o"
damage; rm "$T/bad/machine"
t_fails "a snapshot that was not finished is refused" vmm --restore "$T/bad"
damage
t "a copied snapshot is fine" start --restore "$T/bad"
ctl kill >/dev/null
wait $pid

# usage and missing things: one line each, nothing left
one_line() { # a single line on stderr (of ours), status 1 or 2
	"$@" >"$T/o" 2>&1
	local r=$?
	cat "$T/o"
	{ [ $r = 1 ] || [ $r = 2 ]; } && [ "$(grep -vc '^timeout: warning' "$T/o")" = 1 ]
}
t "no such kernel" one_line vmm --kernel /nonexistent
t "an empty kernel" one_line vmm --kernel /dev/null
t "no kernel at all" one_line vmm
t "two ways to boot" one_line vmm --kernel "$T/exit.bin" --firmware x
t "memory that is not whole" one_line vmm --kernel "$T/exit.bin" --memory 1500K
t "256 cpus" one_line vmm --kernel "$T/exit.bin" --cpus 256
t "an unknown option" one_line vmm --kernel "$T/exit.bin" --memroy 1G
t "live migration is not offered" one_line vmm --kernel "$T/exit.bin" --incoming fd:3
head -c 700000 /dev/urandom >"$T/junk"
t "a file that is no image" one_line vmm --kernel "$T/junk"
t "too little memory for the payload" one_line vmm --kernel "$T/elf" --memory 1M
done_testing
