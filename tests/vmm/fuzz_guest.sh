#!/bin/bash
# A hostile guest: random port, config space, BAR, IOAPIC, MSI-X and fw_cfg accesses from a multiboot payload, against a VM with
# virtio devices, every system call filter set to kill.  Each round has a seed; the guest ends by the debug exit port, so
# any other end is a finding.  The same seeds each time, for 10 s; with STRATA_LONG=1 new ones for a minute.  FUZZ_SECONDS and
# FUZZ_SEED override.
. "$SOURCE/tests/lib.sh"
requires file:/dev/kvm cmd:strata-vmm cmd:as cmd:ld

payload() { # seed -> $T/fuzz
	cat >"$T/fuzz.s" <<S
	.set SEED, $1
S
	cat >>"$T/fuzz.s" <<'S'
	.globl _start
	.long 0x1badb002, 0, -0x1badb002
_start:	mov $stack, %esp
	mov $SEED, %ebp                 # ebp: the generator's state, never 0
	mov $0x200000, %edi             # noise where rings may be put
	mov $0x10000, %ecx
1:	call rand
	stosl
	loop 1b
	mov $ROUNDS, %esi
main:	test $63, %esi
	jnz 2f
	call enable
2:	call rand
	test $3, %al
	jz ports
	test $4, %al
	jz config
	test $8, %al
	jz bars
	test $0x70, %al
	jz ioapic
	jmp bars
next:	dec %esi
	jnz main
	mov $0x10, %al
	out %al, $0xf4
9:	hlt
	jmp 9b

rand:	mov %ebp, %eax                  # xorshift32
	shl $13, %eax
	xor %eax, %ebp
	mov %ebp, %eax
	shr $17, %eax
	xor %eax, %ebp
	mov %ebp, %eax
	shl $5, %eax
	xor %eax, %ebp
	mov %ebp, %eax
	ret

enable:	mov $0xb0008004, %ebx           # memory, I/O and bus mastering on for slots 1 to 7
	mov $7, %ecx
1:	movl $7, (%ebx)
	add $0x8000, %ebx
	loop 1b
	ret

ports:	call rand
	movzwl %ax, %edx
	test $0x10000, %eax
	jz 3f
	mov %edx, %ecx                  # half of them near a device
	and $15, %ecx
	movzwl table(,%ecx,2), %ecx
	shr $4, %edx
	and $15, %edx
	add %ecx, %edx
3:	cmp $0xf0, %edx                 # the ports that end or reset the VM on purpose
	jb 4f
	cmp $0xf8, %edx
	jb next
4:	cmp $0x5c, %edx
	jb 5f
	cmp $0x68, %edx
	jb next
5:	cmp $0x500, %edx
	jb 6f
	cmp $0x50c, %edx
	jb next
	cmp $0x5fc, %edx
	jb 6f
	cmp $0x608, %edx
	jb next
6:	cmp $0xcf5, %edx
	jb 7f
	cmp $0xcfa, %edx
	jb next
7:	call rand
	mov %eax, %ecx
	test $0x100, %ecx
	jnz 8f
	test $0x200, %ecx
	jnz 1f
	out %al, %dx
	jmp next
1:	test $0x400, %ecx
	jnz 2f
	out %ax, %dx
	jmp next
2:	out %eax, %dx
	jmp next
8:	test $0x200, %ecx
	jnz 1f
	in %dx, %al
	jmp next
1:	in %dx, %eax
	jmp next

config:	call rand
	mov %eax, %ebx
	and $0x3ffff, %ebx              # slots 0 to 7
	test $0x40000000, %eax
	jz 1f
	and $0x380ff, %ebx              # the header and the capabilities mostly
1:	add $0xb0000000, %ebx
	jmp access
bars:	call rand
	mov %eax, %ebx
	and $0x3ffff, %ebx
	add $0xc0000000, %ebx
	jmp access
ioapic:	call rand
	mov %eax, %ebx
	and $0xff, %ebx
	add $0xfec00000, %ebx
access:	call rand
	mov %eax, %ecx
	call rand
	test $0x1000, %ecx
	jnz 3f
	test $0x2000, %ecx
	jz 1f
	and $0x3fffff, %eax             # small values and addresses in RAM find more than noise does
1:	test $0x4000, %ecx
	jz 2f
	and $~3, %ebx
	mov %eax, (%ebx)
	jmp next
2:	test $0x8000, %ecx
	jz 2f
	and $~1, %ebx
	mov %ax, (%ebx)
	jmp next
2:	mov %al, (%ebx)
	jmp next
3:	test $0x2000, %ecx
	jz 1f
	mov (%ebx), %al
	jmp next
1:	and $~3, %ebx
	mov (%ebx), %eax
	jmp next
table:	.word 0x20, 0x40, 0x70, 0x3f8, 0x510, 0x608, 0x620, 0xcfc, 0xc000, 0xc100, 0xa0, 0x80, 0x3f8, 0x510, 0x514, 0xcfc
	.bss
	.space 4096
stack:
S
	as --32 --defsym ROUNDS=20000 "$T/fuzz.s" -o "$T/fuzz.o" && ld -m elf_i386 -Ttext 0x100000 "$T/fuzz.o" -o "$T/fuzz"
}

truncate -s 4M "$T/disk"
seconds=10 seed=1
[ -z "${STRATA_LONG:-}" ] || { seconds=60; seed=$((RANDOM * 32768 + RANDOM + 1)); }
end=$((SECONDS + ${FUZZ_SECONDS:-$seconds}))
seed=${FUZZ_SEED:-$seed}
rounds=0 bad=""
while [ $SECONDS -lt $end ] && [ -z "$bad" ]; do
	payload $seed || { bad="the payload is not assembled"; break; }
	timeout 60 strata-vmm run --kernel "$T/fuzz" --test-devices --no-reboot --console none --memory 64M --seccomp kill \
		--disk "path=$T/disk,format=raw" --rng --port "name=p0,socket=$T/port" </dev/null >"$T/log" 2>&1
	got=$?
	[ $got = 33 ] || bad="seed $seed: exit status $got"
	rounds=$((rounds + 1)) seed=$((seed + 1))
done
[ -z "$bad" ] || { echo "$bad"; tail -5 "$T/log"; } | diag
t_eq "every guest ran to its end ($rounds rounds of 20000 accesses)" "$bad" ""
done_testing
