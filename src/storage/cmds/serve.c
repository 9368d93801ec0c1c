/* strata-disk serve: images as NBD exports and vhost-user-blk devices, until SIGTERM or SIGINT. */
#define LOG_MODULE "serve"
#include <signal.h>
#include <string.h>
#include "base/log.h"
#include "base/str.h"
#include "ext/tls.h"
#include "storage/cli.h"
#include "storage/export/ctl.h"
#include "storage/export/nbd_server.h"
#include "storage/export/vhost_user_blk.h"
#include "storage/filters/limits.h"
#include "sys/vhost_user.h"

#define DEFAULT_QUEUES 16U

struct args {
	char *format, *certificates, *psk, *description, *ctl;
	opt_list nbd, vhost_user, throttle;
	bool stats, readonly, direct, verify_peer, plain, shared;
	int tls;
	uint64_t threads, queues, max_clients, max_requests, memory;
	nsec_t timeout;
};

static const char *const tls_choices[] = { "off", "on", "require", NULL };

static const struct opt opts[] = {
	OPT(struct args, nbd, LIST, "nbd", 0, "unix:PATH|tcp:ADDR:PORT",
	    "serve NBD there; may be repeated"),
	OPT(struct args, vhost_user, LIST, "vhost-user", 0, "PATH",
	    "serve vhost-user-blk at this socket: one for each FILE, in order"),
	OPT(struct args, queues, U64, "queues", 0, "N", "virtqueues offered to a front end (16)",
	    .min = 1, .max = VU_QUEUES_MAX),
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "of all files; do not probe"),
	OPT(struct args, readonly, FLAG, "readonly", 'r', NULL, "refuse writes"),
	OPT(struct args, shared, FLAG, "force-share", 'U', NULL,
	    "the files may be in use by a writer; with --readonly"),
	OPT(struct args, direct, FLAG, "direct", 0, NULL, "O_DIRECT"),
	OPT(struct args, description, STR, "description", 'D', "TEXT", "shown to NBD clients"),
	OPT(struct args, throttle, LIST, "throttle", 't', "k=v,...",
	    "limits of each file: iops-total, bps-read, iops-write-max, ..., group"),
	OPT(struct args, stats, FLAG, "stats", 0, NULL, "measure latencies, for ctl status"),
	OPT(struct args, ctl, STR, "ctl", 0, "SOCKET", "take requests there: strata-disk ctl"),
	OPT(struct args, threads, U64, "threads", 0, "N", "I/O threads (one a CPU, at most 4)",
	    .min = 1, .max = EXPORT_THREADS_MAX),
	OPT(struct args, max_clients, U64, "max-clients", 0, "N", "NBD clients at once (128)",
	    .min = 1, .max = 100000),
	OPT(struct args, max_requests, U64, "max-requests", 0, "N",
	    "requests of one NBD client at once (256)", .min = 1, .max = 65536),
	OPT(struct args, memory, SIZE, "memory", 0, "SIZE",
	    "buffers of all NBD clients (512M; 64M a thread at least)"),
	OPT(struct args, timeout, DURATION, "timeout", 0, "TIME",
	    "for negotiation, and for a message to make progress (30s)"),
	OPT(struct args, certificates, STR, "tls-certificates", 0, "DIR",
	    "server-cert.pem, server-key.pem, ca-cert.pem: NBD over TLS"),
	OPT(struct args, psk, STR, "tls-psk", 0, "FILE", "user:hexkey lines: NBD over TLS"),
	OPT(struct args, verify_peer, FLAG, "tls-verify-peer", 0, NULL,
	    "clients need a certificate of the same authority"),
	OPT(struct args, tls, ENUM, "tls", 0, "MODE", "off, on or require (require with keys)",
	    .choices = tls_choices),
	OPT(struct args, plain, FLAG, "plain", 0, NULL,
	    "NBD without TLS on addresses other than loopback"),
	OPT_END,
};

/* One served file, as an operand says it. */
struct file {
	char *path, *name, *format, *description, *throttle;
	bool readonly;
};

static const struct opt file_opts[] = {
	OPT(struct file, path, STR, "path", 0, "FILE", "the image"),
	OPT(struct file, name, STR, "name", 0, "NAME", "of the export (the file's name)"),
	OPT(struct file, format, STR, "format", 0, "FORMAT", "do not probe"),
	OPT(struct file, description, STR, "description", 0, "TEXT", "shown to NBD clients"),
	OPT(struct file, throttle, STR, "throttle", 0, "k=v;...", "limits of this file alone"),
	OPT(struct file, readonly, FLAG, "readonly", 0, NULL, "refuse writes"),
	OPT_END,
};

struct server {
	struct args a;
	struct loop *loop;
	struct watch term, intr;
	struct export_threads threads;
	struct disk_export **x;
	size_t n_x;
	struct tls_server *tls;
	struct nbd_server *nbd;
	struct vu_dev **vu; /* as many as n_vu; parallel to x */
	size_t n_vu;
	struct ctl *ctl;
	const char **limits; /* --throttle, as pairs */
	bool stopping;
};

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool has_export(const struct server *s, const char *name)
{
	for (size_t i = 0; i < s->n_x; i++)
		if (s->x[i] && streq(s->x[i]->name, name))
			return true;
	return false;
}

/* "iops-total=5;group=g" of one file; the server's limits come first. */
static int file_limits(const struct server *s, const char *text, const char ***ret, struct err **e)
{
	_cleanup_(strv_freep) char **parts = text ? strv_split(text, ";") : NULL;
	opt_list l = { 0 };
	int r = 0;

	for (size_t i = 0; i < s->a.throttle.n && r == 0; i++)
		r = vec_push(&l, s->a.throttle.v[i]);
	for (char **p = parts; p && *p && r == 0; p++)
		r = vec_push(&l, *p);
	r = r < 0 ? err_set(e, ENOMEM, "sys.ENOMEM", "out of memory") : cli_params(&l, ret, e);
	vec_done(&l); /* the strings are others' */
	return r;
}

static int check_limits(const char *const *params, struct err **e)
{
	struct limits l = { 0 };

	for (const char *const *p = params; p && p[0]; p += 2) {
		int r = streq(p[0], "group") ? 0 : limits_set(&l, p[0], p[1], 0, e);

		if (r == -ENOENT)
			return err_set(e, EINVAL, "usage", "--throttle: no limit '%s'", p[0]);
		if (r < 0)
			return r;
	}
	return limits_check(&l, e);
}

static int open_export(struct server *s, const char *operand, struct err **e)
{
	const struct args *a = &s->a;
	struct file f = { 0 };
	struct disk_cfg cfg = { 0 };
	struct disk *d = NULL;
	const char *name, **limits = NULL;
	struct disk_filter_cfg filters[2] = { { "throttle", NULL, false },
					      { "stats", NULL, false } };
	int r = 0;

	if (str_starts(operand, "path="))
		r = opt_parse_kv(file_opts, &f, operand, e);
	else if (!(f.path = strdup(operand)))
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (r < 0)
		goto out;
	name = f.name ?: file_name(f.path);
	if (has_export(s, name)) {
		r = err_set(
			e, EEXIST, "usage",
			"two exports named '%s': give one another name with path=FILE,name=NAME",
			name);
		goto out;
	}
	r = file_limits(s, f.throttle, &limits, e);
	if (r == 0)
		r = check_limits(limits, e);
	if (r < 0)
		goto out;
	filters[0].params = limits;
	cfg = (struct disk_cfg){ .path = f.path,
				 .filters = filters,
				 .n_filters = a->stats ? 2 : 1,
				 .format = f.format ?: a->format,
				 .readonly = f.readonly || a->readonly,
				 .no_lock = a->shared,
				 .direct = a->direct };
	r = disk_open(&cfg, &d, e);
	if (r == 0)
		r = export_new(name, f.description ?: a->description, d, &s->x[s->n_x], e);
	if (r == 0)
		s->n_x++;
out:
	cli_params_free(limits);
	opt_done(file_opts, &f);
	return r;
}

static int start_tls(struct server *s, enum nbd_tls_mode *mode, struct err **e)
{
	struct tls_server_cfg cfg = { .certificates = s->a.certificates,
				      .psk = s->a.psk,
				      .verify_peer = s->a.verify_peer };

	*mode = NBD_TLS_OFF;
	if (!cfg.certificates && !cfg.psk) {
		if (s->a.tls > NBD_TLS_OFF || s->a.verify_peer)
			return err_set(e, EINVAL, "usage",
				       "TLS needs --tls-certificates or --tls-psk");
		return 0;
	}
	*mode = s->a.tls < 0 ? NBD_TLS_REQUIRE : (enum nbd_tls_mode)s->a.tls;
	return *mode == NBD_TLS_OFF ? 0 : tls_server_new(&cfg, &s->tls, e);
}

/* A URI that nbdinfo and qemu-img take. */
static void print_nbd(const struct server *s, const char *where, uint16_t port, bool tls)
{
	if (str_starts(where, "unix:"))
		printf("nbd%s+unix:///%s?socket=%s\n", tls ? "s" : "", s->x[0]->name, where + 5);
	else
		printf("nbd%s://%.*s:%u/%s\n", tls ? "s" : "",
		       (int)(strrchr(where, ':') > where + 4 ? strrchr(where, ':') - where - 4
							     : (long)strlen(where + 4)),
		       where + 4, port, s->x[0]->name);
}

static int start_nbd(struct server *s, struct err **e)
{
	struct nbd_server_cfg cfg = NBD_SERVER_DEFAULTS;
	const struct args *a = &s->a;
	int r = start_tls(s, &cfg.tls_mode, e);

	if (r < 0)
		return r;
	cfg.tls = s->tls;
	cfg.max_clients = (unsigned int)a->max_clients ?: cfg.max_clients;
	cfg.max_requests = (unsigned int)a->max_requests ?: cfg.max_requests;
	cfg.memory = a->memory ?: cfg.memory;
	cfg.timeout = a->timeout ?: cfg.timeout;
	r = nbd_server_new(s->loop, &s->threads, s->x, s->n_x, &cfg, &s->nbd, e);
	for (size_t i = 0; i < a->nbd.n && r >= 0; i++) {
		const char *where = a->nbd.v[i];
		uint16_t port = 0;

		if (str_starts(where, "unix:"))
			r = nbd_server_listen_unix(s->nbd, where + 5, e);
		else if (str_starts(where, "tcp:"))
			r = nbd_server_listen_tcp(s->nbd, where + 4, a->plain, &port, e);
		else
			r = err_set(e, EINVAL, "usage",
				    "--nbd %s: expected unix:PATH or tcp:ADDRESS", where);
		if (r >= 0)
			print_nbd(s, where, port, cfg.tls_mode != NBD_TLS_OFF);
	}
	return r;
}

static int start_vhost_user(struct server *s, struct err **e)
{
	const opt_list *paths = &s->a.vhost_user;
	int r = 0;

	if (paths->n == 0)
		return 0;
	if (paths->n != s->n_x)
		return err_set(e, EINVAL, "usage", "%zu files, but %zu sockets by --vhost-user",
			       s->n_x, paths->n);
	s->vu = calloc(s->n_x, sizeof(struct vu_dev *));
	if (!s->vu)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (size_t i = 0; i < paths->n && r == 0; i++) {
		r = vu_blk_new(&s->threads, s->x[i], paths->v[i],
			       (unsigned int)s->a.queues ?: DEFAULT_QUEUES, &s->vu[i], e);
		if (r == 0) {
			s->n_vu++;
			printf("vhost-user-blk:%s\n", paths->v[i]);
		}
	}
	return r;
}

static void all_gone(void *arg)
{
	struct server *s = arg;

	loop_stop(s->loop, 0);
}

static void stop_serving(void *arg)
{
	struct server *s = arg;

	if (s->stopping)
		return;
	s->stopping = true;
	for (size_t i = 0; i < s->n_x; i++) /* what waits for its turn does not hold up the end */
		disk_set_param(s->x[i]->disk, "throttle", "bypass", "on", NULL);
	if (s->nbd)
		nbd_server_stop(s->nbd, all_gone, s);
	else
		all_gone(s);
}

static void on_signal(struct watch *w, const struct signalfd_siginfo *si)
{
	log_info("stopping", "signal", si->ssi_signo);
	stop_serving(w->data);
}

static void on_status(void *arg, struct json *answer)
{
	struct server *s = arg;
	struct json *fronts = json_new_arr();

	json_set(answer, "nbd_clients", json_new_int(s->nbd ? nbd_server_clients(s->nbd) : 0));
	for (size_t i = 0; i < s->n_vu; i++)
		json_push(fronts, json_new_bool(vu_blk_connected(s->vu[i])));
	json_set(answer, "vhost_user_connected", fronts);
}

static void on_resized(void *arg, size_t at)
{
	struct server *s = arg;

	if (at < s->n_vu)
		vu_blk_resized(s->vu[at]);
}

static int start_ctl(struct server *s, struct err **e)
{
	struct ctl_cfg cfg = { .loop = s->loop,
			       .x = s->x,
			       .n_x = s->n_x,
			       .status = on_status,
			       .resized = on_resized,
			       .stop = stop_serving,
			       .arg = s };

	return s->a.ctl ? ctl_new(&cfg, s->a.ctl, &s->ctl, e) : 0;
}

static int start(struct server *s, char **operands, int n, struct err **e)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int r = loop_new(NULL, &s->loop);

	if (r == 0)
		r = watch_signal(s->loop, &s->term, "sigterm", SIGTERM, on_signal);
	if (r == 0)
		r = watch_signal(s->loop, &s->intr, "sigint", SIGINT, on_signal);
	if (r < 0)
		return err_sys(e, -r, "start the event loop");
	s->term.data = s->intr.data = s;
	s->x = calloc((size_t)n, sizeof(struct disk_export *));
	if (!s->x)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (int i = 0; i < n; i++) {
		r = open_export(s, operands[i], e);
		if (r < 0)
			return r;
	}
	r = export_threads_start(&s->threads,
				 (unsigned int)(s->a.threads ?: (uint64_t)CLAMP(cpus, 1L, 4L)), e);
	if (r == 0 && s->a.nbd.n > 0)
		r = start_nbd(s, e);
	if (r == 0)
		r = start_vhost_user(s, e);
	return r < 0 ? r : start_ctl(s, e);
}

static int run(int argc, char **argv, struct err **e)
{
	struct server s = { .a = { .tls = -1 } };
	int r = cli_operands(opts, &s.a, argc, argv, 1, 1000, e), n = r, k;

	if (r >= 0 && s.a.nbd.n == 0 && s.a.vhost_user.n == 0)
		r = err_set(e, EINVAL, "usage",
			    "where to? --nbd unix:PATH, --nbd tcp:ADDRESS or --vhost-user PATH");
	if (r >= 0) {
		log_setup("strata-disk", 2, LOG_TEXT);
		signal(SIGPIPE, SIG_IGN);
		r = start(&s, argv + 1, n, e);
	}
	if (r >= 0) {
		fflush(stdout);
		r = loop_run(s.loop);
	}
	ctl_free(s.ctl);
	for (size_t i = 0; i < s.n_vu; i++)
		vu_blk_free(s.vu[i]);
	free(s.vu);
	nbd_server_free(s.nbd);
	for (size_t i = 0; i < s.n_x; i++) {
		k = export_free(s.x[i], &s.threads);
		if (k < 0 && r >= 0)
			r = err_sys(e, -k, "close an image");
	}
	free(s.x);
	export_threads_stop(&s.threads);
	tls_server_free(s.tls);
	loop_free(s.loop);
	opt_done(opts, &s.a);
	return r;
}

const struct command cmd_serve = { "serve",
				   "FILE... --nbd unix:PATH|tcp:ADDR | --vhost-user PATH ...",
				   "serve images over NBD and vhost-user-blk", run };
