/* Pages into pairs: see page.h.  Here the parts come together: decode, parse, walk, judge. */
#include "ingest/page.h"

#include "ingest/charset.h"
#include "ingest/page_priv.h"
#include "ingest/url.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *wl_page_skip_name(enum wl_page_skip s)
{
	static const char *const names[WL_SKIP_COUNT] = {"no-url", "data-url", "bad-url", "tracker",
		"icon", "avatar", "qr-code", "advert", "chrome", "tiny", "ratio", "repeated",
		"no-text", "too-many"};
	return s < WL_SKIP_COUNT ? names[s] : "none";
}

/* ---- rooms ---- */

/* What reading a page takes, kept from page to page: making it anew costs as much as parsing. */
struct wl_page_room {
	struct wl_page_room *next;
	struct wl_buf converted; /* the page in UTF-8 */
	struct wl_dom dom;
	struct wl_walk walk;
	struct wl_texts texts;
};

/* After a larger page the room is given up, so that memory stays flat. */
enum { ROOM_PAGE_BYTES = 2 * 1024 * 1024 };

static void free_room(struct wl_page_room *m)
{
	wl_page_texts_release(&m->texts);
	wl_walk_release(&m->walk);
	wl_dom_release(&m->dom);
	wl_buf_release(&m->converted);
	free(m);
}

struct wl_page_rooms *wl_page_rooms_new(struct wl_err *err)
{
	struct wl_page_rooms *rooms = calloc(1, sizeof *rooms);
	if (!rooms) {
		wl_err_nomem(err, "a page's memory", sizeof *rooms);
		return NULL;
	}
	pthread_mutex_init(&rooms->lock, NULL);
	return rooms;
}

void wl_page_rooms_free(struct wl_page_rooms *rooms)
{
	if (!rooms)
		return;
	while (rooms->idle) {
		struct wl_page_room *m = rooms->idle;
		rooms->idle = m->next;
		free_room(m);
	}
	pthread_mutex_destroy(&rooms->lock);
	free(rooms);
}

/* An idle one, or a new one; NULL: no memory. */
static struct wl_page_room *enter_room(const struct wl_profile *profile, struct wl_err *err)
{
	struct wl_page_rooms *rooms = profile->rooms;
	pthread_mutex_lock(&rooms->lock);
	struct wl_page_room *m = rooms->idle;
	if (m)
		rooms->idle = m->next;
	pthread_mutex_unlock(&rooms->lock);
	if (m)
		return m;
	m = calloc(1, sizeof *m);
	if (!m) {
		wl_err_nomem(err, "a page's memory", sizeof *m);
		return NULL;
	}
	wl_buf_init(&m->converted, 3 * (size_t)WL_PAGE_MAX_BYTES);
	wl_dom_init(&m->dom);
	m->walk.profile = profile;
	wl_texts_init(&m->texts);
	return m;
}

static void leave_room(const struct wl_profile *profile, struct wl_page_room *m, size_t page_bytes)
{
	struct wl_page_rooms *rooms = profile->rooms;
	if (page_bytes > ROOM_PAGE_BYTES) {
		free_room(m);
		return;
	}
	pthread_mutex_lock(&rooms->lock);
	m->next = rooms->idle;
	rooms->idle = m;
	pthread_mutex_unlock(&rooms->lock);
}

/* ---- a page being read ---- */

struct reading {
	const struct wl_profile *profile;
	const struct wl_page *page;
	struct wl_walk *walk;
	struct wl_texts *texts;
	struct wl_charset charset;
	char *page_url, *base; /* "" unknown; owned */
	uint64_t *seen;	       /* hashes of the URLs that came out; [cap_seen], 0 is empty */
	size_t cap_seen;
	int (*emit)(void *ctx, const struct wl_page_pair *pair);
	void *ctx;
	struct wl_page_counts *counts;
};

/* ---- the page's own address ---- */

/* ref against base as an absolute URL in fresh memory, "" when it is none. */
static char *absolute(const char *base, const char *ref, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url u;
	int ret;
	if (!ref || !*ref)
		return wl_strf(err, "%s", "");
	ret = *base ? wl_url_resolve(&u, base, ref, &why) : wl_url_parse(&u, ref, &why);
	if (ret < 0 && why.code != WL_EDATA) {
		wl_err_set(err, why.code, "%s", why.msg);
		return NULL;
	}
	char *text = wl_strf(err, "%s", ret < 0 ? "" : u.text);
	if (ret == 0)
		wl_url_release(&u);
	return text;
}

/* The first that is usable: what the caller knows, the canonical link, og:url, <base>. */
static int find_addresses(struct reading *r, struct wl_err *err)
{
	const char *const known[] = {
		r->page->url, r->walk->canonical, r->walk->og_url, r->walk->base};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		free(r->page_url);
		r->page_url = absolute("", known[i], err);
		if (!r->page_url)
			return -1;
		if (*r->page_url)
			break;
	}
	r->base = absolute(r->page_url, r->walk->base, err);
	if (r->base && !*r->base) {
		free(r->base);
		r->base = wl_strf(err, "%s", r->page_url);
	}
	return r->base ? 0 : -1;
}

/* ---- one image ---- */

/* 1: the URL came out of this page before. */
static bool is_repeated(struct reading *r, const char *url)
{
	uint64_t h = wl_hash64(url, strlen(url), 3) | 1;
	size_t i = h & (r->cap_seen - 1);
	while (r->seen[i] && r->seen[i] != h)
		i = (i + 1) & (r->cap_seen - 1);
	bool was = r->seen[i] == h;
	r->seen[i] = h;
	return was;
}

static int add_text(json_t *list, const struct reading *r, enum wl_kind k, struct wl_err *err)
{
	const struct wl_buf *b = &r->texts->of[k];
	json_t *pair = json_pack("[s, s%]", wl_kind_names[k], wl_buf_str(b), b->len);
	if (!pair || json_array_append_new(list, pair) < 0)
		return wl_err_nomem(err, "a text", b->len);
	return 0;
}

static bool is_chosen(const enum wl_kind *v, size_t n, enum wl_kind k)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == k)
			return true;
	return false;
}

/* The page's first sentence is about the pictures of its text, not about those further down
 * that lead to other pages. */
static bool is_usable(const struct reading *r, size_t img, enum wl_kind k)
{
	const struct wl_buf *b = &r->texts->of[k];
	size_t at = r->walk->imgs[img].next;
	if (k == WL_KIND_FIRST && (at + 12 < r->texts->main_from || at > r->texts->main_to + 1))
		return false;
	return b->len && wl_utf8_chars(b->data, b->len) >= (size_t)r->profile->min_chars;
}

/* What the profile chooses into texts, what is left into others.  0: there is nothing that it
 * asks for. */
static int sort_texts(
	const struct reading *r, size_t img, json_t *texts, json_t *others, struct wl_err *err)
{
	const struct wl_profile *p = r->profile;
	size_t u = 0;
	while (u < p->n_use && !is_usable(r, img, p->use[u]))
		u++;
	if (u == p->n_use)
		return 0;
	WL_TRY(add_text(texts, r, p->use[u], err));
	const struct wl_buf *main = &r->texts->of[p->use[u]];
	for (size_t i = 0; i < p->n_besides; i++)
		if (p->besides[i] != p->use[u] && r->texts->of[p->besides[i]].len)
			WL_TRY(add_text(texts, r, p->besides[i], err));
	for (int k = 0; k < WL_KIND_COUNT; k++) {
		const struct wl_buf *b = &r->texts->of[k];
		bool same = b->len == main->len && memcmp(b->data, main->data, b->len) == 0;
		if (b->len && !same && !is_chosen(p->besides, p->n_besides, (enum wl_kind)k))
			WL_TRY(add_text(others, r, (enum wl_kind)k, err));
	}
	return 1;
}

static int emit_pair(struct reading *r, size_t img, const struct wl_image_place *place,
	json_t *texts, json_t *others, struct wl_err *err)
{
	json_t *meta = json_pack("{s:s}", "charset", r->charset.name);
	char *texts_s = NULL, *meta_s = NULL;
	int ret = -1;
	int64_t most = r->page->fetched || !*r->page_url ? 0 : r->profile->max_pages;
	if (!meta || (most && json_object_set_new(meta, "max_pages", json_integer(most)) < 0) ||
		(json_array_size(others) && json_object_set(meta, "texts", others) < 0) ||
		(place->other && strcmp(place->other, place->url) != 0 &&
			json_object_set_new(meta, "alt_url", json_string(place->other)) < 0)) {
		wl_err_nomem(err, "a pair", 0);
		goto out;
	}
	texts_s = wl_json_text(texts, err);
	meta_s = wl_json_text(meta, err);
	if (!texts_s || !meta_s)
		goto out;
	struct wl_page_pair pair = {.image_url = place->url,
		.page_url = r->page_url,
		.texts = texts_s,
		.meta = meta_s,
		.ordinal = (int64_t)img,
		.width = place->width,
		.height = place->height};
	r->counts->pairs++;
	ret = r->emit(r->ctx, &pair) < 0 ? -1 : 0;
out:
	json_decref(meta);
	free(texts_s);
	free(meta_s);
	return ret;
}

static int with_texts(struct reading *r, size_t img, const struct wl_image_place *place,
	enum wl_page_skip *skip, struct wl_err *err)
{
	json_t *texts = json_array(), *others = json_array();
	int ret = -1;
	if (!texts || !others) {
		wl_err_nomem(err, "a pair's texts", 0);
		goto out;
	}
	WL_TRY_OUT(wl_image_texts(r->walk, img, r->texts, err));
	int some = sort_texts(r, img, texts, others, err);
	WL_TRY_OUT(some);
	ret = 0;
	if (some)
		ret = emit_pair(r, img, place, texts, others, err);
	else
		*skip = WL_SKIP_NO_TEXT;
out:
	json_decref(texts);
	json_decref(others);
	return ret;
}

static int one_image(struct reading *r, size_t img, int64_t *out, struct wl_err *err)
{
	struct wl_image_place place;
	enum wl_page_skip skip;
	WL_TRY(wl_image_place(r->walk, &r->walk->imgs[img], r->base, &place, &skip, err));
	int ret = 0;
	if (skip == WL_SKIP_COUNT && *out >= r->profile->max_images)
		skip = WL_SKIP_TOO_MANY;
	if (skip == WL_SKIP_COUNT && is_repeated(r, place.url))
		skip = WL_SKIP_REPEATED;
	if (skip == WL_SKIP_COUNT)
		ret = with_texts(r, img, &place, &skip, err);
	if (skip == WL_SKIP_COUNT)
		++*out;
	else
		r->counts->skipped[skip]++;
	wl_image_place_release(&place);
	return ret;
}

static int all_images(struct reading *r, struct wl_err *err)
{
	int64_t out = 0;
	size_t n = r->walk->n_imgs;
	r->counts->images += (int64_t)n;
	if (!n)
		return 0;
	for (r->cap_seen = 64; r->cap_seen < 2 * n;)
		r->cap_seen *= 2;
	r->seen = calloc(r->cap_seen, sizeof *r->seen);
	if (!r->seen)
		return wl_err_nomem(err, "a page's URLs", r->cap_seen * sizeof *r->seen);
	WL_TRY(find_addresses(r, err));
	WL_TRY(wl_page_texts(r->walk, r->texts, err));
	for (size_t i = 0; i < n; i++)
		WL_TRY(one_image(r, i, &out, err));
	return 0;
}

/* ---- the page ---- */

static int read_page(struct reading *r, struct wl_page_room *m, struct wl_err *err)
{
	const struct wl_page *p = r->page;
	const char *text;
	size_t len;
	WL_TRY(wl_charset_decode(p->bytes, p->n, p->content_type, &m->converted, &text, &len,
		&r->charset, err));
	WL_TRY(wl_dom_parse(&m->dom, text, len, err));
	r->counts->pages++;
	r->counts->cut += m->dom.cut;
	WL_TRY(wl_walk_page(r->walk, &m->dom, err));
	return all_images(r, err);
}

int wl_page_pairs(const struct wl_profile *profile, const struct wl_page *page,
	int (*emit)(void *ctx, const struct wl_page_pair *pair), void *ctx,
	struct wl_page_counts *counts, struct wl_err *err)
{
	if (!page->n)
		return wl_err_set(err, WL_EDATA, "the page is empty");
	if (page->n > WL_PAGE_MAX_BYTES)
		return wl_err_set(err, WL_EDATA, "the page has %zu bytes, at most %d are taken",
			page->n, WL_PAGE_MAX_BYTES);
	struct wl_page_room *m = enter_room(profile, err);
	if (!m)
		return -1;
	struct reading r = {.profile = profile,
		.page = page,
		.walk = &m->walk,
		.texts = &m->texts,
		.emit = emit,
		.ctx = ctx,
		.counts = counts};
	int ret = read_page(&r, m, err);
	free(r.seen);
	free(r.page_url);
	free(r.base);
	leave_room(profile, m, page->n);
	return ret;
}

int wl_page_is_html(const char *content_type, const void *bytes, size_t n)
{
	static const char *const starts[] = {"<!doctype html", "<html", "<head", "<body", "<title",
		"<meta", "<script", "<div", "<table", "<!--", "<?xml"};
	if (content_type && *content_type) {
		const char *p = content_type + strspn(content_type, " \t");
		return strncasecmp(p, "text/html", 9) == 0 ||
		       strncasecmp(p, "application/xhtml+xml", 21) == 0;
	}
	const char *p = bytes, *end = p + n;
	if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		p += 3;
	while (p < end && strchr(" \t\r\n\f", *p) && *p)
		p++;
	for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
		size_t m = strlen(starts[i]);
		if ((size_t)(end - p) >= m && strncasecmp(p, starts[i], m) == 0)
			return 1;
	}
	return 0;
}
