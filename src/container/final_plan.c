/* Building the plan of strata-final; see final_plan.h. */
#include "container/final_plan.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "container/seccomp_profile.h"
#include "container/warn.h"
#include "sys/caps.h"
#include "sys/proc.h"

extern const unsigned char final_image[], final_image_end[]; /* final_blob.S */

static uint32_t add(struct buf *b, const void *data, size_t len)
{
	uint32_t off;

	while (b->len % 8)
		buf_addc(b, 0);
	off = (uint32_t)b->len;
	buf_add(b, data, len);
	return off;
}

static uint32_t add_str(struct buf *b, const char *s)
{
	uint32_t off = (uint32_t)b->len;

	buf_add(b, s, strlen(s) + 1);
	return off;
}

/* The table goes behind its strings. */
static struct final_tab add_strv(struct buf *b, char *const *v, size_t n)
{
	_cleanup_(buf_done) struct buf t = { 0 };
	size_t i;

	for (i = 0; i < n; i++) {
		uint32_t off = add_str(b, v[i]);

		buf_add(&t, &off, sizeof(off));
	}
	return (struct final_tab){ add(b, buf_str(&t), t.len), (uint32_t)n };
}

static bool env_has(const struct spec_process *p, const char *name)
{
	size_t len = strlen(name), i;

	for (i = 0; i < p->n_env; i++)
		if (strncmp(p->env[i], name, len) == 0 && p->env[i][len] == '=')
			return true;
	return false;
}

static void add_env(struct buf *b, const struct final_args *a, struct final_plan *f)
{
	const struct spec_process *p = a->process;
	_cleanup_(buf_done) struct buf t = { 0 };
	uint32_t off, n = 0;
	size_t i, k;

	for (i = 0; i < p->n_env; i++) {
		size_t len = (size_t)(strchrnul(p->env[i], '=') - p->env[i]) + 1;

		/* Of a repeated name the last one counts. */
		for (k = i + 1; k < p->n_env; k++)
			if (strncmp(p->env[i], p->env[k], len) == 0)
				break;
		if (k < p->n_env)
			continue;
		off = add_str(b, p->env[i]);
		buf_add(&t, &off, sizeof(off));
		n++;
	}
	for (i = 0; a->extra_env && a->extra_env[i]; i++, n++) {
		off = add_str(b, a->extra_env[i]);
		buf_add(&t, &off, sizeof(off));
	}
	if (p->terminal && !env_has(p, "TERM")) {
		off = add_str(b, "TERM=xterm");
		buf_add(&t, &off, sizeof(off));
		n++;
	}
	if (!env_has(p, "HOME")) {
		off = add_str(b, "HOME=/");
		if (n == 0) { /* slot 0 means "not wanted" */
			uint32_t path = add_str(
				b,
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

			buf_add(&t, &path, sizeof(path));
			n++;
		}
		buf_add(&t, &off, sizeof(off));
		f->home_at = n++;
	}
	f->envp = (struct final_tab){ add(b, buf_str(&t), t.len), n };
}

static void add_hooks(struct buf *b, const struct final_args *a, struct final_plan *f)
{
	struct final_hook h[64];
	size_t i, n = MIN(a->n_hooks, ARRAY_SIZE(h));

	for (i = 0; i < n; i++) {
		h[i].path = add_str(b, a->hooks[i].path);
		h[i].args =
			add_strv(b, a->hooks[i].args, MIN(strv_len(a->hooks[i].args), (size_t)500));
		h[i].env =
			add_strv(b, a->hooks[i].env, MIN(strv_len(a->hooks[i].env), (size_t)500));
		h[i].timeout = a->hooks[i].timeout;
	}
	f->hooks = (struct final_tab){ add(b, h, n * sizeof(h[0])), (uint32_t)n };
}

int final_plan_build(const struct final_args *a, struct buf *b, struct err **e)
{
	const struct spec_process *p = a->process;
	struct final_plan f = { .magic = FINAL_MAGIC,
				.sync_fd = -1,
				.listen_fd = -1,
				.proc_fd = -1,
				.join_pidfd = -1,
				.console_fd = -1 };
	size_t i;

	if (p->n_args == 0 && a->spec->has_process)
		return err_set(e, EINVAL, "config.field", "process.args: is missing or empty");
	if (a->n_hooks > 64)
		return err_set(e, E2BIG, "config.field",
			       "hooks.startContainer: more than 64 hooks");
	buf_add(b, &f, sizeof(f));
	f.uid = p->uid;
	f.gid = p->gid;
	f.groups = (struct final_tab){ add(b, p->groups, p->n_groups * sizeof(uint32_t)),
				       (uint32_t)p->n_groups };
	f.may_setgroups = a->may_setgroups;
	if (!a->may_setgroups && p->n_groups > 0)
		ct_warn("additional groups are ignored: setgroups is not allowed in this user namespace");
	f.has_umask = p->has_umask;
	f.umask = p->umask;
	f.has_personality = a->spec->has_personality;
	f.personality = a->spec->personality;
	f.no_new_privs = p->no_new_privs;
	f.rows = p->rows;
	f.cols = p->cols;
	f.has_caps = p->caps.set;
	if (p->caps.set) {
		uint64_t known = cap_last() >= 63 ? ~0ULL : (1ULL << (cap_last() + 1)) - 1;

		f.bounding = p->caps.bounding & known;
		f.effective = p->caps.effective & known;
		f.permitted = p->caps.permitted & known;
		f.inheritable = p->caps.inheritable & known;
		f.ambient = p->caps.ambient & known;
	}
	if (p->apparmor && *p->apparmor && !streq(p->apparmor, "unconfined"))
		f.apparmor = add_str(b, p->apparmor);
	if (p->selinux && *p->selinux)
		f.selinux = add_str(b, p->selinux);
	if (a->keyring)
		f.keyring = add_str(b, a->keyring);
	if (a->seccomp) {
		f.seccomp = (struct final_tab){ add(b, a->seccomp->insns, a->seccomp->n * 8),
						(uint32_t)a->seccomp->n };
		f.seccomp_flags = a->seccomp->flags;
	}
	f.preserve = a->preserve;
	f.cwd = add_str(b, p->cwd ? p->cwd : "/");
	f.argv = add_strv(b, p->args, p->n_args);
	add_env(b, a, &f);
	if (a->n_hooks) {
		add_hooks(b, a, &f);
		f.state = add_str(b, a->state);
	}
	for (i = 0; i < FINAL_ATTACH_MAX; i++)
		f.attach_fds[i] = -1;
	f.size = (uint32_t)b->len;
	if (buf_error(b) || b->len > UINT32_MAX / 2)
		return err_set(e, E2BIG, "config.size", "arguments and variables are too large");
	memcpy(b->s, &f, sizeof(f));
	return 0;
}

int final_plan_fd(const struct buf *b, struct err **e)
{
	_cleanup_(closep) int fd =
		memfd_create("strata-plan", MFD_CLOEXEC | 0x0008U /* MFD_NOEXEC_SEAL */);
	int r;

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("strata-plan", MFD_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "memory file");
	r = write_all(fd, b->s, b->len);
	if (r < 0)
		return err_sys(e, -r, "write the plan");
	return TAKE_FD(fd);
}

int final_image_fd(struct err **e)
{
	/* two symbols of one linked-in file */
	/* cppcheck-suppress comparePointers */
	size_t size = (size_t)(final_image_end - final_image);
	int fd = sys_sealed_memfd("strata-final", final_image, size);

	return fd < 0 ? err_sys(e, -fd, "memory file of strata-final") : fd;
}

static void inherit(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

int final_exec(int image_fd, int plan_fd, struct err **e)
{
	char num[16], *argv[] = { (char *)"strata-final", num, NULL }, *envp[] = { NULL };
	struct final_plan f;
	uint32_t i;

	snprintf(num, sizeof(num), "%d", plan_fd);
	if (pread(plan_fd, &f, sizeof(f), 0) != (ssize_t)sizeof(f))
		return err_sys(e, EIO, "read the plan back");
	inherit(plan_fd);
	inherit(f.sync_fd);
	inherit(f.listen_fd);
	inherit(f.proc_fd);
	inherit(f.join_pidfd);
	inherit(f.console_fd);
	for (i = 0; i < f.n_attach; i++)
		inherit(f.attach_fds[i]);
	syscall(SYS_execveat, image_fd, "", argv, envp, AT_EMPTY_PATH);
	return err_sys(e, errno, "execute strata-final");
}
