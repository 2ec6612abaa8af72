/* See pairvectors.h. */
#include "clean/pairvectors.h"

#include "ops/file.h"
#include "ops/grow.h"
#include "ops/hash.h"
#include "ops/safetensors.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const matrix_name[] = {"image_embeddings", "text_embeddings"};
static const char *const ids_name[] = {"image_ids", "text_ids"};
enum { ANY_PARTITION = -1, LANES = 8 };

struct file {
	struct wl_safetensors *st;
	char *path;
	const struct wl_saved_tensor *rows;
	uint32_t first; /* of its rows, among all */
};

struct entry {
	int64_t id;
	int32_t partition;
	uint32_t row;
};

struct wl_pair_vectors {
	enum wl_vector_side side;
	int64_t dim;
	struct file *files;
	size_t n_files, cap_files;
	uint32_t n_rows;
	struct entry *index[WL_VECTORS_SETS]; /* by id, partition, row */
	size_t n[WL_VECTORS_SETS], cap[WL_VECTORS_SETS];
};

/* ---- files ---- */

/* Data here, not a model: the reader of safetensors speaks of checkpoints. */
static int as_data(struct wl_err *err)
{
	if (err && err->code == WL_ECKPT)
		err->code = WL_EDATA;
	return -1;
}

static int expand(const struct wl_vector_paths *p, struct wl_names *out, struct wl_err *err)
{
	for (size_t i = 0; i < p->n; i++) {
		struct wl_names names = {0};
		struct stat st;
		int ret = 0;

		if (stat(p->v[i], &st) != 0)
			return wl_err_set(err, WL_EUSAGE,
				"%s: there is no such file; give what wenlan-embed --corpus "
				"--vectors wrote, a .safetensors file or the directory of them.",
				p->v[i]);
		if (!S_ISDIR(st.st_mode)) {
			WL_TRY(wl_names_add(out, p->v[i], err));
			continue;
		}
		WL_TRY(wl_list_dir(p->v[i], "*.safetensors", &names, err));
		if (!names.n)
			ret = wl_err_set(err, WL_EDATA,
				"%s: the directory has no .safetensors file; give the one that "
				"wenlan-embed --corpus --vectors wrote to.",
				p->v[i]);
		for (size_t k = 0; k < names.n && ret == 0; k++) {
			char *path = wl_path_join(p->v[i], names.v[k], err);
			ret = path ? wl_names_add(out, path, err) : -1;
			free(path);
		}
		wl_names_release(&names);
		WL_TRY(ret);
	}
	return 0;
}

int wl_vector_paths_hash(
	const struct wl_vector_paths sets[WL_VECTORS_SETS], char hex[65], struct wl_err *err)
{
	struct wl_names names = {0};
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	int ret = 0;

	hex[0] = 0;
	if (!sets[WL_VECTORS_OWN].n)
		return 0;
	WL_TRY(wl_sha256_init(&h, err));
	for (int s = 0; s < WL_VECTORS_SETS && ret == 0; s++) {
		ret = expand(&sets[s], &names, err);
		for (size_t i = 0; i < names.n && ret == 0; i++) {
			ret = wl_sha256_file(names.v[i], digest, err);
			if (ret == 0)
				wl_sha256_add(&h, digest, sizeof(digest));
		}
		wl_sha256_add(&h, "|", 1);
		wl_names_release(&names);
		memset(&names, 0, sizeof(names));
	}
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_hex(digest, sizeof(digest), hex);
	return ret;
}

/* ---- tensors ---- */

static int check_matrix(const struct wl_pair_vectors *v, const struct file *f,
	const struct wl_saved_tensor *ids, struct wl_err *err)
{
	const struct wl_saved_tensor *t = f->rows;
	char a[160], b[160];

	if (t->rank != 2 || t->shape[1] < 2 || t->shape[1] > WL_VECTORS_DIM_MAX ||
		(t->dtype != WL_SAVED_F32 && t->dtype != WL_SAVED_F16 &&
			t->dtype != WL_SAVED_BF16))
		return wl_err_set(err, WL_EDATA,
			"%s: %s is %s of the shape %s, expected F32, F16 or BF16 [rows, "
			"dimensions]; embed the corpus again.",
			f->path, t->name, wl_saved_dtype_name(t->dtype),
			wl_saved_shape_text(t->rank, t->shape, a, sizeof(a)));
	if (ids->rank != 1 || ids->dtype != WL_SAVED_I64 || ids->shape[0] != t->shape[0])
		return wl_err_set(err, WL_EDATA,
			"%s: %s is %s of the shape %s, expected I64 with one id for each row of "
			"%s %s.",
			f->path, ids->name, wl_saved_dtype_name(ids->dtype),
			wl_saved_shape_text(ids->rank, ids->shape, a, sizeof(a)), t->name,
			wl_saved_shape_text(t->rank, t->shape, b, sizeof(b)));
	if (v->dim && t->shape[1] != v->dim)
		return wl_err_set(err, WL_EDATA,
			"%s: %s has %lld dimensions where %s has %lld; vectors of two models "
			"cannot be compared, so embed everything by one.",
			f->path, t->name, (long long)t->shape[1], v->files[0].path,
			(long long)v->dim);
	return 0;
}

static int partition_of(const struct file *f, int32_t *out, struct wl_err *err)
{
	const char *s = wl_safetensors_meta(f->st, "partition");
	char *end;
	long n;

	*out = ANY_PARTITION;
	if (!s)
		return 0;
	n = strtol(s, &end, 10);
	if (end == s || *end || n < 0 || n > INT32_MAX)
		return wl_err_set(err, WL_EDATA,
			"%s: the metadata key \"partition\" is \"%.40s\", expected a number from "
			"0; leave it out where ids are of any partition.",
			f->path, s);
	*out = (int32_t)n;
	return 0;
}

static int reserve(struct wl_pair_vectors *v, int set, size_t more, struct wl_err *err)
{
	size_t cap = v->cap[set] ? v->cap[set] : 1024;
	struct entry *p;

	while (cap - v->n[set] < more)
		cap += cap / 2;
	if (cap == v->cap[set])
		return 0;
	p = realloc(v->index[set], cap * sizeof(*p));
	if (!p)
		return wl_err_nomem(err, "ids of embeddings", cap * sizeof(*p));
	v->index[set] = p;
	v->cap[set] = cap;
	return 0;
}

static int add_ids(struct wl_pair_vectors *v, int set, const struct file *f,
	const struct wl_saved_tensor *ids, struct wl_err *err)
{
	size_t n = (size_t)ids->count;
	int32_t partition;

	WL_TRY(partition_of(f, &partition, err));
	if (n >= WL_NO_VECTOR - v->n_rows)
		return wl_err_set(err, WL_EDATA, "%s: there are over %u embeddings in all files.",
			f->path, WL_NO_VECTOR - 1);
	WL_TRY(reserve(v, set, n, err));
	for (size_t i = 0; i < n; i++) {
		struct entry *e = &v->index[set][v->n[set]++];
		memcpy(&e->id, ids->data + i * sizeof(e->id), sizeof(e->id));
		e->partition = partition;
		e->row = v->n_rows++;
	}
	return 0;
}

static int add_file(struct wl_pair_vectors *v, int set, const char *path, struct wl_err *err)
{
	const struct wl_saved_tensor *ids;
	struct file *f;

	WL_TRY(WL_GROW(v->files, v->n_files, v->cap_files, "files of embeddings", err));
	f = &v->files[v->n_files++];
	*f = (struct file){.first = v->n_rows, .path = strdup(path)};
	if (!f->path)
		return wl_err_nomem(err, path, 0);
	f->st = wl_safetensors_open(path, err);
	f->rows = f->st ? wl_safetensors_get(f->st, matrix_name[v->side], err) : NULL;
	ids = f->rows ? wl_safetensors_get(f->st, ids_name[v->side], err) : NULL;
	if (!ids)
		return as_data(err);
	if (ids->count == 0 && f->rows->count == 0)
		return 0; /* of pictures alone, or of texts */
	WL_TRY(check_matrix(v, f, ids, err));
	v->dim = f->rows->shape[1];
	return add_ids(v, set, f, ids, err);
}

/* ---- the index ---- */

static int by_pair(const void *p, const void *q)
{
	const struct entry *a = p, *b = q;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	if (a->partition != b->partition)
		return a->partition < b->partition ? -1 : 1;
	return (a->row > b->row) - (a->row < b->row);
}

static const struct file *file_of(const struct wl_pair_vectors *v, uint32_t row)
{
	size_t from = 0, to = v->n_files;

	/* The last one that begins at the row or before; empty ones begin where the next does. */
	while (to - from > 1) {
		size_t mid = from + (to - from) / 2;
		if (v->files[mid].first <= row)
			from = mid;
		else
			to = mid;
	}
	return &v->files[from];
}

static const uint8_t *bytes_of(const struct wl_pair_vectors *v, const struct file *f, uint32_t row)
{
	return f->rows->data +
	       (size_t)(row - f->first) * (size_t)v->dim * wl_saved_dtype_bytes(f->rows->dtype);
}

static bool same_bytes(const struct wl_pair_vectors *v, uint32_t a, uint32_t b)
{
	const struct file *fa = file_of(v, a), *fb = file_of(v, b);

	return fa->rows->dtype == fb->rows->dtype &&
	       memcmp(bytes_of(v, fa, a), bytes_of(v, fb, b),
		       (size_t)v->dim * wl_saved_dtype_bytes(fa->rows->dtype)) == 0;
}

/* Sorted, and each pair once. */
static int make_index(struct wl_pair_vectors *v, int set, struct wl_err *err)
{
	struct entry *e = v->index[set];
	size_t n = 0;

	if (v->n[set])
		qsort(e, v->n[set], sizeof(*e), by_pair);
	for (size_t i = 0; i < v->n[set]; i++) {
		if (n == 0 || e[n - 1].id != e[i].id || e[n - 1].partition != e[i].partition) {
			e[n++] = e[i];
			continue;
		}
		if (v->side == WL_VECTORS_IMAGE && !same_bytes(v, e[n - 1].row, e[i].row))
			return wl_err_set(err, WL_EDATA,
				"%s and %s: pair %lld has two different vectors in %s; give one "
				"of the files, or embed the corpus again into an empty directory.",
				file_of(v, e[n - 1].row)->path, file_of(v, e[i].row)->path,
				(long long)e[i].id, matrix_name[v->side]);
	}
	v->n[set] = n;
	return 0;
}

struct wl_pair_vectors *wl_pair_vectors_open(const struct wl_vector_paths sets[WL_VECTORS_SETS],
	enum wl_vector_side side, struct wl_err *err)
{
	struct wl_pair_vectors *v = calloc(1, sizeof(*v));
	struct wl_names names = {0};
	int ret = -1;

	if (!v) {
		wl_err_nomem(err, "embeddings", sizeof(*v));
		return NULL;
	}
	v->side = side;
	for (int s = 0; s < WL_VECTORS_SETS; s++) {
		WL_TRY_OUT(expand(&sets[s], &names, err));
		for (size_t i = 0; i < names.n; i++)
			WL_TRY_OUT(add_file(v, s, names.v[i], err));
		wl_names_release(&names);
		memset(&names, 0, sizeof(names));
		WL_TRY_OUT(make_index(v, s, err));
	}
	ret = 0;
	if (!v->n[WL_VECTORS_OWN])
		ret = wl_err_set(err, WL_EDATA, "%s: %s has no rows; embed the corpus first.",
			v->n_files ? v->files[0].path : "--embeddings", matrix_name[side]);
out:
	wl_names_release(&names);
	if (ret == 0)
		return v;
	wl_pair_vectors_close(v);
	return NULL;
}

void wl_pair_vectors_close(struct wl_pair_vectors *v)
{
	if (!v)
		return;
	for (size_t i = 0; i < v->n_files; i++) {
		wl_safetensors_close(v->files[i].st);
		free(v->files[i].path);
	}
	free(v->files);
	wl_pair_vectors_forget(v);
	free(v);
}

void wl_pair_vectors_forget(struct wl_pair_vectors *v)
{
	for (int s = 0; s < WL_VECTORS_SETS; s++) {
		free(v->index[s]);
		v->index[s] = NULL;
		v->n[s] = v->cap[s] = 0;
	}
}

int64_t wl_pair_vectors_dim(const struct wl_pair_vectors *v)
{
	return v->dim;
}

size_t wl_pair_vectors_count(const struct wl_pair_vectors *v, int set)
{
	return v->n[set];
}

static const struct entry *find(
	const struct wl_pair_vectors *v, int set, int32_t partition, int64_t id)
{
	struct entry key = {.id = id, .partition = partition};
	size_t from = 0, to = v->n[set];

	while (from < to) {
		size_t mid = from + (to - from) / 2;
		if (by_pair(&v->index[set][mid], &key) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	if (from == v->n[set] || v->index[set][from].id != id ||
		v->index[set][from].partition != partition)
		return NULL;
	return &v->index[set][from];
}

uint32_t wl_pair_vectors_find(
	const struct wl_pair_vectors *v, int set, int partition, int64_t pair_id)
{
	const struct entry *e = find(v, set, partition, pair_id);

	if (!e)
		e = find(v, set, ANY_PARTITION, pair_id);
	return e ? e->row : WL_NO_VECTOR;
}

/* ---- rows ---- */

static int read_row(const struct wl_pair_vectors *v, const struct file *f, uint32_t row, float *out,
	struct wl_err *err)
{
	struct wl_saved_tensor t = {.name = f->rows->name,
		.dtype = f->rows->dtype,
		.rank = 1,
		.shape = {v->dim},
		.strides = {1},
		.count = v->dim,
		.data = bytes_of(v, f, row)};

	return wl_saved_to_f32(&t, out, err);
}

/* Products summed in eight lanes, whatever the processor's. */
static double dot(const float *a, const float *b, int64_t dim)
{
	double lane[LANES] = {0}, sum = 0;
	int64_t i = 0;

	for (; i + LANES <= dim; i += LANES)
		for (int k = 0; k < LANES; k++)
			lane[k] += (double)a[i + k] * b[i + k];
	for (; i < dim; i++)
		lane[i % LANES] += (double)a[i] * b[i];
	for (int k = 0; k < LANES; k++)
		sum += lane[k];
	return sum;
}

double wl_cosine(const float *a, const float *b, int64_t dim)
{
	return dot(a, b, dim) / sqrt(dot(a, a, dim) * dot(b, b, dim));
}

/* Of dim numbers, eight bytes at a time in four chains; never 0. */
static uint64_t hash_of(const float *v, int64_t dim)
{
	uint64_t h[4] = {1, 2, 3, 4}, word;
	int64_t i = 0;

	for (; i + 1 < dim; i += 2) {
		memcpy(&word, v + i, sizeof(word));
		h[i / 2 % 4] = wl_mix64(h[i / 2 % 4] ^ word);
	}
	word = 0;
	if (i < dim)
		memcpy(&word, v + i, sizeof(*v));
	return wl_mix64(wl_mix64(wl_mix64(wl_mix64(h[0] ^ word) ^ h[1]) ^ h[2]) ^ h[3]) | 1;
}

int wl_pair_vectors_read(const struct wl_pair_vectors *v, uint32_t row, float *out, uint64_t *hash,
	struct wl_err *err)
{
	const struct file *f = file_of(v, row);
	double square;

	WL_TRY(read_row(v, f, row, out, err));
	square = dot(out, out, v->dim);
	if (!(square > 0) || !isfinite(square))
		return wl_err_set(err, WL_EDATA,
			"%s: row %u of %s %s; embed the corpus again, by a model that is sound.",
			f->path, row - f->first, f->rows->name,
			square == 0 ? "is all zeros" : "has a number that is not finite");
	if (hash)
		*hash = hash_of(out, v->dim);
	return 0;
}

void wl_pair_vectors_row(const struct wl_pair_vectors *v, uint32_t row, float *out)
{
	struct wl_err ignored = WL_ERR_INIT;

	/* The type was checked when the file was opened, and nothing else can fail. */
	if (read_row(v, file_of(v, row), row, out, &ignored) < 0)
		memset(out, 0, (size_t)v->dim * sizeof(*out));
}

void wl_pair_vectors_unit(const struct wl_pair_vectors *v, uint32_t row, float *out)
{
	double square;
	float by;

	wl_pair_vectors_row(v, row, out);
	square = dot(out, out, v->dim);
	by = square > 0 && isfinite(square) ? (float)(1 / sqrt(square)) : 0;
	for (int64_t i = 0; i < v->dim; i++)
		out[i] = by > 0 ? out[i] * by : 0;
}
