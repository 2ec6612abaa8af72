/* See plant.h. */
#include "tests/support/plant.h"

#include "clean/utf8.h"
#include "ops/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A stream of numbers. */
struct dice {
	uint64_t seed, i;
};

static uint64_t roll(struct dice *d, uint64_t n)
{
	return wl_rand64(d->seed, 77, d->i++) % n;
}

#define PICK(d, list) ((list)[roll(d, sizeof(list) / sizeof(*(list)))])

static void digits(struct dice *d, char *out, int n, char first_low)
{
	for (int i = 0; i < n; i++)
		out[i] = (char)('0' + roll(d, 10));
	if (n && out[0] < first_low)
		out[0] = (char)(first_low + roll(d, (uint64_t)('9' - first_low + 1)));
	out[n] = 0;
}

/* ASCII digits and letters as full-width ones. */
static void widen(const char *s, char *out)
{
	for (; *s; s++)
		out += wl_utf8_put(
			*s > ' ' && *s < 127 ? (uint32_t)*s + 0xfee0 : (uint32_t)*s, out);
	*out = 0;
}

/* Cuts at most n bytes, between characters. */
static void put(char *out, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void put(char *out, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out, n, fmt, ap);
	va_end(ap);
}

/* ---- numbers ---- */

static void mobile_digits(struct dice *d, char out[12])
{
	static const char *const series[] = {"130", "131", "135", "138", "139", "145", "147", "150",
		"152", "155", "158", "162", "166", "170", "173", "176", "178", "180", "182", "185",
		"187", "189", "191", "193", "198", "199"};

	memcpy(out, PICK(d, series), 3);
	digits(d, out + 3, 8, '0');
}

static void mobile(struct dice *d, char *out)
{
	static const char numerals[][4] = {
		"零", "一", "二", "三", "四", "五", "六", "七", "八", "九"};
	char n[12];

	mobile_digits(d, n);
	switch (roll(d, 8)) {
	case 0:
		put(out, 64, "%.3s-%.4s-%s", n, n + 3, n + 7);
		break;
	case 1:
		put(out, 64, "%.3s %.4s %s", n, n + 3, n + 7);
		break;
	case 2:
		put(out, 64, "86%s", n);
		break;
	case 3:
		put(out, 64, "86-%s", n);
		break;
	case 4:
		widen(n, out);
		break;
	case 5:
		*out = 0;
		for (int i = 0; i < 11; i++)
			strcat(out, numerals[n[i] - '0']);
		break;
	default:
		strcpy(out, n);
	}
}

static void mobile_miss(struct dice *d, char *out)
{
	char n[12], more[12];

	mobile_digits(d, n);
	digits(d, more, 6, '1');
	switch (roll(d, 9)) {
	case 0:
		put(out, 64, "订单%s%s", more, n);
		break;
	case 1:
		put(out, 64, "编号%s%c", n, more[0]);
		break;
	case 2:
		put(out, 64, "共%.10s元", n);
		break;
	case 3:
		put(out, 64, "圆周率3.%s", n);
		break;
	case 4:
		put(out, 64, "校验码a%sf", n);
		break;
	case 5:
		put(out, 64, "数据12%.9s", n + 2);
		break;
	case 6:
		put(out, 64, "票号2020-%s-01", n);
		break;
	case 7:
		put(out, 64, "时间2013%.8s02", "08123456");
		break;
	default:
		put(out, 64, "营收%.2s,%.3s,%.3s,%.3s元", n, n + 2, n + 5, n + 8);
	}
}

static void landline(struct dice *d, char *out)
{
	static const char *const eight[] = {"010", "021", "020", "0755", "0571", "028"};
	static const char *const seven[] = {"0431", "0471", "0895", "0931"};
	char n[10];

	digits(d, n, 8, '2');
	n[0] = (char)('2' + roll(d, 7));
	switch (roll(d, 7)) {
	case 0:
		put(out, 64, "(%s)%s", PICK(d, eight), n);
		break;
	case 1:
		put(out, 64, "（%s） %s", PICK(d, eight), n);
		break;
	case 2:
		put(out, 64, "%s%s", PICK(d, eight), n);
		break;
	case 3:
		put(out, 64, "%s-%s-%.3s", PICK(d, eight), n, n + 2);
		break;
	case 4:
		put(out, 64, "%s-%.7s", PICK(d, seven), n);
		break;
	case 5:
		put(out, 64, "%s-%.4s-%s", PICK(d, eight), n, n + 4);
		break;
	default:
		put(out, 64, "%s-%s", PICK(d, eight), n);
	}
}

static void landline_miss(struct dice *d, char *out)
{
	char n[10];

	digits(d, n, 8, '2');
	switch (roll(d, 7)) {
	case 0:
		put(out, 64, "日期2010-%c-1%c", n[0], n[1]);
		break;
	case 1:
		put(out, 64, "编号%s", n);
		break;
	case 2:
		put(out, 64, "比率0.01%.7s", n);
		break;
	case 3:
		put(out, 64, "代码010-%.4s", n);
		break;
	case 4:
		put(out, 64, "型号0%.3s-%.5s", n, n + 3);
		break;
	case 5:
		put(out, 64, "条码690%s%s", n, "00");
		break;
	default:
		put(out, 64, "比分%c:%c，观众%.5s人", n[0], n[1], n);
	}
}

/* With its check character; birth date and province as asked. */
static void id_digits(struct dice *d, bool good_date, bool good_check, char out[19])
{
	static const char *const places[] = {
		"110105", "310101", "440305", "510107", "330102", "420106", "610103", "230102"};
	static const char check[] = "10X98765432";
	static const int weight[] = {7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2};
	int sum = 0;

	memcpy(out, PICK(d, places), 6);
	snprintf(out + 6, 13, "%04d%02d%02d%03d", (int)(1950 + roll(d, 60)),
		good_date ? (int)(1 + roll(d, 12)) : 13, (int)(1 + roll(d, 28)),
		(int)roll(d, 1000));
	for (int i = 0; i < 17; i++)
		sum += (out[i] - '0') * weight[i];
	out[17] = check[good_check ? sum % 11 : (sum + 1 + (int)roll(d, 9)) % 11];
	out[18] = 0;
}

static void id_card(struct dice *d, char *out)
{
	char n[19];

	id_digits(d, true, true, n);
	switch (roll(d, 4)) {
	case 0:
		put(out, 64, "%.6s %.8s %s", n, n + 6, n + 14);
		break;
	case 1:
		widen(n, out);
		break;
	default:
		strcpy(out, n);
	}
}

static void id_miss(struct dice *d, char *out)
{
	char n[19];

	switch (roll(d, 4)) {
	case 0:
		id_digits(d, true, false, n);
		put(out, 64, "流水号%s", n);
		break;
	case 1:
		id_digits(d, false, true, n);
		put(out, 64, "流水号%s", n);
		break;
	case 2:
		id_digits(d, true, true, n);
		put(out, 64, "条码%s9", n);
		break;
	default:
		id_digits(d, true, true, n);
		put(out, 64, "条码9%s", n);
	}
}

/* n digits that begin with `head` and pass Luhn's check, or just not. */
static void card_digits(struct dice *d, const char *head, int n, bool good, char *out)
{
	int sum = 0;

	digits(d, out, n, '0');
	memcpy(out, head, strlen(head));
	for (int i = 1; i < n; i++) {
		int x = (out[n - 1 - i] - '0') * (1 + i % 2);
		sum += x > 9 ? x - 9 : x;
	}
	out[n - 1] = (char)('0' + ((10 - sum % 10) + (good ? 0 : 1 + (int)roll(d, 9))) % 10);
}

static void bank_card(struct dice *d, char *out)
{
	char n[24];

	switch (roll(d, 5)) {
	case 0:
		card_digits(d, "622848", 19, true, n);
		strcpy(out, n);
		break;
	case 1:
		card_digits(d, "621226", 19, true, n);
		put(out, 64, "%.4s %.4s %.4s %.4s %s", n, n + 4, n + 8, n + 12, n + 16);
		break;
	case 2:
		card_digits(d, "4", 16, true, n);
		put(out, 64, "%.4s-%.4s-%.4s-%s", n, n + 4, n + 8, n + 12);
		break;
	case 3:
		card_digits(d, "625955", 16, true, n);
		widen(n, out);
		break;
	default:
		card_digits(d, "622202", 19, true, n);
		put(out, 64, "%.6s %s", n, n + 6);
	}
}

static void bank_miss(struct dice *d, char *out)
{
	char n[24];

	switch (roll(d, 4)) {
	case 0:
		card_digits(d, "622848", 19, false, n);
		put(out, 64, "流水%s", n);
		break;
	case 1:
		card_digits(d, "62", 21, true, n);
		put(out, 64, "流水%s", n);
		break;
	case 2:
		card_digits(d, "4", 16, true, n);
		put(out, 64, "订单%s", n);
		break;
	default:
		card_digits(d, "9", 16, true, n);
		put(out, 64, "%.4s %.4s %.4s %s", n, n + 4, n + 8, n + 12);
	}
}

/* ---- names ---- */

static void email(struct dice *d, char *out)
{
	static const char *const names[] = {"zhang.san", "li_si88", "wangwu", "a1", "x-y.z"};
	static const char *const hosts[] = {
		"qq.com", "163.com", "mail.example.com.cn", "gmail.com"};
	char n[12], plain[64];

	digits(d, n, 9, '1');
	if (roll(d, 3) == 0)
		put(plain, sizeof(plain), "%s@%s", n, PICK(d, hosts));
	else
		put(plain, sizeof(plain), "%s@%s", PICK(d, names), PICK(d, hosts));
	if (roll(d, 5) == 0)
		widen(plain, out);
	else
		strcpy(out, plain);
}

static void email_miss(struct dice *d, char *out)
{
	static const char *const texts[] = {"看@小明 的图", "@all 集合", "价格@3.5", "a@b",
		"me@localhost", "1@2.3", "地点@北京.上海", "@x.com", "两点@老地方.见"};

	strcpy(out, PICK(d, texts));
}

static void qq(struct dice *d, char *head, char *out)
{
	static const char *const heads[] = {"QQ:", "QQ：", "QQ", "qq ", "ＱＱ：", "扣扣", "加扣扣 ",
		"企鹅号", "QQ群 ", "Q群：", "QQ号码是", "球球:"};
	char n[12];

	digits(d, n, (int)(6 + roll(d, 5)), '1');
	if (n[0] == '1' && n[1] >= '3')
		n[1] = '0'; /* no mobile number */
	strcpy(head, PICK(d, heads));
	strcpy(out, n);
}

static void qq_miss(struct dice *d, char *out)
{
	static const char *const texts[] = {"QQ飞车2012", "QQ2013正式版", "用QQ20年", "iq12345678",
		"QQ空间", "腾讯QQ同时在线1234567人", "在QQ音乐听12345678次", "QQ农场 偷菜",
		"FAQ:1234"};

	strcpy(out, PICK(d, texts));
}

static void wechat(struct dice *d, char *head, char *out)
{
	static const char *const heads[] = {"微信：", "微信号", "加微信 ", "vx:", "VX ", "薇信号：",
		"V信", "wx：", "微信号:", "WeChat: ", "加v ", "微信ID："};
	static const char *const ids[] = {"abc_12345", "xiaoming2020", "hello-world1",
		"wxid_9x8y7z", "Li199088", "meimei_520"};

	strcpy(head, PICK(d, heads));
	strcpy(out, PICK(d, ids));
}

static void wechat_miss(struct dice *d, char *out)
{
	static const char *const texts[] = {"微信支付", "微信Android版", "微信 WeChat",
		"微信公众号renminribao1", "关注微信公众平台", "wx相机", "vx 1234", "用微信iPhone版",
		"微信2018", "微信windows版本", "朋友圈abc_12345"};

	strcpy(out, PICK(d, texts));
}

static void address(struct dice *d, char *head, char *out)
{
	static const char *const heads[] = {"地址：", "家住", "寄到", "收货地址 ", "住址:"};
	static const char *const roads[] = {"北京市海淀区中关村大街", "广东省深圳市南山区科技路",
		"上海市浦东新区张杨路", "杭州市西湖区文三路", "成都市武侯区人民南路"};
	int a = (int)(1 + roll(d, 300)), b = (int)(1 + roll(d, 30)), c = (int)(101 + roll(d, 2000));

	strcpy(head, PICK(d, heads));
	switch (roll(d, 6)) {
	case 0:
		put(out, 200, "%s%d号", PICK(d, roads), a);
		break;
	case 1:
		put(out, 200, "%s%d号%d栋%d室", PICK(d, roads), a, b, c);
		break;
	case 2:
		put(out, 200, "%s%d弄%d号%d室", PICK(d, roads), a, b, c);
		break;
	case 3:
		put(out, 200, "阳光花园%d栋%d单元%d室", b, (int)(1 + roll(d, 4)), c);
		break;
	case 4:
		put(out, 200, "%s%d号院%d号楼%d单元%d", PICK(d, roads), a, b, (int)(1 + roll(d, 4)),
			c);
		break;
	default:
		put(out, 200, "万科城%d幢%d室", b, c);
	}
}

static void address_miss(struct dice *d, char *out)
{
	static const char *const texts[] = {"天安门东大街的早晨", "北京路步行街", "地铁2号线",
		"走到3号楼", "第3单元第2课", "三室两厅", "3室2厅2卫", "2栋别墅",
		"故宫位于景山前街4号", "10号选手", "一号公路", "5月3号", "中关村大街27号院的春天",
		"门牌上写着12号", "3号楼3室2厅"};

	strcpy(out, PICK(d, texts));
}

static void plate(struct dice *d, char *out)
{
	static const char *const provinces[] = {"京", "沪", "粤", "苏", "川", "鲁", "浙"};
	char n[8], plain[16];

	digits(d, n, 5, '0');
	n[roll(d, 5)] = "ABCDEFGHJKLMNPQRSTUVWXYZ"[roll(d, 24)];
	switch (roll(d, 5)) {
	case 0:
		put(out, 64, "%sA·%s", PICK(d, provinces), n);
		break;
	case 1:
		put(out, 64, "%sAD%s", PICK(d, provinces), n);
		break;
	case 2:
		put(plain, sizeof(plain), "B%s", n);
		strcpy(out, PICK(d, provinces));
		widen(plain, out + strlen(out));
		break;
	case 3:
		put(out, 64, "%sC%.4s警", PICK(d, provinces), n);
		break;
	default:
		put(out, 64, "%sB%s", PICK(d, provinces), n);
	}
}

static void plate_miss(struct dice *d, char *out)
{
	static const char *const texts[] = {"京ABCDEF", "沪A1234", "苏A12345678", "粤B牌照",
		"京A座12345", "鲁A12I45", "川菜A12345", "浙江A12345", "京A1234567", "藏A区B12"};

	strcpy(out, PICK(d, texts));
}

/* ---- texts ---- */

struct plant plant_personal(enum wl_personal kind, bool miss, uint64_t seed)
{
	static void (*const made[])(struct dice *, char *) = {[WL_MOBILE] = mobile,
		[WL_LANDLINE] = landline,
		[WL_ID_CARD] = id_card,
		[WL_BANK_CARD] = bank_card,
		[WL_EMAIL] = email,
		[WL_PLATE] = plate};
	static void (*const headed[])(struct dice *, char *, char *) = {
		[WL_QQ] = qq, [WL_WECHAT] = wechat, [WL_ADDRESS] = address};
	static void (*const misses[])(struct dice *, char *) = {mobile_miss, landline_miss, id_miss,
		bank_miss, email_miss, qq_miss, wechat_miss, address_miss, plate_miss};
	static const char *const before[] = {"请联系", "图片由网友提供，", "昨天看到的：", "",
		"有问题找我 ", "一辆车停在路边，", "小猫在睡觉。"};
	static const char *const behind[] = {
		"。", "，谢谢", "！", "", " 谢谢大家", "（王先生）", "；下午见"};
	struct dice d = {wl_rand64(seed, (uint64_t)kind, miss), 0};
	struct plant p = {"", ""};
	char head[64] = "", body[PLANT_MAX / 2] = "";

	if (miss)
		misses[kind](&d, body);
	else if (kind == WL_QQ || kind == WL_WECHAT || kind == WL_ADDRESS)
		headed[kind](&d, head, body);
	else
		made[kind](&d, body);
	snprintf(
		p.text, sizeof(p.text), "%s%s%s%s", PICK(&d, before), head, body, PICK(&d, behind));
	if (!miss)
		memcpy(p.secret, body, sizeof(p.secret));
	return p;
}

/* ---- disguises ---- */

static bool latin(uint32_t c)
{
	return (c | 32) >= 'a' && (c | 32) <= 'z';
}

void plant_disguise(const char *word, int trick, uint64_t seed, char out[PLANT_MAX])
{
	static const char *const signs[] = {"*", " ", "-", "·", "_", "★", "/", "~"};
	static const char *const emoji[] = {"🙂", "💰", "❤", "🔥"};
	static const char digit_for[] = "4bcd3f9h1jklmn0pqr57uvwxyz";
	struct dice d = {seed, 0};
	size_t i = 0, n = strlen(word);
	char *o = out;
	int letters = 0;
	bool first = true;

	while (i < n && o - out < PLANT_MAX - 64) {
		uint32_t c = wl_utf8_next(word, n, &i, NULL);
		const char *between = trick == 1   ? PICK(&d, signs)
				      : trick == 2 ? PICK(&d, emoji)
				      : trick == 3 ? "\u200b"
				      : trick == 4 ? " "
						   : "";
		if (!first) {
			strcpy(o, between);
			o += strlen(between);
		}
		first = false;
		if (trick == 5 && c > ' ' && c < 127)
			c += 0xfee0;
		if (trick == 6 && latin(c))
			c ^= 32;
		/* Every third letter, so that enough of them stay. */
		if (trick == 7 && latin(c) && letters++ % 3 == 1)
			c = (uint32_t)digit_for[(c | 32) - 'a'];
		if (trick == 8 && latin(c) && (c | 32) == 'a')
			c = 0x430;
		o += wl_utf8_put(c, o);
	}
	*o = 0;
}
