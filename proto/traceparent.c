#include "proto/traceparent.h"

#include <string.h>

enum { LENGTH = 55 }; /* of version 00; later ones begin with as much */

static bool is_hex(const char *s, size_t n)
{
    return strspn(s, "0123456789abcdef") >= n;
}

static bool is_zero(const char *s, size_t n)
{
    return strspn(s, "0") >= n;
}

static int nibble(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

bool cog_traceparent_read(cog_traceparent *out, const char *text)
{
    const char *trace, *parent, *flags;
    size_t len = strlen(text);

    if (len < LENGTH || !is_hex(text, 2) || strncmp(text, "ff", 2) == 0)
        return false;
    trace = text + 3;
    parent = text + 36;
    flags = text + 53;
    if (strncmp(text, "00", 2) == 0 ? len != LENGTH : len > LENGTH && text[LENGTH] != '-')
        return false;
    if (text[2] != '-' || text[35] != '-' || text[52] != '-')
        return false;
    if (!is_hex(trace, 32) || is_zero(trace, 32) || !is_hex(parent, 16) || is_zero(parent, 16) ||
        !is_hex(flags, 2))
        return false;
    *out = (cog_traceparent){ .is_sampled = nibble(flags[1]) & 1 };
    memcpy(out->trace_id, trace, 32);
    memcpy(out->parent_id, parent, 16);
    return true;
}
