#include "server/picture/pixel_cache.h"

#include <string.h>

static size_t bytes_of(const cog_image *im)
{
    return (size_t)im->side * (size_t)im->side * 3;
}

static void drop(cog_pixel_cache *c, int i)
{
    c->bytes -= bytes_of(c->entry[i].image);
    cog_image_free(c->entry[i].image);
    c->entry[i] = c->entry[--c->n];
}

void cog_pixel_cache_fini(cog_pixel_cache *c)
{
    while (c->n > 0)
        drop(c, c->n - 1);
}

static int find(const cog_pixel_cache *c, const cog_sha256 *file, const cog_sha256 *salt)
{
    for (int i = 0; i < c->n; i++) {
        if (memcmp(&c->entry[i].file, file, sizeof(*file)) == 0 &&
            memcmp(&c->entry[i].salt, salt, sizeof(*salt)) == 0)
            return i;
    }
    return -1;
}

cog_image *cog_pixel_cache_find(cog_pixel_cache *c, const cog_sha256 *file, const cog_sha256 *salt,
                                int side)
{
    int i = find(c, file, salt);

    c->n_asked++;
    if (i < 0 || c->entry[i].image->side != side)
        return NULL;
    c->n_found++;
    c->entry[i].asked = c->n_asked;
    return cog_image_ref(c->entry[i].image);
}

static int least_recent(const cog_pixel_cache *c)
{
    int oldest = 0;

    for (int i = 1; i < c->n; i++) {
        if (c->entry[i].asked < c->entry[oldest].asked)
            oldest = i;
    }
    return oldest;
}

void cog_pixel_cache_add(cog_pixel_cache *c, const cog_sha256 *file, const cog_sha256 *salt,
                         cog_image *image)
{
    int known = find(c, file, salt);

    if (known >= 0)
        drop(c, known);
    if (bytes_of(image) > c->max_bytes)
        return;
    while (c->n == COG_PIXEL_CACHE_MAX || c->bytes + bytes_of(image) > c->max_bytes)
        drop(c, least_recent(c));
    c->bytes += bytes_of(image);
    c->entry[c->n++] = (struct cog_pixel_entry){ *file, *salt, cog_image_ref(image), c->n_asked };
}
