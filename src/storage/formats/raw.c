/* Format "raw": the guest's bytes are the file's.  All requests go straight to the driver.
 *
 * Guard of a probed image: when nobody said "raw", a write that would make the first bytes look like another format
 * is refused, so that the guest cannot choose what the host opens next time (a qcow2 header can name any file as
 * backing file).  The head as it is on the disk is kept under a mutex. */
#include <string.h>
#include "storage/disk_ops.h"

#define HEAD 512

struct raw {
	struct disk_node node;
	pthread_mutex_t lock;
	uint8_t head[HEAD];
};

static int raw_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct raw *raw = container_of(n, struct raw, node);
	int r = 0;

	pthread_mutex_init(&raw->lock, NULL);
	if (!cfg->format)
		r = node_pread(n->next, raw->head, HEAD, 0);
	return r < 0 ? err_sys(e, -r, "read the first block") : 0;
}

static int raw_close(struct disk_node *n)
{
	pthread_mutex_destroy(&container_of(n, struct raw, node)->lock);
	return 0;
}

static bool raw_guard(struct disk_node *n, struct disk_io *io)
{
	struct raw *raw = container_of(n, struct raw, node);
	uint8_t head[HEAD];
	bool ok;

	pthread_mutex_lock(&raw->lock);
	memcpy(head, raw->head, HEAD);
	if (io->op == DISK_WRITE)
		iov_to_buf(io->iov, io->niov, 0, head + io->off, MIN(HEAD - io->off, io->len));
	else
		memset(head + io->off, 0, MIN(HEAD - io->off, io->len));
	ok = strcmp(disk_probe(head, HEAD, atomic_load(&n->size)), "raw") == 0;
	if (ok)
		memcpy(raw->head, head, HEAD);
	pthread_mutex_unlock(&raw->lock);
	return ok;
}

static void raw_submit(struct disk_node *n, struct disk_io *io)
{
	if (unlikely(n->probed) && io->off < HEAD && io->op != DISK_READ && io->op != DISK_FLUSH &&
	    !raw_guard(n, io)) {
		disk_io_done(io, -EPERM);
		return;
	}
	node_pass(io, n->next);
}

static int raw_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
		      struct err **e)
{
	int r = node_resize(n->next, size, prov, shrink, e);

	if (r == 0)
		atomic_store(&n->size, size);
	return r;
}

static int raw_create(struct disk_node *file, const struct disk_create *c, struct err **e)
{
	if (c->backing)
		return err_set(e, EINVAL, "disk.create", "a raw image has no backing file");
	if (c->params && c->params[0])
		return err_set(e, EINVAL, "disk.create", "raw has no option '%s'", c->params[0]);
	return node_resize(file, c->size, c->provision, false, e);
}

static int raw_seal(struct disk_node *n, struct err **e)
{
	int r = node_sync_op(n->next, DISK_FLUSH, 0, 0, 0);

	if (r < 0)
		return err_sys(e, -r, "flush '%s'", n->path);
	n->readonly = true;
	return n->next->ops->seal ? n->next->ops->seal(n->next, e) : 0;
}

static int raw_claim(struct disk_node *n, struct err **e)
{
	return n->next->ops->claim(n->next, e);
}

const struct disk_ops disk_format_raw = {
	.name = "raw",
	.kind = DISK_FORMAT,
	.instance_size = sizeof(struct raw),
	.open = raw_open,
	.close = raw_close,
	.submit = raw_submit,
	.resize = raw_resize,
	.create = raw_create,
	.seal = raw_seal,
	.claim = raw_claim,
};
