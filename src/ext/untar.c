/* libarchive as a reader, behind ext/untar.h. */
#include "ext/untar.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define UNTAR_BUF ((size_t)256 * KIB)

struct untar {
	struct archive *a;
	struct archive_entry *entry; /* owned by a */
	stream_read_fn *read;
	void *arg;
	struct err *read_err; /* what read() said, to be handed on */
	int read_r;
	uint8_t buf[UNTAR_BUF];
};

static la_ssize_t on_read(struct archive *a, void *arg, const void **data)
{
	struct untar *u = arg;
	ssize_t n = u->read(u->arg, u->buf, sizeof(u->buf), u->read_err ? NULL : &u->read_err);

	if (n < 0) {
		u->read_r = (int)n;
		archive_set_error(a, (int)-n, "read");
		return -1;
	}
	*data = u->buf;
	return n;
}

/* The archive's error: that of read() when it was the cause. */
static int fail(struct untar *u, struct err **e, const char *what)
{
	const char *text = archive_error_string(u->a);

	if (u->read_r < 0) {
		if (e && u->read_err)
			err_move(e, &u->read_err);
		return u->read_r;
	}
	return err_set(e, EBADMSG, "tar.damaged", "%s: %s", what, text ? text : "damaged archive");
}

int untar_new(const struct untar_options *o, stream_read_fn *read, void *arg, struct untar **ret,
	      struct err **e)
{
	_cleanup_(untar_freep) struct untar *u = calloc(1, sizeof(*u));

	if (!u)
		return err_sys(e, ENOMEM, "read archive");
	u->read = read;
	u->arg = arg;
	u->a = archive_read_new();
	if (!u->a)
		return err_sys(e, ENOMEM, "read archive");
	if (o && o->raw)
		archive_read_support_format_raw(u->a);
	else
		archive_read_support_format_tar(u->a);
	archive_read_support_format_empty(u->a);
	if (o && o->zip)
		archive_read_support_format_zip_streamable(u->a);
	if (o && o->filters)
		archive_read_support_filter_all(u->a);
	if (archive_read_open(u->a, u, NULL, on_read, NULL) != ARCHIVE_OK)
		return fail(u, e, "not a tar archive");
	*ret = TAKE(u);
	return 0;
}

static enum untar_type type_of(struct archive_entry *ae)
{
	if (archive_entry_hardlink(ae))
		return UNTAR_HARDLINK;
	switch (archive_entry_filetype(ae)) {
	case AE_IFREG:
		return UNTAR_FILE;
	case AE_IFDIR:
		return UNTAR_DIR;
	case AE_IFLNK:
		return UNTAR_SYMLINK;
	case AE_IFCHR:
		return UNTAR_CHAR;
	case AE_IFBLK:
		return UNTAR_BLOCK;
	case AE_IFIFO:
		return UNTAR_FIFO;
	default:
		return UNTAR_OTHER;
	}
}

int untar_next(struct untar *u, struct untar_entry *ret, struct err **e)
{
	int r = archive_read_next_header(u->a, &u->entry);
	struct archive_entry *ae = u->entry;

	if (r == ARCHIVE_EOF)
		return 0;
	/* A warning (a name in an unknown character set) leaves the raw bytes readable; a header that had to be
	 * skipped would be a file that silently misses. */
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return fail(u, e, "tar header");
	*ret = (struct untar_entry){
		.type = type_of(ae),
		.path = archive_entry_pathname(ae),
		.link = archive_entry_hardlink(ae) ? archive_entry_hardlink(ae)
						   : archive_entry_symlink(ae),
		.mode = archive_entry_mode(ae) & 07777,
		.uid = archive_entry_uid(ae),
		.gid = archive_entry_gid(ae),
		.size = archive_entry_size_is_set(ae) ? archive_entry_size(ae) : 0,
		.mtime = archive_entry_mtime_is_set(ae) ? archive_entry_mtime(ae) : 0,
		.mtime_nsec = archive_entry_mtime_is_set(ae) ? archive_entry_mtime_nsec(ae) : 0,
		.dev_major = (uint32_t)archive_entry_rdevmajor(ae),
		.dev_minor = (uint32_t)archive_entry_rdevminor(ae),
		.n_xattrs = archive_entry_xattr_reset(ae),
	};
	return 1;
}

int untar_data(struct untar *u, const void **data, size_t *len, uint64_t *off, struct err **e)
{
	la_int64_t o = 0;
	int r = archive_read_data_block(u->a, data, len, &o);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK || o < 0)
		return fail(u, e, "file data");
	*off = (uint64_t)o;
	return 1;
}

int untar_xattr(struct untar *u, const char **name, const void **value, size_t *len)
{
	return archive_entry_xattr_next(u->entry, name, value, len) == ARCHIVE_OK;
}

void untar_free(struct untar *u)
{
	if (!u)
		return;
	if (u->a)
		archive_read_free(u->a);
	err_free(u->read_err);
	free(u);
}
