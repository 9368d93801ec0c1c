/* Streams over a codec: windows, members one after the other, ends that come too early. */
#include "ext/compress.h"

#include <string.h>
#include "ext/compress_ops.h"

#define STREAM_BUF ((size_t)128 * KIB)

struct decomp {
	const struct codec *codec; /* NULL: stored */
	void *state;
	stream_read_fn *read;
	void *arg;
	uint64_t total_in;
	bool eof;     /* read() said so */
	bool between; /* no member has begun: an end is allowed here */
	bool any;     /* some member ended already */
	const uint8_t *in;
	size_t in_len;
	uint8_t buf[STREAM_BUF];
};

struct comp {
	const struct codec *codec;
	void *state;
	stream_write_fn *write;
	void *arg;
	uint8_t buf[STREAM_BUF];
};

static const struct codec *codec_of(enum compression c)
{
	switch (c) {
	case COMP_GZIP:
		return &codec_zlib;
	case COMP_ZSTD:
		return &codec_zstd;
	case COMP_NONE:
		break;
	}
	return NULL;
}

enum compression compression_detect(const void *head, size_t len)
{
	const uint8_t *h = head;

	if (len >= 3 && h[0] == 0x1f && h[1] == 0x8b && h[2] == 8)
		return COMP_GZIP;
	if (len >= 4 && h[0] == 0x28 && h[1] == 0xb5 && h[2] == 0x2f && h[3] == 0xfd)
		return COMP_ZSTD;
	if (len >= 4 && (h[0] & 0xf0) == 0x50 && h[1] == 0x2a && h[2] == 0x4d && h[3] == 0x18)
		return COMP_ZSTD; /* a skippable frame first: seekable and chunked writers do that */
	return COMP_NONE;
}

int decomp_new(enum compression c, stream_read_fn *read, void *arg, struct decomp **ret,
	       struct err **e)
{
	_cleanup_(decomp_freep) struct decomp *d = calloc(1, sizeof(*d));

	if (!d)
		return err_sys(e, ENOMEM, "decompress");
	if (c == COMP_GZIP)
		d->codec = codec_isal();
	if (!d->codec)
		d->codec = codec_of(c);
	d->read = read;
	d->arg = arg;
	d->between = true;
	if (d->codec) {
		d->state = d->codec->decode_new();
		if (!d->state)
			return err_sys(e, ENOMEM, "decompress");
	}
	*ret = TAKE(d);
	return 0;
}

static int refill(struct decomp *d, struct err **e)
{
	ssize_t n;

	if (d->in_len || d->eof)
		return 0;
	n = d->read(d->arg, d->buf, sizeof(d->buf), e);
	if (n < 0)
		return (int)n;
	d->eof = n == 0;
	d->in = d->buf;
	d->in_len = (size_t)n;
	d->total_in += (size_t)n;
	return 0;
}

static ssize_t read_stored(struct decomp *d, uint8_t *data, size_t len, struct err **e)
{
	size_t done = 0;

	while (done < len && !d->eof) {
		ssize_t n = d->read(d->arg, data + done, len - done, e);

		if (n < 0)
			return n;
		d->eof = n == 0;
		done += (size_t)n;
	}
	d->total_in += done;
	return (ssize_t)done;
}

ssize_t decomp_read(struct decomp *d, void *data, size_t len, struct err **e)
{
	struct comp_chunk c = { .out = data, .out_len = len };
	int r;

	if (!d->codec)
		return read_stored(d, data, len, e);
	while (c.out_len) {
		r = refill(d, e);
		if (r < 0)
			return r;
		if (d->between) {
			if (d->in_len == 0)
				break;
			if (d->any) {
				r = d->codec->decode_restart(d->state);
				if (r < 0)
					return err_set(e, -r, "compress.restart",
						       "cannot decompress on");
			}
			d->between = false;
		}
		c.in = d->in;
		c.in_len = d->in_len;
		{
			size_t in = c.in_len, out = c.out_len;

			r = d->codec->decode(d->state, &c);
			if (r < 0)
				return err_set(e, -r, "compress.corrupt",
					       r == -ENOMEM ? "out of memory while decompressing"
							    : "the compressed data is damaged");
			if (r == 0 && in == 0 && c.out_len == out)
				return err_set(e, EBADMSG, "compress.short",
					       "the compressed data ends in the middle");
		}
		d->in = c.in;
		d->in_len = c.in_len;
		if (r == 1)
			d->between = d->any = true;
	}
	return (ssize_t)(len - c.out_len);
}

uint64_t decomp_in(const struct decomp *d)
{
	return d->total_in;
}

void decomp_free(struct decomp *d)
{
	if (!d)
		return;
	if (d->state)
		d->codec->decode_free(d->state);
	free(d);
}

int comp_new(enum compression c, int level, stream_write_fn *write, void *arg, struct comp **ret,
	     struct err **e)
{
	_cleanup_(comp_freep) struct comp *s = calloc(1, sizeof(*s));

	if (!s)
		return err_sys(e, ENOMEM, "compress");
	s->codec = codec_of(c);
	s->write = write;
	s->arg = arg;
	if (s->codec) {
		s->state = s->codec->encode_new(level);
		if (!s->state)
			return err_sys(e, ENOMEM, "compress");
	}
	*ret = TAKE(s);
	return 0;
}

static int encode_some(struct comp *s, struct comp_chunk *c, bool last, struct err **e)
{
	size_t n;
	int r, w;

	c->out = s->buf;
	c->out_len = sizeof(s->buf);
	r = s->codec->encode(s->state, c, last);
	if (r < 0)
		return err_set(e, -r, "compress.failed", "the compressor failed");
	n = sizeof(s->buf) - c->out_len;
	if (n) {
		w = s->write(s->arg, s->buf, n, e);
		if (w < 0)
			return w;
	}
	return r;
}

int comp_write(struct comp *s, const void *data, size_t len, struct err **e)
{
	struct comp_chunk c = { .in = data, .in_len = len };
	int r = 0;

	if (!s->codec)
		return len ? s->write(s->arg, data, len, e) : 0;
	while (c.in_len && r >= 0)
		r = encode_some(s, &c, false, e);
	return r < 0 ? r : 0;
}

int comp_finish(struct comp *s, struct err **e)
{
	struct comp_chunk c = { .in = s->buf, .in_len = 0 };
	int r = 0;

	while (s->codec && r == 0)
		r = encode_some(s, &c, true, e);
	return r < 0 ? r : 0;
}

void comp_free(struct comp *s)
{
	if (!s)
		return;
	if (s->state)
		s->codec->encode_free(s->state);
	free(s);
}
