/* Blobs: written once, verified while written, renamed into place. */
#include "image/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/fault.h"
#include "base/rand.h"
#include "image/fsutil.h"

void blob_path(const struct digest *d, char *buf)
{
	snprintf(buf, DIGEST_MAX + 8, "blobs/%.6s/%s", d->s, digest_hex(d));
}

bool blob_exists(struct image_store *s, const struct digest *d, uint64_t size)
{
	char path[DIGEST_MAX + 8];
	struct stat st;

	blob_path(d, path);
	return fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (size == UINT64_MAX || (uint64_t)st.st_size == size);
}

int blob_open(struct image_store *s, const struct digest *d, struct err **e)
{
	char path[DIGEST_MAX + 8];
	int fd;

	blob_path(d, path);
	fd = openat(s->dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return err_set(e, ENOENT, "image.blob_missing", "the store lacks the blob %s",
			       d->s);
	return fd < 0 ? err_sys(e, errno, "open '%s'", path) : fd;
}

int blob_read(struct image_store *s, const struct digest *d, size_t max, struct buf *ret,
	      struct err **e)
{
	_cleanup_(closep) int fd = blob_open(s, d, e);
	uint8_t raw[HASH_MAX];
	struct digest is;
	int r;

	if (fd < 0)
		return fd;
	r = fd_read_all(fd, max, ret, e);
	if (r < 0)
		return err_wrap(e, r, "read blob %s", d->s);
	hash_data(digest_alg(d), buf_str(ret), ret->len, raw);
	digest_from_hash(digest_alg(d), raw, &is);
	if (!digest_eq(&is, d))
		return err_set(e, EBADMSG, "image.digest", "blob %s is damaged in the store", d->s);
	return 0;
}

int blob_verify(struct image_store *s, const struct digest *d, struct image_op *op, struct err **e)
{
	_cleanup_(closep) int fd = blob_open(s, d, e);
	_cleanup_(freep) uint8_t *block = malloc(MIB);
	struct digest is;
	struct hash h;
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return fd;
	if (!block)
		return err_sys(e, ENOMEM, "verify");
	hash_init(&h, digest_alg(d));
	while (r == 0 && (n = fd_read(fd, block, MIB)) > 0) {
		hash_update(&h, block, (size_t)n);
		r = image_op_check(op, e);
	}
	if (r == 0 && n < 0)
		r = err_sys(e, (int)-n, "read blob %s", d->s);
	if (r < 0)
		return r;
	digest_final(&h, &is);
	if (!digest_eq(&is, d))
		return err_set(e, EBADMSG, "image.digest", "blob %s is damaged in the store", d->s);
	return 0;
}

int blob_put(struct image_store *s, const void *data, size_t len, struct digest *ret,
	     struct err **e)
{
	char path[DIGEST_MAX + 8];

	digest_of(data, len, ret);
	if (blob_exists(s, ret, len))
		return 0;
	blob_path(ret, path);
	return file_write_atomic(s->dir, path, data, len, 0644, e);
}

/* What an earlier attempt left counts after it was hashed again. */
static int take_up(struct blob_writer *w, struct err **e)
{
	_cleanup_(freep) uint8_t *block = malloc(MIB);
	ssize_t n;

	if (!block)
		return err_sys(e, ENOMEM, "resume");
	while ((n = fd_read(w->fd, block, MIB)) > 0) {
		hash_update(&w->hash, block, (size_t)n);
		w->size += (uint64_t)n;
	}
	return n < 0 ? err_sys(e, (int)-n, "resume '%s'", w->name) : 0;
}

int blob_begin(struct image_store *s, const struct digest *want, struct blob_writer *w,
	       struct err **e)
{
	struct stat st, now;
	int r = store_mark_dirty(s, e);

	if (r < 0)
		return r;
	*w = (struct blob_writer){ .s = s, .fd = -1, .resumable = want != NULL };
	hash_init(&w->hash, want ? digest_alg(want) : HASH_SHA256);
	if (want)
		snprintf(w->name, sizeof(w->name), "ingest/%s.part", digest_hex(want));
	else
		snprintf(w->name, sizeof(w->name), "ingest/new-%016llx",
			 (unsigned long long)rand_u64());
again:
	w->fd = openat(s->dir, w->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (w->fd < 0)
		return err_sys(e, errno, "create '%s'", w->name);
	if (flock(w->fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? EBUSY : errno;
		w->fd = safe_close(w->fd);
		return err_sys(e, r, "lock '%s'", w->name);
	}
	/* The one who held it may have renamed it away between our open and our lock. */
	if (fstat(w->fd, &st) < 0 || fstatat(s->dir, w->name, &now, 0) < 0 ||
	    st.st_ino != now.st_ino) {
		w->fd = safe_close(w->fd);
		goto again;
	}
	r = want ? take_up(w, e) : 0;
	if (r < 0)
		w->fd = safe_close(w->fd);
	return r;
}

int blob_write(struct blob_writer *w, const void *data, size_t len, struct err **e)
{
	int r = write_all(w->fd, data, len);

	if (r < 0)
		return err_sys(e, -r, "write '%s'", w->name);
	hash_update(&w->hash, data, len);
	w->size += len;
	return FAULT_POINT("image.blob_write");
}

int blob_restart(struct blob_writer *w, struct err **e)
{
	hash_init(&w->hash, w->hash.alg);
	w->size = 0;
	if (ftruncate(w->fd, 0) < 0 || lseek(w->fd, 0, SEEK_SET) < 0)
		return err_sys(e, errno, "start '%s' over", w->name);
	return 0;
}

int blob_commit(struct blob_writer *w, const struct digest *want, uint64_t size, struct digest *ret,
		struct err **e)
{
	char path[DIGEST_MAX + 8];
	struct digest is;
	int r = 0;

	digest_final(&w->hash, &is);
	if (size != UINT64_MAX && w->size != size)
		r = err_set(e, EBADMSG, "image.size", "got %llu bytes, expected %llu",
			    (unsigned long long)w->size, (unsigned long long)size);
	else if (want && !digest_empty(want) && !digest_eq(want, &is))
		r = err_set(e, EBADMSG, "image.digest",
			    "the content has the digest %s instead of %s", is.s, want->s);
	if (r == 0)
		r = FAULT_POINT("image.blob_commit");
	blob_path(&is, path);
	if (r == 0 && renameat(w->s->dir, w->name, w->s->dir, path) < 0)
		r = err_sys(e, errno, "rename '%s'", w->name);
	if (r < 0)
		unlinkat(w->s->dir, w->name, 0);
	else if (ret)
		*ret = is;
	w->fd = safe_close(w->fd);
	return r;
}

void blob_abort(struct blob_writer *w)
{
	if (w->fd < 0)
		return;
	if (!w->resumable || w->size == 0)
		unlinkat(w->s->dir, w->name, 0);
	w->fd = safe_close(w->fd);
}
