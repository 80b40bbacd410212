/* UTF-8: our check against jansson's, the longest complete prefix, and what repairs text. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <jansson.h>
#include <string.h>

static bool is_valid_elsewhere(const char *s, size_t len)
{
    json_t *v = json_stringn(s, len);
    bool valid = v != NULL;

    json_decref(v);
    return valid;
}

/* Cut anywhere, the whole characters come out and the rest is a start of one. */
static void check_complete(const char *s, size_t len)
{
    for (size_t n = 0; n <= len; n++) {
        size_t k = cog_utf8_complete(s, n);

        REQUIRE(k <= n && n - k <= 3);
        if (cog_utf8_valid(s, len))
            REQUIRE(cog_utf8_valid(s, k));
    }
}

static void check_sanitize(const char *s, size_t len)
{
    char *clean = cog_alloc(3 * len + 1, 1), *again;
    size_t n = cog_utf8_sanitize(clean, s, len), n_again;

    REQUIRE(n <= 3 * len && cog_utf8_valid(clean, n));
    if (cog_utf8_valid(s, len))
        REQUIRE(n == len && (len == 0 || memcmp(clean, s, len) == 0));
    again = cog_alloc(3 * n + 1, 1);
    n_again = cog_utf8_sanitize(again, clean, n);
    REQUIRE(n_again == n && memcmp(again, clean, n) == 0);
    cog_free(clean);
    cog_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const char *s = (const char *)bytes;

    if (len > 512)
        return 0;
    REQUIRE(cog_utf8_valid(s, len) == is_valid_elsewhere(s, len));
    check_complete(s, len);
    check_sanitize(s, len);
    return 0;
}
