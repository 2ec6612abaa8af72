/* See kafka_mock.h. */
#include "tests/support/kafka_mock.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what, const char *why)
{
	fprintf(stderr, "kafka mock: %s: %s\n", what, why);
	exit(1);
}

static void silent(const rd_kafka_t *rk, int level, const char *fac, const char *buf)
{
	(void)rk, (void)level, (void)fac, (void)buf;
}

/* ---- the mock's process ---- */

static void set_all(rd_kafka_mock_cluster_t *c, int n, int up)
{
	for (int i = 1; i <= n; i++) {
		if (up)
			rd_kafka_mock_broker_set_up(c, i);
		else
			rd_kafka_mock_broker_set_down(c, i);
	}
}

/* Commands, one a line on standard input; each is answered by a line. */
int kafka_mock_main(void)
{
	char line[512], topic[300];
	int brokers = 0, n;
	rd_kafka_mock_cluster_t *c = NULL;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rd_kafka_conf_set_log_cb(conf, silent);
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, topic, sizeof topic);
	if (!rk)
		die("rd_kafka_new", topic);
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "brokers %d", &brokers) == 1) {
			c = rd_kafka_mock_cluster_new(rk, brokers);
			printf("%s\n", c ? rd_kafka_mock_cluster_bootstraps(c) : "failed");
		} else if (sscanf(line, "topic %299s %d", topic, &n) == 2) {
			printf("%d\n", (int)rd_kafka_mock_topic_create(c, topic, n, 1));
		} else if (sscanf(line, "hide %299s", topic) == 1) {
			rd_kafka_mock_topic_set_error(
				c, topic, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
			puts("ok");
		} else if (strcmp(line, "down\n") == 0 || strcmp(line, "up\n") == 0) {
			set_all(c, brokers, *line == 'u');
			puts("ok");
		} else {
			puts("what?");
		}
		fflush(stdout);
	}
	return 0;
}

/* ---- the test's side ---- */

static void ask(struct kafka_mock *m, const char *command, char *answer, size_t size)
{
	size_t n = 0;

	if (write(m->to, command, strlen(command)) != (ssize_t)strlen(command))
		die("write", command);
	while (n + 1 < size && read(m->from, answer + n, 1) == 1 && answer[n] != '\n')
		n++;
	answer[n] = '\0';
	if (!n)
		die("no answer to", command);
}

struct kafka_mock kafka_mock_start(int brokers)
{
	struct kafka_mock m = {0};
	int in[2], out[2];
	char command[64];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		die("pipe", "failed");
	m.pid = fork();
	if (m.pid < 0)
		die("fork", "failed");
	if (m.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl("/proc/self/exe", "kafka-mock", KAFKA_MOCK_ARG, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	m.to = in[1];
	m.from = out[0];
	snprintf(command, sizeof command, "brokers %d\n", brokers);
	ask(&m, command, m.brokers, sizeof m.brokers);
	return m;
}

void kafka_mock_topic(struct kafka_mock *m, const char *topic, int partitions)
{
	char command[400], answer[64];

	snprintf(command, sizeof command, "topic %s %d\n", topic, partitions);
	ask(m, command, answer, sizeof answer);
	if (strcmp(answer, "0") != 0)
		die(command, answer);
}

void kafka_mock_hide(struct kafka_mock *m, const char *topic)
{
	char command[400], answer[64];

	snprintf(command, sizeof command, "hide %s\n", topic);
	ask(m, command, answer, sizeof answer);
}

void kafka_mock_down(struct kafka_mock *m)
{
	char answer[64];

	ask(m, "down\n", answer, sizeof answer);
}

void kafka_mock_up(struct kafka_mock *m)
{
	char answer[64];

	ask(m, "up\n", answer, sizeof answer);
}

void kafka_mock_stop(struct kafka_mock *m)
{
	if (!m->pid)
		return;
	kill(m->pid, SIGKILL);
	waitpid(m->pid, NULL, 0);
	close(m->to);
	close(m->from);
	*m = (struct kafka_mock){0};
}

/* ---- producing ---- */

struct kafka_producer {
	rd_kafka_t *rk;
};

static rd_kafka_t *client(rd_kafka_type_t type, const char *brokers, const char *group,
	const char *const *set)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[256], kv[256];
	int bad = rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);

	rd_kafka_conf_set_log_cb(conf, silent);
	if (group)
		bad |= rd_kafka_conf_set(conf, "group.id", group, why, sizeof why);
	for (; set && *set; set++) {
		char *eq;
		snprintf(kv, sizeof kv, "%s", *set);
		eq = strchr(kv, '=');
		if (!eq)
			die("not key=value", kv);
		*eq = '\0';
		bad |= rd_kafka_conf_set(conf, kv, eq + 1, why, sizeof why);
	}
	if (bad)
		die("configuration", why);
	rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
	if (!rk)
		die("rd_kafka_new", why);
	return rk;
}

struct kafka_producer *kafka_producer_new(const char *brokers, const char *const *conf)
{
	struct kafka_producer *p = calloc(1, sizeof *p);

	if (!p)
		die("producer", "no memory");
	p->rk = client(RD_KAFKA_PRODUCER, brokers, NULL, conf);
	return p;
}

void kafka_produce(struct kafka_producer *p, const char *topic, int32_t partition,
	const void *value, size_t n)
{
	rd_kafka_resp_err_t rc;

	for (;;) {
		rc = rd_kafka_producev(p->rk, RD_KAFKA_V_TOPIC(topic),
			RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
			RD_KAFKA_V_VALUE((void *)(uintptr_t)value, n), RD_KAFKA_V_END);
		if (rc != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		rd_kafka_poll(p->rk, 50);
	}
	if (rc)
		die("produce", rd_kafka_err2str(rc));
	rd_kafka_poll(p->rk, 0);
}

void kafka_producer_close(struct kafka_producer *p)
{
	rd_kafka_resp_err_t rc = rd_kafka_flush(p->rk, 30000);

	if (rc)
		die("flush", rd_kafka_err2str(rc));
	rd_kafka_destroy(p->rk);
	free(p);
}

int64_t kafka_group_offset(
	const char *brokers, const char *group, const char *topic, int32_t partition)
{
	rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, brokers, group, NULL);
	rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
	int64_t offset;

	rd_kafka_topic_partition_list_add(l, topic, partition);
	rd_kafka_resp_err_t rc = rd_kafka_committed(rk, l, 10000);
	if (rc)
		die("committed", rd_kafka_err2str(rc));
	offset = l->elems[0].offset;
	rd_kafka_topic_partition_list_destroy(l);
	rd_kafka_destroy(rk);
	return offset;
}

char *kafka_url(char out[400], const char *brokers, const char *topic, const char *query)
{
	snprintf(out, 400, "'kafka://%s/%s%s'", brokers, topic, query);
	return out;
}
