/* A strict reader of .npy: see npy.h. */
#include "eval/npy.h"
#include "ops/file.h"
#include "ops/path.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The header's text while it is read. */
struct cursor {
	const char *p, *end;
	const char *path;
};

static int bad(const struct cursor *c, const char *what, struct wl_err *err)
{
	return wl_err_set(
		err, WL_EDATA, "%s is not a .npy file that can be read: %s", c->path, what);
}

static void skip_space(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r'))
		c->p++;
}

/* Takes `text` if it comes next. */
static bool take(struct cursor *c, const char *text)
{
	size_t n = strlen(text);

	skip_space(c);
	if ((size_t)(c->end - c->p) < n || memcmp(c->p, text, n))
		return false;
	c->p += n;
	return true;
}

/* A quoted string without escapes into out. */
static bool take_string(struct cursor *c, char *out, size_t size)
{
	size_t n = 0;
	char quote;

	skip_space(c);
	if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
		return false;
	for (quote = *c->p++; c->p < c->end && *c->p != quote; c->p++) {
		if (*c->p == '\\' || n + 1 >= size)
			return false;
		out[n++] = *c->p;
	}
	out[n] = 0;
	if (c->p == c->end)
		return false;
	c->p++;
	return true;
}

static int parse_dtype(
	const struct cursor *c, const char *descr, struct wl_saved_tensor *t, struct wl_err *err)
{
	static const struct {
		const char *name;
		enum wl_saved_dtype dtype;
	} known[] = {{"f8", WL_SAVED_F64}, {"f4", WL_SAVED_F32}, {"f2", WL_SAVED_F16},
		{"i8", WL_SAVED_I64}, {"i4", WL_SAVED_I32}, {"i2", WL_SAVED_I16},
		{"i1", WL_SAVED_I8}, {"u1", WL_SAVED_U8}, {"b1", WL_SAVED_BOOL}};

	if (*descr && strchr("<|=", *descr))
		for (size_t i = 0; i < sizeof known / sizeof *known; i++)
			if (!strcmp(descr + 1, known[i].name)) {
				t->dtype = known[i].dtype;
				return 0;
			}
	return wl_err_set(err, WL_EDATA,
		"%s holds elements of type '%.20s'; expected are little-endian f2, f4, f8 or "
		"integers"
		" (in NumPy: a.astype('<f4'))",
		c->path, descr);
}

/* "(3, 4)", "(5,)", "()" */
static int parse_shape(struct cursor *c, struct wl_saved_tensor *t, struct wl_err *err)
{
	if (!take(c, "("))
		return bad(c, "its header has no shape", err);
	while (!take(c, ")")) {
		int64_t v = 0;
		const char *start;

		skip_space(c);
		start = c->p;
		for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
			if (__builtin_mul_overflow(v, 10, &v) ||
				__builtin_add_overflow(v, *c->p - '0', &v))
				return bad(c, "a dimension does not fit into 64 bits", err);
		if (c->p == start || t->rank == WL_SAVED_RANK_MAX)
			return bad(c, "its shape is not a list of up to 8 numbers", err);
		t->shape[t->rank++] = v;
		if (take(c, ")"))
			break;
		if (!take(c, ","))
			return bad(c, "its shape is not a list of numbers", err);
	}
	return 0;
}

static int parse_dict(
	struct cursor *c, struct wl_saved_tensor *t, bool *fortran, struct wl_err *err)
{
	bool seen[3] = {false, false, false};
	char key[20], descr[40];

	if (!take(c, "{"))
		return bad(c, "its header is not a dictionary", err);
	while (!take(c, "}")) {
		int which;

		if (!take_string(c, key, sizeof key) || !take(c, ":"))
			return bad(
				c, "its header is not a dictionary of the three known keys", err);
		which = !strcmp(key, "descr")		? 0
			: !strcmp(key, "fortran_order") ? 1
			: !strcmp(key, "shape")		? 2
							: -1;
		if (which < 0 || seen[which])
			return bad(c, "its header has an unknown key, or one twice", err);
		seen[which] = true;
		if (which == 0) {
			if (!take_string(c, descr, sizeof descr))
				return bad(c, "its type is not a string (a record array?)", err);
			WL_TRY(parse_dtype(c, descr, t, err));
		} else if (which == 1) {
			*fortran = take(c, "True");
			if (!*fortran && !take(c, "False"))
				return bad(c, "fortran_order is neither True nor False", err);
		} else {
			WL_TRY(parse_shape(c, t, err));
		}
		if (!take(c, ",")) {
			if (!take(c, "}"))
				return bad(c, "its header's dictionary is not closed", err);
			break;
		}
	}
	skip_space(c);
	if (c->p != c->end || !seen[0] || !seen[1] || !seen[2])
		return bad(c,
			"its header lacks descr, fortran_order or shape, or goes on after them",
			err);
	return 0;
}

/* Strides of an array whose first dimension varies fastest. */
static void set_fortran(struct wl_saved_tensor *t)
{
	int64_t stride = 1;

	for (int i = 0; i < t->rank; i++) {
		t->strides[i] = stride;
		stride *= t->shape[i]; /* the product was checked by wl_saved_set_dense */
	}
}

int wl_npy_parse(const void *bytes, size_t n, const char *path, struct wl_saved_tensor *out,
	struct wl_err *err)
{
	const uint8_t *b = bytes;
	struct cursor c = {.path = path};
	size_t head, header_bytes, want;
	bool fortran = false;

	*out = (struct wl_saved_tensor){.name = path};
	if (n < 10 || memcmp(b, "\x93NUMPY", 6))
		return bad(&c, "it does not begin with \\x93NUMPY (a file of "
				"another form is known by its ending, .npz or .safetensors)", err);
	if (b[6] < 1 || b[6] > 3)
		return bad(&c, "its version is not 1, 2 or 3", err);
	head = b[6] == 1 ? 10 : 12;
	if (n < head)
		return bad(&c, "it ends within its header", err);
	header_bytes = (size_t)b[8] | (size_t)b[9] << 8;
	if (b[6] > 1)
		header_bytes |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
	if (header_bytes > n - head)
		return bad(&c, "it ends within its header", err);
	c.p = (const char *)b + head;
	c.end = c.p + header_bytes;
	WL_TRY(parse_dict(&c, out, &fortran, err));
	if (wl_saved_set_dense(out) < 0 ||
		__builtin_mul_overflow((size_t)out->count, wl_saved_dtype_bytes(out->dtype), &want))
		return bad(&c, "its shape is larger than any memory", err);
	if (want != n - head - header_bytes)
		return wl_err_set(err, WL_EDATA,
			"%s holds %zu bytes of data where its header says %zu: it is cut short or "
			"damaged",
			path, n - head - header_bytes, want);
	if (fortran)
		set_fortran(out);
	out->data = want ? b + head + header_bytes : NULL;
	return 0;
}

/* The file in memory, read-only; *bytes NULL for an empty one. */
static int map(const char *path, void **bytes, size_t *n, struct wl_err *err)
{
	int64_t size = wl_file_size(path, err);
	int fd;

	*bytes = NULL;
	*n = 0;
	if (size < 0)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return wl_path_failed(path, "opened", NULL, err);
	if (size > 0) {
		*bytes = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (*bytes == MAP_FAILED) {
			*bytes = NULL;
			close(fd);
			return wl_err_errno(err, "%s cannot be mapped into memory", path);
		}
	}
	*n = (size_t)size;
	close(fd);
	return 0;
}

/* What a file's tensor has to be, and its values as the caller wants them. */
static int matrix_of(
	const struct wl_saved_tensor *t, const char *path, void *out, struct wl_err *err)
{
	char shape[160];

	if (t->rank != 2)
		return wl_err_set(err, WL_EDATA,
			"%s has the shape %s where a matrix [rows, dimensions] is expected", path,
			wl_saved_shape_text(t->rank, t->shape, shape, sizeof shape));
	return out ? wl_saved_to_f32(t, out, err) : 0;
}

static int integers_of(
	const struct wl_saved_tensor *t, const char *path, void *out, struct wl_err *err)
{
	if (t->rank < 1 || t->rank > 2 || t->dtype < WL_SAVED_I64 || t->dtype > WL_SAVED_U8)
		return wl_err_set(err, WL_EDATA,
			"%s must hold integers in one or two dimensions", path);
	return out ? wl_saved_to_i64(t, out, err) : 0;
}

/* values: checks with out NULL, then converts to elements of `size` bytes. */
static void *load(const char *path, size_t size,
	int (*values)(const struct wl_saved_tensor *, const char *, void *, struct wl_err *),
	int64_t *rows, int64_t *cols, struct wl_err *err)
{
	struct wl_saved_tensor t;
	void *bytes, *out = NULL;
	size_t n;

	if (map(path, &bytes, &n, err) < 0)
		return NULL;
	if (wl_npy_parse(bytes, n, path, &t, err) < 0 || values(&t, path, NULL, err) < 0)
		goto out;
	out = malloc((size_t)t.count * size + 1);
	if (!out) {
		wl_err_nomem(err, path, (size_t)t.count * size);
		goto out;
	}
	if (values(&t, path, out, err) < 0) {
		free(out);
		out = NULL;
		goto out;
	}
	*rows = t.shape[0];
	*cols = t.rank == 2 ? t.shape[1] : 1;
out:
	if (bytes)
		munmap(bytes, n);
	return out;
}

int wl_npy_load_matrix(
	const char *path, float **out, int64_t *rows, int64_t *cols, struct wl_err *err)
{
	*out = load(path, sizeof **out, matrix_of, rows, cols, err);
	return *out ? 0 : -1;
}

int wl_npy_load_integers(
	const char *path, int64_t **out, int64_t *rows, int64_t *cols, struct wl_err *err)
{
	*out = load(path, sizeof **out, integers_of, rows, cols, err);
	return *out ? 0 : -1;
}
