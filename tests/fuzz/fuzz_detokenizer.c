/* Text to tokens and back: every valid text comes back from its tokens, and any tokens give the
 * same text in pieces as at once, each piece whole characters. The input is a text, and then read
 * as ids. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "engine/tokenizer.h"
#include "tests/unit/spm_file.h"

#include <string.h>

#define SPACE "\xe2\x96\x81" /* U+2581 */

static cog_tokenizer *tokenizer;

/* LLaMA's first pieces, and some that join and that end inside characters. */
static void open_tokenizer(void)
{
    static const char *const pieces[] = {
        SPACE,          "a",         "b",         "c",           "ab",
        "bc",           "abc",       (SPACE "b"), (SPACE SPACE), "\xc3\xa9",
        "\xe4\xbd\xa0", ("c" SPACE), "<",         "/s>",         "<unk>x"
    };
    cog_buf model = { 0 };
    cog_err err = { 0 };

    spm_begin(&model);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
        spm_piece(&model, pieces[i], -(float)(i % 5), SPM_NORMAL);
    spm_end(&model, 2, NULL);
    fuzz_write("tokenizer.model", model.data, model.len);
    cog_buf_fini(&model);
    REQUIRE_SAY(cog_tokenizer_open(&tokenizer, fuzz_folder(), 1000, -1, &err) == 0, "%s", err.text);
}

/* All bytes of the tokens, repaired once at the end, without the space in front. */
static cog_buf decode_at_once(const int32_t *ids, int n)
{
    cog_buf bytes = { 0 }, out = { 0 };
    size_t len, skip;

    for (int i = 0; i < n; i++) {
        const char *piece = cog_tokenizer_piece(tokenizer, ids[i], &len);

        cog_buf_add(&bytes, piece, len);
    }
    skip = bytes.len && bytes.data[0] == ' ';
    cog_buf_reserve(&out, 3 * bytes.len + 1);
    if (bytes.len > skip)
        out.len = cog_utf8_sanitize(out.data, bytes.data + skip, bytes.len - skip);
    cog_buf_fini(&bytes);
    return out;
}

static cog_buf decode_in_pieces(const int32_t *ids, int n)
{
    cog_detokenizer d = { 0 };
    cog_buf out = { 0 };
    size_t before = 0;

    for (int i = 0; i < n; i++) {
        cog_detokenizer_push(&d, &out, tokenizer, ids[i]);
        REQUIRE(out.len == before || cog_utf8_valid(out.data + before, out.len - before));
        before = out.len;
    }
    cog_detokenizer_finish(&d, &out);
    REQUIRE(out.len == before || cog_utf8_valid(out.data + before, out.len - before));
    cog_detokenizer_fini(&d);
    return out;
}

static void require_equal(const cog_buf *a, const char *b, size_t len)
{
    REQUIRE_SAY(a->len == len && (len == 0 || memcmp(a->data, b, len) == 0), "'%.*s' is not '%.*s'",
                (int)a->len, cog_buf_text(a), (int)len, b);
}

static void check_ids(const int32_t *ids, int n)
{
    cog_buf whole = decode_at_once(ids, n), pieces = decode_in_pieces(ids, n);

    require_equal(&pieces, whole.data, whole.len);
    cog_buf_fini(&whole);
    cog_buf_fini(&pieces);
}

static void check_text(const char *text, size_t len)
{
    int32_t *ids = NULL;
    cog_err err = { 0 };
    cog_buf back;
    int n = 0, rc = cog_tokenizer_encode(tokenizer, &ids, &n, text, len, &err);

    REQUIRE((rc == 0) == cog_utf8_valid(text, len));
    if (rc < 0) {
        fuzz_check_err(rc, &err);
        return;
    }
    check_ids(ids, n);
    back = decode_in_pieces(ids, n);
    if (!memmem(text, len, SPACE, 3)) /* which comes back as a space */
        require_equal(&back, text, len);
    cog_buf_fini(&back);
    cog_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    int32_t *ids = cog_array(int32_t, len + 1);

    if (!tokenizer)
        open_tokenizer();
    check_text((const char *)bytes, len);
    for (size_t i = 0; i < len;
         i++) /* the bytes' pieces, and in place of capitals those with more */
        ids[i] = bytes[i] >= 'A' && bytes[i] <= 'Z' ? SPM_FIRST + bytes[i] - 'A' : 3 + bytes[i];
    check_ids(ids, (int)len);
    cog_free(ids);
    return 0;
}
