/* Commands on the store itself. */
#include <fcntl.h>
#include <sys/file.h>
#include "base/clock.h"
#include "image/cli.h"
#include "image/fsutil.h"

struct no_opts {
	bool unused;
};
static const struct opt no_opts[] = { OPT_END };

/* ---- ls ---- */

struct ls_opts {
	bool json, digests;
};
static const struct opt ls_opts[] = {
	OPT(struct ls_opts, json, FLAG, "json", 0, NULL, "as JSON"),
	OPT(struct ls_opts, digests, FLAG, "digests", 0, NULL, "whole digests"), OPT_END
};

/* Compressed bytes of the image, and those of them that no other image uses. */
static void sizes(const struct usage *u, const struct image_parts *p, uint64_t *size,
		  uint64_t *unique)
{
	const struct image_desc *l;

	*size = p->manifest.config.size + p->desc.size;
	*unique = *size;
	vec_for_each(l, &p->manifest.list) {
		*size += l->size;
		if (usage_refs(u, &l->digest) == 1)
			*unique += l->size;
	}
}

static struct json *ls_json(const struct image_desc *d, const struct image_parts *p, uint64_t size,
			    uint64_t unique)
{
	struct json *o = json_new_obj();

	json_set(o, "name", json_new_str(d->ref_name));
	json_set(o, "digest", json_new_str(d->digest.s));
	json_set(o, "id", json_new_str(p->manifest.config.digest.s));
	json_set(o, "os", json_new_str(p->config.platform.os));
	json_set(o, "architecture", json_new_str(p->config.platform.arch));
	json_set(o, "created", json_new_str(p->config.created ? p->config.created : ""));
	json_set(o, "layers", json_new_int((int64_t)p->config.diff_ids.n));
	json_set(o, "size", json_new_int((int64_t)size));
	json_set(o, "unique", json_new_int((int64_t)unique));
	return o;
}

static int cmd_ls(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, NULL, e);
	_cleanup_(usage_done) struct usage u = { 0 };
	_cleanup_(doc_done) struct image_doc index = { 0 };
	_cleanup_(json_freep) struct json *all = json_new_arr();
	_cleanup_(freep) char *text = NULL;
	const struct ls_opts *o = opts;
	const struct image_desc *d;
	int r = lock < 0 ? lock : usage_scan(s, &u, e);

	if (r == 0)
		r = index_read(s, &index, e);
	if (r < 0)
		return r;
	if (!o->json)
		printf("%-48s %-*s %10s %10s  %s\n", "NAME", o->digests ? 71 : 12, "DIGEST", "SIZE",
		       "UNIQUE", "CREATED");
	vec_for_each(d, &index.list) {
		_cleanup_(parts_done) struct image_parts p = { 0 };
		_cleanup_(err_freep) struct err *why = NULL;
		char shown[REF_MAX], digest[13], a[24], b[24];
		uint64_t size, unique;
		struct image_ref ref;

		if (parts_read(s, d, NULL, &p, &why) < 0) {
			fprintf(stderr, "strata-image: ls: %s\n", err_msg(why));
			continue;
		}
		sizes(&u, &p, &size, &unique);
		if (o->json) {
			json_push(all, ls_json(d, &p, size, unique));
			continue;
		}
		if (ref_parse(d->ref_name, &ref, NULL) == 0)
			ref_familiar(&ref, shown);
		else
			snprintf(shown, sizeof(shown), "%s", d->ref_name);
		printf("%-48s %-12s %10s %10s  %.19s\n", shown,
		       o->digests ? d->digest.s : digest_short(&d->digest, digest),
		       format_size(size, a, sizeof(a)), format_size(unique, b, sizeof(b)),
		       p.config.created ? p.config.created : "");
	}
	if (o->json) {
		text = json_text(all, JSON_PRETTY);
		if (!text)
			return err_sys(e, ENOMEM, "print");
		fputs(text, stdout);
	}
	return 0;
}

/* ---- inspect ---- */

static int cmd_inspect(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	_cleanup_(parts_done) struct image_parts p = { 0 };
	_cleanup_(json_freep) struct json *o = json_new_obj();
	_cleanup_(freep) char *text = NULL;
	struct json *layers = json_new_arr();
	const struct image_desc *l;
	struct image_desc d;
	int r = index_find(s, args[0], &d, e);

	if (r == 0)
		r = parts_read(s, &d, NULL, &p, e);
	if (r < 0) {
		json_free(layers);
		return r;
	}
	vec_for_each(l, &p.manifest.list) {
		struct json *j = desc_build(l);

		json_set(j, "diff_id", json_new_str(p.config.diff_ids.v[l - p.manifest.list.v].s));
		json_push(layers, j);
	}
	json_set(o, "name", json_new_str(d.ref_name));
	json_set(o, "digest", json_new_str(p.desc.digest.s));
	json_set(o, "config", json_ref(p.config.raw));
	json_set(o, "layers", layers);
	json_set(o, "unpacked", json_new_bool(unpack_done(s, &p)));
	text = json_text(o, JSON_PRETTY);
	if (!text)
		return err_sys(e, ENOMEM, "print");
	fputs(text, stdout);
	return 0;
}

/* ---- rm, tag ---- */

static int cmd_rm(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	for (; *args; args++) {
		struct image_desc d;
		int r = index_find(s, *args, &d, e);

		if (r == 0)
			r = index_remove(s, d.ref_name, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int cmd_tag(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, NULL, e);
	struct image_ref ref;
	struct image_desc d;
	int r = lock < 0 ? lock : ref_parse(args[1], &ref, e);

	if (r == 0)
		r = index_find(s, args[0], &d, e);
	if (r == 0) {
		ref_name(&ref, d.ref_name);
		r = index_set(s, &d, e);
	}
	return r;
}

/* ---- gc ---- */

struct gc_opts {
	bool dry_run;
	nsec_t keep_parts;
};
static const struct opt gc_opts[] = { OPT(struct gc_opts, dry_run, FLAG, "dry-run", 'n', NULL,
					  "only say what would go"),
				      OPT(struct gc_opts, keep_parts, DURATION, "keep-parts", 0,
					  "AGE", "keep cut downloads younger than this"),
				      OPT_END };

static int cmd_gc(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	const struct gc_opts *o = opts;
	struct gc_options go = { .dry_run = o->dry_run, .keep_parts = o->keep_parts };
	struct gc_result res;
	char bytes[24];
	int r = gc_run(s, &go, &cli_op, &res, e);

	if (r < 0)
		return r;
	printf("%s %llu blobs, %llu layers, %llu disks, %llu cut downloads, %llu leftovers: %s\n",
	       o->dry_run ? "would remove" : "removed", (unsigned long long)res.blobs,
	       (unsigned long long)res.layers, (unsigned long long)res.disks,
	       (unsigned long long)res.parts, (unsigned long long)res.temps,
	       format_size(res.bytes, bytes, sizeof(bytes)));
	return 0;
}

/* ---- verify ---- */

static int cmd_verify(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	_cleanup_(usage_done) struct usage u = { 0 };
	int r = usage_scan(s, &u, e), bad = 0;

	if (r < 0)
		return r;
	for (struct hnode *h = hmap_walk(&u.blobs, NULL); h; h = hmap_walk(&u.blobs, h)) {
		const struct usage_entry *b = container_of(h, struct usage_entry, node);
		_cleanup_(err_freep) struct err *why = NULL;

		if (!blob_exists(s, &b->digest, UINT64_MAX))
			continue;
		r = blob_verify(s, &b->digest, &cli_op, &why);
		if (r == -ECANCELED) {
			err_move(e, &why);
			return r;
		}
		if (r < 0) {
			printf("%s\n", err_msg(why));
			bad = 1;
		}
	}
	return bad;
}

/* ---- import, export ---- */

struct import_opts {
	char *name, *platform;
	opt_list cmd, env;
	bool unpack, compress;
};
static const struct opt import_opts[] = {
	OPT(struct import_opts, name, STR, "name", 0, "REFERENCE", "what to call it"),
	OPT(struct import_opts, platform, STR, "platform", 0, "OS/ARCH", "of a root tarball"),
	OPT(struct import_opts, cmd, LIST, "cmd", 0, "WORD",
	    "command of a root tarball, one word a use"),
	OPT(struct import_opts, env, LIST, "env", 'e', "K=V", "environment of a root tarball"),
	OPT(struct import_opts, compress, FLAG, "compress", 0, NULL,
	    "keep a plain root tarball as gzip"),
	OPT(struct import_opts, unpack, FLAG, "unpack", 0, NULL,
	    "make it ready for containers at once"),
	OPT_END
};

static int unpack_named(struct image_store *s, const char *name, unsigned int threads,
			struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, &cli_op, e);
	_cleanup_(parts_done) struct image_parts p = { 0 };
	struct image_desc d;
	int r = lock < 0 ? lock : index_find(s, name, &d, e);

	if (r == 0)
		r = parts_read(s, &d, NULL, &p, e);
	return r < 0 ? r : unpack_image(s, &p, threads, &cli_op, e);
}

static int cmd_import(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct import_opts *o = (struct import_opts *)(uintptr_t)opts;
	_cleanup_(strv_freep) char **names = NULL;
	struct image_platform pf;
	struct import_options io = { .name = o->name, .compress = o->compress };
	int r = 0;

	if (o->platform) {
		r = platform_parse(o->platform, &pf, e);
		io.platform = &pf;
	}
	if (r == 0 && (vec_push(&o->cmd, NULL) < 0 || vec_push(&o->env, NULL) < 0))
		r = err_sys(e, ENOMEM, "import");
	if (r < 0)
		return r;
	io.cmd = o->cmd.n > 1 ? (const char *const *)o->cmd.v : NULL;
	io.env = o->env.n > 1 ? (const char *const *)o->env.v : NULL;
	o->cmd.n--;
	o->env.n--;
	if (streq(args[0], "-")) {
		if (!o->name)
			return err_set(e, EINVAL, "usage",
				       "a root tarball from standard input needs --name");
		r = archive_import_root(s, 0, &io, "imported root tarball", &cli_op, e);
		if (r == 0)
			printf("%s\n", o->name);
	} else {
		r = archive_import(s, args[0], &io, &cli_op, &names, e);
	}
	for (char **p = names; r == 0 && p && *p; p++) {
		printf("%s\n", *p);
		if (o->unpack)
			r = unpack_named(s, *p, 0, e);
	}
	return r;
}

struct export_opts {
	char *format;
};
static const struct opt export_opts[] = { OPT(struct export_opts, format, STR, "format", 'f',
					      "oci|oci-dir|docker", "of the archive; usually oci"),
					  OPT_END };

static int cmd_export(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	const struct export_opts *o = opts;
	enum archive_format f = ARCHIVE_OCI;
	int r = o->format ? archive_format_parse(o->format, &f, e) : 0;

	return r < 0 ? r : archive_export(s, (const char *const *)args + 1, args[0], f, &cli_op, e);
}

/* ---- unpack, mount, copy ---- */

struct unpack_opts {
	uint64_t threads;
};
static const struct opt unpack_opts[] = { OPT(struct unpack_opts, threads, U64, "threads", 0, "N",
					      "usually as many as CPUs", .max = 64),
					  OPT_END };

static int cmd_unpack(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	return unpack_named(s, args[0], (unsigned int)((const struct unpack_opts *)opts)->threads,
			    e);
}

struct mount_opts {
	char *dir, *userns;
	bool readonly;
};
static const struct opt mount_opts[] = { OPT(struct mount_opts, dir, STR, "dir", 0, "DIR",
					     "holds the private part; usually TARGET.strata"),
					 OPT(struct mount_opts, userns, STR, "userns", 0, "FILE",
					     "a user namespace (/proc/PID/ns/user) to map ids by"),
					 OPT(struct mount_opts, readonly, FLAG, "readonly", 0, NULL,
					     "without a private part"),
					 OPT_END };

static int cmd_mount(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	const struct mount_opts *o = opts;
	_cleanup_(parts_done) struct image_parts p = { 0 };
	_cleanup_(closep) int userns = -1, lock = -1;
	struct rootfs_spec spec = { .dir = o->dir, .target = args[1], .readonly = o->readonly };
	struct image_desc d;
	char dir[4096];
	int r;

	if (!o->dir) {
		snprintf(dir, sizeof(dir), "%s.strata", args[1]);
		spec.dir = dir;
	}
	if (o->userns) {
		userns = open(o->userns, O_RDONLY | O_CLOEXEC);
		if (userns < 0)
			return err_sys(e, errno, "open '%s'", o->userns);
	}
	spec.userns_fd = userns;
	lock = store_lock(s, "lock", LOCK_SH, &cli_op, e);
	r = lock < 0 ? lock : index_find(s, args[0], &d, e);
	if (r == 0)
		r = parts_read(s, &d, NULL, &p, e);
	if (r == 0)
		r = unpack_image(s, &p, 0, &cli_op, e);
	return r < 0 ? r : rootfs_mount(s, &p, &spec, e);
}

static int cmd_umount(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	return rootfs_umount(args[0], e);
}

static int cmd_copy(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	_cleanup_(parts_done) struct image_parts p = { 0 };
	_cleanup_(closep) int dir = -1, lock = -1;
	struct image_desc d;
	int r = dir_make(AT_FDCWD, args[1], 0755);

	if (r < 0)
		return err_sys(e, -r, "make '%s'", args[1]);
	dir = open(args[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, errno, "open '%s'", args[1]);
	lock = store_lock(s, "lock", LOCK_SH, &cli_op, e);
	r = lock < 0 ? lock : index_find(s, args[0], &d, e);
	if (r == 0)
		r = parts_read(s, &d, NULL, &p, e);
	return r < 0 ? r : rootfs_copy(s, &p, dir, &cli_op, e);
}

/* ---- hold, release, sync ---- */

static int cmd_hold(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct image_desc d;
	int r = index_find(s, args[1], &d, e);

	return r < 0 ? r : hold_set(s, args[0], &d.digest, e);
}

static int cmd_release(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	return hold_drop(s, args[0], e);
}

static int cmd_sync(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	return store_sync(s, e);
}

const struct cli_cmd cli_store_cmds[] = {
	{ "ls", "", "list images with their own and shared sizes", ls_opts, sizeof(struct ls_opts),
	  0, 0, false, cmd_ls },
	{ "inspect", "IMAGE", "config and layers of an image", no_opts, sizeof(struct no_opts), 1,
	  1, false, cmd_inspect },
	{ "tag", "IMAGE NAME", "give an image another name", no_opts, sizeof(struct no_opts), 2, 2,
	  false, cmd_tag },
	{ "rm", "IMAGE...", "take names away; gc frees the space", no_opts, sizeof(struct no_opts),
	  1, 1000, false, cmd_rm },
	{ "gc", "", "remove what no image uses", gc_opts, sizeof(struct gc_opts), 0, 0, false,
	  cmd_gc },
	{ "verify", "", "hash every blob again", no_opts, sizeof(struct no_opts), 0, 0, false,
	  cmd_verify },
	{ "sync", "", "flush everything to disk", no_opts, sizeof(struct no_opts), 0, 0, false,
	  cmd_sync },
	{ "hold", "OWNER IMAGE", "keep an image from gc", no_opts, sizeof(struct no_opts), 2, 2,
	  false, cmd_hold },
	{ "release", "OWNER", "end a hold", no_opts, sizeof(struct no_opts), 1, 1, false,
	  cmd_release },
	{ "import", "FILE|DIR|-", "docker save, OCI layout, or root tarball", import_opts,
	  sizeof(struct import_opts), 1, 1, false, cmd_import },
	{ "export", "FILE|DIR|- IMAGE...", "write an archive", export_opts,
	  sizeof(struct export_opts), 2, 1000, false, cmd_export },
	{ "unpack", "IMAGE", "make it ready for containers", unpack_opts,
	  sizeof(struct unpack_opts), 1, 1, false, cmd_unpack },
	{ "mount", "IMAGE TARGET", "root file system by overlay", mount_opts,
	  sizeof(struct mount_opts), 2, 2, false, cmd_mount },
	{ "umount", "TARGET", "take it away again", no_opts, sizeof(struct no_opts), 1, 1, true,
	  cmd_umount },
	{ "copy", "IMAGE DIR", "root file system as a private copy", no_opts,
	  sizeof(struct no_opts), 2, 2, false, cmd_copy },
	{ NULL },
};
