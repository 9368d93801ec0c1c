/* What instances said: the files that shims and engines write, read back.
 *
 * A line of a file: "TIME stdout F text" (P: a part of a longer line), as the CRI has it; PATH.1 is older than PATH. */
#include "node/instance/logs.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "base/clock.h"
#include "base/str.h"
#include "node/instance/instance.h"

void instance_log_path(const struct node *n, const char *id, char *buf, size_t len)
{
	snprintf(buf, len, "%s/instances/%s.log", n->paths.log, id);
}

void instance_delete_logs(struct instance *i)
{
	char path[4000], old[4096];

	instance_log_path(i->all->node, i->object->id, path, sizeof(path));
	unlink(path);
	for (unsigned int k = 1; k <= 100; k++) {
		snprintf(old, sizeof(old), "%s.%u", path, k);
		if (unlink(old) < 0)
			break;
	}
}

/* The parts of a line; false: not one of ours. */
static bool parse_line(const char *line, size_t len, const char **stream, bool *part,
		       const char **text, size_t *time_len)
{
	const char *sp = memchr(line, ' ', len), *end = line + len;

	if (!sp)
		return false;
	*time_len = (size_t)(sp - line);
	*stream = sp + 1;
	sp = memchr(sp + 1, ' ', (size_t)(end - sp - 1));
	if (!sp || end - sp < 3 || sp[2] != ' ')
		return false;
	*part = sp[1] == 'P';
	*text = sp + 3;
	return true;
}

bool log_line_add(const struct log_want *w, const char *line, size_t len, bool *fresh,
		  struct buf *out)
{
	const char *stream, *text;
	size_t time_len;
	char stamp[64];
	nsec_t when;
	bool part;

	if (!parse_line(line, len, &stream, &part, &text, &time_len) || time_len >= sizeof(stamp))
		return false;
	if (stream[3] == 'o' ? !w->out : !w->err)
		return false;
	memcpy(stamp, line, time_len);
	stamp[time_len] = '\0';
	if ((w->since || w->until) && parse_time(stamp, &when) == 0 &&
	    (when < w->since || (w->until && when > w->until)))
		return false;
	if (w->timestamps && *fresh)
		buf_addf(out, "%s ", stamp);
	buf_add(out, text, (size_t)(line + len - text));
	if (!part)
		buf_addc(out, '\n');
	*fresh = !part;
	return true;
}

/* Where the last n lines of a file begin; 0 with *n what is still wanted of the file before it. */
static size_t tail_start(const struct log_want *w, const char *p, size_t size, uint64_t *n)
{
	size_t end = size;

	while (end > 0 && *n > 0) {
		size_t from = end - 1;
		_cleanup_(buf_done) struct buf b = { 0 };
		bool fresh = true;

		while (from > 0 && p[from - 1] != '\n')
			from--;
		if (log_line_add(w, p + from, end - from - (p[end - 1] == '\n'), &fresh, &b) &&
		    fresh)
			(*n)--;
		end = from;
	}
	return end;
}

struct mapped {
	char *p;
	size_t size, start;
};

static bool map_file(const char *path, struct mapped *m)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	*m = (struct mapped){ 0 };
	if (size > 0) {
		m->p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
		m->size = m->p == MAP_FAILED ? 0 : (size_t)size;
	}
	safe_close(fd);
	return size >= 0;
}

static int emit(const struct log_want *w, const struct mapped *m, int out_fd)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	bool fresh = true;

	for (size_t at = m->start; at < m->size;) {
		const char *nl = memchr(m->p + at, '\n', m->size - at);
		size_t len = nl ? (size_t)(nl - m->p) - at : m->size - at;

		log_line_add(w, m->p + at, len, &fresh, &b);
		at += len + 1;
		if (b.len > 64 * KIB || at >= m->size) {
			if (buf_error(&b))
				return -ENOMEM;
			if (b.len && write(out_fd, b.s, b.len) != (ssize_t)b.len)
				return -EIO;
			buf_clear(&b);
		}
	}
	return 0;
}

int logs_collect(const struct log_want *w, const char *path, int out_fd, uint64_t *end,
		 struct err **e)
{
	struct mapped v[101];
	char old[4096];
	uint64_t tail = w->has_tail ? w->tail : UINT64_MAX;
	size_t n = 0;
	int r = 0;

	if (map_file(path, &v[0]))
		n = 1;
	*end = n ? v[0].size : 0;
	while (n && n < ARRAY_SIZE(v)) {
		snprintf(old, sizeof(old), "%s.%zu", path, n);
		if (!map_file(old, &v[n]))
			break;
		n++;
	}
	for (size_t k = 0; k < n && w->has_tail; k++)
		v[k].start = tail ? tail_start(w, v[k].p, v[k].size, &tail) : v[k].size;
	for (size_t k = n; k-- > 0;) {
		if (r == 0)
			r = emit(w, &v[k], out_fd);
		if (v[k].size)
			munmap(v[k].p, v[k].size);
	}
	return r < 0 ? err_sys(e, -r, "read the log '%s'", path) : 0;
}
