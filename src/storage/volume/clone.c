/* Clones, linked and full; see volume.h.
 *
 * A linked clone is recorded in its base before it exists, so there is no moment when it stands on a point that may be
 * deleted.  A record whose clone is gone, or stands on nothing any more, counts for nothing: who looks asks the clone. */
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include "base/buf.h"
#include "base/str.h"
#include "storage/jobs/copy.h"
#include "storage/volume/volume_int.h"

/* Is the clone there, and does it stand on that point of ours?  What cannot be told counts as yes. */
static bool alive(struct volume *v, const struct vclone *c)
{
	_cleanup_(closep) int fd = -1;
	struct vdesc d = { 0 };
	bool is;

	if (v->job_dir && streq(v->job_dir, c->dir))
		return true; /* being made */
	fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT && errno != ENOTDIR;
	if (faccessat(fd, VOLUME_FILE, F_OK, 0) < 0 && errno == ENOENT)
		return false;
	if (vdesc_load(fd, c->dir, &d, NULL) < 0)
		return true;
	is = streq(d.id, c->id) && streq(d.base.id, v->d.id);
	vdesc_done(&d);
	return is;
}

bool volume_point_clones(struct volume *v, const char *id, struct buf *names)
{
	bool any = false;

	for (size_t i = 0; i < v->d.clones.n; i++) {
		const struct vclone *c = &v->d.clones.v[i];

		if ((id && !streq(c->point, id)) || !alive(v, c))
			continue;
		if (names)
			buf_addf(names, "%s%s", any ? ", " : "", c->dir);
		any = true;
		if (!names)
			break;
	}
	return any;
}

/* What the header of an image in `dir` should call the file `path` (both absolute): "../base/f1.qcow2" among
 * neighbours, so that a datastore can be moved as a whole. */
static char *name_from(const char *dir, const char *path)
{
	const char *end = strrchr(dir, '/');
	size_t n = end ? (size_t)(end - dir) + 1 : 0;
	char *s;

	if (n > 1 && strncmp(dir, path, n) == 0)
		return asprintf(&s, "../%s", path + n) < 0 ? NULL : s;
	return strdup(path);
}

static char *absolute(const char *dir)
{
	_cleanup_(freep) char *copy = strdup(dir);
	_cleanup_(freep) char *copy2 = strdup(dir);
	_cleanup_(freep) char *parent = NULL;
	char *s;

	if (!copy || !copy2)
		return NULL;
	parent = realpath(dirname(copy), NULL);
	if (!parent)
		return NULL;
	return asprintf(&s, "%s/%s", streq(parent, "/") ? "" : parent, basename(copy2)) < 0 ? NULL
											    : s;
}

static int record(struct volume *v, const char *id, const char *point, const char *dir,
		  struct err **e)
{
	struct vclone c = { .dir = strdup(dir) };

	/* now and then, so that a clone costs the same however many there are */
	for (size_t i = 0; is_pow2(v->d.clones.n) && i < v->d.clones.n; i++)
		if (!alive(v, &v->d.clones.v[i])) {
			free(v->d.clones.v[i].dir);
			vec_remove(&v->d.clones, i--);
		}
	memcpy(c.id, id, UUID_TEXT);
	memcpy(c.point, point, UUID_TEXT);
	if (!c.dir || vec_push(&v->d.clones, c) < 0) {
		free(c.dir);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	return volume_save(v, e);
}

/* A volume in memory that lives in `tmp`, with its first file standing on p's. */
static int linked(struct volume *v, const struct vpoint *p, const char *id, const char *dir,
		  const char *tmp, struct err **e)
{
	_cleanup_(freep) char *path = volume_path(v, p->file);
	struct volume n = { .dir = (char *)(uintptr_t)tmp, .dir_fd = -1 };
	const struct vfile *f = vdesc_file(&v->d, p->file);
	struct vdesc *d = &n.d;
	int r;

	memcpy(d->id, id, UUID_TEXT);
	memcpy(d->base.id, v->d.id, UUID_TEXT);
	memcpy(d->base.point, p->id, UUID_TEXT);
	d->size = p->size;
	d->max_depth = v->d.max_depth;
	d->next = 1;
	d->base.dir = strdup(v->dir);
	d->base.format = strdup(f->raw ? "raw" : "qcow2");
	d->base.file = path ? name_from(dir, path) : NULL;
	n.dir_fd = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!d->base.dir || !d->base.format || !d->base.file ||
	    vdesc_add_file(d, false, 0, true, &d->current) < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	else if (n.dir_fd < 0)
		r = err_sys(e, errno, "open '%s'", tmp);
	else
		r = volume_make_file(&n, d->current, d->size, true, e);
	r = r ?: vdesc_save(n.dir_fd, d, e);
	vdesc_done(d);
	safe_close(n.dir_fd);
	return r;
}

/* ---- full ---- */

struct copying {
	struct volume *v;
	struct job *j;
	uint64_t last;
	bool cancel;
};

static void clone_progress(void *arg, uint64_t done, uint64_t total)
{
	struct copying *c = arg;

	if (job_step(c->j, done - c->last, done, total) < 0)
		__atomic_store_n(&c->cancel, true, __ATOMIC_RELAXED);
	c->last = done;
}

static int clone_run(struct job *j, void *arg, struct err **e)
{
	struct volume *v = arg;
	struct copying c = { .v = v, .j = j };
	struct copy_opts o = {
		.dst_zero = true, .progress = clone_progress, .arg = &c, .cancel = &c.cancel
	};
	_cleanup_(freep) char *path = NULL;
	struct disk_cfg cfg = { .format = "qcow2" };
	struct disk *dst = NULL;
	int r, k;

	if (asprintf(&path, "%s/f1.qcow2", v->job_tmp) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	cfg.path = path;
	r = disk_open(&cfg, &dst, e);
	r = r ?: disk_copy(v->job_src, dst, &o, e);
	k = disk_close(dst);
	if (r == 0 && k < 0)
		r = err_sys(e, -k, "close '%s'", path);
	return r ?: volume_build_end(v->job_dir, v->job_tmp, e);
}

static int clone_end(struct job *j, void *arg, int r, struct err **e)
{
	struct volume *v = arg;

	pthread_mutex_lock(&v->lock);
	disk_close(TAKE(v->job_src));
	v->current_busy = false;
	if (r < 0)
		volume_remove_tree(v->job_tmp, NULL);
	free(TAKE(v->job_tmp));
	free(TAKE(v->job_dir));
	return volume_leave(v, 0);
}

static const struct job_ops clone_ops = { "clone", clone_run, NULL, 0, clone_end };

static int full(struct volume *v, unsigned int file, uint64_t size, const char *dir, char *tmp,
		struct job **job, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	_cleanup_(freep) char *path = NULL;
	struct disk_create make = { .format = "qcow2", .size = size };
	struct vdesc d = { .max_depth = v->d.max_depth, .next = 1, .size = size };
	struct uuid u = uuid_v7();
	int r;

	uuid_format(&u, d.id);
	fd = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? err_sys(e, errno, "open '%s'", tmp) : 0;
	if (r == 0 && (vdesc_add_file(&d, false, 0, false, &d.current) < 0 ||
		       asprintf(&path, "%s/f1.qcow2", tmp) < 0))
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	make.path = path;
	r = r ?: disk_create(&make, e);
	r = r ?: vdesc_save(fd, &d, e);
	vdesc_done(&d);
	r = r ?: volume_open_file(v, file, false, false, &v->job_src, e);
	if (r < 0)
		return r;
	v->job_dir = strdup(dir);
	v->job_tmp = strdup(tmp);
	job_free(TAKE(v->job));
	v->current_busy = file == v->d.current;
	r = v->job_dir && v->job_tmp ? job_start(&clone_ops, v, v->rate, &v->job, e) : -ENOMEM;
	if (r < 0) {
		v->current_busy = false;
		disk_close(TAKE(v->job_src));
		free(TAKE(v->job_dir));
		free(TAKE(v->job_tmp));
		return r;
	}
	*job = v->job;
	return 0;
}

int volume_clone(struct volume *v, const char *point, const char *dir, bool is_full,
		 struct job **job, struct err **e)
{
	_cleanup_(freep) char *at = absolute(dir);
	_cleanup_(freep) char *tmp = NULL;
	char id[UUID_TEXT], name[UUID_TEXT + 8];
	struct uuid u = uuid_v7();
	struct vpoint *p = NULL;
	unsigned int file;
	int r;

	*job = NULL;
	uuid_format(&u, id);
	if (!at)
		return err_sys(e, errno, "find the folder of '%s'", dir);
	snprintf(name, sizeof(name), "clone-%s", id);
	if (!point && (!is_full || volume_disk(v))) { /* something that stays as it is */
		r = volume_snapshot(v, name, VOLUME_ROW, NULL, job, e);
		if (r < 0)
			return r;
		point = name;
		if (*job) /* flattening comes later: there is one job at a time */
			job_cancel(*job), job_wait(*job, NULL);
		*job = NULL;
	}
	r = volume_enter(v, e);
	if (r < 0)
		return r;
	if (point)
		r = vdesc_need_point(&v->d, point, &p, e);
	if (r == 0 && v->d.job.type)
		r = err_set(e, EBUSY, "volume.busy", "a job waits to be resumed: %s",
			    v->d.job.type);
	if (r == 0 && p && vdesc_reaches(&v->d, p->file, v->d.current) && (!is_full || v->disk))
		r = err_set(e, EBUSY, "volume.busy",
			    "point '%s' shares blocks with the current state, which changes",
			    p->name);
	if (r == 0 && p && !p->complete)
		r = err_set(e, EBUSY, "volume.busy", "point '%s' is not complete", p->name);
	r = r ?: volume_build_begin(at, &tmp, e);
	if (r < 0)
		return volume_leave(v, r);
	file = p ? p->file : v->d.current;
	if (is_full) {
		r = full(v, file, p ? p->size : v->d.size, at, tmp, job, e);
	} else {
		v->job_dir = at; /* counts as living from now on */
		r = record(v, id, p->id, at, e);
		r = r ?: linked(v, vdesc_point(&v->d, point), id, at, tmp, e);
		r = r ?: volume_build_end(at, tmp, e);
		v->job_dir = NULL;
	}
	if (r < 0)
		volume_remove_tree(tmp, NULL);
	return volume_leave(v, r < 0 ? err_wrap(e, r, "clone volume '%s'", v->dir) : 0);
}
