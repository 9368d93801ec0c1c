/* Pushing: blobs that the registry lacks, by mount from another repository of its where possible, then the manifest. */
#include <fcntl.h>
#include <sys/file.h>
#include "image/session.h"

static int blob_present(struct session *ses, const struct digest *d, bool *ret, struct err **e)
{
	_cleanup_(http_request_done) struct http_request r = { .method = "HEAD", .body_fd = -1 };
	char url[1024];
	int k;

	snprintf(url, sizeof(url), "/v2/%s/blobs/%s", ses->ref.path, d->s);
	r.url = url;
	k = session_call(ses, &r, NULL, e);
	if (k == 0 && r.status != 200 && r.status != 404)
		k = session_status_error(ses, &r, "blob", e);
	*ret = r.status == 200;
	return k;
}

/* A repository of the same registry from which this store knows that it holds the blob. */
static bool mount_source(struct image_store *s, const struct image_ref *ref, const struct digest *d,
			 char *path, size_t len)
{
	_cleanup_(doc_done) struct image_doc index = { 0 };
	const struct image_desc *i, *l;

	if (index_read(s, &index, NULL) < 0)
		return false;
	vec_for_each(i, &index.list) {
		_cleanup_(parts_done) struct image_parts p = { 0 };
		struct image_ref other;

		if (ref_parse(i->ref_name, &other, NULL) < 0 || !streq(other.domain, ref->domain) ||
		    streq(other.path, ref->path) || parts_read(s, i, NULL, &p, NULL) < 0)
			continue;
		bool has = digest_eq(&p.manifest.config.digest, d);

		vec_for_each(l, &p.manifest.list)
			has |= digest_eq(&l->digest, d);
		if (has) {
			snprintf(path, len, "%s", other.path);
			return true;
		}
	}
	return false;
}

/* POST opens an upload (or mounts: 201), PUT brings all of it. */
static int upload(struct session *ses, struct image_store *s, const struct image_desc *d,
		  const char *from, struct push_result *res, struct err **e)
{
	_cleanup_(http_request_done) struct http_request open = { .method = "POST",
								  .body_fd = -1,
								  .has_body = true };
	_cleanup_(http_request_done) struct http_request put = { .method = "PUT",
								 .has_body = true };
	static const char *const type[] = { "Content-Type: application/octet-stream", NULL };
	struct image_progress p = { IMAGE_UPLOAD, d->digest.s, d->size, d->size, true, false };
	_cleanup_(closep) int fd = -1;
	char url[2048], location[1700];
	int r;

	if (from)
		snprintf(url, sizeof(url), "/v2/%s/blobs/uploads/?mount=%s&from=%s", ses->ref.path,
			 d->digest.s, from);
	else
		snprintf(url, sizeof(url), "/v2/%s/blobs/uploads/", ses->ref.path);
	open.url = url;
	open.body = "";
	open.collect = MIB;
	r = session_call(ses, &open, NULL, e);
	if (r < 0)
		return r;
	if (open.status == 201) {
		res->mounted++;
		p.reused = true;
		image_op_report(ses->op, &p);
		return 0;
	}
	if (open.status != 202)
		return session_status_error(ses, &open, "open an upload", e);
	if (!http_header(&open, "Location", location, sizeof(location)))
		return err_set(e, EBADMSG, "registry.upload",
			       "the registry names no place for the upload");
	snprintf(url, sizeof(url), "%s%sdigest=%s", location, strchr(location, '?') ? "&" : "?",
		 d->digest.s);
	fd = blob_open(s, &d->digest, e);
	if (fd < 0)
		return fd;
	put.url = url;
	put.body_fd = fd;
	put.body_len = d->size;
	put.collect = MIB;
	r = session_call(ses, &put, type, e);
	if (r == 0 && put.status != 201 && put.status != 204)
		r = session_status_error(ses, &put, "upload", e);
	if (r == 0) {
		res->uploaded++;
		image_op_report(ses->op, &p);
	}
	return r;
}

static int push_blob(struct session *ses, struct image_store *s, const struct image_desc *d,
		     struct push_result *res, struct err **e)
{
	struct image_progress p = { IMAGE_UPLOAD, d->digest.s, d->size, d->size, true, true };
	char from[256];
	bool there;
	int r = blob_present(ses, &d->digest, &there, e);

	if (r == 0 && there) {
		res->present++;
		image_op_report(ses->op, &p);
		return 0;
	}
	for (int n = 0; r == 0; n++) {
		_cleanup_(err_freep) struct err *why = NULL;

		r = upload(ses, s, d,
			   n == 0 && mount_source(s, &ses->ref, &d->digest, from, sizeof(from))
				   ? from
				   : NULL,
			   res, &why);
		if (r == 0)
			return 0;
		/* an upload that was cut leaves a dead session (404): open a new one */
		if (n < 2 && (r == -ENOENT || r == -ECONNRESET || r == -EIO)) {
			r = session_wait(ses, NULL, session_pause(NULL, (unsigned int)n + 1), e);
			continue;
		}
		err_move(e, &why);
		break;
	}
	return err_wrap(e, r, "blob %.19s", d->digest.s);
}

/* An index or a manifest: first what it names, then itself; top: under the tag. */
static int push_doc(struct session *ses, struct image_store *s, const struct image_desc *d,
		    bool top, int depth, struct push_result *res, struct err **e)
{
	_cleanup_(http_request_done) struct http_request q = {
		.method = "PUT", .body_fd = -1, .has_body = true, .collect = MIB
	};
	_cleanup_(doc_done) struct image_doc doc = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	char url[1024], type[192];
	const char *const headers[] = { type, NULL };
	int r = blob_read(s, &d->digest, MANIFEST_MAX, &text, e);

	if (r == 0)
		r = doc_parse(buf_str(&text), text.len, d->media_type[0] ? d->media_type : NULL,
			      &doc, e);
	if (r == 0 && depth > 4)
		r = err_set(e, ELOOP, "image.document", "an index within an index, too deep");
	for (size_t i = 0; r == 0 && i < doc.list.n; i++) {
		const struct image_desc *c = &doc.list.v[i];

		r = doc.kind == DOC_INDEX ? push_doc(ses, s, c, false, depth + 1, res, e)
					  : push_blob(ses, s, c, res, e);
	}
	if (r == 0 && doc.kind == DOC_MANIFEST)
		r = push_blob(ses, s, &doc.config, res, e);
	if (r < 0)
		return r;
	snprintf(type, sizeof(type), "Content-Type: %s", doc.media_type);
	snprintf(url, sizeof(url), "/v2/%s/manifests/%s", ses->ref.path,
		 top && ses->ref.tag[0] ? ses->ref.tag : d->digest.s);
	q.url = url;
	q.body = text.s;
	q.body_len = text.len;
	r = session_call(ses, &q, headers, e);
	if (r == 0 && q.status != 201 && q.status != 200)
		r = session_status_error(ses, &q, "manifest", e);
	return r;
}

/* All that an index names must be here: a registry refuses an index of which it lacks parts. */
static int check_whole(struct image_store *s, const struct image_desc *d, struct err **e)
{
	_cleanup_(doc_done) struct image_doc doc = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	const struct image_desc *c;
	int r;

	if (!media_type_is_index(d->media_type))
		return 0;
	r = blob_read(s, &d->digest, MANIFEST_MAX, &text, e);
	if (r == 0)
		r = doc_parse(buf_str(&text), text.len, d->media_type, &doc, e);
	if (r < 0)
		return r;
	vec_for_each(c, &doc.list) {
		if (!blob_exists(s, &c->digest, UINT64_MAX))
			return err_set(
				e, ENOENT, "image.incomplete",
				"the store has not all that this index names (%s/%s is missing): push one "
				"platform of it",
				c->platform.os[0] ? c->platform.os : "an image", c->platform.arch);
	}
	return 0;
}

int registry_push(struct image_store *s, const char *name, const struct image_ref *ref,
		  const struct registry_options *o, struct image_op *op, struct push_result *ret,
		  struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, op, e);
	_cleanup_(session_close) struct session ses = { 0 };
	_cleanup_(parts_done) struct image_parts p = { 0 };
	struct push_result res = { 0 };
	struct image_desc d;
	char text[REF_MAX];
	int r = lock < 0 ? lock : index_find(s, name, &d, e);

	if (r == 0 && o && o->platform) {
		r = parts_read(s, &d, o->platform, &p, e);
		d = p.desc;
	} else if (r == 0) {
		r = check_whole(s, &d, e);
	}
	if (r == 0)
		r = session_open(&ses, ref, ref->domain, o, op, e);
	if (r == 0)
		r = push_doc(&ses, s, &d, true, 0, &res, e);
	if (r < 0)
		return err_wrap(e, r, "push '%s'", ref_format(ref, text));
	res.digest = d.digest;
	*ret = res;
	return 0;
}
