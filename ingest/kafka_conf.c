/* The consumer's properties: ours, which exactness depends on, and the user's. */
#include "ingest/kafka_priv.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

static int conf_set(rd_kafka_conf_t *c, const char *key, const char *value, struct wl_err *err)
{
	char why[512];
	if (rd_kafka_conf_set(c, key, value, why, sizeof why) == RD_KAFKA_CONF_OK)
		return 0;
	return wl_err_set(err, WL_EUSAGE, "--kafka-conf %s=%s: %s", key, value, why);
}

/* What exactness depends on is not for the user to change. */
static bool is_ours(const char *key)
{
	static const char *const fixed[] = {"enable.auto.commit", "enable.auto.offset.store",
		"auto.offset.reset", "enable.partition.eof", "bootstrap.servers",
		"metadata.broker.list", "group.id", "auto.commit.enable"};
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
		if (strcmp(key, fixed[i]) == 0)
			return true;
	return false;
}

static int conf_user(rd_kafka_conf_t *c, const struct wl_strs *set, struct wl_err *err)
{
	for (size_t i = 0; set && i < set->n; i++) {
		const char *eq = strchr(set->v[i], '=');
		if (!eq || eq == set->v[i])
			return wl_err_set(err, WL_EUSAGE,
				"--kafka-conf %s is not key=value, for instance "
				"security.protocol=ssl",
				set->v[i]);
		char *key = wl_strf(err, "%.*s", (int)(eq - set->v[i]), set->v[i]);
		if (!key)
			return -1;
		int ret = is_ours(key) ? wl_err_set(err, WL_EUSAGE,
						 "--kafka-conf %s: this property is set by the "
						 "source itself (brokers and group are in the "
						 "kafka:// URL)",
						 key)
				       : conf_set(c, key, eq + 1, err);
		free(key);
		WL_TRY(ret);
	}
	return 0;
}

int wl_kafka_conf_fill(rd_kafka_conf_t *c, const struct wl_kafka_url *u,
	const struct wl_kafka_conf *conf, struct wl_err *err)
{
	/* Without a group the id only names whose offsets lag tools show. */
	static const char *const fixed[][2] = {{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"}, {"auto.offset.reset", "error"},
		{"enable.partition.eof", "true"},
		/* defaults of ours, which --kafka-conf may change */
		{"client.id", "wenlan-ingest"}, {"queued.max.messages.kbytes", "16384"},
		{"fetch.queue.backoff.ms", "20"}, {"fetch.wait.max.ms", "100"},
		{"reconnect.backoff.max.ms", "2000"}, {"socket.keepalive.enable", "true"}};
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
		/* A release that lacks one of them does without. */
		char why[256];
		rd_kafka_conf_set(c, fixed[i][0], fixed[i][1], why, sizeof why);
	}
	WL_TRY(conf_set(c, "bootstrap.servers", u->brokers, err));
	WL_TRY(conf_set(c, "group.id", u->group ? u->group : "wenlan-ingest", err));
	return conf_user(c, conf->set, err);
}
