/* Everything is first put into one JSON object; text is printed from it. */
#include "loader/inspect.h"

#include "clean/wordpiece.h"
#include "loader/augment.h"
#include "loader/bare.h"
#include "loader/decode.h"
#include "loader/sheet.h"
#include "ingest/image.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "shards/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_JSON_BYTES = 16 * 1024 * 1024 };

/* KEY.json of a sample: a new reference. */
static json_t *sample_json(struct wl_loader *l, int64_t sample, const char *key,
	struct wl_err *err)
{
	struct wl_buf b;
	json_t *v = NULL;

	wl_buf_init(&b, MAX_JSON_BYTES);
	if (wl_shardset_read(wl_loader_shards(l), sample, NULL, &b, err) == 0)
		v = wl_json_parse(wl_buf_str(&b), b.len, key, err);
	wl_buf_release(&b);
	return v;
}

/* The caption that has this hash; "" when none has. */
static const char *caption_of(const json_t *sample, uint64_t hash)
{
	json_t *list = json_object_get(sample, "captions"), *c;
	size_t i;

	json_array_foreach(list, i, c) {
		const char *s = json_string_value(c);

		if (s && wl_hash64(s, json_string_length(c), 0) == hash)
			return s;
	}
	return "";
}

static json_t *params_json(const struct wl_augment_params *p)
{
	static const char *const names[] = {"brightness", "contrast", "saturation", "hue"};
	json_t *v = json_pack("{s:[i,i,i,i], s:b, s:b, s:f}", "crop", p->crop_x, p->crop_y,
		p->crop_w, p->crop_h, "flip", p->flip, "grey", p->grey, "blur_sigma",
		(double)p->blur_sigma);
	json_t *jitter = json_array();
	int i;

	for (i = 0; i < WL_JITTER_PARTS && p->order[i] >= 0; i++)
		json_array_append_new(jitter, json_pack("[s,f]", names[p->order[i]],
			(double)p->factor[p->order[i]]));
	json_object_set_new(v, "jitter", jitter);
	return v;
}

/* Row i of the batch as an object. */
static json_t *row_json(struct wl_loader *l, const struct wl_inspect *w,
	const struct wl_batch *b, int64_t i, struct wl_err *err)
{
	int R = w->o->regions, L = w->o->text_len, k;
	json_t *row, *sample, *boxes = json_array(), *ids = json_array();
	char key[WL_KEY_MAX];

	wl_shardset_key(wl_loader_shards(l), b->samples[i], key);
	sample = sample_json(l, b->samples[i], key, err);
	if (!sample) {
		json_decref(boxes);
		json_decref(ids);
		return NULL;
	}
	for (k = 0; k < R && b->region_mask[i * R + k] > 0; k++) {
		const float *box = b->boxes + (i * R + k) * 4;

		json_array_append_new(boxes, json_pack("[f,f,f,f]", (double)box[0],
			(double)box[1], (double)box[2], (double)box[3]));
	}
	for (k = 0; w->with_ids && k < b->lens[i]; k++)
		json_array_append_new(ids, json_integer(b->ids[i * L + k]));
	row = json_pack("{s:s, s:I, s:s, s:I, s:o, s:o, s:o}", "key", key, "pair_id",
		(json_int_t)b->pair_ids[i], "caption", caption_of(sample, b->text_hash[i]),
		"captions", (json_int_t)json_array_size(json_object_get(sample, "captions")),
		"ids", ids, "boxes", boxes, "augment", params_json(b->params + i));
	json_decref(sample);
	if (!row)
		wl_err_set(err, WL_EDATA, "sample %s holds text that is not UTF-8", key);
	return row;
}

static void print_params(const json_t *a)
{
	json_t *crop = json_object_get(a, "crop"), *part;
	size_t i;

	printf("  crop     %lld,%lld %lldx%lld%s%s", json_integer_value(json_array_get(crop, 0)),
		json_integer_value(json_array_get(crop, 1)),
		json_integer_value(json_array_get(crop, 2)),
		json_integer_value(json_array_get(crop, 3)),
		json_is_true(json_object_get(a, "flip")) ? ", flipped" : "",
		json_is_true(json_object_get(a, "grey")) ? ", grey" : "");
	if (json_real_value(json_object_get(a, "blur_sigma")) > 0)
		printf(", blur %.2f", json_real_value(json_object_get(a, "blur_sigma")));
	json_array_foreach(json_object_get(a, "jitter"), i, part)
		printf(", %s %.2f", json_string_value(json_array_get(part, 0)),
			json_real_value(json_array_get(part, 1)));
	putchar('\n');
}

static void print_row(const struct wl_inspect *w, const json_t *row)
{
	json_t *ids = json_object_get(row, "ids"), *boxes = json_object_get(row, "boxes"), *id;
	size_t i;

	printf("%s  pair %lld\n  caption  %s\n", json_string_value(json_object_get(row, "key")),
		json_integer_value(json_object_get(row, "pair_id")),
		json_string_value(json_object_get(row, "caption")));
	if (w->with_ids) {
		printf("  ids     ");
		json_array_foreach(ids, i, id)
			printf(" %lld", json_integer_value(id));
		printf("\n  tokens  ");
		json_array_foreach(ids, i, id)
			printf(" %s", wl_vocab_token(w->o->vocab, (int32_t)json_integer_value(id)));
		putchar('\n');
	}
	printf("  regions  %zu and the whole picture\n", json_array_size(boxes) - 1);
	print_params(json_object_get(row, "augment"));
}

static json_t *counts_json(struct wl_loader *l, const struct wl_inspect *w)
{
	struct wl_shardset *s = wl_loader_shards(l);
	int64_t down;

	wl_shardset_dead_samples(s, &down);
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:[]}", "shards", w->o->dir, "split",
		w->o->split, "packed", (json_int_t)wl_shardset_size(s), "taken_down",
		(json_int_t)down, "samples", (json_int_t)wl_loader_size(l),
		"batches", (json_int_t)wl_loader_batches(l), "fingerprint",
		wl_shardset_fingerprint(s), "shown");
}

static void print_counts(const json_t *v)
{
	printf("%s, split %s: %lld samples", json_string_value(json_object_get(v, "shards")),
		json_string_value(json_object_get(v, "split")),
		json_integer_value(json_object_get(v, "samples")));
	printf(" (%lld packed, %lld taken down), %lld batches an epoch\nfingerprint %s\n\n",
		json_integer_value(json_object_get(v, "packed")),
		json_integer_value(json_object_get(v, "taken_down")),
		json_integer_value(json_object_get(v, "batches")),
		json_string_value(json_object_get(v, "fingerprint")));
}

/* Appends the next samples to `shown` and the sheet. */
static int show_rows(struct wl_loader *l, const struct wl_inspect *w, json_t *shown,
	struct wl_sheet *sheet, struct wl_err *err)
{
	int64_t S = w->o->image_px, R = w->o->regions, left = w->samples, i;
	const struct wl_batch *b;
	int rc = 1;

	while (left > 0 && (rc = wl_loader_next(l, &b, err)) > 0) {
		for (i = 0; i < b->n && left > 0; i++, left--) {
			json_t *row = row_json(l, w, b, i, err);

			if (!row)
				return -1;
			json_array_append_new(shown, row);
			if (sheet)
				WL_TRY(wl_sheet_add(sheet, b->pixels + i * S * S * 3,
					b->boxes + i * R * 4, b->region_mask + i * R, (int)R,
					json_string_value(json_object_get(row, "caption")), err));
		}
	}
	return rc < 0 ? -1 : 0;
}

int wl_inspect_show(struct wl_loader *l, const struct wl_inspect *w, struct wl_err *err)
{
	json_t *v = counts_json(l, w), *shown = json_object_get(v, "shown"), *row;
	int64_t n = w->samples < wl_loader_size(l) ? w->samples : wl_loader_size(l);
	struct wl_sheet *sheet = NULL;
	size_t i;
	int rc = -1;

	if (w->sheet && n > 0) {
		sheet = wl_sheet_new(w->sheet, w->o->image_px, (int)n, err);
		if (!sheet)
			goto out;
	}
	WL_TRY_OUT(show_rows(l, w, shown, sheet, err));
	if (sheet)
		WL_TRY_OUT(wl_sheet_save(sheet, err));
	if (w->json)
		WL_TRY_OUT(wl_json_print(v, err));
	if (!w->json)
		print_counts(v);
	json_array_foreach(shown, i, row)
		if (!w->json)
			print_row(w, row);
	rc = 0;
out:
	wl_sheet_free(sheet);
	json_decref(v);
	return rc;
}

/* ---- measuring ---- */

static double seconds_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct job { /* a region to decode again */
	int64_t sample;
	struct wl_augment_params p;
};

/* The scale at which the loader decodes a region (wl_decoder_region). */
static unsigned scale_of(const struct wl_augment_params *p, int side, bool whole)
{
	double least = (whole ? 2.0 : 1.0) * side;
	unsigned denom = 1;

	while (denom < 8 && p->crop_w / (2 * denom) >= least && p->crop_h / (2 * denom) >= least)
		denom *= 2;
	return denom;
}

/* CPU seconds that libjpeg-turbo alone takes for the regions, pictures already in memory. */
static int bare_decode(struct wl_loader *l, const struct wl_inspect *w, const struct job *jobs,
	int64_t n, double *seconds, struct wl_err *err)
{
	struct wl_decoder *d = wl_decoder_new(err);
	struct wl_buf jpg;
	int64_t i;
	int rc = -1;

	wl_buf_init(&jpg, WL_IMAGE_MAX_BYTES);
	if (!d)
		goto out;
	*seconds = 0;
	for (i = 0; i < n; i++) {
		const struct wl_augment_params *p = &jobs[i].p;
		const int32_t box[4] = {p->crop_x, p->crop_y, p->crop_w, p->crop_h};
		int width, height;
		double t;

		wl_buf_reset(&jpg);
		WL_TRY_OUT(wl_shardset_read(wl_loader_shards(l), jobs[i].sample, &jpg, NULL, err));
		WL_TRY_OUT(wl_decoder_open(d, jpg.data, jpg.len, &width, &height, err));
		t = seconds_of(CLOCK_THREAD_CPUTIME_ID);
		WL_TRY_OUT(wl_bare_decode(jpg.data, jpg.len, box, scale_of(p, w->o->image_px,
			p->crop_w == width && p->crop_h == height), err));
		*seconds += seconds_of(CLOCK_THREAD_CPUTIME_ID) - t;
	}
	rc = 0;
out:
	wl_buf_release(&jpg);
	wl_decoder_free(d);
	return rc;
}

struct measured {
	struct wl_loader_stats before, after;
	double wall_s, cpu_s; /* of the loader: elapsed, of all threads */
	double bare_s;        /* CPU */
	double picture_bytes; /* that the consumer is given, all pictures */
	int64_t n;
};

/* What the consumer, such as a GPU, is given of row i. */
static double picture_bytes(const struct wl_loader_opts *o, const struct wl_batch *b, int64_t i)
{
	double px = 3.0 * o->image_px * o->image_px;

	return b->planes ? b->planes[i].bytes : b->crops ? px : px * sizeof(float);
}

static int measure(struct wl_loader *l, const struct wl_inspect *w, struct job *jobs,
	struct measured *m, struct wl_err *err)
{
	const struct wl_batch *b;
	double t = 0, cpu = 0;
	int64_t i;
	int rc;

	/* Every buffer of the ring is touched before the clock starts. */
	m->n = -(w->o->prefetch ? w->o->prefetch : 2) - 2;
	while (m->n < w->samples && (rc = wl_loader_next(l, &b, err)) != 0) {
		if (rc < 0)
			return -1;
		if (m->n < -1) {
			m->n++;
			continue;
		}
		if (m->n < 0) {
			wl_loader_stats(l, &m->before);
			m->n = 0;
			t = seconds_of(CLOCK_MONOTONIC);
			cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
			continue;
		}
		for (i = 0; i < b->n && m->n < w->samples; i++) {
			m->picture_bytes += picture_bytes(w->o, b, i);
			jobs[m->n++] = (struct job){b->samples[i], b->params[i]};
		}
	}
	if (m->n <= 0)
		return wl_err_set(err, WL_EUSAGE,
			"split \"%s\" has too few samples to measure; lower --batch",
			w->o->split);
	m->wall_s = seconds_of(CLOCK_MONOTONIC) - t;
	m->cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wl_loader_stats(l, &m->after);
	return bare_decode(l, w, jobs, m->n, &m->bare_s, err);
}

static json_t *measured_json(const struct wl_inspect *w, const struct measured *m)
{
	/* Workers are ahead of what was delivered: divide by what they made. */
	const struct wl_loader_stats *a = &m->after, *b = &m->before;
	double cpu = a->read_s - b->read_s + a->decode_s - b->decode_s + a->augment_s -
		b->augment_s + a->text_s - b->text_s;

	return json_pack("{s:I, s:i, s:i, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f}, s:f, s:f,"
		"s:f}",
		"images", (json_int_t)m->n, "threads", w->o->threads, "image_px", w->o->image_px,
		"images_per_s", (double)m->n / m->wall_s, "images_per_cpu_s",
		(double)m->n / m->cpu_s, "consumer_wait", (a->wait_s - b->wait_s) / m->wall_s,
		"share", "read", (a->read_s - b->read_s) / cpu, "decode",
		(a->decode_s - b->decode_s) / cpu, "augment", (a->augment_s - b->augment_s) / cpu,
		"text", (a->text_s - b->text_s) / cpu, "crop_decode_per_cpu_s",
		(double)m->n / m->bare_s, "of_crop_decode", m->bare_s / m->cpu_s,
		"bytes_per_image", m->picture_bytes / (double)m->n);
}

static double num(const json_t *v, const char *key)
{
	return json_number_value(json_object_get(v, key));
}

static void print_measured(const json_t *v)
{
	json_t *s = json_object_get(v, "share");

	printf("%.0f images/s (%lld images of %lld px, %lld threads)\n", num(v, "images_per_s"),
		json_integer_value(json_object_get(v, "images")),
		json_integer_value(json_object_get(v, "image_px")),
		json_integer_value(json_object_get(v, "threads")));
	printf("workers: read %.1f %%, decode %.1f %%, augment %.1f %%, text %.1f %%; "
		"consumer waited %.1f %% and was given %.0f KB a picture\n",
		100 * num(s, "read"), 100 * num(s, "decode"),
		100 * num(s, "augment"), 100 * num(s, "text"), 100 * num(v, "consumer_wait"),
		num(v, "bytes_per_image") / 1000);
	printf("per CPU second %.0f images; libjpeg-turbo alone decodes %.0f of the same regions: "
		"%.2f of that is left\n", num(v, "images_per_cpu_s"),
		num(v, "crop_decode_per_cpu_s"), num(v, "of_crop_decode"));
}

int wl_inspect_bench(struct wl_loader *l, const struct wl_inspect *w, struct wl_err *err)
{
	struct job *jobs = calloc((size_t)w->samples, sizeof(*jobs));
	struct measured m = {0};
	json_t *v = NULL;
	int rc = -1;

	if (!jobs)
		return wl_err_nomem(err, "the measurement", (size_t)w->samples * sizeof(*jobs));
	WL_TRY_OUT(measure(l, w, jobs, &m, err));
	v = measured_json(w, &m);
	if (w->json)
		WL_TRY_OUT(wl_json_print(v, err));
	else
		print_measured(v);
	rc = 0;
out:
	json_decref(v);
	free(jobs);
	return rc;
}
