/* The container engine: a strata-shim for each container, driven over its socket (container/shim.h).
 *
 * In the instance's folder: bundle/config.json, bundle/{resolv.conf,hosts,hostname} (the room above writes those three), and
 * what the shim keeps.  A crash of the daemon between spawning the shim and its first file leaves a shim that has lost its
 * caller; cleanup() therefore asks strata-oci to delete the container by id unless the shim's record says that it is gone. */
#define LOG_MODULE "container"
#include "node/engine/container.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/rpc.h"
#include "base/str.h"
#include "node/engine/shim_client.h"
#include "node/host.h"
#include "sys/proc.h"

#define RECORD_MAX (64 << 10)

struct ct_exec {
	struct engine_exec x;
	struct list node;
	char name[24];
	struct engine_call *starting; /* exec() has not ended yet */
	struct engine_exec **ret;
	int master; /* terminal's other end that we keep for its size; -1: none */
	bool ended, freed;
};

struct ct {
	struct engine_instance i;
	struct shim *shim;  /* NULL: not connected */
	struct watch child; /* the shim, when it is our child */
	struct watch deleter;
	struct engine_call *call;     /* prepare, start, adopt or cleanup that is under way */
	struct engine_call *cleaning; /* waits for the shim's end */
	struct engine_exit *adopt_exit;
	char *exit_message;
	struct list execs;
	unsigned int next_exec;
	bool told_exit; /* on_exit was called for this run */
	bool started;
};

static struct ct *ct_of(struct engine_instance *i)
{
	return container_of(i, struct ct, i);
}

/* Ends the call that is under way. */
static void finish(struct ct *c, int r, struct err *e)
{
	struct engine_call *call = TAKE(c->call);

	if (call)
		engine_done(call, r, e);
	else
		err_free(e);
}

/* -- the end -------------------------------------------------------------------------------------- */

static void record_read(const struct json *j, struct engine_exit *x, char **message)
{
	const struct json *error = json_get(j, "error");
	const char *ended = json_str(json_get(j, "ended"));

	*x = (struct engine_exit){ .code = (int)CLAMP(json_int(json_get(j, "status"), 255), 0, 255),
				   .oom = json_bool(json_get(j, "oom"), false) };
	if (!ended || parse_time(ended, &x->when) < 0)
		x->when = now_real();
	free(*message);
	*message = NULL;
	if (json_str(json_get(error, "text")))
		*message = strdup(json_str(json_get(error, "text")));
	x->message = *message;
}

static int record_load(struct ct *c, struct engine_exit *x)
{
	_cleanup_(json_freep) struct json *j = NULL;
	char path[4096];

	snprintf(path, sizeof(path), "%s/exit.json", c->i.dir);
	if (access(path, F_OK) < 0 || json_parse_file(path, NULL, &j, NULL) < 0)
		return -ENOENT;
	record_read(j, x, &c->exit_message);
	return 0;
}

static void tell_exit(struct ct *c, const struct engine_exit *x)
{
	if (c->told_exit || !c->started)
		return;
	c->told_exit = true;
	c->i.events->on_exit(&c->i, x);
}

static void exec_ended(struct ct_exec *x, int code, struct err *e)
{
	if (x->ended) {
		err_free(e);
		return;
	}
	x->ended = true;
	if (x->x.on_exit)
		x->x.on_exit(&x->x, code, e);
	else
		err_free(e);
}

static void execs_lost(struct ct *c)
{
	struct ct_exec *x, *tmp;

	list_for_each_entry_safe(x, tmp, &c->execs, node) {
		struct err *e = NULL;

		if (x->starting)
			continue; /* its call is told by the connection */
		err_set(&e, ESRCH, "engine.gone", "the container has ended");
		exec_ended(x, 137, e);
	}
}

static void on_event(void *arg, const char *event, const struct json *ev)
{
	struct ct *c = arg;
	struct ct_exec *x, *tmp;
	struct engine_exit exit;

	if (streq(event, "exit")) {
		record_read(ev, &exit, &c->exit_message);
		execs_lost(c);
		tell_exit(c, &exit);
	} else if (streq(event, "oom")) {
		c->i.events->on_oom(&c->i);
	} else if (streq(event, "exec_exit")) {
		const char *name = json_str(json_get(ev, "exec"));

		list_for_each_entry_safe(x, tmp, &c->execs, node) {
			if (name && streq(x->name, name)) {
				exec_ended(x, (int)json_int(json_get(ev, "status"), 255), NULL);
				break;
			}
		}
	} else if (streq(event, "warning")) {
		log_warn("shim", "instance", c->i.id, "text", json_str(json_get(ev, "text")));
	}
}

static void delete_by_id(struct ct *c);

static void on_closed(void *arg)
{
	struct ct *c = arg;
	struct engine_exit x = {
		.code = 255,
		.when = now_real(),
		.message = "the container's monitor was killed: how it ended is lost"
	};
	bool known;

	shim_close(c->shim);
	c->shim = NULL;
	known = record_load(c, &x) == 0;
	execs_lost(c);
	if (c->cleaning) {
		struct engine_call *call = TAKE(c->cleaning);

		if (!known) {
			c->call = call;
			delete_by_id(c);
		} else {
			engine_done(call, 0, NULL);
		}
		return;
	}
	tell_exit(c, &x);
}

/* -- the shim ------------------------------------------------------------------------------------- */

static void on_shim_end(struct watch *w, const siginfo_t *si)
{
	/* the connection's end says everything */
}

/* The strings of argv are not changed: posix_spawn()'s type is older than const. */
static int spawn(struct ct *c, const char *const *argv, int fd, pid_t *pid, struct err **e)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	r = r ?: posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	if (fd >= 0)
		r = r ?: posix_spawn_file_actions_adddup2(&fa, fd, 3);
	r = r ?: posix_spawnp(pid, argv[0], &fa, &attr, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	return r ? err_sys(e, r, "start %s", argv[0]) : 0;
}

static int connect_shim(struct ct *c, int fd, struct err **e)
{
	const struct shim_handlers h = { on_event, on_closed, c };

	return shim_open(c->i.env->loop, fd, &h, &c->shim, e);
}

static int start_shim(struct ct *c, struct err **e)
{
	const char *const argv[] = { "strata-shim", "--dir", c->i.dir, "--fd", "3", NULL };
	int pair[2], r;
	pid_t pid;

	/* above 3, so that dup2 clears close-on-exec */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socket");
	if (pair[1] == 3) {
		int up = fcntl(pair[1], F_DUPFD_CLOEXEC, 4);

		close(pair[1]);
		pair[1] = up;
	}
	r = spawn(c, argv, pair[1], &pid, e);
	safe_close(pair[1]);
	if (r < 0) {
		safe_close(pair[0]);
		return r;
	}
	watch_remove(&c->child);
	watch_child(c->i.env->loop, &c->child, "shim", pid, on_shim_end);
	return connect_shim(c, pair[0], e);
}

static int write_config(struct ct *c, const struct engine_plan *p, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int fd = -1;
	char files[4000], path[4096];
	int r;

	snprintf(files, sizeof(files), "%s/bundle", c->i.dir);
	if (mkdir(files, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create '%s'", files);
	r = ct_config(p, files, &b, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/config.json", files);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_all(fd, b.s, b.len);
	return r < 0 ? err_sys(e, -r, "write '%s'", path) : 0;
}

static void oci_root(const struct ct *c, char *buf, size_t len)
{
	snprintf(buf, len, "%s/oci", c->i.env->run_dir);
}

static void on_prepared(void *arg, const struct json *reply, struct rpc_frame *f, int r,
			struct err *e)
{
	struct ct *c = arg;

	if (r == 0)
		c->i.info.pid = (pid_t)json_int(json_get(reply, "pid"), 0);
	finish(c, r, e);
}

static struct json *create_request(struct ct *c, const struct engine_plan *p)
{
	struct json *rq = shim_request("create"), *log = json_new_obj();
	char root[4096];

	oci_root(c, root, sizeof(root));
	json_set(rq, "id", json_new_str(c->i.id));
	json_set(rq, "root", json_new_str(root));
	json_set(rq, "bundle", json_new_fmt("%s/bundle", c->i.dir));
	json_set(rq, "start", json_new_bool(false));
	json_set(rq, "stdin", json_new_str(p->spec->stdin ? "once" : "none"));
	json_set(log, "path", json_new_str(p->log));
	json_set(log, "format", json_new_str("cri"));
	json_set(log, "max_size", json_new_int((int64_t)p->spec->log.max_size));
	json_set(log, "max_files", json_new_int((int64_t)p->spec->log.max_files));
	json_set(rq, "log", log);
	return rq;
}

static void ct_prepare(struct engine_instance *i, const struct engine_plan *p,
		       struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct err *e = NULL;
	int r = write_config(c, p, &e);

	c->told_exit = c->started = false;
	if (r == 0)
		r = start_shim(c, &e);
	if (r < 0) {
		engine_done(call, r, e);
		return;
	}
	c->call = call;
	shim_call(c->shim, create_request(c, p), NULL, 0, on_prepared, c);
}

static void on_started(void *arg, const struct json *reply, struct rpc_frame *f, int r,
		       struct err *e)
{
	struct ct *c = arg;

	if (r == 0)
		c->i.info.started = now_real();
	else
		c->started = false; /* its end is told by the error */
	finish(c, r, e);
}

static void ct_start(struct engine_instance *i, const struct engine_plan *p,
		     struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct err *e = NULL;

	if (!c->shim) {
		err_set(&e, ESRCH, "engine.gone", "the container's monitor is gone");
		engine_done(call, -ESRCH, e);
		return;
	}
	c->started = true;
	c->call = call;
	shim_call(c->shim, shim_request("start"), NULL, 0, on_started, c);
}

/* -- after a restart of the daemon ---------------------------------------------------------------- */

static void on_state(void *arg, const struct json *reply, struct rpc_frame *f, int r, struct err *e)
{
	struct ct *c = arg;
	const char *status = json_str(json_get(reply, "status"));
	const struct json *record = json_get(reply, "exit");

	if (r < 0) {
		finish(c, -ESRCH, e);
		return;
	}
	c->i.info.pid = (pid_t)json_int(json_get(reply, "pid"), 0);
	if (json_kind(record) == JSON_K_OBJECT) {
		record_read(record, c->adopt_exit, &c->exit_message);
		finish(c, -ESRCH, NULL);
	} else if (status && (streq(status, "running") || streq(status, "paused"))) {
		c->started = true;
		c->told_exit = false;
		finish(c, 0, NULL);
	} else {
		finish(c, -ESRCH, NULL);
	}
}

static int reach(struct ct *c, struct err **e)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/shim.sock", c->i.dir);
	fd = rpc_connect(path, e);
	return fd < 0 ? fd : connect_shim(c, fd, e);
}

static void ct_adopt(struct engine_instance *i, struct engine_exit *x, struct engine_call *call)
{
	struct ct *c = ct_of(i);

	if (record_load(c, x) == 0 || reach(c, NULL) < 0) {
		engine_done(call, -ESRCH, NULL);
		return;
	}
	c->call = call;
	c->adopt_exit = x;
	shim_call(c->shim, shim_request("events"), NULL, 0, NULL, NULL);
	shim_call(c->shim, shim_request("state"), NULL, 0, on_state, c);
}

/* -- taking away ---------------------------------------------------------------------------------- */

static void on_deleted(struct watch *w, const siginfo_t *si)
{
	finish(w->data, 0, NULL);
}

/* The shim is gone and left no record: the runtime knows what it had made. */
static void delete_by_id(struct ct *c)
{
	char root[4096];
	const char *const argv[] = { "strata-oci", "--root", root, "delete",
				     "--force",	   c->i.id,  NULL };
	struct err *e = NULL;
	pid_t pid;
	int r;

	oci_root(c, root, sizeof(root));
	r = spawn(c, argv, -1, &pid, &e);
	c->deleter.data = c;
	if (r == 0)
		r = watch_child(c->i.env->loop, &c->deleter, "strata-oci delete", pid, on_deleted);
	if (r < 0)
		finish(c, r, e);
}

static void on_delete_reply(void *arg, const struct json *reply, struct rpc_frame *f, int r,
			    struct err *e)
{
	/* the shim ends in any case; on_closed() goes on */
	err_free(e);
}

static void ct_cleanup(struct engine_instance *i, struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct engine_exit x;
	char path[4096];

	c->started = false;
	if (c->shim || (record_load(c, &x) < 0 && reach(c, NULL) == 0)) {
		c->cleaning = call;
		shim_call(c->shim, shim_request("delete"), NULL, 0, on_delete_reply, c);
		return;
	}
	snprintf(path, sizeof(path), "%s/bundle/config.json", i->dir);
	if (record_load(c, &x) == 0 || access(path, F_OK) < 0) {
		engine_done(call, 0, NULL);
		return;
	}
	c->call = call;
	delete_by_id(c);
}

/* -- while it runs -------------------------------------------------------------------------------- */

static void on_simple(void *arg, const struct json *reply, struct rpc_frame *f, int r,
		      struct err *e)
{
	engine_done(arg, r, e);
}

static bool connected(struct ct *c, struct engine_call *call)
{
	struct err *e = NULL;

	if (c->shim)
		return true;
	err_set(&e, ESRCH, "engine.gone", "the container does not run");
	engine_done(call, -ESRCH, e);
	return false;
}

static void simple(struct engine_instance *i, const char *op, struct engine_call *call)
{
	struct ct *c = ct_of(i);

	if (connected(c, call))
		shim_call(c->shim, shim_request(op), NULL, 0, on_simple, call);
}

static void send_signal(struct engine_instance *i, int signo, bool all, struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct json *rq;

	if (!connected(c, call))
		return;
	rq = shim_request("kill");
	json_set(rq, "signal", json_new_int(signo));
	json_set(rq, "all", json_new_bool(all));
	shim_call(c->shim, rq, NULL, 0, on_simple, call);
}

static void ct_stop(struct engine_instance *i, int signo, struct engine_call *call)
{
	send_signal(i, signo, false, call);
}

static void ct_kill(struct engine_instance *i, int signo, struct engine_call *call)
{
	send_signal(i, signo, signo == SIGKILL, call);
}

static void ct_pause(struct engine_instance *i, struct engine_call *call)
{
	simple(i, "pause", call);
}

static void ct_resume(struct engine_instance *i, struct engine_call *call)
{
	simple(i, "resume", call);
}

static void ct_update(struct engine_instance *i, const struct engine_plan *p,
		      struct engine_call *call)
{
	struct ct *c = ct_of(i);
	_cleanup_(buf_done) struct buf b = { 0 };
	struct json *rq, *res = NULL;
	struct err *e = NULL;
	int r;

	if (!connected(c, call))
		return;
	r = ct_resources(p, &b, &e);
	if (r == 0)
		r = json_parse(b.s, b.len, NULL, &res, &e);
	if (r < 0) {
		engine_done(call, r, e);
		return;
	}
	json_remove(res, "devices");
	rq = shim_request("update");
	json_set(rq, "resources", res);
	shim_call(c->shim, rq, NULL, 0, on_simple, call);
}

/* -- programs inside ------------------------------------------------------------------------------ */

static void exec_destroy(struct ct_exec *x)
{
	list_del(&x->node);
	engine_stream_close(&x->x.stream);
	safe_close(x->master);
	free(x);
}

static void on_exec(void *arg, const struct json *reply, struct rpc_frame *f, int r, struct err *e)
{
	struct ct_exec *x = arg;
	struct engine_call *call = TAKE(x->starting);

	if (r == 0) {
		x->x.pid = (pid_t)json_int(json_get(reply, "pid"), 0);
		if (x->x.stream.tty) {
			if (f->n_fds < 1)
				r = err_set(&e, EPROTO, "engine.exec", "no terminal came");
			else
				x->x.stream.in = TAKE_FD(f->fds[0]);
			x->master = fcntl(x->x.stream.in, F_DUPFD_CLOEXEC, 3);
		}
	}
	if (r < 0) {
		exec_destroy(x);
	} else {
		*x->ret = &x->x;
	}
	engine_done(call, r, e);
}

static int exec_pipes(struct engine_stream *ours, int theirs[3], bool input)
{
	int p[2];

	theirs[0] = theirs[1] = theirs[2] = -1;
	if (input) {
		if (pipe2(p, O_CLOEXEC) < 0)
			return -errno;
		theirs[0] = p[0];
		ours->in = p[1];
	} else {
		theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (theirs[0] < 0 || pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	ours->out = p[0];
	theirs[1] = p[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	ours->err = p[0];
	theirs[2] = p[1];
	return 0;
}

static int exec_request(struct ct *c, struct ct_exec *x, const struct engine_exec_spec *s,
			struct json **ret, struct err **e)
{
	struct json *rq = shim_request("exec");
	struct ct_user u;

	json_set(rq, "exec", json_new_str(x->name));
	json_set(rq, "args", json_new_strv(s->args));
	if (s->env && *s->env)
		json_set(rq, "env", json_new_strv(s->env));
	if (s->cwd)
		json_set(rq, "cwd", json_new_str(s->cwd));
	if (s->user) {
		char root[64];
		int r;

		snprintf(root, sizeof(root), "/proc/%d/root", (int)c->i.info.pid);
		r = ct_user_find(root, s->user, &u, e);
		if (r < 0) {
			json_free(rq);
			return r;
		}
		json_set(rq, "user", json_new_fmt("%u:%u", u.uid, u.gid));
	}
	json_set(rq, "terminal", json_new_bool(s->tty));
	*ret = rq;
	return 0;
}

static void ct_exec_start(struct engine_instance *i, const struct engine_exec_spec *s,
			  struct engine_exec **ret, struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct ct_exec *x;
	struct json *rq = NULL;
	struct err *e = NULL;
	int theirs[3] = { -1, -1, -1 }, r;

	if (!connected(c, call))
		return;
	x = calloc(1, sizeof(*x));
	if (!x) {
		engine_done(call, -ENOMEM, NULL);
		return;
	}
	x->x.instance = i;
	x->x.stream = ENGINE_STREAM_NONE;
	x->x.stream.tty = s->tty;
	x->master = -1;
	x->starting = call;
	x->ret = ret;
	snprintf(x->name, sizeof(x->name), "x%u-%x", c->next_exec++,
		 (unsigned int)(now_mono() / NSEC_PER_MSEC));
	list_add_tail(&c->execs, &x->node);
	r = exec_request(c, x, s, &rq, &e);
	if (r == 0 && !s->tty) {
		r = exec_pipes(&x->x.stream, theirs, s->stdin_open);
		if (r < 0)
			err_sys(&e, -r, "pipe");
	}
	if (r < 0) {
		json_free(rq);
		exec_destroy(x);
		engine_done(call, r, e);
	} else {
		shim_call(c->shim, rq, theirs, s->tty ? 0 : 3, on_exec, x);
	}
	for (int k = 0; k < 3; k++)
		safe_close(theirs[k]);
}

static int ct_exec_resize(struct engine_exec *x, unsigned int rows, unsigned int columns)
{
	struct ct_exec *cx = container_of(x, struct ct_exec, x);
	struct winsize ws = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

	if (cx->master < 0)
		return -ENOTTY;
	return ioctl(cx->master, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

static void ct_exec_free(struct engine_exec *x)
{
	exec_destroy(container_of(x, struct ct_exec, x));
}

struct console_call {
	struct engine_call *call;
	struct engine_stream *ret;
};

static void on_attached(void *arg, const struct json *reply, struct rpc_frame *f, int r,
			struct err *e)
{
	struct console_call *cc = arg;

	if (r == 0 && f->n_fds < 1)
		r = err_set(&e, EPROTO, "engine.attach", "no stream came");
	if (r == 0) {
		*cc->ret = ENGINE_STREAM_NONE;
		cc->ret->in = TAKE_FD(f->fds[0]);
		cc->ret->tty = f->n_fds < 2;
		if (f->n_fds > 1)
			cc->ret->err = TAKE_FD(f->fds[1]);
	}
	engine_done(cc->call, r, e);
	free(cc);
}

static void ct_console(struct engine_instance *i, struct engine_stream *ret,
		       struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct console_call *cc;
	struct json *rq;

	if (!connected(c, call))
		return;
	cc = malloc(sizeof(*cc));
	if (!cc) {
		engine_done(call, -ENOMEM, NULL);
		return;
	}
	*cc = (struct console_call){ call, ret };
	rq = shim_request("attach");
	json_set(rq, "stdin", json_new_bool(true));
	json_set(rq, "output", json_new_bool(true));
	json_set(rq, "wait", json_new_bool(true));
	shim_call(c->shim, rq, NULL, 0, on_attached, cc);
}

static int ct_console_resize(struct engine_instance *i, unsigned int rows, unsigned int columns)
{
	struct ct *c = ct_of(i);
	struct json *rq;

	if (!c->shim)
		return -ESRCH;
	rq = shim_request("resize");
	json_set(rq, "rows", json_new_int(rows));
	json_set(rq, "cols", json_new_int(columns));
	shim_call(c->shim, rq, NULL, 0, NULL, NULL);
	return 0;
}

/* -- figures -------------------------------------------------------------------------------------- */

static uint64_t u64_at(const struct json *v)
{
	double d = json_num(v, 0);

	return d < 0 || d > 9e18 ? 0 : (uint64_t)d;
}

static uint64_t blk_sum(const struct json *list, const char *op)
{
	uint64_t sum = 0;

	for (size_t k = 0; k < json_len(list); k++) {
		const char *is = json_str(json_get(json_at(list, k), "op"));

		if (is && strcasecmp(is, op) == 0)
			sum += u64_at(json_get(json_at(list, k), "value"));
	}
	return sum;
}

static int stats_read(const struct json *s, struct api_instance_stats *ret)
{
	const struct json *cpu = json_get(s, "cpu"), *mem = json_get(s, "memory");
	const struct json *usage = json_get(cpu, "usage"), *blk = json_get(s, "blkio");
	const struct json *raw = json_get(mem, "raw");
	struct api_disk_stats *d;
	uint64_t file, limit;
	int r = api_instance_stats_init(ret);

	if (r < 0)
		return r;
	ret->time = now_real();
	ret->cpu.usage = u64_at(json_get(usage, "total"));
	ret->cpu.user = u64_at(json_get(usage, "user"));
	ret->cpu.system = u64_at(json_get(usage, "kernel"));
	ret->cpu.throttled = u64_at(json_walk(cpu, "throttling", "throttledTime", NULL));
	ret->memory.cache = u64_at(json_get(mem, "cache"));
	file = u64_at(json_get(raw, "inactive_file"));
	if (!file)
		file = u64_at(json_get(raw, "total_inactive_file"));
	ret->memory.used = u64_at(json_walk(mem, "usage", "usage", NULL));
	ret->memory.used -= MIN(file, ret->memory.used);
	limit = u64_at(json_walk(mem, "usage", "limit", NULL));
	if (limit && limit < (UINT64_C(1) << 60)) {
		ret->memory.limit = limit;
		ret->memory.has_limit = true;
	}
	ret->memory.swap = u64_at(json_walk(mem, "swap", "usage", NULL));
	ret->processes = u64_at(json_walk(s, "pids", "current", NULL));
	ret->has_processes = true;
	d = GEN_ADD(&ret->disks, api_disk_stats);
	if (!d || !(d->id = strdup("root")))
		return -ENOMEM;
	d->bytes_read = blk_sum(json_get(blk, "ioServiceBytesRecursive"), "read");
	d->bytes_written = blk_sum(json_get(blk, "ioServiceBytesRecursive"), "write");
	d->reads = blk_sum(json_get(blk, "ioServicedRecursive"), "read");
	d->writes = blk_sum(json_get(blk, "ioServicedRecursive"), "write");
	return 0;
}

struct stats_call {
	struct engine_call *call;
	struct api_instance_stats *ret;
};

static void on_stats(void *arg, const struct json *reply, struct rpc_frame *f, int r, struct err *e)
{
	struct stats_call *sc = arg;

	if (r == 0)
		r = stats_read(json_get(reply, "stats"), sc->ret);
	engine_done(sc->call, r, e);
	free(sc);
}

static void ct_stats(struct engine_instance *i, struct api_instance_stats *ret,
		     struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct stats_call *sc;

	if (!connected(c, call))
		return;
	sc = malloc(sizeof(*sc));
	if (!sc) {
		engine_done(call, -ENOMEM, NULL);
		return;
	}
	*sc = (struct stats_call){ call, ret };
	shim_call(c->shim, shim_request("stats"), NULL, 0, on_stats, sc);
}

struct top_call {
	struct engine_call *call;
	struct engine_process **ret;
	size_t *n;
};

static bool process_read(pid_t pid, struct engine_process *p)
{
	_cleanup_(buf_done) struct buf cmd = { 0 }, status = { 0 }, stat = { 0 }, map = { 0 };
	unsigned long long ut = 0, st = 0, rss = 0;
	unsigned int uid = 0, inside, outside, count;
	const char *s;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(AT_FDCWD, path, 4096, &stat, NULL) < 0)
		return false;
	s = strrchr(buf_str(&stat), ')');
	p->pid = pid;
	if (s)
		sscanf(s + 1, " %*c %lld %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
		       (long long *)&p->ppid, &ut, &st);
	p->cpu = (nsec_t)((ut + st) * (unsigned long long)(NSEC_PER_SEC / sysconf(_SC_CLK_TCK)));
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file_read(AT_FDCWD, path, 16384, &status, NULL);
	s = strstr(buf_str(&status), "\nUid:");
	if (s)
		sscanf(s, "\nUid: %u", &uid);
	s = strstr(buf_str(&status), "\nVmRSS:");
	if (s)
		sscanf(s, "\nVmRSS: %llu", &rss);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	if (file_read(AT_FDCWD, path, 4096, &map, NULL) == 0 &&
	    sscanf(buf_str(&map), "%u %u %u", &inside, &outside, &count) == 3 && uid >= outside &&
	    uid - outside < count)
		uid = uid - outside + inside;
	snprintf(p->user, sizeof(p->user), "%u", uid);
	p->memory = rss * 1024;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	file_read(AT_FDCWD, path, 4096, &cmd, NULL);
	for (size_t k = 0; k + 1 < cmd.len; k++) {
		if (cmd.s[k] == '\0')
			cmd.s[k] = ' ';
	}
	p->command = strdup(buf_str(&cmd));
	return p->command != NULL;
}

static void on_ps(void *arg, const struct json *reply, struct rpc_frame *f, int r, struct err *e)
{
	struct top_call *tc = arg;
	const struct json *pids = json_get(reply, "pids");

	if (r == 0) {
		*tc->n = 0;
		*tc->ret = calloc(json_len(pids) + 1, sizeof(**tc->ret));
		if (!*tc->ret)
			r = -ENOMEM;
		for (size_t k = 0; r == 0 && k < json_len(pids); k++) {
			if (process_read((pid_t)json_int(json_at(pids, k), 0), &(*tc->ret)[*tc->n]))
				(*tc->n)++;
		}
	}
	engine_done(tc->call, r, e);
	free(tc);
}

static void ct_top(struct engine_instance *i, struct engine_process **ret, size_t *n,
		   struct engine_call *call)
{
	struct ct *c = ct_of(i);
	struct top_call *tc;

	if (!connected(c, call))
		return;
	tc = malloc(sizeof(*tc));
	if (!tc) {
		engine_done(call, -ENOMEM, NULL);
		return;
	}
	*tc = (struct top_call){ call, ret, n };
	shim_call(c->shim, shim_request("ps"), NULL, 0, on_ps, tc);
}

/* -- attaching ------------------------------------------------------------------------------------ */

static int ct_attach(struct engine_instance *i, struct err **e)
{
	list_init(&ct_of(i)->execs);
	return 0;
}

static void ct_detach(struct engine_instance *i)
{
	struct ct *c = ct_of(i);
	struct ct_exec *x, *tmp;

	shim_close(c->shim);
	watch_remove(&c->child);
	watch_remove(&c->deleter);
	list_for_each_entry_safe(x, tmp, &c->execs, node)
		exec_destroy(x);
	free(c->exit_message);
}

const struct engine_ops engine_container = {
	.name = "container",
	.instance_size = sizeof(struct ct),
	.attach = ct_attach,
	.detach = ct_detach,
	.prepare = ct_prepare,
	.start = ct_start,
	.adopt = ct_adopt,
	.cleanup = ct_cleanup,
	.stop = ct_stop,
	.kill = ct_kill,
	.pause = ct_pause,
	.resume = ct_resume,
	.exec = ct_exec_start,
	.exec_resize = ct_exec_resize,
	.exec_free = ct_exec_free,
	.console = ct_console,
	.console_resize = ct_console_resize,
	.stats = ct_stats,
	.top = ct_top,
	.update = ct_update,
};
