/* Snapshots: a folder with the files
 *
 *	machine   what the machine is made of (section "machine"): read first, to build the same one
 *	state     vCPUs, in-kernel chips, devices; format of base/save.h
 *	memory    RAM, byte x of RAM at offset x, sparse; then the ROM's bytes, if there is one
 *	stamp     which memory file was verified last (device, inode, size, times): spares the next clone the check
 *
 * The memory file is mapped copy-on-write by every VM restored from it, and must not be written while one lives.
 * It carries no checksum of its own: "machine" holds it, and a restore compares it unless `stamp` names exactly this
 * file in exactly this condition. */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/types.h"

struct vm;
struct vm_config;

/* What "machine" says.  Strings are owned; release with snapshot_machine_done(). */
struct snapshot_machine {
	uint32_t n_cpus;
	uint64_t memory;
	uint32_t boot_kind;
	uint64_t rom_size; /* firmware and generation id page; 0: none */
	bool test_devices;
	uint32_t memory_crc;
	uint64_t memory_pages; /* pages that are not all zero */
	char *kernel, *initrd, *append,
		*firmware; /* for a guest reset later; "" where there was none */
};
void snapshot_machine_done(struct snapshot_machine *m);

/* Take one of a paused VM.  save: vCPUs and devices into *state; the files are written by snapshot_write(), which
 * may run in a forked child while the VM goes on (private memory only). */
int snapshot_save(struct vm *vm, struct buf *state, struct err **e);
int snapshot_write(struct vm *vm, const char *dir, const struct buf *state, struct err **e);

/* Read and check; *memory_fd is the caller's. */
int snapshot_open(const char *dir, struct snapshot_machine *ret, int *memory_fd, struct buf *state,
		  struct err **e);
/* Into a VM built by snapshot_open()'s machine, not running.  Again later: reset in place. */
int snapshot_load(struct vm *vm, const struct buf *state, struct err **e);

#endif
