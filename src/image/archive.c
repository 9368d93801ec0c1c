/* Importing.  Exporting is in export.c, root tarballs in rootball.c. */
#include "image/archive.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/hmap.h"
#include "ext/untar.h"
#include "image/fsutil.h"
#include "image/layer.h"
#include "image/ref.h"

#define MEMBERS_MAX 200000

int archive_format_parse(const char *s, enum archive_format *ret, struct err **e)
{
	static const char *const names[] = { "oci", "oci-dir", "docker" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (streq(s, names[i])) {
			*ret = (enum archive_format)i;
			return 0;
		}
	}
	return err_set(e, EINVAL, "image.format",
		       "'%s' is no archive format: oci, oci-dir or docker", s);
}

/* ---- where blobs come from ---- */

struct member { /* a file of a tar, already a blob of the store; or a link to one */
	struct hnode node;
	struct digest digest;
	uint64_t size;
	char *link;
	char path[];
};

struct source {
	struct image_store *s;
	struct image_op *op;
	const struct import_options *o;
	const char *base; /* name of the file or directory, for images without a name */
	int dir;	  /* an OCI layout directory; -1: members */
	struct hmap members;
	size_t n;
	char ***names;
};

static void source_done(struct source *src)
{
	for (struct hnode *n = hmap_walk(&src->members, NULL), *next; n; n = next) {
		struct member *m = container_of(n, struct member, node);

		next = hmap_walk(&src->members, n);
		free(m->link);
		free(m);
	}
	hmap_done(&src->members);
	safe_close(src->dir);
}

static struct member *find_member(struct source *src, const char *path)
{
	for (int hops = 0; hops < 8; hops++) {
		struct member *found = NULL;

		while (str_starts(path, "./"))
			path += 2;
		hmap_for_each(n, &src->members, hash_str(path)) {
			struct member *m = container_of(n, struct member, node);

			if (streq(m->path, path))
				found = m;
		}
		if (!found || !found->link)
			return found;
		path = found->link;
	}
	return NULL;
}

static int add_member(struct source *src, const char *path, struct member **ret, struct err **e)
{
	struct member *m;
	size_t n;

	while (str_starts(path, "./"))
		path += 2;
	n = strlen(path);
	if (++src->n > MEMBERS_MAX)
		return err_set(e, EFBIG, "image.archive", "more than %d files in the archive",
			       MEMBERS_MAX);
	m = calloc(1, sizeof(*m) + n + 1);
	if (!m)
		return err_sys(e, ENOMEM, "read archive");
	memcpy(m->path, path, n + 1);
	hmap_add(&src->members, &m->node, hash_str(m->path));
	*ret = m;
	return 0;
}

/* "a/b/layer.tar" + "../c/layer.tar" -> "a/c/layer.tar"; NULL when it leaves the archive. */
static char *join_link(const char *path, const char *link)
{
	char *out = malloc(strlen(path) + strlen(link) + 2);
	size_t len = 0;
	const char *slash = strrchr(path, '/');

	if (!out)
		return NULL;
	if (slash && *link != '/') {
		len = (size_t)(slash - path);
		memcpy(out, path, len);
	}
	while (*link) {
		size_t n = strcspn(link, "/");

		if (n == 2 && link[0] == '.' && link[1] == '.') {
			if (len == 0) {
				free(out);
				return NULL;
			}
			while (len && out[len - 1] != '/')
				len--;
			len -= len > 0;
		} else if (n && !(n == 1 && link[0] == '.')) {
			if (len)
				out[len++] = '/';
			memcpy(out + len, link, n);
			len += n;
		}
		link += n;
		link += *link == '/';
	}
	out[len] = '\0';
	return out;
}

static int ingest_member(struct source *src, struct untar *tar, const struct untar_entry *te,
			 struct err **e)
{
	struct blob_writer w;
	struct digest want = { 0 };
	struct member *m;
	const void *data;
	uint64_t off, end = 0;
	char text[DIGEST_MAX + 16];
	const char *path = te->path;
	size_t len;
	int r;

	while (str_starts(path, "./"))
		path += 2;
	if (str_starts(path, "blobs/") && strchr(path + 6, '/')) { /* the name promises a digest */
		snprintf(text, sizeof(text), "%.140s", path + 6);
		*strchr(text, '/') = ':';
		if (digest_parse(text, &want) < 0)
			return err_set(e, EBADMSG, "image.digest",
				       "'%s': the file name is no digest", path);
	}
	r = blob_begin(src->s, NULL, &w, e);
	if (r < 0)
		return r;
	if (!digest_empty(&want))
		hash_init(&w.hash, digest_alg(&want));
	while ((r = untar_data(tar, &data, &len, &off, e)) == 1) {
		if (off != end)
			r = err_set(e, EBADMSG, "image.archive", "a sparse file");
		else
			r = blob_write(&w, data, len, e);
		end += len;
		if (r == 0)
			r = image_op_check(src->op, e);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = add_member(src, path, &m, e);
	if (r == 0)
		r = blob_commit(&w, digest_empty(&want) ? NULL : &want, end, &m->digest, e);
	if (r == 0)
		m->size = end;
	blob_abort(&w);
	return r;
}

/* Older `docker save` writes these beside what counts. */
static bool legacy(const char *path)
{
	return str_ends(path, "/VERSION") || str_ends(path, "/json") ||
	       str_ends(path, "repositories");
}

static int ingest_all(struct source *src, struct untar *tar, struct err **e)
{
	struct untar_entry te;
	struct member *m;
	int r;

	while ((r = untar_next(tar, &te, e)) == 1) {
		if (!te.path)
			return err_set(e, EBADMSG, "image.archive", "an entry without a name");
		r = 0;
		if (te.type == UNTAR_FILE && !legacy(te.path)) {
			r = ingest_member(src, tar, &te, e);
		} else if ((te.type == UNTAR_SYMLINK || te.type == UNTAR_HARDLINK) && te.link) {
			r = add_member(src, te.path, &m, e);
			if (r == 0) {
				m->link = join_link(te.type == UNTAR_HARDLINK ? "" : m->path,
						    te.link);
				if (!m->link)
					r = err_set(e, EBADMSG, "image.archive",
						    "a link out of the archive");
			}
		}
		if (r < 0)
			return err_wrap(e, r, "entry '%s'", te.path);
	}
	return r;
}

/* Bring one blob over; 0 also when it is there already, -ENOENT when the source lacks it. */
static int fetch_blob(struct source *src, const struct image_desc *d, struct err **e)
{
	_cleanup_(freep) char *block = NULL;
	_cleanup_(closep) int fd = -1;
	char path[DIGEST_MAX + 8];
	struct blob_writer w;
	struct image_progress done = { IMAGE_DOWNLOAD, d->digest.s, d->size, d->size, true, false };
	ssize_t n;
	int r;

	if (blob_exists(src->s, &d->digest, d->size))
		return 0;
	blob_path(&d->digest, path);
	if (src->dir < 0)
		return err_set(e, ENOENT, "image.blob_missing", "the archive lacks the blob %s",
			       d->digest.s);
	fd = open_beneath(src->dir, path, O_RDONLY | O_NOFOLLOW, 0);
	if (fd == -ENOENT)
		return err_set(e, ENOENT, "image.blob_missing", "the layout lacks the blob %s",
			       d->digest.s);
	if (fd < 0)
		return err_sys(e, -fd, "open '%s'", path);
	block = malloc(MIB);
	if (!block)
		return err_sys(e, ENOMEM, "copy blob");
	r = blob_begin(src->s, NULL, &w, e);
	if (r < 0)
		return r;
	hash_init(&w.hash, digest_alg(&d->digest));
	while (r == 0 && (n = fd_read(fd, block, MIB)) > 0) {
		if (w.size + (uint64_t)n > d->size)
			r = err_set(e, EBADMSG, "image.size", "blob %s is larger than announced",
				    d->digest.s);
		if (r == 0)
			r = blob_write(&w, block, (size_t)n, e);
		if (r == 0)
			r = image_op_check(src->op, e);
	}
	if (r == 0 && n < 0)
		r = err_sys(e, (int)-n, "read '%s'", path);
	if (r == 0)
		r = blob_commit(&w, &d->digest, d->size, NULL, e);
	blob_abort(&w);
	if (r < 0)
		return err_wrap(e, r, "blob %s", d->digest.s);
	image_op_report(src->op, &done);
	return 0;
}

/* A manifest with all it names.  An index may lack some of its platforms, but not all. */
static int fetch_image(struct source *src, const struct image_desc *d, int depth, struct err **e)
{
	_cleanup_(doc_done) struct image_doc doc = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	size_t got = 0;
	int r = fetch_blob(src, d, e);

	if (r == 0)
		r = blob_read(src->s, &d->digest, MANIFEST_MAX, &text, e);
	if (r == 0)
		r = doc_parse(buf_str(&text), text.len, d->media_type, &doc, e);
	if (r < 0)
		return r;
	if (doc.kind == DOC_MANIFEST) {
		struct image_parts p = { 0 };

		r = fetch_blob(src, &doc.config, e);
		for (size_t i = 0; r == 0 && i < doc.list.n; i++)
			r = fetch_blob(src, &doc.list.v[i], e);
		if (r == 0)
			r = parts_read(src->s, d, NULL, &p, e); /* consistent? */
		parts_done(&p);
		return r;
	}
	if (depth > 3)
		return err_set(e, ELOOP, "image.document", "an index within an index, too deep");
	for (size_t i = 0; i < doc.list.n; i++) {
		_cleanup_(err_freep) struct err *why = NULL;

		r = fetch_image(src, &doc.list.v[i], depth + 1, &why);
		if (r == -ENOENT)
			continue;
		if (r < 0) {
			err_move(e, &why);
			return r;
		}
		got++;
	}
	return got || doc.list.n == 0
		       ? 0
		       : err_set(e, ENOENT, "image.blob_missing",
				 "index %s: none of its images is there", d->digest.s);
}

/* ---- names ---- */

static int add_name(struct source *src, const char *name, struct err **e)
{
	size_t n;
	char **v;

	if (!src->names)
		return 0;
	n = *src->names ? strv_len(*src->names) : 0;
	v = reallocarray(*src->names, n + 2, sizeof(char *));
	if (!v)
		return err_sys(e, ENOMEM, "import");
	*src->names = v;
	v[n] = strdup(name);
	v[n + 1] = NULL;
	return v[n] ? 0 : err_sys(e, ENOMEM, "import");
}

/* said: what the archive calls it, "" for nothing. */
static int full_name(struct source *src, const char *said, char out[REF_MAX], struct err **e)
{
	struct image_ref ref;
	char made[REF_MAX];
	size_t n = 0;

	if (src->o->name)
		said = src->o->name;
	if (!*said || (!src->o->name && !strchr(said, '/') && !strchr(said, ':'))) {
		/* a bare tag, as skopeo and umoci leave it: the file's name completes it */
		n = (size_t)snprintf(made, sizeof(made), "localhost/");
		for (const char *p = src->base; *p && n < 200; p++) {
			char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;

			if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
				made[n++] = c;
			else if (made[n - 1] != '-' && made[n - 1] != '/')
				made[n++] = '-';
		}
		while (n && (made[n - 1] == '-' || made[n - 1] == '/'))
			n--;
		snprintf(made + n, sizeof(made) - n, "%s:%.128s",
			 made[n ? n - 1 : 0] == 't' && n == 9 ? "/image" : "",
			 *said ? said : "latest");
		said = made;
	}
	if (ref_parse(said, &ref, e) < 0)
		return -EINVAL;
	memset(&ref.digest, 0, sizeof(ref.digest));
	if (!ref.tag[0])
		strcpy(ref.tag, "latest");
	ref_format(&ref, out);
	return 0;
}

static int name_image(struct source *src, struct image_desc *d, const char *said, struct err **e)
{
	int r = full_name(src, said, d->ref_name, e);

	if (r == 0)
		r = index_set(src->s, d, e);
	return r < 0 ? r : add_name(src, d->ref_name, e);
}

/* ---- OCI ---- */

static int import_oci(struct source *src, const char *text, size_t len, struct err **e)
{
	_cleanup_(doc_done) struct image_doc index = { 0 };
	int r = doc_parse(text, len, MT_OCI_INDEX, &index, e);

	if (r < 0)
		return err_wrap(e, r, "index.json");
	if (index.kind != DOC_INDEX || index.list.n == 0)
		return err_set(e, EBADMSG, "image.archive", "index.json names no images");
	if (src->o->name && index.list.n > 1)
		return err_set(e, EINVAL, "image.archive",
			       "the layout holds %zu images, so one name cannot be given to them",
			       index.list.n);
	for (size_t i = 0; i < index.list.n; i++) {
		struct image_desc *d = &index.list.v[i];

		if (!d->media_type[0])
			strcpy(d->media_type, MT_OCI_MANIFEST);
		r = fetch_image(src, d, 0, e);
		if (r == 0)
			r = name_image(src, d, d->ref_name, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- docker save ---- */

static int layer_desc(struct source *src, const char *path, struct image_desc *ret, struct err **e)
{
	static const char *const types[] = { MT_OCI_LAYER, MT_OCI_LAYER_GZ, MT_OCI_LAYER_ZSTD };
	struct member *m = find_member(src, path);
	_cleanup_(closep) int fd = -1;
	uint8_t head[16];
	ssize_t n;

	if (!m)
		return err_set(e, ENOENT, "image.archive",
			       "manifest.json names '%s', which is not there", path);
	fd = blob_open(src->s, &m->digest, e);
	if (fd < 0)
		return fd;
	n = fd_read(fd, head, sizeof(head));
	if (n < 0)
		return err_sys(e, (int)-n, "read '%s'", path);
	*ret = (struct image_desc){ .digest = m->digest, .size = m->size };
	strcpy(ret->media_type, types[compression_detect(head, (size_t)n)]);
	return 0;
}

static int import_docker_image(struct source *src, const struct json_in *item, struct err **e)
{
	_cleanup_(strv_freep) char **layers = NULL, **tags = NULL;
	_cleanup_(config_done) struct image_config config = { 0 };
	struct image_desc cd = { 0 }, md = { 0 }, *list = NULL;
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *path = NULL;
	struct member *m;
	size_t n = 0;
	int r = json_need_str(item, "Config", &path, e);

	if (r == 0)
		r = json_need_strv(item, "Layers", &layers, e);
	if (r == 0)
		r = json_opt_strv(item, "RepoTags", &tags, e);
	if (r < 0)
		return r;
	m = find_member(src, path);
	if (!m)
		return err_set(e, ENOENT, "image.archive",
			       "manifest.json names '%s', which is not there", path);
	r = blob_read(src->s, &m->digest, MANIFEST_MAX, &text, e);
	if (r == 0)
		r = config_parse(buf_str(&text), text.len, &config, e);
	n = layers ? strv_len(layers) : 0;
	if (r == 0 && (n != config.diff_ids.n || n == 0))
		r = err_set(e, EBADMSG, "image.archive", "'%s' has %zu layers, manifest.json %zu",
			    path, config.diff_ids.n, n);
	if (r < 0)
		return r;
	cd.digest = m->digest;
	cd.size = m->size;
	strcpy(cd.media_type, MT_OCI_CONFIG);
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return err_sys(e, ENOMEM, "import");
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = layer_desc(src, layers[i], &list[i], e);
		if (r == 0 && streq(list[i].media_type, MT_OCI_LAYER) &&
		    digest_alg(&list[i].digest) == digest_alg(&config.diff_ids.v[i]) &&
		    !digest_eq(&list[i].digest, &config.diff_ids.v[i]))
			r = err_set(e, EBADMSG, "image.digest",
				    "layer '%s' has the digest %s, its config says %s", layers[i],
				    list[i].digest.s, config.diff_ids.v[i].s);
	}
	buf_clear(&text);
	if (r == 0) {
		r = manifest_build(&cd, list, n, &text);
		if (r < 0)
			err_sys(e, -r, "import");
	}
	free(list);
	if (r == 0)
		r = blob_put(src->s, buf_str(&text), text.len, &md.digest, e);
	if (r < 0)
		return r;
	strcpy(md.media_type, MT_OCI_MANIFEST);
	md.size = text.len;
	md.platform = config.platform;
	if (src->o->name || !tags || !tags[0])
		return name_image(src, &md, "", e);
	for (char **t = tags; r == 0 && *t; t++)
		r = name_image(src, &md, *t, e);
	return r;
}

static int import_docker(struct source *src, const char *text, size_t len, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	struct json_in root;
	int r = json_parse(text, len, NULL, &v, e);

	if (r < 0)
		return err_wrap(e, r, "manifest.json");
	root = json_in(v, "manifest.json");
	r = json_in_is(&root, JSON_K_ARRAY, e);
	if (r == 0 && json_in_len(&root) == 0)
		r = err_set(e, EBADMSG, "image.archive", "manifest.json names no images");
	if (r == 0 && src->o->name && json_in_len(&root) > 1)
		r = err_set(e, EINVAL, "image.archive",
			    "the archive holds several images: one name cannot be given");
	for (size_t i = 0; r == 0 && i < json_in_len(&root); i++) {
		struct json_in item = json_in_item(&root, i);

		r = import_docker_image(src, &item, e);
	}
	return r;
}

/* ---- telling them apart ---- */

/* Image archives hold nothing but these at their top; a root file system has none of them. */
static bool looks_like_archive(const char *path)
{
	size_t hex;

	while (str_starts(path, "./"))
		path += 2;
	hex = strspn(path, "0123456789abcdef");
	return streq(path, "oci-layout") || streq(path, "index.json") ||
	       streq(path, "manifest.json") || streq(path, "repositories") ||
	       str_starts(path, "blobs/") || streq(path, "blobs") || hex == 64;
}

static int sniff(int fd, bool *archive, struct err **e)
{
	_cleanup_(untar_freep) struct untar *tar = NULL;
	struct untar_options o = { .filters = true };
	struct untar_entry te;
	int r = untar_new(&o, layer_read_fd, &fd, &tar, e);

	*archive = false;
	while (r >= 0 && (r = untar_next(tar, &te, e)) == 1) {
		if (!te.path || streq(te.path, ".") || streq(te.path, "./"))
			continue;
		*archive = looks_like_archive(te.path);
		break;
	}
	if (r == 0)
		return err_set(e, EBADMSG, "image.archive", "it is empty");
	if (r > 0 && lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, errno, "rewind");
	return r < 0 ? r : 0;
}

static int import_tar(struct source *src, int fd, struct err **e)
{
	_cleanup_(untar_freep) struct untar *tar = NULL;
	struct untar_options o = { .filters = true };
	_cleanup_(buf_done) struct buf text = { 0 };
	struct member *m;
	int r = untar_new(&o, layer_read_fd, &fd, &tar, e);

	if (r == 0)
		r = ingest_all(src, tar, e);
	if (r < 0)
		return r;
	m = find_member(
		src,
		"manifest.json"); /* a docker save of today is also an OCI layout; this has the tags */
	if (m) {
		r = blob_read(src->s, &m->digest, MANIFEST_MAX, &text, e);
		return r < 0 ? r : import_docker(src, buf_str(&text), text.len, e);
	}
	m = find_member(src, "index.json");
	if (!m)
		return err_set(e, EBADMSG, "image.archive",
			       "neither manifest.json nor index.json in it");
	r = blob_read(src->s, &m->digest, MANIFEST_MAX, &text, e);
	return r < 0 ? r : import_oci(src, buf_str(&text), text.len, e);
}

static int import_dir(struct source *src, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(closep) int fd = open_beneath(src->dir, "index.json", O_RDONLY | O_NOFOLLOW, 0);
	int r;

	if (fd < 0)
		return err_sys(e, -fd, "open 'index.json'");
	r = fd_read_all(fd, MANIFEST_MAX, &text, e);
	return r < 0 ? r : import_oci(src, buf_str(&text), text.len, e);
}

int archive_import(struct image_store *s, const char *path, const struct import_options *o,
		   struct image_op *op, char ***names, struct err **e)
{
	_cleanup_(source_done) struct source src = {
		.s = s, .op = op, .o = o, .dir = -1, .names = names
	};
	_cleanup_(closep) int lock = -1, fd = -1;
	_cleanup_(freep) char *copy = strdup(path);
	struct stat st;
	bool archive;
	int r;

	if (!copy || hmap_init(&src.members) < 0)
		return err_sys(e, ENOMEM, "import '%s'", path);
	while (strlen(copy) > 1 && str_ends(copy, "/"))
		copy[strlen(copy) - 1] = '\0';
	src.base = strrchr(copy, '/') ? strrchr(copy, '/') + 1 : copy;
	lock = store_lock(s, "lock", LOCK_SH, op, e);
	if (lock < 0)
		return lock;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, errno, "import '%s'", path);
	if (S_ISDIR(st.st_mode)) {
		src.dir = TAKE_FD(fd);
		r = import_dir(&src, e);
	} else {
		r = sniff(fd, &archive, e);
		if (r == 0 && !archive) {
			char name[REF_MAX];

			lock = safe_close(lock); /* the other importer takes it itself */
			r = full_name(&src, "", name, e);
			if (r == 0) {
				struct import_options ro = *o;

				ro.name = name;
				r = archive_import_root(s, fd, &ro, "imported root tarball", op, e);
			}
			if (r == 0)
				r = add_name(&src, name, e);
		} else if (r == 0) {
			r = import_tar(&src, fd, e);
		}
	}
	return r < 0 ? err_wrap(e, r, "import '%s'", path) : 0;
}
