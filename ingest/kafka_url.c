/* kafka://BROKERS/TOPIC?key=value&...: see kafka.h. */
#include "ingest/kafka.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PARTITION = 99999, MAX_TOPIC = 249 /* Kafka's own limit */ };

static int bad(struct wl_err *err, const char *url, const char *why)
{
	return wl_err_set(err, WL_EUSAGE,
		"source %s: %s; the form is "
		"kafka://HOST:PORT[,HOST:PORT]/TOPIC?group=NAME[&offset=earliest|latest]"
		"[&gap=stop|skip][&partitions=0-3][&profile=NAME]",
		url, why);
}

static int by_number(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return (x > y) - (x < y);
}

static int add_partition(struct wl_kafka_url *u, int32_t p, struct wl_err *err)
{
	int32_t *grown = realloc(u->only, (u->n_only + 1) * sizeof *grown);
	if (!grown)
		return wl_err_nomem(err, "a list of partitions", (u->n_only + 1) * sizeof *grown);
	u->only = grown;
	u->only[u->n_only++] = p;
	return 0;
}

/* "0-3,7" */
static int parse_partitions(
	struct wl_kafka_url *u, const char *list, const char *url, struct wl_err *err)
{
	for (const char *p = list;;) {
		char *end;
		long a = strtol(p, &end, 10), b = a;
		if (end == p)
			return bad(err, url, "partitions= is not a list like 0-3,7");
		if (*end == '-') {
			p = end + 1;
			b = strtol(p, &end, 10);
			if (end == p)
				return bad(err, url, "partitions= is not a list like 0-3,7");
		}
		if (a < 0 || b < a || b > MAX_PARTITION || (*end && *end != ','))
			return bad(err, url, "partitions= is not a list like 0-3,7");
		for (long i = a; i <= b; i++)
			WL_TRY(add_partition(u, (int32_t)i, err));
		if (!*end)
			break;
		p = end + 1;
	}
	qsort(u->only, u->n_only, sizeof *u->only, by_number);
	size_t kept = 1;
	for (size_t i = 1; i < u->n_only; i++)
		if (u->only[i] != u->only[kept - 1])
			u->only[kept++] = u->only[i];
	u->n_only = kept;
	return 0;
}

static int take(char **dst, const char *value, struct wl_err *err)
{
	free(*dst);
	*dst = wl_strf(err, "%s", value);
	return *dst ? 0 : -1;
}

static int parse_param(struct wl_kafka_url *u, char *kv, const char *url, struct wl_err *err)
{
	char *value = strchr(kv, '=');
	if (!value || !value[1])
		return bad(err, url, "a parameter has no value");
	*value++ = '\0';
	if (strcmp(kv, "group") == 0)
		return take(&u->group, value, err);
	if (strcmp(kv, "profile") == 0)
		return take(&u->profile, value, err);
	if (strcmp(kv, "partitions") == 0)
		return parse_partitions(u, value, url, err);
	if (strcmp(kv, "offset") == 0) {
		u->latest = strcmp(value, "latest") == 0;
		return u->latest || strcmp(value, "earliest") == 0
			       ? 0
			       : bad(err, url, "offset= is neither earliest nor latest");
	}
	if (strcmp(kv, "gap") == 0) {
		u->skip_gaps = strcmp(value, "skip") == 0;
		return u->skip_gaps || strcmp(value, "stop") == 0
			       ? 0
			       : bad(err, url, "gap= is neither stop nor skip");
	}
	return bad(err, url, "it has an unknown parameter");
}

static bool is_topic(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
	return n > 0 && n <= MAX_TOPIC && !s[n];
}

static int parse(struct wl_kafka_url *u, char *s, const char *url, struct wl_err *err)
{
	char *query = strchr(s, '?'), *slash = strchr(s, '/');
	if (query)
		*query++ = '\0';
	if (!slash || slash == s)
		return bad(err, url, "it names no broker or no topic");
	*slash++ = '\0';
	if (!is_topic(slash))
		return bad(err, url,
			"the topic's name is not one (letters, digits, '.', '_', '-', at most "
			"249)");
	WL_TRY(take(&u->brokers, s, err));
	WL_TRY(take(&u->topic, slash, err));
	for (char *save = NULL, *kv = query ? strtok_r(query, "&", &save) : NULL; kv;
		kv = strtok_r(NULL, "&", &save))
		WL_TRY(parse_param(u, kv, url, err));
	if (u->group && u->n_only)
		return bad(err, url, "group= and partitions= exclude each other");
	return 0;
}

int wl_kafka_url_parse(struct wl_kafka_url *u, const char *url, struct wl_err *err)
{
	static const char scheme[] = "kafka://";
	*u = (struct wl_kafka_url){0};
	if (strncmp(url, scheme, sizeof scheme - 1) != 0)
		return bad(err, url, "it does not begin with kafka://");
	char *copy = wl_strf(err, "%s", url + sizeof scheme - 1);
	int ret = copy ? parse(u, copy, url, err) : -1;
	free(copy);
	if (ret < 0)
		wl_kafka_url_release(u);
	return ret;
}

void wl_kafka_url_release(struct wl_kafka_url *u)
{
	if (!u)
		return;
	free(u->brokers);
	free(u->topic);
	free(u->group);
	free(u->profile);
	free(u->only);
	*u = (struct wl_kafka_url){0};
}
