#include "base/utf8.h"

#include <string.h>

/* Looks at the sequence that starts at s. Returns its length when it is a whole character; 0 when
 * the bytes present are a valid but unfinished start; -n when the first n bytes are a maximal
 * invalid subpart. */
static int sequence(const unsigned char *s, size_t len)
{
    unsigned char lo = 0x80, hi = 0xbf;
    int need;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        need = 1;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        need = 2;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        need = 3;
    else
        return -1;
    if (s[0] == 0xe0)
        lo = 0xa0;
    else if (s[0] == 0xed)
        hi = 0x9f;
    else if (s[0] == 0xf0)
        lo = 0x90;
    else if (s[0] == 0xf4)
        hi = 0x8f;
    for (int i = 1; i <= need; i++) {
        if ((size_t)i >= len)
            return 0;
        if (s[i] < lo || s[i] > hi)
            return -i;
        lo = 0x80;
        hi = 0xbf;
    }
    return need + 1;
}

bool cog_utf8_valid(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        int n = sequence((const unsigned char *)s + i, len - i);
        if (n <= 0)
            return false;
        i += (size_t)n;
    }
    return true;
}

size_t cog_utf8_complete(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        int n = sequence((const unsigned char *)s + i, len - i);
        if (n == 0)
            break;
        i += (size_t)(n > 0 ? n : -n);
    }
    return i;
}

size_t cog_utf8_sanitize(char *dst, const char *s, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len;) {
        int n = sequence((const unsigned char *)s + i, len - i);
        if (n > 0) {
            memcpy(dst + out, s + i, (size_t)n);
            out += (size_t)n;
            i += (size_t)n;
        } else {
            memcpy(dst + out, "\xef\xbf\xbd", 3);
            out += 3;
            i += n == 0 ? len - i : (size_t)-n;
        }
    }
    return out;
}

size_t cog_utf8_count(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}
