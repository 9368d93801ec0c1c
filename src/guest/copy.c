/* Folders of the guest as tar streams, out and in.               Spec: POSIX pax (IEEE 1003.1-2017), GNU long names
 * Runs in a child of its own (proc_fork), so it may block: tar comes on stdin or goes to stdout, what went wrong is
 * said on stderr with exit status 1.  Names are resolved below the folder, whatever symbolic links it holds. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/vec.h"
#include "guest/init.h"

#define BLOCK	  512
#define PAX_MAX	  (1 * MIB)
#define XATTR_MAX 65536
#define SCHILY	  "SCHILY.xattr."

struct header { /* ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

static int fail(const char *path, int r)
{
	dprintf(2, "%s: %s\n", *path ? path : ".", strerror(-r));
	return 1;
}

static int pad(int fd, uint64_t size)
{
	static const uint8_t zeros[BLOCK];

	return size % BLOCK ? write_all(fd, zeros, BLOCK - size % BLOCK) : 0;
}

/* ---- out ---- */

struct linked {
	dev_t dev;
	ino_t ino;
	char *path;
};

struct out {
	VEC(struct linked) links;
};

/* "LEN key=value\n", LEN counting itself. */
static void record(struct buf *b, const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, n = rest + 1;

	while (n != rest + (size_t)snprintf(NULL, 0, "%zu", n))
		n = rest + (size_t)snprintf(NULL, 0, "%zu", n);
	buf_addf(b, "%zu %s=", n, key);
	buf_add(b, value, len);
	buf_addc(b, '\n');
}

static void record_number(struct buf *b, const char *key, uint64_t v)
{
	char text[32];

	record(b, key, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)v));
}

/* Number n in octal, or 0 where a pax record says it. */
static void octal(char *field, size_t len, uint64_t n)
{
	if (n >> 3 * (len - 1))
		n = 0;
	snprintf(field, len, "%0*llo", (int)len - 1, (unsigned long long)n);
}

static int put_header(const char *name, const struct stat *st, char type, uint64_t size,
		      const char *link)
{
	struct header h = { 0 };
	unsigned int sum = 0;

	memcpy(h.name, name, MIN(strlen(name), sizeof(h.name)));
	memcpy(h.link, link, MIN(strlen(link), sizeof(h.link)));
	octal(h.mode, sizeof(h.mode), st->st_mode & 07777);
	octal(h.uid, sizeof(h.uid), st->st_uid);
	octal(h.gid, sizeof(h.gid), st->st_gid);
	octal(h.size, sizeof(h.size), size);
	octal(h.mtime, sizeof(h.mtime), st->st_mtim.tv_sec > 0 ? (uint64_t)st->st_mtim.tv_sec : 0);
	octal(h.major, sizeof(h.major), type == '3' || type == '4' ? major(st->st_rdev) : 0);
	octal(h.minor, sizeof(h.minor), type == '3' || type == '4' ? minor(st->st_rdev) : 0);
	h.type = type;
	memcpy(h.magic, "ustar", 6);
	memcpy(h.version, "00", 2);
	memset(h.sum, ' ', sizeof(h.sum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const uint8_t *)&h)[i];
	snprintf(h.sum, sizeof(h.sum), "%06o", sum);
	return write_all(1, &h, sizeof(h));
}

static void add_xattrs(struct buf *b, int fd)
{
	_cleanup_(freep) char *names = malloc(XATTR_MAX), *value = malloc(XATTR_MAX);
	ssize_t n = names && value ? flistxattr(fd, names, XATTR_MAX) : -1;

	for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		char key[300];
		ssize_t len;

		if (!str_starts(p, "user.") && !streq(p, "security.capability"))
			continue;
		len = fgetxattr(fd, p, value, XATTR_MAX);
		snprintf(key, sizeof(key), SCHILY "%.255s", p);
		if (len >= 0)
			record(b, key, value, (size_t)len);
	}
}

/* fd: of a file or folder, for its attributes; else -1. */
static int put_entry(const char *path, const struct stat *st, char type, uint64_t size,
		     const char *link, int fd)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct stat plain = { .st_mode = 0600 };
	int r = 0;

	if (strlen(path) > 100)
		record(&b, "path", path, strlen(path));
	if (strlen(link) > 100)
		record(&b, "linkpath", link, strlen(link));
	if (size >> 33)
		record_number(&b, "size", size);
	if (st->st_uid >> 21)
		record_number(&b, "uid", st->st_uid);
	if (st->st_gid >> 21)
		record_number(&b, "gid", st->st_gid);
	if (fd >= 0)
		add_xattrs(&b, fd);
	if (buf_error(&b))
		return -ENOMEM;
	if (b.len) {
		r = put_header("PaxHeader", &plain, 'x', b.len, "");
		if (r == 0)
			r = write_all(1, b.s, b.len);
		if (r == 0)
			r = pad(1, b.len);
	}
	return r < 0 ? r : put_header(path, st, type, size, link);
}

/* What it had when it was looked at: a file that grows is cut, one that shrinks is filled. */
static int put_data(int fd, uint64_t size)
{
	static char block[65536];
	uint64_t left = size;

	while (left) {
		ssize_t n = read(fd, block, MIN(left, (uint64_t)sizeof(block)));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			n = (ssize_t)MIN(left, (uint64_t)sizeof(block));
			memset(block, 0, (size_t)n);
		}
		r = write_all(1, block, (size_t)n);
		if (r < 0)
			return r;
		left -= (uint64_t)n;
	}
	return pad(1, size);
}

/* The path under which an inode is in the archive already, else NULL. */
static const char *seen(struct out *o, const struct stat *st, const char *path)
{
	struct linked l = { st->st_dev, st->st_ino, NULL }, *p;

	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return NULL;
	vec_for_each(p, &o->links) {
		if (p->dev == l.dev && p->ino == l.ino)
			return p->path;
	}
	l.path = strdup(path);
	if (l.path && vec_push(&o->links, l) < 0)
		free(l.path);
	return NULL;
}

static int put_tree(struct out *o, int dir, const char *path);

static int put_one(struct out *o, int dir, const char *name, const char *path)
{
	_cleanup_(closep) int fd = -1;
	char link[4096] = "";
	const char *first;
	struct stat st;
	ssize_t n;
	int r;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail(path, -errno); /* gone meanwhile */
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			return errno == ENOENT ? 0 : fail(path, -errno);
	}
	first = seen(o, &st, path);
	if (first) {
		r = put_entry(path, &st, '1', 0, first, -1);
	} else if (S_ISDIR(st.st_mode)) {
		r = put_entry(path, &st, '5', 0, "", fd);
		return r < 0 ? fail(path, r) : put_tree(o, TAKE_FD(fd), path);
	} else if (S_ISREG(st.st_mode)) {
		r = put_entry(path, &st, '0', (uint64_t)st.st_size, "", fd);
		if (r == 0)
			r = put_data(fd, (uint64_t)st.st_size);
	} else if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir, name, link, sizeof(link) - 1);
		r = n < 0 ? -errno : put_entry(path, &st, '2', 0, link, -1);
	} else if (S_ISSOCK(st.st_mode)) {
		r = 0;
	} else {
		r = put_entry(path, &st,
			      S_ISCHR(st.st_mode)   ? '3'
			      : S_ISBLK(st.st_mode) ? '4'
						    : '6',
			      0, "", -1);
	}
	return r < 0 ? fail(path, r) : 0;
}

/* Takes fd. */
static int put_tree(struct out *o, int fd, const char *path)
{
	_cleanup_(closedirp) DIR *d = fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!d) {
		close(fd);
		return fail(path, -ENOMEM);
	}
	while (r == 0 && (de = readdir(d))) {
		char sub[8192];

		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		if (snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name) >= 4096)
			return fail(path, -ENAMETOOLONG);
		r = put_one(o, dirfd(d), de->d_name, sub);
	}
	return r;
}

int copy_out(void *arg)
{
	static const uint8_t end[2 * BLOCK];
	const char *path = arg;
	struct out o = { 0 };
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(path, -errno);
	r = put_entry("./", &st, '5', 0, "", fd);
	if (r < 0)
		return fail(path, r);
	r = put_tree(&o, fd, ".");
	return r || write_all(1, end, sizeof(end)) < 0;
}

/* ---- in ---- */

struct entry {
	char path[4096], link[4096];
	uint64_t size, mode, uid, gid, mtime, major, minor;
	char type;
	struct buf pax; /* records that come before the next header, already checked */
};

struct dir_time {
	char *path;
	struct timespec ts;
};

struct in {
	int root;
	VEC(struct dir_time) dirs;
};

static int read_block(void *data, size_t len, bool *end)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(0, (char *)data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 && done == 0 && end) {
			*end = true;
			return 0;
		}
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

/* Octal, or base 256 with the top bit set. */
static int number(const char *field, size_t len, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		v = (uint8_t)field[0] & 0x7f;
		for (i = 1; i < len; i++) {
			if (v >> 55)
				return -EBADMSG;
			v = v << 8 | (uint8_t)field[i];
		}
		*ret = v;
		return 0;
	}
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(field[i] - '0');
	*ret = v;
	return i < len && field[i] && field[i] != ' ' ? -EBADMSG : 0;
}

static int read_rest(struct buf *b, uint64_t size)
{
	size_t padded = (size_t)ALIGN_UP(size, (uint64_t)BLOCK);

	buf_clear(b);
	if (size > PAX_MAX)
		return -EFBIG;
	if (buf_reserve(b, padded + 1) < 0)
		return -ENOMEM;
	if (read_block(b->s, padded, NULL) < 0)
		return -ENODATA;
	b->len = (size_t)size;
	b->s[size] = '\0';
	return 0;
}

static int set_text(char *to, size_t len, const char *from, size_t n)
{
	if (n >= len || memchr(from, '\0', n))
		return -ENAMETOOLONG;
	memcpy(to, from, n);
	to[n] = '\0';
	return 0;
}

/* Each "LEN key=value\n" of pax records; fd >= 0: set the attributes on it; else into en. */
static int use_pax(const struct buf *b, struct entry *en, int fd)
{
	for (size_t at = 0; at < b->len;) {
		char *end, *eq;
		unsigned long n = strtoul(b->s + at, &end, 10);
		char *stop = b->s + at + n;
		size_t len;
		int r = 0;

		if (*end != ' ' || n < 5 || n > b->len - at || end >= stop || stop[-1] != '\n')
			return -EBADMSG;
		end++;
		eq = memchr(end, '=', (size_t)(stop - end));
		if (!eq)
			return -EBADMSG;
		len = (size_t)(stop - 1 - (eq + 1));
		stop[-1] = '\0';
		*eq = '\0';
		if (fd >= 0) {
			if (str_starts(end, SCHILY) &&
			    fsetxattr(fd, end + strlen(SCHILY), eq + 1, len, 0) < 0 &&
			    errno != EOPNOTSUPP)
				r = -errno;
		} else if (streq(end, "path")) {
			r = set_text(en->path, sizeof(en->path), eq + 1, len);
		} else if (streq(end, "linkpath")) {
			r = set_text(en->link, sizeof(en->link), eq + 1, len);
		} else if (streq(end, "size")) {
			r = parse_u64(eq + 1, INT64_MAX, &en->size);
		} else if (streq(end, "uid")) {
			r = parse_u64(eq + 1, UINT32_MAX - 1, &en->uid);
		} else if (streq(end, "gid")) {
			r = parse_u64(eq + 1, UINT32_MAX - 1, &en->gid);
		}
		*eq = '=';
		stop[-1] = '\n';
		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

static int read_numbers(const struct header *h, struct entry *en)
{
	int r = number(h->mode, sizeof(h->mode), &en->mode);

	r = r ?: number(h->uid, sizeof(h->uid), &en->uid);
	r = r ?: number(h->gid, sizeof(h->gid), &en->gid);
	r = r ?: number(h->size, sizeof(h->size), &en->size);
	if (!(h->mtime[0] & 0x80)) /* before 1970 */
		r = r ?: number(h->mtime, sizeof(h->mtime), &en->mtime);
	if (h->type == '3' || h->type == '4') {
		r = r ?: number(h->major, sizeof(h->major), &en->major);
		r = r ?: number(h->minor, sizeof(h->minor), &en->minor);
	}
	return r;
}

static bool sum_right(const struct header *h)
{
	unsigned int sum = 0;
	uint64_t said;

	for (size_t i = 0; i < sizeof(*h); i++) {
		bool in_sum = i >= offsetof(struct header, sum) &&
			      i < offsetof(struct header, type);

		sum += in_sum ? ' ' : ((const uint8_t *)h)[i];
	}
	return number(h->sum, sizeof(h->sum), &said) == 0 && said == sum;
}

/* 1: an entry; 0: the end. */
static int next_entry(struct entry *en)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	char long_path[4096] = "", long_link[4096] = "";
	struct header h;
	bool end = false;
	int r;

	buf_clear(&en->pax);
	for (;;) {
		r = read_block(&h, sizeof(h), &end);
		if (r < 0 || end || !h.name[0])
			return r;
		if (!sum_right(&h))
			return -EBADMSG;
		en->path[0] = en->link[0] = '\0';
		en->mtime = 0;
		en->type = h.type;
		r = read_numbers(&h, en);
		if (r == 0 && (h.type == 'x' || h.type == 'g' || h.type == 'L' || h.type == 'K'))
			r = read_rest(h.type == 'x' ? &en->pax : &text, en->size);
		if (r < 0)
			return r;
		if (h.type == 'L')
			r = set_text(long_path, sizeof(long_path), buf_str(&text),
				     strlen(buf_str(&text)));
		else if (h.type == 'K')
			r = set_text(long_link, sizeof(long_link), buf_str(&text),
				     strlen(buf_str(&text)));
		else if (h.type != 'x' && h.type != 'g')
			break;
		if (r < 0)
			return r;
	}
	if (long_path[0])
		strcpy(en->path, long_path);
	else if (memcmp(h.magic, "ustar\0", 6) == 0 && h.prefix[0])
		snprintf(en->path, sizeof(en->path), "%.155s/%.100s", h.prefix, h.name);
	else
		snprintf(en->path, sizeof(en->path), "%.100s", h.name);
	if (long_link[0])
		strcpy(en->link, long_link);
	else
		snprintf(en->link, sizeof(en->link), "%.100s", h.link);
	r = use_pax(&en->pax, en, -1);
	return r < 0 ? r : 1;
}

/* In place: "./a//b/" -> "a/b"; -EBADMSG for "..", and for what is deeper than anybody means. */
static int clean(char *path)
{
	char *out = path, *p = path;
	unsigned int depth = 0;

	while (*p) {
		size_t n = strcspn(p, "/");

		if ((n == 2 && p[0] == '.' && p[1] == '.') || ++depth > 256)
			return -EBADMSG;
		if (n && !(n == 1 && p[0] == '.')) {
			if (out > path)
				*out++ = '/';
			memmove(out, p, n);
			out += n;
		}
		p += n;
		p += *p == '/';
	}
	*out = '\0';
	return 0;
}

static int open_in(int root, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

/* The folder of path, made where it is missing; *name: the last component. */
static int enter(struct in *in, char *path, const char **name)
{
	char *slash = strrchr(path, '/');
	int fd, up;

	if (!slash) {
		*name = path;
		return open_in(in->root, "", O_PATH | O_DIRECTORY);
	}
	*slash = '\0';
	*name = slash + 1;
	fd = open_in(in->root, path, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT) {
		const char *last;
		char copy[4096];

		strcpy(copy, path);
		up = enter(in, copy, &last);
		if (up < 0)
			return up;
		if (mkdirat(up, last, 0755) < 0 && errno != EEXIST) {
			fd = -errno;
			close(up);
			return fd;
		}
		close(up);
		fd = open_in(in->root, path, O_PATH | O_DIRECTORY);
	}
	return fd;
}

static int take_data(int fd, uint64_t size)
{
	static char block[65536];
	uint64_t left = ALIGN_UP(size, (uint64_t)BLOCK);

	while (left) {
		size_t n = (size_t)MIN(left, (uint64_t)sizeof(block));
		int r = read_block(block, n, NULL);

		if (r == 0 && fd >= 0 && size)
			r = write_all(fd, block, (size_t)MIN(size, (uint64_t)n));
		if (r < 0)
			return r;
		size -= MIN(size, (uint64_t)n);
		left -= n;
	}
	return 0;
}

static int make_dir(struct in *in, struct entry *en, int dir, const char *name, const char *path)
{
	_cleanup_(closep) int fd = -1;
	struct dir_time t = { NULL, { .tv_sec = (time_t)en->mtime } };

	if (*name && mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = *name ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
		   : open_in(in->root, "", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd == -1 ? -errno : fd;
	if (fchown(fd, (uid_t)en->uid, (gid_t)en->gid) < 0 || fchmod(fd, en->mode & 07777) < 0)
		return -errno;
	t.path = strdup(path);
	if (!t.path || vec_push(&in->dirs, t) < 0)
		return -ENOMEM;
	return use_pax(&en->pax, NULL, fd);
}

static int make_file(struct entry *en, int dir, const char *name)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)en->mtime } };
	_cleanup_(closep) int fd = -1;
	int r;

	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = take_data(fd, en->size);
	en->size = 0;
	if (r < 0)
		return r;
	if (fchown(fd, (uid_t)en->uid, (gid_t)en->gid) < 0 || fchmod(fd, en->mode & 07777) < 0)
		return -errno;
	r = use_pax(&en->pax, NULL, fd);
	return r < 0 ? r : futimens(fd, ts) < 0 ? -errno : 0;
}

static int make_hardlink(struct in *in, struct entry *en, int dir, const char *name)
{
	_cleanup_(closep) int from = -1;
	char proc[64];

	if (clean(en->link) < 0)
		return -EBADMSG;
	from = open_in(in->root, en->link, O_PATH | O_NOFOLLOW);
	if (from < 0)
		return from;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", from);
	return linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int make_other(struct in *in, struct entry *en, int dir, const char *name)
{
	static const mode_t types[] = { S_IFCHR, S_IFBLK, 0, S_IFIFO };
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)en->mtime } };
	int r;

	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	if (en->type == '1')
		return make_hardlink(in, en, dir, name);
	if (en->type == '2')
		r = symlinkat(en->link, dir, name);
	else
		r = mknodat(dir, name, types[en->type - '3'] | 0600,
			    makedev((unsigned int)en->major, (unsigned int)en->minor));
	if (r < 0 || fchownat(dir, name, (uid_t)en->uid, (gid_t)en->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (en->type != '2' && fchmodat(dir, name, en->mode & 07777, 0) < 0)
		return -errno;
	return utimensat(dir, name, ts, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int take_entry(struct in *in, struct entry *en)
{
	_cleanup_(closep) int dir = -1;
	char path[4096], work[4096];
	const char *name;
	int r = clean(en->path);

	if (r < 0)
		return r;
	strcpy(path, en->path);
	strcpy(work, path);
	dir = enter(in, work, &name);
	if (dir < 0)
		return dir;
	if (en->type == '5')
		r = make_dir(in, en, dir, name, path);
	else if (!*name)
		r = -EISDIR;
	else if (en->type == '0' || en->type == '\0' || en->type == '7')
		r = make_file(en, dir, name);
	else if (en->type >= '1' && en->type <= '6')
		r = make_other(in, en, dir, name);
	else
		r = -ENOTSUP;
	return r < 0 ? r : take_data(-1, en->type == '1' ? 0 : en->size);
}

int copy_in(void *arg)
{
	_cleanup_(freep) struct entry *en = calloc(1, sizeof(*en));
	struct in in = { .root = -1 };
	const char *path = arg;
	struct dir_time *d;
	int r;

	if (!en)
		return fail(path, -ENOMEM);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return fail(path, -errno);
	in.root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in.root < 0)
		return fail(path, -errno);
	while ((r = next_entry(en)) == 1) {
		r = take_entry(&in, en);
		if (r < 0)
			return fail(en->path, r);
	}
	if (r < 0)
		return fail("the archive", r);
	vec_for_each(d, &in.dirs) {
		struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, d->ts };
		_cleanup_(closep) int fd = open_in(in.root, d->path, O_RDONLY | O_DIRECTORY);

		if (fd >= 0)
			futimens(fd, ts);
	}
	syncfs(in.root); /* like the copy of one file: what was answered is on the disk */
	return 0;
}
