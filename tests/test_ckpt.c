/* train/checkpoint/ckpt.h: whole or not at all, verified, newest complete one, pruned. */
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "train/checkpoint/ckpt.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct wl_err err;

static void must(int result)
{
	if (result < 0)
		fail_msg("%s", err.msg);
}

static int make_run(void **state)
{
	char tmpl[] = "/tmp/wl-ckpt-XXXXXX";

	err = (struct wl_err)WL_ERR_INIT;
	if (!mkdtemp(tmpl))
		return -1;
	*state = strdup(tmpl);
	return *state ? 0 : -1;
}

static int drop_run(void **state)
{
	int r = wl_remove_tree(*state, &err);

	free(*state);
	return r;
}

/* A checkpoint of two files whose contents tell the step. */
static void save(const char *run, int64_t step)
{
	struct wl_ckpt c;
	json_t *state = json_pack("{s:f}", "number", 0.1 + (double)step);
	char text[64], *path;
	int i;

	must(wl_ckpt_begin(&c, run, step, &err));
	for (i = 0; i < 2; i++) {
		snprintf(text, sizeof text, "file %d of step %lld", i, (long long)step);
		path = wl_ckpt_file(&c, i ? "b.bin" : "a.bin", &err);
		must(wl_write_file(path, text, strlen(text), &err));
		free(path);
	}
	must(wl_ckpt_commit(&c, state, &err));
	wl_ckpt_release(&c);
	json_decref(state);
}

static void overwrite(const char *run, const char *name, const char *bytes)
{
	char *path = wl_path_join(run, name, &err);

	must(wl_write_file(path, bytes, strlen(bytes), &err));
	free(path);
}

static void round_trip(void **state)
{
	json_t *s;
	char *dir, link[64], *latest;
	ssize_t n;

	assert_int_equal(wl_ckpt_newest(*state, &err), -1);
	save(*state, 5);
	save(*state, 40);
	assert_int_equal(wl_ckpt_newest(*state, &err), 40);
	must(wl_ckpt_load(*state, &dir, &s, &err));
	assert_non_null(strstr(dir, "ckpt-00000040"));
	assert_int_equal(json_integer_value(json_object_get(s, "step")), 40);
	assert_true(json_real_value(json_object_get(s, "number")) == 40.1);
	json_decref(s);
	free(dir);
	latest = wl_path_join(*state, "latest", &err);
	n = readlink(latest, link, sizeof link - 1);
	assert_int_equal(n, 13);
	link[n] = 0;
	assert_string_equal(link, "ckpt-00000040");
	must(wl_ckpt_load(latest, &dir, &s, &err)); /* a checkpoint's own path */
	json_decref(s);
	free(dir);
	free(latest);
}

static void same_step_twice_is_refused(void **state)
{
	struct wl_ckpt c;

	save(*state, 5);
	assert_int_equal(wl_ckpt_begin(&c, *state, 5, &err), -1);
	assert_non_null(strstr(err.msg, "exists already"));
}

static void expect_damage(const char *run, const char *word)
{
	json_t *s;
	char *dir;

	assert_int_equal(wl_ckpt_load(run, &dir, &s, &err), -1);
	assert_int_equal(err.code, WL_ECKPT);
	if (!strstr(err.msg, word))
		fail_msg("\"%s\" is not in: %s", word, err.msg);
	assert_null(dir);
	assert_null(s);
}

static void flipped_byte_is_found(void **state)
{
	save(*state, 5);
	save(*state, 6);
	overwrite(*state, "ckpt-00000006/a.bin", "file 0 of step 7"); /* same length */
	expect_damage(*state, "SHA-256");
}

static void changed_state_is_found(void **state)
{
	char *path = wl_path_join(*state, "ckpt-00000005/state.json", &err);
	json_t *s;

	save(*state, 5);
	s = wl_json_load(path, &err);
	assert_non_null(s);
	json_object_set_new(s, "number", json_real(5.2));
	must(wl_json_save(path, s, &err));
	json_decref(s);
	free(path);
	expect_damage(*state, "none of the 1 checkpoints"); /* not taken, and not ignored */
}

/* A checkpoint from elsewhere, well hashed, must not make us read outside its directory. */
static void outside_file_is_refused(void **state)
{
	struct wl_ckpt c;
	json_t *s = json_object();
	char *path, *text;
	json_t *files;

	/* Commit hashes what is there; the name is then changed and the hash made anew by another
	 * commit's rules: sorted compact JSON without "check". */
	must(wl_ckpt_begin(&c, *state, 5, &err));
	must(wl_ckpt_commit(&c, s, &err));
	files = json_pack("{s:{s:i,s:s}}", "../x", "bytes", 0, "sha256", "");
	json_object_set_new(s, "files", files);
	json_object_del(s, "check");
	text = wl_json_text(s, &err);
	uint8_t sum[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX];
	wl_sha256(text, strlen(text), sum);
	wl_hex(sum, sizeof sum, hex);
	json_object_set_new(s, "check", json_string(hex));
	path = wl_path_join(c.path, "state.json", &err);
	must(wl_json_save(path, s, &err));
	free(path);
	path = strdup(c.path);
	wl_ckpt_release(&c);
	expect_damage(path, "outside");
	free(path);
	free(text);
	json_decref(s);
}

static void incomplete_one_is_passed_over(void **state)
{
	char *path;

	save(*state, 5);
	save(*state, 6);
	save(*state, 7);
	overwrite(*state, "ckpt-00000007/b.bin", "short");
	path = wl_path_join(*state, "ckpt-00000006/state.json", &err);
	assert_int_equal(unlink(path), 0);
	free(path);
	assert_int_equal(wl_ckpt_newest(*state, &err), 5);
	overwrite(*state, "ckpt-00000005/state.json", "{\"version\":1,");
	assert_int_equal(wl_ckpt_newest(*state, &err), -2);
	assert_int_equal(err.code, WL_ECKPT);
}

static void prune_keeps_the_newest(void **state)
{
	struct wl_names names = {0};
	int64_t i;

	for (i = 1; i <= 5; i++)
		save(*state, i * 100);
	must(wl_ckpt_prune(*state, 2, 0, &err));
	must(wl_list_dir(*state, "*ckpt-*", &names, &err));
	assert_int_equal(names.n, 2);
	assert_string_equal(names.v[0], "ckpt-00000400");
	assert_string_equal(names.v[1], "ckpt-00000500");
	wl_names_release(&names);
}

static void uncommitted_leaves_nothing(void **state)
{
	struct wl_names names = {0};
	struct wl_ckpt c;

	must(wl_ckpt_begin(&c, *state, 9, &err));
	wl_ckpt_release(&c);
	must(wl_list_dir(*state, "*", &names, &err));
	assert_int_equal(names.n, 0);
	wl_names_release(&names);
}

/* Saves and prunes checkpoint after checkpoint, and says each to fd, until it is killed. */
static void save_for_ever(const char *dir, int64_t step, int fd)
{
	for (;; step++) {
		save(dir, step);
		if (wl_ckpt_prune(dir, 2, 0, &err) < 0 || write(fd, "", 1) != 1)
			_exit(1);
	}
}

/* The child is killed at a random moment: after each kill the newest one loads, verified,
 * and is not older than the last one seen.  Every other one has saved at least one before,
 * however slow. */
static void kill_at_any_moment(void **state)
{
	int64_t last = -1, now;
	int round, status, fd[2];
	char *dir, byte;
	json_t *s;
	pid_t pid;

	for (round = 0; round < 25; round++) {
		now = wl_ckpt_newest(*state, &err);
		assert_true(now >= last && (round < 2 || now >= 0));
		last = now;
		assert_int_equal(pipe(fd), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			save_for_ever(*state, now + 1, fd[1]);
		close(fd[1]);
		if (round % 2)
			assert_int_equal(read(fd[0], &byte, 1), 1);
		usleep((useconds_t)(1000 + 1777 * round));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		close(fd[0]);
		assert_true(WIFSIGNALED(status));
		if (wl_ckpt_newest(*state, &err) >= 0) {
			must(wl_ckpt_load(*state, &dir, &s, &err));
			json_decref(s);
			free(dir);
		}
	}
	assert_true(wl_ckpt_newest(*state, &err) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(round_trip, make_run, drop_run),
		cmocka_unit_test_setup_teardown(same_step_twice_is_refused, make_run, drop_run),
		cmocka_unit_test_setup_teardown(flipped_byte_is_found, make_run, drop_run),
		cmocka_unit_test_setup_teardown(changed_state_is_found, make_run, drop_run),
		cmocka_unit_test_setup_teardown(outside_file_is_refused, make_run, drop_run),
		cmocka_unit_test_setup_teardown(incomplete_one_is_passed_over, make_run, drop_run),
		cmocka_unit_test_setup_teardown(prune_keeps_the_newest, make_run, drop_run),
		cmocka_unit_test_setup_teardown(uncommitted_leaves_nothing, make_run, drop_run),
		cmocka_unit_test_setup_teardown(kill_at_any_moment, make_run, drop_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
