/* See rule.h. */
#include "clean/topics/rule.h"

#include "ops/file.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

/* A path of the rules counts from their own folder. */
static char *beside(const char *rules, const char *file, struct wl_err *err)
{
	const char *slash = strrchr(rules, '/');
	char *dir = wl_strf(err, "%.*s", slash ? (int)(slash - rules) : 1, slash ? rules : ".");
	char *full = dir ? wl_path_join(dir, file, err) : NULL;

	free(dir);
	return full;
}

int wl_topic_rule_read(struct wl_topic_rule *t, const json_t *o, const char *rules,
	const char *where, json_t *hashes, struct wl_err *err)
{
	static const char *const known[] = {"model", "labels", "max_unwanted", NULL};
	const char *model, *labels;
	char *dir = NULL, *file = NULL;
	json_t *params;
	int ret = -1;

	memset(t, 0, sizeof(*t));
	if (!o)
		return 0;
	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(wl_json_str(o, "model", where, &model, err));
	WL_TRY(wl_json_str_or(o, "labels", where, NULL, &labels, err));
	WL_TRY(wl_json_num_or(o, "max_unwanted", where, 0.5, &t->max_unwanted, err));
	if (!(t->max_unwanted >= 0 && t->max_unwanted <= 1))
		return wl_err_set(err, WL_EUSAGE,
			"%s: \"max_unwanted\" is %g, expected a share from 0 to 1.", where,
			t->max_unwanted);
	dir = beside(rules, model, err);
	file = labels && dir ? beside(rules, labels, err) : NULL;
	if (!dir || (labels && !file))
		goto out;
	t->topics = wl_topics_open(dir, file, err);
	params = t->topics ? wl_topics_params(t->topics, err) : NULL;
	if (!params)
		goto out;
	ret = json_object_set_new(hashes, "topics", params) < 0 ? wl_err_nomem(err, "rules", 0) : 0;
out:
	free(dir);
	free(file);
	if (ret < 0)
		wl_topic_rule_release(t);
	return ret;
}

void wl_topic_rule_release(struct wl_topic_rule *t)
{
	wl_topics_close(t->topics);
	memset(t, 0, sizeof(*t));
}
