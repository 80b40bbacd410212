/* From where pictures may be fetched: a URL that is admitted names a listed host in plain sight and
 * means the same when it is read again, and no private address counts as public. The input is a
 * URL, and of 4 or 16 bytes an address as well. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "server/picture/fetch_url.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const domains[] = { "example.com", ".example.org", "img.example.net:8443" };
enum { N_DOMAINS = sizeof(domains) / sizeof(domains[0]) };

static bool ends_with(const char *text, size_t len, const char *end)
{
    size_t n = strlen(end);

    return len > n && strncasecmp(text + len - n, end, n) == 0;
}

/* What stands between "://" and the path is a listed host and perhaps its port, and nothing else.
 */
static void check_in_sight(const char *url)
{
    const char *host = strstr(url, "://") + 3, *port;
    size_t len = strcspn(host, "/?#"), host_len;

    REQUIRE(strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0);
    REQUIRE_SAY(!memchr(host, '@', len) && !memchr(host, '[', len), "%s", url);
    port = memchr(host, ':', len);
    host_len = port ? (size_t)(port - host) : len;
    if (memchr(host, '%', host_len))
        return; /* an escaped letter: the parser's reading is checked by reading again */
    REQUIRE_SAY((host_len == 11 && strncasecmp(host, "example.com", 11) == 0) ||
                    ends_with(host, host_len, ".example.org") ||
                    (host_len == 15 && strncasecmp(host, "img.example.net", 15) == 0),
                "%s", url);
}

static char *part_of(CURLU *u, CURLUPart part)
{
    char *text = NULL, *copy;

    REQUIRE(curl_url_get(u, part, &text, part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0) ==
            CURLUE_OK);
    copy = cog_strdup(text);
    curl_free(text);
    return copy;
}

static void require_same(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = part_of(a, part), *y = part_of(b, part);

    REQUIRE_SAY(strcasecmp(x, y) == 0, "'%s' '%s'", x, y);
    cog_free(x);
    cog_free(y);
}

static void check_url(const char *url)
{
    struct Curl_URL *u = NULL, *again = NULL;
    int rc = cog_fetch_url_parse(&u, url, domains, N_DOMAINS);
    char *text;

    REQUIRE(rc == 0 ? u != NULL : rc == COG_EINVAL && !u);
    if (rc < 0)
        return;
    check_in_sight(url);
    text = part_of(u, CURLUPART_URL);
    REQUIRE_SAY(cog_fetch_url_parse(&again, text, domains, N_DOMAINS) == 0, "%s from %s", text,
                url);
    require_same(u, again, CURLUPART_HOST);
    require_same(u, again, CURLUPART_PORT);
    require_same(u, again, CURLUPART_PATH);
    cog_fetch_url_free(again);
    cog_fetch_url_free(u);
    cog_free(text);
    again = NULL;
    REQUIRE(cog_fetch_url_parse(&again, url, NULL, 0) == COG_EINVAL); /* nothing is listed */
}

static bool is_private_ip4(const uint8_t a[4])
{
    return a[0] == 0 || a[0] == 10 || a[0] == 127 || a[0] >= 224 || (a[0] == 169 && a[1] == 254) ||
           (a[0] == 172 && a[1] >= 16 && a[1] <= 31) || (a[0] == 192 && a[1] == 168) ||
           (a[0] == 100 && a[1] >= 64 && a[1] <= 127);
}

static void check_ip4(const uint8_t a[4])
{
    struct sockaddr_in s = { .sin_family = AF_INET };

    memcpy(&s.sin_addr, a, 4);
    if (is_private_ip4(a))
        REQUIRE(!cog_fetch_is_public((struct sockaddr *)&s));
}

static void check_ip6(const uint8_t a[16])
{
    static const uint8_t zero[16], mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    struct sockaddr_in6 s = { .sin6_family = AF_INET6 };
    bool is_private = memcmp(a, zero, 12) == 0 || memcmp(a, mapped, 12) == 0 ||
                      (a[0] & 0xfe) == 0xfc || a[0] == 0xff ||
                      (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) || (a[0] == 0x20 && a[1] == 2) ||
                      (a[0] == 0 && a[1] == 0x64 && a[2] == 0xff && a[3] == 0x9b);

    memcpy(&s.sin6_addr, a, 16);
    if (is_private)
        REQUIRE(!cog_fetch_is_public((struct sockaddr *)&s));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char *text = cog_strndup(len ? (const char *)bytes : "", len);
    cog_err err = { 0 };
    int rc = cog_fetch_domain_check(text, &err);

    if (rc < 0)
        fuzz_check_err(rc, &err);
    check_url(text);
    if (len == 4)
        check_ip4(bytes);
    if (len == 16)
        check_ip6(bytes);
    cog_free(text);
    return 0;
}
