/* gzip by zlib, for ext/compress.c. */
#include "ext/compress_ops.h"

#include <zlib.h>

#define GZIP_WINDOW (15 + 16) /* zlib.h: 16 more means gzip header and trailer */

static void *gz_decode_new(void)
{
	z_stream *z = calloc(1, sizeof(*z));

	if (z && inflateInit2(z, GZIP_WINDOW) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

static void gz_decode_free(void *s)
{
	inflateEnd(s);
	free(s);
}

static void window_in(z_stream *z, const struct comp_chunk *c)
{
	z->next_in = (unsigned char *)(uintptr_t)c->in;
	z->avail_in = (unsigned int)MIN(c->in_len, (size_t)1 << 30);
	z->next_out = c->out;
	z->avail_out = (unsigned int)MIN(c->out_len, (size_t)1 << 30);
}

static void window_out(const z_stream *z, struct comp_chunk *c)
{
	c->in_len -= (size_t)(z->next_in - c->in);
	c->in = z->next_in;
	c->out_len -= (size_t)(z->next_out - c->out);
	c->out = z->next_out;
}

static int gz_decode(void *s, struct comp_chunk *c)
{
	z_stream *z = s;
	int r;

	window_in(z, c);
	r = inflate(z, Z_NO_FLUSH);
	window_out(z, c);
	switch (r) {
	case Z_STREAM_END:
		return 1;
	case Z_OK:
	case Z_BUF_ERROR: /* no progress possible with these windows: not an error (zlib.h) */
		return 0;
	case Z_MEM_ERROR:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
}

static int gz_decode_restart(void *s)
{
	return inflateReset2(s, GZIP_WINDOW) == Z_OK ? 0 : -EBADMSG;
}

static void *gz_encode_new(int level)
{
	z_stream *z = calloc(1, sizeof(*z));

	if (z && deflateInit2(z, level ? level : Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 8,
			      Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

static void gz_encode_free(void *s)
{
	deflateEnd(s);
	free(s);
}

static int gz_encode(void *s, struct comp_chunk *c, bool last)
{
	z_stream *z = s;
	int r;

	window_in(z, c);
	r = deflate(z, last ? Z_FINISH : Z_NO_FLUSH);
	window_out(z, c);
	if (r == Z_STREAM_END)
		return 1;
	return r == Z_OK || r == Z_BUF_ERROR ? 0 : -EIO;
}

const struct codec codec_zlib = {
	.decode_new = gz_decode_new,
	.decode_free = gz_decode_free,
	.decode = gz_decode,
	.decode_restart = gz_decode_restart,
	.encode_new = gz_encode_new,
	.encode_free = gz_encode_free,
	.encode = gz_encode,
};
