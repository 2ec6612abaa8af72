/* train/checkpoint/safetensors: round trip, PyTorch's own file, hostile headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ops/file.h"
#include "ops/safetensors.h"

struct dir {
	char path[64];
};

static int setup(void **state)
{
	struct dir *d = calloc(1, sizeof *d);

	snprintf(d->path, sizeof d->path, "/tmp/wl-safetensors-XXXXXX");
	*state = d;
	return mkdtemp(d->path) ? 0 : -1;
}

static int teardown(void **state)
{
	struct dir *d = *state;
	int ret = wl_remove_tree(d->path, NULL);

	free(d);
	return ret;
}

static const struct wl_saved_tensor *get(struct wl_safetensors *st, const char *name)
{
	struct wl_err err = WL_ERR_INIT;
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, &err);

	if (!t)
		fail_msg("%s", err.msg);
	return t;
}

/* What is written in pieces and out of order is read back, aligned, with its metadata. */
static void test_round_trip(void **state)
{
	struct dir *d = *state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_safetensors_writer *w;
	struct wl_safetensors *st;
	char path[128];
	float a[6] = {1, -2, 3.5f, 0, 1e-30f, 7}, back[6];
	int64_t ids[3] = {-1, 1LL << 40, 7}, ids_back[3];
	uint16_t halves[2];
	int ha, hi, hh, hz;

	snprintf(path, sizeof path, "%s/x.safetensors", d->path);
	w = wl_safetensors_create(path, &err);
	assert_non_null(w);
	halves[0] = wl_f16_from_f32(-0.333251953125f);
	halves[1] = wl_f16_from_f32(65504);
	hh = wl_safetensors_declare(w, "half", WL_SAVED_F16, 1, (int64_t[]){2}, &err);
	ha = wl_safetensors_declare(w, "\345\233\276.a", WL_SAVED_F32, 2, (int64_t[]){2, 3}, &err);
	hi = wl_safetensors_declare(w, "ids", WL_SAVED_I64, 1, (int64_t[]){3}, &err);
	hz = wl_safetensors_declare(w, "zero", WL_SAVED_F32, 2, (int64_t[]){0, 9}, &err);
	assert_true(hh == 0 && ha == 1 && hi == 2 && hz == 3);
	assert_int_equal(wl_safetensors_add_meta(w, "format", "pt", &err), 0);
	assert_int_equal(wl_safetensors_begin(w, &err), 0);
	assert_int_equal(wl_safetensors_write(w, hi, ids, sizeof ids, &err), 0);
	assert_int_equal(wl_safetensors_write(w, ha, a, 8, &err), 0);
	assert_int_equal(wl_safetensors_write(w, hh, halves, sizeof halves, &err), 0);
	assert_int_equal(wl_safetensors_write(w, ha, a + 2, sizeof a - 8, &err), 0);
	assert_false(wl_exists(path));
	assert_int_equal(wl_safetensors_finish(w, &err), 0);

	st = wl_safetensors_open(path, &err);
	if (!st)
		fail_msg("%s", err.msg);
	assert_int_equal(wl_safetensors_list(st)->count, 4);
	assert_string_equal(wl_safetensors_meta(st, "format"), "pt");
	assert_null(wl_safetensors_meta(st, "other"));
	assert_int_equal(wl_saved_to_f32(get(st, "\345\233\276.a"), back, &err), 0);
	assert_memory_equal(a, back, sizeof a);
	assert_int_equal((uintptr_t)get(st, "ids")->data % 8, 0);
	assert_int_equal(wl_saved_to_i64(get(st, "ids"), ids_back, &err), 0);
	assert_memory_equal(ids, ids_back, sizeof ids);
	assert_int_equal(wl_saved_to_f32(get(st, "half"), back, &err), 0);
	assert_true(back[0] == -0.333251953125f && back[1] == 65504);
	assert_int_equal(get(st, "zero")->count, 0);
	assert_int_equal(wl_saved_to_i64(get(st, "half"), ids_back, &err), -1);
	assert_null(wl_safetensors_get(st, "absent", &err));
	assert_int_equal(err.code, WL_ECKPT);
	wl_safetensors_close(st);
}

/* An abandoned writer leaves nothing behind. */
static void test_abort(void **state)
{
	struct dir *d = *state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_safetensors_writer *w;
	struct wl_names names = {0};
	char path[128];

	snprintf(path, sizeof path, "%s/abandoned.safetensors", d->path);
	w = wl_safetensors_create(path, &err);
	assert_non_null(w);
	wl_safetensors_abort(w);
	assert_int_equal(wl_list_dir(d->path, "*abandoned*", &names, &err), 0);
	assert_int_equal(names.n, 0);
	wl_names_release(&names);
}

/* The file that the safetensors package wrote; values as in golden/ckpt.py. */
static void test_reference_file(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_safetensors *st =
		wl_safetensors_open("tests/golden/ckpt/plain.safetensors", &err);
	const char *names[] = {"conv.weight", "whole", "half", "brain", "double"};
	float v[24];
	int64_t n;

	(void)state;
	if (!st)
		fail_msg("%s", err.msg);
	assert_string_equal(wl_safetensors_meta(st, "format"), "pt");
	for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
		const struct wl_saved_tensor *t = get(st, names[k]);

		assert_in_range(t->count, 5, 24);
		assert_int_equal(wl_saved_to_f32(t, v, &err), 0);
		for (int i = 0; i < t->count; i++)
			assert_float_equal(v[i], ((float)i - 3) / 4, 0);
	}
	assert_int_equal(wl_saved_to_i64(get(st, "bn.num_batches_tracked"), &n, &err), 0);
	assert_int_equal(n, -3);
	assert_int_equal(get(st, "empty")->shape[1], 7);
	wl_safetensors_close(st);
}

/* Each header breaks one rule of the format and must be refused with a sentence. */
static void test_hostile(void **state)
{
	static const struct {
		const char *header;
		size_t data;
		const char *says;
	} cases[] = {
		{"[]", 0, "not safetensors"},
		{"{\"a\":{}", 0, "JSON"},
		{"{\"a\":1}", 0, "not an object"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8, "appended"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
		 4, "past the end"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
		 "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "overlaps"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
		 "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "JSON"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "agree"},
		{"{\"a\":{\"dtype\":\"Q9\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
		{"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
		 4, "dimension"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
		 "\"data_offsets\":[0,0]}}", 0, "overflow"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,4294967296,4294967296],"
		 "\"data_offsets\":[0,0]}}", 0, "overflow"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1152921504606846976,4],"
		 "\"data_offsets\":[0,0]}}", 0, "whole"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],"
		 "\"data_offsets\":[0,4]}}", 4, "dimensions"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "pair"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}",
		 4, "dimension"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}",
		 4, "only"},
		{"{\"__metadata__\":{\"k\":1}}", 0, "string"},
		{"{\"__metadata__\":[]}", 0, "object"},
	};
	char bytes[1024];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_err err = WL_ERR_INIT;
		uint64_t len = strlen(cases[i].header);

		memset(bytes, 0, sizeof bytes);
		memcpy(bytes, &len, 8);
		memcpy(bytes + 8, cases[i].header, len);
		assert_null(wl_safetensors_parse(bytes, 8 + len + cases[i].data, "hostile", &err));
		assert_int_equal(err.code, WL_ECKPT);
		if (!strstr(err.msg, cases[i].says) || strncmp(err.msg, "hostile", 7))
			fail_msg("case %zu: \"%s\" should say \"%s\"", i, err.msg, cases[i].says);
	}
}

/* Every proper prefix of a valid file, and a header length beyond all bounds, is refused. */
static void test_truncated(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf whole;
	char *bytes;

	(void)state;
	wl_buf_init(&whole, 1 << 20);
	assert_int_equal(wl_read_file("tests/golden/ckpt/plain.safetensors", &whole, &err), 0);
	for (size_t n = 0; n < whole.len; n++) {
		bytes = malloc(n + 1); /* an own block, so that ASan sees a read past its end */
		memcpy(bytes, whole.data, n);
		assert_null(wl_safetensors_parse(bytes, n, "cut", &err));
		assert_int_equal(err.code, WL_ECKPT);
		free(bytes);
	}
	memset(whole.data, 0xff, 8);
	assert_null(wl_safetensors_parse(whole.data, whole.len, "cut", &err));
	wl_buf_release(&whole);
}

/* All 65,536 halves survive the way to f32 and back; rounding is to nearest, ties to even. */
static void test_halves(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		if ((h & 0x7c00) == 0x7c00 && h & 0x3ff)
			continue; /* NaN */
		assert_int_equal(wl_f16_from_f32(wl_f32_from_f16((uint16_t)h)), h);
		if ((h & 0x7f80) != 0x7f80 || !(h & 0x7f))
			assert_int_equal(wl_bf16_from_f32(wl_f32_from_bf16((uint16_t)h)), h);
	}
	assert_int_equal(wl_f16_from_f32(1 + 0x1p-11f), 0x3c00);     /* tie: down to even */
	assert_int_equal(wl_f16_from_f32(1 + 0x3p-11f), 0x3c02);     /* tie: up to even */
	assert_int_equal(wl_f16_from_f32(65519.9f), 0x7bff);
	assert_int_equal(wl_f16_from_f32(65520), 0x7c00);
	assert_int_equal(wl_bf16_from_f32(1 + 0x1p-8f), 0x3f80);
	assert_int_equal(wl_bf16_from_f32(1 + 0x3p-8f), 0x3f82);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_abort, setup, teardown),
		cmocka_unit_test(test_reference_file),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_halves),
	};

	return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
