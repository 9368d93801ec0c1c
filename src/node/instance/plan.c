/* From spec and image to a plan in which every name is resolved.  plan_args(), plan_env() and signal_number() are pure. */
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "node/instance/instance.h"

#define USERNS_BASE  1879048192U /* above what systemd gives to containers of its own */
#define USERNS_COUNT 65536U

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "HUP", SIGHUP },	 { "INT", SIGINT },   { "QUIT", SIGQUIT },   { "ILL", SIGILL },
	{ "TRAP", SIGTRAP },	 { "ABRT", SIGABRT }, { "BUS", SIGBUS },     { "FPE", SIGFPE },
	{ "KILL", SIGKILL },	 { "USR1", SIGUSR1 }, { "SEGV", SIGSEGV },   { "USR2", SIGUSR2 },
	{ "PIPE", SIGPIPE },	 { "ALRM", SIGALRM }, { "TERM", SIGTERM },   { "CHLD", SIGCHLD },
	{ "CONT", SIGCONT },	 { "STOP", SIGSTOP }, { "TSTP", SIGTSTP },   { "TTIN", SIGTTIN },
	{ "TTOU", SIGTTOU },	 { "URG", SIGURG },   { "XCPU", SIGXCPU },   { "XFSZ", SIGXFSZ },
	{ "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH }, { "IO", SIGIO },
	{ "PWR", SIGPWR },	 { "SYS", SIGSYS },
};

int signal_number(const char *name)
{
	uint64_t n;
	unsigned int plus;

	if (parse_u64(name, 64, &n) == 0)
		return (int)n;
	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (size_t k = 0; k < ARRAY_SIZE(signals); k++) {
		if (strcasecmp(signals[k].name, name) == 0)
			return signals[k].number;
	}
	if (sscanf(name, "RTMIN+%u", &plus) == 1 && plus <= 30)
		return 34 + (int)plus;
	return 0;
}

static int append(char ***v, size_t *n, const char *s)
{
	char **grown = reallocarray(*v, *n + 2, sizeof(char *));

	if (!grown)
		return -ENOMEM;
	*v = grown;
	grown[*n] = strdup(s);
	grown[*n + 1] = NULL;
	return grown[(*n)++] ? 0 : -ENOMEM;
}

static int append_all(char ***v, size_t *n, char *const *from, size_t count)
{
	int r = 0;

	for (size_t k = 0; k < count && r == 0; k++)
		r = append(v, n, from[k]);
	return r;
}

/* An own entry point makes the image's command meaningless: it was its arguments. */
char **plan_args(const struct api_instance_spec *s, char *const *image_entrypoint,
		 char *const *image_cmd)
{
	char **v = calloc(1, sizeof(char *));
	size_t n = 0;
	int r = v ? 0 : -ENOMEM;

	if (r == 0 && s->entrypoint.n)
		r = append_all(&v, &n, s->entrypoint.v, s->entrypoint.n);
	else if (r == 0 && image_entrypoint)
		r = append_all(&v, &n, image_entrypoint, strv_len(image_entrypoint));
	if (r == 0 && s->command.n)
		r = append_all(&v, &n, s->command.v, s->command.n);
	else if (r == 0 && !s->entrypoint.n && image_cmd)
		r = append_all(&v, &n, image_cmd, strv_len(image_cmd));
	if (r < 0) {
		strv_free(v);
		return NULL;
	}
	return v;
}

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && (b[n] == '=' || b[n] == '\0');
}

char **plan_env(const struct api_instance_spec *s, char *const *image_env)
{
	char **v = calloc(1, sizeof(char *)), *line;
	size_t n = 0;
	int r = v ? 0 : -ENOMEM;
	bool path = false;

	for (char *const *x = image_env; x && *x && r == 0; x++) {
		bool replaced = false;

		for (size_t k = 0; k < s->env.n; k++)
			replaced |= same_name(*x, s->env.v[k].key);
		path |= str_starts(*x, "PATH=");
		if (!replaced)
			r = append(&v, &n, *x);
	}
	for (size_t k = 0; k < s->env.n && r == 0; k++) {
		path |= streq(s->env.v[k].key, "PATH");
		r = asprintf(&line, "%s=%s", s->env.v[k].key, s->env.v[k].value);
		if (r < 0) {
			r = -ENOMEM;
			break;
		}
		r = append(&v, &n, line);
		free(line);
	}
	if (r == 0 && !path)
		r = append(&v, &n,
			   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (r == 0 && s->tty && !gen_map_get(&s->env, "TERM"))
		r = append(&v, &n, "TERM=xterm");
	if (r < 0) {
		strv_free(v);
		return NULL;
	}
	return v;
}

static int dup_to(char **to, const char *s)
{
	*to = s && *s ? strdup(s) : NULL;
	return s && *s && !*to ? -ENOMEM : 0;
}

static int plan_mounts(struct instance *i, struct engine_plan *p, struct err **e)
{
	if (i->spec->kind == API_INSTANCE_KIND_VM)
		return 0; /* disks: plan_vm.c */
	for (size_t k = 0; k < i->spec->mounts.n; k++) {
		const struct api_instance_mount *m = &i->spec->mounts.v[k];
		struct plan_mount pm = { .type = m->type,
					 .readonly = m->readonly,
					 .size = m->has_size ? m->size : 0 };
		int r = dup_to(&pm.target, m->target);

		if (r == 0 && m->type == API_MOUNT_TYPE_BIND)
			r = dup_to(&pm.source, m->source);
		else if (r == 0 && m->type == API_MOUNT_TYPE_VOLUME)
			r = volume_path(i->all->node, i->object->project, m->source, &pm.source, e);
		if (r == 0)
			r = vec_push(&p->mounts, pm);
		if (r < 0) {
			free(pm.source);
			free(pm.target);
			return err_wrap(e, r, "mount '%s'", m->target);
		}
	}
	return 0;
}

static int plan_container(struct instance *i, struct engine_plan *p, struct err **e)
{
	const struct api_instance_security *s = &i->spec->security;

	if (asprintf(&p->rootfs, "%s/rootfs", i->run) < 0 ||
	    asprintf(&p->cgroup, "/strata/%s", i->object->id) < 0 ||
	    dup_to(&p->rootfs_store, i->dir) < 0)
		return err_sys(e, ENOMEM, "plan");
	if (s->user_namespace && !s->privileged) {
		p->id_base = USERNS_BASE;
		p->id_count = USERNS_COUNT;
	}
	return 0;
}

int instance_plan(struct instance *i, struct engine_plan **ret, struct err **e)
{
	_cleanup_(engine_plan_freep) struct engine_plan *p = calloc(1, sizeof(*p));
	const struct api_instance_spec *s = i->spec;
	const struct image_config *c = i->image ? &i->image->parts.config : NULL;
	const char *stop = s->stop_signal ? s->stop_signal : c ? c->stop_signal : NULL;
	int r;

	if (!p)
		return err_sys(e, ENOMEM, "plan");
	p->spec = s;
	p->stop_signal = stop ? signal_number(stop) : 0;
	if (!p->stop_signal)
		p->stop_signal = SIGTERM;
	r = dup_to(&p->hostname, s->hostname ? s->hostname : i->object->name);
	r = r ?: dup_to(&p->user, s->user ? s->user : c ? c->user : NULL);
	r = r ?: dup_to(&p->cwd, s->workdir ? s->workdir : c ? c->working_dir : NULL);
	p->args = plan_args(s, c ? c->entrypoint : NULL, c ? c->cmd : NULL);
	p->env = plan_env(s, c ? c->env : NULL);
	if (r < 0 || !p->args || !p->env ||
	    asprintf(&p->log, "%s/instances/%s.log", i->all->node->paths.log, i->object->id) < 0)
		return err_sys(e, ENOMEM, "plan");
	if (c && !p->args[0])
		return err_set(e, EINVAL, "instance.command",
			       "the image '%s' names no command: give one", s->image);
	if (s->kind == API_INSTANCE_KIND_CONTAINER)
		r = plan_container(i, p, e);
	if (r == 0)
		r = plan_mounts(i, p, e);
	if (r < 0)
		return r;
	*ret = TAKE(p);
	return 0;
}
