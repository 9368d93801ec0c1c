/* Children that do the shim's slow work; see shim_job.h. */
#include "container/shim_job.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/str.h"

void shim_error_json(struct buf *b, const struct err *e, int r)
{
	int num = e ? err_num(e) : -r;

	buf_adds(b, "{\"id\":");
	buf_add_json(b, e ? err_id(e) : "sys.error");
	buf_addf(b, ",\"errno\":%d,\"text\":", num);
	buf_add_json(b, e ? err_msg(e) : strerror(num));
	buf_addc(b, '}');
}

static void fail_reply(struct buf *b, const struct err *e, int r)
{
	buf_clear(b);
	buf_adds(b, "{\"ok\":false,\"error\":");
	shim_error_json(b, e, r);
	buf_addc(b, '}');
}

static void finish(struct shim_job *j, struct rpc_frame *f)
{
	struct arena a = { 0 };
	struct jval *doc = NULL;

	list_del(&j->node);
	rpc_conn_close(&j->conn);
	if (jdoc_parse(&a, buf_str(&f->text), f->text.len, &doc, NULL) < 0)
		doc = NULL;
	j->done(j, f, doc);
	arena_done(&a);
	free(j);
}

static void on_frame(struct rpc_conn *c, struct rpc_frame *f)
{
	finish(c->data, f);
}

static void on_closed(struct rpc_conn *c, int r)
{
	struct shim_job *j = c->data;
	struct rpc_frame f = { 0 };
	_cleanup_(err_freep) struct err *e = NULL;

	err_set(&e, ECHILD, "shim.job", "%s: the process that did it ended without a word",
		j->what);
	fail_reply(&f.text, e, r);
	finish(j, &f);
	rpc_frame_done(&f);
}

static _noreturn_ void child(int sock, shim_job_fn *fn, void *arg)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct rpc_frame reply = { 0 };
	sigset_t none;
	int r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGTERM, SIG_DFL);
	buf_adds(&reply.text, "{\"ok\":true");
	r = fn(arg, &reply, &e);
	if (r < 0)
		fail_reply(&reply.text, e, r);
	else
		buf_addc(&reply.text, '}');
	if (!buf_error(&reply.text))
		rpc_send(sock, reply.text.s, reply.text.len, reply.fds, r < 0 ? 0 : reply.n_fds);
	_exit(0);
}

int shim_job_start(struct loop *l, struct list *jobs, const char *what, shim_job_fn *fn, void *arg,
		   shim_job_done_fn *done, struct shim_job **ret, struct err **e)
{
	struct shim_job *j = calloc(1, sizeof(*j));
	int pair[2], r;

	if (!j)
		return err_sys(e, ENOMEM, "%s", what);
	j->what = what;
	j->done = done;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		r = err_sys(e, errno, "%s: socket pair", what);
		free(j);
		return r;
	}
	j->pid = fork();
	if (j->pid == 0) {
		close(pair[0]);
		child(pair[1], fn, arg);
	}
	r = j->pid < 0 ? -errno : 0;
	close(pair[1]);
	if (r == 0)
		r = rpc_conn_open(&j->conn, l, pair[0], on_frame, on_closed);
	else
		close(pair[0]);
	if (r < 0) {
		free(j);
		return err_sys(e, -r, "%s: new process", what);
	}
	j->conn.data = j;
	list_add_tail(jobs, &j->node);
	*ret = j;
	return 0;
}
