/* A hostile qcow2 image: open, map, read, check with repair, write. Files that it names are not opened. */
#include <errno.h>
#include <stdlib.h>
#include "storage/drivers/mem.h"
#include "storage/storage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int nothing(void *arg, const char *path, int flags)
{
	return -ENOENT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	for (int pass = 0; pass < 2; pass++) {
		struct mem_journal j = { .initial = data, .initial_len = len };
		struct disk_cfg cfg = { .driver = "mem",
					.path = "fuzz",
					.format = "qcow2",
					.readonly = pass == 0,
					.repair = pass == 1,
					.open_file = nothing };
		struct disk_snapshot_list snaps;
		struct disk_check c = { 0 };
		struct extent_list l;
		struct disk *d = NULL;
		char buf[8192] = "";

		if (len == 0 || len > 4 << 20)
			return 0;
		mem_journal_next = &j;
		if (disk_open(&cfg, &d, NULL) < 0)
			continue;
		if (disk_size(d) <= GIB && disk_extents(d, 0, disk_size(d), &l) == 0)
			extent_list_done(&l);
		for (uint64_t off = 0; off + sizeof(buf) <= disk_size(d) && off < 4 * MIB;
		     off += 256 * KIB)
			disk_pread(d, buf, sizeof(buf), off);
		if (disk_snapshot_ls(d, &snaps, NULL) == 0)
			disk_snapshot_list_done(&snaps);
		disk_check(d, pass ? DISK_REPAIR_ALL : DISK_REPAIR_NONE, &c, NULL);
		if (pass && disk_size(d) >= sizeof(buf)) {
			disk_pwrite(d, buf, sizeof(buf), 0);
			disk_sync_op(d, DISK_DISCARD, 0, 0, sizeof(buf));
		}
		disk_close(d);
	}
	return 0;
}
