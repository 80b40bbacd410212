/* Stop strings in text that comes in pieces: however it is cut, what comes out is what a search in
 * the whole text finds. The input: stop strings, an empty one, the text, between zero bytes; the
 * last byte says how to cut. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/stops.h"

#include <string.h>

enum { MAX_STOPS = 16 };

struct answer {
    size_t len; /* of the text that comes out */
    int hit;
};

/* The first byte at which some string is complete, and of those the longest. */
static struct answer search(char *const *stop, int n, const char *text, size_t len)
{
    for (size_t end = 1; end <= len; end++) {
        struct answer best = { 0, -1 };
        size_t best_len = 0;

        for (int i = 0; i < n; i++) {
            size_t k = strlen(stop[i]);

            if (k > best_len && k <= end && memcmp(text + end - k, stop[i], k) == 0) {
                best = (struct answer){ end - k, i };
                best_len = k;
            }
        }
        if (best.hit >= 0)
            return best;
    }
    return (struct answer){ len, -1 };
}

static void check(char *const *stop, int n, const char *text, size_t len, unsigned how)
{
    struct answer want = search(stop, n, text, len);
    cog_rng rng = { .key = how };
    cog_buf out = { 0 };
    cog_stops s;
    bool found = false;

    cog_stops_init(&s, stop, n);
    for (size_t at = 0; at < len && !found;) {
        size_t piece = how == 0 ? len : 1 + (size_t)cog_rng_below(&rng, 1 + how % 16);

        piece = piece > len - at ? len - at : piece;
        found = cog_stops_push(&s, &out, text + at, piece);
        at += piece;
        REQUIRE(out.len <= at && memcmp(cog_buf_text(&out), text, out.len) == 0);
    }
    if (!found)
        cog_stops_finish(&s, &out);
    REQUIRE(found == (want.hit >= 0));
    REQUIRE_SAY(out.len == want.len, "%zu is not %zu", out.len, want.len);
    REQUIRE(memcmp(cog_buf_text(&out), text, out.len) == 0);
    if (found)
        REQUIRE(strcmp(stop[s.hit], stop[want.hit]) == 0);
    cog_stops_fini(&s);
    cog_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    unsigned how = fuzz_take(&tail);
    fuzz_cut rest = { bytes, tail.len }, part;
    char *stop[MAX_STOPS];
    int n = 0;

    while (fuzz_next(&part, &rest, 0) && part.len > 0 && n < MAX_STOPS)
        stop[n++] = cog_strndup((const char *)part.bytes, part.len);
    if (!memchr(rest.bytes, 0, rest.len)) {
        check(stop, n, (const char *)rest.bytes, rest.len, 0);
        check(stop, n, (const char *)rest.bytes, rest.len, how);
    }
    for (int i = 0; i < n; i++)
        cog_free(stop[i]);
    return 0;
}
