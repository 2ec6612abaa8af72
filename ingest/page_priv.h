/*
 * Between page.c, page_walk.c, page_text.c, page_image.c and profile.c.  Not for others.
 *
 * A page is walked once into two flat lists: blocks of text (paragraphs, lines) and images, both
 * in document order; regions of furniture are marks that both point to.  Everything that is said
 * of an image is then said by looking at its neighbours in these lists.
 */
#ifndef WL_INGEST_PAGE_PRIV_H
#define WL_INGEST_PAGE_PRIV_H

#include "ingest/dom.h"
#include "ingest/page.h"
#include "ops/buf.h"

#include <pthread.h>
#include <stdbool.h>

/* ---- profile.c ---- */

enum wl_kind {
	WL_KIND_CAPTION,
	WL_KIND_ALT,
	WL_KIND_SUR,
	WL_KIND_EASY,
	WL_KIND_FIRST,
	WL_KIND_CONTENT,
	WL_KIND_TITLE,
	WL_KIND_COUNT
};
extern const char *const wl_kind_names[WL_KIND_COUNT + 1]; /* "caption", ..., NULL */

/* Where a word or pattern of a furniture list is looked for. */
enum wl_where { WL_IN_CLASS, WL_IN_URL, WL_IN_URL_PART, WL_IN_ALT, WL_WHERE_COUNT };

/* Words of one of these lists; the reason (or another meaning) is a number 1 .. 31. */
struct wl_words {
	struct wl_word {
		char *text; /* lower case; NULL: an empty slot */
		unsigned mask;
	} *v;
	size_t n, cap; /* cap is a power of two, or 0 */
};
/* The meanings of the word s[n], as bits; 0: it is in no list. */
unsigned wl_word_meaning(const struct wl_words *w, const char *s, size_t n);
/* All words of an identifier or path ("newsList-img_01" -> news, list, img), their meanings
 * together.  Words of two letters count only where no letter or digit touches them: compiled
 * class names end in random letters. */
unsigned wl_words_of(const struct wl_words *w, const char *s);

/* Meanings of class words beside the skip reasons (bits above WL_SKIP_COUNT). */
enum { WL_CLASS_CAPTION = 1 << 20, WL_CLASS_CONTENT = 1 << 21, WL_CLASS_CENTRE = 1 << 22 };

struct wl_strings {
	char **v;
	size_t n;
};

struct wl_profile {
	char *name;
	enum wl_kind use[WL_KIND_COUNT], besides[WL_KIND_COUNT];
	size_t n_use, n_besides;
	int64_t min_chars, max_chars, caption_chars, before, after, min_side, max_images, max_pages;
	double max_ratio;
	struct wl_words words[WL_WHERE_COUNT]; /* class and url: words; the others: as parts */
	struct wl_words whole;                 /* whole class tokens without - and _ */
	struct wl_strings lazy;        /* attributes that hold the real URL, best first */
	struct wl_strings marks;       /* what a caption starts with */
	struct wl_strings closers;     /* what a caption ends with */
	struct wl_strings credits;     /* what a mere credit line starts with */
	struct wl_strings alt_noise;   /* alt texts that say nothing */
	struct wl_strings placeholders; /* parts of URLs that only stand for a picture */
	/* What pages were read with, for the next ones; the only part that changes. */
	struct wl_page_rooms {
		pthread_mutex_t lock;
		struct wl_page_room *idle;
	} * rooms;
};

/* page.c */
struct wl_page_rooms *wl_page_rooms_new(struct wl_err *err);
void wl_page_rooms_free(struct wl_page_rooms *rooms);

/* ---- page_walk.c ---- */

/* A region that looks like furniture, with how much of the page's running text it holds: one
 * that holds most of it is none. */
struct wl_mark {
	unsigned reasons; /* bits of enum wl_page_skip, shifted: 1u << reason */
	int parent;       /* the mark around it, -1 none */
	size_t chars;     /* of text outside links in it */
};

struct wl_block {
	size_t at, len;    /* in wl_walk.text */
	size_t chars, link_chars;
	int mark;          /* innermost mark, -1 none */
	int content;       /* number of the content element that it is in, 0 none */
	int box;           /* number of the list item, cell or dl that it is in, 0 none */
	bool heading, centred, caption;
	const wl_node *figure; /* the <figure> that it is a figcaption of; else NULL */
};

struct wl_img {
	const wl_node *node;
	const wl_node *picture; /* the <picture> around it, or NULL */
	const wl_node *figure;  /* the <figure> around it, or NULL */
	size_t next;              /* the first block after it, or that it stands in */
	bool own;                 /* blocks[next] is the line that it stands in */
	int mark, content, box;
	unsigned near; /* meanings of its own class and those of the three elements around it */
	bool hidden;
};

struct wl_walk {
	const struct wl_profile *profile;
	struct wl_buf text; /* all blocks' text */
	struct wl_block *blocks;
	struct wl_img *imgs;
	struct wl_mark *marks;
	size_t n_blocks, cap_blocks, n_imgs, cap_imgs, n_marks, cap_marks;
	size_t chars;           /* of text outside links in the whole page */
	size_t centred;         /* blocks that are */
	size_t h1_at, h1_len;   /* the first <h1>'s text in `text` */
	const wl_node *title; /* <title> */
	const char *og_title, *og_url, *canonical, *base;
};
/* *w is {0} with a profile, or a walk whose memory is used again. */
WL_MUST_CHECK int wl_walk_page(struct wl_walk *w, const struct wl_dom *dom, struct wl_err *err);
void wl_walk_release(struct wl_walk *w);
/* The reasons that the marks around give, those that hold most of the page's text left out. */
unsigned wl_walk_reasons(const struct wl_walk *w, int mark);
/* The text of a block, not 0-terminated. */
static inline const char *wl_block_text(const struct wl_walk *w, const struct wl_block *b)
{
	return w->text.data + b->at;
}

/* ---- page_text.c ---- */

struct wl_texts {
	struct wl_buf of[WL_KIND_COUNT]; /* empty: there is none of this kind */
	size_t main_from, main_to; /* the blocks of the page's main text, [from, to) */
};
void wl_texts_init(struct wl_texts *t);
void wl_page_texts_release(struct wl_texts *t);
/* All kinds of one image; title and first are the page's and are left as they are. */
WL_MUST_CHECK int wl_image_texts(const struct wl_walk *w, size_t img, struct wl_texts *t,
	struct wl_err *err);
/* Title, first, and where the main text is; before any wl_image_texts. */
WL_MUST_CHECK int wl_page_texts(const struct wl_walk *w, struct wl_texts *t, struct wl_err *err);
size_t wl_utf8_chars(const char *s, size_t n);
/* Trims blanks of every kind and joins runs of them, into out (reset). */
WL_MUST_CHECK int wl_text_squeeze(const char *s, size_t n, struct wl_buf *out, struct wl_err *err);

/* ---- page_image.c ---- */

struct wl_image_place {
	char *url;          /* normalised, absolute; owned */
	char *other;        /* src, where url came from another attribute and differs; or NULL */
	int width, height;  /* 0 unknown */
};
void wl_image_place_release(struct wl_image_place *p);
/* WL_SKIP_COUNT: a content image, as far as its URL, classes and attributes tell. */
WL_MUST_CHECK int wl_image_place(const struct wl_walk *w, const struct wl_img *img,
	const char *base, struct wl_image_place *p, enum wl_page_skip *skip, struct wl_err *err);

#endif
