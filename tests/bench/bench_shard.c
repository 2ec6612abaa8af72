/*
 * Packing against `cp` + fsync of the same bytes (the bar: at least 0.8 of its rate), and verifying
 * against SHA-256 alone over the tars, on one thread each.
 *
 * Usage: bench_shard [MB [DIR]]   (default 1200; the pictures are also left in DIR)
 *
 * A corpus of JPEGs of about 100 KB with random details is made first, unmeasured.  Then, three
 * times in turn: the raw segments are copied by cp and synced; the corpus is packed (order
 * shuffled over the whole corpus, every byte checked against its hash, tar and SQLite synced).
 * The best round of each counts.  Both read from the page cache and write to the same disk.
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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PICTURES = 32, ROUNDS = 3 };
static const double BAR = 0.8;

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

static int64_t make_corpus(const char *dir, int64_t want_bytes)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = wl_corpus_open(dir, true, 1, &err);
	struct wl_lane *l = c ? wl_lane_open(c, 0, &err) : NULL;
	struct wl_buf pictures[PICTURES];
	int64_t bytes = 0;

	must(l ? 0 : -1, &err);
	for (int i = 0; i < PICTURES; i++)
		make_picture(i, &pictures[i]);
	for (int i = 0; bytes < want_bytes; i++) {
		struct wl_buf *b = &pictures[i % PICTURES];
		char page[64];
		struct wl_pair p = {.source = "bench",
			.url = "http://example.org/a.jpg",
			.page_url = page,
			.texts = "[[\"caption\",\"一句话\"]]",
			.split_hint = "",
			.format = "jpeg",
			.width = 500,
			.height = 375,
			.meta = "{}"};

		snprintf(page, sizeof page, "http://example.org/%d", i);
		p.id = wl_pair_id(p.source, page, "", i);
		must(wl_lane_add(l, &p, b->data, b->len, &err), &err);
		bytes += (int64_t)b->len;
	}
	must(wl_lane_commit(l, "bench", "end", &err), &err);
	wl_lane_close(l);
	wl_corpus_close(c);
	for (int i = 0; i < PICTURES; i++)
		wl_buf_release(&pictures[i]);
	return bytes;
}

static double copy_s(const char *dir)
{
	char cmd[512];
	double t = now_s();

	snprintf(cmd, sizeof cmd,
		"mkdir %s/copy && cp %s/c/part-00000/raw-*.tar %s/copy && "
		"sync %s/copy/*",
		dir, dir, dir, dir);
	if (system(cmd))
		exit(1);
	t = now_s() - t;
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
		double t = now_s(), t1;
		uint8_t digest[WL_SHA256_BYTES];

		for (size_t i = 0; i < tars.n; i++) {
			char path[600];

			snprintf(path, sizeof path, "%s/%s", set, tars.v[i]);
			must(wl_sha256_file(path, digest, &err), &err);
		}
		t1 = now_s();
		must(wl_shards_verify(set, false, 1, &v, &err), &err);
		*verify = now_s() - t1 < *verify ? now_s() - t1 : *verify;
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
	double t = now_s();

	snprintf(corpus, sizeof corpus, "%s/c", dir);
	snprintf(out, sizeof out, "%s/s", dir);
	must(wl_pack(&o, &r, &err), &err);
	t = now_s() - t;
	if (last)
		verify_s(out, &last->sha_s, &last->verify_s);
	if (last)
		last->samples = r.samples;
	must(wl_remove_tree(out, &err), &err);
	return t;
}

static void leave_pictures(const char *dir)
{
	struct wl_err err = WL_ERR_INIT;

	for (int i = 0; i < PICTURES; i++) {
		struct wl_buf b;
		char path[512];

		make_picture(i, &b);
		snprintf(path, sizeof path, "%s/%03d.jpg", dir, i);
		must(wl_write_file(path, b.data, b.len, &err), &err);
		wl_buf_release(&b);
	}
}

int main(int argc, char **argv)
{
	int64_t bytes = (argc > 1 ? atoll(argv[1]) : 1200) * 1000000;
	double cp = 1e9, pack = 1e9, cp_cpu = 1e9, pack_cpu = 1e9;
	struct packed last;
	char dir[] = "/tmp/wl-bench-shard-XXXXXX", path[256];
	struct wl_err err = WL_ERR_INIT;

	wl_log_init("bench_shard", WL_LOG_WARN);
	must(wl_progress_mode("none", &err), &err);
	if (!mkdtemp(dir))
		return 1;
	if (argc > 2)
		leave_pictures(argv[2]);
	snprintf(path, sizeof path, "%s/c", dir);
	bytes = make_corpus(path, bytes);
	for (int i = 0; i < ROUNDS; i++) {
		double c0 = cpu_s(), a = copy_s(dir), c1 = cpu_s(), b, c2;

		b = pack_s(dir, NULL);
		c2 = cpu_s();

		cp = a < cp ? a : cp;
		pack = b < pack ? b : pack;
		cp_cpu = c1 - c0 < cp_cpu ? c1 - c0 : cp_cpu;
		pack_cpu = c2 - c1 < pack_cpu ? c2 - c1 : pack_cpu;
	}
	pack_s(dir, &last);
	printf("shard: packing %.0f MB/s, cp + fsync %.0f MB/s, ratio %.2f (bar 0.80) %s\n",
		(double)bytes / 1e6 / pack, (double)bytes / 1e6 / cp, cp / pack,
		cp / pack >= BAR ? "ok" : "BELOW");
	printf("shard: packing makes %.0f samples/s\n", (double)last.samples / pack);
	printf("shard: verify %.0f MB/s on one thread, SHA-256 alone %.0f MB/s, ratio %.2f\n",
		(double)bytes / 1e6 / last.verify_s, (double)bytes / 1e6 / last.sha_s,
		last.sha_s / last.verify_s);
	/* On a busy machine the ratio says little; the processor time still does. */
	printf("shard: processor seconds a GB: packing %.2f, cp %.2f\n",
		pack_cpu / (double)bytes * 1e9, cp_cpu / (double)bytes * 1e9);
	must(wl_remove_tree(dir, &err), &err);
	return cp / pack >= BAR ? 0 : 1;
}
