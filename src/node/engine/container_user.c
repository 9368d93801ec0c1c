/* Users of an image by name.                                   Spec: passwd(5), group(5); OCI image-spec config.md "User" */
#include "node/engine/container.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "sys/openat2.h"

#define FILE_MAX (1 << 20)

static int read_in(int root, const char *path, struct buf *b)
{
	_cleanup_(closep) int fd = root_open(root, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);

	return fd < 0 ? fd : fd_read_all(fd, FILE_MAX, b, NULL);
}

/* The next line of *pos split at ':' into at most n fields; false: no more. */
static bool next_line(char **pos, char **fields, size_t n)
{
	char *line = strsep(pos, "\n");

	if (!line)
		return false;
	for (size_t i = 0; i < n; i++)
		fields[i] = line ? strsep(&line, ":") : NULL;
	return true;
}

static bool number(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (!s || parse_u64(s, UINT32_MAX - 1, &v) < 0)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool find_user(char *text, const char *name, struct ct_user *u)
{
	char *f[6], *pos = text;
	uint32_t want;
	bool by_id = number(name, &want);

	while (next_line(&pos, f, 6)) {
		uint32_t uid, gid;

		if (!f[3] || !number(f[2], &uid) || !number(f[3], &gid))
			continue;
		if (by_id ? uid != want : !streq(f[0], name))
			continue;
		u->uid = uid;
		u->gid = gid;
		snprintf(u->home, sizeof(u->home), "%s", f[5] && *f[5] ? f[5] : "/");
		return true;
	}
	if (by_id)
		u->uid = want;
	return by_id;
}

static bool find_group(char *text, const char *name, uint32_t *gid)
{
	char *f[3], *pos = text;

	if (number(name, gid))
		return true;
	while (next_line(&pos, f, 3)) {
		if (f[2] && streq(f[0], name) && number(f[2], gid))
			return true;
	}
	return false;
}

/* Groups that list the user. */
static void more_groups(char *text, const char *name, struct ct_user *u)
{
	char *f[4], *pos = text;

	while (next_line(&pos, f, 4)) {
		char *members = f[3], *m;
		uint32_t gid;

		if (!members || !number(f[2], &gid))
			continue;
		while ((m = strsep(&members, ","))) {
			if (streq(m, name) && u->n_groups < ARRAY_SIZE(u->groups))
				u->groups[u->n_groups++] = gid;
		}
	}
}

int ct_user_find(const char *rootfs, const char *user, struct ct_user *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf passwd = { 0 }, group = { 0 }, again = { 0 };
	_cleanup_(closep) int root = -1;
	char name[128], *colon;

	*ret = (struct ct_user){ .home = "/root" };
	if (!user || !*user || streq(user, "0") || streq(user, "root") || streq(user, "0:0"))
		return 0;
	snprintf(ret->home, sizeof(ret->home), "/");
	snprintf(name, sizeof(name), "%s", user);
	colon = strchr(name, ':');
	if (colon)
		*colon++ = '\0';
	root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(e, errno, "open '%s'", rootfs);
	read_in(root, "etc/passwd", &passwd);
	read_in(root, "etc/group", &group);
	buf_adds(&again, buf_str(&group));
	if (!find_user(passwd.s ? passwd.s : (char[]){ "" }, name, ret))
		return err_set(e, ENOENT, "engine.user", "the image has no user '%s'", name);
	if (colon && !find_group(group.s ? group.s : (char[]){ "" }, colon, &ret->gid))
		return err_set(e, ENOENT, "engine.user", "the image has no group '%s'", colon);
	if (!colon && again.s)
		more_groups(again.s, name, ret);
	return 0;
}
