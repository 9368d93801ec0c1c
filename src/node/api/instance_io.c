/* What an instance said and uses: logs, statistics, processes. */
#include "node/api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "gen/instance.h"
#include "gen/rest.h"
#include "node/instance/instance.h"
#include "node/instance/logs.h"

#define FOLLOW_EVERY (50 * NSEC_PER_MSEC)
#define PIECE	     (64 << 10)

/* -- logs ----------------------------------------------------------------------------------------- */

struct log_reader {
	struct work work;
	struct api_call *api; /* NULL: answered, or the client is gone */
	struct node *node;
	struct log_want want;
	bool follow;
	char id[UUID_TEXT], path[4096];
	int found; /* what was asked for so far */
	int r;
	struct err *err;
	/* following */
	struct httpd_stream *stream;
	struct timer timer;
	int fd; /* the newest file */
	uint64_t at;
	off_t sent; /* of `found` */
	bool fresh;
	struct buf rest;
};

static void reader_free(struct log_reader *l)
{
	timer_stop(&l->timer);
	safe_close(l->found);
	safe_close(l->fd);
	err_free(l->err);
	buf_done(&l->rest);
	free(l);
}

static void collect(struct work *w)
{
	struct log_reader *l = container_of(w, struct log_reader, work);

	l->r = logs_collect(&l->want, l->path, l->found, &l->at, &l->err);
}

static void stream_gone(struct httpd_stream *s, void *arg)
{
	struct log_reader *l = arg;

	l->stream = NULL;
	reader_free(l);
}

/* Lines that are whole; false: nothing new. */
static bool read_more(struct log_reader *l)
{
	char b[PIECE];
	ssize_t n = l->fd < 0 ? -1 : pread(l->fd, b, sizeof(b), (off_t)l->at);
	_cleanup_(buf_done) struct buf out = { 0 };
	const char *nl;
	size_t used = 0;

	if (n <= 0)
		return false;
	while ((nl = memchr(b + used, '\n', (size_t)n - used))) {
		log_line_add(&l->want, b + used, (size_t)(nl - b) - used, &l->fresh, &out);
		used = (size_t)(nl - b) + 1;
	}
	if (!used)
		return false;
	if (out.len && httpd_stream_write(l->stream, out.s, out.len) < 0)
		return false; /* the client does not read: the same again, later */
	l->at += used;
	return true;
}

static bool rotated(struct log_reader *l)
{
	struct stat now, ours;
	int fd;

	if (stat(l->path, &now) < 0 ||
	    (l->fd >= 0 && fstat(l->fd, &ours) == 0 && ours.st_ino == now.st_ino))
		return false;
	fd = open(l->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	safe_close(l->fd);
	l->fd = fd;
	l->at = 0;
	return true;
}

static bool send_found(struct log_reader *l)
{
	char b[PIECE];
	ssize_t n;

	while ((n = pread(l->found, b, sizeof(b), l->sent)) > 0) {
		if (httpd_stream_write(l->stream, b, (size_t)n) < 0)
			return false;
		l->sent += n;
	}
	return true;
}

static void on_follow(struct timer *t)
{
	struct log_reader *l = t->data;
	struct instance *i = instance_get(l->node->instances, l->id);
	bool over = !i || (!instance_runs(i) && i->state != API_INSTANCE_STATE_STARTING);

	if (!send_found(l))
		return;
	do {
		while (read_more(l))
			;
	} while (rotated(l));
	if (over) {
		httpd_stream_end(l->stream);
		reader_free(l);
	}
}

static void follow(struct log_reader *l, struct api_call *c)
{
	if (httpd_reply_stream(c->req, 200, "text/plain", stream_gone, l, &l->stream) < 0) {
		api_fail(c, -ENOMEM, NULL);
		reader_free(l);
		return;
	}
	api_done(c);
	l->fd = open(l->path, O_RDONLY | O_CLOEXEC);
	l->fresh = true;
	l->timer.data = l;
	timer_start(l->node->loop, &l->timer, "follow log", 0, FOLLOW_EVERY, on_follow);
}

static void collected(struct work *w)
{
	struct log_reader *l = container_of(w, struct log_reader, work);
	struct api_call *c = TAKE(l->api);
	struct stat st;

	if (!c) {
		reader_free(l);
		return;
	}
	httpd_set_data(c->req, NULL, NULL);
	if (l->r < 0) {
		api_fail(c, l->r, TAKE(l->err));
		reader_free(l);
	} else if (l->follow) {
		follow(l, c);
	} else {
		if (fstat(l->found, &st) < 0)
			st.st_size = 0;
		lseek(l->found, 0, SEEK_SET);
		httpd_reply_fd(c->req, 200, "text/plain", TAKE_FD(l->found), (uint64_t)st.st_size);
		api_done(c);
		reader_free(l);
	}
}

static void logs_gone(struct httpd_req *r, void *data)
{
	struct log_reader *l = data;

	api_done(l->api);
	l->api = NULL;
}

void route_instance_logs(struct api_call *c)
{
	const struct api_log_query *q = c->query;
	struct instance *i = api_instance(c);
	struct log_reader *l;
	int r;

	if (!i)
		return;
	l = calloc(1, sizeof(*l));
	if (!l) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	l->api = c;
	l->node = c->node;
	l->fd = -1;
	l->found = memfd_create("log", MFD_CLOEXEC);
	l->follow = q->follow;
	l->want = (struct log_want){ .out = q->stdout,
				     .err = q->stderr,
				     .timestamps = q->timestamps,
				     .has_tail = q->has_tail,
				     .tail = q->tail,
				     .since = q->has_since ? q->since : 0,
				     .until = q->has_until ? q->until : 0 };
	memcpy(l->id, i->object->id, UUID_TEXT);
	instance_log_path(c->node, l->id, l->path, sizeof(l->path));
	r = l->found < 0 ? -errno : work_submit(c->node->workers, &l->work, collect, collected);
	if (r < 0) {
		reader_free(l);
		api_fail(c, r, NULL);
		return;
	}
	httpd_set_data(c->req, l, logs_gone);
}

/* -- statistics ----------------------------------------------------------------------------------- */

struct stats_reader {
	struct api_call *api;
	struct node *node;
	struct httpd_stream *stream;
	struct timer timer;
	struct engine_call call;
	struct api_instance_stats stats;
	char id[UUID_TEXT];
	bool calling, dead;
	uint64_t last_cpu; /* for the rate */
	nsec_t last;
};

static void stats_free(struct stats_reader *s)
{
	timer_stop(&s->timer);
	s->dead = true;
	if (s->calling)
		return;
	api_instance_stats_done(&s->stats);
	free(s);
}

static void add_nics(struct stats_reader *s, struct instance *i)
{
	for (size_t k = 0; i->spec && k < i->spec->nics.n; k++) {
		struct api_nic_stats *n = GEN_ADD(&s->stats.nics, api_nic_stats);

		if (n &&
		    networks_nic_stats(s->node->networks, s->id, i->spec->nics.v[k].id, n) < 0) {
			api_nic_stats_done(n);
			s->stats.nics.n--;
		}
	}
}

static void add_rate(struct stats_reader *s)
{
	nsec_t now = now_mono();

	if (s->last && now > s->last && s->stats.cpu.usage >= s->last_cpu) {
		const char *mhz = json_str(json_walk(s->node->host->status, "cpu", "mhz", NULL));
		int64_t rate = json_int(json_walk(s->node->host->status, "cpu", "mhz", NULL), 0);

		if (rate > 0 && !mhz) {
			s->stats.cpu.mhz = (double)(s->stats.cpu.usage - s->last_cpu) /
					   (double)(now - s->last) * (double)rate;
			s->stats.cpu.has_mhz = true;
		}
	}
	s->last = now;
	s->last_cpu = s->stats.cpu.usage;
}

static void on_stats(struct engine_call *call, int r, struct err *e)
{
	struct stats_reader *s = container_of(call, struct stats_reader, call);
	struct instance *i = instance_get(s->node->instances, s->id);
	_cleanup_(buf_done) struct buf b = { 0 };
	struct api_call *c = TAKE(s->api);

	s->calling = false;
	if (s->dead) {
		err_free(e);
		stats_free(s);
		return;
	}
	if (r == 0 && i) {
		add_nics(s, i);
		add_rate(s);
	}
	if (c) {
		httpd_set_data(c->req, NULL, NULL);
		if (r < 0)
			api_fail(c, r, e);
		else
			api_object(c, 200, &api_instance_stats_type, &s->stats);
		stats_free(s);
		return;
	}
	err_free(e);
	if (r == 0 && api_instance_stats_print(&s->stats, 0, &b) == 0) {
		buf_addc(&b, '\n');
		httpd_stream_write(s->stream, b.s, b.len);
	}
	api_instance_stats_done(&s->stats);
	if (r < 0) { /* it has ended */
		httpd_stream_end(s->stream);
		stats_free(s);
	}
}

static void ask(struct stats_reader *s)
{
	struct instance *i = instance_get(s->node->instances, s->id);

	if (s->calling)
		return;
	s->calling = true;
	s->call.done = on_stats;
	if (!i || !instance_runs(i) || !i->engine->ops->stats)
		engine_done(&s->call, -ESRCH, NULL);
	else
		i->engine->ops->stats(i->engine, &s->stats, &s->call);
}

static void on_interval(struct timer *t)
{
	ask(t->data);
}

static void stats_stream_gone(struct httpd_stream *st, void *arg)
{
	stats_free(arg);
}

static void stats_gone(struct httpd_req *r, void *data)
{
	struct stats_reader *s = data;

	api_done(s->api);
	s->api = NULL;
	stats_free(s);
}

void route_instance_stats(struct api_call *c)
{
	const struct api_stats_query *q = c->query;
	struct instance *i = api_instance(c);
	struct err *e = NULL;
	struct stats_reader *s;

	if (!i)
		return;
	if (!instance_runs(i)) {
		err_set(&e, EBUSY, "instance.state", "instance '%s' does not run", i->object->name);
		api_fail(c, -EBUSY, e);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	s->node = c->node;
	memcpy(s->id, i->object->id, UUID_TEXT);
	if (!q->follow) {
		s->api = c;
		httpd_set_data(c->req, s, stats_gone);
		ask(s);
		return;
	}
	if (httpd_reply_stream(c->req, 200, "application/x-ndjson", stats_stream_gone, s,
			       &s->stream) < 0) {
		free(s);
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	api_done(c);
	s->timer.data = s;
	timer_start(s->node->loop, &s->timer, "stats", 0, q->interval, on_interval);
}

/* -- processes ------------------------------------------------------------------------------------ */

struct top_reader {
	struct api_call *api;
	struct engine_call call;
	struct engine_process *v;
	size_t n;
};

static void on_top(struct engine_call *call, int r, struct err *e)
{
	struct top_reader *t = container_of(call, struct top_reader, call);
	struct json *o = json_new_obj(), *items = json_new_arr();
	struct api_call *c = t->api;

	for (size_t k = 0; k < t->n; k++) {
		const struct engine_process *p = &t->v[k];
		struct json *one = json_new_obj();

		json_set(one, "pid", json_new_int(p->pid));
		json_set(one, "ppid", json_new_int(p->ppid));
		json_set(one, "user", json_new_str(p->user));
		json_set(one, "cpu", json_new_int(p->cpu / NSEC_PER_MSEC));
		json_set(one, "memory", json_new_int((int64_t)p->memory));
		json_set(one, "command", json_new_str(p->command) ?: json_new_str("?"));
		json_push(items, one);
		free(p->command);
	}
	free(t->v);
	json_set(o, "items", items);
	if (!c) {
		err_free(e);
		json_free(o);
	} else if (r < 0) {
		json_free(o);
		httpd_set_data(c->req, NULL, NULL);
		api_fail(c, r, e);
	} else {
		httpd_set_data(c->req, NULL, NULL);
		api_json(c, 200, o);
	}
	free(t);
}

static void top_gone(struct httpd_req *r, void *data)
{
	struct top_reader *t = data;

	api_done(t->api);
	t->api = NULL;
}

void route_instance_processes(struct api_call *c)
{
	struct instance *i = api_instance(c);
	struct err *e = NULL;
	struct top_reader *t;

	if (!i)
		return;
	if (!instance_runs(i))
		err_set(&e, EBUSY, "instance.state", "instance '%s' does not run", i->object->name);
	else if (!i->engine->ops->top)
		err_set(&e, ENOTSUP, "engine.unsupported", "this engine does not see processes");
	t = e ? NULL : calloc(1, sizeof(*t));
	if (!t) {
		api_fail(c, e ? -err_num(e) : -ENOMEM, e);
		return;
	}
	t->api = c;
	t->call.done = on_top;
	httpd_set_data(c->req, t, top_gone);
	i->engine->ops->top(i->engine, &t->v, &t->n, &t->call);
}
