/* What a newsroom puts around a text and is no part of what it says. */
#include "clean/text_cut.h"

enum { DATELINE_MAX = 32, CREDIT_MAX = 40, TAIL_MAX = 48 };

static bool has_word(const struct wl_cps *t, size_t from, size_t to, const char *const *words)
{
	for (size_t i = from; i < to; i++)
		for (const char *const *w = words; *w; w++) {
			size_t n = wl_word_at(t, i, *w);
			if (n && i + n <= to)
				return true;
		}
	return false;
}

/* The closing bracket of the one at i, within CREDIT_MAX; or 0. */
static size_t bracket_end(const struct wl_cps *t, size_t i)
{
	static const uint32_t pairs[][2] = {
		{'(', ')'}, {0xff08, 0xff09}, {'[', ']'}, {0x3010, 0x3011}, {0x3014, 0x3015}};
	uint32_t close = 0;

	for (size_t k = 0; k < sizeof(pairs) / sizeof(*pairs); k++)
		if (pairs[k][0] == t->c[i])
			close = pairs[k][1];
	for (size_t k = i + 1; close && k < t->n && k - i <= CREDIT_MAX; k++) {
		if (t->c[k] == close || wl_half(t->c[k]) == wl_half(close))
			return k + 1;
		if (t->c[k] == t->c[i])
			return 0;
	}
	return 0;
}

/* "新华社北京3月5日电（记者张三）", "本报讯 ": its length, or 0.  Up to 电 or 讯 stand no other
 * signs, and an agency or a paper is named. */
static size_t dateline_at(const struct wl_cps *t)
{
	static const char *const names[] = {"社", "网", "報", "报", "記者", "记者", "网讯", NULL};
	size_t end = 0, close;

	for (size_t i = 0; i < t->n && i < DATELINE_MAX; i++) {
		uint32_t c = t->c[i], next = i + 1 < t->n ? wl_half(t->c[i + 1]) : 0;
		if ((c == 0x7535 /* 电 */ || c == 0x96fb || c == 0x8baf /* 讯 */ || c == 0x8a0a) &&
			(next == ' ' || next == '(' || next == ':' || next == 0x3011) &&
			has_word(t, 0, i, names)) {
			end = i + 1;
			break;
		}
		if (!wl_letter_or_digit(c) && c != ' ' && c != 0x3010 && c != 0xb7)
			return 0;
	}
	if (!end)
		return 0;
	end += t->c[end] == 0x3011;
	if (end < t->n && (close = bracket_end(t, end)))
		end = close;
	while (end < t->n && (wl_half(t->c[end]) == ':' || t->c[end] == ' '))
		end++;
	return end;
}

/* "（新华社记者 张三 摄）", "【资料图】". */
static size_t credit_at(const struct wl_cps *t, size_t i)
{
	static const char *const words[] = {"记者", "記者", "编辑", "編輯", "责编", "摄影", "攝影",
		" 摄)", "摄)", "供图", "资料图", "图源", "来源", "通讯员", "图/", "文/", "实习生",
		NULL};
	size_t end = bracket_end(t, i);

	return end && has_word(t, i, end, words) ? end - i : 0;
}

/* "责任编辑：某某" and all behind it, near the end. */
static bool tail_at(const struct wl_cps *t, size_t i)
{
	static const char *const words[] = {"责任编辑", "責任編輯", "责编", "本文编辑",
		"编辑:", "校对:", "审核:", "来源:", "值班编辑", NULL};

	if (t->n - i > TAIL_MAX)
		return false;
	for (const char *const *w = words; *w; w++)
		if (wl_word_at(t, i, *w))
			return true;
	return false;
}

void wl_cut_bylines(struct wl_cps *t, struct wl_text_facts *facts)
{
	size_t read = dateline_at(t), write = 0;

	facts->cut[WL_CUT_BYLINE] += read > 0;
	while (read < t->n) {
		size_t n = credit_at(t, read);
		if (n || (read > 0 && tail_at(t, read)))
			facts->cut[WL_CUT_BYLINE]++;
		if (!n && read > 0 && tail_at(t, read))
			break;
		read += n;
		if (n)
			t->c[write++] = ' ';
		else
			t->c[write++] = t->c[read++];
	}
	t->n = write;
}
