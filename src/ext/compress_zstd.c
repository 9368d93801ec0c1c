/* Zstandard by libzstd, for ext/compress.c. */
#include "ext/compress_ops.h"

#include <zstd.h>

#define ZSTD_WINDOW_MAX \
	27 /* log2: a hostile frame may ask for at most 128 MiB, as zstd(1) itself allows */

static void *zs_decode_new(void)
{
	ZSTD_DStream *d = ZSTD_createDStream();

	if (d && ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_MAX))) {
		ZSTD_freeDStream(d);
		return NULL;
	}
	return d;
}

static void zs_decode_free(void *s)
{
	ZSTD_freeDStream(s);
}

static int zs_decode(void *s, struct comp_chunk *c)
{
	ZSTD_inBuffer in = { .src = c->in, .size = c->in_len };
	ZSTD_outBuffer out = { .dst = c->out, .size = c->out_len };
	size_t r = ZSTD_decompressStream(s, &out, &in);

	c->in += in.pos;
	c->in_len -= in.pos;
	c->out += out.pos;
	c->out_len -= out.pos;
	if (ZSTD_isError(r))
		return -EBADMSG;
	return r == 0;
}

static int zs_decode_restart(void *s)
{
	return ZSTD_isError(ZSTD_DCtx_reset(s, ZSTD_reset_session_only)) ? -EBADMSG : 0;
}

static void *zs_encode_new(int level)
{
	ZSTD_CStream *c = ZSTD_createCStream();

	if (c &&
	    (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level ? level : 3)) ||
	     ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1)))) {
		ZSTD_freeCStream(c);
		return NULL;
	}
	return c;
}

static void zs_encode_free(void *s)
{
	ZSTD_freeCStream(s);
}

static int zs_encode(void *s, struct comp_chunk *c, bool last)
{
	ZSTD_inBuffer in = { .src = c->in, .size = c->in_len };
	ZSTD_outBuffer out = { .dst = c->out, .size = c->out_len };
	size_t r = ZSTD_compressStream2(s, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);

	c->in += in.pos;
	c->in_len -= in.pos;
	c->out += out.pos;
	c->out_len -= out.pos;
	if (ZSTD_isError(r))
		return -EIO;
	return last && r == 0;
}

const struct codec codec_zstd = {
	.decode_new = zs_decode_new,
	.decode_free = zs_decode_free,
	.decode = zs_decode,
	.decode_restart = zs_decode_restart,
	.encode_new = zs_encode_new,
	.encode_free = zs_encode_free,
	.encode = zs_encode,
};
