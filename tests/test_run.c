/* wenlan-run as a user meets it: what is skipped, what runs again and why, signals, kills,
 * and the sentences for plans that are wrong. */
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_S = 60 }; /* for what comes at once on a machine that is not busy */

static struct tmp_dir dir;
static char plan[512];

/* Three stages that append to files, so that the number of runs can be counted. */
static const char three[] =
	"name: three\n"
	"workdir: %s/w\n"
	"vars: {greeting: hello world, out: \"${workdir}/out\"}\n"
	"stages:\n"
	"  - name: make\n"
	"    about: makes the first file\n"
	"    run: [sh, %s/stage.sh, \"${out}\", a, \"${greeting}\"]\n"
	"    inputs: %s/in-*\n"
	"    outputs: [\"${out}-a\"]\n"
	"  - name: double\n"
	"    run: sh '%s/stage.sh' ${out} b \"${greeting}\"\n"
	"    outputs: \"${out}-b\"\n"
	"  - name: alone\n"
	"    run: [sh, %s/stage.sh, \"${out}\", c, {if-exists: %s/extra, then: [with, extra]}]\n"
	"    needs: []\n";

static int set_up(void **state)
{
	char path[512], text[4000];
	const char *d;

	(void)state;
	dir = tmp_make();
	d = dir.path;
	tmp_write(tmp_path(&dir, "stage.sh", path),
		"out=$1 letter=$2; shift 2\n"
		"[ -f \"$out-fail\" ] && { echo it went wrong; exit 3; }\n"
		"[ -f \"$out-slow\" ] && { echo $$ > \"$out-pid\"; exec sleep 3600; }\n"
		"echo \"$# $*\" >> \"$out-$letter\"\n");
	tmp_write(tmp_path(&dir, "in-1", path), "one");
	snprintf(text, sizeof text, three, d, d, d, d, d, d);
	tmp_write(tmp_path(&dir, "plan.yaml", plan), text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tmp_remove(&dir);
	return 0;
}

/* Runs wenlan-run on the plan with these arguments. */
static int run(char **out, const char *args)
{
	return tmp_run(out, "%s/wenlan-run %s %s", tmp_bin(), plan, args);
}

/* How often the stage that writes this letter ran; its lines must be `line`. */
static int runs(const char *letter, const char *line)
{
	char name[40], path[512], *text, *save = NULL;
	FILE *f;
	int n = 0;

	snprintf(name, sizeof name, "w/out-%s", letter);
	f = fopen(tmp_path(&dir, name, path), "r");
	if (!f)
		return 0;
	fclose(f);
	text = tmp_read(path, NULL);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save), n++)
		if (line)
			assert_string_equal(l, line);
	free(text);
	return n;
}

/* a, b, c: how often each stage must have run by now. */
#define RUNS(a, b, c)                                                                              \
	do {                                                                                       \
		assert_int_equal(runs("a", NULL), a);                                              \
		assert_int_equal(runs("b", NULL), b);                                              \
		assert_int_equal(runs("c", NULL), c);                                              \
	} while (0)

static void expect(const char *args, int code, const char *part)
{
	char *out;
	int got = run(&out, args);

	if (got != code || !strstr(out, part))
		fail_msg("wenlan-run %s: exit code %d (expected %d), output (must contain "
			 "'%s'):\n%s",
			args, got, code, part, out);
	free(out);
}

static void skips_what_is_unchanged(void **state)
{
	char path[512];

	(void)state;
	expect("--dry-run", 0, "make (never ran): sh ");
	RUNS(0, 0, 0);
	expect("", 0, "stage make (1 of 3) starts");
	RUNS(1, 1, 1);
	runs("a", "1 hello world"); /* a value with a space is one argument */
	runs("b", "1 hello world");
	expect("", 0, "stage make is up to date");
	RUNS(1, 1, 1);
	expect("--status", 0, "double  done");
	/* Times do not count for a small file, its bytes do. */
	assert_int_equal(tmp_run(NULL, "touch %s/in-1", dir.path), 0);
	expect("", 0, "stage make is up to date");
	tmp_write(tmp_path(&dir, "in-1", path), "two");
	expect("--status", 0, "inputs changed");
	expect("--dry-run", 0, "double (a stage before it changed)");
	expect("", 0, "starts: inputs changed");
	RUNS(2, 2, 1); /* the one that needs nothing stays */
	tmp_write(tmp_path(&dir, "in-2", path), "");
	expect("", 0, "inputs changed");
	RUNS(3, 3, 1);
	/* Another program. */
	assert_int_equal(tmp_run(NULL, "echo '# changed' >> %s/stage.sh", dir.path), 0);
	expect("", 0, "program changed");
	RUNS(4, 4, 2);
	/* An output that is gone: its stage runs, and those after it are still right. */
	assert_int_equal(tmp_run(NULL, "rm %s/w/out-b", dir.path), 0);
	expect("", 0, "an output is missing");
	RUNS(4, 1, 2);
	/* Another command, by a variable and by if-exists. */
	expect("--set 'greeting=good morning'", 0, "command changed");
	RUNS(5, 2, 2);
	tmp_write(tmp_path(&dir, "extra", path), "");
	expect("--set 'greeting=good morning'", 0, "command changed");
	RUNS(5, 2, 3);
}

static void chooses_stages(void **state)
{
	(void)state;
	expect("--from double", 2, "stage make before it is not done");
	expect("", 0, "");
	expect("--from double", 0, "asked for");
	RUNS(1, 2, 2);
	expect("--only alone", 0, "asked for");
	RUNS(1, 2, 3);
	expect("--only dubble", 2, "did you mean double?");
	expect("--only make --from make", 2, "exclude");
}

static void fails_with_the_stage_s_code(void **state)
{
	char path[512], *log;

	(void)state;
	assert_int_equal(
		tmp_run(NULL, "mkdir -p %s/w; touch %s/w/out-fail", dir.path, dir.path), 0);
	expect("", 3, "stage make failed with exit code 3");
	log = tmp_read(tmp_path(&dir, "w/logs/make.log", path), NULL);
	assert_non_null(strstr(log, "it went wrong"));
	assert_non_null(strstr(log, "$ sh "));
	free(log);
	expect("--status", 0, "make    failed");
	expect("--status --json", 0, "\"exit_code\": 3");
	assert_int_equal(tmp_run(NULL, "rm %s/w/out-fail", dir.path), 0);
	expect("", 0, "starts: failed");
	RUNS(1, 1, 1);
}

static void missing_outputs_are_failures(void **state)
{
	char text[1200];

	(void)state;
	snprintf(text, sizeof text,
		"name: x\nworkdir: %s/w\nstages: [{name: lazy, run: 'true', outputs: "
		"%s/nothing}]\n",
		dir.path, dir.path);
	tmp_write(plan, text);
	expect("", 1, "did not make");
	expect("", 1, "did not make"); /* and it does not count as done */
}

/* Starts wenlan-run on a stage that sleeps and waits until the stage runs. */
static pid_t start_slow(char stage_pid[64])
{
	char path[512], *text = NULL;
	pid_t pid;

	assert_int_equal(
		tmp_run(NULL, "mkdir -p %s/w; touch %s/w/out-slow", dir.path, dir.path), 0);
	pid = fork();
	if (!pid) {
		char exe[600];

		snprintf(exe, sizeof exe, "%s/wenlan-run", tmp_bin());
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		execl(exe, "wenlan-run", plan, (char *)NULL);
		_exit(127);
	}
	tmp_path(&dir, "w/out-pid", path);
	for (int i = 0; i < WAIT_S * 100; i++) {
		usleep(10000);
		if (access(path, R_OK))
			continue;
		text = tmp_read(path, NULL);
		if (strchr(text, '\n'))
			break;
		free(text);
		text = NULL;
	}
	if (!text)
		fail_msg("the slow stage did not start within %d s", WAIT_S);
	snprintf(stage_pid, 64, "%.60s", text);
	free(text);
	return pid;
}

/* What is dead and not collected yet (some containers have nobody who does) counts as gone. */
static bool gone(const char *pid)
{
	char path[64], text[512] = "", *end;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/stat", atol(pid));
	f = fopen(path, "r");
	if (!f)
		return true;
	if (!fgets(text, sizeof text, f))
		*text = 0;
	fclose(f);
	end = strrchr(text, ')');
	return !end || end[2] == 'Z' || end[2] == 'X';
}

/* The slow stage sleeps for an hour: it goes away only because it is ended. */
static bool vanishes(const char *pid)
{
	for (int i = 0; i < WAIT_S * 100; i++) {
		if (gone(pid))
			return true;
		usleep(10000);
	}
	kill((pid_t)atol(pid), SIGKILL);
	return false;
}

static void stops_on_request(void **state)
{
	char stage[64];
	pid_t pid = start_slow(stage);
	int status;

	(void)state;
	/* A second run at the same time is refused, and --status tells. */
	expect("", 1, "locked by another process");
	expect("--status", 0, "make    running");
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 75);
	assert_true(vanishes(stage));
	expect("--status", 0, "stopped");
	assert_int_equal(tmp_run(NULL, "rm %s/w/out-slow", dir.path), 0);
	expect("", 0, "was interrupted");
	RUNS(1, 1, 1);
}

static void survives_kill_9(void **state)
{
	char stage[64];
	pid_t pid = start_slow(stage);
	int status;

	(void)state;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_true(vanishes(stage)); /* no orphan goes on writing */
	expect("--status", 0, "interrupted");
	assert_int_equal(tmp_run(NULL, "rm %s/w/out-slow", dir.path), 0);
	expect("", 0, "was interrupted");
	RUNS(1, 1, 1);
	expect("", 0, "up to date");
}

static void retries_and_always(void **state)
{
	char text[1200], *out;

	(void)state;
	snprintf(text, sizeof text,
		"name: x\nworkdir: %s/w\nstages:\n"
		"  - {name: peer, retries: 2, run: [sh, -c, 'echo x >> ${workdir}/n; "
		"[ $$(wc -l < ${workdir}/n) = 2 ] || exit 75']}\n"
		"  - {name: show, always: true, run: [echo, 'the table']}\n",
		dir.path);
	tmp_write(plan, text);
	expect("", 0, "asks to be run again");
	assert_int_equal(run(&out, ""), 0);
	assert_non_null(strstr(out, "the table"));
	assert_non_null(strstr(out, "peer is up to date"));
	free(out);
}

static void reports(void **state)
{
	char path[512], args[600], *text;

	(void)state;
	expect("", 0, "");
	snprintf(args, sizeof args, "--report %s", tmp_path(&dir, "r.html", path));
	expect(args, 0, "report:");
	text = tmp_read(path, NULL);
	assert_non_null(strstr(text, "<td>double</td><td>done</td>"));
	assert_non_null(strstr(text, "hello world"));
	free(text);
}

static void wrong_plans_are_named(void **state)
{
	static const struct {
		const char *text, *part;
		int code;
	} bad[] = {
		{"name: x\nstages: []\n", "at least one", 2},
		{"stages: [{name: a, run: ls}]\n", "\"name\" must be a string", 3},
		{"name: x\nstage: []\n", "did you mean \"stages\"", 2},
		{"name: x\nstages: [{name: a, runs: ls}]\n", "did you mean \"run\"", 2},
		{"name: x\nstages: [{name: a}]\n", "run must be", 2},
		{"name: x\nstages: [{name: a/b, run: ls}]\n", "letters", 2},
		{"name: x\nstages: [{name: a, run: ls}, {name: a, run: ls}]\n", "twice", 2},
		{"name: x\nstages: [{name: a, run: ls, needs: [b]}]\n", "needs 'b'", 2},
		{"name: x\nstages: [{name: a, run: 'ls ${corpsu}'}]\nvars: {corpus: c}\n",
			"did you mean ${corpus}", 2},
		{"name: x\nstages: [{name: a, run: 'ls $x'}]\n", "neither", 2},
		{"name: x\nstages: [{name: a, run: 'ls \"x'}]\n", "quote", 2},
		{"name: x\nstages: [{name: a, run: no-such-program-here}]\n", "in PATH", 2},
		{"name: x\nstages: [{name: a, run: ls, inputs: /no/such/file}]\n", "/no/such/file",
			2},
		{"name: [\n", "line", 3},
	};
	char args[600];

	(void)state;
	snprintf(args, sizeof args, "--workdir %s/bad", dir.path);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		tmp_write(plan, bad[i].text);
		expect(args, bad[i].code, bad[i].part);
	}
	expect("--set nothing", 3, "line"); /* the plan is looked at first */
	tmp_write(plan, "name: x\nvars: {epochs: 3}\nstages: [{name: a, run: ls}]\n");
	snprintf(args, sizeof args, "--workdir %s/bad --set epoch=3", dir.path);
	expect(args, 2, "did you mean ${epochs}");
	assert_int_equal(tmp_run(NULL, "mkdir -p %s/bad; echo '[]' > %s/bad/run-state.json",
				 dir.path, dir.path),
		0);
	snprintf(args, sizeof args, "--workdir %s/bad", dir.path);
	expect(args, 3, "not the state of a run");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(skips_what_is_unchanged, set_up, tear_down),
		cmocka_unit_test_setup_teardown(chooses_stages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(fails_with_the_stage_s_code, set_up, tear_down),
		cmocka_unit_test_setup_teardown(missing_outputs_are_failures, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stops_on_request, set_up, tear_down),
		cmocka_unit_test_setup_teardown(survives_kill_9, set_up, tear_down),
		cmocka_unit_test_setup_teardown(retries_and_always, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reports, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_plans_are_named, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
