/*
 * What a Kafka message is: the JSON object of every other source, or a page.
 *
 * A message's origin is its partition ("kafka:TOPIC/3", whatever the brokers), its place and its
 * ordinal are its offset, its position the offset after it.
 */
#include "ingest/ingest_priv.h"

#include "ingest/page_message.h"
#include "ingest/record_priv.h"

#include <string.h>

/* The picture is named by the message it came in, and by its address if it has one. */
static int name_image(const struct wl_source *s, struct wl_record *r, struct wl_err *err)
{
	size_t n = strlen(s->origin->name), m = strlen(r->pair.url);
	char *out = wl_arena_alloc(&r->mem, n + m + 2, err);
	r->image_origin = out ? out : "";
	if (!out)
		return -1;
	memcpy(out, s->origin->name, n);
	out[n] = '#';
	memcpy(out + n + 1, r->pair.url, m + 1);
	return 0;
}

/* A JSON object of every source was taken into r, or rejected. */
static int finish_record(struct wl_source *s, struct wl_record *r, const struct wl_image_ref *ref,
	struct wl_err *err)
{
	if (!r->reason && !r->has_image && ref->url)
		WL_TRY(wl_record_image_url(r, ref->url, err));
	/* What comes over the network must not name files of this machine. */
	else if (!r->reason && !r->has_image && ref->path)
		WL_TRY(wl_record_reject(r, err,
			"a message cannot name a file: it must bring image_b64 or image_url, not "
			"\"%.200s\"",
			ref->path));
	WL_TRY(name_image(s, r, err));
	return wl_record_finish(r, err);
}

/* The way over the tree: pages, what is unusual, what is wrong. */
static int prepare_tree(struct wl_source *s, struct wl_record *r, struct wl_err *err)
{
	const struct wl_kafka_source *k = (const struct wl_kafka_source *)s;
	struct wl_image_ref ref = {0};
	json_t *o = NULL;
	int ret = 0;
	if (!r->reason)
		WL_TRY(wl_record_parse(r, wl_buf_str(&r->json), r->json.len, &o, err));
	if (wl_is_page_message(o)) {
		ret = wl_page_message(k->profile, r, o, s->origin->name, err);
	} else {
		if (!r->reason)
			ret = wl_record_object(r, o, &ref, err);
		if (ret == 0)
			ret = finish_record(s, r, &ref, err);
	}
	json_decref(o);
	return ret;
}

int wl_kafka_prepare(struct wl_source *s, struct wl_record *r, struct wl_err *err)
{
	struct wl_image_ref ref = {0};
	r->pair.source = s->origin->source;
	int flat = r->reason ? 0 : wl_record_flat(r, wl_buf_str(&r->json), r->json.len, &ref, err);
	WL_TRY(flat);
	return flat ? finish_record(s, r, &ref, err) : prepare_tree(s, r, err);
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
