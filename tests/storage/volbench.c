/* volbench clone|snapshot VOLUME: median nanoseconds of 50 linked clones (of one point), or of 50 row snapshots of the
 * attached volume, in process.  What was made is removed again.  For bench/disk.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "storage/storage.h"

#define N 50

static int by_value(const void *a, const void *b)
{
	nsec_t x = *(const nsec_t *)a, y = *(const nsec_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	struct volume *v = NULL;
	struct disk *d = NULL;
	struct err *e = NULL;
	struct job *j = NULL;
	nsec_t t[N];
	int r = argc == 3 ? volume_open(argv[2], &v, &e) : -EINVAL;
	bool clone = argc == 3 && strcmp(argv[1], "clone") == 0;
	char name[512];

	if (r == 0 && clone)
		r = volume_snapshot(v, "bench", VOLUME_ROW, NULL, &j, &e);
	else if (r == 0)
		r = volume_attach(v, NULL, &d, &e);
	for (int i = 0; i < N && r == 0; i++) {
		nsec_t begun = now_mono();

		if (clone)
			snprintf(name, sizeof(name), "%s-clone%d", argv[2], i);
		else
			snprintf(name, sizeof(name), "bench%d", i);
		r = clone ? volume_clone(v, "bench", name, false, &j, &e)
			  : volume_snapshot(v, name, VOLUME_ROW, NULL, &j, &e);
		t[i] = now_mono() - begun;
	}
	if (r == 0) {
		qsort(t, N, sizeof(t[0]), by_value);
		printf("%lld\n", (long long)t[N / 2]);
	}
	for (int i = 0; i < N && clone; i++) {
		snprintf(name, sizeof(name), "%s-clone%d", argv[2], i);
		volume_remove(name, NULL);
	}
	if (r == 0 && clone)
		r = volume_delete(v, "bench", &j, &e);
	if (r == 0 && clone && j)
		r = job_wait(j, &e);
	if (r < 0)
		fprintf(stderr, "volbench: %s\n", e ? err_msg(e) : strerror(-r));
	volume_close(v);
	return r < 0;
}
