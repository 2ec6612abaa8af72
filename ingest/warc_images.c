/*
 * Pictures of an archive by URL: see warc_images.h.
 *
 * The list holds 32 bytes a picture: a hash of its URL and its place.  A picture is read from its
 * place when a page wants it, and its URL compared then.  Places deep inside a compressed member
 * (an archive that was compressed as one) would have to be inflated up to every time, so those
 * pictures are copied into a nameless temporary file while the list is made.
 */
#include "ingest/warc_images.h"

#include "ingest/http_message.h"
#include "ingest/image.h"
#include "ingest/url.h"
#include "ingest/warc.h"
#include "ops/file.h"
#include "ops/grow.h"
#include "ops/hash.h"

#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	DEEP = 4 << 20, /* bytes inside a compressed member that are worth a copy */
	IDLE = 64,      /* readers kept */
};

enum state { AT_PLACE, SPILLED, FORBIDDEN };

struct entry {
	uint64_t key;    /* hash of the URL as spelled */
	int64_t member;  /* its place; SPILLED: offset in the spill file */
	int64_t inside;  /* SPILLED: bytes there: 'r' for a response, the URL, 0, the block */
	uint32_t order;  /* of the captures of one URL the first counts */
	uint32_t state;
};

struct wl_warc_images {
	char *path;
	struct entry *v; /* [n], sorted by key; of equal keys the first comes first */
	size_t n, cap;
	int spill; /* -1: none */
	int64_t spill_bytes;
	pthread_mutex_t lock; /* over the idle readers */
	struct wl_warc *idle[IDLE];
	size_t n_idle;
};

/* RFC 3986, 6.2.2.1: %e5 is %E5. */
static void upper_escapes(char *s)
{
	for (; (s = strchr(s, '%')) != NULL; s++)
		for (int i = 1; i < 3 && isxdigit((unsigned char)s[i]); i++)
			s[i] = (char)toupper((unsigned char)s[i]);
}

/* The URL without its scheme, in one spelling; NULL: it is no URL that is ever asked for. */
static char *spell(const char *url, size_t n, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url u;
	char *copy = wl_strf(err, "%.*s", (int)(n < WL_URL_MAX ? n : WL_URL_MAX), url), *out;
	int bad = copy ? wl_url_parse(&u, copy, &why) : -1;
	free(copy);
	if (bad < 0)
		return NULL;
	const char *rest = strstr(u.text, "://");
	out = wl_strf(err, "%s", rest ? rest + 3 : u.text);
	wl_url_release(&u);
	if (out)
		upper_escapes(out);
	return out;
}

static uint64_t key_of(const char *spelled)
{
	return wl_hash64(spelled, strlen(spelled), 0);
}

/* ---- making the list ---- */

static bool has_image_magic(const char *p, size_t n)
{
	return n >= 12 && (memcmp(p, "\xff\xd8\xff", 3) == 0 || memcmp(p, "\x89PNG\r\n", 6) == 0 ||
				  memcmp(p, "GIF8", 4) == 0 ||
				  (memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0) ||
				  memcmp(p + 4, "ftypavif", 8) == 0);
}

/* Whether this is a picture that may be used; *forbidden: its server says that it may not. */
static bool is_picture(const struct wl_warc_record *r, struct wl_http *h, bool *forbidden)
{
	struct wl_err ignored = WL_ERR_INIT;
	struct wl_slice type = r->content_type;
	*forbidden = false;
	if (r->damage || !r->uri.p)
		return false;
	if (r->type == WL_WARC_RESOURCE) {
		h->raw = r->body;
		h->raw_n = r->n;
	} else if (r->type != WL_WARC_RESPONSE ||
		   wl_http_parse(h, r->body, r->n, &ignored) < 0 || h->status != 200) {
		return false;
	} else {
		type = wl_fields_get(&h->fields, "content-type");
		*forbidden = wl_http_forbids_use(h);
	}
	bool vague = !type.n || wl_slice_begins(type, "application/octet-stream") ||
		     wl_slice_begins(type, "binary/octet-stream");
	return h->raw_n && (wl_slice_begins(type, "image/") ||
				   (vague && has_image_magic(h->raw, h->raw_n)));
}

static int spill(struct wl_warc_images *x, struct entry *e, const char *spelled,
	const struct wl_warc_record *r, struct wl_err *err)
{
	if (x->spill < 0) {
		const char *dir = getenv("TMPDIR");
		x->spill = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (x->spill < 0)
			return wl_err_errno(err,
				"a temporary file for pictures of %s cannot be made in %s (TMPDIR "
				"names another place)",
				x->path, dir && *dir ? dir : "/tmp");
	}
	size_t url = strlen(spelled) + 1;
	char type = r->type == WL_WARC_RESPONSE ? 'r' : ' ';
	int64_t at = x->spill_bytes;
	e->state = SPILLED;
	e->member = at;
	e->inside = (int64_t)(1 + url + r->n);
	x->spill_bytes += e->inside;
	WL_TRY(wl_pwrite_full(x->spill, &type, 1, at, "a temporary file", err));
	WL_TRY(wl_pwrite_full(x->spill, spelled, url, at + 1, "a temporary file", err));
	return wl_pwrite_full(
		x->spill, r->body, r->n, at + 1 + (int64_t)url, "a temporary file", err);
}

static struct entry *new_entry(struct wl_warc_images *x, struct wl_err *err)
{
	if (WL_GROW(x->v, x->n, x->cap, "the list of pictures", err) < 0)
		return NULL;
	return &x->v[x->n++];
}

static int add(struct wl_warc_images *x, const struct wl_warc *w, const struct wl_warc_record *r,
	bool forbidden, struct wl_err *err)
{
	char *spelled = spell(r->uri.p, r->uri.n, err);
	if (!spelled || x->n == UINT32_MAX) {
		free(spelled);
		return 0;
	}
	struct entry *e = new_entry(x, err);
	int ret = e ? 0 : -1;
	if (e)
		*e = (struct entry){key_of(spelled), r->member, r->inside, (uint32_t)(x->n - 1),
			forbidden ? FORBIDDEN : AT_PLACE};
	if (e && !forbidden && wl_inflate_is_compressed(&w->in) && r->inside > DEEP)
		ret = spill(x, e, spelled, r, err);
	free(spelled);
	return ret;
}

static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int list(struct wl_warc_images *x, struct wl_warc *w, struct wl_err *err)
{
	struct wl_http *h = malloc(sizeof *h);
	struct wl_warc_record r;
	int more = -1;
	if (!h)
		return wl_err_nomem(err, "a message", sizeof *h);
	while ((more = wl_warc_next(w, &r, err)) > 0) {
		bool forbidden;
		if (is_picture(&r, h, &forbidden) && add(x, w, &r, forbidden, err) < 0) {
			more = -1;
			break;
		}
	}
	free(h);
	if (more == 0 && x->n)
		qsort(x->v, x->n, sizeof *x->v, by_key);
	return more;
}

/* ---- readers ---- */

static struct wl_warc *take_reader(struct wl_warc_images *x, struct wl_err *err)
{
	struct wl_warc *w = NULL;
	pthread_mutex_lock(&x->lock);
	if (x->n_idle)
		w = x->idle[--x->n_idle];
	pthread_mutex_unlock(&x->lock);
	if (w)
		return w;
	w = malloc(sizeof *w);
	if (!w) {
		wl_err_nomem(err, "a reader", sizeof *w);
		return NULL;
	}
	if (wl_warc_open(w, x->path, 0, 0, err) < 0) {
		free(w);
		return NULL;
	}
	return w;
}

static void give_reader(struct wl_warc_images *x, struct wl_warc *w)
{
	pthread_mutex_lock(&x->lock);
	if (x->n_idle < IDLE) {
		x->idle[x->n_idle++] = w;
		w = NULL;
	}
	pthread_mutex_unlock(&x->lock);
	wl_warc_close(w);
	free(w);
}

struct wl_warc_images *wl_warc_images_open(const char *path, struct wl_err *err)
{
	struct wl_warc_images *x = calloc(1, sizeof *x);
	if (!x) {
		wl_err_nomem(err, "the list of pictures", sizeof *x);
		return NULL;
	}
	x->spill = -1;
	pthread_mutex_init(&x->lock, NULL);
	x->path = wl_strf(err, "%s", path);
	struct wl_warc *w = x->path ? take_reader(x, err) : NULL;
	int ret = w ? list(x, w, err) : -1;
	if (w)
		give_reader(x, w);
	if (ret < 0) {
		wl_warc_images_close(x);
		return NULL;
	}
	return x;
}

void wl_warc_images_close(struct wl_warc_images *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->n_idle; i++) {
		wl_warc_close(x->idle[i]);
		free(x->idle[i]);
	}
	if (x->spill >= 0)
		close(x->spill);
	pthread_mutex_destroy(&x->lock);
	free(x->path);
	free(x->v);
	free(x);
}

size_t wl_warc_images_count(const struct wl_warc_images *x)
{
	return x->n;
}

/* ---- getting one ---- */

/* The body of a response or a resource, codings undone. */
static int take_body(bool response, const char *p, size_t n, struct wl_buf *out, struct wl_err *err)
{
	struct wl_http_body b;
	int ret = -1;
	wl_buf_reset(out);
	if (!response)
		return wl_buf_add(out, p, n, err);
	struct wl_http *h = malloc(sizeof *h);
	if (!h)
		return wl_err_nomem(err, "a message", sizeof *h);
	wl_http_body_init(&b, out->max);
	WL_TRY_OUT(wl_http_parse(h, p, n, err));
	WL_TRY_OUT(wl_http_body_decode(&b, h, err));
	ret = wl_buf_add(out, b.p, b.n, err);
out:
	wl_http_body_release(&b);
	free(h);
	return ret;
}

/* These say 1: it is this URL's; 0: another's, whose hash is the same. */
static int get_spilled(struct wl_warc_images *x, const struct entry *e, const char *spelled,
	struct wl_buf *out, struct wl_err *err)
{
	size_t n = (size_t)e->inside, url = 1 + strlen(spelled) + 1;
	char *p = malloc(n);
	if (!p)
		return wl_err_nomem(err, "a picture", n);
	int ret = wl_pread_full(x->spill, p, n, e->member, "a temporary file", err);
	if (ret == 0) {
		ret = n >= url && memcmp(p + 1, spelled, url - 1) == 0;
		if (ret && take_body(p[0] == 'r', p + url, n - url, out, err) < 0)
			ret = -1;
	}
	free(p);
	return ret;
}

static int get_placed(struct wl_warc_images *x, const struct entry *e, const char *spelled,
	struct wl_buf *out, struct wl_err *err)
{
	struct wl_warc *w = take_reader(x, err);
	struct wl_warc_record r;
	char *mine = NULL;
	int ret = -1, more;
	if (!w)
		return -1;
	WL_TRY_OUT(wl_warc_seek(w, e->member, e->inside, err));
	more = wl_warc_next(w, &r, err);
	if (more < 0)
		goto out;
	mine = more && r.uri.p ? spell(r.uri.p, r.uri.n, err) : NULL;
	ret = mine && strcmp(mine, spelled) == 0;
	if (ret && take_body(r.type == WL_WARC_RESPONSE, r.body, r.n, out, err) < 0)
		ret = -1;
out:
	free(mine);
	give_reader(x, w);
	return ret;
}

static int get(struct wl_warc_images *x, const char *spelled, struct wl_buf *out,
	enum wl_warc_image_found *found, struct wl_err *err)
{
	uint64_t key = key_of(spelled);
	size_t lo = 0, hi = x->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (x->v[mid].key < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < x->n && x->v[lo].key == key; lo++) {
		const struct entry *e = &x->v[lo];
		if (e->state == FORBIDDEN) {
			*found = WL_WARC_IMAGE_FORBIDDEN;
			return 0;
		}
		int hit = e->state == SPILLED ? get_spilled(x, e, spelled, out, err)
					      : get_placed(x, e, spelled, out, err);
		WL_TRY(hit);
		if (hit) {
			*found = WL_WARC_IMAGE_FOUND;
			return 0;
		}
	}
	return 0;
}

int wl_warc_images_get(struct wl_warc_images *x, const char *url, struct wl_buf *out,
	enum wl_warc_image_found *found, struct wl_err *err)
{
	*found = WL_WARC_IMAGE_NONE;
	if (!x->n)
		return 0;
	char *spelled = spell(url, strlen(url), err);
	if (!spelled)
		return 0;
	int ret = get(x, spelled, out, found, err);
	free(spelled);
	return ret;
}
