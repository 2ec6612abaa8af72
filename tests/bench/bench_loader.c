/*
 * Makes the shard set that bench_loader.sh measures on: `bench_loader OUT [PHOTOS]` packs 480
 * pictures of 480 x 320 (the size of common web photos; JPEG quality 90, 4:2:0), each a mosaic
 * of six photos from the directory PHOTOS, or drawn ones where there is none.
 */
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "shards/manifest.h"
#include "shards/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

enum { PICTURES = 480, WIDTH = 480, HEIGHT = 320, TILE = 160, TILES = 6 };

/* Texture of several scales, so that the entropy coder has what it has in a photo. */
static void draw_tile(int seed, uint8_t *rgb)
{
	for (int y = 0; y < TILE; y++)
		for (int x = 0; x < TILE; x++)
			for (int c = 0; c < 3; c++) {
				uint64_t s = (uint64_t)(seed * 3 + c), v = 0;

				for (int k = 0; k < 5; k++)
					v += wl_rand64(s, (uint64_t)((y >> k) << 8 | x >> k),
						     (uint64_t)k) %
					     (uint64_t)(12 << k);
				rgb[(y * TILE + x) * 3 + c] = (uint8_t)(v * 255 / 372);
			}
}

static int load_tile(const char *path, uint8_t *rgb, struct wl_err *err)
{
	struct wl_image im = {0};
	struct wl_buf b;
	int rc = -1;

	wl_buf_init(&b, WL_IMAGE_MAX_BYTES);
	WL_TRY_OUT(wl_read_file(path, &b, err));
	WL_TRY_OUT(wl_image_decode(b.data, b.len, &im, err));
	for (int y = 0; y < TILE; y++)
		for (int x = 0; x < TILE; x++)
			memcpy(rgb + (y * TILE + x) * 3, im.data +
				((y % im.height) * im.width + x % im.width) * 3, 3);
	rc = 0;
out:
	wl_image_release(&im);
	wl_buf_release(&b);
	return rc;
}

/* 4:2:0, as cameras and the web write it. */
static void encode(uint8_t *rgb, uint8_t **jpg, unsigned long *n)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr e;

	c.err = jpeg_std_error(&e);
	jpeg_create_compress(&c);
	*jpg = NULL;
	*n = 0;
	jpeg_mem_dest(&c, jpg, n);
	c.image_width = WIDTH;
	c.image_height = HEIGHT;
	c.input_components = 3;
	c.in_color_space = JCS_RGB;
	jpeg_set_defaults(&c);
	jpeg_set_quality(&c, 90, TRUE);
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < HEIGHT) {
		JSAMPROW row = rgb + (size_t)c.next_scanline * WIDTH * 3;

		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
}

static int add(struct wl_shard_writer *w, int i, uint8_t *rgb, struct wl_err *err)
{
	const char *caption = "一张用来测量速度的照片";
	struct wl_sample_facts facts = {.pair_id = i + 1, .source = "bench", .width = WIDTH,
		.height = HEIGHT, .topic = -1, .split_group = i + 1, .captions = &caption,
		.n_captions = 1};
	struct wl_sample s = {.pair_id = i + 1, .topic = -1, .width = WIDTH, .height = HEIGHT,
		.source = "bench", .url = "", .txt = caption};
	char *json = wl_sample_json(&facts, err);
	unsigned long n;
	uint8_t *jpg;
	int rc;

	if (!json)
		return -1;
	encode(rgb, &jpg, &n);
	s.json = json;
	s.jpg = jpg;
	s.jpg_len = n;
	rc = wl_shard_writer_add(w, &s, err);
	free(json);
	free(jpg);
	return rc;
}

static int make_picture(int i, const struct wl_names *photos, const char *dir, uint8_t *rgb,
	struct wl_err *err)
{
	static uint8_t tile[TILE * TILE * 3];

	for (int t = 0; t < TILES; t++) {
		uint8_t *to = rgb + ((t / 3) * TILE * WIDTH + (t % 3) * TILE) * 3;

		draw_tile(i * TILES + t, tile);
		if (photos->n) {
			char path[4096];

			snprintf(path, sizeof(path), "%s/%s", dir,
				photos->v[(size_t)(i * TILES + t) % photos->n]);
			WL_TRY(load_tile(path, tile, err));
		}
		for (int y = 0; y < TILE; y++)
			memcpy(to + y * WIDTH * 3, tile + y * TILE * 3, TILE * 3);
	}
	return 0;
}

static int pack(const char *out, const char *photo_dir, struct wl_err *err)
{
	static uint8_t rgb[WIDTH * HEIGHT * 3];
	struct wl_names photos = {0};
	struct wl_shard_info info;
	struct wl_shard_writer *w = NULL;
	json_t *meta = json_pack("{s:s, s:s}", "version", "1", "seed", "1");
	int rc = -1;

	if (photo_dir)
		WL_TRY_OUT(wl_list_dir(photo_dir, "*.jpg", &photos, err));
	WL_TRY_OUT(wl_mkdir_p(out, err));
	w = wl_shard_writer_new(out, "train", 0, "", err);
	if (!w)
		goto out;
	for (int i = 0; i < PICTURES; i++) {
		WL_TRY_OUT(make_picture(i, &photos, photo_dir, rgb, err));
		WL_TRY_OUT(add(w, i, rgb, err));
	}
	wl_shard_writer_finish(w);
	WL_TRY_OUT(wl_shard_writer_wait(w, &info, err));
	WL_TRY_OUT(wl_manifest_write(out, &info, 1, meta, err));
	rc = 0;
out:
	wl_shard_writer_free(w);
	wl_names_release(&photos);
	json_decref(meta);
	return rc;
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;

	if (argc < 2 || pack(argv[1], argc > 2 ? argv[2] : NULL, &err) < 0) {
		fprintf(stderr, "bench_loader: %s\n",
			argc < 2 ? "usage: bench_loader OUT [PHOTOS]" : err.msg);
		return 1;
	}
	return 0;
}
