/* The extractor.  libarchive reads (ext/untar.h), this file alone writes.
 *
 * Invariants:
 * (1) every write goes to a name directly below a directory fd that open_beneath() gave, never to a path;
 * (2) no existing object is opened for writing: files are made with O_CREAT | O_EXCL, an old one is unlinked first;
 * (3) metadata is set on fds, or with AT_SYMLINK_NOFOLLOW on (dirfd, name);
 * (4) whiteouts act on layers below only: what this layer made stays. */
#include "image/layer.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include "base/atomicfile.h"
#include "base/checked.h"
#include "base/hmap.h"
#include "base/vec.h"
#include "image/fsutil.h"

#define READ_BUF	((size_t)256 * KIB)
#define OPAQUE		"trusted.overlay.opaque"
#define WH_PREFIX	".wh."
#define WH_META		".wh..wh."
#define WH_OPAQUE	".wh..wh..opq"
#define XATTR_VALUE_MAX 65536

const struct layer_limits layer_limits_default = {
	.bytes = 64 * GIB,
	.entries = 4 * MIB,
	.ratio = 1100,
	.ratio_from = 1 * GIB,
	.depth = 128,
	.xattrs = 64,
};

struct made { /* a path that this layer made (LAYER_APPLY only) */
	struct hnode node;
	char path[];
};

struct dir_meta { /* set when everything is in, because children change the time */
	char *path;
	uint32_t mode;
	struct timespec mtime;
};

struct unpack {
	int root;
	const struct layer_options *o;
	const struct layer_limits *lim;
	struct decomp *decomp;
	struct untar *tar;
	struct hash hash;
	uint64_t tar_bytes, file_bytes, max_bytes, entries, reported;
	size_t skipped_xattrs;
	char parent[PATH_MAX]; /* whose fd is parent_fd; valid when parent_fd >= 0 */
	int parent_fd;
	uid_t euid;
	gid_t egid;
	VEC(struct dir_meta) dirs;
	VEC(char *) implicit;
	struct hmap made;
};

/* ---- the stream ---- */

static ssize_t tar_read(void *arg, void *data, size_t len, struct err **e)
{
	struct unpack *u = arg;
	ssize_t n = decomp_read(u->decomp, data, len, e);
	uint64_t in;

	if (n <= 0)
		return n;
	hash_update(&u->hash, data, (size_t)n);
	u->tar_bytes += (uint64_t)n;
	if (u->tar_bytes > u->max_bytes)
		return err_set(e, EFBIG, "image.layer_limit", "more than %llu bytes unpacked",
			       (unsigned long long)u->max_bytes);
	in = decomp_in(u->decomp);
	if (u->tar_bytes > u->lim->ratio_from && u->tar_bytes / u->lim->ratio > in)
		return err_set(
			e, EFBIG, "image.layer_limit",
			"%llu compressed bytes unpack to more than %llu: a decompression bomb",
			(unsigned long long)in, (unsigned long long)u->tar_bytes);
	if (u->tar_bytes - u->reported >= 4 * MIB) {
		struct image_progress p = { IMAGE_UNPACK,    u->o->name, in,
					    u->o->blob_size, false,	 false };
		int r = image_op_check(u->o->op, e);

		if (r < 0)
			return r;
		image_op_report(u->o->op, &p);
		u->reported = u->tar_bytes;
	}
	return n;
}

ssize_t layer_read_fd(void *arg, void *data, size_t len, struct err **e)
{
	ssize_t n;

	do {
		n = read(*(int *)arg, data, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, errno, "read layer");
	return n;
}

/* ---- names ---- */

static int bad(struct err **e, const char *fmt, ...) _printf_(2, 3);
static int bad(struct err **e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_setv(e, EBADMSG, "image.layer_hostile", fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

/* "./a//b/" -> "a/b"; the root itself is "".  Refuses what leaves the root or is not a name. */
static int clean_path(const struct unpack *u, const char *in, const char *what, char *out,
		      struct err **e)
{
	size_t len = 0;
	unsigned int depth = 0;

	if (!in || !*in)
		return bad(e, "the %s is empty", what);
	if (*in == '/')
		return bad(e, "the %s is absolute", what);
	while (*in) {
		size_t n = strcspn(in, "/");

		if (n == 2 && in[0] == '.' && in[1] == '.')
			return bad(e, "the %s has '..' in it", what);
		if (n > NAME_MAX)
			return bad(e, "the %s has a component longer than %d bytes", what,
				   NAME_MAX);
		if (n && !(n == 1 && in[0] == '.')) {
			if (len + n + 2 > PATH_MAX)
				return bad(e, "the %s is longer than %d bytes", what, PATH_MAX - 1);
			if (++depth > u->lim->depth)
				return bad(e, "the %s is more than %u directories deep", what,
					   u->lim->depth);
			if (len)
				out[len++] = '/';
			memcpy(out + len, in, n);
			len += n;
		}
		in += n;
		in += *in == '/';
	}
	out[len] = '\0';
	return 0;
}

/* Cuts path at its last '/': returns the name, *dir the rest ("" for the root). */
static const char *split(char *path, const char **dir)
{
	char *slash = strrchr(path, '/');

	if (!slash) {
		*dir = "";
		return path;
	}
	*slash = '\0';
	*dir = path;
	return slash + 1;
}

static bool made_here(const struct unpack *u, const char *path)
{
	if (u->o->mode != LAYER_APPLY)
		return true;
	hmap_for_each(n, &u->made, hash_str(path)) {
		if (streq(container_of(n, struct made, node)->path, path))
			return true;
	}
	return false;
}

static int note_one(struct unpack *u, const char *path, size_t len)
{
	struct made *m = malloc(sizeof(*m) + len + 1);

	if (!m)
		return -ENOMEM;
	memcpy(m->path, path, len);
	m->path[len] = '\0';
	if (made_here(u, m->path)) {
		free(m);
		return 0;
	}
	hmap_add(&u->made, &m->node, hash_str(m->path));
	return 1;
}

/* The directories above count too: what they hold of this layer must outlive a whiteout of theirs. */
static int note_made(struct unpack *u, const char *path)
{
	size_t len = strlen(path);
	int r = u->o->mode == LAYER_APPLY ? 1 : 0;

	while (r == 1 && len) {
		r = note_one(u, path, len);
		while (len && path[len - 1] != '/')
			len--;
		len -= len > 0;
	}
	return r < 0 ? r : 0;
}

static void drop_parent(struct unpack *u)
{
	u->parent_fd = safe_close(u->parent_fd);
}

static int note_implicit(struct unpack *u, const char *path)
{
	char *s = strdup(path);

	if (!s || vec_push(&u->implicit, s) < 0) {
		free(s);
		return -ENOMEM;
	}
	return note_made(u, path);
}

/* Make the missing directories of dir, one component after the other. */
static int make_parents(struct unpack *u, const char *dir, struct err **e)
{
	char path[PATH_MAX];
	size_t len = 0;
	int r;

	while (dir[len]) {
		_cleanup_(closep) int up = -1, fd = -1;
		size_t start = len ? len + 1 : 0, n = strcspn(dir + start, "/");
		char name[NAME_MAX + 1];

		memcpy(path, dir, len);
		path[len] = '\0';
		up = open_beneath(u->root, len ? path : ".", O_PATH | O_DIRECTORY, 0);
		if (up < 0)
			return err_sys(e, -up, "open '%s'", path);
		memcpy(name, dir + start, n);
		name[n] = '\0';
		len = start + n;
		memcpy(path, dir, len);
		path[len] = '\0';
		fd = openat(up, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			continue;
		if (errno == ENOTDIR || errno == ELOOP) {
			if (made_here(u, path))
				return bad(e,
					   "its parent '%s' is not a directory, or a symbolic link",
					   path);
			r = tree_remove(
				up, name); /* a lower layer's; this layer's directory replaces it */
			if (r < 0)
				return err_sys(e, -r, "replace '%s'", path);
		} else if (errno != ENOENT) {
			return err_sys(e, errno, "open '%s'", path);
		}
		if (mkdirat(up, name, 0755) < 0)
			return err_sys(e, errno, "make '%s'", path);
		if (fchmodat(up, name, 0755, 0) < 0)
			return err_sys(e, errno, "mode of '%s'", path);
		r = note_implicit(u, path);
		if (r < 0)
			return err_sys(e, -r, "make '%s'", path);
	}
	return 0;
}

/* The directory that holds the entry; the last one is kept, because archives come folder by folder. */
static int enter_parent(struct unpack *u, const char *dir, struct err **e)
{
	int fd, r;

	if (u->parent_fd >= 0 && streq(u->parent, dir))
		return 0;
	drop_parent(u);
	fd = open_beneath(u->root, *dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR) {
		r = make_parents(u, dir, e);
		if (r < 0)
			return r;
		fd = open_beneath(u->root, *dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd < 0)
		return err_sys(e, -fd, "open its directory '%s'", dir);
	u->parent_fd = fd;
	strcpy(u->parent, dir);
	return 0;
}

/* ---- metadata ---- */

static bool xattr_wanted(const char *name)
{
	return str_starts(name, "user.") || streq(name, "security.capability") ||
	       streq(name, "system.posix_acl_access") || streq(name, "system.posix_acl_default");
}

/* path: of /proc/self/fd, so that no name is resolved. */
static int set_xattrs(struct unpack *u, const struct untar_entry *te, int fd, const char *name,
		      struct err **e)
{
	char proc[64 + NAME_MAX];
	const char *key;
	const void *value;
	size_t len;

	if (te->n_xattrs == 0)
		return 0;
	if ((unsigned int)te->n_xattrs > u->lim->xattrs)
		return bad(e, "more than %u extended attributes", u->lim->xattrs);
	if (name)
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", fd, name);
	else
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	while (untar_xattr(u->tar, &key, &value, &len)) {
		int r;

		if (str_starts(key, "trusted.") || str_starts(key, "user.overlay."))
			return bad(e, "it carries the extended attribute '%s'", key);
		if (len > XATTR_VALUE_MAX)
			return bad(e, "the extended attribute '%s' has %zu bytes", key, len);
		if (!xattr_wanted(
			    key)) { /* security.selinux and the like belong to the host that packed it */
			u->skipped_xattrs++;
			continue;
		}
		r = name ? lsetxattr(proc, key, value, len, 0) : setxattr(proc, key, value, len, 0);
		if (r == 0)
			continue;
		if (errno != EOPNOTSUPP && errno != EPERM && errno != ENOSPC && errno != E2BIG)
			return err_sys(e, errno, "extended attribute '%s'", key);
		u->skipped_xattrs++;
	}
	return 0;
}

static struct timespec mtime_of(const struct untar_entry *te)
{
	return (struct timespec){ .tv_sec = te->mtime,
				  .tv_nsec = CLAMP(te->mtime_nsec, 0L, 999999999L) };
}

static int check_owner(const struct untar_entry *te, struct err **e)
{
	if (te->uid < 0 || te->gid < 0 || te->uid >= UINT32_MAX || te->gid >= UINT32_MAX)
		return bad(e, "owner %lld:%lld is out of range", (long long)te->uid,
			   (long long)te->gid);
	return 0;
}

/* New objects are ours, but below a setgid directory of a lower layer (ours get their mode at the very end). */
static bool needs_chown(const struct unpack *u, const struct untar_entry *te)
{
	return u->o->mode == LAYER_APPLY || (uid_t)te->uid != u->euid || (gid_t)te->gid != u->egid;
}

/* Owner, mode and time of a name that cannot be opened for writing (link, device, pipe). */
static int set_meta_at(struct unpack *u, const struct untar_entry *te, const char *name,
		       struct err **e)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, mtime_of(te) };
	int r;

	if (needs_chown(u, te) &&
	    fchownat(u->parent_fd, name, (uid_t)te->uid, (gid_t)te->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "set owner");
	if (te->type != UNTAR_SYMLINK && fchmodat(u->parent_fd, name, te->mode, 0) < 0)
		return err_sys(e, errno, "set mode");
	r = set_xattrs(u, te, u->parent_fd, name, e);
	if (r < 0)
		return r;
	if (utimensat(u->parent_fd, name, ts, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "set time");
	return 0;
}

/* ---- entries ---- */

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int set_opaque(struct unpack *u, int fd, struct err **e)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (setxattr(proc, OPAQUE, "y", 1, 0) < 0)
		return err_sys(e, errno, "mark as opaque");
	return 0;
}

/* Make room for a new object.  *was_whiteout: it replaced the deletion of a lower one. */
static int clear_name(struct unpack *u, const char *name, bool *was_whiteout, struct err **e)
{
	struct stat st;
	int r;

	*was_whiteout = false;
	if (fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "look up");
	*was_whiteout = u->o->mode == LAYER_OVERLAY && is_whiteout(&st);
	r = tree_remove(u->parent_fd, name);
	return r < 0 ? err_sys(e, -r, "replace") : 0;
}

static int add_size(struct unpack *u, int64_t size, struct err **e)
{
	if (size < 0 || add_of(u->file_bytes, (uint64_t)size, &u->file_bytes) ||
	    u->file_bytes > u->max_bytes)
		return err_set(e, EFBIG, "image.layer_limit",
			       "its files have more than %llu bytes together",
			       (unsigned long long)u->max_bytes);
	return 0;
}

static int write_data(struct unpack *u, const struct untar_entry *te, int fd, struct err **e)
{
	uint64_t end = 0, off;
	const void *data;
	size_t len;
	int r;

	while ((r = untar_data(u->tar, &data, &len, &off, e)) == 1) {
		if (len == 0)
			continue;
		if (!range_inside(off, len, (uint64_t)te->size))
			return bad(e, "data beyond its size");
		r = pwrite_all(fd, data, len, (off_t)off);
		if (r < 0)
			return err_sys(e, -r, "write");
		end = MAX(end, off + len);
	}
	if (r < 0)
		return r;
	if (end < (uint64_t)te->size && ftruncate(fd, te->size) < 0) /* ends with a hole */
		return err_sys(e, errno, "set size");
	return 0;
}

static int make_file(struct unpack *u, const struct untar_entry *te, const char *name,
		     struct err **e)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, mtime_of(te) };
	_cleanup_(closep) int fd = -1;
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, r;
	bool wh;

	r = add_size(u, te->size, e);
	if (r < 0)
		return r;
	fd = openat(u->parent_fd, name, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		r = clear_name(u, name, &wh, e);
		if (r < 0)
			return r;
		fd = openat(u->parent_fd, name, flags, 0600);
	}
	if (fd < 0)
		return err_sys(e, errno, "create");
	r = write_data(u, te, fd, e);
	if (r < 0)
		return r;
	if (needs_chown(u, te) && fchown(fd, (uid_t)te->uid, (gid_t)te->gid) < 0)
		return err_sys(e, errno, "set owner");
	if (fchmod(fd, te->mode) < 0)
		return err_sys(e, errno, "set mode");
	r = set_xattrs(u, te, fd, NULL, e);
	if (r < 0)
		return r;
	return futimens(fd, ts) < 0 ? err_sys(e, errno, "set time") : 0;
}

static int make_dir(struct unpack *u, const struct untar_entry *te, const char *path,
		    const char *name, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	struct dir_meta m = { .mode = te->mode, .mtime = mtime_of(te) };
	bool wh = false;
	int r;

	if (*name && mkdirat(u->parent_fd, name, 0700) < 0) {
		struct stat st;

		if (errno != EEXIST)
			return err_sys(e, errno, "make directory");
		if (fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys(e, errno, "look up");
		if (!S_ISDIR(st.st_mode)) {
			r = clear_name(u, name, &wh, e);
			if (r < 0)
				return r;
			if (mkdirat(u->parent_fd, name, 0700) < 0)
				return err_sys(e, errno, "make directory");
		}
	}
	fd = openat(*name ? u->parent_fd : u->root, *name ? name : ".",
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open directory");
	if (wh) {
		r = set_opaque(u, fd, e);
		if (r < 0)
			return r;
	}
	if (fchown(fd, (uid_t)te->uid, (gid_t)te->gid) < 0)
		return err_sys(e, errno, "set owner");
	r = set_xattrs(u, te, fd, NULL, e);
	if (r < 0)
		return r;
	for (size_t i = u->implicit.n; i-- > 0;) { /* described late, but described */
		if (streq(u->implicit.v[i], path)) {
			free(u->implicit.v[i]);
			vec_remove(&u->implicit, i);
		}
	}
	m.path = strdup(path);
	if (!m.path || vec_push(&u->dirs, m) < 0) {
		free(m.path);
		return err_sys(e, ENOMEM, "make directory");
	}
	return 0;
}

/* A hard link names an object of the archive's own tree: resolved like an entry, its last component not
 * followed, and only to what may be shared. */
static int make_hardlink(struct unpack *u, const struct untar_entry *te, const char *name,
			 struct err **e)
{
	_cleanup_(closep) int dir = -1;
	char target[PATH_MAX];
	const char *tdir, *tname;
	struct stat st, old;
	bool wh;
	int r;

	r = clean_path(u, te->link, "target of the hard link", target, e);
	if (r < 0)
		return r;
	tname = split(target, &tdir);
	if (!*tname)
		return bad(e, "a hard link to the root");
	dir = open_beneath(u->root, *tdir ? tdir : ".", O_PATH | O_DIRECTORY, 0);
	if (dir == -ELOOP)
		return bad(e, "the target of the hard link goes through a symbolic link");
	if (dir < 0 || fstatat(dir, tname, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return bad(e, "a hard link to '%s', which the layer does not have", te->link);
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) && !S_ISFIFO(st.st_mode))
		return bad(e, "a hard link to '%s', which is neither file nor symbolic link",
			   te->link);
	if (fstatat(u->parent_fd, name, &old, AT_SYMLINK_NOFOLLOW) == 0) {
		if (old.st_ino == st.st_ino && old.st_dev == st.st_dev)
			return 0; /* also a link to itself */
		r = clear_name(u, name, &wh, e);
		if (r < 0)
			return r;
	}
	if (linkat(dir, tname, u->parent_fd, name, 0) < 0)
		return err_sys(e, errno, "link to '%s'", te->link);
	return 0;
}

static int make_symlink(struct unpack *u, const struct untar_entry *te, const char *name,
			struct err **e)
{
	bool wh;
	int r;

	if (!te->link || !*te->link || strlen(te->link) >= PATH_MAX)
		return bad(e, "the target of the symbolic link is empty or too long");
	if (symlinkat(te->link, u->parent_fd, name) < 0) {
		if (errno != EEXIST)
			return err_sys(e, errno, "make symbolic link");
		r = clear_name(u, name, &wh, e);
		if (r < 0)
			return r;
		if (symlinkat(te->link, u->parent_fd, name) < 0)
			return err_sys(e, errno, "make symbolic link");
	}
	return set_meta_at(u, te, name, e);
}

/* Root tarballs of distributions carry these in /dev; any other device is a door to the host. */
static bool device_harmless(const struct untar_entry *te)
{
	static const struct {
		uint32_t major, minor;
	} list[] = {
		{ 1, 3 }, { 1, 5 }, { 1, 7 },
		{ 1, 8 }, { 1, 9 },	      /* null zero full random urandom */
		{ 5, 0 }, { 5, 1 }, { 5, 2 }, /* tty console ptmx */
	};

	for (size_t i = 0; te->type == UNTAR_CHAR && i < ARRAY_SIZE(list); i++) {
		if (list[i].major == te->dev_major && list[i].minor == te->dev_minor)
			return true;
	}
	return false;
}

static int make_node(struct unpack *u, const struct untar_entry *te, const char *name,
		     struct err **e)
{
	mode_t type = te->type == UNTAR_FIFO ? S_IFIFO : S_IFCHR;
	bool wh;
	int r;

	if (te->type != UNTAR_FIFO && !device_harmless(te))
		return bad(e, "a %s device %u:%u", te->type == UNTAR_BLOCK ? "block" : "character",
			   te->dev_major, te->dev_minor);
	r = clear_name(u, name, &wh, e);
	if (r < 0)
		return r;
	if (mknodat(u->parent_fd, name, type | 0600, makedev(te->dev_major, te->dev_minor)) < 0)
		return err_sys(e, errno, "make node");
	return set_meta_at(u, te, name, e);
}

/* ---- whiteouts ---- */

/* LAYER_APPLY: remove what lower layers left in fd, whose path is dir.  Takes fd. */
static int remove_lower(struct unpack *u, int fd, const char *dir, struct err **e)
{
	_cleanup_(closedirp) DIR *d = fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!d) {
		safe_close(fd);
		return err_sys(e, ENOMEM, "list '%s'", dir);
	}
	while (r == 0 && (de = readdir(d))) {
		char path[PATH_MAX];
		struct stat st;
		int sub;

		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		if (snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", de->d_name) >=
		    (int)sizeof(path))
			return err_sys(e, ENAMETOOLONG, "list '%s'", dir);
		if (!made_here(u, path)) {
			r = tree_remove(dirfd(d), de->d_name);
			if (r < 0)
				return err_sys(e, -r, "remove '%s'", path);
			continue;
		}
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(st.st_mode))
			continue;
		sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			return err_sys(e, errno, "open '%s'", path);
		r = remove_lower(u, sub, path, e);
	}
	return r;
}

static int whiteout_opaque(struct unpack *u, const char *dir, struct err **e)
{
	int fd;

	if (u->o->mode == LAYER_OVERLAY)
		return set_opaque(u, u->parent_fd, e);
	fd = openat(u->parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open '%s'", dir);
	return remove_lower(u, fd, dir, e);
}

static int whiteout_one(struct unpack *u, const char *dir, const char *name, struct err **e)
{
	char path[PATH_MAX + NAME_MAX + 2];
	struct stat st;
	int fd, r;

	if (!*name || streq(name, ".") || streq(name, ".."))
		return bad(e, "a whiteout of nothing");
	snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", name);
	if (fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return err_sys(e, errno, "look up");
		if (u->o->mode == LAYER_APPLY)
			return 0;
		if (mknodat(u->parent_fd, name, S_IFCHR, makedev(0, 0)) < 0)
			return err_sys(e, errno, "make whiteout");
		return 0;
	}
	if (!made_here(u, path)) {
		r = tree_remove(u->parent_fd, name);
		return r < 0 ? err_sys(e, -r, "remove") : 0;
	}
	if (!S_ISDIR(st.st_mode))
		return 0;
	fd = openat(u->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open");
	if (u->o->mode == LAYER_APPLY)
		return remove_lower(u, fd, path, e);
	r = set_opaque(u, fd, e);
	close(fd);
	return r;
}

/* ---- all of it ---- */

static int unpack_entry(struct unpack *u, const struct untar_entry *te, struct err **e)
{
	char path[PATH_MAX], work[PATH_MAX];
	const char *dir, *name;
	int r;

	r = clean_path(u, te->path, "path", path, e);
	if (r < 0)
		return r;
	r = check_owner(te, e);
	if (r < 0)
		return r;
	if (!*path) {
		if (te->type != UNTAR_DIR)
			return bad(e, "it would replace the root");
		return make_dir(u, te, "", "", e);
	}
	strcpy(work, path);
	name = split(work, &dir);
	/* whiteouts in the middle of a path are names that nobody may use */
	for (const char *p = dir; *p; p += strcspn(p, "/"), p += *p == '/') {
		if (str_starts(p, WH_PREFIX))
			return bad(e, "a directory with the name of a whiteout");
	}
	r = enter_parent(u, dir, e);
	if (r < 0)
		return r;
	if (streq(name, WH_OPAQUE))
		return whiteout_opaque(u, dir, e);
	if (str_starts(name, WH_META)) /* aufs' own bookkeeping: layer.md lets it be ignored */
		return 0;
	if (str_starts(name, WH_PREFIX))
		return whiteout_one(u, dir, name + strlen(WH_PREFIX), e);
	switch (te->type) {
	case UNTAR_FILE:
		r = make_file(u, te, name, e);
		break;
	case UNTAR_DIR:
		r = make_dir(u, te, path, name, e);
		break;
	case UNTAR_SYMLINK:
		r = make_symlink(u, te, name, e);
		break;
	case UNTAR_HARDLINK:
		r = make_hardlink(u, te, name, e);
		break;
	case UNTAR_CHAR:
	case UNTAR_BLOCK:
	case UNTAR_FIFO:
		r = make_node(u, te, name, e);
		break;
	case UNTAR_OTHER:
		return bad(e, "an unknown type of entry");
	}
	if (r == 0 && note_made(u, path) < 0)
		return err_sys(e, ENOMEM, "note");
	return r;
}

static int finish_dirs(struct unpack *u, struct err **e)
{
	struct dir_meta *m;

	vec_for_each(m, &u->dirs) { /* in order: a directory listed twice keeps what came last */
		struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, m->mtime };
		_cleanup_(closep) int fd = -1;

		fd = open_beneath(u->root, *m->path ? m->path : ".", O_RDONLY | O_DIRECTORY, 0);
		if (fd < 0) /* replaced by something else further down the archive */
			continue;
		if (fchmod(fd, m->mode) < 0 || futimens(fd, ts) < 0)
			return err_sys(e, errno, "'%s': set mode and time", m->path);
	}
	return 0;
}

static void unpack_done(struct unpack *u)
{
	struct dir_meta *m;
	char **s;

	untar_free(u->tar);
	decomp_free(u->decomp);
	drop_parent(u);
	vec_for_each(m, &u->dirs)
		free(m->path);
	vec_done(&u->dirs);
	vec_for_each(s, &u->implicit)
		free(*s);
	vec_done(&u->implicit);
	for (struct hnode *n = hmap_walk(&u->made, NULL), *next; n; n = next) {
		next = hmap_walk(&u->made, n);
		hmap_remove(&u->made, n);
		free(container_of(n, struct made, node));
	}
	hmap_done(&u->made);
}

struct peek { /* the first bytes are looked at, then handed on */
	stream_read_fn *read;
	void *arg;
	uint8_t head[16];
	size_t len, pos;
};

static ssize_t peek_read(void *arg, void *data, size_t len, struct err **e)
{
	struct peek *p = arg;

	if (p->pos < p->len) {
		size_t n = MIN(len, p->len - p->pos);

		memcpy(data, p->head + p->pos, n);
		p->pos += n;
		return (ssize_t)n;
	}
	return p->read(p->arg, data, len, e);
}

static int peek_init(struct peek *p, struct err **e)
{
	while (p->len < sizeof(p->head)) {
		ssize_t n = p->read(p->arg, p->head + p->len, sizeof(p->head) - p->len, e);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		p->len += (size_t)n;
	}
	return 0;
}

static int unpack_all(struct unpack *u, struct peek *p, struct layer_result *ret, struct err **e)
{
	struct untar_options uo = { .filters = u->o->any_filter };
	uint8_t *rest = NULL;
	struct untar_entry te;
	ssize_t n;
	int r;

	r = peek_init(p, e);
	if (r < 0)
		return r;
	r = decomp_new(compression_detect(p->head, p->len), peek_read, p, &u->decomp, e);
	if (r < 0)
		return r;
	r = untar_new(&uo, tar_read, u, &u->tar, e);
	if (r < 0)
		return r;
	while ((r = untar_next(u->tar, &te, e)) == 1) {
		if (++u->entries > u->lim->entries)
			return err_set(e, EFBIG, "image.layer_limit", "more than %llu entries",
				       (unsigned long long)u->lim->entries);
		r = unpack_entry(u, &te, e);
		if (r < 0)
			return err_wrap(e, r, "entry '%s'", te.path ? te.path : "");
	}
	if (r < 0)
		return r;
	rest = malloc(READ_BUF); /* what follows the end mark belongs to the digest */
	if (!rest)
		return err_sys(e, ENOMEM, "read");
	while ((n = tar_read(u, rest, READ_BUF, e)) > 0)
		;
	free(rest);
	if (n < 0)
		return (int)n;
	r = finish_dirs(u, e);
	if (r < 0)
		return r;
	if (vec_push(&u->implicit, NULL) < 0)
		return err_sys(e, ENOMEM, "unpack");
	*ret = (struct layer_result){
		.tar_bytes = u->tar_bytes,
		.file_bytes = u->file_bytes,
		.entries = u->entries,
		.implicit = u->implicit.v,
		.skipped_xattrs = u->skipped_xattrs,
	};
	u->implicit.v = NULL;
	u->implicit.n = 0;
	digest_final(&u->hash, &ret->diff_id);
	return 0;
}

int layer_unpack(int dirfd, stream_read_fn *read, void *arg, const struct layer_options *o,
		 struct layer_result *ret, struct err **e)
{
	struct peek p = { .read = read, .arg = arg };
	struct unpack *u = calloc(1, sizeof(*u));
	struct image_progress done = { IMAGE_UNPACK, o->name, o->blob_size,
				       o->blob_size, true,    false };
	struct statvfs vfs;
	int r;

	if (!u)
		return err_sys(e, ENOMEM, "layer '%s'", o->name);
	u->root = dirfd;
	u->o = o;
	u->lim = o->limits ? o->limits : &layer_limits_default;
	u->parent_fd = -1;
	u->euid = geteuid();
	u->egid = getegid();
	u->max_bytes = u->lim->bytes;
	hash_init(&u->hash, HASH_SHA256);
	r = hmap_init(&u->made);
	if (r < 0) {
		free(u);
		return err_sys(e, -r, "layer '%s'", o->name);
	}
	if (fstatvfs(dirfd, &vfs) ==
	    0) /* sparse files may claim more than there is, but not write it */
		u->max_bytes = MIN(u->max_bytes, (uint64_t)vfs.f_blocks * vfs.f_frsize);
	r = unpack_all(u, &p, ret, e);
	unpack_done(u);
	free(u);
	if (r < 0)
		return err_wrap(e, r, "layer '%s'", o->name);
	image_op_report(o->op, &done);
	return 0;
}
