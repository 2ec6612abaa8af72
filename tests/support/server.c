#include "tests/support/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int server_port(int *port, int backlog)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	/* Connections inherit it: else an answer sent in two pieces waits 40 ms for the peer's
	 * delayed acknowledgement. */
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) ||
		bind(fd, (struct sockaddr *)&a, sizeof a) || (backlog && listen(fd, backlog)) ||
		getsockname(fd, (struct sockaddr *)&a, &n))
		abort();
	*port = ntohs(a.sin_port);
	return fd;
}

/* Bound, with SO_REUSEADDR; -1: not there. */
static int hold(const void *address, socklen_t n)
{
	const struct sockaddr *a = address;
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -1;
	if (a->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, a, n) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The sockets stay open, and do not listen. */
int server_free_port(void)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};

	for (int tries = 0; tries < 100; tries++) {
		int fd = hold(&four, sizeof four);
		socklen_t n = sizeof four;
		struct sockaddr_in a;

		if (fd < 0 || getsockname(fd, (struct sockaddr *)&a, &n))
			abort();
		six.sin6_port = a.sin_port;
		if (hold(&six, sizeof six) >= 0 || errno != EADDRINUSE)
			return ntohs(a.sin_port); /* else: no IPv6 here */
		close(fd);
	}
	abort();
}

void *server_shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

bool server_send(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		p = (const char *)p + sent;
		n -= (size_t)sent;
	}
	return true;
}

bool server_head(int fd, char *text, size_t size)
{
	size_t n = 0;

	while (n < size - 1) {
		ssize_t got = recv(fd, text + n, size - 1 - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
		text[n] = 0;
		if (strstr(text, "\r\n\r\n"))
			return true;
	}
	return false;
}
