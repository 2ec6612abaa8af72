/* HTML's named character references. */
#ifndef WL_CLEAN_ENTITIES_H
#define WL_CLEAN_ENTITIES_H

#include <stdint.h>

enum { WL_ENTITY_NAME_MAX = 12 };

/* The code point of "amp", "nbsp", ...; 0 when there is no such name.  Case matters. */
uint32_t wl_entity(const char *name);

#endif
