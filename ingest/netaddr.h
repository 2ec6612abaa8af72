/*
 * Which addresses a crawler may connect to.  A page that names http://169.254.169.254/ or a name
 * that resolves to 10.0.0.1 must not make us read what is inside our own network (SSRF).
 */
#ifndef WL_INGEST_NETADDR_H
#define WL_INGEST_NETADDR_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Whether the address is one of the public Internet: neither loopback, private, link-local,
 * carrier-grade NAT, multicast, documentation, benchmarking, reserved nor unspecified (IANA's
 * special-purpose registries, RFC 6890), nor an IPv6 form that carries such an IPv4 address
 * (mapped, compatible, 6to4, Teredo, NAT64).  Families other than these two are not public. */
bool wl_addr_is_public(const struct sockaddr *addr, socklen_t n);
/* "10.0.0.1" for messages; "?" for what is no address. */
enum { WL_ADDR_TEXT = 48 };
void wl_addr_text(const struct sockaddr *addr, char out[WL_ADDR_TEXT]);

/* Networks that are allowed although they are not public: "10.1.0.0/16,192.168.7.5". */
enum { WL_NETS_MAX = 32 };
struct wl_nets {
	struct wl_net {
		int family, bits;
		uint8_t bytes[16];
	} v[WL_NETS_MAX];
	size_t n;
};
/* text NULL or "": none.  WL_EUSAGE names what is no network. */
WL_MUST_CHECK int wl_nets_parse(struct wl_nets *nets, const char *text, struct wl_err *err);
bool wl_nets_has(const struct wl_nets *nets, const struct sockaddr *addr, socklen_t n);

#endif
