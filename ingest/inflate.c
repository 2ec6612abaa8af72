/* Members of compressed files: see inflate.h. */
#include "ingest/inflate.h"

#include "ops/file.h"
#include "ops/path.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum kind { PLAIN, GZIP, ZSTD };

enum {
	IN_AHEAD = 256 << 10, /* compressed bytes at hand when a member begins */
	IN_CAP = 1 << 20,
	WHOLE_IN = 16 << 20, /* past (half of) these a member is inflated piece by piece */
	WHOLE_OUT = 32 << 20,
	STEP = 512 << 10,   /* one piece */
	KEEP_OUT = 8 << 20, /* a giant window is not kept for the rest of the file */
	DICT_MAX = 32 << 20,
	TRIAL_IN = 64 << 10,
};

#define ZSTD_DICT_MAGIC 0x184D2A5Du /* a .warc.zst's dictionary: skippable frame 13 */

struct wl_inflate_codecs {
	struct libdeflate_decompressor *whole;
	z_stream z;
	bool z_ready;
	ZSTD_DCtx *zstd;
	ZSTD_DDict *dict;
};

/* ---- the input window ---- */

static int read_some(const struct wl_inflate *s, void *dst, size_t n, int64_t offset, size_t *got,
	struct wl_err *err)
{
	ssize_t r;
	do
		r = pread(s->fd, dst, n, offset);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return wl_err_errno(
			err, "%s cannot be read at byte %lld", s->path, (long long)offset);
	*got = (size_t)r;
	return 0;
}

static size_t in_left(const struct wl_inflate *s)
{
	return s->in_n - s->in_at;
}

static int64_t in_place(const struct wl_inflate *s)
{
	return s->in_offset + (int64_t)s->in_at;
}

static void in_seek(struct wl_inflate *s, int64_t offset)
{
	/* Back or on within what is at hand: an archive may be damaged in every member. */
	if (s->kind != PLAIN && offset >= s->in_offset &&
		offset <= s->in_offset + (int64_t)s->in_n) {
		s->in_at = (size_t)(offset - s->in_offset);
		return;
	}
	s->in_at = s->in_n = 0;
	s->in_offset = offset;
	s->in_eof = false;
}

/* At least `want` bytes from in_at on, or all that the file has. */
static int in_fill(struct wl_inflate *s, size_t want, struct wl_err *err)
{
	if (in_left(s) >= want || s->in_eof)
		return 0;
	if (s->in_at) {
		memmove(s->in, s->in + s->in_at, in_left(s));
		s->in_offset += (int64_t)s->in_at;
		s->in_n -= s->in_at;
		s->in_at = 0;
	}
	size_t cap = want > IN_CAP ? want : IN_CAP;
	if (cap > s->in_cap) {
		unsigned char *grown = realloc(s->in, cap);
		if (!grown)
			return wl_err_nomem(err, "compressed bytes", cap);
		s->in = grown;
		s->in_cap = cap;
	}
	while (s->in_n < want && !s->in_eof) {
		size_t got = 0;
		WL_TRY(read_some(s, s->in + s->in_n, s->in_cap - s->in_n,
			s->in_offset + (int64_t)s->in_n, &got, err));
		s->in_n += got;
		s->in_eof = got == 0;
	}
	return 0;
}

/* ---- the output window ---- */

/* Shows what the window has. */
static void show(struct wl_inflate *s)
{
	s->p = s->out ? s->out + s->out_at : "";
}

/* Room for `extra` bytes after what is visible. */
static int room(struct wl_inflate *s, size_t extra, struct wl_err *err)
{
	size_t need = s->n + extra;
	if (s->out_cap - s->out_at >= need)
		return 0;
	if (s->out_at && s->n)
		memmove(s->out, s->out + s->out_at, s->n);
	s->out_at = 0;
	if (s->out_cap < need) {
		size_t cap = need > 2 * s->out_cap ? need : 2 * s->out_cap;
		char *grown = realloc(s->out, cap);
		if (!grown)
			return wl_err_nomem(err, "decompressed bytes", cap);
		s->out = grown;
		s->out_cap = cap;
	}
	show(s);
	return 0;
}

static char *out_end(const struct wl_inflate *s)
{
	return s->out + s->out_at + s->n;
}

static size_t out_room(const struct wl_inflate *s)
{
	return s->out_cap - s->out_at - s->n;
}

/* The member ends here, damaged; where the next one begins is unknown. */
static void damaged(struct wl_inflate *s, const char *what)
{
	snprintf(s->why, sizeof s->why, "the %s member at byte %lld is damaged: %s",
		s->kind == GZIP ? "gzip" : "zstd", (long long)s->member, what);
	s->damage = s->why;
	s->ended = s->lost = true;
	s->streaming = false;
}

/* ---- one piece of a member ---- */

static int step_plain(struct wl_inflate *s, struct wl_err *err)
{
	size_t got = 0;
	WL_TRY(read_some(s, out_end(s), STEP, s->in_offset, &got, err));
	s->in_offset += (int64_t)got;
	s->n += got;
	s->ended = got == 0;
	return 0;
}

static int step_gzip(struct wl_inflate *s, struct wl_err *err)
{
	z_stream *z = &s->codecs->z;
	WL_TRY(in_fill(s, 1, err));
	size_t left = in_left(s), free_out = out_room(s) < STEP ? out_room(s) : STEP;
	z->next_in = s->in + s->in_at;
	z->avail_in = (uInt)left;
	z->next_out = (unsigned char *)out_end(s);
	z->avail_out = (uInt)free_out;
	int rc = inflate(z, Z_NO_FLUSH);
	s->in_at += left - z->avail_in;
	s->n += free_out - z->avail_out;
	if (rc == Z_STREAM_END) {
		s->ended = true;
		s->streaming = false;
	} else if (rc == Z_MEM_ERROR) {
		return wl_err_nomem(err, "zlib", 0);
	} else if (rc != Z_OK && !(rc == Z_BUF_ERROR && !s->in_eof)) {
		damaged(s, rc == Z_BUF_ERROR ? "it is cut off" : z->msg ? z->msg : "bad data");
	}
	return 0;
}

static int step_zstd(struct wl_inflate *s, struct wl_err *err)
{
	WL_TRY(in_fill(s, 1, err));
	size_t free_out = out_room(s);
	ZSTD_inBuffer in = {s->in + s->in_at, in_left(s), 0};
	ZSTD_outBuffer out = {out_end(s), free_out, 0};
	size_t rc = ZSTD_decompressStream(s->codecs->zstd, &out, &in);
	s->in_at += in.pos;
	s->n += out.pos;
	if (ZSTD_isError(rc)) {
		damaged(s, ZSTD_getErrorName(rc));
	} else if (rc == 0) {
		s->ended = true;
		s->streaming = false;
	} else if (!in.pos && !out.pos && s->in_eof) {
		damaged(s, "it is cut off");
	}
	return 0;
}

/* ---- finding the way again ---- */

static const unsigned char GZIP_MAGIC[] = {0x1f, 0x8b, 0x08};
static const unsigned char ZSTD_FRAME[] = {0x28, 0xb5, 0x2f, 0xfd};

static bool has_magic(const struct wl_inflate *s, const unsigned char *p, size_t n)
{
	return s->kind == GZIP ? n >= 4 && !memcmp(p, GZIP_MAGIC, 3) && !(p[3] & 0xe0)
			       : n >= 4 && !memcmp(p, ZSTD_FRAME, 4);
}

/* Whether the first bytes of what may be a member decompress to what members begin with. */
static bool trial(struct wl_inflate *s, const unsigned char *p, size_t n)
{
	unsigned char head[16];
	size_t want = strlen(s->sync), got = 0;
	n = n < TRIAL_IN ? n : TRIAL_IN;
	if (s->kind == GZIP) {
		z_stream z = {.next_in = (unsigned char *)p,
			.avail_in = (uInt)n,
			.next_out = head,
			.avail_out = (uInt)want};
		if (inflateInit2(&z, 15 + 16) != Z_OK)
			return false;
		inflate(&z, Z_SYNC_FLUSH);
		got = want - z.avail_out;
		inflateEnd(&z);
	} else {
		ZSTD_inBuffer in = {p, n, 0};
		ZSTD_outBuffer out = {head, want, 0};
		ZSTD_DCtx_reset(s->codecs->zstd, ZSTD_reset_session_only);
		while (out.pos < want && in.pos < n) {
			size_t was = in.pos + out.pos;
			if (ZSTD_isError(ZSTD_decompressStream(s->codecs->zstd, &out, &in)) ||
				was == in.pos + out.pos)
				break;
		}
		got = out.pos;
		ZSTD_DCtx_reset(s->codecs->zstd, ZSTD_reset_session_only);
	}
	return got == want && memcmp(head, s->sync, want) == 0;
}

/* Looks at most of what is at hand; *skip bytes are before the member that was found (then 1),
 * or surely belong to none (0). */
static int find_member(struct wl_inflate *s, size_t *skip, struct wl_err *err)
{
	WL_TRY(in_fill(s, IN_AHEAD, err));
	const unsigned char *p = s->in + s->in_at, *end = s->in + s->in_n;
	/* What is close to the edge is judged once more has been read. */
	const unsigned char *stop = s->in_eof ? end : end - (in_left(s) < TRIAL_IN ? 0 : TRIAL_IN);
	for (const unsigned char *at = p; at < stop; at++) {
		at = memchr(at, s->kind == GZIP ? 0x1f : 0x28, (size_t)(stop - at));
		if (!at)
			break;
		if (has_magic(s, at, (size_t)(end - at)) && trial(s, at, (size_t)(end - at))) {
			*skip = (size_t)(at - p);
			return 1;
		}
	}
	*skip = (size_t)(stop - p);
	return 0;
}

/* Bytes that belong to no member, up to one that does. */
static int step_raw(struct wl_inflate *s, struct wl_err *err)
{
	size_t k;
	int found = find_member(s, &k, err);
	WL_TRY(found);
	WL_TRY(room(s, k, err));
	if (k)
		memcpy(out_end(s), s->in + s->in_at, k);
	s->n += k;
	s->in_at += k;
	s->ended = found || (s->in_eof && !in_left(s));
	return 0;
}

/* After damage: bytes were lost or turned, so the next member may begin anywhere after the
 * beginning of the damaged one.  0: there is none. */
static int find_way(struct wl_inflate *s, struct wl_err *err)
{
	size_t k;
	int found;
	in_seek(s, s->member + 1);
	while ((found = find_member(s, &k, err)) == 0) {
		s->in_at += k;
		if (s->in_eof && !in_left(s))
			return 0;
	}
	s->in_at += found > 0 ? k : 0;
	s->lost = false;
	return found;
}

/* ---- beginning a member ---- */

/* The whole member at once.  1: done; 0: it has to be done piece by piece. */
static int whole_gzip(struct wl_inflate *s, struct wl_err *err)
{
	for (;;) {
		size_t used = 0, made = 0;
		enum libdeflate_result rc = libdeflate_gzip_decompress_ex(s->codecs->whole,
			s->in + s->in_at, in_left(s), out_end(s), out_room(s), &used, &made);
		if (rc == LIBDEFLATE_SUCCESS) {
			s->in_at += used;
			s->n += made;
			s->ended = true;
			return 1;
		}
		if (rc == LIBDEFLATE_INSUFFICIENT_SPACE) {
			if (out_room(s) >= WHOLE_OUT)
				return 0;
			WL_TRY(room(s, 2 * out_room(s), err));
		} else if (!s->in_eof && in_left(s) < WHOLE_IN / 2) {
			/* It cannot say whether it lacks bytes or has wrong ones. */
			WL_TRY(in_fill(s, WHOLE_IN, err));
		} else {
			return 0;
		}
	}
}

static int begin_gzip(struct wl_inflate *s, struct wl_err *err)
{
	z_stream *z = &s->codecs->z;
	WL_TRY(room(s, STEP, err));
	int done = whole_gzip(s, err);
	if (done)
		return done;
	int rc = s->codecs->z_ready ? inflateReset(z) : inflateInit2(z, 15 + 16);
	if (rc != Z_OK)
		return wl_err_nomem(err, "zlib", 0);
	s->codecs->z_ready = true;
	s->streaming = true;
	return 1;
}

static uint32_t le32(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Skippable frames hold nothing for us. */
static int skip_frames(struct wl_inflate *s, struct wl_err *err)
{
	for (;;) {
		WL_TRY(in_fill(s, IN_AHEAD, err));
		if (in_left(s) < 8 || (le32(s->in + s->in_at) & 0xfffffff0u) != 0x184D2A50u)
			return 0;
		int64_t past = in_place(s) + 8 + le32(s->in + s->in_at + 4);
		in_seek(s, past < s->size ? past : s->size);
	}
}

static int begin_compressed(struct wl_inflate *s, struct wl_err *err)
{
	if (s->lost) {
		int found = find_way(s, err);
		if (found <= 0)
			return found;
	}
	if (s->kind == ZSTD)
		WL_TRY(skip_frames(s, err));
	WL_TRY(in_fill(s, IN_AHEAD, err));
	if (!in_left(s))
		return 0;
	s->member = in_place(s);
	s->inside = -(int64_t)s->n;
	s->raw = !has_magic(s, s->in + s->in_at, in_left(s));
	s->ended = s->streaming = false;
	s->damage = NULL;
	if (s->raw)
		return 1;
	if (s->kind == GZIP)
		return begin_gzip(s, err);
	ZSTD_DCtx_reset(s->codecs->zstd, ZSTD_reset_session_only);
	s->streaming = true;
	return 1;
}

int wl_inflate_next(struct wl_inflate *s, struct wl_err *err)
{
	if (s->kind == PLAIN)
		return 0;
	if (!s->n && s->out_cap > KEEP_OUT) {
		free(s->out);
		s->out = NULL;
		s->out_cap = s->out_at = 0;
	}
	if (!s->n)
		s->out_at = 0;
	show(s);
	return begin_compressed(s, err);
}

int wl_inflate_need(struct wl_inflate *s, size_t want, struct wl_err *err)
{
	if (want > WL_INFLATE_MAX_WINDOW)
		WL_BUG("a window of %zu bytes", want);
	while (s->n < want && !s->ended) {
		if (!s->raw)
			WL_TRY(room(s, want - s->n > STEP ? want - s->n : STEP, err));
		if (s->raw)
			WL_TRY(step_raw(s, err));
		else if (s->kind == PLAIN)
			WL_TRY(step_plain(s, err));
		else if (s->kind == GZIP)
			WL_TRY(step_gzip(s, err));
		else
			WL_TRY(step_zstd(s, err));
	}
	show(s);
	return 0;
}

bool wl_inflate_is_compressed(const struct wl_inflate *s)
{
	return s->kind != PLAIN;
}

void wl_inflate_consume(struct wl_inflate *s, size_t k)
{
	WL_ASSERT(k <= s->n);
	s->out_at += k;
	s->p += k;
	s->n -= k;
	s->inside += (int64_t)k;
}

/* ---- opening ---- */

/* The dictionary of a .warc.zst: a skippable frame in front, itself compressed or not
 * (https://iipc.github.io/warc-specifications/specifications/warc-zstd/). */
static int take_dictionary(struct wl_inflate *s, struct wl_err *err)
{
	WL_TRY(in_fill(s, 8, err));
	if (in_left(s) < 8 || le32(s->in) != ZSTD_DICT_MAGIC)
		return 0;
	size_t n = le32(s->in + 4), plain;
	if (n > DICT_MAX)
		return wl_err_set(err, WL_EDATA,
			"%s says that its zstd dictionary has %zu bytes, at most %d are read; "
			"get the file again",
			s->path, n, DICT_MAX);
	WL_TRY(in_fill(s, 8 + n, err));
	if (in_left(s) < 8 + n)
		return wl_err_set(err, WL_EDATA,
			"%s ends inside its zstd dictionary, without which nothing in it can be "
			"read; get the file again",
			s->path);
	const unsigned char *p = s->in + 8;
	if (n < 4 || memcmp(p, ZSTD_FRAME, 4)) {
		s->codecs->dict = ZSTD_createDDict(p, n);
	} else {
		unsigned long long size = ZSTD_getFrameContentSize(p, n);
		size_t cap = size < DICT_MAX ? (size_t)size : DICT_MAX;
		void *dict = malloc(cap ? cap : 1);
		plain = dict ? ZSTD_decompress(dict, cap, p, n) : 0;
		if (dict && !ZSTD_isError(plain))
			s->codecs->dict = ZSTD_createDDict(dict, plain);
		free(dict);
	}
	if (!s->codecs->dict)
		return wl_err_set(err, WL_EDATA,
			"the zstd dictionary in front of %s cannot be read; get the file again",
			s->path);
	ZSTD_DCtx_refDDict(s->codecs->zstd, s->codecs->dict);
	return 0;
}

static int find_kind(struct wl_inflate *s, struct wl_err *err)
{
	in_seek(s, 0);
	WL_TRY(in_fill(s, 8, err));
	const unsigned char *p = s->in;
	size_t n = in_left(s);
	s->kind = n >= 2 && !memcmp(p, GZIP_MAGIC, 2) ? GZIP
		  : n >= 4 && (!memcmp(p, ZSTD_FRAME, 4) || (le32(p) & 0xfffffff0u) == 0x184D2A50u)
			  ? ZSTD
			  : PLAIN;
	return s->kind == ZSTD ? take_dictionary(s, err) : 0;
}

static int open_file(struct wl_inflate *s, struct wl_err *err)
{
	struct stat st;
	struct wl_inflate_codecs *c = calloc(1, sizeof *c);
	s->codecs = c;
	if (c) {
		c->whole = libdeflate_alloc_decompressor();
		c->zstd = ZSTD_createDCtx();
	}
	if (!c || !c->whole || !c->zstd)
		return wl_err_nomem(err, "decompressors", sizeof *c);
	s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st))
		return wl_path_failed(s->path, "opened", NULL, err);
	if (!S_ISREG(st.st_mode))
		return wl_err_set(err, WL_EUSAGE, "%s is not a plain file", s->path);
	s->size = st.st_size;
	posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return find_kind(s, err);
}

int wl_inflate_open(struct wl_inflate *s, const char *path, const char *sync, int64_t member,
	int64_t inside, struct wl_err *err)
{
	*s = (struct wl_inflate){.fd = -1, .sync = sync};
	s->path = wl_strf(err, "%s", path);
	if (!s->path || open_file(s, err) < 0 || wl_inflate_seek(s, member, inside, err) < 0) {
		wl_inflate_close(s);
		return -1;
	}
	return 0;
}

static int other_file(
	const struct wl_inflate *s, int64_t member, int64_t inside, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"%s was read up to byte %lld + %lld before and does not reach that far now (%lld "
		"bytes): it is another file; give a new file a new name",
		s->path, (long long)member, (long long)inside, (long long)s->size);
}

int wl_inflate_seek(struct wl_inflate *s, int64_t member, int64_t inside, struct wl_err *err)
{
	s->n = s->out_at = 0;
	show(s);
	s->member = member;
	s->inside = s->kind == PLAIN ? inside : 0;
	s->damage = NULL;
	s->ended = s->kind != PLAIN;
	s->raw = s->lost = s->streaming = false;
	if (member < 0 || inside < 0 || member > s->size ||
		(s->kind == PLAIN && (member || inside > s->size)))
		return other_file(s, member, inside, err);
	in_seek(s, s->kind == PLAIN ? inside : member);
	if (s->kind == PLAIN || (!member && !inside))
		return 0;
	if (member == s->size)
		return inside ? other_file(s, member, inside, err) : 0;
	int more = wl_inflate_next(s, err);
	WL_TRY(more);
	while (s->inside < inside) {
		int64_t left = inside - s->inside;
		if (!more || (s->ended && !s->n))
			return other_file(s, member, inside, err);
		WL_TRY(wl_inflate_need(s, left < STEP ? (size_t)left : STEP, err));
		wl_inflate_consume(s, (int64_t)s->n < left ? s->n : (size_t)left);
	}
	return 0;
}

void wl_inflate_close(struct wl_inflate *s)
{
	if (!s)
		return;
	if (s->codecs) {
		libdeflate_free_decompressor(s->codecs->whole);
		if (s->codecs->z_ready)
			inflateEnd(&s->codecs->z);
		ZSTD_freeDCtx(s->codecs->zstd);
		ZSTD_freeDDict(s->codecs->dict);
		free(s->codecs);
		if (s->fd >= 0)
			close(s->fd);
	}
	free(s->path);
	free(s->in);
	free(s->out);
	*s = (struct wl_inflate){.fd = -1};
}
