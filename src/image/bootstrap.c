/* mmdebstrap writes a tar into a pipe, rootball.c reads it: nothing is on disk twice. */
#include "image/bootstrap.h"

#include <fcntl.h>
#include <pthread.h>
#include "base/atomicfile.h"
#include "image/archive.h"
#include "image/fsutil.h"

static bool is_debian(const char *uri)
{
	size_t n = strcspn(uri, " \t\n");

	while (n && uri[n - 1] == '/')
		n--;
	return n > 7 &&
	       (str_starts(uri, "http://") || str_starts(uri, "https://") ||
		str_starts(uri, "file:")) &&
	       strncmp(uri + n - 7, "/debian", 7) == 0;
}

/* One of apt's files, old or deb822: the first URI that ends in /debian. */
static bool scan_sources(const char *path, char *buf, size_t len)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	char *save = NULL;

	if (file_read(AT_FDCWD, path, MIB, &text, NULL) < 0 || !text.s)
		return false;
	for (char *l = strtok_r(text.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (str_starts(l, "URIs:"))
			l += 5;
		else if (str_starts(l, "deb "))
			l += l[4] == '[' ? strcspn(l, "]") + 1 : 4;
		else
			continue;
		for (l += strspn(l, " \t"); *l; l += strcspn(l, " \t"), l += strspn(l, " \t")) {
			if (!is_debian(l))
				continue;
			snprintf(buf, len, "%.*s", (int)strcspn(l, " \t"), l);
			return true;
		}
	}
	return false;
}

bool bootstrap_host_mirror(char *buf, size_t len)
{
	_cleanup_(closedirp) DIR *d = opendir("/etc/apt/sources.list.d");
	struct dirent *de;

	if (scan_sources("/etc/apt/sources.list", buf, len))
		return true;
	while (d && (de = readdir(d))) {
		char path[320];

		snprintf(path, sizeof(path), "/etc/apt/sources.list.d/%s", de->d_name);
		if ((str_ends(path, ".sources") || str_ends(path, ".list")) &&
		    scan_sources(path, buf, len))
			return true;
	}
	return false;
}

struct maker {
	const char **argv;
	int out;
	struct image_op *op;
	int r;
	struct err *err;
};

static void *maker_run(void *arg)
{
	struct maker *m = arg;

	m->r = run_program(m->argv, NULL, m->out, m->op ? &m->op->cancelled : NULL, &m->err);
	m->out = safe_close(m->out); /* the end of the tar */
	return NULL;
}

static bool word_valid(const char *s)
{
	return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.+-") == strlen(s) && *s != '-';
}

static int run_both(struct image_store *s, const char **argv, const struct import_options *io,
		    const char *history, struct image_op *op, struct err **e)
{
	struct maker m = { .argv = argv, .op = op };
	_cleanup_(closep) int in = -1;
	_cleanup_(err_freep) struct err *why = NULL;
	pthread_t thread;
	int p[2], r;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, errno, "bootstrap");
	in = p[0];
	m.out = p[1];
	r = pthread_create(&thread, NULL, maker_run, &m);
	if (r) {
		safe_close(m.out);
		return err_sys(e, r, "bootstrap");
	}
	/* A tar that ends early because mmdebstrap failed is damaged or empty: its own words come first then. */
	r = archive_import_root(s, in, io, history, op, &why);
	in = safe_close(in);
	pthread_join(thread, NULL);
	if (m.r < 0 && m.r != -ECANCELED) {
		err_move(e, &m.err);
		return m.r;
	}
	err_free(m.err);
	if (r < 0)
		err_move(e, &why);
	return r;
}

int bootstrap(struct image_store *s, const char *what, const struct bootstrap_options *o,
	      struct image_op *op, struct err **e)
{
	static const char *const bash[] = { "/bin/bash", NULL };
	const char *variant = o->variant ? o->variant : "minimal",
		   *suite = what + strlen("debian:");
	struct import_options io = { .name = o->name ? o->name : what,
				     .compress = true,
				     .cmd = bash };
	bool standard = streq(variant, "standard");
	_cleanup_(buf_done) struct buf include = { 0 };
	char mirror[512], history[128];
	const char *argv[24];
	size_t n = 0;
	int r;

	if (!str_starts(what, "debian:") || !word_valid(suite))
		return err_set(e, EINVAL, "image.bootstrap",
			       "'%s': write debian:SUITE, for example debian:bookworm", what);
	if (!standard && !streq(variant, "minimal"))
		return err_set(e, EINVAL, "image.bootstrap", "'%s' is neither minimal nor standard",
			       variant);
	if (o->mirror)
		snprintf(mirror, sizeof(mirror), "%s", o->mirror);
	else if (!bootstrap_host_mirror(mirror, sizeof(mirror)))
		strcpy(mirror, "http://deb.debian.org/debian");
	buf_adds(&include, "--include=ca-certificates");
	for (const char *const *p = o->packages; p && *p; p++) {
		if (!word_valid(*p))
			return err_set(e, EINVAL, "image.bootstrap", "'%s' is no package", *p);
		buf_addf(&include, ",%s", *p);
	}
	if (buf_error(&include))
		return err_sys(e, ENOMEM, "bootstrap");
	argv[n++] = "mmdebstrap";
	argv[n++] = "--quiet";
	argv[n++] = "--format=tar";
	argv[n++] = standard ? "--variant=standard" : "--variant=minbase";
	argv[n++] = buf_str(&include);
	argv[n++] = "--aptopt=Apt::Install-Recommends \"false\"";
	if (!standard) {
		argv[n++] = "--dpkgopt=path-exclude=/usr/share/doc/*";
		argv[n++] = "--dpkgopt=path-include=/usr/share/doc/*/copyright";
		argv[n++] = "--dpkgopt=path-exclude=/usr/share/man/*";
		argv[n++] = "--dpkgopt=path-exclude=/usr/share/locale/*";
	}
	argv[n++] = suite;
	argv[n++] = "-";
	argv[n++] = mirror;
	argv[n] = NULL;
	snprintf(history, sizeof(history), "mmdebstrap %s, %s", suite, variant);
	r = run_both(s, argv, &io, history, op, e);
	return r < 0 ? err_wrap(e, r, "bootstrap '%s'", what) : 0;
}
