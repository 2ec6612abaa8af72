/*
 * Files into a corpus: rate beside a plain copy, and memory over many records.
 *
 * Usage: bench_ingest [RECORDS]   (default 300000; 10000000 is the figure)
 *
 * The rate: pictures of about 100 KB with their captions, as a WebDataset .tar and as a .jsonl
 * beside a .tar of pictures, are copied by cp and synced, then taken in by one worker (every
 * picture seen to be whole, hashed, written and synced).  On a busy machine the clock says little,
 * so the bytes a second of processor time, all threads together, are printed beside.  The last
 * figure is libjpeg-turbo alone on the same pictures, which --check decode would need besides.
 *
 * The memory: small records, each with a picture of 2x2 pixels, from one compressed stream; the
 * most that wenlan-ingest ever had resident, after a tenth of them and after all (the bar: 512 MB,
 * and flat).
 */
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/bench/bench.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PICTURES = 32, MEMBERS = 3000 };

static char dir[] = "/tmp/wl-bench-ingest-XXXXXX";

static void add(struct archive *a, const char *name, const void *bytes, size_t n)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, name);
	archive_entry_set_size(e, (la_int64_t)n);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	if (archive_write_header(a, e) != ARCHIVE_OK || archive_write_data(a, bytes, n) < 0)
		exit(1);
	archive_entry_free(e);
}

static struct archive *new_tar(const char *path)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_ustar(a);
	if (archive_write_open_filename(a, path) != ARCHIVE_OK)
		exit(1);
	return a;
}

/* The tars and the .jsonl; gives the bytes of the pictures, and the processor time that decoding
 * them alone takes. */
static int64_t make_sources(
	const char *groups, const char *images, const char *jsonl, double *decode_s)
{
	struct wl_buf pictures[PICTURES];
	struct wl_err err = WL_ERR_INIT;
	struct archive *a = new_tar(groups), *b = new_tar(images);
	FILE *lines = fopen(jsonl, "w");
	int64_t bytes = 0;
	char name[64];

	if (!lines)
		exit(1);
	for (int i = 0; i < PICTURES; i++)
		make_picture(i, &pictures[i]);
	double t = wl_cpu_s();
	for (int i = 0; i < PICTURES; i++) {
		struct wl_image im = {0};
		must(wl_image_decode(pictures[i].data, pictures[i].len, &im, &err), &err);
		wl_image_release(&im);
	}
	*decode_s = (wl_cpu_s() - t) * MEMBERS / PICTURES;
	for (int i = 0; i < MEMBERS; i++) {
		struct wl_buf *p = &pictures[i % PICTURES];
		snprintf(name, sizeof name, "p/%06d.jpg", i);
		add(a, name, p->data, p->len);
		add(b, name, p->data, p->len);
		fprintf(lines, "{\"image\": \"%s\", \"text\": \"一句话\"}\n", name);
		snprintf(name, sizeof name, "p/%06d.txt", i);
		add(a, name, "一句话", 9);
		bytes += (int64_t)p->len;
	}
	if (archive_write_free(a) != ARCHIVE_OK || archive_write_free(b) != ARCHIVE_OK ||
		fclose(lines))
		exit(1);
	for (int i = 0; i < PICTURES; i++)
		wl_buf_release(&pictures[i]);
	return bytes;
}

/* Runs a shell command; its seconds. */
static double run(const char *cmd, struct rusage *u)
{
	double t = wl_now_s();
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, u) != pid || status) {
		fprintf(stderr, "bench_ingest: failed: %s\n", cmd);
		exit(1);
	}
	return wl_now_s() - t;
}

static const char *bin(void)
{
	const char *b = getenv("WL_BIN");

	return b && *b ? b : "build/release/bin";
}

static double processor_s(const struct rusage *u)
{
	return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
	       1e-6 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* The best of three of each, in turns; 0: the bar is met. */
static int rate(
	const char *what, const char *source, const char *tar, int64_t bytes, double decode)
{
	double cp = 1e9, in = 1e9, cpu = 1e9, mb = (double)bytes / 1e6;
	struct wl_err err = WL_ERR_INIT;
	char cmd[1200], corpus[300];
	struct rusage u;

	snprintf(corpus, sizeof corpus, "%s/c", dir);
	for (int i = 0; i < 3; i++) {
		snprintf(cmd, sizeof cmd, "cp %s %s/copy && sync %s/copy && rm %s/copy", tar, dir,
			dir, dir);
		double t = run(cmd, &u);
		cp = t < cp ? t : cp;
		snprintf(cmd, sizeof cmd,
			"exec %s/wenlan-ingest --quiet --workers 1 --corpus %s %s", bin(), corpus,
			source);
		t = run(cmd, &u);
		in = t < in ? t : in;
		cpu = processor_s(&u) < cpu ? processor_s(&u) : cpu;
		must(wl_remove_tree(corpus, &err), &err);
	}
	printf("ingest: %s %.0f MB/s, cp + sync %.0f MB/s, ratio %.2f (bar 0.60) %s; %.0f MB a "
	       "second of processor time; decoding alone %.0f\n",
		what, mb / in, mb / cp, cp / in, cp / in >= 0.6 ? "ok" : "BELOW", mb / cpu,
		mb / decode);
	return cp / in < 0.6;
}

static int rates(void)
{
	char tar[300], images[300], jsonl[300], source[700];
	double decode;
	int bad;

	snprintf(tar, sizeof tar, "%s/a.tar", dir);
	snprintf(images, sizeof images, "%s/b.tar", dir);
	snprintf(jsonl, sizeof jsonl, "%s/b.jsonl", dir);
	int64_t bytes = make_sources(tar, images, jsonl, &decode);
	snprintf(source, sizeof source, "tar:%s", tar);
	bad = rate("tar", source, tar, bytes, decode);
	snprintf(source, sizeof source, "'jsonl:%s?images=%s'", jsonl, images);
	return bad | rate("JSONL with a tar", source, images, bytes, decode);
}

static void make_records(const char *path, int64_t n)
{
	static const char *const png[2] = {"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAC0lEQVR"
					   "4nGNgQAYAAA4AAamRc7EAAAAASUVO"
					   "RK5CYII=",
		"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAADklEQVR4nGNgYGSAIQAAUQAJ/"
		"n8XzwAAAABJR"
		"U5ErkJggg=="};
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	char s[400];

	archive_write_set_format_raw(a);
	archive_write_add_filter_zstd(a);
	archive_entry_set_filetype(e, AE_IFREG);
	if (archive_write_open_filename(a, path) != ARCHIVE_OK ||
		archive_write_header(a, e) != ARCHIVE_OK)
		exit(1);
	for (int64_t i = 0; i < n; i++) {
		int len = snprintf(s, sizeof s,
			"{\"page_url\":\"http://n.example.com/%lld.html\",\"text\":\"第 %lld "
			"张图片\","
			"\"image_b64\":\"%s\"}\n",
			(long long)i, (long long)i, png[i & 1]);
		if (archive_write_data(a, s, (size_t)len) != len)
			exit(1);
	}
	archive_entry_free(e);
	if (archive_write_free(a) != ARCHIVE_OK)
		exit(1);
}

static int memory(int64_t n)
{
	char path[300], cmd[1200];
	struct rusage u;
	long part, all;

	snprintf(path, sizeof path, "%s/r.jsonl.zst", dir);
	make_records(path, n);
	snprintf(cmd, sizeof cmd,
		"exec %s/wenlan-ingest --quiet --corpus %s/m --max-records %lld jsonl:%s", bin(),
		dir, (long long)(n / 10), path);
	run(cmd, &u);
	part = u.ru_maxrss / 1024;
	snprintf(cmd, sizeof cmd, "exec %s/wenlan-ingest --quiet --corpus %s/m jsonl:%s", bin(),
		dir, path);
	double t = run(cmd, &u);
	all = u.ru_maxrss / 1024;
	printf("ingest: memory %ld MB over %lld records, %ld MB over the first tenth (bar 512, "
	       "flat) "
	       "%s; %.0f records/s\n",
		all, (long long)n, part, all < 512 ? "ok" : "ABOVE", 0.9 * (double)n / t);
	return all >= 512;
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;
	int64_t n = argc > 1 ? atoll(argv[1]) : 300000;

	if (!mkdtemp(dir))
		return 1;
	int bad = argc > 1 ? 0 : rates();
	bad |= memory(n);
	must(wl_remove_tree(dir, &err), &err);
	return bad;
}
