#include "tests/unit/unit.h"

#include "server/picture/fetch_url.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static const char *const domains[] = { "example.com", ".example.org", "ports.example:8080",
                                       "93.184.216.34" };
enum { N_DOMAINS = sizeof(domains) / sizeof(domains[0]) };

static bool takes(const char *url)
{
    struct Curl_URL *u = NULL;
    bool taken = cog_fetch_url_parse(&u, url, domains, N_DOMAINS) == 0;

    assert_int_equal(taken, u != NULL);
    cog_fetch_url_free(u);
    return taken;
}

static void what_is_admitted(void **state)
{
    static const char *const good[] = {
        "http://example.com/a.png", "https://example.com/a.png",     "HTTPS://EXAMPLE.COM/a.png",
        "https://example.com",      "https://example.com/a?b=c&d#e", "https://example.com:443/a",
        "http://example.com:80/a",  "http://example.com:443/a",      "https://a.example.org/",
        "https://a.b.EXAMPLE.org/", "http://ports.example:8080/a",   "https://ports.example:8080/a",
        "https://93.184.216.34/a",  "https://0x5db8d822/a", /* the same, and connected to as such */
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!takes(good[i]))
            fail_msg("%s", good[i]);
    }
}

static void what_is_refused(void **state)
{
    static const char *const bad[] = {
        "https://example.net/a.png",
        "https://www.example.com/",
        "https://example.com.evil.net/",
        "https://example.com./",
        "https://xexample.com/",
        "https://example.org/",
        "https://xexample.org/",
        "https://.example.org/",
        "https://org/",
        "https://example.org.evil.net/",
        /* the host is what follows the last @, or what stands before the backslash, or ... */
        "https://example.com@evil.net/",
        "https://evil.net@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://evil.net\\@example.com/",
        "https://example.com\\@evil.net/",
        "https://example.com\\.evil.net/",
        "https:\\\\example.com/",
        "https://evil.net#@example.com/",
        "https://evil.net?@example.com/",
        "https://evil.net%2f@example.com/",
        "https://example.com%2f.evil.net/",
        "https://example.com%00.evil.net/",
        "https://example.com%5c.evil.net/",
        "https://a%2541.example.org/", /* whose host would read as another a second time */
        "https://a%25.example.org/",
        "https://a%2a.example.org/",
        "https://example.com /",
        "https://example.com/a b",
        "https://example.com/a\\b",
        "https://example.com/\t",
        "https://example.com/\n",
        "https://example.com/\x7f",
        "https://ex\xc3\xa4mple.com/",
        ("https://example\xef\xbc\x8e"
         "com/"),
        " https://example.com/",
        /* ports */
        "https://example.com:8080/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:+80/",
        "https://example.com:80:80/",
        "http://ports.example/a",
        "http://ports.example:80/a",
        /* numbers that are addresses */
        "http://127.0.0.1/",
        "http://0177.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:93.184.216.34]/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        /* schemes */
        "ftp://example.com/",
        "file://example.com/etc/passwd",
        "file:///etc/passwd",
        "gopher://example.com/",
        "example.com/a.png",
        "//example.com/a.png",
        "http:example.com",
        "http:/example.com/",
        "http:///example.com/",
        "http://",
        "http:///",
        "https:",
        "",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (takes(bad[i]))
            fail_msg("%s", bad[i]);
    }
}

static void long_urls(void **state)
{
    char url[8200] = "https://example.com/";

    memset(url + strlen(url), 'a', 8192 - strlen(url));
    assert_true(takes(url));
    strcat(url, "a");
    assert_false(takes(url));
}

static void what_may_be_listed(void **state)
{
    static const char *const good[] = { "example.com", ".example.com",  "a-b_c.example",
                                        "localhost",   "example.com:1", ".example.com:65535",
                                        "10.0.0.1" };
    static const char *const bad[] = { "",
                                       ".",
                                       "..com",
                                       "example.com.",
                                       "a..b",
                                       "*.example.com",
                                       "https://example.com",
                                       "example.com/",
                                       "example.com:",
                                       "example.com:0",
                                       "example.com:65536",
                                       "example.com:1x",
                                       "exa mple.com",
                                       "user@example.com",
                                       "\xc3\xa4.example" };
    static const char *const ip6[] = { "[::1]", "[2001:db8::1]", "[2001:db8::1]:443", "2001:db8::1",
                                       "::1" };
    cog_err err;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(cog_fetch_domain_check(good[i], &err), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (cog_fetch_domain_check(bad[i], &err) != COG_EINVAL)
            fail_msg("'%s'", bad[i]);
        assert_null(strstr(err.text, "IPv6"));
    }
    for (size_t i = 0; i < sizeof(ip6) / sizeof(ip6[0]); i++) {
        assert_int_equal(cog_fetch_domain_check(ip6[i], &err), COG_EINVAL);
        assert_non_null(strstr(err.text, "write the host's name"));
    }
}

/* ------------------------------------------------------------------ addresses */

static bool is_public(const char *text)
{
    struct sockaddr_in a4 = { .sin_family = AF_INET };
    struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };

    if (inet_pton(AF_INET, text, &a4.sin_addr) == 1)
        return cog_fetch_is_public((const struct sockaddr *)&a4);
    assert_int_equal(inet_pton(AF_INET6, text, &a6.sin6_addr), 1);
    return cog_fetch_is_public((const struct sockaddr *)&a6);
}

/* The first and last address of each special net, and their neighbours outside. */
static void special_nets(void **state)
{
    static const char *const public[] = {
        "1.0.0.0",         "9.255.255.255",   "11.0.0.0",        "100.63.255.255",
        "100.128.0.0",     "126.255.255.255", "128.0.0.0",       "169.253.255.255",
        "169.255.0.0",     "172.15.255.255",  "172.32.0.0",      "191.255.255.255",
        "192.0.1.0",       "192.0.3.0",       "192.88.98.255",   "192.88.100.0",
        "192.167.255.255", "192.169.0.0",     "198.17.255.255",  "198.20.0.0",
        "198.51.99.255",   "198.51.101.0",    "203.0.112.255",   "203.0.114.0",
        "223.255.255.255", "2000::",          "2001:200::",      "2001:db7:ffff::1",
        "2001:db9::",      "2003::",          "2606:4700::1111", "3ffe:ffff::",
        "3fff:1000::",
    };
    static const char *const special[] = {
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.0",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "203.0.113.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "1fff:ffff::",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff:ffff::",
        "2001:db8::1",
        "2001:db8:ffff::",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "3fff:fff:ffff::",
        "4000::",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
    };

    for (size_t i = 0; i < sizeof(public) / sizeof(public[0]); i++) {
        if (!is_public(public[i]))
            fail_msg("%s is public", public[i]);
    }
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (is_public(special[i]))
            fail_msg("%s is not public", special[i]);
    }
    assert_false(cog_fetch_is_public(&(struct sockaddr){ .sa_family = AF_UNIX }));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_admitted), cmocka_unit_test(what_is_refused),
        cmocka_unit_test(long_urls),        cmocka_unit_test(what_may_be_listed),
        cmocka_unit_test(special_nets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
