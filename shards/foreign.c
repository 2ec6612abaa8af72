/*
 * Tars of any writer: ustar, GNU long names and pax paths; links, devices and directories are
 * passed over.  Unlike tar.c, which refuses what our writer would not write, this reader takes
 * what the format allows, but nothing that reaches past the end of the file.
 */
#include "shards/foreign.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/path.h"
#include "shards/tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, TEXT_MAX_BYTES = 16 << 20, EXT_BYTES = 16 };
enum kind { PICTURE, JSON, TEXT, KINDS, OTHER = KINDS };

struct sample {
	uint32_t tar;
	uint32_t length[KINDS]; /* with offset 0: there is no such member */
	int64_t offset[KINDS];
	size_t key; /* in keys: "NAME.tar KEY" */
};

struct wl_foreign {
	char *dir;
	struct wl_names tars;
	struct sample *samples;
	int64_t n, cap;
	struct wl_buf keys;
	char fingerprint[WL_SHA256_HEX];
};

/* ---- headers ---- */

struct scan { /* one tar */
	int fd;
	const char *path;
	int64_t size, pos;
	char longname[PATH_BYTES]; /* of the member that follows; "" when its header has it */
};

struct member {
	char name[PATH_BYTES];
	int64_t offset, length;
	char type;
};

static int torn(const struct scan *s, const char *what, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"%s, byte %lld: %s (the file has %lld bytes); the tar is torn or damaged: copy it "
		"again, or move it out of the folder", s->path, (long long)s->pos, what,
		(long long)s->size);
}

/* Octal, or GNU's base 256 with the first bit set; -1 when it is neither. */
static int64_t number(const uint8_t *p, size_t n)
{
	int64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		if ((p[0] & 0x7f) || n < 9)
			return -1;
		for (i = 1; i < n; i++) {
			if (v >> 47)
				return -1;
			v = v << 8 | p[i];
		}
		return v;
	}
	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (p[i] - '0');
	return i == n || p[i] == 0 || p[i] == ' ' ? v : -1;
}

static bool sums_up(const uint8_t b[WL_TAR_BLOCK])
{
	int64_t sum = 0;

	for (int i = 0; i < WL_TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : b[i];
	return number(b + 148, 8) == sum;
}

static void header_name(const uint8_t *b, char out[PATH_BYTES])
{
	bool ustar = !memcmp(b + 257, "ustar", 6) && b[345];

	snprintf(out, PATH_BYTES, "%.*s%s%.*s", ustar ? 155 : 0, (const char *)b + 345,
		ustar ? "/" : "", 100, (const char *)b);
}

/* The "path" of pax records ("27 path=a/b.jpg\n"), into s->longname; false: malformed. */
static bool pax_path(struct scan *s, const char *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		char *end;
		unsigned long len = strtoul(p + at, &end, 10);
		size_t head = (size_t)(end - (p + at)) + 1;

		if (len <= head || len > n - at || *end != ' ')
			return false;
		if (len > head + 6 && !memcmp(end + 1, "path=", 5)) {
			if (len - head - 6 >= PATH_BYTES)
				return false;
			snprintf(s->longname, PATH_BYTES, "%.*s", (int)(len - head - 6), end + 6);
		}
		at += len;
	}
	return true;
}

/* A long name or a pax header: its contents say how the next member is called. */
static int take_name(struct scan *s, const struct member *m, struct wl_err *err)
{
	char text[8192 + 1];

	if (m->length > (m->type == 'L' ? PATH_BYTES : (int64_t)sizeof(text) - 1))
		return torn(s, "a member's name of more than 1,023 bytes", err);
	WL_TRY(wl_pread_full(s->fd, text, (size_t)m->length, m->offset, s->path, err));
	text[m->length] = 0;
	if (m->type == 'L')
		snprintf(s->longname, PATH_BYTES, "%.*s", PATH_BYTES - 1, text);
	else if (!pax_path(s, text, (size_t)m->length))
		return torn(
			s, "a pax header that is malformed or has a path over 1,023 bytes", err);
	return 0;
}

/* 1: the next regular file; 0: the end; -1. */
static int next_member(struct scan *s, struct member *m, struct wl_err *err)
{
	static const uint8_t zeros[WL_TAR_BLOCK];
	uint8_t b[WL_TAR_BLOCK];

	for (;;) {
		if (s->pos == s->size) /* writers that leave out the closing blocks */
			return 0;
		if (s->size - s->pos < WL_TAR_BLOCK)
			return torn(s, "a header of 512 bytes is cut off", err);
		WL_TRY(wl_pread_full(s->fd, b, sizeof(b), s->pos, s->path, err));
		if (!memcmp(b, zeros, sizeof(b)))
			return 0;
		if (!sums_up(b))
			return torn(s, "expected a tar header, its checksum is wrong", err);
		m->type = (char)b[156];
		m->length = number(b + 124, 12);
		m->offset = s->pos + WL_TAR_BLOCK;
		if (m->length < 0 || m->length > s->size - m->offset)
			return torn(s, "a member reaches past the end of the file", err);
		s->pos = m->offset + wl_tar_padded(m->length);
		s->pos = s->pos < s->size ? s->pos : s->size;
		if (m->type == 'L' || m->type == 'x') {
			WL_TRY(take_name(s, m, err));
			continue;
		}
		if (s->longname[0])
			snprintf(m->name, PATH_BYTES, "%s", s->longname);
		else
			header_name(b, m->name);
		s->longname[0] = 0;
		if (m->type == '0' || m->type == 0 || m->type == '7')
			return 1;
	}
}

/* ---- samples ---- */

static enum kind kind_of(const char *ext)
{
	static const struct {
		const char *ext;
		enum kind kind;
	} known[] = {{"jpg", PICTURE}, {"jpeg", PICTURE}, {"png", PICTURE}, {"webp", PICTURE},
		{"gif", PICTURE}, {"avif", PICTURE}, {"json", JSON}, {"txt", TEXT},
		{"caption", TEXT}, {"cap", TEXT}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcasecmp(ext, known[i].ext))
			return known[i].kind;
	return OTHER;
}

static int new_sample(struct wl_foreign *f, uint32_t tar, const char *key, size_t len,
	struct wl_err *err)
{
	if (f->n == f->cap) {
		int64_t cap = f->cap ? 2 * f->cap : 1024;
		struct sample *p = realloc(f->samples, (size_t)cap * sizeof(*p));

		if (!p)
			return wl_err_nomem(err, "an index of tars", (size_t)cap * sizeof(*p));
		f->samples = p;
		f->cap = cap;
	}
	f->samples[f->n++] = (struct sample){.tar = tar, .key = f->keys.len};
	WL_TRY(wl_buf_add(&f->keys, f->tars.v[tar], strlen(f->tars.v[tar]), err));
	WL_TRY(wl_buf_add(&f->keys, " ", 1, err));
	WL_TRY(wl_buf_add(&f->keys, key, len, err));
	return wl_buf_add(&f->keys, "", 1, err);
}

/* Adds the member to the sample that it belongs to; *first: the tar has no sample yet. */
static int add_member(struct wl_foreign *f, uint32_t tar, const struct scan *s,
	const struct member *m, bool *first, struct wl_err *err)
{
	const char *name = m->name + 2 * !strncmp(m->name, "./", 2);
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	const char *dot = strchr(base, '.');
	size_t skip = strlen(f->tars.v[tar]) + 1, len = dot ? (size_t)(dot - name) : 0;
	struct sample *last = f->n && !*first ? &f->samples[f->n - 1] : NULL;
	const char *key = last ? f->keys.data + last->key + skip : "";
	enum kind kind = dot ? kind_of(dot + 1) : OTHER;

	/* Names in double underscores are WebDataset's own remarks. */
	if (!dot || dot == base || !strncmp(base, "__", 2))
		return 0;
	if (!last || strlen(key) != len || memcmp(key, name, len)) {
		WL_TRY(new_sample(f, tar, name, len, err));
		last = &f->samples[f->n - 1];
		*first = false;
	}
	if (kind == OTHER)
		return 0;
	if (last->offset[kind])
		return wl_err_set(err, WL_EDATA,
			"%s, byte %lld: %s is a second member of its kind in one sample; key and "
			"extension are parted at the first dot of the name: rename the members",
			s->path, (long long)(m->offset - WL_TAR_BLOCK), name);
	if (m->length > UINT32_MAX)
		return torn(s, "a member of more than 4 GiB", err);
	last->offset[kind] = m->offset;
	last->length[kind] = (uint32_t)m->length;
	return 0;
}

static int scan_tar(struct wl_foreign *f, uint32_t tar, struct wl_err *err)
{
	char *path = wl_path_join(f->dir, f->tars.v[tar], err);
	struct scan s = {.fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, .path = path};
	bool first = true;
	struct member m;
	int rc = -1;

	if (!path)
		return -1;
	if (s.fd < 0) {
		wl_path_failed(path, "opened", NULL, err);
		goto out;
	}
	s.size = wl_file_size(path, err);
	if (s.size < 0)
		goto out;
	while ((rc = next_member(&s, &m, err)) > 0)
		WL_TRY_OUT(rc = add_member(f, tar, &s, &m, &first, err));
out:
	if (s.fd >= 0)
		close(s.fd);
	free(path);
	return rc;
}

/* ---- opening ---- */

bool wl_foreign_is(const char *dir)
{
	char *manifest = wl_path_join(dir, "manifest.db", NULL);
	char *plan = wl_path_join(dir, "plan.json", NULL);
	struct wl_names tars = {0};
	/* A plan without a manifest: wenlan-shard was killed, and not all of the set is there. */
	bool is = manifest && plan && !wl_exists(manifest) && !wl_exists(plan) &&
		wl_list_dir(dir, "*.tar", &tars, NULL) == 0 && tars.n > 0;

	wl_names_release(&tars);
	free(manifest);
	free(plan);
	return is;
}

static bool begins(const char *name, const char *with)
{
	return !strncmp(name, with, strlen(with));
}

/* Keeps the split's tars of f->tars. */
static int pick_tars(struct wl_foreign *f, const char *split, struct wl_err *err)
{
	bool named = false;
	size_t i, n = 0;

	for (i = 0; i < f->tars.n; i++)
		named |= begins(f->tars.v[i], "train") || begins(f->tars.v[i], "val") ||
			begins(f->tars.v[i], "test");
	for (i = 0; i < f->tars.n; i++) {
		char *v = f->tars.v[i];

		if (named ? begins(v, split) : !strcmp(split, "train"))
			f->tars.v[n++] = v;
		else
			free(v);
	}
	f->tars.n = n;
	return n ? 0 : wl_err_set(err, WL_EDATA,
		"%s has no manifest.db, and no tar of the split \"%s\": %s", f->dir, split,
		named ? "tars are told apart by what their names begin with"
		      : "its tars are not named after splits, so all of them are \"train\"");
}

static int make_fingerprint(struct wl_foreign *f, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	int64_t i;

	WL_TRY(wl_sha256_init(&h, err));
	wl_sha256_add(&h, f->keys.data, f->keys.len);
	for (i = 0; i < f->n; i++) {
		wl_sha256_add(&h, f->samples[i].offset, sizeof(f->samples[i].offset));
		wl_sha256_add(&h, f->samples[i].length, sizeof(f->samples[i].length));
	}
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_hex(digest, sizeof(digest), f->fingerprint);
	return 0;
}

static int open_set(struct wl_foreign *f, const char *dir, const char *split, struct wl_err *err)
{
	f->dir = wl_strf(err, "%s", dir);
	if (!f->dir)
		return -1;
	WL_TRY(wl_list_dir(dir, "*.tar", &f->tars, err));
	WL_TRY(pick_tars(f, split, err));
	for (size_t i = 0; i < f->tars.n; i++)
		WL_TRY(scan_tar(f, (uint32_t)i, err));
	if (!f->n)
		return wl_err_set(err, WL_EDATA, "the tars of %s hold no samples: members are "
			"called KEY.jpg, KEY.txt, KEY.json", dir);
	return make_fingerprint(f, err);
}

struct wl_foreign *wl_foreign_open(const char *dir, const char *split, struct wl_err *err)
{
	struct wl_foreign *f = calloc(1, sizeof(*f));

	if (!f) {
		wl_err_nomem(err, "an index of tars", sizeof(*f));
		return NULL;
	}
	wl_buf_init(&f->keys, (size_t)1 << 40);
	if (open_set(f, dir, split, err) == 0)
		return f;
	wl_foreign_close(f);
	return NULL;
}

void wl_foreign_close(struct wl_foreign *f)
{
	if (!f)
		return;
	wl_names_release(&f->tars);
	wl_buf_release(&f->keys);
	free(f->samples);
	free(f->dir);
	free(f);
}

int64_t wl_foreign_size(const struct wl_foreign *f)
{
	return f->n;
}

const char *wl_foreign_fingerprint(const struct wl_foreign *f)
{
	return f->fingerprint;
}

const char *wl_foreign_key(const struct wl_foreign *f, int64_t i)
{
	return f->keys.data + f->samples[i].key;
}

const char *wl_foreign_source(const struct wl_foreign *f, int64_t i, char *out, size_t n)
{
	const char *name = f->tars.v[f->samples[i].tar];
	size_t len = strlen(name) - strlen(".tar");

	while (len > 1 && name[len - 1] >= '0' && name[len - 1] <= '9')
		len--;
	while (len > 1 && (name[len - 1] == '-' || name[len - 1] == '_'))
		len--;
	snprintf(out, n, "%.*s", (int)len, name);
	return out;
}

/* ---- reading ---- */

static int read_member(const struct sample *s, int fd, const char *path, enum kind kind,
	struct wl_buf *out, struct wl_err *err)
{
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, s->length[kind] + 1, err));
	WL_TRY(wl_pread_full(fd, out->data, s->length[kind], s->offset[kind], path, err));
	out->len = s->length[kind];
	out->data[out->len] = 0;
	return 0;
}

/* A text file's line ends are not part of the caption. */
static void trim(struct wl_buf *b)
{
	while (b->len && strchr(" \t\r\n", b->data[b->len - 1]))
		b->len--;
	if (b->data)
		b->data[b->len] = 0;
}

static json_t *captions_of(const json_t *theirs, const struct wl_buf *text)
{
	json_t *list = json_object_get(theirs, "captions"),
	       *one = json_object_get(theirs, "caption");

	if (json_is_array(list) && json_array_size(list))
		return json_incref(list);
	if (json_is_string(one))
		return json_pack("[O]", one);
	return text->len ? json_pack("[s#]", text->data, (int)text->len) : NULL;
}

/* Their JSON and text as ours. */
static int give_json(const struct wl_foreign *f, int64_t i, const struct wl_buf *raw,
	struct wl_buf *text, struct wl_buf *out, struct wl_err *err)
{
	json_t *theirs = raw->len ? wl_json_parse(raw->data, raw->len, "its .json", err) : NULL;
	json_t *captions, *boxes = json_object_get(theirs, "boxes"), *ours = NULL;
	char source[256], *s = NULL;
	int rc = -1;

	if (raw->len && !theirs)
		return -1;
	trim(text);
	captions = captions_of(theirs, text);
	if (!captions) {
		wl_err_set(err, WL_EDATA, "there is no caption in a .txt or .json member beside "
			"the picture; the members of a sample must stand together");
		goto out;
	}
	ours = json_pack("{s:I, s:s, s:o, s:O*}", "pair_id", (json_int_t)i, "source",
		wl_foreign_source(f, i, source, sizeof(source)), "captions", captions, "boxes",
		json_is_array(boxes) ? boxes : NULL);
	s = ours ? wl_json_text(ours, err) : NULL;
	wl_buf_reset(out);
	rc = s ? wl_buf_add(out, s, strlen(s), err) : -1;
out:
	free(s);
	json_decref(ours);
	json_decref(theirs);
	return rc;
}

static int read_texts(const struct wl_foreign *f, int64_t i, int fd, const char *path,
	struct wl_buf *txt, struct wl_buf *json, struct wl_err *err)
{
	const struct sample *s = &f->samples[i];
	struct wl_buf raw, text;
	int rc = -1;

	wl_buf_init(&raw, TEXT_MAX_BYTES);
	wl_buf_init(&text, TEXT_MAX_BYTES);
	if (s->offset[JSON])
		WL_TRY_OUT(read_member(s, fd, path, JSON, &raw, err));
	if (s->offset[TEXT])
		WL_TRY_OUT(read_member(s, fd, path, TEXT, &text, err));
	if (json)
		WL_TRY_OUT(give_json(f, i, &raw, &text, json, err));
	if (txt) {
		wl_buf_reset(txt);
		WL_TRY_OUT(wl_buf_add(txt, text.len ? text.data : "", text.len, err));
	}
	rc = 0;
out:
	wl_buf_release(&raw);
	wl_buf_release(&text);
	return rc;
}

static int read_sample(const struct wl_foreign *f, int64_t i, int fd, const char *path,
	struct wl_buf *jpg, struct wl_buf *txt, struct wl_buf *json, struct wl_err *err)
{
	const struct sample *s = &f->samples[i];

	if (jpg && !s->offset[PICTURE])
		return wl_err_set(err, WL_EDATA, "there is no picture: its members are %s%s; add "
			"a .jpg or leave the sample out", s->offset[JSON] ? ".json " : "",
			s->offset[TEXT] ? ".txt" : "");
	if (jpg)
		WL_TRY(read_member(s, fd, path, PICTURE, jpg, err));
	return txt || json ? read_texts(f, i, fd, path, txt, json, err) : 0;
}

int wl_foreign_read(const struct wl_foreign *f, int64_t i, struct wl_buf *jpg, struct wl_buf *txt,
	struct wl_buf *json, struct wl_err *err)
{
	char *path = wl_path_join(f->dir, f->tars.v[f->samples[i].tar], err);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, rc = -1;

	if (path && fd < 0)
		wl_path_failed(path, "opened", NULL, err);
	if (fd >= 0)
		rc = read_sample(f, i, fd, path, jpg, txt, json, err);
	if (fd >= 0)
		close(fd);
	free(path);
	if (rc < 0 && err) {
		wl_err_prefix(err, "sample %s in %s", wl_foreign_key(f, i), f->dir);
		err->code = WL_EDATA;
	}
	return rc;
}
