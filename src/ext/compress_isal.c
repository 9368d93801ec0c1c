/* gzip decoding by ISA-L (Intel's storage library), two to three times as fast as zlib: unpacking layers is bound by
 * it.  Loaded when it is there, so that a host without it lacks speed and nothing else. */
#include "ext/compress_ops.h"

#ifdef HAVE_ISAL
#include <dlfcn.h>
#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <string.h>

static void (*isal_init)(struct inflate_state *s);
static int (*isal_decode)(struct inflate_state *s);

static void load(void)
{
	void *so = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
	void *init = so ? dlsym(so, "isal_inflate_init") : NULL;
	void *decode = so ? dlsym(so, "isal_inflate") : NULL;

	if (!init || !decode)
		return;
	memcpy(&isal_decode, &decode, sizeof(decode));
	memcpy(&isal_init, &init, sizeof(init));
}

static int is_restart(void *s)
{
	struct inflate_state *z = s;

	isal_init(z);
	z->crc_flag = ISAL_GZIP;
	return 0;
}

static void *is_new(void)
{
	struct inflate_state *z = calloc(1, sizeof(*z));

	if (z)
		is_restart(z);
	return z;
}

static int is_decode(void *s, struct comp_chunk *c)
{
	struct inflate_state *z = s;
	int r;

	z->next_in = (uint8_t *)(uintptr_t)c->in;
	z->avail_in = (uint32_t)MIN(c->in_len, (size_t)1 << 30);
	z->next_out = c->out;
	z->avail_out = (uint32_t)MIN(c->out_len, (size_t)1 << 30);
	r = isal_decode(z);
	c->in_len -= (size_t)(z->next_in - c->in);
	c->in = z->next_in;
	c->out_len -= (size_t)(z->next_out - c->out);
	c->out = z->next_out;
	if (r < 0 || r == ISAL_NEED_DICT)
		return -EBADMSG;
	return z->block_state == ISAL_BLOCK_FINISH;
}

static const struct codec codec = {
	.decode_new = is_new,
	.decode_free = free,
	.decode = is_decode,
	.decode_restart = is_restart,
};

const struct codec *codec_isal(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	return isal_decode ? &codec : NULL;
}
#else
const struct codec *codec_isal(void)
{
	return NULL;
}
#endif
