/* Between the files of the Kafka consumer. */
#ifndef WL_INGEST_KAFKA_PRIV_H
#define WL_INGEST_KAFKA_PRIV_H

#include "ingest/kafka.h"

#include <librdkafka/rdkafka.h>

/* Fills in brokers, group, what exactness depends on, and --kafka-conf.  WL_EUSAGE. */
WL_MUST_CHECK int wl_kafka_conf_fill(rd_kafka_conf_t *c, const struct wl_kafka_url *u,
	const struct wl_kafka_conf *conf, struct wl_err *err);

#endif
