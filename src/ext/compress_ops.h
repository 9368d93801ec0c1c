/* What a compression library implements for ext/compress.c. */
#ifndef EXT_COMPRESS_OPS_H
#define EXT_COMPRESS_OPS_H

#include "ext/compress.h"

struct comp_chunk { /* a window that the codec moves forward */
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len;
};

struct codec {
	void *(*decode_new)(void); /* NULL: out of memory */
	void (*decode_free)(void *s);
	/* 1: a member ended here; 0: more to do; -EBADMSG; -ENOMEM.  Advances the chunk. */
	int (*decode)(void *s, struct comp_chunk *c);
	int (*decode_restart)(void *s); /* for the next member */
	void *(*encode_new)(int level);
	void (*encode_free)(void *s);
	/* last: no input follows.  1: all output of the last is out; 0: call again. */
	int (*encode)(void *s, struct comp_chunk *c, bool last);
};

extern const struct codec codec_zlib;
extern const struct codec codec_zstd;
/* Decodes gzip only; NULL: this host has no ISA-L.  Any thread. */
const struct codec *codec_isal(void);

#endif
