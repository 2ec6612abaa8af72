/* What is more than a number: addresses of e-mail and of houses, ids, plates. */
#include "clean/personal_priv.h"

/* ---- e-mail ---- */

static bool mail_local(uint32_t c)
{
	c = wl_half(c);
	return c && c < 0x80 && (wl_letter_or_digit(c) || strchr("._%+-", (int)c));
}

bool wl_email_at(const struct wl_cps *t, size_t i, size_t floor, struct wl_span *s)
{
	size_t k = i + 1, label = i + 1, before = 0, behind = 0;
	bool alpha = true;

	while (i - before > floor && before < 64 && mail_local(t->c[i - before - 1]))
		before++;
	for (; k < t->n && k - i < 255; k++) {
		uint32_t c = wl_half(t->c[k]);
		bool end_of_label = c == '.' && k > label;
		if (end_of_label && label > i + 1 && alpha && k - label >= 2)
			behind = k - i - 1;
		if (end_of_label) {
			label = k + 1;
			alpha = true;
		} else if (c < 0x80 && (wl_letter_or_digit(c) || c == '-')) {
			alpha = alpha && wl_ascii_alpha(c);
		} else {
			break;
		}
	}
	if (label > i + 1 && alpha && k - label >= 2)
		behind = k - i - 1;
	*s = (struct wl_span){i - before, i + 1 + behind};
	return before > 0 && behind > 0;
}

/* ---- WeChat ---- */

bool wl_wechat_before(const struct wl_cps *t, size_t i, bool *marked)
{
	static const char *const words[] = {"微信", "威信", "薇信", "徽信", "維信", "v信", "微 信",
		"微x", "vx", "wx", "weixin", "wechat", "加v", "加微", "加薇", "薇❤", "v❤", NULL};
	/* These are said of an account alone. */
	static const char *const sure[] = {
		"v信", "vx", "wx", "加v", "加微", "加薇", "威信", "薇信", "徽信", NULL};
	static const char fill[] = " :号码是为id(=+【[搜索→";
	bool unused;
	size_t at = wl_word_before(t, i, words, fill, marked);

	if (at == SIZE_MAX || (at > 0 && wl_ascii_alpha(wl_half(t->c[at])) &&
				      wl_ascii_alpha(wl_half(t->c[at - 1]))))
		return false;
	*marked |= wl_word_before(t, i, sure, fill, &unused) != SIZE_MAX;
	return true;
}

bool wl_wechat_at(const struct wl_cps *t, size_t i, struct wl_span *s)
{
	static const char *const no_ids[] = {"wechat", "weixin", "android", "iphone", "windows",
		"official", "online", "mini program", "pay", NULL};
	size_t n = 0;
	bool marked, digit = false;

	if (i > 0 && (wl_ascii_alpha(wl_half(t->c[i - 1])) || wl_digit(t->c[i - 1]) >= 0 ||
			     t->c[i - 1] == '_'))
		return false;
	if (!wl_wechat_before(t, i, &marked))
		return false;
	for (; i + n < t->n; n++) {
		uint32_t c = wl_half(t->c[i + n]);
		if (c >= 0x80 || !(wl_letter_or_digit(c) || c == '_' || c == '-'))
			break;
		digit |= wl_digit(c) >= 0 || c == '_';
	}
	for (const char *const *w = no_ids; *w; w++)
		if (wl_word_at(t, i, *w) == n)
			return false;
	*s = (struct wl_span){i, i + n};
	return n >= 6 && n <= 20 && (marked || digit);
}

/* ---- addresses ---- */

/* Chinese numerals and letters that number houses. */
static bool house_numeral(uint32_t c)
{
	switch (c) {
	case 0x4e00: /* 一 */
	case 0x4e8c:
	case 0x4e09:
	case 0x56db:
	case 0x4e94:
	case 0x516d:
	case 0x4e03:
	case 0x516b:
	case 0x4e5d: /* 九 */
	case 0x5341: /* 十 */
	case 0x767e: /* 百 */
	case 0x3007: /* 〇 */
	case 0x96f6: /* 零 */
	case 0x7532: /* 甲 */
	case 0x4e59:
	case 0x4e19:
	case 0x4e01: /* 丁 */
		return true;
	default:
		return false;
	}
}

struct house {
	size_t end;
	int parts;
	bool street; /* the first part is 号 or 弄 */
	bool building, fine;
	bool block; /* a part is 栋 or the like, behind which a bare number is a room */
};

/* One "12号", "3栋", "501室"; its length, or 0. */
static size_t part_at(const struct wl_cps *t, size_t i, struct house *h)
{
	static const struct {
		const char *unit;
		bool street, building, fine;
	} units[] = {{"号楼", false, true, false}, {"號樓", false, true, false},
		{"号院", true, true, false}, {"弄", true, true, false}, {"栋", false, true, false},
		{"棟", false, true, false}, {"幢", false, true, false}, {"座", false, true, false},
		{"单元", false, true, true}, {"單元", false, true, true},
		{"层", false, false, false}, {"楼", false, false, false},
		{"室", false, false, true}, {"户", false, false, true}, {"房", false, false, true},
		{"号", true, true, false}, {"號", true, true, false}};
	size_t n = 0, m;

	while (i + n < t->n && n < 6 &&
		(wl_digit(t->c[i + n]) >= 0 || house_numeral(t->c[i + n]) ||
			(n < 2 && wl_ascii_alpha(wl_half(t->c[i + n])))))
		n++;
	if (!n)
		return 0;
	for (size_t k = 0; k < sizeof(units) / sizeof(*units); k++) {
		m = wl_word_at(t, i + n, units[k].unit);
		if (!m)
			continue;
		/* 3室2厅 is how large a flat is; 501室 is which one. */
		if (units[k].fine && !units[k].building && n < 2)
			return 0;
		if (h->parts == 0)
			h->street = units[k].street;
		h->building |= units[k].building;
		h->block |= units[k].building && !units[k].street;
		h->fine |= units[k].fine;
		return n + m;
	}
	/* "3栋501": a room without the word. */
	if (h->block && h->parts && n >= 3 && n <= 4 && wl_digit(t->c[i]) >= 0 &&
		(i + n == t->n || !wl_letter_or_digit(t->c[i + n])) &&
		(i + n + 1 >= t->n || wl_half(t->c[i + n]) != '-' ||
			wl_digit(t->c[i + n + 1]) < 0)) {
		h->fine = true;
		return n;
	}
	return 0;
}

static struct house house_at(const struct wl_cps *t, size_t i)
{
	struct house h = {.end = i};
	size_t n;

	while ((n = part_at(t, h.end, &h)) > 0) {
		h.parts++;
		h.end += n;
		/* "3号楼-2单元", "3号楼 501室" */
		if (h.end + 1 < t->n && (wl_half(t->c[h.end]) == '-' || t->c[h.end] == ' ')) {
			struct house next = h;
			n = part_at(t, h.end + 1, &next);
			if (!n)
				break;
			h.end++;
		}
	}
	return h;
}

static bool ends_road(uint32_t c)
{
	static const char roads[] = "路街道巷弄胡同里村段";
	size_t at = 0;

	while (at < sizeof(roads) - 1)
		if (wl_utf8_next(roads, sizeof(roads) - 1, &at, NULL) == c)
			return true;
	return false;
}

enum { ADDRESS_BACK = 28, NAME_BACK = 6 };

/* Where the words of the address begin: at the province's or city's name when one stands in the
 * same run of letters, behind a word that announces an address, or a few letters back. */
static size_t address_start(const struct wl_cps *t, size_t i, size_t floor, bool *announced)
{
	static const char *const places[] = {"北京", "上海", "天津", "重庆", "河北", "山西", "辽宁",
		"吉林", "黑龙江", "江苏", "浙江", "安徽", "福建", "江西", "山东", "河南", "湖北",
		"湖南", "广东", "海南", "四川", "贵州", "云南", "陕西", "甘肃", "青海", "内蒙古",
		"广西", "西藏", "宁夏", "新疆", "香港", "澳门", "台湾", "广州", "深圳", NULL};
	static const char *const heralds[] = {"住址", "地址", "家住", "住在", "寄到", "寄至",
		"送到", "收货", "收件", "户籍", "居住", "现住", "位于", NULL};
	size_t from = i, place = SIZE_MAX, herald = SIZE_MAX, sign = 0, n;

	while (from > floor && i - from < ADDRESS_BACK &&
		(wl_letter_or_digit(t->c[from - 1]) || wl_half(t->c[from - 1]) == ':' ||
			t->c[from - 1] == ' '))
		from--;
	*announced = false;
	for (size_t k = from; k < i; k++) {
		for (const char *const *w = places; *w && place == SIZE_MAX; w++)
			if (wl_word_at(t, k, *w))
				place = k;
		/* 海淀区: a district's name has two letters or three. */
		if (place == SIZE_MAX && k >= from + 2 && k + 2 < i &&
			(t->c[k] == 0x5e02 || t->c[k] == 0x533a || t->c[k] == 0x53bf))
			place = k - 2 - (k > from + 2 && wl_is_cjk(t->c[k - 3]));
		for (const char *const *w = heralds; *w; w++)
			if ((n = wl_word_at(t, k, *w)) != 0) {
				herald = k + n;
				/* 位于 is said of shops and sights as well. */
				*announced |= strcmp(*w, "位于") != 0;
			}
		if (wl_half(t->c[k]) == ':' || t->c[k] == ' ')
			sign = k + 1;
	}
	if (place != SIZE_MAX && place < sign)
		place = SIZE_MAX;
	if (herald != SIZE_MAX && herald < sign)
		herald = sign;
	if (herald != SIZE_MAX && (place == SIZE_MAX || place < herald))
		return herald < i ? herald : i;
	if (place != SIZE_MAX)
		return place;
	from = from < sign ? sign : from;
	return i - from > NAME_BACK ? i - NAME_BACK : from;
}

bool wl_address_at(const struct wl_cps *t, size_t i, size_t floor, struct wl_span *s)
{
	uint32_t c = t->c[i];
	struct house h;
	bool announced;

	if (wl_digit(c) < 0 && !house_numeral(c) && !wl_ascii_alpha(wl_half(c)))
		return false;
	if (i > floor &&
		(wl_digit(t->c[i - 1]) >= 0 || house_numeral(t->c[i - 1]) ||
			wl_ascii_alpha(wl_half(t->c[i - 1])) || t->c[i - 1] == 0x7b2c /* 第 */))
		return false;
	h = house_at(t, i);
	if (!h.parts || (h.end < t->n && t->c[h.end] == 0x7ebf /* 号线 */))
		return false;
	*s = (struct wl_span){address_start(t, i, floor, &announced), h.end};
	if (h.parts >= 2 && h.building && h.fine)
		return true;
	return h.street && announced && i > floor && ends_road(t->c[i - 1]);
}

/* ---- licence plates ---- */

/* GA 36: province, authority, then five of letters (no I, O) and digits; six on green ones. */
bool wl_plate_at(const struct wl_cps *t, size_t i, struct wl_span *s)
{
	static const char provinces[] =
		"京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
		"滬雲遼魯蘇贛陝閩貴瓊寧";
	static const char tails[] = "学警挂港澳";
	size_t at = 0, k = i + 1, n = 0, digits = 0;
	bool province = false;

	if (k >= t->n || !wl_ascii_alpha(wl_half(t->c[k])))
		return false;
	while (at < sizeof(provinces) - 1 && !province)
		province = wl_utf8_next(provinces, sizeof(provinces) - 1, &at, NULL) == t->c[i];
	if (!province)
		return false;
	k++;
	if (k < t->n && (t->c[k] == 0xb7 || t->c[k] == 0x2022 || t->c[k] == 0x30fb ||
				t->c[k] == '.' || t->c[k] == ' ' || wl_half(t->c[k]) == '-'))
		k++;
	for (; k + n < t->n; n++) {
		uint32_t c = wl_half(t->c[k + n]), low = c | 32;
		if (wl_digit(c) < 0 && (!wl_ascii_alpha(c) || low == 'i' || low == 'o'))
			break;
		digits += wl_digit(c) >= 0;
	}
	for (at = 0; n == 4 && k + n < t->n && at < sizeof(tails) - 1;)
		n += wl_utf8_next(tails, sizeof(tails) - 1, &at, NULL) == t->c[k + 4];
	*s = (struct wl_span){i, k + n};
	return (n == 5 || n == 6) && digits >= 2 &&
	       (k + n == t->n || !(wl_ascii_alpha(wl_half(t->c[k + n])) || t->c[k + n] == '_'));
}
