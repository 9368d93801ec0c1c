/* Internal snapshots.  Everything here runs alone (quiesced) and blocking.
 *
 * Between the first refcount that changes and the last copied flag the image carries the dirty bit (version 3), so a
 * crash in the middle leaves an image whose refcounts are rebuilt when it is next opened.  The steps that decide what
 * the image contains are single writes into the header: (nb_snapshots, snapshots_offset) and (size, l1_size,
 * l1_table_offset), each inside one sector. */
#include <string.h>
#include <time.h>
#include "base/checked.h"
#include "storage/formats/qcow2/qcow2.h"

static uint64_t get(const uint8_t *p, int n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

static void put(struct buf *b, uint64_t v, int n)
{
	while (n-- > 0)
		buf_addc(b, (char)(v >> n * 8));
}

void q_snapshots_free(struct q_snapshot *v, uint32_t n)
{
	for (uint32_t i = 0; v && i < n; i++) {
		free(v[i].id);
		free(v[i].name);
		free(v[i].extra);
	}
	free(v);
}

int q_snapshots_load(struct qcow2 *s, struct q_snapshot **ret, uint32_t *n, uint64_t *bytes,
		     struct err **e)
{
	struct q_snapshot *v = calloc(MAX(s->h.nb_snapshots, 1U), sizeof(*v));
	uint64_t at = 0, fsize = atomic_load(&s->file->size);
	int r = 0;

	if (!v)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (uint32_t i = 0; i < s->h.nb_snapshots && r == 0; i++) {
		_cleanup_(freep) uint8_t *p = NULL;
		uint8_t h[56];
		uint32_t extra, id, name;

		if (at > Q_MAX_SNAPTABLE || !range_inside(s->h.snap_off + at, 40, fsize)) {
			r = err_set(e, EINVAL, "disk.corrupt",
				    "the snapshot table runs out of the file");
			break;
		}
		r = node_pread(s->file, h, 40, s->h.snap_off + at);
		if (r < 0)
			break;
		id = (uint32_t)get(h + 12, 2);
		name = (uint32_t)get(h + 14, 2);
		extra = (uint32_t)get(h + 36, 4);
		if (extra > 1024) {
			r = err_set(e, EINVAL, "disk.corrupt",
				    "snapshot %u has %u bytes of extra data", i, extra);
			break;
		}
		p = calloc(1, extra + id + name + 1);
		r = p ? node_pread(s->file, p, extra + id + name, s->h.snap_off + at + 40)
		      : -ENOMEM;
		if (r < 0)
			break;
		v[i] = (struct q_snapshot){ .l1_off = get(h, 8),
					    .l1_size = (uint32_t)get(h + 8, 4),
					    .sec = (uint32_t)get(h + 16, 4),
					    .nsec = (uint32_t)get(h + 20, 4),
					    .clock = get(h + 24, 8),
					    .vm_state = get(h + 32, 4),
					    .size = s->h.size };
		if (extra >= 8)
			v[i].vm_state = get(p, 8);
		if (extra >= 16)
			v[i].size = get(p + 8, 8);
		if (extra > 16) {
			v[i].n_extra = extra - 16;
			v[i].extra = malloc(v[i].n_extra);
			if (v[i].extra)
				memcpy(v[i].extra, p + 16, v[i].n_extra);
		}
		v[i].id = strndup((char *)p + extra, id);
		v[i].name = strndup((char *)p + extra + id, name);
		if (!v[i].id || !v[i].name || (extra > 16 && !v[i].extra))
			r = -ENOMEM;
		if (v[i].l1_size > Q_MAX_L1 / 8 || v[i].l1_off & (s->cluster_size - 1) ||
		    v[i].size > INT64_MAX ||
		    !range_inside(v[i].l1_off, (uint64_t)v[i].l1_size * 8, fsize))
			r = err_set(e, EINVAL, "disk.corrupt",
				    "snapshot '%s' has a damaged L1 table", v[i].name);
		at = ALIGN_UP(at + 40 + extra + id + name, (uint64_t)8);
	}
	if (r < 0) {
		q_snapshots_free(v, s->h.nb_snapshots);
		return err_wrap(e, r, "read the snapshot table");
	}
	*ret = v;
	*n = s->h.nb_snapshots;
	*bytes = at;
	return 0;
}

static const struct q_snapshot *find(const struct q_snapshot *v, uint32_t n, const char *which)
{
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(v[i].id, which) == 0)
			return &v[i];
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(v[i].name, which) == 0)
			return &v[i];
	return NULL;
}

static uint64_t clusters(const struct qcow2 *s, uint64_t bytes)
{
	return DIV_ROUND_UP(bytes, (uint64_t)s->cluster_size);
}

/* A new table of snapshots, then the header's pointer to it; the old one is given back. */
static int table_write(struct qcow2 *s, const struct q_snapshot *v, uint32_t n, uint64_t old_bytes)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	uint64_t off = 0, old_off = s->h.snap_off, old_n = old_bytes ? clusters(s, old_bytes) : 0;
	uint8_t head[12];
	int64_t r;

	for (uint32_t i = 0; i < n; i++) {
		put(&b, v[i].l1_off, 8);
		put(&b, v[i].l1_size, 4);
		put(&b, strlen(v[i].id), 2);
		put(&b, strlen(v[i].name), 2);
		put(&b, v[i].sec, 4);
		put(&b, v[i].nsec, 4);
		put(&b, v[i].clock, 8);
		put(&b, v[i].vm_state <= UINT32_MAX ? v[i].vm_state : 0, 4);
		put(&b, 16 + v[i].n_extra, 4);
		put(&b, v[i].vm_state, 8);
		put(&b, v[i].size, 8);
		buf_add(&b, v[i].extra, v[i].n_extra);
		buf_adds(&b, v[i].id);
		buf_adds(&b, v[i].name);
		while (b.len % 8 && !b.error)
			buf_addc(&b, 0);
	}
	if (buf_error(&b))
		return -ENOMEM;
	if (n > 0) {
		r = q_alloc(s, clusters(s, b.len), false, &off);
		if (r < 0)
			return (int)r;
		r = node_pwrite(s->file, b.s, b.len, off);
		if (r < 0)
			return (int)r;
	}
	r = q_sync(s);
	if (r == 0)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r < 0)
		return (int)r;
	for (int i = 0; i < 4; i++)
		head[i] = (uint8_t)(n >> (24 - i * 8));
	for (int i = 0; i < 8; i++)
		head[4 + i] = (uint8_t)(off >> (56 - i * 8));
	r = node_pwrite(s->file, head, 12, 60);
	if (r == 0)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r < 0)
		return (int)r;
	s->h.nb_snapshots = n;
	s->h.snap_off = off;
	if (old_n)
		q_free_later(s, old_off, old_n, false);
	return 0;
}

static int read_l1(struct qcow2 *s, uint64_t off, uint32_t n, uint64_t **ret)
{
	uint64_t *l1 = calloc(MAX(n, 1U), 8);
	int r = l1 ? node_pread(s->file, l1, (size_t)n * 8, off) : -ENOMEM;

	if (r < 0) {
		free(l1);
		return r;
	}
	for (uint32_t i = 0; i < n; i++)
		l1[i] = be64toh(l1[i]);
	*ret = l1;
	return 0;
}

/* Every reference that the tables of l1 hold is counted up (now) or down (when that is safe).  Up to `limit` of them;
 * *did counts. */
static int refs(struct qcow2 *s, const uint64_t *l1, uint32_t n, bool up, uint64_t limit,
		uint64_t *did)
{
	_cleanup_(freep) uint64_t *t = malloc(s->cluster_size);
	int r = 0;

	*did = 0;
	for (uint32_t i = 0; t && i < n && r == 0 && *did < limit; i++) {
		uint64_t off = l1[i] & Q_OFFSET;

		if (!off)
			continue;
		if (off & (s->cluster_size - 1) ||
		    !range_inside(off, 1, atomic_load(&s->file->size)))
			return -EIO;
		r = node_pread(s->file, t, s->cluster_size, off);
		for (uint32_t k = 0; r == 0 && k < s->l2_entries && *did < limit; k++) {
			uint64_t desc = be64toh(t[(size_t)k * s->entry_words]), at, len;

			if (desc & Q_COMPRESSED) {
				q_compr_range(s, desc, &at, &len);
				len += at & (s->cluster_size - 1);
				for (uint64_t c = 0; r == 0 && up && c < clusters(s, len); c++)
					r = q_ref_add(s, (at >> s->h.cluster_bits) + c, 1);
			} else if (desc & Q_OFFSET && up) {
				r = q_ref_add(s, (desc & Q_OFFSET) >> s->h.cluster_bits, 1);
			}
			if (r == 0 && !up)
				q_entry_release(s, desc);
			*did += r == 0;
		}
		if (r == 0 && *did < limit)
			r = up ? q_ref_add(s, off >> s->h.cluster_bits, 1)
			       : q_free_later(s, off, 1, false);
		*did += r == 0;
	}
	return t ? r : -ENOMEM;
}

int q_fix_copied(struct qcow2 *s, uint64_t *fixed)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < s->h.l1_size; i++) {
		uint64_t off = s->l1[i] & Q_OFFSET, want;
		struct q_table *t;
		int r;

		if (!off)
			continue;
		want = off | (q_ref_get(s, off >> s->h.cluster_bits) == 1 ? Q_COPIED : 0);
		if (s->l1[i] != want) {
			n++;
			s->l1[i] = want;
			s->l1_dirty_lo = MIN(s->l1_dirty_lo, i);
			s->l1_dirty_hi = MAX(s->l1_dirty_hi, i + 1ULL);
		}
		r = q_table_load_sync(s, i, &t);
		if (r < 0)
			return r;
		for (uint32_t k = 0; k < s->l2_entries; k++) {
			uint64_t guest = ((uint64_t)i * s->l2_entries + k) << s->h.cluster_bits;
			struct q_entry v = q_entry_get(s, t, guest);
			uint64_t host = v.desc & Q_OFFSET;
			bool copied;

			if (v.desc & Q_COMPRESSED)
				copied = false;
			else if (s->data_file)
				copied = v.desc & Q_COPIED;
			else
				copied = host && q_ref_get(s, host >> s->h.cluster_bits) == 1;
			if (copied == !!(v.desc & Q_COPIED))
				continue;
			n++;
			v.desc ^= Q_COPIED;
			q_entry_set(s, t, guest, v);
		}
	}
	if (fixed)
		*fixed = n;
	return 0;
}

static int begin(struct qcow2 *s, struct q_snapshot **v, uint32_t *n, uint64_t *bytes,
		 struct err **e)
{
	int r;

	if (s->node.readonly)
		return err_set(e, EROFS, "disk.readonly", "'%s' is open read-only", s->node.path);
	if (s->data_file)
		return err_set(e, ENOTSUP, "disk.snapshot",
			       "an image with an external data file has no internal snapshots");
	r = q_sync(s);
	if (r < 0)
		return err_sys(e, -r, "write back metadata");
	return q_snapshots_load(s, v, n, bytes, e);
}

static int end(struct qcow2 *s, int r, struct err **e, const char *what)
{
	int k = q_sync(s);

	r = r ?: k;
	if (r == 0)
		r = q_set_dirty(s, false);
	return r < 0 ? err_sys(e, -r, "%s", what) : 0;
}

int q_snapshot_ls(struct disk_node *n, struct disk_snapshot_list *ret, struct err **e)
{
	struct q_snapshot *v = NULL;
	uint64_t bytes;
	uint32_t k;
	int r = q_snapshots_load(to_qcow2(n), &v, &k, &bytes, e);

	if (r < 0)
		return r;
	*ret = (struct disk_snapshot_list){ calloc(MAX(k, 1U), sizeof(*ret->v)), k, k };
	for (uint32_t i = 0; ret->v && i < k; i++)
		ret->v[i] =
			(struct disk_snapshot_info){ TAKE(v[i].id),
						     TAKE(v[i].name),
						     v[i].size,
						     v[i].vm_state,
						     (nsec_t)v[i].sec * NSEC_PER_SEC + v[i].nsec,
						     (nsec_t)v[i].clock };
	q_snapshots_free(v, k);
	return ret->v ? 0 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

int q_snapshot_create(struct disk_node *n, const char *name, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	struct q_snapshot *v = NULL, *w;
	uint64_t bytes, did, id = 1, off = 0;
	_cleanup_(buf_done) struct buf l1 = { 0 };
	struct timespec ts;
	uint32_t k;
	char text[24];
	int64_t a;
	int r = begin(s, &v, &k, &bytes, e);

	if (r < 0)
		return r;
	if (!name[0] || strlen(name) > 255 || find(v, k, name)) {
		bool taken = find(v, k, name);

		q_snapshots_free(v, k);
		return err_set(e, taken ? EEXIST : EINVAL, "disk.snapshot",
			       "snapshot name '%s' is %s", name, taken ? "taken" : "not usable");
	}
	for (uint32_t i = 0; i < k; i++)
		id = MAX(id, strtoull(v[i].id, NULL, 10) + 1);
	w = k + 1 < Q_MAX_SNAPSHOTS ? reallocarray(v, k + 1, sizeof(*v)) : NULL;
	if (!w) {
		q_snapshots_free(v, k);
		return err_set(e, ENOMEM, "disk.limit", "no room for another snapshot");
	}
	v = w;
	clock_gettime(CLOCK_REALTIME, &ts);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
	v[k] = (struct q_snapshot){ .l1_size = s->h.l1_size,
				    .sec = (uint32_t)ts.tv_sec,
				    .nsec = (uint32_t)ts.tv_nsec,
				    .size = s->h.size,
				    .id = strdup(text),
				    .name = strdup(name) };
	for (uint32_t i = 0; i < s->h.l1_size; i++)
		put(&l1, s->l1[i] & Q_OFFSET, 8);
	r = v[k].id && v[k].name && !buf_error(&l1) ? q_set_dirty(s, true) : -ENOMEM;
	if (r == 0) {
		r = refs(s, s->l1, s->h.l1_size, true, UINT64_MAX, &did);
		if (r < 0) { /* one is at its maximum: back to where we were */
			uint64_t undo;

			refs(s, s->l1, s->h.l1_size, false, did, &undo);
			end(s, 0, NULL, "");
			q_snapshots_free(v, k + 1);
			return err_set(
				e, -r, "disk.snapshot",
				r == -EOVERFLOW
					? "a cluster already has as many references as %u bits can count"
					: "damaged table",
				1U << s->h.refcount_order);
		}
	}
	if (r == 0)
		r = q_fix_copied(s, NULL);
	if (r == 0 && s->h.l1_size) {
		a = q_alloc(s, clusters(s, l1.len), false, &off);
		r = a < 0 ? (int)a : node_pwrite(s->file, l1.s, l1.len, off);
	}
	v[k].l1_off = off;
	if (r == 0)
		r = table_write(s, v, k + 1, bytes);
	r = end(s, r, e, "take a snapshot");
	q_snapshots_free(v, k + 1);
	return r;
}

int q_snapshot_apply(struct disk_node *n, const char *which, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	_cleanup_(freep) uint64_t *l1 = NULL, *old = NULL, *be = NULL;
	uint64_t bytes, did, off = 0, old_off = s->h.l1_off, size;
	uint32_t k, old_n = s->h.l1_size, n_l1;
	const struct q_snapshot *t;
	struct q_snapshot *v = NULL;
	uint8_t head[24];
	int64_t a;
	int r = begin(s, &v, &k, &bytes, e);

	if (r < 0)
		return r;
	t = find(v, k, which);
	if (!t) {
		q_snapshots_free(v, k);
		return err_set(e, ENOENT, "disk.snapshot", "no snapshot '%s'", which);
	}
	size = t->size;
	n_l1 = MAX(t->l1_size,
		   (uint32_t)DIV_ROUND_UP(size, (uint64_t)s->l2_entries << s->h.cluster_bits));
	r = read_l1(s, t->l1_off, t->l1_size, &l1);
	be = calloc(MAX(n_l1, 1U), 8);
	if (r == 0 && !be)
		r = -ENOMEM;
	if (r == 0)
		r = q_set_dirty(s, true);
	if (r == 0)
		r = refs(s, l1, t->l1_size, true, UINT64_MAX, &did);
	for (uint32_t i = 0; r == 0 && i < t->l1_size; i++)
		be[i] = htobe64(l1[i] & Q_OFFSET);
	q_snapshots_free(v, k);
	if (r == 0) {
		a = q_alloc(s, clusters(s, MAX((uint64_t)n_l1 * 8, 1ULL)), false, &off);
		r = a < 0 ? (int)a : node_pwrite(s->file, be, (size_t)n_l1 * 8, off);
	}
	if (r == 0)
		r = q_sync(s) ?: node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r == 0) { /* size, crypt method (none), L1 entries, L1 offset: bytes 24 to 47 */
		uint64_t b64 = htobe64(size);
		uint32_t b32 = htobe32(n_l1);

		memset(head, 0, sizeof(head));
		memcpy(head, &b64, 8);
		memcpy(head + 12, &b32, 4);
		b64 = htobe64(off);
		memcpy(head + 16, &b64, 8);
		r = node_pwrite(s->file, head, 24, 24)
			    ?: node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	}
	if (r < 0)
		return err_sys(e, -r, "apply snapshot '%s'", which);
	old = TAKE(s->l1);
	q_tables_drop(s);
	s->h.size = size;
	s->h.l1_size = n_l1;
	s->h.l1_off = off;
	r = q_reload(s, e);
	if (r < 0)
		return r;
	atomic_store(&n->size, size);
	r = refs(s, old, old_n, false, UINT64_MAX, &did);
	q_free_later(s, old_off, clusters(s, (uint64_t)old_n * 8), false);
	if (r == 0)
		r = q_sync(s);
	if (r == 0)
		r = q_fix_copied(s, NULL);
	if (r == 0 && s->n_bitmaps)
		q_bitmaps_mark(s, 0, size);
	return end(s, r, e, "apply a snapshot");
}

int q_snapshot_rm(struct disk_node *n, const char *which, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	_cleanup_(freep) uint64_t *l1 = NULL;
	struct q_snapshot *v = NULL, gone;
	const struct q_snapshot *t;
	uint64_t bytes, did;
	uint32_t k, at;
	int r = begin(s, &v, &k, &bytes, e);

	if (r < 0)
		return r;
	t = find(v, k, which);
	if (!t) {
		q_snapshots_free(v, k);
		return err_set(e, ENOENT, "disk.snapshot", "no snapshot '%s'", which);
	}
	at = (uint32_t)(t - v);
	gone = *t;
	r = read_l1(s, gone.l1_off, gone.l1_size, &l1);
	if (r == 0)
		r = q_set_dirty(s, true);
	if (r == 0) {
		memmove(v + at, v + at + 1, (k - at - 1) * sizeof(*v));
		v[k - 1] = gone; /* freed with the rest */
		r = table_write(s, v, k - 1, bytes);
	}
	if (r == 0)
		r = refs(s, l1, gone.l1_size, false, UINT64_MAX, &did);
	if (r == 0 && gone.l1_size)
		r = q_free_later(s, gone.l1_off, clusters(s, (uint64_t)gone.l1_size * 8), false);
	if (r == 0)
		r = q_sync(s);
	if (r == 0)
		r = q_fix_copied(s, NULL);
	r = end(s, r, e, "remove a snapshot");
	q_snapshots_free(v, k);
	return r;
}
