/*
 * Those who connect to the ranks' port: ranks that are expected, and strangers, who are turned away
 * with a reason, named in the log, and never waited for.
 */
#include "ops/comm_meet.h"

#include "ops/log.h"
#include "ops/signals.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { GUESTS = 64, GREETING_S = 10 };

double comm_meet_left(const struct comm_meeting *m)
{
	return m->until > 0 ? m->until - comm_now_s() : 1e9;
}

int comm_meet_stopped(const struct comm_meeting *m, struct wl_err *err)
{
	return wl_stop_requested() ? wl_err_set(err, WL_ERETRY, "rank %d was told to stop before "
					     "all ranks had met", m->c->rank)
				   : 0;
}

struct guest {
	int fd;
	double since;
	size_t got;
	uint8_t bytes[COMM_HELLO_BYTES];
	struct comm_place from;
};

static void turn_away(struct guest *g, const char *why)
{
	uint8_t answer[COMM_ANSWER_BYTES];
	char text[INET6_ADDRSTRLEN];

	wl_warn("%s was turned away from the ranks' port: %s", comm_text_of(&g->from, text), why);
	comm_answer_write(why, answer);
	send(g->fd, answer, sizeof answer, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(g->fd);
	g->fd = -1;
}

/* The greeting is there: a rank that is expected, or not. */
static int welcome(struct comm_meeting *m, struct guest *g, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY])
{
	struct wl_err why = WL_ERR_INIT;
	uint8_t answer[COMM_ANSWER_BYTES];
	struct comm_hello h;
	char text[160];

	if (comm_hello_read(g->bytes, &h, &why) < 0) {
		turn_away(g, why.msg);
		return 0;
	}
	*text = 0;
	if (h.kind != kind || memcmp(h.key, key, COMM_KEY))
		snprintf(text, sizeof text, "%s", COMM_OTHER_RUN);
	else if (h.world != m->c->size)
		snprintf(text, sizeof text, "it is of a world of %d ranks, and here are %d",
			h.world, m->c->size);
	else if (h.rank <= m->c->rank)
		snprintf(text, sizeof text, "rank %d has no business here", h.rank);
	else if (m->fd[h.rank] >= 0)
		snprintf(text, sizeof text, "rank %d is here already", h.rank);
	if (*text) {
		turn_away(g, text);
		return 0;
	}
	comm_answer_write(NULL, answer);
	if (!comm_say(g->fd, answer, sizeof answer, 1)) {
		turn_away(g, "it does not listen");
		return 0;
	}
	comm_quick(g->fd);
	m->fd[h.rank] = g->fd;
	m->place[h.rank] = g->from;
	m->place[h.rank].port = h.port;
	memcpy(m->place[h.rank].host, h.host, COMM_HOST);
	g->fd = -1;
	return 1;
}

/* What has come of a greeting; 1: a rank more is here. */
static int listen_to(struct comm_meeting *m, struct guest *g, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY])
{
	ssize_t k = recv(g->fd, g->bytes + g->got, sizeof g->bytes - g->got, 0);

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (k <= 0) {
		turn_away(g, "it left without a greeting");
		return 0;
	}
	g->got += (size_t)k;
	if (g->got >= 8 && memcmp(g->bytes, "WLhello1", 8)) {
		turn_away(g, "what it sent is no greeting of a rank");
		return 0;
	}
	return g->got == sizeof g->bytes ? welcome(m, g, kind, key) : 0;
}

static void let_in(int door, struct guest *guests)
{
	struct guest *g = guests;
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	int fd = accept4(door, (struct sockaddr *)&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i < GUESTS; i++) { /* a free place, or the one who is longest silent */
		if (guests[i].fd < 0) {
			g = &guests[i];
			break;
		}
		if (guests[i].since < g->since)
			g = &guests[i];
	}
	if (g->fd >= 0)
		turn_away(g, "it was silent while others came");
	*g = (struct guest){.fd = fd, .since = comm_now_s()};
	comm_of_sockaddr(&a, &g->from);
}

/* A rank that came and went again may come again: its launcher restarts it. */
static int forget_gone(struct comm_meeting *m)
{
	int gone = 0;

	for (int r = m->c->rank + 1; r < m->c->size; r++) {
		char c;
		ssize_t k = m->fd[r] < 0 ? 1 : recv(m->fd[r], &c, 1, MSG_PEEK | MSG_DONTWAIT);

		if (k > 0 || (k < 0 && (errno == EAGAIN || errno == EINTR)))
			continue; /* else closed, or reset: it was killed */
		close(m->fd[r]);
		m->fd[r] = -1;
		gone++;
		wl_warn("rank %d has left before all were there; waiting for it again", r);
	}
	return gone;
}

static int missing(const struct comm_meeting *m, struct wl_err *err)
{
	char list[200] = "";

	for (int r = m->c->rank + 1; r < m->c->size && strlen(list) < 150; r++)
		if (m->fd[r] < 0)
			snprintf(list + strlen(list), sizeof list - strlen(list), " %d", r);
	return wl_err_set(err, WL_ERETRY, "rank %d of %d has waited in vain for these ranks:%s; "
		"start all of them with the same rendezvous and run id", m->c->rank, m->c->size,
		list);
}

/* One look at doors and guests; the number of ranks that came. */
static int look(struct comm_meeting *m, struct guest *guests, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY])
{
	struct pollfd p[COMM_DOORS + GUESTS];
	int came = 0;

	for (int i = 0; i < m->doors; i++)
		p[i] = (struct pollfd){m->door[i], POLLIN, 0};
	for (int i = 0; i < GUESTS; i++)
		p[m->doors + i] = (struct pollfd){guests[i].fd, POLLIN, 0};
	if (poll(p, (nfds_t)(m->doors + GUESTS), COMM_PAUSE_MS) < 0)
		return 0;
	for (int i = 0; i < GUESTS; i++)
		if (guests[i].fd >= 0 && p[m->doors + i].revents)
			came += listen_to(m, &guests[i], kind, key);
		else if (guests[i].fd >= 0 && comm_now_s() - guests[i].since > GREETING_S)
			turn_away(&guests[i], "it said nothing");
	for (int i = 0; i < m->doors; i++)
		if (p[i].revents)
			let_in(m->door[i], guests);
	return came;
}

int comm_meet_receive(struct comm_meeting *m, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY], struct wl_err *err)
{
	struct guest guests[GUESTS];
	int come = 0, ret = -1;

	for (int i = 0; i < GUESTS; i++)
		guests[i].fd = -1;
	while (come < m->c->size - 1 - m->c->rank) {
		WL_TRY_OUT(comm_meet_stopped(m, err));
		if (comm_meet_left(m) <= 0) {
			missing(m, err);
			goto out;
		}
		come += look(m, guests, kind, key);
		come -= forget_gone(m);
	}
	ret = 0;
out:
	for (int i = 0; i < GUESTS; i++)
		if (guests[i].fd >= 0)
			close(guests[i].fd);
	return ret;
}
