/* Saved state: one versioned field table per struct both saves and loads, so the directions cannot drift.
 *
 *	static const struct save_field uart_fields[] = {
 *		SAVE(struct uart, ier, U8, 1),
 *		SAVE(struct uart, last_tx, U64, 2),            absent in version 1: keeps its reset value
 *		SAVE_NESTED(struct uart, fifo, &fifo_save, 1),
 *	};
 *	const struct save_desc uart_save = SAVE_DESC("uart16550", 2, 1, uart_fields, .after_load = check);
 *
 * Rules: fields are append-only; a new one gets the next version as `since`; nothing is reordered or removed.
 * Save the modelled device, not our struct's luck: pointers, fds and caches are rebuilt in after_load, which also
 * validates every value, since a stream is hostile.
 *
 * A stream is: magic "STRATASV", format (u32, 1), architecture (8 bytes), then sections, then an end section with
 * the CRC-32C of all before it.  A section: id and name (each u8 length + bytes), flags (u32, bit 0: required),
 * version (u32), length (u32), payload.  All little-endian.  Payload: the fields in table order without gaps. */
#ifndef BASE_SAVE_H
#define BASE_SAVE_H

#include "base/buf.h"
#include "base/err.h"

enum save_kind {
	SAVE_BOOL, /* one byte, 0 or 1 */
	SAVE_U8,
	SAVE_U16,
	SAVE_U32,
	SAVE_U64,
	SAVE_BYTES,  /* fixed size, as it lies in memory: only for byte arrays */
	SAVE_BLOB,   /* struct save_blob: u32 length + bytes, up to `max` */
	SAVE_STRUCT, /* another table at its current version, inline with its own version number */
};

/* Variable bytes.  Loading allocates data with malloc (the old pointer is freed first). */
struct save_blob {
	void *data;
	uint32_t len;
};

struct save_desc;
struct save_field {
	const char *name;
	enum save_kind kind;
	size_t offset, size; /* size of one element */
	uint32_t count;	     /* elements: > 1 for arrays */
	uint32_t since;	     /* first version that has it */
	uint32_t max;	     /* SAVE_BLOB: largest length */
	const struct save_desc *nested;
};

struct save_desc {
	const char *name;
	uint32_t version, min_version;
	bool optional; /* a loader that does not know the section may skip it */
	const struct save_field *fields;
	size_t n_fields;
	/* Both may be NULL.  before_save brings the struct up to date; after_load checks and rebuilds. */
	void (*before_save)(void *obj);
	int (*after_load)(void *obj, uint32_t version, struct err **e);
};

#define SAVE_FIELD_(T, f, k, n, s, ...)                                                    \
	{                                                                                  \
		.name = #f, .kind = SAVE_##k, .offset = offsetof(T, f),                    \
		.size = sizeof(((T *)0)->f) / (n), .count = (n), .since = (s), __VA_ARGS__ \
	}
#define SAVE(T, f, kind, since) SAVE_FIELD_(T, f, kind, 1, since)
/* An array member, saved whole. */
#define SAVE_ARRAY(T, f, kind, since) \
	SAVE_FIELD_(T, f, kind, sizeof(((T *)0)->f) / sizeof(((T *)0)->f[0]), since)
#define SAVE_NESTED(T, f, desc, since) SAVE_FIELD_(T, f, STRUCT, 1, since, .nested = (desc))
#define SAVE_NESTED_ARRAY(T, f, desc, since)                                           \
	SAVE_FIELD_(T, f, STRUCT, sizeof(((T *)0)->f) / sizeof(((T *)0)->f[0]), since, \
		    .nested = (desc))
#define SAVE_VBYTES(T, f, max_len, since) SAVE_FIELD_(T, f, BLOB, 1, since, .max = (max_len))
#define SAVE_DESC(n, v, minv, table, ...)                                              \
	{                                                                              \
		.name = (n), .version = (v), .min_version = (minv), .fields = (table), \
		.n_fields = ARRAY_SIZE(table), __VA_ARGS__                             \
	}

/* Payload alone. */
int save_fields(const struct save_desc *d, void *obj, struct buf *out, struct err **e);
/* obj must hold its reset values.  Everything is checked before after_load is called; on error obj is unspecified
 * but safe to free.  -EINVAL: malformed; -ENOTSUP: version outside [min_version, version]. */
int load_fields(const struct save_desc *d, void *obj, uint32_t version, const void *data,
		size_t len, struct err **e);

/* A whole stream.  arch: at most 8 characters, "x86_64". */
int save_begin(struct buf *out, const char *arch, struct err **e);
/* id tells apart sections of one name ("serial0"); id and name at most 255 bytes. */
int save_section(struct buf *out, const char *id, const struct save_desc *d, void *obj,
		 struct err **e);
int save_end(struct buf *out, struct err **e);

/* Where a section goes.  Returning 1 means "not mine": required sections are then refused, optional ones skipped. */
struct save_target {
	const struct save_desc *desc;
	void *obj;
};
typedef int save_find_fn(void *arg, const char *id, const char *name, struct save_target *ret);
/* Checks the checksum over all bytes first, then loads section by section in stream order. */
int load_stream(const void *data, size_t len, const char *arch, save_find_fn *find, void *arg,
		struct err **e);

#endif
