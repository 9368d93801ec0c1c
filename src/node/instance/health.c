/* See health.h. */
#include "node/instance/health.h"

#include <fcntl.h>
#include <string.h>
#include "base/str.h"
#include "node/instance/instance.h"

#define OUTPUT_MAX 4000

struct health_run {
	struct instance *i; /* NULL: the instance stopped, the answer is not wanted */
	struct engine_call call;
	struct engine_exec *exec;
	struct timer timeout;
	struct watch out, err;
	struct buf output;
};

enum api_health_state health_result(struct health *h, const struct api_health_check *c, bool ok,
				    nsec_t now)
{
	if (ok) {
		h->failures = 0;
		h->state = API_HEALTH_STATE_HEALTHY;
	} else if (h->state != API_HEALTH_STATE_STARTING || now - h->began >= c->start_period) {
		h->failures++;
		if (h->failures >= c->retries)
			h->state = API_HEALTH_STATE_UNHEALTHY;
	}
	return h->state;
}

static void show(struct instance *i, const char *log)
{
	struct json *p = json_new_obj();

	json_set(p, "health", json_new_str(api_health_state_str(i->health.state)));
	if (log)
		json_set(p, "health_log", json_new_str(log));
	inventory_patch_status(i->all->node->inventory, i->object, p, NULL);
	instance_wake(i);
}

static void run_free(struct health_run *run)
{
	timer_stop(&run->timeout);
	watch_remove(&run->out);
	watch_remove(&run->err);
	engine_exec_free(run->exec);
	buf_done(&run->output);
	free(run);
}

static void check(struct timer *t);

static void over(struct health_run *run, bool ok)
{
	struct instance *i = run->i;
	enum api_health_state was;

	if (!i) {
		run_free(run);
		return;
	}
	was = i->health.state;
	i->health.run = NULL;
	health_result(&i->health, i->health.check, ok, loop_now(i->all->node->loop));
	show(i, utf8_valid(buf_str(&run->output)) ? buf_str(&run->output) : "(not text)");
	if (was != i->health.state)
		instance_event(i, api_health_state_str(i->health.state), NULL);
	timer_start(i->all->node->loop, &i->health.next, "health", i->health.check->interval, 0,
		    check);
	run_free(run);
}

static void on_output(struct watch *w, uint32_t events)
{
	struct health_run *run = w->data;
	char b[1024];
	ssize_t n = read(w->fd, b, sizeof(b));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		watch_remove(w);
		return;
	}
	if (run->output.len + (size_t)n <= OUTPUT_MAX)
		buf_add(&run->output, b, (size_t)n);
}

static void on_exit_code(struct engine_exec *x, int code, struct err *e)
{
	struct health_run *run = x->data;

	if (watch_active(&run->out)) /* what is still in the pipe */
		on_output(&run->out, EPOLLIN);
	if (e)
		buf_adds(&run->output, err_msg(e));
	err_free(e);
	over(run, code == 0);
}

static void on_timeout(struct timer *t)
{
	struct health_run *run = t->data;

	buf_adds(&run->output, "\nit took too long");
	over(run, false);
}

static void on_running(struct engine_call *call, int r, struct err *e)
{
	struct health_run *run = container_of(call, struct health_run, call);
	struct loop *l;

	if (r < 0 || !run->i) {
		buf_adds(&run->output, err_msg(e));
		err_free(e);
		over(run, false);
		return;
	}
	l = run->i->all->node->loop;
	run->exec->on_exit = on_exit_code;
	run->exec->data = run;
	run->timeout.data = run->out.data = run->err.data = run;
	fcntl(run->exec->stream.out, F_SETFL, O_NONBLOCK);
	fcntl(run->exec->stream.err, F_SETFL, O_NONBLOCK);
	watch_fd(l, &run->out, "health", run->exec->stream.out, EPOLLIN, on_output);
	watch_fd(l, &run->err, "health", run->exec->stream.err, EPOLLIN, on_output);
	timer_start(l, &run->timeout, "health", run->i->health.check->timeout, 0, on_timeout);
}

static void check(struct timer *t)
{
	struct instance *i = t->data;
	struct api_health_check *c = i->health.check;
	_cleanup_(freep) char **args = calloc(c->command.n + 1, sizeof(char *));
	struct engine_exec_spec s = { .args = args };
	struct health_run *run = calloc(1, sizeof(*run));

	if (i->state != API_INSTANCE_STATE_RUNNING || !args || !run) {
		free(run);
		timer_start(i->all->node->loop, &i->health.next, "health", c->interval, 0, check);
		return;
	}
	for (size_t k = 0; k < c->command.n; k++)
		args[k] = c->command.v[k];
	run->i = i;
	run->call.done = on_running;
	i->health.run = run;
	i->engine->ops->exec(i->engine, &s, &run->exec, &run->call);
}

/* Docker's form, as images have it: {"Test": ["CMD", ...] or ["CMD-SHELL", text], "Interval": nanoseconds, ...} */
static int from_image(const struct json *j, struct api_health_check *ret)
{
	const struct json *test = json_get(j, "Test");
	const char *kind = json_str(json_at(test, 0));
	int64_t v;
	int r = api_health_check_init(ret);

	if (r < 0 || !kind || streq(kind, "NONE"))
		return -ENOENT;
	if (streq(kind, "CMD-SHELL")) {
		const char *words[] = { "/bin/sh", "-c", json_str(json_at(test, 1)) };

		for (size_t k = 0; k < 3; k++)
			r = vec_push(&ret->command, strdup(words[k] ? words[k] : "")) ?: r;
	} else {
		for (size_t k = 1; k < json_len(test); k++)
			r = vec_push(&ret->command, strdup(json_str(json_at(test, k)) ?: "")) ?: r;
	}
	if ((v = json_int(json_get(j, "Interval"), 0)) > 0)
		ret->interval = v;
	if ((v = json_int(json_get(j, "Timeout"), 0)) > 0)
		ret->timeout = v;
	if ((v = json_int(json_get(j, "StartPeriod"), 0)) > 0)
		ret->start_period = v;
	if ((v = json_int(json_get(j, "Retries"), 0)) > 0)
		ret->retries = (uint64_t)v;
	return r < 0 || ret->command.n == 0 ? -EINVAL : 0;
}

void health_start(struct instance *i)
{
	struct api_health_check *c;
	const struct json *image;
	int r = -ENOENT;

	health_stop(i);
	if (!i->spec || !i->engine->ops->exec)
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	if (!i->image && i->spec->image)
		images_find(i->all->node->images, i->spec->image, &i->image, NULL);
	image = i->image ? i->image->parts.config.healthcheck : NULL;
	if (i->spec->health)
		r = api_health_check_copy(i->spec->health, c);
	else if (image)
		r = from_image(image, c);
	if (r < 0) {
		api_health_check_free(c);
		return;
	}
	i->health = (struct health){ .check = c,
				     .state = API_HEALTH_STATE_STARTING,
				     .began = loop_now(i->all->node->loop) };
	i->health.next.data = i;
	show(i, NULL);
	timer_start(i->all->node->loop, &i->health.next, "health", c->interval, 0, check);
}

void health_stop(struct instance *i)
{
	struct health_run *run = i->health.run;

	if (!i->health.check)
		return;
	timer_stop(&i->health.next);
	if (run) {
		run->i = NULL;
		if (run->exec) /* else its call is still to come */
			run_free(run);
	}
	api_health_check_free(i->health.check);
	i->health = (struct health){ 0 };
	show(i, NULL);
}
