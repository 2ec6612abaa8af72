/*
 * How ranks that were started without MPI find each other: at a host and port where rank 0
 * listens, or by a notice that rank 0 leaves in a directory that all can read.
 *
 * Rank 0 takes greetings until all have come, then tells everybody where the others listen; rank r
 * connects to the ranks below it.  The notice holds a token that only this meeting knows: whoever
 * reads an older run's notice finds nobody at its place, or somebody who does not know the token,
 * and looks again.  WL_RUN_ID (or what torchrun and Slurm set) tells runs apart from the start.
 * Strangers who connect are turned away and named in the log; they cannot keep the ranks waiting.
 */
#include "ops/comm_meet.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/signals.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_S = 10, JOIN_S = 60 };

/* --- doors --- */

/* A listening socket more; false: errno says why not. */
static bool open_door(struct comm_meeting *m, const struct sockaddr *a, socklen_t n)
{
	int one = 1, fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (a->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, a, n) < 0 || listen(fd, SOMAXCONN) < 0) {
		int e = errno;

		close(fd);
		errno = e;
		return false;
	}
	m->door[m->doors++] = fd;
	m->port = comm_port_of(fd);
	return true;
}

/* On every interface of this machine, at one port for both kinds of address. */
static int open_everywhere(struct comm_meeting *m, uint16_t port, struct wl_err *err)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};

	four.sin_addr.s_addr = htonl(INADDR_ANY);
	if (!open_door(m, (struct sockaddr *)&four, sizeof four) && port)
		return wl_err_errno(err, "rank %d cannot listen on port %u", m->c->rank, port);
	if (m->doors)
		six.sin6_port = htons(m->port);
	open_door(m, (struct sockaddr *)&six, sizeof six); /* a machine may have only one kind */
	return m->doors ? 0 : wl_err_errno(err, "rank %d cannot listen", m->c->rank);
}

/* Where the name leads to on this machine; on every interface where it leads elsewhere (a name
 * that is another machine's view of this one). */
static int open_at_name(struct comm_meeting *m, struct wl_err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
	int code = getaddrinfo(m->where.name, m->where.port, &hints, &list);
	bool elsewhere = code != 0;

	for (struct addrinfo *a = list; a && m->doors < COMM_DOORS; a = a->ai_next)
		if (!open_door(m, a->ai_addr, a->ai_addrlen)) {
			if (errno == EADDRINUSE) {
				freeaddrinfo(list);
				return wl_err_set(err, WL_EUSAGE, "port %s of %s is in use: "
					"another run meets there, or another program does; give "
					"--rendezvous another port", m->where.port, m->where.name);
			}
			elsewhere = true;
		}
	if (list)
		freeaddrinfo(list);
	if (m->doors)
		return 0;
	return elsewhere ? open_everywhere(m, (uint16_t)atoi(m->where.port), err)
			 : wl_err_set(err, WL_EUSAGE, "%s leads nowhere", m->where.name);
}

/* --- those who go --- */

static void greet(const struct comm_meeting *m, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY], uint8_t bytes[COMM_HELLO_BYTES])
{
	struct comm_hello h = {.kind = kind, .world = m->c->size, .rank = m->c->rank,
		.port = m->port};

	memcpy(h.key, key, COMM_KEY);
	memcpy(h.host, m->host, COMM_HOST);
	comm_hello_write(&h, bytes);
}

/* 1: fd is expected there; 0: not now; -1: refused for good, or not a rank. */
static int introduce(const struct comm_meeting *m, int fd, enum comm_hello_kind kind,
	const uint8_t key[COMM_KEY], double seconds, struct wl_err *err)
{
	uint8_t hello[COMM_HELLO_BYTES], answer[COMM_ANSWER_BYTES];
	char why[COMM_ANSWER_BYTES];
	int ret;

	greet(m, kind, key, hello);
	if (!comm_say(fd, hello, sizeof hello, ANSWER_S) ||
		!comm_hear(fd, answer, sizeof answer, seconds))
		return 0;
	ret = comm_answer_read(answer, why, err);
	if (ret > 0)
		return wl_err_set(err, WL_EUSAGE, "rank %d was turned away by another one: %s",
			m->c->rank, why);
	return ret < 0 ? -1 : 1;
}

/* The key that rank 0 asks for: of the run, and of the notice where there is one. */
static void entrance(const struct comm_meeting *m, uint8_t key[COMM_KEY])
{
	uint8_t both[2 * COMM_KEY];

	memcpy(both, m->run, COMM_KEY);
	memcpy(both + COMM_KEY, m->token, COMM_KEY);
	wl_sha256(both, sizeof both, key);
}

/* The table, which comes when all are there; 0: rank 0 is gone before. */
static int await_table(struct comm_meeting *m, int fd, struct wl_err *err)
{
	size_t n = COMM_TABLE_HEAD + (size_t)m->c->size * COMM_ENTRY_BYTES, at = 0;
	uint8_t *bytes = malloc(n);
	int ret = 0;

	if (!bytes)
		return wl_err_nomem(err, "the table of ranks", n);
	while (at < n) {
		ssize_t k;

		if (comm_meet_left(m) <= 0 || comm_meet_stopped(m, NULL) < 0)
			break;
		if (!comm_ready(fd, POLLIN, 1e-3 * COMM_PAUSE_MS))
			continue;
		k = recv(fd, bytes + at, n - at, 0);
		if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
			break;
		at += k > 0 ? (size_t)k : 0;
	}
	if (at == n)
		ret = comm_table_read(bytes, n, m->c->size, m->place, m->key, err) < 0 ? -1 : 1;
	free(bytes);
	return ret;
}

/* A listening socket on the interface that leads to rank 0. */
static int open_beside(struct comm_meeting *m, int fd, struct wl_err *err)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;

	if (m->doors)
		return 0;
	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return wl_err_errno(err, "rank %d has no address", m->c->rank);
	*(a.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&a)->sin6_port
				  : &((struct sockaddr_in *)&a)->sin_port) = 0;
	if (!open_door(m, (struct sockaddr *)&a, n))
		return wl_err_errno(err, "rank %d cannot listen", m->c->rank);
	return 0;
}

/* A try at one address; 1: met, 0: not there. */
static int try_at(struct comm_meeting *m, const struct sockaddr *a, socklen_t n, struct wl_err *err)
{
	uint8_t key[COMM_KEY];
	int fd = comm_dial(a, n), ret;

	if (fd < 0)
		return 0;
	entrance(m, key);
	ret = open_beside(m, fd, err);
	if (ret == 0)
		ret = introduce(m, fd, COMM_TO_MEETING, key, ANSWER_S, err);
	if (ret == 1)
		ret = await_table(m, fd, err);
	if (ret != 1) {
		close(fd);
		return ret;
	}
	m->fd[0] = fd;
	return 1;
}

static int try_name(struct comm_meeting *m, struct wl_err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int ret = 0;

	if (getaddrinfo(m->where.name, m->where.port, &hints, &list))
		return 0; /* names may come up later than machines do */
	for (struct addrinfo *a = list; a && ret == 0; a = a->ai_next)
		ret = try_at(m, a->ai_addr, a->ai_addrlen, err);
	freeaddrinfo(list);
	return ret;
}

/* --- the notice --- */

static int try_notice(struct comm_meeting *m, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct comm_notice n;
	struct wl_buf text;
	int ret = 0;

	if (!wl_exists(m->notice))
		return 0;
	wl_buf_init(&text, COMM_NOTICE_MAX);
	if (wl_read_file(m->notice, &text, NULL) < 0) { /* it may have gone just now */
		wl_buf_release(&text);
		return 0;
	}
	ret = comm_notice_read(wl_buf_str(&text), text.len, m->notice, &n, err);
	wl_buf_release(&text);
	WL_TRY(ret);
	if (memcmp(n.run, m->run, COMM_KEY) || n.world != m->c->size)
		return 0; /* another run's; ours comes */
	memcpy(m->token, n.token, COMM_KEY);
	for (int i = 0; i < n.n && ret == 0; i++) {
		struct sockaddr_storage a;
		socklen_t len;

		if (comm_to_sockaddr(&n.place[i], &a, &len))
			ret = try_at(m, (struct sockaddr *)&a, len, &why);
		if (ret < 0 && why.code != WL_EUSAGE)
			ret = 0; /* a stranger at an old notice's place */
	}
	if (ret < 0 && err)
		*err = why;
	return ret;
}

/* Lines for the addresses of this machine's interfaces, loopback last. */
static int add_places(struct wl_buf *b, uint16_t port, struct wl_err *err)
{
	struct ifaddrs *list = NULL;
	int n = 0, ret = 0;

	if (getifaddrs(&list) < 0)
		return wl_err_errno(err, "the addresses of this machine are not known");
	for (int loop = 0; loop < 2; loop++)
		for (struct ifaddrs *i = list; i && ret == 0 && n < COMM_NOTICE_PLACES;
			i = i->ifa_next) {
			int family = i->ifa_addr ? i->ifa_addr->sa_family : 0;
			struct sockaddr_storage a = {0};
			struct comm_place p;
			char text[INET6_ADDRSTRLEN];

			if ((family != AF_INET && family != AF_INET6) || !(i->ifa_flags & IFF_UP) ||
				!(i->ifa_flags & IFF_LOOPBACK) != !loop)
				continue;
			memcpy(&a, i->ifa_addr, family == AF_INET ? sizeof(struct sockaddr_in)
								: sizeof(struct sockaddr_in6));
			comm_of_sockaddr(&a, &p);
			if (p.v6 && p.at[0] == 0xfe && (p.at[1] & 0xc0) == 0x80)
				continue; /* link-local ones need more than a number */
			ret = wl_buf_printf(b, err, "place %s %u\n", comm_text_of(&p, text), port);
			n++;
		}
	freeifaddrs(list);
	return ret;
}

static int write_notice(struct comm_meeting *m, struct wl_err *err)
{
	char run[2 * COMM_KEY + 1], token[2 * COMM_KEY + 1];
	struct wl_buf b;
	int ret;

	wl_hex(m->run, COMM_KEY, run);
	wl_hex(m->token, COMM_KEY, token);
	wl_buf_init(&b, COMM_NOTICE_MAX);
	ret = wl_buf_printf(&b, err, "wenlan meeting 1\nrun %s\ntoken %s\nworld %d\n", run, token,
		m->c->size);
	if (ret == 0)
		ret = add_places(&b, m->port, err);
	if (ret == 0)
		ret = wl_write_file(m->notice, b.data, b.len, err);
	wl_buf_release(&b);
	return ret;
}

/* Rank 0 holds the directory until all have met: two runs cannot meet in one. */
static int open_notice(struct comm_meeting *m, struct wl_err *err)
{
	char *lock;

	WL_TRY(wl_mkdir_p(m->where.name, err));
	if (m->c->rank)
		return 0;
	lock = wl_path_join(m->where.name, "meeting.lock", err);
	m->notice_lock = lock ? wl_lock_file(lock, err) : -1;
	free(lock);
	if (m->notice_lock < 0)
		return wl_err_prefix(err, "another run meets in %s, give --rendezvous another "
			"directory", m->where.name);
	WL_TRY(open_everywhere(m, 0, err));
	return write_notice(m, err);
}

/* --- the meeting --- */

static int lead(struct comm_meeting *m, struct wl_err *err)
{
	size_t n = COMM_TABLE_HEAD + (size_t)m->c->size * COMM_ENTRY_BYTES;
	uint8_t key[COMM_KEY], *bytes;
	int ret = -1;

	if (!m->where.file)
		WL_TRY(open_at_name(m, err));
	entrance(m, key);
	WL_TRY(comm_meet_receive(m, COMM_TO_MEETING, key, err));
	if (getrandom(m->key, COMM_KEY, 0) != COMM_KEY)
		return wl_err_errno(err, "no random numbers can be had");
	memcpy(m->place[0].host, m->host, COMM_HOST);
	bytes = malloc(n);
	if (!bytes)
		return wl_err_nomem(err, "the table of ranks", n);
	comm_table_write(m->place, m->c->size, m->key, bytes);
	for (int r = 1; r < m->c->size; r++)
		if (!comm_say(m->fd[r], bytes, n, ANSWER_S)) {
			wl_err_set(err, WL_ERETRY, "rank 0 has lost rank %d while ranks met", r);
			goto out;
		}
	ret = 0;
out:
	free(bytes);
	return ret;
}

/* To the ranks below; those above come. */
static int join_neighbours(struct comm_meeting *m, struct wl_err *err)
{
	for (int r = 1; r < m->c->rank; r++) {
		struct sockaddr_storage a;
		socklen_t n;
		int ret;

		if (!comm_to_sockaddr(&m->place[r], &a, &n) ||
			(m->fd[r] = comm_dial((struct sockaddr *)&a, n)) < 0) {
			char text[INET6_ADDRSTRLEN];

			return wl_err_set(err, WL_ERETRY, "rank %d cannot reach rank %d at %s port "
				"%u", m->c->rank, r, comm_text_of(&m->place[r], text),
				m->place[r].port);
		}
		ret = introduce(m, m->fd[r], COMM_TO_NEIGHBOUR, m->key, JOIN_S, err);
		if (ret == 0)
			wl_err_set(err, WL_ERETRY, "rank %d has lost rank %d while ranks met",
				m->c->rank, r);
		if (ret != 1)
			return -1;
	}
	return comm_meet_receive(m, COMM_TO_NEIGHBOUR, m->key, err);
}

/* One try; a meeting of another run at this place may end, and ours begin. */
static int try_once(struct comm_meeting *m, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	int ret = m->where.file ? try_notice(m, &why) : try_name(m, &why);

	if (ret >= 0 || strstr(why.msg, COMM_OTHER_RUN))
		return ret > 0;
	if (err)
		*err = why;
	return -1;
}

static int follow(struct comm_meeting *m, struct wl_err *err)
{
	int ret;

	while ((ret = try_once(m, err)) == 0) {
		WL_TRY(comm_meet_stopped(m, err));
		if (comm_meet_left(m) <= 0)
			return wl_err_set(err, WL_ERETRY, "rank %d of %d has not met the others at "
				"%s%s%s within the time allowed: is rank 0 there, and are the "
				"world size and the run id the same?", m->c->rank, m->c->size,
				m->where.name, m->where.file ? "" : " port ", m->where.port);
		poll(NULL, 0, COMM_PAUSE_MS);
	}
	WL_TRY(ret);
	return join_neighbours(m, err);
}

/* Who shares this machine. */
static void count_local(struct comm_meeting *m, int local)
{
	struct wl_comm *c = m->c;

	c->local_size = c->local_rank = 0;
	for (int r = 0; r < c->size; r++) {
		if (memcmp(m->place[r].host, m->place[c->rank].host, COMM_HOST))
			continue;
		c->local_rank += r < c->rank;
		c->local_size++;
	}
	if (local >= 0)
		c->local_rank = local;
}

static void end_meeting(struct comm_meeting *m)
{
	for (int i = 0; i < m->doors; i++)
		close(m->door[i]);
	if (m->notice_lock >= 0) {
		unlink(m->notice);
		close(m->notice_lock);
	}
	for (int r = 0; m->fd && r < m->c->size; r++)
		if (m->fd[r] >= 0)
			close(m->fd[r]);
	free(m->fd);
	free(m->place);
	free(m->notice);
}

static int prepare(struct comm_meeting *m, struct wl_err *err)
{
	size_t n = (size_t)m->c->size;

	comm_name_run(m->run);
	comm_name_host(m->host);
	m->fd = malloc(n * sizeof *m->fd);
	m->place = calloc(n, sizeof *m->place);
	if (!m->fd || !m->place)
		return wl_err_nomem(err, "a meeting of ranks", n * sizeof *m->place);
	for (size_t r = 0; r < n; r++)
		m->fd[r] = -1;
	if (!m->where.file)
		return 0;
	if (m->c->rank == 0 && getrandom(m->token, COMM_KEY, 0) != COMM_KEY)
		return wl_err_errno(err, "no random numbers can be had");
	m->notice = wl_path_join(m->where.name, "meeting", err);
	return m->notice ? open_notice(m, err) : -1;
}

int comm_meet(struct wl_comm *c, const char *where, double seconds, struct wl_err *err)
{
	struct comm_meeting m = {.c = c, .notice_lock = -1,
		.until = seconds > 0 ? comm_now_s() + seconds : 0};
	char text[COMM_NAME_MAX + 16];
	int local, ret = -1, *fd;

	if (!where || !*where)
		where = comm_meet_place(text);
	WL_TRY(comm_where_read(where, &m.where, err));
	WL_TRY(comm_who(c, &local, err));
	if (c->size == 1)
		return 0;
	wl_signals_install();
	WL_TRY_OUT(prepare(&m, err));
	WL_TRY_OUT(c->rank ? follow(&m, err) : lead(&m, err));
	count_local(&m, local);
	fd = m.fd;
	m.fd = NULL;
	ret = comm_mesh_start(c, fd, err);
out:
	end_meeting(&m);
	return ret;
}
