/* The container's first process; see init.h.  Runs strata-oci's image, alone in its namespaces, until it executes
 * strata-final.  Every failure goes to the runtime with its text; nothing is printed here. */
#include "container/init.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/fault.h"
#include "base/str.h"
#include "container/final.h"
#include "container/final_plan.h"
#include "container/hooks.h"
#include "container/tty.h"
#include "sys/mountapi.h"
#include "sys/openat2.h"
#include "sys/proc.h"
#include "sys/pty.h"

const char *const ct_stage_names[CT_STAGES] = { "none",	  "cloned", "idmapped", "network", "cgroup",
						"mounts", "hooks",  "pivoted",	"ready" };

int ns_join_paths(const struct spec *s, unsigned int mask, struct err **e)
{
	int fds[NS_KINDS], k, r = 0, pass;

	for (k = 0; k < NS_KINDS; k++)
		fds[k] = -1;
	/* All are opened first: a mount namespace changes what the paths mean. */
	for (k = 0; k < NS_KINDS && r == 0; k++) {
		if (!s->ns[k].path || !(mask & 1U << k))
			continue;
		fds[k] = open(s->ns[k].path, O_RDONLY | O_CLOEXEC);
		if (fds[k] < 0)
			r = err_sys(e, errno, "join the %s namespace '%s'", ns_names[k],
				    s->ns[k].path);
	}
	/* First with the rights we have, then with those of the user namespace; the mount namespace last. */
	for (pass = 0; pass < 3 && r == 0; pass++) {
		if (pass == 1 && fds[NS_USER] >= 0) {
			if (setns(fds[NS_USER], CLONE_NEWUSER) < 0)
				r = err_sys(e, errno, "join the user namespace '%s'",
					    s->ns[NS_USER].path);
			fds[NS_USER] = safe_close(fds[NS_USER]);
		}
		for (k = 0; k < NS_KINDS && r == 0; k++) {
			if (fds[k] < 0 || k == NS_USER || (k == NS_MNT) != (pass == 2))
				continue;
			if (setns(fds[k], ns_flags[k]) < 0) {
				if (errno == EPERM && pass == 0 && fds[NS_USER] >= 0)
					continue;
				r = err_sys(e, errno, "join the %s namespace '%s'", ns_names[k],
					    s->ns[k].path);
			}
			fds[k] = safe_close(fds[k]);
		}
	}
	for (k = 0; k < NS_KINDS; k++)
		safe_close(fds[k]);
	return r;
}

static int wait_go(struct init *in, int *fds, size_t *n, struct err **e)
{
	struct final_msg m;
	int r = msg_recv(in->sync, -1, &m, fds, n);

	if (r < 0)
		_exit(1); /* the runtime is gone, nobody to tell */
	return m.kind == FM_GO
		       ? 0
		       : err_set(e, EPROTO, "start.protocol", "unexpected message %u", m.kind);
}

static int stage(struct init *in, enum ct_stage st, struct err **e)
{
	static const char *const points[CT_STAGES] = { "",
						       "init.cloned",
						       "init.idmapped",
						       "init.network",
						       "init.cgroup",
						       "init.mounts",
						       "init.hooks",
						       "init.pivoted",
						       "init.ready" };

	int r;

	*in->stage = (int)st;
	r = FAULT_POINT(points[st]);
	return r < 0 ? err_sys(e, -r, "stage '%s'", ct_stage_names[st]) : 0;
}

static int ask(struct init *in, enum ct_stage st, int *fds, size_t *n, struct err **e)
{
	int r = msg_send(in->sync, FM_STAGE, (int)st, NULL, NULL, 0);

	return r < 0 ? err_sys(e, -r, "talk to the runtime") : wait_go(in, fds, n, e);
}

static int become_root(struct init *in, struct err **e)
{
	int r;

	if (in->need_maps) {
		r = ask(in, CT_IDMAPPED, NULL, NULL, e);
		if (r < 0)
			return r;
	}
	if (!in->map_root)
		return 0;
	/* Refused where the namespace forbids setgroups(): then the groups stay, unmapped. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
		return err_sys(e, errno, "drop groups");
	if (syscall(SYS_setresgid, 0, 0, 0) < 0 && errno != EINVAL)
		return err_sys(e, errno, "become group 0 of the user namespace");
	if (syscall(SYS_setresuid, 0, 0, 0) < 0 && errno != EINVAL)
		return err_sys(e, errno, "become user 0 of the user namespace");
	/* A change of ids clears it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return 0;
}

static int loopback_up(struct err **e)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	_cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno == EAFNOSUPPORT ? 0 : err_sys(e, errno, "loopback interface");
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? err_sys(e, errno, "loopback interface up") : 0;
}

static int time_namespace(const struct spec *s, struct err **e)
{
	_cleanup_(closep) int fd = -1, ns = -1;
	char text[128];
	int n = 0;

	if (unshare(CLONE_NEWTIME) < 0)
		return err_sys(e, errno, "new time namespace");
	if (s->monotonic.set)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "monotonic %lld %u\n",
			      (long long)s->monotonic.secs, s->monotonic.nanosecs);
	if (s->boottime.set)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "boottime %lld %u\n",
			      (long long)s->boottime.secs, s->boottime.nanosecs);
	if (n > 0) {
		fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, text, (size_t)n) != n)
			return err_sys(e, errno, "linux.timeOffsets");
	}
	/* unshare() is for children; this process goes in itself. */
	ns = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWTIME) < 0)
		return err_sys(e, errno, "enter the time namespace");
	return 0;
}

static int enter_cgroups(struct init *in, struct err **e)
{
	int fds[CG_HIERARCHIES_MAX], r = 0;
	size_t n = ARRAY_SIZE(fds), i;

	if (in->need_cgroup_fds) {
		r = ask(in, CT_CGROUP, fds, &n, e);
		for (i = 0; i < n; i++) {
			if (r == 0 && write(fds[i], "0", 1) < 0)
				r = err_sys(e, errno, "join the cgroups");
			close(fds[i]);
		}
	}
	if (r == 0 && in->s->ns[NS_CGROUP].present && !in->s->ns[NS_CGROUP].path &&
	    unshare(CLONE_NEWCGROUP) < 0)
		r = err_sys(e, errno, "new cgroup namespace");
	return r;
}

static int sysctls(const struct spec *s, struct err **e)
{
	size_t i;

	for (i = 0; i < s->sysctl.n; i++) {
		const char *key = s->sysctl.v[i].key, *value = s->sysctl.v[i].value;
		char path[PATH_MAX], *p;
		_cleanup_(closep) int fd = -1;

		snprintf(path, sizeof(path), "/proc/sys/%s", key);
		if (!strchr(key, '/'))
			for (p = path + 10; *p; p++)
				if (*p == '.')
					*p = '/';
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, value, strlen(value)) < 0)
			return err_sys(e, errno, "linux.sysctl: %s = '%s'", key, value);
	}
	return 0;
}

/* A terminal on the container's own devpts: its master to the console socket, its slave to us and /dev/console. */
static int terminal(struct init *in, struct err **e)
{
	const struct spec_process *p = &in->s->process;
	int master = -1, slave = -1, r;

	r = pty_open(in->root.rootfd, "dev/pts/ptmx", &master, &slave);
	if (r == -ENOENT) /* no devpts of its own: the host's, as in a container without mounts */
		r = pty_open(in->root.rootfd, "dev/ptmx", &master, &slave);
	if (r < 0)
		return err_sys(e, -r, "open a terminal on /dev/pts/ptmx");
	if (p->rows || p->cols)
		pty_resize(master, p->rows, p->cols);
	if (fchown(slave, p->uid, (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL)
		return err_sys(e, errno, "owner of the terminal");
	r = tty_send(in->console, master);
	if (r < 0)
		return err_sys(e, -r, "send the terminal to the console socket");
	close(master);
	if (in->s->ns[NS_MNT].present) {
		r = rootfs_console(&in->root, slave, e);
		if (r < 0)
			return r;
	}
	r = pty_adopt(slave);
	if (r < 0)
		return err_sys(e, -r, "take the terminal");
	if (slave > 2)
		close(slave);
	return 0;
}

static int make_cwd(const char *cwd, struct err **e)
{
	_cleanup_(closep) int root = -1, fd = -1;

	if (access(cwd, F_OK) == 0 || errno != ENOENT)
		return 0;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = root_mkdirs(root, cwd, 0755);
	return fd < 0 ? err_sys(e, -fd, "make the working directory '%s'", cwd) : 0;
}

static int run(struct init *in, struct err **e)
{
	const struct spec *s = in->s;
	int proc = -1, r;

	r = stage(in, CT_CLONED, e);
	if (r < 0)
		return r;
	if (!in->join_done) {
		r = ns_join_paths(s, ~((1U << NS_USER) | (1U << NS_PID)), e);
		if (r < 0)
			return r;
	}
	r = become_root(in, e);
	if (r < 0)
		return r;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	r = stage(in, CT_IDMAPPED, e);
	if (r < 0)
		return r;
	if (in->unshare_flags && unshare((int)in->unshare_flags) < 0)
		return err_sys(e, errno, "new namespaces");
	if (in->unshare_flags & CLONE_NEWNET) {
		r = loopback_up(e);
		if (r < 0)
			return r;
	}
	if (s->ns[NS_TIME].present && !s->ns[NS_TIME].path) {
		r = time_namespace(s, e);
		if (r < 0)
			return r;
	}
	r = stage(in, CT_NETWORK, e);
	if (r < 0)
		return r;
	r = enter_cgroups(in, e);
	if (r < 0)
		return r;
	r = stage(in, CT_CGROUP, e);
	if (r < 0)
		return r;
	if (setsid() < 0)
		return err_sys(e, errno, "new session");
	if (s->hostname && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return err_sys(e, errno, "hostname '%s'", s->hostname);
	if (s->domainname && setdomainname(s->domainname, strlen(s->domainname)) < 0)
		return err_sys(e, errno, "domainname '%s'", s->domainname);
	r = sysctls(s, e);
	if (r < 0)
		return r;
	r = stage(in, CT_MOUNTS, e);
	if (r < 0)
		return r;
	if (s->ns[NS_MNT].present) {
		r = rootfs_enter(&in->root, e);
		if (r == 0)
			r = rootfs_mounts(&in->root, e);
		if (r == 0)
			r = rootfs_devices(&in->root, e);
		if (r < 0)
			return r;
	} else {
		in->root.rootfd = open(in->root.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (in->root.rootfd < 0)
			return err_sys(e, errno, "root '%s'", in->root.path);
		/* On the mount that the runtime made for them (rootfs_bind). */
		in->root.empty_dir = -1;
		if (s->n_mounts > 0) {
			r = rootfs_mounts(&in->root, e);
			if (r == 0)
				r = rootfs_devices(&in->root, e);
			if (r < 0)
				return r;
		}
	}
	r = stage(in, CT_HOOKS, e);
	if (r < 0)
		return r;
	if (in->need_hooks) {
		r = ask(in, CT_HOOKS, NULL, NULL, e);
		if (r < 0)
			return r;
	}
	if (s->n_hooks[HOOK_CREATE_CONTAINER]) {
		/* They find the root where they stand, as with runc and crun. */
		if (fchdir(in->root.rootfd) < 0)
			return err_sys(e, errno, "enter the root");
		r = hooks_run(s, HOOK_CREATE_CONTAINER, in->state_json, e);
		if (r < 0)
			return r;
	}
	if (s->has_process && s->process.terminal) {
		r = terminal(in, e);
		if (r < 0)
			return r;
	}
	if (s->ns[NS_MNT].present || s->root_readonly) {
		r = rootfs_protect(&in->root, e);
		if (r < 0)
			return r;
	}
	/* Labels are written through the host's /proc: the container's may be anything. */
	if (s->has_process && ((s->process.apparmor && *s->process.apparmor) ||
			       (s->process.selinux && *s->process.selinux)))
		proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = rootfs_pivot(&in->root, e);
	if (r < 0)
		return r;
	r = stage(in, CT_PIVOTED, e);
	if (r < 0)
		return r;
	if (s->has_process) {
		r = make_cwd(s->process.cwd, s->root_readonly ? NULL : e);
		if (r < 0 && !s->root_readonly)
			return r;
	}
	if (pwrite(in->plan_fd, &proc, sizeof(proc), offsetof(struct final_plan, proc_fd)) !=
	    (ssize_t)sizeof(proc))
		return err_sys(e, EIO, "write the plan");
	r = stage(in, CT_READY, e);
	if (r < 0)
		return r;
	return final_exec(in->image_fd, in->plan_fd, e);
}

void init_main(struct init *in)
{
	_cleanup_(err_freep) struct err *e = NULL;

	/* Signal dispositions and the mask are put right by strata-final and before each hook. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	run(in, &e);
	msg_send(in->sync, FM_ERROR, err_num(e), err_msg(e), NULL, 0);
	_exit(1);
}
