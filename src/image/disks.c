/* See disks.h. */
#include "image/disks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "image/fsutil.h"
#include "image/rootfs.h"
#include "image/unpack.h"

/* from: a directory; name: below disks/.  Made beside and renamed, as all in the store. */
static int make_erofs(struct image_store *s, const char *from, const char *name,
		      struct image_op *op, struct err **e)
{
	char tmp[64], out[4200], final[256], rel[128];
	/* a fixed UUID: equal layers give equal images */
	const char *const argv[] = { "mkfs.erofs", "-U00000000-0000-0000-0000-000000000000", out,
				     from, NULL };
	int r = dir_make_temp(s->dir, "tmp/disk-", tmp, sizeof(tmp));

	if (r < 0)
		return err_sys(e, -r, "make disk");
	snprintf(out, sizeof(out), "%.4000s/%s/img", s->path, tmp);
	snprintf(rel, sizeof(rel), "%s/img", tmp);
	snprintf(final, sizeof(final), "disks/%s", name);
	r = store_mark_dirty(s, e);
	if (r == 0)
		r = run_program(argv, NULL, -1, op ? &op->cancelled : NULL, e);
	if (r == 0 && renameat(s->dir, rel, s->dir, final) < 0)
		r = err_sys(e, errno, "rename '%s'", out);
	tree_remove(s->dir, tmp);
	return r;
}

static int one_disk(struct image_store *s, const char *layer, const char *from,
		    struct image_disk *ret, size_t i, struct image_op *op, struct err **e)
{
	struct image_progress p = { IMAGE_PACK, layer, 0, 0, true, true };
	char name[LAYER_NAME_MAX + 8], path[LAYER_NAME_MAX + 16];
	int r;

	snprintf(name, sizeof(name), "%s.erofs", layer);
	snprintf(path, sizeof(path), "disks/%s", name);
	if (faccessat(s->dir, path, F_OK, 0) < 0) {
		r = make_erofs(s, from, name, op, e);
		if (r < 0)
			return err_wrap(e, r, "block image of layer %.12s", layer);
		p.reused = false;
	}
	snprintf(ret->path, sizeof(ret->path), "%.3900s/%s", s->path, path);
	snprintf(ret->serial, sizeof(ret->serial), "layer%zu", i);
	image_op_report(op, &p);
	return 0;
}

/* Too many layers: all of them put together, as the image shows itself. */
static int whole_disk(struct image_store *s, const struct image_parts *p, struct image_disk *ret,
		      struct image_op *op, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	char tmp[64], from[4200], name[LAYER_NAME_MAX], path[LAYER_NAME_MAX + 32];
	struct digest id;
	int r;

	chain_id(p->config.diff_ids.v, p->config.diff_ids.n, &id);
	snprintf(name, sizeof(name), "chain-%s", digest_hex(&id));
	snprintf(path, sizeof(path), "disks/%s.erofs", name);
	if (faccessat(s->dir, path, F_OK, 0) == 0)
		return one_disk(s, name, "", ret, 0, op, e);
	r = dir_make_temp(s->dir, "tmp/whole-", tmp, sizeof(tmp));
	if (r < 0)
		return err_sys(e, -r, "make disk");
	snprintf(from, sizeof(from), "%.4000s/%s", s->path, tmp);
	fd = openat(s->dir, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0755) < 0)
		r = err_sys(e, errno, "make disk");
	if (r == 0)
		r = rootfs_copy(s, p, fd, op, e);
	if (r == 0)
		r = one_disk(s, name, from, ret, 0, op, e);
	tree_remove(s->dir, tmp);
	return r;
}

int disks_make(struct image_store *s, const struct image_parts *p,
	       struct image_disk ret[IMAGE_DISKS_MAX], size_t *n, struct image_op *op,
	       struct err **e)
{
	size_t layers = p->config.diff_ids.n;
	int r = 0;

	if (layers == 0)
		return err_set(e, EINVAL, "image.empty", "the image has no layers");
	if (layers > IMAGE_DISKS_MAX) {
		r = whole_disk(s, p, &ret[0], op, e);
		*n = 1;
		return r;
	}
	for (size_t i = 0; r == 0 && i < layers; i++) {
		char name[LAYER_NAME_MAX], from[4200];

		r = unpack_name(s, p, i, name, e);
		snprintf(from, sizeof(from), "%.4000s/layers/%s/fs", s->path, name);
		if (r == 0)
			r = one_disk(s, name, from, &ret[i], i, op, e);
	}
	*n = layers;
	return r;
}

int disks_make_upper(const char *path, uint64_t size, struct image_op *op, struct err **e)
{
	const char *const argv[] = {
		"mke2fs", "-q",	  "-F",
		"-t",	  "ext4", "-m",
		"0",	  "-E",	  "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
		path,	  NULL
	};
	_cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_sys(e, errno, "create '%s'", path);
	if (size < 16 * MIB)
		r = err_set(e, EINVAL, "image.disk_size", "a private disk has at least 16 MiB");
	else if (ftruncate(fd, (off_t)size) < 0)
		r = err_sys(e, errno, "size of '%s'", path);
	else
		r = run_program(argv, NULL, -1, op ? &op->cancelled : NULL, e);
	if (r < 0)
		unlink(path);
	return r;
}
