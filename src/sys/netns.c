/* Named network namespaces, see netns.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/magic.h>
#include "base/str.h"
#include "sys/netns.h"

int netns_self(struct err **e)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "open own network namespace");
	return fd;
}

int netns_enter(int fd, struct netns_saved *saved, struct err **e)
{
	saved->fd = netns_self(e);
	if (saved->fd < 0)
		return saved->fd;
	if (setns(fd, CLONE_NEWNET) < 0) {
		int num = errno;

		saved->fd = safe_close(saved->fd);
		return err_sys(e, num, "enter network namespace");
	}
	return 0;
}

void netns_leave(struct netns_saved *saved)
{
	int num = errno;

	if (setns(saved->fd, CLONE_NEWNET) < 0)
		abort();
	saved->fd = safe_close(saved->fd);
	errno = num;
}

static int name_path(const char *name, char *path, size_t len, struct err **e)
{
	if (!*name || strchr(name, '/') || name[0] == '.' || strlen(name) > 200)
		return err_set(e, EINVAL, "net.name", "'%s' cannot name a network namespace", name);
	snprintf(path, len, NETNS_DIR "/%s", name);
	return 0;
}

/* Other mount namespaces (containers' monitors, systemd units) see our names only when the folder is shared;
 * iproute2 makes it so, and so do we when we come first. */
static int prepare_dir(struct err **e)
{
	if (mkdir(NETNS_DIR, 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create %s", NETNS_DIR);
	if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	if (errno != EINVAL)
		return err_sys(e, errno, "share %s", NETNS_DIR);
	if (mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) < 0)
		return err_sys(e, errno, "bind %s", NETNS_DIR);
	if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0)
		return err_sys(e, errno, "share %s", NETNS_DIR);
	return 0;
}

int netns_create(const char *name, int *ret, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	char path[256];
	struct netns_saved saved;
	int r, num = 0;

	r = name_path(name, path, sizeof(path), e);
	if (r == 0)
		r = prepare_dir(e);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, errno, "create %s", path);
	fd = safe_close(fd);
	saved.fd = netns_self(e);
	if (saved.fd < 0) {
		unlink(path);
		return saved.fd;
	}
	if (unshare(CLONE_NEWNET) < 0)
		num = errno;
	else if (mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0)
		num = errno;
	else
		fd = open(path, O_RDONLY | O_CLOEXEC);
	netns_leave(&saved);
	if (fd < 0) {
		umount2(path, MNT_DETACH);
		unlink(path);
		return err_sys(e, num ? num : EIO, "make network namespace '%s'", name);
	}
	*ret = TAKE_FD(fd);
	return 0;
}

int netns_open(const char *name, int *ret, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	struct statfs fs;
	char path[256];
	int r = name_path(name, path, sizeof(path), e);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open %s", path);
	if (fstatfs(fd, &fs) < 0)
		return err_sys(e, errno, "stat %s", path);
	if (fs.f_type != NSFS_MAGIC)
		return err_set(e, ENOENT, "net.netns",
			       "%s is a plain file, not a network namespace", path);
	*ret = TAKE_FD(fd);
	return 0;
}

int netns_delete(const char *name, struct err **e)
{
	char path[256];
	int r = name_path(name, path, sizeof(path), e);

	if (r < 0)
		return r;
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return err_sys(e, errno, "unmount %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove %s", path);
	return 0;
}

int netns_each(const char *prefix, int (*fn)(const char *name, void *arg), void *arg)
{
	_cleanup_(closedirp) DIR *d = opendir(NETNS_DIR);
	struct dirent *de;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (r >= 0 && (de = readdir(d)))
		if (de->d_name[0] != '.' && str_starts(de->d_name, prefix))
			r = fn(de->d_name, arg);
	return r < 0 ? r : 0;
}

bool netns_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}
