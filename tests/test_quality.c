/* The filter's detectors of junk and sensitive words, on planted texts and on real ones that
 * should pass: precision and recall of each are printed and must stay. */
#include "clean/rules.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cleaning.h"
#include "tests/support/cm.h"
#include "tests/support/plant.h"
#include "tests/support/tmp.h"

#include <iconv.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wl_err err;

/* ---- good captions ---- */

enum { GOOD_MAX = 6000 };
struct texts {
	char *v[GOOD_MAX];
	size_t n;
};

static void load_tsv(struct texts *t, const char *path, int column, size_t max)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;

	while (f && t->n < GOOD_MAX && max > 0 && getline(&line, &cap, f) > 0) {
		char *s = line;
		for (int i = 0; i < column && s; i++)
			s = strchr(s, '\t') ? strchr(s, '\t') + 1 : NULL;
		if (!s)
			continue;
		s[strcspn(s, "\t\r\n")] = 0;
		t->v[t->n++] = strdup(s);
		max--;
	}
	free(line);
	if (f)
		fclose(f);
}

/* Captions and headlines of ../shared, or a few of our own. */
static void load_good(struct texts *t)
{
	static const char *const own[] = {"一只小猫在窗台上睡觉", "两个男孩在公园里踢足球",
		"红色的汽车停在路边，旁边有一棵树", "厨师正在厨房里准备晚餐", "一群人在海边看日出",
		"女孩穿着白色连衣裙在草地上奔跑", "一列火车穿过大桥，桥下是河",
		"桌子上放着一杯咖啡和一本书", "老人坐在长椅上喂鸽子",
		"滑雪的人从山坡上飞快地滑下来"};

	t->n = 0;
	load_tsv(t, "../shared/data/text/coco_cn_icap2020.tsv", 1, 3000);
	load_tsv(t, "../shared/data/text/news_titles.tsv", 1, 3000);
	for (size_t i = 0; i < sizeof(own) / sizeof(*own) && t->n < GOOD_MAX; i++)
		t->v[t->n++] = strdup(own[i]);
}

static void release_texts(struct texts *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
}

/* The first `max` bytes of it, between characters; good for one printf. */
static const char *head_of(const char *s, size_t max, char out[PLANT_MAX])
{
	size_t n = strlen(s) < max ? strlen(s) : max;

	while (n && n < strlen(s) && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	memcpy(out, s, n);
	out[n] = 0;
	return out;
}

/* ---- junk ---- */

enum junk {
	AD,
	UTF8_AS_GBK,
	UTF8_AS_LATIN1,
	GBK_AS_LATIN1,
	REPEATED,
	SIGNS,
	FILE_NAME,
	FOREIGN,
	RUN,
	JUNKS
};
static const struct {
	const char *name, *reason;
} junks[JUNKS] = {{"advertisement", "text-ad"}, {"UTF-8 as GBK", "text-garbled"},
	{"UTF-8 as Latin-1", "text-garbled"}, {"GBK as Latin-1", "text-garbled"},
	{"repetition", "text-repetition"}, {"signs", "text-symbols"},
	{"file name", "text-file-name"}, {"foreign", "text-foreign"},
	{"run of a letter", "text-repetition"}};

static bool convert(const char *from, const char *to, const char *in, char out[PLANT_MAX])
{
	iconv_t cd = iconv_open(to, from);
	char *i = (char *)in, *o = out;
	size_t left = strlen(in), room = PLANT_MAX - 1;

	assert_true(cd != (iconv_t)-1);
	while (left > 0 && room > 4)
		if (iconv(cd, &i, &left, &o, &room) == (size_t)-1) {
			i++; /* what does not fit is lost, as it is in the wild */
			left--;
		}
	*o = 0;
	iconv_close(cd);
	return o > out;
}

static void ad(uint64_t seed, const char *good, char out[PLANT_MAX])
{
	static const char *const heads[] = {
		"厂家直销", "全国包邮", "限时特价", "正品保证", "招代理"};
	char part[PLANT_MAX];
	static const char *const tails[] = {"加微信 abc_12345", "加QQ 12345678",
		"咨询热线 010-62345678", "扫描二维码立即抢购", "货到付款，欢迎咨询",
		"包邮，微信：shop_2020"};

	snprintf(out, PLANT_MAX, "%s！%.100s，仅售99元，%s", heads[wl_rand64(seed, 1, 1) % 5],
		head_of(good, 60, part), tails[wl_rand64(seed, 1, 2) % 6]);
}

static void file_name(uint64_t seed, char out[PLANT_MAX])
{
	static const char *const forms[] = {"IMG_%08u.jpg", "微信图片_%u", "DSC%05u.JPG", "%u.png",
		"mmexport%u", "Screenshot_%u", "QQ截图%u", "%u", "未标题-%u", "photo-%u.webp"};
	unsigned n = (unsigned)(wl_rand64(seed, 2, 1) % 100000);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(out, PLANT_MAX, forms[wl_rand64(seed, 2, 2) % 10], n);
#pragma GCC diagnostic pop
}

static bool make_junk(enum junk kind, uint64_t seed, const char *good, char out[PLANT_MAX])
{
	static const char *const foreign[] = {"公園で猫が寝ています、とてもかわいい",
		"今日はいい天気ですね、散歩に行きましょう", "고양이가 창가에서 자고 있다",
		"Кошка спит на подоконнике 猫", "แมวนอนอยู่บนหน้าต่าง 猫"};
	static const char *const signs[] = {"★", "◆", "！", "~", "■", "→", "♡"};
	char one[PLANT_MAX];
	size_t n = 0;

	head_of(good, kind == REPEATED ? 48 : 90, one);
	switch (kind) {
	case AD:
		ad(seed, good, out);
		return true;
	case UTF8_AS_GBK:
		return convert("GBK", "UTF-8", good, out);
	case UTF8_AS_LATIN1:
		return convert("CP1252", "UTF-8", good, out);
	case GBK_AS_LATIN1:
		return convert("UTF-8", "GBK", good, one) && convert("LATIN1", "UTF-8", one, out);
	case REPEATED:
		snprintf(out, PLANT_MAX, "%.100s%.100s%.100s%.100s", one, one, one, one);
		return true;
	case SIGNS:
		*out = 0;
		for (uint64_t i = 0; i < 20; i++) {
			const char *s = signs[wl_rand64(seed, 3, i) % 7];
			n += (size_t)snprintf(
				out + n, PLANT_MAX - n, "%s%s", s, i % 7 == 3 ? "猫" : "");
		}
		return true;
	case FILE_NAME:
		file_name(seed, out);
		return true;
	case FOREIGN:
		snprintf(out, PLANT_MAX, "%s", foreign[seed % 5]);
		return true;
	default:
		snprintf(out, PLANT_MAX, "%.300s哈哈哈哈哈哈哈哈哈哈哈哈", one);
		return true;
	}
}

/* ---- measuring ---- */

static struct wl_rules *rules_with(const struct tmp_dir *tmp, const char *sensitive)
{
	char path[512], cwd[400], *yaml;
	struct wl_rules *r;

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	yaml = wl_strf(&err,
		"version: 1\ntext: {min_chars: 2, min_chinese: 0.3, max_foreign: 0.3, "
		"min_common: 0.4, max_symbols: 0.6, max_run: 10, max_repeat: 0.5, "
		"file_names: true, max_ad: 2}\nads: {file: %s/clean/rules/ads.txt}\n%s",
		cwd, sensitive);
	tmp_write(tmp_path(tmp, "r.yaml", path), yaml);
	free(yaml);
	r = wl_rules_load(path, tx, &err);
	if (!r)
		fail_msg("%s", err.msg);
	return r;
}

static void judge(const struct wl_rules *r, const char *text, struct wl_outcome *o)
{
	json_t *texts = json_pack("[[s, s]]", "caption", text);
	char *raw = texts ? json_dumps(texts, 0) : NULL;
	struct wl_subject s = {.name = "00000-1",
		.source = "news",
		.texts = raw,
		.width = 60,
		.height = 60,
		.bytes = 1000};

	if (!raw)
		fail_msg("not UTF-8: %s", text);
	OK(wl_rules_judge(r, &s, o, &err));
	free(raw);
	json_decref(texts);
}

static bool has_reason(const struct wl_outcome *o, const char *reason)
{
	for (size_t i = 0; i < o->n; i++)
		if (strncmp(o->v[i].reason, reason, strlen(reason)) == 0)
			return true;
	return false;
}

static void junk(void **state)
{
	static struct texts good;
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_with(&tmp, "");
	size_t wrong[JUNKS] = {0}, any = 0;
	int shown = 0;

	(void)state;
	load_good(&good);
	for (size_t i = 0; i < good.n; i++) {
		struct wl_outcome o;
		judge(r, good.v[i], &o);
		any += o.n > 0;
		if (o.n && shown++ < 12)
			print_message(
				"  dropped a good one, %s: %s\n", o.v[0].reason, o.v[0].detail);
		for (int k = 0; k < JUNKS; k++)
			wrong[k] += has_reason(&o, junks[k].reason);
		wl_outcome_release(&o);
	}
	print_message("%zu of %zu good texts were dropped\n%-18s %9s %9s\n", any, good.n, "kind",
		"precision", "recall");
	assert_true(any * 100 <= good.n);
	for (int k = 0; k < JUNKS; k++) {
		size_t planted = 0, found = 0;
		double precision, recall;
		shown = 0;
		for (size_t i = 0; i < good.n; i++) {
			char text[PLANT_MAX];
			struct wl_outcome o;
			bool ok;
			if (strlen(good.v[i]) < 18 || !make_junk((enum junk)k, i, good.v[i], text))
				continue;
			judge(r, text, &o);
			ok = has_reason(&o, junks[k].reason);
			if (!ok && shown++ < 3)
				print_message("  missed %s: %s\n", junks[k].name, text);
			planted++;
			found += ok;
			wl_outcome_release(&o);
		}
		/* As many good texts as planted ones. */
		recall = (double)found / (double)planted;
		precision = (double)found /
			    ((double)found + (double)wrong[k] * (double)planted / (double)good.n);
		print_message("%-18s %9.4f %9.4f\n", junks[k].name, precision, recall);
		if (precision < 0.99 || recall < 0.97)
			fail_msg("%s: precision %.4f, recall %.4f", junks[k].name, precision,
				recall);
	}
	release_texts(&good);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* ---- sensitive words in disguise ---- */

static const char own_words[] =
	"代开发票\n六合彩\n赌博网站\n枪支弹药\n毒品交易\n裸聊\n发票代理\n假身份证\n"
	"casino\nviagra\nporn\nonlinebet\n加薇信号\n刻章办证\n香港马会\nadult vip\n";

static void sensitive(void **state)
{
	static const char *const tricks[PLANT_TRICKS] = {"plain", "signs", "emoji", "zero-width",
		"spaces", "full-width", "capitals", "digits", "Cyrillic"};
	static struct texts good;
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r;
	char path[512], *words, *next;
	size_t wrong = 0;

	(void)state;
	tmp_write(tmp_path(&tmp, "words.txt", path), own_words);
	r = rules_with(&tmp, "sensitive: {own: {file: words.txt}}\n");
	load_good(&good);
	for (size_t i = 0; i < good.n; i++) {
		struct wl_outcome o;
		judge(r, good.v[i], &o);
		wrong += has_reason(&o, "sensitive-own");
		wl_outcome_release(&o);
	}
	for (int t = 0; t < PLANT_TRICKS; t++) {
		size_t planted = 0, found = 0;
		words = strdup(own_words);
		for (char *w = strtok_r(words, "\n", &next); w; w = strtok_r(NULL, "\n", &next))
			for (uint64_t i = 0; i < 60; i++) {
				const char *host = good.v[wl_rand64(4, i, planted) % good.n];
				char hidden[PLANT_MAX], text[3 * PLANT_MAX], part[PLANT_MAX];
				struct wl_outcome o;
				plant_disguise(w, t, i * 31 + planted, hidden);
				/* Between letters of the host; words of Latin letters need room. */
				snprintf(text, sizeof(text), "%s%s%s%s%s", i % 2 ? "今天" : "看 ",
					(unsigned char)*w < 0x80 ? " " : "", hidden,
					(unsigned char)*w < 0x80 ? " " : "",
					head_of(host, 120, part));
				judge(r, text, &o);
				planted++;
				if (has_reason(&o, "sensitive-own"))
					found++;
				else
					print_message("  missed %s: %s\n", tricks[t], text);
				wl_outcome_release(&o);
			}
		free(words);
		print_message("%-12s recall %.4f of %zu\n", tricks[t],
			(double)found / (double)planted, planted);
		assert_int_equal(found, planted);
	}
	print_message("false finds in %zu good texts: %zu\n", good.n, wrong);
	assert_true(wrong * 2000 <= good.n);
	release_texts(&good);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(junk),
		cmocka_unit_test(sensitive),
	};
	return cmocka_run_group_tests(tests, open_text, close_text);
}
