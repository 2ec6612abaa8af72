/* See dedup_plant.h. */
#include "tests/support/dedup_plant.h"

#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"

#include <stdio.h>
#include <string.h>

static struct wl_err err;

static const char *caption(char out[128], const char *s, int i)
{
	snprintf(out, 128, "[[\"sur_text\",\"旁边的文字\"],[\"caption\",\"%s第%d张\"]]", s, i);
	return out;
}

static void add_variants(struct corpus_maker *m, struct planted *x, int i, struct wl_image *im)
{
	struct wl_image small = {0};
	struct wl_buf b, c;
	char t[128];

	wl_buf_init(&b, 1 << 24);
	wl_buf_init(&c, 1 << 24);
	OK(wl_image_encode_jpeg(im, 90, &b, &err));
	x->copy[i] = corpus_make_bytes(
		m, "news", caption(t, "复制", i), "", b.data, b.len, im->width, im->height);
	/* Other bytes, same pixels: a comment behind the first marker. */
	OK(wl_buf_add(&c, b.data, 2, &err));
	OK(wl_buf_add(&c, "\xff\xfe\0\5abc", 7, &err));
	OK(wl_buf_add(&c, b.data + 2, b.len - 2, &err));
	x->comment[i] = corpus_make_bytes(
		m, "news", caption(t, "注", i), "", c.data, c.len, im->width, im->height);
	x->quality[i] = corpus_make_jpeg(m, "news", caption(t, "质", i), "", im, 45);
	OK(wl_image_resize_lanczos(im, im->width / 2, im->height / 2, &small, &err));
	x->half[i] = corpus_make_jpeg(
		m, "news", caption(t, "这是一张小了一半的图片", i), "", &small, 90);
	scale_brightness(im, 88);
	x->dark[i] = corpus_make_jpeg(m, "news", caption(t, "暗", i), "", im, 90);
	wl_image_release(&small);
	wl_buf_release(&b);
	wl_buf_release(&c);
}

void dedup_plant_parts(const char *dir, struct planted *x, int parts)
{
	struct corpus_maker m;
	struct wl_image im;
	char t[128];

	corpus_make_open(&m, dir, 3);
	m.added = parts == 2 ? BASES + 5 * EACH : 0;
	for (int i = 0; parts & 1 && i < BASES; i++) {
		draw_picture((uint64_t)i, 120 + i, 96, &im);
		x->base[i] = corpus_make_jpeg(&m, "news", caption(t, "原来的图片", i), "", &im, 90);
		if (i < EACH)
			add_variants(&m, x, i, &im);
		wl_image_release(&im);
	}
	if (!(parts & 2)) {
		corpus_make_close(&m);
		return;
	}
	for (int i = 0; i < EACH; i++) { /* the text of base 10 + i, another picture */
		draw_picture(500 + (uint64_t)i, 100, 100, &im);
		snprintf(t, sizeof(t), "[[\"caption\",\" 原来的 图片，第%d张！\"]]", 10 + i);
		x->same_text[i] = corpus_make_jpeg(&m, "weibo", t, "", &im, 80);
		wl_image_release(&im);
		/* A longer caption of the picture of base 20 + i, same size. */
		draw_picture(20 + (uint64_t)i, 140 + i, 96, &im);
		x->longer[i] = corpus_make_jpeg(&m, "news",
			caption(t, "一段长得多也说得多的文字，讲原来的图片", i), "", &im, 89);
		wl_image_release(&im);
	}
	draw_picture(900, 128, 128, &im);
	x->near_test[0] = corpus_make_jpeg(&m, "news", caption(t, "甲", 1), "train", &im, 95);
	x->test = corpus_make_jpeg(&m, "coco", caption(t, "乙", 1), "test", &im, 60);
	x->near_test[1] = corpus_make_jpeg(&m, "news", caption(t, "丙", 1), "", &im, 80);
	wl_image_release(&im);
	draw_picture(901, 128, 128, &im);
	x->val = corpus_make_jpeg(&m, "coco", caption(t, "丁", 1), "val", &im, 60);
	x->near_val = corpus_make_jpeg(&m, "news", caption(t, "戊", 1), "", &im, 80);
	wl_image_release(&im);
	x->broken = corpus_make_bytes(
		&m, "news", caption(t, "坏", 1), "", "\xff\xd8\xff\xe0junk", 8, 10, 10);
	for (int i = 0; i < 2; i++) { /* captions without a letter are not the same text */
		draw_picture(700 + (uint64_t)i, 90, 90, &im);
		x->silent[i] =
			corpus_make_jpeg(&m, "news", "[[\"caption\",\"！！\"]]", "", &im, 80);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
}

void dedup_plant(const char *dir, struct planted *x)
{
	dedup_plant_parts(dir, x, 3);
}
