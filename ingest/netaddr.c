/* Public and other addresses: see netaddr.h. */
#include "ingest/netaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct net4 {
	uint32_t net;
	int bits;
};

/* IANA IPv4 Special-Purpose Address Registry: all that is not globally reachable. */
static const struct net4 special4[] = {
	{0x00000000, 8},  /* this network */
	{0x0a000000, 8},  /* private */
	{0x64400000, 10}, /* carrier-grade NAT */
	{0x7f000000, 8},  /* loopback */
	{0xa9fe0000, 16}, /* link-local, cloud metadata */
	{0xac100000, 12}, /* private */
	{0xc0000000, 24}, /* protocol assignments */
	{0xc0000200, 24}, /* documentation */
	{0xc0586300, 24}, /* 6to4 relays */
	{0xc0a80000, 16}, /* private */
	{0xc6120000, 15}, /* benchmarking */
	{0xc6336400, 24}, /* documentation */
	{0xcb007100, 24}, /* documentation */
	{0xe0000000, 4},  /* multicast */
	{0xf0000000, 4},  /* reserved, broadcast */
};

static bool is_public4(uint32_t a)
{
	for (size_t i = 0; i < sizeof special4 / sizeof *special4; i++)
		if ((a ^ special4[i].net) >> (32 - special4[i].bits) == 0)
			return false;
	return true;
}

static uint32_t read4(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool starts(const uint8_t *a, const void *prefix, size_t n)
{
	return memcmp(a, prefix, n) == 0;
}

/* Only 2000::/3 is global unicast; in it, what is special or wraps an IPv4 address is looked at. */
static bool is_public6(const uint8_t *a)
{
	static const uint8_t zeros[12];
	if (starts(a, zeros, 12) || (starts(a, zeros, 10) && a[10] == 0xff && a[11] == 0xff))
		return starts(a, zeros, 12) ? false : is_public4(read4(a + 12));
	if (starts(a, "\x00\x64\xff\x9b\0\0\0\0\0\0\0\0", 12)) /* NAT64 */
		return is_public4(read4(a + 12));
	if (a[0] >> 5 != 1)
		return false;
	if (starts(a, "\x20\x02", 2)) /* 6to4 */
		return is_public4(read4(a + 2));
	/* 2001::/23 holds Teredo, ORCHID and other protocols; 2001:db8::/32 and 3fff::/20 are for
	 * documentation, 5f00::/16 is outside 2000::/3 already. */
	if (starts(a, "\x20\x01", 2) && (a[2] & 0xfe) == 0)
		return false;
	return !starts(a, "\x20\x01\x0d\xb8", 4) && !(starts(a, "\x3f\xff", 2) && a[2] >> 4 == 0);
}

bool wl_addr_is_public(const struct sockaddr *addr, socklen_t n)
{
	if (addr->sa_family == AF_INET && n >= (socklen_t)sizeof(struct sockaddr_in)) {
		struct sockaddr_in in;
		memcpy(&in, addr, sizeof in);
		return is_public4(ntohl(in.sin_addr.s_addr));
	}
	if (addr->sa_family == AF_INET6 && n >= (socklen_t)sizeof(struct sockaddr_in6)) {
		struct sockaddr_in6 in6;
		memcpy(&in6, addr, sizeof in6);
		return is_public6(in6.sin6_addr.s6_addr);
	}
	return false;
}

void wl_addr_text(const struct sockaddr *addr, char out[WL_ADDR_TEXT])
{
	const void *raw = addr->sa_family == AF_INET6
				  ? (const void *)&((const struct sockaddr_in6 *)addr)->sin6_addr
				  : (const void *)&((const struct sockaddr_in *)addr)->sin_addr;
	if ((addr->sa_family != AF_INET && addr->sa_family != AF_INET6) ||
		!inet_ntop(addr->sa_family, raw, out, WL_ADDR_TEXT))
		snprintf(out, WL_ADDR_TEXT, "?");
}

/* ---- networks that are allowed ---- */

static const uint8_t *raw_bytes(const struct sockaddr *addr, socklen_t n, size_t *len)
{
	if (addr->sa_family == AF_INET && n >= (socklen_t)sizeof(struct sockaddr_in)) {
		*len = 4;
		return (const uint8_t *)&((const struct sockaddr_in *)addr)->sin_addr;
	}
	if (addr->sa_family == AF_INET6 && n >= (socklen_t)sizeof(struct sockaddr_in6)) {
		*len = 16;
		return ((const struct sockaddr_in6 *)addr)->sin6_addr.s6_addr;
	}
	return NULL;
}

static int parse_net(struct wl_net *net, const char *s, size_t n, struct wl_err *err)
{
	char text[WL_ADDR_TEXT + 8], *slash, *end;
	snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : 0), s);
	slash = strchr(text, '/');
	if (slash)
		*slash++ = '\0';
	net->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	int most = net->family == AF_INET6 ? 128 : 32;
	long bits = slash ? strtol(slash, &end, 10) : most;
	if (inet_pton(net->family, text, net->bytes) != 1 || bits < 0 || bits > most ||
		(slash && (end == slash || *end)))
		return wl_err_set(err, WL_EUSAGE,
			"\"%.*s\" is no network, for instance 10.1.0.0/16", (int)n, s);
	net->bits = (int)bits;
	return 0;
}

int wl_nets_parse(struct wl_nets *nets, const char *text, struct wl_err *err)
{
	nets->n = 0;
	for (const char *s = text ? text : ""; *s;) {
		size_t n = strcspn(s, ", ");
		if (n && nets->n == WL_NETS_MAX)
			return wl_err_set(err, WL_EUSAGE, "more than %d networks are allowed: %s",
				WL_NETS_MAX, text);
		if (n)
			WL_TRY(parse_net(&nets->v[nets->n++], s, n, err));
		s += n + (s[n] != '\0');
	}
	return 0;
}

bool wl_nets_has(const struct wl_nets *nets, const struct sockaddr *addr, socklen_t n)
{
	size_t len;
	const uint8_t *a = raw_bytes(addr, n, &len);
	for (size_t i = 0; a && i < nets->n; i++) {
		const struct wl_net *net = &nets->v[i];
		size_t whole = (size_t)net->bits / 8;
		int rest = net->bits % 8;
		if (net->family == addr->sa_family && memcmp(a, net->bytes, whole) == 0 &&
			(!rest || (a[whole] ^ net->bytes[whole]) >> (8 - rest) == 0))
			return true;
	}
	return false;
}
