/* See rootfs.h. */
#include "image/rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include "image/fsutil.h"
#include "image/unpack.h"
#include "sys/mountapi.h"

#define MOUNT_DATA_MAX 4000 /* mount(2) takes one page */

struct lowers {
	size_t n;
	int *fds;      /* O_PATH of each layer's fs, the lowest first */
	char **names;  /* of the same, absolute */
	size_t mapped; /* the first so many are idmapped copies, mounted on <dir>/lower/<i> */
};

static void lowers_done(struct lowers *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (i < l->mapped)
			umount2(l->names[i], MNT_DETACH);
		safe_close(l->fds[i]);
		if (i < l->mapped)
			rmdir(l->names[i]);
		free(l->names[i]);
	}
	free(l->fds);
	free(l->names);
}

static int lowers_open(struct image_store *s, const struct image_parts *p, struct lowers *l,
		       struct err **e)
{
	size_t n = p->config.diff_ids.n;

	l->fds = calloc(n + 1, sizeof(int));
	l->names = calloc(n + 1, sizeof(char *));
	if (!l->fds || !l->names)
		return err_sys(e, ENOMEM, "rootfs");
	for (size_t i = 0; i < n; i++) {
		char name[LAYER_NAME_MAX];
		int r = unpack_name(s, p, i, name, e);

		if (r < 0)
			return r;
		if (asprintf(&l->names[i], "%s/layers/%s/fs", s->path, name) < 0)
			return err_sys(e, ENOMEM, "rootfs");
		l->fds[i] = open(l->names[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		l->n = i + 1;
		if (l->fds[i] < 0)
			return err_sys(e, errno, "open layer '%s'", l->names[i]);
	}
	return 0;
}

/* Mount every lower directory once more, seen through the user namespace's map.  overlayfs keeps private clones,
 * so these go away again right after it is mounted. */
static int lowers_map(struct lowers *l, const struct rootfs_spec *spec, struct err **e)
{
	struct sys_mount_attr attr = { .set = MOUNT_ATTR_IDMAP,
				       .userns_fd = (uint64_t)spec->userns_fd };
	char path[4096];

	for (size_t i = 0; i < l->n; i++) {
		_cleanup_(closep) int tree = -1, at = -1;
		char *name = NULL;
		int r;

		snprintf(path, sizeof(path), "%s/lower/%zu", spec->dir, i);
		r = dir_make(AT_FDCWD, path, 0700);
		if (r < 0)
			return err_sys(e, -r, "make '%s'", path);
		tree = sys_open_tree(l->fds[i], "",
				     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		if (tree < 0)
			return err_sys(e, -tree, "clone the mount of '%s'", l->names[i]);
		r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
		if (r < 0)
			return err_set(e, r == -EINVAL ? ENOTSUP : -r, "image.idmap",
				       "the file system of '%s' takes no id-mapped mounts",
				       l->names[i]);
		at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = at < 0 ? -errno : sys_move_mount(tree, at);
		if (r < 0)
			return err_sys(e, -r, "mount '%s'", path);
		name = strdup(path);
		if (!name) {
			umount2(path, MNT_DETACH);
			return err_sys(e, ENOMEM, "rootfs");
		}
		l->mapped = i + 1;
		free(l->names[i]);
		l->names[i] = name;
		safe_close(l->fds[i]);
		l->fds[i] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	return 0;
}

/* overlayfs cuts paths at ':' and options at ','. */
static int add_path(struct buf *b, const char *path)
{
	for (; *path; path++) {
		if (strchr(":,\\", *path))
			buf_addc(b, '\\');
		buf_addc(b, *path);
	}
	return buf_error(b);
}

static int lower_option(const struct lowers *l, const struct rootfs_spec *spec, bool by_fd,
			struct buf *b)
{
	buf_clear(b);
	buf_adds(b, "lowerdir=");
	for (size_t i = l->n; i-- > 0;) { /* overlayfs wants the topmost first */
		if (by_fd)
			buf_addf(b, "/proc/self/fd/%d", l->fds[i]);
		else
			add_path(b, l->names[i]);
		if (i)
			buf_addc(b, ':');
	}
	if (spec->readonly && l->n == 1) /* an overlay without upper wants two */
		buf_addf(b, ":%s/empty", spec->dir);
	if (!spec->readonly) {
		buf_adds(b, ",upperdir=");
		add_path(b, spec->dir);
		buf_adds(b, "/upper,workdir=");
		add_path(b, spec->dir);
		buf_adds(b, "/work");
		if (spec->temporary)
			buf_adds(b, ",volatile");
	}
	return buf_error(b);
}

/* upper/ is the root of the root: it looks like the topmost layer's. */
static int make_upper(const struct lowers *l, const struct rootfs_spec *spec, struct err **e)
{
	const char *const names[] = { "upper", "work", "empty" };
	_cleanup_(closep) int dir = -1, upper = -1;
	struct stat st;
	int r = dir_make(AT_FDCWD, spec->dir, 0700);

	if (r < 0)
		return err_sys(e, -r, "make '%s'", spec->dir);
	dir = open(spec->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, errno, "open '%s'", spec->dir);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (mkdirat(dir, names[i], 0755) == 0) {
			if (i > 0)
				continue;
			upper = openat(dir, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (upper < 0 || fstat(l->fds[l->n - 1], &st) < 0 ||
			    fchown(upper, st.st_uid, st.st_gid) < 0 ||
			    fchmod(upper, st.st_mode & 07777) < 0)
				return err_sys(e, errno, "make '%s/upper'", spec->dir);
		} else if (errno != EEXIST) {
			return err_sys(e, errno, "make '%s/%s'", spec->dir, names[i]);
		}
	}
	return 0;
}

int rootfs_mount(struct image_store *s, const struct image_parts *p, const struct rootfs_spec *spec,
		 struct err **e)
{
	_cleanup_(buf_done) struct buf opts = { 0 };
	_cleanup_(lowers_done) struct lowers l = { 0 };
	int r;

	if (p->config.diff_ids.n == 0)
		return err_set(e, EINVAL, "image.empty", "the image has no layers");
	r = lowers_open(s, p, &l, e);
	if (r == 0 && spec->userns_fd >= 0)
		r = lowers_map(&l, spec, e);
	if (r == 0)
		r = make_upper(&l, spec, e);
	if (r < 0)
		return err_wrap(e, r, "mount root file system on '%s'", spec->target);
	r = lower_option(&l, spec, false, &opts);
	if (r == 0 && opts.len > MOUNT_DATA_MAX)
		r = lower_option(&l, spec, true, &opts);
	if (r < 0)
		return err_sys(e, -r, "mount root file system on '%s'", spec->target);
	if (opts.len > MOUNT_DATA_MAX)
		return err_set(e, E2BIG, "image.too_many_layers",
			       "%zu layers are more than one mount takes; copy it", l.n);
	if (mount("overlay", spec->target, "overlay", spec->readonly ? MS_RDONLY : 0,
		  buf_str(&opts)) < 0) {
		int num = errno;

		if (num == EINVAL || num == ENODEV)
			return err_set(
				e, ENOTSUP, "image.overlay",
				"mount root file system on '%s': overlayfs refuses it (%s); the kernel log "
				"says why",
				spec->target, strerror(num));
		return err_sys(e, num, "mount root file system on '%s'", spec->target);
	}
	return 0;
}

int rootfs_umount(const char *target, struct err **e)
{
	if (umount2(target, UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT)
		return 0;
	if (errno == EBUSY && umount2(target, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
		return 0;
	return err_sys(e, errno, "unmount '%s'", target);
}

int rootfs_copy(struct image_store *s, const struct image_parts *p, int dirfd, struct image_op *op,
		struct err **e)
{
	for (size_t i = 0; i < p->manifest.list.n; i++) {
		const struct image_desc *d = &p->manifest.list.v[i];
		struct layer_options o = {
			.mode = LAYER_APPLY, .name = d->digest.s, .blob_size = d->size, .op = op
		};
		_cleanup_(closep) int blob = blob_open(s, &d->digest, e);
		struct layer_result res = { 0 };
		int r;

		if (blob < 0)
			return blob;
		r = layer_unpack(dirfd, layer_read_fd, &blob, &o, &res, e);
		if (r < 0)
			return r;
		strv_free(res.implicit);
		if (!digest_eq(&res.diff_id, &p->config.diff_ids.v[i]))
			return err_set(e, EBADMSG, "image.digest",
				       "layer '%s' unpacks to %s, the image says %s", d->digest.s,
				       res.diff_id.s, p->config.diff_ids.v[i].s);
	}
	return 0;
}
