/* file.h and db.h: what survives, what is refused, what the sentences say. */
#include "ops/db.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct tmp_dir dir;
static struct wl_err err;

static int set_up(void **state)
{
	(void)state;
	dir = tmp_make();
	err = (struct wl_err)WL_ERR_INIT;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tmp_remove(&dir);
	return 0;
}

static void write_is_atomic(void **state)
{
	char path[512], tmp[512];
	struct wl_outfile f;
	char *text;

	(void)state;
	tmp_path(&dir, "x.json", path);
	tmp_path(&dir, "x.json.tmp", tmp);
	OK(wl_write_file(path, "old", 3, &err));
	OK(wl_outfile_open(&f, path, &err));
	fputs("new and longer", f.fp);
	fflush(f.fp);
	text = tmp_read(path, NULL);
	assert_string_equal(text, "old"); /* readers still see the old */
	free(text);
	OK(wl_outfile_commit(&f, &err));
	wl_outfile_discard(&f); /* harmless */
	text = tmp_read(path, NULL);
	assert_string_equal(text, "new and longer");
	free(text);
	assert_false(wl_exists(tmp));
	/* A discarded file leaves all as it was, and a left-over of a kill is overwritten. */
	tmp_write(tmp, "left over by a kill, much longer than what comes");
	OK(wl_outfile_open(&f, path, &err));
	fputs("short", f.fp);
	wl_outfile_discard(&f);
	assert_false(wl_exists(tmp));
	tmp_write(tmp, "left over by a kill, much longer than what comes");
	OK(wl_write_file(path, "short", 5, &err));
	text = tmp_read(path, NULL);
	assert_string_equal(text, "short");
	free(text);
}

static void write_faults_are_named(void **state)
{
	char sub[512], path[512];
	struct wl_outfile f, g;

	(void)state;
	tmp_path(&dir, "sub", sub);
	tmp_path(&dir, "sub/x", path);
	FAILS(WL_EFAIL, "sub/x cannot be written: there is no directory",
		wl_outfile_open(&f, path, &err));
	OK(wl_mkdir_p(sub, &err));
	OK(wl_outfile_open(&f, path, &err));
	/* A second writer is refused while the first has it. */
	FAILS(WL_EFAIL, "another process", wl_outfile_open(&g, path, &err));
	OK(wl_remove_tree(sub, &err));
	FAILS(WL_EFAIL, "cannot be renamed", wl_outfile_commit(&f, &err));
	assert_false(wl_exists(path));
	/* A full disk shows at commit, not as a short file. */
	if (wl_exists("/dev/full")) {
		tmp_path(&dir, "full.tmp", sub);
		assert_int_equal(symlink("/dev/full", sub), 0);
		tmp_path(&dir, "full", path);
		if (wl_outfile_open(&f, path, &err) == 0) {
			fputs("does not fit", f.fp);
			FAILS(WL_EFAIL, "full.tmp", wl_outfile_commit(&f, &err));
		} else {
			assert_non_null(strstr(err.msg, "full.tmp"));
		}
		assert_false(wl_exists(path));
	}
}

static void directories(void **state)
{
	char path[512];
	struct wl_names names;

	(void)state;
	OK(wl_mkdir_p(tmp_path(&dir, "a/b//c/", path), &err));
	OK(wl_mkdir_p(path, &err));
	tmp_write(tmp_path(&dir, "a/f2.tar", path), "");
	tmp_write(tmp_path(&dir, "a/f10.tar", path), "");
	tmp_write(tmp_path(&dir, "a/[x].tar", path), "");
	FAILS(WL_EFAIL, "not a directory", wl_mkdir_p(tmp_path(&dir, "a/f2.tar/z", path), &err));
	OK(wl_list_dir(tmp_path(&dir, "a", path), "f*.tar", &names, &err));
	assert_int_equal(names.n, 2);
	assert_string_equal(names.v[0], "f10.tar"); /* by byte value */
	assert_string_equal(names.v[1], "f2.tar");
	wl_names_release(&names);
	OK(wl_glob(tmp_path(&dir, "a/*.tar", path), &names, &err));
	assert_int_equal(names.n, 3);
	wl_names_release(&names);
	OK(wl_glob(tmp_path(&dir, "a/[x].tar", path), &names, &err));
	assert_int_equal(names.n, 1);
	assert_string_equal(names.v[0], path);
	wl_names_release(&names);
	FAILS(WL_EUSAGE, "none*", wl_glob(tmp_path(&dir, "none*", path), &names, &err));
	FAILS(WL_EFAIL, "nodir", wl_list_dir(tmp_path(&dir, "nodir", path), "*", &names, &err));
	OK(wl_remove_tree(tmp_path(&dir, "a", path), &err));
	assert_false(wl_exists(path));
	OK(wl_remove_tree(path, &err));
}

static void joins(void **state)
{
	static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"},
		{"a", "/b", "/b"}, {"", "b", "b"}, {"/", "b", "/b"}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *s = wl_path_join(cases[i][0], cases[i][1], &err);

		assert_string_equal(s, cases[i][2]);
		free(s);
	}
}

static void reading(void **state)
{
	char path[512], four[4];
	struct wl_buf b;
	int fd;

	(void)state;
	tmp_write(tmp_path(&dir, "f", path), "0123456789");
	wl_buf_init(&b, 10);
	OK(wl_read_file(path, &b, &err));
	assert_string_equal(wl_buf_str(&b), "0123456789");
	wl_buf_release(&b);
	wl_buf_init(&b, 9);
	FAILS(WL_EDATA, "at most 9", wl_read_file(path, &b, &err));
	wl_buf_release(&b);
	/* A file whose size is not known beforehand. */
	wl_buf_init(&b, 1 << 20);
	OK(wl_read_file("/proc/self/status", &b, &err));
	assert_true(b.len > 100 && !strncmp(b.data, "Name:", 5));
	wl_buf_release(&b);
	wl_buf_init(&b, 16);
	FAILS(WL_EDATA, "16", wl_read_file("/proc/self/status", &b, &err));
	wl_buf_release(&b);
	fd = open(path, O_RDONLY);
	OK(wl_pread_full(fd, four, 4, 6, path, &err));
	assert_memory_equal(four, "6789", 4);
	FAILS(WL_EDATA, "cut short", wl_pread_full(fd, four, 4, 7, path, &err));
	close(fd);
	assert_int_equal(wl_file_size(path, &err), 10);
	FAILS(WL_EFAIL, "/nowhere", wl_file_size("/nowhere", &err));
}

static void locks_exclude_processes(void **state)
{
	char path[512];
	int fd, status;
	pid_t pid;

	(void)state;
	fd = wl_lock_file(tmp_path(&dir, "lock", path), &err);
	assert_true(fd >= 0);
	pid = fork();
	if (!pid) {
		int other = wl_lock_file(path, &err);
		_exit(other < 0 && strstr(err.msg, "another process") ? 7 : 8);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 7);
	close(fd);
	fd = wl_lock_file(path, &err);
	assert_true(fd >= 0);
	close(fd);
}

static void db_round_trip(void **state)
{
	char path[512];
	struct wl_db db, second;
	sqlite3_stmt *st;
	int64_t n;

	(void)state;
	tmp_path(&dir, "c.db", path);
	FAILS(WL_EFAIL, "c.db", wl_db_open(&db, path, WL_DB_READ, &err));
	OK(wl_db_open(&db, path, WL_DB_WRITE, &err));
	OK(wl_db_exec(&db, "CREATE TABLE t(a INTEGER, b REAL, c TEXT, d BLOB, e)", &err));
	OK(wl_db_begin(&db, &err));
	OK(wl_db_prepare(&db, &st, "INSERT INTO t VALUES(?,?,?,?,?)", &err));
	OK(wl_db_run(&db, st, &err, "idsbn", (int64_t)1 << 40, 0.5, "文字", (const void *)"\0x",
		(size_t)2));
	OK(wl_db_run(&db, st, &err, "idsbn", (int64_t)2, 1.5, NULL, NULL, (size_t)0));
	sqlite3_finalize(st);
	OK(wl_db_commit(&db, &err));
	OK(wl_db_begin(&db, &err));
	OK(wl_db_exec(&db, "DELETE FROM t", &err));
	wl_db_rollback(&db);
	wl_db_rollback(&db);
	OK(wl_db_open(&second, path, WL_DB_READ, &err));
	OK(wl_db_prepare(&second, &st, "SELECT a,b,c,length(d) FROM t ORDER BY a", &err));
	assert_int_equal(wl_db_step(&second, st, &err), 1);
	assert_int_equal(sqlite3_column_int64(st, 0), 2);
	assert_int_equal(sqlite3_column_type(st, 2), SQLITE_NULL);
	assert_int_equal(sqlite3_column_int64(st, 3), 0);
	assert_int_equal(wl_db_step(&second, st, &err), 1);
	assert_string_equal((const char *)sqlite3_column_text(st, 2), "文字");
	assert_int_equal(wl_db_step(&second, st, &err), 0);
	sqlite3_finalize(st);
	OK(wl_db_int(&second, -1, &n, &err, "SELECT count(*) FROM t"));
	assert_int_equal(n, 2);
	OK(wl_db_int(&second, -1, &n, &err, "SELECT a FROM t WHERE a=77"));
	assert_int_equal(n, -1);
	FAILS(WL_EFAIL, "no such table", wl_db_int(&second, 0, &n, &err, "SELECT 1 FROM nix"));
	FAILS(WL_EFAIL, "readonly", wl_db_exec(&second, "DELETE FROM t", &err));
	wl_db_close(&second);
	wl_db_close(&db);
	wl_db_close(&db);
	assert_false(wl_exists(tmp_path(&dir, "c.db-wal", path))); /* folded into the file */
}

static void db_refuses_what_is_none(void **state)
{
	char path[512];
	struct wl_db db;

	(void)state;
	tmp_write(tmp_path(&dir, "no.db", path),
		"this is a text file and surely no database, however long one looks at it ....");
	FAILS(WL_EDATA, "no.db", wl_db_open(&db, path, WL_DB_READ, &err));
	FAILS(WL_EDATA, "no.db", wl_db_open(&db, path, WL_DB_WRITE, &err));
	assert_null(db.h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(write_is_atomic, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_faults_are_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(directories, set_up, tear_down),
		cmocka_unit_test(joins),
		cmocka_unit_test_setup_teardown(reading, set_up, tear_down),
		cmocka_unit_test_setup_teardown(locks_exclude_processes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(db_round_trip, set_up, tear_down),
		cmocka_unit_test_setup_teardown(db_refuses_what_is_none, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("ops_files", tests, NULL, NULL);
}
