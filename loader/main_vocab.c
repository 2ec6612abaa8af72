/* wenlan-vocab: a BERT-style vocabulary of a corpus's kept texts. */
#include "loader/vocab.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"

#include <stdio.h>

struct options {
	const char *corpus, *out;
	int64_t size, min_count;
};

static int report(const struct wl_opts *opts, const struct options *o, int64_t pairs,
	const struct wl_vocab_counts *n, struct wl_err *err)
{
	json_t *j;
	int ret;

	wl_info("%s: %lld tokens from %lld pairs, %lld of them Chinese characters, %lld merged "
		"pieces",
		o->out, (long long)n->tokens, (long long)pairs, (long long)n->chinese,
		(long long)n->pieces);
	if (!pairs)
		wl_warn("%s: no pair of it is kept for training, so the vocabulary has no word; "
			"look at the reports of wenlan-dedup and wenlan-filter",
			o->corpus);
	if (n->left_out)
		wl_warn("no room for %lld rarer characters, which will be [UNK]; --size is %lld",
			(long long)n->left_out, (long long)o->size);
	if (!opts->common.json)
		return 0;
	j = json_pack("{s:I, s:I, s:I, s:I, s:I}", "pairs", (json_int_t)pairs, "tokens",
		(json_int_t)n->tokens, "chinese", (json_int_t)n->chinese, "pieces",
		(json_int_t)n->pieces, "left_out", (json_int_t)n->left_out);
	ret = j ? wl_json_print(j, err) : wl_err_nomem(err, "counts", 0);
	json_decref(j);
	return ret;
}

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct options *o = user;
	struct wl_vocab_builder *b = NULL;
	struct wl_vocab_counts n;
	struct wl_corpus *c = NULL;
	struct wl_buf text;
	int64_t pairs;
	int ret = -1;

	wl_buf_init(&text, 64 << 20);
	if (o->size < WL_VOCAB_MIN_SIZE || o->size > 1000000)
		return wl_err_set(err, WL_EUSAGE, "--size is %lld, expected %d to 1000000 tokens.",
			(long long)o->size, WL_VOCAB_MIN_SIZE);
	c = wl_corpus_open(o->corpus, false, 0, err);
	b = c ? wl_vocab_builder_new(err) : NULL;
	if (!b)
		goto out;
	WL_TRY_OUT(wl_vocab_builder_corpus(b, c, &pairs, err));
	WL_TRY_OUT(wl_vocab_builder_make(b, (size_t)o->size, o->min_count, &text, &n, err));
	WL_TRY_OUT(wl_write_file(o->out, text.data, text.len, err));
	ret = report(opts, o, pairs, &n, err);
out:
	wl_buf_release(&text);
	wl_vocab_builder_free(b);
	wl_corpus_close(c);
	return ret;
}

static const struct wl_path_rule paths[] = {
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int main(int argc, char **argv)
{
	struct options o = {.size = 21128, .min_count = 2};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &o.corpus, "DIR", "a corpus through dedup and filter", true},
		{"out", WL_OPT_STR, &o.out, "FILE", "the vocabulary, one token a line", true},
		{"size", WL_OPT_INT, &o.size, "N", "at most so many tokens", false},
		{"min-count", WL_OPT_INT, &o.min_count, "N",
			"how often a merged word piece must occur (characters are always in)",
			false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-vocab",
		.usage = "--corpus DIR --out FILE [OPTION]...",
		.about = "Builds a BERT-style vocabulary from the texts of kept pairs.",
		.example = "wenlan-vocab --corpus corpus --out vocab.txt --size 8000",
		.table = table,
		.paths = paths,
	};

	return wl_main(&opts, argc, argv, run, &o);
}
