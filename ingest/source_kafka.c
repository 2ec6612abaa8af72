/*
 * What a Kafka message is: the JSON object of every other source, or a page.
 *
 * A message's origin is its partition ("kafka:TOPIC/3", whatever the brokers), its place and its
 * ordinal are its offset, its position the offset after it.
 */
#include "ingest/ingest_priv.h"

#include "ingest/page_message.h"
#include "ops/file.h"

#include <stdlib.h>

/* The picture is named by the message it came in, and by its address if it has one. */
static int name_image(const struct wl_source *s, struct wl_record *r, struct wl_err *err)
{
	char *origin = wl_strf(err, "%s#%s", s->origin->name, r->pair.url);
	r->image_origin = origin ? wl_arena_strdup(&r->mem, origin, err) : NULL;
	free(origin);
	return r->image_origin ? 0 : -1;
}

/* The JSON object of every source. */
static int prepare_record(
	struct wl_source *s, struct wl_record *r, json_t *o, struct wl_err *err)
{
	struct wl_image_ref ref = {0};
	if (!r->reason)
		WL_TRY(wl_record_object(r, o, &ref, err));
	if (!r->reason && !r->has_image && ref.url)
		WL_TRY(wl_record_image_url(r, ref.url, err));
	/* What comes over the network must not name files of this machine. */
	else if (!r->reason && !r->has_image && ref.path)
		WL_TRY(wl_record_reject(r, err,
			"a message cannot name a file: it must bring image_b64 or image_url, not "
			"\"%.200s\"",
			ref.path));
	WL_TRY(name_image(s, r, err));
	return wl_record_finish(r, err);
}

int wl_kafka_prepare(struct wl_source *s, struct wl_record *r, struct wl_err *err)
{
	const struct wl_kafka_source *k = (const struct wl_kafka_source *)s;
	json_t *o = NULL;
	int ret;
	r->pair.source = s->origin->source;
	if (!r->reason)
		WL_TRY(wl_record_parse(r, wl_buf_str(&r->json), r->json.len, &o, err));
	if (wl_is_page_message(o))
		ret = wl_page_message(k->profile, r, o, s->origin->name, err);
	else
		ret = prepare_record(s, r, o, err);
	json_decref(o);
	return ret;
}

int64_t wl_kafka_recall(const char *place)
{
	return wl_place_number(place, "offset");
}

const struct wl_source_ops wl_source_kafka = {
	.kind = "kafka",
	.about = "kafka://BROKERS/TOPIC?group=G  messages: JSON records, or pages with their "
		 "pictures",
	.prepare = wl_kafka_prepare,
};
