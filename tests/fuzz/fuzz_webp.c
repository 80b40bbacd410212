/* WebP. Mutations work on chunks: their lengths and the file's stay right. */
#include "tests/fuzz/fuzz_picture.h"

#include "base/rng.h"

#include <string.h>

enum { HEAD = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_check_picture(COG_WEBP, bytes, len);
    return 0;
}

static void put32(uint8_t p[4], size_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void split(fuzz_parts *p, const uint8_t *bytes, size_t len)
{
    size_t at = HEAD;

    while (len - at >= 8) {
        const uint8_t *c = bytes + at;
        size_t n = c[4] | (size_t)c[5] << 8 | (size_t)c[6] << 16 | (size_t)c[7] << 24;

        if (n > len - at - 8 || !fuzz_parts_add(p, c, 4, c + 8, n))
            break;
        at += 8 + n + (n & 1);
        at = at > len ? len : at;
    }
    cog_buf_add(&p->tail, bytes + at, len - at);
}

static cog_buf join(const fuzz_parts *p)
{
    cog_buf out = { 0 };
    uint8_t size[4];

    cog_buf_add(&out, "RIFF\0\0\0\0WEBP", HEAD);
    for (int i = 0; i < p->n; i++) {
        put32(size, p->part[i].data.len);
        cog_buf_add(&out, p->part[i].tag, 4);
        cog_buf_add(&out, size, 4);
        cog_buf_add(&out, p->part[i].data.data, p->part[i].data.len);
        cog_buf_add(&out, "", p->part[i].data.len & 1);
    }
    cog_buf_add(&out, p->tail.data, p->tail.len);
    put32((uint8_t *)out.data + 4, out.len - 8);
    return out;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    static fuzz_parts p;
    cog_rng rng = { .key = seed };
    cog_buf out;

    if (len < HEAD || cog_rng_below(&rng, 4) == 0)
        return LLVMFuzzerMutate(bytes, len, room);
    split(&p, bytes, len);
    fuzz_parts_mutate(&p, seed);
    out = join(&p);
    len = fuzz_parts_store(bytes, len, room, &out);
    cog_buf_fini(&out);
    fuzz_parts_fini(&p);
    return len;
}
