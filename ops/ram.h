/*
 * Whether there is the memory that a run will need.  Linux gives addresses without memory, and
 * ends the process without a word when it comes to be used; so who knows beforehand what will be
 * needed asks here.
 */
#ifndef WL_OPS_RAM_H
#define WL_OPS_RAM_H

#include "ops/err.h"

/* Bytes of memory and swap that this process may have, and how much of that nobody uses now: the
 * machine's, or less where its control group is given less.  0 where the system does not say. */
struct wl_ram {
	double all, unused;
};
struct wl_ram wl_ram_there(void);

/* WL_EFAIL when need bytes are more than there is at all, with both figures; more than nobody uses
 * now is a warning.  what: "this training"; mend: how to need less, "lower --batch". */
WL_MUST_CHECK int wl_ram_check(double need, struct wl_ram there, const char *what,
	const char *mend, struct wl_err *err);

#endif
