#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/err.h"
#include "base/rng.h"
#include "proto/base64.h"

#include <openssl/evp.h>
#include <string.h>

typedef int (*decoder)(uint8_t *dst, size_t *out_len, const char *src, size_t len);

static const decoder variants[] = { cog_base64_decode, cog_base64_decode_table };

enum { N_VARIANTS = 2 };

static void vectors(void **state)
{
    /* RFC 4648, section 10, and the same without padding. */
    static const char *const good[][2] = {
        { "", "" },
        { "Zg==", "f" },
        { "Zm8=", "fo" },
        { "Zm9v", "foo" },
        { "Zm9vYg==", "foob" },
        { "Zm9vYmE=", "fooba" },
        { "Zm9vYmFy", "foobar" },
        { "Zg", "f" },
        { "Zm8", "fo" },
        { "Zm9vYg", "foob" },
        { "Zm9vYmE", "fooba" },
        { "++//", "\xfb\xef\xff" },
    };

    for (int v = 0; v < N_VARIANTS; v++) {
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
            uint8_t out[32];
            size_t len = 99;

            assert_int_equal(variants[v](out, &len, good[i][0], strlen(good[i][0])), 0);
            assert_int_equal(len, strlen(good[i][1]));
            assert_memory_equal(out, good[i][1], len);
        }
    }
}

static void refusals(void **state)
{
    static const char *const bad[] = { "Z",     "Zg=",      "Zg===",    "=",       "==",
                                       "====",  "Zh==",     "Zm9=",     "Zh",      "Zm9",
                                       "Zm9v=", "Zm 9v",    "Zm9v\n",   " Zm9v",   "Zm-_",
                                       "Z=9v",  "Zg==Zg==", "Zm9v====", "Zm9\x80", "\xc3\xbcm9v" };

    for (int v = 0; v < N_VARIANTS; v++) {
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            uint8_t out[32];
            size_t len = 99;

            if (variants[v](out, &len, bad[i], strlen(bad[i])) != COG_EINVAL)
                fail_msg("variant %d took %s", v, bad[i]);
            assert_int_equal(len, 99);
        }
    }
}

/* Every length around the blocks of the fast variant, into a buffer of exactly the stated room. */
static void every_length(void **state)
{
    cog_rng rng = { .key = 7 };

    for (size_t n = 0; n < 400; n++) {
        uint8_t bytes[400];
        unsigned char text[600];
        size_t text_len;

        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)cog_rng_next(&rng);
        text_len = (size_t)EVP_EncodeBlock(text, bytes, (int)n);
        for (int v = 0; v < N_VARIANTS; v++) {
            uint8_t *out = cog_alloc(1, cog_base64_room(text_len));
            size_t len;

            assert_int_equal(variants[v](out, &len, (char *)text, text_len), 0);
            assert_int_equal(len, n);
            assert_memory_equal(out, bytes, n);
            cog_free(out);
        }
    }
}

/* Every byte value in every place of a long text: the variants agree, and only the alphabet passes.
 */
static void every_byte(void **state)
{
    enum { LEN = 160 };
    char text[LEN];

    for (size_t at = 0; at < LEN; at++) {
        for (int byte = 0; byte < 256; byte++) {
            uint8_t a[LEN], b[LEN];
            size_t a_len = 0, b_len = 0;
            int ra, rb;

            memset(text, 'A', LEN);
            text[at] = (char)byte;
            ra = cog_base64_decode(a, &a_len, text, LEN);
            rb = cog_base64_decode_table(b, &b_len, text, LEN);
            assert_int_equal(ra, rb);
            assert_int_equal(a_len, b_len);
            assert_memory_equal(a, b, a_len);
            if (byte < 128 && byte != '=')
                assert_int_equal(ra == 0, byte != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                              "abcdefghijklmnopqrstuvwxyz"
                                                              "0123456789+/",
                                                              byte) != NULL);
            else
                assert_int_equal(ra == 0, byte == '=' && at == LEN - 1);
        }
    }
}

static void encoding(void **state)
{
    static const char *const pairs[][2] = {
        { "", "" },        { "f", "Zg==" },        { "fo", "Zm8=" },
        { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "\xfb\xef\xff", "++//" }
    };
    cog_buf text = { 0 };
    uint8_t all[256], back[300];
    size_t len;

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        cog_buf_clear(&text);
        cog_buf_puts(&text, "<");
        cog_base64_encode(&text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(text.data + 1, pairs[i][1]);
    }
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    cog_buf_clear(&text);
    cog_base64_encode(&text, all, sizeof(all));
    assert_int_equal(cog_base64_decode(back, &len, text.data, text.len), 0);
    assert_int_equal(len, sizeof(all));
    assert_memory_equal(back, all, len);
    cog_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding),     cmocka_unit_test(vectors),    cmocka_unit_test(refusals),
        cmocka_unit_test(every_length), cmocka_unit_test(every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
