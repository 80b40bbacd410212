#include "server/picture/fetch_url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    MAX_URL = 8192,
    MAX_HOST = 253,
};

/* ------------------------------------------------------------------ what is listed */

static bool is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len >= 1 && len <= 5 && text[len] == '\0' && atoi(text) >= 1 && atoi(text) <= 65535;
}

/* What hosts are written in: of names and IPv4 addresses. */
static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

int cog_fetch_domain_check(const char *domain, cog_err *err)
{
    size_t len = strspn(domain, letters);
    const char *name = domain + (domain[0] == '.');
    size_t name_len = len - (size_t)(name - domain);

    if (domain[0] == '[' || (strchr(domain, ':') && strchr(domain, ':') != strrchr(domain, ':')))
        return cog_err_set(err, COG_EINVAL,
                           "'%.300s' looks like an IPv6 address, of which no picture is fetched by "
                           "number: write the host's name",
                           domain);
    if (name_len < 1 || name_len > MAX_HOST || name[0] == '.' || domain[len - 1] == '.' ||
        strstr(domain, "..") || (domain[len] && (domain[len] != ':' || !is_port(domain + len + 1))))
        return cog_err_set(err, COG_EINVAL,
                           "'%.300s' is no domain: write HOST, HOST:PORT, or .SUFFIX for every "
                           "host below it",
                           domain);
    return 0;
}

/* The parser undoes escapes in a host, and may leave one of them: "%2541" is "%41" and would be "A"
 * to who reads it again. So the host is one of plain letters, whatever it is below. */
static bool is_plain(const char *host)
{
    return host[strspn(host, letters)] == '\0';
}

static bool is_listed(const char *host, int port, const char *domain)
{
    const char *colon = strchr(domain, ':');
    size_t len = colon ? (size_t)(colon - domain) : strlen(domain);
    size_t host_len = strlen(host);

    if (colon ? atoi(colon + 1) != port : port != 80 && port != 443)
        return false;
    if (domain[0] != '.')
        return host_len == len && strncasecmp(host, domain, len) == 0;
    return host_len > len && strncasecmp(host + host_len - len, domain, len) == 0;
}

/* ------------------------------------------------------------------ what a client says */

/* The parser would forgive one slash, and three. */
static bool is_clean(const char *url)
{
    size_t len = strnlen(url, MAX_URL + 1);
    const char *colon = strchr(url, ':');

    if (len > MAX_URL || !colon || strncmp(colon, "://", 3) != 0 || colon[3] == '/')
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)url[i] <= 0x20 || (unsigned char)url[i] >= 0x7f || url[i] == '\\')
            return false;
    }
    return true;
}

static bool has_part(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    bool found = curl_url_get(u, part, &text, 0) == CURLUE_OK;

    curl_free(text);
    return found;
}

static bool is_admitted(CURLU *u, const char *const *domains, int n_domains)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool found = false;

    if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
        (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && is_plain(host)) {
        for (int i = 0; i < n_domains && !found; i++)
            found = is_listed(host, atoi(port), domains[i]);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return found;
}

int cog_fetch_url_parse(struct Curl_URL **out, const char *url, const char *const *domains,
                        int n_domains)
{
    CURLU *u;

    if (!is_clean(url))
        return COG_EINVAL;
    u = curl_url();
    if (!u)
        abort(); /* out of memory */
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) != CURLUE_OK ||
        has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD) ||
        has_part(u, CURLUPART_ZONEID) || !is_admitted(u, domains, n_domains)) {
        curl_url_cleanup(u);
        return COG_EINVAL;
    }
    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
    *out = u;
    return 0;
}

void cog_fetch_url_free(struct Curl_URL *url)
{
    curl_url_cleanup(url);
}

/* ------------------------------------------------------------------ where it may lead */

/* RFC 6890 and the registries it began. */
static bool is_public_ip4(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } special[] = {
        { 0x00000000, 8 },  /* this network */
        { 0x0a000000, 8 },  /* private */
        { 0x64400000, 10 }, /* shared with a carrier */
        { 0x7f000000, 8 },  /* loopback */
        { 0xa9fe0000, 16 }, /* link-local: clouds tell machines their secrets here */
        { 0xac100000, 12 }, /* private */
        { 0xc0000000, 24 }, /* protocol assignments */
        { 0xc0000200, 24 }, /* documentation */
        { 0xc0586300, 24 }, /* 6to4 relays */
        { 0xc0a80000, 16 }, /* private */
        { 0xc6120000, 15 }, /* benchmarks */
        { 0xc6336400, 24 }, /* documentation */
        { 0xcb007100, 24 }, /* documentation */
        { 0xe0000000, 4 },  /* multicast */
        { 0xf0000000, 4 },  /* reserved, broadcast */
    };

    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if ((a ^ special[i].net) >> (32 - special[i].bits) == 0)
            return false;
    }
    return true;
}

/* Only 2000::/3 is given out as global unicast; all mapped, compatible and translated addresses,
 * fc00::/7 and fe80::/10 lie outside. Of what is inside, the special nets are taken out. */
static bool is_public_ip6(const uint8_t a[16])
{
    uint32_t high = (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];

    if (a[0] >> 5 != 1)
        return false;
    return high >> 16 != 0x2002 &&          /* 6to4: an IPv4 address inside */
           high >> 9 != 0x20010000u >> 9 && /* 2001::/23: Teredo, ORCHID, benchmarks */
           high != 0x20010db8 &&            /* documentation */
           high >> 12 != 0x3fff0000u >> 12; /* documentation */
}

bool cog_fetch_is_public(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET)
        return is_public_ip4(
            ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr));
    if (addr->sa_family == AF_INET6)
        return is_public_ip6(((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr.s6_addr);
    return false;
}
