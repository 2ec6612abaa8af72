/* Any bytes as one of the files of trained topics, the others sound: refused with a sentence, or
 * they say something of a text.  The first byte says which file; labels and the rules for labels
 * count. */
#include "clean/topics/infer.h"
#include "clean/topics/labels.h"
#include "clean/topics/model.h"
#include "ops/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INDEX, FACTS, VOCAB, TABLE, LABELS, SELECT, FILES };

/* In memory: what is saved is synced. */
static char dir[] = "/dev/shm/wl-fuzz-topics-XXXXXX";

static void clean_up(void)
{
	if (wl_remove_tree(dir, NULL) < 0)
		fprintf(stderr, "%s stays\n", dir);
}

static void path_of(int file, char path[200])
{
	static const char *const names[FILES] = {"topics.json", "news/model.json", "news/vocab.txt",
		"news/topic_word.npy", "labels.yaml", "select.yaml"};

	snprintf(path, 200, "%s/%s", dir, names[file]);
}

static void put(int file, const void *bytes, size_t n)
{
	char path[200];
	FILE *f;

	path_of(file, path);
	f = fopen(path, "w");
	if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
		abort();
}

/* Labels say of which topics they are. */
static void put_labels(const char *path, const char *id, const void *rest, size_t n)
{
	FILE *f = fopen(path, "w");

	if (!f || fprintf(f, "version: 1\ntopics: %s\n", id) < 0 || fwrite(rest, 1, n, f) != n ||
		fclose(f) != 0)
		abort();
}

/* Two words, two topics. */
static const char *const sound[FILES] = {
	"{\"version\":1,\"segment\":\"x\",\"sources\":[{\"source\":\"news\",\"dir\":\"news\"}]}",
	"{\"alpha\":0.1,\"beta\":0.01,\"topics\":[{\"likely\":[\"足球\"],\"relevant\":[],"
	"\"docs\":3,\"coherence\":0.1,\"entropy\":0.5},{\"likely\":[\"点击\"],"
	"\"relevant\":[],\"docs\":2,\"coherence\":0.1,\"entropy\":0.5}]}",
	"足球\t5\t3\n点击\t4\t2\n", NULL,
	"sources:\n  news:\n    \"0\": {label: keep}\n    \"1\": {label: drop}\n",
	"version: 1\nmin_docs: 1\nmax_junk: 0.2\ncategories: {sports: [足球]}\n"
	"junk: [点击]\n"};

static void put_sound(int file)
{
	static const uint32_t counts[4] = {5, 0, 0, 4};
	char table[128 + sizeof(counts)];

	if (file != TABLE) {
		put(file, sound[file], strlen(sound[file]));
		return;
	}
	memset(table, ' ', 128);
	memcpy(table, "\x93NUMPY\x01\x00\x76\x00", 10);
	memcpy(table + 10, "{'descr': '<u4', 'fortran_order': False, 'shape': (2, 2), }", 59);
	table[127] = '\n';
	memcpy(table + 128, counts, sizeof(counts));
	put(TABLE, table, sizeof(table));
}

/* The shares of a text of every word are shares. */
static void use(const struct wl_topic_models *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct wl_err err = WL_ERR_INIT;
		uint32_t words[64], n = t->v[i].lda.n_words < 64 ? t->v[i].lda.n_words : 64;
		float *theta, sum = 0;
		struct wl_phi f;
		if (wl_phi_init(&f, &t->v[i].lda, &err) < 0)
			abort();
		theta = malloc(2 * (size_t)f.stride * sizeof(*theta));
		for (uint32_t w = 0; w < n; w++)
			words[w] = w;
		wl_phi_infer(&f, words, n, theta, theta + f.stride);
		for (int k = 0; k < f.topics; k++)
			sum += theta[k];
		if (!(fabsf(sum - 1) < 1e-3f))
			abort();
		free(theta);
		wl_phi_release(&f);
	}
}

static void must_say(int ret, const struct wl_err *err)
{
	if (ret < 0 && (err->code == WL_OK || !err->msg[0]))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_topic_label_counts counts;
	struct wl_err err = WL_ERR_INIT;
	struct wl_topic_models t;
	json_t *labels;
	char path[200];
	static bool ready;
	int file, ret;

	if (!ready) {
		if (!mkdtemp(dir) || atexit(clean_up) != 0)
			abort();
		snprintf(path, sizeof(path), "%s/news", dir);
		if (wl_mkdir_p(path, &err) < 0)
			abort();
		ready = true;
	}
	if (n < 1 || n > 4096)
		return 0;
	file = data[0] % FILES;
	for (int i = 0; i < FILES; i++)
		if (i == file)
			put(i, data + 1, n - 1);
		else
			put_sound(i);
	ret = wl_topic_models_load(&t, dir, true, &err);
	must_say(ret, &err);
	if (ret < 0)
		return 0;
	use(&t);
	path_of(LABELS, path);
	if (file == LABELS)
		put_labels(path, t.id, data + 1, n - 1);
	else
		put_labels(path, t.id, sound[LABELS], strlen(sound[LABELS]));
	err = (struct wl_err)WL_ERR_INIT;
	labels = wl_topic_labels_load(&t, path, &err);
	must_say(labels ? 0 : -1, &err);
	for (int k = 0; labels && k < t.v[0].lda.topics; k++)
		wl_topic_labels_get(labels, t.v[0].source, k);
	json_decref(labels);
	path_of(SELECT, path);
	err = (struct wl_err)WL_ERR_INIT;
	must_say(wl_topic_labels_select(&t, dir, path, &counts, &err), &err);
	wl_topic_models_release(&t);
	return 0;
}
