/* Opening, locking, crash recovery.  Blobs are in blob.c, names in index.c. */
#define LOG_MODULE "image"
#include "image/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "image/fsutil.h"

#define LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define EMPTY_INDEX "{\"schemaVersion\":2,\"mediaType\":\"" MT_OCI_INDEX "\",\"manifests\":[]}"
#define BOOT_ID_LEN 36

static const char *const folders[] = {
	"blobs", "blobs/sha256", "blobs/sha512", "ingest", "layers",
	"disks", "kernels",	 "holds",	 "tmp",
};

int store_lock(struct image_store *s, const char *file, int how, struct image_op *op,
	       struct err **e)
{
	_cleanup_(closep) int fd = openat(s->dir, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_sys(e, errno, "open '%s/%s'", s->path, file);
	while (flock(fd, how | (op ? LOCK_NB : 0)) < 0) {
		if (errno == EWOULDBLOCK) {
			r = image_op_check(op, e);
			if (r < 0)
				return r;
			usleep(20000);
		} else if (errno != EINTR) {
			return err_sys(e, errno, "lock '%s/%s'", s->path, file);
		}
	}
	return TAKE_FD(fd);
}

static int boot_id(char out[BOOT_ID_LEN + 1], struct err **e)
{
	_cleanup_(closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fd_read(fd, out, BOOT_ID_LEN) != BOOT_ID_LEN)
		return err_sys(e, errno ? errno : EIO, "read the boot id");
	out[BOOT_ID_LEN] = '\0';
	return 0;
}

int store_mark_dirty(struct image_store *s, struct err **e)
{
	char id[BOOT_ID_LEN + 1];
	struct stat st;
	int r;

	if (atomic_load(&s->dirty_said) && fstatat(s->dir, "dirty", &st, 0) == 0)
		return 0;
	r = boot_id(id, e);
	if (r < 0)
		return r;
	if (fstatat(s->dir, "dirty", &st, 0) <
	    0) { /* an older one of this boot covers more: keep it */
		r = file_write_atomic(s->dir, "dirty", id, BOOT_ID_LEN, 0600, e);
		if (r < 0)
			return r;
	}
	atomic_store(&s->dirty_said, true);
	return 0;
}

int store_sync(struct image_store *s, struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_EX, NULL, e);

	/* Exclusive: nobody can write between the sync and the unlink. */
	if (lock < 0)
		return lock;
	if (faccessat(s->dir, "dirty", F_OK, 0) < 0)
		return 0;
	if (syncfs(s->dir) < 0)
		return err_sys(e, errno, "sync '%s'", s->path);
	if (unlinkat(s->dir, "dirty", 0) < 0 && errno != ENOENT)
		return err_sys(e, errno, "sync '%s'", s->path);
	if (fsync(s->dir) < 0)
		return err_sys(e, errno, "sync '%s'", s->path);
	atomic_store(&s->dirty_said, false);
	return 0;
}

/* ---- after a power cut ---- */

static int each_name(struct image_store *s, const char *folder, time_t since,
		     int (*fn)(struct image_store *s, const char *folder, const char *name,
			       struct err **e),
		     struct err **e)
{
	int fd = openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		r = err_sys(e, errno, "list '%s/%s'", s->path, folder);
		safe_close(fd);
		return r;
	}
	while (r == 0 && (de = readdir(d))) {
		struct stat st;

		if (de->d_name[0] == '.' ||
		    fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (st.st_ctime >= since)
			r = fn(s, folder, de->d_name, e);
	}
	return r;
}

static int recheck_blob(struct image_store *s, const char *folder, const char *name, struct err **e)
{
	_cleanup_(err_freep) struct err *why = NULL;
	char text[DIGEST_MAX + 16], path[320];
	struct digest d;

	snprintf(text, sizeof(text), "%s:%.130s", folder + strlen("blobs/"), name);
	if (digest_parse(text, &d) == 0 && blob_verify(s, &d, NULL, &why) == 0)
		return 0;
	log_warn("blob damaged by a power cut, removed", "blob", name);
	snprintf(path, sizeof(path), "%s/%.256s", folder, name);
	return unlinkat(s->dir, path, 0) < 0 ? err_sys(e, errno, "remove '%s'", path) : 0;
}

static int drop_name(struct image_store *s, const char *folder, const char *name, struct err **e)
{
	char path[320];
	int r;

	snprintf(path, sizeof(path), "%s/%.256s", folder, name);
	r = tree_remove(s->dir, path);
	return r < 0 ? err_sys(e, -r, "remove '%s'", path) : 0;
}

static int recover(struct image_store *s, struct err **e)
{
	_cleanup_(buf_done) struct buf said = { 0 };
	_cleanup_(closep) int lock = -1;
	char id[BOOT_ID_LEN + 1];
	struct stat st;
	time_t since;
	int r;

	if (fstatat(s->dir, "dirty", &st, 0) < 0)
		return 0;
	r = boot_id(id, e);
	if (r < 0)
		return r;
	if (file_read(s->dir, "dirty", 4096, &said, NULL) == 0 && streq(buf_str(&said), id))
		return 0;
	lock = store_lock(s, "lock", LOCK_EX, NULL, e);
	if (lock < 0)
		return lock;
	if (fstatat(s->dir, "dirty", &st, 0) < 0)
		return 0; /* somebody else did it meanwhile */
	log_warn("the host went down while images were being written: checking them", "store",
		 s->path);
	since = st.st_ctime - 24 * 3600; /* clocks of a fresh boot are allowed to be a little off */
	r = each_name(s, "blobs/sha256", since, recheck_blob, e);
	if (r == 0)
		r = each_name(s, "blobs/sha512", since, recheck_blob, e);
	if (r == 0)
		r = each_name(s, "ingest", 0, drop_name, e);
	if (r == 0)
		r = each_name(s, "layers", since, drop_name, e);
	if (r == 0)
		r = each_name(s, "disks", since, drop_name, e);
	if (r < 0)
		return r;
	lock = safe_close(lock);
	return store_sync(s, e);
}

static int make_layout(struct image_store *s, struct err **e)
{
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (mkdirat(s->dir, folders[i], 0700) < 0 && errno != EEXIST)
			return err_sys(e, errno, "make '%s/%s'", s->path, folders[i]);
	}
	if (faccessat(s->dir, "index.json", F_OK, 0) < 0) {
		_cleanup_(closep) int lock = store_lock(s, "index.lock", LOCK_EX, NULL, e);

		if (lock < 0)
			return lock;
		if (faccessat(s->dir, "index.json", F_OK, 0) < 0) {
			r = file_write_atomic(s->dir, "index.json", EMPTY_INDEX,
					      strlen(EMPTY_INDEX), 0644, e);
			if (r < 0)
				return r;
		}
	}
	if (faccessat(s->dir, "oci-layout", F_OK, 0) < 0)
		return file_write_atomic(s->dir, "oci-layout", LAYOUT_TEXT, strlen(LAYOUT_TEXT),
					 0644, e);
	return 0;
}

int store_open(const char *path, struct image_store **ret, struct err **e)
{
	_cleanup_(store_closep) struct image_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_sys(e, ENOMEM, "open image store");
	s->dir = -1;
	s->path = strdup(path);
	if (!s->path)
		return err_sys(e, ENOMEM, "open image store");
	r = dir_make(AT_FDCWD, path, 0711);
	if (r < 0)
		return err_sys(e, -r, "make image store '%s'", path);
	s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return err_sys(e, errno, "open image store '%s'", path);
	r = make_layout(s, e);
	if (r == 0)
		r = recover(s, e);
	if (r < 0)
		return err_wrap(e, r, "open image store");
	*ret = TAKE(s);
	return 0;
}

void store_close(struct image_store *s)
{
	if (!s)
		return;
	safe_close(s->dir);
	free(s->path);
	free(s);
}

/* ---- holds ---- */

static int hold_path(const char *owner, char *buf, size_t len, struct err **e)
{
	if (!*owner || *owner == '.' || strlen(owner) > 200 ||
	    strspn(owner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
		    strlen(owner))
		return err_set(e, EINVAL, "image.hold", "'%s' cannot name the holder of an image",
			       owner);
	snprintf(buf, len, "holds/%s", owner);
	return 0;
}

int hold_set(struct image_store *s, const char *owner, const struct digest *manifest,
	     struct err **e)
{
	_cleanup_(closep) int lock = -1;
	char path[256];
	int r = hold_path(owner, path, sizeof(path), e);

	if (r < 0)
		return r;
	lock = store_lock(s, "lock", LOCK_SH, NULL, e);
	if (lock < 0)
		return lock;
	if (!blob_exists(s, manifest, UINT64_MAX))
		return err_set(e, ENOENT, "image.missing", "the store has no image %s",
			       manifest->s);
	return file_write_atomic(s->dir, path, manifest->s, strlen(manifest->s), 0600, e);
}

int hold_drop(struct image_store *s, const char *owner, struct err **e)
{
	char path[256];
	int r = hold_path(owner, path, sizeof(path), e);

	if (r == 0 && unlinkat(s->dir, path, 0) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove '%s'", path);
	return r;
}

/* ---- reading an image ---- */

void parts_done(struct image_parts *p)
{
	doc_done(&p->manifest);
	config_done(&p->config);
}

static int read_doc(struct image_store *s, const struct image_desc *d, struct image_doc *ret,
		    struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	int r = blob_read(s, &d->digest, MANIFEST_MAX, &text, e);

	if (r < 0)
		return r;
	return doc_parse(buf_str(&text), text.len, d->media_type[0] ? d->media_type : NULL, ret, e);
}

static int check_parts(const struct image_parts *p, struct err **e)
{
	const struct image_desc *l;
	enum compression c;

	if (p->manifest.list.n != p->config.diff_ids.n)
		return err_set(e, EBADMSG, "image.document",
			       "the manifest has %zu layers, the config %zu diff_ids",
			       p->manifest.list.n, p->config.diff_ids.n);
	vec_for_each(l, &p->manifest.list) {
		if (media_type_layer(l->media_type, &c) < 0)
			return err_set(e, ENOTSUP, "image.layer_type",
				       "layer %s has the unknown type '%s'", l->digest.s,
				       l->media_type);
	}
	return 0;
}

int parts_read(struct image_store *s, const struct image_desc *d, const struct image_platform *want,
	       struct image_parts *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(parts_done) struct image_parts p = { .desc = *d };
	struct image_platform host;
	int r;

	if (!want) {
		platform_host(&host);
		want = &host;
	}
	for (int hops = 0;; hops++) {
		struct image_desc next;

		r = read_doc(s, &p.desc, &p.manifest, e);
		if (r < 0)
			return err_wrap(e, r, "image %s",
					d->ref_name[0] ? d->ref_name : d->digest.s);
		if (p.manifest.kind == DOC_MANIFEST)
			break;
		if (hops == 4)
			return err_set(e, ELOOP, "image.document",
				       "an index within an index, too deep");
		r = doc_pick(&p.manifest, want, &next, e);
		if (r < 0)
			return r;
		doc_done(&p.manifest);
		p.desc = next;
	}
	r = blob_read(s, &p.manifest.config.digest, MANIFEST_MAX, &text, e);
	if (r == 0)
		r = config_parse(buf_str(&text), text.len, &p.config, e);
	if (r == 0)
		r = check_parts(&p, e);
	if (r < 0)
		return err_wrap(e, r, "image %s", d->ref_name[0] ? d->ref_name : d->digest.s);
	*ret = p;
	p = (struct image_parts){ 0 };
	return 0;
}
