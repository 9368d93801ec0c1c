/* The QEMU engine: a VM's life.  On KVM where it runs guests at speed, else emulating.
 *
 * The VM's process is found again by DIR/qemu.json; its monitor, serial line and guest agent are unix sockets in DIR, of which the
 * daemon is the only client.  What the guest says while no daemon is connected is lost, the guest goes on. */
#define LOG_MODULE "qemu"
#include "node/engine/qemu.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/str.h"
#include "ext/json.h"
#include "node/doctor.h"
#include "node/engine/qemu_args.h"

#define FILE_NAME   "qemu.json"
/* From power-on to the guest's first word; an emulated guest needs some seconds. */
#define START_LIMIT (180 * NSEC_PER_SEC)

bool qemu_gone(struct qemu *q, struct engine_call *c)
{
	struct err *e = NULL;

	if (q->qmp && q->alive)
		return false;
	engine_done(c, err_set(&e, ESRCH, "engine.gone", "'%s' does not run", q->i.name), e);
	return true;
}

void qemu_answer(void *call, const struct json *ret, struct err *e)
{
	engine_done(call, e ? -err_num(e) : 0, e);
}

/* -- the end -------------------------------------------------------------------------------------- */

static void close_all(struct qemu *q)
{
	qmp_close(TAKE(q->qmp));
	guestlink_close(TAKE(q->link));
	watch_remove(&q->serial_watch);
	q->serial = safe_close(q->serial);
	buf_done(&q->serial_wait);
	timer_stop(&q->start_timer);
}

void qemu_start_done(struct qemu *q, int r, struct err *e)
{
	struct engine_call *c = TAKE(q->starting);

	timer_stop(&q->start_timer);
	if (c)
		engine_done(c, r, e);
	else
		err_free(e);
}

static struct err *why_it_ended(struct qemu *q, int code)
{
	struct err *e = NULL;
	char words[400];

	vmproc_last_words(q->i.dir, words, sizeof(words));
	if (!words[0] && q->tail_len)
		snprintf(words, sizeof(words), "the guest's last words: %.*s",
			 (int)MIN(q->tail_len, (size_t)300),
			 q->tail + q->tail_len - MIN(q->tail_len, (size_t)300));
	err_set(&e, EIO, "engine.qemu", "QEMU ended with status %d%s%s", code, words[0] ? ": " : "",
		words);
	return e;
}

/* The process is gone and everything it said has been read. */
static void settle(struct qemu *q)
{
	struct engine_exit x = { .when = now_real() };
	struct engine_call *cleaning;

	if (q->alive || q->link || q->serial >= 0)
		return;
	qmp_close(TAKE(q->qmp));
	vmio_end(&q->io);
	cleaning = TAKE(q->cleaning);
	if (cleaning) {
		engine_done(cleaning, 0, NULL);
		return;
	}
	if (q->starting) {
		struct err *e = why_it_ended(q, q->proc.child ? q->code : -1);

		qemu_start_done(q, -err_num(e), e);
		return;
	}
	x.code = q->code;
	if (q->why[0])
		x.message = q->why;
	q->i.events->on_exit(&q->i, &x);
}

static void process_ended(struct vmproc *p, int code)
{
	struct qemu *q = container_of(p, struct qemu, proc);

	q->alive = false;
	if (!q->command_ended) {
		q->code = code >= 0 ? code : q->killed ? 137 : q->agent ? 255 : 0;
		if (q->panicked) {
			q->code = 255;
			snprintf(q->why, sizeof(q->why), "the guest's kernel panicked");
		} else if (code > 0 && code < 128) {
			struct err *e = why_it_ended(q, code);

			snprintf(q->why, sizeof(q->why), "%s", err_msg(e));
			err_free(e);
		} else if (q->agent && code <= 0 && !q->killed) {
			q->code = 255;
			snprintf(q->why, sizeof(q->why),
				 "the machine went off before its command ended");
		}
	}
	if (q->i.env->loop)
		settle(q);
}

/* -- what the guest and QEMU say ------------------------------------------------------------------ */

static void guest_hello(void *arg, const char *state)
{
	struct qemu *q = arg;

	if (streq(state, "running") || streq(state, "ended"))
		qemu_start_done(q, 0, NULL);
}

static void guest_started(void *arg)
{
	qemu_start_done(arg, 0, NULL);
}

static void guest_output(void *arg, int fd, const void *data, size_t n)
{
	struct qemu *q = arg;

	vmio_output(&q->io, fd, data, n);
}

static void guest_room(void *arg)
{
	struct qemu *q = arg;

	vmio_input_room(&q->io);
}

static void guest_exited(void *arg, int code, const char *why)
{
	struct qemu *q = arg;

	q->command_ended = true;
	q->code = code;
	if (why)
		snprintf(q->why, sizeof(q->why), "%s", why);
	if (q->starting && why) { /* cleanup ends the machine */
		struct err *e = NULL;

		err_set(&e, code == 127 ? ENOENT : EACCES, "engine.exec", "%s", why);
		qemu_start_done(q, -err_num(e), e);
	} else {
		qemu_start_done(q, 0, NULL);
	}
}

static void guest_closed(void *arg, int r)
{
	struct qemu *q = arg;

	q->link = NULL;
	if (r < 0)
		log_warn("the link to a guest broke", "instance", q->i.name, "error", err_name(-r));
	settle(q);
}

static const struct guestlink_events guest_events = {
	guest_hello, guest_started, guest_output, guest_room, guest_exited, guest_closed,
};

static size_t guest_input(void *arg, const void *data, size_t n)
{
	struct qemu *q = arg;

	return q->link ? guestlink_input(q->link, data, n) : n;
}

static void guest_input_end(void *arg)
{
	struct qemu *q = arg;

	if (q->link)
		guestlink_input_end(q->link);
}

static void keep_tail(struct qemu *q, const char *s, size_t n)
{
	size_t drop;

	if (n > sizeof(q->tail)) {
		s += n - sizeof(q->tail);
		n = sizeof(q->tail);
	}
	drop = q->tail_len + n > sizeof(q->tail) ? q->tail_len + n - sizeof(q->tail) : 0;
	memmove(q->tail, q->tail + drop, q->tail_len - drop);
	q->tail_len -= drop;
	for (size_t k = 0; k < n; k++)
		q->tail[q->tail_len++] = s[k] == '\n'		     ? ';'
					 : (unsigned char)s[k] < ' ' ? ' '
								     : s[k];
}

static void serial_flush(struct qemu *q)
{
	ssize_t n =
		send(q->serial, q->serial_wait.s, q->serial_wait.len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		buf_consume(&q->serial_wait, (size_t)n);
	watch_modify(&q->serial_watch, q->serial_wait.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
	if (!q->serial_wait.len)
		vmio_input_room(&q->io);
}

static void serial_ready(struct watch *w, uint32_t events)
{
	struct qemu *q = w->data;
	char data[16384];
	ssize_t n;

	if (events & EPOLLOUT)
		serial_flush(q);
	n = read(q->serial, data, sizeof(data));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		watch_remove(w);
		q->serial = safe_close(q->serial);
		settle(q);
		return;
	}
	keep_tail(q, data, (size_t)n);
	if (!q->agent)
		vmio_output(&q->io, 1, data, (size_t)n);
}

static size_t serial_input(void *arg, const void *data, size_t n)
{
	struct qemu *q = arg;

	if (q->serial < 0)
		return n; /* nobody there: dropped */
	if (q->serial_wait.len || buf_add(&q->serial_wait, data, n) < 0)
		return 0;
	serial_flush(q);
	return n;
}

static void monitor_event(void *arg, const char *name, const struct json *data)
{
	struct qemu *q = arg;
	bool starting = q->starting || q->saving;

	if (streq(name, "GUEST_PANICKED"))
		q->panicked = true;
	else if (streq(name, "MIGRATION"))
		qemu_migration(q, json_str(json_get(data, "status")) ?: "");
	else if (starting || !q->i.events->on_change)
		return;
	else if (streq(name, "STOP"))
		q->i.events->on_change(&q->i, "paused");
	else if (streq(name, "RESUME"))
		q->i.events->on_change(&q->i, "resumed");
	else if (streq(name, "RESET"))
		q->i.events->on_change(&q->i, "reset");
}

static void monitor_closed(void *arg, int r)
{
	struct qemu *q = arg;

	q->qmp = NULL;
	if (r < 0)
		log_warn("the monitor of a VM broke", "instance", q->i.name, "error", err_name(-r));
}

static const struct qmp_events monitor_events = { monitor_event, monitor_closed };

/* QEMU's answer to the first command: it has made the machine. */
static void machine_made(void *arg, const struct json *ret, struct err *e)
{
	struct qemu *q = arg;

	if (e && err_num(e) == EPIPE) {
		err_free(e); /* the end of the process says more */
		return;
	}
	if (e || (!q->restore && (!q->agent || q->adopted)))
		qemu_start_done(q, e ? -err_num(e) : 0, e);
	else if (q->restore)
		qemu_restore(q);
}

static int connect_all(struct qemu *q, const char *config, struct err **e)
{
	struct loop *loop = q->i.env->loop;
	int fd, r = vmproc_connect(q->i.dir, "monitor.sock", &fd, e);

	if (r == 0)
		r = qmp_open(loop, fd, &monitor_events, q, &q->qmp, e);
	if (r == 0)
		r = vmproc_connect(q->i.dir, "serial.sock", &fd, e);
	if (r == 0) {
		q->serial = fd;
		fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
		q->serial_watch = (struct watch){ .data = q };
		r = watch_fd(loop, &q->serial_watch, "serial", fd, EPOLLIN, serial_ready);
		if (r < 0)
			err_sys(e, -r, "watch the serial line");
	}
	if (r == 0 && q->agent)
		r = vmproc_connect(q->i.dir, "agent.sock", &fd, e);
	if (r == 0 && q->agent)
		r = guestlink_open(loop, fd, config, &guest_events, q, &q->link, e);
	if (r == 0) {
		q->io.arg = q;
		q->io.input = q->agent ? guest_input : serial_input;
		q->io.input_end = q->agent ? guest_input_end : NULL;
		qmp_send(q->qmp, "query-status", NULL, -1, machine_made, q);
	}
	return r;
}

/* -- operations ----------------------------------------------------------------------------------- */

static int attach(struct engine_instance *i, struct err **e)
{
	struct qemu *q = qemu_of(i);

	q->serial = -1;
	q->proc.pidfd = -1;
	list_init(&q->io.readers);
	return 0;
}

static void detach(struct engine_instance *i)
{
	struct qemu *q = qemu_of(i);

	q->starting = q->cleaning = NULL;
	close_all(q);
	vmproc_forget(&q->proc);
	vmio_done(&q->io);
	free(q->restore);
}

static int usable(const struct engine_env *env, struct err **e)
{
	static const char *const dirs[] = { "/usr/bin/qemu-system-x86_64",
					    "/usr/local/bin/qemu-system-x86_64" };

	for (size_t k = 0; k < ARRAY_SIZE(dirs); k++)
		if (access(dirs[k], X_OK) == 0)
			return 0;
	return err_set(e, ENOTSUP, "engine.unusable",
		       "QEMU is not installed (apt-get install qemu-system-x86)");
}

static bool use_kvm(void)
{
	const char *reason;

	return streq(doctor_engine(&reason), "native");
}

/* The guest's config; its command speaks over the link, not on the serial line. */
static int write_config(struct qemu *q, const struct engine_plan *p, char **text, struct err **e)
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
	if (!*text || asprintf(&path, "%s/guest.json", q->i.dir) < 0)
		return err_sys(e, ENOMEM, "the guest's config");
	return file_write_atomic(AT_FDCWD, path, *text, strlen(*text), 0600, e);
}

static void start_late(struct timer *t)
{
	struct qemu *q = container_of(t, struct qemu, start_timer);
	struct err *e = NULL;

	err_set(&e, ETIMEDOUT, "engine.start",
		"the guest said nothing for %d s; its last words: %.*s",
		(int)(START_LIMIT / NSEC_PER_SEC), (int)q->tail_len, q->tail);
	qemu_start_done(q, -ETIMEDOUT, e);
}

static void describe(struct qemu *q, const struct engine_plan *p, struct buf *b)
{
	const struct api_instance_log *l = &p->spec->log;

	buf_addf(b, ", \"accelerator\": \"%s\", \"agent\": %s, \"tty\": %s, \"once\": %s",
		 q->i.info.accelerator, q->agent ? "true" : "false", q->io.tty ? "true" : "false",
		 q->io.input_once ? "true" : "false");
	buf_addf(b, ", \"started\": %lld, \"cpus\": %llu, \"memory\": %llu",
		 (long long)q->i.info.started, (unsigned long long)q->cpus,
		 (unsigned long long)q->memory);
	buf_adds(b, ", \"vnc\": ");
	buf_add_json(b, q->i.info.vnc);
	if (p->log) {
		buf_adds(b, ", \"log\": ");
		buf_add_json(b, p->log);
		buf_addf(b, ", \"log_size\": %llu, \"log_files\": %llu",
			 (unsigned long long)l->max_size, (unsigned long long)l->max_files);
	}
}

static int launch(struct qemu *q, const struct engine_plan *p, bool kvm, struct err **e)
{
	_cleanup_(closep) int monitor = -1, serial = -1, agent = -1;
	_cleanup_(qemu_args_done) struct qemu_args args = { 0 };
	_cleanup_(buf_done) struct buf more = { 0 };
	_cleanup_(freep) char *config = NULL;
	struct qemu_sockets s;
	int r = vmproc_listen(q->i.dir, "monitor.sock", &monitor, e);

	if (r == 0)
		r = vmproc_listen(q->i.dir, "serial.sock", &serial, e);
	if (r == 0 && q->agent)
		r = vmproc_listen(q->i.dir, "agent.sock", &agent, e);
	if (r == 0 && q->agent)
		r = write_config(q, p, &config, e);
	s = (struct qemu_sockets){ monitor, serial, agent };
	if (r == 0)
		r = qemu_args(p, q->i.id, q->i.dir, kvm, &s, &args, e);
	if (r == 0) {
		describe(q, p, &more);
		r = buf_error(&more) < 0 ? err_sys(e, ENOMEM, "start QEMU") : 0;
	}
	if (r == 0)
		r = vmproc_spawn(q->i.env->loop, q->i.dir, FILE_NAME, more.s, args.argv,
				 args.keep.v, args.keep.n, NULL, process_ended, &q->proc, e);
	if (r < 0)
		return r;
	q->alive = true;
	q->i.info.pid = q->proc.pid;
	return connect_all(q, config, e);
}

static void start(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	const struct api_instance_spec *spec = p->spec;
	bool kvm = use_kvm();
	struct err *e = NULL;
	int r;

	q->agent = p->kernel != NULL;
	q->command_ended = q->killed = q->panicked = q->adopted = false;
	q->code = 0;
	q->why[0] = '\0';
	q->tail_len = 0;
	q->cpus = spec->cpu.has_count ? spec->cpu.count : 1;
	q->memory = spec->memory.has_size ? spec->memory.size : 512 * MIB;
	i->info = (struct engine_info){ .started = now_real() };
	strcpy(i->info.accelerator, kvm ? "kvm" : "tcg");
	if (spec->vm.display == API_VM_DISPLAY_VNC)
		snprintf(i->info.vnc, sizeof(i->info.vnc), "unix:%s/vnc.sock", i->dir);
	vmio_done(&q->io);
	vmio_init(&q->io, i->env->loop, !q->agent || spec->tty, q->agent && spec->stdin);
	free(q->restore);
	q->restore = p->restore ? strdup(p->restore) : NULL;
	r = vmio_log(&q->io, p->log, spec->log.max_size, (unsigned int)spec->log.max_files, &e);
	if (r == 0)
		r = launch(q, p, kvm, &e);
	for (size_t k = 0; k < p->nics.n; k++) /* QEMU has its own copies */
		for (unsigned int t = 0; t < p->nics.v[k].n_queues; t++)
			p->nics.v[k].tap[t] = safe_close(p->nics.v[k].tap[t]);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	q->starting = c;
	timer_start(i->env->loop, &q->start_timer, "vm-start", START_LIMIT, 0, start_late);
}

static void adopt(struct engine_instance *i, struct engine_exit *x, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(json_freep) struct json *v = NULL;
	struct err *e = NULL;
	int r = vmproc_adopt(i->env->loop, i->dir, FILE_NAME, &text, process_ended, &q->proc, &e);

	if (r == 0)
		r = json_parse(text.s, text.len, NULL, &v, &e);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	q->alive = q->adopted = true;
	q->agent = json_bool(json_get(v, "agent"), false);
	q->cpus = (uint64_t)json_int(json_get(v, "cpus"), 1);
	q->memory = (uint64_t)json_int(json_get(v, "memory"), 0);
	i->info = (struct engine_info){ .pid = q->proc.pid,
					.started = json_int(json_get(v, "started"), 0) };
	snprintf(i->info.accelerator, sizeof(i->info.accelerator), "%s",
		 json_str(json_get(v, "accelerator")) ?: "");
	snprintf(i->info.vnc, sizeof(i->info.vnc), "%s", json_str(json_get(v, "vnc")) ?: "");
	vmio_done(&q->io);
	vmio_init(&q->io, i->env->loop, json_bool(json_get(v, "tty"), false),
		  json_bool(json_get(v, "once"), false));
	r = vmio_log(&q->io, json_str(json_get(v, "log")),
		     (uint64_t)json_int(json_get(v, "log_size"), 0),
		     (unsigned int)json_int(json_get(v, "log_files"), 1), &e);
	if (r == 0)
		r = connect_all(q, NULL, &e);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	q->starting = c;
	timer_start(i->env->loop, &q->start_timer, "vm-adopt", 10 * NSEC_PER_SEC, 0, start_late);
}

static void cleanup(struct engine_instance *i, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	_cleanup_(buf_done) struct buf text = { 0 };

	if (!q->alive && vmproc_adopt(i->env->loop, i->dir, FILE_NAME, &text, process_ended,
				      &q->proc, NULL) == 0)
		q->alive = true;
	if (!q->alive) {
		close_all(q);
		vmio_end(&q->io);
		engine_done(c, 0, NULL);
		return;
	}
	q->killed = true;
	q->cleaning = c;
	close_all(q);
	vmproc_signal(&q->proc, SIGKILL);
}

static void power_button(struct engine_instance *i, int signo, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);

	if (qemu_gone(q, c))
		return;
	if (q->link) {
		int r = guestlink_signal(q->link, signo);
		struct err *e = NULL;

		engine_done(c, r < 0 ? err_sys(&e, -r, "signal the guest") : 0, e);
	} else {
		qmp_send(q->qmp, "system_powerdown", NULL, -1, qemu_answer, c);
	}
}

static void kill_vm(struct engine_instance *i, int signo, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	struct err *e = NULL;
	int r;

	if (signo == SIGKILL) {
		q->killed = true;
		r = q->alive ? vmproc_signal(&q->proc, SIGKILL) : -ESRCH;
	} else if (q->link) {
		r = guestlink_signal(q->link, signo);
	} else {
		r = err_set(&e, ENOTSUP, "engine.signal",
			    "a VM that boots its own system takes no signals but KILL");
	}
	if (r < 0 && !e)
		err_sys(&e, -r, "kill '%s'", i->name);
	engine_done(c, r, e);
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

static void exec_in(struct engine_instance *i, const struct engine_exec_spec *s,
		    struct engine_exec **ret, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	struct err *e = NULL;

	if (qemu_gone(q, c))
		return;
	if (q->link)
		guestlink_exec(q->link, i, s, ret, c);
	else
		engine_done(
			c,
			err_set(&e, ENOTSUP, "engine.agent",
				"commands run in VMs that were made from an OCI image; use its console"),
			e);
}

static void console(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	struct err *e = NULL;
	int r;

	if (!q->alive) {
		qemu_gone(q, c);
		return;
	}
	r = vmio_attach(&q->io, ret, &e);
	engine_done(c, r, e);
}

static int console_resize(struct engine_instance *i, unsigned int rows, unsigned int columns)
{
	struct qemu *q = qemu_of(i);

	return q->link ? guestlink_resize(q->link, rows, columns) : 0;
}

const struct engine_ops engine_qemu = {
	.name = "qemu",
	.vm = true,
	.instance_size = sizeof(struct qemu),
	.usable = usable,
	.attach = attach,
	.detach = detach,
	.start = start,
	.adopt = adopt,
	.cleanup = cleanup,
	.stop = power_button,
	.kill = kill_vm,
	.pause = pause_vm,
	.resume = resume_vm,
	.exec = exec_in,
	.exec_resize = guestlink_exec_resize,
	.exec_free = guestlink_exec_free,
	.console = console,
	.console_resize = console_resize,
	.screen = qemu_screen,
	.stats = qemu_stats,
	.update = qemu_update,
	.switch_disk = qemu_switch_disk,
	.save = qemu_save,
};
