/* strata create, ps, resize, and what run shares with them; see instance.h. */
#include "cli/cmds/instance.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/uuid.h"
#include "cli/output.h"
#include "cli/request.h"
#include "ext/yaml.h"

cli_command_fn cmd_create, cmd_ps, cmd_resize;

/* ---- the body ---- */

static int no_memory(struct err **e)
{
	return err_sys(e, ENOMEM, "instance");
}

/* obj.a.b, made when it is not there. */
static struct json *inside(struct json *obj, const char *a, const char *b)
{
	const char *const path[] = { a, b, NULL };

	for (const char *const *p = path; obj && *p; p++) {
		if (json_kind(json_get(obj, *p)) != JSON_K_OBJECT &&
		    json_set(obj, *p, json_new_obj()) < 0)
			return NULL;
		obj = json_edit(obj, *p);
	}
	return obj;
}

static int read_file(const char *flag, const char *path, struct buf *b, struct err **e)
{
	int r = file_read(AT_FDCWD, path, MIB, b, e);

	return r < 0 ? err_wrap(e, r, "--%s", flag) : 0;
}

/* NAME=VALUE lines; # begins a comment; a NAME alone takes its value from here. */
static int add_env(struct json *env, char *line, struct err **e)
{
	char *eq = strchr(line, '=');
	const char *value = eq ? eq + 1 : NULL;

	line += strspn(line, " \t");
	line[strcspn(line, "\r")] = '\0';
	if (!*line || *line == '#')
		return 0;
	if (eq)
		*eq = '\0';
	else
		value = getenv(line);
	return value && json_set(env, line, json_new_str(value)) < 0 ? no_memory(e) : 0;
}

static int env_files(struct cli *cli, struct json *body, struct err **e)
{
	const char *path;
	size_t pos = 0;

	while ((path = gen_args_each(&cli->args, "env-file", &pos))) {
		_cleanup_(json_freep) struct json *given = NULL, *env = json_new_obj();
		_cleanup_(buf_done) struct buf b = { 0 };
		struct json *spec = inside(body, "spec", NULL), *merged;
		int r = read_file("env-file", path, &b, e);

		for (char *p = b.s, *next; r == 0 && p && *p; p = next) {
			next = strchrnul(p, '\n');
			if (*next)
				*next++ = '\0';
			r = add_env(env, p, e);
		}
		if (r < 0)
			return r;
		/* flags win over files */
		given = spec && json_get(spec, "env") ? json_clone(json_get(spec, "env"))
						      : json_new_obj();
		merged = spec && env && given ? json_merge_patch(env, given) : NULL;
		if (!merged || json_set(spec, "env", merged) < 0)
			return no_memory(e);
	}
	return 0;
}

static int cloud_init(struct cli *cli, struct json *body, struct err **e)
{
	const char *data = gen_args_str(&cli->args, "user-data"), *key;
	struct json *list = NULL, *ci;
	size_t pos = 0;
	int r = 0;

	if (!data && !gen_args_given(&cli->args, "ssh-key"))
		return 0;
	ci = inside(body, "spec", "cloud_init");
	if (!ci)
		return no_memory(e);
	if (data) {
		_cleanup_(buf_done) struct buf b = { 0 };

		r = read_file("user-data", data, &b, e);
		if (r == 0 && json_set(ci, "user_data", json_new_str(buf_str(&b))) < 0)
			r = no_memory(e);
	}
	while (r == 0 && (key = gen_args_each(&cli->args, "ssh-key", &pos))) {
		_cleanup_(buf_done) struct buf b = { 0 };

		if (!list) {
			json_set(ci, "ssh_keys", json_new_arr());
			list = json_edit(ci, "ssh_keys");
		}
		r = read_file("ssh-key", key, &b, e);
		if (b.s)
			b.s[strcspn(b.s, "\r\n")] = '\0';
		if (r == 0 && json_push(list, json_new_str(buf_str(&b))) < 0)
			r = no_memory(e);
	}
	return r;
}

static int health(struct cli *cli, struct json *body, struct err **e)
{
	const char *cmd = gen_args_str(&cli->args, "health-cmd");
	struct json *h, *list;

	if (!cmd)
		return 0;
	h = inside(body, "spec", "health");
	list = json_new_arr();
	json_push(list, json_new_str("/bin/sh"));
	json_push(list, json_new_str("-c"));
	if (json_push(list, json_new_str(cmd)) < 0 || !h) {
		json_free(list);
		return no_memory(e);
	}
	return json_set(h, "command", list) < 0 ? no_memory(e) : 0;
}

int instance_body(struct cli *cli, struct json **ret, struct err **e)
{
	const char *profile = gen_args_str(&cli->args, "profile");
	_cleanup_(json_freep) struct json *base = NULL, *body = NULL;
	int r = 0;

	if (profile)
		r = yaml_parse_file(profile, NULL, &base, e); /* JSON is YAML */
	if (r < 0)
		return err_wrap(e, r, "--profile");
	if (base && json_kind(base) != JSON_K_OBJECT)
		return err_set(e, EINVAL, "cli.usage", "--profile: '%s' holds no object", profile);
	body = json_merge_patch(base, cli->args.object);
	if (!body)
		return no_memory(e);
	if (cli->project && json_set(body, "project", json_new_str(cli->project)) < 0)
		return no_memory(e);
	r = env_files(cli, body, e);
	if (r == 0)
		r = cloud_init(cli, body, e);
	if (r == 0)
		r = health(cli, body, e);
	if (r == 0)
		*ret = TAKE(body);
	return r;
}

/* ---- making ---- */

static int pull(struct cli *cli, const char *image, struct err **e)
{
	_cleanup_(json_freep) struct json *body = json_new_obj(), *task = NULL;
	struct cli_request rq = { .route = cli_route("image_pull"), .body = body };
	int r;

	if (json_set(body, "reference", json_new_str(image)) < 0)
		return no_memory(e);
	r = cli_call(cli, &rq, &task, e);
	return r < 0 ? r : cli_wait(cli, task, NULL, e);
}

static int have_image(struct cli *cli, const struct json *body, struct err **e)
{
	const char *when = gen_args_str(&cli->args, "pull");
	const char *image = json_str(json_walk(body, "spec", "image", NULL));
	struct cli_request rq = { .route = cli_route("image_get"), .params = { image } };
	_cleanup_(err_freep) struct err *missing = NULL;

	if (!image || !when || streq(when, "never") || !rq.route || !cli_route("image_pull"))
		return 0;
	if (streq(when, "missing") &&
	    (cli_call(cli, &rq, NULL, &missing) == 0 || err_num(missing) != ENOENT))
		return 0; /* it is there, or making the instance will tell better */
	return pull(cli, image, e);
}

/* "debian-3f9a27" for registry/debian:bookworm: nobody has to think of a name. */
static struct json *name_for(const struct json *body)
{
	const char *image = json_str(json_walk(body, "spec", "image", NULL)), *base;
	struct uuid u = uuid_v4();
	char word[32];
	size_t n;

	base = image && strrchr(image, '/') ? strrchr(image, '/') + 1 : image ? image : "vm";
	n = MIN(strcspn(base, ":@"), sizeof(word) - 1);
	memcpy(word, base, n);
	word[n] = '\0';
	return json_new_fmt("%s-%02x%02x%02x", word, u.b[0], u.b[1], u.b[2]);
}

int instance_make(struct cli *cli, bool start, struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *body = NULL, *query = json_new_obj(), *task = NULL;
	struct cli_request rq = { .route = cli_route("instance_create"), .query = query };
	int r = instance_body(cli, &body, e);

	if (r == 0 && !json_str(json_get(body, "name")))
		r = json_set(body, "name", name_for(body)) < 0 ? no_memory(e) : 0;
	if (r == 0)
		r = have_image(cli, body, e);
	if (r < 0)
		return r;
	if (start && json_set(query, "start", json_new_bool(true)) < 0)
		return no_memory(e);
	rq.body = body;
	r = cli_call(cli, &rq, &task, e);
	if (r == 0 && gen_args_on(&cli->args, "no-wait")) {
		printf("%s\n", json_str(json_get(task, "id")) ?: "");
		return 0;
	}
	if (r == 0)
		r = cli_wait(cli, task, ret, e);
	if (r == 0 && json_kind(*ret) != JSON_K_OBJECT) {
		/* a daemon that says no more than what the task worked on */
		const char *id = json_str(json_walk(task, "object", "id", NULL));
		struct cli_request get = { .route = cli_route("instance_get"), .params = { id } };

		json_free(TAKE(*ret));
		r = cli_call(cli, &get, ret, e);
	}
	return r;
}

int instance_do(struct cli *cli, const char *route, const char *id, struct err **e)
{
	struct cli_request rq = { .route = cli_route(route), .params = { id } };
	_cleanup_(json_freep) struct json *task = NULL;
	int r = cli_call(cli, &rq, &task, e);

	return r < 0 || !rq.route->task ? r : cli_wait(cli, task, NULL, e);
}

/* ---- commands ---- */

int cmd_create(struct cli *cli, struct err **e)
{
	_cleanup_(json_freep) struct json *made = NULL;
	int r = instance_make(cli, false, &made, e);

	if (r == 0 && made)
		printf("%s\n",
		       cli->quiet ? json_str(json_get(made, "id")) ?: "" : output_name(made));
	return r;
}

int cmd_ps(struct cli *cli, struct err **e)
{
	static const char *const lively[] = { "creating", "starting", "running", "paused",
					      "stopping" };
	struct cli_request rq = { .route = cli_route("instance_list") };
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route), *list = NULL;
	struct json *states = json_new_arr();
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(lively) && !gen_args_on(&cli->args, "all"); i++)
		r = json_push(states, json_new_str(lively[i])) ?: r;
	r = json_set(query, "state", states) ?: r;
	if (r < 0)
		return no_memory(e);
	rq.query = query;
	r = cli_list(cli, &rq, &list, e);
	return r < 0 ? r : output_list(cli, rq.route->list, list, e);
}

/* The disks are a list that a merge patch replaces as a whole: it is read, changed, sent back with its revision. */
int cmd_resize(struct cli *cli, struct err **e)
{
	const char *disk = gen_args_str(&cli->args, "disk"), *size = cli->args.operands.v[1];
	struct cli_request rq = { .route = cli_route("instance_get"),
				  .params = { cli->args.operands.v[0] } };
	_cleanup_(json_freep) struct json *now = NULL, *patch = json_new_obj(), *task = NULL;
	struct json *spec = inside(patch, "spec", NULL), *disks;
	int r = cli_call(cli, &rq, &now, e);
	bool found = false;

	if (r < 0)
		return r;
	if (!spec || json_set(patch, "revision", json_clone(json_get(now, "revision"))) < 0)
		return no_memory(e);
	if (streq(disk, "root")) {
		r = json_set(inside(spec, "root", NULL), "size", json_new_str(size));
	} else {
		disks = json_clone(json_walk(now, "spec", "disks", NULL));
		for (size_t i = 0; i < json_len(disks); i++) {
			struct json *d = (struct json *)json_at(disks, i);

			if (streq(json_str(json_get(d, "id")) ?: "", disk)) {
				r = json_set(d, "size", json_new_str(size));
				found = true;
			}
		}
		if (!found) {
			json_free(disks);
			return err_set(e, ENOENT, "cli.disk", "instance '%s' has no disk '%s'",
				       cli->args.operands.v[0], disk);
		}
		r = json_set(spec, "disks", disks) ?: r;
	}
	if (r < 0)
		return no_memory(e);
	rq.route = cli_route("instance_patch");
	rq.body = patch;
	r = cli_call(cli, &rq, &task, e);
	return r < 0 ? r : cli_wait(cli, task, NULL, e);
}
