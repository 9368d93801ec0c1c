/* See snapshot.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/crc.h"
#include "base/fault.h"
#include "base/save.h"
#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/cpu.h"
#include "vmm/arch/x86/state.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/machine.h"
#include "vmm/snapshot.h"
#include "vmm/vcpu.h"

#define ARCH	  "x86_64"
#define STATE_MAX (64U * 1024 * 1024)
#define STR_MAX	  65536

/* -- machine -- */

struct saved_machine {
	struct snapshot_machine m;
	struct save_blob kernel, initrd, append, firmware;
};

static const struct save_field machine_fields[] = {
	SAVE(struct saved_machine, m.n_cpus, U32, 1),
	SAVE(struct saved_machine, m.memory, U64, 1),
	SAVE(struct saved_machine, m.boot_kind, U32, 1),
	SAVE(struct saved_machine, m.rom_size, U64, 1),
	SAVE(struct saved_machine, m.test_devices, BOOL, 1),
	SAVE(struct saved_machine, m.memory_crc, U32, 1),
	SAVE(struct saved_machine, m.memory_pages, U64, 1),
	SAVE_VBYTES(struct saved_machine, kernel, STR_MAX, 1),
	SAVE_VBYTES(struct saved_machine, initrd, STR_MAX, 1),
	SAVE_VBYTES(struct saved_machine, append, STR_MAX, 1),
	SAVE_VBYTES(struct saved_machine, firmware, STR_MAX, 1),
};
static const struct save_desc machine_save = SAVE_DESC("machine", 1, 1, machine_fields);

static struct save_blob blob_of(const char *s)
{
	return (struct save_blob){ .data = (void *)(uintptr_t)(s ? s : ""),
				   .len = (uint32_t)(s ? strlen(s) : 0) };
}

static int string_of(struct save_blob *b, char **ret)
{
	*ret = b->data ? strndup(b->data, b->len) : strdup("");
	return *ret ? 0 : -ENOMEM;
}

void snapshot_machine_done(struct snapshot_machine *m)
{
	free(m->kernel);
	free(m->initrd);
	free(m->append);
	free(m->firmware);
	*m = (struct snapshot_machine){ 0 };
}

/* -- vCPUs: the kernel's structs are ABI, each saved whole -- */

struct saved_vcpu {
	struct x86_vcpu_state s;
	struct save_blob xsave, msrs, cpuid;
};

static const struct save_field vcpu_fields[] = {
	SAVE(struct saved_vcpu, s.valid, U32, 1),
	SAVE(struct saved_vcpu, s.tsc_khz, U32, 1),
	SAVE(struct saved_vcpu, s.regs, BYTES, 1),
	SAVE(struct saved_vcpu, s.sregs, BYTES, 1),
	SAVE(struct saved_vcpu, s.xcrs, BYTES, 1),
	SAVE(struct saved_vcpu, s.lapic, BYTES, 1),
	SAVE(struct saved_vcpu, s.events, BYTES, 1),
	SAVE(struct saved_vcpu, s.debug, BYTES, 1),
	SAVE(struct saved_vcpu, s.mp, BYTES, 1),
	SAVE_VBYTES(struct saved_vcpu, xsave, X86_XSAVE_MAX, 1),
	SAVE_VBYTES(struct saved_vcpu, msrs, X86_MAX_MSRS * sizeof(struct kvm_msr_entry), 1),
	SAVE_VBYTES(struct saved_vcpu, cpuid, sizeof(struct x86_cpuid), 1),
};
static const struct save_desc vcpu_save = SAVE_DESC("vcpu", 1, 1, vcpu_fields);

static const struct save_field chips_fields[] = {
	SAVE(struct x86_vm_state, has_clock, BOOL, 1),
	SAVE(struct x86_vm_state, has_irqchip, BOOL, 1),
	SAVE(struct x86_vm_state, clock, BYTES, 1),
	SAVE(struct x86_vm_state, chip, BYTES, 1),
	SAVE(struct x86_vm_state, pit, BYTES, 1),
};
static const struct save_desc chips_save = SAVE_DESC("chips", 1, 1, chips_fields);

int snapshot_save(struct vm *vm, struct buf *state, struct err **e)
{
	_cleanup_(freep) struct saved_vcpu *v = calloc(1, sizeof(*v));
	_cleanup_(freep) struct x86_vm_state *chips = calloc(1, sizeof(*chips));
	struct dev *d;
	int r;

	if (!v || !chips || !vm->cpuid)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (vm->state != VM_PAUSED)
		return err_set(e, EBUSY, "vm.state", "only a paused vm can be saved");
	r = save_begin(state, ARCH, e);
	/* Devices first: a last interrupt that they raise must be in the vCPUs' state. */
	list_for_each_entry(d, &vm->devices, node) {
		if (r == 0 && d->ops->state)
			r = save_section(state, d->id, d->ops->state, d, e);
	}
	for (unsigned int i = 0; i < vm->n_vcpus && r == 0; i++) {
		char id[16];

		memset(&v->s, 0, sizeof(v->s));
		r = vm->hv->ops->vcpu_get(vm->vcpus[i].hv, &v->s, e);
		if (r < 0)
			break;
		snprintf(id, sizeof(id), "vcpu%u", i);
		v->xsave = (struct save_blob){ v->s.xsave, v->s.xsave_len };
		v->msrs = (struct save_blob){ v->s.msrs,
					      (uint32_t)(v->s.n_msrs * sizeof(v->s.msrs[0])) };
		v->cpuid = (struct save_blob){
			vm->cpuid[i].e, (uint32_t)(vm->cpuid[i].n * sizeof(vm->cpuid[i].e[0]))
		};
		r = save_section(state, id, &vcpu_save, v, e);
	}
	if (r == 0)
		r = vm->hv->ops->vm_get(vm->hv, chips, e);
	if (r == 0)
		r = save_section(state, "chips", &chips_save, chips, e);
	if (r == 0)
		r = save_end(state, e);
	return err_wrap(e, r, "save the state");
}

/* -- memory -- */

static bool is_zero(const uint8_t *p)
{
	const uint64_t *w = (const uint64_t *)(const void *)p;

	for (unsigned int i = 0; i < GMEM_PAGE / 8; i += 8)
		if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] |
		    w[i + 7])
			return false;
	return true;
}

/* Position counts: two pages swapped give another sum. */
static uint32_t page_crc(uint32_t crc, uint64_t page, const uint8_t *p)
{
	page = htole64(page);
	crc = crc32c(crc, &page, sizeof(page));
	return crc32c(crc, p, GMEM_PAGE);
}

static int write_region(const struct gmem_region *g, int fd, uint64_t base, struct saved_machine *s)
{
	for (uint64_t off = 0; off < g->size;) {
		uint64_t n = 0;
		int r;

		while (off + n < g->size && n < 512 * GMEM_PAGE && !is_zero(g->host + off + n)) {
			s->m.memory_crc = page_crc(s->m.memory_crc, (base + off + n) / GMEM_PAGE,
						   g->host + off + n);
			s->m.memory_pages++;
			n += GMEM_PAGE;
		}
		if (n == 0) {
			off += GMEM_PAGE;
			continue;
		}
		r = FAULT_POINT("snapshot.memory");
		if (r == 0)
			r = pwrite_all(fd, g->host + off, n, (off_t)(base + off));
		if (r < 0)
			return r;
		off += n;
	}
	return 0;
}

static int write_memory(struct vm *vm, int dirfd, struct saved_machine *s, struct err **e)
{
	struct atomicfile f = { 0 };
	uint64_t at = 0;
	int r = atomicfile_open(dirfd, "memory", 0600, &f, e);

	if (r < 0)
		return r;
	for (int rom = 0; rom < 2; rom++) {
		for (unsigned int i = 0; i < vm->mem.n && r == 0; i++) {
			if (vm->mem.region[i].readonly != rom)
				continue;
			r = write_region(&vm->mem.region[i], f.fd, at, s);
			at += vm->mem.region[i].size;
			if (rom)
				s->m.rom_size += vm->mem.region[i].size;
		}
	}
	if (r == 0 && ftruncate(f.fd, (off_t)at) < 0)
		r = -errno;
	if (r < 0)
		err_sys(e, -r, "write guest memory");
	else
		r = atomicfile_commit(&f, e);
	atomicfile_abort(&f);
	return r;
}

static void make_stamp(const struct stat *st, char *buf, size_t len)
{
	snprintf(buf, len, "%llx %llx %llx %lld.%09ld %lld.%09ld\n", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
		 (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
		 st->st_ctim.tv_nsec);
}

static void write_stamp(int dirfd, int memory_fd)
{
	struct stat st;
	char text[160];

	/* Without one the next restore checks the memory again: slower, not wrong. */
	if (fstat(memory_fd, &st) < 0)
		return;
	make_stamp(&st, text, sizeof(text));
	(void)file_write_atomic(dirfd, "stamp", text, strlen(text), 0600, NULL);
}

int snapshot_write(struct vm *vm, const char *dir, const struct buf *state, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int dirfd = -1, memory_fd = -1;
	struct saved_machine s = {
		.m = { .n_cpus = vm->cfg.n_cpus,
		       .memory = vm->cfg.memory,
		       .boot_kind = boot_kind(vm->boot),
		       .test_devices = vm->cfg.test_devices },
		.kernel = blob_of(vm->cfg.kernel),
		.initrd = blob_of(vm->cfg.initrd),
		.append = blob_of(vm->cfg.append),
		.firmware = blob_of(vm->cfg.firmware),
	};
	int r;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make the folder '%s'", dir);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_sys(e, errno, "open the folder '%s'", dir);
	if (faccessat(dirfd, "machine", F_OK, 0) == 0)
		return err_set(e, EEXIST, "snapshot.exists", "there is a snapshot in '%s' already",
			       dir);
	r = write_memory(vm, dirfd, &s, e);
	if (r == 0)
		r = file_write_atomic(dirfd, "state", state->s, state->len, 0600, e);
	if (r == 0)
		r = save_begin(&b, ARCH, e);
	if (r == 0)
		r = save_section(&b, "machine", &machine_save, &s, e);
	if (r == 0)
		r = save_end(&b, e);
	memory_fd = openat(dirfd, "memory", O_RDONLY | O_CLOEXEC);
	if (r == 0 && memory_fd >= 0)
		write_stamp(dirfd, memory_fd);
	/* Last: a folder without "machine" is no snapshot. */
	if (r == 0)
		r = file_write_atomic(dirfd, "machine", b.s, b.len, 0600, e);
	if (r < 0) {
		unlinkat(dirfd, "memory", 0);
		unlinkat(dirfd, "state", 0);
		unlinkat(dirfd, "stamp", 0);
		return err_wrap(e, r, "write the snapshot '%s'", dir);
	}
	return 0;
}

/* -- reading -- */

static int find_machine(void *arg, const char *id, const char *name, struct save_target *ret)
{
	if (strcmp(id, "machine") != 0)
		return 1;
	*ret = (struct save_target){ &machine_save, arg };
	return 0;
}

static int verify_memory(int fd, const struct snapshot_machine *m, struct err **e)
{
	uint64_t size = m->memory + m->rom_size, pages = 0;
	uint32_t crc = 0;
	off_t at = 0;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);

		for (at = ALIGN_DOWN(at, (off_t)GMEM_PAGE); at < end; at += GMEM_PAGE) {
			uint8_t page[GMEM_PAGE] __attribute__((aligned(8)));

			if (pread_all(fd, page, sizeof(page), at) < 0)
				return err_set(e, EINVAL, "snapshot.cut",
					       "the memory file cannot be read");
			if (is_zero(page))
				continue;
			crc = page_crc(crc, (uint64_t)at / GMEM_PAGE, page);
			pages++;
		}
	}
	if (crc != m->memory_crc || pages != m->memory_pages)
		return err_set(
			e, EINVAL, "snapshot.altered",
			"the memory file (%llu MiB) is not the one that was saved: its checksum differs",
			(unsigned long long)(size / MIB));
	return 0;
}

int snapshot_open(const char *dir, struct snapshot_machine *ret, int *memory_fd, struct buf *state,
		  struct err **e)
{
	_cleanup_(closep) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	_cleanup_(buf_done) struct buf b = { 0 }, stamp = { 0 };
	struct saved_machine s = { 0 };
	struct stat st;
	char text[160];
	int r;

	if (dirfd < 0)
		return err_sys(e, errno, "open the snapshot '%s'", dir);
	r = file_read(dirfd, "machine", STATE_MAX, &b, e);
	if (r == 0)
		r = load_stream(b.s, b.len, ARCH, find_machine, &s, e);
	if (r == 0 &&
	    (string_of(&s.kernel, &s.m.kernel) < 0 || string_of(&s.initrd, &s.m.initrd) < 0 ||
	     string_of(&s.append, &s.m.append) < 0 || string_of(&s.firmware, &s.m.firmware) < 0))
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (r == 0 &&
	    (s.m.n_cpus == 0 || s.m.n_cpus > VM_CPUS_MAX || s.m.memory == 0 || s.m.memory % MIB ||
	     s.m.memory > 64 * TIB || s.m.rom_size % GMEM_PAGE || s.m.rom_size > 32 * MIB))
		r = err_set(e, EINVAL, "snapshot.machine", "the machine makes no sense");
	if (r == 0)
		r = file_read(dirfd, "state", STATE_MAX, state, e);
	if (r == 0) {
		fd = openat(dirfd, "memory", O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			r = err_sys(e, errno, "open 'memory'");
	}
	if (r == 0 && (uint64_t)st.st_size != s.m.memory + s.m.rom_size)
		r = err_set(e, EINVAL, "snapshot.cut", "the memory file has %lld bytes, not %llu",
			    (long long)st.st_size, (unsigned long long)(s.m.memory + s.m.rom_size));
	if (r == 0) {
		make_stamp(&st, text, sizeof(text));
		if (file_read(dirfd, "stamp", sizeof(text), &stamp, NULL) < 0 || !stamp.s ||
		    strcmp(stamp.s, text) != 0) {
			r = verify_memory(fd, &s.m, e);
			if (r == 0)
				write_stamp(dirfd, fd);
		}
	}
	free(s.kernel.data);
	free(s.initrd.data);
	free(s.append.data);
	free(s.firmware.data);
	if (r < 0) {
		snapshot_machine_done(&s.m);
		return err_wrap(e, r, "snapshot '%s'", dir);
	}
	*ret = s.m;
	*memory_fd = TAKE_FD(fd);
	return 0;
}

struct loading {
	struct vm *vm;
	struct saved_vcpu *vcpu; /* n_vcpus */
	struct x86_vm_state chips;
	unsigned int n_vcpus;
	bool chips_seen;
};

static int find_target(void *arg, const char *id, const char *name, struct save_target *ret)
{
	struct loading *l = arg;
	struct dev *d;
	unsigned int i;

	if (strcmp(id, "chips") == 0) {
		l->chips_seen = true;
		*ret = (struct save_target){ &chips_save, &l->chips };
		return 0;
	}
	if (strcmp(name, "vcpu") == 0 && sscanf(id, "vcpu%u", &i) == 1 && i < l->vm->n_vcpus) {
		l->n_vcpus++;
		*ret = (struct save_target){ &vcpu_save, &l->vcpu[i] };
		return 0;
	}
	d = dev_find(l->vm, id);
	if (!d || !d->ops->state)
		return 1;
	*ret = (struct save_target){ d->ops->state, d };
	return 0;
}

static int load_vcpu(struct vm *vm, unsigned int i, struct saved_vcpu *v, bool fresh,
		     struct err **e)
{
	struct x86_cpuid *id = &vm->cpuid[i];
	int r;

	if (v->msrs.len % sizeof(v->s.msrs[0]) || v->cpuid.len % sizeof(id->e[0]) ||
	    v->xsave.len > sizeof(v->s.xsave) || v->cpuid.len > sizeof(id->e) ||
	    v->msrs.len > sizeof(v->s.msrs))
		return err_set(e, EINVAL, "snapshot.vcpu", "vCPU %u: sizes make no sense", i);
	v->s.n_msrs = (uint32_t)(v->msrs.len / sizeof(v->s.msrs[0]));
	v->s.xsave_len = v->xsave.len;
	if (v->msrs.len)
		memcpy(v->s.msrs, v->msrs.data, v->msrs.len);
	if (v->xsave.len)
		memcpy(v->s.xsave, v->xsave.data, v->xsave.len);
	if (fresh) { /* frozen after the first run: a reset in place keeps it */
		struct x86_cpuid *saved = calloc(1, sizeof(*saved));

		if (!saved)
			return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
		saved->n = (uint32_t)(v->cpuid.len / sizeof(id->e[0]));
		if (v->cpuid.len)
			memcpy(saved->e, v->cpuid.data, v->cpuid.len);
		r = x86_cpuid_compatible(saved, id, e);
		if (r == 0)
			r = vm->hv->ops->vcpu_set_cpuid(vm->vcpus[i].hv, saved, e);
		if (r == 0)
			*id = *saved;
		free(saved);
		if (r < 0)
			return r;
	}
	return vm->hv->ops->vcpu_set(vm->vcpus[i].hv, &v->s, e);
}

int snapshot_load(struct vm *vm, const struct buf *state, struct err **e)
{
	struct loading *l = calloc(1, sizeof(*l));
	bool fresh = vm->state == VM_CREATED;
	int r = 0;

	if (l)
		l->vcpu = calloc(vm->n_vcpus, sizeof(*l->vcpu));
	if (!l || !l->vcpu) {
		free(l);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	l->vm = vm;
	r = load_stream(state->s, state->len, ARCH, find_target, l, e);
	if (r == 0 && (l->n_vcpus != vm->n_vcpus || !l->chips_seen))
		r = err_set(e, EINVAL, "snapshot.vcpus", "the state of %u of %u vCPUs is missing",
			    vm->n_vcpus - MIN(l->n_vcpus, vm->n_vcpus), vm->n_vcpus);
	/* The clock and the chips before the vCPUs: their timers are set against it. */
	if (r == 0)
		r = vm->hv->ops->vm_set(vm->hv, &l->chips, e);
	for (unsigned int i = 0; i < vm->n_vcpus && r == 0; i++)
		r = load_vcpu(vm, i, &l->vcpu[i], fresh, e);
	for (unsigned int i = 0; i < vm->n_vcpus; i++) {
		free(l->vcpu[i].xsave.data);
		free(l->vcpu[i].msrs.data);
		free(l->vcpu[i].cpuid.data);
		vm->vcpus[i].stopped = false;
	}
	free(l->vcpu);
	free(l);
	if (r == 0 && dev_find(vm, "vmgenid"))
		vmgenid_change(dev_find(vm, "vmgenid"));
	return err_wrap(e, r, "load the state");
}
