/* What is done to a running QEMU VM: statistics, live changes, disks, saved states. */
#include "node/engine/qemu.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "ext/json.h"
#include "node/engine/qemu_args.h"

#define STATE_FILE "memory.qemu"

/* -- statistics ----------------------------------------------------------------------------------- */

struct stats_call {
	struct qemu *q;
	struct api_instance_stats *ret;
	struct engine_call *c;
};

static void got_balloon(void *arg, const struct json *ret, struct err *e)
{
	struct stats_call *s = arg;
	int64_t actual = json_int(json_get(ret, "actual"), -1);

	err_free(e); /* a machine without a balloon has no answer */
	if (actual >= 0 && (uint64_t)actual <= s->q->vm.memory) {
		s->ret->memory.balloon = s->q->vm.memory - (uint64_t)actual;
		s->ret->memory.has_balloon = true;
	}
	engine_done(s->c, 0, NULL);
	free(s);
}

static void got_blocks(void *arg, const struct json *ret, struct err *e)
{
	struct stats_call *s = arg;
	struct api_instance_stats *st = s->ret;

	if (e) {
		engine_done(s->c, -err_num(e), e);
		free(s);
		return;
	}
	for (size_t k = 0; k < json_len(ret); k++) {
		const struct json *d = json_at(ret, k), *v = json_get(d, "stats");
		const char *node = json_str(json_get(d, "node-name"));
		struct api_disk_stats ds = { 0 };

		if (!node || !str_starts(node, "disk-"))
			continue;
		ds.id = strdup(node + 5);
		ds.reads = (uint64_t)json_int(json_get(v, "rd_operations"), 0);
		ds.writes = (uint64_t)json_int(json_get(v, "wr_operations"), 0);
		ds.bytes_read = (uint64_t)json_int(json_get(v, "rd_bytes"), 0);
		ds.bytes_written = (uint64_t)json_int(json_get(v, "wr_bytes"), 0);
		ds.flushes = (uint64_t)json_int(json_get(v, "flush_operations"), 0);
		if (!ds.id || vec_push(&st->disks, ds) < 0)
			free(ds.id);
	}
	qmp_send(s->q->qmp, "query-balloon", NULL, -1, got_balloon, s);
}

void qemu_stats(struct engine_instance *i, struct api_instance_stats *ret, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	struct stats_call *s;

	if (qemu_gone(q, c))
		return;
	s = malloc(sizeof(*s));
	if (!s) {
		engine_done(c, -ENOMEM, NULL);
		return;
	}
	*s = (struct stats_call){ q, ret, c };
	vm_stats(&q->vm, ret);
	qmp_send(q->qmp, "query-blockstats", NULL, -1, got_blocks, s);
}

/* -- live changes --------------------------------------------------------------------------------- */

struct update_call {
	struct engine_call *c;
	unsigned int due;
	int r;
	struct err *e;
};

static void part_done(void *arg, const struct json *ret, struct err *e)
{
	struct update_call *u = arg;

	if (e && !u->e) {
		u->e = e;
		u->r = -err_num(e);
	} else {
		err_free(e);
	}
	if (--u->due)
		return;
	engine_done(u->c, u->r, u->e);
	free(u);
}

static void part(struct qemu *q, struct update_call *u, const char *command, struct json *args)
{
	u->due++;
	qmp_send(q->qmp, command, args, -1, part_done, u);
}

void qemu_update(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	const struct api_instance_spec *spec = p->spec;
	struct update_call *u;
	struct err *e = NULL;
	const struct plan_disk *d;
	const struct plan_nic *n;
	int r;

	if (qemu_gone(q, c))
		return;
	r = vm_update_check(&q->vm, p, &e);
	if (r == 0)
		r = vm_set_cpu(&q->vm, p, &e);
	if (r < 0) {
		engine_done(c, r, e);
		return;
	}
	u = calloc(1, sizeof(*u));
	if (!u) {
		engine_done(c, -ENOMEM, NULL);
		return;
	}
	u->c = c;
	u->due = 1;
	vec_for_each(d, &p->disks) {
		struct json *o = json_new_obj();

		json_set(o, "path", json_new_fmt("/objects/limit-%s", d->id));
		json_set(o, "property", json_new_str("limits"));
		json_set(o, "value", qemu_throttle(&d->limits));
		part(q, u, "qom-set", o);
	}
	vec_for_each(n, &p->nics) {
		struct json *o = json_new_obj();

		json_set(o, "name", json_new_str(n->id));
		json_set(o, "up", json_new_bool(n->connected));
		part(q, u, "set_link", o);
	}
	if (spec->vm.balloon) {
		struct json *o = json_new_obj();
		uint64_t want = spec->memory.has_limit ? MIN(spec->memory.limit, q->vm.memory)
						       : q->vm.memory;

		json_set(o, "value", json_new_int((int64_t)want));
		part(q, u, "balloon", o);
	}
	part_done(u, NULL, NULL);
}

/* -- disks ---------------------------------------------------------------------------------------- */

struct switch_call {
	struct qemu *q;
	struct engine_call *c;
	char *top_file, *node, *old;
};

static void switch_end(struct switch_call *s, int r, struct err *e)
{
	struct engine_call *c = s->c;

	free(s->top_file);
	free(s->node);
	free(s->old);
	free(s);
	engine_done(c, r, e);
}

static void switched(void *arg, const struct json *ret, struct err *e)
{
	struct switch_call *s = arg;
	int r = e ? -err_num(e) : 0;

	/* What the disk's node is called now, for the next switch: also by a later daemon. */
	if (r == 0)
		r = file_write_atomic(AT_FDCWD, s->top_file, s->node, strlen(s->node), 0600, &e);
	switch_end(s, r, e);
}

static void overlay_open(void *arg, const struct json *ret, struct err *e)
{
	struct switch_call *s = arg;
	struct json *o;

	if (e || !s->q->qmp) {
		switch_end(s, e ? -err_num(e) : -ESRCH, e);
		return;
	}
	o = json_new_obj();
	json_set(o, "node", json_new_str(s->old));
	json_set(o, "overlay", json_new_str(s->node));
	qmp_send(s->q->qmp, "blockdev-snapshot", o, -1, switched, s);
}

void qemu_switch_disk(struct engine_instance *i, const char *id, const char *path,
		      struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	_cleanup_(buf_done) struct buf now = { 0 };
	struct switch_call *s;
	struct json *o, *file;
	uint64_t n = 0;

	if (qemu_gone(q, c))
		return;
	s = calloc(1, sizeof(*s));
	if (!s || asprintf(&s->top_file, "%s/top-%s", i->dir, id) < 0) {
		free(s);
		engine_done(c, -ENOMEM, NULL);
		return;
	}
	s->q = q;
	s->c = c;
	if (file_read(AT_FDCWD, s->top_file, 256, &now, NULL) == 0 && strrchr(now.s, '.'))
		parse_u64(strrchr(now.s, '.') + 1, UINT32_MAX, &n);
	if (now.len)
		s->old = strdup(now.s);
	else if (asprintf(&s->old, "image-%s", id) < 0)
		s->old = NULL;
	if (!s->old || asprintf(&s->node, "image-%s.%llu", id, (unsigned long long)n + 1) < 0) {
		s->node = NULL;
		switch_end(s, -ENOMEM, NULL);
		return;
	}
	o = json_new_obj();
	file = json_new_obj();
	json_set(file, "driver", json_new_str("file"));
	json_set(file, "filename", json_new_str(path));
	json_set(file, "discard", json_new_str("unmap"));
	json_set(o, "driver", json_new_str("qcow2"));
	json_set(o, "node-name", json_new_str(s->node));
	json_set(o, "discard", json_new_str("unmap"));
	json_set(o, "detect-zeroes", json_new_str("unmap"));
	json_set(o, "backing", json_new_null());
	json_set(o, "file", file);
	qmp_send(q->qmp, "blockdev-add", o, -1, overlay_open, s);
}

/* -- saved states --------------------------------------------------------------------------------- */

static void save_end(struct qemu *q, int r, struct err *e)
{
	struct engine_call *c = TAKE(q->saving);

	if (c)
		engine_done(c, r, e);
	else
		err_free(e);
}

static void save_sent(void *arg, const struct json *ret, struct err *e)
{
	if (e)
		save_end(arg, -err_num(e), e);
}

void qemu_migration(struct qemu *q, const char *status)
{
	struct err *e = NULL;
	bool completed = streq(status, "completed"),
	     failed = streq(status, "failed") || streq(status, "cancelled");

	if (q->saving && completed) {
		save_end(q, 0, NULL);
	} else if (q->saving && failed) {
		err_set(&e, EIO, "engine.save", "QEMU could not write the state of '%s'",
			q->vm.i.name);
		save_end(q, -EIO, e);
	} else if (q->vm.restore && completed) {
		free(TAKE(q->vm.restore));
		qmp_send(q->qmp, "cont", NULL, -1, NULL, NULL);
		vm_start_done(&q->vm, 0, NULL);
	} else if (q->vm.restore && failed) {
		free(TAKE(q->vm.restore));
		err_set(&e, EIO, "engine.restore", "QEMU could not load the state of '%s'",
			q->vm.i.name);
		vm_start_done(&q->vm, -EIO, e);
	}
}

/* QEMU's events say when it is over; the rate is the disk's. */
static void migrate(struct qemu *q, int fd, const char *command, qmp_reply_fn *reply)
{
	struct json *o = json_new_obj(), *list = json_new_arr(), *cap = json_new_obj();

	json_set(cap, "capability", json_new_str("events"));
	json_set(cap, "state", json_new_bool(true));
	json_push(list, cap);
	json_set(o, "capabilities", list);
	qmp_send(q->qmp, "migrate-set-capabilities", o, -1, NULL, NULL);
	o = json_new_obj();
	json_set(o, "max-bandwidth", json_new_int(INT64_C(1) << 40));
	qmp_send(q->qmp, "migrate-set-parameters", o, -1, NULL, NULL);
	o = json_new_obj();
	json_set(o, "fdname", json_new_str("state"));
	qmp_send(q->qmp, "getfd", o, fd, NULL, NULL);
	o = json_new_obj();
	json_set(o, "uri", json_new_str("fd:state"));
	qmp_send(q->qmp, command, o, -1, reply, q);
}

static int state_open(const char *dir, int flags, struct err **e)
{
	_cleanup_(freep) char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/" STATE_FILE, dir) < 0)
		return err_sys(e, ENOMEM, "saved state");
	fd = open(path, flags | O_CLOEXEC, 0600);
	return fd < 0 ? err_sys(e, errno, "open '%s'", path) : fd;
}

void qemu_save(struct engine_instance *i, const char *dir, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	struct err *e = NULL;
	_cleanup_(closep) int fd = -1;

	if (qemu_gone(q, c))
		return;
	fd = state_open(dir, O_WRONLY | O_CREAT | O_EXCL, &e);
	if (fd < 0) {
		engine_done(c, fd, e);
		return;
	}
	q->saving = c;
	migrate(q, fd, "migrate", save_sent);
}

static void restore_sent(void *arg, const struct json *ret, struct err *e)
{
	if (e)
		vm_start_done(&((struct qemu *)arg)->vm, -err_num(e), e);
}

void qemu_restore(struct vm *vm)
{
	struct qemu *q = qemu_of(&vm->i);
	struct err *e = NULL;
	_cleanup_(closep) int fd = state_open(q->vm.restore, O_RDONLY, &e);

	if (fd < 0)
		vm_start_done(&q->vm, fd, e);
	else
		migrate(q, fd, "migrate-incoming", restore_sent);
}

/* -- the screen ----------------------------------------------------------------------------------- */

void qemu_screen(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c)
{
	struct qemu *q = qemu_of(i);
	struct err *e = NULL;
	int fd, r;

	if (qemu_gone(q, c))
		return;
	if (!i->info.vnc[0]) {
		r = err_set(&e, ENOTSUP, "engine.screen",
			    "'%s' has no screen; set vm.display to vnc and start it again",
			    i->name);
	} else {
		r = vmproc_connect(i->dir, "vnc.sock", &fd, &e);
		if (r == 0) {
			*ret = ENGINE_STREAM_NONE;
			ret->in = fd;
			ret->tty = true;
		}
	}
	engine_done(c, r, e);
}
