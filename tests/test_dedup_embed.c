/* From a model to verdicts by the executables: wenlan-train, wenlan-embed --vectors in pieces,
 * killed and for later pairs, wenlan-dedup --embeddings on any number of ranks. */
#include "clean/pairvectors.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/dedup_run.h"
#include "tests/support/kills.h"
#include "tests/support/shardset.h"
#include "tests/support/tmp.h"
#include "tests/support/trainrig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAIRS = 60, EARLY = 45, TEST = 40 };

static struct wl_err err;
static struct tmp_dir tmp;

#define EXPECT(code, part, ...)                                                                    \
	do {                                                                                       \
		char cmd_[2000], *out_;                                                            \
		int got_;                                                                          \
		snprintf(cmd_, sizeof(cmd_), __VA_ARGS__);                                         \
		got_ = tmp_run(&out_, "cd %s && export OMP_NUM_THREADS=1 PATH=%s:$PATH; %s",       \
			tmp.path, tmp_bin(), cmd_);                                                \
		if (got_ != (code) || !strstr(out_, part))                                         \
			fail_msg("%s: exit code %d, expected %d, with \"%s\":\n%s", cmd_, got_,    \
				(int)(code), part, out_);                                          \
		free(out_);                                                                        \
	} while (0)

/* Pairs [from, to) into a corpus. */
static void add_pairs(const char *corpus, int from, int to)
{
	int64_t id[PAIRS];
	char path[512];

	corpus_make_different(tmp_path(&tmp, corpus, path), 3, from, to, TEST, id);
}

/* A model, after a few steps: the directory run. */
static int train_a_model(void **state)
{
	char path[512], shards[512];
	struct wl_toy_set set = {.dir = shards, .split = "train", .samples = 40, .per_shard = 16,
		.captions = 3, .bad_jpeg = -1, .bad_text = -1};

	(void)state;
	tmp = tmp_make();
	tmp_write(tmp_path(&tmp, "vocab.txt", path),
		"[PAD]\n[UNK]\n[CLS]\n[SEP]\n图\n片\n说\n法\n，\n这\n里\n的\n是\n第\n件\n事\n情\n");
	OK(wl_mkdir_p(tmp_path(&tmp, "shards", shards), &err));
	wl_toy_set_write(&set);
	EXPECT(0, "",
		"wenlan-train --shards shards --data.vocab vocab.txt --run run --model '%s' "
		"--data.batch 8 --moco.queue 16 --max-steps 60 --epochs 99 --optim.warmup-steps 1 "
		"--data.threads 1 --threads 1",
		rig_model);
	return 0;
}

static int remove_all(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

/* In pieces, killed, in one go, and for pairs that come later. */
static void embeds_in_pieces(void **state)
{
	char begin[1024], cmd[5000];

	(void)state;
	add_pairs("corpus", 0, EARLY);
	add_pairs("second", 0, PAIRS);
	EXPECT(0, "17 pairs embedded",
		"wenlan-embed --ckpt run --corpus corpus --vectors --limit 17 --batch 8 "
		"--threads 1 --out vectors");
	EXPECT(0, "", "cp -r vectors some");
	snprintf(begin, sizeof(begin), "cd '%s' && rm -rf vectors && cp -r some vectors", tmp.path);
	snprintf(cmd, sizeof(cmd),
		"cd '%s' && OMP_NUM_THREADS=1 exec '%s/wenlan-embed' --quiet --ckpt run "
		"--corpus corpus --vectors --threads 1 --batch 8 --out vectors",
		tmp.path, tmp_bin());
	kill_until_done(begin, cmd, 2);
	add_pairs("corpus", EARLY, PAIRS);
	EXPECT(0, "15 pairs embedded (45 were before",
		"wenlan-embed --ckpt run --corpus corpus --vectors --threads 1 --out vectors");
	EXPECT(0, "60 pairs embedded",
		"wenlan-embed --ckpt run --corpus second --vectors --threads 1 --out once");
	EXPECT(0, "60 pairs embedded",
		"wenlan-embed --ckpt run --corpus second --vectors --threads 1 --store bf16 "
		"--out half");
}

static void refuses_what_does_not_fit(void **state)
{
	(void)state;
	EXPECT(2, "of another model",
		"wenlan-embed --ckpt run --corpus second --vectors --threads 1 --precision bf16 "
		"--out once");
	EXPECT(2, "--vectors is of --corpus",
		"wenlan-embed --ckpt run --texts vocab.txt --vectors --out once");
	EXPECT(2, "expected fp32, fp16 or bf16",
		"wenlan-embed --ckpt run --corpus second --vectors --store int8 --out once");
}

static int descending(const void *p, const void *q)
{
	double a = *(const double *)p, b = *(const double *)q;

	return (a < b) - (a > b);
}

/* A bound that about k of all pairs of pictures in the directory reach, and how many do. */
static double bound_of(const char *dir, size_t k, size_t *reach)
{
	const struct wl_vector_paths sets[WL_VECTORS_SETS] = {{&dir, 1}, {NULL, 0}};
	struct wl_pair_vectors *v = wl_pair_vectors_open(sets, WL_VECTORS_IMAGE, &err);
	size_t n, pairs = 0;
	double *c, bound;
	float *a, *b;

	if (!v)
		fail_msg("%s", err.msg);
	n = wl_pair_vectors_count(v, WL_VECTORS_OWN);
	c = malloc(n * n * sizeof(*c));
	a = malloc(2 * (size_t)wl_pair_vectors_dim(v) * sizeof(*a));
	b = a + wl_pair_vectors_dim(v);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t j = i + 1; j < n; j++) {
			wl_pair_vectors_row(v, i, a);
			wl_pair_vectors_row(v, j, b);
			c[pairs++] = wl_cosine(a, b, wl_pair_vectors_dim(v));
		}
	qsort(c, pairs, sizeof(*c), descending);
	while (k + 1 < pairs && c[k - 1] - c[k] < 1e-7)
		k++;
	bound = (c[k - 1] + c[k]) / 2;
	*reach = k;
	free(c);
	free(a);
	wl_pair_vectors_close(v);
	return bound;
}

/* The same verdicts on any number of ranks, and from embeddings made in pieces. */
static void finds_what_is_near(void **state)
{
	char path[512], first[512], name[16], expected[64], how[512];
	size_t reach;
	double bound = bound_of(tmp_path(&tmp, "once", path), 25, &reach);

	(void)state;
	print_message("%zu pairs of %d reach %.9f\n", reach, PAIRS, bound);
	snprintf(expected, sizeof(expected), "\"embedded_images\":%zu,", reach);
	add_pairs("np1", 0, PAIRS);
	EXPECT(0, expected,
		"wenlan-dedup --corpus np1 --embeddings once --embedding-cosine %.9f --json "
		"--threads 1",
		bound);
	for (int n = 2; n <= 3 && tmp_run(NULL, "command -v mpirun >/dev/null") == 0; n++) {
		snprintf(name, sizeof(name), "np%d", n);
		add_pairs(name, 0, PAIRS);
		EXPECT(0, expected,
			"%s -np %d wenlan-dedup --corpus %s --embeddings once --embedding-cosine "
			"%.12f --json --threads 1",
			tmp_mpirun(&tmp, how), n, name, bound);
		dedup_same(tmp_path(&tmp, "np1", first), tmp_path(&tmp, name, path));
	}
	EXPECT(0, expected,
		"wenlan-dedup --corpus corpus --embeddings vectors --embedding-cosine %.12f --json "
		"--threads 1",
		bound);
	EXPECT(0, "\"embedded\":60",
		"wenlan-dedup --corpus second --embeddings half --json --threads 1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(embeds_in_pieces),
		cmocka_unit_test(refuses_what_does_not_fit),
		cmocka_unit_test(finds_what_is_near),
	};

	return cmocka_run_group_tests(tests, train_a_model, remove_all);
}
