/* err, arena, buf, hash, pool, signals, metrics, progress: each sentence of their headers. */
#include "ops/arena.h"
#include "ops/buf.h"
#include "ops/err.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/metrics.h"
#include "ops/pool.h"
#include "ops/ram.h"
#include "ops/progress.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void err_messages(void **state)
{
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	assert_int_equal(wl_err_set(&err, WL_EDATA, "shard %d is torn", 7), -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_string_equal(err.msg, "shard 7 is torn");
	wl_err_prefix(&err, "%s", "x.tar");
	assert_string_equal(err.msg, "x.tar: shard 7 is torn");
	/* The message may be its own argument. */
	wl_err_set(&err, WL_EFAIL, "<%s>", err.msg);
	assert_string_equal(err.msg, "<x.tar: shard 7 is torn>");
	errno = ENOENT;
	wl_err_errno(&err, "a");
	assert_string_equal(err.msg, "a: No such file or directory");
	errno = ENOSPC;
	wl_err_errno(&err, "a");
	assert_non_null(strstr(err.msg, "a: No space left on device; free some space"));
	assert_int_equal(wl_err_set(NULL, WL_EFAIL, "nobody listens"), -1);
}

static void err_cut_not_overrun(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	char *big = malloc(5000);

	(void)state;
	memset(big, 'x', 4999);
	big[4999] = 0;
	wl_err_set(&err, WL_EFAIL, "%s", big);
	assert_int_equal(strlen(err.msg), WL_ERR_MAX - 1);
	wl_err_prefix(&err, "%s", big);
	assert_int_equal(strlen(err.msg), WL_ERR_MAX - 1);
	free(big);
}

static void arena_keeps_blocks(void **state)
{
	struct wl_arena a = WL_ARENA_INIT;
	struct wl_err err = WL_ERR_INIT;
	char *p, *q, *first;

	(void)state;
	first = wl_arena_alloc(&a, 10, &err);
	assert_non_null(first);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 1; i < 300; i++) {
			p = wl_arena_alloc(&a, i * 7, &err);
			assert_non_null(p);
			assert_int_equal((uintptr_t)p % 64, 0);
			for (size_t k = 0; k < i * 7; k++)
				assert_int_equal(p[k], 0);
			memset(p, 0xff, i * 7);
		}
		wl_arena_reset(&a);
		q = wl_arena_alloc(&a, 10, &err);
		assert_ptr_equal(q, first); /* the same memory again */
	}
	assert_string_equal(wl_arena_strndup(&a, "abcdef", 3, &err), "abc");
	assert_null(wl_arena_calloc(&a, SIZE_MAX / 2, 16, &err));
	assert_int_equal(err.code, WL_EFAIL);
	wl_arena_release(&a);
	wl_arena_release(&a);
}

static void buf_keeps_its_maximum(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 10);
	assert_string_equal(wl_buf_str(&b), "");
	OK(wl_buf_puts(&b, "12345", &err));
	OK(wl_buf_printf(&b, &err, "%d", 6789));
	FAILS(WL_EDATA, "10 bytes", wl_buf_add(&b, "ab", 2, &err));
	OK(wl_buf_putc(&b, 'z', &err));
	assert_string_equal(wl_buf_str(&b), "123456789z");
	FAILS(WL_EDATA, "10 bytes", wl_buf_reserve(&b, SIZE_MAX, &err));
	wl_buf_reset(&b);
	assert_string_equal(wl_buf_str(&b), "");
	wl_buf_release(&b);
}

static void sha256_known_answers(void **state)
{
	/* FIPS 180-4 examples. */
	static const struct {
		const char *text, *hex;
	} known[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};
	struct tmp_dir t = tmp_make();
	struct wl_err err = WL_ERR_INIT;
	uint8_t d[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX], path[512];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct wl_sha256 h = {0};
		size_t n = strlen(known[i].text);

		wl_sha256(known[i].text, n, d);
		wl_hex(d, sizeof d, hex);
		assert_string_equal(hex, known[i].hex);
		OK(wl_sha256_init(&h, &err));
		wl_sha256_add(&h, known[i].text, n / 2);
		wl_sha256_add(&h, known[i].text + n / 2, n - n / 2);
		wl_sha256_final(&h, d);
		wl_sha256_release(&h);
		wl_hex(d, sizeof d, hex);
		assert_string_equal(hex, known[i].hex);
		tmp_write(tmp_path(&t, "f", path), known[i].text);
		OK(wl_sha256_file(path, d, &err));
		wl_hex(d, sizeof d, hex);
		assert_string_equal(hex, known[i].hex);
	}
	FAILS(WL_EFAIL, "/nowhere", wl_sha256_file("/nowhere", d, &err));
	tmp_remove(&t);
}

/* Messages of every length around a block's, in batches that leave lanes idle. */
static void sha256_of_many(void **state)
{
	enum { MANY = 300 };
	static uint8_t bytes[MANY * 40], got[MANY][WL_SHA256_BYTES];
	const void *p[MANY];
	uint8_t want[WL_SHA256_BYTES];
	size_t n[MANY];

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)wl_rand64(1, 2, i);
	for (size_t i = 0; i < MANY; i++) {
		n[i] = i % 7 == 3 ? i * 31 : i;
		p[i] = bytes + i;
	}
	for (size_t count = 1; count <= MANY; count = count * 2 + 1) {
		memset(got, 0, sizeof got);
		wl_sha256_many(p + MANY - count, n + MANY - count, count, got);
		for (size_t i = 0; i < count; i++) {
			wl_sha256(p[MANY - count + i], n[MANY - count + i], want);
			assert_memory_equal(got[i], want, sizeof want);
		}
	}
}

/* Streams that grow by pieces of all lengths around a block's, up to four at a time, so that they
 * start and end at different places in a block. */
static void sha256_of_streams(void **state)
{
	enum { STREAMS = 4, PIECES = 400, MOST = 3 * 64 + 30 };
	static uint8_t bytes[STREAMS][PIECES * MOST];
	struct wl_sha256 h[STREAMS];
	struct wl_err err = {0};
	size_t total[STREAMS] = {0};

	(void)state;
	for (size_t s = 0; s < STREAMS; s++) {
		for (size_t i = 0; i < sizeof bytes[s]; i++)
			bytes[s][i] = (uint8_t)wl_rand64(3, s, i);
		OK(wl_sha256_init(&h[s], &err));
	}
	for (size_t i = 0; i < PIECES; i++) {
		struct wl_sha256 *to[STREAMS];
		const void *p[STREAMS];
		size_t n[STREAMS], count = i % STREAMS + 1;

		for (size_t k = 0; k < count; k++) {
			size_t s = (i + k) % STREAMS;

			to[k] = &h[s];
			p[k] = bytes[s] + total[s];
			n[k] = (size_t)wl_rand64(4, s, i) % MOST;
			if (i % 5 == 0) /* and whole blocks, from wherever the last piece ended */
				n[k] = n[k] / 64 * 64;
			total[s] += n[k];
		}
		wl_sha256_add_many(to, p, n, count);
	}
	for (size_t s = 0; s < STREAMS; s++) {
		uint8_t got[WL_SHA256_BYTES], want[WL_SHA256_BYTES];

		wl_sha256(bytes[s], total[s], want);
		wl_sha256_final(&h[s], got);
		wl_sha256_release(&h[s]);
		assert_true(total[s] > PIECES * 32);
		assert_memory_equal(got, want, sizeof want);
	}
}

static void random_numbers(void **state)
{
	double sum = 0, square = 0, unit = 0;
	enum { N = 20000 };

	(void)state;
	/* The reference sequence of SplitMix64 from state 0 (Vigna's splitmix64.c): the k-th
	 * output is the mix of (k - 1) * golden gamma. */
	assert_true(wl_mix64(0) == 0xe220a8397b1dcdafu);
	assert_true(wl_mix64(0x9e3779b97f4a7c15u) == 0x6e789e6aa1b965f4u);
	for (uint64_t i = 0; i < N; i++) {
		double z = wl_rand_normal(1, 2, i), u = wl_rand_unit(1, 3, i);

		assert_true(u >= 0 && u < 1 && isfinite(z));
		sum += z;
		square += z * z;
		unit += u;
	}
	/* Five standard deviations of the estimates. */
	assert_true(fabs(sum / N) < 5 / sqrt(N));
	assert_true(fabs(square / N - 1) < 5 * sqrt(2.0 / N));
	assert_true(fabs(unit / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
	assert_true(wl_rand64(1, 2, 3) != wl_rand64(1, 3, 2));
	assert_true(wl_hash64("ab", 2, 0) != wl_hash64("ba", 2, 0));
	assert_true(wl_hash64("ab", 2, 0) != wl_hash64("ab", 2, 1));
}

static void shuffle_is_a_permutation(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 1200; n = n < 70 ? n + 1 : n * 5 / 4) {
		unsigned char *seen = calloc(n, 1);
		uint64_t fixed = 0, differ = 0;

		for (uint64_t i = 0; i < n; i++) {
			uint64_t j = wl_shuffle(i, n, 42);

			assert_true(j < n);
			assert_int_equal(seen[j], 0);
			seen[j] = 1;
			fixed += j == i;
			differ += j != wl_shuffle(i, n, 43);
		}
		/* One fixed point is expected of a random permutation; 12 is beyond chance. */
		if (n > 64) {
			assert_in_range(fixed, 0, 11);
			assert_true(differ > n / 2);
		}
		free(seen);
	}
	assert_true(wl_shuffle((uint64_t)1 << 40, ((uint64_t)1 << 62) + 5, 9) <
		    ((uint64_t)1 << 62) + 5);
}

struct job {
	size_t number;
	atomic_int runs;
};

static void run_job(void *p)
{
	struct job *j = p;

	usleep((unsigned)(wl_mix64(j->number) % 300)); /* finish out of order */
	atomic_fetch_add(&j->runs, 1);
}

static void pool_keeps_order(void **state)
{
	enum { N = 400 };
	struct wl_err err = WL_ERR_INIT;
	static struct job jobs[N];

	(void)state;
	for (size_t threads = 1; threads <= 8; threads *= 2) {
		struct wl_pool *p = wl_pool_new(threads, 7, &err);
		size_t in = 0, out = 0;

		assert_non_null(p);
		assert_int_equal(wl_pool_threads(p), threads);
		assert_null(wl_pool_take(p));
		memset(jobs, 0, sizeof jobs);
		while (out < N) {
			while (in < N && wl_pool_has_room(p)) {
				jobs[in].number = in;
				wl_pool_submit(p, run_job, &jobs[in]);
				in++;
			}
			assert_true(in - out <= 7);
			struct job *j = wl_pool_take(p);
			assert_ptr_equal(j, &jobs[out]);
			assert_int_equal(atomic_load(&j->runs), 1);
			out++;
		}
		assert_null(wl_pool_take(p));
		/* Freed with jobs inside: no leak, no crash. */
		wl_pool_submit(p, run_job, &jobs[0]);
		wl_pool_free(p);
	}
}

static void mark(void *ctx, size_t i)
{
	atomic_fetch_add(&((atomic_int *)ctx)[i], 1);
}

static void pool_for_covers_all_once(void **state)
{
	enum { N = 1000 };
	static atomic_int hit[N];
	struct wl_err err = WL_ERR_INIT;
	struct wl_pool *p = wl_pool_new(3, 0, &err);

	(void)state;
	assert_non_null(p);
	wl_pool_for(p, 0, mark, hit);
	for (int round = 1; round <= 5; round++) {
		wl_pool_for(p, N, mark, hit);
		for (size_t i = 0; i < N; i++)
			assert_int_equal(atomic_load(&hit[i]), round);
	}
	wl_pool_free(p);
	wl_pool_free(NULL);
}

static int count_line(json_t *o, size_t line, void *user, struct wl_err *err)
{
	int64_t *sum = user;

	(void)err;
	*sum += json_integer_value(json_object_get(o, "step")) * (int64_t)line;
	return 0;
}

static void jsonl_survives_a_torn_line(void **state)
{
	struct tmp_dir t = tmp_make();
	struct wl_err err = WL_ERR_INIT;
	struct wl_jsonl f;
	char path[512];
	int64_t sum = 0;
	json_t *o = json_pack("{s:i}", "step", 5);

	(void)state;
	tmp_write(tmp_path(&t, "metrics.jsonl", path), "{\"step\":1}\n{\"step\":2}\n{\"st");
	OK(wl_jsonl_read(path, count_line, &sum, &err));
	assert_int_equal(sum, 1 * 1 + 2 * 2);
	OK(wl_jsonl_open(&f, path, &err));
	OK(wl_jsonl_add(&f, o, &err));
	wl_jsonl_close(&f);
	char *text = tmp_read(path, NULL);
	assert_string_equal(text, "{\"step\":1}\n{\"step\":2}\n{\"step\":5}\n");
	free(text);
	tmp_write(path, "{\"step\":1}\nnot json\n{}\n");
	FAILS(WL_EDATA, "line 2", wl_jsonl_read(path, count_line, &sum, &err));
	json_decref(o);
	tmp_remove(&t);
}

/* One HTTP request by hand; the whole answer. */
static size_t http_get(uint16_t port, const char *target, char *out, size_t size)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char request[200];
	size_t used = 0;
	ssize_t n;

	inet_pton(AF_INET, "127.0.0.1", &sa.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
	assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
	while ((n = read(fd, out + used, size - 1 - used)) > 0)
		used += (size_t)n;
	out[used] = 0;
	close(fd);
	return used;
}

static void metrics_over_http(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	char answer[4096];
	/* Below the ports that systems give away by themselves. */
	int64_t port = 20000 + getpid() % 10000, last = port + 1000;

	(void)state;
	FAILS(WL_EUSAGE, "65535", wl_metrics_serve(70000, &err));
	while (wl_metrics_serve(port, &err) < 0)
		assert_true(++port < last);
	wl_metric_add("wenlan_pairs_total", "Pairs.", 3);
	wl_metric_add("wenlan_pairs_total", NULL, 4);
	wl_metric_set("wenlan_loss", NULL, 2.5);
	http_get((uint16_t)port, "/metrics", answer, sizeof answer);
	assert_non_null(strstr(answer, "HTTP/1.1 200"));
	assert_non_null(strstr(answer, "# HELP wenlan_pairs_total Pairs.\n"));
	assert_non_null(
		strstr(answer, "# TYPE wenlan_pairs_total counter\nwenlan_pairs_total 7\n"));
	assert_non_null(strstr(answer, "# TYPE wenlan_loss gauge\nwenlan_loss 2.5\n"));
	http_get((uint16_t)port, "/other", answer, sizeof answer);
	assert_non_null(strstr(answer, "HTTP/1.1 404"));
}

static void memory_is_compared(void **state)
{
	const double gib = 1024.0 * 1024 * 1024;
	struct wl_ram there = wl_ram_there();
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	assert_true(there.all > 64e6 && there.all < 1e15);
	assert_true(there.unused > 0 && there.unused <= there.all);
	there = (struct wl_ram){8 * gib, 4 * gib};
	OK(wl_ram_check(4 * gib, there, "x", "MEND", &err));
	OK(wl_ram_check(7 * gib, there, "x", "MEND", &err)); /* a warning */
	OK(wl_ram_check(1e300, (struct wl_ram){0, 0}, "x", "MEND", &err));
	FAILS(WL_EFAIL, "x needs about 9.0 GiB of memory, and there are 8.0 GiB: MEND",
		wl_ram_check(9 * gib, there, "x", "MEND", &err));
}

static void progress_accepts_null(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_progress *p;

	(void)state;
	FAILS(WL_EUSAGE, "plain", wl_progress_mode("loud", &err));
	OK(wl_progress_mode("none", &err));
	wl_progress_add(NULL, 1);
	wl_progress_free(NULL);
	p = wl_progress_new("pack", "pairs", 10);
	wl_progress_add(p, 3);
	wl_progress_set(p, 10, "done");
	wl_progress_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_messages),
		cmocka_unit_test(err_cut_not_overrun),
		cmocka_unit_test(arena_keeps_blocks),
		cmocka_unit_test(buf_keeps_its_maximum),
		cmocka_unit_test(sha256_known_answers),
		cmocka_unit_test(sha256_of_many),
		cmocka_unit_test(sha256_of_streams),
		cmocka_unit_test(random_numbers),
		cmocka_unit_test(shuffle_is_a_permutation),
		cmocka_unit_test(pool_keeps_order),
		cmocka_unit_test(pool_for_covers_all_once),
		cmocka_unit_test(jsonl_survives_a_torn_line),
		cmocka_unit_test(metrics_over_http),
		cmocka_unit_test(memory_is_compared),
		cmocka_unit_test(progress_accepts_null),
	};

	return cmocka_run_group_tests_name("ops_base", tests, NULL, NULL);
}
