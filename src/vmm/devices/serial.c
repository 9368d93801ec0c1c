/* 16550A UART, COM1.                                     Spec: National Semiconductor PC16550D.
 * Between: the console (console.h); IRQ 4.  Thread: registers on vCPU threads, input on main, both under the lock. */
#include <errno.h>
#include "base/save.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/irq.h"
#include "vmm/vm.h"

#define FIFO 16

#define IER_RX	     0x01
#define IER_TX	     0x02
#define IER_LINE     0x04
#define IIR_NONE     0x01
#define IIR_TX	     0x02
#define IIR_RX	     0x04
#define IIR_LINE     0x06
#define IIR_TIMEOUT  0x0c
#define IIR_FIFO     0xc0
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define LCR_DLAB     0x80
#define MCR_LOOP     0x10
#define LSR_DR	     0x01
#define LSR_OE	     0x02
#define LSR_THRE     0x20
#define LSR_TEMT     0x40
#define MSR_IDLE     0xb0 /* CTS, DSR, DCD */

struct serial {
	struct dev dev;
	struct bus_range range;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool overrun, tx_pending; /* tx_pending: THRE interrupt not yet acknowledged */
	uint8_t fifo[FIFO];
	uint8_t n, at; /* bytes in fifo, index of the first */
	uint64_t out_bytes;
};

static unsigned int depth(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? FIFO : 1;
}

static uint8_t cause(const struct serial *s)
{
	if (s->ier & IER_LINE && s->overrun)
		return IIR_LINE;
	if (s->ier & IER_RX && s->n)
		return s->fcr & FCR_ENABLE && s->n < 8 ? IIR_TIMEOUT : IIR_RX;
	if (s->ier & IER_TX && s->tx_pending)
		return IIR_TX;
	return IIR_NONE;
}

static void update(struct serial *s)
{
	irq_set(s->dev.vm, IRQ_COM1, cause(s) != IIR_NONE);
}

static void receive(struct serial *s, uint8_t c)
{
	if (s->n == depth(s)) {
		s->overrun = true;
		return;
	}
	s->fifo[(s->at + s->n++) % FIFO] = c;
}

static size_t take_input(void *arg, const uint8_t *data, size_t len)
{
	struct serial *s = arg;
	size_t n = 0;

	pthread_mutex_lock(&s->dev.lock);
	while (n < len && s->n < depth(s) && !(s->mcr & MCR_LOOP))
		receive(s, data[n++]);
	update(s);
	pthread_mutex_unlock(&s->dev.lock);
	return n;
}

static uint8_t read_rx(struct serial *s)
{
	uint8_t c = 0;

	if (s->n) {
		c = s->fifo[s->at];
		s->at = (s->at + 1) % FIFO;
		if (--s->n == 0 && vm_console(s->dev.vm))
			console_input_ready(vm_console(s->dev.vm));
	}
	return c;
}

static uint64_t serial_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct serial *s = container_of(r, struct serial, range);
	uint8_t v = 0;

	switch (off) {
	case 0:
		v = s->lcr & LCR_DLAB ? s->dll : read_rx(s);
		break;
	case 1:
		v = s->lcr & LCR_DLAB ? s->dlm : s->ier;
		break;
	case 2:
		v = cause(s);
		if (v == IIR_TX)
			s->tx_pending = false;
		v |= s->fcr & FCR_ENABLE ? IIR_FIFO : 0;
		break;
	case 3:
		v = s->lcr;
		break;
	case 4:
		v = s->mcr;
		break;
	case 5:
		v = LSR_THRE | LSR_TEMT | (s->n ? LSR_DR : 0) | (s->overrun ? LSR_OE : 0);
		s->overrun = false;
		break;
	case 6: /* in loopback the four outputs appear as the four inputs */
		v = s->mcr & MCR_LOOP ? (uint8_t)((s->mcr & 2) << 3 | (s->mcr & 1) << 5 |
						  (s->mcr & 4) << 4 | (s->mcr & 8) << 4)
				      : MSR_IDLE;
		break;
	case 7:
		v = s->scr;
		break;
	}
	update(s);
	return v;
}

static void serial_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t value)
{
	struct serial *s = container_of(r, struct serial, range);
	uint8_t v = (uint8_t)value;

	switch (off) {
	case 0:
		if (s->lcr & LCR_DLAB) {
			s->dll = v;
			break;
		}
		if (s->mcr & MCR_LOOP) {
			receive(s, v);
		} else {
			s->out_bytes++;
			if (vm_console(s->dev.vm))
				console_write(vm_console(s->dev.vm), &v, 1);
		}
		s->tx_pending = true; /* sent at once: empty again */
		break;
	case 1:
		if (s->lcr & LCR_DLAB) {
			s->dlm = v;
			break;
		}
		if (v & IER_TX && !(s->ier & IER_TX))
			s->tx_pending = true;
		s->ier = v & 0xf;
		break;
	case 2:
		if ((v ^ s->fcr) & FCR_ENABLE || v & FCR_CLEAR_RX)
			s->n = s->at = 0;
		s->fcr = v & 0xc9;
		break;
	case 3:
		s->lcr = v;
		break;
	case 4:
		s->mcr = v & 0x1f;
		break;
	case 7:
		s->scr = v;
		break;
	}
	update(s);
}

static const struct bus_ops serial_bus = { serial_read, serial_write };

static void serial_reset(struct dev *d)
{
	struct serial *s = container_of(d, struct serial, dev);

	s->ier = s->fcr = s->lcr = s->mcr = s->scr = s->dlm = 0;
	s->dll = 12; /* 9600 baud */
	s->n = s->at = 0;
	s->overrun = s->tx_pending = false;
	update(s);
}

static int serial_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	container_of(d, struct serial, dev)->dll = 12;
	return 0;
}

static int serial_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct serial *s = container_of(d, struct serial, dev);

	s->range = (struct bus_range){
		.base = PORT_COM1, .size = 8, .ops = &serial_bus, .owner = d, .name = "serial"
	};
	return bus_add(vm_pio(vm), &s->range, e);
}

static void serial_unplug(struct dev *d)
{
	if (vm_console(d->vm))
		console_set_input(vm_console(d->vm), NULL, NULL);
	bus_remove(vm_pio(d->vm), &container_of(d, struct serial, dev)->range);
}

static void serial_quiesce(struct dev *d)
{
	if (vm_console(d->vm))
		console_set_input(vm_console(d->vm), NULL, NULL);
}

static void serial_resume(struct dev *d)
{
	if (vm_console(d->vm)) {
		console_set_input(vm_console(d->vm), take_input,
				  container_of(d, struct serial, dev));
		console_input_ready(vm_console(d->vm));
	}
}

static void serial_stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	put(arg, "out_bytes", container_of(d, struct serial, dev)->out_bytes);
}

static int serial_after_load(void *obj, uint32_t version, struct err **e)
{
	struct serial *s = obj;

	if (s->n > FIFO || s->at >= FIFO)
		return err_set(e, EINVAL, "snapshot.device", "serial: queue out of range");
	s->mcr &= 0x1f;
	update(s);
	return 0;
}

static const struct save_field serial_fields[] = {
	SAVE(struct serial, ier, U8, 1),
	SAVE(struct serial, fcr, U8, 1),
	SAVE(struct serial, lcr, U8, 1),
	SAVE(struct serial, mcr, U8, 1),
	SAVE(struct serial, scr, U8, 1),
	SAVE(struct serial, dll, U8, 1),
	SAVE(struct serial, dlm, U8, 1),
	SAVE(struct serial, overrun, BOOL, 1),
	SAVE(struct serial, tx_pending, BOOL, 1),
	SAVE(struct serial, fifo, BYTES, 1),
	SAVE(struct serial, n, U8, 1),
	SAVE(struct serial, at, U8, 1),
};
static const struct save_desc serial_save =
	SAVE_DESC("serial", 1, 1, serial_fields, .after_load = serial_after_load);

const struct device_ops dev_serial = {
	.type = "serial",
	.instance_size = sizeof(struct serial),
	.construct = serial_construct,
	.plug = serial_plug,
	.unplug = serial_unplug,
	.reset = serial_reset,
	.quiesce = serial_quiesce,
	.resume = serial_resume,
	.state = &serial_save,
	.stats = serial_stats,
};
