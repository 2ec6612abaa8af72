/*
 * URLs without a caption: what comes may be a page, whose pictures then wait in its place.
 *
 * A page is read as from any other source (page_record.h); its pairs' ids are made of the list's
 * name, the line and the picture's URL, so they do not depend on who fetched what when.
 */
#include "ingest/fetch_priv.h"

#include "ingest/page_record.h"
#include "ops/file.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

struct wl_page_job {
	struct wl_record rec; /* the list's line; what the page holds is its yield */
	const struct wl_profile *profile;
	char *origin;
	int64_t id; /* of the row that waits */
	int ret;
	struct wl_err err;
};

void wl_page_job_free(struct wl_page_job *j)
{
	if (!j)
		return;
	wl_record_release(&j->rec);
	free(j->origin);
	free(j);
}

void wl_fetch_profiles_release(struct wl_fetcher *f)
{
	for (size_t i = 0; i < f->n_profiles; i++) {
		wl_profile_free(f->profiles[i].profile);
		free(f->profiles[i].name);
	}
	free(f->profiles);
}

/* Loaded once each. */
static const struct wl_profile *profile_named(
	struct wl_fetcher *f, const char *name, struct wl_err *err)
{
	for (size_t i = 0; i < f->n_profiles; i++)
		if (strcmp(f->profiles[i].name, name) == 0)
			return f->profiles[i].profile;
	struct wl_named_profile *grown =
		realloc(f->profiles, (f->n_profiles + 1) * sizeof *grown);
	if (!grown) {
		wl_err_nomem(err, "profiles", (f->n_profiles + 1) * sizeof *grown);
		return NULL;
	}
	f->profiles = grown;
	struct wl_named_profile *p = &grown[f->n_profiles];
	p->profile = wl_profile_load(name, err);
	p->name = p->profile ? wl_strf(err, "%s", name) : NULL;
	if (!p->name) {
		wl_profile_free(p->profile);
		return NULL;
	}
	f->n_profiles++;
	return p->profile;
}

static const struct wl_profile *profile_of(
	struct wl_fetcher *f, const char *meta, struct wl_err *err)
{
	json_t *o = json_loads(meta, 0, NULL);
	const char *name = json_string_value(json_object_get(o, "profile"));
	const struct wl_profile *p = profile_named(f, name ? name : "", err);
	json_decref(o);
	return p;
}

/* The next row after `after` that waits for the page; NULL: none, or failed (err). */
static struct wl_page_job *next_job(
	struct wl_fetcher *f, const char *url, int64_t after, int *more, struct wl_err *err)
{
	struct wl_page_row row;
	struct wl_page_job *j = NULL;
	*more = wl_lane_page_row(f->lane, url, after, &row, err);
	if (*more <= 0)
		return NULL;
	*more = -1;
	j = calloc(1, sizeof *j);
	if (!j) {
		wl_err_nomem(err, "a page", sizeof *j);
		return NULL;
	}
	wl_record_init(&j->rec);
	j->id = row.id;
	j->origin = wl_strf(err, "%s", row.origin);
	j->profile = j->origin ? profile_of(f, row.meta, err) : NULL;
	j->rec.place = wl_arena_strdup(&j->rec.mem, row.place, err);
	j->rec.pair.source = wl_arena_strdup(&j->rec.mem, row.source, err);
	j->rec.pair.fetched_at = row.fetched_at;
	if (!j->profile || !j->rec.place || !j->rec.pair.source) {
		wl_page_job_free(j);
		return NULL;
	}
	*more = 1;
	return j;
}

int wl_page_begin(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_answer *a = &t->req.a;
	int more;
	if (t->refresh || !wl_page_is_html(a->type[0] ? a->type : NULL, a->body.data, a->body.len))
		return 0;
	t->page = next_job(f, t->url, -1, &more, err);
	return more < 0 ? -1 : 0;
}

static void read_page(struct wl_task *t, struct wl_page_job *j)
{
	const struct wl_answer *a = &t->req.a;
	struct wl_page page = {.url = t->at.text,
		.bytes = a->body.data ? a->body.data : "",
		.n = a->body.len,
		.content_type = a->type[0] ? a->type : NULL,
		.fetched = true};
	j->err = (struct wl_err)WL_ERR_INIT;
	j->ret = wl_record_page(&j->rec, j->profile, &page, j->origin, NULL, NULL, &j->err);
}

void wl_page_read(struct wl_task *t)
{
	read_page(t, t->page);
}

/* ---- what the page holds, into the lane ---- */

static int settle_yield(struct wl_fetcher *f, struct wl_page_job *j, struct wl_err *err)
{
	for (size_t i = 0; i < j->rec.n_yield; i++) {
		const struct wl_record *y = j->rec.yield[i];
		int added = 0;
		if (y->reason) {
			WL_TRY(wl_lane_quarantine(f->lane, j->origin, y->place, y->reason,
				y->pair.texts, strlen(y->pair.texts), err));
			f->out->quarantined++;
			continue;
		}
		added = wl_lane_pend(
			f->lane, &y->pair, y->image_url, j->origin, y->place, err);
		WL_TRY(added);
		f->out->found += added;
	}
	for (size_t i = 0; i < j->rec.n_tallies; i++)
		WL_TRY(wl_lane_tally(f->lane, j->origin, j->rec.tallies[i].class,
			j->rec.tallies[i].n, err));
	f->out->pages++;
	return wl_lane_drop_pending(f->lane, j->id, err);
}

/* Pairs that have a caption and took the page for a picture. */
static int refuse_others(struct wl_fetcher *f, struct wl_fetch *row, struct wl_err *err)
{
	row->reason = "it is a page, not a picture";
	int64_t pairs = wl_lane_give_up(f->lane, row, err);
	WL_TRY(pairs);
	f->out->quarantined += pairs;
	row->outcome = WL_FETCH_OK;
	row->reason = "";
	row->format = "html";
	return wl_lane_fetch_put(f->lane, row, err);
}

int wl_page_settle(struct wl_fetcher *f, struct wl_task *t, struct wl_fetch *row,
	const char **bad, struct wl_err *err)
{
	int more = 1;
	*bad = NULL;
	while (t->page) {
		struct wl_page_job *j = t->page;
		if (j->ret < 0)
			return wl_err_set(err, j->err.code, "%s: %s", t->url, j->err.msg);
		if (j->rec.reason) {
			*bad = j->rec.reason; /* lives as long as the task */
			return 0;
		}
		int64_t id = j->id;
		WL_TRY(settle_yield(f, j, err));
		wl_page_job_free(j);
		t->page = next_job(f, t->url, id, &more, err);
		WL_TRY(more);
		if (t->page)
			read_page(t, t->page);
	}
	f->pass_added++; /* its pictures are to be looked for */
	f->exhausted = false;
	return refuse_others(f, row, err);
}

int wl_page_known(struct wl_fetcher *f, struct wl_fetch *row, struct wl_err *err)
{
	struct wl_page_row waiting;
	int due = wl_lane_page_row(f->lane, row->url, -1, &waiting, err);
	WL_TRY(due);
	return due ? 0 : refuse_others(f, row, err) < 0 ? -1 : 1;
}
