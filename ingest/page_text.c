/*
 * The texts of an image, by kind, from its neighbours in the walk's lists.
 *
 * The caption of a picture in Chinese news is most often no <figcaption>: it is the short line
 * under it, told by its class, by how it starts ("▲", "图为"), by how it ends ("摄", "供图"), or
 * by being centred where the text is not.
 */
#include "ingest/page_priv.h"

#include <string.h>
#include <strings.h>

void wl_texts_init(struct wl_texts *t)
{
	for (int i = 0; i < WL_KIND_COUNT; i++)
		wl_buf_init(&t->of[i], 4 * (size_t)WL_PAGE_MAX_BYTES);
}

void wl_page_texts_release(struct wl_texts *t)
{
	for (int i = 0; i < WL_KIND_COUNT; i++)
		wl_buf_release(&t->of[i]);
}

static bool starts(const char *s, size_t n, const char *with)
{
	size_t m = strlen(with);
	return n >= m && memcmp(s, with, m) == 0;
}

static bool ends(const char *s, size_t n, const char *with)
{
	size_t m = strlen(with);
	return n >= m && memcmp(s + n - m, with, m) == 0;
}

static bool starts_with_one(const struct wl_strings *l, const char *s, size_t n)
{
	for (size_t i = 0; i < l->n; i++)
		if (starts(s, n, l->v[i]))
			return true;
	return false;
}

static bool ends_with_one(const struct wl_strings *l, const char *s, size_t n)
{
	for (size_t i = 0; i < l->n; i++)
		if (ends(s, n, l->v[i]))
			return true;
	return false;
}

/* The first of the marks that end a sentence, as bytes before it; n: none. */
static size_t sentence(const char *s, size_t n)
{
	static const char *const marks[] = {"。", "！", "？", "!", "?", "\n"};
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m < sizeof marks / sizeof *marks; m++)
			if (starts(s + i, n - i, marks[m]))
				return i;
	return n;
}

/* At most `max` characters; longer text ends after a sentence if one ends in its second half. */
static size_t clip(const char *s, size_t n, size_t max)
{
	size_t at = 0, chars = 0, good = 0;
	while (at < n) {
		if ((s[at] & 0xc0) != 0x80 && ++chars > max)
			break;
		if (starts(s + at, n - at, "。") || starts(s + at, n - at, "！") ||
			starts(s + at, n - at, "？"))
			good = at + 3;
		else if (s[at] == '\n')
			good = at;
		at++;
	}
	if (at == n)
		return n;
	return 2 * good >= at && good <= at ? good : at;
}

static int put_block(
	const struct wl_walk *w, size_t i, size_t max, struct wl_buf *out, struct wl_err *err)
{
	const struct wl_block *b = &w->blocks[i];
	if (out->len)
		WL_TRY(wl_buf_putc(out, '\n', err));
	return wl_buf_add(out, wl_block_text(w, b), clip(wl_block_text(w, b), b->len, max), err);
}

/* ---- captions ---- */

static bool is_linky(const struct wl_block *b)
{
	return 2 * b->link_chars > b->chars;
}

static bool is_credit(const struct wl_walk *w, const struct wl_block *b)
{
	const char *s = wl_block_text(w, b);
	return starts_with_one(&w->profile->credits, s, b->len) && b->chars <= 30 &&
	       sentence(s, b->len) + 3 >= b->len;
}

static bool fits_as_caption(const struct wl_walk *w, const struct wl_block *b)
{
	return b->chars >= 2 && b->chars <= (size_t)w->profile->caption_chars && !b->heading &&
	       !is_linky(b) && !is_credit(w, b) && !wl_walk_reasons(w, b->mark);
}

/* An arrow down: it speaks of what follows. */
static bool points_down(const struct wl_walk *w, const struct wl_block *b)
{
	static const char *const down[] = {"▼", "↓", "⬇", "▽"};
	const char *s = wl_block_text(w, b);
	for (size_t i = 0; i < sizeof down / sizeof *down; i++)
		if (starts(s, b->len, down[i]) || ends(s, b->len, down[i]))
			return true;
	return false;
}

/* By its wording or its place on the line. */
static bool reads_as_caption(const struct wl_walk *w, const struct wl_block *b)
{
	const char *s = wl_block_text(w, b);
	size_t n = b->len;
	/* "（张三 摄）。": brackets and the full stop say nothing. */
	while (n >= 3 && (ends(s, n, "）") || ends(s, n, "。") || ends(s, n, "】")))
		n -= 3;
	while (n && (s[n - 1] == ')' || s[n - 1] == ' '))
		n--;
	return starts_with_one(&w->profile->marks, s, b->len) ||
	       ends_with_one(&w->profile->closers, s, n) ||
	       (b->centred && b->chars <= 60 && 2 * w->centred < w->n_blocks);
}

/* How many images stand right before block i. */
static size_t images_before(const struct wl_walk *w, size_t img, size_t i)
{
	size_t n = 0;
	for (size_t k = img + 1; k-- > 0 && w->imgs[k].next == i;)
		n++;
	for (size_t k = img + 1; k < w->n_imgs && w->imgs[k].next == i; k++)
		n++;
	return n;
}

static int figure_caption(
	const struct wl_walk *w, const struct wl_img *im, struct wl_buf *out, struct wl_err *err)
{
	enum { REACH = 64 }; /* blocks: a gallery's captions are not that far away */
	size_t from = im->next > REACH ? im->next - REACH : 0, to = im->next + REACH;
	for (size_t i = from; im->figure && i < w->n_blocks && i < to; i++)
		if (w->blocks[i].figure == im->figure)
			WL_TRY(put_block(w, i, (size_t)w->profile->max_chars, out, err));
	return 0;
}

/* Which block is the caption of image `img`; n_blocks: none. */
static size_t caption_block(const struct wl_walk *w, size_t img)
{
	const struct wl_img *im = &w->imgs[img];
	size_t next = im->next, none = w->n_blocks;
	const struct wl_block *b = next < w->n_blocks ? &w->blocks[next] : NULL;
	bool last = img + 1 == w->n_imgs || w->imgs[img + 1].next > next;
	/* Under it; of several pictures in a row only the last is meant for sure. */
	if (b && last && fits_as_caption(w, b) && !points_down(w, b)) {
		if (b->caption || reads_as_caption(w, b))
			return next;
		/* The line of its own, or the one other line of its list item or cell. */
		if (im->own && images_before(w, img, next) == 1 && b->box == im->box)
			return next;
		if (b->box && b->box == im->box && images_before(w, img, next) == 1 &&
			(next + 1 == w->n_blocks || w->blocks[next + 1].box != b->box) &&
			(next == 0 || w->blocks[next - 1].box != b->box))
			return next;
	}
	/* Over it: only what cannot belong to a picture before. */
	if (next == 0 || (img && w->imgs[img - 1].next == next))
		return none;
	b = &w->blocks[next - 1];
	bool others = img && w->imgs[img - 1].next == next - 1;
	if (!fits_as_caption(w, b) || b->content != im->content)
		return none;
	return points_down(w, b) || (b->caption && !others) ? next - 1 : none;
}

/* ---- alt ---- */

static bool is_file_name(const char *s, size_t n)
{
	static const char *const ext[] = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp"};
	for (size_t i = 0; i < sizeof ext / sizeof *ext; i++) {
		size_t m = strlen(ext[i]);
		if (n > m && strncasecmp(s + n - m, ext[i], m) == 0)
			return true;
	}
	return starts(s, n, "http://") || starts(s, n, "https://");
}

static bool says_nothing(const struct wl_strings *noise, const struct wl_buf *b)
{
	const char *s = wl_buf_str(b);
	bool letters = false;
	for (size_t i = 0; i < noise->n; i++)
		if (strcasecmp(s, noise->v[i]) == 0)
			return true;
	for (size_t i = 0; i < b->len; i++)
		letters = letters || s[i] & 0x80 || (s[i] | 0x20) >= 'a';
	return !letters || is_file_name(s, b->len) || wl_utf8_chars(s, b->len) < 2;
}

static int alt_text(
	const struct wl_walk *w, const struct wl_img *im, struct wl_buf *out, struct wl_err *err)
{
	static const char *const names[] = {"alt", "data-alt", "title", "data-title"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *v = wl_dom_attr(im->node, names[i]);
		if (!v || !*v)
			continue;
		WL_TRY(wl_text_squeeze(v, strlen(v), out, err));
		out->len = clip(wl_buf_str(out), out->len, (size_t)w->profile->max_chars);
		if (out->data)
			out->data[out->len] = '\0';
		if (!says_nothing(&w->profile->alt_noise, out))
			return 0;
		wl_buf_reset(out);
	}
	return 0;
}

/* ---- around ---- */

/* A sentence has marks in it; a sub-heading, a button, a dateline have none. */
static bool has_marks(const char *s, size_t n)
{
	static const char *const marks[] = {"，", "。", "！", "？", "；", "、", ", ", ". "};
	for (size_t m = 0; m < sizeof marks / sizeof *marks; m++)
		if (memmem(s, n, marks[m], strlen(marks[m])))
			return true;
	return false;
}

static bool is_running_text(const struct wl_walk *w, const struct wl_block *b)
{
	return b->chars >= 10 && (b->chars >= 60 || has_marks(wl_block_text(w, b), b->len)) &&
	       !is_linky(b) && !b->heading && !b->caption && !b->figure && !is_credit(w, b) &&
	       !wl_walk_reasons(w, b->mark);
}

/* Up to `want` paragraphs from block i on, by `step`; a heading is a border.  found[] in order
 * of distance. */
static size_t look_around(const struct wl_walk *w, const struct wl_texts *t, size_t i, int step,
	size_t skip, int64_t want, size_t found[20])
{
	enum { REACH = 10 };
	size_t n = 0;
	for (int d = 0; d < REACH && i < w->n_blocks && (int64_t)n < want && n < 20;
		d++, i += (size_t)step) {
		if (w->blocks[i].heading)
			break;
		if (i >= t->main_from && i < t->main_to && i != skip &&
			is_running_text(w, &w->blocks[i]))
			found[n++] = i;
	}
	return n; /* i wraps below 0 to a huge number, which ends the loop */
}

static int surroundings(const struct wl_walk *w, const struct wl_img *im, size_t caption,
	struct wl_texts *t, struct wl_err *err)
{
	const struct wl_profile *p = w->profile;
	size_t after[20], before[20], max = (size_t)p->max_chars;
	struct wl_buf *sur = &t->of[WL_KIND_SUR];
	size_t n_after = look_around(w, t, im->next, 1, caption, p->after, after);
	size_t n_before = look_around(w, t, im->next - 1, -1, caption, p->before, before);
	for (size_t i = n_before; i-- > 0;)
		WL_TRY(put_block(w, before[i], max, sur, err));
	for (size_t i = 0; i < n_after; i++)
		WL_TRY(put_block(w, after[i], max, sur, err));
	if (sur->data)
		sur->data[sur->len = clip(sur->data, sur->len, max)] = '\0';
	/* The nearer one, of two that are as near the one that follows: it explains a picture more
	 * often than what went before.  A caption between counts for nothing. */
	size_t down = n_after ? after[0] - im->next : SIZE_MAX;
	size_t up = n_before ? im->next - 1 - before[0] : SIZE_MAX - 1;
	if (n_after || n_before)
		WL_TRY(put_block(
			w, down <= up + 1 ? after[0] : before[0], max, &t->of[WL_KIND_EASY], err));
	return 0;
}

/* The content element around the image; else the last one before it; else the first after. */
static int content_of(const struct wl_walk *w, const struct wl_img *im)
{
	if (im->content)
		return im->content;
	for (size_t i = im->next; i-- > 0;)
		if (w->blocks[i].content)
			return w->blocks[i].content;
	for (size_t i = im->next; i < w->n_blocks; i++)
		if (w->blocks[i].content)
			return w->blocks[i].content;
	return 0;
}

static int content_text(
	const struct wl_walk *w, const struct wl_img *im, struct wl_buf *out, struct wl_err *err)
{
	int content = content_of(w, im);
	size_t max = (size_t)w->profile->max_chars;
	for (size_t i = 0; content && i < w->n_blocks && out->len < 4 * max; i++)
		if (w->blocks[i].content == content)
			WL_TRY(put_block(w, i, max, out, err));
	if (out->data)
		out->data[out->len = clip(out->data, out->len, max)] = '\0';
	return 0;
}

int wl_image_texts(const struct wl_walk *w, size_t img, struct wl_texts *t, struct wl_err *err)
{
	const struct wl_img *im = &w->imgs[img];
	for (int i = 0; i < WL_KIND_COUNT; i++)
		if (i != WL_KIND_TITLE && i != WL_KIND_FIRST)
			wl_buf_reset(&t->of[i]);
	struct wl_buf *caption = &t->of[WL_KIND_CAPTION];
	size_t at = w->n_blocks;
	WL_TRY(figure_caption(w, im, caption, err));
	if (!caption->len) {
		at = caption_block(w, img);
		if (at < w->n_blocks)
			WL_TRY(put_block(w, at, (size_t)w->profile->max_chars, caption, err));
	}
	WL_TRY(alt_text(w, im, &t->of[WL_KIND_ALT], err));
	WL_TRY(surroundings(w, im, at, t, err));
	return content_text(w, im, &t->of[WL_KIND_CONTENT], err);
}

/* ---- the page ---- */

/* Cuts "_网易体育", " - 新华网", "|..." off: a separator with something that is long enough
 * before it and, for the hyphen, something short after it. */
static size_t without_site(const char *s, size_t n)
{
	static const char *const hard[] = {"_", "|", "｜", "—", "–", "-"};
	for (size_t h = 0; h < sizeof hard / sizeof *hard; h++) {
		size_t m = strlen(hard[h]), at = n;
		bool soft = h >= 3;
		/* The hyphens may be the title's own: the last counts, the others' first. */
		for (size_t i = 0; i + m <= n; i++) {
			if (!starts(s + i, n - i, hard[h]) || wl_utf8_chars(s, i) < 4)
				continue;
			at = i;
			if (!soft)
				break;
		}
		if (at == n || (soft && wl_utf8_chars(s + at + m, n - at - m) > 12))
			continue;
		n = at;
		while (n && (s[n - 1] == ' ' || s[n - 1] == '-'))
			n--;
	}
	return n;
}

static int put_title(const struct wl_walk *w, struct wl_buf *out, struct wl_err *err)
{
	const char *h1 = w->h1_len ? w->text.data + w->h1_at : "", *said = NULL;
	size_t h1_chars = wl_utf8_chars(h1, w->h1_len);
	if (w->title && w->title->child && wl_node_is_text(w->title->child))
		said = wl_node_text(w->title->child);
	if (said)
		WL_TRY(wl_text_squeeze(said, strlen(said), out, err));
	/* The heading, when <title> has it too (or there is none): a site's name in the <h1> is
	 * no title. */
	bool agree =
		h1_chars >= 4 && (!out->len || memmem(out->data, out->len, h1, w->h1_len) != NULL);
	if (agree)
		return wl_text_squeeze(h1, w->h1_len, out, err);
	if (w->og_title)
		WL_TRY(wl_text_squeeze(w->og_title, strlen(w->og_title), out, err));
	if (out->len)
		out->data[out->len = without_site(out->data, out->len)] = '\0';
	return 0;
}

static bool is_paragraph(const struct wl_walk *w, const struct wl_block *b)
{
	return b->chars >= 15 && is_running_text(w, b);
}

/* The page's main text: of the runs of paragraphs with no more than a few other lines between,
 * the one with the most characters. */
static void find_main(const struct wl_walk *w, struct wl_texts *t)
{
	enum { GAP = 12 }; /* blocks: pictures with captions, a table, a list of names */
	size_t from = 0, to = 0, chars = 0, best = 0;
	for (size_t i = 0; i < w->n_blocks; i++) {
		if (!is_paragraph(w, &w->blocks[i]))
			continue;
		if (!chars || i - to > GAP) {
			from = i;
			chars = 0;
		}
		to = i;
		chars += w->blocks[i].chars;
		if (chars > best) {
			best = chars;
			t->main_from = from;
			t->main_to = to + 1;
		}
	}
}

int wl_page_texts(const struct wl_walk *w, struct wl_texts *t, struct wl_err *err)
{
	struct wl_buf *title = &t->of[WL_KIND_TITLE], *first = &t->of[WL_KIND_FIRST];
	for (int i = 0; i < WL_KIND_COUNT; i++)
		wl_buf_reset(&t->of[i]);
	t->main_from = t->main_to = 0;
	WL_TRY(put_title(w, title, err));
	if (title->data)
		title->data[title->len = clip(title->data, title->len, 200)] = '\0';
	find_main(w, t);
	for (size_t i = t->main_from; i < t->main_to; i++) {
		const struct wl_block *b = &w->blocks[i];
		const char *s = wl_block_text(w, b);
		if (!is_paragraph(w, b) || starts_with_one(&w->profile->credits, s, b->len))
			continue;
		size_t n = clip(s, sentence(s, b->len), (size_t)w->profile->max_chars);
		return wl_buf_add(first, s, n, err);
	}
	return 0;
}
