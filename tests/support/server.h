/* What the servers of tests share: a port of the loopback interface, a request, an answer. */
#ifndef WL_TESTS_SERVER_H
#define WL_TESTS_SERVER_H

#include <stdbool.h>
#include <stddef.h>

/* A socket at a port of its own on 127.0.0.1; with a backlog of 0 it is bound, so that nobody else
 * gets the port, but does not listen: it refuses.  Aborts when there is none. */
int server_port(int *port, int backlog);
/* A port for somebody else, who listens with SO_REUSEADDR, at any address of this machine: until
 * this program ends it is kept from being given to anybody who asks for just some port.  Until that
 * one listens it refuses.  Aborts when there is none. */
int server_free_port(void);
/* n zeroed bytes that children share with their parent; aborts when there is no memory. */
void *server_shared(size_t n);
bool server_send(int fd, const void *p, size_t n);
/* A request's head into text, 0-terminated; false when the peer is gone, or it does not fit. */
bool server_head(int fd, char *text, size_t size);

#endif
