/* Starting a created container; see lifecycle.h. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "container/final.h"
#include "container/follow.h"
#include "container/hooks.h"
#include "container/init.h"
#include "container/lifecycle.h"
#include "sys/proc.h"

int container_start(const char *root, const char *id, struct err **e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct container c = { .dir = -1 };
	struct spec s = { 0 };
	_cleanup_(closep) int pidfd = -1, sock = -1;
	_cleanup_(buf_done) struct buf state = { 0 };
	enum ct_status status;
	int r = container_load(&c, root, id, e);

	if (r < 0)
		goto out;
	status = container_status(&c);
	if (status != CT_CREATED) {
		r = err_set(e, EINVAL, "container.state",
			    "cannot start a container in the %s state", ct_status_names[status]);
		goto out;
	}
	r = container_load_config(&c, &s, e);
	if (r < 0)
		goto out;
	if (!s.has_process) {
		r = err_set(e, EINVAL, "config.field",
			    "process: is missing, so there is nothing to start");
		goto out;
	}
	pidfd = container_pidfd(&c);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/start.sock", c.dir);
	if (pidfd < 0 || sock < 0 || connect(sock, (struct sockaddr *)&a, sizeof(a)) < 0) {
		r = err_sys(e, errno, "reach the container's process");
		goto out;
	}
	r = msg_send(sock, FM_GO, 0, NULL, NULL, 0);
	if (r < 0)
		err_sys(e, -r, "let the container's process go");
	if (r == 0)
		r = follow(sock, pidfd, &c, &s, false, &c.pid, e);
	unlinkat(c.dir, "start.sock", 0);
	if (r == 0 && s.n_hooks[HOOK_POSTSTART]) {
		container_state_json(&c, "running", false, &state);
		hooks_run_all(&s, HOOK_POSTSTART, buf_str(&state));
	}
out:
	spec_done(&s);
	container_done(&c);
	return r;
}
