/* clean/words and clean/measure: many words at once, and what the text rules count. */
#include "clean/measure.h"
#include "clean/utf8.h"
#include "clean/words.h"
#include "ops/hash.h"
#include "tests/support/cm.h"

#include <string.h>

static struct wl_err err;
static struct wl_text *tx;
static struct wl_fold *fold;

static int open_fold(void **state)
{
	(void)state;
	tx = wl_text_open(&err);
	fold = tx ? wl_fold_new(tx, &err) : NULL;
	if (!fold)
		print_error("%s\n", err.msg);
	return fold ? 0 : -1;
}

static int close_fold(void **state)
{
	(void)state;
	wl_fold_free(fold);
	wl_text_close(tx);
	return 0;
}

/* ---- folding ---- */

static void folding(void **state)
{
	static const struct {
		uint32_t c, f;
	} t[] = {{'A', 'a'}, {0xff21 /* full-width A */, 'a'}, {0x24d0 /* circled a */, 'a'},
		{0x1d41a /* mathematical a */, 'a'}, {0x430 /* Cyrillic a */, 'a'},
		{0xe9 /* e acute */, 'e'}, {0x611b, 0x7231 /* love, Traditional */}, {'7', '7'},
		{0xff17, '7'}, {0x3007, 0x3007}, {'*', WL_FOLD_SOFT}, {' ', WL_FOLD_SOFT},
		{0x200b, WL_FOLD_SOFT}, {0x1f642, WL_FOLD_SOFT}, {0xe0041, WL_FOLD_SOFT},
		{0x3002, WL_FOLD_HARD}, {'\n', WL_FOLD_HARD}, {0x3300, 0}, {0x10fffd, WL_FOLD_SOFT},
		{0xac00, 0xac00}, {0x2f25 /* radical woman */, 0x5973}};
	uint32_t out[WL_FOLD_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++)
		if (wl_fold_at(fold, t[i].c) != t[i].f)
			fail_msg("U+%04X folds to U+%04X, expected U+%04X", (unsigned)t[i].c,
				(unsigned)wl_fold_at(fold, t[i].c), (unsigned)t[i].f);
	assert_int_equal(wl_fold_several(fold, 0x338f /* kg */, out), 2);
	assert_int_equal(out[0], 'k');
	assert_int_equal(out[1], 'g');
	assert_int_equal(wl_fold_several(fold, 'a', out), 0);
	assert_true(wl_fold_unspaced(0x4e2d) && wl_fold_unspaced(0x30ab) && !wl_fold_unspaced('a'));
}

/* ---- words ---- */

static struct wl_words *words_of(const char *const *list)
{
	struct wl_words *w = wl_words_new(fold, &err);

	assert_non_null(w);
	for (int32_t i = 0; list[i]; i++)
		OK(wl_words_add(w, list[i], strlen(list[i]), i, &err));
	OK(wl_words_build(w, &err));
	return w;
}

static void tricks(void **state)
{
	static const char *const list[] = {"敏感词", "毒品", "BadCo", "av", "evil.example.com",
		"加微信vx", "气枪/猎枪", "色情", "98k枪", "porn", "ｋｇ枪", NULL};
	static const struct {
		const char *text, *match; /* NULL: none */
		int tag;
	} t[] = {
		{"有敏感词吗", "敏感词", 0},
		{"有敏*感 词吗", "敏*感 词", 0},
		{"有敏🙂感\u200b词吗", "敏🙂感\u200b词", 0},
		{"有敏，感，词吗", "敏，感，词", 0},
		{"有敏感，词吗", NULL, 0},
		{"中毒，品牌", NULL, 0},
		{"中毒。品牌", NULL, 0},
		{"毒 品", "毒 品", 1},
		{"毒............品", "毒............品", 1},
		{"毒.............品", NULL, 0},
		{"毒\xff品", "毒\xff品", 1},
		{"x badco y", "badco", 2},
		{"x badcool", NULL, 0},
		{"xbadco", NULL, 0},
		{"饼干ＢＡＤＣＯ好", "ＢＡＤＣＯ", 2},
		{"b.a.d.c.o", "b.a.d.c.o", 2},
		{"b.a.dco", NULL, 0},
		{"b,a,d,c,o", NULL, 0},
		{"b@dc0", "b@dc0", 2},
		{"8@dc0 and", NULL, 0},
		{"вadсо", NULL, 0},
		{"bаdсо", "bаdсо", 2},
		{"have av?", "av", 3},
		{"a v", NULL, 0},
		{"4v", NULL, 0},
		{"éav", NULL, 0},
		{"http://evil.example.com/x", "evil.example.com", 4},
		{"evilexamplecom", "evilexamplecom", 4},
		{"evil.examplecom", NULL, 0},
		{"請加微信ＶＸ", "加微信ＶＸ", 5},
		{"气枪猎枪", "气枪猎枪", 6},
		{"气枪/猎枪", "气枪/猎枪", 6},
		{"气枪。猎枪", "气枪。猎枪", 6},
		{"ｓｅ色\u3000情", "色\u3000情", 7},
		{"98ｋ槍", "98ｋ槍", 8},
		{"9bk枪", NULL, 0},
		{"p0rn", "p0rn", 9},
		{"P0Rn", "P0Rn", 9},
		{"9024", NULL, 0},
		{"㎏枪", "㎏枪", 10},
		{"", NULL, 0},
		{"敏", NULL, 0},
		{"敏感", NULL, 0},
	};
	struct wl_words *w = words_of(list);
	struct wl_match m;

	(void)state;
	assert_int_equal(wl_words_count(w), 11);
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		bool found = wl_words_find(w, t[i].text, strlen(t[i].text), 0, &m);
		if (found != (t[i].match != NULL))
			fail_msg("\"%s\": %s", t[i].text, found ? list[m.tag] : "nothing found");
		if (!found)
			continue;
		assert_int_equal(m.tag, t[i].tag);
		if (m.len != strlen(t[i].match) || memcmp(t[i].text + m.at, t[i].match, m.len) != 0)
			fail_msg("\"%s\": found \"%.*s\"", t[i].text, (int)m.len, t[i].text + m.at);
	}
	assert_false(wl_words_find(w, "有敏感词吗", strlen("有敏感词吗"), WL_WORDS_SPACED, &m));
	assert_true(wl_words_find(w, "毒品 badco", strlen("毒品 badco"), WL_WORDS_SPACED, &m));
	assert_int_equal(m.tag, 2);
	wl_words_free(w);
}

static bool count_match(void *ctx, const struct wl_match *m)
{
	int *n = ctx;

	n[m->tag]++;
	return true;
}

static void all_matches(void **state)
{
	static const char *const list[] = {
		"中国", "中国人", "国人", "国", "中国", "a", "", "--", NULL};
	struct wl_words *w = words_of(list);
	const char *s = "中国人民的中国";
	int n[8] = {0};

	(void)state;
	assert_int_equal(wl_words_count(w), 3);
	wl_words_scan(w, s, strlen(s), 0, count_match, n);
	assert_int_equal(n[0], 2);
	assert_int_equal(n[1], 1);
	assert_int_equal(n[2], 1);
	assert_int_equal(n[3] + n[4] + n[5] + n[6] + n[7], 0);
	wl_words_free(w);
}

/* ---- against a plain search that follows words.h sentence by sentence ---- */

enum { UNITS = 400, WORDS = 60, WORD_LETTERS = 8 };

struct unit {
	uint32_t c;
	int soft, hard;
	size_t at, end;
};

/* Letters with the separators before them, by wl_fold_at alone. */
static size_t units_of(const char *s, size_t n, struct unit *u)
{
	size_t i = 0, k = 0;

	for (int soft = 0, hard = 0; i < n && k + WL_FOLD_MAX < UNITS;) {
		size_t at = i, several;
		bool ok = true;
		uint32_t c = wl_utf8_next(s, n, &i, &ok), out[WL_FOLD_MAX];
		uint32_t f = ok ? wl_fold_at(fold, c) : WL_FOLD_SOFT;
		if (strchr("@$!", (int)(c < 0x80 && c ? c : 'x')) && at > 0 && i < n &&
			((s[at - 1] | 32) >= 'a' && (s[at - 1] | 32) <= 'z') &&
			((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z'))
			f = c;
		if (f == WL_FOLD_SOFT || f == WL_FOLD_HARD) {
			soft += f == WL_FOLD_SOFT;
			hard += f == WL_FOLD_HARD;
			continue;
		}
		several = f ? 1 : wl_fold_several(fold, c, out);
		for (size_t j = 0; j < several; j++)
			u[k++] = (struct unit){f ? f : out[j], j ? 0 : soft, j ? 0 : hard, at, i};
		soft = hard = 0;
	}
	return k;
}

static bool stands_for(uint32_t c, uint32_t letter)
{
	static const char pairs[] = "0o1i1l2z3e4a5s7t8b9g@a$s!i!l";

	for (size_t i = 0; pairs[i]; i += 2)
		if ((uint32_t)pairs[i] == c && (uint32_t)pairs[i + 1] == letter)
			return true;
	return false;
}

static bool is_latin(uint32_t c)
{
	return c >= 'a' && c <= 'z';
}

/* Whether letter u, next to bytes [at, end), touches a word without being apart from it. */
static bool touches(const struct unit *u, bool before, size_t at, size_t end)
{
	return !wl_fold_unspaced(u->c) && !strchr("@$!", (int)(u->c < 0x80 ? u->c : 'x')) &&
	       (before ? u->end == at || u->at == at : u->at == end || u->end == end);
}

static bool plain_match(const struct unit *t, size_t n, size_t i, const struct unit *w, size_t len)
{
	size_t latin = 0, swapped = 0, gaps = 0, hard = 0, own = 0, met = 0;
	bool spaced = true, gaps_ok;

	if (i + len > n)
		return false;
	for (size_t k = 0; k < len; k++) {
		const struct unit *a = &t[i + k];
		bool gap = k && a->soft + a->hard > 0, has = k && w[k].soft + w[k].hard > 0;
		latin += is_latin(w[k].c);
		spaced = spaced && !wl_fold_unspaced(w[k].c);
		if (a->c != w[k].c) {
			if (!is_latin(w[k].c) || !stands_for(a->c, w[k].c))
				return false;
			swapped++;
		}
		if (k && a->soft + a->hard > WL_WORDS_GAP_MAX)
			return false;
		gaps += gap;
		own += has;
		met += gap && has;
		hard += k && a->hard && !has;
	}
	if (swapped && (latin < 3 || 2 * swapped > latin))
		return false;
	if (!spaced)
		return hard == 0 || (len >= 3 && gaps == len - 1);
	gaps_ok = (gaps == met && (met == own || met == 0)) ||
		  (hard == 0 && len >= 3 && gaps == len - 1);
	return gaps_ok && !(i > 0 && touches(&t[i - 1], true, t[i].at, 0)) &&
	       !(i + len < n && touches(&t[i + len], false, 0, t[i + len - 1].end));
}

struct hits {
	struct {
		int32_t tag;
		size_t at, len;
	} v[4096];
	size_t n;
};

static bool keep_hit(void *ctx, const struct wl_match *m)
{
	struct hits *h = ctx;

	assert_true(h->n < 4096);
	h->v[h->n].tag = m->tag;
	h->v[h->n].at = m->at;
	h->v[h->n++].len = m->len;
	return true;
}

/* Few letters and many separators, so that every rule is met thousands of times; of the first
 * `kinds` of them, so that some texts have nothing that is read character by character, and others
 * little else.  The last ones are no UTF-8. */
enum { PLAIN_KINDS = 17, GOOD_KINDS = 30, ALL_KINDS = 38 };
static size_t random_text(uint64_t seed, size_t letters, uint64_t kinds, char *out)
{
	static const char *const alphabet[ALL_KINDS] = {"敏", "感", "词", "a", "b", "e", "中", "*",
		" ", "，", "詞", "A", "ｏ", "а", "🙂", "é", "𠀀", "3", "o", "0", "i", "1", "l",
		"@", "。", "㎏", "k", "g", "!", "$", "\xff", "\xe6\x95", "\xed\xa0\x80",
		"\xe0\x80\xaf", "\xf0\x9f", "\xf4\x90\x80\x80", "\xc1\xa1", "\x80"};
	size_t n = 0;

	for (size_t i = 0; i < letters; i++) {
		const char *s = alphabet[wl_rand64(seed, 1, i) % kinds];
		memcpy(out + n, s, strlen(s));
		n += strlen(s);
	}
	return n;
}

static void against_plain_search(void **state)
{
	static struct hits h;
	static struct unit t[UNITS], w[WORDS][UNITS];
	size_t total = 0;

	(void)state;
	for (uint64_t round = 0; round < 1500; round++) {
		struct wl_words *words = wl_words_new(fold, &err);
		uint64_t kinds = round % 3 == 0	  ? PLAIN_KINDS
				 : round % 3 == 1 ? GOOD_KINDS
						  : ALL_KINDS;
		size_t len[WORDS], n, k, expected = 0;
		char text[1024];
		for (uint64_t i = 0; i < WORDS; i++) {
			size_t bytes = random_text(round * 1000 + i, 2 + i % WORD_LETTERS,
				kinds < GOOD_KINDS ? kinds : GOOD_KINDS, text);
			int added;
			len[i] = units_of(text, bytes, w[i]);
			OK(added = wl_words_add(words, text, bytes, (int32_t)i, &err));
			assert_int_equal(added, len[i] >= 2);
			for (size_t j = 0; j < i && added;
				j++) { /* equal words: the first counts */
				bool same = len[j] == len[i];
				for (k = 0; k < len[i] && same; k++)
					same = w[i][k].c == w[j][k].c &&
					       (!k || (w[i][k].soft + w[i][k].hard > 0) ==
							       (w[j][k].soft + w[j][k].hard > 0));
				added = !same;
			}
			if (!added)
				len[i] = 0;
		}
		OK(wl_words_build(words, &err));
		n = units_of(text, random_text(round * 1000 + 777, 200, kinds, text), t);
		h.n = 0;
		wl_words_scan(words, text, t[n - 1].end, 0, keep_hit, &h);
		for (size_t i = 0; i < n; i++)
			for (int j = 0; j < WORDS; j++) {
				if (!len[j] || !plain_match(t, n, i, w[j], len[j]))
					continue;
				expected++;
				for (k = 0; k < h.n; k++)
					if (h.v[k].tag == j && h.v[k].at == t[i].at &&
						h.v[k].len == t[i + len[j] - 1].end - t[i].at)
						break;
				if (k == h.n)
					fail_msg("round %d: word %d at byte %zu was missed",
						(int)round, j, t[i].at);
			}
		for (k = 0; k < h.n && h.n != expected; k++)
			print_message("  found %d: %.*s in %.*s\n", (int)h.v[k].tag,
				(int)h.v[k].len, text + h.v[k].at, (int)t[n - 1].end, text);
		if (h.n != expected)
			fail_msg("round %d: %zu matches, expected %zu", (int)round, h.n, expected);
		total += expected;
		wl_words_free(words);
	}
	print_message("%zu matches, the same as by a plain search\n", total);
	assert_true(total > 3000);
}

/* ---- measures ---- */

static void measures(void **state)
{
	struct wl_measure m;
	const char *s = "北京 hello, 你好！！";

	(void)state;
	OK(wl_measure(tx, s, strlen(s), &m, &err));
	assert_int_equal(m.chars, 12);
	assert_int_equal(m.letters, 9);
	assert_int_equal(m.han, 4);
	assert_int_equal(m.run, 2);
	assert_false(m.garbled);
	s = "今天天气很好今天天气很好今天天气很好";
	OK(wl_measure(tx, s, strlen(s), &m, &err));
	assert_true(m.repeat > 0.55 && m.repeat < 0.65); /* 9 of 15 */
	s = "锛屾垜浠鐨勪腑鍥芥槸";
	OK(wl_measure(tx, s, strlen(s), &m, &err));
	assert_true(m.garbled);
	s = "ä¸­å›½äºº";
	OK(wl_measure(tx, s, strlen(s), &m, &err));
	assert_true(m.garbled);
	s = "手持两把锟斤拷";
	OK(wl_measure(tx, s, strlen(s), &m, &err));
	assert_true(m.garbled);
	s = "横浜的夜景，café crème brûlée";
	OK(wl_measure(tx, s, strlen(s), &m, &err));
	assert_false(m.garbled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(folding),
		cmocka_unit_test(tricks),
		cmocka_unit_test(all_matches),
		cmocka_unit_test(against_plain_search),
		cmocka_unit_test(measures),
	};
	return cmocka_run_group_tests(tests, open_fold, close_fold);
}
