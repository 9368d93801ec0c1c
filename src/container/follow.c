/* What strata-final says; see follow.h. */
#include "container/follow.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "container/final.h"
#include "container/init.h"
#include "container/tty.h"
#include "container/warn.h"
#include "sys/proc.h"

int start_timeout_ms = 120000;

/* Hand the listener to whoever asked for it, with the state of the container.       Spec: config-linux.md "listenerPath" */
static int pass_listener(int sock, int pidfd, int number, int plan_fd, struct container *c,
			 const struct spec *s, pid_t pid, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int to = -1, fd = -1;
	const char *path = NULL, *meta = "";
	struct jr r = { .a = &c->arena, .e = e };
	struct final_plan *plan;
	struct timespec ms = { .tv_nsec = 200000 };
	int tries, q = -ENOENT;

	jr_str(&r, s->seccomp, "listenerPath", &path);
	jr_str(&r, s->seccomp, "listenerMetadata", &meta);
	if (!path)
		return err_set(e, EINVAL, "config.field", "linux.seccomp.listenerPath: is missing");
	to = tty_connect(path, e);
	if (to < 0)
		return err_wrap(e, to,
				"linux.seccomp.listenerPath: failed to connect with seccomp agent");
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, plan_fd, 0);
	if (plan == MAP_FAILED)
		return err_sys(e, errno, "map the plan");
	msg_send(sock, FM_GO, 0, NULL, NULL, 0);
	for (tries = 0; tries < 25000 && fd < 0; tries++) {
		fd = sys_pidfd_getfd(pidfd, number);
		if (fd < 0) {
			struct pollfd p = { .fd = pidfd, .events = POLLIN };

			if (poll(&p, 1, 0) > 0)
				break;
			nanosleep(&ms, NULL);
		}
	}
	if (fd >= 0) {
		struct iovec iov;
		union {
			struct cmsghdr h;
			char space[CMSG_SPACE(sizeof(int))];
		} cm = { 0 };
		struct msghdr h = { .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = &cm,
				    .msg_controllen = sizeof(cm) };

		buf_adds(&b, "{\"ociVersion\":\"" SPEC_VERSION "\",\"fds\":[\"seccompFd\"],");
		buf_addf(&b, "\"pid\":%d,\"metadata\":", (int)pid);
		buf_add_json(&b, meta);
		buf_adds(&b, ",\"state\":");
		container_state_json(c, "creating", false, &b);
		buf_addc(&b, '}');
		iov = (struct iovec){ .iov_base = b.s, .iov_len = b.len };
		cm.h.cmsg_len = CMSG_LEN(sizeof(int));
		cm.h.cmsg_level = SOL_SOCKET;
		cm.h.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&cm.h), &fd, sizeof(int));
		q = sendmsg(to, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
	}
	plan->notify_taken = 1;
	munmap(plan, sizeof(*plan));
	return q < 0 ? err_sys(e, -q, "pass the seccomp listener on") : 0;
}

int follow(int sock, int pidfd, struct container *c, const struct spec *s, bool want_ready,
	   pid_t *pid, struct err **e)
{
	struct final_msg m;

	for (;;) {
		int fds[1] = { -1 }, r;
		size_t n = 1;

		/* Hooks inside have timeouts of their own, and none may be wanted. */
		r = msg_recv(sock, want_ready ? start_timeout_ms : -1, &m, fds, &n);
		if (r == -EPIPE)
			return want_ready
				       ? err_set(e, ECHILD, "start.died",
						 "the container's process ended before it was ready")
				       : 0;
		if (r < 0)
			return err_sys(e, -r, "wait for the container's process");
		if (m.kind == FM_WARN) {
			ct_warn("%s", m.text);
		} else if (m.kind == FM_ERROR) {
			return err_set(e, m.value > 0 ? m.value : EIO, "start.failed", "%s",
				       m.text);
		} else if (m.kind == FM_READY && want_ready) {
			return 0;
		} else if (m.kind == FM_PID) {
			*pid = m.value;
			if (pidfd < 0)
				return 0;
		} else if (m.kind == FM_NOTIFY && n == 1) {
			r = pass_listener(sock, pidfd, m.value, fds[0], c, s, *pid, e);
			close(fds[0]);
			if (r < 0)
				return r;
		}
	}
}
