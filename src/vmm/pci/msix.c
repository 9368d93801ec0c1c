/* See msix.h.  m->lock guards table, pending bits and flags; it is a leaf but for irq.c's lock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define LOG_MODULE "msix"
#include "base/log.h"
#include "vmm/irq.h"
#include "vmm/pci/bus.h"
#include "vmm/pci/msix.h"

#define ENTRY	     16U
#define CTRL_MASKED  1U
#define FLAG_ENABLE  0x8000U
#define FLAG_MASKALL 0x4000U

struct entry {
	uint64_t addr;
	uint32_t data, ctrl;
};

struct msix {
	pthread_mutex_t lock;
	unsigned int n, bar, cap;
	bool enabled, masked_all;
	struct entry entry[MSIX_MAX_VECTORS];
	bool pending[MSIX_MAX_VECTORS];
	struct irq_route *route; /* n, or NULL while no irqfd is used */
};

static bool masked(const struct msix *m, unsigned int v)
{
	return !m->enabled || m->masked_all || m->entry[v].ctrl & CTRL_MASKED;
}

static struct ratelimit rl = LOG_RATE(1, 5);

/* Bring the vector in line with its mask: send what waits, arm or disarm its irqfd.  Lock held. */
static void update(struct pci_dev *pd, unsigned int v)
{
	struct msix *m = pd->msix;
	struct irq_route *r = m->route ? &m->route[v] : NULL;

	if (masked(m, v)) {
		if (r)
			irq_route_disarm(r);
		return;
	}
	if (m->pending[v]) {
		m->pending[v] = false;
		irq_msi(pd->dev.vm, m->entry[v].addr, m->entry[v].data);
	}
	if (r && r->open) {
		_cleanup_(err_freep) struct err *e = NULL;

		if (irq_route_arm(r, m->entry[v].addr, m->entry[v].data, &e) < 0)
			log_warn_rl(&rl, "interrupt route refused", "device", pd->dev.id, "vector",
				    v, "error", e);
	}
}

static void update_all(struct pci_dev *pd)
{
	for (unsigned int v = 0; v < pd->msix->n; v++)
		update(pd, v);
}

static uint64_t table_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct pci_bar *bar = pci_bar_of(r);
	struct msix *m = bar->pd->msix;
	uint64_t v = 0, half = bar->size / 2;

	if (off % size || size < 4)
		return 0;
	pthread_mutex_lock(&m->lock);
	if (off < half && off / ENTRY < m->n) {
		const uint8_t *p = (const uint8_t *)&m->entry[off / ENTRY] + off % ENTRY;

		memcpy(&v, p, size); /* struct entry is laid out as the table is */
	} else if (off >= half) {
		for (unsigned int i = 0; i < 8 * size; i++) {
			uint64_t vec = (off - half) * 8 + i;

			if (vec < m->n &&
			    (m->pending[vec] || (m->route && irq_route_pending(&m->route[vec]) &&
						 !m->route[vec].armed)))
				v |= 1ULL << i;
		}
	}
	pthread_mutex_unlock(&m->lock);
	return v;
}

static void table_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t value)
{
	struct pci_bar *bar = pci_bar_of(r);
	struct msix *m = bar->pd->msix;
	unsigned int v = (unsigned int)(off / ENTRY);

	if (off % size || size < 4 || off >= bar->size / 2 || v >= m->n)
		return;
	pthread_mutex_lock(&m->lock);
	memcpy((uint8_t *)&m->entry[v] + off % ENTRY, &value, size);
	m->entry[v].ctrl &= CTRL_MASKED;
	/* Linux writes address and data while the vector is masked: nothing to do until it is unmasked. */
	update(bar->pd, v);
	pthread_mutex_unlock(&m->lock);
}

static const struct bus_ops table_ops = { table_read, table_write };

int msix_init(struct pci_dev *pd, unsigned int n, unsigned int bar, struct err **e)
{
	struct msix *m;
	uint64_t half = 2048;
	int cap, r;

	if (n == 0 || n > MSIX_MAX_VECTORS || pd->msix)
		return err_set(e, EINVAL, "pci.msix", "%s: cannot have %u vectors", pd->dev.id, n);
	while (half < (uint64_t)n * ENTRY)
		half *= 2;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = pci_add_bar(pd, bar, PCI_BAR_MEM32, 2 * half, &table_ops, e);
	cap = r < 0 ? r : pci_add_cap(pd, PCI_CAP_MSIX, 12);
	if (cap < 0) {
		free(m);
		return r < 0 ? r
			     : err_set(e, ENOSPC, "pci.caps", "%s: no room for MSI-X", pd->dev.id);
	}
	pthread_mutex_init(&m->lock, NULL);
	m->n = n;
	m->bar = bar;
	m->cap = (unsigned int)cap;
	for (unsigned int i = 0; i < n; i++)
		m->entry[i].ctrl = CTRL_MASKED;
	pci_set16(pd, m->cap + 2, (uint16_t)(n - 1));
	pd->wmask[m->cap + 3] = (FLAG_ENABLE | FLAG_MASKALL) >> 8;
	pci_set32(pd, m->cap + 4, bar);
	pci_set32(pd, m->cap + 8, (uint32_t)half | bar);
	pd->msix = m;
	return 0;
}

bool msix_enabled(const struct pci_dev *pd)
{
	return pd->msix && pd->msix->enabled;
}

unsigned int msix_n_vectors(const struct pci_dev *pd)
{
	return pd->msix ? pd->msix->n : 0;
}

void msix_notify(struct pci_dev *pd, unsigned int v)
{
	struct msix *m = pd->msix;

	if (!m || v >= m->n)
		return;
	pthread_mutex_lock(&m->lock);
	if (masked(m, v))
		m->pending[v] = true;
	else
		irq_msi(pd->dev.vm, m->entry[v].addr, m->entry[v].data);
	pthread_mutex_unlock(&m->lock);
}

int msix_irqfd(struct pci_dev *pd, unsigned int v, struct err **e)
{
	struct msix *m = pd->msix;
	int r = 0;

	if (!m || v >= m->n)
		return err_set(e, EINVAL, "pci.msix", "%s: no vector %u", pd->dev.id, v);
	pthread_mutex_lock(&m->lock);
	if (!m->route)
		m->route = calloc(m->n, sizeof(*m->route));
	if (!m->route)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	else if (!m->route[v].open)
		r = irq_route_open(&m->route[v], pd->dev.vm, e);
	if (r == 0) {
		update(pd, v);
		r = m->route[v].fd;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

void msix_irqfd_put(struct pci_dev *pd, unsigned int v)
{
	struct msix *m = pd->msix;

	if (!m || v >= m->n)
		return;
	pthread_mutex_lock(&m->lock);
	if (m->route && m->route[v].open) {
		irq_route_disarm(&m->route[v]);
		/* A signal that came meanwhile is not lost. */
		m->pending[v] |= irq_route_pending(&m->route[v]);
		irq_route_close(&m->route[v]);
	}
	pthread_mutex_unlock(&m->lock);
}

void msix_cfg_written(struct pci_dev *pd)
{
	struct msix *m = pd->msix;
	uint16_t flags = pci_get16(pd, m->cap + 2);
	bool enabled = flags & FLAG_ENABLE, all = flags & FLAG_MASKALL;

	pthread_mutex_lock(&m->lock);
	if (enabled != m->enabled || all != m->masked_all) {
		m->enabled = enabled;
		m->masked_all = all;
		update_all(pd);
	}
	pthread_mutex_unlock(&m->lock);
}

void msix_reset(struct pci_dev *pd)
{
	struct msix *m = pd->msix;

	pthread_mutex_lock(&m->lock);
	m->enabled = m->masked_all = false;
	memset(m->pending, 0, sizeof(m->pending));
	for (unsigned int v = 0; v < m->n; v++)
		m->entry[v] = (struct entry){ .ctrl = CTRL_MASKED };
	update_all(pd);
	pthread_mutex_unlock(&m->lock);
}

void msix_free(struct pci_dev *pd)
{
	struct msix *m = pd->msix;

	if (!m)
		return;
	for (unsigned int v = 0; m->route && v < m->n; v++)
		irq_route_close(&m->route[v]);
	free(m->route);
	pthread_mutex_destroy(&m->lock);
	free(m);
	pd->msix = NULL;
}

/* Saved form: for each vector the 16 bytes of its entry and a pending byte. */
void msix_save(struct pci_dev *pd)
{
	struct msix *m = pd->msix;
	uint8_t *p = realloc(pd->msix_state.data, m->n * (ENTRY + 1));

	if (!p)
		return; /* the length is checked at load: a snapshot without it is refused then */
	pd->msix_state.data = p;
	pd->msix_state.len = m->n * (ENTRY + 1);
	pthread_mutex_lock(&m->lock);
	for (unsigned int v = 0; v < m->n; v++, p += ENTRY + 1) {
		memcpy(p, &m->entry[v], ENTRY);
		p[ENTRY] = m->pending[v] || (m->route && irq_route_pending(&m->route[v]));
	}
	pthread_mutex_unlock(&m->lock);
}

int msix_load(struct pci_dev *pd, struct err **e)
{
	struct msix *m = pd->msix;
	const uint8_t *p = pd->msix_state.data;

	if (pd->msix_state.len != m->n * (ENTRY + 1))
		return err_set(e, EINVAL, "snapshot.device", "%s: MSI-X state of another size",
			       pd->dev.id);
	pthread_mutex_lock(&m->lock);
	for (unsigned int v = 0; v < m->n; v++, p += ENTRY + 1) {
		memcpy(&m->entry[v], p, ENTRY);
		m->entry[v].ctrl &= CTRL_MASKED;
		m->pending[v] = p[ENTRY] != 0;
	}
	m->enabled = pci_get16(pd, m->cap + 2) & FLAG_ENABLE;
	m->masked_all = pci_get16(pd, m->cap + 2) & FLAG_MASKALL;
	update_all(pd);
	pthread_mutex_unlock(&m->lock);
	return 0;
}
