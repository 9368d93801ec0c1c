/* Requests to the shim: one function per operation, in the table at the end.  See shim.h for the protocol. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "container/create.h"
#include "container/exec.h"
#include "container/lifecycle.h"
#include "container/shim.h"
#include "container/shim_state.h"
#include "container/tty.h"
#include "container/warn.h"
#include "sys/proc.h"

/* One request while it is being handled. */
struct request {
	struct shim *s;
	struct shim_client *c;
	struct arena a;
	struct jval *doc;
	struct jr r;
	int64_t seq;
	struct rpc_frame *f;
};

/* Returns 1: the reply comes later; 0: answer {"ok":true + what was added to `add`}; -errno with e set. */
typedef int op_fn(struct request *q, struct buf *add, struct err **e);

static void send_reply(struct shim_client *c, int64_t seq, const char *members, const int *fds,
		       unsigned int n_fds)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_addf(&b, "{\"seq\":%lld,%s", (long long)seq, members);
	if (c && !buf_error(&b))
		rpc_conn_send(&c->conn, b.s, b.len, fds, n_fds);
}

/* Pass a job's reply on: it begins with '{'. */
static void forward(struct shim_job *j, struct rpc_frame *reply)
{
	send_reply(j->owner, j->seq, reply->text.s + 1, reply->fds, reply->n_fds);
}

static void forward_done(struct shim_job *j, struct rpc_frame *reply, const struct jval *doc)
{
	struct shim *s = j->data;

	(void)doc;
	forward(j, reply);
	shim_check_end(s);
}

static int start_job(struct request *q, const char *what, shim_job_fn *fn, void *arg,
		     shim_job_done_fn *done, struct err **e)
{
	struct shim_job *j;
	int r = shim_job_start(q->s->loop, &q->s->jobs, what, fn, arg, done, &j, e);

	if (r < 0)
		return r;
	j->data = q->s;
	j->owner = q->c;
	j->seq = q->seq;
	return 1;
}

static int want(struct request *q, bool running, struct err **e)
{
	enum shim_phase p = q->s->phase;

	if (p == SHIM_RUNNING || (!running && p == SHIM_CREATED))
		return 0;
	return err_set(e, EINVAL, "container.state", "the container is %s",
		       p == SHIM_NEW || p == SHIM_CREATING ? "not created yet"
		       : p == SHIM_CREATED		   ? "not started yet"
							   : "stopped");
}

/* -- create and start -- */

struct create_job {
	struct create_opts o;
	struct shim *s;
	int child[3];
};

static void add_warnings(struct buf *b, const struct buf *w)
{
	const char *p = buf_str(w);
	bool first = true;

	buf_adds(b, ",\"warnings\":[");
	while (*p) {
		size_t n = strcspn(p, "\n");
		_cleanup_(freep) char *line = strndup(p, n);

		if (!first)
			buf_addc(b, ',');
		buf_add_json(b, line ? line : "");
		first = false;
		p += n + (p[n] != '\0');
	}
	buf_addc(b, ']');
}

static int do_create(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct create_job *j = arg;
	struct create_result res;
	_cleanup_(buf_done) struct buf warnings = { 0 };
	int i, r;

	for (i = 0; i < 3; i++)
		if (dup2(j->child[i], i) < 0)
			return err_sys(e, errno, "standard streams");
	ct_warn_to(&warnings);
	j->o.ret = &res;
	r = container_create(&j->o, e);
	if (r < 0)
		return r;
	buf_addf(&reply->text, ",\"pid\":%d,\"start\":%llu,\"terminal\":%s", (int)res.pid,
		 (unsigned long long)res.start, res.master >= 0 ? "true" : "false");
	add_warnings(&reply->text, &warnings);
	if (res.master >= 0)
		reply->fds[reply->n_fds++] = res.master;
	if (res.oom_fd >= 0) {
		reply->fds[reply->n_fds++] = res.oom_fd;
		reply->fds[reply->n_fds++] = res.oom_count_fd;
	}
	return 0;
}

static void take_pid(struct shim *s, const struct jval *doc)
{
	struct arena a = { 0 };
	struct jr r = { .a = &a };
	int32_t pid = 0;

	jr_i32(&r, doc, "pid", &pid);
	jr_u64(&r, doc, "start", &s->start);
	s->pid = pid;
	arena_done(&a);
}

static void starting_done(struct shim *s)
{
	if (--s->n_starting == 0)
		s->n_early = 0;
}

/* error: JSON, taken. */
static void create_failed(struct shim *s, char *error)
{
	s->status = 125 << 8; /* as exit() would have it */
	s->error = error;
	s->started = 0;
	shim_ended(s);
}

static void created(struct shim_job *j, struct rpc_frame *f, const struct jval *doc)
{
	struct shim *s = j->data;
	_cleanup_(err_freep) struct err *e = NULL;
	struct jval *error = jget(doc, "error"), *ok = jget(doc, "ok"),
		    *tty = jget(doc, "terminal");
	unsigned int k = 0;
	int status;

	if (!ok || ok->kind != J_TRUE) {
		forward(j, f);
		starting_done(s);
		create_failed(s, error ? strndup(f->text.s + error->from, error->to - error->from)
				       : NULL);
		return;
	}
	take_pid(s, doc);
	if (tty && tty->kind == J_TRUE && f->n_fds > 0)
		shim_io_terminal(&s->io, f->fds[k++], &e);
	if (f->n_fds >= k + 2) {
		s->oom_fd = f->fds[k];
		s->oom_count_fd = f->fds[k + 1];
		shim_watch_oom(s);
	}
	f->n_fds = 0; /* all taken */
	shim_io_start(&s->io, &e);
	s->phase = s->started ? SHIM_RUNNING : SHIM_CREATED;
	if (s->phase == SHIM_RUNNING)
		s->started = now_real();
	forward(j, f);
	if (s->phase == SHIM_RUNNING)
		shim_event(s, "{\"event\":\"started\"}");
	if (shim_take_early(s, s->pid, &status))
		shim_program_ended(s, status);
	else if (s->stop_wanted)
		kill(s->pid, SIGKILL);
	starting_done(s);
}

static int read_manager(const char *name, enum cg_manager *ret, struct err **e)
{
	static const char *const names[] = {
		[CG_CGROUPFS] = "cgroupfs", [CG_SYSTEMD] = "systemd", [CG_DISABLED] = "disabled"
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (streq(name, names[i])) {
			*ret = (enum cg_manager)i;
			return 0;
		}
	}
	return err_set(e, EINVAL, "shim.field",
		       "manager: '%s' is not cgroupfs, systemd or disabled", name);
}

static int open_log(struct request *q, struct err **e)
{
	struct jval *o = jr_obj(&q->r, q->doc, "log");
	const char *path = NULL, *format = "json-file";
	enum linelog_format fmt;
	uint64_t max_size = 0;
	uint32_t max_files = 1;

	jr_str(&q->r, o, "path", &path);
	jr_str(&q->r, o, "format", &format);
	jr_u64(&q->r, o, "max_size", &max_size);
	jr_u32(&q->r, o, "max_files", &max_files);
	if (q->r.r < 0 || !path)
		return q->r.r;
	if (linelog_format_from_name(format, &fmt) < 0)
		return err_set(e, EINVAL, "shim.field",
			       "log.format: '%s' is not json-file, cri or raw", format);
	if (max_files > 1000)
		return err_set(e, EINVAL, "shim.field", "log.max_files: more than 1000");
	return linelog_open(&q->s->io.log, path, fmt, max_size, max_files, e);
}

static int begin_create(struct request *q, struct err **e)
{
	struct shim *s = q->s;
	struct create_job j = { .s = s, .child = { -1, -1, -1 } };
	const char *id = NULL, *root = NULL, *bundle = NULL, *manager = "cgroupfs", *in = "none";
	bool start = false;
	int i, r;

	jr_str(&q->r, q->doc, "id", &id);
	jr_str(&q->r, q->doc, "root", &root);
	jr_str(&q->r, q->doc, "bundle", &bundle);
	jr_str(&q->r, q->doc, "manager", &manager);
	jr_str(&q->r, q->doc, "stdin", &in);
	jr_str(&q->r, q->doc, "config", &j.o.config);
	jr_bool(&q->r, q->doc, "start", &start);
	jr_bool(&q->r, q->doc, "no_pivot", &j.o.no_pivot);
	jr_bool(&q->r, q->doc, "no_new_keyring", &j.o.no_new_keyring);
	if (q->r.r < 0)
		return q->r.r;
	if (!id || !root || !bundle || root[0] != '/' || bundle[0] != '/')
		return err_set(e, EINVAL, "shim.field",
			       "create wants an id, and root and bundle as absolute paths");
	if (streq(in, "open"))
		s->io.stdin_mode = SHIM_STDIN_OPEN;
	else if (streq(in, "once"))
		s->io.stdin_mode = SHIM_STDIN_ONCE;
	else if (!streq(in, "none"))
		return err_set(e, EINVAL, "shim.field", "stdin: '%s' is not none, open or once",
			       in);
	r = read_manager(manager, &j.o.manager, e);
	if (r == 0)
		r = open_log(q, e);
	if (r < 0)
		return r;
	s->id = strdup(id);
	s->root = strdup(root);
	s->bundle = strdup(bundle);
	if (!s->id || !s->root || !s->bundle)
		return err_sys(e, ENOMEM, "create");
	r = shim_write_self(s, e);
	if (r == 0)
		r = shim_io_pipes(&s->io, j.child, e);
	if (r == 0) {
		s->n_starting++;
		s->started = start; /* any time but 0; the real one is set when it runs */
		j.o.id = s->id;
		j.o.root = s->root;
		j.o.bundle = s->bundle;
		j.o.run = start;
		j.o.detach = true;
		r = start_job(q, "create", do_create, &j, created, e);
	}
	for (i = 0; i < 3; i++)
		safe_close(j.child[i]);
	return r;
}

static int op_create(struct request *q, struct buf *add, struct err **e)
{
	struct shim *s = q->s;
	_cleanup_(buf_done) struct buf error = { 0 };
	int r;

	(void)add;
	if (s->phase != SHIM_NEW)
		return err_set(e, EBUSY, "shim.busy", "this shim has a container already");
	s->phase = SHIM_CREATING;
	r = begin_create(q, e);
	if (r < 0) {
		shim_error_json(&error, *e, r);
		create_failed(s, buf_take(&error));
	}
	return r;
}

static int do_start(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct shim *s = arg;

	(void)reply;
	return container_start(s->root, s->id, e);
}

static void started(struct shim_job *j, struct rpc_frame *f, const struct jval *doc)
{
	struct shim *s = j->data;
	struct jval *ok = jget(doc, "ok");

	if (ok && ok->kind == J_TRUE && s->phase == SHIM_CREATED) {
		s->phase = SHIM_RUNNING;
		s->started = now_real();
		shim_event(s, "{\"event\":\"started\"}");
	}
	forward_done(j, f, doc);
}

static int op_start(struct request *q, struct buf *add, struct err **e)
{
	(void)add;
	if (q->s->phase != SHIM_CREATED)
		return err_set(e, EINVAL, "container.state",
			       "the container is not waiting for start");
	return start_job(q, "start", do_start, q->s, started, e);
}

/* -- kill, pause, update, ... -- */

struct adjust_job {
	struct shim *s;
	int sig;
	bool all, on;
	const char *json;
	size_t len;
};

static int do_kill(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct adjust_job *j = arg;

	(void)reply;
	return container_kill(j->s->root, j->s->id, j->sig, j->all, e);
}

static int op_kill(struct request *q, struct buf *add, struct err **e)
{
	struct adjust_job j = { .s = q->s, .sig = SIGTERM };
	struct jval *v = jget(q->doc, "signal");
	int r = want(q, false, e);

	(void)add;
	jr_bool(&q->r, q->doc, "all", &j.all);
	if (r < 0 || q->r.r < 0)
		return r < 0 ? r : q->r.r;
	if (v && (v->kind == J_STRING || v->kind == J_NUMBER)) {
		j.sig = signal_number(v->text);
		if (j.sig < 0)
			return err_set(e, EINVAL, "shim.field", "signal: unknown signal '%s'",
				       v->text);
	}
	return start_job(q, "kill", do_kill, &j, forward_done, e);
}

static int do_freeze(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct adjust_job *j = arg;

	(void)reply;
	return container_freeze(j->s->root, j->s->id, j->on, e);
}

static int op_freeze(struct request *q, bool on, struct err **e)
{
	struct adjust_job j = { .s = q->s, .on = on };
	int r = want(q, false, e);

	return r < 0 ? r : start_job(q, on ? "pause" : "resume", do_freeze, &j, forward_done, e);
}

static int op_pause(struct request *q, struct buf *add, struct err **e)
{
	(void)add;
	return op_freeze(q, true, e);
}

static int op_resume(struct request *q, struct buf *add, struct err **e)
{
	(void)add;
	return op_freeze(q, false, e);
}

static int do_update(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct adjust_job *j = arg;

	(void)reply;
	return container_update_json(j->s->root, j->s->id, j->json, j->len, e);
}

static int op_update(struct request *q, struct buf *add, struct err **e)
{
	struct jval *o = jr_obj(&q->r, q->doc, "resources");
	struct adjust_job j = { .s = q->s };
	int r = want(q, false, e);

	(void)add;
	if (r < 0 || q->r.r < 0)
		return r < 0 ? r : q->r.r;
	if (!o)
		return err_set(e, EINVAL, "shim.field", "resources: is missing");
	j.json = q->f->text.s + o->from;
	j.len = o->to - o->from;
	return start_job(q, "update", do_update, &j, forward_done, e);
}

static int do_stats(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct shim *s = arg;

	buf_adds(&reply->text, ",\"stats\":");
	return container_stats_json(s->root, s->id, &reply->text, e);
}

static int op_stats(struct request *q, struct buf *add, struct err **e)
{
	int r = want(q, false, e);

	(void)add;
	return r < 0 ? r : start_job(q, "stats", do_stats, q->s, forward_done, e);
}

static int do_ps(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct shim *s = arg;
	pid_t *pids = NULL;
	size_t n = 0, i;
	int r = container_pids(s->root, s->id, &pids, &n, e);

	buf_adds(&reply->text, ",\"pids\":[");
	for (i = 0; i < n; i++)
		buf_addf(&reply->text, "%s%d", i ? "," : "", (int)pids[i]);
	buf_addc(&reply->text, ']');
	free(pids);
	return r;
}

static int op_ps(struct request *q, struct buf *add, struct err **e)
{
	int r = want(q, false, e);

	(void)add;
	return r < 0 ? r : start_job(q, "ps", do_ps, q->s, forward_done, e);
}

/* The end is the program's: clean_up() does the rest. */
static int op_delete(struct request *q, struct buf *add, struct err **e)
{
	struct shim *s = q->s;

	(void)add;
	if (s->phase == SHIM_NEW) {
		shim_ended(s);
		return 0;
	}
	if (s->phase == SHIM_CREATING)
		return err_set(e, EAGAIN, "container.state", "the container is being created");
	if (s->phase < SHIM_ENDING && kill(s->pid, SIGKILL) < 0)
		return err_sys(e, errno, "kill the container");
	/* A frozen process of cgroup v1 dies only when it is thawed. */
	if (s->phase < SHIM_ENDING) {
		struct adjust_job j = { .s = s, .sig = SIGKILL };

		return start_job(q, "delete", do_kill, &j, forward_done, e);
	}
	return 0;
}

/* -- exec -- */

struct exec_job {
	struct exec_opts o;
	int fds[3];
	unsigned int n_fds;
};

static int do_exec(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct exec_job *j = arg;
	struct exec_result res;
	_cleanup_(buf_done) struct buf warnings = { 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), r;

	for (int i = 0; i < 3; i++)
		if (dup2((unsigned int)i < j->n_fds ? j->fds[i] : null, i) < 0)
			return err_sys(e, errno, "standard streams");
	ct_warn_to(&warnings);
	j->o.ret = &res;
	r = container_exec(&j->o, e);
	if (r < 0)
		return r;
	buf_addf(&reply->text, ",\"pid\":%d,\"start\":%llu", (int)res.pid,
		 (unsigned long long)res.start);
	add_warnings(&reply->text, &warnings);
	if (res.master >= 0)
		reply->fds[reply->n_fds++] = res.master;
	return 0;
}

static void exec_done(struct shim_job *j, struct rpc_frame *f, const struct jval *doc)
{
	struct shim *s = j->data;
	struct jval *ok = jget(doc, "ok"), *pid = jget(doc, "pid");
	struct shim_exec *x, *found = NULL;
	uint64_t v = 0;
	int status;

	list_for_each_entry(x, &s->execs, node)
		if (x->pid == -j->pid)
			found = x;
	if (found && ok && ok->kind == J_TRUE && jval_u64(pid, &v))
		found->pid = (pid_t)v;
	forward(j, f);
	if (found && found->pid > 0) {
		if (shim_take_early(s, found->pid, &status))
			shim_exec_ended(s, found, status);
	} else if (found) {
		list_del(&found->node);
		free(found->name);
		free(found);
	}
	starting_done(s);
	shim_check_end(s);
}

static int op_exec(struct request *q, struct buf *add, struct err **e)
{
	struct shim *s = q->s;
	struct exec_job j = { .o = { .root = s->root, .id = s->id, .detach = true },
			      .n_fds = MIN(q->f->n_fds, 3U) };
	struct jval *process = jr_obj(&q->r, q->doc, "process");
	struct shim_exec *x, *old;
	struct shim_job *job;
	const char *name = NULL;
	int r = want(q, true, e);

	(void)add;
	if (r < 0)
		return r;
	jr_str(&q->r, q->doc, "exec", &name);
	jr_strv(&q->r, q->doc, "args", &j.o.args, NULL);
	jr_strv(&q->r, q->doc, "env", (char ***)(uintptr_t)&j.o.env, NULL);
	jr_str(&q->r, q->doc, "cwd", &j.o.cwd);
	jr_str(&q->r, q->doc, "user", &j.o.user);
	jr_bool(&q->r, q->doc, "terminal", &j.o.tty);
	jr_bool(&q->r, q->doc, "no_wait", &j.o.ignore_paused);
	if (q->r.r < 0)
		return q->r.r;
	if (!name || (!process && (!j.o.args || !j.o.args[0])))
		return err_set(e, EINVAL, "shim.field", "exec wants a name, and a process or args");
	list_for_each_entry(old, &s->execs, node)
		if (streq(old->name, name) && !old->ended)
			return err_set(e, EEXIST, "shim.exec", "'%s' is running already", name);
	if (process) {
		j.o.process_text = q->f->text.s + process->from;
		j.o.process_len = process->to - process->from;
	}
	for (unsigned int i = 0; i < j.n_fds; i++)
		j.fds[i] = q->f->fds[i];
	x = calloc(1, sizeof(*x));
	if (!x || !(x->name = strdup(name))) {
		free(x);
		return err_sys(e, ENOMEM, "exec");
	}
	r = shim_job_start(s->loop, &s->jobs, "exec", do_exec, &j, exec_done, &job, e);
	if (r < 0) {
		free(x->name);
		free(x);
		return r;
	}
	job->data = s;
	job->owner = q->c;
	job->seq = q->seq;
	x->pid = -job->pid; /* until it is known: who will tell */
	s->n_starting++;
	list_add_tail(&s->execs, &x->node);
	return 1;
}

/* -- streams -- */

static int op_attach(struct request *q, struct buf *add, struct err **e)
{
	bool in = true, out = true, wait = false;
	int fds[2], r;

	(void)add;
	jr_bool(&q->r, q->doc, "stdin", &in);
	jr_bool(&q->r, q->doc, "output", &out);
	jr_bool(&q->r, q->doc, "wait", &wait);
	r = q->r.r < 0 ? q->r.r : want(q, false, e);
	if (r == 0)
		r = shim_io_attach(&q->s->io, in, out, wait, fds, e);
	if (r < 0)
		return r;
	send_reply(q->c, q->seq, "\"ok\":true}", fds, fds[1] >= 0 ? 2 : 1);
	safe_close(fds[0]);
	safe_close(fds[1]);
	return 1;
}

static int op_resize(struct request *q, struct buf *add, struct err **e)
{
	uint32_t rows = 0, cols = 0;

	(void)add;
	jr_u32(&q->r, q->doc, "rows", &rows);
	jr_u32(&q->r, q->doc, "cols", &cols);
	if (q->r.r < 0)
		return q->r.r;
	if (rows == 0 || cols == 0 || rows > UINT16_MAX || cols > UINT16_MAX)
		return err_set(e, ERANGE, "shim.field", "rows and cols: 1 to 65535");
	return shim_io_resize(&q->s->io, rows, cols, e);
}

static int op_reopen(struct request *q, struct buf *add, struct err **e)
{
	(void)add;
	return linelog_reopen(&q->s->io.log, e);
}

static int op_events(struct request *q, struct buf *add, struct err **e)
{
	(void)add;
	(void)e;
	q->c->events = true;
	return 0;
}

/* -- state -- */

static const char *status_name(const struct shim *s)
{
	struct container c = { .dir = -1 };
	const char *name = "running";

	if (s->phase <= SHIM_CREATING)
		return "creating";
	if (s->phase >= SHIM_ENDING)
		return "stopped";
	if (s->phase == SHIM_CREATED)
		return "created";
	if (container_load(&c, s->root, s->id, NULL) == 0 && container_status(&c) == CT_PAUSED)
		name = "paused";
	container_done(&c);
	return name;
}

static int op_state(struct request *q, struct buf *b, struct err **e)
{
	struct shim *s = q->s;
	struct shim_exec *x;
	bool first = true;

	(void)e;
	buf_addf(b, ",\"version\":%d,\"features\":[\"exec\",\"attach\",\"stats\",\"oom\"],\"id\":",
		 SHIM_VERSION);
	buf_add_json(b, s->id ? s->id : "");
	buf_addf(b,
		 ",\"pid\":%d,\"start\":%llu,\"status\":\"%s\",\"terminal\":%s,\"oom_kills\":%lld",
		 (int)s->pid, (unsigned long long)s->start, status_name(s),
		 s->io.terminal ? "true" : "false", (long long)s->oom_kills);
	buf_addf(b, ",\"log\":{\"bytes\":%llu,\"dropped\":%llu},\"execs\":[",
		 (unsigned long long)s->io.log.bytes, (unsigned long long)s->io.log.dropped);
	list_for_each_entry(x, &s->execs, node) {
		buf_adds(b, first ? "{\"exec\":" : ",{\"exec\":");
		buf_add_json(b, x->name);
		buf_addf(b, ",\"pid\":%d,\"running\":%s,\"status\":%d}", MAX((int)x->pid, 0),
			 x->ended ? "false" : "true", x->ended ? shim_code(x->status) : 0);
		first = false;
	}
	buf_addc(b, ']');
	if (s->phase == SHIM_ENDED) {
		buf_adds(b, ",\"exit\":{");
		shim_record_json(s, b);
		buf_addc(b, '}');
	}
	return 0;
}

static const struct {
	const char *name;
	op_fn *fn;
} ops[] = {
	{ "attach", op_attach }, { "create", op_create }, { "delete", op_delete },
	{ "events", op_events }, { "exec", op_exec },	  { "kill", op_kill },
	{ "pause", op_pause },	 { "ps", op_ps },	  { "reopen", op_reopen },
	{ "resize", op_resize }, { "resume", op_resume }, { "start", op_start },
	{ "state", op_state },	 { "stats", op_stats },	  { "update", op_update },
};

void shim_request(struct shim_client *c, struct rpc_frame *f)
{
	_cleanup_(err_freep) struct err *e = NULL;
	_cleanup_(buf_done) struct buf add = { 0 };
	struct request q = { .s = c->s, .c = c, .f = f };
	const char *op = "";
	size_t i;
	int r;

	q.r = (struct jr){ .a = &q.a, .e = &e };
	r = jdoc_parse(&q.a, buf_str(&f->text), f->text.len, &q.doc, &e);
	if (r == 0) {
		jr_i64(&q.r, q.doc, "seq", &q.seq);
		jr_str(&q.r, q.doc, "op", &op);
		r = q.r.r;
	}
	for (i = 0; r == 0 && i < ARRAY_SIZE(ops); i++)
		if (streq(op, ops[i].name))
			break;
	buf_adds(&add, "\"ok\":true");
	if (r == 0 && i == ARRAY_SIZE(ops))
		r = err_set(&e, EOPNOTSUPP, "shim.op", "this shim has no operation '%s'", op);
	else if (r == 0)
		r = ops[i].fn(&q, &add, &e);
	if (r < 0) {
		buf_clear(&add);
		buf_adds(&add, "\"ok\":false,\"error\":");
		shim_error_json(&add, e, r);
	}
	buf_addc(&add, '}');
	if (r <= 0)
		send_reply(c, q.seq, buf_str(&add), NULL, 0);
	arena_done(&q.a);
}
