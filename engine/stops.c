#include "engine/stops.h"

#include <string.h>

void cog_stops_init(cog_stops *s, char *const *text, int n)
{
    *s = (cog_stops){ .text = text, .n = n, .hit = -1 };
}

void cog_stops_fini(cog_stops *s)
{
    cog_buf_fini(&s->held);
}

/* The longest string that ends where the held text ends, or -1. */
static int find_end(const cog_stops *s)
{
    size_t best_len = 0;
    int best = -1;

    for (int i = 0; i < s->n; i++) {
        size_t len = strlen(s->text[i]);

        if (len > best_len && len <= s->held.len &&
            memcmp(s->held.data + s->held.len - len, s->text[i], len) == 0) {
            best = i;
            best_len = len;
        }
    }
    return best;
}

/* Length of the longest end of the held text that begins some string. */
static size_t find_beginning(const cog_stops *s)
{
    for (size_t at = 0; at < s->held.len; at++) {
        size_t len = s->held.len - at;

        for (int i = 0; i < s->n; i++)
            if (strncmp(s->held.data + at, s->text[i], len) == 0)
                return len;
    }
    return 0;
}

bool cog_stops_push(cog_stops *s, cog_buf *out, const char *text, size_t len)
{
    if (s->n == 0) {
        cog_buf_add(out, text, len);
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        size_t certain;

        cog_buf_add(&s->held, text + i, 1);
        s->hit = s->is_off ? -1 : find_end(s);
        if (s->hit >= 0) {
            cog_buf_add(out, s->held.data, s->held.len - (s->keeps ? 0 : strlen(s->text[s->hit])));
            cog_buf_clear(&s->held);
            return true;
        }
        certain = s->held.len - find_beginning(s);
        cog_buf_add(out, s->held.data, certain);
        cog_buf_drop(&s->held, certain);
    }
    return false;
}

void cog_stops_finish(cog_stops *s, cog_buf *out)
{
    cog_buf_add(out, s->held.data, s->held.len);
    cog_buf_clear(&s->held);
}
