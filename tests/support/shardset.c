#include "tests/support/shardset.h"

#include "ops/file.h"
#include "shards/manifest.h"
#include "shards/write.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0)
		fail_msg("toy shard set: %s", err->msg);
}

int wl_toy_width(int i)
{
	return 64 + i * 37 % 120;
}

int wl_toy_height(int i)
{
	return 48 + i * 53 % 90;
}

void wl_toy_picture(int i, struct wl_image *out)
{
	int w = wl_toy_width(i), h = wl_toy_height(i), x, y, c;

	*out = (struct wl_image){w, h, 3, malloc((size_t)w * (size_t)h * 3)};
	assert_non_null(out->data);
	for (y = 0; y < h; y++)
		for (x = 0; x < w; x++)
			for (c = 0; c < 3; c++) {
				double v =
					120 + 70 * sin(x * 0.11 + i + c) * cos(y * 0.07 * (c + 1));

				if (x > w / 4 && x < w / 2 && y > h / 3 && y < h / 2)
					v = c == i % 3 ? 250 : 20;
				out->data[(y * w + x) * 3 + c] = (uint8_t)v;
			}
}

static void add_sample(const struct wl_toy_set *s, struct wl_shard_writer *w, int i)
{
	struct wl_err err = WL_ERR_INIT;
	char text[16][48];
	const char *captions[16];
	const char *source = !s->two_sources ? "toy" : i % 3 == 0 ? "baike" : "news";
	struct wl_sample_facts facts = {
		.pair_id = 1000 + i, .source = source, .width = wl_toy_width(i),
		.height = wl_toy_height(i), .topic = -1, .split_group = 1000 + i,
		.captions = captions, .n_captions = (size_t)(1 + i % s->captions),
		.boxes = s->boxes && i % 3 == 0 ? "[[10,5,30,25],[40.5,20,60,44],[0,0,2,2]]" : NULL,
	};
	struct wl_sample sample = {.pair_id = 1000 + i, .topic = -1, .width = facts.width,
		.height = facts.height, .source = source, .url = ""};
	struct wl_image im;
	struct wl_buf jpg;
	char *json;

	for (int k = 0; k < 16; k++) {
		snprintf(text[k], sizeof(text[k]), "图片 %d，说法 %d", i, k);
		captions[k] = text[k];
	}
	wl_toy_picture(i, &im);
	wl_buf_init(&jpg, 1 << 20);
	must(wl_image_encode_jpeg(&im, 90, &jpg, &err), &err);
	json = wl_sample_json(&facts, &err);
	if (!json)
		fail_msg("toy shard set: %s", err.msg);
	sample.jpg = jpg.data;
	sample.jpg_len = i == s->bad_jpeg ? jpg.len / 2 : jpg.len;
	sample.txt = captions[0];
	sample.json = i == s->bad_text ? "{\"captions\":[7]}" : json;
	must(wl_shard_writer_add(w, &sample, &err), &err);
	free(json);
	wl_buf_release(&jpg);
	wl_image_release(&im);
}

void wl_toy_set_write(const struct wl_toy_set *s)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shard_info info[64];
	json_t *meta = json_pack("{s:s, s:s}", "version", "1", "seed", "1");
	int n = 0, i = 0;

	while (i < s->samples) {
		struct wl_shard_writer *w = wl_shard_writer_new(s->dir, s->split, n, "", &err);

		if (!w)
			fail_msg("toy shard set: %s", err.msg);
		for (int k = 0; k < s->per_shard && i < s->samples; k++)
			add_sample(s, w, i++);
		wl_shard_writer_finish(w);
		assert_true(n < 64);
		must(wl_shard_writer_wait(w, &info[n++], &err), &err);
		wl_shard_writer_free(w);
	}
	must(wl_manifest_write(s->dir, info, (size_t)n, meta, &err), &err);
	json_decref(meta);
	if (s->dead)
		must((int)wl_manifest_tombstone(s->dir, &s->dead, 1, "test", &err), &err);
}

const char wl_toy_words[] =
	"[PAD]\n[UNK]\n[CLS]\n[SEP]\n图\n片\n说\n法\n，\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	"##0\n##1\n##2\n##3\n##4\n##5\n##6\n##7\n##8\n##9\n";

void wl_toy_home_make(struct wl_toy_home *h, const char *name)
{
	struct wl_err err = WL_ERR_INIT;

	snprintf(h->dir, sizeof(h->dir), "/tmp/wl-%s-XXXXXX", name);
	assert_non_null(mkdtemp(h->dir));
	h->vocab = wl_vocab_parse(wl_toy_words, strlen(wl_toy_words), "vocab", &err);
	assert_non_null(h->vocab);
}

void wl_toy_home_remove(struct wl_toy_home *h)
{
	struct wl_err err = WL_ERR_INIT;

	wl_vocab_free(h->vocab);
	must(wl_remove_tree(h->dir, &err), &err);
}

int wl_toy_teardown(void **state)
{
	wl_toy_home_remove(*state);
	free(*state);
	return 0;
}

struct wl_loader *wl_toy_open(const struct wl_loader_opts *o)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_loader *l = wl_loader_open(o, &err);

	if (!l)
		fail_msg("%s", err.msg);
	return l;
}

const struct wl_batch *wl_toy_next(struct wl_loader *l)
{
	struct wl_err err = WL_ERR_INIT;
	const struct wl_batch *b = NULL;
	int rc = wl_loader_next(l, &b, &err);

	if (rc < 0)
		fail_msg("%s", err.msg);
	return rc ? b : NULL;
}
