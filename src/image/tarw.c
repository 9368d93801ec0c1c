/* ustar headers, with a pax header before them where a value does not fit. */
#include "image/tarw.h"

#include <string.h>
#include "base/buf.h"

#define BLOCK 512

struct header { /* POSIX ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155],
		pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

static const char zeros[2 * BLOCK];

void tarw_init(struct tarw *t, stream_write_fn *write, void *arg)
{
	*t = (struct tarw){ .write = write, .arg = arg };
}

static int put_header(struct tarw *t, const char *path, char type, uint32_t mode, uint64_t size,
		      int64_t mtime, struct err **e)
{
	struct header h = { .type = type, .magic = "ustar", .version = { '0', '0' } };
	unsigned int sum = 0;

	memcpy(h.name, path, MIN(strlen(path), sizeof(h.name)));
	snprintf(h.mode, sizeof(h.mode), "%07o", mode & 07777);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0);
	snprintf(h.size, sizeof(h.size), "%011llo",
		 (unsigned long long)(size < (1ULL << 33) ? size : 0));
	snprintf(h.mtime, sizeof(h.mtime), "%011llo",
		 (unsigned long long)CLAMP(mtime, 0, (1LL << 33) - 1));
	memset(h.sum, ' ', sizeof(h.sum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((unsigned char *)&h)[i];
	snprintf(h.sum, sizeof(h.sum), "%06o", sum);
	return t->write(t->arg, &h, sizeof(h), e);
}

/* "<length> key=value\n", where the length counts itself. */
static void pax_record(struct buf *b, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3, n = body + 1;
	char len[24];

	while ((size_t)snprintf(len, sizeof(len), "%zu", n) + body != n)
		n = (size_t)snprintf(len, sizeof(len), "%zu", n) + body;
	buf_addf(b, "%zu %s=%s\n", n, key, value);
}

static int put_entry(struct tarw *t, const char *path, char type, uint32_t mode, uint64_t size,
		     int64_t mtime, struct err **e)
{
	_cleanup_(buf_done) struct buf pax = { 0 };
	char number[24];
	int r;

	if (strlen(path) > 100)
		pax_record(&pax, "path", path);
	if (size >= (1ULL << 33)) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)size);
		pax_record(&pax, "size", number);
	}
	if (buf_error(&pax))
		return err_sys(e, ENOMEM, "tar");
	if (pax.len) {
		r = put_header(t, "PaxHeaders/next", 'x', 0644, pax.len, mtime, e);
		if (r == 0)
			r = t->write(t->arg, pax.s, pax.len, e);
		if (r == 0 && pax.len % BLOCK)
			r = t->write(t->arg, zeros, BLOCK - pax.len % BLOCK, e);
		if (r < 0)
			return r;
	}
	return put_header(t, path, type, mode, size, mtime, e);
}

int tarw_file(struct tarw *t, const char *path, uint32_t mode, uint64_t size, int64_t mtime,
	      struct err **e)
{
	t->left = size;
	t->pad = (unsigned int)((BLOCK - size % BLOCK) % BLOCK);
	return put_entry(t, path, '0', mode, size, mtime, e);
}

int tarw_data(struct tarw *t, const void *data, size_t len, struct err **e)
{
	int r;

	if (len > t->left)
		return err_set(e, EINVAL, "tar.size", "more data than announced");
	r = t->write(t->arg, data, len, e);
	t->left -= len;
	if (r == 0 && t->left == 0 && t->pad) {
		r = t->write(t->arg, zeros, t->pad, e);
		t->pad = 0;
	}
	return r;
}

int tarw_dir(struct tarw *t, const char *path, uint32_t mode, int64_t mtime, struct err **e)
{
	return put_entry(t, path, '5', mode, 0, mtime, e);
}

int tarw_finish(struct tarw *t, struct err **e)
{
	if (t->left)
		return err_set(e, EINVAL, "tar.size", "less data than announced");
	return t->write(t->arg, zeros, sizeof(zeros), e);
}
