#include "tests/fuzz/fuzz_picture.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <string.h>

enum { SIDE = 24, MAX_SIDE = 600, MAX_PIXELS = 1 << 16 };

static const cog_image_options plain_options = {
    .max_bytes = 1 << 20,
    .max_pixels = MAX_PIXELS,
    .max_side = MAX_SIDE,
    .max_scans = 20,
    .max_metadata = 1 << 16,
    .max_ms = 20000,
};

static void check_refusal(int rc, cog_image_fault fault, const cog_err *err)
{
    REQUIRE(fault > COG_IMAGE_FINE && fault <= COG_IMAGE_TOO_SMALL);
    fuzz_check_err(rc, err);
}

static cog_image *load(const uint8_t *bytes, size_t len, const cog_image_options *opt)
{
    cog_image_fault fault = COG_IMAGE_FINE;
    cog_err err = { 0 };
    cog_image *im = NULL;
    int rc = cog_image_load(&im, &fault, bytes, len, SIDE, opt, &err);

    REQUIRE((rc == 0) == (im != NULL));
    if (rc == 0)
        REQUIRE(fault == COG_IMAGE_FINE && im->side == SIDE);
    else
        check_refusal(rc, fault, &err);
    return im;
}

/* The size is that of the header, perhaps turned. */
static void check_size(const cog_image *im, cog_image_format format, int width, int height)
{
    REQUIRE(im->format == format);
    REQUIRE((im->source_width == width && im->source_height == height) ||
            (im->source_width == height && im->source_height == width));
}

static void check_loads(cog_image_format format, int width, int height, const uint8_t *bytes,
                        size_t len)
{
    cog_image_options stored = plain_options;
    cog_image *a = load(bytes, len, &plain_options), *b, *c;

    stored.drop_alpha = stored.ignore_exif = true;
    b = load(bytes, len, &plain_options);
    c = load(bytes, len, &stored);
    REQUIRE((a != NULL) == (b != NULL) && (a != NULL) == (c != NULL));
    if (a) {
        check_size(a, format, width, height);
        REQUIRE(c->source_width == width && c->source_height == height);
        REQUIRE(memcmp(a->rgb, b->rgb, SIDE * SIDE * 3) == 0);
        REQUIRE(memcmp(&a->hash, &b->hash, sizeof(a->hash)) == 0);
    }
    cog_image_free(a);
    cog_image_free(b);
    cog_image_free(c);
}

void fuzz_check_picture(cog_image_format format, const uint8_t *bytes, size_t len)
{
    cog_image_fault fault = COG_IMAGE_FINE;
    cog_image_format found = COG_GIF;
    int width = 0, height = 0;
    cog_err err = { 0 };
    int rc = cog_image_probe(&found, &width, &height, &fault, bytes, len, &plain_options, &err);

    if (rc < 0) {
        check_refusal(rc, fault, &err);
        REQUIRE(!load(bytes, len, &plain_options));
        return;
    }
    REQUIRE(fault == COG_IMAGE_FINE);
    REQUIRE(width >= 1 && width <= MAX_SIDE && height >= 1 && height <= MAX_SIDE);
    REQUIRE(width * height <= MAX_PIXELS);
    if (found == format)
        check_loads(format, width, height, bytes, len);
}

/* ---- parts ---- */

fuzz_part *fuzz_parts_add(fuzz_parts *p, const void *tag, size_t tag_len, const void *data,
                          size_t len)
{
    fuzz_part *part;

    if (p->n == FUZZ_MAX_PARTS)
        return NULL;
    part = &p->part[p->n++];
    *part = (fuzz_part){ 0 };
    memcpy(part->tag, tag, tag_len);
    cog_buf_reserve(&part->data, len + 1);
    cog_buf_add(&part->data, data, len);
    return part;
}

void fuzz_parts_fini(fuzz_parts *p)
{
    for (int i = 0; i < p->n; i++)
        cog_buf_fini(&p->part[i].data);
    cog_buf_fini(&p->tail);
    p->n = 0;
}

static void mutate_bytes(cog_buf *b)
{
    cog_buf_reserve(b, 64);
    b->len = LLVMFuzzerMutate((uint8_t *)b->data, b->len, b->len + 64);
}

static void drop(fuzz_parts *p, int i)
{
    cog_buf_fini(&p->part[i].data);
    memmove(&p->part[i], &p->part[i + 1], (size_t)(p->n - i - 1) * sizeof(p->part[0]));
    p->n--;
}

/* A copy of part i comes to stand at place k. */
static void insert_copy(fuzz_parts *p, int i, int k)
{
    fuzz_part copy;

    if (!fuzz_parts_add(p, p->part[i].tag, 4, p->part[i].data.data, p->part[i].data.len))
        return;
    copy = p->part[p->n - 1];
    memmove(&p->part[k + 1], &p->part[k], (size_t)(p->n - 1 - k) * sizeof(p->part[0]));
    p->part[k] = copy;
}

void fuzz_parts_mutate(fuzz_parts *p, unsigned seed)
{
    cog_rng rng = { .key = seed };

    for (int left = 1 + (int)cog_rng_below(&rng, 3); left > 0 && p->n > 0; left--) {
        int i = (int)cog_rng_below(&rng, (uint64_t)p->n),
            k = (int)cog_rng_below(&rng, (uint64_t)p->n);
        fuzz_part swap = p->part[i];

        switch (cog_rng_below(&rng, 8)) {
        case 0:
            drop(p, i);
            break;
        case 1:
            insert_copy(p, i, k);
            break;
        case 2:
            p->part[i] = p->part[k];
            p->part[k] = swap;
            break;
        case 3:
            LLVMFuzzerMutate(p->part[i].tag, 4, 4);
            break;
        default:
            mutate_bytes(&p->part[i].data);
            break;
        }
    }
    if (p->tail.len && cog_rng_below(&rng, 8) == 0)
        mutate_bytes(&p->tail);
}

size_t fuzz_parts_store(uint8_t *bytes, size_t len, size_t room, const cog_buf *out)
{
    if (out->len == 0 || out->len > room)
        return LLVMFuzzerMutate(bytes, len, room);
    memcpy(bytes, out->data, out->len);
    return out->len;
}
