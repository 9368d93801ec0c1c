/* The long work of volumes, as jobs: merge, fill, flatten, promote, restore.
 *
 * A job moves data without the lock and changes the descriptor with it, in steps that a crash may cut anywhere: all
 * moving may be repeated, and every descriptor in between describes the same contents.
 *
 * Merging.  A file X that nobody uses, with one file C on top, goes:
 *	stream	X's data move into C, then C stands on what X stood on;
 *	commit	C's data move into X, then X takes C's place.  Readers of the old chain see nothing of it: C hides what
 *		changes in X, and what X would give back is kept until they have the new chain;
 *	save	commit, where X is the save image that the cbw filter writes just now;
 *	helper	C is written just now: a new file goes on top, then C is no longer;
 *	final	C is written just now and small: I/O stops while it is committed.
 * Which of them, is a matter of how much must be copied. */
#include <limits.h>
#include <string.h>
#include "base/fault.h"
#include "base/str.h"
#include "storage/disk_ops.h"
#include "storage/filters/cbw.h"
#include "storage/live.h"
#include "storage/volume/volume_int.h"

#define MAX_PASSES 8 /* of helper, before stream is taken */

enum mode { NONE, DELETE, STREAM, COMMIT, SAVE, HELPER, FINAL };

static int lock_failed(struct volume *v, int r)
{
	pthread_mutex_unlock(&v->lock);
	return r;
}

/* Lock held. */
static int set_job(struct volume *v, const char *type, const char *point, struct err **e)
{
	if (v->d.job.type && streq(v->d.job.type, type) && streq(v->d.job.point, point))
		return 0; /* goes on */
	free(v->d.job.type);
	v->d.job = (struct vjob){ .type = strdup(type) };
	if (!v->d.job.type)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	snprintf(v->d.job.point, UUID_TEXT, "%s", point);
	return volume_save(v, e);
}

/* Lock held: the step of the job from one file to another; where to go on. */
static int set_step(struct volume *v, unsigned int from, unsigned int to, uint64_t *at,
		    struct err **e)
{
	if (v->d.job.from == from && v->d.job.to == to) {
		*at = v->d.job.done;
		return 0;
	}
	v->d.job.from = from;
	v->d.job.to = to;
	v->d.job.done = v->d.job.total = *at = 0;
	return volume_save(v, e);
}

static int work_save(struct job *j, void *arg, uint64_t done, uint64_t total, struct err **e)
{
	struct volume *v = arg;
	int r = v->job_dst ? disk_flush(v->job_dst) : 0;

	if (r < 0)
		return r;
	pthread_mutex_lock(&v->lock);
	v->d.job.done = done;
	v->d.job.total = total;
	r = volume_save(v, e);
	pthread_mutex_unlock(&v->lock);
	return r;
}

/* Lock held: after v->d has changed which file stands on which. */
static int rechain(struct volume *v, bool live, struct err **e)
{
	int r = FAULT_POINT("volume.chain");

	r = r ?: volume_save(v, e);
	r = r ?: FAULT_POINT("volume.mend");
	r = r ?: volume_mend(v, e);
	if (r == 0 && live)
		r = live_chain(v->disk, e);
	return r;
}

/* ---- merge ---- */

bool volume_protected(struct volume *v, unsigned int n)
{
	for (size_t i = 0; i < v->d.points.n; i++)
		if (vdesc_reaches(&v->d, v->d.points.v[i].file, n) &&
		    volume_point_clones(v, v->d.points.v[i].id, NULL))
			return true;
	return false;
}

static enum mode choose(struct volume *v, unsigned int x, unsigned int c)
{
	uint64_t ux = volume_file_used(v, x), uc = volume_file_used(v, c);
	const struct vjob *j = &v->d.job;
	bool live = v->disk && c == v->d.current, saving = vdesc_save_file(&v->d) != 0;

	if (v->disk && vdesc_file(&v->d, x)->backing == v->d.current)
		return SAVE;
	if (live && ux <= uc)
		return STREAM;
	if (live && uc <= v->small && !saving)
		return FINAL;
	if (live)
		return v->passes < MAX_PASSES ? HELPER : STREAM;
	if (j->type && j->from == x && j->to == c)
		return STREAM;
	if (j->type && j->from == c && j->to == x)
		return COMMIT;
	return ux <= uc ? STREAM : COMMIT;
}

static enum mode pick(struct volume *v, unsigned int *x, unsigned int *c)
{
	for (size_t i = 0; i < v->d.files.n; i++) {
		unsigned int n = v->d.files.v[i].n, one = 0, children;

		if (vdesc_used(&v->d, n) || volume_protected(v, n))
			continue;
		children = vdesc_children(&v->d, n, &one);
		*x = n;
		*c = one;
		if (children == 0)
			return DELETE;
		if (children == 1)
			return choose(v, n, one);
	}
	return NONE;
}

bool volume_can_merge(struct volume *v)
{
	unsigned int x, c;

	return pick(v, &x, &c) != NONE;
}

/* Lock held. */
static int delete_file(struct volume *v, unsigned int x, struct err **e)
{
	struct vfile f = *vdesc_file(&v->d, x);
	int r = 0;

	if (v->disk && f.backing == v->d.current)
		r = cbw_stop(v->disk, e);
	vdesc_remove_file(&v->d, x);
	r = r ?: FAULT_POINT("volume.unlink");
	r = r ?: volume_save(v, e);
	if (r == 0)
		volume_unlink(v, &f);
	return r;
}

/* Lock held: c, with all of x in it, stands on what x stood on. */
static int end_stream(struct volume *v, unsigned int x, unsigned int c, struct err **e)
{
	bool live = v->disk && vdesc_reaches(&v->d, v->d.current, x);
	struct vfile f = *vdesc_file(&v->d, x);
	int r = vdesc_set_backing(&v->d, c, f.backing, f.external);

	if (r < 0)
		return err_sys(e, -r, "change the tree");
	vdesc_remove_file(&v->d, x);
	r = rechain(v, live, e);
	if (r == 0)
		volume_unlink(v, &f);
	return r;
}

/* Lock held, in memory: x, with all of c in it, takes c's place. */
static int replace(struct volume *v, unsigned int x, unsigned int c, struct err **e)
{
	for (size_t i = 0; i < v->d.files.n; i++)
		if (v->d.files.v[i].backing == c &&
		    vdesc_set_backing(&v->d, v->d.files.v[i].n, x, false) < 0)
			return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (size_t i = 0; i < v->d.points.n; i++)
		if (v->d.points.v[i].file == c)
			v->d.points.v[i].file = x;
	if (v->d.current == c)
		v->d.current = x;
	vdesc_remove_file(&v->d, c);
	return 0;
}

static int end_commit(struct volume *v, unsigned int x, unsigned int c, struct err **e)
{
	bool live = v->disk && vdesc_reaches(&v->d, v->d.current, c);
	struct vfile f = *vdesc_file(&v->d, c);
	int r = replace(v, x, c, e);

	r = r ?: rechain(v, live, e);
	if (r == 0)
		volume_unlink(v, &f);
	return r;
}

static int do_stream(struct volume *v, struct job *j, unsigned int x, unsigned int c, uint64_t at,
		     bool live, struct err **e)
{
	struct move m = { .job = j, .from = at };
	struct disk *d = v->disk;
	int r = live ? 0 : volume_open_file(v, c, true, false, &d, e), k;

	v->job_dst = d;
	r = r ?: move_stream(d, 1, &m, e);
	v->job_dst = NULL;
	if (!live) {
		k = disk_close(d);
		if (r == 0 && k < 0)
			r = err_sys(e, -k, "close file %u", c);
	}
	if (r < 0)
		return r;
	pthread_mutex_lock(&v->lock);
	return volume_leave(v, end_stream(v, x, c, e));
}

/* dst gets src's size: what is beyond of it nobody sees. */
static int same_size(struct disk *dst, struct disk *src, struct err **e)
{
	return disk_size(dst) == disk_size(src)
		       ? 0
		       : disk_resize(dst, disk_size(src), DISK_THIN, true, e);
}

static int do_commit(struct volume *v, struct job *j, unsigned int x, unsigned int c, uint64_t at,
		     struct err **e)
{
	struct move m = { .job = j, .from = at };
	struct disk *to = NULL, *from = NULL;
	int r = volume_open_file(v, x, true, false, &to, e), k;

	r = r ?: volume_open_file(v, c, false, true, &from, e);
	r = r ?: same_size(to, from, e);
	v->job_dst = to;
	r = r ?: move_commit(from, to, &m, e);
	v->job_dst = NULL;
	disk_close(from);
	if (r == 0) {
		pthread_mutex_lock(&v->lock);
		r = end_commit(v, x, c, e);
		if (r < 0) {
			disk_close(v->kept);
			v->kept = TAKE(to); /* somebody may still read by the old map */
		}
		pthread_mutex_unlock(&v->lock);
	}
	k = disk_close(to);
	return r == 0 && k < 0 ? err_sys(e, -k, "close file %u", x) : r;
}

static int do_save(struct volume *v, struct job *j, unsigned int x, unsigned int c, uint64_t at,
		   struct err **e)
{
	struct move m = { .job = j, .from = at };
	struct disk *from = NULL;
	int r = volume_open_file(v, c, false, true, &from, e);

	r = r ?: move_save(from, v->disk, &m, e);
	disk_close(from);
	if (r < 0)
		return r;
	pthread_mutex_lock(&v->lock);
	return volume_leave(v, end_commit(v, x, c, e));
}

/* Lock held: a new file on top, that nobody else needs. */
static int do_helper(struct volume *v, struct err **e)
{
	_cleanup_(freep) char *path = NULL;
	unsigned int n, was = v->d.current;
	int r = vdesc_add_file(&v->d, false, was, false, &n);

	r = r < 0 ? err_sys(e, -r, "list a file") : volume_make_file(v, n, v->d.size, true, e);
	if (r < 0)
		return r;
	v->passes++;
	v->d.current = n;
	path = volume_path(v, n);
	r = path ? volume_save(v, e) : -ENOMEM;
	r = r ?: live_overlay(v->disk, path, e);
	if (r < 0) {
		v->d.current = was;
		vdesc_remove_file(&v->d, n);
		volume_save(v, NULL);
		return r;
	}
	return live_fold(v->disk, e);
}

struct final {
	struct volume *v;
	struct job *j;
	unsigned int x, c;
};

/* I/O is stopped, c is sealed. */
static int final_before(void *arg, struct err **e)
{
	struct final *f = arg;
	struct move m = { 0 };
	struct disk *to = NULL, *from = NULL;
	int r = volume_open_file(f->v, f->x, true, false, &to, e), k;

	r = r ?: volume_open_file(f->v, f->c, false, true, &from, e);
	r = r ?: same_size(to, from, e);
	r = r ?: move_commit(from, to, &m, e);
	disk_close(from);
	k = disk_close(to);
	if (r == 0 && k < 0)
		r = err_sys(e, -k, "close file %u", f->x);
	r = r ?: replace(f->v, f->x, f->c, e);
	return r ?: volume_save(f->v, e);
}

/* Lock held. */
static int do_final(struct volume *v, struct job *j, unsigned int x, unsigned int c, struct err **e)
{
	_cleanup_(freep) char *path = volume_path(v, x);
	struct vfile gone = *vdesc_file(&v->d, c);
	struct final f = { v, j, x, c };
	int r = path ? live_switch(v->disk, path, vdesc_file(&v->d, x)->raw ? "raw" : "qcow2",
				   final_before, &f, e)
		     : -ENOMEM;

	r = r ?: volume_mend(v, e);
	if (r == 0)
		volume_unlink(v, &gone);
	return r;
}

static int merge_step(struct volume *v, struct job *j, bool *more, struct err **e)
{
	unsigned int x = 0, c = 0;
	enum mode mode;
	uint64_t at = 0;
	bool busy = false;
	int r = 0;

	pthread_mutex_lock(&v->lock);
	mode = pick(v, &x, &c);
	*more = mode != NONE;
	if (mode == DELETE)
		return volume_leave(v, delete_file(v, x, e));
	if (mode == HELPER)
		return volume_leave(v, do_helper(v, e));
	if (mode == FINAL)
		return volume_leave(v, do_final(v, j, x, c, e));
	if (mode == NONE)
		return volume_leave(v, 0);
	r = mode == STREAM ? set_step(v, x, c, &at, e) : set_step(v, c, x, &at, e);
	if (r == 0 && !v->disk && (c == v->d.current || vdesc_reaches(&v->d, x, v->d.current)))
		v->current_busy = busy = true;
	if (r < 0)
		return lock_failed(v, r);
	/* the attached disk stays while the job runs: volume_detach() ends the job first */
	pthread_mutex_unlock(&v->lock);
	r = mode == STREAM   ? do_stream(v, j, x, c, at, v->disk && c == v->d.current, e)
	    : mode == COMMIT ? do_commit(v, j, x, c, at, e)
			     : do_save(v, j, x, c, at, e);
	if (busy) {
		pthread_mutex_lock(&v->lock);
		v->current_busy = false;
		pthread_mutex_unlock(&v->lock);
	}
	return r;
}

static int merge_run(struct job *j, void *arg, struct err **e)
{
	struct volume *v = arg;
	bool more = true;
	int r = 0;

	v->passes = 0;
	while (more && r == 0)
		r = job_cancelled(j) ? -ECANCELED : merge_step(v, j, &more, e);
	return r;
}

/* ---- flatten, promote ---- */

/* All that file n shows moves into it; then it stands on nothing. */
static int pull(struct volume *v, struct job *j, unsigned int n, struct err **e)
{
	struct move m = { .job = j };
	struct disk *d = NULL;
	bool live, busy;
	int r, k;

	pthread_mutex_lock(&v->lock);
	live = v->disk && n == v->d.current;
	busy = v->current_busy = !v->disk && n == v->d.current;
	r = set_step(v, 0, n, &m.from, e);
	pthread_mutex_unlock(&v->lock);
	if (live)
		d = v->disk;
	else
		r = r ?: volume_open_file(v, n, true, false, &d, e);
	v->job_dst = d;
	r = r ?: move_stream(d, UINT_MAX, &m, e);
	v->job_dst = NULL;
	if (!live) {
		k = disk_close(d);
		if (r == 0 && k < 0)
			r = err_sys(e, -k, "close file %u", n);
	}
	pthread_mutex_lock(&v->lock);
	if (r == 0) {
		bool seen = v->disk && vdesc_reaches(&v->d, v->d.current, n);

		r = vdesc_set_backing(&v->d, n, 0, false);
		r = r < 0 ? err_sys(e, -r, "change the tree") : rechain(v, seen, e);
	}
	if (busy)
		v->current_busy = false;
	return volume_leave(v, r);
}

/* Lock held: no file stands on the base any more. */
static int release_base(struct volume *v, struct err **e)
{
	for (size_t i = 0; i < v->d.files.n; i++)
		if (v->d.files.v[i].external)
			return 0;
	free(v->d.base.dir);
	free(v->d.base.file);
	free(v->d.base.format);
	v->d.base.dir = v->d.base.file = v->d.base.format = NULL;
	v->d.base.id[0] = v->d.base.point[0] = '\0';
	return volume_save(v, e);
}

static int flatten_run(struct job *j, void *arg, struct err **e)
{
	struct volume *v = arg;
	const struct vfile *f;
	unsigned int n;
	int r;

	pthread_mutex_lock(&v->lock);
	f = vdesc_file(&v->d, v->d.current);
	n = f->backing ?: f->n; /* the newest sealed one; or there is only the base below */
	f = vdesc_file(&v->d, n);
	if (!f->backing && !f->external)
		n = v->d.current;
	pthread_mutex_unlock(&v->lock);
	r = pull(v, j, n, e);
	pthread_mutex_lock(&v->lock);
	r = r ?: release_base(v, e);
	pthread_mutex_unlock(&v->lock);
	return r ?: merge_run(j, arg, e);
}

static int promote_run(struct job *j, void *arg, struct err **e)
{
	struct volume *v = arg;
	int r = 0;

	while (r == 0) {
		unsigned int n = 0;

		pthread_mutex_lock(&v->lock);
		for (size_t i = 0; i < v->d.files.n && !n; i++)
			n = v->d.files.v[i].external ? v->d.files.v[i].n : 0;
		if (!n)
			r = release_base(v, e);
		pthread_mutex_unlock(&v->lock);
		if (!n)
			break;
		r = pull(v, j, n, e);
	}
	return r;
}

/* ---- fill: a cow point becomes an independent copy ---- */

static int fill_run(struct job *j, void *arg, struct err **e)
{
	struct volume *v = arg;
	struct move m = { .job = j };
	struct disk *d = NULL;
	struct vpoint *p;
	unsigned int n = 0;
	uint64_t size = 0;
	bool live = false, busy = false;
	int r, k;

	pthread_mutex_lock(&v->lock);
	r = vdesc_need_point(&v->d, v->d.job.point, &p, e);
	if (r == 0) {
		n = p->file;
		size = p->size;
		live = v->disk && vdesc_save_file(&v->d) == n;
		busy = v->current_busy = !v->disk && vdesc_reaches(&v->d, n, v->d.current);
		r = set_step(v, 0, n, &m.from, e);
	}
	pthread_mutex_unlock(&v->lock);
	if (live) {
		r = r
			    ?: move_capture(v->disk, size, &m,
					    e); /* each piece is stable when it is done */
	} else {
		r = r ?: volume_open_file(v, n, true, false, &d, e);
		v->job_dst = d;
		r = r ?: move_stream(d, UINT_MAX, &m, e);
		v->job_dst = NULL;
		k = disk_close(d);
		if (r == 0 && k < 0)
			r = err_sys(e, -k, "close file %u", n);
	}
	pthread_mutex_lock(&v->lock);
	if (r == 0 && live)
		r = cbw_stop(v->disk, e);
	if (r == 0) {
		p = vdesc_point(&v->d, v->d.job.point);
		p->complete = true;
		r = vdesc_set_backing(&v->d, n, 0, false);
		r = r < 0 ? err_sys(e, -r, "change the tree") : rechain(v, false, e);
	}
	if (busy)
		v->current_busy = false;
	return volume_leave(v, r);
}

/* ---- restore in place ---- */

static int restore_run(struct job *j, void *arg, struct err **e)
{
	struct volume *v = arg;
	struct move m = { .job = j };
	struct disk *src = NULL, *dst = NULL;
	_cleanup_(freep) char *save = NULL;
	struct vpoint *p;
	unsigned int depth = UINT_MAX, saving = 0;
	uint64_t size = 0;
	int r, k;

	pthread_mutex_lock(&v->lock);
	r = vdesc_need_point(&v->d, v->d.job.point, &p, e);
	if (r == 0 && p->kind != VOLUME_FULL)
		depth = vdesc_depth(&v->d, p->file) - vdesc_depth(&v->d, v->d.current);
	if (r == 0) {
		size = p->size;
		saving = vdesc_save_file(&v->d);
		save = saving ? volume_path(v, saving) : NULL;
		r = set_step(v, p->file, v->d.current, &m.from, e);
		r = r ?: volume_open_file(v, p->file, false, false, &src, e);
		r = r ?: volume_open_file(v, v->d.current, true, false, &dst, e);
		v->current_busy = true;
	}
	pthread_mutex_unlock(&v->lock);
	if (r == 0 && saving)
		r = save ? cbw_start(dst, save, e) : -ENOMEM;
	if (r == 0 && disk_size(dst) != size)
		r = disk_resize(dst, size, DISK_THIN, true, e);
	v->job_dst = dst;
	r = r ?: move_restore(src, depth, dst, &m, e);
	v->job_dst = NULL;
	disk_close(src);
	k = disk_close(dst);
	if (r == 0 && k < 0)
		r = err_sys(e, -k, "close the current file");
	pthread_mutex_lock(&v->lock);
	v->current_busy = false;
	if (r == 0) {
		v->d.size = size;
		memcpy(v->d.parent, v->d.job.point, UUID_TEXT);
	}
	return volume_leave(v, r);
}

/* ---- all of them ---- */

/* A fill that nobody wants any more: its point goes. */
static int drop_fill(struct volume *v, struct err **e)
{
	struct vpoint *p = vdesc_point(&v->d, v->d.job.point);
	unsigned int n = p ? p->file : 0;

	free(v->d.job.type);
	v->d.job = (struct vjob){ 0 };
	if (!p || p->complete)
		return volume_save(v, e);
	vdesc_remove_point(&v->d, p);
	if (vdesc_children(&v->d, n, NULL) == 0 && !vdesc_used(&v->d, n))
		return delete_file(v, n, e);
	return volume_save(v, e);
}

static int work_end(struct job *j, void *arg, int r, struct err **e)
{
	struct volume *v = arg;
	int k = 0;

	pthread_mutex_lock(&v->lock);
	if (r == -ECANCELED && !v->closing && v->d.job.type && streq(v->d.job.type, "fill")) {
		k = drop_fill(v, e);
	} else if (r >= 0 || (r == -ECANCELED && !v->closing && v->d.job.type &&
			      !streq(v->d.job.type, "restore"))) {
		free(v->d.job.type);
		v->d.job = (struct vjob){ 0 };
		k = volume_save(v, e);
	}
	return volume_leave(v, k);
}

static const struct job_ops works[] = {
	{ "merge", merge_run, work_save, 0, work_end },
	{ "flatten", flatten_run, work_save, 0, work_end },
	{ "promote", promote_run, work_save, 0, work_end },
	{ "fill", fill_run, work_save, 0, work_end },
	{ "restore", restore_run, work_save, 0, work_end },
};

int volume_start(struct volume *v, const char *type, const char *point, struct job **ret,
		 struct err **e)
{
	const struct job_ops *ops = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(works); i++)
		if (streq(works[i].type, type))
			ops = &works[i];
	if (!ops)
		return err_set(e, EINVAL, "volume.damaged", "volume '%s' names an unknown job '%s'",
			       v->dir, type);
	r = set_job(v, type, point, e);
	if (r < 0)
		return r;
	job_free(TAKE(v->job)); /* it has ended */
	r = job_start(ops, v, v->rate, &v->job, e);
	if (r == 0)
		*ret = v->job;
	return r;
}
