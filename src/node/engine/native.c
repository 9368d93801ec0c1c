/* The native engine: strata-vmm on KVM, jailed.  Only where KVM runs unmodified guests at speed. */
#define LOG_MODULE "native"
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/rpc.h"
#include "base/str.h"
#include "ext/json.h"
#include "guest/guest.h"
#include "node/doctor.h"
#include "node/engine/vm.h"

/* Exit statuses of strata-vmm (DESIGN.md section 3). */
enum { VMM_OFF = 0, VMM_ERROR = 1, VMM_RESET = 3, VMM_PANIC = 4 };

struct request { /* replies come in the order of requests */
	struct list node;
	void (*done)(void *arg, const struct json *ret, struct err *e);
	void *arg;
};

struct native {
	struct vm vm; /* first */
	struct rpc_conn ctl;
	bool open;
	struct list requests;
};

static struct native *native_of(struct engine_instance *i)
{
	return container_of(vm_of(i), struct native, vm);
}

/* -- the control socket --------------------------------------------------------------------------- */

static void request_end(struct request *q, const struct json *ret, struct err *e)
{
	void (*done)(void *, const struct json *, struct err *) = q->done;
	void *arg = q->arg;

	list_del(&q->node);
	free(q);
	done(arg, ret, e);
}

static void ctl_close(struct vm *vm)
{
	struct native *n = native_of(&vm->i);

	if (n->open)
		rpc_conn_close(&n->ctl);
	n->open = false;
	while (n->requests.next && !list_empty(&n->requests)) {
		struct err *e = NULL;

		err_set(&e, EPIPE, "engine.gone", "strata-vmm is gone");
		request_end(list_entry(n->requests.next, struct request, node), NULL, e);
	}
}

static void on_frame(struct rpc_conn *c, struct rpc_frame *f)
{
	struct native *n = c->data;
	_cleanup_(json_freep) struct json *v = NULL;
	struct err *e = NULL;

	if (json_parse(buf_str(&f->text), f->text.len, NULL, &v, NULL) < 0 ||
	    list_empty(&n->requests)) {
		log_warn("strata-vmm's answer makes no sense", "instance", n->vm.i.name);
		ctl_close(&n->vm);
		return;
	}
	if (!json_bool(json_get(v, "ok"), false))
		err_set(&e, EIO, json_str(json_get(v, "id")) ?: "engine.vmm", "%s",
			json_str(json_get(v, "error")) ?: "strata-vmm refused");
	request_end(list_entry(n->requests.next, struct request, node), v, e);
}

static void on_closed(struct rpc_conn *c, int r)
{
	struct native *n = c->data;

	n->open = false;
	ctl_close(&n->vm);
}

static void ask(struct native *n, const char *verb,
		void (*done)(void *arg, const struct json *ret, struct err *e), void *arg)
{
	struct request *q = n->open ? calloc(1, sizeof(*q)) : NULL;
	char text[128];
	int len = snprintf(text, sizeof(text), "{\"verb\": \"%s\"}", verb);
	struct err *e = NULL;

	if (!q) {
		err_set(&e, ESRCH, "engine.monitor", "strata-vmm of '%s' does not answer",
			n->vm.i.name);
		done(arg, NULL, e);
		return;
	}
	q->done = done;
	q->arg = arg;
	list_add_tail(&n->requests, &q->node);
	if (rpc_conn_send(&n->ctl, text, (size_t)len, NULL, 0) < 0) {
		err_set(&e, EPIPE, "engine.gone", "strata-vmm is gone");
		request_end(q, NULL, e);
	}
}

static void answer(void *call, const struct json *ret, struct err *e)
{
	engine_done(call, e ? -err_num(e) : 0, e);
}

static void machine_made(void *vm, const struct json *ret, struct err *e)
{
	vm_ready(vm, e ? -err_num(e) : 0, e);
}

static int ctl_connect(struct vm *vm, int fd, struct err **e)
{
	struct native *n = native_of(&vm->i);
	int r;

	memset(&n->ctl, 0, sizeof(n->ctl));
	n->ctl.data = n;
	list_init(&n->requests);
	r = rpc_conn_open(&n->ctl, vm->i.env->loop, fd, on_frame, on_closed);
	if (r < 0)
		return err_sys(e, -r, "open strata-vmm's control socket");
	n->open = true;
	ask(n, "status", machine_made, vm);
	return 0;
}

static void power_button(struct vm *vm, struct engine_call *c)
{
	ask(native_of(&vm->i), "shutdown", answer, c);
}

/* -- the command line ----------------------------------------------------------------------------- */

struct args {
	VEC(char *) v;
	struct vm_command *out;
	int error;
};

static void add(struct args *a, const char *fmt, ...) _printf_(2, 3);
static void add(struct args *a, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		a->error = -ENOMEM;
	else if (vec_push(&a->v, s) < 0) {
		free(s);
		a->error = -ENOMEM;
	}
	va_end(ap);
}

static void keep(struct args *a, int fd)
{
	if (vec_push(&a->out->keep, fd) < 0)
		a->error = -ENOMEM;
}

static void disk(struct args *a, const struct plan_disk *d)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const struct api_disk_limits *l = &d->limits;

	buf_addf(&b, "path=%s,format=%s,serial=%s,id=%s", d->path, api_disk_format_str(d->format),
		 d->serial ?: d->id, d->id);
	if (d->readonly)
		buf_adds(&b, ",readonly");
	if (l->iops)
		buf_addf(&b, ",iops=%llu", (unsigned long long)l->iops->rate);
	if (l->bps)
		buf_addf(&b, ",bps=%llu", (unsigned long long)l->bps->rate);
	add(a, "--disk");
	add(a, "%s", buf_str(&b));
}

static void nic(struct args *a, const struct plan_nic *n)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_adds(&b, "tap=fd:");
	for (unsigned int q = 0; q < n->n_queues; q++) {
		buf_addf(&b, "%s%d", q ? "+" : "", n->tap[q]);
		keep(a, n->tap[q]);
	}
	buf_addf(&b, ",mac=%02x:%02x:%02x:%02x:%02x:%02x,id=%s", n->mac[0], n->mac[1], n->mac[2],
		 n->mac[3], n->mac[4], n->mac[5], n->id);
	if (n->mtu)
		buf_addf(&b, ",mtu=%u", n->mtu);
	add(a, "--net");
	add(a, "%s", buf_str(&b));
}

static int command(struct vm *vm, const struct engine_plan *p, const struct vm_sockets *s,
		   struct vm_command *ret, struct err **e)
{
	struct args a = { .out = ret };
	const struct plan_disk *d;
	const struct plan_nic *n;

	add(&a, "strata-vmm");
	add(&a, "run");
	add(&a, "--jail");
	if (p->restore) {
		add(&a, "--restore");
		add(&a, "%s", p->restore);
	} else if (p->kernel) {
		add(&a, "--kernel");
		add(&a, "%s", p->kernel);
		add(&a, "--append");
		add(&a, "%s", p->append ?: "");
		if (p->initrd) {
			add(&a, "--initrd");
			add(&a, "%s", p->initrd);
		}
	} else {
		add(&a, "--firmware");
		add(&a, "/usr/share/seabios/bios-256k.bin");
	}
	if (p->kernel)
		add(&a, "--no-reboot");
	add(&a, "--cpus");
	add(&a, "%llu", (unsigned long long)vm->cpus);
	add(&a, "--memory");
	add(&a, "%llu", (unsigned long long)vm->memory);
	add(&a, "--name");
	add(&a, "%s", p->hostname ?: "vm");
	if (p->spec->memory.hugepages)
		add(&a, "--hugepages");
	add(&a, "--rng");
	if (p->spec->vm.balloon)
		add(&a, "--balloon");
	add(&a, "--ctl");
	add(&a, "fd:%d", s->monitor);
	keep(&a, s->monitor);
	add(&a, "--console");
	add(&a, "socket:fd:%d", s->serial);
	keep(&a, s->serial);
	if (s->agent >= 0) {
		add(&a, "--port");
		add(&a, "name=" GUEST_PORT_NAME ",socket=fd:%d", s->agent);
		keep(&a, s->agent);
	}
	vec_for_each(d, &p->disks)
		disk(&a, d);
	if (p->seed) {
		struct plan_disk seed = { .id = (char *)"seed",
					  .path = p->seed,
					  .format = API_DISK_FORMAT_RAW,
					  .readonly = true };

		disk(&a, &seed);
	}
	vec_for_each(n, &p->nics)
		nic(&a, n);
	if (vec_push(&a.v, NULL) < 0)
		a.error = -ENOMEM;
	ret->argv = a.v.v;
	return a.error < 0 ? err_sys(e, ENOMEM, "strata-vmm's command line") : 0;
}

static bool explain(int status, int *code, const char **why)
{
	switch (status) {
	case VMM_RESET: /* panic=-1 of the guest's kernel ends so, too */
		*code = 255;
		*why = "the machine was reset before its command ended";
		return true;
	case VMM_PANIC:
		*code = 255;
		*why = "the guest's kernel panicked";
		return true;
	default:
		return false;
	}
}

/* The state comes with --restore: once the machine is made, it runs. */
static void restored(struct vm *vm)
{
	free(TAKE(vm->restore));
	vm_start_done(vm, 0, NULL);
}

static const struct vm_monitor monitor = {
	.command = command,
	.connect = ctl_connect,
	.close = ctl_close,
	.power_button = power_button,
	.restore = restored,
	.explain = explain,
};

/* -- operations ----------------------------------------------------------------------------------- */

static int attach(struct engine_instance *i, struct err **e)
{
	return vm_attach(i, &monitor);
}

static int usable(const struct engine_env *env, struct err **e)
{
	const char *reason;

	if (streq(doctor_engine(&reason), "native"))
		return 0;
	return err_set(e, ENOTSUP, "engine.unusable", "%s", reason);
}

static int check(const struct engine_env *env, const struct api_instance_spec *s, struct err **e)
{
	if (s->vm.boot == API_VM_BOOT_UEFI)
		return err_set(e, ENOTSUP, "engine.unsupported", "UEFI needs the QEMU engine");
	if (s->vm.display != API_VM_DISPLAY_NONE)
		return err_set(e, ENOTSUP, "engine.unsupported", "a screen needs the QEMU engine");
	for (size_t k = 0; k < s->disks.n; k++)
		if (s->disks.v[k].bus != API_DISK_BUS_VIRTIO)
			return err_set(e, ENOTSUP, "engine.unsupported",
				       "a disk on '%s' needs the QEMU engine",
				       api_disk_bus_str(s->disks.v[k].bus));
	for (size_t k = 0; k < s->nics.n; k++)
		if (s->nics.v[k].model != API_NIC_MODEL_VIRTIO)
			return err_set(e, ENOTSUP, "engine.unsupported",
				       "a NIC of model '%s' needs the QEMU engine",
				       api_nic_model_str(s->nics.v[k].model));
	return 0;
}

static void start(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c)
{
	vm_start(i, p, "kvm", c);
}

static void pause_vm(struct engine_instance *i, struct engine_call *c)
{
	if (!vm_gone(vm_of(i), c))
		ask(native_of(i), "pause", answer, c);
}

static void resume_vm(struct engine_instance *i, struct engine_call *c)
{
	if (!vm_gone(vm_of(i), c))
		ask(native_of(i), "resume", answer, c);
}

static void stats(struct engine_instance *i, struct api_instance_stats *ret, struct engine_call *c)
{
	if (vm_gone(vm_of(i), c))
		return;
	vm_stats(vm_of(i), ret);
	engine_done(c, 0, NULL);
}

static void update(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	struct err *e = NULL;
	int r;

	if (vm_gone(vm, c))
		return;
	r = vm_update_check(vm, p, &e);
	if (r == 0)
		r = vm_set_cpu(vm, p, &e);
	engine_done(c, r, e);
}

const struct engine_ops engine_native = {
	.name = "native",
	.vm = true,
	.instance_size = sizeof(struct native),
	.usable = usable,
	.check = check,
	.attach = attach,
	.detach = vm_detach,
	.prepare = vm_prepare,
	.start = start,
	.adopt = vm_adopt,
	.cleanup = vm_cleanup,
	.stop = vm_stop,
	.kill = vm_kill,
	.pause = pause_vm,
	.resume = resume_vm,
	.exec = vm_exec,
	.exec_resize = guestlink_exec_resize,
	.exec_free = guestlink_exec_free,
	.console = vm_console,
	.console_resize = vm_console_resize,
	.stats = stats,
	.update = update,
};
