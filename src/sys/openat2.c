/* openat2() and walks built on it; see openat2.h. */
#include "sys/openat2.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/cleanup.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define TRIES 64

int sys_openat2(int dirfd, const char *path, int flags, mode_t mode, unsigned int resolve)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = { .flags = (uint64_t)(unsigned int)(flags | O_CLOEXEC),
		  .mode = mode,
		  .resolve = resolve };
	int i;

	for (i = 0; i < TRIES; i++) {
		long r = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		if (r >= 0)
			return (int)r;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

int root_open(int rootfd, const char *path, int flags, mode_t mode)
{
	while (*path == '/')
		path++;
	if (!*path)
		path = ".";
	return sys_openat2(rootfd, path, flags, mode,
			   SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS);
}

int root_mkdirs(int rootfd, const char *path, mode_t mode)
{
	char done[PATH_MAX];
	size_t len = 0;
	int fd = root_open(rootfd, path, O_PATH | O_DIRECTORY, 0);

	if (fd != -ENOENT)
		return fd;
	if (strlen(path) >= sizeof(done) - 1)
		return -ENAMETOOLONG;
	/* Each prefix is resolved anew from the root, so that a symlink on the way means what it means inside. */
	fd = root_open(rootfd, "", O_PATH | O_DIRECTORY, 0);
	while (fd >= 0) {
		_cleanup_(closep) int parent = fd;
		const char *end;

		while (*path == '/')
			path++;
		if (!*path)
			return TAKE_FD(parent);
		end = strchrnul(path, '/');
		if (len)
			done[len++] = '/';
		memcpy(done + len, path, (size_t)(end - path));
		len += (size_t)(end - path);
		done[len] = '\0';
		fd = root_open(rootfd, done, O_PATH | O_DIRECTORY, 0);
		if (fd == -ENOENT) {
			char name[NAME_MAX + 1];

			if ((size_t)(end - path) > NAME_MAX)
				return -ENAMETOOLONG;
			memcpy(name, path, (size_t)(end - path));
			name[end - path] = '\0';
			/* A dangling symlink: make what it points to. */
			if (mkdirat(parent, name, mode) < 0) {
				char link[PATH_MAX];
				ssize_t n;

				if (errno != EEXIST)
					return -errno;
				n = readlinkat(parent, name, link, sizeof(link) - 1);
				if (n < 0)
					return -errno;
				return -ELOOP;
			}
			fd = root_open(rootfd, done, O_PATH | O_DIRECTORY, 0);
		}
		path = end;
	}
	return fd;
}

int root_parent(int rootfd, const char *path, mode_t dir_mode, char *name, size_t name_len)
{
	char dir[PATH_MAX];
	size_t len = strlen(path), start;

	while (len > 0 && path[len - 1] == '/')
		len--;
	for (start = len; start > 0 && path[start - 1] != '/'; start--)
		;
	if (len == start || len - start >= name_len)
		return -EINVAL;
	memcpy(name, path + start, len - start);
	name[len - start] = '\0';
	if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
		return -EINVAL;
	if (start >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, start);
	dir[start] = '\0';
	return root_mkdirs(rootfd, dir, dir_mode);
}

int root_mkfile(int rootfd, const char *path, mode_t dir_mode, mode_t mode)
{
	char name[NAME_MAX + 1];
	_cleanup_(closep) int parent = -1, made = -1;
	int fd = root_open(rootfd, path, O_PATH, 0);

	if (fd != -ENOENT)
		return fd;
	parent = root_parent(rootfd, path, dir_mode, name, sizeof(name));
	if (parent < 0)
		return parent;
	made = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, mode);
	if (made < 0 && errno != EEXIST)
		return -errno;
	return root_open(rootfd, path, O_PATH, 0);
}
