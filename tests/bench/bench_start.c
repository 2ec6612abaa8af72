/*
 * From nothing to the first batch with 30 M samples in the manifest: bars 3 s and 200 MB.
 *
 * Usage: bench_start [MILLIONS]   (default 30)
 *
 * The set is as the packer leaves it (manifest, a tar and its NAME.tar.idx a shard, some
 * take-downs), but its tars are holes, except where the first batches' samples lie.  The loader
 * runs in a process of its own, whose peak of memory is what is printed.
 */
#include "clean/wordpiece.h"
#include "ingest/image.h"
#include "loader/loader.h"
#include "ops/clock.h"
#include "ops/db.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "shards/manifest.h"
#include "shards/places.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PER_SHARD = 2500, SAMPLE_BYTES = 100 * 1024, BATCH = 16, READY = BATCH * 8, DOWN = 1000 };

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0) {
		fprintf(stderr, "bench_start: %s\n", err->msg);
		exit(1);
	}
}

/* ---- the set ---- */

static void make_picture(struct wl_buf *out)
{
	struct wl_image im = {.width = 500, .height = 375, .channels = 3};
	size_t n = (size_t)im.width * (size_t)im.height * 3;
	struct wl_err err = WL_ERR_INIT;

	im.data = malloc(n);
	for (size_t k = 0; k < n; k++)
		im.data[k] = (uint8_t)(k / 7 + (wl_rand64(1, 2, k) & 7));
	wl_buf_init(out, SAMPLE_BYTES);
	must(wl_image_encode_jpeg(&im, 70, out, &err), &err);
	free(im.data);
}

static void write_offsets(const char *dir, const char *name)
{
	static uint8_t bytes[(PER_SHARD + 1) * 8];
	struct wl_err err = WL_ERR_INIT;
	char path[512];
	FILE *fp;

	for (size_t i = 0; i <= PER_SHARD; i++)
		for (int k = 0; k < 8; k++)
			bytes[8 * i + (size_t)k] = (uint8_t)(i * SAMPLE_BYTES >> 8 * k & 255);
	snprintf(path, sizeof path, "%s/%s.tar.idx", dir, name);
	fp = fopen(path, "w");
	if (!fp || fwrite(bytes, 1, sizeof bytes, fp) != sizeof bytes || fclose(fp))
		must(wl_err_errno(&err, "%s cannot be written", path), &err);
}

static void make_set(const char *dir, int64_t samples)
{
	size_t n = (size_t)(samples / PER_SHARD);
	struct wl_shard_info *v = calloc(n, sizeof *v);
	struct wl_err err = WL_ERR_INIT;
	char path[512];
	struct wl_db db = {0};

	for (size_t i = 0; i < n; i++) {
		int fd;

		must(wl_shard_name(v[i].name, "train", (int64_t)i, &err), &err);
		strcpy(v[i].split, "train");
		v[i].samples = PER_SHARD;
		v[i].bytes = (int64_t)PER_SHARD * SAMPLE_BYTES + 2 * WL_TAR_BLOCK;
		for (int k = 0; k < 4; k++)
			snprintf(v[i].sha256 + 16 * k, 17, "%016llx",
				(unsigned long long)wl_rand64(3, i, (uint64_t)k));
		snprintf(path, sizeof path, "%s/%s.tar", dir, v[i].name);
		fd = open(path, O_WRONLY | O_CREAT, 0666);
		if (fd < 0 || ftruncate(fd, v[i].bytes) < 0 || close(fd) < 0)
			must(wl_err_errno(&err, "%s cannot be made", path), &err);
		write_offsets(dir, v[i].name);
	}
	must(wl_manifest_write(dir, v, n, NULL, &err), &err);
	snprintf(path, sizeof path, "%s/manifest.db", dir);
	must(wl_db_open(&db, path, WL_DB_WRITE, &err), &err);
	must(wl_db_begin(&db, &err), &err);
	for (int i = 0; i < DOWN; i++) {
		char sql[256];

		snprintf(sql, sizeof sql,
			"INSERT INTO tombstone VALUES(%d,'x',0); INSERT INTO place "
			"VALUES(%d,'%s',%d)",
			i, i, v[n - 1].name, PER_SHARD - 1 - i);
		must(wl_db_exec(&db, sql, &err), &err);
	}
	must(wl_db_commit(&db, &err), &err);
	must(wl_db_exec(&db, "PRAGMA journal_mode=DELETE", &err), &err);
	wl_db_close(&db);
	free(v);
}

/* Puts sample number i into its tar; the last member is padded to fill the sample's place. */
static void put_sample(const char *dir, int64_t i, const struct wl_buf *jpg)
{
	static uint8_t bytes[SAMPLE_BYTES];
	size_t len[WL_MEMBERS] = {jpg->len, 6, 0}, at = 0;
	struct wl_err err = WL_ERR_INIT;
	char path[512], key[64], name[80];
	int fd;

	snprintf(key, sizeof key, "train-%06d_%06d", (int)(i / PER_SHARD), (int)(i % PER_SHARD));
	len[2] = SAMPLE_BYTES - 4 * WL_TAR_BLOCK - (size_t)wl_tar_padded((int64_t)jpg->len);
	memset(bytes, ' ', sizeof bytes);
	for (int m = 0; m < WL_MEMBERS; m++) {
		snprintf(name, sizeof name, "%s.%s", key, wl_member_ext[m]);
		must(wl_tar_header(bytes + at, name, (int64_t)len[m], &err), &err);
		at += WL_TAR_BLOCK;
		if (m == WL_MEMBER_JPG)
			memcpy(bytes + at, jpg->data, jpg->len);
		else
			memcpy(bytes + at,
				m == WL_MEMBER_TXT ? "一句"
						   : "{\"captions\":[\"一句\"],"
						     "\"pair_id\":1}",
				m == WL_MEMBER_TXT ? 6 : 35);
		at += (size_t)wl_tar_padded((int64_t)len[m]);
	}
	snprintf(path, sizeof path, "%s/train-%06d.tar", dir, (int)(i / PER_SHARD));
	fd = open(path, O_WRONLY);
	if (fd < 0 || pwrite(fd, bytes, at, i % PER_SHARD * SAMPLE_BYTES) != (ssize_t)at ||
		close(fd) < 0)
		must(wl_err_errno(&err, "%s cannot be written", path), &err);
}

/* ---- the loader ---- */

static struct wl_loader_opts options(const char *dir, const struct wl_vocab *vocab)
{
	return (struct wl_loader_opts){.dir = dir,
		.split = "train",
		.batch = BATCH,
		.image_px = 224,
		.regions = 37,
		.grid = 6,
		.text_len = 64,
		.vocab = vocab,
		.std = {1, 1, 1},
		.shuffle = true,
		.seed = 1,
		.world = 1,
		.threads = 2,
		.prefetch = 2};
}

static struct wl_vocab *vocabulary(void)
{
	static const char none[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
	struct wl_err err = WL_ERR_INIT;
	struct wl_vocab *v = wl_vocab_parse(none, sizeof none - 1, "none", &err);

	must(v ? 0 : -1, &err);
	return v;
}

/* Seconds to the first batch, to standard output. */
static int child(const char *dir)
{
	struct wl_vocab *vocab = vocabulary();
	struct wl_loader_opts o = options(dir, vocab);
	struct wl_loader_stats s;
	const struct wl_batch *b;
	struct wl_err err = WL_ERR_INIT;
	struct wl_loader *l;
	double t;

	must(wl_augment_preset("paper", &o.augment, &err), &err);
	t = wl_now_s();
	l = wl_loader_open(&o, &err);
	must(l ? 0 : -1, &err);
	must(wl_loader_next(l, &b, &err), &err);
	t = wl_now_s() - t;
	wl_loader_stats(l, &s);
	if (s.bad || b->n != BATCH || wl_loader_size(l) % PER_SHARD != PER_SHARD - DOWN)
		return 1;
	printf("%f\n", t);
	wl_loader_close(l);
	wl_vocab_free(vocab);
	return 0;
}

/* The samples that the first batches ask for: the loader's order is a function (loader.h), and the
 * take-downs are the last samples, so that they move none. */
static void fill(const char *dir, int64_t samples)
{
	uint64_t n = (uint64_t)(samples - DOWN), key = wl_rand64(1, 0x6f72646572, 0);
	struct wl_buf jpg;

	make_picture(&jpg);
	for (uint64_t p = 0; p < READY; p++)
		put_sample(dir, (int64_t)wl_shuffle(p, n, key), &jpg);
	wl_buf_release(&jpg);
}

int main(int argc, char **argv)
{
	int64_t samples = (argc > 1 ? atoll(argv[1]) : 30) * 1000000;
	char dir[] = "/tmp/wl-bench-start-XXXXXX", line[64] = "";
	struct wl_err err = WL_ERR_INIT;
	double best = 1e9, mb = 0;

	wl_log_init("bench_start", WL_LOG_WARN);
	if (argc > 2 && !strcmp(argv[1], "child"))
		return child(argv[2]);
	if (!mkdtemp(dir))
		return 1;
	make_set(dir, samples);
	fill(dir, samples);
	for (int round = 0; round < 3; round++) {
		char cmd[512];
		struct rusage u;
		FILE *fp;

		snprintf(cmd, sizeof cmd, "%s child %s", argv[0], dir);
		fp = popen(cmd, "r");
		if (!fp || !fgets(line, sizeof line, fp) || pclose(fp))
			return 1;
		best = atof(line) < best ? atof(line) : best;
		getrusage(RUSAGE_CHILDREN, &u);
		mb = (double)u.ru_maxrss / 1e3;
	}
	printf("start: first batch of %.0f M samples after %.2f s with %.0f MB (bars 3 s, 200 MB) "
	       "%s\n",
		(double)samples / 1e6, best, mb, best < 3 && mb < 200 ? "ok" : "BELOW");
	must(wl_remove_tree(dir, &err), &err);
	return best < 3 && mb < 200 ? 0 : 1;
}
