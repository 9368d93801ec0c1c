/* IOAPIC in user space: 24 pins, a message for each.  Thread: own lock; see ioapic.h. */
#include <string.h>
#include "base/save.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"
#include "vmm/devices/ioapic.h"
#include "vmm/irq_core.h"
#include "vmm/vm.h"

#define N_PINS	     24
#define VERSION	     0x20 /* with an EOI register */
#define RED_VECTOR   0xffULL
#define RED_MODE(r)  ((r) >> 8 & 7)
#define RED_LOGICAL  (1ULL << 11)
#define RED_STATUS   (1ULL << 12)
#define RED_IRR	     (1ULL << 14) /* a level interrupt is with a CPU */
#define RED_LEVEL    (1ULL << 15)
#define RED_MASK     (1ULL << 16)
#define RED_RO	     (RED_STATUS | RED_IRR)
#define RED_WRITABLE (0xff000000000187ffULL | RED_LEVEL | 1ULL << 13 | RED_LOGICAL)
#define RED_RESET    RED_MASK

struct ioapic {
	struct dev dev;
	struct bus_range range;
	uint8_t index, id;
	uint64_t red[N_PINS];
	uint32_t level; /* lines as devices drive them */
	uint32_t edge; /* rising edges that came while masked (delivered at unmask, as ISA drivers expect) */
};

static void message(uint64_t red, uint64_t *addr, uint32_t *data)
{
	*addr = 0xfee00000 | (red >> 56) << 12 | (red & RED_LOGICAL ? 1 << 2 : 0);
	*data = (uint32_t)(red & RED_VECTOR) | (uint32_t)RED_MODE(red) << 8 |
		(red & RED_LEVEL ? 1U << 15 | 1U << 14 : 0);
}

/* Deliver the pin if it asks for it and may. */
static void service(struct ioapic *s, unsigned int pin)
{
	uint64_t red = s->red[pin], addr;
	uint32_t bit = 1U << pin, data;

	if (red & RED_MASK)
		return;
	if (red & RED_LEVEL ? !(s->level & bit) || red & RED_IRR : !(s->edge & bit))
		return;
	s->edge &= ~bit;
	if (red & RED_LEVEL)
		s->red[pin] |= RED_IRR;
	message(red, &addr, &data);
	irq_msi(s->dev.vm, addr, data);
}

void ioapic_set_pin(struct dev *d, unsigned int pin, bool level)
{
	struct ioapic *s = container_of(d, struct ioapic, dev);
	uint32_t bit = 1U << pin;

	pthread_mutex_lock(&d->lock);
	if (level && !(s->level & bit))
		s->edge |= bit;
	s->level = level ? s->level | bit : s->level & ~bit;
	service(s, pin);
	pthread_mutex_unlock(&d->lock);
}

void ioapic_eoi(struct dev *d, uint8_t vector)
{
	struct ioapic *s = container_of(d, struct ioapic, dev);

	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < N_PINS; i++) {
		if ((s->red[i] & RED_VECTOR) != vector || !(s->red[i] & RED_IRR))
			continue;
		s->red[i] &= ~RED_IRR;
		service(s, i);
	}
	pthread_mutex_unlock(&d->lock);
}

static void route(struct ioapic *s, unsigned int pin)
{
	uint64_t addr;
	uint32_t data;

	message(s->red[pin], &addr, &data);
	irq_set_pin_route(s->dev.vm, pin, (s->red[pin] & (RED_LEVEL | RED_MASK)) == RED_LEVEL, addr,
			  data);
}

static uint32_t reg_read(struct ioapic *s)
{
	switch (s->index) {
	case 0:
	case 2:
		return (uint32_t)s->id << 24;
	case 1:
		return VERSION | (N_PINS - 1) << 16;
	}
	if (s->index >= 0x10 && s->index < 0x10 + 2 * N_PINS) {
		uint64_t red = s->red[(s->index - 0x10) / 2];

		return (uint32_t)(s->index & 1 ? red >> 32 : red);
	}
	return 0;
}

static void reg_write(struct ioapic *s, uint32_t v)
{
	unsigned int pin;
	uint64_t red;

	if (s->index == 0)
		s->id = v >> 24 & 0xf;
	if (s->index < 0x10 || s->index >= 0x10 + 2 * N_PINS)
		return;
	pin = (s->index - 0x10) / 2;
	red = s->red[pin];
	if (s->index & 1)
		red = (red & 0xffffffff) | (uint64_t)v << 32;
	else
		red = (red & ~0xffffffffULL) | v;
	red = (red & RED_WRITABLE) | (s->red[pin] & RED_RO);
	if (!(red & RED_LEVEL))
		red &= ~RED_IRR;
	s->red[pin] = red;
	route(s, pin);
	service(s, pin);
}

static uint64_t ioapic_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct ioapic *s = container_of(r, struct ioapic, range);

	switch (off) {
	case 0x00:
		return s->index;
	case 0x10:
		return reg_read(s);
	}
	return 0;
}

static void ioapic_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	struct ioapic *s = container_of(r, struct ioapic, range);

	switch (off) {
	case 0x00:
		s->index = (uint8_t)v;
		break;
	case 0x10:
		reg_write(s, (uint32_t)v);
		break;
	case 0x40: /* EOI register */
		for (unsigned int i = 0; i < N_PINS; i++) {
			if ((s->red[i] & RED_VECTOR) == (v & 0xff) && s->red[i] & RED_IRR) {
				s->red[i] &= ~RED_IRR;
				service(s, i);
			}
		}
		break;
	}
}

static const struct bus_ops ioapic_bus = { ioapic_read, ioapic_write };

static void ioapic_reset(struct dev *d)
{
	struct ioapic *s = container_of(d, struct ioapic, dev);

	s->index = 0;
	s->id = 0;
	s->edge = 0;
	for (unsigned int i = 0; i < N_PINS; i++) {
		s->red[i] = RED_RESET;
		route(s, i);
	}
}

static int ioapic_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct ioapic *s = container_of(d, struct ioapic, dev);

	for (unsigned int i = 0; i < N_PINS; i++)
		s->red[i] = RED_RESET;
	return 0;
}

static int ioapic_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct ioapic *s = container_of(d, struct ioapic, dev);

	s->range = (struct bus_range){ .base = IOAPIC_BASE,
				       .size = 0x1000,
				       .ops = &ioapic_bus,
				       .owner = d,
				       .name = "ioapic" };
	return bus_add(vm_mmio(vm), &s->range, e);
}

static void ioapic_unplug(struct dev *d)
{
	struct ioapic *s = container_of(d, struct ioapic, dev);

	bus_remove(vm_mmio(d->vm), &s->range);
}

static int ioapic_after_load(void *obj, uint32_t version, struct err **e)
{
	struct ioapic *s = obj;

	for (unsigned int i = 0; i < N_PINS; i++) {
		s->red[i] &= RED_WRITABLE | RED_RO;
		route(s, i);
	}
	return 0;
}

static const struct save_field ioapic_fields[] = {
	SAVE(struct ioapic, index, U8, 1),	SAVE(struct ioapic, id, U8, 1),
	SAVE_ARRAY(struct ioapic, red, U64, 1), SAVE(struct ioapic, level, U32, 1),
	SAVE(struct ioapic, edge, U32, 1),
};
static const struct save_desc ioapic_save =
	SAVE_DESC("ioapic", 1, 1, ioapic_fields, .after_load = ioapic_after_load);

const struct device_ops dev_ioapic = {
	.type = "ioapic",
	.instance_size = sizeof(struct ioapic),
	.construct = ioapic_construct,
	.plug = ioapic_plug,
	.unplug = ioapic_unplug,
	.reset = ioapic_reset,
	.state = &ioapic_save,
};
