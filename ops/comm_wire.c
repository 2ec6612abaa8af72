/* Bytes between ranks, written and read: see comm_wire.h. */
#include "ops/comm_wire.h"

#include "ops/hash.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char hello_magic[8] = "WLhello1", answer_magic[8] = "WLansw_1",
		  table_magic[8] = "WLtable1";
static const uint32_t frame_magic = 0x31464c57; /* "WLF1" */

static void put(uint8_t *to, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *from, int bytes)
{
	uint64_t v = 0;

	for (int i = 0; i < bytes; i++)
		v |= (uint64_t)from[i] << (8 * i);
	return v;
}

/* --- hello --- */

void comm_hello_write(const struct comm_hello *h, uint8_t to[COMM_HELLO_BYTES])
{
	memcpy(to, hello_magic, 8);
	put(to + 8, (uint64_t)h->kind, 4);
	put(to + 12, (uint64_t)h->world, 4);
	put(to + 16, (uint64_t)h->rank, 4);
	put(to + 20, h->port, 4);
	memcpy(to + 24, h->key, COMM_KEY);
	memcpy(to + 56, h->host, COMM_HOST);
	put(to + 72, wl_hash64(to, 72, 1), 8);
}

int comm_hello_read(const uint8_t from[COMM_HELLO_BYTES], struct comm_hello *h,
	struct wl_err *err)
{
	uint64_t kind = get(from + 8, 4), world = get(from + 12, 4), rank = get(from + 16, 4);
	uint64_t port = get(from + 20, 4);

	if (memcmp(from, hello_magic, 8))
		return wl_err_set(err, WL_EDATA, "what came is no greeting of a rank");
	if (get(from + 72, 8) != wl_hash64(from, 72, 1))
		return wl_err_set(err, WL_EDATA, "a rank's greeting is damaged");
	if ((kind != COMM_TO_MEETING && kind != COMM_TO_NEIGHBOUR) || world < 2 ||
		world > COMM_RANKS || rank >= world || port > 65535)
		return wl_err_set(err, WL_EDATA, "a greeting of kind %llu says rank %llu of %llu "
			"and port %llu: expected kind 1 or 2, a rank below a world of 2 to %d, "
			"and a port", (unsigned long long)kind, (unsigned long long)rank,
			(unsigned long long)world, (unsigned long long)port, COMM_RANKS);
	h->kind = (enum comm_hello_kind)kind;
	h->world = (int)world;
	h->rank = (int)rank;
	h->port = (uint16_t)port;
	memcpy(h->key, from + 24, COMM_KEY);
	memcpy(h->host, from + 56, COMM_HOST);
	return 0;
}

/* --- answer --- */

void comm_answer_write(const char *refusal, uint8_t to[COMM_ANSWER_BYTES])
{
	memset(to, 0, COMM_ANSWER_BYTES);
	memcpy(to, answer_magic, 8);
	to[8] = refusal != NULL;
	snprintf((char *)to + 9, COMM_ANSWER_BYTES - 9, "%s", refusal ? refusal : "");
}

int comm_answer_read(const uint8_t from[COMM_ANSWER_BYTES], char refusal[COMM_ANSWER_BYTES],
	struct wl_err *err)
{
	if (memcmp(from, answer_magic, 8) || from[8] > 1 || from[COMM_ANSWER_BYTES - 1])
		return wl_err_set(err, WL_EDATA, "what answers is not a rank of this program");
	snprintf(refusal, COMM_ANSWER_BYTES, "%s", (const char *)from + 9);
	for (char *c = refusal; *c; c++) /* it goes into a log */
		if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
			*c = '?';
	return from[8];
}

/* --- table --- */

void comm_table_write(const struct comm_place *places, int world, const uint8_t key[COMM_KEY],
	uint8_t *to)
{
	uint8_t *e = to + COMM_TABLE_HEAD;

	memcpy(to, table_magic, 8);
	memcpy(to + 8, key, COMM_KEY);
	for (int r = 0; r < world; r++, e += COMM_ENTRY_BYTES) {
		put(e, places[r].v6, 2);
		put(e + 2, places[r].port, 2);
		memcpy(e + 4, places[r].at, 16);
		memcpy(e + 20, places[r].host, COMM_HOST);
	}
	put(to + 40, wl_hash64(to + COMM_TABLE_HEAD, (size_t)(e - to) - COMM_TABLE_HEAD, 2), 8);
}

int comm_table_read(const uint8_t *from, size_t n, int world, struct comm_place *places,
	uint8_t key[COMM_KEY], struct wl_err *err)
{
	const uint8_t *e = from + COMM_TABLE_HEAD;

	if (n != COMM_TABLE_HEAD + (size_t)world * COMM_ENTRY_BYTES ||
		memcmp(from, table_magic, 8) ||
		get(from + 40, 8) != wl_hash64(e, n - COMM_TABLE_HEAD, 2))
		return wl_err_set(err, WL_EDATA, "the table of ranks that came is damaged");
	memcpy(key, from + 8, COMM_KEY);
	for (int r = 0; r < world; r++, e += COMM_ENTRY_BYTES) {
		if (get(e, 2) > 1)
			return wl_err_set(err, WL_EDATA, "the table of ranks has an address of "
				"kind %d for rank %d: expected 0 or 1", (int)get(e, 2), r);
		places[r].v6 = get(e, 2) == 1;
		places[r].port = (uint16_t)get(e + 2, 2);
		memcpy(places[r].at, e + 4, 16);
		memcpy(places[r].host, e + 20, COMM_HOST);
	}
	return 0;
}

/* --- frame --- */

const char *comm_kind_name(enum comm_kind kind)
{
	static const char *const names[COMM_KINDS] = {"nothing", "a barrier", "an all-reduce",
		"a reduce-scatter", "a broadcast", "an all-gather", "an exchange", "the end"};

	return names[kind];
}

void comm_frame_write(const struct comm_frame *f, uint8_t to[COMM_FRAME_BYTES])
{
	put(to, frame_magic, 4);
	put(to + 4, (uint64_t)f->kind, 4);
	put(to + 8, f->number, 8);
	put(to + 16, f->bytes, 8);
}

int comm_frame_read(const uint8_t from[COMM_FRAME_BYTES], struct comm_frame *f,
	struct wl_err *err)
{
	uint64_t kind = get(from + 4, 4);

	if (get(from, 4) != frame_magic || kind < COMM_BARRIER || kind >= COMM_KINDS)
		return wl_err_set(err, WL_EFAIL, "bytes came that are no message between ranks");
	f->kind = (enum comm_kind)kind;
	f->number = get(from + 8, 8);
	f->bytes = get(from + 16, 8);
	return 0;
}

/* --- notice --- */

static bool read_hex(const char *s, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < 2 * n; i++) {
		const char *digits = "0123456789abcdef", *at = s[i] ? strchr(digits, s[i]) : NULL;

		if (!at)
			return false;
		to[i / 2] = (uint8_t)(i % 2 ? to[i / 2] | (at - digits) : (at - digits) << 4);
	}
	return s[2 * n] == 0;
}

static bool read_number(const char *s, long least, long most, long *to)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	*to = strtol(s, &end, 10);
	return *end == 0 && *to >= least && *to <= most;
}

/* "ADDRESS PORT" */
static bool read_place(char *s, struct comm_place *p)
{
	char *space = strchr(s, ' ');
	long port;

	if (!space || !read_number(space + 1, 1, 65535, &port))
		return false;
	*space = 0;
	*p = (struct comm_place){.port = (uint16_t)port, .v6 = strchr(s, ':') != NULL};
	return inet_pton(p->v6 ? AF_INET6 : AF_INET, s, p->at) == 1;
}

static bool read_line(char *line, struct comm_notice *n)
{
	char *space = strchr(line, ' ');
	long world;

	if (!space)
		return false;
	*space++ = 0;
	if (!strcmp(line, "run"))
		return read_hex(space, n->run, COMM_KEY);
	if (!strcmp(line, "token"))
		return read_hex(space, n->token, COMM_KEY);
	if (!strcmp(line, "world")) {
		if (!read_number(space, 2, COMM_RANKS, &world))
			return false;
		n->world = (int)world;
		return true;
	}
	return !strcmp(line, "place") && n->n < COMM_NOTICE_PLACES &&
	       read_place(space, &n->place[n->n++]);
}

int comm_notice_read(const char *text, size_t n, const char *path, struct comm_notice *out,
	struct wl_err *err)
{
	static const char head[] = "wenlan meeting 1\n";
	size_t at = sizeof head - 1;
	int number = 1;

	*out = (struct comm_notice){0};
	if (n < at || memcmp(text, head, at))
		return wl_err_set(err, WL_EDATA, "%s is not the notice of a meeting of ranks; give "
			"--rendezvous a directory of its own", path);
	while (at < n) {
		const char *end = memchr(text + at, '\n', n - at);
		size_t len = end ? (size_t)(end - text) - at : 0;
		char line[256];

		number++;
		if (!end || len >= sizeof line)
			return wl_err_set(err, WL_EDATA, "%s, line %d: too long or cut off",
				path, number);
		memcpy(line, text + at, len);
		line[len] = 0;
		if (!read_line(line, out))
			return wl_err_set(err, WL_EDATA, "%s, line %d: expected run, token, world "
				"or place and its value", path, number);
		at += len + 1;
	}
	if (!out->world || !out->n)
		return wl_err_set(err, WL_EDATA, "%s: no world or no place is named in it", path);
	return 0;
}

/* --- where --- */

static int where_fails(const char *text, struct wl_err *err)
{
	return wl_err_set(err, WL_EUSAGE, "the rendezvous is \"%.300s\": expected "
		"tcp://HOST:PORT (tcp://[ADDRESS]:PORT for IPv6) or file:DIR", text);
}

int comm_where_read(const char *text, struct comm_where *w, struct wl_err *err)
{
	const char *name = text, *end, *port;
	long number;

	*w = (struct comm_where){.file = !strncmp(text, "file:", 5)};
	if (w->file) {
		name += 5;
		if (!strncmp(name, "//", 2)) /* file:///DIR */
			name += 2;
		if (!*name || strlen(name) >= sizeof w->name)
			return where_fails(text, err);
		memcpy(w->name, name, strlen(name) + 1);
		return 0;
	}
	if (strncmp(text, "tcp://", 6))
		return where_fails(text, err);
	name += 6;
	if (*name == '[') {
		end = strchr(++name, ']');
		port = end && end[1] == ':' ? end + 2 : NULL;
	} else {
		end = strrchr(name, ':');
		port = end ? end + 1 : NULL;
		if (end && memchr(name, ':', (size_t)(end - name)))
			return where_fails(text, err); /* an IPv6 address without brackets */
	}
	if (!port || end == name || (size_t)(end - name) >= sizeof w->name ||
		strlen(port) > 5 || !read_number(port, 1, 65535, &number))
		return where_fails(text, err);
	memcpy(w->name, name, (size_t)(end - name));
	snprintf(w->port, sizeof w->port, "%ld", number);
	return 0;
}
