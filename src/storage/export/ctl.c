/* See ctl.h. */
#define LOG_MODULE "ctl"
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "base/rpc.h"
#include "base/str.h"
#include "storage/export/ctl.h"

#define CLIENTS_MAX 16U

struct ctl {
	struct ctl_cfg cfg;
	char *path;
	int fd;
	struct watch watch;
	struct work_pool *workers;
	struct list clients;
	unsigned int n_clients;
};

struct client {
	struct list node;
	struct ctl *c;
	struct rpc_conn conn;
	struct work work;
	struct json *request, *answer;
	bool busy, gone;
	size_t at; /* the export */
	bool resized;
	struct err *error;
};

static void on_work(struct work *w);

static void client_free(struct client *k)
{
	rpc_conn_close(&k->conn);
	list_del(&k->node);
	k->c->n_clients--;
	json_free(k->request);
	json_free(k->answer);
	err_free(k->error);
	free(k);
}

static void send_answer(struct client *k)
{
	_cleanup_(freep) char *text = NULL;

	if (k->error || !k->answer) {
		struct json *e = json_new_obj();

		json_free(k->answer);
		k->answer = json_new_obj();
		json_set(e, "id", json_new_str(k->error ? err_id(k->error) : "sys.ENOMEM"));
		json_set(e, "message",
			 json_new_str(k->error ? err_msg(k->error) : "out of memory"));
		json_set(k->answer, "ok", json_new_bool(false));
		json_set(k->answer, "error", e);
	}
	text = json_text(k->answer, JSON_COMPACT);
	if (!text || rpc_conn_send(&k->conn, text, strlen(text), NULL, 0) < 0)
		log_warn("a control client gets no answer");
	json_free(k->request);
	json_free(k->answer);
	k->request = k->answer = NULL;
	err_clear(&k->error);
}

/* ---- verbs ---- */

static void emit(void *arg, const char *name, const char *value)
{
	json_set(arg, name, json_new_str(value));
}

static struct json *describe(struct disk_export *x)
{
	static const char *const ops[DISK_N_OPS] = { "read", "write", "flush", "discard",
						     "write-zeroes" };
	struct json *o = json_new_obj(), *io = json_new_obj(), *f;
	struct disk_stats s;

	disk_stats(x->disk, &s);
	json_set(o, "name", json_new_str(x->name));
	json_set(o, "path", json_new_str(disk_path(x->disk)));
	json_set(o, "format", json_new_str(disk_format(x->disk)));
	json_set(o, "size", json_new_int((int64_t)disk_size(x->disk)));
	json_set(o, "readonly", json_new_bool(disk_readonly(x->disk)));
	for (int i = 0; i < DISK_N_OPS; i++) {
		struct json *v = json_new_obj();

		json_set(v, "requests", json_new_int((int64_t)s.ops[i]));
		json_set(v, "bytes", json_new_int((int64_t)s.bytes[i]));
		json_set(v, "errors", json_new_int((int64_t)s.errors[i]));
		json_set(v, "seconds", json_new_real((double)s.time[i] / (double)NSEC_PER_SEC));
		json_set(io, ops[i], v);
	}
	json_set(o, "io", io);
	f = json_new_obj();
	if (disk_filter_info(x->disk, "throttle", emit, f) == 0)
		json_set(o, "throttle", f);
	else
		json_free(f);
	f = json_new_obj();
	if (disk_filter_info(x->disk, "stats", emit, f) == 0)
		json_set(o, "latency", f);
	else
		json_free(f);
	return o;
}

/* On the worker.  Only reads of exports, and calls under their locks. */
static int carry_out(struct client *k)
{
	const struct ctl_cfg *cfg = &k->c->cfg;
	struct json_in in = json_in(k->request, "request"), params = { 0 };
	const char *verb = NULL, *name = NULL;
	struct disk_export *x;
	int64_t size = 0;
	bool shrink = false;
	int r = json_need_str(&in, "verb", &verb, &k->error);

	if (r >= 0)
		r = json_opt_str(&in, "export", &name, &k->error);
	if (r < 0)
		return r;
	for (k->at = 0; name && k->at < cfg->n_x; k->at++)
		if (streq(cfg->x[k->at]->name, name))
			break;
	if (k->at == cfg->n_x ||
	    (!name && cfg->n_x > 1 && !streq(verb, "status") && !streq(verb, "stop")))
		return err_set(&k->error, ENOENT, "export.unknown",
			       name ? "no export '%s'" : "there are several exports: name one%s",
			       name ?: "");
	x = cfg->x[k->at];
	if (streq(verb, "status")) {
		struct json *all = json_new_arr();

		for (size_t i = 0; i < cfg->n_x; i++)
			json_push(all, describe(cfg->x[i]));
		return json_set(k->answer, "exports", all);
	}
	if (streq(verb, "throttle")) {
		r = json_need_obj(&in, "params", &params, &k->error);
		if (r < 0)
			return r;
		pthread_mutex_lock(&x->lock);
		for (struct json_iter it = json_iter(params.v); r >= 0 && json_next(&it);) {
			_cleanup_(freep) char *number = json_text(it.value, JSON_COMPACT);
			const char *v = json_str(it.value) ?: number;

			r = v ? disk_set_param(x->disk, "throttle", it.key, v, &k->error) : -ENOMEM;
		}
		pthread_mutex_unlock(&x->lock);
		return r;
	}
	if (streq(verb, "resize")) {
		r = json_need_int(&in, "size", 1, INT64_MAX, &size, &k->error);
		if (r >= 0)
			r = json_opt_bool(&in, "shrink", &shrink, &k->error);
		if (r < 0)
			return r;
		pthread_mutex_lock(&x->lock);
		r = disk_resize(x->disk, (uint64_t)size, DISK_THIN, shrink, &k->error);
		pthread_mutex_unlock(&x->lock);
		k->resized = r >= 0;
		return r;
	}
	if (streq(verb, "stop"))
		return 0;
	return err_set(&k->error, EINVAL, "ctl.verb", "no verb '%s'", verb);
}

static void on_work(struct work *w)
{
	struct client *k = w->data;
	int r = carry_out(k);

	if (r < 0 && !k->error)
		err_sys(&k->error, -r, "carry out the request");
}

static void on_worked(struct work *w)
{
	struct client *k = w->data;
	const struct ctl_cfg *cfg = &k->c->cfg;
	const char *verb = json_str(json_get(k->request, "verb"));
	bool stop = !k->error && verb && streq(verb, "stop");

	k->busy = false;
	if (k->resized)
		cfg->resized(cfg->arg, k->at);
	k->resized = false;
	if (!k->error && verb && streq(verb, "status"))
		cfg->status(cfg->arg, k->answer);
	if (k->gone)
		client_free(k);
	else
		send_answer(k);
	if (stop)
		cfg->stop(cfg->arg);
}

static void on_frame(struct rpc_conn *conn, struct rpc_frame *f)
{
	struct client *k = conn->data;

	if (k->busy) {
		err_set(&k->error, EBUSY, "ctl.busy",
			"wait for the answer before the next request");
		rpc_conn_close(conn); /* its answer could not be told from the other */
		k->gone = true;
		return;
	}
	k->answer = json_new_obj();
	json_set(k->answer, "ok", json_new_bool(true));
	k->work.data = k;
	if (json_parse(buf_str(&f->text), f->text.len, NULL, &k->request, &k->error) < 0) {
		send_answer(k);
		return;
	}
	k->busy = true;
	k->work.cancelled = false;
	if (work_submit(k->c->workers, &k->work, on_work, on_worked) < 0) {
		k->busy = false;
		err_set(&k->error, ENOMEM, "sys.ENOMEM", "out of memory");
		send_answer(k);
	}
}

static void on_closed(struct rpc_conn *conn, int r)
{
	struct client *k = conn->data;

	if (k->busy)
		k->gone = true;
	else
		client_free(k);
}

static void on_connect(struct watch *w, uint32_t events)
{
	struct ctl *c = w->data;
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *k;

	if (fd < 0)
		return;
	k = c->n_clients < CLIENTS_MAX ? calloc(1, sizeof(*k)) : NULL;
	if (!k) {
		close(fd);
		return;
	}
	k->c = c;
	list_init(&k->node);
	if (rpc_conn_open(&k->conn, c->cfg.loop, fd, on_frame, on_closed) < 0) {
		close(fd);
		free(k);
		return;
	}
	k->conn.data = k;
	list_add_tail(&c->clients, &k->node);
	c->n_clients++;
}

int ctl_new(const struct ctl_cfg *cfg, const char *path, struct ctl **ret, struct err **e)
{
	struct ctl *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (c) {
		c->fd = -1;
		c->cfg = *cfg;
		list_init(&c->clients);
		c->path = strdup(path);
	}
	if (c && c->path)
		r = work_pool_new(cfg->loop, 1, &c->workers);
	if (r < 0) {
		ctl_free(c);
		return err_sys(e, -r, "start the control socket");
	}
	c->fd = rpc_listen(path, 0600, e);
	if (c->fd < 0) {
		r = c->fd;
		ctl_free(c);
		return r;
	}
	r = watch_fd(cfg->loop, &c->watch, "ctl", c->fd, EPOLLIN, on_connect);
	if (r < 0) {
		ctl_free(c);
		return err_sys(e, -r, "watch the control socket");
	}
	c->watch.data = c;
	*ret = c;
	return 0;
}

void ctl_free(struct ctl *c)
{
	struct list *l;

	if (!c)
		return;
	work_pool_free(c->workers);
	while ((l = list_pop(&c->clients)))
		client_free(list_entry(l, struct client, node));
	watch_remove(&c->watch);
	if (c->fd >= 0)
		unlink(c->path);
	safe_close(c->fd);
	free(c->path);
	free(c);
}
