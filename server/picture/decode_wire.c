#include "server/picture/decode_wire.h"

#include <string.h>

static bool is_plain(const char *text, size_t size)
{
    const char *end = memchr(text, '\0', size);

    for (const char *p = text; end && p < end; p++) {
        if (*p < ' ' || *p > '~')
            return false;
    }
    return end != NULL;
}

static bool has_size(const cog_say *say, const cog_image_options *options)
{
    return say->format >= COG_JPEG && say->format <= COG_GIF && say->width > 0 && say->height > 0 &&
           say->width <= options->max_side && say->height <= options->max_side &&
           (uint64_t)say->width * (uint64_t)say->height <= options->max_pixels;
}

static bool is_end(const cog_say *say, const cog_image_options *options)
{
    switch (say->result) {
    case COG_SAY_FINE:
        return say->fault == COG_IMAGE_FINE && has_size(say, options);
    case COG_SAY_REFUSED:
        return say->fault > COG_IMAGE_FINE && say->fault <= COG_IMAGE_TOO_SMALL;
    default:
        return say->result == COG_SAY_NO_MEMORY;
    }
}

bool cog_say_check(const cog_say *say, size_t len, cog_say_kind kind, uint64_t id,
                   const cog_image_options *options)
{
    if (len != sizeof(*say) || !is_plain(say->text, sizeof(say->text)) || say->id != id ||
        say->kind != (int32_t)kind)
        return false;
    switch (kind) {
    case COG_SAY_HELLO:
        return say->result == COG_SAY_FINE || say->result == COG_SAY_UNGUARDED;
    case COG_SAY_HEADER:
        return say->result == COG_SAY_FINE && has_size(say, options);
    case COG_SAY_END:
        return is_end(say, options);
    }
    return false;
}
