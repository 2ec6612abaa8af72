/* Any bytes as a rules file: it is refused with a sentence, or judges a pair. */
#include "clean/rules.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct wl_text *tx;
	struct wl_subject s = {.name = "00000-1",
		.source = "weibo",
		.width = 30,
		.height = 90,
		.bytes = 1000,
		.texts = "[[\"caption\",\"#春天# @小明 看13812345678 包邮 http://t.cn/x\"],"
			 "[\"title\",\"b@dc0 敏*感 词\"]]"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_outcome o;
	struct wl_rules *r;

	if (!tx)
		tx = wl_text_open(NULL);
	if (n > 4096)
		return 0;
	r = wl_rules_parse((const char *)data, n, "fuzz/rules.yaml", tx, &err);
	if (!r) {
		if (!err.msg[0] || err.code == WL_OK)
			abort();
		return 0;
	}
	if (wl_rules_use_scores(r, NULL, NULL, NULL) == 0) {
		if (wl_rules_judge(r, &s, &o, &err) < 0)
			abort();
		wl_outcome_release(&o);
	}
	wl_rules_free(r);
	return 0;
}
