/* PNG. Mutations work on chunks: lengths and check sums stay right, and scan lines are changed
 * before they are compressed again. */
#include "tests/fuzz/fuzz_picture.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <string.h>
#include <zlib.h>

enum { SIGNATURE = 8, MAX_RAW = 1 << 17 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_check_picture(COG_PNG, bytes, len);
    return 0;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(cog_buf *b, uint32_t v)
{
    const uint8_t p[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };

    cog_buf_add(b, p, 4);
}

static void split(fuzz_parts *p, const uint8_t *bytes, size_t len)
{
    size_t at = SIGNATURE;

    while (len - at >= 12) {
        size_t n = get32(bytes + at);

        if (n > len - at - 12 || !fuzz_parts_add(p, bytes + at + 4, 4, bytes + at + 8, n))
            break;
        at += n + 12;
    }
    cog_buf_add(&p->tail, bytes + at, len - at);
}

static cog_buf join(const fuzz_parts *p)
{
    cog_buf out = { 0 };

    cog_buf_add(&out, "\x89PNG\r\n\x1a\n", SIGNATURE);
    for (int i = 0; i < p->n; i++) {
        size_t start = out.len + 4;

        put32(&out, (uint32_t)p->part[i].data.len);
        cog_buf_add(&out, p->part[i].tag, 4);
        cog_buf_add(&out, p->part[i].data.data, p->part[i].data.len);
        put32(&out, (uint32_t)crc32(0, (const uint8_t *)out.data + start, (uInt)(out.len - start)));
    }
    cog_buf_add(&out, p->tail.data, p->tail.len);
    return out;
}

/* Changes what a chunk's bytes unpack to; false when they do not. */
static bool mutate_packed(cog_buf *data)
{
    uLongf raw_len = MAX_RAW, len;
    uint8_t *raw = cog_alloc(MAX_RAW, 1), *packed;
    bool done = uncompress(raw, &raw_len, (const uint8_t *)data->data, (uLong)data->len) == Z_OK;

    if (done) {
        raw_len = (uLongf)LLVMFuzzerMutate(raw, raw_len, MAX_RAW);
        len = compressBound(raw_len);
        packed = cog_alloc(len, 1);
        compress2(packed, &len, raw, raw_len, 1);
        cog_buf_clear(data);
        cog_buf_add(data, packed, len);
        cog_free(packed);
    }
    cog_free(raw);
    return done;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    static fuzz_parts p;
    cog_rng rng = { .key = seed };
    bool is_done = false;
    cog_buf out;

    if (len < SIGNATURE || cog_rng_below(&rng, 8) == 0)
        return LLVMFuzzerMutate(bytes, len, room);
    split(&p, bytes, len);
    if (cog_rng_below(&rng, 3) == 0)
        for (int i = 0; i < p.n && !is_done; i++)
            if (memcmp(p.part[i].tag, "IDAT", 4) == 0)
                is_done = mutate_packed(&p.part[i].data);
    if (!is_done)
        fuzz_parts_mutate(&p, seed);
    out = join(&p);
    len = fuzz_parts_store(bytes, len, room, &out);
    cog_buf_fini(&out);
    fuzz_parts_fini(&p);
    return len;
}
