/* Atomic files.  Order: (1) data is on disk before the name points to it; (2) the folder is on disk before commit
 * returns. */
#include "base/atomicfile.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "base/rand.h"

int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int pwrite_all(int fd, const void *data, size_t len, off_t off)
{
	const char *p = data;

	while (len) {
		ssize_t n = pwrite(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int pread_all(int fd, void *data, size_t len, off_t off)
{
	char *p = data;

	while (len) {
		ssize_t n = pread(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int atomicfile_open(int dirfd, const char *path, mode_t mode, struct atomicfile *f, struct err **e)
{
	_cleanup_(freep) char *dir = NULL;
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	*f = (struct atomicfile){ .fd = -1, .dirfd = -1 };
	if (*name == '\0' || strlen(name) >= sizeof(f->name))
		return err_set(e, EINVAL, "file.name", "'%s' is not a file name", path);
	strcpy(f->name, name);
	if (slash)
		dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	else
		dir = strdup(".");
	if (!dir)
		return err_sys(e, ENOMEM, "write '%s'", path);
	f->dirfd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dirfd < 0)
		return err_sys(e, errno, "open folder '%s'", dir);
	snprintf(f->temp, sizeof(f->temp), ".%.230s.%08x.tmp", name, (unsigned int)rand_u64());
	f->fd = openat(f->dirfd, f->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (f->fd < 0) {
		int r = err_sys(e, errno, "create a file beside '%s'", path);

		f->dirfd = safe_close(f->dirfd);
		return r;
	}
	return 0;
}

int atomicfile_commit(struct atomicfile *f, struct err **e)
{
	int r = 0;

	if (fsync(f->fd) < 0)
		r = err_sys(e, errno, "sync '%s'", f->name);
	else if (renameat(f->dirfd, f->temp, f->dirfd, f->name) < 0)
		r = err_sys(e, errno, "replace '%s'", f->name);
	else
		f->temp[0] = '\0';
	if (r == 0 && fsync(f->dirfd) < 0)
		r = err_sys(e, errno, "sync the folder of '%s'", f->name);
	atomicfile_abort(f);
	return r;
}

void atomicfile_abort(struct atomicfile *f)
{
	if (!f || f->fd < 0 || f->dirfd < 0)
		return;
	if (f->temp[0])
		unlinkat(f->dirfd, f->temp, 0);
	f->fd = safe_close(f->fd);
	f->dirfd = safe_close(f->dirfd);
}

int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
		      struct err **e)
{
	_cleanup_(atomicfile_abort) struct atomicfile f = { .fd = -1, .dirfd = -1 };
	int r = atomicfile_open(dirfd, path, mode, &f, e);

	if (r < 0)
		return r;
	r = write_all(f.fd, data, len);
	if (r < 0)
		return err_sys(e, -r, "write '%s'", path);
	return atomicfile_commit(&f, e);
}

int fd_read_all(int fd, size_t max, struct buf *out, struct err **e)
{
	size_t start = out->len;

	for (;;) {
		ssize_t n;

		if (buf_reserve(out, 4096) < 0)
			return err_sys(e, ENOMEM, "read");
		n = read(fd, out->s + out->len, out->cap - out->len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "read");
		if (n == 0)
			return 0;
		out->len += (size_t)n;
		out->s[out->len] = '\0';
		if (out->len - start > max)
			return err_set(e, EFBIG, "file.too_large", "larger than %zu bytes", max);
	}
}

int file_read(int dirfd, const char *path, size_t max, struct buf *out, struct err **e)
{
	_cleanup_(closep) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
		return err_set(e, EFBIG, "file.too_large", "'%s' is larger than %zu bytes", path,
			       max);
	r = fd_read_all(fd, max, out, e);
	return r < 0 ? err_wrap(e, r, "'%s'", path) : 0;
}
