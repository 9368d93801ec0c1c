/* Life of a volume: made, opened, attached, looked at, removed.  See volume.h and volume_int.h. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "storage/filters/cbw.h"
#include "storage/volume/volume_int.h"

/* ---- names ---- */

int volume_name_check(const char *name, struct err **e)
{
	static const char ok[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@+-";
	size_t n = name ? strlen(name) : 0;

	if (n == 0 || n > 128 || strspn(name, ok) != n)
		return err_set(e, EINVAL, "volume.name",
			       "'%s': a name has 1 to 128 of letters, digits and ._:@+-",
			       name ?: "");
	return 0;
}

char *volume_path(const struct volume *v, unsigned int n)
{
	const struct vfile *f = vdesc_file(&v->d, n);
	char name[32], *s;

	if (!f)
		return NULL;
	vfile_name(f, name);
	return asprintf(&s, "%s/%s", v->dir, name) < 0 ? NULL : s;
}

void volume_unlink(struct volume *v, const struct vfile *f)
{
	char name[32];

	vfile_name(f, name);
	if (unlinkat(v->dir_fd, name, 0) < 0 && errno != ENOENT)
		return; /* the next volume_open() tries again */
}

uint64_t volume_file_used(const struct volume *v, unsigned int n)
{
	const struct vfile *f = vdesc_file(&v->d, n);
	char name[32];
	struct stat st;

	if (!f)
		return 0;
	vfile_name(f, name);
	return fstatat(v->dir_fd, name, &st, 0) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

int volume_backing_name(const struct volume *v, unsigned int n, char **name, const char **format)
{
	const struct vfile *f = vdesc_file(&v->d, n), *b;
	char text[32];

	*name = NULL;
	*format = NULL;
	if (f->external) {
		*format = v->d.base.format;
		*name = strdup(v->d.base.file);
	} else if (f->backing) {
		b = vdesc_file(&v->d, f->backing);
		vfile_name(b, text);
		*format = b->raw ? "raw" : "qcow2";
		*name = strdup(text);
	} else {
		return 0;
	}
	return *name ? 0 : -ENOMEM;
}

/* ---- image files ---- */

int volume_open_file(struct volume *v, unsigned int n, bool write, bool alone, struct disk **ret,
		     struct err **e)
{
	_cleanup_(freep) char *path = volume_path(v, n);
	const struct vfile *f = vdesc_file(&v->d, n);
	struct disk_cfg cfg = { .path = path,
				.readonly = !write,
				.share_own = true,
				.keep_freed = true,
				.backing = alone ? "" : NULL };

	if (!path)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	cfg.format = f->raw ? "raw" : "qcow2";
	return disk_open(&cfg, ret, e);
}

int volume_make_file(struct volume *v, unsigned int n, uint64_t size, bool overlay, struct err **e)
{
	static const char *const fine[] = { "extended_l2", "on", "cluster_size", "128k", NULL };
	_cleanup_(freep) char *path = volume_path(v, n);
	_cleanup_(freep) char *backing = NULL;
	struct disk_create c = {
		.format = "qcow2", .path = path, .size = size, .params = overlay ? fine : NULL
	};
	int r = path ? volume_backing_name(v, n, &backing, &c.backing_format) : -ENOMEM;

	if (r < 0)
		return err_sys(e, -r, "name a new file");
	c.backing = backing;
	unlink(path);
	return disk_create(&c, e);
}

int volume_mend(struct volume *v, struct err **e)
{
	for (size_t i = 0; i < v->d.mend.n; i++) {
		unsigned int n = v->d.mend.v[i];
		const struct vfile *f = vdesc_file(&v->d, n);
		_cleanup_(freep) char *name = NULL;
		const char *format;
		struct disk *d = NULL;
		int r, k;

		if (!f || f->raw)
			continue;
		r = volume_backing_name(v, n, &name, &format);
		if (r < 0)
			return err_sys(e, -r, "name a backing file");
		if (n == v->d.current && v->disk) {
			r = disk_set_backing(v->disk, name, format, e);
		} else {
			r = volume_open_file(v, n, true, true, &d, e);
			if (r == 0)
				r = disk_set_backing(d, name, format, e);
			k = disk_close(d);
			if (r == 0 && k < 0)
				r = err_sys(e, -k, "close file %u", n);
		}
		if (r < 0)
			return err_wrap(e, r, "volume '%s'", v->dir);
	}
	/* the list goes with the next descriptor; to do it twice does no harm */
	v->d.mend.n = 0;
	return 0;
}

/* ---- one at a time ---- */

int volume_enter(struct volume *v, struct err **e)
{
	pthread_mutex_lock(&v->lock);
	if (!v->job || job_ended(v->job))
		return 0;
	pthread_mutex_unlock(&v->lock);
	return err_set(e, EBUSY, "volume.busy", "volume '%s': a job is running", v->dir);
}

int volume_leave(struct volume *v, int r)
{
	pthread_mutex_unlock(&v->lock);
	return r;
}

int volume_lock_dir(const char *dir, int *ret, struct err **e)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_(freep) char *path = NULL;
	_cleanup_(closep) int fd = -1;
	char who[128] = "";
	ssize_t n;

	if (asprintf(&path, "%s/" VOLUME_LOCK, dir) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	if (fcntl(fd, F_OFD_SETLK, &l) < 0) {
		int num = errno;

		if (num != EAGAIN && num != EACCES)
			return err_sys(e, num, "lock '%s'", path);
		n = pread(fd, who, sizeof(who) - 1, 0);
		who[n > 0 ? n : 0] = '\0';
		who[strcspn(who, "\n")] = '\0';
		return err_set(e, EAGAIN, "volume.locked", "volume '%s' is in use by %s", dir,
			       who[0] ? who : "another process");
	}
	n = snprintf(who, sizeof(who), "%s (pid %d)\n", program_invocation_short_name, getpid());
	if (ftruncate(fd, 0) < 0 || pwrite_all(fd, who, (size_t)n, 0) < 0)
		who[0] = '\0'; /* only the name of the holder is missing */
	*ret = TAKE_FD(fd);
	return 0;
}

/* ---- made ---- */

static int sync_parent(const char *dir)
{
	_cleanup_(freep) char *copy = strdup(dir);
	char *slash = copy ? strrchr(copy, '/') : NULL;
	_cleanup_(closep) int fd = -1;

	if (slash)
		slash[slash == copy] = '\0';
	fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int volume_remove_tree(const char *dir, struct err **e)
{
	_cleanup_(closedirp) DIR *d = opendir(dir);
	struct dirent *x;

	if (!d)
		return errno == ENOENT ? 0 : err_sys(e, errno, "open '%s'", dir);
	while ((x = readdir(d))) {
		if (streq(x->d_name, ".") || streq(x->d_name, ".."))
			continue;
		if (unlinkat(dirfd(d), x->d_name, 0) < 0)
			return err_sys(e, errno, "remove '%s/%s'", dir, x->d_name);
	}
	return rmdir(dir) < 0 ? err_sys(e, errno, "remove '%s'", dir) : 0;
}

/* A directory beside `dir` to build in; then the same under its name.  *tmp is the caller's. */
int volume_build_begin(const char *dir, char **tmp, struct err **e)
{
	struct stat st;
	int r;

	if (lstat(dir, &st) == 0)
		return err_set(e, EEXIST, "volume.exists", "'%s' exists", dir);
	if (asprintf(tmp, "%s.new", dir) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = volume_remove_tree(*tmp, e); /* of somebody who was killed */
	if (r == 0 && mkdir(*tmp, 0755) < 0)
		r = err_sys(e, errno, "make '%s'", *tmp);
	return r;
}

int volume_build_end(const char *dir, const char *tmp, struct err **e)
{
	int r;

	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, dir, RENAME_NOREPLACE) < 0)
		return errno == EEXIST ? err_set(e, EEXIST, "volume.exists", "'%s' exists", dir)
				       : err_sys(e, errno, "rename '%s'", tmp);
	r = sync_parent(dir);
	return r < 0 ? err_sys(e, -r, "sync the folder of '%s'", dir) : 0;
}

static int start_desc(struct vdesc *d, uint64_t size, bool raw, bool external, unsigned int depth)
{
	struct uuid u = uuid_v7();

	uuid_format(&u, d->id);
	d->size = size;
	d->max_depth = depth ?: VOLUME_DEPTH;
	d->next = 1;
	return vdesc_add_file(d, raw, 0, external, &d->current);
}

static int fill_dir(const char *dir, struct vdesc *d, struct err **e)
{
	_cleanup_(closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_sys(e, errno, "open '%s'", dir) : vdesc_save(fd, d, e);
}

int volume_create(const char *dir, const struct volume_create *c, struct err **e)
{
	const char *format = c->format ?: "qcow2";
	_cleanup_(freep) char *tmp = NULL;
	_cleanup_(freep) char *path = NULL;
	struct disk_create make = { .format = format,
				    .size = c->size,
				    .provision = (enum disk_provision)c->provision,
				    .params = c->params };
	struct vdesc d = { 0 };
	int r;

	if (!streq(format, "qcow2") && !streq(format, "raw"))
		return err_set(e, EINVAL, "disk.format", "a volume is raw or qcow2, not %s",
			       format);
	r = volume_build_begin(dir, &tmp, e);
	if (r < 0)
		return r;
	if (asprintf(&path, "%s/f1.%s", tmp, format) < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	make.path = path;
	r = r ?: disk_create(&make, e);
	if (r == 0 && start_desc(&d, c->size, streq(format, "raw"), false, c->max_depth) < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = r ?: fill_dir(tmp, &d, e);
	r = r ?: volume_build_end(dir, tmp, e);
	if (r < 0)
		volume_remove_tree(tmp, NULL);
	vdesc_done(&d);
	return r < 0 ? err_wrap(e, r, "make volume '%s'", dir) : 0;
}

static void find_backing(void *arg, const char *name, const char *value)
{
	if (streq(name, "backing_file"))
		*(bool *)arg = true;
}

int volume_import(const char *dir, const char *image, const char *format, struct err **e)
{
	struct disk_cfg cfg = { .path = image, .format = format }; /* nobody else may have it */
	_cleanup_(freep) char *tmp = NULL;
	_cleanup_(freep) char *path = NULL;
	struct disk *src = NULL;
	struct vdesc d = { 0 };
	bool raw = false, backing = false;
	int r = disk_open(&cfg, &src, e);

	if (r < 0)
		return r;
	disk_info(src, find_backing, &backing);
	if (backing) {
		disk_close(src);
		return err_set(e, EINVAL, "disk.backing",
			       "'%s' has a backing file: rebase it to none first", image);
	}
	raw = streq(disk_format(src), "raw");
	if (start_desc(&d, disk_size(src), raw, false, 0) < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = r ?: disk_close(TAKE(src));
	r = r ?: volume_build_begin(dir, &tmp, e);
	if (r == 0 && asprintf(&path, "%s/f1.%s", tmp, raw ? "raw" : "qcow2") < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = r ?: fill_dir(tmp, &d, e);
	/* a relative backing file would be looked for elsewhere afterwards: link(2) keeps the old name until then */
	if (r == 0 && link(image, path) < 0)
		r = err_sys(e, errno, "bring '%s' into the volume (strata-disk convert copies)",
			    image);
	if (r == 0) {
		cfg.path = path;
		cfg.readonly = true;
		r = disk_open(&cfg, &src, e);
		disk_close(src);
	}
	r = r ?: volume_build_end(dir, tmp, e);
	if (r < 0)
		volume_remove_tree(tmp, NULL);
	else
		unlink(image);
	vdesc_done(&d);
	return r < 0 ? err_wrap(e, r, "make volume '%s'", dir) : 0;
}

/* ---- opened ---- */

static void remove_orphans(struct volume *v)
{
	_cleanup_(closedirp) DIR *d = opendir(v->dir);
	struct dirent *x;

	while (d && (x = readdir(d))) {
		unsigned int n;
		int end = 0;

		if (sscanf(x->d_name, "f%u.%n", &n, &end) != 1 || !end ||
		    (!streq(x->d_name + end, "qcow2") && !streq(x->d_name + end, "raw")))
			continue;
		if (!vdesc_file(&v->d, n))
			unlinkat(v->dir_fd, x->d_name, 0);
	}
}

int volume_open(const char *dir, struct volume **ret, struct err **e)
{
	_cleanup_(volume_closep) struct volume *v = calloc(1, sizeof(*v));
	pthread_mutexattr_t attr;
	int r;

	if (!v)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	pthread_mutexattr_init(&attr);
	pthread_mutex_init(&v->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	v->dir_fd = v->lock_fd = -1;
	v->small = 32 * MIB;
	v->dir = realpath(dir, NULL);
	if (!v->dir)
		return errno == ENOENT
			       ? err_set(e, ENOENT, "volume.missing", "'%s' is no volume", dir)
			       : err_sys(e, errno, "find '%s'", dir);
	v->dir_fd = open(v->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->dir_fd < 0)
		return err_sys(e, errno, "open '%s'", dir);
	r = vdesc_load(v->dir_fd, dir, &v->d, e); /* before a lock file is left in any folder */
	if (r < 0)
		return r;
	r = volume_lock_dir(v->dir, &v->lock_fd, e);
	if (r < 0)
		return r;
	vdesc_done(&v->d); /* as it is under the lock */
	r = vdesc_load(v->dir_fd, dir, &v->d, e);
	if (r < 0)
		return r;
	remove_orphans(v);
	r = volume_mend(v, e);
	if (r < 0)
		return r;
	*ret = TAKE(v);
	return 0;
}

void volume_close(struct volume *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	v->closing = true;
	pthread_mutex_unlock(&v->lock);
	job_free(v->job);
	disk_close(v->disk);
	disk_close(v->kept);
	vdesc_done(&v->d);
	safe_close(v->lock_fd);
	safe_close(v->dir_fd);
	pthread_mutex_destroy(&v->lock);
	free(v->dir);
	free(v);
}

int volume_remove(const char *dir, struct err **e)
{
	_cleanup_(volume_closep) struct volume *v = NULL;
	_cleanup_(buf_done) struct buf names = { 0 };
	_cleanup_(freep) char *gone = NULL;
	int r = volume_open(dir, &v, e);

	if (r < 0)
		return r;
	if (volume_point_clones(v, NULL, &names))
		return err_set(e, EBUSY, "volume.protected",
			       "linked clones stand on volume '%s': %s", dir, buf_str(&names));
	if (asprintf(&gone, "%s.gone-%s", v->dir, v->d.id) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (rename(v->dir, gone) < 0)
		return err_sys(e, errno, "rename '%s'", dir);
	sync_parent(v->dir);
	return volume_remove_tree(gone, e);
}

/* ---- attached ---- */

static int attach(struct volume *v, const struct disk_cfg *cfg, struct err **e)
{
	struct disk_cfg c = cfg ? *cfg : (struct disk_cfg){ 0 };
	const struct vfile *f = vdesc_file(&v->d, v->d.current);
	_cleanup_(freep) char *path = volume_path(v, v->d.current);
	unsigned int save = vdesc_save_file(&v->d);
	struct disk *d = NULL;
	int r;

	if (v->disk)
		return err_set(e, EBUSY, "volume.attached", "volume '%s' is attached", v->dir);
	if (v->current_busy || (v->d.job.type && streq(v->d.job.type, "restore")))
		return err_set(e, EBUSY, "volume.busy",
			       "volume '%s': its current state is being restored or merged",
			       v->dir);
	if (!path)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	c.path = path;
	c.format = f->raw ? "raw" : "qcow2";
	c.driver = c.backing = c.backing_format = c.data_file = NULL;
	c.use_fd = c.repair = c.share_own = c.keep_freed = false;
	r = disk_open(&c, &d, e);
	if (r == 0 && save && !c.readonly) {
		_cleanup_(freep) char *to = volume_path(v, save);

		r = to ? cbw_start(d, to, e) : -ENOMEM;
	}
	if (r < 0) {
		disk_close(d);
		return err_wrap(e, r, "volume '%s'", v->dir);
	}
	v->disk = d;
	return 0;
}

int volume_attach(struct volume *v, const struct disk_cfg *cfg, struct disk **ret, struct err **e)
{
	int r;

	pthread_mutex_lock(&v->lock);
	r = attach(v, cfg, e);
	if (r == 0)
		*ret = v->disk;
	return volume_leave(v, r);
}

int volume_detach(struct volume *v, struct err **e)
{
	struct disk *d;
	struct job *j;
	int r;

	pthread_mutex_lock(&v->lock);
	j = v->disk ? v->job : NULL;
	v->closing = true;
	pthread_mutex_unlock(&v->lock);
	if (j) {
		job_cancel(j);
		job_wait(j, NULL);
	}
	pthread_mutex_lock(&v->lock);
	v->closing = false;
	d = TAKE(v->disk);
	r = disk_close(d);
	disk_close(TAKE(v->kept));
	pthread_mutex_unlock(&v->lock);
	return r < 0 ? err_sys(e, -r, "close volume '%s'", v->dir) : 0;
}

struct disk *volume_disk(struct volume *v)
{
	struct disk *d;

	pthread_mutex_lock(&v->lock);
	d = v->disk;
	pthread_mutex_unlock(&v->lock);
	return d;
}

int volume_open_point(struct volume *v, const char *which, struct disk **ret, struct err **e)
{
	struct vpoint *p;
	int r;

	pthread_mutex_lock(&v->lock);
	r = vdesc_need_point(&v->d, which, &p, e);
	if (r == 0 && (v->disk || v->current_busy) && vdesc_reaches(&v->d, p->file, v->d.current))
		r = err_set(e, EBUSY, "volume.busy",
			    "point '%s' shares blocks with the current state, which is in use",
			    p->name);
	r = r ?: volume_open_file(v, p->file, false, false, ret, e);
	return volume_leave(v, r);
}

int volume_resize(struct volume *v, uint64_t size, struct err **e)
{
	struct disk *d = NULL;
	int r = volume_enter(v, e), k;

	if (r < 0)
		return r;
	if (vdesc_save_file(&v->d)) {
		r = err_set(e, EBUSY, "volume.points",
			    "a cow point saves the blocks of the current file: delete it first");
		return volume_leave(v, r);
	}
	if (v->disk) {
		r = disk_resize(v->disk, size, DISK_THIN, false, e);
	} else {
		r = volume_open_file(v, v->d.current, true, false, &d, e);
		r = r ?: disk_resize(d, size, DISK_THIN, false, e);
		k = disk_close(d);
		if (r == 0 && k < 0)
			r = err_sys(e, -k, "close");
	}
	if (r == 0) {
		v->d.size = size;
		r = volume_save(v, e);
	}
	return volume_leave(v, r);
}

void volume_set_rate(struct volume *v, uint64_t rate)
{
	pthread_mutex_lock(&v->lock);
	v->rate = rate;
	pthread_mutex_unlock(&v->lock);
}

struct job *volume_job(struct volume *v)
{
	struct job *j;

	pthread_mutex_lock(&v->lock);
	j = v->job;
	pthread_mutex_unlock(&v->lock);
	return j;
}

/* ---- looked at ---- */

bool volume_is(const char *dir)
{
	_cleanup_(freep) char *path = NULL;

	return asprintf(&path, "%s/" VOLUME_FILE, dir) >= 0 && access(path, F_OK) == 0;
}

void volume_info_done(struct volume_info *i)
{
	for (size_t k = 0; k < i->n_points; k++) {
		free(i->points[k].name);
		free(i->points[k].file);
	}
	for (size_t k = 0; k < i->n_clones; k++)
		free(i->clones[k]);
	free(i->points);
	free(i->clones);
	free(i->dir);
	free(i->file);
	free(i->base_dir);
	free(i->job);
	*i = (struct volume_info){ 0 };
}

static char *copy_of(const char *s)
{
	return s ? strdup(s) : NULL;
}

static int info(struct volume *v, struct volume_info *i)
{
	const struct vdesc *d = &v->d;
	const struct vfile *first = d->files.n ? &d->files.v[0] : NULL;

	memcpy(i->id, d->id, UUID_TEXT);
	memcpy(i->parent, d->parent, UUID_TEXT);
	memcpy(i->base_id, d->base.id, UUID_TEXT);
	memcpy(i->base_point, d->base.point, UUID_TEXT);
	i->dir = copy_of(v->dir);
	i->file = volume_path(v, d->current);
	i->format = first && first->raw ? "raw" : "qcow2";
	i->size = d->size;
	i->depth = vdesc_depth(d, d->current);
	i->max_depth = d->max_depth;
	i->base_dir = copy_of(d->base.dir);
	i->job = copy_of(d->job.type);
	i->job_done = d->job.done;
	i->job_total = d->job.total;
	i->points = calloc(MAX(d->points.n, 1UL), sizeof(*i->points));
	i->clones = calloc(MAX(d->clones.n, 1UL), sizeof(*i->clones));
	if (!i->dir || !i->file || !i->points || !i->clones)
		return -ENOMEM;
	for (size_t k = 0; k < d->files.n; k++) {
		i->used += volume_file_used(v, d->files.v[k].n);
		i->hidden += !vdesc_used(d, d->files.v[k].n);
	}
	for (size_t k = 0; k < d->points.n; k++) {
		const struct vpoint *p = &d->points.v[k];
		struct volume_point *o = &i->points[i->n_points++];

		memcpy(o->id, p->id, UUID_TEXT);
		memcpy(o->parent, p->parent, UUID_TEXT);
		o->name = copy_of(p->name);
		o->kind = p->kind;
		o->complete = p->complete;
		o->size = p->size;
		o->used = volume_file_used(v, p->file);
		o->created = p->created;
		o->file = volume_path(v, p->file);
		o->depth = vdesc_depth(d, p->file);
		o->protected = volume_point_clones(v, p->id, NULL);
		if (!o->name || !o->file)
			return -ENOMEM;
	}
	for (size_t k = 0; k < d->clones.n; k++) {
		i->clones[i->n_clones] = copy_of(d->clones.v[k].dir);
		i->n_clones += i->clones[i->n_clones] != NULL;
	}
	return 0;
}

int volume_info(const char *dir, struct volume_info *ret, struct err **e)
{
	struct volume v = { .dir_fd = -1 };
	struct volume_info i = { 0 };
	int r = 0;

	v.dir = realpath(dir, NULL);
	if (v.dir)
		v.dir_fd = open(v.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v.dir_fd < 0)
		r = err_set(e, errno == ENOTDIR ? ENOTDIR : ENOENT, "volume.missing",
			    "'%s' is no volume", dir);
	r = r ?: vdesc_load(v.dir_fd, dir, &v.d, e);
	if (r == 0) {
		r = info(&v, &i);
		if (r < 0)
			err_sys(e, -r, "volume '%s'", dir);
	}
	if (r == 0)
		*ret = i;
	else
		volume_info_done(&i);
	vdesc_done(&v.d);
	safe_close(v.dir_fd);
	free(v.dir);
	return r;
}

static void add_str(struct buf *b, const char *key, const char *v)
{
	buf_addf(b, ",\"%s\":", key);
	if (v && v[0])
		buf_add_json(b, v);
	else
		buf_adds(b, "null");
}

int volume_info_json(const struct volume_info *i, struct buf *b)
{
	char when[32];

	buf_adds(b, "{\"volume\":");
	buf_add_json(b, i->dir);
	add_str(b, "id", i->id);
	add_str(b, "format", i->format);
	buf_addf(b, ",\"size\":%llu,\"used\":%llu,\"depth\":%u,\"max_depth\":%u",
		 (unsigned long long)i->size, (unsigned long long)i->used, i->depth, i->max_depth);
	add_str(b, "file", i->file);
	add_str(b, "parent", i->parent);
	add_str(b, "base", i->base_dir);
	add_str(b, "base_id", i->base_id);
	add_str(b, "base_point", i->base_point);
	buf_addf(b, ",\"hidden\":%u", i->hidden);
	add_str(b, "job", i->job);
	buf_addf(b, ",\"job_done\":%llu,\"job_total\":%llu,\"points\":[",
		 (unsigned long long)i->job_done, (unsigned long long)i->job_total);
	for (size_t k = 0; k < i->n_points; k++) {
		const struct volume_point *p = &i->points[k];

		buf_adds(b, k ? ",{\"name\":" : "{\"name\":");
		buf_add_json(b, p->name);
		add_str(b, "id", p->id);
		add_str(b, "kind", volume_kinds[p->kind]);
		add_str(b, "parent", p->parent);
		add_str(b, "file", p->file);
		format_time(p->created, when, sizeof(when));
		add_str(b, "created", when);
		buf_addf(
			b,
			",\"size\":%llu,\"used\":%llu,\"depth\":%u,\"complete\":%s,\"protected\":%s}",
			(unsigned long long)p->size, (unsigned long long)p->used, p->depth,
			p->complete ? "true" : "false", p->protected ? "true" : "false");
	}
	buf_adds(b, "],\"clones\":[");
	for (size_t k = 0; k < i->n_clones; k++) {
		buf_adds(b, k ? "," : "");
		buf_add_json(b, i->clones[k]);
	}
	buf_adds(b, "]}\n");
	return buf_error(b);
}
