/* Store in SQLite: one table, one row an object.
 * A change is checked and made inside one transaction; WAL with full sync makes it durable. */
#include <string.h>
#include "base/vec.h"
#include "cluster/store/store_ops.h"
#include "ext/db.h"

struct sqlite_store {
	struct store base;
	struct db *db;
	bool soon; /* commits do not wait for the disk now */
};

static const char *const migrations[] = {
	"CREATE TABLE object ("
	"  id TEXT PRIMARY KEY, type TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,"
	"  revision INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (type, project, name)"
	") WITHOUT ROWID",
};

static struct sqlite_store *self(struct store *s)
{
	return container_of(s, struct sqlite_store, base);
}

static int load(struct store *s, store_each_fn *fn, void *arg, struct err **e)
{
	struct db_stmt *q = db_prepare(
		self(s)->db, "SELECT id, type, project, name, revision, body FROM object", e);
	int r;

	if (!q)
		return -EIO;
	while ((r = db_step(q, e)) > 0) {
		struct store_record rec = {
			.id = db_col_str(q, 0),
			.type = db_col_str(q, 1),
			.project = db_col_str(q, 2),
			.name = db_col_str(q, 3),
			.revision = db_col_int(q, 4),
			.body = db_col_str(q, 5),
		};

		r = fn(arg, &rec, e);
		if (r < 0)
			break;
	}
	db_reset(q);
	return MIN(r, 0);
}

/* The revision of an id; 0: none. */
static int revision_of(struct db *db, const char *id, int64_t *ret, struct err **e)
{
	struct db_stmt *q = db_prepare(db, "SELECT revision FROM object WHERE id = ?", e);
	int r;

	if (!q)
		return -EIO;
	db_bind_str(q, 1, id);
	r = db_step(q, e);
	*ret = r > 0 ? db_col_int(q, 0) : 0;
	db_reset(q);
	return MIN(r, 0);
}

static int put(struct db *db, const struct store_record *r, struct err **e)
{
	struct db_stmt *q = db_prepare(
		db,
		"INSERT INTO object (id, type, project, name, revision, body)"
		" VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
		" name = excluded.name, revision = excluded.revision, body = excluded.body",
		e);
	int ret;

	if (!q)
		return -EIO;
	db_bind_str(q, 1, r->id);
	db_bind_str(q, 2, r->type);
	db_bind_str(q, 3, r->project);
	db_bind_str(q, 4, r->name);
	db_bind_int(q, 5, r->revision);
	db_bind_str(q, 6, r->body);
	ret = db_run(q, NULL);
	if (ret == -EEXIST)
		return store_refuse_exists(r, e);
	return ret < 0 ? err_sys(e, -ret, "store %s '%s'", r->type, r->name) : 0;
}

static int delete (struct db *db, const struct store_record *r, struct err **e)
{
	struct db_stmt *q = db_prepare(db, "DELETE FROM object WHERE id = ?", e);

	if (!q)
		return -EIO;
	db_bind_str(q, 1, r->id);
	return db_run(q, e);
}

static int change(struct db *db, const struct store_change *c, struct err **e)
{
	int64_t found;
	int r = revision_of(db, c->record.id, &found, e);

	if (r < 0)
		return r;
	if (c->expect == 0 && found)
		return store_refuse_exists(&c->record, e);
	if (found == 0 && (c->expect > 0 || c->op == STORE_DELETE))
		return store_refuse_missing(&c->record, e);
	if (c->expect > 0 && found != c->expect)
		return store_refuse_changed(&c->record, c->expect, found, e);
	return c->op == STORE_PUT ? put(db, &c->record, e) : delete (db, &c->record, e);
}

static int apply_as(struct store *s, const struct store_change *changes, size_t n, bool soon,
		    struct err **e)
{
	struct sqlite_store *q = self(s);
	struct db *db = q->db;
	int r = 0;

	/* WAL keeps the order: a full commit takes those before it to the disk, too */
	if (q->soon != soon)
		r = db_exec(db, soon ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL", e);
	if (r == 0) {
		q->soon = soon;
		r = db_begin(db, e);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = change(db, &changes[i], e);
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return r;
}

static int apply(struct store *s, const struct store_change *changes, size_t n, struct err **e)
{
	return apply_as(s, changes, n, false, e);
}

static int apply_soon(struct store *s, const struct store_change *changes, size_t n, struct err **e)
{
	return apply_as(s, changes, n, true, e);
}

static int backup(struct store *s, const char *path, struct err **e)
{
	return db_backup(self(s)->db, path, e);
}

static void close_store(struct store *s)
{
	db_close(self(s)->db);
	free(self(s));
}

static const struct store_ops sqlite_ops = {
	.name = "sqlite",
	.load = load,
	.apply = apply,
	.apply_soon = apply_soon,
	.backup = backup,
	.close = close_store,
};

int store_open_sqlite(const char *path, struct store **ret, struct err **e)
{
	_cleanup_(db_closep) struct db *db = NULL;
	struct sqlite_store *s;
	int r = db_open(path, &db, e);

	if (r == 0)
		r = db_migrate(db, migrations, ARRAY_SIZE(migrations), e);
	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(e, ENOMEM, "open '%s'", path);
	s->base.ops = &sqlite_ops;
	s->db = TAKE(db);
	*ret = &s->base;
	return 0;
}
