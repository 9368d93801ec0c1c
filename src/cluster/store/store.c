/* Dispatch to the store that was opened; see cluster/cluster.h. */
#include "cluster/store/store_ops.h"

int store_load(struct store *s, store_each_fn *fn, void *arg, struct err **e)
{
	return s->ops->load(s, fn, arg, e);
}

int store_apply(struct store *s, const struct store_change *changes, size_t n, struct err **e)
{
	return s->ops->apply(s, changes, n, e);
}

int store_apply_soon(struct store *s, const struct store_change *changes, size_t n, struct err **e)
{
	return (s->ops->apply_soon ? s->ops->apply_soon : s->ops->apply)(s, changes, n, e);
}

int store_backup(struct store *s, const char *path, struct err **e)
{
	if (!s->ops->backup)
		return err_set(e, ENOTSUP, "store.backup", "a %s store is not backed up to a file",
			       s->ops->name);
	return s->ops->backup(s, path, e);
}

void store_free(struct store *s)
{
	if (s)
		s->ops->close(s);
}

int store_refuse_exists(const struct store_record *r, struct err **e)
{
	return err_set(e, EEXIST, "object.exists", "%s '%s' exists already", r->type, r->name);
}

int store_refuse_changed(const struct store_record *r, int64_t expect, int64_t found,
			 struct err **e)
{
	return err_set(e, ESTALE, "object.changed",
		       "%s '%s' was changed meanwhile (revision %lld, not %lld)",
		       r->type ? r->type : "object", r->name ? r->name : r->id, (long long)found,
		       (long long)expect);
}

int store_refuse_missing(const struct store_record *r, struct err **e)
{
	return err_set(e, ENOENT, "object.missing", "there is no %s '%s'",
		       r->type ? r->type : "object", r->name ? r->name : r->id);
}
