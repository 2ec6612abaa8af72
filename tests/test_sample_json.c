/* A sample's JSON in a shard: to the byte what the JSON library makes of the same facts. */
#include "ops/hash.h"
#include "ops/json.h"
#include "shards/shard.h"
#include "shards/write.h"
#include "tests/support/cm.h"

#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void test_sample_json(void **state)
{
	const char *captions[] = {"\xff\xfe"};
	struct wl_sample_facts f = {.pair_id = 1};

	(void)state;
	assert_null(wl_sample_json(&f, &err));
	assert_non_null(strstr(err.msg, "no caption"));
	f.captions = captions;
	f.n_captions = 1;
	assert_null(wl_sample_json(&f, &err));
	assert_non_null(strstr(err.msg, "UTF-8"));
	captions[0] = "图";
	f.boxes = "[[1,";
	assert_null(wl_sample_json(&f, &err));
	assert_int_equal(err.code, WL_EDATA);
}

/* What jansson makes of the same facts; NULL: a text is not UTF-8. */
static char *json_by_tree(const struct wl_sample_facts *f)
{
	json_t *captions = json_array(), *o;
	char *text = NULL;
	bool ok = true;

	for (size_t i = 0; i < f->n_captions; i++)
		ok &= json_array_append_new(captions, json_string(f->captions[i])) == 0;
	o = json_pack("{s:o, s:I, s:I, s:i, s:i, s:o, s:s, s:s, s:s, s:s, s:o}", "captions",
		captions, "pair_id", (json_int_t)f->pair_id, "split_group",
		(json_int_t)f->split_group, "width", f->width, "height", f->height, "topic",
		f->topic < 0 ? json_null() : json_integer(f->topic), "source", f->source, "url",
		f->url, "page_url", f->page_url, "title", f->title ? f->title : "", "boxes",
		f->boxes ? wl_json_parse(f->boxes, strlen(f->boxes), "boxes", &err) : json_null());
	if (o && f->category)
		ok &= json_object_set_new(o, "category", json_string(f->category)) == 0;
	if (o && ok)
		text = wl_json_text(o, &err);
	json_decref(o);
	return text;
}

/* Texts of all kinds of bytes: what is written equals what the library writes, or is refused where
 * it refuses. */
static void test_sample_json_bytes(void **state)
{
	static const char *const piece[] = {"a", "图", "\"", "\\", "/", "\b\f\n\r\t", "\x01\x1f",
		"\x7f", "é", "\xf0\x9f\x90\xb1", "\xe2\x80\xa8", "\xff", "\xed\xa0\x80", "\xc0\x80",
		"\xf4\x90\x80\x80", "\xe5\x9b"};
	static const char *const boxes[] = {NULL, "[]", "[[ 1, 2,3 , 4],[0.5,1e300,-7,2.25]]"};
	enum { PIECES = sizeof piece / sizeof *piece, GOOD = 11, TEXTS = 7, ROUNDS = 4000 };
	int refused = 0;

	(void)state;
	for (uint64_t round = 0; round < ROUNDS; round++) {
		char text[TEXTS][128];
		const char *captions[2] = {text[0], text[1]};
		struct wl_sample_facts f = {.pair_id = (int64_t)(wl_rand64(1, round, 99) >> 1),
			.width = (int)(round % 5000),
			.height = 7,
			.topic = (int64_t)(round % 3) - 1,
			.split_group = -(int64_t)round,
			.boxes = boxes[round % 3],
			.captions = captions,
			.n_captions = 1 + round % 2,
			.source = text[2],
			.url = text[3],
			.page_url = text[4],
			.title = round % 5 ? text[5] : NULL,
			.category = round % 4 ? text[6] : NULL};
		char *got, *want;

		for (uint64_t t = 0; t < TEXTS; t++) {
			uint64_t n = wl_rand64(2, round, t) % 9;

			text[t][0] = 0;
			for (uint64_t k = 0; k < n; k++) { /* one in some forty is broken */
				uint64_t r = wl_rand64(3, round * TEXTS + t, k);

				strcat(text[t], piece[r % 40 ? r / 40 % GOOD : r / 40 % PIECES]);
			}
		}
		got = wl_sample_json(&f, &err);
		want = json_by_tree(&f);
		if (want)
			assert_string_equal(got ? got : err.msg, want);
		else
			assert_null(got);
		refused += !want;
		free(got);
		free(want);
	}
	assert_in_range(refused, ROUNDS / 20, ROUNDS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sample_json), cmocka_unit_test(test_sample_json_bytes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
