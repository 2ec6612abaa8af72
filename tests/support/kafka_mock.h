/*
 * A Kafka cluster for tests: librdkafka's mock cluster in a process of its own, spoken to over
 * TCP.  The process is this very program, started again: its main() must begin with
 *
 *	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
 *		return kafka_mock_main();
 *
 * The mock keeps at most 5 MB and 100,000 batches a partition, as if by retention.
 */
#ifndef WL_TESTS_KAFKA_MOCK_H
#define WL_TESTS_KAFKA_MOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KAFKA_MOCK_ARG "--kafka-mock"
int kafka_mock_main(void);

struct kafka_mock {
	pid_t pid;
	int to, from;       /* pipes */
	char brokers[256];  /* HOST:PORT,... */
};
/* Starts it with so many brokers; ends the program with a message when it cannot. */
struct kafka_mock kafka_mock_start(int brokers);
void kafka_mock_topic(struct kafka_mock *m, const char *topic, int partitions);
/* The brokers deny that they have it (they make any other topic that is asked for). */
void kafka_mock_hide(struct kafka_mock *m, const char *topic);
/* All brokers refuse and drop connections, data kept; and back. */
void kafka_mock_down(struct kafka_mock *m);
void kafka_mock_up(struct kafka_mock *m);
/* Ends the process (kill -9). */
void kafka_mock_stop(struct kafka_mock *m);

/* Sends values one after the other to partitions i % partitions (one partition: all to it, as
 * everywhere for the same i) and waits until the brokers have them.  conf: "key=value" for
 * librdkafka, NULL at the end; may be NULL. */
struct kafka_producer;
struct kafka_producer *kafka_producer_new(const char *brokers, const char *const *conf);
void kafka_produce(struct kafka_producer *p, const char *topic, int32_t partition,
	const void *value, size_t n);
/* Waits, then frees. */
void kafka_producer_close(struct kafka_producer *p);
/* The group's offset of a partition as the broker has it; -1001: none. */
int64_t kafka_group_offset(const char *brokers, const char *group, const char *topic,
	int32_t partition);

/* "'kafka://BROKERS/TOPICQUERY'", for a shell; returns out. */
char *kafka_url(char out[400], const char *brokers, const char *topic, const char *query);

#endif
