/* See vcpu.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define LOG_MODULE "vcpu"
#include "base/log.h"
#include "vmm/devices/ioapic.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"
#include "vmm/vcpu.h"

static struct ratelimit rl = LOG_RATE(1, 5);

static void on_signal(int signo)
{
	/* Only to make KVM_RUN return; immediate_exit was set by the one who sent it. */
}

static uint64_t get_le(const uint8_t *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, MIN(size, 8U));
	return v;
}

static void do_io(struct vm *vm, struct hv_exit *x, struct bus *bus)
{
	uint8_t *p = x->data;

	for (uint32_t i = 0; i < x->count; i++, p += x->size) {
		uint64_t v;
		bool claimed;

		if (x->write) {
			claimed = bus_write(bus, x->addr, x->size, get_le(p, x->size));
		} else {
			claimed = bus_read(bus, x->addr, x->size, &v);
			memcpy(p, &v, MIN(x->size, 8));
		}
		if (!claimed)
			atomic_fetch_add_explicit(&vm->unclaimed, 1, memory_order_relaxed);
	}
}

/* False: this vCPU will not run again until the machine is reset. */
static bool handle(struct vcpu *c, struct hv_exit *x)
{
	struct vm *vm = c->vm;

	switch (x->kind) {
	case HV_EXIT_PIO:
		do_io(vm, x, &vm->pio);
		return true;
	case HV_EXIT_MMIO:
		/* KVM can hand a guest's odd-sized access in one piece; devices see powers of two. */
		if (!is_pow2(x->size)) {
			struct hv_exit b = *x;

			for (b.size = 1; b.data < x->data + x->size; b.data++, b.addr++)
				do_io(vm, &b, &vm->mmio);
		} else {
			do_io(vm, x, &vm->mmio);
		}
		return true;
	case HV_EXIT_EOI:
		if (vm->ioapic)
			ioapic_eoi(vm->ioapic, (uint8_t)x->addr);
		return true;
	case HV_EXIT_HLT:
	case HV_EXIT_OTHER:
	case HV_EXIT_KICKED:
		return true;
	case HV_EXIT_SHUTDOWN:
		log_info("triple fault", "vcpu", c->id);
		vm_notify(vm, VM_EVENT_RESET, 0);
		return false;
	case HV_EXIT_FAIL:
	case HV_EXIT_KINDS:
		break;
	}
	log_err_rl(&rl, "vCPU cannot go on", "vcpu", c->id, "why", x->why);
	vm_notify(vm, VM_EVENT_ERROR, 0);
	return false;
}

/* Wait while the machine is parked, or for as long as this vCPU is stopped.  False: leave the thread.
 * A kick is sent with park_lock held and taken back here with it held, so none is lost. */
static bool may_run(struct vcpu *c)
{
	struct vm *vm = c->vm;
	bool counted = false, quit;

	pthread_mutex_lock(&vm->park_lock);
	while ((vm->park || c->stopped) && !vm->quit) {
		if (vm->park != counted) {
			counted = vm->park;
			vm->n_parked += counted ? 1 : -1U;
			pthread_cond_signal(&vm->parked_cond);
		}
		pthread_cond_wait(&vm->go_cond, &vm->park_lock);
	}
	vm->n_parked -= counted;
	quit = vm->quit;
	if (!quit)
		c->hv->ops->vcpu_kick(c->hv, false);
	pthread_mutex_unlock(&vm->park_lock);
	return !quit;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *c = arg;
	struct hv_exit x = { 0 };

	sandbox_enter(SANDBOX_VCPU);
	while (may_run(c)) {
		do {
			c->hv->ops->vcpu_run(c->hv, &x);
			atomic_store_explicit(&c->exits[x.kind], c->exits[x.kind] + 1,
					      memory_order_relaxed);
			if (!handle(c, &x))
				c->stopped = true;
		} while (x.kind != HV_EXIT_KICKED && !c->stopped);
	}
	return NULL;
}

int vcpus_new(struct vm *vm, unsigned int n, struct err **e)
{
	vm->vcpus = calloc(n, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (unsigned int i = 0; i < n; i++) {
		struct vcpu *c = &vm->vcpus[i];
		int r;

		c->vm = vm;
		c->id = i;
		r = vm->hv->ops->vcpu_new(vm->hv, i, &c->hv, e);
		if (r < 0)
			return r;
		vm->n_vcpus++;
	}
	return 0;
}

int vcpus_start(struct vm *vm, struct err **e)
{
	struct sigaction sa = { .sa_handler = on_signal };
	sigset_t block, old;

	sigaction(VCPU_SIGNAL, &sa, NULL);
	/* vCPU threads take the kick and nothing else. */
	sigfillset(&block);
	sigdelset(&block, VCPU_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	for (unsigned int i = 0; i < vm->n_vcpus; i++) {
		struct vcpu *c = &vm->vcpus[i];
		char name[16];
		int r;

		if (c->started)
			continue;
		r = pthread_create(&c->thread, NULL, vcpu_main, c);
		if (r) {
			pthread_sigmask(SIG_SETMASK, &old, NULL);
			return err_sys(e, r, "start the thread of vCPU %u", i);
		}
		c->started = true;
		snprintf(name, sizeof(name), "vcpu%u", i);
		pthread_setname_np(c->thread, name);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return 0;
}

static void kick_all(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->n_vcpus; i++) {
		struct vcpu *c = &vm->vcpus[i];

		if (!c->started)
			continue;
		c->hv->ops->vcpu_kick(c->hv, true);
		pthread_kill(c->thread, VCPU_SIGNAL);
	}
}

static unsigned int n_started(const struct vm *vm)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < vm->n_vcpus; i++)
		n += vm->vcpus[i].started;
	return n;
}

void vcpus_park(struct vm *vm)
{
	unsigned int n = n_started(vm);

	pthread_mutex_lock(&vm->park_lock);
	vm->park = true;
	pthread_cond_broadcast(&vm->go_cond); /* for stopped vCPUs, which count themselves now */
	kick_all(vm);
	while (vm->n_parked < n)
		pthread_cond_wait(&vm->parked_cond, &vm->park_lock);
	pthread_mutex_unlock(&vm->park_lock);
}

void vcpus_go(struct vm *vm)
{
	pthread_mutex_lock(&vm->park_lock);
	vm->park = false;
	pthread_cond_broadcast(&vm->go_cond);
	pthread_mutex_unlock(&vm->park_lock);
}

void vcpus_free(struct vm *vm)
{
	pthread_mutex_lock(&vm->park_lock);
	vm->quit = true;
	pthread_cond_broadcast(&vm->go_cond);
	kick_all(vm);
	pthread_mutex_unlock(&vm->park_lock);
	for (unsigned int i = 0; i < vm->n_vcpus; i++) {
		if (vm->vcpus[i].started)
			pthread_join(vm->vcpus[i].thread, NULL);
		vm->vcpus[i].hv->ops->vcpu_free(vm->vcpus[i].hv);
	}
	free(vm->vcpus);
	vm->vcpus = NULL;
	vm->n_vcpus = 0;
}
