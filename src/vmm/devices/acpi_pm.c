/* ACPI fixed hardware: PM1 event and control, PM timer, GPE0.             Spec: ACPI 6.4, 4.8.
 * SCI is a level interrupt.  SMI_CMD is absent from the FADT: SCI_EN is always 1. */
#include <string.h>
#include "base/clock.h"
#include "base/save.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/irq.h"
#include "vmm/vm.h"

#define TIMER_HZ   3579545
#define STS_PWRBTN (1U << 8)
#define STS_ALL	   (1U << 0 | 1U << 4 | 1U << 5 | STS_PWRBTN | 1U << 9 | 1U << 10 | 1U << 15)
#define EN_ALL	   (1U << 0 | 1U << 5 | STS_PWRBTN | 1U << 9 | 1U << 10)
#define CNT_SCI_EN 1U
#define CNT_SLP_EN (1U << 13)
#define SLP_TYP(v) ((v) >> 10 & 7)
#define SLP_TYP_S5 5

struct acpi_pm {
	struct dev dev;
	struct bus_range range;
	uint16_t sts, en, cnt, gpe_sts, gpe_en;
	nsec_t start;	   /* of the timer */
	uint64_t timer_ns; /* its age, as saved */
};

static struct acpi_pm *pm_of(struct dev *d)
{
	return container_of(d, struct acpi_pm, dev);
}

static void update(struct acpi_pm *p)
{
	irq_set(p->dev.vm, IRQ_SCI, (p->sts & p->en & EN_ALL) || (p->gpe_sts & p->gpe_en));
}

static uint32_t ticks(const struct acpi_pm *p)
{
	unsigned __int128 ns = (uint64_t)(now_mono() - p->start);

	return (uint32_t)(ns * TIMER_HZ / NSEC_PER_SEC);
}

/* Registers are bytes to the bus; the guest may read them at any width. */
static uint8_t reg_byte(struct acpi_pm *p, uint64_t off, uint32_t timer)
{
	switch (off) {
	case 0x00:
	case 0x01:
		return (uint8_t)(p->sts >> 8 * (off & 1));
	case 0x02:
	case 0x03:
		return (uint8_t)(p->en >> 8 * (off & 1));
	case 0x04:
	case 0x05:
		return (uint8_t)((p->cnt | CNT_SCI_EN) >> 8 * (off & 1));
	case 0x08:
	case 0x09:
	case 0x0a:
	case 0x0b:
		return (uint8_t)(timer >> 8 * (off & 3));
	case 0x20:
	case 0x21:
		return (uint8_t)(p->gpe_sts >> 8 * (off & 1));
	case 0x22:
	case 0x23:
		return (uint8_t)(p->gpe_en >> 8 * (off & 1));
	}
	return 0;
}

static uint64_t pm_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct acpi_pm *p = container_of(r, struct acpi_pm, range);
	uint32_t timer = off < 0xc && off + size > 8 ? ticks(p) : 0;
	uint64_t v = 0;

	for (unsigned int i = 0; i < size; i++)
		v |= (uint64_t)reg_byte(p, off + i, timer) << 8 * i;
	return v;
}

static void merge(uint16_t *reg, uint64_t off, uint8_t v)
{
	unsigned int shift = 8 * (off & 1);

	*reg = (uint16_t)((*reg & ~(0xff << shift)) | v << shift);
}

static void pm_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *p = container_of(r, struct acpi_pm, range);
	bool cnt_written = false;

	for (unsigned int i = 0; i < size; i++, off++) {
		uint8_t v = (uint8_t)(value >> 8 * i);

		switch (off) {
		case 0x00:
		case 0x01:
			p->sts &= (uint16_t) ~(v << 8 * (off & 1));
			break;
		case 0x02:
		case 0x03:
			merge(&p->en, off, v);
			break;
		case 0x04:
		case 0x05:
			merge(&p->cnt, off, v);
			cnt_written = true;
			break;
		case 0x20:
		case 0x21:
			p->gpe_sts &= (uint16_t) ~(v << 8 * (off & 1));
			break;
		case 0x22:
		case 0x23:
			merge(&p->gpe_en, off, v);
			break;
		}
	}
	if (cnt_written && p->cnt & CNT_SLP_EN) {
		if (SLP_TYP(p->cnt) == SLP_TYP_S5)
			vm_notify(p->dev.vm, VM_EVENT_POWEROFF, 0);
		p->cnt &= (uint16_t)~CNT_SLP_EN; /* write-only */
	}
	update(p);
}

static const struct bus_ops pm_bus = { pm_read, pm_write };

void acpi_pm_power_button(struct dev *d)
{
	pthread_mutex_lock(&d->lock);
	pm_of(d)->sts |= STS_PWRBTN;
	update(pm_of(d));
	pthread_mutex_unlock(&d->lock);
}

void acpi_pm_gpe(struct dev *d, unsigned int bit)
{
	pthread_mutex_lock(&d->lock);
	pm_of(d)->gpe_sts |= (uint16_t)(1U << bit);
	update(pm_of(d));
	pthread_mutex_unlock(&d->lock);
}

static void pm_reset(struct dev *d)
{
	struct acpi_pm *p = pm_of(d);

	p->sts = p->en = p->cnt = p->gpe_sts = p->gpe_en = 0;
	p->start = now_mono();
	update(p);
}

static int pm_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	pm_of(d)->start = now_mono();
	return 0;
}

static int pm_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct acpi_pm *p = pm_of(d);

	p->range = (struct bus_range){
		.base = PORT_ACPI_PM, .size = 0x40, .ops = &pm_bus, .owner = d, .name = "acpi-pm"
	};
	return bus_add(vm_pio(vm), &p->range, e);
}

static void pm_unplug(struct dev *d)
{
	bus_remove(vm_pio(d->vm), &pm_of(d)->range);
}

static void pm_before_save(void *obj)
{
	struct acpi_pm *p = obj;

	p->timer_ns = (uint64_t)(now_mono() - p->start);
}

static int pm_after_load(void *obj, uint32_t version, struct err **e)
{
	struct acpi_pm *p = obj;

	p->start = (nsec_t)((uint64_t)now_mono() - p->timer_ns);
	p->sts &= STS_ALL;
	update(p);
	return 0;
}

static const struct save_field pm_fields[] = {
	SAVE(struct acpi_pm, sts, U16, 1),    SAVE(struct acpi_pm, en, U16, 1),
	SAVE(struct acpi_pm, cnt, U16, 1),    SAVE(struct acpi_pm, gpe_sts, U16, 1),
	SAVE(struct acpi_pm, gpe_en, U16, 1), SAVE(struct acpi_pm, timer_ns, U64, 1),
};
static const struct save_desc pm_save = SAVE_DESC(
	"acpi-pm", 1, 1, pm_fields, .before_save = pm_before_save, .after_load = pm_after_load);

const struct device_ops dev_acpi_pm = {
	.type = "acpi-pm",
	.instance_size = sizeof(struct acpi_pm),
	.construct = pm_construct,
	.plug = pm_plug,
	.unplug = pm_unplug,
	.reset = pm_reset,
	.state = &pm_save,
};
