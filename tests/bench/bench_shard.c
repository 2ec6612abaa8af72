/*
 * Packing against `cp` + fsync of the same bytes (the bar, of pictures of 100 KB and more: at least
 * 0.8 of its rate; of small ones cp copies more a second than any tar can have headers), and
 * verifying against SHA-256 alone over the tars, on one thread each.
 *
 * Usage: bench_shard [MB [DIR [FROM]]]   (default 1200)
 *
 * A corpus is made first, unmeasured, of the JPEGs in the folder FROM, over and over, each time as
 * another pair; or of drawn ones of about 200 KB, which are also left in DIR.  Then, three times in
 * turn: the raw segments are copied by cp and synced; the corpus is packed (order shuffled over the
 * whole corpus, every byte checked against its hash, tar and SQLite synced).  The best round of
 * each counts.  Both read from the page cache and write to the same disk.
 */
#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "shards/check.h"
#include "shards/pack.h"
#include "tests/bench/bench.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DRAWN = 32, ROUNDS = 3, PICTURE_MAX = 32 << 20 };
static const double BAR = 0.8, BAR_FROM_KB = 100;

/* Processor time of this process and its children that ended. */
static double cpu_s(void)
{
	double sum = 0;

	for (int who = 0; who < 2; who++) {
		struct rusage u;

		getrusage(who ? RUSAGE_CHILDREN : RUSAGE_SELF, &u);
		sum += (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
	}
	return sum;
}

/* What the corpus is made of. */
struct pictures {
	struct wl_buf *jpg;
	struct wl_image_info *info;
	size_t n;
};

static void load(struct pictures *p, const char *from)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_names names = {0};

	if (from)
		must(wl_list_dir(from, "*.jpg", &names, &err), &err);
	p->n = from ? names.n : DRAWN;
	p->jpg = calloc(p->n + 1, sizeof *p->jpg);
	p->info = calloc(p->n + 1, sizeof *p->info);
	must(p->n && p->jpg && p->info ? 0 : wl_err_set(&err, WL_EDATA, "no *.jpg in %s", from),
		&err);
	for (size_t i = 0; i < p->n; i++) {
		if (from) {
			char *path = wl_path_join(from, names.v[i], &err);

			wl_buf_init(&p->jpg[i], PICTURE_MAX);
			must(path ? wl_read_file(path, &p->jpg[i], &err) : -1, &err);
			free(path);
		} else {
			make_picture((int)i, &p->jpg[i]);
		}
		must(wl_image_probe(p->jpg[i].data, p->jpg[i].len, &p->info[i], &err), &err);
	}
	wl_names_release(&names);
}

static void unload(struct pictures *p)
{
	for (size_t i = 0; i < p->n; i++)
		wl_buf_release(&p->jpg[i]);
	free(p->jpg);
	free(p->info);
}

static int64_t make_corpus(const char *dir, const struct pictures *from, int64_t want_bytes)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = wl_corpus_open(dir, true, 1, &err);
	struct wl_lane *l = c ? wl_lane_open(c, 0, &err) : NULL;
	int64_t bytes = 0;

	must(l ? 0 : -1, &err);
	for (int64_t i = 0; bytes < want_bytes; i++) {
		size_t k = (size_t)i % from->n;
		char page[64];
		struct wl_pair p = {.source = "bench",
			.url = "http://example.org/a.jpg",
			.page_url = page,
			.texts = "[[\"caption\",\"一句话\"]]",
			.split_hint = "",
			.format = "jpeg",
			.width = from->info[k].width,
			.height = from->info[k].height,
			.meta = "{}"};

		snprintf(page, sizeof page, "http://example.org/%lld", (long long)i);
		p.id = wl_pair_id(p.source, page, "", i);
		must(wl_lane_add(l, &p, from->jpg[k].data, from->jpg[k].len, &err), &err);
		bytes += (int64_t)from->jpg[k].len;
	}
	must(wl_lane_commit(l, "bench", "end", &err), &err);
	wl_lane_close(l);
	wl_corpus_close(c);
	return bytes;
}

static double copy_s(const char *dir)
{
	char cmd[512];
	double t = wl_now_s();

	snprintf(cmd, sizeof cmd,
		"mkdir %s/copy && cp %s/c/part-00000/raw-*.tar %s/copy && "
		"sync %s/copy/*",
		dir, dir, dir, dir);
	if (system(cmd))
		exit(1);
	t = wl_now_s() - t;
	snprintf(cmd, sizeof cmd, "rm -r %s/copy", dir);
	if (system(cmd))
		exit(1);
	return t;
}

/* The best of three: SHA-256 of every tar by libcrypto, and wenlan-shard verify. */
static void verify_s(const char *set, double *sha, double *verify)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_verify_result v;
	struct wl_names tars;

	*sha = *verify = 1e9;
	must(wl_list_dir(set, "*.tar", &tars, &err), &err);
	for (int round = 0; round < ROUNDS; round++) {
		double t = wl_now_s(), t1;
		uint8_t digest[WL_SHA256_BYTES];

		for (size_t i = 0; i < tars.n; i++) {
			char path[600];

			snprintf(path, sizeof path, "%s/%s", set, tars.v[i]);
			must(wl_sha256_file(path, digest, &err), &err);
		}
		t1 = wl_now_s();
		must(wl_shards_verify(set, false, 1, &v, &err), &err);
		*verify = wl_now_s() - t1 < *verify ? wl_now_s() - t1 : *verify;
		*sha = t1 - t < *sha ? t1 - t : *sha;
	}
	wl_names_release(&tars);
}

/* Times of the last set, and how much is in it. */
struct packed {
	int64_t samples;
	double sha_s, verify_s;
};

static double pack_s(const char *dir, struct packed *last)
{
	char corpus[256], out[256];
	struct wl_pack_opts o = {.corpus = corpus,
		.out = out,
		.plan = {.shard_bytes = 256000000, .quality = 95, .allow_unfiltered = true}};
	struct wl_err err = WL_ERR_INIT;
	struct wl_pack_result r;
	double t = wl_now_s();

	snprintf(corpus, sizeof corpus, "%s/c", dir);
	snprintf(out, sizeof out, "%s/s", dir);
	must(wl_pack(&o, &r, &err), &err);
	t = wl_now_s() - t;
	if (last)
		verify_s(out, &last->sha_s, &last->verify_s);
	if (last)
		last->samples = r.samples;
	must(wl_remove_tree(out, &err), &err);
	return t;
}

static void leave(const struct pictures *p, const char *dir)
{
	struct wl_err err = WL_ERR_INIT;

	for (size_t i = 0; i < p->n; i++) {
		char path[512];

		snprintf(path, sizeof path, "%s/%03zu.jpg", dir, i);
		must(wl_write_file(path, p->jpg[i].data, p->jpg[i].len, &err), &err);
	}
}

/* The best of the rounds of each: seconds by the clock, and of processor time. */
struct times {
	double cp, pack, cp_cpu, pack_cpu;
};

static struct times measure(const char *dir)
{
	struct times t = {1e9, 1e9, 1e9, 1e9};

	for (int i = 0; i < ROUNDS; i++) {
		double c0 = cpu_s(), a = copy_s(dir), c1 = cpu_s(), b, c2;

		b = pack_s(dir, NULL);
		c2 = cpu_s();
		t.cp = a < t.cp ? a : t.cp;
		t.pack = b < t.pack ? b : t.pack;
		t.cp_cpu = c1 - c0 < t.cp_cpu ? c1 - c0 : t.cp_cpu;
		t.pack_cpu = c2 - c1 < t.pack_cpu ? c2 - c1 : t.pack_cpu;
	}
	return t;
}

int main(int argc, char **argv)
{
	int64_t bytes = (argc > 1 ? atoll(argv[1]) : 1200) * 1000000;
	struct pictures from = {0};
	struct packed last;
	double kb;
	bool ok;
	struct times t;
	char dir[] = "/tmp/wl-bench-shard-XXXXXX", path[256];
	struct wl_err err = WL_ERR_INIT;

	wl_log_init("bench_shard", WL_LOG_WARN);
	must(wl_progress_mode("none", &err), &err);
	if (!mkdtemp(dir))
		return 1;
	load(&from, argc > 3 ? argv[3] : NULL);
	if (argc == 3)
		leave(&from, argv[2]);
	snprintf(path, sizeof path, "%s/c", dir);
	bytes = make_corpus(path, &from, bytes);
	unload(&from);
	t = measure(dir);
	pack_s(dir, &last);
	kb = (double)bytes / 1e3 / (double)last.samples;
	ok = t.cp / t.pack >= BAR || kb < BAR_FROM_KB;
	printf("shard: pictures of %.1f KB: packing %.0f MB/s, cp + fsync %.0f MB/s, ratio "
	       "%.2f%s\n",
		kb, (double)bytes / 1e6 / t.pack, (double)bytes / 1e6 / t.cp, t.cp / t.pack,
		kb < BAR_FROM_KB ? ""
		: ok		 ? " (bar 0.80) ok"
				 : " (bar 0.80) BELOW");
	printf("shard: packing makes %.0f samples/s; cp would make %.0f\n",
		(double)last.samples / t.pack, (double)last.samples / t.cp);
	printf("shard: verify %.0f MB/s on one thread, SHA-256 alone %.0f MB/s, ratio %.2f\n",
		(double)bytes / 1e6 / last.verify_s, (double)bytes / 1e6 / last.sha_s,
		last.sha_s / last.verify_s);
	/* On a busy machine the ratio says little; the processor time still does. */
	printf("shard: processor time: packing %.2f s a GB, %.1f us a sample; cp %.2f s a GB\n",
		t.pack_cpu / (double)bytes * 1e9, t.pack_cpu / (double)last.samples * 1e6,
		t.cp_cpu / (double)bytes * 1e9);
	must(wl_remove_tree(dir, &err), &err);
	return ok ? 0 : 1;
}
