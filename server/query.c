#include "server/query.h"

#include "base/err.h"
#include "proto/percent.h"

#include <string.h>

static int decode(char *dst, size_t size, const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        int byte = cog_percent_byte(text + i, len - i);
        char c = text[i] == '+' ? ' ' : text[i];

        if (byte >= 0) {
            c = (char)byte;
            i += 2;
        }
        if (n + 1 >= size || c == '\0')
            return COG_EINVAL;
        dst[n++] = c;
    }
    dst[n] = '\0';
    return 0;
}

int cog_query_get(char *dst, size_t size, const char *target, const char *name)
{
    const char *at = strchr(target, '?');
    size_t n = strlen(name);

    dst[0] = '\0';
    while (at && *at) {
        size_t len = strcspn(++at, "&");

        if (len > n && strncmp(at, name, n) == 0 && at[n] == '=')
            return decode(dst, size, at + n + 1, len - n - 1);
        at += len;
    }
    return 1;
}
