/* Unpacking one layer (a tar stream, perhaps compressed) into a directory.
 *                                           Spec: OCI image-spec 1.1, layer.md; Linux overlayfs.rst
 * Trust: the whole stream is hostile.  Every path is resolved by openat2 beneath the target without following
 * any symbolic link; an entry that asks for more (.., absolute, a parent that is a link, a hard link to
 * something that the layer does not hold, a device of the host, overlayfs' own marks) ends the unpacking with
 * the entry's name.  The caller unpacks into a private directory and throws it away on any error.
 * Thread: one at a time per call; layers unpack in parallel. */
#ifndef IMAGE_LAYER_H
#define IMAGE_LAYER_H

#include "ext/untar.h"
#include "image/digest.h"
#include "image/op.h"

struct layer_limits {
	uint64_t bytes; /* of the unpacked tar, and of all file sizes (holes included) together */
	uint64_t entries;
	uint64_t ratio; /* unpacked : compressed, looked at beyond ratio_from bytes */
	uint64_t ratio_from;
	unsigned int depth;  /* path components */
	unsigned int xattrs; /* per entry */
};
/* 64 GiB, 4 Mi entries, 1100:1 beyond 1 GiB (deflate cannot do more than 1032:1), 128 deep, 64 attributes. */
extern const struct layer_limits layer_limits_default;

enum layer_mode {
	LAYER_OVERLAY, /* deletions become overlayfs whiteouts: char 0:0, trusted.overlay.opaque */
	LAYER_APPLY,   /* the directory holds the layers below: deletions delete */
};

struct layer_options {
	enum layer_mode mode;
	const struct layer_limits *limits; /* NULL: the default */
	bool any_filter;		   /* plain root tarballs: xz, bzip2, … too */
	const char *name;   /* for messages and progress: the blob's digest or the file's name */
	uint64_t blob_size; /* for progress; 0: unknown */
	struct image_op *op;
};

struct layer_result {
	struct digest diff_id; /* sha256 of the uncompressed tar, to its very end */
	uint64_t tar_bytes, file_bytes, entries;
	/* Directories that no entry described: made 0755 root; on top of other layers theirs should show
	 * through.  Paths relative to the root; free with strv_free(). */
	char **implicit;
	size_t skipped_xattrs; /* that the file system would not store */
};

/* dirfd: the target, which the caller made.  read: the (compressed) stream.  On failure *ret is untouched. */
int layer_unpack(int dirfd, stream_read_fn *read, void *arg, const struct layer_options *o,
		 struct layer_result *ret, struct err **e);

/* stream_read_fn over an fd: arg is an int *. */
ssize_t layer_read_fd(void *arg, void *data, size_t len, struct err **e);

#endif
