/* wenlan-dedup --embeddings: what vectors say is alike joins what pictures and texts say, with the
 * same policies, evaluation sets, ranks, kills and later pairs; files that do not fit.  From a
 * model to verdicts, by the executables: test_dedup_embed.c. */
#include "clean/pairvectors.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/dedup_run.h"
#include "tests/support/kills.h"
#include "tests/support/shardset.h"
#include "tests/support/tmp.h"
#include "tests/support/vectors_make.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wl_err err;

/* ---- a corpus of different pictures, and vectors that say otherwise ---- */

enum { PAIRS = 60, EARLY = 45, DIM = 24, PARTITIONS = 3 };
enum { COPY = 10, COPIES = 5, CHAIN = 20, BELOW = 30, TEST = 40, NEAR_TEST = 41, LATE = 50 };

struct planted {
	int64_t id[PAIRS];
	float image[PAIRS][DIM], text[PAIRS][DIM];
};

/* Pairs [from, to). */
static void plant_pairs(const char *dir, struct planted *x, int from, int to)
{
	corpus_make_different(dir, PARTITIONS, from, to, TEST, x->id);
}

static void plant_vectors(struct planted *x)
{
	for (int i = 0; i < PAIRS; i++) {
		vectors_random(100 + (uint64_t)i, DIM, x->image[i]);
		vectors_random(500 + (uint64_t)i, DIM, x->text[i]);
	}
	for (int i = 0; i < COPIES; i++) {
		vectors_at(x->image[i], .96 + .005 * i, 900 + (uint64_t)i, DIM, x->image[COPY + i]);
		if (i % 2)
			vectors_at(x->text[i], .98, 950 + (uint64_t)i, DIM, x->text[COPY + i]);
	}
	vectors_at(x->image[CHAIN], .96, 1, DIM, x->image[CHAIN + 1]);
	vectors_at(x->image[CHAIN + 1], .96, 2, DIM, x->image[CHAIN + 2]);
	vectors_at(x->image[BELOW], .94, 3, DIM, x->image[BELOW + 1]);
	vectors_at(x->image[TEST], .99, 4, DIM, x->image[NEAR_TEST]);
	vectors_at(x->image[5], .97, 5, DIM, x->image[LATE]);
	vectors_at(x->image[LATE + 1], .97, 6, DIM, x->image[LATE + 2]);
}

/* Pairs [from, to), of one partition (-1: of all, which is not said in the file). */
static void write_vectors(
	const char *path, const struct planted *x, int from, int to, int partition)
{
	static float images[PAIRS][DIM], texts[PAIRS][DIM];
	int64_t ids[PAIRS], n = 0;

	for (int i = from; i < to; i++)
		if (partition < 0 || i % PARTITIONS == partition) {
			memcpy(images[n], x->image[i], sizeof(images[n]));
			memcpy(texts[n], x->text[i], sizeof(texts[n]));
			ids[n++] = x->id[i];
		}
	vectors_write(path,
		&(struct vectors_file){.image_ids = ids, .text_ids = ids, .images = images[0],
			.texts = texts[0], .n_images = n, .n_texts = n, .dim = DIM,
			.partition = partition, .dtype = WL_SAVED_F32});
}

static void write_all(const struct tmp_dir *tmp, const struct planted *x, char dir[512])
{
	char path[512], name[64];

	OK(wl_mkdir_p(tmp_path(tmp, "vectors", dir), &err));
	for (int p = 0; p < PARTITIONS; p++) {
		snprintf(name, sizeof(name), "vectors/%05d-00000.safetensors", p);
		write_vectors(tmp_path(tmp, name, path), x, 0, PAIRS, p);
	}
}

struct run {
	struct wl_dedup_options o;
	const char *embeddings, *against_embeddings, *against;
};

static struct wl_dedup_options options(const char *const *embeddings)
{
	return (struct wl_dedup_options){
		.image_radius = 6, .threads = 2, .embeddings = embeddings, .n_embeddings = 1};
}

static void verdicts(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct planted x;
	char dir[512], corpus[512];
	const char *d = dir;
	struct wl_dedup_options o = options(&d);

	(void)state;
	tmp_path(&tmp, "corpus", corpus);
	plant_vectors(&x);
	plant_pairs(corpus, &x, 0, PAIRS);
	write_all(&tmp, &x, dir);
	o.n_embeddings = 0;
	OK(dedup_run(corpus, &o, &n, &err));
	assert_int_equal(n.duplicates + n.near_eval + n.embedded + n.alike_images, 0);
	o.n_embeddings = 1;
	assert_int_equal(dedup_run(corpus, &o, &n, &err), 0);
	for (int i = 0; i < COPIES; i++) {
		dedup_expect(corpus, x.id[i], NULL, 0);
		dedup_expect(corpus, x.id[COPY + i], "duplicate-image", x.id[i]);
	}
	dedup_expect(corpus, x.id[CHAIN], NULL, 0);
	dedup_expect(corpus, x.id[CHAIN + 1], "duplicate-image", x.id[CHAIN]);
	dedup_expect(corpus, x.id[CHAIN + 2], NULL, 0); /* not alike to what stays */
	dedup_expect(corpus, x.id[BELOW + 1], NULL, 0);
	dedup_expect(corpus, x.id[TEST], NULL, 0);
	dedup_expect(corpus, x.id[NEAR_TEST], "near-test", x.id[TEST]);
	dedup_expect(corpus, x.id[LATE], "duplicate-image", x.id[5]);
	assert_int_equal(n.embedded, PAIRS);
	assert_int_equal(n.embedded_images, COPIES + 2 + 1 + 2);
	assert_int_equal(n.alike_images, n.embedded_images);
	assert_int_equal(n.duplicates, COPIES + 1 + 2);
	assert_int_equal(n.near_eval, 1);
	/* Nothing to do; another bound; nothing to do with the files' order of rows. */
	assert_int_equal(dedup_run(corpus, &o, &n, &err), 1);
	assert_int_equal(n.embedded_images, COPIES + 5);
	o.embedding_cosine = .93;
	assert_int_equal(dedup_run(corpus, &o, &n, &err), 0);
	dedup_expect(corpus, x.id[BELOW + 1], "duplicate-image", x.id[BELOW]);
	/* Both must be near: of the copies every other one's text is. */
	o.embedding_cosine = 0;
	o.policy = WL_DEDUP_PAIR;
	o.embedding_text = .97;
	OK(dedup_run(corpus, &o, &n, &err));
	assert_int_equal(n.embedded_texts, COPIES / 2);
	for (int i = 0; i < COPIES; i++)
		dedup_expect(corpus, x.id[COPY + i], i % 2 ? "duplicate-pair" : NULL, x.id[i]);
	o.policy = WL_DEDUP_TEXT;
	OK(dedup_run(corpus, &o, &n, &err));
	for (int i = 0; i < COPIES; i++)
		dedup_expect(corpus, x.id[COPY + i], i % 2 ? "duplicate-text" : NULL, x.id[i]);
	tmp_remove(&tmp);
}

/* ---- ranks, threads, ways ---- */

static void ranks_make_no_difference(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts first;
	struct planted x;
	char dir[512], a[512];
	const char *d = dir;

	(void)state;
	plant_vectors(&x);
	plant_pairs(tmp_path(&tmp, "a", a), &x, 0, PAIRS);
	write_all(&tmp, &x, dir);
	for (int near = 0; near < 2; near++) {
		struct wl_dedup_options o = options(&d);
		o.policy = WL_DEDUP_PAIR;
		o.embedding_text = .9;
		o.embedding_search = near ? WL_SEARCH_NEAR : WL_SEARCH_EXACT;
		OK(dedup_run(a, &o, &first, &err));
		assert_int_equal(first.embedded_images, COPIES + 5);
		for (int ranks = 2; ranks <= 3; ranks++) {
			char b[512], name[16];
			struct on_ranks r = {.dir = b, .o = o};
			snprintf(name, sizeof(name), "b%d%d", near, ranks);
			plant_pairs(tmp_path(&tmp, name, b), &x, 0, PAIRS);
			r.o.threads = 1;
			r.o.memory_bytes = ranks == 3 ? 1 : 0;
			OK(wl_comm_simulate(ranks, dedup_rank, &r, &err));
			assert_memory_equal(&first, &r.n, sizeof(first));
			dedup_same(a, b);
		}
	}
	tmp_remove(&tmp);
}

/* ---- pairs, and vectors, that come later ---- */

static void later_is_the_same_as_at_once(void **state)
{
	(void)state;
	for (int near = 0; near < 2; near++) {
		struct tmp_dir tmp = tmp_make();
		struct wl_dedup_counts na, nb;
		struct planted x;
		char dir[512], a[512], b[512], early[512], late[512];
		const char *both[2] = {early, late}, *d = dir;
		struct wl_dedup_options o = options(&d);

		plant_vectors(&x);
		o.embedding_search = near ? WL_SEARCH_NEAR : WL_SEARCH_EXACT;
		plant_pairs(tmp_path(&tmp, "a", a), &x, 0, PAIRS);
		write_all(&tmp, &x, dir);
		OK(dedup_run(a, &o, &na, &err));
		plant_pairs(tmp_path(&tmp, "b", b), &x, 0, EARLY);
		write_vectors(tmp_path(&tmp, "early.safetensors", early), &x, 0, EARLY, -1);
		write_vectors(tmp_path(&tmp, "late.safetensors", late), &x, EARLY, PAIRS, -1);
		o.embeddings = both;
		OK(dedup_run(b, &o, &nb, &err));
		assert_int_equal(nb.embedded_images, COPIES + 3);
		plant_pairs(b, &x, EARLY, PAIRS);
		o.n_embeddings = 2;
		OK(dedup_run(b, &o, &nb, &err));
		assert_memory_equal(&na, &nb, sizeof(na));
		dedup_same(a, b);
		tmp_remove(&tmp);
	}
}

/* What rests on vectors that are others now, or gone, is forgotten. */
static void other_vectors(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct planted x;
	char corpus[512], path[512];
	const char *p = path;
	struct wl_dedup_options o = options(&p);

	(void)state;
	plant_vectors(&x);
	plant_pairs(tmp_path(&tmp, "corpus", corpus), &x, 0, PAIRS);
	write_vectors(tmp_path(&tmp, "v.safetensors", path), &x, 0, PAIRS, -1);
	OK(dedup_run(corpus, &o, &n, &err));
	dedup_expect(corpus, x.id[COPY], "duplicate-image", x.id[0]);
	vectors_random(12345, DIM, x.image[COPY]);
	vectors_at(x.image[7], .98, 7, DIM, x.image[8]);
	write_vectors(path, &x, 0, PAIRS, -1);
	OK(dedup_run(corpus, &o, &n, &err));
	dedup_expect(corpus, x.id[COPY], NULL, 0);
	dedup_expect(corpus, x.id[8], "duplicate-image", x.id[7]);
	dedup_expect(corpus, x.id[COPY + 1], "duplicate-image", x.id[1]);
	/* Pairs without vectors are counted, and compared by hashes. */
	write_vectors(path, &x, 5, PAIRS, -1);
	OK(dedup_run(corpus, &o, &n, &err));
	assert_int_equal(n.embedded, PAIRS - 5);
	dedup_expect(corpus, x.id[COPY + 1], NULL, 0);
	dedup_expect(corpus, x.id[8], "duplicate-image", x.id[7]);
	tmp_remove(&tmp);
}

/* A corpus that dedup runs in. */
struct planted_run {
	struct planted x;
	const char *dir;
	struct wl_dedup_options o;
	struct wl_dedup_counts n;
};

static void plant_again(void *ctx)
{
	struct planted_run *r = ctx;

	assert_int_equal(tmp_run(NULL, "rm -rf '%s'", r->dir), 0);
	plant_pairs(r->dir, &r->x, 0, PAIRS);
}

static int dedup_planted(void *ctx)
{
	struct planted_run *r = ctx;

	return dedup_run(r->dir, &r->o, &r->n, &err) < 0;
}

static void killed_and_run_again(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts na, nb;
	struct planted x;
	char dir[512], a[512], b[512];
	const char *d = dir;
	struct wl_dedup_options o = options(&d);
	struct planted_run run = {.dir = tmp_path(&tmp, "b", b), .o = o};

	(void)state;
	plant_vectors(&x);
	plant_pairs(tmp_path(&tmp, "a", a), &x, 0, PAIRS);
	write_all(&tmp, &x, dir);
	OK(dedup_run(a, &o, &na, &err));
	killed_until_done(&(struct killed){
		.begin = plant_again, .run = dedup_planted, .ctx = &run, .least = 3});
	OK(dedup_run(b, &o, &nb, &err));
	assert_memory_equal(&na, &nb, sizeof(na));
	dedup_same(a, b);
	tmp_remove(&tmp);
}

/* ---- evaluation sets ---- */

static void against(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct planted x, set = {0};
	char corpus[512], eval[512], own[512], theirs[512];
	const char *p = own, *q = theirs, *a = eval;
	struct wl_dedup_options o = options(&p);
	struct corpus_maker m;

	(void)state;
	plant_vectors(&x);
	plant_pairs(tmp_path(&tmp, "corpus", corpus), &x, 0, PAIRS);
	write_vectors(tmp_path(&tmp, "own.safetensors", own), &x, 0, PAIRS, -1);
	corpus_make_open(&m, tmp_path(&tmp, "eval", eval), 2);
	for (int i = 0; i < 4; i++) {
		struct wl_image im;
		draw_picture(7000 + (uint64_t)i, 96, 80, &im);
		set.id[i] = corpus_make_jpeg(&m, "aic", "[[\"caption\",\"评测\"]]", "", &im, 90);
		vectors_at(x.image[30 + 2 * i], i < 3 ? .97 : .9, 77 + (uint64_t)i, DIM,
			set.image[i]);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
	write_vectors(tmp_path(&tmp, "theirs.safetensors", theirs), &set, 0, 4, -1);
	o.against = &a;
	o.n_against = 1;
	OK(dedup_run(corpus, &o, &n, &err));
	assert_int_equal(n.near_against, 0);
	o.against_embeddings = &q;
	o.n_against_embeddings = 1;
	assert_int_equal(dedup_run(corpus, &o, &n, &err), 0);
	assert_int_equal(n.near_against, 3);
	assert_int_equal(n.against, 4);
	for (int i = 0; i < 4; i++)
		dedup_expect(corpus, x.id[30 + 2 * i], i < 3 ? "near-eval" : NULL, set.id[i]);
	dedup_expect(corpus, x.id[COPY], "duplicate-image", x.id[0]);
	/* Nothing of the set is kept for later; and a second run is the same. */
	o.embedding_cosine = .9501;
	OK(dedup_run(corpus, &o, &n, &err));
	assert_int_equal(n.near_against, 3);
	tmp_remove(&tmp);
}

/* ---- what does not fit ---- */

static void bad_input(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct planted x, other;
	char corpus[512], path[512], *out;
	const char *p = path;
	struct wl_dedup_options o = options(&p);
	static const struct {
		const char *args, *part;
		int code;
	} bad[] = {
		{"--embedding-cosine .3", "--embedding-cosine is 0.3, expected 0.5 to 1",
			WL_EUSAGE},
		{"--embedding-cosine 1.01", "--embedding-cosine is 1.01", WL_EUSAGE},
		{"--embedding-cosine nan", "--embedding-cosine", WL_EUSAGE},
		{"--embedding-text .2 --policy pair", "--embedding-text is 0.2", WL_EUSAGE},
		{"--embedding-text .9", "texts decide nothing", WL_EUSAGE},
		{"--embedding-search fast", "expected auto, exact or near", WL_EUSAGE},
		{"--against-embeddings x", "without --against", WL_EUSAGE},
		{"--embeddings /nonexistent", "/nonexistent: there is no such file", WL_EUSAGE},
	};

	(void)state;
	plant_vectors(&x);
	other = x;
	plant_pairs(tmp_path(&tmp, "corpus", corpus), &x, 0, 12);
	tmp_path(&tmp, "v.safetensors", path);
	for (int i = 0; i < PAIRS; i++)
		other.id[i] = 5 + i;
	write_vectors(path, &other, 0, PAIRS, -1);
	FAILS(WL_EDATA, "is in this corpus", dedup_run(corpus, &o, &n, &err));
	x.image[11][3] = NAN;
	write_vectors(path, &x, 0, 12, -1);
	FAILS(WL_EDATA, "row 11 of image_embeddings has a number that is not finite",
		dedup_run(corpus, &o, &n, &err));
	x.image[11][3] = 1;
	write_vectors(path, &x, 0, 12, -1);
	if (access(tmp_bin(), X_OK) == 0)
		for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
			int code = tmp_run(&out, "%s/wenlan-dedup --corpus %s --embeddings %s %s",
				tmp_bin(), corpus, path, bad[i].args);
			if (code != bad[i].code || !strstr(out, bad[i].part))
				fail_msg("%s: exit code %d, expected %d, with \"%s\":\n%s",
					bad[i].args, code, bad[i].code, bad[i].part, out);
			free(out);
		}
	OK(dedup_run(corpus, &o, &n, &err));
	dedup_expect(corpus, x.id[COPY], "duplicate-image", x.id[0]);
	tmp_remove(&tmp);
}

/* A model to which everything is the same. */
static void a_cone_is_told(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct planted x;
	char corpus[512], path[512], *out;

	(void)state;
	tmp_path(&tmp, "x", path);
	snprintf(path, sizeof(path), "%s/wenlan-dedup", tmp_bin());
	if (access(path, X_OK) != 0) {
		tmp_remove(&tmp);
		SKIP("wenlan-dedup is not in %s", tmp_bin());
	}
	plant_pairs(tmp_path(&tmp, "corpus", corpus), &x, 0, PAIRS);
	plant_vectors(&x);
	write_vectors(tmp_path(&tmp, "v.safetensors", path), &x, 0, PAIRS, -1);
	assert_int_equal(tmp_run(&out, "%s/wenlan-dedup --corpus %s --embeddings %s", tmp_bin(),
				 corpus, path),
		0);
	assert_non_null(strstr(out, "60 pairs have embeddings"));
	free(out);
	for (int i = 0; i < PAIRS; i++)
		for (int k = 0; k < DIM; k++)
			x.image[i][k] += k == 0 ? 9 : 0;
	write_vectors(path, &x, 0, PAIRS, -1);
	assert_int_equal(tmp_run(&out, "%s/wenlan-dedup --corpus %s --embeddings %s", tmp_bin(),
				 corpus, path),
		0);
	if (!strstr(out, "this model needs a higher bound"))
		fail_msg("no warning in:\n%s", out);
	free(out);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verdicts),
		cmocka_unit_test(ranks_make_no_difference),
		cmocka_unit_test(later_is_the_same_as_at_once),
		cmocka_unit_test(other_vectors),
		cmocka_unit_test(killed_and_run_again),
		cmocka_unit_test(against),
		cmocka_unit_test(bad_input),
		cmocka_unit_test(a_cone_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
