/* Texts as they should pass, and junk made of them: what precision and recall of the filter's
 * detectors are measured on. */
#ifndef WL_TESTS_JUNK_H
#define WL_TESTS_JUNK_H

#include "tests/support/plant.h"

enum { GOOD_MAX = 6000 };
struct texts {
	char *v[GOOD_MAX];
	size_t n;
};

/* Captions and headlines of ../shared, or a few of our own. */
void load_good(struct texts *t);
void release_texts(struct texts *t);

enum junk {
	AD,
	UTF8_AS_GBK,
	UTF8_AS_LATIN1,
	GBK_AS_LATIN1,
	REPEATED,
	SIGNS,
	FILE_NAME,
	FOREIGN,
	RUN,
	JUNKS
};
struct junk_kind {
	const char *name, *reason; /* the verdict that it should get */
};
extern const struct junk_kind junks[JUNKS];

/* Junk of that kind, made of a good text; false where that one does not go. */
bool make_junk(enum junk kind, uint64_t seed, const char *good, char out[PLANT_MAX]);

/* The first `max` bytes of it, between characters; good for one printf. */
const char *head_of(const char *s, size_t max, char out[PLANT_MAX]);

#endif
