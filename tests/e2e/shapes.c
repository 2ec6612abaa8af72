/*
 * A data set that cannot be fooled: pictures of one coloured shape in one place on a textured
 * ground, with Chinese captions in varied wording.  The test pairs show combinations of colour,
 * shape and place that no training pair shows, and every test caption is distinct, so a model
 * scores only by having learnt what the words mean.
 *
 *   shapes OUT [PAIRS [SEED]]     writes OUT/pairs.jsonl, OUT/img/N.jpg|png and OUT/expected.json
 *
 * Among the good pairs lie planted ones whose fate is known: duplicates (same bytes, another
 * quality, another size), broken files, broken JSON lines, personal data, junk.  expected.json
 * says how many of each, so that the end-to-end test can check every count.
 */
#include "ingest/image.h"
#include "ops/err.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SIDE = 96,
	COLOURS = 8,
	SHAPES = 5,
	PLACES = 9,
	COMBOS = COLOURS * SHAPES * PLACES,
	HELD_OUT_TEST = 84, /* combinations that only the test split shows */
	HELD_OUT_VAL = 24,
};

static const struct {
	const char *word, *variant;
	uint8_t rgb[3];
} colours[COLOURS] = {
	{"红色", "大红", {214, 30, 38}},
	{"橙色", "橘色", {245, 134, 20}},
	{"黄色", "金黄", {246, 222, 40}},
	{"绿色", "翠绿", {32, 150, 56}},
	{"蓝色", "天蓝", {36, 84, 214}},
	{"紫色", "深紫", {130, 40, 160}},
	{"黑色", "漆黑", {16, 16, 18}},
	{"白色", "雪白", {250, 250, 250}},
};

enum shape { CIRCLE, SQUARE, TRIANGLE, STAR, CROSS };
static const char *const shape_word[SHAPES][2] = {
	{"圆形", "圆"},
	{"正方形", "方块"},
	{"三角形", "三角"},
	{"五角星", "星星"},
	{"十字", "十字形"},
};
static const struct {
	const char *word[2];
	double x, y; /* of the shape's middle, in sides */
} places[PLACES] = {
	{{"左上角", "左上方"}, 0.17, 0.17},
	{{"上方", "顶部"}, 0.5, 0.17},
	{{"右上角", "右上方"}, 0.83, 0.17},
	{{"左边", "左侧"}, 0.17, 0.5},
	{{"中间", "正中"}, 0.5, 0.5},
	{{"右边", "右侧"}, 0.83, 0.5},
	{{"左下角", "左下方"}, 0.17, 0.83},
	{{"下方", "底部"}, 0.5, 0.83},
	{{"右下角", "右下方"}, 0.83, 0.83},
};
/* %1 colour, %2 shape, %3 place; written as printf positions. */
static const char *const wording[] = {
	"一个%1$s的%2$s在%3$s。",
	"%3$s有一个%1$s的%2$s",
	"图中%3$s画着%1$s%2$s",
	"%1$s%2$s位于画面%3$s",
	"这张图片的%3$s是一个%1$s的%2$s。",
	"画面%3$s，有个%1$s%2$s",
	"在%3$s能看到%1$s的%2$s",
	"%2$s是%1$s的，放在%3$s",
};
enum { WORDINGS = sizeof wording / sizeof *wording };

struct gen {
	const char *out;
	uint64_t seed;
	FILE *jsonl;
	int64_t files; /* image files so far: their numbers */
	int64_t lines;
	json_t *expected;
	struct wl_err err;
};

static void die(struct gen *g)
{
	fprintf(stderr, "shapes: %s\n", g->err.msg);
	exit(1);
}

/* Is the point, in units of the shape's radius, inside the shape? */
static int inside(enum shape s, double x, double y)
{
	double r = hypot(x, y), a = atan2(x, -y), k;

	switch (s) {
	case CIRCLE:
		return r < 0.95;
	case SQUARE:
		return fabs(x) < 0.82 && fabs(y) < 0.82;
	case TRIANGLE:
		return y < 0.75 && y > -0.95 + 1.85 * fabs(x);
	case STAR: /* five points: the radius swings between 0.42 and 1 along the angle */
		k = fabs(remainder(a, 2 * M_PI / 5)) / (M_PI / 5);
		return r < 0.42 + 0.58 * (1 - k) * (1 - k);
	case CROSS:
		return (fabs(x) < 0.28 && fabs(y) < 0.95) || (fabs(y) < 0.28 && fabs(x) < 0.95);
	}
	return 0;
}

/* A ground of low waves and grain, different in every picture, so that perceptual hashes see
 * different pictures even where the shapes agree. */
static void draw_ground(struct wl_image *im, uint64_t seed, uint64_t id)
{
	double base[3], amp[6], fx[6], fy[6], ph[6];

	for (int c = 0; c < 3; c++) /* greyish: the shape alone has a colour worth a word */
		base[c] = 105 + 60 * wl_rand_unit(seed, id, 3) +
			  24 * (wl_rand_unit(seed, id, (uint64_t)c) - 0.5);
	for (int w = 0; w < 6; w++) {
		uint64_t k = 10 + 4 * (uint64_t)w;
		amp[w] = 10 + 16 * wl_rand_unit(seed, id, k);
		fx[w] = (wl_rand_unit(seed, id, k + 1) - 0.5) * 0.5;
		fy[w] = (wl_rand_unit(seed, id, k + 2) - 0.5) * 0.5;
		ph[w] = 6.283 * wl_rand_unit(seed, id, k + 3);
	}
	for (int y = 0; y < im->height; y++)
		for (int x = 0; x < im->width; x++) {
			double wave = 0;
			for (int w = 0; w < 6; w++)
				wave += amp[w] * sin(fx[w] * x + fy[w] * y + ph[w]);
			for (int c = 0; c < 3; c++) {
				size_t at =
					((size_t)y * (size_t)im->width + (size_t)x) * 3 + (size_t)c;
				double v = base[c] + 0.6 * wave +
					   14 * (wl_rand_unit(seed, id + (1u << 20), at) - 0.5);
				im->data[at] = (uint8_t)fmin(fmax(v, 0), 255);
			}
		}
}

static void draw_shape(
	struct wl_image *im, uint64_t seed, uint64_t id, int colour, int shape, int place)
{
	double r = im->width * (0.155 + 0.025 * wl_rand_unit(seed, id, 100));
	double cx = im->width * (places[place].x + 0.04 * (wl_rand_unit(seed, id, 101) - 0.5));
	double cy = im->height * (places[place].y + 0.04 * (wl_rand_unit(seed, id, 102) - 0.5));
	double light = 0.88 + 0.12 * wl_rand_unit(seed, id, 103);

	for (int y = 0; y < im->height; y++)
		for (int x = 0; x < im->width; x++) {
			int hits = 0; /* 2x2 samples a pixel */
			for (int s = 0; s < 4; s++)
				hits += inside((enum shape)shape,
					(x + 0.25 + 0.5 * (s & 1) - cx) / r,
					(y + 0.25 + 0.25 * (s & 2) - cy) / r);
			for (int c = 0; c < 3; c++) {
				uint8_t *p =
					&im->data[((size_t)y * (size_t)im->width + (size_t)x) * 3 +
						  (size_t)c];
				*p = (uint8_t)((*p * (4 - hits) +
						       colours[colour].rgb[c] * light * hits) /
					       4);
			}
		}
}

static void image_new(struct wl_image *im, int w, int h)
{
	*im = (struct wl_image){w, h, 3, malloc((size_t)w * (size_t)h * 3)};
	if (!im->data)
		abort();
}

static void caption(
	struct gen *g, uint64_t id, int colour, int shape, int place, int pick, char out[256])
{
	uint64_t r = wl_rand64(g->seed, id, 200 + (uint64_t)pick);
	const char *c = r & 7 ? colours[colour].word : colours[colour].variant;
	const char *s = shape_word[shape][(r >> 8) % 3 == 0];
	const char *p = places[place].word[(r >> 16) % 3 == 0];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(out, 256, wording[(r >> 24) % WORDINGS], c, s, p);
#pragma GCC diagnostic pop
}

/* Writes bytes as img/N.EXT and gives the name relative to the JSONL file. */
static void put_file(struct gen *g, const void *bytes, size_t n, const char *ext, char name[64])
{
	char *path;

	snprintf(name, 64, "img/%05lld.%s", (long long)g->files++, ext);
	path = wl_path_join(g->out, name, &g->err);
	if (!path)
		die(g);
	FILE *f = fopen(path, "wb");
	if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f)) {
		wl_err_errno(&g->err, "%s cannot be written", path);
		die(g);
	}
	free(path);
}

static void put_image(struct gen *g, const struct wl_image *im, int quality, char name[64])
{
	struct wl_buf b;

	wl_buf_init(&b, 1 << 24);
	if (wl_image_encode_jpeg(im, quality, &b, &g->err) < 0)
		die(g);
	put_file(g, b.data, b.len, "jpg", name);
	wl_buf_release(&b);
}

static void put_line(struct gen *g, const char *image, const char *text, const char *split)
{
	json_t *o = json_pack("{s:s, s:s, s:o, s:[s], s:s}", "source", "shapes", "image", image,
		"page_url", json_sprintf("http://shapes.test/%lld", (long long)g->lines++),
		"captions", text, "split", split);

	if (!o || json_dumpf(o, g->jsonl, JSON_COMPACT) < 0)
		abort();
	fputc('\n', g->jsonl);
	json_decref(o);
}

static void count(struct gen *g, const char *what, int64_t n)
{
	json_int_t old = json_integer_value(json_object_get(g->expected, what));

	json_object_set_new(g->expected, what, json_integer(old + n));
}

static void render(struct gen *g, struct wl_image *im, uint64_t id, int combo)
{
	draw_ground(im, g->seed, id);
	draw_shape(im, g->seed, id, combo % COLOURS, combo / COLOURS % SHAPES,
		combo / (COLOURS * SHAPES));
}

static void good_pair(struct gen *g, uint64_t id, int combo, const char *split)
{
	struct wl_image im;
	char name[64], text[256];

	image_new(&im, SIDE, SIDE);
	render(g, &im, id, combo);
	put_image(g, &im, 92, name);
	caption(g, id, combo % COLOURS, combo / COLOURS % SHAPES, combo / (COLOURS * SHAPES), 0,
		text);
	put_line(g, name, text, split);
	wl_image_release(&im);
}

/* Combinations in a seeded order: the first are the test's, the next the validation's. */
static int combo_at(const struct gen *g, uint64_t i)
{
	return (int)wl_shuffle(i, COMBOS, g->seed);
}

static void good_pairs(struct gen *g, int64_t pairs)
{
	uint64_t train_combos = COMBOS - HELD_OUT_TEST - HELD_OUT_VAL;
	int64_t train = pairs - HELD_OUT_TEST - HELD_OUT_VAL;
	uint64_t id = 0;

	for (uint64_t i = 0; i < HELD_OUT_TEST; i++)
		good_pair(g, id++, combo_at(g, i), "test");
	for (uint64_t i = 0; i < HELD_OUT_VAL; i++)
		good_pair(g, id++, combo_at(g, HELD_OUT_TEST + i), "val");
	for (int64_t i = 0; i < train; i++)
		good_pair(g, id++,
			combo_at(g, HELD_OUT_TEST + HELD_OUT_VAL + (uint64_t)i % train_combos),
			"train");
	count(g, "train", train);
	count(g, "val", HELD_OUT_VAL);
	count(g, "test", HELD_OUT_TEST);
}

/* The picture of training pair `id` again: as the same bytes, at another quality, or enlarged. */
static void plant_duplicates(struct gen *g, int64_t pairs)
{
	enum { EACH = 12 };

	for (uint64_t i = 0; i < 3 * EACH; i++) {
		uint64_t id = HELD_OUT_TEST + HELD_OUT_VAL +
			      i * ((uint64_t)pairs - HELD_OUT_TEST - HELD_OUT_VAL) / (3 * EACH);
		uint64_t nth = id - HELD_OUT_TEST - HELD_OUT_VAL;
		int combo = combo_at(g, HELD_OUT_TEST + HELD_OUT_VAL +
						nth % (COMBOS - HELD_OUT_TEST - HELD_OUT_VAL));
		struct wl_image im, big = {0};
		char name[64], text[256];

		image_new(&im, SIDE, SIDE);
		render(g, &im, id, combo);
		if (i % 3 == 2 &&
			wl_image_resize_lanczos(&im, SIDE - 8, SIDE - 8, &big, &g->err) < 0)
			die(g);
		put_image(g, i % 3 == 2 ? &big : &im, i % 3 == 0 ? 92 : 75, name);
		caption(g, id, combo % COLOURS, combo / COLOURS % SHAPES,
			combo / (COLOURS * SHAPES), 1, text);
		put_line(g, name, text, "train");
		wl_image_release(&im);
		wl_image_release(&big);
	}
	count(g, "duplicate-image", 3 * EACH);
}

static void plant_broken(struct gen *g)
{
	struct wl_image im;
	struct wl_buf b;
	char name[64];

	wl_buf_init(&b, 1 << 24);
	image_new(&im, SIDE, SIDE);
	for (uint64_t i = 0; i < 6; i++) { /* cut off in the middle */
		render(g, &im, 900000 + i, (int)i);
		wl_buf_reset(&b);
		if (wl_image_encode_jpeg(&im, 90, &b, &g->err) < 0)
			die(g);
		put_file(g, b.data, b.len / 2, "jpg", name);
		put_line(g, name, "一张被截断的图片在这里", "");
	}
	put_file(g, "not an image at all\n", 20, "jpg", name);
	put_line(g, name, "一个文本文件冒充的图片", "");
	put_file(g, "", 0, "png", name);
	put_line(g, name, "一个空文件冒充的图片", "");
	put_line(g, "img/no-such-file.jpg", "一张不存在的图片", "");
	fputs("{\"source\":\"shapes\",\"image\":\n", g->jsonl);
	fputs("this line is not JSON\n", g->jsonl);
	count(g, "quarantined", 6 + 3 + 2);
	wl_image_release(&im);
	wl_buf_release(&b);
}

static void plant_texts(struct gen *g)
{
	static const struct {
		const char *text, *reason;
	} junk[] = {
		{"图", "text-short"},
		{"IMG_20210311_0042.jpg", "text-not-chinese"},
		{"DSC00017 final version copy", "text-not-chinese"},
		{"哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈", "text-repetition"},
		{"转发转发转发转发转发转发转发转发", "text-repetition"},
		{"有意者请联系测试敏感词甲获取资料", "sensitive-test"},
		{"这里出现了测 试*敏-感 词甲的变体", "sensitive-test"},
		{"联系人张三，手机号码13812345678，欢迎来电", "text-personal"},
		{"身份证号码11010519491231002X的持有人", "text-personal"},
	};
	struct wl_image im;
	char name[64];

	image_new(&im, SIDE, SIDE);
	for (uint64_t i = 0; i < sizeof junk / sizeof *junk; i++) {
		render(g, &im, 910000 + i, (int)(17 * i) % COMBOS);
		put_image(g, &im, 92, name);
		put_line(g, name, junk[i].text, "train");
		count(g, junk[i].reason, 1);
	}
	wl_image_release(&im);
}

static void plant_images(struct gen *g)
{
	struct wl_image im;
	char name[64];

	for (int i = 0; i < 3; i++) { /* one flat colour */
		image_new(&im, SIDE, SIDE);
		memset(im.data, 60 + 60 * i, (size_t)SIDE * SIDE * 3);
		put_image(g, &im, 92, name);
		put_line(g, name, "一张什么也没有的空白图片", "train");
		wl_image_release(&im);
	}
	count(g, "image-blank", 3);
	for (uint64_t i = 0; i < 3; i++) { /* a thin strip */
		image_new(&im, 640, 40);
		draw_ground(&im, g->seed, 920000 + i);
		put_image(g, &im, 92, name);
		put_line(g, name, "一条细长的装饰横幅图片", "train");
		wl_image_release(&im);
	}
	count(g, "image-aspect", 3);
	for (uint64_t i = 0; i < 3; i++) {
		image_new(&im, 20, 20);
		draw_ground(&im, g->seed, 930000 + i);
		put_image(g, &im, 92, name);
		put_line(g, name, "一个很小很小的图标文件", "train");
		wl_image_release(&im);
	}
	count(g, "image-small", 3);
}

int main(int argc, char **argv)
{
	struct gen g = {.err = WL_ERR_INIT};
	int64_t pairs = argc > 2 ? atoll(argv[2]) : 2000;
	char *path;

	if (argc < 2 || argc > 4 || pairs < HELD_OUT_TEST + HELD_OUT_VAL + 100) {
		fprintf(stderr, "usage: shapes OUT [PAIRS [SEED]]   (PAIRS at least %d)\n",
			HELD_OUT_TEST + HELD_OUT_VAL + 100);
		return 2;
	}
	g.out = argv[1];
	g.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 7;
	g.expected = json_object();
	path = wl_path_join(g.out, "img", &g.err);
	if (!path || wl_mkdir_p(path, &g.err) < 0)
		die(&g);
	free(path);
	path = wl_path_join(g.out, "pairs.jsonl", &g.err);
	g.jsonl = path ? fopen(path, "w") : NULL;
	if (!g.jsonl) {
		wl_err_errno(&g.err, "%s/pairs.jsonl cannot be written", g.out);
		die(&g);
	}
	free(path);
	good_pairs(&g, pairs);
	plant_duplicates(&g, pairs);
	plant_broken(&g);
	plant_texts(&g);
	plant_images(&g);
	path = wl_path_join(g.out, "expected.json", &g.err);
	if (fclose(g.jsonl) || !path || wl_json_save(path, g.expected, &g.err) < 0)
		die(&g);
	free(path);
	json_decref(g.expected);
	return 0;
}
