/* Topics full of records with pictures, for tests of what Kafka's messages become. */
#ifndef WL_TESTS_KAFKA_FILL_H
#define WL_TESTS_KAFKA_FILL_H

enum {
	FILL_PARTS = 5,
	FILL_PER_PART = 150,
	FILL_BAD = 8, /* the first ones of partition 1 */
	FILL_ALL = FILL_PARTS * FILL_PER_PART,
};

/* Message i of partition p, to be freed. */
char *kafka_message(int p, int i);
/* Sends messages from..to-1 of each of FILL_PARTS partitions, and waits until the brokers have
 * them. */
void kafka_fill(const char *brokers, const char *topic, int from, int to);

#endif
