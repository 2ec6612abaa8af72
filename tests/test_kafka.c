/*
 * Kafka as people use it: wenlan-ingest against a cluster in another process.  Whatever is
 * killed, taken away or restarted, the corpus is that of a run that nobody disturbed.
 *
 * WL_KAFKA_BROKERS=HOST:PORT,...  runs the plain test against a real cluster besides, in a topic
 * of its own that the cluster makes by itself (auto.create.topics.enable).
 * WL_KILLS=N  takes N kills instead of the default.
 */
#include "ingest/corpus.h"
#include "ingest/kafka.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kafka_fill.h"
#include "tests/support/kafka_mock.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PARTS = FILL_PARTS,
	PER_PART = FILL_PER_PART,
	BAD = FILL_BAD,
	ALL = FILL_ALL,
	KEPT = ALL - BAD,
};

static struct tmp_dir tmp;
static struct wl_err err;
static struct kafka_mock mock;
static char *reference;

/* ---- running ---- */

static json_t *ingest(const char *corpus, const char *args, int want_code)
{
	return ingest_run(&tmp, "--quiet --no-fetch", corpus, args, want_code, NULL);
}

#define ingestf(corpus, want_code, ...)                                                            \
	ingest_runf(&tmp, "--quiet --no-fetch", corpus, want_code, __VA_ARGS__)

static void expect_whole(const char *corpus, const char *what)
{
	char p[512];
	size_t rows;
	char *d = corpus_dump(tmp_path(&tmp, corpus, p), &rows);

	if (rows != ALL)
		fail_msg("%s: %zu rows, expected %d", what, rows, ALL);
	if (strcmp(d, reference) != 0)
		fail_msg("%s: the corpus is not that of an undisturbed run", what);
	free(d);
}

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	mock = kafka_mock_start(2);
	kafka_mock_topic(&mock, "pages", PARTS);
	kafka_fill(mock.brokers, "pages", 0, PER_PART);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kafka_mock_stop(&mock);
	tmp_remove(&tmp);
	free(reference);
	return 0;
}

/* ---- tests ---- */

static void test_url(void **state)
{
	static const struct {
		const char *url, *says;
	} bad[] = {{"kafka:pages", "begin with"}, {"kafka://b:1", "names no broker"},
		{"kafka:///t", "names no broker"}, {"kafka://b/", "topic"},
		{"kafka://b/a b", "topic"}, {"kafka://b/t?x=1", "unknown"},
		{"kafka://b/t?group=", "no value"}, {"kafka://b/t?offset=9", "offset"},
		{"kafka://b/t?partitions=3-1", "partitions"},
		{"kafka://b/t?partitions=a", "partitions"},
		{"kafka://b/t?group=g&partitions=1", "exclude"}, {"kafka://b/t?gap=x", "gap"}};
	struct wl_kafka_url u;

	(void)state;
	OK(wl_kafka_url_parse(&u,
		"kafka://a:1,b:2/"
		"news.page-1?offset=latest&gap=skip&partitions=7,0-2,1&profile=baike",
		&err));
	assert_string_equal(u.brokers, "a:1,b:2");
	assert_string_equal(u.topic, "news.page-1");
	assert_string_equal(u.profile, "baike");
	assert_null(u.group);
	assert_true(u.latest && u.skip_gaps);
	assert_int_equal(u.n_only, 4);
	assert_int_equal(u.only[3], 7);
	wl_kafka_url_release(&u);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		FAILS(WL_EUSAGE, bad[i].says, wl_kafka_url_parse(&u, bad[i].url, &err));
}

static void check_quarantine(void)
{
	static const char *const want[] = {"Q|kafka:pages/1|offset 0|wrong JSON",
		"Q|kafka:pages/1|offset 2|wrong JSON: it is not an object",
		"Q|kafka:pages/1|offset 3|a message cannot name a file",
		"Q|kafka:pages/1|offset 4|", "Q|kafka:pages/1|offset 5|wrong JSON",
		"Q|kafka:pages/1|offset 7|"};
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		if (!strstr(reference, want[i]))
			fail_msg("quarantine has no %s:\n%.3000s", want[i],
				strstr(reference, "Q|") ? strstr(reference, "Q|") : "(empty)");
}

static void test_plain(void **state)
{
	char u[400], args[1000], p[512];
	size_t rows;

	(void)state;
	kafka_url(u, mock.brokers, "pages", "");
	snprintf(args, sizeof args, "--until-end --partitions 3 %s", u);
	json_t *v = ingest("ref", args, 0);
	assert_int_equal(ingest_count(v, "records"), ALL);
	assert_int_equal(ingest_count(v, "kept"), KEPT);
	assert_int_equal(ingest_count(v, "quarantined"), BAD);
	json_decref(v);
	reference = corpus_dump(tmp_path(&tmp, "ref", p), &rows);
	assert_int_equal(rows, ALL);
	check_quarantine();
	/* Lag tools see where we are. */
	assert_int_equal(kafka_group_offset(mock.brokers, "wenlan-ingest", "pages", 2), PER_PART);
	/* Again: nothing new. */
	v = ingest("ref", args, 0);
	assert_int_equal(ingest_count(v, "records"), 0);
	json_decref(v);
	/* In steps, on other lanes and threads, by single partitions. */
	for (int i = 0; i < PARTS; i++) {
		char q[64];
		snprintf(q, sizeof q, "?partitions=%d", i);
		snprintf(args, sizeof args, "--until-end --partitions 1 --workers %d %s", i % 3 + 1,
			kafka_url(u, mock.brokers, "pages", q));
		json_decref(ingest("steps", i % 2 ? args : strcat(args, " --commit-every 7"), 0));
	}
	expect_whole("steps", "partition by partition");
}

static void test_growth(void **state)
{
	char u[400], args[1000];

	(void)state;
	kafka_mock_topic(&mock, "grow", PARTS);
	kafka_fill(mock.brokers, "grow", 0, 20);
	snprintf(args, sizeof args, "--until-end --partitions 2 %s",
		kafka_url(u, mock.brokers, "grow", ""));
	json_t *v = ingest("grow", args, 0);
	assert_int_equal(ingest_count(v, "records"), 20 * PARTS);
	json_decref(v);
	kafka_fill(mock.brokers, "grow", 20, 33);
	v = ingest("grow", args, 0);
	assert_int_equal(ingest_count(v, "records"), 13 * PARTS);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "pairs"), 33 * PARTS - BAD);
	json_decref(v);
	/* Latest: what is there already is not wanted; what comes is, also after a stop before
	 * the first message. */
	snprintf(args, sizeof args, "--until-end %s",
		kafka_url(u, mock.brokers, "grow", "?offset=latest"));
	v = ingest("late", args, 0);
	assert_int_equal(ingest_count(v, "records"), 0);
	json_decref(v);
	kafka_fill(mock.brokers, "grow", 33, 40);
	v = ingest("late", args, 0);
	assert_int_equal(ingest_count(v, "records"), 7 * PARTS);
	json_decref(v);
}

/* A run by itself, in milliseconds. */
static int64_t time_of_run(const char *args)
{
	int64_t began = wl_now_ms(), took;

	assert_int_equal(ingest_reap(ingest_start(&tmp, "--no-fetch", "timed", args), 600), 0);
	took = wl_now_ms() - began;
	expect_whole("timed", "one lane more");
	return took;
}

/* kill -9 at random moments, again and again: within a tenth of the time that a whole run takes
 * here, then within more and more of it, until it once is done; then with the next corpus. */
static void test_kills(void **state)
{
	char u[400], args[1000], name[32];
	int want = getenv("WL_KILLS") ? atoi(getenv("WL_KILLS")) : 44, kills = 0, corpora = 0;
	int64_t whole;

	(void)state;
	snprintf(args, sizeof args, "--until-end --partitions 4 --commit-every 3 %s",
		kafka_url(u, mock.brokers, "pages", ""));
	whole = time_of_run(args);
	for (uint64_t round = 0; kills < want; corpora++) {
		int code = -1;

		snprintf(name, sizeof name, "killed%d", corpora);
		for (int64_t longest = whole / 10 + 8; code != 0; longest += longest / 8, round++) {
			pid_t pid = ingest_start(&tmp, "--no-fetch", name, args);

			tmp_nap_ms(3 + (int64_t)(wl_rand64(5, 0, round) % (uint64_t)(longest + 1)));
			kill(pid, SIGKILL);
			code = ingest_reap(pid, 60);
			if (code != 0 && code != -SIGKILL)
				fail_msg("after %d kills: exit code %d", kills, code);
			kills += code == -SIGKILL;
		}
		expect_whole(name, "killed again and again");
	}
	print_message("killed %d times, over %d corpora\n", kills, corpora);
}

/* Two processes and a single lane: they take turns, and both come to their end. */
static void test_turns(void **state)
{
	char u[400], args[1000];
	pid_t pid[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		snprintf(args, sizeof args, "--until-end --partitions 1 --commit-every 20 %s",
			kafka_url(u, mock.brokers, "pages",
				i ? "?partitions=2-4" : "?partitions=0,1"));
		pid[i] = ingest_start(&tmp, "--no-fetch", "turns", args);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(ingest_reap(pid[i], 120), 0);
	expect_whole("turns", "two processes, one lane");
	/* A process that stays, with nothing to read, lets the other in all the same. */
	snprintf(args, sizeof args, "--partitions 1 %s",
		kafka_url(u, mock.brokers, "pages", "?partitions=0,1"));
	pid[0] = ingest_start(&tmp, "--no-fetch", "guest", args);
	ingest_wait_for_rows(&tmp, "guest", 2 * PER_PART);
	json_t *v = ingestf("guest", 0, "--until-end %s",
		kafka_url(u, mock.brokers, "pages", "?partitions=2-4"));
	assert_int_equal(ingest_count(v, "records"), 3 * PER_PART);
	json_decref(v);
	ingest_stop(pid[0]);
	assert_int_equal(ingest_reap(pid[0], 60), 75);
	expect_whole("guest", "a guest in the lane");
}

/* Brokers away for a while, in the middle: the run goes on by itself. */
static void test_broker_restart(void **state)
{
	char u[400], args[1000];

	(void)state;
	snprintf(args, sizeof args,
		"--partitions 2 --commit-every 5 --kafka-conf reconnect.backoff.max.ms=300 %s",
		kafka_url(u, mock.brokers, "restart", ""));
	kafka_mock_topic(&mock, "restart", PARTS);
	kafka_fill(mock.brokers, "restart", 0, 60);
	pid_t pid = ingest_start(&tmp, "--no-fetch", "restart", args);
	ingest_wait_for_rows(&tmp, "restart", 100);
	kafka_mock_down(&mock);
	tmp_nap_ms(700);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it waits */
	kafka_mock_up(&mock);
	kafka_fill(mock.brokers, "restart", 60, 90);
	ingest_wait_for_rows(&tmp, "restart", 90 * PARTS);
	ingest_stop(pid);
	assert_int_equal(ingest_reap(pid, 60), 75);
	assert_int_equal(ingest_rows(&tmp, "restart"), 90 * PARTS);
}

static void test_broker_gone(void **state)
{
	char u[400], args[1000];
	struct kafka_mock m = kafka_mock_start(1);

	(void)state;
	/* Never there. */
	json_decref(ingestf(
		"gone", 75, "--kafka-patience 1 %s", kafka_url(u, "127.0.0.1:1", "pages", "")));
	/* There, but without the topic. */
	char *out;
	kafka_mock_hide(&mock, "no-such-topic");
	int code = tmp_run(&out, "%s/wenlan-ingest --quiet --corpus %s/gone --kafka-patience 1 %s",
		tmp_bin(), tmp.path, kafka_url(u, mock.brokers, "no-such-topic", ""));
	if (code != 75 || !strstr(out, "no-such-topic"))
		fail_msg("exit code %d: %s", code, out);
	free(out);
	/* It goes away in the middle: what was read stays, and the exit code is 75. */
	kafka_mock_topic(&m, "half", PARTS);
	kafka_fill(m.brokers, "half", 0, 30);
	snprintf(args, sizeof args, "--kafka-patience 2 --commit-every 5 %s",
		kafka_url(u, m.brokers, "half", ""));
	pid_t pid = ingest_start(&tmp, "--no-fetch", "half", args);
	ingest_wait_for_rows(&tmp, "half", 30 * PARTS);
	kafka_mock_stop(&m);
	assert_int_equal(ingest_reap(pid, 60), 75);
	assert_int_equal(ingest_rows(&tmp, "half"), 30 * PARTS);
}

/* A topic that is not the one that was read before, and messages that retention took. */
static void test_gaps(void **state)
{
	char u[400], args[1000], *out;
	struct kafka_mock m = kafka_mock_start(1);

	(void)state;
	kafka_mock_topic(&m, "pages", PARTS);
	kafka_fill(m.brokers, "pages", 0, 5);
	snprintf(args, sizeof args, "--until-end --quiet --corpus %s/ref %s", tmp.path,
		kafka_url(u, m.brokers, "pages", ""));
	int code = tmp_run(&out, "%s/wenlan-ingest %s", tmp_bin(), args);
	if (code != 3 || !strstr(out, "not the topic that was read before"))
		fail_msg("exit code %d: %s", code, out);
	free(out);
	/* The mock keeps 5 MB a partition: the first messages of "big" go. */
	kafka_mock_topic(&m, "big", 1);
	struct kafka_producer *p = kafka_producer_new(m.brokers, NULL);
	kafka_produce(p, "big", 0, "{}", 2);
	kafka_producer_close(p);
	snprintf(args, sizeof args, "--until-end %s", kafka_url(u, m.brokers, "big", ""));
	json_decref(ingest("big", args, 0));
	char *blob = malloc(700000);
	memset(blob, 'x', 700000);
	for (int i = 0; i < 12; i++) {
		p = kafka_producer_new(m.brokers, NULL);
		kafka_produce(p, "big", 0, blob, 700000);
		kafka_producer_close(p);
	}
	free(blob);
	code = tmp_run(
		&out, "%s/wenlan-ingest --quiet --corpus %s/big %s", tmp_bin(), tmp.path, args);
	if (code != 3 || !strstr(out, "gap=skip"))
		fail_msg("exit code %d: %s", code, out);
	free(out);
	json_t *v = ingestf(
		"big", 0, "--until-end %s", kafka_url(u, m.brokers, "big", "?gap=skip"));
	assert_true(ingest_count(v, "records") > 3 && ingest_count(v, "records") < 12);
	json_decref(v);
	kafka_mock_stop(&m);
}

static void test_usage(void **state)
{
	static const struct {
		const char *args, *says;
	} bad[] = {{"--kafka-conf no.such=1", "no.such"}, {"--kafka-conf x", "key=value"},
		{"--kafka-conf enable.auto.commit=true", "set by the source"},
		{"--kafka-conf session.timeout.ms=x", "session.timeout.ms"}};
	char u[400], *out;

	(void)state;
	kafka_url(u, mock.brokers, "pages", "");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		int code = tmp_run(&out, "%s/wenlan-ingest --quiet --corpus %s/usage %s %s",
			tmp_bin(), tmp.path, bad[i].args, u);
		if (code != 2 || !strstr(out, bad[i].says))
			fail_msg("%s: exit code %d: %s", bad[i].args, code, out);
		free(out);
	}
	int code = tmp_run(&out,
		"%s/wenlan-ingest --quiet --corpus %s/usage 'kafka://%s/pages?partitions=77'",
		tmp_bin(), tmp.path, mock.brokers);
	if (code != 2 || !strstr(out, "there is no 77"))
		fail_msg("exit code %d: %s", code, out);
	free(out);
}

static void test_real_broker(void **state)
{
	const char *brokers = getenv("WL_KAFKA_BROKERS");
	char u[400], topic[64];

	(void)state;
	if (!brokers)
		SKIP("WL_KAFKA_BROKERS names no cluster");
	snprintf(topic, sizeof topic, "wenlan-test-%d-%ld", (int)getpid(), (long)time(NULL));
	struct kafka_producer *p = kafka_producer_new(brokers, NULL);
	for (int i = 0; i < PER_PART; i++) {
		char *s = kafka_message(0, i);
		kafka_produce(p, topic, 0, s, strlen(s));
		free(s);
	}
	kafka_producer_close(p);
	json_t *v = ingestf("real", 0, "--until-end %s",
		kafka_url(u, brokers, topic, "?group=wenlan-test"));
	assert_int_equal(ingest_count(v, "kept"), PER_PART);
	json_decref(v);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_plain), /* makes the reference */
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_broker_restart),
		cmocka_unit_test(test_broker_gone),
		cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_real_broker),
	};
	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
		return kafka_mock_main();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* one of them, by its name */
	return cmocka_run_group_tests_name("kafka", tests, setup, teardown);
}
