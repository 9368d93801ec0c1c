/* Virtqueues over hostile ring memory.  Input: flags, size, four bytes of position, then guest RAM from 0 on; the rings lie
 * at fixed places in it.  Between pops the input changes memory, as a running guest would.
 * Properties: no access outside RAM (ASan), an end after at most `size` chains in flight, segments inside RAM. */
#include <assert.h>
#include <string.h>
#include "vmm/memory.h"
#include "base/vq.h"

#define RAM    (1 * MIB)
#define SPACE  16384U /* where the rings and what they easily point to lie */
#define MAX_SZ 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem mem;
static struct vq_chain chains[MAX_SZ];

static void check(const struct vq_chain *c)
{
	uint64_t out = 0, in = 0;

	assert(c->n_out + c->n_in <= VQ_MAX_SEG);
	for (unsigned int i = 0; i < c->n_out + c->n_in; i++) {
		const uint8_t *p = c->iov[i].iov_base;

		assert(c->iov[i].iov_len > 0);
		assert(p >= mem.region[0].host && c->iov[i].iov_len <= RAM &&
		       p + c->iov[i].iov_len <= mem.region[0].host + RAM);
		*(i < c->n_out ? &out : &in) += c->iov[i].iov_len;
	}
	assert(out == c->out_len && in == c->in_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct vq_addr addr = { .desc = 0, .driver = 0x400, .device = 0x600 };
	unsigned int n = 0, flags;
	uint8_t *ram;
	struct vq q;

	if (!mem.n && gmem_init(&mem, RAM, GMEM_ANON, NULL) < 0)
		return 0;
	ram = mem.region[0].host;
	if (size < 6)
		return 0;
	flags = data[0] & 7;
	memset(ram, 0, SPACE);
	vq_init(&q, &mem, MAX_SZ, NULL);
	q.avail_idx = data[2];
	q.used_idx = data[3];
	q.avail_wrap = data[4] & 1;
	q.used_wrap = data[4] & 2;
	if (vq_enable(&q, data[1], flags, &addr, NULL) < 0)
		return 0;
	data += 6;
	size -= 6;
	memcpy(ram, data, size < SPACE ? size : SPACE);
	for (unsigned int step = 0; step < 200; step++) {
		uint8_t what = size ? data[step % size] : 0;

		if (n < MAX_SZ && vq_pop(&q, &chains[n]) > 0) {
			uint8_t b[64] = { 0 };

			check(&chains[n]);
			vq_read(&chains[n], what, b, what % 64);
			vq_write(&chains[n], what, b, what % 64);
			if (what & 0x80)
				vq_unpop(&q, &chains[n]);
			else
				n++;
		}
		assert(q.inflight <= MAX_SZ);
		if (n && (what & 1)) {
			n--;
			vq_push(&q, &chains[n], what);
		}
		if (what & 2)
			vq_commit(&q);
		if (what & 4)
			vq_kick_on(&q);
		else
			vq_kick_off(&q);
		ram[(what * 37U + step) % 0x900] ^= what; /* the guest is at work */
	}
	while (n > 0)
		vq_push(&q, &chains[--n], 0);
	assert(q.inflight == 0);
	vq_done(&q);
	return 0;
}
