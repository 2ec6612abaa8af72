/* What the files of a meeting share: comm_meet.c (who goes where) and comm_guests.c (who comes). */
#ifndef WL_OPS_COMM_MEET_H
#define WL_OPS_COMM_MEET_H

#include "ops/comm_mesh.h"
#include "ops/comm_socket.h"

enum { COMM_DOORS = 8, COMM_PAUSE_MS = 100 };
#define COMM_OTHER_RUN "it belongs to another run"

struct comm_meeting {
	struct wl_comm *c;
	struct comm_where where;
	double until; /* 0: for ever */
	uint8_t run[COMM_KEY], token[COMM_KEY], key[COMM_KEY];
	uint8_t host[COMM_HOST];
	int door[COMM_DOORS], doors;
	uint16_t port; /* of the doors */
	int *fd;       /* [size] */
	struct comm_place *place; /* [size] */
	int notice_lock;
	char *notice;
};

/* Seconds until the meeting is given up. */
double comm_meet_left(const struct comm_meeting *m);
/* Fails when the process was asked to stop. */
WL_MUST_CHECK int comm_meet_stopped(const struct comm_meeting *m, struct wl_err *err);
/* Until all ranks above this one have come with greetings of this kind and key: their connections
 * and places are filled in. */
WL_MUST_CHECK int comm_meet_receive(struct comm_meeting *m, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY], struct wl_err *err);

#endif
