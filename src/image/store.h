/* The content-addressed store: an OCI image layout with what is derived from it beside it.
 *
 *	oci-layout  index.json  blobs/<alg>/<hex>     as image-layout.md says: skopeo and umoci read it in place
 *	ingest/<hex>.part    downloads under way or cut, resumable; locked (flock) by who writes
 *	layers/<hex>/        unpacked layers, one directory each (unpack.h)
 *	disks/<name>         read-only block images of layers and images (disks.h)
 *	kernels/<name>/      guest kernels (kernel.h)
 *	holds/<owner>        digests that something outside uses; gc keeps them
 *	tmp/                 half-made things; whatever is here without a lock holder is rubbish
 *	lock                 flock: shared while adding, exclusive while gc removes
 *	index.lock           flock: exclusive while index.json is rewritten
 *	dirty                the boot id of unsynced writers
 *
 * Invariants:
 * (1) a name below blobs/ and layers/ appears by rename only, after its digest was verified;
 * (2) whoever adds holds `lock` shared until index.json or a hold names what was added;
 * (3) before the first write that is not synced, `dirty` with this boot's id is on disk; finding another boot's id
 *     there means that power went away: what is younger is verified or dropped before anyone uses it.
 * So kill -9 at any moment leaves at most rubbish in ingest/ and tmp/, and pulling is not slowed by fsync.
 * Thread: a struct image_store may be shared by threads; each call is independent. */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include "image/manifest.h"
#include "image/op.h"

struct image_store {
	char *path;
	int dir;		/* of path */
	atomic_bool dirty_said; /* this process wrote `dirty` */
};

int store_open(const char *path, struct image_store **ret, struct err **e);
void store_close(struct image_store *s);
DEFINE_CLEANUP(struct image_store *, store_close);

/* An fd that holds the lock until it is closed.  how: LOCK_SH or LOCK_EX.  Waits, but for cancelling. */
int store_lock(struct image_store *s, const char *file, int how, struct image_op *op,
	       struct err **e);
/* Before writing without fsync. */
int store_mark_dirty(struct image_store *s, struct err **e);
/* Everything written so far is on disk when this returns. */
int store_sync(struct image_store *s, struct err **e);

/* ---- blobs ---- */

void blob_path(const struct digest *d, char *buf); /* "blobs/sha256/…", DIGEST_MAX + 8 bytes */
/* size UINT64_MAX: any. */
bool blob_exists(struct image_store *s, const struct digest *d, uint64_t size);
int blob_open(struct image_store *s, const struct digest *d, struct err **e); /* fd */
/* The whole of a small one, verified. */
int blob_read(struct image_store *s, const struct digest *d, size_t max, struct buf *ret,
	      struct err **e);
/* Hash it again: -EBADMSG when it is not what its name says. */
int blob_verify(struct image_store *s, const struct digest *d, struct image_op *op, struct err **e);
/* Small documents; there already: no effect. */
int blob_put(struct image_store *s, const void *data, size_t len, struct digest *ret,
	     struct err **e);

struct blob_writer {
	struct image_store *s;
	int fd;
	struct hash hash;
	uint64_t size;	/* bytes so far; the resume offset at first */
	char name[160]; /* below s->dir */
	bool resumable;
};
/* want: the digest to come; a cut download of it is taken up (w->size says from where).  NULL: not known yet.
 * -EBUSY: another process is writing the same blob. */
int blob_begin(struct image_store *s, const struct digest *want, struct blob_writer *w,
	       struct err **e);
int blob_write(struct blob_writer *w, const void *data, size_t len, struct err **e);
/* Forget what was written: a server that cannot resume starts over. */
int blob_restart(struct blob_writer *w, struct err **e);
/* want NULL or empty: any.  size UINT64_MAX: any.  A mismatch deletes what was written: -EBADMSG. */
int blob_commit(struct blob_writer *w, const struct digest *want, uint64_t size, struct digest *ret,
		struct err **e);
void blob_abort(struct blob_writer *w); /* keeps a resumable part; no effect after commit */

/* ---- names ---- */

struct image_doc; /* the index, as doc_parse() gives it: list[i].ref_name is the name */
int index_read(struct image_store *s, struct image_doc *ret, struct err **e);
/* d->ref_name: the name, replaced where it exists. */
int index_set(struct image_store *s, const struct image_desc *d, struct err **e);
int index_remove(struct image_store *s, const char *name, struct err **e); /* -ENOENT */
/* By name (familiar or full), or by at least 4 hex digits of its digest.  -ENOENT. */
int index_find(struct image_store *s, const char *name, struct image_desc *ret, struct err **e);

/* ---- holds ---- */

/* owner: letters, digits, . _ - ; one owner holds one image at a time. */
int hold_set(struct image_store *s, const char *owner, const struct digest *manifest,
	     struct err **e);
int hold_drop(struct image_store *s, const char *owner, struct err **e); /* missing: 0 */

/* ---- reading an image ---- */

struct image_parts {
	struct image_desc desc; /* of the manifest */
	struct image_doc manifest;
	struct image_config config;
};
/* Manifest and config, cross-checked: as many layers as diff_ids, layer types that can be unpacked.
 * An index in the store is followed to `want` (NULL: this machine). */
int parts_read(struct image_store *s, const struct image_desc *d, const struct image_platform *want,
	       struct image_parts *ret, struct err **e);
void parts_done(struct image_parts *p);

#endif
