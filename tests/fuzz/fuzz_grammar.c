/* Grammars of answers: compiling never takes what it says it refuses; a text that the mask's tokens
 * make is one that its bytes make; there is always a token to come or an end. The first byte says
 * what the rest is: an expression, choices, a schema, any object or boxes; the last one which
 * tokens are drawn. */
#include "tests/fuzz/fuzz.h"

#include "base/rng.h"
#include "engine/grammar/matcher.h"

#include <string.h>

enum { N_BYTES = 256, VOCAB = N_BYTES + 12, EOS = VOCAB - 1, STEPS = 40 };

static const char *const pieces[VOCAB - 1 - N_BYTES] = { "ab",  "\"",  "\":",     "{\"",
                                                         "\"}", "], ", "true",    " a",
                                                         "12",  "\\n", "\xc3\xa9" };

static const char *piece_of(const void *arg, int32_t token, size_t *len)
{
    static char bytes[N_BYTES];

    (void)arg;
    *len = token == EOS ? 0 : token < N_BYTES ? 1 : strlen(pieces[token - N_BYTES]);
    if (token >= N_BYTES)
        return token == EOS ? "" : pieces[token - N_BYTES];
    bytes[token] = (char)token;
    return &bytes[token];
}

static int count(const uint64_t *mask)
{
    int n = 0;

    for (int i = 0; i < VOCAB; i++)
        n += mask[i / 64] >> (i % 64) & 1;
    return n;
}

static int32_t pick(const uint64_t *mask, uint64_t skip)
{
    int32_t token = 0;

    for (;; token++)
        if (mask[token / 64] >> (token % 64) & 1 && skip-- == 0)
            return token;
}

static void follow(cog_matcher *m, cog_rng *rng)
{
    int32_t at = cog_matcher_start(m), again;
    cog_buf text = { 0 };

    for (int i = 0; i < STEPS && at >= 0; i++) {
        const uint64_t *mask = cog_matcher_mask(m, at, false);
        size_t len;
        const char *bytes;
        int32_t token;

        if (!mask)
            break;
        REQUIRE(count(mask) > 0);
        token = pick(mask, cog_rng_below(rng, (uint64_t)count(mask)));
        bytes = piece_of(NULL, token, &len);
        REQUIRE((token == EOS) <= cog_matcher_may_end(m, at));
        if (token == EOS)
            break;
        cog_buf_add(&text, bytes, len);
        at = cog_matcher_text(m, at, bytes, len);
        REQUIRE(at >= 0 || at == COG_ELIMIT);
    }
    again = cog_matcher_text(m, cog_matcher_start(m), text.data, text.len);
    REQUIRE(again == at || again == COG_ELIMIT || at == COG_ELIMIT);
    cog_buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const int32_t eos = EOS;
    static cog_trie *trie;
    cog_rng rng = { .key = len ? bytes[len - 1] : 0 };
    cog_grammar *g = NULL;
    cog_grammar_kind kind;
    cog_err err = { 0 };
    cog_matcher *m;
    int rc;

    if (!trie)
        trie = cog_trie_new(piece_of, NULL, VOCAB, &eos, 1);
    if (len == 0)
        return 0;
    kind = (cog_grammar_kind)(bytes[0] % 6);
    rc = cog_grammar_new(&g, kind, (const char *)bytes + 1, len - 1, &err);
    REQUIRE((rc == 0) == (g != NULL));
    if (rc < 0) {
        REQUIRE(rc == COG_EINVAL || rc == COG_ELIMIT);
        fuzz_check_err(rc, &err);
        return 0;
    }
    m = cog_matcher_new(g, trie);
    for (int i = 0; i < 3; i++)
        follow(m, &rng);
    cog_matcher_free(m);
    cog_grammar_free(g);
    return 0;
}
