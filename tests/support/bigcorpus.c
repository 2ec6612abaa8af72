/* See bigcorpus.h. */
#include "tests/support/bigcorpus.h"

#include "ingest/corpus.h"
#include "ops/hash.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CELLS = 8, /* a side of the mosaic, and blocks a side of its JPEG */
	HUNDRED = 100,
	SLOGANS = 5,
	FINE = 16, /* quantisers of the mean of a block: two and three levels */
	COARSE = 24,
	BATCH = 50000, /* pairs that commit together */
};

static const char *const kind_names[BIG_KINDS] = {"plain", "copy", "re-encoded", "mirrored",
	"near text", "slogan", "broken", "mobile", "short", "foreign", "repeated"};

const char *bigcorpus_kind_name(enum bigcorpus_kind k)
{
	return kind_names[k];
}

/* ---- what pair i is ---- */

enum bigcorpus_kind bigcorpus_kind(int64_t i)
{
	bool tenth = i / HUNDRED % 10 == 0;

	switch (i % HUNDRED) {
	case 0:
		return BIG_COPY;
	case 1:
		return BIG_REENCODED;
	case 2:
		return BIG_MIRRORED;
	case 3:
		return BIG_NEAR_TEXT;
	case 4:
		return tenth ? BIG_SLOGAN : BIG_PLAIN;
	case 5:
		return tenth ? BIG_BROKEN : BIG_PLAIN;
	case 6:
		return BIG_MOBILE;
	case 7:
		return tenth ? BIG_SHORT : BIG_PLAIN;
	case 8:
		return BIG_FOREIGN;
	case 9:
		return BIG_REPEATED;
	default:
		return BIG_PLAIN;
	}
}

/* Plain pairs 50 to 53 of a hundred are made use of by the hundreds 2k and 2k + 1. */
int64_t bigcorpus_original(int64_t i)
{
	enum bigcorpus_kind k = bigcorpus_kind(i);

	if (k == BIG_PLAIN || k > BIG_NEAR_TEXT)
		return i;
	return i / HUNDRED / 2 * HUNDRED + 50 + i % HUNDRED;
}

static void url_of(int64_t i, char out[32])
{
	snprintf(out, 32, "http://x/%lld.jpg", (long long)i);
}

int64_t bigcorpus_number(const char *url)
{
	long long i;

	return sscanf(url, "http://x/%lld.jpg", &i) == 1 ? i : -1;
}

int64_t bigcorpus_id(int64_t i)
{
	char url[32];

	url_of(i, url);
	return wl_pair_id("synthetic", "", url, 0);
}

/* ---- pictures ---- */

struct bits {
	uint8_t v[1024];
	size_t n;
	uint32_t held;
	int count;
};

static void put_bits(struct bits *b, uint32_t v, int n)
{
	for (int k = n - 1; k >= 0; k--) {
		b->held = b->held << 1 | (v >> k & 1);
		if (++b->count < 8)
			continue;
		b->v[b->n++] = (uint8_t)b->held;
		if ((b->held & 0xff) == 0xff)
			b->v[b->n++] = 0;
		b->count = 0;
	}
}

/* A grey JPEG whose blocks have a mean and nothing else.  DC categories 0 to 8 have codes of
 * four bits, "end of block" one bit. */
static void write_jpeg(uint8_t shade[CELLS][CELLS], int quantiser, struct bits *b)
{
	static const uint8_t sof[] = {0xff, 0xc0, 0, 11, 8, 0, 64, 0, 64, 1, 1, 0x11, 0};
	static const uint8_t dc[] = {0xff, 0xc4, 0, 28, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
	static const uint8_t ac[] = {
		0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t sos[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0};
	int last = 0;

	b->n = 0;
	memcpy(b->v, (const uint8_t[]){0xff, 0xd8, 0xff, 0xdb, 0, 67, 0}, 7);
	memset(b->v + 7, 1, 64);
	b->v[7] = (uint8_t)quantiser;
	b->n = 71;
	memcpy(b->v + b->n, sof, sizeof(sof));
	b->n += sizeof(sof);
	memcpy(b->v + b->n, dc, sizeof(dc));
	b->n += sizeof(dc);
	memcpy(b->v + b->n, ac, sizeof(ac));
	b->n += sizeof(ac);
	memcpy(b->v + b->n, sos, sizeof(sos));
	b->n += sizeof(sos);
	for (int k = 0; k < CELLS * CELLS; k++) {
		int mean = (shade[k / CELLS][k % CELLS] - 128) * 8;
		int v = (mean + (mean < 0 ? -quantiser : quantiser) / 2) / quantiser;
		int diff = v - last, size = 0;
		for (int a = abs(diff); a; a >>= 1)
			size++;
		put_bits(b, (uint32_t)size, 4);
		put_bits(b, (uint32_t)(diff < 0 ? diff + (1 << size) - 1 : diff), size);
		put_bits(b, 0, 1);
		last = v;
	}
	while (b->count)
		put_bits(b, 1, 1);
	b->v[b->n++] = 0xff;
	b->v[b->n++] = 0xd9;
}

int bigcorpus_image(int64_t i, struct wl_buf *out, struct wl_err *err)
{
	enum bigcorpus_kind kind = bigcorpus_kind(i);
	bool borrowed = kind == BIG_COPY || kind == BIG_REENCODED || kind == BIG_MIRRORED;
	uint64_t of = (uint64_t)(borrowed ? bigcorpus_original(i) : i);
	uint8_t shade[CELLS][CELLS];
	struct bits b = {.n = 0};

	for (int y = 0; y < CELLS; y++)
		for (int x = 0; x < CELLS; x++) {
			uint64_t r = wl_rand64(11, of, (uint64_t)(y * CELLS + x));
			int to = kind == BIG_MIRRORED ? CELLS - 1 - x : x;
			shade[y][to] = (uint8_t)(16 + r % 224);
		}
	write_jpeg(shade, kind == BIG_REENCODED ? COARSE : FINE, &b);
	return wl_buf_add(out, b.v, kind == BIG_BROKEN ? b.n - 40 : b.n, err);
}

/* ---- texts ---- */

static const char common[] = "山水花草树木鸟鱼云雨风雪春夏秋冬东西南北城市街道桥河湖海船车马牛羊犬"
			     "猫人男女老少孩子红黄蓝白黑绿大小多高低长短新旧早晚天地日月星光年时"
			     "分米面茶酒果菜饭碗书笔画歌舞戏球门窗楼屋房院路口村里田园林场站店";

static int add_common(struct wl_buf *out, uint64_t r, struct wl_err *err)
{
	return wl_buf_add(out, common + r % ((sizeof(common) - 1) / 3) * 3, 3, err);
}

static int add_run(struct wl_buf *out, const char *s, int n, struct wl_err *err)
{
	for (int k = 0; k < n; k++)
		WL_TRY(wl_buf_puts(out, s, err));
	return 0;
}

/* Kana: three bytes, U+3041 to U+308F. */
static int add_kana(struct wl_buf *out, uint64_t r, struct wl_err *err)
{
	uint32_t c = 0x3041 + (uint32_t)(r % 78);
	const char s[3] = {(char)0xe3, (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))};

	return wl_buf_add(out, s, 3, err);
}

int bigcorpus_text(int64_t i, struct wl_buf *out, struct wl_err *err)
{
	enum bigcorpus_kind kind = bigcorpus_kind(i);
	int64_t of = kind == BIG_COPY || kind == BIG_NEAR_TEXT ? bigcorpus_original(i) : i;
	int chars = of % 2 ? 40 : 18;
	uint64_t seed = kind == BIG_SLOGAN ? (uint64_t)(i / 1000 % SLOGANS) : 0, k = (uint64_t)i;

	if (kind == BIG_SHORT) {
		uint32_t c = 0x4e00 + (uint32_t)(i / 1000 % 20000);
		const char s[3] = {(char)(0xe0 | c >> 12), (char)(0x80 | (c >> 6 & 63)),
			(char)(0x80 | (c & 63))};
		return wl_buf_add(out, s, 3, err);
	}
	for (int c = 0; c < chars; c++) {
		uint64_t at = (uint64_t)c;
		if (kind == BIG_FOREIGN)
			WL_TRY(add_kana(out, wl_rand64(12, k, at), err));
		else if (kind == BIG_SLOGAN)
			WL_TRY(add_common(out, wl_rand64(13, seed, at), err));
		else if (kind == BIG_NEAR_TEXT && c >= chars - 2)
			WL_TRY(add_common(out, wl_rand64(14, k, at), err));
		else
			WL_TRY(add_common(out, wl_rand64(15, (uint64_t)of, at), err));
	}
	if (kind == BIG_REPEATED)
		return add_run(out, "哈", 20, err);
	if (kind == BIG_MOBILE) {
		char number[32];
		snprintf(number, sizeof(number), "，电话138%08u", (unsigned)(i % 100000000));
		return wl_buf_puts(out, number, err);
	}
	return 0;
}

/* ---- writing ---- */

struct maker {
	struct wl_corpus *c;
	int64_t n;
	int partitions, threads, at;
	struct wl_err err;
	int ret;
	pthread_t thread;
};

struct place {
	int64_t id, i;
};

static int by_id(const void *p, const void *q)
{
	const struct place *a = p, *b = q;

	return (a->id > b->id) - (a->id < b->id);
}

static int add_pair(struct maker *m, struct wl_lane *lane, const struct place *at,
	struct wl_buf *image, struct wl_buf *text, struct wl_err *err)
{
	bool first = bigcorpus_original(at->i) == at->i;
	char url[32];
	struct wl_pair p = {.id = at->id,
		.source = "synthetic",
		.url = url,
		.page_url = "",
		.split_hint = "",
		.format = "jpeg",
		.width = 64,
		.height = 64,
		/* Originals came first: they are the ones that stay. */
		.fetched_at = 1000 + at->i + (first ? 0 : m->n),
		.meta = "{}"};
	int added;

	url_of(at->i, url);
	wl_buf_reset(image);
	wl_buf_reset(text);
	WL_TRY(bigcorpus_image(at->i, image, err));
	WL_TRY(wl_buf_puts(text, "[[\"caption\",\"", err));
	WL_TRY(bigcorpus_text(at->i, text, err));
	WL_TRY(wl_buf_puts(text, "\"]]", err));
	p.texts = wl_buf_str(text);
	WL_TRY(added = wl_lane_add(lane, &p, image->data, image->len, err));
	return 0;
}

/* In order of id, so that the catalog's tree is written from left to right. */
static int make_lane(struct maker *m, int p, struct wl_err *err)
{
	size_t n = (size_t)((m->n - p + m->partitions - 1) / m->partitions);
	struct place *v = malloc((n + 1) * sizeof(*v));
	struct wl_lane *lane = v ? wl_lane_open(m->c, p, err) : NULL;
	struct wl_buf image, text;
	char position[32];
	int ret = -1;

	wl_buf_init(&image, 1 << 16);
	wl_buf_init(&text, 1 << 16);
	if (!v)
		wl_err_nomem(err, "a lane's pairs", n * sizeof(*v));
	if (!lane)
		goto out;
	for (size_t k = 0; k < n; k++) {
		v[k].i = p + (int64_t)k * m->partitions;
		v[k].id = bigcorpus_id(v[k].i);
	}
	qsort(v, n, sizeof(*v), by_id);
	for (size_t k = 0; k < n; k++) {
		WL_TRY_OUT(add_pair(m, lane, &v[k], &image, &text, err));
		if ((k + 1) % BATCH && k + 1 < n)
			continue;
		snprintf(position, sizeof(position), "%zu", k + 1);
		WL_TRY_OUT(wl_lane_commit(lane, "bigcorpus", position, err));
	}
	ret = 0;
out:
	wl_lane_close(lane);
	wl_buf_release(&image);
	wl_buf_release(&text);
	free(v);
	return ret;
}

static void *make_lanes(void *ctx)
{
	struct maker *m = ctx;

	for (int p = m->at; p < m->partitions && m->ret == 0; p += m->threads)
		m->ret = make_lane(m, p, &m->err);
	return NULL;
}

int bigcorpus_make(const char *dir, int64_t n, int partitions, int threads, struct wl_err *err)
{
	struct maker *m = calloc((size_t)threads, sizeof(*m));
	struct wl_corpus *c = m ? wl_corpus_open(dir, true, partitions, err) : NULL;
	int ret = c ? 0 : -1, started = 0;

	for (; c && started < threads; started++) {
		m[started] = (struct maker){.c = c,
			.n = n,
			.partitions = partitions,
			.threads = threads,
			.at = started};
		if (pthread_create(&m[started].thread, NULL, make_lanes, &m[started]) != 0) {
			ret = wl_err_set(err, WL_EFAIL, "A thread cannot be started.");
			break;
		}
	}
	for (int t = 0; t < started; t++) {
		pthread_join(m[t].thread, NULL);
		if (m[t].ret < 0 && ret == 0) {
			*err = m[t].err;
			ret = -1;
		}
	}
	wl_corpus_close(c);
	free(m);
	return ret;
}

/* ---- checking ---- */

/* The reason that pair i must get, "" none; *kept: the pair that stays for it, -1 none. */
static const char *dedup_reason_of(int64_t i, const char *policy, int64_t *kept)
{
	enum bigcorpus_kind k = bigcorpus_kind(i);
	bool image = strcmp(policy, "image") == 0, text = strcmp(policy, "text") == 0;
	static char reason[32];

	*kept = -1;
	if (k == BIG_BROKEN)
		return "bad-image";
	snprintf(reason, sizeof(reason), "duplicate-%s", policy);
	if (k == BIG_SLOGAN && text && i >= SLOGANS * 1000) {
		*kept = i % (SLOGANS * 1000);
		return reason;
	}
	if (k == BIG_COPY || (image && (k == BIG_REENCODED || k == BIG_MIRRORED)) ||
		(text && k == BIG_NEAR_TEXT)) {
		*kept = bigcorpus_original(i);
		return reason;
	}
	return "";
}

static const char *filter_reason_of(int64_t i)
{
	switch (bigcorpus_kind(i)) {
	case BIG_SHORT:
		return "text-short";
	case BIG_FOREIGN:
		return "text-not-chinese";
	case BIG_REPEATED:
		return "text-repetition";
	case BIG_BROKEN:
		return "bad-image";
	default:
		return "";
	}
}

/* What may stand beside the reason that is wanted: kana are foreign and not Chinese. */
static bool may_stand_beside(enum bigcorpus_kind k, const char *reason)
{
	return k == BIG_FOREIGN && strcmp(reason, "text-foreign") == 0;
}

/* A pair's verdicts, one after the other. */
struct check {
	struct bigcorpus_found *f;
	enum bigcorpus_kind k;
	const char *want;
	char kept[WL_PAIR_NAME];
	bool found;
};

static void check_begin(struct check *c, struct bigcorpus_found *f, const char *stage,
	const char *policy, int64_t i, int partitions)
{
	int64_t kept = -1;

	*c = (struct check){.f = f, .k = bigcorpus_kind(i)};
	c->want = strcmp(stage, "filter") == 0 ? filter_reason_of(i)
					       : dedup_reason_of(i, policy, &kept);
	if (kept >= 0)
		wl_pair_name((int)(kept % partitions), bigcorpus_id(kept), c->kept);
	f->pairs++;
	f->planted[c->k] += *c->want != 0;
}

static void check_verdict(struct check *c, const char *reason, const char *detail)
{
	if (strcmp(reason, c->want) == 0 && (!*c->kept || strcmp(detail, c->kept) == 0))
		c->found = true;
	else if (!may_stand_beside(c->k, reason))
		c->f->wrong[c->k]++;
}

/* Pairs and verdicts side by side, both in order of id. */
static int check_partition(struct wl_corpus *c, int p, const char *stage, const char *policy,
	struct bigcorpus_found *f, struct wl_err *err)
{
	char *path = wl_corpus_stage_path(c, stage, wl_corpus_generation(c, stage), p, err);
	struct wl_pair_cursor *cur = wl_pairs_open(c, p, err);
	struct wl_db db = {0};
	sqlite3_stmt *st = NULL;
	struct wl_pair pair;
	int row, more, ret = -1;

	if (!path || !cur)
		goto out;
	WL_TRY_OUT(wl_db_open(&db, path, WL_DB_READ, err));
	WL_TRY_OUT(wl_db_prepare(
		&db, &st, "SELECT pair_id, reason, detail FROM verdict ORDER BY pair_id", err));
	WL_TRY_OUT(more = wl_db_step(&db, st, err));
	while ((row = wl_pairs_next(cur, &pair, err)) != 0) {
		struct check now;
		WL_TRY_OUT(row);
		check_begin(&now, f, stage, policy, bigcorpus_number(pair.url),
			wl_corpus_partitions(c));
		while (more && sqlite3_column_int64(st, 0) == pair.id) {
			check_verdict(&now, (const char *)sqlite3_column_text(st, 1),
				(const char *)sqlite3_column_text(st, 2));
			WL_TRY_OUT(more = wl_db_step(&db, st, err));
		}
		f->found[now.k] += now.found;
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	wl_pairs_close(cur);
	free(path);
	return ret;
}

int bigcorpus_check(const char *dir, const char *stage, const char *policy,
	struct bigcorpus_found *out, struct wl_err *err)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, err);
	int ret = c ? 0 : -1;

	memset(out, 0, sizeof(*out));
	if (c && wl_corpus_generation(c, stage) == 0)
		ret = wl_err_set(err, WL_EFAIL, "%s: %s has not run to its end.", dir, stage);
	for (int p = 0; ret == 0 && p < wl_corpus_partitions(c); p++)
		ret = check_partition(c, p, stage, policy, out, err);
	wl_corpus_close(c);
	return ret;
}
