/* Removing a container; see lifecycle.h. */
#include <poll.h>
#include <signal.h>
#include <unistd.h>
#include "container/hooks.h"
#include "container/lifecycle.h"
#include "container/rootfs.h"
#include "sys/proc.h"

static int wait_gone(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r;

	do {
		r = poll(&p, 1, timeout_ms);
	} while (r < 0 && errno == EINTR);
	return r > 0 ? 0 : -ETIMEDOUT;
}

int container_delete(const char *root, const char *id, bool force, struct err **e)
{
	struct container c = { .dir = -1 };
	struct spec s = { 0 };
	struct cgroups cg = { 0 };
	_cleanup_(closep) int pidfd = -1;
	_cleanup_(buf_done) struct buf state = { 0 };
	int r = container_load(&c, root, id, force ? NULL : e);

	if (r < 0) {
		if (force && r != -ENOENT && c.dir >= 0)
			container_remove_dir(&c);
		if (r == -ENOENT && force)
			r = 0;
		goto out;
	}
	pidfd = container_pidfd(&c);
	if (pidfd >= 0) {
		enum ct_status status = container_status(&c);

		if (!force) {
			r = err_set(
				e, EBUSY, "container.state",
				"cannot delete container '%s': it is %s; stop it or use --force",
				id, ct_status_names[status]);
			goto out;
		}
		sys_pidfd_send_signal(pidfd, SIGKILL);
	}
	r = container_load_cgroups(&c, &cg, e);
	if (r < 0)
		goto out;
	if (pidfd >= 0) {
		if (cgroups_frozen(&cg))
			cgroups_freeze(&cg, false, NULL);
		r = wait_gone(pidfd, 10000);
		if (r < 0) {
			err_set(e, EBUSY, "container.busy", "the container's process does not die");
			goto out;
		}
	}
	/* Without a pid namespace of its own, or with a killed runtime, others may be left in its cgroups. */
	if (!cg.disabled && !cg.joined) {
		r = cgroups_kill(&cg, SIGKILL, e);
		if (r == 0)
			r = cgroups_remove(&cg, e);
		if (r < 0)
			goto out;
	}
	if (c.mounts_below)
		rootfs_unbind(c.mounts_below, c.mount_id);
	if (container_load_config(&c, &s, NULL) == 0 && s.n_hooks[HOOK_POSTSTOP]) {
		container_state_json(&c, "stopped", false, &state);
		hooks_run_all(&s, HOOK_POSTSTOP, buf_str(&state));
	}
	container_remove_dir(&c);
out:
	cgroups_close(&cg);
	spec_done(&s);
	container_done(&c);
	return r;
}
