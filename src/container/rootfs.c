/* The root, its device nodes, what is hidden in it, and the move into it; see rootfs.h. */
#include "container/rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "sys/mountapi.h"
#include "sys/openat2.h"

int rootfs_prepare(const char *path, bool from_host, struct err **e)
{
	struct sys_mount_attr a = { .propagation = MS_SLAVE };
	int tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE), q = 0;

	if (tree < 0)
		return err_sys(e, -tree, "root '%s'", path);
	if (from_host)
		q = sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a);
	if (q < 0) {
		close(tree);
		return err_sys(e, -q, "root '%s'", path);
	}
	return tree;
}

/* Mount ids are told by fdinfo on every kernel that we run on; statx() has them later. */
static int mount_id(int fd)
{
	char path[64], line[256];
	int id = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			break;
	if (f)
		fclose(f);
	return id;
}

int rootfs_bind(const char *path, int (*named)(void *arg, int id, struct err **e), void *arg,
		struct err **e)
{
	struct sys_mount_attr private = { .propagation = MS_PRIVATE };
	_cleanup_(closep) int tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE),
			      at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int q;

	if (tree < 0 || at < 0)
		return err_sys(e, tree < 0 ? -tree : errno, "root '%s'", path);
	q = sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &private);
	if (q < 0)
		return err_sys(e, -q, "root '%s'", path);
	q = named(arg, mount_id(tree), e);
	if (q < 0)
		return q;
	q = sys_move_mount(tree, at);
	return q < 0 ? err_sys(e, -q, "mount the root '%s'", path) : 0;
}

void rootfs_unbind(const char *path, int id)
{
	_cleanup_(closep) int at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (at >= 0 && id > 0 && mount_id(at) == id)
		umount2(path, MNT_DETACH);
}

int rootfs_enter(struct rootfs *r, struct err **e)
{
	unsigned long prop = r->s->rootfs_propagation, wide = prop & ~(unsigned long)MS_REC;
	_cleanup_(closep) int tree = -1, at = -1;
	int q;

	/* An unbindable mount could not be copied: that word is for the new root alone. */
	if (wide == 0)
		wide = MS_SLAVE;
	if (wide & MS_UNBINDABLE)
		wide = MS_PRIVATE;
	/* One walk: nothing of ours goes out, and nothing or everything comes in, as asked. */
	if (mount(NULL, "/", NULL, wide | MS_REC, NULL) < 0)
		return err_sys(e, errno, "propagation of the old root");
	/* pivot_root() refuses a shared mount as the parent of the new root. */
	if (prop & MS_SHARED && mount(NULL, "/", NULL, MS_PRIVATE, NULL) < 0)
		return err_sys(e, errno, "propagation of the old root");
	tree = r->tree >= 0 ? TAKE_FD(r->tree) : rootfs_prepare(r->path, false, e);
	if (tree < 0)
		return tree;
	/* Hooks of the kinds that run before pivot_root look for it at its path in our mount namespace.  Otherwise on top of the
	 * old root: so the way to it on the host need not be open to the container's root. */
	if (r->at_path)
		at = open(r->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r->at_path = at >= 0;
	if (at < 0)
		at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return err_sys(e, errno, "old root");
	q = sys_move_mount(tree, at);
	if (q < 0)
		return err_sys(e, -q, "mount the root '%s'", r->path);
	r->rootfd = TAKE_FD(tree);
	r->empty_dir = -1;
	return 0;
}

/* The host's node in place of mknod(), which user namespaces do not allow. */
static int bind_node(struct rootfs *r, const char *path, struct err **e)
{
	_cleanup_(closep) int tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE), to = -1;
	int q;

	if (tree < 0)
		return err_sys(e, -tree, "device '%s'", path);
	to = root_mkfile(r->rootfd, path, 0755, 0666);
	if (to < 0)
		return err_sys(e, -to, "device '%s'", path);
	q = sys_move_mount(tree, to);
	return q < 0 ? err_sys(e, -q, "device '%s'", path) : 0;
}

static int make_node(struct rootfs *r, int dev, const struct spec_device *d, struct err **e)
{
	char name[NAME_MAX + 1];
	_cleanup_(closep) int parent = -1;
	dev_t rdev = d->type == S_IFIFO ? 0
					: makedev((unsigned int)d->major, (unsigned int)d->minor);
	struct stat st;

	if (r->user_ns)
		return bind_node(r, d->path, e);
	if (dev >= 0 && str_starts(d->path, "/dev/") && !strchr(d->path + 5, '/')) {
		snprintf(name, sizeof(name), "%s", d->path + 5);
	} else {
		dev = parent = root_parent(r->rootfd, d->path, 0755, name, sizeof(name));
		if (parent < 0)
			return err_sys(e, -parent, "device '%s'", d->path);
	}
	if (mknodat(dev, name, d->type | d->mode, rdev) < 0) {
		if (errno == EPERM)
			return bind_node(r, d->path, e);
		if (errno != EEXIST)
			return err_sys(e, errno, "device '%s'", d->path);
		if (fstatat(dev, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    (st.st_mode & S_IFMT) != d->type || st.st_rdev != rdev)
			return err_set(e, EEXIST, "device.exists",
				       "device '%s': something else is there", d->path);
		if (fchmodat(dev, name, d->mode, 0) < 0)
			return err_sys(e, errno, "device '%s'", d->path);
	}
	if ((d->uid || d->gid) && fchownat(dev, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "device '%s': owner", d->path);
	return 0;
}

int rootfs_devices(struct rootfs *r, struct err **e)
{
	static const struct spec_device usual[] = {
		{ "/dev/null", S_IFCHR, 1, 3, 0666, 0, 0 },
		{ "/dev/zero", S_IFCHR, 1, 5, 0666, 0, 0 },
		{ "/dev/full", S_IFCHR, 1, 7, 0666, 0, 0 },
		{ "/dev/tty", S_IFCHR, 5, 0, 0666, 0, 0 },
		{ "/dev/random", S_IFCHR, 1, 8, 0666, 0, 0 },
		{ "/dev/urandom", S_IFCHR, 1, 9, 0666, 0, 0 },
	};
	static const struct {
		const char *to, *name;
	} links[] = { { "/proc/self/fd", "fd" },
		      { "/proc/self/fd/0", "stdin" },
		      { "/proc/self/fd/1", "stdout" },
		      { "/proc/self/fd/2", "stderr" },
		      { "/proc/kcore", "core" } };
	_cleanup_(closep) int dev = -1;
	mode_t old = umask(0);
	size_t i, k;
	int q = 0;

	if (r->dev_is_bind) {
		umask(old);
		return 0;
	}
	dev = root_mkdirs(r->rootfd, "dev", 0755);
	if (dev < 0)
		return err_sys(e, -dev, "make /dev");
	for (i = 0; i < ARRAY_SIZE(usual) && q == 0; i++) {
		for (k = 0; k < r->s->n_devices; k++)
			if (streq(r->s->devices[k].path, usual[i].path))
				break;
		if (k == r->s->n_devices)
			q = make_node(r, dev, &usual[i], e);
	}
	for (i = 0; i < r->s->n_devices && q == 0; i++) {
		/* The container's own pseudo-terminals decide what /dev/ptmx is, and the console comes with them. */
		if (!streq(r->s->devices[i].path, "/dev/ptmx"))
			q = make_node(r, dev, &r->s->devices[i], e);
	}
	umask(old);
	if (q < 0)
		return q;
	for (i = 0; i < ARRAY_SIZE(links); i++)
		if (symlinkat(links[i].to, dev, links[i].name) < 0 && errno != EEXIST)
			return err_sys(e, errno, "link /dev/%s", links[i].name);
	if (faccessat(dev, "pts/ptmx", F_OK, 0) == 0) {
		if (unlinkat(dev, "ptmx", 0) < 0 && errno != ENOENT)
			return err_sys(e, errno, "replace /dev/ptmx");
		if (symlinkat("pts/ptmx", dev, "ptmx") < 0)
			return err_sys(e, errno, "link /dev/ptmx");
	}
	return 0;
}

int rootfs_console(struct rootfs *r, int slave, struct err **e)
{
	_cleanup_(closep) int to = -1,
			      tree = sys_open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
	int q;

	if (tree < 0)
		return err_sys(e, -tree, "mount /dev/console");
	to = root_mkfile(r->rootfd, "dev/console", 0755, 0620);
	if (to < 0)
		return err_sys(e, -to, "make /dev/console");
	q = sys_move_mount(tree, to);
	return q < 0 ? err_sys(e, -q, "mount /dev/console") : 0;
}

static int read_only(int fd, bool recursive)
{
	struct sys_mount_attr a = { .set = MOUNT_ATTR_RDONLY };

	return sys_mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a);
}

/* One file and one folder serve all masks; each mask is a copy of that mount. */
static int mask(struct rootfs *r, int null, const char *path, struct err **e)
{
	_cleanup_(closep) int to = root_open(r->rootfd, path, O_PATH, 0), tree = -1;
	struct stat st;
	int q;

	if (to == -ENOENT || to == -ENOTDIR || to == -EACCES)
		return 0;
	if (to < 0 || fstat(to, &st) < 0)
		return err_sys(e, to < 0 ? -to : errno, "mask '%s'", path);
	if (!S_ISDIR(st.st_mode)) {
		tree = sys_open_tree(null, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
	} else if (r->empty_dir >= 0) {
		tree = sys_open_tree(r->empty_dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
	} else {
		_cleanup_(closep) int fs = sys_fsopen("tmpfs");

		if (fs < 0)
			return err_sys(e, -fs, "mask '%s'", path);
		sys_fsconfig(fs, SYS_FSCONFIG_STRING, "size", "0k");
		sys_fsconfig(fs, SYS_FSCONFIG_STRING, "mode", "0555");
		sys_fsconfig(fs, SYS_FSCONFIG_FLAG, "ro", NULL);
		if (r->s->mount_label && *r->s->mount_label)
			sys_fsconfig(fs, SYS_FSCONFIG_STRING, "context", r->s->mount_label);
		q = sys_fsconfig(fs, SYS_FSCONFIG_CREATE, NULL, NULL);
		if (q < 0)
			return err_sys(e, -q, "mask '%s'", path);
		tree = sys_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					       MOUNT_ATTR_NOEXEC);
	}
	if (tree < 0)
		return err_sys(e, -tree, "mask '%s'", path);
	q = sys_move_mount(tree, to);
	if (q < 0)
		return err_sys(e, -q, "mask '%s'", path);
	if (S_ISDIR(st.st_mode) && r->empty_dir < 0)
		r->empty_dir = TAKE_FD(tree);
	return 0;
}

static int protect_path(struct rootfs *r, const char *path, struct err **e)
{
	_cleanup_(closep) int to = root_open(r->rootfd, path, O_PATH, 0), tree = -1;
	int q;

	if (to == -ENOENT || to == -ENOTDIR || to == -EACCES)
		return 0;
	if (to < 0)
		return err_sys(e, -to, "read-only path '%s'", path);
	tree = sys_open_tree(to, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | AT_RECURSIVE);
	if (tree < 0)
		return err_sys(e, -tree, "read-only path '%s'", path);
	q = read_only(tree, true);
	if (q == 0)
		q = sys_move_mount(tree, to);
	return q < 0 ? err_sys(e, -q, "read-only path '%s'", path) : 0;
}

int rootfs_protect(struct rootfs *r, struct err **e)
{
	_cleanup_(closep) int null = -1;
	struct stat st;
	size_t i;
	int q = 0;

	if (r->dev_read_only) {
		_cleanup_(closep) int dev = root_open(r->rootfd, "dev", O_PATH, 0);

		q = dev < 0 ? dev : read_only(dev, false);
		if (q < 0)
			return err_sys(e, -q, "make /dev read-only");
	}
	for (i = 0; r->s->readonly && r->s->readonly[i] && q == 0; i++)
		q = protect_path(r, r->s->readonly[i], e);
	if (q == 0 && r->s->masked && r->s->masked[0]) {
		/* The host's /dev/null: the image's could be anything. */
		null = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (null < 0 || fstat(null, &st) < 0 || !S_ISCHR(st.st_mode) ||
		    st.st_rdev != makedev(1, 3))
			return err_set(e, ENODEV, "mask.null",
				       "the host's /dev/null is not the null device");
		for (i = 0; r->s->masked[i] && q == 0; i++)
			q = mask(r, null, r->s->masked[i], e);
	}
	if (q == 0 && r->s->root_readonly) {
		q = read_only(r->rootfd, false);
		if (q < 0)
			err_sys(e, -q, "make the root read-only");
	}
	r->empty_dir = safe_close(r->empty_dir);
	return q;
}

/* Without pivot_root() the host's mounts stay below ours.  A proc or sysfs among them that nothing covers would let a user
 * namespace made inside mount a bare one (the kernel asks for a fully visible one).                       CVE-2016-9962's kin */
static void hide_host_views(const struct rootfs *r)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	size_t len = strlen(r->path);
	char *line, *save = NULL;

	if (file_read(AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &b, NULL) < 0)
		return;
	for (line = b.s ? strtok_r(b.s, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		char at[PATH_MAX], type[64];
		const char *dash = strstr(line, " - ");

		if (!dash || sscanf(dash, " - %63s", type) != 1 ||
		    (!streq(type, "proc") && !streq(type, "sysfs")) ||
		    sscanf(line, "%*d %*d %*s %*s %4095s", at) != 1)
			continue;
		if (r->at_path && strncmp(at, r->path, len) == 0 && (at[len] == '/' || !at[len]))
			continue;
		/* By path from the old root, which is still ours: what lies in the new one is not met. */
		if (umount2(at, MNT_DETACH) < 0 && (errno == EPERM || errno == EINVAL))
			mount("tmpfs", at, "tmpfs", MS_RDONLY, NULL);
	}
}

int rootfs_pivot(struct rootfs *r, struct err **e)
{
	unsigned long prop = r->s->rootfs_propagation;

	if (fchdir(r->rootfd) < 0)
		return err_sys(e, errno, "enter the root");
	if (!r->s->ns[NS_MNT].present) {
		if (chroot(".") < 0)
			return err_sys(e, errno, "chroot");
	} else if (r->no_pivot) {
		hide_host_views(r);
		if (r->at_path && mount(".", "/", NULL, MS_MOVE, NULL) < 0)
			return err_sys(e, errno, "move the root mount");
		if (chroot(".") < 0)
			return err_sys(e, errno, "chroot");
	} else {
		/* Old and new at the same place: no folder is needed, the old one lies on top and is taken away. */
		if (sys_pivot_root(".", ".") < 0)
			return err_sys(e, errno, "pivot_root");
		if (prop & MS_SHARED && mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0)
			return err_sys(e, errno, "propagation of the old root");
		if (umount2(".", MNT_DETACH) < 0)
			return err_sys(e, errno, "unmount the old root");
	}
	if (chdir("/") < 0)
		return err_sys(e, errno, "enter the root");
	if (r->s->ns[NS_MNT].present && prop && mount(NULL, "/", NULL, prop, NULL) < 0)
		return err_sys(e, errno, "rootfsPropagation");
	r->rootfd = safe_close(r->rootfd);
	return 0;
}
