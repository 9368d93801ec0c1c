/* strata-seccomp: linux.seccomp on standard input, a BPF program on standard output.
 *
 * A process of its own because libseccomp is large and this is needed once a profile (seccomp_profile.h).  Strict where
 * the profile is wrong, lenient where this machine is older than the profile: an unknown system call is skipped, as the
 * runtimes that profiles are written for do.                                   Spec: runtime-spec 1.1 config-linux.md "Seccomp" */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "container/jdoc.h"

static const struct {
	const char *name;
	uint32_t arch;
} arches[] = {
	{ "SCMP_ARCH_NATIVE", SCMP_ARCH_NATIVE },
	{ "SCMP_ARCH_X86", SCMP_ARCH_X86 },
	{ "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64 },
	{ "SCMP_ARCH_X32", SCMP_ARCH_X32 },
	{ "SCMP_ARCH_ARM", SCMP_ARCH_ARM },
	{ "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64 },
	{ "SCMP_ARCH_MIPS", SCMP_ARCH_MIPS },
	{ "SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64 },
	{ "SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32 },
	{ "SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL },
	{ "SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64 },
	{ "SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32 },
	{ "SCMP_ARCH_PPC", SCMP_ARCH_PPC },
	{ "SCMP_ARCH_PPC64", SCMP_ARCH_PPC64 },
	{ "SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE },
	{ "SCMP_ARCH_S390", SCMP_ARCH_S390 },
	{ "SCMP_ARCH_S390X", SCMP_ARCH_S390X },
	{ "SCMP_ARCH_PARISC", SCMP_ARCH_PARISC },
	{ "SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64 },
	{ "SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64 },
};

static const struct {
	const char *name;
	enum scmp_compare op;
} ops[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE },
	{ "SCMP_CMP_LT", SCMP_CMP_LT },
	{ "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ },
	{ "SCMP_CMP_GE", SCMP_CMP_GE },
	{ "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

static uint32_t action(struct jr *r, const struct jval *o, const char *key, const char *errno_key)
{
	const char *name = "";
	uint32_t num = EPERM;
	bool has = jr_u32(r, o, errno_key, &num);

	if (num > 0xffff)
		jr_fail(r, o, errno_key, "is above 65535");
	if (!jr_str(r, o, key, &name))
		jr_fail(r, o, key, "is missing");
	if (streq(name, "SCMP_ACT_ERRNO"))
		return SCMP_ACT_ERRNO(num);
	if (streq(name, "SCMP_ACT_TRACE"))
		return SCMP_ACT_TRACE(num);
	if (has)
		jr_fail(r, o, errno_key, "is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE");
	if (streq(name, "SCMP_ACT_ALLOW"))
		return SCMP_ACT_ALLOW;
	if (streq(name, "SCMP_ACT_KILL") || streq(name, "SCMP_ACT_KILL_THREAD"))
		return SCMP_ACT_KILL_THREAD;
	if (streq(name, "SCMP_ACT_KILL_PROCESS"))
		return SCMP_ACT_KILL_PROCESS;
	if (streq(name, "SCMP_ACT_TRAP"))
		return SCMP_ACT_TRAP;
	if (streq(name, "SCMP_ACT_LOG"))
		return SCMP_ACT_LOG;
	if (streq(name, "SCMP_ACT_NOTIFY"))
		return SCMP_ACT_NOTIFY;
	jr_fail(r, o, key, "'%s' is not a seccomp action", name);
	return 0;
}

static void read_arg(struct jr *r, const struct jval *o, struct scmp_arg_cmp *ret)
{
	uint32_t index = 0;
	uint64_t value = 0, value2 = 0;
	const char *op = "";
	size_t i;

	jr_u32(r, o, "index", &index);
	jr_u64(r, o, "value", &value);
	jr_u64(r, o, "valueTwo", &value2);
	jr_str(r, o, "op", &op);
	if (index > 5)
		jr_fail(r, o, "index", "is above 5");
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (streq(op, ops[i].name))
			break;
	if (i == ARRAY_SIZE(ops)) {
		jr_fail(r, o, "op", "'%s' is not a comparison", op);
		return;
	}
	/* For a masked comparison datum_a is the mask and datum_b the value. */
	*ret = (struct scmp_arg_cmp){
		.arg = index, .op = ops[i].op, .datum_a = value, .datum_b = value2
	};
}

static void add_rule(struct jr *r, scmp_filter_ctx ctx, const struct jval *rule, uint32_t act,
		     const char *name, int *skipped)
{
	struct jval *args = jr_arr(r, rule, "args");
	struct scmp_arg_cmp cmp[6];
	unsigned int n = 0, seen = 0, twice = 0, i;
	int nr = seccomp_syscall_resolve_name(name), q = 0;

	if (nr == __NR_SCMP_ERROR) {
		(*skipped)++;
		return;
	}
	if (args && args->n > ARRAY_SIZE(cmp)) {
		jr_fail(r, args, NULL, "more than 6 comparisons");
		return;
	}
	jfor(item, args)
	{
		read_arg(r, item, &cmp[n]);
		if (r->r < 0)
			return;
		twice |= seen & 1U << cmp[n].arg;
		seen |= 1U << cmp[n].arg;
		n++;
	}
	if (twice) {
		/* libseccomp compares each argument once a rule; profiles with several mean alternatives. */
		for (i = 0; i < n && q == 0; i++)
			q = seccomp_rule_add_array(ctx, act, nr, 1, &cmp[i]);
	} else {
		q = seccomp_rule_add_array(ctx, act, nr, n, cmp);
	}
	if (q == -EEXIST)
		q = 0;
	if (q < 0)
		jr_fail(r, rule, NULL, "rule for '%s': %s", name, strerror(-q));
}

static int build(struct jr *r, const struct jval *o, scmp_filter_ctx *ret)
{
	uint32_t def = action(r, o, "defaultAction", "defaultErrnoRet");
	scmp_filter_ctx ctx;
	char **names = NULL;
	int skipped = 0;
	size_t i, k;

	if (r->r < 0)
		return r->r;
	ctx = *ret = seccomp_init(def);
	if (!ctx)
		return jr_fail(r, o, "defaultAction", "libseccomp refuses it");
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	/* A binary tree over the numbers: the kernel walks the program once for each system call at installation. */
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	jr_strv(r, o, "architectures", &names, NULL);
	for (i = 0; names && names[i]; i++) {
		int q;

		for (k = 0; k < ARRAY_SIZE(arches); k++)
			if (streq(names[i], arches[k].name))
				break;
		if (k == ARRAY_SIZE(arches))
			return jr_fail(r, o, "architectures", "'%s' is not an architecture",
				       names[i]);
		q = seccomp_arch_add(ctx, arches[k].arch);
		if (q < 0 && q != -EEXIST &&
		    q != -EDOM) /* EDOM: the other byte order, no program of it runs here */
			return jr_fail(r, o, "architectures", "'%s': %s", names[i], strerror(-q));
	}
	jfor(rule, jr_arr(r, o, "syscalls"))
	{
		uint32_t act = action(r, rule, "action", "errnoRet");

		names = NULL;
		jr_strv(r, rule, "names", &names, NULL);
		if (r->r == 0 && (!names || !names[0]))
			jr_fail(r, rule, "names", "is missing or empty");
		/* What the default does anyway needs no instruction. */
		for (i = 0; r->r == 0 && act != def && names && names[i]; i++)
			add_rule(r, ctx, rule, act, names[i], &skipped);
		if (r->r < 0)
			return r->r;
	}
	return r->r;
}

/* -- system calls that the profile's author cannot have known -- */

struct insn {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};
#define X32_BIT	   0x40000000U
#define ENOSYS_RET (SECCOMP_RET_ERRNO | ENOSYS)

/* The highest number that the profile names on this architecture; -1: none. */
static int64_t highest(const struct jval *o, uint32_t arch)
{
	int64_t max = -1;

	jfor(rule, jget(o, "syscalls")) jfor(name, jget(rule, "names"))
	{
		int nr = name->kind == J_STRING
				 ? seccomp_syscall_resolve_name_arch(arch, name->text)
				 : -1;

		max = MAX(max, (int64_t)nr);
	}
	return max;
}

/* A program in front of libseccomp's: a number above all that the profile names gets ENOSYS, whatever its default is.  Programs
 * (C libraries first of all) try a new call and fall back on ENOSYS; with EPERM they fail.  As runc does, unless the default
 * lets calls through or is ENOSYS by itself. */
static size_t enosys_stub(const struct jval *o, scmp_filter_ctx ctx, struct insn *out, size_t room)
{
	size_t n = 0, i;
	int64_t x32 = seccomp_arch_exist(ctx, SCMP_ARCH_X32) == 0 ? highest(o, SCMP_ARCH_X32) : -1;

	out[n++] = (struct insn){ BPF_LD | BPF_W | BPF_ABS, 0, 0, 4 };
	for (i = 0; i < ARRAY_SIZE(arches); i++) {
		uint32_t arch = arches[i].arch;
		int64_t max;
		bool x86_64 = arch == SCMP_ARCH_X86_64;
		size_t at;

		if (arch == SCMP_ARCH_NATIVE || arch == SCMP_ARCH_X32 ||
		    seccomp_arch_exist(ctx, arch) < 0 || n + 12 > room)
			continue;
		max = highest(o, arch);
		if (max < 0)
			continue;
		at = n;
		out[n++] = (struct insn){ BPF_JMP | BPF_JEQ | BPF_K, 0, 0, arch };
		out[n++] = (struct insn){ BPF_LD | BPF_W | BPF_ABS, 0, 0, 0 };
		if (x86_64)
			out[n++] = (struct insn){ BPF_JMP | BPF_JGE | BPF_K, 3, 0, X32_BIT };
		out[n++] = (struct insn){ BPF_JMP | BPF_JGT | BPF_K, 0, 1, (uint32_t)max };
		out[n++] = (struct insn){ BPF_RET | BPF_K, 0, 0, ENOSYS_RET };
		out[n++] = (struct insn){ BPF_JMP | BPF_JA, 0, 0, 0 };
		if (x86_64 && x32 >= 0) {
			out[n++] = (struct insn){ BPF_JMP | BPF_JGT | BPF_K, 0, 1,
						  (uint32_t)x32 | X32_BIT };
			out[n++] = (struct insn){ BPF_RET | BPF_K, 0, 0, ENOSYS_RET };
		}
		if (x86_64)
			out[n++] = (struct insn){ BPF_JMP | BPF_JA, 0, 0, 0 };
		out[at].jf = (uint8_t)(n - at - 1);
	}
	for (i = 0; i < n; i++)
		if (out[i].code == (BPF_JMP | BPF_JA))
			out[i].k = (uint32_t)(n - i - 1);
	return n;
}

static int print_program(const struct jval *o, scmp_filter_ctx ctx, struct err **e)
{
	_cleanup_(closep) int fd = memfd_create("program", MFD_CLOEXEC);
	_cleanup_(buf_done) struct buf b = { 0 };
	const struct jval *def = jget(o, "defaultAction"), *ret = jget(o, "defaultErrnoRet");
	struct insn stub[256];
	uint64_t v = 0;
	int r;

	if (fd < 0)
		return err_sys(e, errno, "memory file");
	if (!streq(def->text, "SCMP_ACT_ALLOW") && !streq(def->text, "SCMP_ACT_LOG") &&
	    !streq(def->text, "SCMP_ACT_TRACE") && !(ret && jval_u64(ret, &v) && v == ENOSYS))
		buf_add(&b, stub, enosys_stub(o, ctx, stub, ARRAY_SIZE(stub)) * sizeof(stub[0]));
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return err_sys(e, -r, "export the program");
	lseek(fd, 0, SEEK_SET);
	r = fd_read_all(fd, 1 << 20, &b, e);
	return r < 0 ? r : write_all(1, b.s, b.len);
}

int main(void)
{
	struct arena a = { 0 };
	struct buf text = { 0 };
	struct err *e = NULL;
	struct jr r = { .a = &a, .e = &e };
	struct jval *o = NULL;
	scmp_filter_ctx ctx = NULL;
	int q = fd_read_all(0, JDOC_TEXT_MAX, &text, &e);

	if (q == 0)
		q = jdoc_parse(&a, buf_str(&text), text.len, &o, &e);
	if (q == 0)
		q = build(&r, o, &ctx);
	if (q == 0)
		q = print_program(o, ctx, &e);
	if (q < 0)
		fprintf(stderr, "%s", err_msg(e));
	if (ctx)
		seccomp_release(ctx);
	buf_done(&text);
	arena_done(&a);
	err_free(e);
	return q < 0;
}
