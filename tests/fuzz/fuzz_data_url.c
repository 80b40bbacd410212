/* data: URLs: the payload is a view of the URL behind its comma, and the kind depends on neither
 * the case of the scheme nor the payload. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "proto/data_url.h"

#include <string.h>
#include <strings.h>

static bool starts(const char *url, size_t len, const char *prefix)
{
    return len >= strlen(prefix) && strncasecmp(url, prefix, strlen(prefix)) == 0;
}

static void check_kind(cog_url_kind kind, const char *url, size_t len)
{
    bool is_data = starts(url, len, "data:");
    bool is_web = starts(url, len, "http://") || starts(url, len, "https://");

    REQUIRE(kind <= COG_URL_BARE);
    REQUIRE(is_web == (kind == COG_URL_WEB));
    if (is_data)
        REQUIRE(kind == COG_URL_DATA || kind == COG_URL_NOT_BASE64 || kind == COG_URL_NOT_IMAGE);
    else if (starts(url, len, "file:"))
        REQUIRE(kind == COG_URL_FILE);
    else if (!is_web)
        REQUIRE(kind == (memchr(url, ':', len) ? COG_URL_OTHER : COG_URL_BARE));
}

static void check_payload(cog_url_kind kind, const char *url, size_t len, const char *payload,
                          size_t n)
{
    REQUIRE(payload >= url && payload + n == url + len);
    if (kind == COG_URL_BARE) {
        REQUIRE(n == len);
        return;
    }
    REQUIRE(payload[-1] == ',' && !memchr(url, ',', len - n - 1));
    REQUIRE(len - n >= strlen("data:;base64,"));
    REQUIRE(strncasecmp(payload - strlen(";base64,"), ";base64,", strlen(";base64,")) == 0);
}

/* In capitals the head says the same. */
static void check_case(cog_url_kind kind, const char *url, size_t len, size_t n)
{
    char *other = cog_strndup(url, len);
    const char *payload = NULL;
    size_t other_n = 0;

    for (size_t i = 0; i < len - n; i++)
        if (other[i] >= 'a' && other[i] <= 'z')
            other[i] = (char)(other[i] - 'a' + 'A');
    REQUIRE(cog_data_url_split(&payload, &other_n, other, len) == kind && other_n == n);
    cog_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const char *url = (const char *)bytes, *payload = NULL;
    size_t n = 0;
    cog_url_kind kind = cog_data_url_split(&payload, &n, url, len);

    check_kind(kind, url, len);
    if (kind == COG_URL_DATA || kind == COG_URL_BARE) {
        check_payload(kind, url, len, payload, n);
        if (!memchr(bytes, 0, len))
            check_case(kind, url, len, n);
    } else {
        REQUIRE(!payload && n == 0);
    }
    return 0;
}
