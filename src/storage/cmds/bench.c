/* strata-disk bench: requests against an image, as fast as they end. */
#include <string.h>
#include <sys/resource.h>
#include "base/loop.h"
#include "base/rand.h"
#include "base/str.h"
#include "storage/cli.h"

#define MAX_DEPTH 256

struct args {
	char *format;
	uint64_t count, depth, size, flush, seed;
	bool write, random, direct;
	int out;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, count, U64, "count", 'c', "N", "requests (100000)", .min = 1),
	OPT(struct args, depth, U64, "depth", 'd', "N", "in flight (64)", .min = 1,
	    .max = MAX_DEPTH),
	OPT(struct args, size, SIZE, "size", 's', "SIZE", "of a request (4K)", .min = 1,
	    .max = 1 << 24),
	OPT(struct args, write, FLAG, "write", 'w', NULL, "write instead of read"),
	OPT(struct args, random, FLAG, "random", 0, NULL, "at random offsets"),
	OPT(struct args, direct, FLAG, "direct", 0, NULL, "O_DIRECT"),
	OPT(struct args, flush, U64, "flush-interval", 0, "N", "a flush after every N writes"),
	OPT(struct args, seed, U64, "seed", 0, "N", "of the offsets"),
	OPT(struct args, out, ENUM, "output", 'o', "FORM", "table or json", .choices = out_choices),
	OPT_END,
};

static struct bench {
	struct args a;
	struct loop *loop;
	struct disk_queue *q;
	struct prng rng;
	uint64_t slots, next, sent, ended;
	int r;
	struct disk_io io[MAX_DEPTH];
	struct iovec iov[MAX_DEPTH];
} b;

static void done(struct disk_io *io, int r);

static void send(struct disk_io *io)
{
	size_t i = (size_t)(io - b.io);

	*io = (struct disk_io){ .op = b.a.write ? DISK_WRITE : DISK_READ,
				.len = b.a.size,
				.iov = &b.iov[i],
				.niov = 1,
				.done = done };
	if (b.a.write && b.a.flush && b.sent % (b.a.flush + 1) == b.a.flush) {
		io->op = DISK_FLUSH;
		io->len = 0;
	} else {
		io->off =
			(b.a.random ? prng_below(&b.rng, b.slots) : b.next++ % b.slots) * b.a.size;
	}
	b.sent++;
	disk_submit(b.q, io);
}

static void done(struct disk_io *io, int r)
{
	b.ended++;
	if (r < 0)
		b.r = r;
	if (b.sent < b.a.count && b.r == 0)
		send(io);
	else if (b.ended == b.sent)
		loop_stop(b.loop, 0);
}

static int run(int argc, char **argv, struct err **e)
{
	struct disk_cfg cfg = { 0 };
	struct disk *d = NULL;
	struct rusage ru;
	uint8_t *mem = NULL;
	nsec_t t;
	double s, cpu;
	int r;

	b.a = (struct args){ .count = 100000, .depth = 64, .size = 4096, .seed = 1 };
	r = cli_operands(opts, &b.a, argc, argv, 1, 1, e);
	if (r < 0)
		goto out;
	cfg = (struct disk_cfg){
		.path = argv[1], .format = b.a.format, .readonly = !b.a.write, .direct = b.a.direct
	};
	r = disk_open(&cfg, &d, e);
	if (r < 0)
		goto out;
	b.slots = disk_size(d) / b.a.size;
	mem = aligned_alloc(4096, ALIGN_UP(b.a.size, (uint64_t)4096) * b.a.depth);
	if (!mem || b.slots == 0) {
		r = err_set(e, EINVAL, "usage", "the image is smaller than one request");
		goto out;
	}
	memset(mem, 0x5a, ALIGN_UP(b.a.size, (uint64_t)4096) * b.a.depth);
	prng_seed(&b.rng, b.a.seed);
	r = loop_new(NULL, &b.loop);
	if (r == 0)
		r = disk_queue_open(d, b.loop, &b.q, e);
	if (r < 0)
		goto out;
	t = now_mono();
	disk_plug(b.q);
	for (uint64_t i = 0; i < b.a.depth && b.sent < b.a.count; i++) {
		b.iov[i] = (struct iovec){ mem + i * ALIGN_UP(b.a.size, (uint64_t)4096), b.a.size };
		send(&b.io[i]);
	}
	disk_unplug(b.q);
	if (b.ended < b.sent)
		loop_run(b.loop);
	s = (double)(now_mono() - t) / NSEC_PER_SEC;
	getrusage(RUSAGE_SELF, &ru);
	cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	      (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
	r = b.r < 0 ? err_sys(e, -b.r, "a request") : 0;
	if (r == 0)
		printf(b.a.out == OUT_JSON
			       ? "{\"requests\":%llu,\"seconds\":%.6f,\"iops\":%.0f,\"cpu_seconds\":%.6f}\n"
			       : "%llu requests in %.3f s: %.0f a second, %.3f s of CPU\n",
		       (unsigned long long)b.ended, s, (double)b.ended / s, cpu);
out:
	disk_queue_close(b.q);
	loop_free(b.loop);
	disk_close(d);
	free(mem);
	opt_done(opts, &b.a);
	return r < 0 ? r : 0;
}

const struct command cmd_bench = { "bench",
				   "[-c N] [-d N] [-s SIZE] [-w] [--random] [-o json] FILE",
				   "measure requests", run };
