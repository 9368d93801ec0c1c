/* Pulling: manifest, config, then all layers at once; and listing tags. */
#include "image/registry.h"

#include <inttypes.h>
#include <sys/file.h>
#include "image/crew.h"
#include "image/session.h"
#include "image/unpack.h"

#define PARALLEL	      6
#define PROGRESS_KEEPS_TRYING (64 * KIB)	 /* a try that brought so much does not count */
#define WRITE_BUF	      ((size_t)64 * KIB) /* the client delivers a quarter of it at once */

static const char *const accept_manifests[] = {
	"Accept: " MT_OCI_INDEX ", " MT_OCI_MANIFEST ", " MT_DOCKER_INDEX ", " MT_DOCKER_MANIFEST,
	NULL,
};

/* ---- one blob ---- */

enum dl_state { DL_IDLE, DL_RUNNING, DL_ENDED, DL_WAITING, DL_DONE };

struct download {
	struct session *ses;
	struct image_store *s;
	const struct image_desc *desc;
	struct crew *crew; /* who unpacks it as it comes; NULL: nobody */
	size_t index;	   /* for the crew */
	enum dl_state state;
	struct http_request req;
	struct blob_writer w;
	struct buf pending; /* received, not written yet; less than WRITE_BUF */
	bool writing, reused, authorized;
	unsigned int tries, mismatches;
	uint64_t got, reported; /* this try; all tries */
	nsec_t again;
	int result;
	struct err *err;
	char url[1024], range[64];
	const char *headers[4];
};

/* What came is not good. */
static int dl_restart(struct download *d, struct err **e)
{
	buf_clear(&d->pending);
	if (d->crew)
		crew_restart(d->crew, d->index);
	return blob_restart(&d->w, e);
}

static int dl_response(struct http_request *r, struct err **e)
{
	struct download *d = r->arg;
	char text[128];
	uint64_t from;

	if (r->status == 200 && d->w.size)
		return dl_restart(d, e); /* it cannot resume */
	if (r->status == 200)
		return 0;
	if (r->status == 206) {
		if (!http_header(r, "Content-Range", text, sizeof(text)) ||
		    sscanf(text, "bytes %" SCNu64 "-", &from) != 1 || from != d->w.size)
			return err_set(e, EBADMSG, "registry.range",
				       "the registry resumes at the wrong place");
		return 0;
	}
	return -EREMOTEIO; /* looked at in dl_settle(), with the status */
}

static int dl_flush(struct download *d, struct err **e)
{
	int r = d->pending.len ? blob_write(&d->w, d->pending.s, d->pending.len, e) : 0;

	buf_clear(&d->pending);
	if (r == 0 && d->crew)
		crew_advance(d->crew, d->index, d->w.size);
	return r;
}

static int dl_data(struct http_request *r, const void *data, size_t len, struct err **e)
{
	struct download *d = r->arg;
	struct image_progress p = { IMAGE_DOWNLOAD, d->desc->digest.s, 0, d->desc->size, false,
				    false };

	if (len > d->desc->size - MIN(d->w.size + d->pending.len, d->desc->size))
		return err_set(e, EBADMSG, "image.size",
			       "the registry sends more than the %llu bytes it announced",
			       (unsigned long long)d->desc->size);
	d->got += len;
	p.done = d->w.size + d->pending.len + len;
	if (p.done - d->reported >= MIB) {
		d->reported = p.done;
		image_op_report(d->ses->op, &p);
	}
	if (buf_add(&d->pending, data, len) < 0)
		return err_sys(e, ENOMEM, "download");
	return d->pending.len < WRITE_BUF ? 0 : dl_flush(d, e);
}

static void dl_done(struct http_request *r, int result, struct err *e)
{
	struct download *d = r->arg;

	d->state = DL_ENDED;
	d->result = result;
	err_clear(&d->err);
	if (e)
		err_set(&d->err, err_num(e), err_id(e), "%s", err_msg(e));
	result = dl_flush(d, d->err ? NULL
				    : &d->err); /* also of a try that was cut: the next resumes */
	if (d->result == 0)
		d->result = result;
}

static void dl_finish(struct download *d, int result)
{
	struct image_progress p = { IMAGE_DOWNLOAD, d->desc->digest.s, d->desc->size, d->desc->size,
				    true,	    d->reused };

	if (d->writing)
		blob_abort(&d->w);
	d->writing = false;
	d->state = DL_DONE;
	d->result = result;
	if (result < 0)
		return;
	if (d->crew)
		crew_ready(d->crew, d->index);
	image_op_report(d->ses->op, &p);
}

static void dl_pause(struct download *d, nsec_t pause)
{
	d->state = DL_WAITING;
	d->again = now_mono() + pause;
}

static void dl_commit(struct download *d)
{
	int r;

	err_clear(&d->err);
	r = blob_commit(&d->w, &d->desc->digest, d->desc->size, NULL, &d->err);
	d->writing = false;
	if (r == -EBADMSG && ++d->mismatches < 3) { /* spoiled on the way, perhaps */
		if (d->crew)
			crew_restart(d->crew, d->index);
		dl_pause(d, session_pause(NULL, d->mismatches));
		return;
	}
	dl_finish(d, r);
}

static void dl_start(struct download *d)
{
	size_t k = 0;
	int r;

	err_clear(&d->err);
	if (!d->writing) {
		if (blob_exists(d->s, &d->desc->digest, d->desc->size)) {
			d->reused = d->got == 0;
			dl_finish(d, 0);
			return;
		}
		r = blob_begin(d->s, &d->desc->digest, &d->w, &d->err);
		if (r == -EBUSY) { /* another process fetches the same: look again soon */
			dl_pause(d, 100 * NSEC_PER_MSEC);
			return;
		}
		if (r < 0) {
			dl_finish(d, r);
			return;
		}
		d->writing = true;
		if (d->crew)
			crew_arrives(d->crew, d->index, d->w.fd, d->w.size);
	}
	if (d->w.size > d->desc->size)
		dl_restart(d, NULL);
	if (d->w.size == d->desc->size) {
		dl_commit(d);
		return;
	}
	if (d->ses->authorization[0])
		d->headers[k++] = d->ses->authorization;
	if (d->w.size) {
		snprintf(d->range, sizeof(d->range), "Range: bytes=%llu-",
			 (unsigned long long)d->w.size);
		d->headers[k++] = d->range;
	}
	d->headers[k] = NULL;
	snprintf(d->url, sizeof(d->url), "%s/v2/%s/blobs/%s", d->ses->base, d->ses->ref.path,
		 d->desc->digest.s);
	d->got = 0;
	http_request_done(&d->req);
	d->req = (struct http_request){ .url = d->url,
					.headers = (char *const *)d->headers,
					.body_fd = -1,
					.response = dl_response,
					.data = dl_data,
					.done = dl_done,
					.arg = d };
	d->state = DL_RUNNING;
	r = http_start(d->ses->client, &d->req, &d->err);
	if (r < 0)
		dl_finish(d, r);
}

/* A request has ended: take it, try again, or give up. */
static void dl_settle(struct download *d)
{
	unsigned int max = d->ses->o && d->ses->o->tries ? d->ses->o->tries : 6;
	char header[2048];
	long status = d->req.status;

	if (d->result == 0 && (status == 200 || status == 206) && d->w.size == d->desc->size) {
		dl_commit(d);
		return;
	}
	if (d->result == 0 && (status == 200 || status == 206)) { /* ended early, politely */
		d->result = err_set(&d->err, ECONNRESET, "registry.short",
				    "the registry sent %llu of %llu bytes",
				    (unsigned long long)d->w.size,
				    (unsigned long long)d->desc->size);
	} else if (d->result == 0 || d->result == -EREMOTEIO) {
		err_clear(&d->err);
		if (status == 401 && !d->authorized &&
		    http_header(&d->req, "WWW-Authenticate", header, sizeof(header))) {
			d->authorized =
				true; /* a token lasts minutes, a download may last longer */
			if (session_authorize(d->ses, header, &d->err) == 0) {
				dl_start(d);
				return;
			}
			err_clear(&d->err);
		}
		if (status == 416 && d->w.size) {
			dl_restart(d, NULL);
			dl_start(d);
			return;
		}
		d->result = 0;
		if (!session_transient(0, status)) {
			dl_finish(d, session_status_error(d->ses, &d->req, "download", &d->err));
			return;
		}
	}
	if (d->got >= PROGRESS_KEEPS_TRYING) {
		d->tries = 0;
		d->authorized = false;
	}
	if ((d->result == -EBADMSG || session_transient(d->result, status)) && ++d->tries < max) {
		if (d->result == -EBADMSG)
			dl_restart(d, NULL);
		dl_pause(d, session_pause(&d->req, d->tries));
		return;
	}
	if (d->result == 0)
		d->result = session_status_error(d->ses, &d->req, "download", &d->err);
	dl_finish(d, d->result);
}

static void dl_free(struct download *d)
{
	http_request_done(&d->req);
	d->crew = NULL; /* gone by now */
	if (d->writing) {
		dl_flush(d, NULL);
		blob_abort(&d->w);
	}
	buf_done(&d->pending);
	err_free(d->err);
}

/* Run downloads until all are done or one fails, or the crew (may be NULL) does: -ECANCELED then. */
static int run_downloads(struct session *ses, struct download *list, size_t n, struct crew *crew,
			 struct err **e)
{
	unsigned int parallel = ses->o && ses->o->parallel ? ses->o->parallel : PARALLEL;

	for (;;) {
		nsec_t wake = NSEC_FOREVER;
		unsigned int running = 0;
		size_t left = 0;
		int r;

		for (size_t i = 0; i < n; i++)
			running += list[i].state == DL_RUNNING || list[i].state == DL_WAITING;
		for (size_t i = 0; i < n; i++) {
			struct download *d = &list[i];
			bool was_done = d->state == DL_DONE;

			if (d->state == DL_ENDED)
				dl_settle(d);
			if (d->state == DL_WAITING && now_mono() >= d->again)
				dl_start(d);
			if (d->state == DL_IDLE && running < parallel) {
				dl_start(d);
				running++;
			}
			if (d->state == DL_DONE && !was_done && d->result < 0) {
				err_move(e, &d->err);
				return err_wrap(e, d->result, "blob %.19s", d->desc->digest.s);
			}
			left += d->state != DL_DONE;
			if (d->state == DL_WAITING)
				wake = MIN(wake, d->again);
			if (d->state == DL_IDLE && running < parallel)
				wake = 0;
		}
		if (left == 0)
			return 0;
		if (crew && crew_failed(crew))
			return -ECANCELED;
		r = image_op_check(ses->op, e);
		if (r < 0)
			return r;
		r = loop_once(ses->loop, CLAMP(wake - now_mono(), 0, 100 * NSEC_PER_MSEC));
		if (r < 0)
			return err_sys(e, -r, "registry");
	}
}

/* ---- manifests ---- */

/* Into the store, verified; *d gets media type, digest and size. */
static int fetch_manifest(struct session *ses, struct image_store *s, const char *selector,
			  struct image_desc *d, struct image_doc *doc, struct err **e)
{
	_cleanup_(http_request_done) struct http_request r = { .body_fd = -1,
							       .collect = MANIFEST_MAX };
	struct digest want = { 0 }, said = { 0 }, is;
	uint8_t raw[HASH_MAX];
	char url[1024], text[256] = "", type[256] = "";
	struct blob_writer w;
	int k;

	snprintf(url, sizeof(url), "/v2/%s/manifests/%s", ses->ref.path, selector);
	r.url = url;
	digest_parse(selector, &want);
	k = session_call(ses, &r, accept_manifests, e);
	if (k == 0 && r.status != 200)
		k = session_status_error(ses, &r, "manifest", e);
	if (k < 0)
		return k;
	if (http_header(&r, "Docker-Content-Digest", text, sizeof(text)))
		digest_parse(text, &said);
	if (digest_empty(&want))
		want = said;
	hash_data(digest_alg(&want), buf_str(&r.text), r.text.len, raw);
	digest_from_hash(digest_empty(&want) ? HASH_SHA256 : digest_alg(&want), raw, &is);
	if (!digest_empty(&want) && !digest_eq(&want, &is))
		return err_set(e, EBADMSG, "image.digest",
			       "the manifest has the digest %s instead of %s", is.s, want.s);
	if (http_header(&r, "Content-Type", type, sizeof(type)))
		type[strcspn(type, "; ")] = '\0';
	k = doc_parse(buf_str(&r.text), r.text.len, type, doc, e);
	if (k < 0)
		return k;
	k = blob_begin(s, NULL, &w, e);
	if (k < 0)
		return k;
	hash_init(&w.hash, digest_alg(&is));
	k = blob_write(&w, buf_str(&r.text), r.text.len, e);
	if (k == 0)
		k = blob_commit(&w, &is, r.text.len, NULL, e);
	blob_abort(&w);
	*d = (struct image_desc){ .digest = is, .size = r.text.len };
	strcpy(d->media_type, doc->media_type);
	return k;
}

static int resolve(struct session *ses, struct image_store *s, struct image_desc *d,
		   struct image_doc *doc, struct err **e)
{
	struct image_platform host;
	const struct image_platform *want = ses->o && ses->o->platform ? ses->o->platform : &host;
	int r = fetch_manifest(ses, s, ref_selector(&ses->ref), d, doc, e);

	platform_host(&host);
	for (int hops = 0; r == 0 && doc->kind == DOC_INDEX; hops++) {
		struct image_desc next;

		if (hops == 4)
			return err_set(e, ELOOP, "image.document",
				       "an index within an index, too deep");
		r = doc_pick(doc, want, &next, e);
		if (r < 0)
			return r;
		doc_done(doc);
		r = fetch_manifest(ses, s, next.digest.s, d, doc, e);
		d->platform = next.platform;
	}
	return r;
}

/* ---- pull ---- */

struct pull {
	struct session *ses;
	struct image_store *s;
	struct image_parts parts;
};

static int pull_config(struct pull *p, struct err **e)
{
	struct download d = { .ses = p->ses, .s = p->s, .desc = &p->parts.manifest.config };
	struct image_desc desc = p->parts.desc;
	int r;

	if (d.desc->size > MANIFEST_MAX)
		return err_set(e, EFBIG, "image.document", "the config has %llu bytes",
			       (unsigned long long)d.desc->size);
	r = run_downloads(p->ses, &d, 1, NULL, e);
	dl_free(&d);
	if (r < 0)
		return r;
	doc_done(&p->parts.manifest);
	r = parts_read(p->s, &desc, p->ses->o ? p->ses->o->platform : NULL, &p->parts, e);
	p->parts.desc = desc;
	return r;
}

static int pull_layers(struct pull *p, struct pull_result *res, struct err **e)
{
	size_t n = p->parts.manifest.list.n;
	struct download *list = calloc(n + 1, sizeof(*list));
	struct crew *crew = NULL;
	int r = list ? 0 : err_sys(e, ENOMEM, "pull");

	if (r == 0 && !(p->ses->o && p->ses->o->no_unpack))
		r = crew_new(p->s, &p->parts, p->ses->op, &crew, e);
	if (r < 0) {
		free(list);
		return r;
	}
	/* the same layer twice in one image: the second waits for the first, then finds it there */
	for (size_t i = 0; i < n; i++)
		list[i] = (struct download){ .ses = p->ses,
					     .s = p->s,
					     .desc = &p->parts.manifest.list.v[i],
					     .crew = crew,
					     .index = i };
	r = run_downloads(p->ses, list, n, crew, e);
	if (crew) {
		bool failed = crew_failed(crew);
		int k = crew_join(crew, r < 0 && !failed, e);

		r = failed || r == 0 ? k : r;
	}
	for (size_t i = 0; i < n; i++) {
		res->reused += list[i].reused;
		res->fetched += !list[i].reused;
		res->fetched_bytes += list[i].reused ? 0 : list[i].desc->size;
		dl_free(&list[i]);
	}
	free(list);
	if (r == 0 && crew)
		r = unpack_finish(p->s, &p->parts, p->ses->op, e);
	return r;
}

static int pull_from(struct image_store *s, const struct image_ref *ref, const char *host,
		     const struct registry_options *o, struct image_op *op, struct pull_result *res,
		     struct err **e)
{
	_cleanup_(session_close) struct session ses = { 0 };
	struct pull p = { .ses = &ses, .s = s };
	int r = session_open(&ses, ref, host, o, op, e);

	*res = (struct pull_result){ 0 };
	if (r == 0)
		r = resolve(&ses, s, &p.parts.desc, &p.parts.manifest, e);
	if (r == 0)
		r = pull_config(&p, e);
	if (r == 0)
		r = pull_layers(&p, res, e);
	if (r == 0) {
		p.parts.desc.platform = p.parts.config.platform;
		ref_name(ref, p.parts.desc.ref_name);
		r = index_set(s, &p.parts.desc, e);
	}
	res->desc = p.parts.desc;
	parts_done(&p.parts);
	return r;
}

int registry_pull(struct image_store *s, const struct image_ref *ref,
		  const struct registry_options *o, struct image_op *op, struct pull_result *ret,
		  struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, op, e);
	char name[REF_MAX];
	int r;

	if (lock < 0)
		return lock;
	for (const char *const *m = o ? o->mirrors : NULL; m && *m; m++) {
		r = pull_from(s, ref, *m, o, op, ret, NULL);
		if (r == 0 || r == -ECANCELED)
			return r < 0 ? err_set(e, ECANCELED, "image.cancelled", "cancelled") : 0;
	}
	r = pull_from(s, ref, ref->domain, o, op, ret, e);
	return r < 0 ? err_wrap(e, r, "pull '%s'", ref_format(ref, name)) : 0;
}

/* ---- tags ---- */

static int add_tags(const struct json *list, char ***ret, size_t *n, struct err **e)
{
	for (size_t i = 0; i < json_len(list); i++) {
		const char *tag = json_str(json_at(list, i));
		char **v;

		if (!tag || *n > 100000)
			return err_set(e, EBADMSG, "registry.tags", "the list of tags is damaged");
		v = reallocarray(*ret, *n + 2, sizeof(char *));
		if (!v)
			return err_sys(e, ENOMEM, "tags");
		*ret = v;
		v[*n] = strdup(tag);
		v[++*n] = NULL;
		if (!v[*n - 1])
			return err_sys(e, ENOMEM, "tags");
	}
	return 0;
}

int registry_tags(const struct image_ref *ref, const struct registry_options *o,
		  struct image_op *op, char ***ret, struct err **e)
{
	_cleanup_(session_close) struct session ses = { 0 };
	_cleanup_(strv_freep) char **tags = calloc(1, sizeof(char *));
	char url[2048], link[1024];
	size_t n = 0;
	int r = tags ? session_open(&ses, ref, ref->domain, o, op, e) : err_sys(e, ENOMEM, "tags");

	snprintf(url, sizeof(url), "/v2/%s/tags/list?n=1000", ref->path);
	for (int page = 0; r == 0 && url[0] && page < 1000; page++) {
		_cleanup_(http_request_done) struct http_request q = { .body_fd = -1,
								       .collect = 16 * MIB,
								       .url = url };
		_cleanup_(json_freep) struct json *v = NULL;

		r = session_call(&ses, &q, NULL, e);
		if (r == 0 && q.status != 200)
			r = session_status_error(&ses, &q, "tags", e);
		if (r == 0)
			r = json_parse(buf_str(&q.text), q.text.len, NULL, &v, e);
		if (r == 0)
			r = add_tags(json_get(v, "tags"), &tags, &n, e);
		url[0] = '\0'; /* Link: </v2/…?last=x&n=1000>; rel="next" */
		if (r == 0 && http_header(&q, "Link", link, sizeof(link)) &&
		    str_starts(link, "</") && strchr(link, '>')) {
			*strchr(link, '>') = '\0';
			snprintf(url, sizeof(url), "%s", link + 1);
		}
	}
	if (r < 0)
		return err_wrap(e, r, "tags of '%s/%s'", ref->domain, ref->path);
	*ret = TAKE(tags);
	return 0;
}
