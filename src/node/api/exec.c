/* Commands inside instances: started by POST, connected to by a WebSocket, looked up for a while after their end. */
#include "node/api/api.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "base/uuid.h"
#include "gen/instance.h"
#include "node/console/relay.h"
#include "node/instance/instance.h"

#define KEEP (600 * NSEC_PER_SEC) /* after the end */

struct session {
	struct list node; /* of instances.execs */
	char id[UUID_TEXT], instance[UUID_TEXT];
	struct instances *all;
	struct api_call *api; /* the POST that waits; NULL: answered or gone */
	struct engine_call call;
	struct engine_exec *x; /* NULL: not there yet, or over */
	struct engine_stream stream;
	struct relay *relay;
	struct timer keep;
	char **command;
	pid_t pid;
	bool running, taken;
	int code;
	char *lost;
};

static void session_free(struct session *s)
{
	list_del(&s->node);
	timer_stop(&s->keep);
	if (s->relay)
		relay_stop(s->relay);
	engine_exec_free(s->x);
	engine_stream_close(&s->stream);
	strv_free(s->command);
	free(s->lost);
	free(s);
}

static void on_keep(struct timer *t)
{
	session_free(t->data);
}

void api_execs_close(struct instances *all)
{
	struct session *s, *tmp;

	list_for_each_entry_safe(s, tmp, &all->execs, node)
		session_free(s);
}

static void session_show(struct api_call *c, const struct session *s, unsigned int status)
{
	_cleanup_(api_exec_session_done) struct api_exec_session x = { 0 };
	int r = api_exec_session_init(&x);

	x.id = strdup(s->id);
	x.instance = strdup(s->instance);
	for (char **w = s->command; w && *w; w++)
		r = vec_push(&x.command, strdup(*w)) ?: r;
	x.running = s->running;
	x.has_exit_code = !s->running;
	x.exit_code = (uint64_t)s->code;
	x.has_pid = s->running && s->pid > 0;
	x.pid = (uint64_t)s->pid;
	if (r < 0 || !x.id || !x.instance)
		api_fail(c, -ENOMEM, NULL);
	else
		api_object(c, status, &api_exec_session_type, &x);
}

/* The engine's part may be freed from here on: its end was told. */
static void on_exit_code(struct engine_exec *x, int code, struct err *e)
{
	struct session *s = x->data;

	s->running = false;
	s->code = e ? 137 : code & 255;
	s->lost = e ? strdup(err_msg(e)) : NULL;
	err_free(e);
	s->x = NULL;
	s->pid = 0;
	if (s->relay)
		relay_exit(s->relay, s->code, s->lost);
	s->keep.data = s;
	timer_start(s->all->node->loop, &s->keep, "exec session", KEEP, 0, on_keep);
	engine_exec_free(x);
}

static void on_started(struct engine_call *call, int r, struct err *e)
{
	struct session *s = container_of(call, struct session, call);
	struct api_call *c = TAKE(s->api);

	if (r < 0) {
		if (c) {
			httpd_set_data(c->req, NULL, NULL);
			api_fail(c, r, e);
		} else {
			err_free(e);
		}
		session_free(s);
		return;
	}
	s->running = true;
	s->pid = s->x->pid;
	s->stream = s->x->stream;
	s->x->stream = ENGINE_STREAM_NONE;
	s->x->data = s;
	s->x->on_exit = on_exit_code;
	if (!c) { /* the client left: it runs on, and says nothing to nobody */
		engine_stream_close(&s->stream);
		return;
	}
	httpd_set_data(c->req, NULL, NULL);
	session_show(c, s, 201);
}

static void client_gone(struct httpd_req *r, void *data)
{
	struct session *s = data;

	api_done(s->api);
	s->api = NULL;
}

static char **env_of(const struct gen_map *m)
{
	char **v = calloc(m->n + 1, sizeof(char *));

	for (size_t k = 0; v && k < m->n; k++) {
		if (asprintf(&v[k], "%s=%s", m->v[k].key, m->v[k].value) < 0) {
			v[k] = NULL;
			strv_free(v);
			return NULL;
		}
	}
	return v;
}

void route_exec_create(struct api_call *c)
{
	const struct api_exec *rq = c->request;
	struct instance *i = api_instance(c);
	_cleanup_(strv_freep) char **env = env_of(&rq->env);
	struct uuid u = uuid_v7();
	struct err *e = NULL;
	struct session *s;

	if (!i)
		return;
	if (i->state != API_INSTANCE_STATE_RUNNING)
		err_set(&e, EBUSY, "instance.state", "instance '%s' is %s, not running",
			i->object->name, api_instance_state_str(i->state));
	else if (!i->engine->ops->exec)
		err_set(&e, ENOTSUP, "engine.unsupported", "this engine runs no commands inside");
	s = e || !env ? NULL : calloc(1, sizeof(*s));
	if (s) {
		list_add_tail(&c->node->instances->execs, &s->node);
		s->stream = ENGINE_STREAM_NONE;
		s->all = c->node->instances;
		s->command = calloc(rq->command.n + 1, sizeof(char *));
	}
	if (!s || !s->command) {
		if (s)
			session_free(s);
		api_fail(c, e ? -err_num(e) : -ENOMEM, e);
		return;
	}
	for (size_t k = 0; k < rq->command.n; k++)
		s->command[k] = strdup(rq->command.v[k]);
	uuid_format(&u, s->id);
	memcpy(s->instance, i->object->id, UUID_TEXT);
	s->api = c;
	s->call.done = on_started;
	httpd_set_data(c->req, s, client_gone);
	i->engine->ops->exec(i->engine,
			     &(struct engine_exec_spec){ .args = s->command,
							 .env = env,
							 .user = rq->user,
							 .cwd = rq->workdir,
							 .tty = rq->tty,
							 .stdin_open = rq->stdin,
							 .rows = (unsigned int)rq->rows,
							 .columns = (unsigned int)rq->columns },
			     &s->x, &s->call);
}

static struct session *session_of(struct api_call *c)
{
	struct session *s;
	struct err *e = NULL;

	list_for_each_entry(s, &c->node->instances->execs, node) {
		if (streq(s->id, c->params[0]))
			return s;
	}
	err_set(&e, ENOENT, "exec.missing", "there is no exec session '%s'", c->params[0]);
	api_fail(c, -ENOENT, e);
	return NULL;
}

void route_exec_get(struct api_call *c)
{
	struct session *s = session_of(c);

	if (s)
		session_show(c, s, 200);
}

static int on_resize(void *arg, unsigned int rows, unsigned int columns)
{
	struct session *s = arg;

	return s->x ? s->x->instance->ops->exec_resize(s->x, rows, columns) : -ESRCH;
}

static void on_relay_gone(struct relay *r, void *arg)
{
	struct session *s = arg;

	s->relay = NULL;
}

void route_exec_attach(struct api_call *c)
{
	struct session *s = session_of(c);
	struct relay_cfg cfg;
	struct err *e = NULL;

	if (!s)
		return;
	if (s->taken) {
		err_set(&e, EBUSY, "exec.attached", "somebody is connected to it, or was");
		api_fail(c, -EBUSY, e);
		return;
	}
	s->taken = true;
	cfg = (struct relay_cfg){
		.stream = s->stream, .resize = on_resize, .gone = on_relay_gone, .arg = s
	};
	s->stream = ENGINE_STREAM_NONE;
	if (relay_start(c, &cfg, &s->relay) == 0 && !s->running)
		relay_exit(s->relay, s->code, s->lost);
}

void route_exec_resize(struct api_call *c)
{
	const struct api_tty_size *rq = c->request;
	struct session *s = session_of(c);
	int r;

	if (!s)
		return;
	r = on_resize(s, (unsigned int)rq->rows, (unsigned int)rq->columns);
	if (r < 0)
		api_fail(c, r, NULL);
	else
		api_empty(c);
}

void route_exec_kill(struct api_call *c)
{
	const struct api_instance_kill *rq = c->request;
	struct session *s = session_of(c);
	int signo = rq->signal ? signal_number(rq->signal) : SIGKILL;
	struct err *e = NULL;

	if (!s)
		return;
	if (!signo)
		err_set(&e, EINVAL, "instance.signal", "there is no signal '%s'", rq->signal);
	else if (!s->running)
		err_set(&e, ESRCH, "exec.ended", "it has ended");
	else if (s->pid <= 0)
		err_set(&e, ENOTSUP, "engine.unsupported",
			"signals do not reach commands in this VM");
	else if (kill(s->pid, signo) < 0)
		err_sys(&e, errno, "signal");
	if (e)
		api_fail(c, -err_num(e), e);
	else
		api_empty(c);
}
