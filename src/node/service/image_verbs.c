/* Long operations on images, each a task of one step on a worker.
 *
 * None has an undo: the store keeps its invariants at every moment (image/store.h), a cut download is taken up by the next try,
 * and what is left half-made is swept by image.prune and at the next start. */
#include "node/service/image.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include "base/str.h"
#include "gen/image.h"
#include "node/service/job.h"

struct image_job {
	struct task_job job;
	struct images *images;
	union {
		struct api_image_pull pull;
		struct api_image_push push;
		struct api_image_import import;
		struct api_image_bootstrap bootstrap;
		struct api_image_prune prune;
		struct api_kernel_install kernel;
	};
	const struct gen_type *type; /* of what the union holds; NULL: nothing */
	char name[REF_MAX];
};

static int open_job(struct task *t, const struct gen_type *type,
		    int (*fn)(struct task_job *j, struct err **e), struct err **e)
{
	struct image_job *ij = calloc(1, sizeof(*ij));
	struct node *n = task_daemon(t);
	int r = 0;

	if (!ij)
		return err_sys(e, ENOMEM, "%s", t->verb->name);
	ij->images = n->images;
	ij->job.fn = fn;
	if (type)
		r = gen_parse(type, t->args, NULL, GEN_TRUSTED, &ij->pull, e);
	if (r < 0) {
		free(ij);
		return r;
	}
	ij->type = type;
	t->data = ij;
	return 0;
}

static void close_job(struct task *t)
{
	struct image_job *ij = t->data;

	task_job_done(&ij->job);
	if (ij->type)
		gen_done(ij->type, &ij->pull);
	free(ij);
}

static void step_run(struct task *t)
{
	struct image_job *ij = t->data;

	task_job_run(&ij->job, t);
}

static void cancel_job(struct task *t)
{
	struct image_job *ij = t->data;

	task_job_cancel(&ij->job);
}

/* What the task results in: the image by that name. */
static int show(struct image_job *ij, const char *name, struct err **e)
{
	ij->job.result = json_new_obj();
	return json_set(ij->job.result, "image", json_new_str(name)) < 0
		       ? err_sys(e, ENOMEM, "image")
		       : 0;
}

/* -- pull, push ----------------------------------------------------------------------------------- */

/* The login as a file in the form that docker keeps, which exists as a descriptor only. */
static int login_file(const struct api_registry_login *l, const char *domain, char path[64],
		      struct err **e)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	struct json *auths = json_new_obj(), *one = json_new_obj();
	const char *host = streq(domain, "docker.io") ? "https://index.docker.io/v1/" : domain;
	_cleanup_(freep) char *text = NULL;
	int fd;

	json_set(one, "username", json_new_str(l->username ? l->username : ""));
	json_set(one, "password", json_new_str(l->password ? l->password : ""));
	json_set(auths, host, one);
	json_set(o, "auths", auths);
	text = json_text(o, JSON_COMPACT);
	fd = memfd_create("login", MFD_CLOEXEC);
	if (!text || fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		safe_close(fd);
		return err_sys(e, text ? errno : ENOMEM, "login");
	}
	mem_wipe(text, strlen(text));
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static int do_pull(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	struct registry_options o = { .plain_http = ij->pull.plain_http };
	_cleanup_(closep) int login = -1;
	struct image_platform platform;
	struct pull_result res;
	struct image_ref ref;
	char path[64];
	int r = ref_parse(ij->pull.reference, &ref, e);

	if (r == 0 && ij->pull.login) {
		login = login_file(ij->pull.login, ref.domain, path, e);
		r = MIN(login, 0);
		o.auth_file = path;
	}
	if (r == 0 && ij->pull.architecture) {
		platform_host(&platform);
		snprintf(platform.arch, sizeof(platform.arch), "%.31s", ij->pull.architecture);
		platform.variant[0] = '\0';
		o.platform = &platform;
	}
	if (r == 0)
		r = registry_pull(images_store(ij->images), &ref, &o, &j->op, &res, e);
	if (r == 0)
		r = store_sync(images_store(ij->images), e);
	return r < 0 ? r : show(ij, ij->pull.reference, e);
}

static int do_push(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	struct registry_options o = { .plain_http = ij->push.plain_http };
	_cleanup_(closep) int login = -1;
	struct push_result res;
	struct image_ref ref;
	char path[64];
	int r = ref_parse(ij->push.reference, &ref, e);

	if (r == 0 && ij->push.login) {
		login = login_file(ij->push.login, ref.domain, path, e);
		r = MIN(login, 0);
		o.auth_file = path;
	}
	if (r == 0)
		r = registry_push(images_store(ij->images), ij->push.reference, &ref, &o, &j->op,
				  &res, e);
	return r < 0 ? r : show(ij, ij->push.reference, e);
}

/* -- import, bootstrap ---------------------------------------------------------------------------- */

static int do_import(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	_cleanup_(strv_freep) char **names = NULL;
	struct import_options o = { .name = ij->import.name };
	int r;

	if (ij->import.url || !ij->import.path)
		return err_set(e, ENOTSUP, "image.url",
			       "import takes a file of the host: fetch '%s' first",
			       ij->import.url ? ij->import.url : "it");
	if (ij->import.digest)
		return err_set(e, ENOTSUP, "image.digest",
			       "a digest is checked for URLs only; leave it out for a file");
	r = archive_import(images_store(ij->images), ij->import.path, &o, &j->op, &names, e);
	if (r == 0)
		r = store_sync(images_store(ij->images), e);
	return r < 0 ? r : show(ij, names && names[0] ? names[0] : ij->import.name, e);
}

static int do_bootstrap(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	struct api_image_bootstrap *b = &ij->bootstrap;
	_cleanup_(freep) const char **packages = calloc(b->packages.n + 1, sizeof(char *));
	struct bootstrap_options o = {
		.name = b->name,
		.variant = api_bootstrap_variant_str(b->variant),
		.mirror = b->mirror,
		.packages = packages,
	};
	int r;

	if (!packages)
		return err_sys(e, ENOMEM, "bootstrap");
	if (b->disk)
		return err_set(
			e, ENOTSUP, "image.disk",
			"bootable disks are not made yet; leave --disk out: a VM boots from the same image by 'strata run --vm'");
	for (size_t k = 0; k < b->packages.n; k++)
		packages[k] = b->packages.v[k];
	r = bootstrap(images_store(ij->images), b->distribution, &o, &j->op, e);
	if (r == 0)
		r = store_sync(images_store(ij->images), e);
	return r < 0 ? r : show(ij, b->name ? b->name : b->distribution, e);
}

/* -- remove, prune, kernels ----------------------------------------------------------------------- */

static int sweep(struct image_job *ij, struct json *removed, struct err **e)
{
	struct gc_options o = { .keep_parts = 24 * 3600 * NSEC_PER_SEC };
	struct gc_result res;
	int r = gc_run(images_store(ij->images), &o, &ij->job.op, &res, e);

	if (r < 0) {
		json_free(removed);
		return r;
	}
	ij->job.result = json_new_obj();
	r = json_set(ij->job.result, "removed", removed);
	r = json_set(ij->job.result, "reclaimed", json_new_int((int64_t)res.bytes)) ?: r;
	return r < 0 ? err_sys(e, ENOMEM, "prune") : 0;
}

static int do_prune(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	_cleanup_(doc_done) struct image_doc index = { 0 };
	struct image_store *s = images_store(ij->images);
	struct json *removed = json_new_arr();
	const struct image_desc *d;
	int r = 0;

	if (ij->prune.all)
		r = index_read(s, &index, e);
	vec_for_each(d, &index.list) {
		if (r < 0)
			break;
		r = index_remove(s, d->ref_name, e);
		if (r == 0)
			json_push(removed, json_new_str(d->ref_name));
	}
	if (r < 0) {
		json_free(removed);
		return r;
	}
	return sweep(ij, removed, e);
}

static int do_remove(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	struct image_store *s = images_store(ij->images);
	struct json *removed = json_new_arr();
	struct image_desc d;
	int r = index_find(s, ij->name, &d, e);

	if (r == 0)
		r = index_remove(s, d.ref_name, e);
	if (r < 0) {
		json_free(removed);
		return r;
	}
	json_push(removed, json_new_str(ij->name));
	return sweep(ij, removed, e);
}

static int do_kernel(struct task_job *j, struct err **e)
{
	struct image_job *ij = container_of(j, struct image_job, job);
	struct kernel_options o = { .package = ij->kernel.package };
	char version[128];
	int r = kernel_install(images_store(ij->images), &o, version, &j->op, e);

	if (r == 0)
		r = store_sync(images_store(ij->images), e);
	if (r < 0)
		return r;
	j->result = json_new_obj();
	r = json_set(j->result, "kernel", json_new_str(version));
	return r < 0 ? err_sys(e, ENOMEM, "kernel") : 0;
}

static int open_remove(struct task *t, struct err **e)
{
	int r = open_job(t, NULL, do_remove, e);
	const char *name = json_str(json_get(t->args, "image"));

	if (r == 0) {
		struct image_job *ij = t->data;

		snprintf(ij->name, sizeof(ij->name), "%s", name ? name : "");
	}
	return r;
}

#define VERB(word, text, type)                                 \
	static int open_##word(struct task *t, struct err **e) \
	{                                                      \
		return open_job(t, &type, do_##word, e);       \
	}                                                      \
	VERB_TABLE(word, text)
#define VERB_TABLE(word, text)                                                       \
	static const struct task_step word##_steps[] = { { text, step_run, NULL } }; \
	static const struct task_verb word##_verb = {                                \
		.name = text,                                                        \
		.steps = word##_steps,                                               \
		.n_steps = 1,                                                        \
		.open = open_##word,                                                 \
		.close = close_job,                                                  \
		.cancel = cancel_job,                                                \
	}

VERB(pull, "image.pull", api_image_pull_type);
VERB(push, "image.push", api_image_push_type);
VERB(import, "image.import", api_image_import_type);
VERB(bootstrap, "image.bootstrap", api_image_bootstrap_type);
VERB(prune, "image.prune", api_image_prune_type);
VERB(kernel, "kernel.install", api_kernel_install_type);
VERB_TABLE(remove, "image.remove");

const struct task_verb *const image_verbs[] = {
	&pull_verb,  &push_verb,   &import_verb, &bootstrap_verb,
	&prune_verb, &remove_verb, &kernel_verb, NULL,
};
