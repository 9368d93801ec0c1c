/* Compressed clusters: raw deflate with a 4 KiB window (zlib), or one zstd frame. */
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include "storage/formats/qcow2/qcow2.h"

int q_decompress(const struct qcow2 *s, const void *raw, size_t len, void *out)
{
	if (s->h.compression == 1) {
		ZSTD_DCtx *z = ZSTD_createDCtx();
		ZSTD_outBuffer o = { out, s->cluster_size, 0 };
		ZSTD_inBuffer i = { raw, len, 0 };
		size_t r = 1;

		if (!z)
			return -ENOMEM;
		while (o.pos < o.size) {
			size_t before_in = i.pos, before_out = o.pos;

			r = ZSTD_decompressStream(z, &o, &i);
			if (ZSTD_isError(r) || (i.pos == before_in && o.pos == before_out))
				break;
		}
		ZSTD_freeDCtx(z);
		return o.pos == o.size ? 0 : -EIO;
	} else {
		z_stream z = { .next_in = (void *)(uintptr_t)raw,
			       .avail_in = (uInt)len,
			       .next_out = out,
			       .avail_out = s->cluster_size };
		int r;

		if (inflateInit2(&z, -12) != Z_OK)
			return -ENOMEM;
		r = inflate(&z, Z_FINISH);
		inflateEnd(&z);
		/* The stream may go on with padding: what counts is a full cluster. */
		return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z.avail_out == 0
			       ? 0
			       : -EIO;
	}
}

size_t q_compress(uint8_t type, const void *in, size_t len, void *out)
{
	if (type == 1) {
		size_t r = ZSTD_compress(out, len - 1, in, len, 3);

		return ZSTD_isError(r) ? 0 : r;
	} else {
		z_stream z = { .next_in = (void *)(uintptr_t)in,
			       .avail_in = (uInt)len,
			       .next_out = out,
			       .avail_out = (uInt)len - 1 };
		size_t n = 0;

		if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9,
				 Z_DEFAULT_STRATEGY) != Z_OK)
			return 0;
		if (deflate(&z, Z_FINISH) == Z_STREAM_END)
			n = len - 1 - z.avail_out;
		deflateEnd(&z);
		return n;
	}
}

/* Space for compressed data is bump-allocated: a run that goes on in the cluster where the last one ended. */
int q_write_compressed(struct disk_node *n, const void *cluster, uint64_t off)
{
	struct qcow2 *s = to_qcow2(n);
	_cleanup_(freep) uint8_t *out = malloc(s->cluster_size + 512);
	uint64_t at, first, last, mask = ~(uint64_t)(s->cluster_size - 1), sectors;
	struct q_table *t;
	struct q_entry old;
	size_t len;
	int64_t r;

	if (!out)
		return -ENOMEM;
	len = s->data_file ? 0 : q_compress(s->h.compression, cluster, s->cluster_size, out);
	if (len == 0)
		return node_pwrite(n, cluster,
				   MIN((uint64_t)s->cluster_size, atomic_load(&n->size) - off), off)
			       ?: 1;
	pthread_mutex_lock(&s->lock);
	r = q_table_load_sync(s, off >> (s->h.cluster_bits + s->l2_bits), &t);
	if (r == 0)
		r = q_table_own(s, off, &t);
	at = s->compr_at;
	if (r == 0 && (!at || q_ref_add(s, at >> s->h.cluster_bits, 0) < 0 ||
		       (at & mask) != ((at + len - 1) & mask))) {
		/* does not fit into the rest of that cluster: begin another; a run never crosses, which costs a little */
		r = q_alloc(s, 1, false, &at);
		r = r > 0 ? 0 : r;
		if (r == 0 && s->compr_at)
			s->compr_at = 0;
	} else if (r == 0) {
		r = q_ref_add(s, at >> s->h.cluster_bits, 1);
		if (r == -EOVERFLOW) {
			r = q_alloc(s, 1, false, &at);
			r = r > 0 ? 0 : r;
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		return (int)r;
	r = node_pwrite(s->file, out, len, at);
	if (r < 0)
		return (int)r;
	pthread_mutex_lock(&s->lock);
	first = at / 512;
	last = (at + len - 1) / 512;
	sectors = last - first;
	old = q_entry_get(s, t, off);
	q_entry_release(s, old.desc);
	q_entry_set(s, t, off,
		    (struct q_entry){ Q_COMPRESSED | sectors << s->csize_shift | at, 0 });
	s->compr_at = at + len;
	if ((s->compr_at & ~mask) == 0)
		s->compr_at = 0;
	pthread_mutex_unlock(&s->lock);
	return 0;
}
