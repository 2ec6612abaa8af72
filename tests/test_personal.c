/* clean/personal: each kind planted in thousands of texts and near misses of it; precision and
 * recall are measured and must stay; real posts. */
#include "clean/text.h"
#include "ops/file.h"
#include "tests/support/cleaning.h"
#include "tests/support/cm.h"
#include "tests/support/plant.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void clean(
	const char *text, unsigned look, unsigned mask, struct wl_buf *out, struct wl_text_facts *f)
{
	struct wl_text_work w = {.look = look, .mask = mask};

	wl_buf_release(out);
	OK(wl_text_clean(tx, &w, text, strlen(text), out, f, &err));
}

static void by_hand(void **state)
{
	static const struct {
		const char *text, *want;
		enum wl_personal kind;
	} t[] = {
		{"手机13812345678转", "手机***转", WL_MOBILE},
		{"+86 138 1234 5678。", "+***。", WL_MOBILE},
		{"一三八一二三四五六七八", "***", WL_MOBILE},
		{"电话：010-62345678转801", "电话：***", WL_LANDLINE},
		{"（0755）86234567", "***", WL_LANDLINE},
		{"联系电话 6234567", "联系电话 ***", WL_LANDLINE},
		{"证件 110105 19491231 002X。", "证件 ***。", WL_ID_CARD},
		{"身份证：110105491231002", "身份证：***", WL_ID_CARD},
		{"卡号：4111111111111111", "卡号：***", WL_BANK_CARD},
		{"a.b＠ｑｑ．ｃｏｍ呢", "***呢", WL_EMAIL},
		{"扣扣：12345678", "扣扣：***", WL_QQ},
		{"加我 QQ12345678", "加我 QQ***", WL_QQ},
		{"微信：abcdefg", "微信：***", WL_WECHAT},
		{"v信13812345", "v信***", WL_WECHAT},
		{"家住北京市海淀区中关村大街27号，很近", "家住***，很近", WL_ADDRESS},
		{"寄到阳光花园3栋2单元501室吧", "寄到***吧", WL_ADDRESS},
		{"撞了京A·12345就跑", "撞了***就跑", WL_PLATE},
		{"粤BD12345", "***", WL_PLATE},
	};
	struct wl_text_facts f;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 10000);
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		clean(t[i].text, WL_PERSONAL_ALL, WL_PERSONAL_ALL, &b, &f);
		if (strcmp(wl_buf_str(&b), t[i].want) != 0 || f.personal[t[i].kind] != 1)
			fail_msg("\"%s\" became \"%s\", expected \"%s\" and one %s", t[i].text,
				wl_buf_str(&b), t[i].want, wl_personal_names[t[i].kind]);
		/* Counted and kept when it is not to be masked. */
		clean(t[i].text, WL_PERSONAL_ALL, 0, &b, &f);
		assert_string_equal(wl_buf_str(&b), t[i].text);
		assert_int_equal(f.personal[t[i].kind], 1);
	}
	wl_buf_release(&b);
}

/* Of `n` planted texts those whose secret is gone and counted, once; of `n` misses those left. */
static void measures(void **state)
{
	enum { N = 3000 };
	struct wl_text_facts f;
	struct wl_buf b;
	int shown = 0;

	(void)state;
	wl_buf_init(&b, 10000);
	print_message("%-10s %9s %9s\n", "kind", "precision", "recall");
	for (int k = 0; k < WL_PERSONAL_KINDS; k++) {
		int found = 0, wrong = 0;
		double precision, recall;
		for (uint64_t i = 0; i < N; i++) {
			struct plant p = plant_personal((enum wl_personal)k, false, i);
			struct plant m = plant_personal((enum wl_personal)k, true, i);
			bool ok;
			clean(p.text, WL_PERSONAL_ALL, WL_PERSONAL_ALL, &b, &f);
			ok = f.personal[k] == 1 && !strstr(wl_buf_str(&b), p.secret);
			found += ok;
			if (!ok && shown++ < 40)
				print_message("  missed %s: %s -> %s\n", wl_personal_names[k],
					p.text, wl_buf_str(&b));
			clean(m.text, WL_PERSONAL_ALL, WL_PERSONAL_ALL, &b, &f);
			ok = f.personal[k] == 0;
			wrong += !ok;
			if (!ok && shown++ < 40)
				print_message("  wrong %s: %s -> %s\n", wl_personal_names[k],
					m.text, wl_buf_str(&b));
		}
		precision = (double)found / (found + wrong);
		recall = (double)found / N;
		print_message("%-10s %9.4f %9.4f\n", wl_personal_names[k], precision, recall);
		if (precision < 0.99 || recall < 0.99)
			fail_msg("%s: precision %.4f, recall %.4f; 0.99 is asked for",
				wl_personal_names[k], precision, recall);
	}
	wl_buf_release(&b);
}

/* Real posts: how many of each, so that a reader can judge; cleaning again changes nothing. */
static void real_posts(void **state)
{
	static const char *const files[] = {"weibo_posts.jsonl", "weibo_reposts.jsonl",
		"wiki_zh_hans.jsonl", "news_docs_sogou.jsonl"};
	struct wl_text_facts f;
	struct wl_buf b, again;

	(void)state;
	if (!wl_exists("../shared/data/text/weibo_posts.jsonl"))
		SKIP("../shared/data/text is missing");
	wl_buf_init(&b, 1 << 20);
	wl_buf_init(&again, 1 << 20);
	for (size_t i = 0; i < 4; i++) {
		int n[WL_PERSONAL_KINDS] = {0}, texts = 0;
		char path[200], *line = NULL;
		size_t cap = 0;
		FILE *in;
		snprintf(path, sizeof(path), "../shared/data/text/%s", files[i]);
		in = fopen(path, "r");
		assert_non_null(in);
		while (getline(&line, &cap, in) > 0) {
			json_t *o = json_loads(line, 0, NULL);
			const char *text = json_string_value(json_object_get(o, "text"));
			if (!text) /* one article of Sogou's has a NUL in it */
				text = "";
			clean(text, WL_PERSONAL_ALL, WL_PERSONAL_ALL, &b, &f);
			for (int k = 0; k < WL_PERSONAL_KINDS; k++) {
				n[k] += f.personal[k];
				if (f.personal[k] && getenv("WL_SHOW"))
					printf("%s\t%s\t%s\n", wl_personal_names[k], text,
						wl_buf_str(&b));
			}
			texts++;
			clean(wl_buf_str(&b), WL_PERSONAL_ALL, WL_PERSONAL_ALL, &again, &f);
			assert_string_equal(wl_buf_str(&again), wl_buf_str(&b));
			json_decref(o);
		}
		print_message("%s, %d texts:", files[i], texts);
		for (int k = 0; k < WL_PERSONAL_KINDS; k++)
			print_message(" %s %d", wl_personal_names[k], n[k]);
		print_message("\n");
		/* An encyclopedia has no private numbers: what is found there is a mistake. */
		if (i == 2)
			for (int k = 0; k < WL_PERSONAL_KINDS; k++)
				if (n[k] * 100 > texts)
					fail_msg("%d %s in an encyclopedia", n[k],
						wl_personal_names[k]);
		free(line);
		fclose(in);
	}
	wl_buf_release(&b);
	wl_buf_release(&again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(measures),
		cmocka_unit_test(real_posts),
	};
	return cmocka_run_group_tests(tests, open_text, close_text);
}
