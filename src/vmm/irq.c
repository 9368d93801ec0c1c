/* See irq.h.  The routing table: GSIs 0..23 are IOAPIC pins (messages with a split irqchip, pins of the chips with a
 * full one), the rest is handed out to irq_routes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <poll.h>
#include <unistd.h>
#include "vmm/devices/ioapic.h"
#include "vmm/irq_core.h"
#include "vmm/machine.h"

int irq_core_init(struct vm *vm, enum hv_irqchip kind, struct err **e)
{
	struct irq_core *ic = &vm->irq;

	ic->kind = kind;
	pthread_mutex_init(&ic->lock, NULL);
	ic->route = calloc(IRQ_GSI_MAX, sizeof(*ic->route));
	ic->used = calloc(IRQ_GSI_MAX, sizeof(*ic->used));
	if (!ic->route || !ic->used)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	ic->n = IRQ_PINS;
	if (kind == HV_IRQCHIP_FULL) {
		for (unsigned int i = 0; i < IRQ_PINS; i++) {
			/* GSI 2 is the timer on IOAPIC pin 2 while pin 0 is ISA IRQ 0's through the PIC. */
			ic->route[i] = (struct hv_route){ .kind = HV_ROUTE_IOAPIC, .pin = i };
		}
	}
	return 0;
}

void irq_core_done(struct vm *vm)
{
	struct irq_core *ic = &vm->irq;

	if (ic->route || ic->used)
		pthread_mutex_destroy(&ic->lock);
	free(ic->route);
	free(ic->used);
	*ic = (struct irq_core){ 0 };
}

static bool same_route(const struct hv_route *a, const struct hv_route *b)
{
	return a->kind == b->kind && a->pin == b->pin && a->addr == b->addr && a->data == b->data;
}

/* With the lock held. */
static int push_routes(struct vm *vm)
{
	return vm->hv->ops->routes(vm->hv, vm->irq.route, vm->irq.n);
}

int irq_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
	atomic_fetch_add_explicit(&vm->n_msi, 1, memory_order_relaxed);
	if (addr >> 20 != 0xfee)
		return -EINVAL;
	return vm->hv->ops->msi(vm->hv, addr, data);
}

void irq_set(struct vm *vm, unsigned int gsi, bool level)
{
	if (gsi >= IRQ_PINS)
		return;
	if (vm->irq.kind == HV_IRQCHIP_FULL)
		vm->hv->ops->line(vm->hv, gsi, level);
	else if (vm->ioapic)
		ioapic_set_pin(vm->ioapic, gsi, level);
}

void irq_pulse(struct vm *vm, unsigned int gsi)
{
	irq_set(vm, gsi, true);
	irq_set(vm, gsi, false);
}

void irq_set_pin_route(struct vm *vm, unsigned int pin, bool level_triggered, uint64_t addr,
		       uint32_t data)
{
	struct irq_core *ic = &vm->irq;
	struct hv_route r = { .kind = level_triggered ? HV_ROUTE_MSI : HV_ROUTE_NONE };

	if (level_triggered) {
		r.addr = addr;
		r.data = data;
	}
	pthread_mutex_lock(&ic->lock);
	if (!same_route(&ic->route[pin], &r)) {
		ic->route[pin] = r;
		push_routes(vm);
	}
	pthread_mutex_unlock(&ic->lock);
}

int irq_route_open(struct irq_route *r, struct vm *vm, struct err **e)
{
	struct irq_core *ic = &vm->irq;
	unsigned int gsi = IRQ_PINS;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return err_sys(e, errno, "make an eventfd for an interrupt");
	pthread_mutex_lock(&ic->lock);
	while (gsi < IRQ_GSI_MAX && ic->used[gsi])
		gsi++;
	if (gsi < IRQ_GSI_MAX)
		ic->used[gsi] = true;
	pthread_mutex_unlock(&ic->lock);
	if (gsi == IRQ_GSI_MAX) {
		close(fd);
		return err_set(e, ENOSPC, "irq.full", "no interrupt route is left");
	}
	*r = (struct irq_route){ .vm = vm, .fd = fd, .gsi = gsi, .open = true };
	return 0;
}

int irq_route_arm(struct irq_route *r, uint64_t addr, uint32_t data, struct err **e)
{
	struct vm *vm = r->vm;
	struct irq_core *ic = &vm->irq;
	struct hv_route want = { .kind = HV_ROUTE_MSI, .addr = addr, .data = data };
	int ret = 0;

	pthread_mutex_lock(&ic->lock);
	if (!same_route(&ic->route[r->gsi], &want)) {
		ic->route[r->gsi] = want;
		ic->n = MAX(ic->n, r->gsi + 1);
		ret = push_routes(vm);
	}
	if (ret == 0 && !r->armed)
		ret = vm->hv->ops->irqfd(vm->hv, r->gsi, r->fd, true);
	if (ret == 0)
		r->armed = true;
	pthread_mutex_unlock(&ic->lock);
	return ret < 0 ? err_sys(e, -ret, "route an interrupt") : 0;
}

void irq_route_disarm(struct irq_route *r)
{
	if (!r->open || !r->armed)
		return;
	pthread_mutex_lock(&r->vm->irq.lock);
	r->vm->hv->ops->irqfd(r->vm->hv, r->gsi, r->fd, false);
	r->armed = false;
	pthread_mutex_unlock(&r->vm->irq.lock);
}

bool irq_route_pending(const struct irq_route *r)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };

	return r->open && poll(&p, 1, 0) == 1;
}

void irq_route_close(struct irq_route *r)
{
	if (!r->open)
		return;
	irq_route_disarm(r);
	pthread_mutex_lock(&r->vm->irq.lock);
	r->vm->irq.used[r->gsi] = false;
	pthread_mutex_unlock(&r->vm->irq.lock);
	safe_close(r->fd);
	*r = (struct irq_route){ .fd = -1 };
}
