#include "tests/support/server.h"

#include <arpa/inet.h>
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

int server_free_port(void)
{
	int port;

	close(server_port(&port, 0));
	return port;
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
