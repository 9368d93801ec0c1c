/* Documents in and out; nothing here touches a file. */
#include "image/manifest.h"

#include <sys/utsname.h>

static const struct json_limits doc_limits = { .size = MANIFEST_MAX,
					       .depth = 32,
					       .values = 100000 };

static const struct {
	const char *machine, *arch, *variant;
} machines[] = {
	{ "x86_64", "amd64", "" }, { "aarch64", "arm64", "v8" }, { "armv7l", "arm", "v7" },
	{ "i686", "386", "" },	   { "ppc64le", "ppc64le", "" }, { "riscv64", "riscv64", "" },
	{ "s390x", "s390x", "" },
};

void platform_host(struct image_platform *ret)
{
	struct utsname un;

	*ret = (struct image_platform){ .os = "linux" };
	uname(&un);
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		if (streq(machines[i].machine, un.machine)) {
			strcpy(ret->arch, machines[i].arch);
			strcpy(ret->variant, machines[i].variant);
			return;
		}
	}
	snprintf(ret->arch, sizeof(ret->arch), "%.31s", un.machine);
}

/* Platform words are short names: letters, digits, and . _ - */
static int copy_word(const char *s, size_t len, char out[32])
{
	if (len == 0 || len >= 32 || *s == '.')
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
			    s[i]))
			return -EINVAL;
	}
	memcpy(out, s, len);
	out[len] = '\0';
	return 0;
}

int platform_parse(const char *s, struct image_platform *ret, struct err **e)
{
	struct image_platform p = { 0 };
	size_t os = strcspn(s, "/"), arch = s[os] ? strcspn(s + os + 1, "/") : 0;
	const char *rest = s[os] ? s + os + 1 + arch : "";

	if (copy_word(s, os, p.os) < 0 || copy_word(s + os + 1, arch, p.arch) < 0 ||
	    (*rest && copy_word(rest + 1, strlen(rest + 1), p.variant) < 0))
		return err_set(e, EINVAL, "image.platform",
			       "'%s' is no platform: write OS/ARCH or OS/ARCH/VARIANT", s);
	*ret = p;
	return 0;
}

bool platform_matches(const struct image_platform *want, const struct image_platform *have)
{
	return streq(want->os, have->os) && streq(want->arch, have->arch) &&
	       (!want->variant[0] || !have->variant[0] || streq(want->variant, have->variant));
}

static int copy_str(const struct json_in *in, const char *key, char *out, size_t len,
		    struct err **e)
{
	const char *s = NULL;
	int r = json_opt_str(in, key, &s, e);

	if (r <= 0)
		return r;
	if (strlen(s) >= len)
		return json_bad(in, e, "image.document", "'%s' is longer than %zu characters", key,
				len - 1);
	strcpy(out, s);
	return 1;
}

static int desc_extras(const struct json_in *in, struct image_desc *d, struct err **e)
{
	struct json_in p, a;
	int r = json_opt_obj(in, "platform", &p, e);

	if (r == 1) {
		r = copy_str(&p, "os", d->platform.os, sizeof(d->platform.os), e);
		if (r >= 0)
			r = copy_str(&p, "architecture", d->platform.arch, sizeof(d->platform.arch),
				     e);
		if (r >= 0)
			r = copy_str(&p, "variant", d->platform.variant,
				     sizeof(d->platform.variant), e);
	}
	if (r < 0)
		return r;
	r = json_opt_obj(in, "annotations", &a, e);
	if (r == 1) {
		r = copy_str(&a, ANNOTATION_FULL_NAME, d->ref_name, sizeof(d->ref_name), e);
		if (r == 0)
			r = copy_str(&a, ANNOTATION_REF, d->ref_name, sizeof(d->ref_name), e);
	}
	return r < 0 ? r : 0;
}

int desc_parse(const struct json_in *in, struct image_desc *ret, struct err **e)
{
	struct image_desc d = { 0 };
	const char *dg = NULL;
	int64_t size;
	int r;

	r = json_in_is(in, JSON_K_OBJECT, e);
	if (r < 0)
		return r;
	r = copy_str(in, "mediaType", d.media_type, sizeof(d.media_type), e);
	if (r < 0)
		return r;
	r = json_need_str(in, "digest", &dg, e);
	if (r < 0)
		return r;
	if (digest_parse(dg, &d.digest) < 0)
		return json_bad(in, e, "image.digest", "'%.140s' is no sha256 or sha512 digest",
				dg);
	r = json_need_int(in, "size", 0, INT64_MAX, &size, e);
	if (r < 0)
		return r;
	d.size = (uint64_t)size;
	r = desc_extras(in, &d, e);
	if (r < 0)
		return r;
	*ret = d;
	return 0;
}

struct json *desc_build(const struct image_desc *d)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	int r = json_set(o, "mediaType", json_new_str(d->media_type));

	r = json_set(o, "digest", json_new_str(d->digest.s)) ?: r;
	r = json_set(o, "size", json_new_int((int64_t)d->size)) ?: r;
	if (d->platform.os[0]) {
		struct json *p = json_new_obj();

		r = json_set(p, "architecture", json_new_str(d->platform.arch)) ?: r;
		r = json_set(p, "os", json_new_str(d->platform.os)) ?: r;
		if (d->platform.variant[0])
			r = json_set(p, "variant", json_new_str(d->platform.variant)) ?: r;
		r = json_set(o, "platform", p) ?: r;
	}
	if (d->ref_name[0]) {
		struct json *a = json_new_obj();

		r = json_set(a, ANNOTATION_REF, json_new_str(d->ref_name)) ?: r;
		r = json_set(o, "annotations", a) ?: r;
	}
	return r < 0 ? NULL : TAKE(o);
}

bool media_type_is_index(const char *mt)
{
	return streq(mt, MT_OCI_INDEX) || streq(mt, MT_DOCKER_INDEX);
}

bool media_type_is_manifest(const char *mt)
{
	return streq(mt, MT_OCI_MANIFEST) || streq(mt, MT_DOCKER_MANIFEST);
}

int media_type_layer(const char *mt, enum compression *ret)
{
	if (streq(mt, MT_OCI_LAYER) || streq(mt, MT_DOCKER_LAYER))
		*ret = COMP_NONE;
	else if (streq(mt, MT_OCI_LAYER_GZ) || streq(mt, MT_DOCKER_LAYER_GZ) ||
		 streq(mt, MT_DOCKER_FOREIGN))
		*ret = COMP_GZIP;
	else if (streq(mt, MT_OCI_LAYER_ZSTD))
		*ret = COMP_ZSTD;
	else
		return -ENOTSUP;
	return 0;
}

void doc_done(struct image_doc *d)
{
	if (!d)
		return;
	vec_done(&d->list);
	*d = (struct image_doc){ 0 };
}

static int parse_list(const struct json_in *root, const char *key, size_t max, struct image_doc *d,
		      struct err **e)
{
	struct json_in arr;
	int r = json_need_arr(root, key, &arr, e);

	if (r < 0)
		return r;
	if (json_in_len(&arr) > max)
		return json_bad(&arr, e, "image.document", "more than %zu entries", max);
	for (size_t i = 0; i < json_in_len(&arr); i++) {
		struct json_in item = json_in_item(&arr, i);
		struct image_desc desc;

		r = desc_parse(&item, &desc, e);
		if (r < 0)
			return r;
		if (vec_push(&d->list, desc) < 0)
			return err_sys(e, ENOMEM, "parse");
	}
	return 0;
}

static int doc_fill(const struct json_in *root, const char *said, struct image_doc *d,
		    struct err **e)
{
	bool index = json_get(root->v, "manifests") != NULL;
	bool manifest = json_get(root->v, "layers") != NULL || json_get(root->v, "config") != NULL;
	struct json_in config;
	int64_t version = 0;
	int r;

	r = json_in_is(root, JSON_K_OBJECT, e);
	if (r < 0)
		return r;
	if (json_get(root->v, "fsLayers"))
		return err_set(
			e, ENOTSUP, "image.schema1",
			"this is a Docker schema 1 manifest, which no registry should serve any more");
	r = json_need_int(root, "schemaVersion", 2, 2, &version, e);
	if (r < 0)
		return r;
	if (index == manifest)
		return json_bad(root, e, "image.document",
				index ? "both an index and a manifest"
				      : "neither an index nor a manifest");
	r = copy_str(root, "mediaType", d->media_type, sizeof(d->media_type), e);
	if (r < 0)
		return r;
	if (r == 0 && said)
		snprintf(d->media_type, sizeof(d->media_type), "%s", said);
	if (!d->media_type[0])
		strcpy(d->media_type, index ? MT_OCI_INDEX : MT_OCI_MANIFEST);
	if (index ? !media_type_is_index(d->media_type) : !media_type_is_manifest(d->media_type))
		return json_bad(root, e, "image.document",
				"media type '%s' does not fit the content", d->media_type);
	d->kind = index ? DOC_INDEX : DOC_MANIFEST;
	if (index)
		return parse_list(root, "manifests", 10000, d, e);
	r = json_need_obj(root, "config", &config, e);
	if (r == 0)
		r = desc_parse(&config, &d->config, e);
	if (r == 0)
		r = parse_list(root, "layers", IMAGE_LAYER_MAX, d, e);
	return r;
}

int doc_parse(const char *text, size_t len, const char *media_type, struct image_doc *ret,
	      struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(doc_done) struct image_doc d = { 0 };
	struct json_in root;
	int r;

	if (media_type && !media_type_is_index(media_type) && !media_type_is_manifest(media_type))
		media_type = NULL; /* "application/json" and the like say nothing */
	r = json_parse(text, len, &doc_limits, &v, e);
	if (r < 0)
		return err_wrap(e, r, "manifest");
	root = json_in(v, "manifest");
	r = doc_fill(&root, media_type, &d, e);
	if (r < 0)
		return r;
	*ret = d;
	d = (struct image_doc){ 0 };
	return 0;
}

int doc_pick(const struct image_doc *index, const struct image_platform *want,
	     struct image_desc *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf have = { 0 };
	const struct image_desc *d, *loose = NULL;

	vec_for_each(d, &index->list) {
		if (!media_type_is_manifest(d->media_type) && !media_type_is_index(d->media_type))
			continue;
		if (d->platform.os[0] && platform_matches(want, &d->platform)) {
			if (!want->variant[0] || streq(want->variant, d->platform.variant)) {
				*ret = *d;
				return 0;
			}
			if (!loose)
				loose = d;
		}
		if (!d->platform.os[0] && index->list.n == 1)
			loose = d;
		buf_addf(&have, "%s%s/%s", have.len ? ", " : "",
			 d->platform.os[0] ? d->platform.os : "unknown", d->platform.arch);
	}
	if (loose) {
		*ret = *loose;
		return 0;
	}
	return err_set(e, ENOENT, "image.platform", "no image for %s/%s; there is: %s", want->os,
		       want->arch, have.len ? buf_str(&have) : "nothing");
}

int manifest_build(const struct image_desc *config, const struct image_desc *layers, size_t n,
		   struct buf *ret)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	struct json *arr = json_new_arr();
	int r = 0;

	for (size_t i = 0; i < n; i++)
		r = json_push(arr, desc_build(&layers[i])) ?: r;
	r = json_set(o, "schemaVersion", json_new_int(2)) ?: r;
	r = json_set(o, "mediaType", json_new_str(MT_OCI_MANIFEST)) ?: r;
	r = json_set(o, "config", desc_build(config)) ?: r;
	r = json_set(o, "layers", arr) ?: r;
	return r < 0 ? r : json_print(o, JSON_COMPACT, ret);
}

/* ---- config ---- */

void config_done(struct image_config *c)
{
	if (!c)
		return;
	free(c->created);
	free(c->user);
	free(c->working_dir);
	free(c->stop_signal);
	strv_free(c->env);
	strv_free(c->entrypoint);
	strv_free(c->cmd);
	strv_free(c->ports);
	strv_free(c->volumes);
	json_free(c->labels);
	json_free(c->healthcheck);
	json_free(c->raw);
	vec_done(&c->diff_ids);
	*c = (struct image_config){ 0 };
}

static int dup_str(const struct json_in *in, const char *key, char **ret, struct err **e)
{
	const char *s = NULL;
	int r = json_opt_str(in, key, &s, e);

	if (r == 1 && *s) {
		*ret = strdup(s);
		if (!*ret)
			return err_sys(e, ENOMEM, "parse");
	}
	return r < 0 ? r : 0;
}

/* The keys of {"80/tcp": {}} as a list. */
static int dup_keys(const struct json_in *in, const char *key, char ***ret, struct err **e)
{
	struct json_in obj;
	int r = json_opt_obj(in, key, &obj, e);
	size_t n = 0;

	if (r <= 0)
		return r;
	*ret = calloc(json_len(obj.v) + 1, sizeof(char *));
	if (!*ret)
		return err_sys(e, ENOMEM, "parse");
	for (struct json_iter it = json_iter(obj.v); json_next(&it);) {
		(*ret)[n] = strdup(it.key);
		if (!(*ret)[n++])
			return err_sys(e, ENOMEM, "parse");
	}
	return 0;
}

static int config_inner(const struct json_in *in, struct image_config *c, struct err **e)
{
	struct json_in labels, health;
	int r = dup_str(in, "User", &c->user, e);

	if (r == 0)
		r = dup_str(in, "WorkingDir", &c->working_dir, e);
	if (r == 0)
		r = dup_str(in, "StopSignal", &c->stop_signal, e);
	if (r >= 0)
		r = json_opt_strv(in, "Env", &c->env, e);
	if (r >= 0)
		r = json_opt_strv(in, "Entrypoint", &c->entrypoint, e);
	if (r >= 0)
		r = json_opt_strv(in, "Cmd", &c->cmd, e);
	if (r >= 0)
		r = dup_keys(in, "ExposedPorts", &c->ports, e);
	if (r >= 0)
		r = dup_keys(in, "Volumes", &c->volumes, e);
	if (r >= 0)
		r = json_opt_obj(in, "Labels", &labels, e);
	if (r == 1)
		c->labels = json_clone(labels.v);
	if (r >= 0)
		r = json_opt_obj(in, "Healthcheck", &health, e);
	if (r == 1)
		c->healthcheck = json_clone(health.v);
	return r < 0 ? r : 0;
}

static int config_fill(const struct json_in *root, struct image_config *c, struct err **e)
{
	struct json_in rootfs, ids, inner;
	int r = json_in_is(root, JSON_K_OBJECT, e);

	if (r < 0)
		return r;
	r = copy_str(root, "os", c->platform.os, sizeof(c->platform.os), e);
	if (r >= 0)
		r = copy_str(root, "architecture", c->platform.arch, sizeof(c->platform.arch), e);
	if (r >= 0)
		r = copy_str(root, "variant", c->platform.variant, sizeof(c->platform.variant), e);
	if (r >= 0)
		r = dup_str(root, "created", &c->created, e);
	if (r >= 0)
		r = json_opt_obj(root, "config", &inner, e);
	if (r == 1)
		r = config_inner(&inner, c, e);
	if (r >= 0)
		r = json_need_obj(root, "rootfs", &rootfs, e);
	if (r >= 0)
		r = json_need_arr(&rootfs, "diff_ids", &ids, e);
	if (r < 0)
		return r;
	if (json_in_len(&ids) > IMAGE_LAYER_MAX)
		return json_bad(&ids, e, "image.document", "more than %d layers", IMAGE_LAYER_MAX);
	for (size_t i = 0; i < json_in_len(&ids); i++) {
		struct json_in item = json_in_item(&ids, i);
		const char *s = NULL;
		struct digest d;

		r = json_in_str(&item, &s, e);
		if (r < 0)
			return r;
		if (digest_parse(s, &d) < 0)
			return json_bad(&item, e, "image.digest",
					"'%.140s' is no sha256 or sha512 digest", s);
		if (vec_push(&c->diff_ids, d) < 0)
			return err_sys(e, ENOMEM, "parse");
	}
	return 0;
}

int config_parse(const char *text, size_t len, struct image_config *ret, struct err **e)
{
	_cleanup_(config_done) struct image_config c = { 0 };
	struct json_in root;
	int r = json_parse(text, len, &doc_limits, &c.raw, e);

	if (r < 0)
		return err_wrap(e, r, "image config");
	root = json_in(c.raw, "config");
	r = config_fill(&root, &c, e);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct image_config){ 0 };
	return 0;
}

static struct json *keys_build(char *const *keys)
{
	struct json *o = json_new_obj();

	for (; keys && *keys; keys++)
		json_set(o, *keys, json_new_obj());
	return o;
}

int config_build(const struct image_config *c, const char *history, struct buf *ret)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	struct json *in = json_new_obj(), *rootfs = json_new_obj(), *ids = json_new_arr(),
		    *hist = json_new_arr();
	const struct digest *d;
	int r = 0;

	r = json_set(o, "created", json_new_str(c->created ? c->created : "1970-01-01T00:00:00Z"))
		    ?: r;
	r = json_set(o, "architecture", json_new_str(c->platform.arch)) ?: r;
	r = json_set(o, "os", json_new_str(c->platform.os)) ?: r;
	if (c->platform.variant[0])
		r = json_set(o, "variant", json_new_str(c->platform.variant)) ?: r;
	if (c->user)
		r = json_set(in, "User", json_new_str(c->user)) ?: r;
	if (c->ports)
		r = json_set(in, "ExposedPorts", keys_build(c->ports)) ?: r;
	if (c->env)
		r = json_set(in, "Env", json_new_strv(c->env)) ?: r;
	if (c->entrypoint)
		r = json_set(in, "Entrypoint", json_new_strv(c->entrypoint)) ?: r;
	if (c->cmd)
		r = json_set(in, "Cmd", json_new_strv(c->cmd)) ?: r;
	if (c->volumes)
		r = json_set(in, "Volumes", keys_build(c->volumes)) ?: r;
	if (c->working_dir)
		r = json_set(in, "WorkingDir", json_new_str(c->working_dir)) ?: r;
	if (c->labels)
		r = json_set(in, "Labels", json_clone(c->labels)) ?: r;
	if (c->stop_signal)
		r = json_set(in, "StopSignal", json_new_str(c->stop_signal)) ?: r;
	r = json_set(o, "config", in) ?: r;
	vec_for_each(d, &c->diff_ids) {
		struct json *h = json_new_obj();

		r = json_push(ids, json_new_str(d->s)) ?: r;
		r = json_set(h, "created",
			     json_new_str(c->created ? c->created : "1970-01-01T00:00:00Z"))
			    ?: r;
		r = json_set(h, "created_by", json_new_str(history)) ?: r;
		r = json_push(hist, h) ?: r;
	}
	r = json_set(rootfs, "type", json_new_str("layers")) ?: r;
	r = json_set(rootfs, "diff_ids", ids) ?: r;
	r = json_set(o, "rootfs", rootfs) ?: r;
	r = json_set(o, "history", hist) ?: r;
	return r < 0 ? r : json_print(o, JSON_COMPACT, ret);
}

void chain_id(const struct digest *diff_ids, size_t n, struct digest *ret)
{
	char text[2 * DIGEST_MAX + 1];

	*ret = diff_ids[0];
	for (size_t i = 1; i < n; i++) {
		snprintf(text, sizeof(text), "%s %s", ret->s, diff_ids[i].s);
		digest_of(text, strlen(text), ret);
	}
}
