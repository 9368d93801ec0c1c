/* Filter "fault": errors, delays, short transfers and sudden death, for tests.
 *
 * Parameter "rule", given as often as wanted, a list of name=value pairs separated by spaces:
 *	op=read|write|flush|discard|write-zeroes	which requests (all, when it is missing)
 *	from=OFFSET to=OFFSET				that touch these bytes
 *	nth=N						the Nth that fits, from 1, is the first (1)
 *	count=N						and how many after it (all; 0 too)
 *	errno=EIO					they fail and do nothing
 *	short=BYTES					so much is done, then they fail (with errno, else EIO)
 *	delay=TIME					they wait before they are done or fail
 *	kill						the process ends by SIGKILL, after `short` bytes
 * The first rule that fits is the one.  "clear" forgets all rules.  With `below` (disk_filter_cfg) the filter stands between
 * the format and its driver, where a test of a format wants it.
 *
 * Threads: rules and their counters under a lock; this is for tests, not for speed. */
#include <signal.h>
#include <string.h>
#include "base/checked.h"
#include "base/clock.h"
#include "base/str.h"
#include "base/vec.h"
#include "storage/disk_ops.h"

struct rule {
	int op; /* -1: all */
	uint64_t from, to, nth, count, seen, cut;
	nsec_t delay;
	int error;
	bool is_short, kill;
};

struct fault {
	struct disk_node node;
	pthread_mutex_t lock;
	VEC(struct rule) rules;
};

static const char *const op_names[DISK_N_OPS] = { "read", "write", "flush", "discard",
						  "write-zeroes" };
static const int errors[] = { EIO,	 ENOSPC,     EROFS, EINVAL, ENOMEM,
			      ETIMEDOUT, EOPNOTSUPP, EPERM, ESTALE, EDQUOT };

static struct fault *to_fault(struct disk_node *n)
{
	return container_of(n, struct fault, node);
}

/* ---- rules ---- */

static int parse_word(struct rule *r, const char *name, const char *value)
{
	uint64_t v = 0;

	if (streq(name, "op")) {
		for (int i = 0; i < DISK_N_OPS; i++)
			if (streq(value, op_names[i])) {
				r->op = i;
				return 0;
			}
		return -EINVAL;
	}
	if (streq(name, "errno")) {
		for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
			if (streq(value, err_name(errors[i]))) {
				r->error = errors[i];
				return 0;
			}
		return -EINVAL;
	}
	if (streq(name, "delay"))
		return parse_duration(value, &r->delay);
	if (streq(name, "nth"))
		return parse_u64(value, UINT64_MAX, &r->nth);
	if (streq(name, "count"))
		return parse_u64(value, UINT64_MAX, &r->count);
	if (parse_size(value, &v) < 0)
		return -EINVAL;
	if (streq(name, "from"))
		r->from = v;
	else if (streq(name, "to"))
		r->to = v;
	else if (streq(name, "short")) {
		r->cut = v;
		r->is_short = true;
	} else {
		return -EINVAL;
	}
	return 0;
}

static int parse_rule(const char *text, struct rule *r, struct err **e)
{
	_cleanup_(strv_freep) char **words = strv_split(text, " ");

	*r = (struct rule){ .op = -1, .to = UINT64_MAX, .nth = 1 };
	if (!words)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (char **w = words; *w; w++) {
		char *eq = strchr(*w, '=');

		if (streq(*w, "kill")) {
			r->kill = true;
			continue;
		}
		if (eq)
			*eq = '\0';
		if (!eq || parse_word(r, *w, eq + 1) < 0)
			return err_set(e, EINVAL, "disk.fault", "'%s' is no part of a fault rule",
				       *w);
	}
	if (!r->error && !r->is_short && !r->kill && !r->delay)
		return err_set(e, EINVAL, "disk.fault", "a fault rule that does nothing");
	return 0;
}

static bool fits(const struct rule *r, const struct disk_io *io)
{
	if (r->op >= 0 && r->op != io->op)
		return false;
	if (io->op == DISK_FLUSH)
		return r->from == 0 && r->to == UINT64_MAX;
	return range_overlaps(io->off, MAX(io->len, (uint64_t)1), r->from, r->to - r->from);
}

/* ---- requests ---- */

/* Written ones make a file below longer: show what it is now. */
static void follow_size(struct disk_node *n)
{
	atomic_store(&n->size, atomic_load(&n->next->size));
}

/* What a hit request carries in its child. */
struct hit {
	struct rule rule;
	struct disk_node *next;
	struct iovec *cut; /* its buffers, shortened; or NULL */
};

static void child_done(struct disk_io *k, int r)
{
	struct disk_io *io = k->data;
	struct hit *h = k->priv;

	follow_size(io->node);
	if (h && h->cut && r == 0) {
		if (h->rule.kill)
			raise(SIGKILL);
		r = -(h->rule.error ?: EIO);
	}
	if (h)
		free(h->cut);
	free(h);
	disk_io_done(io, r);
}

/* The delay is over. */
static void apply(struct disk_io *k)
{
	struct hit *h = k->priv;
	const struct rule *r = &h->rule;

	if (r->is_short && r->cut > 0 && r->cut < k->len && k->niov > 0) {
		h->cut = malloc(k->niov * sizeof(*h->cut));
		if (!h->cut) {
			disk_io_done(k, -ENOMEM);
			return;
		}
		k->niov = iov_slice(k->iov, k->niov, 0, r->cut, h->cut);
		k->iov = h->cut;
		k->len = r->cut;
	} else if (r->kill) {
		raise(SIGKILL);
	} else if (r->error || r->is_short) {
		disk_io_done(k, -(r->error ?: EIO));
		return;
	}
	node_submit(h->next, k);
}

static bool hits(struct fault *f, const struct disk_io *io, struct rule *ret)
{
	bool hit = false;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->rules.n && !hit; i++) {
		struct rule *r = &f->rules.v[i];

		if (!fits(r, io))
			continue;
		r->seen++;
		hit = r->seen >= r->nth && (!r->count || r->seen - r->nth < r->count);
		if (hit)
			*ret = *r;
	}
	pthread_mutex_unlock(&f->lock);
	return hit;
}

static void fault_submit(struct disk_node *n, struct disk_io *io)
{
	struct disk_io *k = io_child(io->q, io->op, io->flags, io->off, io->len, io->iov, io->niov,
				     child_done, io);
	struct rule rule;
	struct hit *h;

	if (!k) {
		disk_io_done(io, -ENOMEM);
		return;
	}
	if (!hits(to_fault(n), io, &rule)) {
		node_submit(n->next, k);
		return;
	}
	k->priv = h = calloc(1, sizeof(*h));
	if (!h) {
		disk_io_done(k, -ENOMEM);
		return;
	}
	h->rule = rule;
	h->next = n->next;
	if (rule.delay)
		io_resume_at(k, now_mono() + rule.delay, apply);
	else
		apply(k);
}

/* ---- life ---- */

static int fault_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	pthread_mutex_init(&to_fault(n)->lock, NULL);
	n->grows = n->next->grows;
	return 0;
}

static int fault_close(struct disk_node *n)
{
	vec_done(&to_fault(n)->rules);
	pthread_mutex_destroy(&to_fault(n)->lock);
	return 0;
}

static int fault_set_param(struct disk_node *n, const char *name, const char *value, struct err **e)
{
	struct fault *f = to_fault(n);
	struct rule rule;
	int r = 0;

	if (streq(name, "rule"))
		r = parse_rule(value, &rule, e);
	else if (!streq(name, "clear"))
		return err_set(e, EINVAL, "disk.filter", "filter 'fault' has no option '%s'", name);
	if (r < 0)
		return r;
	pthread_mutex_lock(&f->lock);
	if (streq(name, "clear"))
		f->rules.n = 0;
	else
		r = vec_push(&f->rules, rule);
	pthread_mutex_unlock(&f->lock);
	return r < 0 ? err_set(e, ENOMEM, "sys.ENOMEM", "out of memory") : 0;
}

static int fault_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
			struct err **e)
{
	int r = node_resize(n->next, size, prov, shrink, e);

	follow_size(n);
	return r;
}

const struct disk_ops disk_filter_fault = {
	.name = "fault",
	.kind = DISK_FILTER,
	.instance_size = sizeof(struct fault),
	.open = fault_open,
	.close = fault_close,
	.submit = fault_submit,
	.resize = fault_resize,
	.set_param = fault_set_param,
};
