/* See ctl.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#define LOG_MODULE "ctl"
#include "base/list.h"
#include "base/log.h"
#include "base/rpc.h"
#include "vmm/console.h"
#include "vmm/ctl.h"
#include "vmm/device_ops.h"
#include "vmm/machine.h"
#include "vmm/request.h"
#include "vmm/snapshot.h"
#include "vmm/vcpu.h"

#define MAX_CLIENTS 16

struct client {
	struct ctl *ctl;
	struct rpc_conn conn;
	struct list node;
};

struct ctl {
	struct vm *vm;
	char *path;
	int fd;
	struct watch watch;
	struct list clients;
	unsigned int n_clients;
	const struct buf *saved;
	/* a snapshot being written by a child */
	struct watch child;
	struct client *waiter; /* who asked; NULL when it left */
	int report_fd;	       /* the child's error text */
	nsec_t stopped_ns;
};

static void answer(struct client *k, struct buf *b)
{
	if (k && (buf_error(b) || rpc_conn_send(&k->conn, b->s, b->len, NULL, 0) < 0))
		log_warn("an answer was lost");
}

static void answer_error(struct client *k, const struct err *e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_adds(&b, "{\"ok\": false, \"id\": ");
	buf_add_json(&b, err_id(e));
	buf_adds(&b, ", \"error\": ");
	buf_add_json(&b, err_msg(e));
	buf_adds(&b, "}");
	answer(k, &b);
}

static void status(struct ctl *c, struct buf *b)
{
	struct vm *vm = c->vm;

	buf_addf(b, ", \"state\": \"%s\", \"cpus\": %u, \"memory\": %llu, \"pid\": %d, \"name\": ",
		 sm_name(&vm_sm, vm->state), vm->cfg.n_cpus, (unsigned long long)vm->cfg.memory,
		 (int)getpid());
	buf_add_json(b, vm_name(vm));
}

static void put_stat(void *arg, const char *name, uint64_t v)
{
	struct buf *b = arg;

	buf_addf(b, "%s\"%s\": %llu", b->s && b->s[b->len - 1] == '{' ? "" : ", ", name,
		 (unsigned long long)v);
}

static void stats(struct ctl *c, struct buf *b)
{
	static const char *const names[HV_EXIT_KINDS] = {
		[HV_EXIT_PIO] = "pio",		 [HV_EXIT_MMIO] = "mmio",
		[HV_EXIT_EOI] = "eoi",		 [HV_EXIT_HLT] = "hlt",
		[HV_EXIT_SHUTDOWN] = "shutdown", [HV_EXIT_KICKED] = "kicked",
		[HV_EXIT_OTHER] = "other",	 [HV_EXIT_FAIL] = "fail",
	};
	struct vm *vm = c->vm;
	struct dev *d;

	buf_adds(b, ", \"exits\": {");
	for (unsigned int k = 0; k < HV_EXIT_KINDS; k++) {
		uint64_t n = 0;

		for (unsigned int i = 0; i < vm->n_vcpus; i++)
			n += atomic_load_explicit(&vm->vcpus[i].exits[k], memory_order_relaxed);
		put_stat(b, names[k], n);
	}
	buf_addf(
		b,
		"}, \"messages\": %llu, \"unclaimed\": %llu, \"last_pause_ns\": %llu, \"uptime_ns\": %lld",
		(unsigned long long)vm->n_msi, (unsigned long long)vm->unclaimed,
		(unsigned long long)vm->last_pause_ns, (long long)(now_mono() - vm->created_at));
	if (vm->console) {
		struct console_stats s;

		console_stats(vm->console, &s);
		buf_addf(
			b,
			", \"console\": {\"out\": %llu, \"lost\": %llu, \"in\": %llu, \"connects\": %llu}",
			(unsigned long long)s.out_bytes, (unsigned long long)s.lost_bytes,
			(unsigned long long)s.in_bytes, (unsigned long long)s.connects);
	}
	buf_adds(b, ", \"devices\": {");
	list_for_each_entry(d, &vm->devices, node) {
		if (!d->ops->stats)
			continue;
		buf_adds(b, b->s[b->len - 1] == '{' ? "" : ", ");
		buf_add_json(b, d->id);
		buf_adds(b, ": {");
		d->ops->stats(d, put_stat, b);
		buf_adds(b, "}");
	}
	buf_adds(b, "}");
}

static int set(struct ctl *c, const struct request *q, struct err **e)
{
	const char *id = request_string(q, "device"), *key = request_string(q, "key");
	struct dev *d;
	uint64_t v;
	int r;

	if (!id || !key || request_number(q, "value", &v) < 0)
		return err_set(e, EINVAL, "request.fields",
			       "set takes \"device\", \"key\" and a number \"value\"");
	d = dev_find(c->vm, id);
	if (!d)
		return err_set(e, ENOENT, "device.missing", "no device '%s'", id);
	r = d->ops->set ? d->ops->set(d, key, v, e) : -ENOENT;
	if (r == -ENOENT && (!e || !*e))
		return err_set(e, ENOENT, "device.key", "device '%s' has no setting '%s'", id, key);
	return r;
}

static int reset_to_snapshot(struct ctl *c, struct err **e)
{
	struct vm *vm = c->vm;
	bool running = vm->state == VM_RUNNING;
	int r;

	if (!c->saved)
		return err_set(e, EINVAL, "vm.restored", "this vm does not come from a snapshot");
	r = vm_pause(vm, e);
	if (r < 0)
		return r;
	/* Private pages of a file mapping: dropped, they read as the file again. */
	for (unsigned int i = 0; i < vm->mem.n; i++) {
		const struct gmem_region *g = &vm->mem.region[i];

		if (!g->readonly && madvise(g->host, g->size, MADV_DONTNEED) < 0)
			return err_sys(e, errno, "drop guest memory");
	}
	r = snapshot_load(vm, c->saved, e);
	vm->ended = 0;
	return r < 0 ? r : running ? vm_start(vm, e) : 0;
}

static void snapshot_ended(struct ctl *c, const char *error)
{
	_cleanup_(err_freep) struct err *e = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };

	if (error) {
		err_set(&e, EIO, "snapshot.failed", "%s", error);
		answer_error(c->waiter, e);
	} else {
		buf_addf(&b, "{\"ok\": true, \"stopped_ns\": %lld}", (long long)c->stopped_ns);
		answer(c->waiter, &b);
	}
	c->waiter = NULL;
}

static void on_child(struct watch *w, const siginfo_t *si)
{
	struct ctl *c = w->data;
	char text[1024];
	ssize_t n = read(c->report_fd, text, sizeof(text) - 1);

	c->report_fd = safe_close(c->report_fd);
	if (si->si_code == CLD_EXITED && si->si_status == 0) {
		snapshot_ended(c, NULL);
		return;
	}
	text[MAX(n, 0)] = '\0';
	snapshot_ended(c, n > 0 ? text : "the writer was killed");
}

/* The guest stands still while the state is gathered and the process forked; the child has guest memory as it was
 * at that instant (private memory is copied on write) and writes it while the guest runs on. */
static int snapshot(struct ctl *c, struct client *k, const struct request *q, struct err **e)
{
	_cleanup_(buf_done) struct buf state = { 0 };
	const char *dir = request_string(q, "dir");
	struct vm *vm = c->vm;
	bool running = vm->state == VM_RUNNING, shared = vm->cfg.backing != GMEM_ANON;
	nsec_t began = now_mono();
	int pipefd[2], r;
	pid_t pid;

	if (!dir || !*dir)
		return err_set(e, EINVAL, "request.fields", "snapshot takes \"dir\"");
	if (watch_active(&c->child))
		return err_set(e, EBUSY, "snapshot.busy", "a snapshot is being written");
	r = vm_pause(vm, e);
	if (r < 0)
		return r;
	r = snapshot_save(vm, &state, e);
	if (r == 0 && shared) { /* a fork would share it: write it while the guest stands still */
		r = snapshot_write(vm, dir, &state, e);
		c->stopped_ns = now_mono() - began;
		if (r == 0) {
			c->waiter = k;
			snapshot_ended(c, NULL);
		}
		goto out;
	}
	if (r < 0)
		goto out;
	if (pipe2(pipefd, O_CLOEXEC | O_NONBLOCK) < 0) {
		r = err_sys(e, errno, "make a pipe");
		goto out;
	}
	pid = fork();
	if (pid == 0) {
		struct err *ce = NULL;

		if (snapshot_write(vm, dir, &state, &ce) < 0) {
			if (write(pipefd[1], err_msg(ce), strlen(err_msg(ce))) < 0)
				_exit(2);
			_exit(1);
		}
		_exit(0);
	}
	close(pipefd[1]);
	if (pid < 0) {
		r = err_sys(e, errno, "start the writer of the snapshot");
		close(pipefd[0]);
		goto out;
	}
	c->report_fd = pipefd[0];
	c->waiter = k;
	c->child.data = c;
	r = watch_child(vm->loop, &c->child, "snapshot", pid, on_child);
	if (r < 0)
		err_set(e, -r, "snapshot.watch", "watch the writer of the snapshot");
out:
	if (running && vm_start(vm, r < 0 ? NULL : e) < 0 && r == 0)
		r = -EIO;
	c->stopped_ns = now_mono() - began;
	return r < 0 ? r : 1; /* answered later, or already */
}

static int act(struct ctl *c, struct client *k, const struct request *q, struct buf *b,
	       struct err **e)
{
	const char *verb = request_string(q, "verb"), *to;
	struct vm *vm = c->vm;

	if (!verb)
		return err_set(e, EINVAL, "request.fields", "the request has no \"verb\"");
	if (strcmp(verb, "status") == 0) {
		status(c, b);
		return 0;
	}
	if (strcmp(verb, "stats") == 0) {
		stats(c, b);
		return 0;
	}
	if (strcmp(verb, "pause") == 0)
		return vm_pause(vm, e);
	if (strcmp(verb, "resume") == 0)
		return vm_start(vm, e);
	if (strcmp(verb, "shutdown") == 0)
		return vm_power_button(vm, e);
	if (strcmp(verb, "reset") == 0) {
		to = request_string(q, "to");
		if (!to)
			return vm_reset(vm, e);
		if (strcmp(to, "snapshot") == 0)
			return reset_to_snapshot(c, e);
		return err_set(e, EINVAL, "request.fields",
			       "reset goes \"to\": \"snapshot\", or nowhere");
	}
	if (strcmp(verb, "kill") == 0) {
		loop_stop(vm->loop, 0);
		return 0;
	}
	if (strcmp(verb, "set") == 0)
		return set(c, q, e);
	if (strcmp(verb, "snapshot") == 0)
		return snapshot(c, k, q, e);
	if (strcmp(verb, "migrate") == 0 || strcmp(verb, "add-disk") == 0 ||
	    strcmp(verb, "add-net") == 0 || strcmp(verb, "remove") == 0)
		return err_set(e, ENOTSUP, "request.later",
			       "this release has no hot-plug and no live migration");
	return err_set(e, EINVAL, "request.verb", "no verb '%s'", verb);
}

static void drop(struct client *k)
{
	if (k->ctl->waiter == k)
		k->ctl->waiter = NULL;
	rpc_conn_close(&k->conn);
	list_del(&k->node);
	k->ctl->n_clients--;
	free(k);
}

static void on_frame(struct rpc_conn *conn, struct rpc_frame *f)
{
	struct client *k = conn->data;
	_cleanup_(err_freep) struct err *e = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	struct request q;
	int r = request_parse(f->text.s ? f->text.s : "", f->text.len, &q, &e);

	buf_adds(&b, "{\"ok\": true");
	if (r == 0)
		r = act(k->ctl, k, &q, &b, &e);
	request_done(&q);
	if (r == 0) {
		buf_adds(&b, "}");
		answer(k, &b);
	} else if (r < 0) {
		answer_error(k, e);
	}
}

static void on_closed(struct rpc_conn *conn, int r)
{
	drop(conn->data);
}

static void on_connect(struct watch *w, uint32_t events)
{
	struct ctl *c = w->data;
	struct client *k;
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	k = c->n_clients < MAX_CLIENTS ? calloc(1, sizeof(*k)) : NULL;
	if (!k || rpc_conn_open(&k->conn, c->vm->loop, fd, on_frame, on_closed) < 0) {
		free(k);
		close(fd);
		return;
	}
	k->ctl = c;
	k->conn.data = k;
	list_add(&c->clients, &k->node);
	c->n_clients++;
}

int ctl_new(struct vm *vm, const char *path, const struct buf *saved, struct ctl **ret,
	    struct err **e)
{
	struct ctl *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	c->vm = vm;
	c->saved = saved;
	c->report_fd = -1;
	list_init(&c->clients);
	c->fd = rpc_listen(path, 0600, e);
	if (c->fd < 0) {
		r = c->fd;
		free(c);
		return r;
	}
	c->path = strdup(path);
	c->watch.data = c;
	r = watch_fd(vm->loop, &c->watch, "ctl", c->fd, EPOLLIN, on_connect);
	if (r < 0) {
		ctl_free(c);
		return err_set(e, -r, "ctl.watch", "watch the control socket");
	}
	*ret = c;
	return 0;
}

void ctl_free(struct ctl *c)
{
	if (!c)
		return;
	/* A writer that is still at work finishes by itself; its folder is whole or not there. */
	watch_remove(&c->child);
	safe_close(c->report_fd);
	while (!list_empty(&c->clients))
		drop(list_first_entry(&c->clients, struct client, node));
	watch_remove(&c->watch);
	safe_close(c->fd);
	if (c->path)
		unlink(c->path);
	free(c->path);
	free(c);
}

int ctl_client(const char *path, const char *verb, const char *json)
{
	_cleanup_(err_freep) struct err *e = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int fd = rpc_connect(path, &e);
	struct rpc_frame f = { 0 };
	int r;

	if (fd < 0) {
		fprintf(stderr, "strata-vmm: %s\n", err_msg(e));
		return 1;
	}
	/* The caller's fields behind our verb: a second "verb" is refused by the other side. */
	buf_adds(&b, "{\"verb\": ");
	buf_add_json(&b, verb);
	if (json) {
		const char *p = json + strspn(json, " \t\n");

		if (*p != '{') {
			fprintf(stderr, "strata-vmm: the argument must be a JSON object\n");
			return 2;
		}
		p++;
		buf_adds(&b, p[strspn(p, " \t\n")] == '}' ? "" : ", ");
		buf_adds(&b, p);
	} else {
		buf_adds(&b, "}");
	}
	r = buf_error(&b);
	if (r == 0)
		r = rpc_send(fd, b.s, b.len, NULL, 0);
	if (r == 0)
		r = rpc_recv(fd, 600 * NSEC_PER_SEC, &f);
	if (r == -ENODATA && strcmp(verb, "kill") == 0)
		return 0; /* it went before it could answer */
	if (r < 0) {
		fprintf(stderr, "strata-vmm: talk to '%s': %s\n", path, strerror(-r));
		return 1;
	}
	printf("%s\n", buf_str(&f.text));
	r = strncmp(buf_str(&f.text), "{\"ok\": true", 11) == 0 ? 0 : 1;
	rpc_frame_done(&f);
	return r;
}
