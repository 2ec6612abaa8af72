/* Cleaned texts of a corpus's kept pairs into a vocabulary's counts. */
#include "loader/vocab.h"

#include "ops/json.h"
#include "shards/kept.h"

#include <string.h>

static int add_texts(
	struct wl_vocab_builder *b, const char *texts, const char *where, struct wl_err *err)
{
	json_t *root = wl_json_parse(texts, strlen(texts), where, err), *e;
	size_t i;
	int ret = root ? 0 : -1;

	json_array_foreach(root, i, e)
	{
		const json_t *t = json_array_get(e, 1);
		if (ret == 0 && json_is_string(t))
			ret = wl_vocab_builder_add(
				b, json_string_value(t), json_string_length(t), err);
	}
	json_decref(root);
	return ret;
}

/* 1: the pair is kept and its texts are in *texts; 0: it is not. */
static int kept_texts(struct wl_kept *k, int64_t id, struct wl_buf *texts, struct wl_err *err)
{
	struct wl_fate f;
	int64_t topic;

	WL_TRY(wl_kept_fate(k, id, &f, err));
	for (int s = 0; s < WL_KEPT_STAGES; s++)
		if (!f.examined[s] || f.verdict[s])
			return 0;
	return wl_kept_texts(k, id, texts, &topic, NULL, err);
}

static int add_partition(
	struct wl_vocab_builder *b, struct wl_corpus *c, int p, int64_t *pairs, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, p, err);
	struct wl_kept *kept = cur ? wl_kept_open(c, p, err) : NULL;
	struct wl_pair pair;
	struct wl_buf texts;
	int row, found, ret = -1;

	wl_buf_init(&texts, 256 << 20);
	if (!kept)
		goto out;
	while ((row = wl_pairs_next(cur, &pair, err)) != 0) {
		char name[WL_PAIR_NAME];
		WL_TRY_OUT(row);
		if (strcmp(pair.split_hint, "val") == 0 || strcmp(pair.split_hint, "test") == 0)
			continue;
		WL_TRY_OUT(found = kept_texts(kept, pair.id, &texts, err));
		if (!found)
			continue;
		wl_pair_name(p, pair.id, name);
		WL_TRY_OUT(add_texts(b, texts.data, name, err));
		++*pairs;
	}
	ret = 0;
out:
	wl_buf_release(&texts);
	wl_kept_close(kept);
	wl_pairs_close(cur);
	return ret;
}

int wl_vocab_builder_corpus(
	struct wl_vocab_builder *b, struct wl_corpus *c, int64_t *pairs, struct wl_err *err)
{
	*pairs = 0;
	for (int s = 0; s < WL_KEPT_STAGES; s++)
		if (!wl_corpus_generation(c, wl_kept_stage_names[s]))
			return wl_err_set(err, WL_EUSAGE,
				"The corpus %s has not been through wenlan-%s; "
				"run it first.",
				wl_corpus_dir(c), wl_kept_stage_names[s]);
	for (int p = 0; p < wl_corpus_partitions(c); p++)
		WL_TRY(add_partition(b, c, p, pairs, err));
	return 0;
}
