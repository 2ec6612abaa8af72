/* See labels.h. */
#include "clean/topics/labels.h"

#include "ops/file.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

/* ---- the rules ---- */

struct rules {
	json_t *root;
	double min_coherence, max_entropy, min_overlap, max_junk;
	int64_t min_docs;
	bool need_category;
	const json_t *categories, *junk; /* borrowed from root */
};

static int check_words(const json_t *list, const char *where, struct wl_err *err)
{
	const json_t *w;
	size_t i;

	if (list && !json_is_array(list))
		return wl_err_set(err, WL_EUSAGE, "%s: expected a list of words.", where);
	json_array_foreach(
		list, i, w) if (!json_is_string(w) || !json_string_length(w)) return wl_err_set(err,
		WL_EUSAGE, "%s: word %zu is no text; put it in quotes.", where, i + 1);
	return 0;
}

static int read_values(struct rules *r, const char *path, struct wl_err *err)
{
	static const char *const known[] = {"version", "min_coherence", "max_entropy", "min_docs",
		"min_overlap", "max_junk", "need_category", "categories", "junk", NULL};
	const char *name;
	json_t *list;
	int64_t version;
	char where[600];

	if (!json_is_object(r->root))
		return wl_err_set(err, WL_EUSAGE, "%s: expected keys and values.", path);
	WL_TRY(wl_json_only_keys(r->root, known, path, err));
	WL_TRY(wl_json_int(r->root, "version", path, &version, err));
	if (version != 1)
		return wl_err_set(err, WL_EUSAGE, "%s is of version %lld; this program reads 1.",
			path, (long long)version);
	WL_TRY(wl_json_num_or(r->root, "min_coherence", path, -1, &r->min_coherence, err));
	WL_TRY(wl_json_num_or(r->root, "max_entropy", path, 1, &r->max_entropy, err));
	WL_TRY(wl_json_num_or(r->root, "min_overlap", path, 0.1, &r->min_overlap, err));
	WL_TRY(wl_json_num_or(r->root, "max_junk", path, 1, &r->max_junk, err));
	WL_TRY(wl_json_int_or(r->root, "min_docs", path, 0, &r->min_docs, err));
	WL_TRY(wl_json_bool_or(r->root, "need_category", path, false, &r->need_category, err));
	if (!(r->min_coherence >= -1 && r->min_coherence <= 1) || !(r->max_entropy >= 0) ||
		!(r->min_overlap > 0 && r->min_overlap <= 1) || !(r->max_junk >= 0))
		return wl_err_set(err, WL_EUSAGE,
			"%s: expected min_coherence from -1 to 1, max_entropy and max_junk of 0 or "
			"more, and min_overlap above 0 and at most 1.",
			path);
	r->categories = json_object_get(r->root, "categories");
	r->junk = json_object_get(r->root, "junk");
	snprintf(where, sizeof(where), "%s, junk", path);
	WL_TRY(check_words(r->junk, where, err));
	if (r->categories && !json_is_object(r->categories))
		return wl_err_set(err, WL_EUSAGE,
			"%s, categories: expected NAME: [word, ...] below it.", path);
	json_object_foreach((json_t *)r->categories, name, list)
	{
		snprintf(where, sizeof(where), "%s, categories, %s", path, name);
		WL_TRY(check_words(list, where, err));
	}
	return 0;
}

static int rules_load(struct rules *r, const char *path, struct wl_err *err)
{
	memset(r, 0, sizeof(*r));
	r->root = wl_yaml_load(path, err);
	if (r->root && read_values(r, path, err) == 0)
		return 0;
	/* Rules are configuration, whatever is wrong in them. */
	if (err && err->code == WL_EDATA)
		err->code = WL_EUSAGE;
	json_decref(r->root);
	r->root = NULL;
	return -1;
}

/* ---- judging ---- */

static bool has_seed(const json_t *seeds, const char *word)
{
	const json_t *s;
	size_t i;

	json_array_foreach(seeds, i, s) if (strstr(word, json_string_value(s))) return true;
	return false;
}

/* Share of a topic's words, likely and relevant, that contain a seed; found: some of them. */
static double overlap(const json_t *topic, const json_t *seeds, char found[120])
{
	static const char *const lists[] = {"relevant", "likely"};
	size_t hits = 0, n = 0, at = 0, i;
	json_t *w;

	found[0] = 0;
	for (int l = 0; l < 2; l++)
		json_array_foreach(json_object_get(topic, lists[l]), i, w)
		{
			const char *s = json_string_value(w);
			n++;
			if (!s || !has_seed(seeds, s))
				continue;
			hits++;
			if (at + strlen(s) + 2 < 120 && !strstr(found, s))
				at += (size_t)sprintf(found + at, "%s%s", at ? " " : "", s);
		}
	return n ? (double)hits / (double)n : 0;
}

static const char *category_of(
	const struct rules *r, const json_t *topic, double *share, char found[120])
{
	const char *name, *best = NULL;
	char here[120];
	json_t *seeds;

	*share = 0;
	found[0] = 0;
	json_object_foreach((json_t *)r->categories, name, seeds)
	{
		double s = overlap(topic, seeds, here);
		if (s < r->min_overlap || s <= *share)
			continue;
		*share = s;
		best = name;
		memcpy(found, here, sizeof(here));
	}
	return best;
}

static json_t *likely_words(const json_t *topic)
{
	char text[400];
	size_t i, at = 0;
	json_t *w;

	text[0] = 0;
	json_array_foreach(json_object_get(topic, "likely"), i,
		w) if (at + json_string_length(w) + 2 < sizeof(text) && i < 12) at +=
		(size_t)sprintf(text + at, "%s%s", i ? " " : "", json_string_value(w));
	return json_string(text);
}

/* What the rules say of a topic: the first that fails is the reason. */
static json_t *judge(const struct rules *r, const json_t *topic)
{
	double coherence = json_number_value(json_object_get(topic, "coherence"));
	double entropy = json_number_value(json_object_get(topic, "entropy")), share, junk;
	int64_t docs = json_integer_value(json_object_get(topic, "docs"));
	char found[120], trash[120], why[400] = "";
	const char *category = category_of(r, topic, &share, found);

	junk = overlap(topic, r->junk, trash);
	if (coherence < r->min_coherence)
		snprintf(why, sizeof(why), "coherence %.3f, at least %.3f is asked for", coherence,
			r->min_coherence);
	else if (entropy > r->max_entropy)
		snprintf(why, sizeof(why), "entropy %.3f, at most %.3f", entropy, r->max_entropy);
	else if (docs < r->min_docs)
		snprintf(why, sizeof(why), "%lld documents, at least %lld", (long long)docs,
			(long long)r->min_docs);
	else if (junk > r->max_junk)
		snprintf(why, sizeof(why), "%.0f %% of its words are junk, at most %.0f %%: %s",
			100 * junk, 100 * r->max_junk, trash);
	else if (r->need_category && !category)
		snprintf(why, sizeof(why), "of no category");
	if (*why)
		return json_pack("{s:s, s:s?, s:s, s:s, s:o}", "label", "drop", "category",
			category, "by", "rules", "why", why, "words", likely_words(topic));
	if (category)
		snprintf(why, sizeof(why), "%.0f %% of its words: %s", 100 * share, found);
	return json_pack("{s:s, s:s?, s:s, s:s, s:o}", "label", "keep", "category", category, "by",
		"rules", "why", why, "words", likely_words(topic));
}

/* ---- the file ---- */

static const json_t *old_label(const json_t *labels, const char *source, const char *topic)
{
	const json_t *l =
		json_object_get(json_object_get(json_object_get(labels, "sources"), source), topic);
	const char *by = json_string_value(json_object_get(l, "by"));

	return by && strcmp(by, "hand") == 0 ? l : NULL;
}

static int label_model(const struct rules *r, const struct wl_topic_model *m, const json_t *old,
	json_t *sources, struct wl_topic_label_counts *n, struct wl_err *err)
{
	json_t *list = json_object(), *topic, *l;
	size_t k;

	json_object_set_new(sources, m->source, list);
	json_array_foreach(json_object_get(m->facts, "topics"), k, topic)
	{
		char number[24];
		const json_t *hand;
		const char *label;
		snprintf(number, sizeof(number), "%zu", k);
		hand = old_label(old, m->source, number);
		l = hand ? json_deep_copy(hand) : judge(r, topic);
		if (!l || json_object_set_new(list, number, l) < 0)
			return wl_err_nomem(err, "labels of topics", 0);
		label = json_string_value(json_object_get(l, "label"));
		n->by_hand += hand != NULL;
		n->dropped += label && strcmp(label, "drop") == 0;
		n->kept += label && strcmp(label, "keep") == 0;
	}
	return 0;
}

static int save_yaml(const char *path, const json_t *labels, struct wl_err *err)
{
	static const char note[] = "# Labels of topics.  Change label (keep | drop) or category "
				   "and write `by: hand`;\n"
				   "# wenlan-filter topics select leaves such topics alone.\n";
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, 256 << 20);
	WL_TRY_OUT(wl_buf_puts(&b, note, err));
	WL_TRY_OUT(wl_yaml_text(labels, &b, err));
	ret = wl_write_file(path, b.data, b.len, err);
out:
	wl_buf_release(&b);
	return ret;
}

/* Labels of other models are no labels of these. */
static json_t *old_labels(const struct wl_topic_models *t, const char *path, struct wl_err *err)
{
	json_t *old = wl_exists(path) ? wl_yaml_load(path, err) : json_object();
	const char *id = json_string_value(json_object_get(old, "topics"));

	if (old && (!id || strcmp(id, t->id) != 0))
		json_object_clear(old);
	return old;
}

int wl_topic_labels_select(const struct wl_topic_models *t, const char *dir, const char *rules,
	struct wl_topic_label_counts *counts, struct wl_err *err)
{
	char *path = wl_path_join(dir, "labels.yaml", err);
	json_t *sources = json_object(), *labels = NULL, *old = NULL;
	struct rules r;
	int ret = -1;

	memset(counts, 0, sizeof(*counts));
	memset(&r, 0, sizeof(r));
	if (!path || !sources)
		goto out;
	WL_TRY_OUT(rules_load(&r, rules, err));
	old = old_labels(t, path, err);
	if (!old)
		goto out;
	for (size_t i = 0; i < t->n; i++)
		WL_TRY_OUT(label_model(&r, &t->v[i], old, sources, counts, err));
	labels = json_pack("{s:i, s:s, s:O}", "version", 1, "topics", t->id, "sources", sources);
	ret = labels ? save_yaml(path, labels, err) : wl_err_nomem(err, "labels of topics", 0);
out:
	json_decref(r.root);
	json_decref(sources);
	json_decref(labels);
	json_decref(old);
	free(path);
	return ret;
}

int wl_topic_labels_by_hand(const char *dir, bool *by_hand, struct wl_err *err)
{
	char *path = wl_path_join(dir, "labels.yaml", err);
	json_t *root = NULL, *list, *l;
	const char *source, *number;

	*by_hand = false;
	if (path && wl_exists(path)) {
		root = wl_yaml_load(path, err);
		if (!root) {
			free(path);
			return -1;
		}
	}
	json_object_foreach(json_object_get(root, "sources"), source, list) json_object_foreach(
		list, number, l) *by_hand = *by_hand || old_label(root, source, number) != NULL;
	json_decref(root);
	free(path);
	return path ? 0 : -1;
}

/* ---- reading ---- */

static int check_label(
	const json_t *l, const char *path, const char *source, size_t k, struct wl_err *err)
{
	const char *label = json_string_value(json_object_get(l, "label"));
	const json_t *category = json_object_get(l, "category");

	if (!l)
		return wl_err_set(err, WL_EUSAGE,
			"%s: topic %zu of %s has no label; apply the rules again "
			"(wenlan-filter topics select).",
			path, k, source);
	if (!label || (strcmp(label, "keep") != 0 && strcmp(label, "drop") != 0))
		return wl_err_set(err, WL_EUSAGE,
			"%s: the label of topic %zu of %s is \"%s\", expected keep or drop.", path,
			k, source, label ? label : "no text");
	if (category && !json_is_null(category) &&
		(!json_is_string(category) || !json_string_length(category)))
		return wl_err_set(err, WL_EUSAGE,
			"%s: the category of topic %zu of %s is no text; write null where there is "
			"none.",
			path, k, source);
	return 0;
}

json_t *wl_topic_labels_load(const struct wl_topic_models *t, const char *path, struct wl_err *err)
{
	json_t *root;
	const char *id;

	if (!wl_exists(path)) {
		wl_err_set(err, WL_EUSAGE,
			"%s is not there; make it with wenlan-filter topics select.", path);
		return NULL;
	}
	root = wl_yaml_load(path, err);
	if (!root)
		return NULL;
	id = json_string_value(json_object_get(root, "topics"));
	if (!id || strcmp(id, t->id) != 0) {
		wl_err_set(err, WL_EUSAGE,
			"%s has labels of other topics than those beside it; apply the rules again "
			"(wenlan-filter topics select).",
			path);
		goto bad;
	}
	for (size_t i = 0; i < t->n; i++) {
		const json_t *list =
			json_object_get(json_object_get(root, "sources"), t->v[i].source);
		for (int k = 0; k < t->v[i].lda.topics; k++) {
			char number[24];
			snprintf(number, sizeof(number), "%d", k);
			if (check_label(json_object_get(list, number), path, t->v[i].source,
				    (size_t)k, err) < 0)
				goto bad;
		}
	}
	return root;
bad:
	json_decref(root);
	return NULL;
}

struct wl_topic_label wl_topic_labels_get(const json_t *labels, const char *source, int topic)
{
	char number[24];
	const json_t *l;

	snprintf(number, sizeof(number), "%d", topic);
	l = json_object_get(json_object_get(json_object_get(labels, "sources"), source), number);
	return (struct wl_topic_label){
		.drop = strcmp(json_string_value(json_object_get(l, "label")), "drop") == 0,
		.category = json_string_value(json_object_get(l, "category")),
		.words = json_string_value(json_object_get(l, "words"))};
}
