/* index.json: the names of images.  Edited as a tree, so that what other tools put there stays. */
#include "image/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include "base/atomicfile.h"
#include "base/fault.h"
#include "image/ref.h"

static int index_text(struct image_store *s, struct buf *ret, struct err **e)
{
	int r = file_read(s->dir, "index.json", 64 * MIB, ret, e);

	return r < 0 ? err_wrap(e, r, "image store '%s'", s->path) : 0;
}

int index_read(struct image_store *s, struct image_doc *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	int r = index_text(s, &text, e);

	if (r == 0)
		r = doc_parse(buf_str(&text), text.len, MT_OCI_INDEX, ret, e);
	return r < 0 ? err_wrap(e, r, "'%s/index.json'", s->path) : 0;
}

static const char *entry_name(const struct json *entry)
{
	const char *n = json_str(json_walk(entry, "annotations", ANNOTATION_REF, (char *)NULL));

	return n ? n : "";
}

/* Removes name, adds `add` (taken) when it is not NULL.  *removed: how many had the name. */
static int index_edit(struct image_store *s, const char *name, struct json *add, size_t *removed,
		      struct err **e)
{
	_cleanup_(json_freep) struct json *root = NULL, *mine = add;
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(closep) int lock = store_lock(s, "index.lock", LOCK_EX, NULL, e);
	struct json *list;
	int r;

	if (lock < 0)
		return lock;
	r = index_text(s, &text, e);
	if (r == 0)
		r = json_parse(buf_str(&text), text.len, NULL, &root, e);
	if (r < 0)
		return err_wrap(e, r, "'%s/index.json'", s->path);
	list = json_edit(root, "manifests");
	if (json_kind(list) != JSON_K_ARRAY)
		return err_set(e, EBADMSG, "image.document",
			       "'%s/index.json' has no list of manifests", s->path);
	*removed = 0;
	for (size_t i = json_len(list); i-- > 0;) {
		if (streq(entry_name(json_at(list, i)), name)) {
			json_remove_at(list, i);
			++*removed;
		}
	}
	if (mine && json_push(list, TAKE(mine)) < 0)
		return err_sys(e, ENOMEM, "index");
	if (!add && *removed == 0)
		return 0;
	buf_clear(&text);
	if (json_print(root, JSON_PRETTY, &text) < 0)
		return err_sys(e, ENOMEM, "index");
	r = FAULT_POINT("image.index");
	if (r < 0)
		return err_sys(e, -r, "write index.json");
	return file_write_atomic(s->dir, "index.json", buf_str(&text), text.len, 0644, e);
}

int index_set(struct image_store *s, const struct image_desc *d, struct err **e)
{
	struct json *entry = desc_build(d);
	size_t removed;

	if (!entry)
		return err_sys(e, ENOMEM, "index");
	return index_edit(s, d->ref_name, entry, &removed, e);
}

int index_remove(struct image_store *s, const char *name, struct err **e)
{
	size_t removed = 0;
	int r = index_edit(s, name, NULL, &removed, e);

	if (r == 0 && removed == 0)
		return err_set(e, ENOENT, "image.missing", "there is no image '%s'", name);
	return r;
}

int index_find(struct image_store *s, const char *name, struct image_desc *ret, struct err **e)
{
	_cleanup_(doc_done) struct image_doc doc = { 0 };
	char full[REF_MAX] = "";
	struct image_ref ref;
	const struct image_desc *d, *found = NULL;
	size_t n = strlen(name);
	bool hex = n >= 4 && n <= 64 && strspn(name, "0123456789abcdef") == n;
	int r = index_read(s, &doc, e);

	if (r < 0)
		return r;
	if (ref_parse(name, &ref, NULL) == 0)
		ref_name(&ref, full);
	vec_for_each(d, &doc.list) {
		bool named = d->ref_name[0] &&
			     (streq(d->ref_name, name) || streq(d->ref_name, full));

		if (named && !digest_empty(&ref.digest) && full[0] &&
		    !digest_eq(&ref.digest, &d->digest))
			named = false;
		if (named) {
			*ret = *d;
			return 0;
		}
		if (streq(d->digest.s, name) ||
		    (hex && strncmp(digest_hex(&d->digest), name, n) == 0)) {
			if (found && !digest_eq(&found->digest, &d->digest))
				return err_set(e, EEXIST, "image.ambiguous",
					       "'%s' names several images", name);
			found = d;
		}
	}
	if (!found)
		return err_set(e, ENOENT, "image.missing", "there is no image '%s' in '%s'", name,
			       s->path);
	*ret = *found;
	return 0;
}
