/* mmdebstrap writes a tar into a pipe, rootball.c reads it: nothing is on disk twice. */
#include "image/bootstrap.h"

#include <fcntl.h>
#include <pthread.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/vec.h"
#include "image/archive.h"
#include "image/fsutil.h"

/* ---- what the host's apt is configured for ---- */

struct source {
	char uri[256], suite[64];
};
typedef VEC(struct source) source_list;

/* URIs and suites of one entry: each with each. */
static int add_sources(source_list *l, const char *uris, const char *suites)
{
	for (const char *u = uris; *(u += strspn(u, " \t")); u += strcspn(u, " \t")) {
		for (const char *s = suites; *(s += strspn(s, " \t")); s += strcspn(s, " \t")) {
			struct source one;
			size_t n = strcspn(u, " \t");

			while (n && u[n - 1] == '/')
				n--;
			if (n >= sizeof(one.uri) || strcspn(s, " \t") >= sizeof(one.suite))
				continue;
			snprintf(one.uri, sizeof(one.uri), "%.*s", (int)n, u);
			snprintf(one.suite, sizeof(one.suite), "%.*s", (int)strcspn(s, " \t"), s);
			if (vec_push(l, one) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* "deb [options] URI SUITE COMPONENT..." */
static int scan_line(source_list *l, char *line)
{
	char *uri, *suite;

	line += strlen("deb ");
	line += strspn(line, " \t");
	if (*line == '[')
		line += strcspn(line, "]") + (strchr(line, ']') != NULL);
	line += strspn(line, " \t");
	uri = line;
	suite = uri + strcspn(uri, " \t");
	if (!*suite)
		return 0;
	*suite++ = '\0';
	suite += strspn(suite, " \t");
	suite[strcspn(suite, " \t")] = '\0';
	return add_sources(l, uri, suite);
}

/* One of apt's files, of either format. */
static int scan_sources(const char *path, source_list *l)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *uris = "", *suites = "";
	int r = 0;

	if (file_read(AT_FDCWD, path, MIB, &text, NULL) < 0 || !text.s)
		return 0;
	for (char *p = text.s, *end; r == 0 && p; p = end) {
		end = strchr(p, '\n');
		if (end)
			*end++ = '\0';
		if (!*p) { /* ends a stanza */
			r = add_sources(l, uris, suites);
			uris = suites = "";
		} else if (str_starts(p, "URIs:")) {
			uris = p + strlen("URIs:");
		} else if (str_starts(p, "Suites:")) {
			suites = p + strlen("Suites:");
		} else if (str_starts(p, "deb ")) {
			r = scan_line(l, p);
		}
	}
	return r < 0 ? r : add_sources(l, uris, suites);
}

static int host_sources(source_list *l)
{
	_cleanup_(closedirp) DIR *d = opendir("/etc/apt/sources.list.d");
	int r = scan_sources("/etc/apt/sources.list", l);
	struct dirent *de;

	while (r == 0 && d && (de = readdir(d))) {
		char path[320];

		snprintf(path, sizeof(path), "/etc/apt/sources.list.d/%s", de->d_name);
		if (str_ends(path, ".sources") || str_ends(path, ".list"))
			r = scan_sources(path, l);
	}
	return r;
}

/* The first URI that ends so; suite NULL: any. */
static const char *find_uri(const source_list *l, const char *ending, const char *suite)
{
	const struct source *s;

	vec_for_each(s, l) {
		if ((str_starts(s->uri, "http://") || str_starts(s->uri, "https://") ||
		     str_starts(s->uri, "file:")) &&
		    str_ends(s->uri, ending) && (!suite || streq(s->suite, suite)))
			return s->uri;
	}
	return NULL;
}

bool bootstrap_host_mirror(char *buf, size_t len)
{
	source_list l = { 0 };
	const char *uri = host_sources(&l) == 0 ? find_uri(&l, "/debian", NULL) : NULL;

	if (uri)
		snprintf(buf, len, "%s", uri);
	vec_done(&l);
	return uri != NULL;
}

/* sources.list of the image: the suite, and its updates and security fixes when the host's archive has them. */
static int make_sources(const char *suite, const char *mirror, struct buf *main,
			struct buf *updates, struct buf *security, struct err **e)
{
	static const char *const released[] = { "bullseye", "bookworm", "trixie" };
	source_list l = { 0 };
	const char *base, *sec;
	char name[96];
	bool known = false;
	int r = mirror ? 0 : host_sources(&l);

	for (size_t i = 0; i < ARRAY_SIZE(released); i++)
		known |= streq(released[i], suite);
	base = mirror ? mirror : find_uri(&l, "/debian", NULL);
	if (!base)
		base = "http://deb.debian.org/debian";
	buf_addf(main, "deb %s %s main", base, suite);
	snprintf(name, sizeof(name), "%s-updates", suite);
	if (!mirror && (known || find_uri(&l, "/debian", name)))
		buf_addf(updates, "deb %s %s main", base, name);
	snprintf(name, sizeof(name), "%s-security", suite);
	sec = mirror ? NULL : find_uri(&l, "/debian-security", known ? NULL : name);
	if (sec)
		buf_addf(security, "deb %s %s main", sec, name);
	vec_done(&l);
	return r < 0 || buf_error(main) || buf_error(updates) || buf_error(security)
		       ? err_sys(e, ENOMEM, "bootstrap")
		       : 0;
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
	_cleanup_(buf_done) struct buf include = { 0 }, main = { 0 }, updates = { 0 },
				       security = { 0 };
	char history[128];
	const char *argv[24];
	size_t n = 0;
	int r;

	if (!str_starts(what, "debian:") || !word_valid(suite))
		return err_set(e, EINVAL, "image.bootstrap",
			       "'%s': write debian:SUITE, for example debian:bookworm", what);
	if (!standard && !streq(variant, "minimal"))
		return err_set(e, EINVAL, "image.bootstrap", "'%s' is neither minimal nor standard",
			       variant);
	if (o->mirror &&
	    (*o->mirror == '-' || strpbrk(o->mirror, " \t\n[]") || !strchr(o->mirror, ':')))
		return err_set(e, EINVAL, "image.bootstrap", "'%s' is no address of an archive",
			       o->mirror);
	r = make_sources(suite, o->mirror, &main, &updates, &security, e);
	if (r < 0)
		return r;
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
	/* mmdebstrap takes these two from the host: they say nothing about the image */
	argv[n++] = "--customize-hook=rm -f \"$1/etc/hostname\" \"$1/etc/resolv.conf\"";
	argv[n++] = suite;
	argv[n++] = "-";
	argv[n++] = buf_str(&main);
	if (updates.len)
		argv[n++] = updates.s;
	if (security.len)
		argv[n++] = security.s;
	argv[n] = NULL;
	snprintf(history, sizeof(history), "mmdebstrap %s, %s", suite, variant);
	r = run_both(s, argv, &io, history, op, e);
	return r < 0 ? err_wrap(e, r, "bootstrap '%s'", what) : 0;
}
