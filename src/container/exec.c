/* exec; see exec.h.
 *
 * The process that joins is strata-final from its first instruction (final.h): nothing of the host is mapped in it or open in
 * it when processes of the container first see it. */
#include "container/exec.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "container/create.h"
#include "container/final.h"
#include "container/final_plan.h"
#include "container/follow.h"
#include "container/idmap.h"
#include "container/init.h"
#include "container/process.h"
#include "container/seccomp_profile.h"
#include "container/tty.h"
#include "sys/caps.h"
#include "sys/proc.h"

struct exec {
	const struct exec_opts *o;
	struct container c;
	struct spec s;
	struct spec_process p;
	struct cgroups cg;
	struct buf text;
	int init, sock, console, console_peer, pidfd;
	pid_t pid;
};

static int read_process(struct exec *x, struct err **e)
{
	struct arena *a = &x->s.arena;
	struct jr r = { .a = a, .e = e };
	struct jval *o;
	int q;
	const char *name = x->o->process_text ? "process" : x->o->process_file;

	if (x->o->process_text)
		q = buf_add(&x->text, x->o->process_text, x->o->process_len);
	else
		q = file_read(AT_FDCWD, x->o->process_file, JDOC_TEXT_MAX, &x->text, e);
	if (q == 0)
		q = jdoc_parse(a, buf_str(&x->text), x->text.len, &o, e);
	if (q < 0)
		return err_wrap(e, q, "'%s'", name);
	memset(&x->p, 0, sizeof(x->p));
	spec_read_process(&r, o, &x->p);
	return r.r < 0 ? err_wrap(e, r.r, "'%s'", name) : 0;
}

static int apply_user(struct exec *x, struct err **e)
{
	char buf[64], *colon;
	uint64_t v;

	if (!x->o->user)
		return 0;
	snprintf(buf, sizeof(buf), "%s", x->o->user);
	colon = strchr(buf, ':');
	if (colon)
		*colon++ = '\0';
	if (parse_u64(buf, UINT32_MAX, &v) < 0)
		return err_set(e, EINVAL, "usage", "--user: '%s' is not uid[:gid]", x->o->user);
	x->p.uid = (uint32_t)v;
	if (colon && parse_u64(colon, UINT32_MAX, &v) < 0)
		return err_set(e, EINVAL, "usage", "--user: '%s' is not uid[:gid]", x->o->user);
	if (colon)
		x->p.gid = (uint32_t)v;
	return 0;
}

static int apply_options(struct exec *x, struct err **e)
{
	const struct exec_opts *o = x->o;
	struct spec_process *p = &x->p;
	struct arena *a = &x->s.arena;
	size_t i, n;
	int r;

	if (o->args && o->args[0]) {
		p->args = o->args;
		p->n_args = strv_len(o->args);
	}
	if (o->env && o->env[0]) {
		char **env;

		n = strv_len(o->env);
		env = arena_alloc(a, (p->n_env + n + 1) * sizeof(char *));
		memcpy(env, p->env, p->n_env * sizeof(char *));
		memcpy(env + p->n_env, o->env, n * sizeof(char *));
		p->env = env;
		p->n_env += n;
	}
	if (o->cwd)
		p->cwd = o->cwd;
	if (p->cwd[0] != '/')
		return err_set(e, EINVAL, "config.field",
			       "process.cwd: '%s' is not an absolute path", p->cwd);
	r = apply_user(x, e);
	if (r < 0)
		return r;
	if (o->groups && o->groups[0]) {
		uint32_t *g;

		n = strv_len(o->groups);
		g = arena_alloc(a, (p->n_groups + n) * sizeof(*g));
		memcpy(g, p->groups, p->n_groups * sizeof(*g));
		for (i = 0; i < n; i++) {
			uint64_t v;

			if (parse_u64(o->groups[i], UINT32_MAX, &v) < 0)
				return err_set(e, EINVAL, "usage",
					       "--additional-gids: '%s' is not a group id",
					       o->groups[i]);
			g[p->n_groups++] = (uint32_t)v;
		}
		p->groups = g;
	}
	for (i = 0; o->caps && o->caps[i]; i++) {
		int c = cap_from_name(o->caps[i]);

		if (c < 0)
			return err_set(e, EINVAL, "usage", "--cap: '%s' is not a capability",
				       o->caps[i]);
		p->caps.set = true;
		p->caps.bounding |= 1ULL << c;
		p->caps.effective |= 1ULL << c;
		p->caps.permitted |= 1ULL << c;
		p->caps.ambient |= p->caps.inheritable & 1ULL << c;
	}
	if (o->apparmor)
		p->apparmor = o->apparmor;
	if (o->label)
		p->selinux = o->label;
	p->no_new_privs |= o->no_new_privs;
	if ((!o->process_file && !o->process_text) || o->tty)
		p->terminal = o->tty;
	return 0;
}

static int check_terminal(struct exec *x, struct err **e)
{
	int pair[2];

	if (!x->p.terminal) {
		if (x->o->console_socket && *x->o->console_socket)
			return err_set(e, EINVAL, "console",
				       "--console-socket is given but no terminal is wanted");
		return 0;
	}
	if (x->o->console_socket && *x->o->console_socket) {
		x->console = tty_connect(x->o->console_socket, e);
		return x->console < 0 ? x->console : 0;
	}
	if (x->o->detach && !x->o->ret)
		return err_set(e, EINVAL, "console",
			       "a terminal needs --console-socket when nobody stays with it");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socket pair");
	x->console_peer = pair[0];
	x->console = pair[1];
	return 0;
}

/* Only namespaces that are not ours: setns() to one's own user namespace is an error. */
static unsigned int join_flags(const struct exec *x)
{
	unsigned int flags = 0;
	int k;

	for (k = 0; k < NS_KINDS; k++) {
		char theirs[64], ours[64];
		struct stat a, b;

		if (!(x->c.ns_flags & (unsigned int)ns_flags[k]))
			continue;
		snprintf(theirs, sizeof(theirs), "/proc/%d/ns/%s", (int)x->c.pid, ns_files[k]);
		snprintf(ours, sizeof(ours), "/proc/self/ns/%s", ns_files[k]);
		if (stat(theirs, &a) == 0 && stat(ours, &b) == 0 && a.st_ino != b.st_ino)
			flags |= (unsigned int)ns_flags[k];
	}
	return flags;
}

/* The folder of cgroup v2 to be born in; -1: none. */
static int open_v2(struct exec *x, const char *const *subs, int *ret, struct err **e)
{
	size_t i;

	for (i = 0; i < x->cg.n; i++) {
		const struct cg_hierarchy *h = &x->cg.h[i];

		if (!h->v2 || h->fd < 0)
			continue;
		*ret = openat(h->fd, subs[i] ? subs[i] : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (*ret < 0)
			return cgroups_sub_error(h, subs[i] ? subs[i] : ".", errno, e);
	}
	return 0;
}

/* Where the container's first process is now. */
static int init_v2(struct exec *x)
{
	char path[PATH_MAX], line[PATH_MAX];
	const char *mount = NULL;
	size_t i;
	int fd = -1;
	FILE *f;

	for (i = 0; i < x->cg.n; i++)
		if (x->cg.h[i].v2)
			mount = x->cg.h[i].mount;
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)x->c.pid);
	f = mount ? fopen(path, "re") : NULL;
	while (f && fd < 0 && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (str_starts(line, "0::/") &&
		    snprintf(path, sizeof(path), "%s%s", mount, line + 3) < (int)sizeof(path))
			fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (f)
		fclose(f);
	return fd;
}

static int spawn(struct exec *x, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int plan = -1, image = -1, sync = -1, proc = -1, v2 = -1;
	struct seccomp_prog *prog = NULL;
	const char *env[4] = { NULL };
	struct final_args a = {
		.spec = &x->s, .process = &x->p, .preserve = x->o->preserve_fds, .extra_env = env
	};
	const char *subs[CG_HIERARCHIES_MAX];
	struct final_plan *f;
	int pair[2], r, n;
	pid_t pid;

	r = seccomp_profile_get(&x->c.arena, x->s.seccomp, x->s.text,
				seccomp_cache_dir(&x->c.arena, x->o->root), &prog, e);
	if (r < 0)
		return r;
	a.seccomp = prog;
	a.preserve += listen_fds(&x->c.arena, env);
	a.may_setgroups = !x->s.ns[NS_USER].present || x->s.ns[NS_USER].path ||
			  idmap_setgroups_allowed(&x->s.gids);
	a.keyring = arena_printf(&x->c.arena, "_ses.%s", x->c.id);
	r = final_plan_build(&a, &b, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socket pair");
	x->sock = pair[0];
	sync = pair[1];
	proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	f = (struct final_plan *)(void *)b.s;
	f->sync_fd = sync;
	f->proc_fd = proc;
	f->join_pidfd = x->init;
	f->join_flags = (int)join_flags(x);
	f->join_fork =
		true; /* also without a pid namespace: our child must not be what we see in /proc */
	f->open_tty = x->p.terminal;
	f->console_fd = x->console;
	r = cgroups_subs(&x->cg, x->o->cgroups, subs, e);
	if (r < 0)
		return err_wrap(e, r, "--cgroup");
	n = cgroups_join_fds(&x->cg, subs, f->attach_fds, FINAL_ATTACH_MAX, e);
	if (n < 0)
		return n;
	f->n_attach = (uint32_t)n;
	r = open_v2(x, subs, &v2, e);
	if (r < 0)
		return r;
	plan = final_plan_fd(&b, e);
	if (plan < 0)
		return plan;
	image = final_image_fd(e);
	if (image < 0)
		return image;
	pid = sys_clone3(0, SIGCHLD, NULL, v2);
	if (pid == -EBUSY && v2 >= 0 && !(x->o->cgroups && x->o->cgroups[0])) {
		/* The container has handed controllers on to folders of its own, so none may live in the one above. */
		safe_close(v2);
		v2 = init_v2(x);
		pid = sys_clone3(0, SIGCHLD, NULL, v2);
	}
	if (pid == 0) {
		struct err *why = NULL;

		/* Inherited by what follows; a created container's process may live in a cgroup that is frozen for us. */
		final_exec(image, plan, &why);
		msg_send(sync, FM_ERROR, err_num(why), err_msg(why), NULL, 0);
		_exit(1);
	}
	for (; n > 0; n--)
		close(f->attach_fds[n - 1]);
	if (pid < 0)
		return err_sys(e, -pid, "new process");
	sync = safe_close(sync);
	r = follow(x->sock, -1, &x->c, &x->s, true, &x->pid, e);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

static int exec(struct exec *x, struct err **e)
{
	enum ct_status status;
	int r = container_load(&x->c, x->o->root, x->o->id, e);

	if (r < 0)
		return r;
	status = container_status(&x->c);
	if (status == CT_STOPPED || status == CT_CREATING)
		return err_set(e, EINVAL, "container.state",
			       "cannot exec in a container that is %s", ct_status_names[status]);
	if (status == CT_PAUSED && !x->o->ignore_paused)
		return err_set(
			e, EINVAL, "container.state",
			"cannot exec in a paused container (use --ignore-paused to override)");
	x->init = container_pidfd(&x->c);
	if (x->init < 0)
		return err_sys(e, -x->init, "open the container's process");
	r = container_load_config(&x->c, &x->s, e);
	if (r == 0)
		r = container_load_cgroups(&x->c, &x->cg, e);
	if (r < 0)
		return r;
	x->p = x->s.process;
	if (x->o->process_file || x->o->process_text)
		r = read_process(x, e);
	if (r == 0)
		r = apply_options(x, e);
	if (r == 0)
		r = check_terminal(x, e);
	if (r == 0)
		r = spawn(x, e);
	if (r < 0)
		return r;
	x->pidfd = sys_pidfd_open(x->pid);
	r = follow(x->sock, x->pidfd, &x->c, &x->s, true, &x->pid, e);
	if (r == 0)
		r = process_apply(x->pid, &x->p, e);
	if (r == 0 && x->o->pid_file)
		r = write_pid_file(x->o->pid_file, x->pid, e);
	if (r == 0)
		r = msg_send(x->sock, FM_GO, 0, NULL, NULL, 0);
	if (r == 0)
		r = follow(x->sock, x->pidfd, &x->c, &x->s, false, &x->pid, e);
	if (r < 0) {
		if (x->pidfd >= 0)
			sys_pidfd_send_signal(x->pidfd, SIGKILL);
		waitpid(x->pid, NULL, 0);
		return r;
	}
	return 0;
}

static int fill_result(struct exec *x, struct exec_result *ret, struct err **e)
{
	struct proc_stat ps = { 0 };

	proc_stat_read(x->pid, &ps); /* it may have ended */
	*ret = (struct exec_result){ .pid = x->pid, .start = ps.start, .master = -1 };
	if (x->console_peer < 0)
		return 0;
	ret->master = tty_recv(x->console_peer);
	return ret->master < 0 ? err_sys(e, -ret->master, "receive the terminal") : 0;
}

int container_exec(const struct exec_opts *o, struct err **e)
{
	struct exec x = {
		.o = o, .init = -1, .sock = -1, .console = -1, .console_peer = -1, .pidfd = -1
	};
	int r;

	x.c.dir = -1;
	r = exec(&x, e);
	if (r == 0 && o->ret)
		r = fill_result(&x, o->ret, e);
	if (r == 0 && !o->detach) {
		int master;

		x.console = safe_close(x.console);
		master = x.console_peer >= 0 ? tty_recv(x.console_peer) : -1;
		r = tty_wait(x.pid, x.pidfd, master, e);
		safe_close(master);
	}
	safe_close(x.init);
	safe_close(x.sock);
	safe_close(x.console);
	safe_close(x.console_peer);
	safe_close(x.pidfd);
	cgroups_close(&x.cg);
	buf_done(&x.text);
	spec_done(&x.s);
	container_done(&x.c);
	return r;
}
