/* Shards on a server: the same samples as on the disk, whatever the network does; a bounded cache;
 * errors that say what to do. */
#include "clean/wordpiece.h"
#include "loader/loader.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "shards/cache.h"
#include "shards/index.h"
#include "shards/manifest.h"
#include "shards/shard.h"
#include "tests/support/cm.h"
#include "tests/support/rangesd.h"
#include "tests/support/shardset.h"
#include "tests/support/tmp.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SAMPLES = 40, PER_SHARD = 10, SHARDS = SAMPLES / PER_SHARD, MAX = 1 << 22 };

static struct tmp_dir tmp;
static char set[512], cache[512];
static struct rangesd server;
static struct wl_manifest manifest;
static struct wl_err err;

static int setup(void **state)
{
	struct wl_toy_set toy = {.dir = set,
		.split = "train",
		.samples = SAMPLES,
		.per_shard = PER_SHARD,
		.captions = 3,
		.bad_jpeg = -1,
		.bad_text = -1,
		.boxes = true,
		.dead = 1007};

	(void)state;
	wl_log_init("test_remote", WL_LOG_ERROR);
	tmp = tmp_make();
	tmp_path(&tmp, "set", set);
	tmp_path(&tmp, "cache", cache);
	OK(wl_mkdir_p(set, &err));
	wl_toy_set_write(&toy);
	OK(wl_manifest_read(&manifest, set, &err));
	OK(wl_index_write(set, manifest.shards, manifest.n, &err));
	server = rangesd_start(set);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rangesd_stop(&server);
	wl_manifest_release(&manifest);
	tmp_remove(&tmp);
	return 0;
}

static int no_cache(void **state)
{
	(void)state;
	if (!rangesd_settle(&server)) /* the test before has left requests: they are not ours */
		return -1;
	return wl_remove_tree(cache, &err);
}

static struct wl_shard_place place(const char *kind)
{
	static char url[128];

	snprintf(url, sizeof url, "http://127.0.0.1:%d/%s/", server.port, kind);
	return (struct wl_shard_place){.at = url, .cache = cache};
}

static struct wl_shardset *open_at(const struct wl_shard_place *at)
{
	struct wl_shardset *s = wl_shardset_open_at(at, "train", &err);

	if (!s)
		fail_msg("%s: %s", at->at, err.msg);
	return s;
}

static void same_sample(struct wl_shardset *here, struct wl_shardset *there, int64_t i)
{
	struct wl_buf a[3], b[3];

	for (int k = 0; k < 3; k++) {
		wl_buf_init(&a[k], MAX);
		wl_buf_init(&b[k], MAX);
	}
	OK(wl_shardset_read(here, i, &a[0], &a[1], &err));
	OK(wl_shardset_read(there, i, &b[0], &b[1], &err));
	OK(wl_shardset_read_text(here, i, &a[2], &err));
	OK(wl_shardset_read_text(there, i, &b[2], &err));
	for (int k = 0; k < 3; k++) {
		assert_int_equal(a[k].len, b[k].len);
		assert_memory_equal(a[k].data, b[k].data, a[k].len);
		wl_buf_release(&a[k]);
		wl_buf_release(&b[k]);
	}
}

/* Every sample, in an order that jumps between shards. */
static void same_samples(struct wl_shardset *there, int64_t step)
{
	struct wl_shardset *here = wl_shardset_open(set, "train", &err);

	assert_non_null(here);
	assert_int_equal(wl_shardset_size(there), SAMPLES);
	assert_string_equal(wl_shardset_fingerprint(there), wl_shardset_fingerprint(here));
	assert_true(wl_shardset_dead(there, 7));
	for (int64_t i = 0; i < SAMPLES; i += step) {
		wl_shardset_ahead(there, (i + 3 * step) * 17 % SAMPLES);
		same_sample(here, there, i * 17 % SAMPLES);
	}
	wl_shardset_close(here);
}

static void same_set(struct wl_shardset *there)
{
	int64_t ids[SAMPLES];

	same_samples(there, 1);
	OK(wl_shardset_pair_ids(there, ids, &err));
	for (int i = 0; i < SAMPLES; i++)
		assert_int_equal(ids[i], 1000 + i);
}

static bool is_cached(size_t k)
{
	struct wl_cache c;
	bool there;

	OK(wl_cache_open(&c, cache, 0, &err));
	there = wl_cache_has(&c, manifest.shards[k].sha256, manifest.shards[k].bytes);
	wl_cache_release(&c);
	return there;
}

/* Waits until that many shards are in the cache. */
static int cached(int want)
{
	int n;

	for (int64_t since = 0;;) {
		n = 0;
		for (size_t k = 0; k < SHARDS; k++)
			n += is_cached(k);
		if (n >= want || !tmp_wait(&since))
			return n;
	}
}

static int64_t cache_bytes(void)
{
	struct wl_names names;
	int64_t sum = 0;
	char dir[600];

	snprintf(dir, sizeof dir, "%s/shards", cache);
	OK(wl_list_dir(dir, "[0-9a-f]*", &names, &err));
	for (size_t i = 0; i < names.n; i++) {
		char *path = wl_path_join(dir, names.v[i], &err);

		sum += wl_file_size(path, &err);
		free(path);
	}
	wl_names_release(&names);
	return sum;
}

static void test_same(void **state)
{
	struct wl_shard_place at = place("ok");
	struct wl_shardset *s = open_at(&at);
	long long bytes;
	int unchanged;

	(void)state;
	same_set(s);
	assert_int_equal(cached(SHARDS), SHARDS);
	same_set(s); /* from the cache now */
	wl_shardset_close(s);
	assert_true(rangesd_settle(&server));
	bytes = server.shared->bytes;
	unchanged = server.shared->unchanged;
	s = open_at(&at);
	same_set(s);
	wl_shardset_close(s);
	assert_true(rangesd_settle(&server));
	assert_int_equal(server.shared->bytes, bytes); /* nothing came twice */
	assert_int_equal(server.shared->unchanged, unchanged + 1);
}

/* What a killed run had fetched of a shard is not fetched again, but hashed: where the disk lost
 * some of it, all comes anew. */
static void test_part(void **state)
{
	struct wl_shard_place at = place("ok");
	const struct wl_shard_info *s = &manifest.shards[1];
	char tar[600], part[700];
	struct wl_shardset *set_;
	struct wl_buf jpg;
	long long sent;
	size_t n;
	char *bytes;

	for (int damaged = 0; damaged < 2; damaged++) {
		no_cache(state);
		snprintf(tar, sizeof tar, "%s/%s.tar", set, s->name);
		snprintf(part, sizeof part, "%s/shards", cache);
		OK(wl_mkdir_p(part, &err));
		snprintf(part, sizeof part, "%s/shards/%s-%lld.part", cache, s->sha256,
			(long long)s->bytes);
		bytes = tmp_read(tar, &n);
		bytes[600] ^= (char)damaged;
		tmp_write_bytes(part, bytes, n - 1000);
		free(bytes);
		sent = server.shared->to_end_bytes;
		set_ = open_at(&at);
		wl_buf_init(&jpg, MAX);
		OK(wl_shardset_read(set_, PER_SHARD + 3, &jpg, NULL, &err));
		assert_int_equal(cached(1), 1);
		assert_true(is_cached(1));
		assert_false(wl_exists(part));
		wl_buf_release(&jpg);
		wl_shardset_close(set_);
		assert_true(rangesd_settle(&server));
		assert_int_equal(
			server.shared->to_end_bytes - sent, 1000 + (damaged ? (long long)n : 0));
	}
}

static void test_faults(void **state)
{
	/* Opening fetches the manifest, which alone breaks that often; hung: also of both shards
	 * the places, and a sample or the whole. */
	static const struct {
		const char *kind;
		int stall_s;
		int64_t step;
		int broken;
	} cases[] = {{"busy", 0, 3, 2}, {"cut", 0, 3, 1}, {"hang", 1, 13, 5}, {"slow", 0, 3, 0}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_shard_place at = place(cases[i].kind);
		struct wl_shardset *s;
		int broken;

		no_cache(state);
		broken = server.shared->broken;
		at.stall_s = cases[i].stall_s;
		s = open_at(&at);
		same_samples(s, cases[i].step);
		wl_shardset_close(s);
		assert_true(server.shared->broken >= broken + cases[i].broken);
	}
}

static void refuse(const char *kind, const char *what)
{
	struct wl_shard_place at = place(kind);

	err = (struct wl_err)WL_ERR_INIT;
	assert_null(wl_shardset_open_at(&at, "train", &err));
	assert_int_equal(err.code, WL_EDATA);
	if (!strstr(err.msg, what) || !strstr(err.msg, "127.0.0.1"))
		fail_msg("expected \"%s\" in: %s", what, err.msg);
}

static void test_errors(void **state)
{
	(void)state;
	refuse("ok/nowhere", "the server answers 404");
	refuse("secret", "reading it is not allowed");
}

static void test_ranges(void **state)
{
	static const struct {
		const char *kind, *what;
		enum wl_code code; /* WL_EUSAGE ends a run at once */
	} cases[] = {{"whole", "answers a request for a range with the whole file", WL_EUSAGE},
		{"longer", "bytes, the manifest says", WL_EDATA}};
	struct wl_buf jpg;

	wl_buf_init(&jpg, MAX);
	for (size_t i = 0; i < 2; i++) {
		struct wl_shard_place at = place(cases[i].kind);
		struct wl_shardset *s;

		no_cache(state);
		s = open_at(&at);
		FAILS(cases[i].code, cases[i].what, wl_shardset_read(s, 3, &jpg, NULL, &err));
		assert_non_null(strstr(err.msg, "train-000000_000003"));
		wl_shardset_close(s);
	}
	wl_buf_release(&jpg);
}

/* A shard with another hash is refused once that is known. */
static void test_hash(void **state)
{
	struct wl_shard_place at = place("flipped");
	struct wl_shardset *s = open_at(&at);
	struct wl_buf jpg;
	int rc = 0;

	(void)state;
	wl_buf_init(&jpg, MAX);
	for (int64_t since = 0; rc == 0 && tmp_wait(&since);)
		rc = wl_shardset_read(s, 3, &jpg, NULL, &err);
	assert_int_equal(rc, -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "train-000000.tar: its SHA-256 is"));
	assert_false(is_cached(0));
	wl_buf_release(&jpg);
	wl_shardset_close(s);
}

/* The cache stays within its bound; what it has no room for is read all the same. */
static void test_bound(void **state)
{
	struct wl_shard_place at = place("ok");
	int64_t two = 0;
	struct wl_shardset *s;

	for (size_t k = 0; k < SHARDS; k++)
		two = manifest.shards[k].bytes * 5 / 2 > two ? manifest.shards[k].bytes * 5 / 2
							     : two;
	at.cache_bytes = two;
	for (int in_order = 0; in_order < 2; in_order++) {
		struct wl_shardset *here = wl_shardset_open(set, "train", &err);

		no_cache(state);
		at.in_order = in_order;
		s = open_at(&at);
		for (int64_t i = 0; i < SAMPLES; i++) {
			same_sample(here, s, i);
			if (i % PER_SHARD == PER_SHARD - 1 && in_order)
				for (int64_t since = 0;
					!is_cached((size_t)i / PER_SHARD) && tmp_wait(&since);)
					same_sample(here, s, i);
			assert_true(cache_bytes() <= two);
		}
		if (in_order) /* what was read last is there, what was first has gone */
			assert_true(is_cached(SHARDS - 1) && !is_cached(0));
		else
			assert_in_range(cached(1), 1, 2);
		wl_shardset_close(s);
		wl_shardset_close(here);
	}
}

/* The cache's disk is full: every sample comes all the same, none is kept, and whole shards are not
 * fetched for nothing over and over. */
static void test_full_disk(void **state)
{
	struct wl_shardset *here = wl_shardset_open(set, "train", &err), *s;
	struct wl_shard_place at = place("ok");
	int64_t all = 0, sent, since = 0, began;
	struct rlimit was, small;
	int tries = 0, tried, at_most = 1;

	(void)state;
	s = open_at(&at);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small = was;
	small.rlim_cur = 700; /* no tar fits, and no index of one */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	sent = server.shared->bytes - server.shared->to_end_bytes;
	tried = server.shared->to_end;
	began = wl_now_ms();
	for (int64_t i = 0; i < SAMPLES; i++)
		same_sample(here, s, i);
	/* It is tried again after 1 second, after 2 more, and after 4 more. */
	while ((tries = server.shared->to_end - tried) < 3 && tmp_wait(&since))
		;
	for (int64_t i = 0; i < SAMPLES; i++)
		same_sample(here, s, i);
	wl_shardset_close(s);
	assert_true(rangesd_settle(&server));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_true(tries >= 3);
	tries = server.shared->to_end - tried;
	for (int64_t ms = wl_now_ms() - began, pause = 1000; pause <= ms; pause *= 2) {
		at_most++;
		ms -= pause;
	}
	assert_in_range(tries, 3, at_most);
	sent = server.shared->bytes - server.shared->to_end_bytes - sent;
	for (size_t k = 0; k < SHARDS; k++) {
		assert_false(is_cached(k));
		all += manifest.shards[k].bytes;
	}
	/* Two readings of pictures and texts. */
	assert_in_range(sent, all, 3 * all);
	wl_shardset_close(here);
}

static void test_loader(void **state)
{
	struct wl_vocab *vocab = wl_vocab_parse(wl_toy_words, strlen(wl_toy_words), "words", &err);
	struct wl_shard_place at = place("cut");
	struct wl_loader_opts o = {.split = "train",
		.batch = 5,
		.image_px = 32,
		.regions = 5,
		.grid = 2,
		.text_len = 8,
		.vocab = vocab,
		.std = {1, 1, 1},
		.shuffle = true,
		.seed = 3,
		.world = 1,
		.threads = 2,
		.cache = cache};
	struct wl_loader *l[2];
	const struct wl_batch *b[2];

	(void)state;
	OK(wl_augment_preset("paper", &o.augment, &err));
	for (int k = 0; k < 2; k++) {
		o.dir = k ? at.at : set;
		l[k] = wl_loader_open(&o, &err);
		if (!l[k])
			fail_msg("%s", err.msg);
	}
	assert_int_equal(wl_loader_size(l[0]), SAMPLES - 1);
	assert_int_equal(wl_loader_size(l[1]), SAMPLES - 1);
	for (int n = 0; n < 20; n++) {
		for (int k = 0; k < 2; k++)
			assert_int_equal(wl_loader_next(l[k], &b[k], &err), 1);
		assert_memory_equal(b[0]->pixels, b[1]->pixels, 5 * 32 * 32 * 3 * sizeof(float));
		assert_memory_equal(b[0]->pair_ids, b[1]->pair_ids, 5 * sizeof(int64_t));
	}
	for (int k = 0; k < 2; k++)
		wl_loader_close(l[k]);
	wl_vocab_free(vocab);
}

/* ---- AWS Signature Version 4, computed by the book from what the server saw ---- */

static void hmac(const void *key, size_t n, const char *text, uint8_t out[32])
{
	unsigned len = 32;

	HMAC(EVP_sha256(), key, (int)n, (const uint8_t *)text, strlen(text), out, &len);
}

static void sha_hex(const char *text, char hex[WL_SHA256_HEX])
{
	uint8_t digest[WL_SHA256_BYTES];

	wl_sha256(text, strlen(text), digest);
	wl_hex(digest, sizeof digest, hex);
}

static void add_header(char *out, const char *list, const char *name, const char *value)
{
	if (strstr(list, name))
		sprintf(out + strlen(out), "%s:%s\n", name, value);
}

static void test_s3(void **state)
{
	struct wl_shard_place at = {.at = "s3://ok/", .cache = cache};
	char endpoint[64], signed_[256] = "", headers[1024] = "", request[2048], text[2048],
			   hex[65], empty[65], want[65];
	uint8_t k1[32], k2[32];
	struct rangesd_shared *saw = server.shared;
	struct wl_manifest m;
	const char *p;

	(void)state;
	snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", server.port);
	setenv("AWS_ENDPOINT_URL", endpoint, 1);
	setenv("AWS_REGION", "cn-north-1", 1);
	setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG", 1);
	setenv("AWS_SESSION_TOKEN", "session", 1);
	OK(wl_shard_manifest(&at, &m, &err));
	assert_int_equal(m.n, SHARDS);
	wl_manifest_release(&m);
	assert_non_null(strstr(saw->authorization, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
	assert_non_null(strstr(saw->authorization, "/cn-north-1/s3/aws4_request"));
	assert_string_equal(saw->token, "session");
	p = strstr(saw->authorization, "SignedHeaders=");
	assert_non_null(p);
	snprintf(signed_, sizeof signed_, "%.*s", (int)strcspn(p + 14, ", "), p + 14);
	add_header(headers, signed_, "host", saw->host);
	add_header(headers, signed_, "x-amz-content-sha256", saw->content);
	add_header(headers, signed_, "x-amz-date", saw->date);
	add_header(headers, signed_, "x-amz-security-token", saw->token);
	sha_hex("", empty);
	snprintf(request, sizeof request, "GET\n/ok/manifest.db\n\n%s\n%s\n%s", headers, signed_,
		*saw->content ? saw->content : empty);
	sha_hex(request, hex);
	snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%.8s/cn-north-1/s3/aws4_request\n%s",
		saw->date, saw->date, hex);
	snprintf(hex, sizeof hex, "%.8s", saw->date);
	hmac("AWS4wJalrXUtnFEMI/K7MDENG", 25, hex, k1);
	hmac(k1, 32, "cn-north-1", k2);
	hmac(k2, 32, "s3", k1);
	hmac(k1, 32, "aws4_request", k2);
	hmac(k2, 32, text, k1);
	wl_hex(k1, 32, want);
	p = strstr(saw->authorization, "Signature=");
	assert_non_null(p);
	assert_string_equal(p + 10, want);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SESSION_TOKEN");
	OK(wl_remove_tree(cache, &err));
	OK(wl_shard_manifest(&at, &m, &err)); /* a bucket for everybody */
	wl_manifest_release(&m);
	assert_string_equal(saw->authorization, "");
}

#define T(f) cmocka_unit_test_setup(f, no_cache)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_same), T(test_part), T(test_faults),
		T(test_errors), T(test_ranges), T(test_hash), T(test_bound), T(test_full_disk),
		T(test_loader), T(test_s3)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
