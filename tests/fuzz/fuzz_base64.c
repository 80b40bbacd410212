/* Base64: the fast decoder, the reference and libcrypto's encoder agree. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/base64.h"

#include <openssl/evp.h>
#include <string.h>

/* src is what an encoder makes of the bytes, with or without its padding. */
static void check_encoded(const uint8_t *dst, size_t n, const char *src, size_t len)
{
    uint8_t *text = cog_alloc(n / 3 * 4 + 5, 1);
    size_t full = (size_t)EVP_EncodeBlock(text, dst, (int)n);

    while (full > len && text[full - 1] == '=')
        full--;
    REQUIRE_SAY(full == len && memcmp(text, src, len) == 0, "%zu bytes of %zu", n, len);
    cog_free(text);
}

static void check_decode(const char *src, size_t len)
{
    size_t room = cog_base64_room(len), n_fast = 0, n_table = 0;
    uint8_t *fast = cog_alloc(room, 1), *table = cog_alloc(room, 1);
    int rc = cog_base64_decode(fast, &n_fast, src, len);

    REQUIRE(rc == 0 || rc == COG_EINVAL);
    REQUIRE(cog_base64_decode_table(table, &n_table, src, len) == rc);
    if (rc == 0) {
        REQUIRE(n_fast == n_table && n_fast <= room);
        REQUIRE(memcmp(fast, table, n_fast) == 0);
        check_encoded(fast, n_fast, src, len);
    }
    cog_free(fast);
    cog_free(table);
}

/* Any bytes come back from their encoding, which is libcrypto's as well. */
static void check_encode(const uint8_t *bytes, size_t len)
{
    size_t n = 0;
    uint8_t *text = cog_alloc(len / 3 * 4 + 5, 1), *back;
    int text_len = EVP_EncodeBlock(text, bytes, (int)len);
    cog_buf ours = { 0 };

    cog_base64_encode(&ours, bytes, len);
    REQUIRE(ours.len == (size_t)text_len);
    REQUIRE(text_len == 0 || memcmp(ours.data, text, ours.len) == 0);
    back = cog_alloc(cog_base64_room(ours.len), 1);
    REQUIRE(cog_base64_decode(back, &n, cog_buf_text(&ours), ours.len) == 0);
    REQUIRE(n == len && (len == 0 || memcmp(back, bytes, len) == 0));
    cog_buf_fini(&ours);
    cog_free(text);
    cog_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    check_decode((const char *)bytes, len);
    check_encode(bytes, len);
    return 0;
}
