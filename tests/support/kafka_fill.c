/* See kafka_fill.h. */
#include "tests/support/kafka_fill.h"

#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/kafka_mock.h"
#include "tests/support/pictures.h"

#include <stdlib.h>
#include <string.h>

char *kafka_message(int p, int i)
{
	static const char *const bad[FILL_BAD] = {"", "{\"text\":\"x\",", "[1,2]",
		"{\"text\":\"x\",\"image\":\"/etc/passwd\"}",
		"{\"text\":\"x\",\"image_b64\":\"bm8=\"}", "\xff\xfe\x00\x01 not text at all",
		"{\"text\":7,\"image_b64\":\"\"}", "{\"image_url\":\"ftp://x/y\",\"text\":\"x\"}"};
	char *b64, *s;

	if (p == 1 && i < FILL_BAD)
		return strdup(bad[i]);
	b64 = pictures_in_message((uint32_t)(p * FILL_PER_PART + i));
	s = wl_strf(NULL,
		"{\"source\":\"%s\",\"page_url\":\"http://n.example/%d/%d\",\"text\":\"第 %d 区第 "
		"%d 条\",\"image_b64\":\"%s\",\"n\":%d}",
		p % 2 ? "news" : "weibo", p, i, p, i, b64, i);
	free(b64);
	assert_non_null(s);
	return s;
}

void kafka_fill(const char *brokers, const char *topic, int from, int to)
{
	struct kafka_producer *p = kafka_producer_new(brokers, NULL);

	for (int i = from; i < to; i++)
		for (int k = 0; k < FILL_PARTS; k++) {
			char *s = kafka_message(k, i);

			kafka_produce(p, topic, k, s, strlen(s));
			free(s);
		}
	kafka_producer_close(p);
}
