/* The OOM killer's strikes in a container; see cgroup.h.                 Spec: cgroup-v1/memory.rst 9 to 10, cgroup-v2.rst */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "container/cgroup/cgroup.h"

static const char *events_file(const struct cg_hierarchy *h)
{
	return h->v2 ? "memory.events" : "memory.oom_control";
}

int cgroups_oom_fd(struct cgroups *c)
{
	const struct cg_hierarchy *h = cg_find(c, CG_MEMORY);
	_cleanup_(closep) int fd = -1, control = -1;
	char path[PATH_MAX], text[64];

	if (!h)
		return -1;
	if (h->v2) {
		fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		snprintf(path, sizeof(path), "%s/%s", h->path, events_file(h));
		return fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) >= 0 ? TAKE_FD(fd) : -1;
	}
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	control = cgroups_oom_count_fd(c);
	snprintf(text, sizeof(text), "%d %d", fd, control);
	if (fd < 0 || control < 0 || cg_write(h, "cgroup.event_control", text) < 0)
		return -1;
	return TAKE_FD(fd);
}

int cgroups_oom_count_fd(struct cgroups *c)
{
	const struct cg_hierarchy *h = cg_find(c, CG_MEMORY);

	return h ? openat(h->fd, events_file(h), O_RDONLY | O_CLOEXEC) : -1;
}

int64_t cgroups_oom_kills(struct cgroups *c)
{
	const struct cg_hierarchy *h = cg_find(c, CG_MEMORY);
	char text[1024];
	const char *p;

	if (!h || cg_read(h, events_file(h), text, sizeof(text)) <= 0)
		return -1;
	p = strstr(text, "oom_kill ");
	return p ? strtoll(p + 9, NULL, 10) : 0;
}
