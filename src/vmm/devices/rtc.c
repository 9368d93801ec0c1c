/* CMOS real-time clock.                                            Spec: Motorola MC146818A.
 * Time of day is the host's plus an offset that the guest sets.  Interrupts (IRQ 8): alarm and update by a 1 Hz
 * timer that runs only while they are enabled, periodic by another.  Thread: registers on vCPU threads, timers on
 * main, both under the lock; timers are (re)armed by a message to main. */
#include <errno.h>
#include <time.h>
#include "base/save.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/iothread.h"
#include "vmm/irq.h"
#include "vmm/vm.h"

#define A_RATE	 0x0f
#define A_UIP	 0x80
#define B_24H	 0x02
#define B_BINARY 0x04
#define B_UIE	 0x10
#define B_AIE	 0x20
#define B_PIE	 0x40
#define B_SET	 0x80
#define C_UF	 0x10
#define C_AF	 0x20
#define C_PF	 0x40
#define C_IRQF	 0x80
#define D_VALID	 0x80
#define CENTURY	 0x32

struct rtc {
	struct dev dev;
	struct bus_range range;
	uint8_t index;
	uint8_t cmos[128]; /* 0x0a..0x0c live; time registers only while B_SET holds the clock */
	uint64_t offset;   /* seconds, two's complement: guest time - host time */
	struct timer second, periodic;
	bool running; /* between resume and quiesce: timers may run */
	_Atomic bool posted;
};

static struct rtc *rtc_of(struct dev *d)
{
	return container_of(d, struct rtc, dev);
}

static void raise_flag(struct rtc *s, uint8_t flag)
{
	s->cmos[0xc] |= flag;
	if (s->cmos[0xb] & s->cmos[0xc] & (C_UF | C_AF | C_PF)) {
		s->cmos[0xc] |= C_IRQF;
		irq_set(s->dev.vm, IRQ_RTC, true);
	}
}

static uint8_t coded(const struct rtc *s, int v)
{
	return (uint8_t)(s->cmos[0xb] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int plain(const struct rtc *s, uint8_t v)
{
	return s->cmos[0xb] & B_BINARY ? v : (v >> 4) * 10 + (v & 0xf);
}

static uint8_t coded_hour(const struct rtc *s, int h)
{
	if (s->cmos[0xb] & B_24H)
		return coded(s, h);
	return coded(s, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0);
}

static int plain_hour(const struct rtc *s, uint8_t v)
{
	int h;

	if (s->cmos[0xb] & B_24H)
		return plain(s, v);
	h = plain(s, v & 0x7f) % 12;
	return v & 0x80 ? h + 12 : h;
}

static void guest_time(const struct rtc *s, struct tm *tm)
{
	utc_date((int64_t)((uint64_t)(now_real() / NSEC_PER_SEC) + s->offset), tm);
	/* A guest can set any offset; the registers have room for two digits of century. */
	tm->tm_year = CLAMP(tm->tm_year, -1900, 8099);
}

static uint8_t time_register(const struct rtc *s, unsigned int i)
{
	struct tm tm;

	if (s->cmos[0xb] & B_SET)
		return s->cmos[i];
	guest_time(s, &tm);
	switch (i) {
	case 0:
		return coded(s, tm.tm_sec);
	case 2:
		return coded(s, tm.tm_min);
	case 4:
		return coded_hour(s, tm.tm_hour);
	case 6:
		return coded(s, tm.tm_wday + 1);
	case 7:
		return coded(s, tm.tm_mday);
	case 8:
		return coded(s, tm.tm_mon + 1);
	case 9:
		return coded(s, tm.tm_year % 100);
	case CENTURY:
		return coded(s, 19 + tm.tm_year / 100);
	}
	return s->cmos[i];
}

static bool is_time(unsigned int i)
{
	return i == 0 || i == 2 || i == 4 || (i >= 6 && i <= 9) || i == CENTURY;
}

/* The clock goes on from what the time registers say. */
static void set_time(struct rtc *s)
{
	int64_t year = 100 * plain(s, s->cmos[CENTURY]) + plain(s, s->cmos[9]);
	int64_t days = utc_days(year, CLAMP(plain(s, s->cmos[8]), 1, 12), plain(s, s->cmos[7]));
	int64_t t = days * 86400 + plain_hour(s, s->cmos[4]) * 3600 + plain(s, s->cmos[2]) * 60 +
		    plain(s, s->cmos[0]);

	s->offset = (uint64_t)t - (uint64_t)(now_real() / NSEC_PER_SEC);
}

static void on_second(struct timer *t)
{
	struct rtc *s = container_of(t, struct rtc, second);
	struct tm tm;

	pthread_mutex_lock(&s->dev.lock);
	guest_time(s, &tm);
	raise_flag(s, C_UF);
	/* 0xc0 and above: any value matches */
	if ((s->cmos[1] >= 0xc0 || plain(s, s->cmos[1]) == tm.tm_sec) &&
	    (s->cmos[3] >= 0xc0 || plain(s, s->cmos[3]) == tm.tm_min) &&
	    (s->cmos[5] >= 0xc0 || plain_hour(s, s->cmos[5]) == tm.tm_hour))
		raise_flag(s, C_AF);
	pthread_mutex_unlock(&s->dev.lock);
}

static void on_periodic(struct timer *t)
{
	struct rtc *s = container_of(t, struct rtc, periodic);

	pthread_mutex_lock(&s->dev.lock);
	raise_flag(s, C_PF);
	pthread_mutex_unlock(&s->dev.lock);
}

/* Main thread. */
static void rearm(void *arg)
{
	struct rtc *s = arg;
	uint8_t b, rate;

	s->posted = false;
	pthread_mutex_lock(&s->dev.lock);
	b = s->running ? s->cmos[0xb] : 0;
	rate = s->cmos[0xa] & A_RATE;
	pthread_mutex_unlock(&s->dev.lock);
	timer_stop(&s->second);
	timer_stop(&s->periodic);
	if (b & (B_UIE | B_AIE) && !(b & B_SET))
		timer_start(vm_main_loop(s->dev.vm), &s->second, "rtc",
			    NSEC_PER_SEC - now_real() % NSEC_PER_SEC, NSEC_PER_SEC, on_second);
	if (b & B_PIE && rate) {
		/* 32768 Hz / 2^(rate - 1); rates 1 and 2 are those of 8 and 9.  Not above 1024 Hz. */
		unsigned int shift = (rate < 3 ? rate + 7U : rate) - 1U;
		nsec_t period = (NSEC_PER_SEC << shift) / 32768;

		timer_start(vm_main_loop(s->dev.vm), &s->periodic, "rtc-periodic",
			    MAX(period, NSEC_PER_SEC / 1024), MAX(period, NSEC_PER_SEC / 1024),
			    on_periodic);
	}
}

static uint64_t rtc_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct rtc *s = container_of(r, struct rtc, range);
	uint8_t v;

	if (off == 0)
		return 0xff; /* the index register is write-only */
	if (is_time(s->index))
		return time_register(s, s->index);
	v = s->cmos[s->index];
	switch (s->index) {
	case 0xa:
		/* The last 244 us of a second: an update is near (only drivers that poll for it look). */
		if (!(s->cmos[0xb] & B_SET) && now_real() % NSEC_PER_SEC > NSEC_PER_SEC - 244000)
			v |= A_UIP;
		break;
	case 0xc:
		s->cmos[0xc] = 0;
		irq_set(s->dev.vm, IRQ_RTC, false);
		break;
	case 0xd:
		v = D_VALID;
		break;
	}
	return v;
}

static void rtc_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t value)
{
	struct rtc *s = container_of(r, struct rtc, range);
	uint8_t v = (uint8_t)value, old;

	if (off == 0) {
		s->index = v & 0x7f;
		return;
	}
	if (s->index == 0xc || s->index == 0xd)
		return;
	if (is_time(s->index) && !(s->cmos[0xb] & B_SET)) {
		/* Without SET the chip takes it at once. */
		for (unsigned int i = 0; i < sizeof(s->cmos); i++)
			if (is_time(i))
				s->cmos[i] = time_register(s, i);
		s->cmos[s->index] = v;
		set_time(s);
		return;
	}
	old = s->cmos[s->index];
	if (s->index == 0xb && v & B_SET && !(old & B_SET)) {
		for (unsigned int i = 0; i < sizeof(s->cmos); i++)
			if (is_time(i))
				s->cmos[i] = time_register(s, i);
		v &= (uint8_t)~B_UIE;
	}
	s->cmos[s->index] = s->index == 0xa ? v & 0x7f : v;
	if (s->index == 0xb && !(v & B_SET) && old & B_SET)
		set_time(s);
	if ((s->index == 0xa || s->index == 0xb) && v != old && !s->posted) {
		s->posted = true;
		loop_post(vm_main_loop(s->dev.vm), rearm, s);
	}
}

static const struct bus_ops rtc_bus = { rtc_read, rtc_write };

void rtc_set_cmos(struct dev *d, unsigned int index, uint8_t value)
{
	rtc_of(d)->cmos[index & 0x7f] = value;
}

static int rtc_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct rtc *s = rtc_of(d);

	s->cmos[0xa] = 0x26;
	s->cmos[0xb] = B_24H;
	return 0;
}

static void rtc_reset(struct dev *d)
{
	struct rtc *s = rtc_of(d);

	s->index = 0;
	s->cmos[0xb] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE); /* as RESET# does; time and CMOS stay */
	s->cmos[0xc] = 0;
	irq_set(d->vm, IRQ_RTC, false);
}

static int rtc_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct rtc *s = rtc_of(d);

	s->range = (struct bus_range){
		.base = PORT_RTC, .size = 2, .ops = &rtc_bus, .owner = d, .name = "rtc"
	};
	return bus_add(vm_pio(vm), &s->range, e);
}

static void rtc_unplug(struct dev *d)
{
	bus_remove(vm_pio(d->vm), &rtc_of(d)->range);
}

static void rtc_quiesce(struct dev *d)
{
	rtc_of(d)->running = false;
	rearm(rtc_of(d));
}

static void rtc_resume(struct dev *d)
{
	rtc_of(d)->running = true;
	rearm(rtc_of(d));
}

static int rtc_after_load(void *obj, uint32_t version, struct err **e)
{
	struct rtc *s = obj;

	s->index &= 0x7f;
	irq_set(s->dev.vm, IRQ_RTC, s->cmos[0xc] & C_IRQF);
	return 0;
}

static const struct save_field rtc_fields[] = {
	SAVE(struct rtc, index, U8, 1),
	SAVE(struct rtc, cmos, BYTES, 1),
	SAVE(struct rtc, offset, U64, 1),
};
static const struct save_desc rtc_save =
	SAVE_DESC("rtc", 1, 1, rtc_fields, .after_load = rtc_after_load);

const struct device_ops dev_rtc = {
	.type = "rtc",
	.instance_size = sizeof(struct rtc),
	.construct = rtc_construct,
	.plug = rtc_plug,
	.unplug = rtc_unplug,
	.reset = rtc_reset,
	.quiesce = rtc_quiesce,
	.resume = rtc_resume,
	.state = &rtc_save,
};
