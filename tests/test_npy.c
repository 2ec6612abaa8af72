/* .npy files: NumPy's own (tests/golden/npy.py), and hostile headers. */
#include "eval/npy.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static const char *golden(const char *name)
{
	static char path[100];

	snprintf(path, sizeof path, "tests/golden/npy/%s.npy", name);
	return path;
}

static void reads_what_numpy_wrote(void **state)
{
	static const char *const names[] = {"f2", "f4", "f8", "f4_fortran", "v2", "v3"};

	(void)state;
	for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
		int64_t rows, cols;
		float *v;

		OK(wl_npy_load_matrix(golden(names[k]), &v, &rows, &cols, &err));
		assert_int_equal(rows, 3);
		assert_int_equal(cols, 4);
		for (int i = 0; i < 12; i++)
			assert_true(v[i] == (float)(i - 5) * 0.25f);
		free(v);
	}
}

static void reads_integers(void **state)
{
	int64_t *v, rows, cols;

	(void)state;
	OK(wl_npy_load_integers(golden("i8"), &v, &rows, &cols, &err));
	assert_true(rows == 3 && cols == 1 && v[1] == -1 && v[2] == (int64_t)1 << 40);
	free(v);
	OK(wl_npy_load_integers(golden("i4_pairs"), &v, &rows, &cols, &err));
	assert_true(rows == 2 && cols == 2 && v[1] == 1 && v[2] == 2);
	free(v);
	FAILS(WL_EDATA, "integers", wl_npy_load_integers(golden("f4"), &v, &rows, &cols, &err));
}

static void refuses_other_kinds(void **state)
{
	int64_t rows, cols;
	float *v;

	(void)state;
	FAILS(WL_EDATA, "little-endian",
		wl_npy_load_matrix(golden("f4_big_endian"), &v, &rows, &cols, &err));
	FAILS(WL_EDATA, "matrix", wl_npy_load_matrix(golden("i8"), &v, &rows, &cols, &err));
	FAILS(WL_EDATA, "matrix", wl_npy_load_matrix(golden("scalar"), &v, &rows, &cols, &err));
	FAILS(WL_EFAIL, "nowhere", wl_npy_load_matrix("/nowhere.npy", &v, &rows, &cols, &err));
	OK(wl_npy_load_matrix(golden("empty"), &v, &rows, &cols, &err));
	assert_true(rows == 0 && cols == 4);
	free(v);
}

/* A version 1 file with this header text and n bytes of data. */
static size_t make(uint8_t *out, const char *header, size_t n)
{
	size_t len = strlen(header);

	memcpy(out, "\x93NUMPY\x01\x00", 8);
	out[8] = (uint8_t)len;
	out[9] = (uint8_t)(len >> 8);
	memcpy(out + 10, header, len);
	memset(out + 10 + len, 0, n);
	return 10 + len + n;
}

static void refuses_hostile_headers(void **state)
{
	static const struct {
		const char *header;
		size_t data;
		const char *part;
	} bad[] = {
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23, "says 24"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 25, "says 24"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 8,
			"larger than any memory"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 8,
			"64 bits"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 8, "shape"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4,
			"up to 8"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'shape': (2,)}", 8,
			"twice"},
		{"{'descr': '<f4', 'fortran_order': False}", 8, "lacks"},
		{"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8, "record"},
		{"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 16, "type '|O'"},
		{"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}", 8, "True nor False"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + 1", 8, "goes on"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, "not closed"},
		{"{'descr': '<f4", 8, "string"},
		{"__import__('os')", 8, "dictionary"},
		{"", 0, "dictionary"},
	};
	struct wl_saved_tensor t;
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		size_t n = make(bytes, bad[i].header, bad[i].data);

		FAILS(WL_EDATA, bad[i].part, wl_npy_parse(bytes, n, "x.npy", &t, &err));
	}
}

/* Every cut of a good file is refused, and nothing past its end is read (asan sees). */
static void refuses_every_cut(void **state)
{
	uint8_t whole[256];
	size_t n = make(whole, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24);
	struct wl_saved_tensor t;

	(void)state;
	OK(wl_npy_parse(whole, n, "x.npy", &t, &err));
	for (size_t cut = 0; cut < n; cut++) {
		uint8_t *part = malloc(cut + (cut == 0));

		memcpy(part, whole, cut);
		FAILS(WL_EDATA, "x.npy", wl_npy_parse(part, cut, "x.npy", &t, &err));
		free(part);
	}
	whole[6] = 4;
	FAILS(WL_EDATA, "version", wl_npy_parse(whole, n, "x.npy", &t, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_numpy_wrote),
		cmocka_unit_test(reads_integers),
		cmocka_unit_test(refuses_other_kinds),
		cmocka_unit_test(refuses_hostile_headers),
		cmocka_unit_test(refuses_every_cut),
	};

	return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
