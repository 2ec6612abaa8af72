/*
 * Kafka as people use it: wenlan-ingest against a cluster in another process.  Whatever is
 * killed, taken away or restarted, the corpus is that of a run that nobody disturbed.
 *
 * WL_KAFKA_BROKERS=HOST:PORT,...  runs the plain test against a real cluster besides, in a topic
 * of its own that the cluster makes by itself (auto.create.topics.enable).
 * WL_KILLS=N  takes N kills instead of the default.
 */
#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ingest/kafka.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/ingest_run.h"
#include "tests/support/httpd.h"
#include "tests/support/kafka_mock.h"
#include "tests/support/tmp.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PARTS = 5, PER_PART = 150, BAD = 8 /* planted in partition 1 */ };
enum { ALL = PARTS * PER_PART, KEPT = ALL - BAD };

static struct tmp_dir tmp;
static struct wl_err err;
static struct kafka_mock mock;
static char *reference;

/* ---- messages ---- */

static char *base64(const void *bytes, size_t n)
{
	static const char digit[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = bytes;
	char *out = malloc((n + 2) / 3 * 4 + 1), *w = out;

	for (; n; p += 3) {
		unsigned v = (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) |
			     (n > 2 ? (unsigned)p[2] : 0);
		*w++ = digit[v >> 18];
		*w++ = digit[v >> 12 & 63];
		*w++ = n > 1 ? digit[v >> 6 & 63] : '=';
		*w++ = n > 2 ? digit[v & 63] : '=';
		n -= n < 3 ? n : 3;
	}
	*w = '\0';
	return out;
}

static char *picture(uint32_t seed)
{
	struct wl_image im = {.width = 16 + (int)(seed % 7), .height = 12, .channels = 3};
	size_t n = (size_t)im.width * 12 * 3;
	struct wl_buf b;

	im.data = malloc(n);
	assert_non_null(im.data);
	for (size_t i = 0; i < n; i++)
		im.data[i] = (uint8_t)(i * (seed + 3) + wl_rand64(seed, 0, i / 30) % 40);
	wl_buf_init(&b, 1 << 20);
	OK(wl_image_encode_jpeg(&im, 85, &b, &err));
	wl_image_release(&im);
	char *text = base64(b.data, b.len);
	wl_buf_release(&b);
	return text;
}

/* The i-th message of partition p, and what is wrong with the first ones of partition 1. */
static char *message(int p, int i)
{
	static const char *const bad[BAD] = {"", "{\"text\":\"x\",", "[1,2]",
		"{\"text\":\"x\",\"image\":\"/etc/passwd\"}",
		"{\"text\":\"x\",\"image_b64\":\"bm8=\"}", "\xff\xfe\x00\x01 not text at all",
		"{\"text\":7,\"image_b64\":\"\"}", "{\"image_url\":\"ftp://x/y\",\"text\":\"x\"}"};
	if (p == 1 && i < BAD)
		return strdup(bad[i]);
	char *b64 = picture((uint32_t)(p * PER_PART + i));
	char *s = wl_strf(&err,
		"{\"source\":\"%s\",\"page_url\":\"http://n.example/%d/%d\",\"text\":\"第 %d 区第 "
		"%d 条\",\"image_b64\":\"%s\",\"n\":%d}",
		p % 2 ? "news" : "weibo", p, i, p, i, b64, i);
	free(b64);
	return s;
}

static void fill(const char *brokers, const char *topic, int from, int to)
{
	struct kafka_producer *p = kafka_producer_new(brokers, NULL);

	for (int i = from; i < to; i++)
		for (int k = 0; k < PARTS; k++) {
			char *s = message(k, i);
			kafka_produce(p, topic, k, s, strlen(s));
			free(s);
		}
	kafka_producer_close(p);
}

/* ---- running ---- */

static json_t *ingest(const char *corpus, const char *args, int want_code)
{
	return ingest_run(&tmp, "--quiet --no-fetch", corpus, args, want_code, NULL);
}

static char *url(char out[400], const char *brokers, const char *topic, const char *query)
{
	snprintf(out, 400, "'kafka://%s/%s%s'", brokers, topic, query);
	return out;
}

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

static pid_t start_with(const char *corpus, const char *first, const char *args)
{
	char cmd[2048];
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	snprintf(cmd, sizeof cmd, "exec %s/wenlan-ingest --quiet %s --corpus %s/%s %s", tmp_bin(),
		first, tmp.path, corpus, args);
	execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
	_exit(127);
}

static pid_t start(const char *corpus, const char *args)
{
	return start_with(corpus, "--no-fetch", args);
}

static void nap_ms(int64_t ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* The exit code, or -signal; waits at most `seconds`. */
static int reap(pid_t pid, int seconds)
{
	int status;

	for (int i = 0; i < seconds * 100; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		nap_ms(10);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1000;
}

static int64_t corpus_rows(const char *corpus)
{
	struct wl_corpus_counts n = {0};
	char p[512];
	struct wl_corpus *c = wl_corpus_open(tmp_path(&tmp, corpus, p), false, 0, &err);

	if (!c)
		return 0;
	if (wl_corpus_count(c, &n, &err) < 0)
		n = (struct wl_corpus_counts){0};
	wl_corpus_close(c);
	return n.pairs + n.quarantined;
}

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	mock = kafka_mock_start(2);
	kafka_mock_topic(&mock, "pages", PARTS);
	fill(mock.brokers, "pages", 0, PER_PART);
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

/* The mock waits 3 s for the first members of a group and drops who has not been heard of for a
 * session, so no session is shorter; a change of the group takes it a second less than one. */
#define GROUP_CONF                                                                                 \
	"--kafka-conf session.timeout.ms=3600 --kafka-conf heartbeat.interval.ms=100 "             \
	"--kafka-conf max.poll.interval.ms=10000"

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
	url(u, mock.brokers, "pages", "");
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
			url(u, mock.brokers, "pages", q));
		json_decref(ingest("steps", i % 2 ? args : strcat(args, " --commit-every 7"), 0));
	}
	expect_whole("steps", "partition by partition");
}

static void test_growth(void **state)
{
	char u[400], args[1000];

	(void)state;
	kafka_mock_topic(&mock, "grow", PARTS);
	fill(mock.brokers, "grow", 0, 20);
	snprintf(args, sizeof args, "--until-end --partitions 2 %s",
		url(u, mock.brokers, "grow", ""));
	json_t *v = ingest("grow", args, 0);
	assert_int_equal(ingest_count(v, "records"), 20 * PARTS);
	json_decref(v);
	fill(mock.brokers, "grow", 20, 33);
	v = ingest("grow", args, 0);
	assert_int_equal(ingest_count(v, "records"), 13 * PARTS);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "pairs"), 33 * PARTS - BAD);
	json_decref(v);
	/* Latest: what is there already is not wanted; what comes is, also after a stop before
	 * the first message. */
	snprintf(args, sizeof args, "--until-end %s",
		url(u, mock.brokers, "grow", "?offset=latest"));
	v = ingest("late", args, 0);
	assert_int_equal(ingest_count(v, "records"), 0);
	json_decref(v);
	fill(mock.brokers, "grow", 33, 40);
	v = ingest("late", args, 0);
	assert_int_equal(ingest_count(v, "records"), 7 * PARTS);
	json_decref(v);
}

/* kill -9 at random moments, again and again. */
static void test_kills(void **state)
{
	char u[400], args[1000];
	int want = getenv("WL_KILLS") ? atoi(getenv("WL_KILLS")) : 44, kills = 0, code = -1;

	(void)state;
	snprintf(args, sizeof args, "--until-end --partitions 4 --commit-every 3 %s",
		url(u, mock.brokers, "pages", ""));
	for (uint64_t round = 0; round < 2000 && code != 0; round++) {
		/* Until enough kills have hit, there is no time to finish. */
		int64_t longest = kills < want ? 30 + (int64_t)round / 4 : 100 * (int64_t)round;
		pid_t pid = start("killed", args);
		nap_ms(3 + (int64_t)(wl_rand64(5, 0, round) % (uint64_t)longest));
		kill(pid, SIGKILL);
		code = reap(pid, 20);
		if (code == 0 && kills < want)
			fail_msg("done after only %d kills", kills);
		assert_true(code == 0 || code == -SIGKILL);
		kills += code == -SIGKILL;
	}
	print_message("killed %d times\n", kills);
	assert_int_equal(code, 0);
	expect_whole("killed", "killed again and again");
}

/* Two processes and a single lane: they take turns, and both come to their end. */
static void test_turns(void **state)
{
	char u[400], args[1000];
	pid_t pid[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		snprintf(args, sizeof args, "--until-end --partitions 1 --commit-every 20 %s",
			url(u, mock.brokers, "pages", i ? "?partitions=2-4" : "?partitions=0,1"));
		pid[i] = start("turns", args);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(reap(pid[i], 60), 0);
	expect_whole("turns", "two processes, one lane");
	/* A process that stays, with nothing to read, lets the other in all the same. */
	snprintf(args, sizeof args, "--partitions 1 %s",
		url(u, mock.brokers, "pages", "?partitions=0,1"));
	pid[0] = start("guest", args);
	for (int i = 0; i < 1000 && corpus_rows("guest") < 2 * PER_PART; i++)
		nap_ms(10);
	snprintf(args, sizeof args, "--until-end %s",
		url(u, mock.brokers, "pages", "?partitions=2-4"));
	json_t *v = ingest("guest", args, 0);
	assert_int_equal(ingest_count(v, "records"), 3 * PER_PART);
	json_decref(v);
	kill(pid[0], SIGTERM);
	assert_int_equal(reap(pid[0], 20), 75);
	expect_whole("guest", "a guest in the lane");
}

/* Three processes of a group on fewer lanes than partitions; one after the other is killed or
 * stopped and started again, so partitions wander while they are read. */
static void test_group(void **state)
{
	char u[400], args[1000], p[512];
	pid_t pid[3];
	size_t rows;

	(void)state;
	snprintf(args, sizeof args, "--partitions 3 --commit-every 2 %s %s", GROUP_CONF,
		url(u, mock.brokers, "wander", "?group=w"));
	kafka_mock_topic(&mock, "wander", PARTS);
	for (int i = 0; i < 3; i++)
		pid[i] = start("wander", args);
	for (int i = 0; i < 4; i++) {
		fill(mock.brokers, "wander", i * PER_PART / 4, (i + 1) * PER_PART / 4);
		for (int k = 0; k < 1000 && corpus_rows("wander") < (i * ALL + ALL / 3) / 4; k++)
			nap_ms(10);
		kill(pid[i % 3], i == 2 ? SIGTERM : SIGKILL);
		int code = reap(pid[i % 3], 20);
		assert_int_equal(code, i == 2 ? 75 : -SIGKILL);
		pid[i % 3] = start("wander", args);
	}
	for (int i = 0; i < 3000 && corpus_rows("wander") < ALL; i++)
		nap_ms(10);
	for (int i = 0; i < 3; i++)
		kill(pid[i], SIGTERM);
	for (int i = 0; i < 3; i++)
		assert_int_equal(reap(pid[i], 20), 75);
	/* These are other origins than the reference's, so there is another reference. */
	snprintf(args, sizeof args, "--until-end %s", url(u, mock.brokers, "wander", ""));
	json_decref(ingest("wander-ref", args, 0));
	char *x = corpus_dump(tmp_path(&tmp, "wander-ref", p), NULL);
	char *y = corpus_dump(tmp_path(&tmp, "wander", p), &rows);
	assert_int_equal(rows, ALL);
	if (strcmp(x, y) != 0)
		fail_msg("after changes of the group the corpus is another");
	free(x);
	free(y);
}

/* Brokers away for a while, in the middle: the run goes on by itself. */
static void test_broker_restart(void **state)
{
	char u[400], args[1000];

	(void)state;
	snprintf(args, sizeof args, "--partitions 2 --commit-every 5 %s",
		url(u, mock.brokers, "restart", ""));
	kafka_mock_topic(&mock, "restart", PARTS);
	fill(mock.brokers, "restart", 0, 60);
	pid_t pid = start("restart", args);
	for (int i = 0; i < 500 && corpus_rows("restart") < 100; i++)
		nap_ms(10);
	kafka_mock_down(&mock);
	nap_ms(700);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it waits */
	kafka_mock_up(&mock);
	fill(mock.brokers, "restart", 60, 90);
	for (int i = 0; i < 3000 && corpus_rows("restart") < 90 * PARTS; i++)
		nap_ms(10);
	assert_int_equal(corpus_rows("restart"), 90 * PARTS);
	kill(pid, SIGTERM);
	assert_int_equal(reap(pid, 20), 75);
}

static void test_broker_gone(void **state)
{
	char u[400], args[1000];
	struct kafka_mock m = kafka_mock_start(1);

	(void)state;
	/* Never there. */
	snprintf(args, sizeof args, "--kafka-patience 1 %s", url(u, "127.0.0.1:1", "pages", ""));
	json_decref(ingest("gone", args, 75));
	/* There, but without the topic. */
	char *out;
	kafka_mock_hide(&mock, "no-such-topic");
	int code = tmp_run(&out, "%s/wenlan-ingest --quiet --corpus %s/gone --kafka-patience 1 %s",
		tmp_bin(), tmp.path, url(u, mock.brokers, "no-such-topic", ""));
	if (code != 75 || !strstr(out, "no-such-topic"))
		fail_msg("exit code %d: %s", code, out);
	free(out);
	/* It goes away in the middle: what was read stays, and the exit code is 75. */
	kafka_mock_topic(&m, "half", PARTS);
	fill(m.brokers, "half", 0, 30);
	snprintf(args, sizeof args, "--kafka-patience 2 --commit-every 5 %s",
		url(u, m.brokers, "half", ""));
	pid_t pid = start("half", args);
	for (int i = 0; i < 1000 && corpus_rows("half") < 30 * PARTS; i++)
		nap_ms(10);
	kafka_mock_stop(&m);
	assert_int_equal(reap(pid, 30), 75);
	assert_int_equal(corpus_rows("half"), 30 * PARTS);
}

/* A topic that is not the one that was read before, and messages that retention took. */
static void test_gaps(void **state)
{
	char u[400], args[1000], *out;
	struct kafka_mock m = kafka_mock_start(1);

	(void)state;
	kafka_mock_topic(&m, "pages", PARTS);
	fill(m.brokers, "pages", 0, 5);
	snprintf(args, sizeof args, "--until-end --quiet --corpus %s/ref %s", tmp.path,
		url(u, m.brokers, "pages", ""));
	int code = tmp_run(&out, "%s/wenlan-ingest %s", tmp_bin(), args);
	if (code != 3 || !strstr(out, "not the topic that was read before"))
		fail_msg("exit code %d: %s", code, out);
	free(out);
	/* The mock keeps 5 MB a partition: the first messages of "big" go. */
	kafka_mock_topic(&m, "big", 1);
	struct kafka_producer *p = kafka_producer_new(m.brokers, NULL);
	kafka_produce(p, "big", 0, "{}", 2);
	kafka_producer_close(p);
	snprintf(args, sizeof args, "--until-end %s", url(u, m.brokers, "big", ""));
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
	snprintf(args, sizeof args, "--until-end %s", url(u, m.brokers, "big", "?gap=skip"));
	json_t *v = ingest("big", args, 0);
	assert_true(ingest_count(v, "records") > 3 && ingest_count(v, "records") < 12);
	json_decref(v);
	kafka_mock_stop(&m);
}

/* A run without an end fetches by itself, while messages keep coming; killed, it goes on. */
static void test_fetch_meanwhile(void **state)
{
	enum { EACH = 40, ROUNDS = 3 };
	char u[400], args[1000];
	struct httpd web = httpd_start();

	(void)state;
	kafka_mock_topic(&mock, "addresses", PARTS);
	snprintf(args, sizeof args,
		"--partitions 2 --commit-every 3 --allow-net 127.0.0.1/32 --fetch-retry-seconds "
		"0.01 %s",
		url(u, mock.brokers, "addresses", ""));
	pid_t pid = start_with("addresses", "", args);
	for (int round = 0; round < ROUNDS; round++) {
		struct kafka_producer *p = kafka_producer_new(mock.brokers, NULL);
		for (int i = round * EACH; i < (round + 1) * EACH; i++) {
			/* Every fifth is missing. */
			char *s = wl_strf(&err,
				"{\"text\":\"%d\",\"image_url\":\"http://127.0.0.1:%d/%s/%d.jpg\"}",
				i, web.port, i % 5 ? "img" : "missing", i);
			kafka_produce(p, "addresses", i % PARTS, s, strlen(s));
			free(s);
		}
		kafka_producer_close(p);
		int64_t want = (round + 1) * EACH;
		for (int i = 0; i < 6000 && corpus_rows("addresses") < want; i++) {
			nap_ms(10);
			if (i == 5 && round == 1) { /* in the middle of it */
				kill(pid, SIGKILL);
				reap(pid, 20);
				pid = start_with("addresses", "", args);
			}
		}
		assert_int_equal(corpus_rows("addresses"), want);
	}
	kill(pid, SIGTERM);
	assert_int_equal(reap(pid, 20), 75);
	/* Nothing waits any more, and nothing is there twice. */
	snprintf(args, sizeof args, "--until-end %s", url(u, mock.brokers, "addresses", ""));
	json_t *v = json_object_get(ingest("addresses", args, 0), "corpus");
	assert_int_equal(ingest_count(v, "pending"), 0);
	assert_int_equal(ingest_count(v, "pairs"), ROUNDS * EACH * 4 / 5);
	assert_int_equal(ingest_count(v, "quarantined"), ROUNDS * EACH / 5);
	httpd_stop(&web);
}

/* Pages: text and base64 in another encoding, pictures that came with them and others. */
static void test_pages(void **state)
{
	static const char page[] =
		"<html><head><title>标题</title></head><body><article><h1>新闻</"
		"h1><p>这是一段足够长的"
		"正文，说的是今天城里的花开了，很多人去看。</p><figure><img "
		"src='/a.jpg'><figcaption>"
		"城里的花开了</figcaption></"
		"figure><p>这是另一段足够长的正文，说的是河边的树也绿了。</p>"
		"<img src='http://img.example/b.jpg' alt='河边的树绿了'></article></body></html>";
	char u[400], args[1000], p[512];
	char *pic = picture(7), *html64 = base64(page, sizeof page - 1);
	json_t *m[5] = {
		json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "url", "http://n.example/x/1.html", "html",
			page, "images", "url", "http://N.example:80/a.jpg", "b64", pic),
		json_pack("{s:s, s:s, s:{s:s}, s:s, s:[{s:s, s:s}, {s:s, s:s}]}", "url",
			"http://n.example/x/2.html", "html", html64, "headers", "content-TYPE",
			"text/html; charset=utf-8", "source", "baike", "images", "url", "../a.jpg",
			"b64", "bm8=", "url", "http://img.example/b.jpg", "b64", pic),
		json_pack("{s:s, s:s, s:[{s:s, s:s}, s, {s:s}]}", "url", "http://n.example/3",
			"html", "<p>没有图", "images", "url", "http://n.example/z.jpg", "b64", pic,
			"not an object", "url", "x"),
		json_pack("{s:s, s:s}", "url", "http://n.example/4", "html", "!!!"),
		json_pack("{s:s, s:s, s:s}", "url", "http://n.example/5", "html", "<p>", "headers",
			"none")};
	struct kafka_producer *k = kafka_producer_new(mock.brokers, NULL);

	(void)state;
	kafka_mock_topic(&mock, "html", 1);
	for (int i = 0; i < 5; i++) {
		assert_non_null(m[i]);
		char *s = json_dumps(m[i], 0);
		kafka_produce(k, "html", 0, s, strlen(s));
		free(s);
		json_decref(m[i]);
	}
	kafka_producer_close(k);
	free(pic);
	free(html64);
	snprintf(args, sizeof args, "--until-end --source-name web %s",
		url(u, mock.brokers, "html", "?profile=news"));
	json_t *v = ingest("html", args, 0);
	char *d = corpus_dump(tmp_path(&tmp, "html", p), NULL);
	/* 1: one with its picture, one to fetch; 2: one broken, one with its picture; 3: passed
	 * over; 4: no page; 5: wrong headers. */
	if (ingest_count(v, "kept") != 2 || ingest_count(v, "pending") != 1 ||
		ingest_count(v, "quarantined") != 3 || ingest_count(v, "opened") != 3 ||
		ingest_count(v, "yielded") != 4)
		fail_msg("not what was expected: %s\n%s", json_dumps(v, 0), d);
	assert_int_equal(ingest_count(json_object_get(v, "passed"), "pages read"), 3);
	assert_int_equal(ingest_count(json_object_get(v, "passed"),
				 "pictures of messages that no pair of the page uses"),
		1);
	assert_int_equal(ingest_count(json_object_get(v, "passed"),
				 "pictures of messages without url or b64"),
		2);
	assert_non_null(
		strstr(d, "Q|kafka:html/0|offset 4|wrong JSON: \"headers\" is not an object"));
	assert_non_null(strstr(d, "|web|http://n.example/a.jpg|http://n.example/x/1.html|[[\""));
	assert_non_null(strstr(d, "城里的花开了"));
	assert_non_null(strstr(d, "|baike|http://img.example/b.jpg|"));
	assert_non_null(strstr(d, "Q|kafka:html/0|offset 1, item 1|"));
	assert_non_null(strstr(d, "Q|kafka:html/0|offset 3|html is not base64"));
	json_decref(v);
	free(d);
}

/* Real pages, when they are here: as text they are what they are as bytes. */
static void test_real_pages(void **state)
{
	static const char dir[] = "../shared/data/web/html";
	char u[400], args[1000], p[512];
	struct wl_names names;
	int64_t yielded[2];

	(void)state;
	if (!wl_exists(dir))
		SKIP("%s is not here", dir);
	OK(wl_list_dir(dir, "*.html", &names, &err));
	struct kafka_producer *k = kafka_producer_new(mock.brokers, NULL);
	kafka_mock_topic(&mock, "real", 16); /* the mock keeps 5 MB in each */
	for (size_t i = 0; i < names.n; i++) {
		size_t n;
		snprintf(p, sizeof p, "%s/%s", dir, names.v[i]);
		char *bytes = tmp_read(p, &n), *b64 = base64(bytes, n);
		json_t *text =
			json_pack("{s:s, s:s%}", "url", "http://n.example/p/", "html", bytes, n);
		json_t *raw =
			json_pack("{s:s, s:s}", "url", "http://n.example/p/", "html_b64", b64);
		for (int way = 0; way < 2 && text; way++) { /* NULL: not UTF-8 */
			char *s = json_dumps(way ? raw : text, 0);
			kafka_produce(k, "real", 8 * way + (int)i % 8, s, strlen(s));
			free(s);
		}
		json_decref(text);
		json_decref(raw);
		free(bytes);
		free(b64);
	}
	wl_names_release(&names);
	kafka_producer_close(k);
	for (int way = 0; way < 2; way++) {
		char name[32], q[64];
		snprintf(name, sizeof name, "real-%d", way);
		snprintf(q, sizeof q, "?partitions=%s", way ? "8-15" : "0-7");
		snprintf(args, sizeof args, "--until-end %s", url(u, mock.brokers, "real", q));
		json_t *v = ingest(name, args, 0);
		yielded[way] = ingest_count(v, "yielded");
		assert_true(ingest_count(v, "opened") >= 20);
		json_decref(v);
	}
	assert_true(yielded[0] > 50);
	assert_int_equal(yielded[0], yielded[1]);
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
	url(u, mock.brokers, "pages", "");
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
	char u[400], args[1000], topic[64];

	(void)state;
	if (!brokers)
		SKIP("WL_KAFKA_BROKERS names no cluster");
	snprintf(topic, sizeof topic, "wenlan-test-%d-%ld", (int)getpid(), (long)time(NULL));
	struct kafka_producer *p = kafka_producer_new(brokers, NULL);
	for (int i = 0; i < PER_PART; i++) {
		char *s = message(0, i);
		kafka_produce(p, topic, 0, s, strlen(s));
		free(s);
	}
	kafka_producer_close(p);
	snprintf(args, sizeof args, "--until-end %s", url(u, brokers, topic, "?group=wenlan-test"));
	json_t *v = ingest("real", args, 0);
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
		cmocka_unit_test(test_group),
		cmocka_unit_test(test_broker_restart),
		cmocka_unit_test(test_broker_gone),
		cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_fetch_meanwhile),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_real_pages),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_real_broker),
	};
	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
		return kafka_mock_main();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* one of them, by its name */
	return cmocka_run_group_tests_name("kafka", tests, setup, teardown);
}
