/* Files that are either the old or the new version, whenever the power fails: written beside the target, synced,
 * renamed over it, folder synced.  Paths are relative to dirfd (AT_FDCWD allowed).  Thread: any. */
#ifndef BASE_ATOMICFILE_H
#define BASE_ATOMICFILE_H

#include <sys/types.h>
#include "base/buf.h"
#include "base/err.h"

struct atomicfile {
	int fd;	   /* write here; owned by this struct */
	int dirfd; /* of the target's folder; owned */
	char name[256], temp[272];
};

/* Opens a temporary file in the folder of path.  Zero or abort the struct before reuse. */
int atomicfile_open(int dirfd, const char *path, mode_t mode, struct atomicfile *f, struct err **e);
/* Sync, rename, sync the folder.  On failure the target is as it was and the temporary is gone. */
int atomicfile_commit(struct atomicfile *f, struct err **e);
/* Drop it.  After commit or twice: no effect; works as a cleanup attribute. */
void atomicfile_abort(struct atomicfile *f);

int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
		      struct err **e);
/* Append the whole file to out.  -EFBIG when it is larger than max (nothing read). */
int file_read(int dirfd, const char *path, size_t max, struct buf *out, struct err **e);
/* The same from an open file or pipe, up to its end. */
int fd_read_all(int fd, size_t max, struct buf *out, struct err **e);

/* All of it, over short writes and EINTR; -errno. */
int write_all(int fd, const void *data, size_t len);
int pwrite_all(int fd, const void *data, size_t len, off_t off);
/* Exactly len bytes; -ENODATA when the file ends before. */
int pread_all(int fd, void *data, size_t len, off_t off);

#endif
