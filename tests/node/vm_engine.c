/* Drives a VM engine by hand: vm_engine ENGINE VM.JSON DIR: what strata-image prepared is started through node/engine.h, looked
 * into, paused, left and found again, and ended.  Prints TAP. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "ext/json.h"
#include "node/engine.h"

static struct loop *loop;
static int count, failed;
static struct engine_exit last_exit;
static char last_message[600];
static int exits;

static void ok(bool good, const char *name)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++count, name);
	fflush(stdout);
	failed += !good;
}

struct wait {
	struct engine_call call;
	bool done;
	int r;
	char why[600];
};

static void wait_done(struct engine_call *c, int r, struct err *e)
{
	struct wait *w = container_of(c, struct wait, call);

	w->done = true;
	w->r = r;
	snprintf(w->why, sizeof(w->why), "%s", err_msg(e));
	err_free(e);
}

static int await(struct wait *w)
{
	nsec_t end = now_mono() + 120 * NSEC_PER_SEC;

	while (!w->done && now_mono() < end)
		loop_once(loop, NSEC_PER_SEC);
	if (!w->done)
		printf("# no answer\n");
	else if (w->r < 0)
		printf("# %s\n", w->why);
	return w->done ? w->r : -ETIMEDOUT;
}
#define CALL(op, ...)                                               \
	({                                                          \
		struct wait _w = { .call = { .done = wait_done } }; \
		op(__VA_ARGS__, &_w.call);                          \
		await(&_w);                                         \
	})

static void on_exit_event(struct engine_instance *i, const struct engine_exit *x)
{
	exits++;
	last_exit = *x;
	snprintf(last_message, sizeof(last_message), "%s", x->message ?: "");
}

static void on_change(struct engine_instance *i, const char *what)
{
}

static void exec_exit(struct engine_exec *x, int code, struct err *e)
{
	*(int *)x->data = e ? -1 : code;
	err_free(e);
}

static int run(struct engine_instance *i, const char *const *args, const char *feed,
	       struct buf *out)
{
	struct engine_exec_spec s = { .args = (char *const *)(uintptr_t)args, .stdin_open = feed };
	struct engine_exec *x = NULL;
	int code = -2, r = CALL(i->ops->exec, i, &s, &x);
	nsec_t end = now_mono() + 60 * NSEC_PER_SEC;

	if (r < 0)
		return r;
	x->data = &code;
	x->on_exit = exec_exit;
	if (feed) {
		write_all(x->stream.in, feed, strlen(feed));
		x->stream.in = safe_close(x->stream.in);
	}
	fcntl(x->stream.out, F_SETFL, O_NONBLOCK);
	while (code == -2 && now_mono() < end) {
		char b[4096];
		ssize_t n;

		loop_once(loop, 100 * NSEC_PER_MSEC);
		while ((n = read(x->stream.out, b, sizeof(b))) > 0)
			buf_add(out, b, (size_t)n);
	}
	engine_exec_free(x);
	return code;
}

static bool until(const struct buf *b, int fd, struct buf *into, const char *what)
{
	nsec_t end = now_mono() + 60 * NSEC_PER_SEC;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (now_mono() < end && !strstr(buf_str(into), what)) {
		char s[4096];
		ssize_t n;

		loop_once(loop, 100 * NSEC_PER_MSEC);
		while ((n = read(fd, s, sizeof(s))) > 0)
			buf_add(into, s, (size_t)n);
	}
	return strstr(buf_str(into), what);
}

static struct engine_plan *plan_read(const char *vm_json, const char *log,
				     struct api_instance_spec *spec)
{
	struct engine_plan *p = calloc(1, sizeof(*p));
	struct json *v = NULL, *cfg = NULL;
	const struct json *disks;
	struct err *e = NULL;

	if (!p || json_parse_file(vm_json, NULL, &v, &e) < 0 ||
	    json_parse_file(json_str(json_get(v, "config")), NULL, &cfg, &e) < 0) {
		printf("Bail out! %s\n", err_msg(e));
		exit(1);
	}
	p->spec = spec;
	p->hostname = strdup("guest");
	p->kernel = strdup(json_str(json_get(v, "kernel")));
	p->initrd = strdup(json_str(json_get(v, "initrd")));
	p->append = strdup(json_str(json_get(v, "append")));
	p->guest_config = json_text(cfg, JSON_COMPACT);
	p->log = strdup(log);
	disks = json_get(v, "disks");
	for (size_t k = 0; k < json_len(disks); k++) {
		const struct json *d = json_at(disks, k);
		struct plan_disk pd = {
			.id = strdup(json_str(json_get(d, "serial"))),
			.serial = strdup(json_str(json_get(d, "serial"))),
			.path = strdup(json_str(json_get(d, "path"))),
			.format = API_DISK_FORMAT_RAW,
			.readonly = json_bool(json_get(d, "readonly"), false),
		};

		vec_push(&p->disks, pd);
	}
	json_free(v);
	json_free(cfg);
	return p;
}

static const char *const hello[] = { "/bin/sh", "-c", "cat; echo out; exit 3", NULL };
static const char *const missing[] = { "/no/such", NULL };

int main(int argc, char **argv)
{
	const struct engine_ops *ops = argc == 4 ? engine_by_name(argv[1]) : NULL;
	static const struct engine_events events = { .on_exit = on_exit_event,
						     .on_change = on_change };
	struct engine_env env = { 0 };
	struct engine_attach at = { .id = "018f0000-0000-7000-8000-000000000001",
				    .name = "guest",
				    .env = &env,
				    .events = &events };
	struct api_instance_spec spec = { 0 };
	struct api_instance_stats stats = { 0 };
	struct engine_stream s = ENGINE_STREAM_NONE;
	struct engine_instance *i;
	struct engine_exit x = { 0 };
	_cleanup_(buf_done) struct buf out = { 0 }, log = { 0 };
	struct engine_plan *plan;
	struct err *e = NULL;
	char dir[4096], log_path[4096];
	nsec_t t;
	int r;

	if (!ops || loop_new(NULL, &loop) < 0) {
		printf("Bail out! usage: vm_engine ENGINE VM.JSON DIR\n");
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	env.loop = loop;
	snprintf(dir, sizeof(dir), "%s/run", argv[3]);
	snprintf(log_path, sizeof(log_path), "%s/log", argv[3]);
	mkdir(dir, 0700);
	at.dir = dir;
	spec.memory.has_size = true;
	spec.memory.size = 256 * MIB;
	spec.vm.balloon = true;
	spec.stdin = true;
	spec.log.max_size = MIB;
	spec.log.max_files = 2;
	plan = plan_read(argv[2], log_path, &spec);
	if ((ops->usable && ops->usable(&env, &e) < 0) || engine_attach(ops, &at, &i, &e) < 0) {
		printf("1..0 # SKIP %s\n", err_msg(e));
		return 77;
	}
	t = now_mono();
	r = CALL(ops->start, i, plan);
	printf("# the command runs after %.1f s\n", (double)(now_mono() - t) / 1e9);
	ok(r == 0, "start");
	ok(i->info.pid > 1 && i->info.started, "it says who it is");
	r = run(i, hello, "fed\n", &out);
	ok(r == 3 && streq(buf_str(&out), "fed\nout\n"), "exec: input, output, status");
	ok(run(i, missing, NULL, &out) == -ENOENT, "exec of nothing says so");
	r = CALL(ops->console, i, &s);
	buf_clear(&out);
	ok(r == 0 && write(s.in, "ping\n", 5) == 5 && until(&out, s.out, &out, "got ping\n"),
	   "the command's input and output");
	ok(CALL(ops->pause, i) == 0 && CALL(ops->resume, i) == 0, "pause and resume");
	r = CALL(ops->stats, i, &stats);
	ok(r == 0 && stats.cpu.usage > 0 && stats.memory.used > MIB && stats.disks.n > 0,
	   "statistics");
	api_instance_stats_done(&stats);

	/* The daemon goes and comes back. */
	engine_stream_close(&s);
	engine_detach(i);
	r = engine_attach(ops, &at, &i, NULL);
	if (r == 0)
		r = CALL(ops->adopt, i, &x);
	ok(r == 0 && i->info.pid > 1, "a new daemon finds it again");
	buf_clear(&out);
	r = run(i, hello, "again\n", &out);
	ok(r == 3 && streq(buf_str(&out), "again\nout\n"), "and can work with it");
	r = CALL(ops->stop, i, SIGTERM);
	t = now_mono();
	while (!exits && now_mono() - t < 60 * NSEC_PER_SEC)
		loop_once(loop, NSEC_PER_SEC);
	ok(r == 0 && exits == 1 && last_exit.code == 42, "stop: the command ends as it likes");
	if (last_exit.code != 42)
		printf("# exits %d, code %d %s\n", exits, last_exit.code, last_message);
	ok(CALL(ops->cleanup, i) == 0 && CALL(ops->cleanup, i) == 0, "cleanup, twice");
	ok(CALL(ops->adopt, i, &x) == -ESRCH, "there is nothing to adopt");
	file_read(AT_FDCWD, log_path, MIB, &log, NULL);
	ok(strstr(buf_str(&log), " stdout F got ping\n"), "its output is in the log");

	/* A kill by the daemon, and one by somebody else while the daemon was away. */
	exits = 0;
	r = CALL(ops->start, i, plan);
	ok(r == 0 && CALL(ops->kill, i, SIGKILL) == 0, "start again, kill");
	t = now_mono();
	while (!exits && now_mono() - t < 20 * NSEC_PER_SEC)
		loop_once(loop, NSEC_PER_SEC);
	ok(exits == 1 && last_exit.code == 137, "killed: 137");
	CALL(ops->cleanup, i);
	engine_detach(i);
	engine_plan_free(plan);
	loop_free(loop);
	printf("1..%d\n", count);
	return failed ? 1 : 0;
}
