/*
 * YAML into json_t, by libyaml's events: wl_yaml_parse of json.h.
 *
 * Aliases are deep copies, so that the tree is a tree; the number of nodes is bounded,
 * which stops the "billion laughs" kind of file.
 */
#include "ops/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

enum { MAX_DEPTH = 200, MAX_NODES = 4 * 1000 * 1000 };

struct composer {
	yaml_parser_t parser;
	yaml_event_t event;
	bool have_event;
	json_t *anchors; /* name -> finished value */
	size_t nodes;
	const char *what;
	struct wl_err *err;
};

static json_t *fail(struct composer *c, const char *problem)
{
	wl_err_set(c->err, WL_EDATA, "%s is not valid YAML for us: line %zu column %zu: %s",
		c->what, c->event.start_mark.line + 1, c->event.start_mark.column + 1, problem);
	return NULL;
}

static int next_event(struct composer *c)
{
	if (c->have_event)
		yaml_event_delete(&c->event);
	c->have_event = yaml_parser_parse(&c->parser, &c->event);
	if (c->have_event)
		return 0;
	wl_err_set(c->err, WL_EDATA, "%s is not valid YAML: line %zu column %zu: %s", c->what,
		c->parser.problem_mark.line + 1, c->parser.problem_mark.column + 1,
		c->parser.problem ? c->parser.problem : "it cannot be read");
	memset(&c->event, 0, sizeof c->event);
	return -1;
}

static bool is_one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(s, *list))
			return true;
	return false;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
 * and whether it is an integer: the core schema of YAML 1.2.2, section 10.3.2. */
static bool is_number(const char *s, bool *integer)
{
	size_t digits = 0, part;

	*integer = true;
	s += *s == '-' || *s == '+';
	part = strspn(s, "0123456789");
	digits += part;
	s += part;
	if (*s == '.') {
		*integer = false;
		s++;
		part = strspn(s, "0123456789");
		digits += part;
		s += part;
	}
	if (!digits)
		return false;
	if (*s == 'e' || *s == 'E') {
		*integer = false;
		s++;
		s += *s == '-' || *s == '+';
		part = strspn(s, "0123456789");
		if (!part)
			return false;
		s += part;
	}
	return !*s;
}

static json_t *integer_value(struct composer *c, const char *digits, int base)
{
	long long v;

	errno = 0;
	v = strtoll(digits, NULL, base);
	return errno ? fail(c, "an integer does not fit into 64 bits") : json_integer(v);
}

static json_t *plain_value(struct composer *c, const char *s, size_t len)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const trues[] = {"true", "True", "TRUE", NULL};
	static const char *const falses[] = {"false", "False", "FALSE", NULL};
	static const char *const infinite[] = {
		".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
	bool integer;
	json_t *v;

	if (is_one_of(s, nulls))
		return json_null();
	if (is_one_of(s, trues))
		return json_true();
	if (is_one_of(s, falses))
		return json_false();
	if (!strncmp(s, "0x", 2) && s[2] && strspn(s + 2, "0123456789abcdefABCDEF") == len - 2)
		return integer_value(c, s + 2, 16);
	if (!strncmp(s, "0o", 2) && s[2] && strspn(s + 2, "01234567") == len - 2)
		return integer_value(c, s + 2, 8);
	if (is_number(s, &integer)) {
		if (integer)
			return integer_value(c, s, 10);
		v = json_real(strtod(s, NULL));
		return v ? v : fail(c, "a number is too large");
	}
	if (is_one_of(*s == '-' || *s == '+' ? s + 1 : s, infinite))
		return fail(c, "infinity and not-a-number have no place here");
	return json_stringn(s, len);
}

static json_t *scalar_value(struct composer *c)
{
	const char *s = (const char *)c->event.data.scalar.value;
	size_t len = c->event.data.scalar.length;
	json_t *v;

	if (c->event.data.scalar.tag && !c->event.data.scalar.quoted_implicit)
		return fail(c, "tags are not supported");
	if (memchr(s, 0, len))
		return fail(c, "a string contains a zero byte");
	if (c->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		v = plain_value(c, s, len);
	else
		v = json_stringn(s, len);
	return v || (c->err && c->err->code) ? v : fail(c, "a string is not valid UTF-8");
}

/* Number of values in v, counted no further than limit. */
static size_t count_nodes(const json_t *v, size_t limit)
{
	size_t n = 1, i;
	const char *key;
	json_t *m;

	if (json_is_array(v))
		json_array_foreach((json_t *)v, i, m) if (n <= limit) n +=
			count_nodes(m, limit - n);
	if (json_is_object(v))
		json_object_foreach((json_t *)v, key, m) if (n <= limit) n +=
			count_nodes(m, limit - n);
	return n;
}

static json_t *alias_value(struct composer *c)
{
	const json_t *v = json_object_get(c->anchors, (const char *)c->event.data.alias.anchor);

	if (!v)
		return fail(c, "an alias names no anchor that came before it");
	c->nodes += count_nodes(v, MAX_NODES - c->nodes);
	if (c->nodes > MAX_NODES)
		return fail(c, "aliases make the document too large");
	return json_deep_copy(v);
}

static json_t *compose(struct composer *c, size_t depth);

static json_t *sequence(struct composer *c, size_t depth)
{
	json_t *list = json_array();

	for (;;) {
		json_t *v;

		if (next_event(c) < 0)
			break;
		if (c->event.type == YAML_SEQUENCE_END_EVENT)
			return list;
		v = compose(c, depth + 1);
		if (!v)
			break;
		json_array_append_new(list, v);
	}
	json_decref(list);
	return NULL;
}

/* A key is a scalar, taken as the text that it is written with. */
static char *mapping_key(struct composer *c, const json_t *object)
{
	const char *s;

	if (c->event.type != YAML_SCALAR_EVENT) {
		fail(c, "a key must be a plain word or a string");
		return NULL;
	}
	s = (const char *)c->event.data.scalar.value;
	if (memchr(s, 0, c->event.data.scalar.length)) {
		fail(c, "a key contains a zero byte");
		return NULL;
	}
	if (json_object_get(object, s)) {
		fail(c, "a key is there twice");
		return NULL;
	}
	return strdup(s);
}

static json_t *mapping(struct composer *c, size_t depth)
{
	json_t *object = json_object();
	char *key = NULL;

	for (;;) {
		json_t *v;

		if (next_event(c) < 0)
			break;
		if (c->event.type == YAML_MAPPING_END_EVENT)
			return object;
		key = mapping_key(c, object);
		if (!key || next_event(c) < 0)
			break;
		v = compose(c, depth + 1);
		if (!v)
			break;
		if (json_object_set_new(object, key, v)) {
			fail(c, "a key is not valid UTF-8");
			break;
		}
		free(key);
		key = NULL;
	}
	free(key);
	json_decref(object);
	return NULL;
}

/* The value that starts at the current event. */
static json_t *compose(struct composer *c, size_t depth)
{
	const yaml_char_t *name = NULL;
	yaml_event_type_t type = c->event.type;
	char *anchor;
	json_t *v;

	if (depth > MAX_DEPTH)
		return fail(c, "values are nested too deep");
	if (++c->nodes > MAX_NODES)
		return fail(c, "the document is too large");
	if (type == YAML_ALIAS_EVENT)
		return alias_value(c);
	if (type == YAML_SCALAR_EVENT)
		name = c->event.data.scalar.anchor;
	else if (type == YAML_SEQUENCE_START_EVENT)
		name = c->event.data.sequence_start.anchor;
	else if (type == YAML_MAPPING_START_EVENT)
		name = c->event.data.mapping_start.anchor;
	else
		return fail(c, "a value was expected");
	if ((type == YAML_SEQUENCE_START_EVENT && c->event.data.sequence_start.tag) ||
		(type == YAML_MAPPING_START_EVENT && c->event.data.mapping_start.tag))
		return fail(c, "tags are not supported");
	anchor = name ? strdup((const char *)name) : NULL;
	v = type == YAML_SCALAR_EVENT		? scalar_value(c)
	    : type == YAML_SEQUENCE_START_EVENT ? sequence(c, depth)
						: mapping(c, depth);
	if (v && anchor)
		json_object_set(c->anchors, anchor, v);
	free(anchor);
	return v;
}

static json_t *document(struct composer *c)
{
	json_t *v = NULL;

	if (next_event(c) < 0 || next_event(c) < 0) /* stream start, document start */
		return NULL;
	if (c->event.type == YAML_STREAM_END_EVENT)
		return json_null(); /* an empty file */
	if (next_event(c) < 0)
		return NULL;
	v = compose(c, 0);
	if (!v || next_event(c) < 0 || next_event(c) < 0) { /* document end, stream end */
		json_decref(v);
		return NULL;
	}
	if (c->event.type == YAML_STREAM_END_EVENT)
		return v;
	json_decref(v);
	return fail(c, "one document was expected, a second one begins");
}

json_t *wl_yaml_parse(const char *text, size_t len, const char *what, struct wl_err *err)
{
	struct wl_err local = WL_ERR_INIT;
	struct composer c = {.what = what, .err = &local};
	json_t *v = NULL;

	c.anchors = json_object();
	if (!c.anchors || !yaml_parser_initialize(&c.parser)) {
		wl_err_nomem(err, "a YAML parser", sizeof c);
		json_decref(c.anchors);
		return NULL;
	}
	yaml_parser_set_input_string(&c.parser, (const unsigned char *)text, len);
	v = document(&c);
	if (c.have_event)
		yaml_event_delete(&c.event);
	yaml_parser_delete(&c.parser);
	json_decref(c.anchors);
	if (!v)
		wl_err_set(err, local.code ? local.code : WL_EDATA, "%s", local.msg);
	return v;
}

/* Keys that need no quotes: words which the core schema does not take for something else. */
static bool plain_key(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

	return n && !s[n] && ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')) &&
	       strcasecmp(s, "null") && strcasecmp(s, "true") && strcasecmp(s, "false");
}

static int yaml_flow(const json_t *v, struct wl_buf *out, struct wl_err *err)
{
	/* JSON is YAML, given a space after each colon. */
	char *text = json_dumps(v, JSON_ENCODE_ANY);
	int ret;

	if (!text)
		return wl_err_nomem(err, "YAML text", 0);
	ret = wl_buf_printf(out, err, "%s\n", text);
	free(text);
	return ret;
}

static int yaml_block(const json_t *v, int indent, struct wl_buf *out, struct wl_err *err)
{
	const char *key;
	json_t *m;

	if (!json_is_object(v) || !json_object_size(v))
		return yaml_flow(v, out, err);
	json_object_foreach((json_t *)v, key, m)
	{
		bool nested = json_is_object(m) && json_object_size(m);

		WL_TRY(wl_buf_printf(out, err, "%*s", indent, ""));
		if (plain_key(key)) {
			WL_TRY(wl_buf_puts(out, key, err));
		} else {
			json_t *quoted = json_string(key);
			char *text = json_dumps(quoted, JSON_ENCODE_ANY);
			int ret = text ? wl_buf_puts(out, text, err)
				       : wl_err_nomem(err, "YAML text", 0);

			free(text);
			json_decref(quoted);
			WL_TRY(ret);
		}
		WL_TRY(wl_buf_puts(out, nested ? ":\n" : ": ", err));
		WL_TRY(yaml_block(m, indent + 2, out, err));
	}
	return 0;
}

int wl_yaml_text(const json_t *v, struct wl_buf *out, struct wl_err *err)
{
	return yaml_block(v, 0, out, err);
}
