/* fetch_url.h - from where pictures may be fetched: what an operator lists, what of a client's URL
 * is taken, and which addresses are never connected to. Pure, any thread. */
#ifndef COG_SERVER_PICTURE_FETCH_URL_H
#define COG_SERVER_PICTURE_FETCH_URL_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/socket.h>

struct Curl_URL;

/* Whether the operator's text is HOST, .SUFFIX, HOST:PORT or .SUFFIX:PORT; a host is a name or an
 * IPv4 address. IPv6 is spoken with hosts that have a name, but none is listed or asked for by its
 * address, which can be written in many ways. COG_EINVAL says what is wrong. */
int cog_fetch_domain_check(const char *domain, cog_err *err);

/* Understands an http or https URL and looks whether one of the domains admits it: HOST is that
 * host alone, .SUFFIX every host below it, and a domain without a port means 80 and 443. A user, a
 * backslash, spaces, control and non-ASCII characters are refused. The result is the parser's own:
 * the transfer uses it as it is, so that no second parser can read the text in another way. Free
 * with cog_fetch_url_free. COG_EINVAL: refused. */
int cog_fetch_url_parse(struct Curl_URL **out, const char *url, const char *const *domains,
                        int n_domains);
void cog_fetch_url_free(struct Curl_URL *url); /* NULL is fine */

/* Whether an address is one of the public internet: not loopback, private, link-local, shared
 * (100.64/10), multicast, reserved or for documentation, and none that carries an IPv4 address
 * inside (mapped, compatible, 6to4, Teredo, NAT64). */
bool cog_fetch_is_public(const struct sockaddr *addr);

#endif
