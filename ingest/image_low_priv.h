/* Between image_low_headers.c (a JPEG's tables and the bytes of its scan) and image_low.c (what is
 * decoded of them). */
#ifndef WL_INGEST_IMAGE_LOW_PRIV_H
#define WL_INGEST_IMAGE_LOW_PRIV_H

#include "ingest/image_low.h"

enum {
	LOOK = 11,  /* bits that a step looks at */
	FIRST = 11, /* and the look-up of a symbol */
	SYMBOLS = 3, /* that a step goes over at most */
	COEFFICIENTS = 64,
	LOW_END = 5,	/* the place behind the last coefficient that counts at 1/4 */
	END = 128,	/* what "end of block" adds to the place */
	SAFE_GO = 15,	/* places that all symbols of an entry but the last may go */
	PAD = 4096,	/* a damaged scan may be read on to the end of its MCU: 6 blocks * 64
			 * coefficients * 31 bits at most */
	RESTARTS_MAX = 1 << 16,
};

struct huffman {
	uint16_t look[1 << FIRST]; /* symbol << 8 | bits; 0: a longer code */
	int32_t max_code[18];	   /* by length; -1 none */
	int32_t offset[17]; /* of symbols, less the first code */
	uint8_t symbol[256];
	bool known;
};

/* A step over AC symbols and the bits behind them: bits and places to go over all that fit, then
 * over the first alone, a byte each from the lowest; 0: the code is longer, or none.  Tables are
 * small, for they must stay in the first-level cache together. */
typedef uint32_t wl_step;

struct component {
	int id, h, v, quant, dc, ac;
	int last;
	struct wl_image *plane;
};

struct low {
	const uint8_t *p, *end; /* what is left of the file */
	int by, width, height, components, restart;
	struct component c[3];
	uint16_t quant[4][COEFFICIENTS]; /* in zigzag order */
	bool has_quant[4], has_frame, has_scan, jfif, adobe;
	struct huffman dc[2], ac[2];
	wl_step step[2][1 << LOOK];
	/* the scan without stuffing */
	uint8_t *bytes;
	size_t *segment; /* [segments + 1] where restart intervals begin */
	size_t segments;
};

static inline unsigned u16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* Reads up to the scan's data, and gives the quantiser of each component in *q.  False when the
 * file is none that is decoded here. */
bool wl_low_read_headers(struct low *l, const uint16_t *q[3]);
/* The scan's bytes without stuffing into l->bytes, and where restart intervals begin.  1; 0: not
 * one whole scan with an end behind it; -1. */
WL_MUST_CHECK int wl_low_unstuff(struct low *l, struct wl_err *err);

#endif
