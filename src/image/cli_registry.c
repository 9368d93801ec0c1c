/* Commands that speak with registries. */
#include "image/cli.h"
#include "image/registry.h"

struct reg_opts {
	bool plain_http, no_unpack;
	char *ca, *auth_file, *platform;
	opt_list mirrors;
	uint64_t parallel, tries, stall;
};
static const struct opt reg_opts[] = {
	OPT(struct reg_opts, plain_http, FLAG, "plain-http", 0, NULL,
	    "no TLS; only for a registry on this host"),
	OPT(struct reg_opts, ca, STR, "ca", 0, "FILE",
	    "authorities to trust instead of the system's"),
	OPT(struct reg_opts, auth_file, STR, "authfile", 0, "FILE",
	    "credentials, usually docker's or podman's"),
	OPT(struct reg_opts, platform, STR, "platform", 0, "OS/ARCH[/VARIANT]",
	    "usually this host's"),
	OPT(struct reg_opts, mirrors, LIST, "mirror", 0, "HOST", "asked first when pulling"),
	OPT(struct reg_opts, parallel, U64, "parallel", 0, "N", "layers at once; usually 6",
	    .min = 1, .max = 64),
	OPT(struct reg_opts, tries, U64, "tries", 0, "N", "per blob; usually 6", .min = 1,
	    .max = 100),
	OPT(struct reg_opts, stall, U64, "stall", 0, "SECONDS",
	    "without a byte before trying again; usually 20", .min = 1, .max = 3600),
	OPT(struct reg_opts, no_unpack, FLAG, "no-unpack", 0, NULL, "only the blobs"),
	OPT_END
};

static int options(struct reg_opts *o, struct registry_options *ret, struct image_platform *pf,
		   struct err **e)
{
	*ret = (struct registry_options){
		.plain_http = o->plain_http,
		.no_unpack = o->no_unpack,
		.ca_file = o->ca,
		.auth_file = o->auth_file,
		.parallel = (unsigned int)o->parallel,
		.tries = (unsigned int)o->tries,
		.stall_seconds = (unsigned int)o->stall,
	};
	if (vec_push(&o->mirrors, NULL) < 0)
		return err_sys(e, ENOMEM, "options");
	o->mirrors.n--;
	ret->mirrors = (const char *const *)o->mirrors.v;
	if (!o->platform)
		return 0;
	ret->platform = pf;
	return platform_parse(o->platform, pf, e);
}

static int cmd_pull(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct registry_options ro;
	struct image_platform pf;
	struct pull_result res;
	struct image_ref ref;
	char size[24];
	int r = options((struct reg_opts *)(uintptr_t)opts, &ro, &pf, e);

	if (r == 0)
		r = ref_parse(args[0], &ref, e);
	if (r == 0)
		r = registry_pull(s, &ref, &ro, &cli_op, &res, e);
	if (r < 0)
		return r;
	printf("%s\n", res.desc.digest.s);
	if (!cli_quiet)
		fprintf(stderr, "%u layers fetched (%s), %u were there\n", res.fetched,
			format_size(res.fetched_bytes, size, sizeof(size)), res.reused);
	return 0;
}

static int cmd_push(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct registry_options ro;
	struct image_platform pf;
	struct push_result res;
	struct image_ref ref;
	int r = options((struct reg_opts *)(uintptr_t)opts, &ro, &pf, e);

	if (r == 0)
		r = ref_parse(args[n > 1], &ref, e);
	if (r == 0)
		r = registry_push(s, args[0], &ref, &ro, &cli_op, &res, e);
	if (r < 0)
		return r;
	printf("%s\n", res.digest.s);
	if (!cli_quiet)
		fprintf(stderr, "%u blobs uploaded, %u mounted, %u were there\n", res.uploaded,
			res.mounted, res.present);
	return 0;
}

static int cmd_tags(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	_cleanup_(strv_freep) char **tags = NULL;
	struct registry_options ro;
	struct image_platform pf;
	struct image_ref ref;
	int r = options((struct reg_opts *)(uintptr_t)opts, &ro, &pf, e);

	if (r == 0)
		r = ref_parse(args[0], &ref, e);
	if (r == 0)
		r = registry_tags(&ref, &ro, &cli_op, &tags, e);
	for (char **t = tags; r == 0 && *t; t++)
		printf("%s\n", *t);
	return r;
}

const struct cli_cmd cli_registry_cmds[] = {
	{ "pull", "REFERENCE", "fetch an image from a registry", reg_opts, sizeof(struct reg_opts),
	  1, 1, false, cmd_pull },
	{ "push", "IMAGE [REFERENCE]", "bring an image to a registry", reg_opts,
	  sizeof(struct reg_opts), 1, 2, false, cmd_push },
	{ "tags", "REFERENCE", "list the tags of a repository", reg_opts, sizeof(struct reg_opts),
	  1, 1, true, cmd_tags },
	{ NULL },
};
