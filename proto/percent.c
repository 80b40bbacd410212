#include "proto/percent.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int cog_percent_byte(const char *text, size_t len)
{
    if (len < 3 || text[0] != '%' || hex(text[1]) < 0 || hex(text[2]) < 0)
        return -1;
    return hex(text[1]) * 16 + hex(text[2]);
}
