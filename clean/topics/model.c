/* See model.h. */
#include "clean/topics/model.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/path.h"

#include <stdlib.h>
#include <string.h>

static const char *const files[] = {"model.json", "vocab.txt", "topic_word.npy"};

void wl_topic_model_release(struct wl_topic_model *m)
{
	free(m->source);
	wl_terms_release(&m->terms);
	wl_lda_model_release(&m->lda);
	json_decref(m->facts);
	memset(m, 0, sizeof(*m));
}

void wl_topic_models_release(struct wl_topic_models *t)
{
	for (size_t i = 0; i < t->n; i++)
		wl_topic_model_release(&t->v[i]);
	free(t->v);
	json_decref(t->index);
	memset(t, 0, sizeof(*t));
}

/* ---- facts ---- */

static json_t *words_json(const struct wl_terms *terms, const uint32_t *word, int n)
{
	json_t *a = json_array();

	for (int i = 0; a && i < n; i++)
		json_array_append_new(a, json_string(wl_terms_word(terms, word[i])));
	return a;
}

json_t *wl_topic_facts_json(const struct wl_topic_facts *facts, int topics,
	const struct wl_terms *terms, json_t *training, struct wl_err *err)
{
	json_t *list = json_array(), *o = json_copy(training);

	for (int k = 0; k < topics && list; k++) {
		const struct wl_topic_facts *f = &facts[k];
		json_t *t = json_pack("{s:i, s:I, s:I, s:f, s:f, s:o, s:o}", "topic", k, "tokens",
			(json_int_t)f->tokens, "docs", (json_int_t)f->docs, "coherence",
			f->coherence, "entropy", f->entropy, "likely",
			words_json(terms, f->likely, f->n), "relevant",
			words_json(terms, f->relevant, f->n));
		if (!t || json_array_append_new(list, t) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	if (o && list && json_object_set_new(o, "topics", list) == 0)
		return o;
	json_decref(o);
	wl_err_nomem(err, "facts of topics", (size_t)topics * 1000);
	return NULL;
}

/* ---- the table: NumPy's format 1.0 (numpy/lib/format.py) ---- */

enum { NPY_HEAD = 128 };

static int save_counts(const struct wl_lda_model *m, const char *path, struct wl_err *err)
{
	size_t n = (size_t)m->n_words * (size_t)m->topics;
	char head[NPY_HEAD + 1], dict[NPY_HEAD];
	struct wl_outfile f;

	snprintf(dict, sizeof(dict),
		"{'descr': '<u4', 'fortran_order': False, 'shape': (%u, %d), }", m->n_words,
		m->topics);
	snprintf(head, sizeof(head), "%-127s\n", "");
	memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
	memcpy(head + 10, dict, strlen(dict));
	WL_TRY(wl_outfile_open(&f, path, err));
	fwrite(head, 1, NPY_HEAD, f.fp);
	fwrite(m->count, sizeof(*m->count), n, f.fp);
	return wl_outfile_commit(&f, err);
}

static int load_counts(struct wl_lda_model *m, const char *path, struct wl_err *err)
{
	size_t n = (size_t)m->n_words * (size_t)m->topics;
	int64_t size = wl_file_size(path, err);
	char head[NPY_HEAD + 1] = {0};
	unsigned words = 0;
	int topics = 0, ret = -1;
	FILE *f;

	if (size < 0)
		return -1;
	f = fopen(path, "rb");
	if (!f)
		return wl_path_failed(path, "opened", NULL, err);
	if (fread(head, 1, NPY_HEAD, f) != NPY_HEAD ||
		memcmp(head, "\x93NUMPY\x01\x00\x76\x00", 10) != 0 ||
		sscanf(head + 10, "{'descr': '<u4', 'fortran_order': False, 'shape': (%u, %d)",
			&words, &topics) != 2 ||
		words != m->n_words || topics != m->topics ||
		(uint64_t)size != NPY_HEAD + 4 * (uint64_t)n) {
		wl_err_set(err, WL_EDATA,
			"%s is not the table of %u words and %d topics that model.json and "
			"vocab.txt speak of; train the topics again.",
			path, m->n_words, m->topics);
		goto out;
	}
	m->count = malloc((n ? n : 1) * sizeof(*m->count));
	m->total = calloc((size_t)topics, sizeof(*m->total));
	if (!m->count || !m->total) {
		wl_err_nomem(err, "a topic model", n * 4);
		goto out;
	}
	if (fread(m->count, sizeof(*m->count), n, f) != n) {
		wl_err_errno(err, "%s cannot be read", path);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		m->total[i % (size_t)topics] += m->count[i];
	ret = 0;
out:
	fclose(f);
	return ret;
}

/* ---- saving ---- */

/* A source's name as a directory; others than letters, digits, - and _ become a number. */
static char *dir_name(const char *source, size_t number, struct wl_err *err)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	if (*source && *source != '-' && strlen(source) < 64 &&
		strspn(source, plain) == strlen(source))
		return wl_strf(err, "%s", source);
	return wl_strf(err, "source.%zu", number);
}

static int write_files(const char *dir, const struct wl_topic_model *m, struct wl_err *err)
{
	char *path[3] = {wl_path_join(dir, files[0], err), wl_path_join(dir, files[1], err),
		wl_path_join(dir, files[2], err)};
	int ret = -1;

	if (!path[0] || !path[1] || !path[2])
		goto out;
	WL_TRY_OUT(wl_mkdir_p(dir, err));
	WL_TRY_OUT(wl_json_save(path[0], m->facts, err));
	WL_TRY_OUT(wl_terms_save(&m->terms, path[1], err));
	ret = save_counts(&m->lda, path[2], err);
out:
	for (int i = 0; i < 3; i++)
		free(path[i]);
	return ret;
}

/* SHA-256 of each file, as an object. */
static json_t *hashes(const char *dir, struct wl_err *err)
{
	json_t *o = json_object();

	for (int i = 0; o && i < 3; i++) {
		uint8_t digest[WL_SHA256_BYTES];
		char hex[WL_SHA256_HEX], *path = wl_path_join(dir, files[i], err);
		int ret = path ? wl_sha256_file(path, digest, err) : -1;
		free(path);
		wl_hex(digest, sizeof(digest), hex);
		if (ret < 0 || json_object_set_new(o, files[i], json_string(hex)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

int wl_topic_model_save(
	const char *dir, const struct wl_topic_model *m, json_t *index, struct wl_err *err)
{
	json_t *list = json_object_get(index, "sources"), *sha;
	char *name = dir_name(m->source, json_array_size(list), err);
	char *sub = name ? wl_path_join(dir, name, err) : NULL;
	int ret = -1;

	if (!sub)
		goto out;
	WL_TRY_OUT(write_files(sub, m, err));
	sha = hashes(sub, err);
	if (!sha)
		goto out;
	ret = json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "source", m->source, "dir",
						  name, "files", sha)) < 0
		      ? wl_err_nomem(err, "the index of topics", 0)
		      : 0;
out:
	free(name);
	free(sub);
	return ret;
}

/* ---- loading ---- */

static int load_model(const char *dir, const char *source, bool with_counts,
	struct wl_topic_model *m, struct wl_err *err)
{
	char *path[3] = {wl_path_join(dir, files[0], err), wl_path_join(dir, files[1], err),
		wl_path_join(dir, files[2], err)};
	int64_t topics = 0;
	int ret = -1;

	m->source = strdup(source);
	m->facts = path[0] && path[1] && path[2] ? wl_json_load(path[0], err) : NULL;
	if (!m->facts)
		goto out;
	WL_TRY_OUT(wl_json_num_or(m->facts, "alpha", path[0], 0, &m->lda.alpha, err));
	WL_TRY_OUT(wl_json_num_or(m->facts, "beta", path[0], 0, &m->lda.beta, err));
	topics = (int64_t)json_array_size(json_object_get(m->facts, "topics"));
	if (topics < 2 || topics > 65535 || !(m->lda.alpha > 0) || !(m->lda.beta > 0)) {
		wl_err_set(err, WL_EDATA,
			"%s: %lld topics, alpha %g, beta %g, expected 2 topics or more and priors "
			"above 0; train the topics again.",
			path[0], (long long)topics, m->lda.alpha, m->lda.beta);
		goto out;
	}
	m->lda.topics = (int)topics;
	WL_TRY_OUT(wl_terms_load(&m->terms, path[1], err));
	m->lda.n_words = (uint32_t)m->terms.n;
	ret = with_counts ? load_counts(&m->lda, path[2], err) : 0;
out:
	for (int i = 0; i < 3; i++)
		free(path[i]);
	return ret;
}

static int load_index(struct wl_topic_models *t, const char *path, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	int64_t version;

	if (!wl_exists(path))
		return wl_err_set(err, WL_EUSAGE,
			"%s is not there; train topics first (wenlan-filter topics train).", path);
	t->index = wl_json_load(path, err);
	if (!t->index)
		return -1;
	WL_TRY(wl_json_int(t->index, "version", path, &version, err));
	if (version != 1 || !json_is_array(json_object_get(t->index, "sources")))
		return wl_err_set(err, WL_EDATA,
			"%s is of version %lld; this program reads version 1.", path,
			(long long)version);
	WL_TRY(wl_sha256_file(path, digest, err));
	wl_hex(digest, sizeof(digest), t->id);
	return 0;
}

static int load_all(
	struct wl_topic_models *t, const char *dir, bool with_counts, struct wl_err *err)
{
	json_t *list = json_object_get(t->index, "sources"), *e;
	size_t i;

	t->v = calloc(json_array_size(list) + 1, sizeof(*t->v));
	if (!t->v)
		return wl_err_nomem(err, "topic models", json_array_size(list) * sizeof(*t->v));
	json_array_foreach(list, i, e)
	{
		const char *source, *name;
		char *sub;
		int ret;
		WL_TRY(wl_json_str(e, "source", "topics.json", &source, err));
		WL_TRY(wl_json_str(e, "dir", "topics.json", &name, err));
		if (strchr(name, '/') || name[0] == '.')
			return wl_err_set(err, WL_EDATA,
				"%s/topics.json: \"%s\" is no name of a folder in it.", dir, name);
		sub = wl_path_join(dir, name, err);
		t->n = i + 1;
		ret = sub ? load_model(sub, source, with_counts, &t->v[i], err) : -1;
		free(sub);
		WL_TRY(ret);
	}
	return 0;
}

int wl_topic_models_load(
	struct wl_topic_models *t, const char *dir, bool with_counts, struct wl_err *err)
{
	char *path = wl_path_join(dir, "topics.json", err);
	int ret = -1;

	memset(t, 0, sizeof(*t));
	if (path && load_index(t, path, err) == 0)
		ret = load_all(t, dir, with_counts, err);
	free(path);
	if (ret < 0)
		wl_topic_models_release(t);
	return ret;
}

struct wl_segment *wl_topic_models_segment(
	const struct wl_topic_models *t, const char *dir, struct wl_err *err)
{
	const char *id = json_string_value(json_object_get(t->index, "segment"));
	int64_t n = json_integer_value(json_object_get(t->index, "user_dicts"));
	char *path[16] = {0};
	struct wl_segment *s = NULL;
	int made = 0;

	while (made < n && made < 16 && (path[made] = wl_strf(err, "%s/user-%d.txt", dir, made)))
		made++;
	if (made == n)
		s = wl_segment_open(NULL, (const char *const *)path, (size_t)n, err);
	for (int i = 0; i < made; i++)
		free(path[i]);
	if (s && (!id || strcmp(id, wl_segment_id(s)) != 0)) {
		wl_segment_close(s);
		s = NULL;
		wl_err_set(err, WL_EDATA,
			"%s: the topics were made with another dictionary than this machine's "
			"(python3-jieba 0.42.1 is expected); train them again here.",
			dir);
	}
	return s;
}
