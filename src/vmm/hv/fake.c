/* A hypervisor without a CPU: it keeps what it is told and plays a script of exits.  See fake.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/arch/x86/state.h"
#include "vmm/hv/fake.h"

static int may_fail(struct hv_vm *h)
{
	struct fake_vm *f = fake_vm_of(h);

	return f->fail_after && --f->fail_after == 0 ? -EIO : 0;
}

static int fake_vm_new(int fd, struct hv_vm **ret, struct err **e)
{
	struct fake_vm *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	f->hv.ops = &hv_fake;
	pthread_mutex_init(&f->lock, NULL);
	*ret = &f->hv;
	return 0;
}

static void fake_vm_free(struct hv_vm *h)
{
	struct fake_vm *f = fake_vm_of(h);

	if (!f)
		return;
	vec_done(&f->msis);
	vec_done(&f->slots);
	vec_done(&f->irqfds);
	vec_done(&f->doorbells);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static int fake_memslot(struct hv_vm *h, uint32_t slot, gpa_t gpa, uint64_t size, void *host,
			bool readonly, bool log, struct err **e)
{
	struct fake_vm *f = fake_vm_of(h);
	struct fake_slot s = { slot, gpa, size, readonly, log };

	if (may_fail(h) < 0)
		return err_set(e, EIO, "fake.memslot", "memslot %u refused", slot);
	for (size_t i = 0; i < f->slots.n; i++) {
		if (f->slots.v[i].slot == slot) {
			f->slots.v[i] = s;
			return 0;
		}
	}
	return vec_push(&f->slots, s);
}

static int fake_irqchip(struct hv_vm *h, enum hv_irqchip kind, struct err **e)
{
	if (may_fail(h) < 0)
		return err_set(e, EIO, "fake.irqchip", "irqchip refused");
	fake_vm_of(h)->has_irqchip = true;
	fake_vm_of(h)->irqchip = kind;
	return 0;
}

static int fake_msi(struct hv_vm *h, uint64_t addr, uint32_t data)
{
	struct fake_vm *f = fake_vm_of(h);
	struct fake_msi m = { addr, data };
	int r;

	pthread_mutex_lock(&f->lock);
	r = vec_push(&f->msis, m);
	pthread_mutex_unlock(&f->lock);
	return r;
}

static int fake_line(struct hv_vm *h, unsigned int gsi, bool level)
{
	if (gsi >= ARRAY_SIZE(fake_vm_of(h)->lines))
		return -EINVAL;
	fake_vm_of(h)->lines[gsi] = level;
	return 0;
}

static int fake_routes(struct hv_vm *h, const struct hv_route *r, unsigned int n)
{
	struct fake_vm *f = fake_vm_of(h);
	int ret = may_fail(h);

	if (ret < 0)
		return ret;
	f->n_routes = MIN(n, (unsigned int)ARRAY_SIZE(f->routes));
	memcpy(f->routes, r, f->n_routes * sizeof(*r));
	f->n_route_updates++;
	return 0;
}

static int fake_irqfd(struct hv_vm *h, unsigned int gsi, int fd, bool on)
{
	struct fake_vm *f = fake_vm_of(h);
	struct fake_fd x = { gsi, fd };
	uint64_t n;

	if (!on) {
		for (size_t i = 0; i < f->irqfds.n; i++)
			if (f->irqfds.v[i].gsi == gsi && f->irqfds.v[i].fd == fd)
				vec_remove(&f->irqfds, i);
		return 0;
	}
	if (may_fail(h) < 0)
		return -EIO;
	/* The kernel looks at the counter when it takes an eventfd, and injects what waits. */
	if (gsi < f->n_routes && f->routes[gsi].kind == HV_ROUTE_MSI &&
	    read(fd, &n, sizeof(n)) == 8)
		fake_msi(h, f->routes[gsi].addr, f->routes[gsi].data);
	return vec_push(&f->irqfds, x);
}

static int fake_ioeventfd(struct hv_vm *h, const struct doorbell *d, bool on)
{
	struct fake_vm *f = fake_vm_of(h);

	if (on)
		return may_fail(h) < 0 ? -EIO : vec_push(&f->doorbells, *d);
	for (size_t i = 0; i < f->doorbells.n; i++) {
		if (f->doorbells.v[i].addr == d->addr && f->doorbells.v[i].fd == d->fd) {
			vec_remove(&f->doorbells, i);
			return 0;
		}
	}
	return -ENOENT;
}

static int fake_dirty_log(struct hv_vm *h, uint32_t slot, uint64_t *bitmap, size_t words)
{
	return 0;
}

static int fake_vcpu_new(struct hv_vm *h, unsigned int id, struct hv_vcpu **ret, struct err **e)
{
	struct fake_vcpu *c = calloc(1, sizeof(*c));

	if (c)
		c->state = calloc(1, sizeof(*c->state));
	if (!c || !c->state || may_fail(h) < 0) {
		if (c)
			free(c->state);
		free(c);
		return err_set(e, ENOMEM, "fake.vcpu", "vCPU %u refused", id);
	}
	c->hv = (struct hv_vcpu){ .ops = &hv_fake, .vm = h, .id = id };
	*ret = &c->hv;
	return 0;
}

static void fake_vcpu_free(struct hv_vcpu *v)
{
	struct fake_vcpu *c = fake_vcpu_of(v);

	if (!c)
		return;
	vec_done(&c->script);
	free(c->state);
	free(c);
}

static void fake_vcpu_run(struct hv_vcpu *v, struct hv_exit *x)
{
	struct fake_vcpu *c = fake_vcpu_of(v);
	struct fake_exit *s;

	if (c->reading) { /* what the VMM answered to the last read */
		memcpy(&c->script.v[c->next - 1].data, c->buf, sizeof(c->buf));
		c->reading = false;
	}
	/* An empty script is a halted CPU: it sleeps until it is kicked, without burning the host's time. */
	while (!c->kicked && c->next == c->script.n)
		usleep(200);
	if (c->kicked) {
		x->kind = HV_EXIT_KICKED;
		return;
	}
	s = &c->script.v[c->next++];
	memset(x, 0, sizeof(*x));
	memset(c->buf, 0, sizeof(c->buf));
	if (s->write)
		memcpy(c->buf, &s->data, sizeof(c->buf));
	*x = (struct hv_exit){ .kind = s->kind,
			       .write = s->write,
			       .size = s->size,
			       .count = 1,
			       .addr = s->addr,
			       .data = c->buf };
	c->reading = !s->write && (s->kind == HV_EXIT_PIO || s->kind == HV_EXIT_MMIO);
}

static void fake_vcpu_kick(struct hv_vcpu *v, bool on)
{
	fake_vcpu_of(v)->kicked = on;
}

static int fake_cpuid_supported(struct hv_vm *h, struct x86_cpuid **ret, struct err **e)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

static int fake_vcpu_set_cpuid(struct hv_vcpu *c, const struct x86_cpuid *id, struct err **e)
{
	return 0;
}

static int fake_vcpu_get(struct hv_vcpu *c, struct x86_vcpu_state *s, struct err **e)
{
	*s = *fake_vcpu_of(c)->state;
	return 0;
}

static int fake_vcpu_set(struct hv_vcpu *c, const struct x86_vcpu_state *s, struct err **e)
{
	*fake_vcpu_of(c)->state = *s;
	return 0;
}

static int fake_vcpu_tsc_khz(struct hv_vcpu *c)
{
	return 1000000;
}

static int fake_vm_get(struct hv_vm *h, struct x86_vm_state *s, struct err **e)
{
	return 0;
}

static int fake_vm_set(struct hv_vm *h, const struct x86_vm_state *s, struct err **e)
{
	return 0;
}

static void fake_vcpu_paused(struct hv_vcpu *c)
{
}

const struct hv_ops hv_fake = {
	.name = "fake",
	.vm_new = fake_vm_new,
	.vm_free = fake_vm_free,
	.memslot = fake_memslot,
	.irqchip = fake_irqchip,
	.msi = fake_msi,
	.line = fake_line,
	.routes = fake_routes,
	.irqfd = fake_irqfd,
	.ioeventfd = fake_ioeventfd,
	.dirty_log = fake_dirty_log,
	.vcpu_new = fake_vcpu_new,
	.vcpu_free = fake_vcpu_free,
	.vcpu_run = fake_vcpu_run,
	.vcpu_kick = fake_vcpu_kick,
	.cpuid_supported = fake_cpuid_supported,
	.vcpu_set_cpuid = fake_vcpu_set_cpuid,
	.vcpu_get = fake_vcpu_get,
	.vcpu_set = fake_vcpu_set,
	.vcpu_tsc_khz = fake_vcpu_tsc_khz,
	.vm_get = fake_vm_get,
	.vm_set = fake_vm_set,
	.vcpu_paused = fake_vcpu_paused,
};
