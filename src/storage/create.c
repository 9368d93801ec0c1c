/* disk_create(): a new file, then the format's own structures in it.  A failure leaves no file behind. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "storage/disk.h"

int disk_create(const struct disk_create *c, struct err **e)
{
	const struct disk_ops *ops = disk_find_ops(DISK_FORMAT, c->format);
	_cleanup_(closep) int fd = -1;
	struct disk_cfg cfg = {
		.path = c->path, .format = "raw", .use_fd = true, .few_calls = true
	};
	struct disk *d = NULL;
	struct stat st;
	int r;

	if (!ops || !ops->create)
		return err_set(e, EINVAL, "disk.format", "format '%s' cannot be created",
			       c->format);
	if (c->size > INT64_MAX)
		return err_set(e, EFBIG, "disk.limit", "a disk cannot be larger than 8 EiB");
	fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC | (c->exclusive ? O_EXCL : 0), 0644);
	if (fd < 0)
		return err_sys(e, errno, "create '%s'", c->path);
	cfg.fd = fd;
	r = disk_open(&cfg, &d, e); /* takes the lock before anything is thrown away */
	if (r < 0)
		return r;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if (ftruncate(fd, 0) < 0)
			r = err_sys(e, errno, "empty '%s'", c->path);
		atomic_store(&d->format->next->size, 0);
	}
	if (r == 0)
		r = ops->create(d->format->next, c, e);
	if (r == 0)
		r = node_sync_op(d->format->next, DISK_FLUSH, 0, 0, 0) < 0
			    ? err_set(e, EIO, "sys.EIO", "flush '%s'", c->path)
			    : 0;
	disk_close(d);
	if (r < 0) {
		if (S_ISREG(st.st_mode))
			unlink(c->path);
		return err_wrap(e, r, "create '%s'", c->path);
	}
	return 0;
}
