/* strata-disk serve: images as NBD exports and vhost-user-blk devices, until SIGTERM or SIGINT. */
#define LOG_MODULE "serve"
#include <signal.h>
#include <string.h>
#include "base/log.h"
#include "base/str.h"
#include "ext/tls.h"
#include "storage/cli.h"
#include "storage/export/nbd_server.h"
#include "storage/export/vhost_user_blk.h"
#include "sys/vhost_user.h"

#define DEFAULT_QUEUES 16U

struct args {
	char *format, *certificates, *psk, *description;
	opt_list nbd, vhost_user;
	bool readonly, direct, verify_peer, plain, shared;
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
	char *path, *name, *format, *description;
	bool readonly;
};

static const struct opt file_opts[] = {
	OPT(struct file, path, STR, "path", 0, "FILE", "the image"),
	OPT(struct file, name, STR, "name", 0, "NAME", "of the export (the file's name)"),
	OPT(struct file, format, STR, "format", 0, "FORMAT", "do not probe"),
	OPT(struct file, description, STR, "description", 0, "TEXT", "shown to NBD clients"),
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

static int open_export(struct server *s, const char *operand, struct err **e)
{
	const struct args *a = &s->a;
	struct file f = { 0 };
	struct disk_cfg cfg = { 0 };
	struct disk *d = NULL;
	const char *name;
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
	cfg = (struct disk_cfg){ .path = f.path,
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

static void on_signal(struct watch *w, const struct signalfd_siginfo *si)
{
	struct server *s = w->data;

	if (s->stopping)
		return;
	s->stopping = true;
	log_info("stopping", "signal", si->ssi_signo);
	if (s->nbd)
		nbd_server_stop(s->nbd, all_gone, s);
	else
		all_gone(s);
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
	return r < 0 ? r : start_vhost_user(s, e);
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
