/* See vectors_make.h. */
#include "tests/support/vectors_make.h"

#include "ops/hash.h"
#include "ops/safetensors.h"
#include "tests/support/cm.h"

#include <math.h>
#include <stdio.h>

static struct wl_err err;

void vectors_write(const char *path, const struct vectors_file *f)
{
	struct wl_safetensors_writer *w = wl_safetensors_create(path, &err);
	const struct {
		const char *name;
		const float *v;
		const int64_t *ids;
		int64_t rows;
	} t[] = {{"image_embeddings", f->images, NULL, f->n_images},
		{"text_embeddings", f->texts, NULL, f->n_texts},
		{"image_ids", NULL, f->image_ids, f->n_images},
		{"text_ids", NULL, f->text_ids, f->n_texts}};
	char number[16];
	int handle[4];

	assert_non_null(w);
	snprintf(number, sizeof(number), "%d", f->partition);
	if (f->partition >= 0)
		OK(wl_safetensors_add_meta(w, "partition", number, &err));
	for (int i = 0; i < 4; i++) {
		int64_t shape[2] = {t[i].rows, f->dim};
		handle[i] = wl_safetensors_declare(w, t[i].name, i < 2 ? f->dtype : WL_SAVED_I64,
			i < 2 ? 2 : 1, shape, &err);
		OK(handle[i]);
	}
	OK(wl_safetensors_begin(w, &err));
	for (int i = 0; i < 4; i++) {
		if (i >= 2)
			OK(wl_safetensors_write(w, handle[i], t[i].ids,
				(size_t)t[i].rows * sizeof(int64_t), &err));
		for (int64_t k = 0; i < 2 && k < t[i].rows * f->dim; k++) {
			uint16_t half = f->dtype == WL_SAVED_F16 ? wl_f16_from_f32(t[i].v[k])
								 : wl_bf16_from_f32(t[i].v[k]);
			if (f->dtype == WL_SAVED_F32)
				OK(wl_safetensors_write(w, handle[i], &t[i].v[k], 4, &err));
			else
				OK(wl_safetensors_write(w, handle[i], &half, 2, &err));
		}
	}
	OK(wl_safetensors_finish(w, &err));
}

static void to_unit(float *v, int64_t dim)
{
	double square = 0;

	for (int64_t i = 0; i < dim; i++)
		square += (double)v[i] * v[i];
	for (int64_t i = 0; i < dim; i++)
		v[i] = (float)(v[i] / sqrt(square));
}

void vectors_random(uint64_t seed, int64_t dim, float *out)
{
	for (int64_t i = 0; i < dim; i++)
		out[i] = (float)wl_rand_normal(7, seed, (uint64_t)i);
	to_unit(out, dim);
}

void vectors_at(const float *v, double cosine, uint64_t seed, int64_t dim, float *out)
{
	double dot = 0, square = 0;

	vectors_random(seed, dim, out);
	for (int64_t i = 0; i < dim; i++)
		dot += (double)out[i] * v[i];
	for (int64_t i = 0; i < dim; i++) {
		out[i] = (float)(out[i] - dot * v[i]);
		square += (double)out[i] * out[i];
	}
	for (int64_t i = 0; i < dim; i++)
		out[i] = (float)(cosine * v[i] + sqrt((1 - cosine * cosine) / square) * out[i]);
}
