/* Layers: any bytes, unpacked into a private directory.  Property: whatever they are, nothing appears beside it. */
#include <assert.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "base/str.h"
#include "image/fsutil.h"
#include "image/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct feed {
	const uint8_t *p;
	size_t left;
};

static ssize_t feed_read(void *arg, void *data, size_t len, struct err **e)
{
	struct feed *f = arg;

	len = MIN(len, f->left);
	memcpy(data, f->p, len);
	f->p += len;
	f->left -= len;
	return (ssize_t)len;
}

static size_t count(int dir)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct layer_limits small = { .bytes = 4 * MIB,
						   .entries = 1000,
						   .ratio = 100,
						   .ratio_from = MIB,
						   .depth = 16,
						   .xattrs = 8 };
	struct layer_options o = { .limits = &small, .name = "fuzz" };
	char parent[] = "/tmp/strata-fuzz-tar.XXXXXX";
	int dir;

	if (!mkdtemp(parent))
		return 0;
	dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int mode = 0; mode < 2; mode++) {
		_cleanup_(closep) int root = -1;
		struct layer_result res = { 0 };
		struct feed f = { data, size };

		o.mode = mode ? LAYER_APPLY : LAYER_OVERLAY;
		if (mkdirat(dir, "root", 0755) < 0)
			break;
		root = openat(dir, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (layer_unpack(root, feed_read, &f, &o, &res, NULL) == 0)
			strv_free(res.implicit);
		assert(count(dir) == 3);
		tree_remove(dir, "root");
	}
	close(dir);
	rmdir(parent);
	return 0;
}
