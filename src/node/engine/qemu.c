/* The QEMU engine: on KVM where it runs guests at speed, else emulating. */
#define LOG_MODULE "qemu"
#include "node/engine/qemu.h"

#include <string.h>
#include "base/log.h"
#include "base/str.h"
#include "ext/json.h"
#include "node/doctor.h"
#include "node/engine/qemu_args.h"

bool qemu_gone(struct qemu *q, struct engine_call *c)
{
	struct err *e = NULL;

	if (vm_gone(&q->vm, c))
		return true;
	if (q->qmp)
		return false;
	engine_done(c,
		    err_set(&e, ESRCH, "engine.monitor", "the monitor of '%s' does not answer",
			    q->vm.i.name),
		    e);
	return true;
}

void qemu_answer(void *call, const struct json *ret, struct err *e)
{
	engine_done(call, e ? -err_num(e) : 0, e);
}

static void monitor_event(void *arg, const char *name, const struct json *data)
{
	struct qemu *q = arg;
	struct engine_instance *i = &q->vm.i;

	if (streq(name, "GUEST_PANICKED"))
		q->vm.panicked = true;
	else if (streq(name, "MIGRATION"))
		qemu_migration(q, json_str(json_get(data, "status")) ?: "");
	else if (q->vm.starting || q->saving || !i->events->on_change)
		return;
	else if (streq(name, "STOP"))
		i->events->on_change(i, "paused");
	else if (streq(name, "RESUME"))
		i->events->on_change(i, "resumed");
	else if (streq(name, "RESET"))
		i->events->on_change(i, "reset");
}

static void monitor_closed(void *arg, int r)
{
	struct qemu *q = arg;

	q->qmp = NULL;
	if (r < 0)
		log_warn("the monitor of a VM broke", "instance", q->vm.i.name, "error",
			 err_name(-r));
}

/* QEMU's answer to the first command: it has made the machine. */
static void machine_made(void *arg, const struct json *ret, struct err *e)
{
	vm_ready(arg, e ? -err_num(e) : 0, e);
}

static int monitor_connect(struct vm *vm, int fd, struct err **e)
{
	static const struct qmp_events events = { monitor_event, monitor_closed };
	struct qemu *q = qemu_of(&vm->i);
	int r = qmp_open(vm->i.env->loop, fd, &events, q, &q->qmp, e);

	if (r == 0)
		qmp_send(q->qmp, "query-status", NULL, -1, machine_made, vm);
	return r;
}

static void monitor_close(struct vm *vm)
{
	qmp_close(TAKE(qemu_of(&vm->i)->qmp));
}

static void power_button(struct vm *vm, struct engine_call *c)
{
	struct qemu *q = qemu_of(&vm->i);

	if (!qemu_gone(q, c))
		qmp_send(q->qmp, "system_powerdown", NULL, -1, qemu_answer, c);
}

static int command(struct vm *vm, const struct engine_plan *p, const struct vm_sockets *s,
		   struct vm_command *ret, struct err **e)
{
	return qemu_args(p, vm->i.id, vm->i.dir, streq(vm->i.info.accelerator, "kvm"), s, ret, e);
}

static const struct vm_monitor monitor = {
	.fw_cfg = true,
	.command = command,
	.connect = monitor_connect,
	.close = monitor_close,
	.power_button = power_button,
	.restore = qemu_restore,
};

static int attach(struct engine_instance *i, struct err **e)
{
	return vm_attach(i, &monitor);
}

static int usable(const struct engine_env *env, struct err **e)
{
	static const char *const paths[] = { "/usr/bin/qemu-system-x86_64",
					     "/usr/local/bin/qemu-system-x86_64" };

	for (size_t k = 0; k < ARRAY_SIZE(paths); k++)
		if (access(paths[k], X_OK) == 0)
			return 0;
	return err_set(e, ENOTSUP, "engine.unusable",
		       "QEMU is not installed (apt-get install qemu-system-x86)");
}

static void start(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c)
{
	const char *reason;

	vm_start(i, p, streq(doctor_engine(&reason), "native") ? "kvm" : "tcg", c);
}

static void pause_vm(struct engine_instance *i, struct engine_call *c)
{
	if (!qemu_gone(qemu_of(i), c))
		qmp_send(qemu_of(i)->qmp, "stop", NULL, -1, qemu_answer, c);
}

static void resume_vm(struct engine_instance *i, struct engine_call *c)
{
	if (!qemu_gone(qemu_of(i), c))
		qmp_send(qemu_of(i)->qmp, "cont", NULL, -1, qemu_answer, c);
}

const struct engine_ops engine_qemu = {
	.name = "qemu",
	.vm = true,
	.instance_size = sizeof(struct qemu),
	.usable = usable,
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
	.screen = qemu_screen,
	.stats = qemu_stats,
	.update = qemu_update,
	.switch_disk = qemu_switch_disk,
	.save = qemu_save,
};
