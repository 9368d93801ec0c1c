/* diskio IMAGE FORMAT: reads commands from stdin, one a line, and runs them in order on one open disk:
 *   w OFF LEN BYTE   z OFF LEN   u OFF LEN (zeroes, may unmap)   d OFF LEN   f   r OFF LEN BYTE (compare)   k (SIGKILL)
 *   s NAME / a NAME / x NAME (snapshot create, apply, remove)   g SIZE (resize)
 * Exit status 1 and a line on stderr when a command fails or a byte differs. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "storage/storage.h"

int main(int argc, char **argv)
{
	struct disk_cfg cfg = { .path = argv[1], .format = argc > 2 ? argv[2] : NULL };
	struct err *e = NULL;
	struct disk *d = NULL;
	static char line[512], name[256];
	uint8_t *buf = malloc(64 << 20);
	int r = argc < 2 || !buf ? -EINVAL : disk_open(&cfg, &d, &e);

	while (r >= 0 && fgets(line, sizeof(line), stdin)) {
		unsigned long long off = 0, len = 0;
		unsigned int v = 0;

		sscanf(line + 1, "%llu %llu %u", &off, &len, &v);
		sscanf(line + 1, "%255s", name);
		switch (line[0]) {
		case 'w':
			memset(buf, (int)v, len);
			r = disk_pwrite(d, buf, len, off);
			break;
		case 'z':
			r = disk_sync_op(d, DISK_WRITE_ZEROES, 0, off, len);
			break;
		case 'u':
			r = disk_sync_op(d, DISK_WRITE_ZEROES, DISK_MAY_UNMAP, off, len);
			break;
		case 'd':
			r = disk_sync_op(d, DISK_DISCARD, 0, off, len);
			break;
		case 'f':
			r = disk_flush(d);
			printf("f\n");
			fflush(stdout);
			break;
		case 'r':
			r = disk_pread(d, buf, len, off);
			for (unsigned long long i = 0; r >= 0 && i < len; i++)
				if (buf[i] != (uint8_t)v)
					r = -EILSEQ;
			break;
		case 's':
			r = disk_snapshot_create(d, name, &e);
			break;
		case 'a':
			r = disk_snapshot_apply(d, name, &e);
			break;
		case 'x':
			r = disk_snapshot_rm(d, name, &e);
			break;
		case 'g':
			r = disk_resize(d, off, DISK_THIN, true, &e);
			break;
		case 'k':
			raise(SIGKILL);
			break;
		default:
			r = -EINVAL;
		}
		if (r < 0)
			fprintf(stderr, "diskio: %s", line);
	}
	if (r < 0)
		fprintf(stderr, "diskio: %s\n", e ? err_msg(e) : strerror(-r));
	err_free(e);
	free(buf);
	return disk_close(d) < 0 || r < 0;
}
