/*
 * Kafka: small messages a second a core (the bar: 50,000), broker in another process.
 *
 * Usage: bench_kafka [MESSAGES]   (default 200000)
 *
 * Two kinds of message, some 250 bytes each: with a picture of 2x2 pixels inside, which is
 * decoded and stored; and with the address of one, which is stored for the fetch.  The rate is
 * messages per second of processor time of wenlan-ingest, all its threads and librdkafka's
 * included, so that it is a core's whatever the number of cores.
 */
#include "ops/clock.h"
#include "ops/file.h"
#include "tests/support/kafka_mock.c" /* a benchmark is one file */

#include <sys/resource.h>

enum { PARTS = 8 };

static double cpu_s(const struct rusage *u)
{
	return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
	       1e-6 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* A PNG of 2x2 pixels, one of four. */
static const char *const png[4] = {"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAC0lEQVR4nGNgQAY"
				   "AAA4AAamRc7EAAAAASUVORK5CYII=",
	"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAADklEQVR4nGNgYGSAIQAAUQAJ/"
	"n8XzwAAAABJRU5ErkJggg==",
	"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAADklEQVR4nGNgYGKAIQAAXgAN8r3w1AAAAABJRU5Erk"
	"Jggg==",
	"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAADklEQVR4nGNgYGaAIQAAawAR0BNezwAAAABJRU5Erk"
	"Jggg=="};

static void fill(const char *brokers, const char *topic, int64_t n, int pictures)
{
	static const char *const conf[] = {"compression.codec=lz4", "linger.ms=50",
		"queue.buffering.max.messages=200000", NULL};
	struct kafka_producer *p = kafka_producer_new(brokers, conf);
	char s[600];

	for (int64_t i = 0; i < n; i++) {
		int len = snprintf(s, sizeof s,
			"{\"page_url\":\"http://news.example.com/%lld.html\","
			"\"text\":\"第 %lld 张图片的说明文字\",",
			(long long)i, (long long)i);
		len += pictures ? snprintf(s + len, sizeof s - (size_t)len, "\"image_b64\":\"%s\"}",
					  png[i % 4])
				: snprintf(s + len, sizeof s - (size_t)len,
					  "\"image_url\":\"http://img.example.com/pictures/"
					  "%lld/large.jpg\"}",
					  (long long)i);
		kafka_produce(p, topic, (int32_t)(i % PARTS), s, (size_t)len);
	}
	kafka_producer_close(p);
}

/* Runs wenlan-ingest to the topic's end; 0: all came. */
static int measure(
	const char *brokers, const char *topic, const char *dir, int64_t n, const char *what)
{
	const char *bin = getenv("WL_BIN");
	char cmd[1024];
	struct rusage u;
	int status;
	double t = wl_now_s();
	pid_t pid;

	snprintf(cmd, sizeof cmd,
		"exec %s/wenlan-ingest --quiet --no-fetch --until-end --partitions 1 --corpus "
		"%s/%s "
		"--max-records %lld kafka://%s/%s",
		bin ? bin : "build/release/bin", dir, topic, (long long)n, brokers, topic);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &u) != pid || status)
		return fprintf(stderr, "bench_kafka: wenlan-ingest has failed\n"), 1;
	t = wl_now_s() - t;
	double rate = (double)n / cpu_s(&u);
	printf("kafka: %s: %.0f messages/s a core (bar 50000) %s; %.0f/s in all, %.1f us of "
	       "processor time each, %ld MB of memory\n",
		what, rate, rate >= 50000 ? "ok" : "BELOW", (double)n / t,
		1e6 * cpu_s(&u) / (double)n, u.ru_maxrss / 1024);
	return rate < 50000;
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;
	char dir[] = "/tmp/wl-bench-kafka-XXXXXX";
	int64_t n;
	int failed;

	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
		return kafka_mock_main();
	n = argc > 1 ? atoll(argv[1]) : 200000;
	if (!mkdtemp(dir))
		return 1;
	struct kafka_mock m = kafka_mock_start(1);
	kafka_mock_topic(&m, "urls", PARTS);
	kafka_mock_topic(&m, "pictures", PARTS);
	fill(m.brokers, "urls", n, 0);
	fill(m.brokers, "pictures", n, 1);
	failed = measure(m.brokers, "urls", dir, n, "with an address");
	failed |= measure(m.brokers, "pictures", dir, n, "with a picture");
	kafka_mock_stop(&m);
	if (wl_remove_tree(dir, &err) < 0)
		fprintf(stderr, "bench_kafka: %s\n", err.msg);
	return failed;
}
