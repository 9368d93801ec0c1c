/* stratad: the node daemon.
 *
 * Order of start: options, folders, lock (one daemon a state folder), database, instances that run, tasks of an earlier process,
 * then the API.
 * SIGTERM and SIGINT stop it; instances stay as they are.  SIGHUP reads the configuration again. */
#define LOG_MODULE "main"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"
#include "node/api/api.h"
#include "node/audit.h"
#include "node/config.h"
#include "node/host.h"
#include "node/http/router.h"
#include "node/http/server.h"
#include "node/http/websocket.h"
#include "node/instance/instance.h"
#include "node/node.h"
#include "node/project.h"
#include "node/service/image.h"
#include "node/service/network.h"
#include "node/service/storage.h"

struct options {
	char *config, *state_dir, *run_dir, *log_dir, *group, *log_level;
	bool log_json, help, version;
};

static const struct opt options[] = {
	OPT(struct options, config, STR, "config", 0, "FILE",
	    "configuration (/etc/strata/stratad.yaml); other options win over it"),
	OPT(struct options, state_dir, STR, "state-dir", 0, "DIR",
	    "what must survive a reboot (state: /var/lib/strata)"),
	OPT(struct options, run_dir, STR, "run-dir", 0, "DIR",
	    "sockets and what a reboot may forget (run: /run/strata)"),
	OPT(struct options, log_dir, STR, "log-dir", 0, "DIR",
	    "events, audit log, output of instances (log.directory: /var/log/strata)"),
	OPT(struct options, group, STR, "group", 0, "GROUP",
	    "who may use the socket besides root (group: strata, where it exists)"),
	OPT(struct options, log_level, STR, "log-level", 0, "LEVELS",
	    "error, warn, info or debug; per module: api=debug,info (log.level)"),
	OPT(struct options, log_json, FLAG, "log-json", 0, NULL,
	    "log JSON lines instead of text (log.json)"),
	OPT(struct options, help, FLAG, "help", 'h', NULL, "show this"),
	OPT(struct options, version, FLAG, "version", 'V', NULL, "show the version"),
	OPT_END
};

static const struct task_verb *const *const verb_tables[] = { image_verbs, network_verbs,
							      storage_verbs, instance_verbs };

struct daemon_ {
	struct node node;
	struct options opts;
	struct cfg_stratad cfg;		   /* with the options */
	const struct task_verb *verbs[64]; /* of all tables */
	int lock_fd;
	struct watch term, intr, hup;
	struct router *router;
};

static void help(void)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	opt_help(options, 100, &b);
	printf("Usage: stratad [OPTION]...\n\nThe Strata node daemon: REST API on RUN-DIR/strata.sock.\n\n%s",
	       buf_str(&b));
}

static int set_if(char **s, const char *value)
{
	if (!value)
		return 0;
	free(*s);
	*s = strdup(value);
	return *s ? 0 : -ENOMEM;
}

/* The file, and the options above it. */
static int read_config(const struct options *o, struct cfg_stratad *ret, struct err **e)
{
	struct cfg_stratad c = { 0 };
	int r = config_load(o->config, &c, e);

	if (r < 0)
		return r;
	r = set_if(&c.state, o->state_dir) ?: set_if(&c.run, o->run_dir);
	r = r ?: set_if(&c.log.directory, o->log_dir);
	r = r ?: set_if(&c.group, o->group);
	r = r ?: set_if(&c.log.level, o->log_level);
	c.log.json |= o->log_json;
	if (r < 0)
		err_sys(e, ENOMEM, "configuration");
	else
		r = log_set_levels(c.log.level, e);
	if (r < 0)
		cfg_stratad_done(&c);
	else
		*ret = c;
	return r;
}

static int make_folder(const char *path, mode_t mode, struct err **e)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create '%s'", path);
	return 0;
}

static int take_lock(struct daemon_ *d, struct err **e)
{
	_cleanup_(freep) char *path = NULL;

	if (asprintf(&path, "%s/lock", d->node.paths.state) < 0)
		return err_sys(e, ENOMEM, "lock");
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, EBUSY, "daemon.running", "another stratad uses '%s'",
			       d->node.paths.state);
	return 0;
}

static void gather_verbs(struct daemon_ *d)
{
	size_t n = 0;

	for (size_t k = 0; k < ARRAY_SIZE(verb_tables); k++) {
		for (const struct task_verb *const *v = verb_tables[k]; *v; v++) {
			if (n + 1 < ARRAY_SIZE(d->verbs))
				d->verbs[n++] = *v;
		}
	}
}

static int open_state(struct daemon_ *d, struct err **e)
{
	_cleanup_(freep) char *db = NULL, *log = NULL, *audit = NULL;
	struct store *store;
	int r;

	gather_verbs(d);
	if (asprintf(&db, "%s/strata.db", d->node.paths.state) < 0 ||
	    asprintf(&log, "%s/events.jsonl", d->node.paths.log) < 0 ||
	    asprintf(&audit, "%s/audit.jsonl", d->node.paths.log) < 0)
		return err_sys(e, ENOMEM, "start");
	r = audit_open(audit, &d->node.audit, e);
	if (r == 0)
		r = store_open_sqlite(db, &store, e);
	if (r == 0)
		r = inventory_open(store, d->node.loop, &d->node.inventory, e);
	if (r == 0)
		r = events_new(d->node.inventory, log, &d->node.events, e);
	if (r == 0)
		r = tasks_new(d->node.inventory, d->verbs, &d->node, &d->node.tasks, e);
	if (r == 0)
		r = project_ensure_default(d->node.inventory, e);
	if (r == 0)
		r = host_register(d->node.inventory, d->cfg.name, &d->node.host, e);
	if (r == 0)
		r = images_open(&d->node, &d->node.images, e);
	if (r == 0)
		r = networks_open(&d->node, &d->node.networks, e);
	if (r == 0)
		r = storage_open(&d->node, e);
	if (r == 0)
		r = instances_open(&d->node, &d->node.instances, e);
	return r;
}

static int open_api(struct daemon_ *d, struct err **e)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	if (asprintf(&path, "%s/strata.sock", d->node.paths.run) < 0)
		return err_sys(e, ENOMEM, "api");
	r = router_new(&d->node, &d->router, e);
	return r < 0 ? r : servers_open(&d->node, d->router, path, &d->cfg, &d->node.servers, e);
}

/* A file with a mistake changes nothing. */
static void on_reload(struct watch *w, const struct signalfd_siginfo *si)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct daemon_ *d = w->data;
	struct cfg_stratad next = { 0 };

	if (read_config(&d->opts, &next, &e) < 0) {
		log_err("the configuration is not read again", "error", e);
		return;
	}
	cfg_stratad_done(&d->cfg);
	d->cfg = next;
	if (d->node.servers && servers_reload(d->node.servers, &d->cfg, &e) < 0)
		log_err("not everything of the configuration holds", "error", e);
	else
		log_info("the configuration is read again");
}

static void on_stop(struct watch *w, const struct signalfd_siginfo *si)
{
	log_info("stopping", "signal", (int)si->ssi_signo);
	loop_stop(w->loop, 0);
}

/* What runs is known: tasks that a crash cut short are finished or undone, then clients may come. */
static void on_adopted(struct node *n)
{
	struct daemon_ *d = container_of(n, struct daemon_, node);
	_cleanup_(err_freep) struct err *e = NULL;
	int r = tasks_recover(n->tasks, &e);

	if (r == 0)
		r = open_api(d, &e);
	if (r < 0) {
		log_err("does not start", "error", e);
		loop_stop(n->loop, 1);
		return;
	}
	instances_autostart(n->instances);
	log_info("ready", "version", STRATA_VERSION, "state", n->paths.state, "run", n->paths.run);
}

static int start(struct daemon_ *d, struct err **e)
{
	struct node *n = &d->node;
	int r = loop_new(NULL, &n->loop);

	n->started = now_real();
	list_init(&n->websockets);
	if (r == 0)
		r = watch_signal(n->loop, &d->term, "SIGTERM", SIGTERM, on_stop);
	if (r == 0)
		r = watch_signal(n->loop, &d->intr, "SIGINT", SIGINT, on_stop);
	d->hup.data = d;
	if (r == 0)
		r = watch_signal(n->loop, &d->hup, "SIGHUP", SIGHUP, on_reload);
	if (r == 0)
		r = metrics_new(&n->metrics);
	if (r == 0)
		r = work_pool_new(n->loop, 4, &n->workers);
	if (r < 0)
		return err_wrap(e, r, "start");
	if ((r = make_folder(n->paths.state, 0711, e)) < 0 ||
	    (r = make_folder(n->paths.run, 0755, e)) < 0 ||
	    (r = make_folder(n->paths.log, 0755, e)) < 0 || (r = take_lock(d, e)) < 0)
		return r;
	r = open_state(d, e);
	if (r == 0)
		instances_adopt(n->instances, on_adopted);
	return r;
}

static void stop(struct daemon_ *d)
{
	struct node *n = &d->node;

	websocket_stop_all(n);
	servers_close(n->servers);
	router_free(d->router);
	tasks_stop(n->tasks);
	work_pool_stop(n->workers); /* what runs there belongs to tasks */
	tasks_free(n->tasks);
	if (n->instances)
		api_execs_close(n->instances);
	instances_close(n->instances);
	networks_close(n->networks);
	events_free(n->events);
	inventory_close(n->inventory);
	images_close(n->images);
	audit_close(n->audit);
	work_pool_free(n->workers);
	metrics_free(n->metrics);
	watch_remove(&d->term);
	watch_remove(&d->intr);
	watch_remove(&d->hup);
	loop_free(n->loop);
	safe_close(d->lock_fd);
}

static int run(struct daemon_ *d)
{
	_cleanup_(err_freep) struct err *e = NULL;
	int r = start(d, &e);

	if (r < 0)
		log_err("does not start", "error", e);
	else
		r = loop_run(d->node.loop);
	stop(d);
	return r < 0;
}

int main(int argc, char **argv)
{
	struct daemon_ d = { .lock_fd = -1 };
	struct options *o = &d.opts;
	_cleanup_(err_freep) struct err *e = NULL;
	int n, status = 2;

	fault_init();
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	n = opt_parse(options, o, argc, argv, false, &e);
	if (n > 0)
		err_set(&e, EINVAL, "option.operand", "'%s': stratad takes options only", argv[1]);
	if (!e && !o->help && !o->version)
		read_config(o, &d.cfg, &e);
	if (e) {
		fprintf(stderr, "stratad: %s\nTry 'stratad --help'.\n", err_msg(e));
	} else if (o->help || o->version) {
		if (o->help)
			help();
		else
			printf("stratad %s\n", STRATA_VERSION);
		status = 0;
	} else {
		log_setup(NULL, 2, d.cfg.log.json ? LOG_JSON : LOG_TEXT);
		/* for good: a reload does not move folders */
		d.node.paths = (struct node_paths){ strdup(d.cfg.state), strdup(d.cfg.run),
						    strdup(d.cfg.log.directory) };
		status = 1;
		if (d.node.paths.state && d.node.paths.run && d.node.paths.log)
			status = run(&d);
		free(d.node.paths.state);
		free(d.node.paths.run);
		free(d.node.paths.log);
	}
	cfg_stratad_done(&d.cfg);
	opt_done(options, o);
	return status;
}
