#include "tests/unit/unit.h"

#include "proto/data_url.h"

#include <string.h>

static void kinds(void **state)
{
    static const struct {
        const char *url;
        cog_url_kind kind;
        const char *payload;
    } cases[] = {
        { "data:image/png;base64,AAAA", COG_URL_DATA, "AAAA" },
        { "DATA:image/JPEG;BASE64,AA", COG_URL_DATA, "AA" },
        { "data:;base64,", COG_URL_DATA, "" },
        { "data:image/png;name=a;base64,AA,A", COG_URL_DATA, "AA,A" },
        { "data:application/octet-stream;base64,A", COG_URL_DATA, "A" },
        { "data:image/png,AAAA", COG_URL_NOT_BASE64, NULL },
        { "data:image/png;base64", COG_URL_NOT_BASE64, NULL },
        { "data:,", COG_URL_NOT_BASE64, NULL },
        { "data:", COG_URL_NOT_BASE64, NULL },
        { "data:base64,AAAA", COG_URL_NOT_BASE64, NULL },
        { "data:image/png;base64;x,AAAA", COG_URL_NOT_BASE64, NULL },
        { "data:text/plain;base64,AAAA", COG_URL_NOT_IMAGE, NULL },
        { "data:application/octet-streams;base64,AAAA", COG_URL_NOT_IMAGE, NULL },
        { "data:images;base64,AAAA", COG_URL_NOT_IMAGE, NULL },
        { "http://example.com/a.png", COG_URL_WEB, NULL },
        { "HTTPS://example.com/a.png", COG_URL_WEB, NULL },
        { "file:///etc/passwd", COG_URL_FILE, NULL },
        { "FILE:x", COG_URL_FILE, NULL },
        { "files:x", COG_URL_OTHER, NULL },
        { "ftp://x", COG_URL_OTHER, NULL },
        { "javascript:1", COG_URL_OTHER, NULL },
        { " data:image/png;base64,AAAA", COG_URL_OTHER, NULL },
        { "AAAA", COG_URL_BARE, "AAAA" },
        { "", COG_URL_BARE, "" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *payload = NULL;
        size_t len = 0;

        assert_int_equal(cog_data_url_split(&payload, &len, cases[i].url, strlen(cases[i].url)),
                         cases[i].kind);
        if (cases[i].payload) {
            assert_int_equal(len, strlen(cases[i].payload));
            assert_memory_equal(payload, cases[i].payload, len);
        }
    }
}

/* A view is not NUL-terminated: nothing behind its end may be read. */
static void every_prefix(void **state)
{
    static const char url[] = "data:image/png;base64,AAAA";

    for (size_t len = 0; len < sizeof(url) - 1; len++) {
        const char *payload = NULL;
        size_t payload_len = 0;
        char *exact = test_malloc(len + 1);
        cog_url_kind kind;

        memcpy(exact, url, len);
        kind = cog_data_url_split(&payload, &payload_len, exact, len);
        assert_int_equal(kind, len < 5    ? (memchr(url, ':', len) ? COG_URL_OTHER : COG_URL_BARE)
                               : len < 22 ? COG_URL_NOT_BASE64
                                          : COG_URL_DATA);
        test_free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
