/* virtio over PCI, modern only.                             Spec: virtio 1.2, 4.1.
 *
 * BAR 0 holds all register structures, BAR 1 the MSI-X table.  Each queue's doorbell has an address of its own, so
 * that one ioeventfd without data match serves it (KVM's fastest kind).  Without MSI-X the driver has to poll: no
 * INTx pin is claimed, as 4.1.4.5 allows.
 *
 * Thread: vCPU threads with the device's lock held; interrupts from any. */
#include <string.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include "vmm/pci/msix.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define REGS_BAR      0
#define MSIX_BAR      1
#define COMMON_OFF    0x0000U
#define ISR_OFF	      0x1000U
#define CONFIG_OFF    0x2000U
#define NOTIFY_OFF    0x3000U
#define AREA_LEN      0x1000U
#define REGS_LEN      0x4000U
#define NOTIFY_STRIDE 4U

static struct virtio_dev *dev_of(struct pci_dev *pd)
{
	return container_of(pd, struct virtio_dev, pd);
}

/* -- interrupts ----------------------------------------------------------------------------------- */

static void queue_interrupt(struct virtio_queue *q)
{
	uint16_t vector = atomic_load_explicit(&q->vector, memory_order_relaxed);

	if (msix_enabled(&q->v->pd)) {
		if (vector != VIRTIO_NO_VECTOR)
			msix_notify(&q->v->pd, vector);
		return;
	}
	atomic_fetch_or(&q->v->isr, 1);
}

static void config_interrupt(struct virtio_dev *v)
{
	uint16_t vector = __atomic_load_n(&v->config_vector, __ATOMIC_RELAXED);

	atomic_fetch_or(&v->isr, VIRTIO_PCI_ISR_CONFIG);
	if (msix_enabled(&v->pd) && vector != VIRTIO_NO_VECTOR)
		msix_notify(&v->pd, vector);
}

static const struct virtio_transport pci_transport = { queue_interrupt, config_interrupt };

/* -- common configuration, 4.1.4.3 ------------------------------------------------------------------ */

static uint32_t common_read(struct virtio_dev *v, unsigned int off)
{
	unsigned int qi = v->queue_sel;
	const struct virtio_queue_regs *g = qi < v->n_queues ? &v->regs[qi] : NULL;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return v->features_sel;
	case VIRTIO_PCI_COMMON_DF:
		return virtio_reg_features(v);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return v->driver_features_sel;
	case VIRTIO_PCI_COMMON_GF:
		return virtio_reg_driver_features(v);
	case VIRTIO_PCI_COMMON_MSIX:
		return v->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return v->n_queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return virtio_reg_status(v);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return atomic_load(&v->generation);
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return v->queue_sel;
	}
	if (!g) /* 4.1.4.3.1: size 0 says that there is no such queue */
		return 0;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return g->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return g->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return g->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return qi;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (uint32_t)g->desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return (uint32_t)(g->desc >> 32);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (uint32_t)g->driver;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return (uint32_t)(g->driver >> 32);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (uint32_t)g->device;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return (uint32_t)(g->device >> 32);
	case VIRTIO_PCI_COMMON_Q_NDATA:
		return qi;
	case VIRTIO_PCI_COMMON_Q_RESET:
		return virtio_reg_queue_resetting(v, qi);
	}
	return 0;
}

static void set_half(uint64_t *x, bool high, uint32_t v)
{
	*x = high ? (*x & UINT32_MAX) | (uint64_t)v << 32 : (*x & ~(uint64_t)UINT32_MAX) | v;
}

/* 4.1.5.1.2: a vector that does not exist reads back as "none". */
static uint16_t checked_vector(const struct virtio_dev *v, uint32_t vector)
{
	return vector < msix_n_vectors(&v->pd) ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

static void common_write(struct virtio_dev *v, unsigned int off, uint32_t val)
{
	unsigned int qi = v->queue_sel;
	struct virtio_queue_regs *g = qi < v->n_queues ? &v->regs[qi] : NULL;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		v->features_sel = val;
		return;
	case VIRTIO_PCI_COMMON_GFSELECT:
		v->driver_features_sel = val;
		return;
	case VIRTIO_PCI_COMMON_GF:
		virtio_reg_set_features(v, val);
		return;
	case VIRTIO_PCI_COMMON_MSIX:
		__atomic_store_n(&v->config_vector, checked_vector(v, val), __ATOMIC_RELAXED);
		return;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_reg_set_status(v, (uint8_t)val);
		return;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		v->queue_sel = (uint16_t)val;
		return;
	}
	if (!g)
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_MSIX:
		g->vector = checked_vector(v, val);
		atomic_store(&v->q[qi].vector, g->vector);
		return;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (val == 1)
			virtio_reg_queue_enable(v, qi);
		return;
	case VIRTIO_PCI_COMMON_Q_RESET:
		if (val == 1)
			virtio_reg_queue_reset(v, qi);
		return;
	}
	if (g->enabled) /* the ring stays where it is while it runs */
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		g->size = (uint16_t)val; /* vq_enable() checks it */
		return;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&g->desc, off == VIRTIO_PCI_COMMON_Q_DESCHI, val);
		return;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&g->driver, off == VIRTIO_PCI_COMMON_Q_AVAILHI, val);
		return;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&g->device, off == VIRTIO_PCI_COMMON_Q_USEDHI, val);
		return;
	}
}

/* -- BAR 0 ---------------------------------------------------------------------------------------- */

static uint64_t regs_read_part(struct virtio_dev *v, unsigned int off, unsigned int size)
{
	uint8_t data[4];
	uint32_t val = 0;

	if (off < ISR_OFF)
		return common_read(v, off) & (size == 4 ? UINT32_MAX : (1U << (8 * size)) - 1);
	if (off < CONFIG_OFF)
		return off == ISR_OFF ? virtio_reg_isr(v) : 0;
	if (off >= NOTIFY_OFF)
		return 0;
	virtio_reg_config_read(v, off - CONFIG_OFF, data, size);
	for (unsigned int i = size; i-- > 0;)
		val = val << 8 | data[i];
	return val;
}

static void regs_write_part(struct virtio_dev *v, unsigned int off, unsigned int size, uint32_t val)
{
	uint8_t data[4] = { 0 };

	if (off < ISR_OFF) {
		common_write(v, off, val);
	} else if (off >= CONFIG_OFF && off < NOTIFY_OFF) {
		for (unsigned int i = 0; i < size; i++)
			data[i] = (uint8_t)(val >> (8 * i));
		virtio_reg_config_write(v, off - CONFIG_OFF, data, size);
	}
}

/* Registers are 1, 2 or 4 bytes (4.1.3.1); an 8-byte access is two of 4. */
static uint64_t regs_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct virtio_dev *v = dev_of(pci_bar_of(r)->pd);

	if (size == 8)
		return regs_read_part(v, (unsigned int)off, 4) |
		       regs_read_part(v, (unsigned int)off + 4, 4) << 32;
	return regs_read_part(v, (unsigned int)off, size);
}

static void regs_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t val)
{
	struct virtio_dev *v = dev_of(pci_bar_of(r)->pd);

	if (off >= NOTIFY_OFF) {
		unsigned int qi = (unsigned int)(off - NOTIFY_OFF) / NOTIFY_STRIDE;

		if (qi >= v->n_queues)
			return;
		virtio_reg_notify(v, qi);
		/* the first kick paid an exit, the next ones do not; failing, they go on exiting */
		doorbell_promote(&v->q[qi].bell,
				 r->base + NOTIFY_OFF + (uint64_t)qi * NOTIFY_STRIDE);
		return;
	}
	regs_write_part(v, (unsigned int)off, MIN(size, 4U), (uint32_t)val);
	if (size == 8)
		regs_write_part(v, (unsigned int)off + 4, 4, (uint32_t)(val >> 32));
}

static const struct bus_ops regs_ops = { regs_read, regs_write };

/* -- config space --------------------------------------------------------------------------------- */

static void bar_moved(struct pci_dev *pd, unsigned int bar)
{
	struct virtio_dev *v = dev_of(pd);

	if (bar != REGS_BAR)
		return;
	for (unsigned int i = 0; i < v->n_queues; i++)
		doorbell_demote(&v->q[i].bell);
}

/* The window for firmware that cannot map BARs (4.1.4.9): what its cap structure says, for data at its end. */
static bool window(const struct virtio_dev *v, unsigned int off, unsigned int size,
		   unsigned int *reg, unsigned int *len)
{
	const uint8_t *cap = &v->pd.config[v->pci_cfg_cap];
	unsigned int data = v->pci_cfg_cap + sizeof(struct virtio_pci_cap);

	if (off >= data + 4 || off + size <= data || cap[VIRTIO_PCI_CAP_BAR] != REGS_BAR)
		return false;
	*reg = pci_get32(&v->pd, v->pci_cfg_cap + VIRTIO_PCI_CAP_OFFSET);
	*len = pci_get32(&v->pd, v->pci_cfg_cap + VIRTIO_PCI_CAP_LENGTH);
	return (*len == 1 || *len == 2 || *len == 4) && *reg < REGS_LEN && IS_ALIGNED(*reg, *len);
}

static void cfg_read(struct pci_dev *pd, unsigned int off, unsigned int size)
{
	struct virtio_dev *v = dev_of(pd);
	unsigned int reg, len;

	if (window(v, off, size, &reg, &len))
		pci_set32(pd, v->pci_cfg_cap + sizeof(struct virtio_pci_cap),
			  (uint32_t)regs_read(&pd->bar[REGS_BAR].range, reg, len));
}

static void cfg_write(struct pci_dev *pd, unsigned int off, unsigned int size)
{
	struct virtio_dev *v = dev_of(pd);
	unsigned int reg, len;

	if (off <= PCI_COMMAND && off + size > PCI_COMMAND)
		virtio_set_dma(v, pci_is_master(pd));
	if (!window(v, off, size, &reg, &len))
		return;
	if (reg >= NOTIFY_OFF) /* no promotion: this is not the doorbell's address */
		virtio_reg_notify(v, (reg - NOTIFY_OFF) / NOTIFY_STRIDE);
	else
		regs_write(&pd->bar[REGS_BAR].range, reg, len,
			   pci_get32(pd, v->pci_cfg_cap + sizeof(struct virtio_pci_cap)));
}

static int add_cap(struct virtio_dev *v, uint8_t type, uint32_t off, uint32_t len,
		   unsigned int size, struct err **e)
{
	int at = pci_add_cap(&v->pd, PCI_CAP_VENDOR, size);

	if (at < 0)
		return err_set(e, -at, "pci.capabilities", "no room for a virtio capability");
	v->pd.config[at + VIRTIO_PCI_CAP_LEN] = (uint8_t)size;
	v->pd.config[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	v->pd.config[at + VIRTIO_PCI_CAP_BAR] = REGS_BAR;
	pci_set32(&v->pd, (unsigned int)at + VIRTIO_PCI_CAP_OFFSET, off);
	pci_set32(&v->pd, (unsigned int)at + VIRTIO_PCI_CAP_LENGTH, len);
	return at;
}

static int add_caps(struct virtio_dev *v, struct err **e)
{
	const unsigned int plain = sizeof(struct virtio_pci_cap);
	int at;

	if (add_cap(v, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFF, 64, plain, e) < 0 ||
	    add_cap(v, VIRTIO_PCI_CAP_ISR_CFG, ISR_OFF, 1, plain, e) < 0)
		return -ENOSPC;
	if (v->config_len &&
	    add_cap(v, VIRTIO_PCI_CAP_DEVICE_CFG, CONFIG_OFF, v->config_len, plain, e) < 0)
		return -ENOSPC;
	at = add_cap(v, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFF, v->n_queues * NOTIFY_STRIDE,
		     plain + 4, e);
	if (at < 0)
		return at;
	pci_set32(&v->pd, (unsigned int)at + VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_STRIDE);
	at = add_cap(v, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, plain + 4, e);
	if (at < 0)
		return at;
	v->pci_cfg_cap = (unsigned int)at;
	/* the driver writes bar, offset, length and data */
	v->pd.wmask[at + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(&v->pd.wmask[at + VIRTIO_PCI_CAP_OFFSET], 0xff, 12);
	return 0;
}

int virtio_pci_plug(struct virtio_dev *v, struct vm *vm, struct err **e)
{
	int r;

	v->transport = &pci_transport;
	v->pd.cfg_read = cfg_read;
	v->pd.cfg_write = cfg_write;
	v->pd.bar_moved = bar_moved;
	r = pci_add_bar(&v->pd, REGS_BAR, PCI_BAR_MEM32, REGS_LEN, &regs_ops, e);
	if (r == 0)
		r = msix_init(&v->pd, v->n_queues + 1, MSIX_BAR, e);
	if (r == 0)
		r = add_caps(v, e);
	if (r < 0)
		return r;
	return pci_plug(&v->pd, vm_pci(vm), -1, e);
}

void virtio_pci_unplug(struct virtio_dev *v)
{
	for (unsigned int i = 0; i < v->n_queues; i++)
		doorbell_demote(&v->q[i].bell);
	pci_unplug(&v->pd);
}
