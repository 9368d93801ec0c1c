/* See lock.h.  The holder of such a lock has no pid in the kernel's answer: /proc/PID/fdinfo tells. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "storage/lock.h"

#define USES	100
#define FORBIDS 200
#define N_PERMS 4
#define P_READ	1U
#define P_WRITE 2U
#define P_SIZE	8U
#define P_ALL	15U

static int lock_byte(int fd, off_t at, bool on)
{
	struct flock l = {
		.l_type = on ? F_RDLCK : F_UNLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1
	};

	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

/* 1: somebody else holds the byte; 0: nobody; -errno. */
static int lock_held(int fd, off_t at)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &l) < 0)
		return -errno;
	return l.l_type != F_UNLCK;
}

/* True when the fdinfo text shows a lock within our bytes. */
static bool fdinfo_has_lock(const char *path)
{
	_cleanup_(fclosep) FILE *f = fopen(path, "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		const char *p = strrchr(line, ':');
		unsigned long long inode, start;

		if (!str_starts(line, "lock:") || !p || !strstr(line, "OFDLCK"))
			continue;
		if (sscanf(p + 1, "%llu %llu", &inode, &start) == 2 && start >= USES &&
		    start < FORBIDS + 16)
			return true;
	}
	return false;
}

/* " by NAME (pid N)" of a process that has the file open and locked; "" when it is not to be found. */
static void find_holder(int fd, struct buf *out)
{
	_cleanup_(closedirp) DIR *proc = opendir("/proc");
	struct stat me, st;
	struct dirent *p, *f;

	if (!proc || fstat(fd, &me) < 0)
		return;
	while ((p = readdir(proc))) {
		_cleanup_(closedirp) DIR *fds = NULL;
		char dir[64], path[384];
		uint64_t pid;

		if (parse_u64(p->d_name, INT32_MAX, &pid) < 0)
			continue;
		snprintf(dir, sizeof(dir), "/proc/%llu/fd", (unsigned long long)pid);
		fds = opendir(dir);
		while (fds && (f = readdir(fds))) {
			_cleanup_(fclosep) FILE *comm = NULL;
			char name[32] = "";

			snprintf(path, sizeof(path), "%s/%s", dir, f->d_name);
			if (f->d_name[0] == '.' || stat(path, &st) < 0 || st.st_ino != me.st_ino ||
			    st.st_dev != me.st_dev)
				continue;
			if ((pid_t)pid == getpid() && atoi(f->d_name) == fd)
				continue;
			snprintf(path, sizeof(path), "/proc/%llu/fdinfo/%s",
				 (unsigned long long)pid, f->d_name);
			if (!fdinfo_has_lock(path))
				continue;
			snprintf(path, sizeof(path), "/proc/%llu/comm", (unsigned long long)pid);
			comm = fopen(path, "re");
			if (comm && fgets(name, sizeof(name), comm))
				name[strcspn(name, "\n")] = '\0';
			buf_addf(out, " by %s (pid %llu)", name[0] ? name : "a process",
				 (unsigned long long)pid);
			return;
		}
	}
}

/* A process that was killed is gone before the files of its io_uring are: their locks linger without a holder. */
#define DYING (3 * NSEC_PER_SEC)

/* 0: taken; 1 or -EAGAIN: somebody else's are in the way; -errno.  Nothing is held after a failure. */
static int take_locks(int fd, unsigned int uses, unsigned int forbids)
{
	int r = 0;

	for (unsigned int i = 0; i < N_PERMS && r == 0; i++) {
		r = lock_byte(fd, USES + i, uses & 1U << i);
		if (r == 0)
			r = lock_byte(fd, FORBIDS + i, forbids & 1U << i);
	}
	if (r == -ENOLCK || r == -EOPNOTSUPP || r == -EINVAL)
		return 0; /* no locks there */
	for (unsigned int i = 0; i < N_PERMS && r == 0; i++) {
		if (uses & 1U << i)
			r = lock_held(fd, FORBIDS + i);
		if (r == 0 && forbids & 1U << i)
			r = lock_held(fd, USES + i);
	}
	for (unsigned int i = 0; i < N_PERMS && r != 0; i++) {
		lock_byte(fd, USES + i, false);
		lock_byte(fd, FORBIDS + i, false);
	}
	return r;
}

int image_lock(int fd, const char *path, enum image_lock want, struct err **e)
{
	unsigned int uses = want == IMAGE_UNLOCKED     ? 0
			    : want == IMAGE_LOCK_WRITE ? P_READ | P_WRITE | P_SIZE
						       : P_READ;
	unsigned int forbids = want == IMAGE_UNLOCKED ? 0 : P_WRITE | P_SIZE;
	nsec_t until = now_mono() + DYING;

	while (true) {
		_cleanup_(buf_done) struct buf who = { 0 };
		struct timespec pause = { .tv_nsec = 5 * NSEC_PER_MSEC };
		int r = take_locks(fd, uses, forbids);

		if (r == 0)
			return 0;
		if (r < 0 && r != -EAGAIN)
			return err_sys(e, -r, "lock '%s'", path);
		find_holder(fd, &who);
		if (who.len > 0 || now_mono() >= until)
			return err_set(e, EAGAIN, "disk.locked", "'%s' is in use%s%s", path,
				       buf_str(&who),
				       want == IMAGE_LOCK_READ ? ", which writes to it" : "");
		nanosleep(&pause, NULL);
	}
}
