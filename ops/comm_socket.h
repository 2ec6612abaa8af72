/*
 * Sockets as the meeting of ranks needs them: addresses between their two forms, connections that
 * never block for ever, messages that come whole or not at all.
 */
#ifndef WL_OPS_COMM_SOCKET_H
#define WL_OPS_COMM_SOCKET_H

#include "ops/comm_wire.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum { COMM_CONNECT_S = 5 };

/* Small messages leave at once, and a peer whose machine is gone is found out. */
void comm_quick(int fd);
/* The port of a bound socket; 0 where that fails. */
uint16_t comm_port_of(int fd);
/* False: the place has no port. */
bool comm_to_sockaddr(const struct comm_place *p, struct sockaddr_storage *a, socklen_t *n);
/* The address alone: port and host are left 0. */
void comm_of_sockaddr(const struct sockaddr_storage *a, struct comm_place *p);
const char *comm_text_of(const struct comm_place *p, char text[INET6_ADDRSTRLEN]);
/* Waits until fd may be read (POLLIN) or written (POLLOUT); false: not within so many seconds. */
bool comm_ready(int fd, short events, double seconds);
/* A connection, not blocking, within COMM_CONNECT_S seconds; -1. */
int comm_dial(const struct sockaddr *a, socklen_t n);
/* All n bytes of a socket that does not block, within so many seconds; false: the rest never came,
 * or the other side closed. */
bool comm_say(int fd, const void *bytes, size_t n, double seconds);
bool comm_hear(int fd, void *bytes, size_t n, double seconds);

#endif
