/* See fsutil.h.  No policy here. */
#include "image/fsutil.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include "base/atomicfile.h"
#include "base/rand.h"
#include "base/str.h"
#include "sys/openat2.h"

int open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return sys_openat2(dirfd, path, flags | O_CLOEXEC, mode,
			   SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_SYMLINKS |
				   SYS_RESOLVE_NO_MAGICLINKS | SYS_RESOLVE_NO_XDEV);
}

int open_in_root(int dirfd, const char *path, int flags)
{
	return sys_openat2(dirfd, path, flags | O_CLOEXEC, 0,
			   SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS | SYS_RESOLVE_NO_XDEV);
}

static int remove_children(int fd, dev_t dev)
{
	_cleanup_(closedirp) DIR *d = fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!d) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (de = readdir(d))) {
		struct stat st;
		int sub;

		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		if (de->d_type != DT_DIR) {
			if (unlinkat(dirfd(d), de->d_name, 0) == 0 || errno == ENOENT)
				continue;
			if (errno != EISDIR)
				return -errno;
		}
		sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		/* not root, and the image made it unreadable */
		if (sub < 0 && errno == EACCES && fchmodat(dirfd(d), de->d_name, 0700, 0) == 0) {
			sub = openat(dirfd(d), de->d_name,
				     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		}
		if (sub < 0)
			return -errno;
		if (fstat(sub, &st) < 0 || st.st_dev != dev) {
			close(sub);
			return -EXDEV;
		}
		r = remove_children(sub, dev);
		if (r == 0 && unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR) < 0)
			r = -errno;
	}
	return r;
}

int tree_remove(int dirfd, const char *name)
{
	struct stat st;
	int fd, r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	r = remove_children(fd, st.st_dev);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int dir_make(int dirfd, const char *path, mode_t mode)
{
	_cleanup_(freep) char *s = strdup(path);

	if (!s)
		return -ENOMEM;
	for (char *p = s + 1;; p++) {
		char c = *p;

		if (c != '/' && c)
			continue;
		*p = '\0';
		if (mkdirat(dirfd, s, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = c;
		if (!c)
			return 0;
	}
}

int dir_make_temp(int dirfd, const char *prefix, char *name, size_t len)
{
	for (int i = 0; i < 100; i++) {
		snprintf(name, len, "%s%016llx", prefix, (unsigned long long)rand_u64());
		if (mkdirat(dirfd, name, 0700) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

ssize_t fd_read(int fd, void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t fd_pread(int fd, void *data, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* One data extent by copy_file_range(2), or by hand where the file systems cannot. */
static int copy_extent(int from, int to, off_t off, off_t end, off_t shift)
{
	_cleanup_(freep) char *block = NULL;

	while (off < end) {
		off_t in = off, out = off + shift;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - off), 0);

		if (n > 0) {
			off += n;
			continue;
		}
		if (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS &&
		    errno != EOPNOTSUPP)
			return -errno;
		if (!block)
			block = malloc(1 * MIB);
		if (!block)
			return -ENOMEM;
		n = fd_pread(from, block, (size_t)MIN(end - off, (off_t)MIB), (uint64_t)off);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO; /* it shrank under us */
		if (pwrite_all(to, block, (size_t)n, off + shift) < 0)
			return -EIO;
		off += n;
	}
	return 0;
}

int fd_copy_to(int from, int to, uint64_t at, struct err **e)
{
	struct stat st;
	off_t data = 0, hole;
	int r;

	if (fstat(from, &st) < 0)
		return err_sys(e, errno, "copy");
	while (data < st.st_size) {
		data = lseek(from, data, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			return err_sys(e, errno, "copy: find data");
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return err_sys(e, errno, "copy: find hole");
		r = copy_extent(from, to, data, hole, (off_t)at);
		if (r < 0)
			return err_sys(e, -r, "copy");
		data = hole;
	}
	return 0;
}

int fd_copy(int from, int to, struct err **e)
{
	struct stat st;

	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return err_sys(e, errno, "copy");
	return fd_copy_to(from, to, 0, e);
}

bool program_exists(const char *name)
{
	const char *path = getenv("PATH");
	char full[4096];

	if (strchr(name, '/'))
		return access(name, X_OK) == 0;
	for (; path && *path;) {
		size_t n = strcspn(path, ":");

		snprintf(full, sizeof(full), "%.*s/%s", (int)n, path, name);
		if (access(full, X_OK) == 0)
			return true;
		path += n;
		path += *path == ':';
	}
	return false;
}

static void text_tail(struct buf *b, size_t max)
{
	while (b->len && strchr("\n\r ", b->s[b->len - 1]))
		b->s[--b->len] = '\0';
	if (b->len > max)
		buf_consume(b, b->len - max);
}

int run_program(const char *const *argv, const char *dir, int out_fd, atomic_bool *cancel,
		struct err **e)
{
	return run_program_in(argv, dir, -1, out_fd, cancel, e);
}

int run_program_in(const char *const *argv, const char *dir, int in_fd, int out_fd,
		   atomic_bool *cancel, struct err **e)
{
	_cleanup_(closep) int rd = -1, wr = -1;
	_cleanup_(buf_done) struct buf text = { 0 };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	int p[2], r, status;
	pid_t pid;

	if (!program_exists(argv[0]))
		return err_set(e, ENOENT, "image.program_missing",
			       "the program '%s' is not installed", argv[0]);
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, errno, "run '%s'", argv[0]);
	rd = p[0];
	wr = p[1];
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&at);
	if (in_fd >= 0)
		posix_spawn_file_actions_adddup2(&fa, in_fd, 0);
	else
		posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, out_fd >= 0 ? out_fd : wr, 1);
	posix_spawn_file_actions_adddup2(&fa, wr, 2);
	if (dir)
		posix_spawn_file_actions_addchdir_np(&fa, dir);
	/* A daemon blocks and handles signals; a program of the host wants the usual ones. */
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &all);
	posix_spawnattr_setpgroup(&at, 0);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
					      POSIX_SPAWN_SETPGROUP);
	r = posix_spawnp(&pid, argv[0], &fa, &at, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	if (r)
		return err_sys(e, r, "run '%s'", argv[0]);
	wr = safe_close(wr);
	for (;;) {
		struct pollfd pf = { .fd = rd, .events = POLLIN };
		char chunk[4096];
		ssize_t n;

		if (cancel && atomic_load(cancel)) {
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			return err_set(e, ECANCELED, "image.cancelled", "cancelled");
		}
		if (poll(&pf, 1, cancel ? 100 : -1) <= 0)
			continue;
		n = read(rd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_add(&text, chunk, (size_t)n);
		if (text.len > MIB)
			buf_consume(&text, text.len - MIB / 2);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	text_tail(&text, 2000);
	if (WIFSIGNALED(status))
		return err_set(e, EIO, "image.program_failed", "'%s' was killed by signal %d: %s",
			       argv[0], WTERMSIG(status), buf_str(&text));
	return err_set(e, EIO, "image.program_failed", "'%s' failed with status %d: %s", argv[0],
		       WEXITSTATUS(status), buf_str(&text));
}
