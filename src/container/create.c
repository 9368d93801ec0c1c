/* create and run; see create.h.
 *
 * Order of what is made outside of this process: (1) the status folder with the names of the cgroups to be, (2) the cgroups,
 * (3) the first process.  Each is undone in the opposite order on failure, and `delete --force` can do the same from the
 * status folder alone. */
#include "container/create.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/fault.h"
#include "base/str.h"
#include "container/final.h"
#include "container/final_plan.h"
#include "container/follow.h"
#include "container/hooks.h"
#include "container/idmap.h"
#include "container/init.h"
#include "container/lifecycle.h"
#include "container/process.h"
#include "container/seccomp_profile.h"
#include "container/tty.h"
#include "container/warn.h"
#include "sys/mountapi.h"
#include "sys/proc.h"

struct start {
	const struct create_opts *o;
	struct spec s;
	struct buf config;
	struct container c;
	struct cgroups cg;
	struct seccomp_prog *seccomp;
	struct init in;
	struct final_msg m;
	char *rootfs, *bundle;
	int sock, pidfd, listen_fd, console, console_peer;
	pid_t pid;
	bool have_dir, have_cgroups, started_hooks;
	int *shared_stage;
};

const char *seccomp_cache_dir(struct arena *a, const char *root)
{
	return arena_printf(a, "%s/.seccomp", root);
}

/* The stages at which the first process stops for us. */
static int serve(struct start *st, struct err **e)
{
	for (;;) {
		int r = msg_recv(st->sock, start_timeout_ms, &st->m, NULL, NULL),
		    fds[CG_HIERARCHIES_MAX];
		const char *at = ct_stage_names[CLAMP(*st->shared_stage, 0, CT_STAGES - 1)];
		_cleanup_(buf_done) struct buf state = { 0 };
		bool may;

		if (r == -EPIPE)
			return err_set(e, ECHILD, "start.died",
				       "the container's process ended after stage '%s'", at);
		if (r == -ETIMEDOUT)
			return err_set(e, ETIMEDOUT, "start.timeout",
				       "the container's process hangs after stage '%s'", at);
		if (r < 0)
			return err_sys(e, -r, "wait for the container's process");
		switch (st->m.kind) {
		case FM_WARN:
			ct_warn("%s", st->m.text);
			continue;
		case FM_ERROR:
			return err_set(e, st->m.value > 0 ? st->m.value : EIO, "start.failed", "%s",
				       st->m.text);
		case FM_READY:
			return 0;
		case FM_STAGE:
			break;
		default:
			return err_set(e, EPROTO, "start.protocol", "unexpected message %u",
				       st->m.kind);
		}
		if (st->m.value == CT_IDMAPPED) {
			r = idmap_write(st->pid, &st->s.uids, &st->s.gids, &may, e);
			if (r == 0)
				r = msg_send(st->sock, FM_GO, 0, NULL, NULL, 0);
		} else if (st->m.value == CT_CGROUP) {
			int i, n = cgroups_join_fds(&st->cg, NULL, fds, ARRAY_SIZE(fds), e);

			if (n < 0)
				return n;
			r = msg_send(st->sock, FM_GO, 0, NULL, fds, (size_t)n);
			for (i = 0; i < n; i++)
				close(fds[i]);
		} else if (st->m.value == CT_HOOKS) {
			st->started_hooks = true;
			/* The old kind of hook was written when it ran after create: it is told so still. */
			container_state_json(&st->c, "created", false, &state);
			r = hooks_run(&st->s, HOOK_PRESTART, buf_str(&state), e);
			buf_clear(&state);
			container_state_json(&st->c, "creating", false, &state);
			if (r == 0)
				r = hooks_run(&st->s, HOOK_CREATE_RUNTIME, buf_str(&state), e);
			if (r == 0)
				r = msg_send(st->sock, FM_GO, 0, NULL, NULL, 0);
		}
		if (r < 0)
			return e && *e ? r : err_sys(e, -r, "stage '%s'", at);
	}
}

/* -- before the clone -- */

static int read_config(struct start *st, struct err **e)
{
	const struct create_opts *o = st->o;
	const char *path = o->config ? o->config : "config.json";
	char *base = realpath(o->bundle ? o->bundle : ".", NULL);
	struct stat sb;
	int dir, r;

	if (!base)
		return err_sys(e, errno, "bundle '%s'", o->bundle ? o->bundle : ".");
	st->bundle = arena_strdup(&st->c.arena, base);
	free(base);
	dir = open(st->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, errno, "bundle '%s'", st->bundle);
	r = file_read(dir, path, JDOC_TEXT_MAX, &st->config, e);
	close(dir);
	if (r < 0)
		return r;
	r = spec_parse(&st->s, buf_str(&st->config), st->config.len, e);
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	base = st->s.root_path[0] == '/'
		       ? realpath(st->s.root_path, NULL)
		       : realpath(arena_printf(&st->c.arena, "%s/%s", st->bundle, st->s.root_path),
				  NULL);
	if (!base || stat(base, &sb) < 0 || !S_ISDIR(sb.st_mode)) {
		r = err_sys(e, base ? ENOTDIR : errno, "root.path '%s'", st->s.root_path);
		free(base);
		return r;
	}
	st->rootfs = arena_strdup(&st->c.arena, base);
	free(base);
	if (streq(st->rootfs, "/"))
		return err_set(e, EINVAL, "config.field", "root.path: '%s' is the host's root",
			       st->s.root_path);
	return 0;
}

static int check_terminal(struct start *st, struct err **e)
{
	const struct create_opts *o = st->o;
	bool tty = st->s.has_process && st->s.process.terminal;
	int pair[2];

	if (!tty && o->console_socket && *o->console_socket)
		return err_set(e, EINVAL, "console",
			       "--console-socket is given but process.terminal is false");
	if (!tty)
		return 0;
	if (o->console_socket && *o->console_socket) {
		st->console = tty_connect(o->console_socket, e);
		return st->console < 0 ? st->console : 0;
	}
	if (!o->ret && (!o->run || o->detach))
		return err_set(e, EINVAL, "console",
			       "process.terminal needs --console-socket when nobody stays with it");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socket pair");
	st->console_peer = pair[0];
	st->console = pair[1];
	return 0;
}

static int listen_start(struct start *st, struct err **e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(e, errno, "socket");
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/start.sock", st->c.dir);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4) < 0) {
		int r = err_sys(e, errno, "socket for start");

		close(fd);
		return r;
	}
	st->listen_fd = fd;
	return 0;
}

static void now_text(char *buf, size_t len)
{
	struct timespec t;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	n = strftime(buf, len, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, len - n, ".%09ldZ", t.tv_nsec);
}

static const char *owner_name(struct arena *a)
{
	return getuid() == 0 ? "root" : arena_printf(a, "%u", (unsigned int)getuid());
}

static int prepare_status(struct start *st, struct err **e)
{
	struct container *c = &st->c;
	char created[48];
	size_t i;
	int k, r;

	r = container_create_dir(c, st->o->root, st->o->id, e);
	if (r < 0)
		return r;
	st->have_dir = true;
	if ((r = FAULT_POINT("create.dir")) < 0)
		return err_sys(e, -r, "make the status folder");
	r = cgroups_plan(&c->arena, st->s.cgroups_path, c->id, st->o->manager, &st->cg, e);
	if (r < 0)
		return r;
	now_text(created, sizeof(created));
	c->created = arena_strdup(&c->arena, created);
	c->owner = owner_name(&c->arena);
	c->oci_version = SPEC_VERSION;
	c->bundle = st->bundle;
	c->rootfs = st->rootfs;
	c->annotations = st->s.annotations;
	c->cgroup_disabled = st->cg.disabled;
	c->scope = st->cg.systemd ? st->cg.scope : NULL;
	c->slice = st->cg.slice;
	c->rootless = geteuid() != 0;
	c->cgroup_paths = arena_alloc(&c->arena, (st->cg.n + 1) * sizeof(char *));
	for (i = 0; i < st->cg.n; i++)
		c->cgroup_paths[i] = (char *)(uintptr_t)st->cg.h[i].path;
	for (k = 0; k < NS_KINDS; k++)
		if (st->s.ns[k].present)
			c->ns_flags |= (unsigned int)ns_flags[k];
	r = container_save(c, e);
	if (r == 0)
		r = container_save_config(c, st->s.text, st->s.text_len, e);
	return r;
}

static int name_bind(void *arg, int id, struct err **e)
{
	struct start *st = arg;

	st->c.mounts_below = st->rootfs;
	st->c.mount_id = id;
	return container_save(&st->c, e);
}

static int build_plan(struct start *st, int sync, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 }, state = { 0 };
	const char *env[4] = { NULL };
	struct final_args a = { .spec = &st->s,
				.process = &st->s.process,
				.seccomp = st->seccomp,
				.hooks = st->s.hooks[HOOK_START_CONTAINER],
				.n_hooks = st->s.n_hooks[HOOK_START_CONTAINER],
				.preserve = st->o->preserve_fds,
				.extra_env = env };
	struct final_plan *f;
	int r;

	a.preserve += listen_fds(&st->c.arena, env);
	a.may_setgroups = !st->s.ns[NS_USER].present || st->s.ns[NS_USER].path ||
			  idmap_setgroups_allowed(&st->s.gids);
	if (geteuid() != 0 && st->s.ns[NS_USER].path)
		a.may_setgroups = false;
	if (!st->o->no_new_keyring)
		a.keyring = arena_printf(&st->c.arena, "_ses.%s", st->c.id);
	if (a.n_hooks) {
		container_state_json(&st->c, "created", false, &state);
		a.state = buf_str(&state);
	}
	r = final_plan_build(&a, &b, e);
	if (r < 0)
		return r;
	f = (struct final_plan *)(void *)b.s;
	f->sync_fd = sync;
	f->listen_fd = st->listen_fd;
	st->in.plan_fd = final_plan_fd(&b, e);
	if (st->in.plan_fd < 0)
		return st->in.plan_fd;
	st->in.image_fd = final_image_fd(e);
	return st->in.image_fd < 0 ? st->in.image_fd : 0;
}

static int prepare_binds(struct start *st, struct err **e)
{
	size_t i;

	st->in.root.tree = -1;
	if (!st->s.ns[NS_MNT].present && (st->s.n_mounts > 0 || st->s.root_readonly)) {
		int r = rootfs_bind(st->rootfs, name_bind, st, e);

		if (r < 0)
			return err_wrap(e, r, "mounts without a mount namespace");
	}
	if (st->s.ns[NS_MNT].present && st->s.ns[NS_USER].present && geteuid() == 0) {
		st->in.root.tree =
			rootfs_prepare(st->rootfs, !(st->s.rootfs_propagation & MS_SHARED), e);
		if (st->in.root.tree < 0)
			return st->in.root.tree;
	}
	st->in.root.trees = arena_alloc(&st->c.arena, (st->s.n_mounts + 1) * sizeof(int));
	for (i = 0; i < st->s.n_mounts; i++)
		st->in.root.trees[i] = -1;
	for (i = 0; i < st->s.n_mounts; i++) {
		const struct spec_mount *m = &st->s.mounts[i];

		/* With a user namespace the container's root may not reach the source, nor lift its restrictions. */
		if (!m->o.bind || m->o.remount ||
		    !(st->s.ns[NS_USER].present || m->has_maps || m->o.idmap))
			continue;
		st->in.root.trees[i] = bind_prepare(&st->s, m, true, geteuid() == 0 ? e : NULL);
		if (st->in.root.trees[i] < 0 && geteuid() == 0)
			return st->in.root.trees[i];
	}
	return 0;
}

/* -- the clone -- */

/* A helper process that joins namespaces first, when these decide how the container's process is born: existing user
 * and pid namespaces, and any existing one when the user namespace is new.  The container's process becomes our child. */
static _noreturn_ void joiner(struct start *st, uint64_t clone_flags)
{
	_cleanup_(err_freep) struct err *e = NULL;
	pid_t pid;

	if (ns_join_paths(&st->s, ~0U, &e) < 0) {
		msg_send(st->in.sync, FM_ERROR, err_num(e), err_msg(e), NULL, 0);
		_exit(1);
	}
	pid = sys_clone3(clone_flags | CLONE_PARENT, 0, NULL, -1);
	if (pid == 0) {
		st->in.join_done = true;
		init_main(&st->in);
	}
	if (pid < 0)
		msg_send(st->in.sync, FM_ERROR, -pid, "new process in the joined namespaces", NULL,
			 0);
	else
		msg_send(st->in.sync, FM_PID, pid, NULL, NULL, 0);
	_exit(0);
}

static int clone_first(struct start *st, struct err **e)
{
	const struct spec *s = &st->s;
	uint64_t flags = 0;
	bool join_first, joins = false;
	int k, v2 = -1;

	for (k = 0; k < NS_KINDS; k++) {
		if (!s->ns[k].present)
			continue;
		if (s->ns[k].path) {
			joins = true;
			continue;
		}
		if (k == NS_USER || k == NS_PID)
			flags |= (uint64_t)ns_flags[k];
		else if (k != NS_CGROUP && k != NS_TIME)
			st->in.unshare_flags |= (unsigned int)ns_flags[k];
	}
	st->in.need_maps = flags & CLONE_NEWUSER;
	st->in.map_root = s->ns[NS_USER].present;
	join_first = s->ns[NS_USER].path || s->ns[NS_PID].path || (joins && st->in.need_maps);
	if (!st->cg.disabled && !st->cg.systemd)
		v2 = cgroups_v2_fd(&st->cg);
	st->pid = sys_clone3(join_first ? 0 : flags, SIGCHLD, join_first ? NULL : &st->pidfd, v2);
	if (st->pid == 0) {
		close(st->sock);
		if (join_first)
			joiner(st, flags);
		init_main(&st->in);
	}
	if (st->pid < 0)
		return err_sys(e, -st->pid, "new process with its namespaces");
	close(st->in.sync);
	st->in.sync = -1;
	if (join_first) {
		struct final_msg m;
		int r = msg_recv(st->sock, start_timeout_ms, &m, NULL, NULL);
		pid_t helper = st->pid;

		st->pid = 0;
		while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
			;
		if (r < 0)
			return err_sys(e, -r, "wait for the joining process");
		if (m.kind == FM_ERROR)
			return err_set(e, m.value, "start.join", "%s", m.text);
		if (m.kind != FM_PID)
			return err_set(e, EPROTO, "start.protocol", "unexpected message %u",
				       m.kind);
		st->pid = m.value;
		st->pidfd = sys_pidfd_open(st->pid);
		if (st->pidfd < 0)
			return err_sys(e, -st->pidfd, "open the container's process");
	}
	return 0;
}

static void undo(struct start *st)
{
	_cleanup_(buf_done) struct buf state = { 0 };

	if (st->pid > 0) {
		if (st->pidfd >= 0)
			sys_pidfd_send_signal(st->pidfd, SIGKILL);
		else
			kill(st->pid, SIGKILL);
		while (waitpid(st->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (st->have_cgroups) {
		cgroups_kill(&st->cg, SIGKILL, NULL);
		cgroups_remove(&st->cg, NULL);
	}
	if (st->c.mounts_below)
		rootfs_unbind(st->c.mounts_below, st->c.mount_id);
	if (st->started_hooks) {
		container_state_json(&st->c, "stopped", false, &state);
		hooks_run_all(&st->s, HOOK_POSTSTOP, buf_str(&state));
	}
	if (st->have_dir)
		container_remove_dir(&st->c);
}

static int begin(struct start *st, struct err **e)
{
	int pair[2], r;
	struct proc_stat ps;

	r = read_config(st, e);
	if (r == 0)
		r = check_terminal(st, e);
	if (r == 0)
		r = prepare_status(st, e);
	if (r == 0)
		r = seccomp_profile_get(&st->c.arena, st->s.seccomp, st->s.text,
					seccomp_cache_dir(&st->c.arena, st->o->root), &st->seccomp,
					e);
	if (r == 0 && !st->o->run)
		r = listen_start(st, e);
	if (r == 0)
		r = prepare_binds(st, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socket pair");
	st->sock = pair[0];
	st->in.sync = pair[1];
	if (!st->s.has_process && st->o->run)
		return err_set(e, EINVAL, "config.field", "process: is missing");
	r = build_plan(st, st->in.sync, e);
	if (r < 0)
		return r;
	st->have_cgroups = true;
	if (!st->cg.systemd) {
		r = cgroups_create(&st->cg, &st->s.res, e);
		if (r == 0 && (r = FAULT_POINT("create.cgroup")) < 0)
			err_sys(e, -r, "make the cgroups");
		if (r < 0)
			return r;
	}
	st->shared_stage =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (st->shared_stage == MAP_FAILED)
		return err_sys(e, errno, "shared memory");
	st->in.s = &st->s;
	st->in.stage = st->shared_stage;
	st->in.console = st->console;
	st->in.parent = getpid();
	st->in.root.s = &st->s;
	st->in.root.path = st->rootfs;
	st->in.root.cg = &st->cg;
	st->in.root.rootfd = -1;
	st->in.root.no_pivot = st->o->no_pivot;
	st->in.root.at_path = (st->s.n_hooks[HOOK_PRESTART] || st->s.n_hooks[HOOK_CREATE_RUNTIME] ||
			       st->s.n_hooks[HOOK_CREATE_CONTAINER]) &&
			      !(st->s.rootfs_propagation & MS_SHARED);
	st->in.root.user_ns = st->s.ns[NS_USER].present || geteuid() != 0;
	st->in.root.cgroup_ns = st->s.ns[NS_CGROUP].present;
	st->in.need_hooks = st->s.n_hooks[HOOK_PRESTART] || st->s.n_hooks[HOOK_CREATE_RUNTIME];
	st->in.need_cgroup_fds = !st->cg.disabled &&
				 (st->cg.systemd || st->cg.n > 1 || !st->cg.h[0].v2);
	if (st->s.n_hooks[HOOK_CREATE_CONTAINER]) {
		_cleanup_(buf_done) struct buf state = { 0 };

		container_state_json(&st->c, "creating", false, &state);
		st->in.state_json = arena_strdup(&st->c.arena, buf_str(&state));
	}
	r = clone_first(st, e);
	if (r < 0)
		return r;
	st->c.pid = st->pid;
	r = proc_stat_read(st->pid, &ps);
	if (r < 0)
		return err_sys(e, -r, "look at the container's process");
	st->c.start = ps.start;
	if ((r = FAULT_POINT("create.cloned")) < 0)
		return err_sys(e, -r, "clone");
	/* While the first process makes its namespaces and mounts: */
	if (st->cg.systemd) {
		r = cg_systemd_start(&st->cg, st->pid, &st->s.res, e);
		if (r == 0)
			r = cgroups_open(&st->cg, e);
		if (r < 0)
			return r;
	}
	r = cgroups_set(&st->cg, &st->s.res, e);
	if (r == 0)
		r = container_save(&st->c, e);
	if (r == 0 && (r = FAULT_POINT("create.limits")) < 0)
		err_sys(e, -r, "limits");
	if (r == 0)
		r = serve(st, e);
	if (r == 0 && st->s.has_process)
		r = process_apply(st->pid, &st->s.process, e);
	if (r == 0 && st->o->pid_file)
		r = write_pid_file(st->o->pid_file, st->pid, e);
	if (r == 0 && (r = FAULT_POINT("create.ready")) < 0)
		err_sys(e, -r, "ready");
	if (r == 0) {
		r = msg_send(st->sock, FM_GO, 0, NULL, NULL, 0);
		if (r < 0)
			err_sys(e, -r, "let the container's process go");
	}
	if (r == 0 && st->o->run) {
		r = follow(st->sock, st->pidfd, &st->c, &st->s, false, &st->pid, e);
		if (r == 0 && st->s.n_hooks[HOOK_POSTSTART]) {
			_cleanup_(buf_done) struct buf state = { 0 };

			container_state_json(&st->c, "running", false, &state);
			hooks_run_all(&st->s, HOOK_POSTSTART, buf_str(&state));
		}
	}
	return r;
}

static int fill_result(struct start *st, struct create_result *ret, struct err **e)
{
	*ret = (struct create_result){
		.pid = st->pid, .start = st->c.start, .master = -1, .oom_fd = -1, .oom_count_fd = -1
	};
	if (st->console_peer >= 0) {
		ret->master = tty_recv(st->console_peer);
		if (ret->master < 0)
			return err_sys(e, -ret->master, "receive the terminal");
	}
	ret->oom_fd = cgroups_oom_fd(&st->cg);
	ret->oom_count_fd = ret->oom_fd >= 0 ? cgroups_oom_count_fd(&st->cg) : -1;
	if (ret->oom_count_fd < 0)
		ret->oom_fd = safe_close(ret->oom_fd);
	return 0;
}

int container_create(const struct create_opts *o, struct err **e)
{
	struct start st = {
		.o = o, .sock = -1, .pidfd = -1, .listen_fd = -1, .console = -1, .console_peer = -1
	};
	int r;

	st.in.sync = st.in.image_fd = st.in.plan_fd = -1;
	st.c.dir = -1;
	r = begin(&st, e);
	if (r == 0 && o->ret)
		r = fill_result(&st, o->ret, e);
	if (r < 0) {
		undo(&st);
	} else if (o->run && !o->detach) {
		int master = st.console_peer >= 0 ? tty_recv(st.console_peer) : -1;

		r = tty_wait(st.pid, st.pidfd, master, e);
		safe_close(master);
		if (r >= 0 && !o->keep) {
			int q = container_delete(o->root, o->id, true, e);

			r = q < 0 ? q : r;
		}
	}
	cgroups_close(&st.cg);
	safe_close(st.sock);
	safe_close(st.in.sync);
	safe_close(st.pidfd);
	safe_close(st.listen_fd);
	safe_close(st.console);
	safe_close(st.console_peer);
	safe_close(st.in.image_fd);
	safe_close(st.in.plan_fd);
	spec_done(&st.s);
	buf_done(&st.config);
	container_done(&st.c);
	return r;
}
