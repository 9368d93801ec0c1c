/* The shim's life: connections, children that end, the record of the end.  See shim_state.h and shim.h. */
#include "container/shim_state.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "container/lifecycle.h"
#include "container/shim.h"
#include "sys/proc.h"

#define CLIENTS_MAX 64

int shim_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* -- files -- */

/* Renamed into place, not synced: what it tells does not outlive a power loss either. */
static int write_file(struct shim *s, const char *name, const struct buf *b)
{
	char temp[64];
	int fd, r;

	if (buf_error(b))
		return -ENOMEM;
	snprintf(temp, sizeof(temp), ".%s.new", name);
	fd = openat(s->dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, b->s, b->len);
	close(fd);
	if (r == 0 && renameat(s->dirfd, temp, s->dirfd, name) < 0)
		r = -errno;
	return r;
}

int shim_write_self(struct shim *s, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct proc_stat ps = { 0 };
	int r;

	proc_stat_read(getpid(), &ps);
	buf_addf(&b, "{\"version\":%d,\"pid\":%d,\"start\":%llu,\"id\":", SHIM_VERSION,
		 (int)getpid(), (unsigned long long)ps.start);
	buf_add_json(&b, s->id);
	buf_adds(&b, ",\"root\":");
	buf_add_json(&b, s->root);
	buf_adds(&b, ",\"bundle\":");
	buf_add_json(&b, s->bundle);
	buf_adds(&b, "}\n");
	r = write_file(s, SHIM_FILE, &b);
	return r < 0 ? err_sys(e, -r, "write '%s/" SHIM_FILE "'", s->dir) : 0;
}

static void add_time(struct buf *b, nsec_t t)
{
	char text[64];

	buf_add_json(b, t ? format_time(t, text, sizeof(text)) : "");
}

void shim_record_json(const struct shim *s, struct buf *b)
{
	buf_addf(b, "\"version\":%d,\"id\":", SHIM_VERSION);
	buf_add_json(b, s->id ? s->id : "");
	buf_addf(b, ",\"pid\":%d,\"status\":%d,\"signal\":%d,\"oom\":%s,\"oom_kills\":%lld",
		 (int)s->pid, shim_code(s->status),
		 WIFSIGNALED(s->status) ? WTERMSIG(s->status) : 0,
		 s->oom_kills > 0 ? "true" : "false", (long long)MAX(s->oom_kills, (int64_t)0));
	buf_adds(b, ",\"started\":");
	add_time(b, s->started);
	buf_adds(b, ",\"ended\":");
	add_time(b, s->ended);
	buf_addf(b, ",\"cpu_usec\":%llu,\"memory_peak\":%llu,\"log_dropped\":%llu,\"error\":%s",
		 (unsigned long long)s->cpu_usec, (unsigned long long)s->memory_peak,
		 (unsigned long long)s->io.log.dropped, s->error ? s->error : "null");
}

void shim_write_record(struct shim *s)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_addc(&b, '{');
	shim_record_json(s, &b);
	buf_adds(&b, "}\n");
	write_file(s, SHIM_EXIT, &b);
}

/* -- connections -- */

static void client_free(struct shim_client *c)
{
	struct shim *s = c->s;
	struct shim_job *j;

	list_for_each_entry(j, &s->jobs, node)
		if (j->owner == c)
			j->owner = NULL;
	rpc_conn_close(&c->conn);
	list_del(&c->node);
	s->n_clients--;
	free(c);
	shim_check_end(s);
}

static void on_closed(struct rpc_conn *conn, int r)
{
	(void)r;
	client_free(conn->data);
}

static void on_frame(struct rpc_conn *conn, struct rpc_frame *f)
{
	shim_request(conn->data, f);
}

static int client_add(struct shim *s, int fd, bool events)
{
	struct shim_client *c = calloc(1, sizeof(*c));
	int r = c ? rpc_conn_open(&c->conn, s->loop, fd, on_frame, on_closed) : -ENOMEM;

	if (r < 0) {
		free(c);
		close(fd);
		return r;
	}
	c->conn.data = c;
	c->s = s;
	c->events = events;
	list_add_tail(&s->clients, &c->node);
	s->n_clients++;
	return 0;
}

static void on_connect(struct watch *w, uint32_t events)
{
	struct shim *s = w->data;
	struct ucred peer;
	int fd;

	(void)events;
	while ((fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (rpc_peer(fd, &peer) < 0 || (peer.uid != 0 && peer.uid != geteuid()) ||
		    s->n_clients >= CLIENTS_MAX)
			close(fd);
		else
			client_add(s, fd, false);
	}
}

void shim_event(struct shim *s, const char *text)
{
	struct shim_client *c;

	/* One who does not read (16 MiB behind) misses it, and sees the sum of it in `state`. */
	list_for_each_entry(c, &s->clients, node)
		if (c->events)
			rpc_conn_send(&c->conn, text, strlen(text), NULL, 0);
}

/* -- out of memory -- */

int64_t shim_oom_kills(const struct shim *s)
{
	char text[1024];
	const char *p;
	ssize_t n = s->oom_count_fd < 0 ? -1 : pread(s->oom_count_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return s->oom_kills;
	text[n] = '\0';
	p = strstr(text, "oom_kill ");
	return p ? strtoll(p + 9, NULL, 10) : s->oom_kills;
}

static void look_at_oom(struct shim *s)
{
	int64_t kills = shim_oom_kills(s);
	char text[64];

	if (kills <= s->oom_kills)
		return;
	s->oom_kills = kills;
	snprintf(text, sizeof(text), "{\"event\":\"oom\",\"kills\":%lld}", (long long)kills);
	shim_event(s, text);
}

static void on_oom(struct watch *w, uint32_t events)
{
	struct shim *s = w->data;
	char skip[4096];
	bool any = false;

	while (read(s->oom_fd, skip, sizeof(skip)) > 0)
		any = true;
	if (!any && events & (EPOLLHUP | EPOLLERR))
		watch_remove(w);
	look_at_oom(s);
}

int shim_watch_oom(struct shim *s)
{
	s->oom_watch.data = s;
	return s->oom_fd < 0 ? 0
			     : watch_fd(s->loop, &s->oom_watch, "oom", s->oom_fd, EPOLLIN, on_oom);
}

/* -- the end -- */

bool shim_finished(const struct shim *s)
{
	struct shim_client *c;

	if (s->phase != SHIM_ENDED || s->io.n_attached > 0 || !list_empty(&s->jobs))
		return false;
	list_for_each_entry(c, &s->clients, node)
		if (c->conn.out_bytes > 0)
			return false;
	return true;
}

void shim_check_end(struct shim *s)
{
	/* Its starter died before it said what for. */
	if (s->phase == SHIM_NEW && s->n_clients == 0)
		loop_stop(s->loop, 1);
	if (s->phase == SHIM_ENDED)
		timer_start(s->loop, &s->end_timer, "end", 0, 0, s->end_timer.fn);
}

/* Ends the loop, when all that was to be sent is sent.  A client that does not read is not waited for longer than ten
 * seconds; an attached reader is: what it has not read yet is output that somebody waits for. */
static void on_end(struct timer *t)
{
	struct shim *s = t->data;

	if (shim_finished(s) || (s->io.n_attached == 0 && list_empty(&s->jobs) &&
				 now_real() - s->ended > 10 * NSEC_PER_SEC))
		loop_stop(s->loop, 0);
	else
		timer_start(s->loop, t, "end", 20 * NSEC_PER_MSEC, 0, on_end);
}

static void on_idle(void *arg)
{
	shim_check_end(arg);
}

void shim_ended(struct shim *s)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	s->phase = SHIM_ENDED;
	if (!s->ended)
		s->ended = now_real();
	shim_io_drain(&s->io);
	shim_io_finish(&s->io);
	shim_write_record(s);
	buf_adds(&b, "{\"event\":\"exit\",");
	shim_record_json(s, &b);
	buf_addc(&b, '}');
	if (s->id)
		shim_event(s, buf_str(&b));
	/* Nobody can connect any more; who still had a request answered gets that first. */
	watch_remove(&s->listen_watch);
	s->listen_fd = safe_close(s->listen_fd);
	unlinkat(s->dirfd, SHIM_SOCKET, 0);
	s->end_timer.data = s;
	s->end_timer.fn = on_end;
	shim_check_end(s);
}

static int clean_up(void *arg, struct rpc_frame *reply, struct err **e)
{
	struct shim *s = arg;
	uint64_t cpu = 0, peak = 0;
	int r;

	container_usage(s->root, s->id, &cpu, &peak);
	buf_addf(&reply->text, ",\"cpu\":%llu,\"peak\":%llu", (unsigned long long)cpu,
		 (unsigned long long)peak);
	r = container_delete(s->root, s->id, true, e);
	return r == -ENOENT ? 0 : r;
}

static void cleaned_up(struct shim_job *j, struct rpc_frame *reply, const struct jval *doc)
{
	struct shim *s = j->data;
	struct arena a = { 0 };
	struct jr r = { .a = &a };
	struct jval *error = jget(doc, "error");

	jr_u64(&r, doc, "cpu", &s->cpu_usec);
	jr_u64(&r, doc, "peak", &s->memory_peak);
	if (error && !s->error)
		s->error = strndup(reply->text.s + error->from, error->to - error->from);
	arena_done(&a);
	shim_ended(s);
}

void shim_program_ended(struct shim *s, int status)
{
	struct shim_job *j;

	if (s->phase >= SHIM_ENDING)
		return;
	s->phase = SHIM_ENDING;
	s->status = status;
	s->ended = now_real();
	timer_stop(&s->stop_timer);
	look_at_oom(s);
	watch_remove(&s->oom_watch);
	s->oom_fd = safe_close(s->oom_fd);
	s->oom_count_fd = safe_close(s->oom_count_fd);
	shim_io_drain(&s->io);
	if (shim_job_start(s->loop, &s->jobs, "clean up", clean_up, s, cleaned_up, &j, NULL) < 0) {
		/* No process to be had: do it here, whoever waits. */
		container_delete(s->root, s->id, true, NULL);
		shim_ended(s);
		return;
	}
	j->data = s;
}

void shim_exec_ended(struct shim *s, struct shim_exec *x, int status)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct shim_exec *old;

	x->ended = true;
	x->status = status;
	buf_adds(&b, "{\"event\":\"exec_exit\",\"exec\":");
	buf_add_json(&b, x->name);
	buf_addf(&b, ",\"status\":%d,\"signal\":%d}", shim_code(status),
		 WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	shim_event(s, buf_str(&b));
	if (++s->n_execs_ended <= SHIM_EXECS_KEPT)
		return;
	list_for_each_entry(old, &s->execs, node) {
		if (old->ended) {
			list_del(&old->node);
			free(old->name);
			free(old);
			s->n_execs_ended--;
			return;
		}
	}
}

bool shim_take_early(struct shim *s, pid_t pid, int *status)
{
	for (size_t i = 0; i < s->n_early; i++) {
		if (s->early[i].pid == pid) {
			*status = s->early[i].status;
			s->early[i] = s->early[--s->n_early];
			return true;
		}
	}
	return false;
}

static void on_child(struct watch *w, const struct signalfd_siginfo *si)
{
	struct shim *s = w->data;
	int status;
	pid_t pid;

	(void)si;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct shim_exec *x, *found = NULL;
		struct shim_job *j;
		bool job = false;

		list_for_each_entry(j, &s->jobs, node)
			job |= j->pid == pid;
		list_for_each_entry(x, &s->execs, node)
			if (x->pid == pid && !x->ended)
				found = x;
		if (job)
			continue;
		if (pid == s->pid && s->phase < SHIM_ENDING)
			shim_program_ended(s, status);
		else if (found)
			shim_exec_ended(s, found, status);
		else if (s->n_starting > 0) {
			if (s->n_early == ARRAY_SIZE(s->early))
				memmove(s->early, s->early + 1, --s->n_early * sizeof(s->early[0]));
			s->early[s->n_early].pid = pid;
			s->early[s->n_early++].status = status;
		}
	}
}

static void on_stop_timer(struct timer *t)
{
	struct shim *s = t->data;

	if (s->phase == SHIM_CREATED || s->phase == SHIM_RUNNING)
		kill(s->pid, SIGKILL);
}

static void on_term(struct watch *w, const struct signalfd_siginfo *si)
{
	struct shim *s = w->data;

	(void)si;
	s->stop_wanted = true;
	if (s->phase == SHIM_NEW)
		loop_stop(s->loop, 0);
	if (s->phase != SHIM_CREATED && s->phase != SHIM_RUNNING)
		return;
	kill(s->pid, s->phase == SHIM_CREATED ? SIGKILL : SIGTERM);
	s->stop_timer.data = s;
	timer_start(s->loop, &s->stop_timer, "stop", SHIM_STOP_SECONDS * NSEC_PER_SEC, 0,
		    on_stop_timer);
}

int shim_init(struct shim *s, struct loop *l, const char *dir, int fd, struct err **e)
{
	char path[4096];
	int r;

	s->loop = l;
	s->dir = dir;
	s->dirfd = s->listen_fd = s->oom_fd = s->oom_count_fd = -1;
	list_init(&s->clients);
	list_init(&s->jobs);
	list_init(&s->execs);
	shim_io_init(&s->io, l);
	s->io.idle = on_idle;
	s->io.arg = s;
	s->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return err_sys(e, errno, "open '%s'", dir);
	if ((size_t)snprintf(path, sizeof(path), "%s/" SHIM_SOCKET, dir) >= sizeof(path))
		return err_sys(e, ENAMETOOLONG, "'%s'", dir);
	s->listen_fd = rpc_listen(path, 0600, e);
	if (s->listen_fd < 0)
		return s->listen_fd;
	s->listen_watch.data = s->child_watch.data = s->term_watch.data = s;
	r = watch_fd(l, &s->listen_watch, "listen", s->listen_fd, EPOLLIN, on_connect);
	if (r == 0)
		r = watch_signal(l, &s->child_watch, "children", SIGCHLD, on_child);
	if (r == 0)
		r = watch_signal(l, &s->term_watch, "stop", SIGTERM, on_term);
	if (r == 0 && fd >= 0)
		r = client_add(s, fd, true);
	return r < 0 ? err_sys(e, -r, "set up the event loop") : 0;
}

void shim_done(struct shim *s)
{
	struct shim_client *c, *tmp;

	list_for_each_entry_safe(c, tmp, &s->clients, node)
		client_free(c);
	shim_io_done(&s->io);
	safe_close(s->listen_fd);
	safe_close(s->dirfd);
}
