/* Log files of containers; see linelog.h. */
#include "base/linelog.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"

static const char *const format_names[] = { "json-file", "cri", "raw" };
static const char *const stream_names[] = { "stdout", "stderr" };

int linelog_format_from_name(const char *name, enum linelog_format *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(format_names); i++) {
		if (streq(name, format_names[i])) {
			*ret = (enum linelog_format)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int open_file(struct linelog *l, struct err **e)
{
	struct stat st;
	int fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		      0640);

	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = err_sys(e, errno, "log file '%s'", l->path);

		safe_close(fd);
		return r;
	}
	safe_close(l->fd);
	l->fd = fd;
	l->size = (uint64_t)st.st_size;
	return 0;
}

int linelog_open(struct linelog *l, const char *path, enum linelog_format format, uint64_t max_size,
		 unsigned int max_files, struct err **e)
{
	int r;

	l->fd = -1;
	l->format = format;
	l->max_size = max_size;
	l->max_files = MAX(max_files, 1U);
	l->path = strdup(path);
	if (!l->path)
		return err_sys(e, ENOMEM, "log file");
	r = open_file(l, e);
	if (r < 0)
		linelog_close(l);
	return r;
}

/* path.2 -> path.3, path.1 -> path.2, path -> path.1; with one file it begins anew. */
static void rotate(struct linelog *l)
{
	char from[PATH_MAX], to[PATH_MAX];

	if (l->max_files == 1) {
		if (ftruncate(l->fd, 0) == 0)
			l->size = 0;
		return;
	}
	for (unsigned int i = l->max_files - 1; i > 0; i--) {
		int n = snprintf(from, sizeof(from), i > 1 ? "%s.%u" : "%s", l->path, i - 1);
		int m = snprintf(to, sizeof(to), "%s.%u", l->path, i);

		if (n < 0 || m < 0 || (size_t)MAX(n, m) >= sizeof(to))
			return;
		rename(from, to); /* one that is missing is no loss */
	}
	open_file(l, NULL); /* fails: the old file, under its new name, grows on */
}

static void put(struct linelog *l)
{
	int r = l->out.error;

	if (l->max_size && l->size > 0 && l->size + l->out.len > l->max_size)
		rotate(l);
	if (r == 0)
		r = write_all(l->fd, l->out.s, l->out.len);
	l->fault = -r;
	if (r < 0) {
		l->dropped += l->out.len;
	} else {
		l->bytes += l->out.len;
		l->size += l->out.len;
	}
	buf_clear(&l->out);
	if (l->out.cap > LINELOG_LINE_MAX) /* a thousand shims must stay small */
		buf_done(&l->out);
}

/* "2026-11-21T06:30:00.123456789Z" */
static const char *time_text(nsec_t real, char buf[48])
{
	time_t t = (time_t)(real / NSEC_PER_SEC);
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(buf, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, 48 - n, ".%09lldZ", (long long)(real % NSEC_PER_SEC));
	return buf;
}

/* The gathered part as one record; it ends a line, or not (more of it follows). */
static void emit(struct linelog *l, int stream, bool whole, const char *when)
{
	char *s = l->part[stream].s;
	size_t n = l->part[stream].n;

	if (l->format == LINELOG_JSON) {
		if (whole)
			s[n++] = '\n';
		s[n] = '\0';
		buf_adds(&l->out, "{\"log\":");
		buf_add_json_n(&l->out, s, n);
		buf_addf(&l->out, ",\"stream\":\"%s\",\"time\":\"%s\"}\n", stream_names[stream],
			 when);
	} else {
		buf_addf(&l->out, "%s %s %c ", when, stream_names[stream], whole ? 'F' : 'P');
		buf_add(&l->out, s, n);
		buf_addc(&l->out, '\n');
	}
	l->part[stream].n = 0;
	if (l->out.len >= LINELOG_LINE_MAX || l->out.error)
		put(l);
}

void linelog_add(struct linelog *l, int stream, const char *p, size_t n, nsec_t real)
{
	char when[48];

	if (!l->path || n == 0)
		return;
	if (l->format == LINELOG_RAW) {
		buf_add(&l->out, p, n);
		put(l);
		return;
	}
	time_text(real, when);
	while (n > 0) {
		/* one byte stays free for the newline */
		size_t room = LINELOG_LINE_MAX - 1 - l->part[stream].n, some = MIN(room, n);
		const char *end = memchr(p, '\n', some);

		if (end)
			some = (size_t)(end - p);
		memcpy(l->part[stream].s + l->part[stream].n, p, some);
		l->part[stream].n += some;
		p += some;
		n -= some;
		if (end) {
			p++;
			n--;
			emit(l, stream, true, when);
		} else if (l->part[stream].n == LINELOG_LINE_MAX - 1) {
			emit(l, stream, false, when);
		}
	}
	if (l->out.len > 0)
		put(l);
}

void linelog_finish(struct linelog *l, nsec_t real)
{
	char when[48];

	if (!l->path)
		return;
	time_text(real, when);
	for (int i = 0; i < 2; i++)
		if (l->part[i].n > 0)
			emit(l, i, l->format == LINELOG_CRI, when);
	if (l->out.len > 0)
		put(l);
}

int linelog_reopen(struct linelog *l, struct err **e)
{
	return l->path ? open_file(l, e) : 0;
}

void linelog_close(struct linelog *l)
{
	if (!l->path)
		return;
	l->fd = safe_close(l->fd);
	buf_done(&l->out);
	free(l->path);
	l->path = NULL;
}
