/* Points: taken, restored, deleted; see volume.h.  What takes long is in work.c. */
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "storage/filters/cbw.h"
#include "storage/disk_ops.h"
#include "storage/live.h"
#include "storage/volume/volume_int.h"

/* ---- taken ---- */

static int add_point(struct volume *v, const char *name, enum volume_kind kind, unsigned int file,
		     char *id, struct err **e)
{
	struct uuid u = uuid_v7();
	struct vpoint p = { .kind = kind,
			    .file = file,
			    .size = v->d.size,
			    .complete = kind != VOLUME_FULL,
			    .created = now_real(),
			    .name = strdup(name) };

	uuid_format(&u, p.id);
	memcpy(p.parent, v->d.parent, UUID_TEXT);
	if (!p.name || vec_push(&v->d.points, p) < 0) {
		free(p.name);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	memcpy(v->d.parent, p.id, UUID_TEXT);
	if (id)
		memcpy(id, p.id, UUID_TEXT);
	return 0;
}

/* The new file n is listed, the descriptor changed in memory: write it down, then do it to the open disk.  What fails
 * there is taken back: the descriptor as it was is in `old`. */
static int commit_point(struct volume *v, unsigned int n,
			int (*live)(struct volume *v, unsigned int n, struct err **e),
			struct err **e)
{
	struct vdesc was = { 0 };
	struct vfile *f = vdesc_file(&v->d, n);
	int r = vdesc_load(v->dir_fd, v->dir, &was, e);

	if (r == 0)
		r = FAULT_POINT("volume.point");
	if (r == 0)
		r = volume_save(v, e);
	if (r == 0)
		r = FAULT_POINT("volume.recorded");
	if (r == 0 && v->disk) {
		r = live(v, n, e);
		if (r < 0 && vdesc_save(v->dir_fd, &was, NULL) < 0)
			r = err_wrap(e, r, "and the descriptor cannot be taken back");
	}
	if (r < 0) {
		struct vfile gone = f ? *f : (struct vfile){ 0 };

		vdesc_done(&v->d);
		v->d = was;
		if (gone.n && !vdesc_file(&v->d, gone.n))
			volume_unlink(v, &gone);
		return r;
	}
	vdesc_done(&was);
	return 0;
}

static int row_live(struct volume *v, unsigned int n, struct err **e)
{
	_cleanup_(freep) char *path = volume_path(v, n);

	return path ? live_overlay(v->disk, path, e) : -ENOMEM;
}

static int take_row(struct volume *v, const char *name, char *id, struct err **e)
{
	unsigned int old = v->d.current, n;
	int r = vdesc_add_file(&v->d, false, old, false, &n);

	r = r < 0 ? err_sys(e, -r, "list a file") : volume_make_file(v, n, v->d.size, true, e);
	r = r ?: add_point(v, name, VOLUME_ROW, old, id, e);
	if (r < 0)
		return r;
	v->d.current = n;
	r = commit_point(v, n, row_live, e);
	if (r == 0 && v->disk)
		live_fold(v->disk, NULL); /* else the map stays in two parts: slower, not wrong */
	return r;
}

static int nothing(void *arg, struct err **e)
{
	return 0;
}

static int cow_live(struct volume *v, unsigned int n, struct err **e)
{
	_cleanup_(freep) char *path = volume_path(v, n);

	int r = path ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	/* the point is of this moment, after a crash too: what was written before must not be lost later */
	disk_quiesce(v->disk);
	r = live_frozen(v->disk, nothing, NULL, e);
	r = r ?: cbw_start(v->disk, path, e);
	disk_resume(v->disk);
	return r;
}

static int take_cow(struct volume *v, const char *name, enum volume_kind kind, char *id,
		    struct err **e)
{
	unsigned int older = vdesc_save_file(&v->d), n;
	int r = vdesc_add_file(&v->d, false, v->d.current, false, &n);

	r = r < 0 ? err_sys(e, -r, "list a file") : volume_make_file(v, n, v->d.size, false, e);
	r = r ?: add_point(v, name, kind, n, id, e);
	if (r == 0 && older && vdesc_set_backing(&v->d, older, n, false) < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (r < 0)
		return r;
	if (kind == VOLUME_FULL) {
		free(v->d.job.type);
		v->d.job = (struct vjob){ .type = strdup("fill") };
		if (!v->d.job.type)
			return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
		memcpy(v->d.job.point, v->d.parent, UUID_TEXT);
	}
	r = commit_point(v, n, cow_live, e);
	/* the older one's header: it said "current", and the new one is still empty or about to be filled with what
	 * it lacks: the same contents */
	return r ?: volume_mend(v, e);
}

struct reflink {
	struct volume *v;
	unsigned int from, to;
};

static int clone_file(void *arg, struct err **e)
{
	struct reflink *x = arg;
	const struct vfile *a = vdesc_file(&x->v->d, x->from), *b = vdesc_file(&x->v->d, x->to);
	_cleanup_(closep) int in = -1;
	_cleanup_(closep) int out = -1;
	char name[32];

	vfile_name(a, name);
	in = openat(x->v->dir_fd, name, O_RDONLY | O_CLOEXEC);
	vfile_name(b, name);
	out = openat(x->v->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (in < 0 || out < 0)
		return err_sys(e, errno, "open '%s'", name);
	if (ioctl(out, FICLONE, in) < 0) {
		int num = errno;

		unlinkat(x->v->dir_fd, name, 0);
		if (num == EOPNOTSUPP || num == ENOTTY || num == EINVAL || num == EXDEV)
			return err_set(e, ENOTSUP, "disk.reflink",
				       "the file system of '%s' cannot share blocks between files",
				       x->v->dir);
		return err_sys(e, num, "copy '%s' by reference", name);
	}
	return fsync(out) < 0 ? err_sys(e, errno, "sync '%s'", name) : 0;
}

static int take_reflink(struct volume *v, const char *name, char *id, struct err **e)
{
	const struct vfile *f = vdesc_file(&v->d, v->d.current);
	struct reflink x = { v, v->d.current, 0 };
	int r = vdesc_add_file(&v->d, f->raw, f->backing, f->external, &x.to);

	if (r < 0)
		return err_sys(e, -r, "list a file");
	r = v->disk ? live_frozen(v->disk, clone_file, &x, e) : clone_file(&x, e);
	r = r ?: add_point(v, name, VOLUME_REFLINK, x.to, id, e);
	return r ?: volume_save(v, e);
}

/* Files that were made for a point that did not come to be. */
static void forget(struct volume *v, int r)
{
	struct vdesc was = { 0 };

	if (r == 0 || vdesc_load(v->dir_fd, v->dir, &was, NULL) < 0)
		return;
	for (size_t i = 0; i < v->d.files.n; i++)
		if (!vdesc_file(&was, v->d.files.v[i].n))
			volume_unlink(v, &v->d.files.v[i]);
	vdesc_done(&v->d);
	v->d = was;
}

int volume_snapshot(struct volume *v, const char *name, enum volume_kind kind, char *id,
		    struct job **job, struct err **e)
{
	int r = volume_name_check(name, e);

	*job = NULL;
	r = r ?: volume_enter(v, e);
	if (r < 0)
		return r;
	if (v->d.job.type && streq(v->d.job.type, "restore"))
		r = err_set(e, EBUSY, "volume.busy", "the current state is half restored");
	else if (vdesc_point(&v->d, name))
		r = err_set(e, EEXIST, "volume.exists", "there is a point '%s'", name);
	else if (kind == VOLUME_FULL && v->d.job.type)
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	if (r < 0)
		return volume_leave(v, r);
	r = kind == VOLUME_ROW	     ? take_row(v, name, id, e)
	    : kind == VOLUME_REFLINK ? take_reflink(v, name, id, e)
				     : take_cow(v, name, kind, id, e);
	forget(v, r);
	if (r == 0 && kind == VOLUME_FULL)
		r = volume_start(v, "fill", v->d.job.point, job, e);
	else if (r == 0 && kind == VOLUME_ROW && !v->d.job.type &&
		 vdesc_depth(&v->d, v->d.current) > v->d.max_depth)
		r = volume_start(v, "flatten", "", job, e);
	return volume_leave(v,
			    r < 0 ? err_wrap(e, r, "volume '%s': snapshot '%s'", v->dir, name) : 0);
}

/* ---- restored ---- */

static int restore_above(struct volume *v, const struct vpoint *p, struct err **e)
{
	unsigned int n;
	int r = vdesc_add_file(&v->d, false, p->file, false, &n);

	r = r < 0 ? err_sys(e, -r, "list a file") : volume_make_file(v, n, p->size, true, e);
	if (r < 0)
		return r;
	v->d.current = n;
	return 0;
}

static int restore_reflink(struct volume *v, const struct vpoint *p, struct err **e)
{
	const struct vfile *f = vdesc_file(&v->d, p->file);
	struct reflink x = { v, p->file, 0 };
	int r = vdesc_add_file(&v->d, f->raw, f->backing, f->external, &x.to);

	r = r < 0 ? err_sys(e, -r, "list a file") : clone_file(&x, e);
	if (r < 0)
		return r;
	v->d.current = x.to;
	return 0;
}

int volume_restore(struct volume *v, const char *which, struct job **job, struct err **e)
{
	unsigned int was;
	struct vpoint *p;
	int r = volume_enter(v, e);

	*job = NULL;
	if (r < 0)
		return r;
	was = v->d.current;
	r = vdesc_need_point(&v->d, which, &p, e);
	if (r == 0 && v->disk)
		r = err_set(e, EBUSY, "volume.attached",
			    "volume '%s' is attached: its user would not survive this", v->dir);
	if (r == 0 && v->d.job.type)
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	if (r == 0 && !p->complete)
		r = err_set(e, EBUSY, "volume.busy", "point '%s' is not complete", p->name);
	if (r < 0)
		return volume_leave(v, r);
	if (p->kind == VOLUME_FULL || vdesc_reaches(&v->d, p->file, was)) {
		if (p->size != v->d.size && vdesc_save_file(&v->d))
			r = err_set(
				e, EBUSY, "volume.points",
				"the size differs, and cow points save the current file's blocks");
		else
			r = volume_start(v, "restore", p->id, job, e);
		return volume_leave(v, r);
	}
	r = p->kind == VOLUME_REFLINK ? restore_reflink(v, p, e) : restore_above(v, p, e);
	if (r == 0) {
		unsigned int child = vdesc_children(&v->d, was, NULL);
		struct vfile gone = *vdesc_file(&v->d, was);
		bool drop = !child && !vdesc_used(&v->d, was);

		p = vdesc_point(&v->d,
				which); /* nothing moved it, but the reader need not prove that */
		memcpy(v->d.parent, p->id, UUID_TEXT);
		v->d.size = p->size;
		if (drop)
			vdesc_remove_file(&v->d, was);
		r = FAULT_POINT("volume.restore");
		r = r ?: volume_save(v, e);
		if (r == 0 && drop)
			volume_unlink(v, &gone);
	}
	forget(v, r);
	return volume_leave(v,
			    r < 0 ? err_wrap(e, r, "volume '%s': restore '%s'", v->dir, which) : 0);
}

/* ---- deleted, merged ---- */

int volume_delete(struct volume *v, const char *which, struct job **job, struct err **e)
{
	_cleanup_(buf_done) struct buf names = { 0 };
	struct vpoint *p;
	int r = volume_enter(v, e);

	*job = NULL;
	if (r < 0)
		return r;
	r = vdesc_need_point(&v->d, which, &p, e);
	if (r == 0 && v->d.job.type && streq(v->d.job.type, "fill") &&
	    streq(v->d.job.point, p->id)) {
		free(v->d.job.type); /* that is settled, then */
		v->d.job = (struct vjob){ 0 };
	}
	if (r == 0 && v->d.job.type && !streq(v->d.job.type, "merge"))
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	if (r == 0 && volume_point_clones(v, p->id, &names))
		r = err_set(e, EBUSY, "volume.protected", "linked clones stand on point '%s': %s",
			    p->name, buf_str(&names));
	if (r < 0)
		return volume_leave(v, r);
	vdesc_remove_point(&v->d, p);
	r = FAULT_POINT("volume.delete");
	r = r ?: volume_save(v, e);
	if (r == 0 && volume_can_merge(v))
		r = volume_start(v, "merge", "", job, e);
	return volume_leave(v, r);
}

int volume_compact(struct volume *v, struct job **job, struct err **e)
{
	int r = volume_enter(v, e);

	*job = NULL;
	if (r < 0)
		return r;
	if (v->d.job.type && !streq(v->d.job.type, "merge"))
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	else if (volume_can_merge(v))
		r = volume_start(v, "merge", "", job, e);
	return volume_leave(v, r);
}

int volume_flatten(struct volume *v, struct job **job, struct err **e)
{
	int r = volume_enter(v, e);
	const struct vfile *f;

	*job = NULL;
	if (r < 0)
		return r;
	f = vdesc_file(&v->d, v->d.current);
	if (v->d.job.type && !streq(v->d.job.type, "flatten"))
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	else if (f->backing || f->external)
		r = volume_start(v, "flatten", "", job, e);
	return volume_leave(v, r);
}

int volume_promote(struct volume *v, struct job **job, struct err **e)
{
	int r = volume_enter(v, e);

	*job = NULL;
	if (r < 0)
		return r;
	if (v->d.job.type && !streq(v->d.job.type, "promote"))
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	else if (v->d.base.dir)
		r = volume_start(v, "promote", "", job, e);
	return volume_leave(v, r);
}

int volume_resume(struct volume *v, struct job **job, struct err **e)
{
	int r = volume_enter(v, e);

	*job = NULL;
	if (r < 0)
		return r;
	if (v->d.job.type) {
		_cleanup_(freep) char *type = strdup(v->d.job.type);
		char point[UUID_TEXT];

		memcpy(point, v->d.job.point, UUID_TEXT);
		r = type ? volume_start(v, type, point, job, e) : -ENOMEM;
	} else if (volume_can_merge(v)) {
		r = volume_start(v, "merge", "", job, e);
	}
	return volume_leave(v, r);
}
