/* Plain ustar (POSIX.1-1988, "Extended tar Format"): see tar.h for why so little of it. */
#include "shards/tar.h"

#include "ops/file.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* Where the fields lie in a header block. */
enum {
	F_MODE = 100,
	F_UID = 108,
	F_GID = 116,
	F_SIZE = 124,
	F_MTIME = 136,
	F_SUM = 148,
	F_TYPE = 156,
	F_MAGIC = 257,
	F_DEVMAJOR = 329,
	F_DEVMINOR = 337,
	F_PREFIX = 345,
};
#define MAX_SIZE ((INT64_C(1) << 33) - 1) /* eleven octal digits */

/* The sum of the block's bytes with the sum's own field taken as spaces. */
static unsigned header_sum(const uint8_t *b)
{
	unsigned sum = 8 * ' ';

	for (size_t i = 0; i < WL_TAR_BLOCK; i++)
		if (i < F_SUM || i >= F_SUM + 8)
			sum += b[i];
	return sum;
}

/* Octal digits with leading zeros; printf would take longer than all the rest of a header. */
static void put_octal(uint8_t *to, int digits, uint64_t v)
{
	while (digits--) {
		to[digits] = (uint8_t)('0' + (v & 7));
		v >>= 3;
	}
}

int wl_tar_header(uint8_t out[WL_TAR_BLOCK], const char *name, int64_t size, struct wl_err *err)
{
	size_t n = strlen(name);

	if (!n || n >= WL_TAR_NAME)
		return wl_err_set(err, WL_EFAIL,
			"member name \"%s\" has %zu bytes; a plain tar holds 1 to %d", name, n,
			WL_TAR_NAME - 1);
	if (size < 0 || size > MAX_SIZE)
		return wl_err_set(err, WL_EFAIL,
			"member %s has %lld bytes; a plain tar holds at most %lld", name,
			(long long)size, (long long)MAX_SIZE);
	memset(out, 0, WL_TAR_BLOCK);
	memcpy(out, name, n);
	memcpy(out + F_MODE, "0000644", 8);
	memcpy(out + F_UID, "0000000", 8);
	memcpy(out + F_GID, "0000000", 8);
	put_octal(out + F_SIZE, 11, (uint64_t)size);
	memcpy(out + F_MTIME, "00000000000", 12);
	out[F_TYPE] = '0';
	memcpy(out + F_MAGIC, "ustar", 6);
	memcpy(out + F_MAGIC + 6, "00", 2); /* the version, not closed by a 0 */
	memcpy(out + F_DEVMAJOR, "0000000", 8);
	memcpy(out + F_DEVMINOR, "0000000", 8);
	put_octal(out + F_SUM, 6, header_sum(out));
	out[F_SUM + 6] = 0;
	out[F_SUM + 7] = ' ';
	return 0;
}

int wl_tar_walk_init(struct wl_tar_walk *w, int fd, const char *path, struct wl_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return wl_err_errno(err, "%s: its size cannot be read", path);
	*w = (struct wl_tar_walk){.fd = fd, .path = path, .size = st.st_size};
	return 0;
}

/* Octal digits, then zeros or spaces to the field's end; -1 for anything else. */
static int64_t parse_octal(const uint8_t *p, size_t n)
{
	int64_t v = 0;
	size_t i = 0;

	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v * 8 + (p[i] - '0');
	for (; i < n; i++)
		if (p[i] != 0 && p[i] != ' ')
			return -1;
	return v;
}

static bool is_zero(const uint8_t *b)
{
	for (size_t i = 0; i < WL_TAR_BLOCK; i++)
		if (b[i])
			return false;
	return true;
}

static int bad(const struct wl_tar_walk *w, struct wl_err *err, const char *what)
{
	return wl_err_set(err, WL_EDATA,
		"%s, offset %lld: %s; the file is damaged or was not written by wenlan-shard: "
		"remove it and pack it again",
		w->path, (long long)w->pos, what);
}

/* After the first zero block: one more, and the file must end there. */
static int walk_end(struct wl_tar_walk *w, struct wl_err *err)
{
	uint8_t b[WL_TAR_BLOCK];

	if (w->size - w->pos != 2 * WL_TAR_BLOCK)
		return bad(w, err, "expected two zero blocks at the very end of the file");
	WL_TRY(wl_pread_full(w->fd, b, sizeof b, w->pos + WL_TAR_BLOCK, w->path, err));
	if (!is_zero(b))
		return bad(w, err, "expected a second zero block");
	for (int i = 0; w->sha && i < 2; i++)
		wl_sha256_add(w->sha, b, sizeof b);
	return 0;
}

const char *wl_tar_parse(const uint8_t b[WL_TAR_BLOCK], char name[WL_TAR_NAME], int64_t *length)
{
	if (parse_octal(b + F_SUM, 8) != (int64_t)header_sum(b))
		return "the checksum of the member's header is wrong";
	if (memcmp(b + F_MAGIC, "ustar", 6) || (b[F_TYPE] != '0' && b[F_TYPE]) || b[F_PREFIX])
		return "expected the header of a regular file in plain ustar";
	*length = parse_octal(b + F_SIZE, 12);
	if (*length < 0)
		return "the member's size is not an octal number";
	memcpy(name, b, WL_TAR_NAME - 1);
	name[WL_TAR_NAME - 1] = 0;
	return NULL;
}

int wl_tar_walk_next(struct wl_tar_walk *w, struct wl_tar_member *m, struct wl_err *err)
{
	uint8_t b[WL_TAR_BLOCK];
	const char *wrong;

	if (w->size - w->pos < WL_TAR_BLOCK)
		return bad(w, err, "the file ends before its two closing zero blocks");
	WL_TRY(wl_pread_full(w->fd, b, sizeof b, w->pos, w->path, err));
	if (is_zero(b))
		return walk_end(w, err);
	wrong = wl_tar_parse(b, m->name, &m->length);
	if (wrong)
		return bad(w, err, wrong);
	if (m->length > w->size - w->pos - WL_TAR_BLOCK)
		return bad(w, err, "the member's contents reach past the end of the file");
	if (w->sha)
		wl_sha256_add(w->sha, b, sizeof b);
	m->offset = w->pos + WL_TAR_BLOCK;
	w->pos = m->offset + wl_tar_padded(m->length);
	return 1;
}
