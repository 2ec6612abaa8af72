/* See comm_socket.h. */
#include "ops/comm_socket.h"

#include "ops/comm_mesh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

void comm_quick(int fd)
{
	int one = 1, idle = 30, every = 10, times = 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}

uint16_t comm_port_of(int fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;

	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return 0;
	return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
					     : ((struct sockaddr_in *)&a)->sin_port);
}

bool comm_to_sockaddr(const struct comm_place *p, struct sockaddr_storage *a, socklen_t *n)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)a;
	struct sockaddr_in *four = (struct sockaddr_in *)a;

	memset(a, 0, sizeof *a);
	a->ss_family = p->v6 ? AF_INET6 : AF_INET;
	*n = p->v6 ? sizeof *six : sizeof *four;
	memcpy(p->v6 ? (void *)&six->sin6_addr : (void *)&four->sin_addr, p->at, p->v6 ? 16 : 4);
	*(p->v6 ? &six->sin6_port : &four->sin_port) = htons(p->port);
	return p->port != 0;
}

void comm_of_sockaddr(const struct sockaddr_storage *a, struct comm_place *p)
{
	memset(p, 0, sizeof *p);
	p->v6 = a->ss_family == AF_INET6;
	memcpy(p->at,
		p->v6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
		      : (const void *)&((const struct sockaddr_in *)a)->sin_addr,
		p->v6 ? 16 : 4);
}

const char *comm_text_of(const struct comm_place *p, char text[INET6_ADDRSTRLEN])
{
	return inet_ntop(p->v6 ? AF_INET6 : AF_INET, p->at, text, INET6_ADDRSTRLEN);
}

bool comm_ready(int fd, short events, double seconds)
{
	struct pollfd p = {fd, events, 0};

	return seconds > 0 && poll(&p, 1, (int)(1e3 * seconds) + 1) == 1;
}

/* A connection to a port that nobody listens at may be given that very port on this side: then it
 * is its own peer. */
static bool is_own_peer(int fd)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t n = sizeof here, m = sizeof there;

	return getsockname(fd, (struct sockaddr *)&here, &n) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &m) == 0 && n == m &&
	       memcmp(&here, &there, n) == 0;
}

int comm_dial(const struct sockaddr *a, socklen_t n)
{
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), code = 0;
	socklen_t len = sizeof code;

	if (fd < 0)
		return -1;
	if ((connect(fd, a, n) == 0 ||
		    (errno == EINPROGRESS && comm_ready(fd, POLLOUT, COMM_CONNECT_S) &&
			    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 && code == 0)) &&
		!is_own_peer(fd)) {
		comm_quick(fd);
		return fd;
	}
	close(fd);
	return -1;
}

bool comm_say(int fd, const void *bytes, size_t n, double seconds)
{
	double until = comm_now_s() + seconds;
	const char *p = bytes;

	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k > 0) {
			p += k;
			n -= (size_t)k;
		} else if ((k < 0 && errno != EAGAIN && errno != EINTR) ||
			   !comm_ready(fd, POLLOUT, until - comm_now_s())) {
			return false;
		}
	}
	return true;
}

bool comm_hear(int fd, void *bytes, size_t n, double seconds)
{
	double until = comm_now_s() + seconds;
	char *p = bytes;

	while (n) {
		ssize_t k = recv(fd, p, n, 0);

		if (k == 0)
			return false;
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		} else if ((errno != EAGAIN && errno != EINTR) ||
			   !comm_ready(fd, POLLIN, until - comm_now_s())) {
			return false;
		}
	}
	return true;
}
