/* A VM's life under any monitor; see vm.h. */
#define LOG_MODULE "vm"
#include "node/engine/vm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/str.h"
#include "ext/json.h"
#include "node/engine/vmgroup.h"

#define FILE_NAME   "vm.json"
/* From power-on to the guest's first word; an emulated guest needs some seconds. */
#define START_LIMIT (180 * NSEC_PER_SEC)

static uint64_t cpus_of(const struct api_instance_spec *s)
{
	return s->cpu.has_count ? s->cpu.count : 1;
}

static uint64_t memory_of(const struct api_instance_spec *s)
{
	return s->memory.has_size ? s->memory.size : 512 * MIB;
}

void vm_command_done(struct vm_command *c)
{
	for (char **s = c->argv; s && *s; s++)
		free(*s);
	free(c->argv);
	c->argv = NULL;
	vec_done(&c->keep);
}

bool vm_gone(struct vm *vm, struct engine_call *c)
{
	struct err *e = NULL;

	if (vm->alive)
		return false;
	engine_done(c, err_set(&e, ESRCH, "engine.gone", "'%s' does not run", vm->i.name), e);
	return true;
}

/* -- the end -------------------------------------------------------------------------------------- */

static void close_all(struct vm *vm)
{
	vm->mon->close(vm);
	guestlink_close(TAKE(vm->link));
	watch_remove(&vm->serial_watch);
	vm->serial = safe_close(vm->serial);
	buf_done(&vm->serial_wait);
	timer_stop(&vm->start_timer);
}

void vm_start_done(struct vm *vm, int r, struct err *e)
{
	struct engine_call *c = TAKE(vm->starting);

	timer_stop(&vm->start_timer);
	if (c)
		engine_done(c, r, e);
	else
		err_free(e);
}

static struct err *why_it_ended(struct vm *vm)
{
	struct err *e = NULL;
	char words[400];

	vmproc_last_words(vm->i.dir, words, sizeof(words));
	if (!words[0] && vm->tail_len)
		snprintf(words, sizeof(words), "the guest's last words: %.*s",
			 (int)MIN(vm->tail_len, (size_t)300),
			 vm->tail + vm->tail_len - MIN(vm->tail_len, (size_t)300));
	err_set(&e, EIO, "engine.monitor", "the VM's monitor ended%s%s", words[0] ? ": " : "",
		words);
	return e;
}

static void clean_done(struct vm *vm, struct engine_call *c)
{
	struct err *e = NULL;
	int r = vmgroup_remove(vm->i.id, &e);

	engine_done(c, r, e);
}

/* The process is gone and everything it said has been read. */
static void settle(struct vm *vm)
{
	struct engine_exit x = { .when = now_real() };
	struct engine_call *cleaning;

	if (vm->alive || vm->link || vm->serial >= 0)
		return;
	vm->mon->close(vm);
	vmio_end(&vm->io);
	cleaning = TAKE(vm->cleaning);
	if (cleaning) {
		clean_done(vm, cleaning);
		return;
	}
	if (vm->starting) {
		struct err *e = why_it_ended(vm);

		vm_start_done(vm, -err_num(e), e);
		return;
	}
	x.code = vm->code;
	if (vm->why[0])
		x.message = vm->why;
	vm->i.events->on_exit(&vm->i, &x);
}

/* What a run comes to when the guest itself did not say how its command ended. */
static void judge_end(struct vm *vm, int status)
{
	const char *why = NULL;
	struct err *e;

	if (status >= 0 && vm->mon->explain && vm->mon->explain(status, &vm->code, &why)) {
		if (why)
			snprintf(vm->why, sizeof(vm->why), "%s", why);
		return;
	}
	if (vm->killed) {
		vm->code = 137;
	} else if (vm->panicked) {
		vm->code = 255;
		why = "the guest's kernel panicked";
	} else if (status > 0 && status < 128) {
		vm->code = 255;
		e = why_it_ended(vm);
		snprintf(vm->why, sizeof(vm->why), "%s", err_msg(e));
		err_free(e);
	} else if (status >= 128) {
		vm->code = status;
	} else {
		vm->code = vm->agent ? 255 : 0;
		if (vm->agent)
			why = "the machine went off before its command ended";
	}
	if (why)
		snprintf(vm->why, sizeof(vm->why), "%s", why);
}

static void process_ended(struct vmproc *p, int status)
{
	struct vm *vm = container_of(p, struct vm, proc);

	vm->alive = false;
	vm->status = status;
	if (!vm->command_ended)
		judge_end(vm, status);
	settle(vm);
}

/* -- what the guest says ------------------------------------------------------------------ */

static size_t guest_input(void *arg, const void *data, size_t n)
{
	struct vm *vm = arg;

	return vm->link ? guestlink_input(vm->link, data, n) : n;
}

static void guest_input_end(void *arg)
{
	struct vm *vm = arg;

	if (vm->link)
		guestlink_input_end(vm->link);
}

/* Its command runs. */
static void guest_up(struct vm *vm)
{
	if (!vm->io.input)
		vmio_input_begin(&vm->io, guest_input, guest_input_end, vm);
	vm_start_done(vm, 0, NULL);
}

static void guest_hello(void *arg, const char *state)
{
	struct vm *vm = arg;

	if (streq(state, "running") || streq(state, "ended"))
		guest_up(vm);
}

static void guest_started(void *arg)
{
	guest_up(arg);
}

static void guest_output(void *arg, int fd, const void *data, size_t n)
{
	struct vm *vm = arg;

	vmio_output(&vm->io, fd, data, n);
}

static void guest_room(void *arg)
{
	struct vm *vm = arg;

	vmio_input_room(&vm->io);
}

static void guest_exited(void *arg, int code, const char *why)
{
	struct vm *vm = arg;

	vm->command_ended = true;
	vm->code = code;
	if (why)
		snprintf(vm->why, sizeof(vm->why), "%s", why);
	if (vm->starting && why) { /* cleanup ends the machine */
		struct err *e = NULL;

		err_set(&e, code == 127 ? ENOENT : EACCES, "engine.exec", "%s", why);
		vm_start_done(vm, -err_num(e), e);
	} else {
		vm_start_done(vm, 0, NULL);
	}
}

static void guest_closed(void *arg, int r)
{
	struct vm *vm = arg;

	vm->link = NULL;
	if (r < 0)
		log_warn("the link to a guest broke", "instance", vm->i.name, "error",
			 err_name(-r));
	settle(vm);
}

static const struct guestlink_events guest_events = {
	guest_hello, guest_started, guest_output, guest_room, guest_exited, guest_closed,
};

static void keep_tail(struct vm *vm, const char *s, size_t n)
{
	size_t drop;

	if (n > sizeof(vm->tail)) {
		s += n - sizeof(vm->tail);
		n = sizeof(vm->tail);
	}
	drop = vm->tail_len + n > sizeof(vm->tail) ? vm->tail_len + n - sizeof(vm->tail) : 0;
	memmove(vm->tail, vm->tail + drop, vm->tail_len - drop);
	vm->tail_len -= drop;
	for (size_t k = 0; k < n; k++)
		vm->tail[vm->tail_len++] = s[k] == '\n'		       ? ';'
					   : (unsigned char)s[k] < ' ' ? ' '
								       : s[k];
}

static void serial_flush(struct vm *vm)
{
	ssize_t n = send(vm->serial, vm->serial_wait.s, vm->serial_wait.len,
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		buf_consume(&vm->serial_wait, (size_t)n);
	watch_modify(&vm->serial_watch, vm->serial_wait.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
	if (!vm->serial_wait.len)
		vmio_input_room(&vm->io);
}

static void serial_ready(struct watch *w, uint32_t events)
{
	struct vm *vm = w->data;
	char data[16384];
	ssize_t n;

	if (events & EPOLLOUT)
		serial_flush(vm);
	n = read(vm->serial, data, sizeof(data));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		watch_remove(w);
		vm->serial = safe_close(vm->serial);
		settle(vm);
		return;
	}
	keep_tail(vm, data, (size_t)n);
	if (!vm->agent)
		vmio_output(&vm->io, 1, data, (size_t)n);
}

static size_t serial_input(void *arg, const void *data, size_t n)
{
	struct vm *vm = arg;

	if (vm->serial < 0)
		return n; /* nobody there: dropped */
	if (vm->serial_wait.len || buf_add(&vm->serial_wait, data, n) < 0)
		return 0;
	serial_flush(vm);
	return n;
}

void vm_ready(struct vm *vm, int r, struct err *e)
{
	if (r == -EPIPE) {
		err_free(e); /* the end of the process says more */
		return;
	}
	if (r == 0 && vm->restore)
		vm->mon->restore(vm);
	else if (r < 0 || !vm->agent || vm->adopted)
		vm_start_done(vm, r, e);
}

static int connect_all(struct vm *vm, const char *config, struct err **e)
{
	struct loop *loop = vm->i.env->loop;
	int fd, r = vmproc_connect(vm->i.dir, "monitor.sock", &fd, e);

	if (r == 0)
		r = vm->mon->connect(vm, fd, e);
	if (r == 0)
		r = vmproc_connect(vm->i.dir, "serial.sock", &fd, e);
	if (r == 0) {
		vm->serial = fd;
		fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
		vm->serial_watch = (struct watch){ .data = vm };
		r = watch_fd(loop, &vm->serial_watch, "serial", fd, EPOLLIN, serial_ready);
		if (r < 0)
			err_sys(e, -r, "watch the serial line");
	}
	if (r == 0 && vm->agent)
		r = vmproc_connect(vm->i.dir, "agent.sock", &fd, e);
	if (r == 0 && vm->agent)
		r = guestlink_open(loop, fd, config, &guest_events, vm, &vm->link, e);
	if (r == 0 && !vm->agent)
		vmio_input_begin(&vm->io, serial_input, NULL, vm);
	return r;
}

/* -- operations ----------------------------------------------------------------------------------- */

int vm_attach(struct engine_instance *i, const struct vm_monitor *m)
{
	struct vm *vm = vm_of(i);

	vm->mon = m;
	vm->serial = -1;
	vm->proc.pidfd = -1;
	list_init(&vm->io.readers);
	return 0;
}

void vm_detach(struct engine_instance *i)
{
	struct vm *vm = vm_of(i);

	vm->starting = vm->cleaning = NULL;
	close_all(vm);
	vmproc_forget(&vm->proc);
	vmio_done(&vm->io);
	free(vm->restore);
}

/* The guest's config; its command speaks over the link, not on the serial line. */
static int write_config(struct vm *vm, const struct engine_plan *p, char **text, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	if (!p->guest_config)
		return err_set(e, EINVAL, "engine.plan", "the plan has no config for the guest");
	r = json_parse(p->guest_config, strlen(p->guest_config), NULL, &v, e);
	if (r == 0 && !json_edit(v, "process"))
		r = err_set(e, EINVAL, "engine.plan", "the guest's config has no process");
	if (r < 0)
		return r;
	json_set(json_edit(v, "process"), "attach", json_new_bool(true));
	*text = json_text(v, JSON_COMPACT);
	if (!*text || asprintf(&path, "%s/guest.json", vm->i.dir) < 0)
		return err_sys(e, ENOMEM, "the guest's config");
	return file_write_atomic(AT_FDCWD, path, *text, strlen(*text), 0600, e);
}

static void start_late(struct timer *t)
{
	struct vm *vm = container_of(t, struct vm, start_timer);
	struct err *e = NULL;

	err_set(&e, ETIMEDOUT, "engine.start",
		"the guest said nothing for %d s; its last words: %.*s",
		(int)(START_LIMIT / NSEC_PER_SEC), (int)vm->tail_len, vm->tail);
	vm_start_done(vm, -ETIMEDOUT, e);
}

static void describe(struct vm *vm, const struct engine_plan *p, struct buf *b)
{
	const struct api_instance_log *l = &p->spec->log;

	buf_addf(b, ", \"accelerator\": \"%s\", \"agent\": %s, \"tty\": %s, \"once\": %s",
		 vm->i.info.accelerator, vm->agent ? "true" : "false",
		 vm->io.tty ? "true" : "false", vm->io.input_once ? "true" : "false");
	buf_addf(b, ", \"started\": %lld, \"cpus\": %llu, \"memory\": %llu",
		 (long long)vm->i.info.started, (unsigned long long)vm->cpus,
		 (unsigned long long)vm->memory);
	buf_adds(b, ", \"vnc\": ");
	buf_add_json(b, vm->i.info.vnc);
	if (p->log) {
		buf_adds(b, ", \"log\": ");
		buf_add_json(b, p->log);
		buf_addf(b, ", \"log_size\": %llu, \"log_files\": %llu",
			 (unsigned long long)l->max_size, (unsigned long long)l->max_files);
	}
}

int vm_set_cpu(struct vm *vm, const struct engine_plan *p, struct err **e)
{
	const struct api_instance_cpu *cpu = &p->spec->cpu;
	struct vmgroup_limits l = { .cpus = engine_cpu_limit(cpu),
				    .shares = cpu->shares ? cpu->shares : 1000 };

	return vmgroup_set(vm->i.id, &l, e);
}

static int launch(struct vm *vm, const struct engine_plan *p, struct err **e)
{
	_cleanup_(closep) int monitor = -1, serial = -1, agent = -1;
	_cleanup_(vm_command_done) struct vm_command command = { 0 };
	_cleanup_(buf_done) struct buf more = { 0 };
	_cleanup_(freep) char *config = NULL, *procs = NULL;
	char *groups[2] = { NULL, NULL };
	struct vm_sockets s;
	int r = vmproc_listen(vm->i.dir, "monitor.sock", &monitor, e);

	if (r == 0)
		r = vmproc_listen(vm->i.dir, "serial.sock", &serial, e);
	if (r == 0 && vm->agent)
		r = vmproc_listen(vm->i.dir, "agent.sock", &agent, e);
	if (r == 0 && vm->agent)
		r = write_config(vm, p, &config, e);
	s = (struct vm_sockets){ monitor, serial, agent };
	if (r == 0)
		r = vm->mon->command(vm, p, &s, &command, e);
	if (r == 0) {
		describe(vm, p, &more);
		r = buf_error(&more) < 0 ? err_sys(e, ENOMEM, "start a VM") : 0;
	}
	if (r == 0)
		r = vmgroup_make(vm->i.id, &procs, e);
	if (r == 0)
		r = vm_set_cpu(vm, p, e);
	groups[0] = procs;
	if (r == 0)
		r = vmproc_spawn(vm->i.env->loop, vm->i.dir, FILE_NAME, more.s, command.argv,
				 command.keep.v, command.keep.n, groups, process_ended, &vm->proc,
				 e);
	if (r < 0)
		return r;
	vm->alive = true;
	vm->i.info.pid = vm->proc.pid;
	return connect_all(vm, vm->mon->fw_cfg ? NULL : config, e);
}

static int open_io(struct vm *vm, const struct engine_plan *p, struct err **e)
{
	const struct api_instance_log *log = &p->spec->log;

	vm->agent = p->kernel != NULL;
	vmio_done(&vm->io);
	vmio_init(&vm->io, vm->i.env->loop, !vm->agent || p->spec->tty,
		  vm->agent && p->spec->stdin);
	return vmio_log(&vm->io, p->log, log->max_size, (unsigned int)log->max_files, e);
}

void vm_prepare(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c)
{
	struct err *e = NULL;
	int r = open_io(vm_of(i), p, &e);

	engine_done(c, r, e);
}

void vm_start(struct engine_instance *i, const struct engine_plan *p, const char *accelerator,
	      struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	const struct api_instance_spec *spec = p->spec;
	struct err *e = NULL;
	int r;

	vm->agent = p->kernel != NULL;
	vm->command_ended = vm->killed = vm->panicked = vm->adopted = false;
	vm->code = 0;
	vm->status = -1;
	vm->why[0] = '\0';
	vm->tail_len = 0;
	vm->cpus = cpus_of(spec);
	vm->memory = memory_of(spec);
	i->info = (struct engine_info){ .started = now_real() };
	snprintf(i->info.accelerator, sizeof(i->info.accelerator), "%s", accelerator);
	if (spec->vm.display == API_VM_DISPLAY_VNC)
		snprintf(i->info.vnc, sizeof(i->info.vnc), "unix:%s/vnc.sock", i->dir);
	free(vm->restore);
	vm->restore = p->restore ? strdup(p->restore) : NULL;
	r = vm->io.loop ? 0 : open_io(vm, p, &e);
	if (r == 0)
		r = launch(vm, p, &e);
	for (size_t k = 0; k < p->nics.n; k++) /* the monitor has its own copies */
		for (unsigned int t = 0; t < p->nics.v[k].n_queues; t++)
			p->nics.v[k].tap[t] = safe_close(p->nics.v[k].tap[t]);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	vm->starting = c;
	timer_start(i->env->loop, &vm->start_timer, "vm-start", START_LIMIT, 0, start_late);
}

void vm_adopt(struct engine_instance *i, struct engine_exit *x, struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(json_freep) struct json *v = NULL;
	struct err *e = NULL;
	int r = vmproc_adopt(i->env->loop, i->dir, FILE_NAME, &text, process_ended, &vm->proc, &e);

	if (r == 0)
		r = json_parse(text.s, text.len, NULL, &v, &e);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	vm->alive = vm->adopted = true;
	vm->agent = json_bool(json_get(v, "agent"), false);
	vm->cpus = (uint64_t)json_int(json_get(v, "cpus"), 1);
	vm->memory = (uint64_t)json_int(json_get(v, "memory"), 0);
	i->info = (struct engine_info){ .pid = vm->proc.pid,
					.started = json_int(json_get(v, "started"), 0) };
	snprintf(i->info.accelerator, sizeof(i->info.accelerator), "%s",
		 json_str(json_get(v, "accelerator")) ?: "");
	snprintf(i->info.vnc, sizeof(i->info.vnc), "%s", json_str(json_get(v, "vnc")) ?: "");
	vmio_done(&vm->io);
	vmio_init(&vm->io, i->env->loop, json_bool(json_get(v, "tty"), false),
		  json_bool(json_get(v, "once"), false));
	r = vmio_log(&vm->io, json_str(json_get(v, "log")),
		     (uint64_t)json_int(json_get(v, "log_size"), 0),
		     (unsigned int)json_int(json_get(v, "log_files"), 1), &e);
	if (r == 0)
		r = connect_all(vm, NULL, &e);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	vm->starting = c;
	timer_start(i->env->loop, &vm->start_timer, "vm-adopt", 10 * NSEC_PER_SEC, 0, start_late);
}

void vm_cleanup(struct engine_instance *i, struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	_cleanup_(buf_done) struct buf text = { 0 };

	if (!vm->alive && vmproc_adopt(i->env->loop, i->dir, FILE_NAME, &text, process_ended,
				       &vm->proc, NULL) == 0)
		vm->alive = true;
	if (!vm->alive) {
		close_all(vm);
		vmio_end(&vm->io);
		clean_done(vm, c);
		return;
	}
	vm->killed = true;
	vm->cleaning = c;
	close_all(vm);
	vmproc_signal(&vm->proc, SIGKILL);
}

void vm_stop(struct engine_instance *i, int signo, struct engine_call *c)
{
	struct vm *vm = vm_of(i);

	if (vm_gone(vm, c))
		return;
	if (vm->link) {
		int r = guestlink_signal(vm->link, signo);
		struct err *e = NULL;

		engine_done(c, r < 0 ? err_sys(&e, -r, "signal the guest") : 0, e);
	} else {
		vm->mon->power_button(vm, c);
	}
}

void vm_kill(struct engine_instance *i, int signo, struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	struct err *e = NULL;
	int r;

	if (signo == SIGKILL) {
		vm->killed = true;
		r = vm->alive ? vmproc_signal(&vm->proc, SIGKILL) : -ESRCH;
	} else if (vm->link) {
		r = guestlink_signal(vm->link, signo);
	} else {
		r = err_set(&e, ENOTSUP, "engine.signal",
			    "a VM that boots its own system takes no signals but KILL");
	}
	if (r < 0 && !e)
		err_sys(&e, -r, "kill '%s'", i->name);
	engine_done(c, r, e);
}

void vm_exec(struct engine_instance *i, const struct engine_exec_spec *s, struct engine_exec **ret,
	     struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	struct err *e = NULL;

	if (vm_gone(vm, c))
		return;
	if (vm->link)
		guestlink_exec(vm->link, i, s, ret, c);
	else
		engine_done(
			c,
			err_set(&e, ENOTSUP, "engine.agent",
				"commands run in VMs that were made from an OCI image; use its console"),
			e);
}

void vm_console(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c)
{
	struct vm *vm = vm_of(i);
	struct err *e = NULL;
	int r;

	if (!vm->io.loop) {
		vm_gone(vm, c);
		return;
	}
	r = vmio_attach(&vm->io, ret, &e);
	engine_done(c, r, e);
}

int vm_console_resize(struct engine_instance *i, unsigned int rows, unsigned int columns)
{
	struct vm *vm = vm_of(i);

	return vm->link ? guestlink_resize(vm->link, rows, columns) : 0;
}

void vm_stats(struct vm *vm, struct api_instance_stats *ret)
{
	nsec_t user = 0, sys = 0;

	api_instance_stats_done(ret);
	*ret = (struct api_instance_stats){ .time = now_real() };
	vmproc_usage(&vm->proc, &user, &sys, &ret->memory.used);
	ret->cpu.user = (uint64_t)user;
	ret->cpu.system = (uint64_t)sys;
	ret->cpu.usage = (uint64_t)(user + sys);
	ret->memory.limit = vm->memory;
	ret->memory.has_limit = true;
}

int vm_update_check(struct vm *vm, const struct engine_plan *p, struct err **e)
{
	if (cpus_of(p->spec) == vm->cpus && memory_of(p->spec) == vm->memory)
		return 0;
	return err_set(e, ENOTSUP, "engine.update",
		       "processors and memory of a VM are changed while it is stopped");
}
