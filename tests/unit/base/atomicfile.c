/* Atomic files: old or new, nothing left beside them. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "unit.h"
#include "base/atomicfile.h"
#include "base/str.h"

static char dir[64];
static int dirfd_;

static int setup(void **state)
{
	strcpy(dir, "/tmp/strata-unit.XXXXXX");
	assert_non_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_ < 0;
}

static int n_files(void)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int n = 0;

	while ((de = readdir(d)))
		n += de->d_name[0] != '.' || strlen(de->d_name) > 2;
	closedir(d);
	return n;
}

static int teardown(void **state)
{
	unlinkat(dirfd_, "f", 0);
	close(dirfd_);
	return rmdir(dir); /* fails when a temporary file was left */
}

static void replaces_and_reads_back(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct stat st;

	assert_int_equal(file_write_atomic(dirfd_, "f", "old", 3, 0600, NULL), 0);
	assert_int_equal(file_write_atomic(dirfd_, "f", "newer", 5, 0640, NULL), 0);
	assert_int_equal(file_read(dirfd_, "f", 5, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "newer");
	assert_int_equal(fstatat(dirfd_, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(n_files(), 1);
}

static void abort_leaves_the_old_one(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct atomicfile f;

	assert_int_equal(file_write_atomic(dirfd_, "f", "old", 3, 0600, NULL), 0);
	assert_int_equal(atomicfile_open(dirfd_, "f", 0600, &f, NULL), 0);
	assert_int_equal(write_all(f.fd, "x", 1), 0);
	assert_int_equal(n_files(), 2);
	atomicfile_abort(&f);
	atomicfile_abort(&f);
	assert_int_equal(n_files(), 1);
	assert_int_equal(file_read(dirfd_, "f", 100, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "old");
}

static void refuses_with_the_reason(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct err *e = NULL;

	assert_int_equal(file_write_atomic(dirfd_, "f", "0123456789", 10, 0600, NULL), 0);
	assert_int_equal(file_read(dirfd_, "f", 9, &b, &e), -EFBIG);
	assert_string_equal(err_msg(e), "'f' is larger than 9 bytes");
	err_clear(&e);
	assert_int_equal(file_read(dirfd_, "missing", 9, &b, &e), -ENOENT);
	err_clear(&e);
	assert_int_equal(file_write_atomic(dirfd_, "no/f", "", 0, 0600, &e), -ENOENT);
	err_clear(&e);
	assert_int_equal(file_write_atomic(dirfd_, "no/", "", 0, 0600, &e), -EINVAL);
	err_clear(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(replaces_and_reads_back, setup, teardown),
		cmocka_unit_test_setup_teardown(abort_leaves_the_old_one, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_with_the_reason, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
