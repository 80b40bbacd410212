/* tokenizer.model through libsentencepiece: what opens gives pieces within bounds and encodes any
 * text to ids within them, the same each time. Mutations work on the fields of the file's pieces
 * and settings. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "engine/tokenizer.h"

#include <string.h>

enum { VOCAB = 4000, MAX_FIELDS = 4096 };

static void check_pieces(const cog_tokenizer *t)
{
    int size = cog_tokenizer_size(t);
    size_t len;

    REQUIRE(size > 0 && size <= VOCAB);
    REQUIRE(cog_tokenizer_bos(t) >= 0 && cog_tokenizer_bos(t) < size);
    REQUIRE(cog_tokenizer_eos(t) >= 0 && cog_tokenizer_eos(t) < size);
    REQUIRE(cog_tokenizer_unk(t) >= 0 && cog_tokenizer_unk(t) < size);
    for (int id = -1; id <= size; id++) {
        const char *piece = cog_tokenizer_piece(t, id, &len);

        for (size_t i = 0; i < len; i++)
            REQUIRE(piece[i] || len > 0);
    }
    cog_tokenizer_piece(t, cog_tokenizer_bos(t), &len);
    REQUIRE(len == 0);
}

static cog_buf decode(const cog_tokenizer *t, const int32_t *ids, int n)
{
    cog_detokenizer d = { 0 };
    cog_buf out = { 0 };

    for (int i = 0; i < n; i++)
        cog_detokenizer_push(&d, &out, t, ids[i]);
    cog_detokenizer_finish(&d, &out);
    cog_detokenizer_fini(&d);
    return out;
}

static void check_text(const cog_tokenizer *t, const char *text)
{
    int32_t *ids = NULL, *again = NULL;
    int n = 0, n_again = 0;
    cog_err err = { 0 };
    cog_buf out;

    if (cog_tokenizer_encode(t, &ids, &n, text, strlen(text), &err) < 0) {
        fuzz_check_err(COG_ENOMEM, &err);
        return;
    }
    REQUIRE(cog_tokenizer_encode(t, &again, &n_again, text, strlen(text), &err) == 0);
    REQUIRE(n == n_again && (n == 0 || memcmp(ids, again, (size_t)n * sizeof(*ids)) == 0));
    for (int i = 0; i < n; i++)
        REQUIRE(ids[i] >= 0 && ids[i] < cog_tokenizer_size(t));
    out = decode(t, ids, n);
    REQUIRE(out.len == 0 || cog_utf8_valid(out.data, out.len));
    cog_buf_fini(&out);
    cog_free(ids);
    cog_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const texts[] = { "",
                                         " ",
                                         "a clock above a triangle",
                                         "</s><unk><0x41>",
                                         "\xc3\xa9\xe4\xbd\xa0\xf0\x9f\xa6\x99",
                                         "\xe2\x96\x81\xe2\x96\x81" };
    cog_tokenizer *t = NULL;
    cog_err err = { 0 };
    int rc;

    fuzz_write("tokenizer.model", bytes, len);
    rc = cog_tokenizer_open(&t, fuzz_folder(), VOCAB, -1, &err);
    REQUIRE((rc == 0) == (t != NULL));
    if (rc < 0) {
        fuzz_check_err(rc, &err);
        return 0;
    }
    check_pieces(t);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        check_text(t, texts[i]);
    cog_tokenizer_close(t);
    return 0;
}

/* ---- mutations: the file is a sequence of fields, most of them pieces ---- */

struct span {
    size_t at, len;
};

static size_t varint(uint64_t *value, const uint8_t *bytes, size_t len)
{
    *value = 0;
    for (size_t i = 0; i < len && i < 10; i++) {
        *value |= (uint64_t)(bytes[i] & 0x7f) << (7 * i);
        if (!(bytes[i] & 0x80))
            return i + 1;
    }
    return 0;
}

/* The length-delimited fields of the file, tag and length included. */
static int find_fields(struct span *span, const uint8_t *bytes, size_t len)
{
    int n = 0;

    for (size_t at = 0; at + 1 < len && n < MAX_FIELDS && (bytes[at] & 7) == 2;) {
        uint64_t size;
        size_t head = varint(&size, bytes + at + 1, len - at - 1);

        if (head == 0 || size > len - at - 1 - head)
            break;
        span[n++] = (struct span){ at, 1 + head + (size_t)size };
        at += span[n - 1].len;
    }
    return n;
}

static void put_varint(cog_buf *b, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));

        cog_buf_add(b, &byte, 1);
        v >>= 7;
    } while (v);
}

/* The field with its contents changed and its length right. */
static cog_buf changed_field(const uint8_t *field, size_t len)
{
    cog_buf inside = { 0 }, out = { 0 };
    uint64_t size = 0;
    size_t head = varint(&size, field + 1, len - 1);

    cog_buf_add(&inside, field + 1 + head, (size_t)size);
    cog_buf_reserve(&inside, 32);
    inside.len = LLVMFuzzerMutate((uint8_t *)inside.data, inside.len, inside.len + 32);
    cog_buf_add(&out, field, 1);
    put_varint(&out, inside.len);
    cog_buf_add(&out, inside.data, inside.len);
    cog_buf_fini(&inside);
    return out;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    static struct span span[MAX_FIELDS];
    cog_rng rng = { .key = seed };
    int n = find_fields(span, bytes, len), what = (int)cog_rng_below(&rng, 8);
    cog_buf with = { 0 };
    struct span s;

    if (n == 0 || what == 0)
        return LLVMFuzzerMutate(bytes, len, room);
    s = span[cog_rng_below(&rng, 4) ? cog_rng_below(&rng, (uint64_t)n) : (uint64_t)n - 1];
    if (what == 1) { /* another field doubled in its place */
        struct span other = span[cog_rng_below(&rng, (uint64_t)n)];

        cog_buf_add(&with, bytes + other.at, other.len);
    } else if (what > 2) {
        with = changed_field(bytes + s.at, s.len);
    } /* else: dropped */
    if (len - s.len + with.len <= room) {
        memmove(bytes + s.at + with.len, bytes + s.at + s.len, len - s.at - s.len);
        if (with.len)
            memcpy(bytes + s.at, with.data, with.len);
        len = len - s.len + with.len;
    }
    cog_buf_fini(&with);
    return len;
}
