/* Answers as a client reads them: events come out the same however the bytes are cut and whichever
 * way lines end, hold no line end but those that join lines, and what they hold is read or refused.
 * The last byte says how to cut. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "proto/chat_read.h"
#include "proto/sse_read.h"

#include <string.h>

static void read_event(const char *data, size_t len)
{
    cog_chat_chunk chunk;
    char *text = NULL;
    int rc = cog_chat_read(&chunk, data, len);

    REQUIRE(rc == 0 || rc == COG_EFORMAT);
    text = cog_chat_read_error(data, len);
    REQUIRE(!text || rc == 0);
    cog_free(text);
    text = NULL;
    rc = cog_chat_read_models(&text, data, len);
    REQUIRE(rc == 0 ? text != NULL : rc == COG_EFORMAT && !text);
    cog_free(text);
}

/* Gathers events, each behind its length. */
static void on_event(void *arg, const char *data, size_t len)
{
    cog_buf *all = arg;

    REQUIRE(!memchr(data ? data : "", '\r', len));
    cog_buf_add(all, &len, sizeof(len));
    cog_buf_add(all, data, len);
    read_event(data ? data : "", len);
}

static cog_buf read_in_pieces(const char *bytes, size_t len, unsigned how)
{
    cog_sse_reader r = { 0 };
    cog_rng rng = { .key = how };
    cog_buf all = { 0 };

    for (size_t at = 0; at < len;) {
        size_t n = how == 0 ? len : 1 + (size_t)cog_rng_below(&rng, 1 + how % 16);

        n = n > len - at ? len - at : n;
        cog_sse_read(&r, bytes + at, n, on_event, &all);
        at += n;
    }
    cog_sse_reader_fini(&r);
    return all;
}

static void require_same(const cog_buf *a, const cog_buf *b)
{
    REQUIRE(a->len == b->len);
    REQUIRE(a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Lines that end in LF, made to end in something else. */
static void check_line_ends(const char *bytes, size_t len, const cog_buf *want, const char *end,
                            unsigned how)
{
    cog_buf other = { 0 }, all;

    for (size_t i = 0; i < len; i++)
        cog_buf_add(&other, bytes[i] == '\n' ? end : &bytes[i], bytes[i] == '\n' ? strlen(end) : 1);
    all = read_in_pieces(cog_buf_text(&other), other.len, how);
    require_same(&all, want);
    cog_buf_fini(&other);
    cog_buf_fini(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    unsigned how = fuzz_take(&tail);
    const char *text = (const char *)bytes;
    cog_buf whole = read_in_pieces(text, tail.len, 0);
    cog_buf pieces = read_in_pieces(text, tail.len, how | 1);

    require_same(&whole, &pieces);
    if (tail.len > 0 && !memchr(text, '\r', tail.len)) {
        check_line_ends(text, tail.len, &whole, "\r\n", how);
        check_line_ends(text, tail.len, &whole, "\r", how | 1);
    }
    cog_buf_fini(&whole);
    cog_buf_fini(&pieces);
    return 0;
}
