/* See junk.h. */
#include "tests/support/junk.h"

#include "ops/hash.h"
#include "tests/support/cm.h"

#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct junk_kind junks[JUNKS] = {{"advertisement", "text-ad"},
	{"UTF-8 as GBK", "text-garbled"}, {"UTF-8 as Latin-1", "text-garbled"},
	{"GBK as Latin-1", "text-garbled"}, {"repetition", "text-repetition"},
	{"signs", "text-symbols"}, {"file name", "text-file-name"}, {"foreign", "text-foreign"},
	{"run of a letter", "text-repetition"}};

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

void load_good(struct texts *t)
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

void release_texts(struct texts *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
}

const char *head_of(const char *s, size_t max, char out[PLANT_MAX])
{
	size_t n = strlen(s) < max ? strlen(s) : max;

	while (n && n < strlen(s) && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	memcpy(out, s, n);
	out[n] = 0;
	return out;
}

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

bool make_junk(enum junk kind, uint64_t seed, const char *good, char out[PLANT_MAX])
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
