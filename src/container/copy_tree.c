/* Copying a small tree by descriptors, for tmpcopyup; see rootfs.h. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "container/rootfs.h"

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	_cleanup_(closep) int in =
		openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(closep) int out = -1;
	ssize_t n;

	if (in < 0)
		return -errno;
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		     st->st_mode & 07777);
	if (out < 0)
		return -errno;
	do {
		n = sendfile(out, in, NULL, 1 << 20);
	} while (n > 0);
	return n < 0 ? -errno : 0;
}

static int copy_entry(int from, int to, const char *name, struct err **e)
{
	char link[PATH_MAX];
	struct stat st;
	int r = 0;
	ssize_t n;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "tmpcopyup: '%s'", name);
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR: {
		_cleanup_(closep) int a = -1, b = -1;

		if (mkdirat(to, name, 0700) < 0 && errno != EEXIST)
			return err_sys(e, errno, "tmpcopyup: '%s'", name);
		a = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		b = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (a < 0 || b < 0)
			return err_sys(e, errno, "tmpcopyup: '%s'", name);
		r = copy_tree(a, b, e);
		if (r < 0)
			return r;
		break;
	}
	case S_IFLNK:
		n = readlinkat(from, name, link, sizeof(link) - 1);
		if (n >= 0)
			link[n] = '\0';
		if (n < 0 || symlinkat(link, to, name) < 0)
			r = -errno;
		break;
	case S_IFREG:
		r = copy_file(from, to, name, &st);
		break;
	default:
		if (mknodat(to, name, st.st_mode, st.st_rdev) < 0)
			r = -errno;
	}
	if (r == 0 && fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0 && !S_ISLNK(st.st_mode) && fchmodat(to, name, st.st_mode & 07777, 0) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, -r, "tmpcopyup: '%s'", name) : 0;
}

int copy_tree(int from, int to, struct err **e)
{
	int dup = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	_cleanup_(closedirp) DIR *dir = dup >= 0 ? fdopendir(dup) : NULL;
	struct dirent *d;

	if (!dir)
		return err_sys(e, errno, "tmpcopyup");
	while (r == 0 && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = copy_entry(from, to, d->d_name, e);
	return r;
}
