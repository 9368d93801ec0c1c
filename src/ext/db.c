/* SQLite; see db.h. */
#include "ext/db.h"

#include <sqlite3.h>
#include <string.h>
#include "base/hmap.h"
#include "base/list.h"
#include "base/str.h"

struct db_stmt {
	struct hnode node;
	struct db *db;
	sqlite3_stmt *s;
	int bind_error;
	char sql[];
};

struct db {
	sqlite3 *h;
	struct hmap stmts;
	unsigned int depth; /* of db_begin() */
};

static int errno_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EBUSY;
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_READONLY:
		return EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return EACCES;
	case SQLITE_CANTOPEN:
		return ENOENT;
	case SQLITE_CONSTRAINT:
		return EEXIST;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return EINVAL;
	default:
		return EIO;
	}
}

static int fail(struct db *d, int rc, const char *what, struct err **e)
{
	int num = errno_of(rc);

	return err_set(e, num, num == EINVAL ? "db.corrupt" : "db.failed", "database: %s: %s", what,
		       d && d->h ? sqlite3_errmsg(d->h) : sqlite3_errstr(rc));
}

int db_exec(struct db *d, const char *sql, struct err **e)
{
	int rc = sqlite3_exec(d->h, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : fail(d, rc, sql, e);
}

/* Damage is found when the daemon starts, not when a page happens to be read. */
static int quick_check(struct db *d, struct err **e)
{
	struct db_stmt *s = db_prepare(d, "PRAGMA quick_check(1)", e);
	const char *answer;
	int r;

	if (!s)
		return -EINVAL;
	r = db_step(s, e);
	answer = r > 0 ? db_col_str(s, 0) : NULL;
	if (r >= 0 && (!answer || !streq(answer, "ok")))
		r = err_set(e, EINVAL, "db.corrupt", "database: damaged: %s",
			    answer ? answer : "no answer");
	db_reset(s);
	return MIN(r, 0);
}

int db_open(const char *path, struct db **ret, struct err **e)
{
	_cleanup_(db_closep) struct db *d = calloc(1, sizeof(*d));
	int r, rc;

	if (!d || hmap_init(&d->stmts) < 0)
		return err_sys(e, ENOMEM, "open database '%s'", path);
	rc = sqlite3_open_v2(path, &d->h,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
				     SQLITE_OPEN_EXRESCODE,
			     NULL);
	if (rc != SQLITE_OK) {
		r = fail(d, rc, "open", e);
		return err_wrap(e, r, "'%s'", path);
	}
	sqlite3_busy_timeout(d->h, 5000);
	r = db_exec(d, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON",
		    e);
	if (r == 0)
		r = quick_check(d, e);
	if (r < 0)
		return err_wrap(e, r, "'%s'", path);
	*ret = TAKE(d);
	return 0;
}

void db_close(struct db *d)
{
	struct hnode *n, *next;

	if (!d)
		return;
	for (n = hmap_walk(&d->stmts, NULL); n; n = next) {
		struct db_stmt *s = container_of(n, struct db_stmt, node);

		next = hmap_walk(&d->stmts, n);
		sqlite3_finalize(s->s);
		free(s);
	}
	hmap_done(&d->stmts);
	sqlite3_close(d->h);
	free(d);
}

static int get_version(struct db *d, int64_t *ret, struct err **e)
{
	struct db_stmt *s = db_prepare(d, "PRAGMA user_version", e);
	int r = s ? db_step(s, e) : -EIO;

	if (r > 0)
		*ret = db_col_int(s, 0);
	if (s)
		db_reset(s);
	return MIN(r, 0);
}

int db_migrate(struct db *d, const char *const *steps, unsigned int n_steps, struct err **e)
{
	int64_t version = 0;
	int r = get_version(d, &version, e);

	if (r < 0)
		return r;
	if (version < 0 || version > (int64_t)n_steps)
		return err_set(
			e, ENOTSUP, "db.newer",
			"database: made by a newer release (version %lld, this one knows %u)",
			(long long)version, n_steps);
	for (unsigned int i = (unsigned int)version; i < n_steps; i++) {
		char pragma[48];

		snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %u", i + 1);
		r = db_begin(d, e);
		if (r == 0)
			r = db_exec(d, steps[i], e);
		if (r == 0)
			r = db_exec(d, pragma, e);
		if (r == 0)
			r = db_commit(d, e);
		if (r < 0) {
			db_rollback(d);
			return err_wrap(e, r, "migration %u", i + 1);
		}
	}
	return 0;
}

int db_begin(struct db *d, struct err **e)
{
	int r = d->depth ? 0 : db_exec(d, "BEGIN IMMEDIATE", e);

	if (r == 0)
		d->depth++;
	return r;
}

int db_commit(struct db *d, struct err **e)
{
	int r;

	if (d->depth > 1) {
		d->depth--;
		return 0;
	}
	r = db_exec(d, "COMMIT", e);
	if (r < 0)
		db_rollback(d);
	d->depth = 0;
	return r;
}

void db_rollback(struct db *d)
{
	if (d->depth && !sqlite3_get_autocommit(d->h))
		db_exec(d, "ROLLBACK", NULL);
	d->depth = 0;
}

struct db_stmt *db_prepare(struct db *d, const char *sql, struct err **e)
{
	uint64_t hash = hash_str(sql);
	struct db_stmt *s;
	int rc;

	hmap_for_each(n, &d->stmts, hash) {
		s = container_of(n, struct db_stmt, node);
		if (streq(s->sql, sql)) {
			db_reset(s);
			return s;
		}
	}
	s = calloc(1, sizeof(*s) + strlen(sql) + 1);
	if (!s) {
		err_sys(e, ENOMEM, "database");
		return NULL;
	}
	strcpy(s->sql, sql);
	s->db = d;
	rc = sqlite3_prepare_v3(d->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->s, NULL);
	if (rc != SQLITE_OK) {
		fail(d, rc, sql, e);
		free(s);
		return NULL;
	}
	hmap_add(&d->stmts, &s->node, hash);
	return s;
}

void db_reset(struct db_stmt *s)
{
	sqlite3_reset(s->s);
	sqlite3_clear_bindings(s->s);
	s->bind_error = SQLITE_OK;
}

/* A bind that failed (out of memory, no such column) is reported by the next step. */
static void bound(struct db_stmt *s, int rc)
{
	if (rc != SQLITE_OK)
		s->bind_error = rc;
}

void db_bind_str(struct db_stmt *s, int i, const char *v)
{
	bound(s,
	      v ? sqlite3_bind_text(s->s, i, v, -1, SQLITE_TRANSIENT) : sqlite3_bind_null(s->s, i));
}

void db_bind_int(struct db_stmt *s, int i, int64_t v)
{
	bound(s, sqlite3_bind_int64(s->s, i, v));
}

void db_bind_blob(struct db_stmt *s, int i, const void *v, size_t len)
{
	bound(s, sqlite3_bind_blob64(s->s, i, v, len, SQLITE_TRANSIENT));
}

int db_step(struct db_stmt *s, struct err **e)
{
	int rc = s->bind_error;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s->s);
	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : fail(s->db, rc, s->sql, e);
}

const char *db_col_str(struct db_stmt *s, int i)
{
	return (const char *)sqlite3_column_text(s->s, i);
}

int64_t db_col_int(struct db_stmt *s, int i)
{
	return sqlite3_column_int64(s->s, i);
}

int db_run(struct db_stmt *s, struct err **e)
{
	int r = db_step(s, e);

	db_reset(s);
	return MIN(r, 0);
}

int64_t db_changes(struct db *d)
{
	return sqlite3_changes64(d->h);
}

int db_backup(struct db *d, const char *path, struct err **e)
{
	sqlite3_backup *b = NULL;
	sqlite3 *to = NULL;
	int rc = sqlite3_open(path, &to);

	if (rc == SQLITE_OK) {
		b = sqlite3_backup_init(to, "main", d->h, "main");
		rc = b ? sqlite3_backup_step(b, -1) : sqlite3_errcode(to);
		if (b && rc == SQLITE_DONE)
			rc = sqlite3_backup_finish(b);
		else if (b)
			sqlite3_backup_finish(b);
	}
	sqlite3_close(to);
	return rc == SQLITE_OK ? 0 : fail(NULL, rc, path, e);
}
