/* A VM's control group; see vmgroup.h. */
#include "node/engine/vmgroup.h"

#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/str.h"

#define PERIOD_US 100000

struct hierarchy {
	char path[512]; /* where the cpu controller is; empty: nowhere */
	bool v2;
};

static bool has_word(const char *list, const char *separators, const char *word)
{
	_cleanup_(strv_freep) char **v = strv_split(list, separators);

	return v && strv_contains(v, word);
}

static void find_cpu(struct hierarchy *h)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;

	h->path[0] = '\0';
	while (f && !h->path[0] && (m = getmntent(f))) {
		_cleanup_(buf_done) struct buf b = { 0 };
		char file[600];

		if (streq(m->mnt_type, "cgroup") && has_word(m->mnt_opts, ",", "cpu")) {
			h->v2 = false;
		} else if (streq(m->mnt_type, "cgroup2")) {
			snprintf(file, sizeof(file), "%s/cgroup.controllers", m->mnt_dir);
			if (file_read(AT_FDCWD, file, 4096, &b, NULL) < 0 ||
			    !has_word(buf_str(&b), " \n", "cpu"))
				continue;
			h->v2 = true;
		} else {
			continue;
		}
		snprintf(h->path, sizeof(h->path), "%s", m->mnt_dir);
	}
	if (f)
		endmntent(f);
}

static int put(const char *dir, const char *file, const char *value, struct err **e)
{
	char path[1200];
	_cleanup_(closep) int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return err_sys(e, errno, "write '%s' to '%s'", value, path);
	return 0;
}

static int make_dir(const char *path, struct err **e)
{
	return mkdir(path, 0755) < 0 && errno != EEXIST ? err_sys(e, errno, "make '%s'", path) : 0;
}

int vmgroup_make(const char *id, char **procs, struct err **e)
{
	struct hierarchy h;
	char dir[600], own[700];
	int r;

	*procs = NULL;
	find_cpu(&h);
	if (!h.path[0])
		return 0;
	snprintf(dir, sizeof(dir), "%s/strata", h.path);
	snprintf(own, sizeof(own), "%s/%s", dir, id);
	r = make_dir(dir, e);
	if (r == 0 && h.v2) { /* the controller is handed down from level to level */
		r = put(h.path, "cgroup.subtree_control", "+cpu", e);
		if (r == 0)
			r = put(dir, "cgroup.subtree_control", "+cpu", e);
	}
	if (r == 0)
		r = make_dir(own, e);
	if (r == 0 && asprintf(procs, "%s/cgroup.procs", own) < 0) {
		*procs = NULL;
		r = err_sys(e, ENOMEM, "control group");
	}
	return r;
}

int vmgroup_set(const char *id, const struct vmgroup_limits *l, struct err **e)
{
	struct hierarchy h;
	char dir[700], value[64];
	long long quota = (long long)(l->cpus * PERIOD_US);
	int r;

	find_cpu(&h);
	if (!h.path[0]) {
		if (l->cpus == 0 && l->shares == 1000)
			return 0;
		return err_set(e, ENOTSUP, "engine.cgroup",
			       "this host has no cpu controller: CPU limits cannot be kept");
	}
	snprintf(dir, sizeof(dir), "%s/strata/%s", h.path, id);
	if (h.v2) {
		if (quota > 0)
			snprintf(value, sizeof(value), "%lld %d", quota, PERIOD_US);
		else
			snprintf(value, sizeof(value), "max %d", PERIOD_US);
		r = put(dir, "cpu.max", value, e);
		snprintf(value, sizeof(value), "%llu",
			 (unsigned long long)CLAMP(l->shares / 10, 1ULL, 10000ULL));
		return r < 0 ? r : put(dir, "cpu.weight", value, e);
	}
	snprintf(value, sizeof(value), "%lld", quota > 0 ? quota : -1);
	r = put(dir, "cpu.cfs_quota_us", value, e);
	snprintf(value, sizeof(value), "%llu",
		 (unsigned long long)CLAMP(l->shares * 1024 / 1000, 2ULL, 262144ULL));
	return r < 0 ? r : put(dir, "cpu.shares", value, e);
}

int vmgroup_remove(const char *id, struct err **e)
{
	struct hierarchy h;
	char dir[700];

	find_cpu(&h);
	if (!h.path[0])
		return 0;
	snprintf(dir, sizeof(dir), "%s/strata/%s", h.path, id);
	return rmdir(dir) < 0 && errno != ENOENT ? err_sys(e, errno, "remove '%s'", dir) : 0;
}
