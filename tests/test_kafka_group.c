/*
 * A group of wenlan-ingest processes whose members come and go: the corpus is that of a run that
 * nobody disturbed.  One process alone: test_kafka.c.
 */
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kafka_fill.h"
#include "tests/support/kafka_mock.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct tmp_dir tmp;
static struct kafka_mock mock;

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	mock = kafka_mock_start(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kafka_mock_stop(&mock);
	tmp_remove(&tmp);
	return 0;
}

/* The mock waits 3 s for the first members of a group and drops who has not been heard of for a
 * session, so no session is shorter; a change of the group takes it a second less than one. */
#define GROUP_CONF                                                                                 \
	"--kafka-conf session.timeout.ms=3600 --kafka-conf heartbeat.interval.ms=100 "             \
	"--kafka-conf max.poll.interval.ms=30000"

/* Three processes of a group on fewer lanes than partitions; one after the other is killed or
 * stopped and started again, so partitions wander while they are read. */
static void test_group(void **state)
{
	char u[400], args[1000], p[512];
	pid_t pid[3];
	size_t rows;

	(void)state;
	snprintf(args, sizeof args, "--partitions 3 --commit-every 2 %s %s", GROUP_CONF,
		kafka_url(u, mock.brokers, "wander", "?group=w"));
	kafka_mock_topic(&mock, "wander", FILL_PARTS);
	for (int i = 0; i < 3; i++)
		pid[i] = ingest_start(&tmp, "--no-fetch", "wander", args);
	for (int i = 0; i < 4; i++) {
		kafka_fill(
			mock.brokers, "wander", i * FILL_PER_PART / 4, (i + 1) * FILL_PER_PART / 4);
		ingest_wait_for_rows(&tmp, "wander", (i * FILL_ALL + FILL_ALL / 3) / 4);
		if (i == 2)
			ingest_stop(pid[i % 3]);
		else
			kill(pid[i % 3], SIGKILL);
		assert_int_equal(ingest_reap(pid[i % 3], 60), i == 2 ? 75 : -SIGKILL);
		pid[i % 3] = ingest_start(&tmp, "--no-fetch", "wander", args);
	}
	ingest_wait_for_rows(&tmp, "wander", FILL_ALL);
	for (int i = 0; i < 3; i++)
		ingest_stop(pid[i]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ingest_reap(pid[i], 60), 75);
	json_decref(ingest_runf(&tmp, "--quiet --no-fetch", "ref", 0, "--until-end %s",
		kafka_url(u, mock.brokers, "wander", "")));
	char *x = corpus_dump(tmp_path(&tmp, "ref", p), NULL);
	char *y = corpus_dump(tmp_path(&tmp, "wander", p), &rows);
	assert_int_equal(rows, FILL_ALL);
	if (strcmp(x, y) != 0)
		fail_msg("after changes of the group the corpus is another");
	free(x);
	free(y);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_group)};

	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
		return kafka_mock_main();
	return cmocka_run_group_tests_name("kafka_group", tests, setup, teardown);
}
