/* See page_record.h. */
#include "ingest/page_record.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

struct job {
	struct wl_record *r;
	const char *origin;
	int (*find)(void *ctx, struct wl_record *y, const char *url, struct wl_err *err);
	void *ctx;
	struct wl_err *err;
	bool failed; /* what emit does failed, not the page */
};

static int dup(struct wl_record *y, const char **dst, const char *s, struct wl_err *err)
{
	*dst = wl_arena_strdup(&y->mem, s, err);
	return *dst ? 0 : -1;
}

static int fill(const struct job *j, struct wl_record *y, const struct wl_page_pair *p)
{
	struct wl_err *err = j->err;
	char *origin = wl_strf(err, "%s#%s#%s", j->origin, j->r->place, p->image_url);
	int ret = origin ? dup(y, &y->image_origin, origin, err) : -1;
	free(origin);
	WL_TRY(ret);
	y->ordinal = p->ordinal;
	y->pair.fetched_at = j->r->pair.fetched_at;
	WL_TRY(dup(y, &y->pair.url, p->image_url, err));
	WL_TRY(dup(y, &y->pair.page_url, p->page_url, err));
	WL_TRY(dup(y, &y->pair.texts, p->texts, err));
	WL_TRY(dup(y, &y->pair.meta, p->meta, err));
	if (j->find)
		WL_TRY(j->find(j->ctx, y, p->image_url, err));
	if (!y->has_image && !y->reason)
		WL_TRY(wl_record_image_url(y, p->image_url, err));
	return wl_record_finish(y, err);
}

static int emit(void *ctx, const struct wl_page_pair *p)
{
	struct job *j = ctx;
	struct wl_record *y = wl_record_yield(j->r, j->err);
	j->failed = !y || fill(j, y, p) < 0;
	return j->failed ? -1 : 0;
}

static int tally(struct wl_record *r, const struct wl_page_counts *n, struct wl_err *err)
{
	for (int i = 0; i < WL_SKIP_COUNT; i++) {
		char text[64];
		if (!n->skipped[i])
			continue;
		snprintf(text, sizeof text, "picture left out, %s",
			wl_page_skip_name((enum wl_page_skip)i));
		const char *class = wl_arena_strdup(&r->mem, text, err);
		if (!class || wl_record_tally(r, class, n->skipped[i], err) < 0)
			return -1;
	}
	if (n->cut)
		WL_TRY(wl_record_tally(r, "pages that nest too deep", n->cut, err));
	return wl_record_pass(r, "pages read", err);
}

int wl_record_page(struct wl_record *r, const struct wl_profile *profile,
	const struct wl_page *page, const char *origin,
	int (*find)(void *ctx, struct wl_record *y, const char *url, struct wl_err *err), void *ctx,
	struct wl_err *err)
{
	struct wl_page_counts counts = {0};
	struct wl_err why = WL_ERR_INIT;
	struct job j = {.r = r, .origin = origin, .find = find, .ctx = ctx, .err = &why};
	if (wl_page_pairs(profile, page, emit, &j, &counts, &why) == 0)
		return tally(r, &counts, err);
	if (j.failed || why.code != WL_EDATA)
		return wl_err_set(err, why.code, "%s", why.msg);
	return wl_record_reject(r, err, "the page cannot be read: %s", why.msg);
}
