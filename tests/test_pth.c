/* train/checkpoint/pth: both containers as PyTorch writes them, refusals, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/file.h"
#include "train/checkpoint/pth.h"

static void check_ramp(const struct wl_pth *p, const char *name, int64_t count)
{
	struct wl_err err = WL_ERR_INIT;
	const struct wl_saved_tensor *t = wl_saved_find(wl_pth_list(p), name);
	float v[24];

	if (!t)
		fail_msg("%s is missing", name);
	assert_int_equal(t->count, count);
	assert_int_equal(wl_saved_to_f32(t, v, &err), 0);
	for (int i = 0; i < count; i++)
		assert_float_equal(v[i], ((float)i - 3) / 4, 0);
}

/* The tensors of golden/ckpt.py: types, strides, offsets, nesting. */
static void check_file(const char *path)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_pth *p = wl_pth_open(path, &err);
	const struct wl_saved_tensor *t;
	float v[24];
	int64_t n, bytes[5];

	if (!p)
		fail_msg("%s", err.msg);
	assert_int_equal(wl_pth_list(p)->count, 11);
	check_ramp(p, "learnable.conv.weight", 24);
	check_ramp(p, "learnable.conv.bias", 2);
	check_ramp(p, "learnable.whole", 24);
	check_ramp(p, "learnable.half", 5);
	check_ramp(p, "learnable.brain", 5);
	check_ramp(p, "learnable.double", 5);

	t = wl_saved_find(wl_pth_list(p), "learnable.transposed");
	assert_non_null(t);
	assert_true(t->rank == 2 && t->shape[0] == 6 && t->shape[1] == 4);
	assert_int_equal(wl_saved_to_f32(t, v, &err), 0);
	for (int i = 0; i < 24; i++)
		assert_float_equal(v[i], ((float)(i % 4 * 6 + i / 4) - 3) / 4, 0);

	t = wl_saved_find(wl_pth_list(p), "learnable.part");
	assert_non_null(t);
	assert_int_equal(wl_saved_to_f32(t, v, &err), 0);
	for (int i = 0; i < 6; i++)
		assert_float_equal(v[i], ((float)(6 + i / 3 * 6 + 2 + i % 3) - 3) / 4, 0);

	t = wl_saved_find(wl_pth_list(p), "learnable.bn.num_batches_tracked");
	assert_true(t && t->rank == 0);
	assert_int_equal(wl_saved_to_i64(t, &n, &err), 0);
	assert_int_equal(n, -3);
	t = wl_saved_find(wl_pth_list(p), "learnable.bytes");
	assert_int_equal(wl_saved_to_i64(t, bytes, &err), 0);
	assert_true(bytes[0] == 250 && bytes[4] == 254);
	t = wl_saved_find(wl_pth_list(p), "learnable.empty");
	assert_true(t && t->count == 0 && t->shape[1] == 7);
	wl_pth_close(p);
}

static void test_zip(void **state)
{
	(void)state;
	check_file("tests/golden/ckpt/zip.pth");
}

static void test_legacy(void **state)
{
	(void)state;
	check_file("tests/golden/ckpt/legacy.pth");
}

static void refuse(const void *bytes, size_t n, const char *says)
{
	struct wl_err err = WL_ERR_INIT;
	char *copy = malloc(n + 1); /* an own block, so that ASan sees a read past its end */
	struct wl_pth *p;

	memcpy(copy, bytes, n);
	p = wl_pth_parse(copy, n, "hostile", &err);
	if (p)
		fail_msg("%zu bytes were accepted, expected \"%s\"", n, says);
	assert_int_equal(err.code, WL_ECKPT);
	if (!strstr(err.msg, says))
		fail_msg("\"%s\" should say \"%s\"", err.msg, says);
	free(copy);
}

/* A whole pickled module names classes: nothing is looked up, the file is refused. */
static void test_refuses_code(void **state)
{
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	assert_null(wl_pth_open("tests/golden/ckpt/module.pth", &err));
	assert_int_equal(err.code, WL_ECKPT);
	if (!strstr(err.msg, "torch.nn.modules.linear Linear") || !strstr(err.msg, "state_dict"))
		fail_msg("%s", err.msg);
	refuse("\x80\x02" "cos\nsystem\nX\2\0\0\0idR.", 23, "os system");
}

/* Pickles that no checkpoint holds. */
static void test_hostile(void **state)
{
#define CASE(text, says) {text, sizeof text - 1, says}
	static const struct {
		const char *bytes;
		size_t n;
		const char *says;
	} cases[] = {
		CASE("", "neither"),
		CASE("hello", "neither"),
		CASE("\x80", "neither"),
		CASE("\x80\x02", "STOP"),
		CASE("\x80\x02.", "empty stack"),
		CASE("\x80\x02(.", "empty stack"),
		CASE("\x80\x02t.", "mark"),
		CASE("\x80\x02K\1.", "torch.save"),
		CASE("\x80\x02X\xff\xff\xff\xff" "a.", "longer than the file"),
		CASE("\x80\x02\x8b\xff\xff\xff\xff" "a.", "longer than the file"),
		CASE("\x80\x02h\5.", "never stored"),
		CASE("\x80\x02Nr\xff\xff\xff\x7f.", "memo"),
		CASE("\x80\x02(K\1d.", "no value"),
		CASE("\x80\x02}(K\1u.", "no value"),
		CASE("\x80\x02NK\1a.", "container"),
		CASE("\x80\x02NQ.", "storage"),
		CASE("\x80\x02NNR.", "known function"),
		CASE("\x80\x02\xff.", "instruction"),
		CASE("\x80\x02I12x\n.", "number"),
		CASE("\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n)R.", "wrong kind"),
		CASE("\x80\x02" "ccollections\nOrderedDict\nK\1\x85R.", "no list of pairs"),
		CASE("PK\3\4", "end-of-directory"),
		CASE("PK\3\4PK\5\6\0\0\0\0\1\0\1\0\1\0\0\0\0\0\0\0\0\0", "does not fit"),
		CASE("PK\3\4PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "data.pkl"),
	};
#undef CASE

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		refuse(cases[i].bytes, cases[i].n, cases[i].says);
}

/* A list that holds itself, and a lattice whose paths double at each level, end quickly. */
static void test_cycles(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 1 << 20);
	assert_int_equal(
		wl_buf_add(&b, "\x80\x02\x8a\x0al\xfc\x9c" "F\xf9 j\xa8P\x19.", 15, &err), 0);
	assert_int_equal(wl_buf_add(&b, "\x80\x02M\xe9\x03.", 6, &err), 0);
	assert_int_equal(wl_buf_add(&b, "\x80\x02}X\x0d\0\0\0little_endian\x88s.", 24, &err), 0);
	assert_int_equal(wl_buf_add(&b, "\x80\x02}q\0X\1\0\0\0ah\0s]q\1h\1a0", 21, &err), 0);
	for (int i = 0; i < 60; i++) /* d = {"x": d, "y": d} */
		assert_int_equal(
			wl_buf_add(&b, "q\2" "0}X\1\0\0\0xh\2sX\1\0\0\0yh\2s", 22, &err), 0);
	assert_int_equal(wl_buf_add(&b, ".\x80\x02].", 5, &err), 0);
	refuse(b.data, b.len, "no named tensor");
	wl_buf_release(&b);
}

/* Cut anywhere, both forms are refused (or, in the archive's trailing bytes, still whole);
 * with any byte changed they are read or refused, never more. */
static void test_damage(void **state)
{
	const char *files[] = {"tests/golden/ckpt/zip.pth", "tests/golden/ckpt/legacy.pth"};

	(void)state;
	for (int f = 0; f < 2; f++) {
		struct wl_err err = WL_ERR_INIT;
		struct wl_buf b;
		char *copy;

		wl_buf_init(&b, 1 << 20);
		assert_int_equal(wl_read_file(files[f], &b, &err), 0);
		for (size_t n = 0; n < b.len; n++)
			refuse(b.data, n, "hostile");
		copy = malloc(b.len);
		for (size_t i = 0; i < b.len; i++) {
			struct wl_pth *p;

			memcpy(copy, b.data, b.len);
			copy[i] = (char)(copy[i] ^ (1 << i % 8));
			p = wl_pth_parse(copy, b.len, "damaged", &err);
			for (size_t k = 0; p && k < wl_pth_list(p)->count; k++) {
				const struct wl_saved_tensor *t = &wl_pth_list(p)->items[k];
				float *v = malloc((size_t)t->count * sizeof *v + 1);

				assert_int_equal(wl_saved_to_f32(t, v, &err), 0);
				free(v);
			}
			wl_pth_close(p);
		}
		free(copy);
		wl_buf_release(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zip),
		cmocka_unit_test(test_legacy),
		cmocka_unit_test(test_refuses_code),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_cycles),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests_name("pth", tests, NULL, NULL);
}
