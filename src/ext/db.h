/* SQL database: the one file that knows SQLite is db.c.
 *
 *	struct db_stmt *s = db_prepare(db, "SELECT id, body FROM object WHERE kind = ?", e);
 *	db_bind_str(s, 1, "instance");
 *	while ((r = db_step(s, e)) > 0) use(db_col_str(s, 0), ...);
 *	db_reset(s);                                      statements are cached by their text; do not free them
 *
 * WAL mode, full sync, foreign keys on.  Thread: the one that opened it. */
#ifndef EXT_DB_H
#define EXT_DB_H

#include "base/err.h"
#include "base/types.h"

struct db;
struct db_stmt;

/* Opens or creates path.  -EINVAL with id "db.corrupt": not a database or damaged (quick_check says how). */
int db_open(const char *path, struct db **ret, struct err **e);
/* Finishes statements, checkpoints, closes.  NULL: no effect. */
void db_close(struct db *d);
DEFINE_CLEANUP(struct db *, db_close);

/* One or more statements without results. */
int db_exec(struct db *d, const char *sql, struct err **e);
/* Brings user_version from its present number up to n_steps, each step in a transaction of its own.  A database
 * of a newer release is refused ("db.newer"). */
int db_migrate(struct db *d, const char *const *steps, unsigned int n_steps, struct err **e);

/* Nested calls count; the outermost commits.  A failed commit rolls back. */
int db_begin(struct db *d, struct err **e);
int db_commit(struct db *d, struct err **e);
/* Undoes everything since the outermost db_begin(); no effect outside. */
void db_rollback(struct db *d);

/* NULL on error.  The statement is ready to bind: reset, nothing bound. */
struct db_stmt *db_prepare(struct db *d, const char *sql, struct err **e);
/* Columns of a bind count from 1.  Text is copied. */
void db_bind_str(struct db_stmt *s, int i, const char *v); /* NULL binds NULL */
void db_bind_int(struct db_stmt *s, int i, int64_t v);
void db_bind_blob(struct db_stmt *s, int i, const void *v, size_t len);
/* 1: a row; 0: done; -errno: -EEXIST for a broken UNIQUE, -ENOSPC for a full disk, -EIO, ... */
int db_step(struct db_stmt *s, struct err **e);
/* Columns of a row count from 0; borrowed until the next step or reset. */
const char *db_col_str(struct db_stmt *s, int i); /* NULL for NULL */
int64_t db_col_int(struct db_stmt *s, int i);
void db_reset(struct db_stmt *s);
/* Bind nothing more, run, reset: for statements without results. */
int db_run(struct db_stmt *s, struct err **e);
int64_t db_changes(struct db *d); /* rows that the last statement changed */

/* A consistent copy of the open database, made while it is in use. */
int db_backup(struct db *d, const char *path, struct err **e);

#endif
