/* Profiles and their cache; see seccomp_profile.h.
 *
 * A cache file: struct head, the profile's text, the program.  It is written under another name and renamed, so a reader
 * sees all of it or nothing.  Whoever can write the folder can weaken containers: it is made 0700 and must be ours. */
#include "container/seccomp_profile.h"
#include "container/warn.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "sys/proc.h"

#define MAGIC	0x53534331U
#define VERSION 2U
#define PROG_MAX \
	32767U /* instructions; the kernel takes no more than that in all filters together */

struct head {
	uint32_t magic, version, text_len, n;
	char release[64]; /* a new kernel or libseccomp may know more system calls */
};

/* FNV-1a over 8 bytes at a time: only a file name, the text itself is compared. */
static uint64_t hash(const char *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t w;

		memcpy(&w, p, 8);
		h = (h ^ w) * 0x100000001b3ULL;
		h ^= h >> 29;
	}
	for (; n > 0; n--, p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3ULL;
	return h;
}

static void release(char *buf, size_t len)
{
	struct utsname u;

	memset(buf, 0, len);
	if (uname(&u) == 0)
		snprintf(buf, len, "%.40s " STRATA_VERSION, u.release);
}

static int cache_dir_open(const char *path, struct err **e)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make '%s'", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || st.st_mode & 022) {
		close(fd);
		return err_set(e, EPERM, "seccomp.cache", "'%s' is writable for others", path);
	}
	return fd;
}

static int cache_read(struct arena *a, int dir, const char *name, const char *text, size_t len,
		      struct seccomp_prog *p)
{
	_cleanup_(closep) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct head h;
	char rel[sizeof(h.release)];
	struct stat st;
	char *all;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(h) || st.st_size > (8 << 20))
		return -ENOENT;
	all = arena_alloc(a, (size_t)st.st_size);
	if (read(fd, all, (size_t)st.st_size) != st.st_size)
		return -ENOENT;
	memcpy(&h, all, sizeof(h));
	release(rel, sizeof(rel));
	if (h.magic != MAGIC || h.version != VERSION || h.text_len != len || h.n == 0 ||
	    h.n > PROG_MAX ||
	    (uint64_t)st.st_size != sizeof(h) + (uint64_t)len + (uint64_t)h.n * 8 ||
	    memcmp(h.release, rel, sizeof(rel)) != 0 || memcmp(all + sizeof(h), text, len) != 0)
		return -ENOENT;
	p->n = h.n;
	p->insns = arena_alloc(a, h.n * 8);
	memcpy(p->insns, all + sizeof(h) + len, h.n * 8);
	return 0;
}

static void cache_write(int dir, const char *name, const char *text, size_t len,
			const struct seccomp_prog *p)
{
	struct head h = {
		.magic = MAGIC, .version = VERSION, .text_len = (uint32_t)len, .n = (uint32_t)p->n
	};
	char temp[64];
	int fd;

	release(h.release, sizeof(h.release));
	snprintf(temp, sizeof(temp), ".%d.tmp", (int)getpid());
	fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return; /* only a cache */
	if (write_all(fd, &h, sizeof(h)) == 0 && write_all(fd, text, len) == 0 &&
	    write_all(fd, p->insns, p->n * 8) == 0)
		renameat(dir, temp, dir, name);
	else
		unlinkat(dir, temp, 0);
	close(fd);
}

/* The helper lies beside us, or where the package puts it. */
static void helper_path(char *buf, size_t len)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *env = getenv("STRATA_SECCOMP_HELPER");

	if (env && geteuid() == getuid()) {
		snprintf(buf, len, "%s", env);
		return;
	}
	if (n > 0) {
		char *slash;

		self[n] = '\0';
		slash = strrchr(self, '/');
		snprintf(buf, len, "%.*s/strata-seccomp", (int)(slash - self), self);
		if (access(buf, X_OK) == 0)
			return;
	}
	snprintf(buf, len, "/usr/libexec/strata/strata-seccomp");
}

/* Text in on its standard input, program out on its standard output, a message on the third pipe. */
static int compile(struct arena *a, const char *text, size_t len, struct seccomp_prog *p,
		   struct err **e)
{
	_cleanup_(closep) int in = -1, out_r = -1, out_w = -1, err_r = -1, err_w = -1;
	_cleanup_(buf_done) struct buf prog = { 0 }, msg = { 0 };
	char path[PATH_MAX + 32];
	int pipes[2], status, r;
	pid_t pid;

	helper_path(path, sizeof(path));
	in = sys_sealed_memfd("seccomp-profile", text, len);
	if (in < 0)
		return err_sys(e, -in, "memory file");
	lseek(in, 0, SEEK_SET);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, errno, "pipe");
	out_r = pipes[0];
	out_w = pipes[1];
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, errno, "pipe");
	err_r = pipes[0];
	err_w = pipes[1];
	pid = sys_clone3(0, SIGCHLD, NULL, -1);
	if (pid < 0)
		return err_sys(e, -pid, "new process");
	if (pid == 0) {
		char *argv[] = { path, NULL }, *envp[] = { NULL };

		dup2(in, 0);
		dup2(out_w, 1);
		dup2(err_w, 2);
		sys_close_range(3, ~0U);
		execve(path, argv, envp);
		dprintf(2, "execute '%s': %s", path, strerror(errno));
		_exit(127);
	}
	out_w = safe_close(out_w);
	err_w = safe_close(err_w);
	r = fd_read_all(out_r, PROG_MAX * 8, &prog, NULL);
	fd_read_all(err_r, 4096, &msg, NULL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, EINVAL, "config.field", "linux.seccomp: %s",
			       msg.len ? buf_str(&msg) : "strata-seccomp failed");
	if (msg.len)
		ct_warn("linux.seccomp: %s", buf_str(&msg));
	if (prog.len == 0 || prog.len % 8)
		return err_set(e, EINVAL, "config.field",
			       "linux.seccomp: the compiler gave no program");
	p->n = prog.len / 8;
	p->insns = arena_alloc(a, prog.len);
	memcpy(p->insns, prog.s, prog.len);
	return 0;
}

static int read_flags(struct jr *r, const struct jval *o, struct seccomp_prog *p)
{
	static const struct {
		const char *name;
		unsigned int bit;
	} known[] = {
		{ "SECCOMP_FILTER_FLAG_TSYNC", 0 }, /* one thread: nothing to do */
		{ "SECCOMP_FILTER_FLAG_LOG", SYS_SECCOMP_LOG },
		{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SYS_SECCOMP_SPEC_ALLOW },
		{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SYS_SECCOMP_WAIT_KILLABLE_RECV },
	};
	char **v = NULL;
	size_t i, k;

	jr_strv(r, o, "flags", &v, NULL);
	for (i = 0; v && v[i]; i++) {
		for (k = 0; k < ARRAY_SIZE(known); k++)
			if (streq(v[i], known[k].name))
				break;
		if (k == ARRAY_SIZE(known))
			return jr_fail(r, o, "flags", "'%s' is not a seccomp flag", v[i]);
		p->flags |= known[k].bit;
	}
	return r->r;
}

static bool notifies(struct jr *r, const struct jval *o)
{
	const char *act = "";

	jr_str(r, o, "defaultAction", &act);
	if (streq(act, "SCMP_ACT_NOTIFY"))
		return true;
	jfor(rule, jr_arr(r, o, "syscalls"))
	{
		act = "";
		jr_str(r, rule, "action", &act);
		if (streq(act, "SCMP_ACT_NOTIFY"))
			return true;
	}
	return false;
}

int seccomp_profile_get(struct arena *a, const struct jval *o, const char *text,
			const char *cache_dir, struct seccomp_prog **ret, struct err **e)
{
	struct jr r = { .a = a, .e = e };
	struct seccomp_prog *p;
	_cleanup_(closep) int dir = -1;
	char name[32];
	size_t len;
	int q;

	*ret = NULL;
	if (!o)
		return 0;
	p = arena_alloc(a, sizeof(*p));
	p->listener_metadata = "";
	read_flags(&r, o, p);
	jr_str(&r, o, "listenerPath", &p->listener_path);
	jr_str(&r, o, "listenerMetadata", &p->listener_metadata);
	if (notifies(&r, o)) {
		if (!p->listener_path || !*p->listener_path)
			return jr_fail(&r, o, "listenerPath", "is needed by SCMP_ACT_NOTIFY");
		p->flags |= SYS_SECCOMP_NEW_LISTENER;
	} else {
		p->listener_path = NULL;
	}
	if (r.r < 0)
		return r.r;
	text += o->from;
	len = o->to - o->from;
	snprintf(name, sizeof(name), "%016llx", (unsigned long long)hash(text, len));
	dir = cache_dir_open(cache_dir, NULL);
	if (dir < 0 || cache_read(a, dir, name, text, len, p) < 0) {
		q = compile(a, text, len, p, e);
		if (q < 0)
			return q;
		if (dir >= 0)
			cache_write(dir, name, text, len, p);
	}
	*ret = p;
	return 0;
}
