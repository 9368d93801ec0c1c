/* The database wrapper: migrations, transactions, damage, backup. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "unit.h"
#include "ext/db.h"

static char dir[64], path[80];

static int setup(void **state)
{
	strcpy(dir, "/tmp/strata-unit.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	return 0;
}

static int teardown(void **state)
{
	static const char *const suffixes[] = { "", "-wal", "-shm", "2" };
	char p[96];

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		snprintf(p, sizeof(p), "%s%s", path, suffixes[i]);
		unlink(p);
	}
	return rmdir(dir);
}

static const char *const steps[] = {
	"CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER)",
	"INSERT INTO t VALUES ('a', 1)",
	"THIS IS NOT SQL",
};

static int64_t count(struct db *d)
{
	struct db_stmt *s = db_prepare(d, "SELECT count(*) FROM t", NULL);
	int64_t n;

	assert_int_equal(db_step(s, NULL), 1);
	n = db_col_int(s, 0);
	db_reset(s);
	return n;
}

static int insert(struct db *d, const char *id, struct err **e)
{
	struct db_stmt *s = db_prepare(d, "INSERT INTO t VALUES (?, ?)", e);

	db_bind_str(s, 1, id);
	db_bind_int(s, 2, 7);
	return db_run(s, e);
}

static void migrations_run_once_each(void **state)
{
	struct err *e = NULL;
	struct db *d;

	assert_int_equal(db_open(path, &d, NULL), 0);
	assert_int_equal(db_migrate(d, steps, 1, NULL), 0);
	assert_int_equal(count(d), 0);
	assert_int_equal(db_migrate(d, steps, 2, NULL), 0);
	assert_int_equal(db_migrate(d, steps, 2, NULL), 0);
	assert_int_equal(count(d), 1);
	assert_true(db_migrate(d, steps, 3, &e) < 0);
	assert_non_null(strstr(err_msg(e), "migration 3"));
	err_clear(&e);
	assert_int_equal(db_migrate(d, steps, 1, &e), -ENOTSUP); /* a downgrade */
	err_clear(&e);
	db_close(d);
}

static void transactions_nest_and_roll_back(void **state)
{
	_cleanup_(db_closep) struct db *d = NULL;
	struct err *e = NULL;

	assert_int_equal(db_open(path, &d, NULL), 0);
	assert_int_equal(db_migrate(d, steps, 2, NULL), 0);
	assert_int_equal(db_begin(d, NULL) | db_begin(d, NULL), 0);
	assert_int_equal(insert(d, "b", NULL), 0);
	assert_int_equal(insert(d, "b", &e), -EEXIST);
	err_clear(&e);
	assert_int_equal(db_commit(d, NULL) | db_commit(d, NULL), 0);
	assert_int_equal(count(d), 2);
	db_begin(d, NULL);
	insert(d, "c", NULL);
	db_rollback(d);
	db_rollback(d);
	assert_int_equal(count(d), 2);
}

static void a_backup_is_complete(void **state)
{
	_cleanup_(db_closep) struct db *d = NULL, *copy = NULL;
	char to[96];

	snprintf(to, sizeof(to), "%s2", path);
	db_open(path, &d, NULL);
	db_migrate(d, steps, 2, NULL);
	assert_int_equal(db_backup(d, to, NULL), 0);
	assert_int_equal(db_open(to, &copy, NULL), 0);
	assert_int_equal(count(copy), 1);
	db_close(TAKE(copy));
	snprintf(to, sizeof(to), "%s2-wal", path);
	unlink(to);
	snprintf(to, sizeof(to), "%s2-shm", path);
	unlink(to);
}

static void damage_is_named(void **state)
{
	char junk[16384];
	struct err *e = NULL;
	struct db *d;
	int fd;

	memset(junk, 'x', sizeof(junk));
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	close(fd);
	assert_int_equal(db_open(path, &d, &e), -EINVAL);
	assert_string_equal(err_id(e), "db.corrupt");
	err_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(migrations_run_once_each, setup, teardown),
		cmocka_unit_test_setup_teardown(transactions_nest_and_roll_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_backup_is_complete, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_named, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
