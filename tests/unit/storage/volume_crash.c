/* kill -9 at any moment of a volume's life: a child works on it (writes, snapshots, deletions, restores, merges), the
 * model of what must be there lies in shared memory, the parent kills it, opens the volume, goes on with what was
 * interrupted or does not, and compares.  Nothing that was acknowledged by a flush, and no point, may differ.
 *
 * $STRATA_KILLS: how often (default 60; 1000 with STRATA_LONG). */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "unit.h"
#include "base/clock.h"
#include "base/rand.h"
#include "storage/storage.h"

#define BLOCK  4096
#define BLOCKS 768U /* 3 MiB */
#define SIZE   ((uint64_t)BLOCK * BLOCKS)
#define POINTS 6
#define OLDER  12 /* values of a block that a crash may bring back */

struct state {
	uint32_t v[BLOCKS][OLDER]; /* [0] the newest; up to n[b] of them are possible */
	uint8_t n[BLOCKS];	   /* 255: anything */
};
enum op { IDLE, TAKING, DELETING, RESTORING };
static struct shared {
	struct state now;
	struct {
		char name[32];
		bool there;
		struct state s;
	} points[POINTS];
	enum op op;
	unsigned int which;
	unsigned int serial, counter;
	unsigned long long ops, jobs;
} * sh;

static char root[128], dir[160];
static uint8_t buf[BLOCK * 64];

static int setup(void **state)
{
	snprintf(root, sizeof(root), "%s/strata-crash-XXXXXX",
		 getenv("TMPDIR")
			 ?: access("/dev/shm", W_OK) == 0 ? "/dev/shm"
							  : "/tmp");
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return mkdtemp(root) && sh != MAP_FAILED ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	return system(cmd);
}

/* In the child: no cmocka. */
static void need(int r, struct err *e, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "child: %s: %s\n", what, e ? err_msg(e) : strerror(-r));
	_exit(3);
}

static void set(uint32_t b, uint32_t value)
{
	struct state *s = &sh->now;

	memmove(&s->v[b][1], &s->v[b][0], sizeof(s->v[b]) - sizeof(s->v[b][0]));
	s->v[b][0] = value;
	s->n[b] = s->n[b] >= OLDER ? 255 : (uint8_t)(s->n[b] + 1);
}

static void all_stable(struct state *s)
{
	memset(s->n, 1, sizeof(s->n));
}

static void end_job(struct job *j)
{
	struct err *e = NULL;

	if (!j)
		return;
	sh->jobs++;
	need(job_wait(j, &e), e, "job");
}

static void child(uint64_t seed)
{
	struct volume *v = NULL;
	struct job *first = NULL;
	struct disk *d = NULL;
	struct err *e = NULL;
	struct prng rng;

	prng_seed(&rng, seed);
	need(volume_open(dir, &v, &e), e, "open");
	if (seed & 1)
		need(volume_attach(v, NULL, &d, &e), e, "attach");
	need(volume_resume(v, &first, &e), e, "resume"); /* and may be killed in that again */
	end_job(first);
	for (;;) {
		unsigned int what = (unsigned int)prng_below(&rng, 40), i;
		struct job *j = NULL;

		sh->ops++;
		i = (unsigned int)prng_below(&rng, POINTS);
		if (what == 0 && d) {
			d = NULL;
			need(volume_detach(v, &e), e, "detach");
			all_stable(&sh->now);
		}
		if (what == 1 && sh->points[i].there && !d) {
			/* until it is done either of them may be current */
			sh->which = i;
			sh->op = RESTORING;
			need(volume_restore(v, sh->points[i].name, &j, &e), e, "restore");
			end_job(j);
			sh->now = sh->points[i].s;
			sh->op = IDLE;
		} else if (what < 6 && !sh->points[i].there) {
			enum volume_kind kind = (enum volume_kind)prng_below(&rng, 3);

			snprintf(sh->points[i].name, sizeof(sh->points[i].name), "p%u",
				 ++sh->serial);
			sh->points[i].s = sh->now;
			sh->which = i;
			sh->op = TAKING;
			need(volume_snapshot(v, sh->points[i].name, kind, NULL, &j, &e), e,
			     "snapshot");
			all_stable(&sh->points[i].s);
			sh->points[i].there = true;
			all_stable(&sh->now);
			sh->op = IDLE;
			end_job(j);
		} else if (what < 9 && sh->points[i].there) {
			sh->which = i;
			sh->op = DELETING;
			need(volume_delete(v, sh->points[i].name, &j, &e), e, "delete");
			sh->points[i].there = false;
			sh->op = IDLE;
			end_job(j);
		} else if (what == 9) {
			need(volume_flatten(v, &j, &e), e, "flatten");
			end_job(j);
		} else if (what == 10) {
			need(volume_compact(v, &j, &e), e, "compact");
			end_job(j);
		}
		if (!d)
			need(volume_attach(v, NULL, &d, &e), e, "attach");
		for (int k = 0; k < 6; k++) {
			uint32_t b = (uint32_t)prng_below(&rng, BLOCKS), value = 0;
			uint32_t len = 1 + (uint32_t)prng_below(&rng, prng_below(&rng, 6) ? 4 : 64);

			len = MIN(len, BLOCKS - b);
			if (prng_below(&rng, 6))
				value = ++sh->counter;
			for (uint32_t x = 0; x < len; x++)
				set(b + x, value);
			for (uint32_t x = 0; x < len * BLOCK / 4; x++)
				((uint32_t *)(void *)buf)[x] = value;
			need(value ? disk_pwrite(d, buf, (size_t)len * BLOCK, (uint64_t)b * BLOCK)
				   : disk_sync_op(d, DISK_WRITE_ZEROES, DISK_MAY_UNMAP,
						  (uint64_t)b * BLOCK, (uint64_t)len * BLOCK),
			     NULL, "write");
		}
		if (prng_below(&rng, 2)) {
			need(disk_flush(d), NULL, "flush");
			all_stable(&sh->now);
		}
	}
}

/* 0: as the model says; else the first block that is not, plus one. */
static unsigned int differs(struct disk *d, const struct state *s, struct state *read)
{
	for (unsigned int b = 0; b < BLOCKS; b += 64) {
		if (disk_pread(d, buf, sizeof(buf), (uint64_t)b * BLOCK) < 0)
			return b + 1;
		for (unsigned int k = 0; k < 64; k++) {
			const uint32_t *w = (const uint32_t *)(const void *)(buf + k * BLOCK);
			bool ok = s->n[b + k] == 255;

			for (unsigned int i = 1; i < BLOCK / 4; i++)
				if (w[i] != w[0] && s->n[b + k] == 1)
					return b + k + 1;
			/* a write that was cut off may be there in part */
			for (unsigned int i = 0;
			     i < MIN((unsigned int)s->n[b + k], (unsigned int)OLDER) && !ok; i++)
				ok = w[0] == s->v[b + k][i];
			if (!ok)
				return b + k + 1;
			if (read) {
				read->v[b + k][0] = w[0];
				read->n[b + k] = 1;
				for (unsigned int i = 1; i < BLOCK / 4; i++)
					if (w[i] != w[0])
						read->n[b + k] = 255;
			}
		}
	}
	return 0;
}

static void judge(struct volume *v, unsigned int round)
{
	for (unsigned int i = 0; i < POINTS; i++) {
		bool doubtful = sh->op != IDLE && sh->op != RESTORING && sh->which == i;
		struct disk *d = NULL;
		struct err *e = NULL;
		int r;

		if (!sh->points[i].there && !doubtful)
			continue;
		r = volume_open_point(v, sh->points[i].name, &d, &e);
		if (r == -ENOENT && doubtful) {
			err_free(e);
			sh->points[i].there = false;
			continue;
		}
		if (r < 0)
			fail_msg("round %u: point %s: %s", round, sh->points[i].name, err_msg(e));
		r = (int)differs(d, &sh->points[i].s, &sh->points[i].s);
		if (r)
			fail_msg("round %u: point %s differs in block %d", round,
				 sh->points[i].name, r - 1);
		sh->points[i].there = true;
		disk_close(d);
	}
}

static void recover(unsigned int round, struct prng *rng)
{
	struct volume *v = NULL;
	struct disk *d = NULL;
	struct err *e = NULL;
	struct job *j = NULL;
	struct state *read = calloc(1, sizeof(*read));
	unsigned int bad;
	int r = volume_open(dir, &v, &e);

	if (r < 0)
		fail_msg("round %u: %s", round, err_msg(e));
	judge(v, round);
	r = volume_attach(v, NULL, &d, &e);
	if (r == -EBUSY && sh->op == RESTORING) {
		err_clear(&e);
		r = volume_resume(v, &j, &e);
		if (r == 0 && j)
			r = job_wait(j, &e);
		if (r == 0)
			r = volume_attach(v, NULL, &d, &e);
	}
	if (r < 0)
		fail_msg("round %u: attach: %s", round, err_msg(e));
	bad = differs(d, &sh->now, read);
	if (bad && sh->op == RESTORING)
		bad = differs(d, &sh->points[sh->which].s, read);
	if (bad)
		fail_msg("round %u: the current state differs in block %u (op %d)", round, bad - 1,
			 sh->op);
	memcpy(sh->now.v, read->v, sizeof(read->v));
	memcpy(sh->now.n, read->n, sizeof(read->n));
	free(read);
	sh->op = IDLE;
	r = prng_below(rng, 3) ? volume_resume(v, &j, &e) : 0;
	if (r == 0 && j)
		r = job_wait(j, &e);
	if (r < 0)
		fail_msg("round %u: resume: %s", round, err_msg(e));
	disk_flush(d);
	volume_detach(v, NULL);
	judge(v, round);
	volume_close(v);
}

static void judged_by_qemu(unsigned int round)
{
	char cmd[512];

	if (system("command -v qemu-img >/dev/null 2>&1"))
		return;
	/* leaked clusters (status 3) are what a crash may leave */
	snprintf(cmd, sizeof(cmd),
		 "for f in %s/*.qcow2; do qemu-img check -q -U \"$f\" >/dev/null 2>&1; "
		 "case $? in 0|3) ;; *) echo \"$f\"; qemu-img check -U \"$f\"; exit 1;; esac; done",
		 dir);
	if (system(cmd))
		fail_msg("round %u: qemu-img check", round);
}

static void kills(void **state)
{
	const char *env = getenv("STRATA_KILLS");
	unsigned int n = env ? (unsigned int)atoi(env) : getenv("STRATA_LONG") ? 1000 : 60;
	struct volume_create c = { .size = SIZE, .max_depth = 5 };
	struct err *e = NULL;
	struct prng rng;

	prng_seed(&rng, env ? (uint64_t)now_real() : 1);
	snprintf(dir, sizeof(dir), "%s/v", root);
	all_stable(&sh->now);
	if (volume_create(dir, &c, &e) < 0)
		fail_msg("%s", err_msg(e));
	for (unsigned int i = 0; i < n; i++) {
		unsigned long long begun = sh->ops, stop = 1 + prng_below(&rng, 30);
		uint64_t seed = prng_next(&rng);
		pid_t pid;
		int st;

		fflush(NULL);
		pid = fork();
		if (pid == 0)
			child(seed);
		assert_true(pid > 0);
		/* so many steps, then somewhere in the next one */
		while (__atomic_load_n(&sh->ops, __ATOMIC_RELAXED) < begun + stop) {
			if (waitpid(pid, &st, WNOHANG) == pid)
				fail_msg("round %u: the child ended (%x)", i, (unsigned int)st);
			usleep(200);
		}
		usleep((useconds_t)prng_below(&rng, 4000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &st, 0), pid);
		if (!WIFSIGNALED(st))
			fail_msg("round %u: the child ended (%x)", i, (unsigned int)st);
		recover(i, &rng);
		if (i % 8 == 7)
			judged_by_qemu(i);
	}
	judged_by_qemu(n);
	print_message("%llu steps, %llu jobs, %u kills\n", sh->ops, sh->jobs, n);
	assert_true(sh->jobs > n / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kills),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
