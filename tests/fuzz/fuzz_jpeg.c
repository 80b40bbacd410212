/* JPEG. Mutations work on segments: lengths stay right, so that a change is not lost in framing. */
#include "tests/fuzz/fuzz_picture.h"

#include "base/rng.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_check_picture(COG_JPEG, bytes, len);
    return 0;
}

/* Segments up to the first scan's data; that, and all behind it, is the tail. */
static void split(fuzz_parts *p, const uint8_t *bytes, size_t len)
{
    size_t at = 2;
    bool in_scan = false;

    while (!in_scan && len - at >= 4 && bytes[at] == 0xff) {
        size_t n = (size_t)bytes[at + 2] << 8 | bytes[at + 3];

        if (n < 2 || n > len - at - 2 ||
            !fuzz_parts_add(p, bytes + at + 1, 1, bytes + at + 4, n - 2))
            break;
        in_scan = bytes[at + 1] == 0xda;
        at += n + 2;
    }
    cog_buf_add(&p->tail, bytes + at, len - at);
}

static cog_buf join(const fuzz_parts *p)
{
    cog_buf out = { 0 };

    cog_buf_add(&out, "\xff\xd8", 2);
    for (int i = 0; i < p->n; i++) {
        size_t n = p->part[i].data.len + 2;
        const uint8_t head[4] = { 0xff, p->part[i].tag[0], (uint8_t)(n >> 8), (uint8_t)n };

        cog_buf_add(&out, head, 4);
        cog_buf_add(&out, p->part[i].data.data, p->part[i].data.len);
    }
    cog_buf_add(&out, p->tail.data, p->tail.len);
    return out;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    static fuzz_parts p;
    cog_rng rng = { .key = seed };
    cog_buf out;

    if (len < 4 || cog_rng_below(&rng, 3) == 0)
        return LLVMFuzzerMutate(bytes, len, room);
    split(&p, bytes, len);
    fuzz_parts_mutate(&p, seed);
    out = join(&p);
    len = fuzz_parts_store(bytes, len, room, &out);
    cog_buf_fini(&out);
    fuzz_parts_fini(&p);
    return len;
}
