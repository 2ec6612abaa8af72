/* The filter's rules over pairs whose picture dedup has seen: pairs a second on one core, with
 * the default rules and the word lists of ../shared where there are some; then how many pictures
 * a second the measures of clean/picture.h take. */
#include "clean/rules.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/bench/bench.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAIRS = 40000, SIDE = 424, PICTURES = 60 };

/* Default rules, with the lists when they are there. */
static struct wl_rules *load_rules(const struct wl_text *tx, struct wl_err *err)
{
	static const char lists[] = "../shared/data/text/lists/sensitive_";
	char path[] = "/tmp/bench-filter-XXXXXX", cwd[400];
	struct wl_rules *r;
	struct wl_buf b;
	int fd = mkstemp(path);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	wl_buf_init(&b, 1 << 20);
	must(f && getcwd(cwd, sizeof(cwd)) ? wl_read_file("clean/rules/default.yaml", &b, err) : -1,
		err);
	fprintf(f, "%.*s", (int)(strstr(b.data, "ads: {file") - b.data), b.data);
	fprintf(f, "ads: {file: %s/clean/rules/ads.txt}\n", cwd);
	if (wl_exists("../shared/data/text/lists/sensitive_ads.txt"))
		fprintf(f,
			"sensitive:\n  a: {file: %s/%sads.txt}\n  b: {file: "
			"%s/%sillegal_goods.txt}\n"
			"  c: {file: %s/%sporn.txt}\n  d: {file: %s/%sdomains_sample.txt}\n",
			cwd, lists, cwd, lists, cwd, lists, cwd, lists);
	else
		printf("no word lists (../shared is missing)\n");
	fclose(f);
	r = wl_rules_load(path, tx, err);
	unlink(path);
	must(r ? 0 : -1, err);
	wl_buf_release(&b);
	return r;
}

/* Texts of pairs: Weibo's posts, or a few sentences when they are missing. */
static size_t load_texts(char **v, size_t max)
{
	FILE *f = fopen("../shared/data/text/weibo_posts.jsonl", "r");
	char *line = NULL;
	size_t cap = 0, n = 0;

	while (f && n < max && getline(&line, &cap, f) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		json_t *t = json_pack(
			"[[s, s]]", "caption", json_string_value(json_object_get(o, "text")));
		if (t)
			v[n++] = json_dumps(t, JSON_COMPACT);
		json_decref(t);
		json_decref(o);
	}
	free(line);
	if (f)
		fclose(f);
	if (!n)
		v[n++] = strdup("[[\"caption\",\"今天天气很好，@小明 和我去公园 #春天# "
				"电话13812345678\"]]");
	return n;
}

int main(void)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_text *tx = wl_text_open(&err);
	struct wl_rules *r;
	struct wl_look look = {0};
	static char *texts[4096];
	size_t n, bytes = 0;
	double t;

	must(tx ? 0 : -1, &err);
	r = load_rules(tx, &err);
	n = load_texts(texts, 4096);
	for (int i = 0; i < WL_PHASH_PIXELS; i++)
		look.grey[i] = (uint8_t)wl_rand64(1, 2, (uint64_t)i);
	t = wl_cpu_s();
	for (int i = 0; i < PAIRS; i++) {
		struct wl_subject s = {.id = i,
			.name = "00000-1",
			.source = "weibo",
			.texts = texts[(size_t)i % n],
			.width = 400,
			.height = 300,
			.bytes = 30000,
			.look = &look};
		struct wl_outcome o;
		must(wl_rules_judge(r, &s, &o, &err), &err);
		bytes += strlen(s.texts);
		wl_outcome_release(&o);
	}
	t = wl_cpu_s() - t;
	printf("rules: %.0f pairs/s a core, %.1f MB/s of raw text (%zu bytes a pair)\n", PAIRS / t,
		(double)bytes / 1e6 / t, bytes / PAIRS);
	struct wl_image im = {SIDE, SIDE, 3, malloc(SIDE * SIDE * 3)};
	struct wl_picture p;
	for (size_t i = 0; im.data && i < SIDE * SIDE * 3; i++)
		im.data[i] = (uint8_t)(128 + i / 3 % SIDE / 8 + wl_rand64(3, 4, i) % 32);
	t = wl_cpu_s();
	for (int i = 0; i < PICTURES; i++)
		must(wl_picture_measure(&im, &p, &err), &err);
	t = wl_cpu_s() - t;
	printf("picture: %.0f of 0.18 MP measured/s a core (sharpness, entropy, text, QR)\n",
		PICTURES / t);
	free(im.data);
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
	wl_rules_free(r);
	wl_text_close(tx);
	return 0;
}
