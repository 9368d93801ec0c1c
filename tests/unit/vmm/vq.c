/* Virtqueues against an honest driver (every ring kind) and against hostile rings. */
#include "unit.h"
#include <linux/virtio_ring.h>
#include "base/rand.h"
#include "drv.h"

#define RAM (4 * MIB)

static const unsigned int kinds[] = {
	0,
	VQ_EVENT_IDX,
	VQ_INDIRECT,
	VQ_EVENT_IDX | VQ_INDIRECT,
	VQ_PACKED,
	VQ_PACKED | VQ_EVENT_IDX,
	VQ_PACKED | VQ_INDIRECT,
	VQ_PACKED | VQ_EVENT_IDX | VQ_INDIRECT,
};

struct fix {
	struct guest_mem mem;
	struct drv_mem dm;
	struct drv_queue dq;
	struct vq q;
};

static void open_fix(struct fix *f, uint16_t size, unsigned int flags)
{
	*f = (struct fix){ 0 };
	assert_int_equal(gmem_init(&f->mem, RAM, GMEM_ANON, NULL), 0);
	f->dm.mem = &f->mem;
	f->dm.next = 0x1000;
	f->dm.end = RAM;
	drv_queue_init(&f->dq, &f->dm, size, flags);
	assert_int_equal(vq_init(&f->q, f->dm.mem, 1024, NULL), 0);
	assert_int_equal(vq_enable(&f->q, size, flags, &f->dq.addr, NULL), 0);
}

static void close_fix(struct fix *f)
{
	vq_done(&f->q);
	vq_done(&f->q);
	gmem_done(&f->mem);
}

/* Random batches of random chains go round many times; every byte, length and cookie comes back. */
static void honest_driver(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 8, 64 };
	static struct vq_chain chains[64];

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			struct fix f;
			struct prng rnd;
			uintptr_t sent = 0, back = 0;
			unsigned int n_chains = 0, interrupts = 0;
			static uint32_t want_len[4096];

			open_fix(&f, sizes[s], kinds[k]);
			prng_seed(&rnd, k * 100 + s);
			while (back < 3000) {
				unsigned int batch = (unsigned int)prng_below(&rnd, 6);
				gpa_t mark;
				uint32_t len;
				void *c;

				if (f.dm.next > RAM / 2)
					f.dm.next = 0x10000; /* buffers may overlap old ones */
				while (batch-- && sent < 4000) {
					bool ind = (kinds[k] & VQ_INDIRECT) && prng_below(&rnd, 2);
					struct drv_buf out[2], in[2];
					uint64_t stamp = sent + 1;

					mark = drv_alloc(&f.dm, 8192, 16);
					out[0] = (struct drv_buf){ mark, 3 };
					out[1] = (struct drv_buf){ mark + 3, 5 };
					in[0] = (struct drv_buf){ mark + 100, 5 };
					in[1] = (struct drv_buf){ mark + 200, 3 };
					memcpy(drv_at(&f.dm, mark, 8), &stamp, 8);
					if (sizes[s] < 4 && !ind) {
						out[0].len = 8;
						if (sizes[s] == 1) {
							if (!drv_add(&f.dq, out, 1, NULL, 0, false,
								     (void *)(sent + 1)))
								break;
						} else if (!drv_add(&f.dq, out, 1, in, 1, false,
								    (void *)(sent + 1))) {
							break;
						}
					} else if (!drv_add(&f.dq, out, 2, in, 2, ind,
							    (void *)(sent + 1))) {
						break;
					}
					sent++;
				}
				while (n_chains < 64) {
					struct vq_chain *vc = &chains[n_chains];
					uint64_t stamp = 0;
					int r = vq_pop(&f.q, vc);

					assert_true(r >= 0);
					if (r == 0)
						break;
					if (prng_below(&rnd, 8) ==
					    0) { /* as good as never popped */
						vq_unpop(&f.q, vc);
						assert_int_equal(vq_pop(&f.q, vc), 1);
					}
					assert_int_equal(vq_read(vc, 0, &stamp, 8), 0);
					assert_int_equal(vc->out_len, 8);
					want_len[stamp] = (uint32_t)vc->in_len;
					if (vc->in_len)
						assert_int_equal(
							vq_write(vc, 0, &stamp, vc->in_len), 0);
					n_chains++;
				}
				drv_interrupt(&f.dq, true);
				/* out of order */
				while (n_chains && prng_below(&rnd, 4)) {
					unsigned int i = (unsigned int)prng_below(&rnd, n_chains);

					vq_push(&f.q, &chains[i], (uint32_t)chains[i].in_len);
					chains[i] = chains[--n_chains];
				}
				interrupts += vq_commit(&f.q);
				while ((c = drv_used(&f.dq, &len))) {
					assert_int_equal(len, want_len[(uintptr_t)c]);
					back++;
				}
			}
			assert_int_equal(f.q.n_pushed, back);
			assert_true(interrupts > 0 && f.q.n_notified == interrupts);
			close_fix(&f);
		}
	}
}

/* In every ring kind: an interrupt exactly when asked for, a kick exactly when asked for. */
static void notifications(void **state)
{
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct vq_chain *c = calloc(4, sizeof(*c));
		struct fix f;
		struct drv_buf b;
		uint32_t len;

		open_fix(&f, 8, kinds[k]);
		b = (struct drv_buf){ drv_alloc(&f.dm, 64, 16), 64 };
		for (int round = 0; round < 50; round++) {
			assert_false(vq_kick_on(&f.q));
			assert_true(drv_add(&f.dq, &b, 1, NULL, 0, false, c));
			assert_true(drv_wants_kick(&f.dq));
			vq_kick_off(&f.q);
			assert_int_equal(vq_pop(&f.q, &c[0]), 1);
			assert_true(drv_add(&f.dq, &b, 1, NULL, 0, false, c));
			assert_false(
				drv_wants_kick(&f.dq)); /* off, or asked for an earlier entry */
			assert_true(vq_kick_on(&f.q));	/* the race is seen */
			assert_int_equal(vq_pop(&f.q, &c[1]), 1);
			assert_int_equal(vq_pop(&f.q, &c[2]), 0);

			drv_interrupt(&f.dq, true);
			assert_false(vq_commit(&f.q)); /* nothing to commit */
			vq_push(&f.q, &c[0], 0);
			assert_null(drv_used(&f.dq, &len)); /* not visible yet */
			assert_true(vq_commit(&f.q));
			drv_interrupt(&f.dq, false);
			vq_push(&f.q, &c[1], 0);
			assert_false(vq_commit(&f.q));
			assert_ptr_equal(drv_used(&f.dq, &len), c);
			assert_ptr_equal(drv_used(&f.dq, &len), c);
			assert_null(drv_used(&f.dq, &len));
		}
		close_fix(&f);
		free(c);
	}
}

static void bad_addresses(void **state)
{
	struct fix f;
	struct vq_addr a;
	struct vq q;

	open_fix(&f, 8, 0);
	assert_int_equal(vq_init(&q, f.dm.mem, 0, NULL), -EINVAL);
	assert_int_equal(vq_init(&q, f.dm.mem, 3, NULL), -EINVAL);
	assert_int_equal(vq_init(&q, f.dm.mem, 256, NULL), 0);
	a = f.dq.addr;
	assert_int_equal(vq_enable(&q, 512, 0, &a, NULL), -EINVAL);
	assert_int_equal(vq_enable(&q, 0, 0, &a, NULL), -EINVAL);
	assert_int_equal(vq_enable(&q, 7, 0, &a, NULL), -EINVAL);
	assert_int_equal(vq_enable(&q, 7, VQ_PACKED, &a, NULL), 0); /* packed: any size */
	vq_reset(&q);
	a.desc += 8;
	assert_int_equal(vq_enable(&q, 8, 0, &a, NULL), -EINVAL);
	a = f.dq.addr;
	a.device = RAM - 16; /* runs out of RAM */
	assert_int_equal(vq_enable(&q, 8, 0, &a, NULL), -EFAULT);
	a.device = UINT64_MAX - 3;
	assert_int_equal(vq_enable(&q, 8, 0, &a, NULL), -EFAULT);
	assert_false(q.enabled);
	close_fix(&f);
}

static struct vring_desc *ring_desc(struct fix *f, unsigned int i)
{
	return drv_at(&f->dm, f->dq.addr.desc + 16 * i, 16);
}

static struct vring_avail *ring_avail(struct fix *f)
{
	return drv_at(&f->dm, f->dq.addr.driver, 6);
}

/* Each entry makes one split ring that must be refused, without a look outside RAM (ASan watches). */
static void hostile_split(void **state)
{
	struct vq_chain *c = malloc(sizeof(*c));

	for (int fault = 0;; fault++) {
		struct fix f;
		struct vring_desc *d, *t;
		gpa_t buf, table;
		bool more = true;

		open_fix(&f, 8, VQ_INDIRECT);
		buf = drv_alloc(&f.dm, 64, 16);
		table = drv_alloc(&f.dm, 64, 16);
		d = ring_desc(&f, 0);
		t = drv_at(&f.dm, table, 64);
		for (unsigned int i = 0; i < 8; i++)
			d[i] = (struct vring_desc){ buf, 64, 0, 0 };
		for (unsigned int i = 0; i < 4; i++)
			t[i] = (struct vring_desc){ buf, 16, 0, 0 };
		ring_avail(&f)->ring[0] = 0;
		ring_avail(&f)->idx = 1;
		switch (fault) {
		case 0: /* index jumps */
			ring_avail(&f)->idx = 9;
			break;
		case 1: /* head outside */
			ring_avail(&f)->ring[0] = 8;
			break;
		case 2: /* next outside */
			d[0].flags = VRING_DESC_F_NEXT;
			d[0].next = 8;
			break;
		case 3: /* circle */
			d[0].flags = d[1].flags = VRING_DESC_F_NEXT;
			d[0].next = 1;
			d[1].next = 0;
			break;
		case 4: /* circle of empty buffers */
			d[0].flags = VRING_DESC_F_NEXT;
			d[0].len = 0;
			d[0].next = 0;
			break;
		case 5: /* not RAM */
			d[0].addr = RAM;
			break;
		case 6: /* over the end of RAM */
			d[0].addr = RAM - 1;
			break;
		case 7: /* round the end of the address space */
			d[0].addr = UINT64_MAX - 1;
			break;
		case 8: /* readable after writable */
			d[0].flags = VRING_DESC_F_WRITE | VRING_DESC_F_NEXT;
			d[0].next = 1;
			break;
		case 9: /* indirect and next */
			d[0] = (struct vring_desc){ table, 32,
						    VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1 };
			break;
		case 10: /* table length */
			d[0] = (struct vring_desc){ table, 17, VRING_DESC_F_INDIRECT, 0 };
			break;
		case 11:
			d[0] = (struct vring_desc){ table, 0, VRING_DESC_F_INDIRECT, 0 };
			break;
		case 12: /* table outside RAM */
			d[0] = (struct vring_desc){ RAM - 16, 32, VRING_DESC_F_INDIRECT, 0 };
			break;
		case 13: /* table in table */
			t[0].flags = VRING_DESC_F_INDIRECT;
			d[0] = (struct vring_desc){ table, 32, VRING_DESC_F_INDIRECT, 0 };
			break;
		case 14: /* circle in a table, of empty buffers */
			t[0].flags = VRING_DESC_F_NEXT;
			t[0].len = 0;
			d[0] = (struct vring_desc){ table, 16, VRING_DESC_F_INDIRECT, 0 };
			break;
		case 15: /* next outside the table */
			t[0].flags = VRING_DESC_F_NEXT;
			t[0].next = 2;
			d[0] = (struct vring_desc){ table, 32, VRING_DESC_F_INDIRECT, 0 };
			break;
		case 16: /* more in flight than the ring holds */
			for (int i = 0; i < 8; i++) {
				assert_int_equal(vq_pop(&f.q, c), 1);
				ring_avail(&f)->idx++;
			}
			break;
		default:
			more = false;
		}
		if (more) {
			assert_int_equal(vq_pop(&f.q, c), -EBADMSG);
			assert_int_equal(vq_pop(&f.q, c), 0); /* and stays quiet */
			assert_false(vq_kick_on(&f.q));
			vq_reset(&f.q);
			assert_false(f.q.broken);
		}
		close_fix(&f);
		if (!more)
			break;
	}
	free(c);
}

/* An indirect table without the feature is refused too. */
static void features_are_held(void **state)
{
	struct vq_chain *c = malloc(sizeof(*c));

	for (unsigned int packed = 0; packed < 2; packed++) {
		struct fix f;
		struct drv_buf b;

		open_fix(&f, 8, packed ? VQ_PACKED : 0);
		b = (struct drv_buf){ drv_alloc(&f.dm, 64, 16), 64 };
		assert_true(drv_add(&f.dq, &b, 1, NULL, 0, true, c));
		assert_int_equal(vq_pop(&f.q, c), -EBADMSG);
		close_fix(&f);
	}
	free(c);
}

static void too_many_segments(void **state)
{
	static struct drv_buf bufs[VQ_MAX_SEG + 1];
	struct vq_chain *c = malloc(sizeof(*c));

	for (unsigned int extra = 0; extra < 2; extra++) {
		for (unsigned int packed = 0; packed < 2; packed++) {
			struct fix f;
			gpa_t b;

			open_fix(&f, 8, VQ_INDIRECT | (packed ? VQ_PACKED : 0));
			b = drv_alloc(&f.dm, 4096, 16);
			for (unsigned int i = 0; i < ARRAY_SIZE(bufs); i++)
				bufs[i] = (struct drv_buf){ b + i, 1 };
			assert_true(drv_add(&f.dq, bufs, VQ_MAX_SEG + extra, NULL, 0, true, c));
			assert_int_equal(vq_pop(&f.q, c), extra ? -EBADMSG : 1);
			if (!extra) {
				assert_int_equal(c->n_out, VQ_MAX_SEG);
				assert_int_equal(c->out_len, VQ_MAX_SEG);
			}
			close_fix(&f);
		}
	}
	free(c);
}

static void hostile_packed(void **state)
{
	struct vq_chain *c = malloc(sizeof(*c));
	struct fix f;
	struct vring_packed_desc *d;
	gpa_t buf;

	/* a chain that never ends is ended by the ring's size */
	open_fix(&f, 8, VQ_PACKED);
	buf = drv_alloc(&f.dm, 64, 16);
	d = drv_at(&f.dm, f.dq.addr.desc, 16 * 8);
	for (int i = 0; i < 8; i++)
		d[i] = (struct vring_packed_desc){
			buf, 64, 0, 1 << VRING_PACKED_DESC_F_AVAIL | VRING_DESC_F_NEXT
		};
	assert_int_equal(vq_pop(&f.q, c), -EBADMSG);
	/* the same slots made available over and over */
	vq_reset(&f.q);
	assert_int_equal(vq_enable(&f.q, 8, VQ_PACKED, &f.dq.addr, NULL), 0);
	for (int i = 0; i < 8; i++)
		d[i].flags = 1 << VRING_PACKED_DESC_F_AVAIL;
	for (int i = 0; i < 8; i++)
		assert_int_equal(vq_pop(&f.q, c), 1);
	for (int i = 0; i < 8; i++)
		d[i].flags = 1 << VRING_PACKED_DESC_F_USED;
	assert_int_equal(vq_pop(&f.q, c), -EBADMSG);
	close_fix(&f);
	free(c);
}

/* Position out, position in: a queue goes on in the middle of its life with a new struct. */
static void position_is_the_state(void **state)
{
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct vq_chain *c = malloc(sizeof(*c));
		struct fix f;
		struct drv_buf b;
		uint32_t len;

		open_fix(&f, 4, kinds[k]);
		b = (struct drv_buf){ drv_alloc(&f.dm, 64, 16), 64 };
		for (int i = 0; i < 300; i++) {
			struct vq n;

			assert_true(drv_add(&f.dq, &b, 1, NULL, 0, false, c));
			assert_int_equal(vq_pop(&f.q, c), 1);
			vq_push(&f.q, c, 0);
			drv_interrupt(&f.dq, true);
			assert_true(vq_commit(&f.q));
			assert_ptr_equal(drv_used(&f.dq, &len), c);
			assert_int_equal(vq_init(&n, f.dm.mem, 1024, NULL), 0);
			n.avail_idx = f.q.avail_idx;
			n.used_idx = f.q.used_idx;
			n.avail_wrap = f.q.avail_wrap;
			n.used_wrap = f.q.used_wrap;
			assert_int_equal(vq_enable(&n, f.q.size, kinds[k], &f.q.addr, NULL), 0);
			f.q = n;
		}
		close_fix(&f);
		free(c);
	}
}

static void slices(void **state)
{
	uint8_t m[100];
	struct iovec iov[] = { { m, 10 }, { m + 20, 30 }, { m + 60, 5 } }, out[3];

	assert_int_equal(vq_slice(iov, 3, 0, 45, out, 3), 3);
	assert_int_equal(vq_slice(iov, 3, 0, 46, out, 3), -EBADMSG);
	assert_int_equal(vq_slice(iov, 3, 5, 10, out, 3), 2);
	assert_ptr_equal(out[0].iov_base, m + 5);
	assert_int_equal(out[0].iov_len, 5);
	assert_ptr_equal(out[1].iov_base, m + 20);
	assert_int_equal(out[1].iov_len, 5);
	assert_int_equal(vq_slice(iov, 3, 5, 36, out, 2), -EBADMSG);
	assert_int_equal(vq_slice(iov, 3, 45, 0, out, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(honest_driver),
		cmocka_unit_test(notifications),
		cmocka_unit_test(bad_addresses),
		cmocka_unit_test(hostile_split),
		cmocka_unit_test(features_are_held),
		cmocka_unit_test(too_many_segments),
		cmocka_unit_test(hostile_packed),
		cmocka_unit_test(position_is_the_state),
		cmocka_unit_test(slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
