#include "proto/json_write.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <string.h>

static void write_valid(cog_buf *out, const char *text, size_t len)
{
    size_t run = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        cog_buf_add(out, text + run, i - run);
        run = i + 1;
        switch (c) {
        case '"':
            cog_buf_add(out, "\\\"", 2);
            break;
        case '\\':
            cog_buf_add(out, "\\\\", 2);
            break;
        case '\n':
            cog_buf_add(out, "\\n", 2);
            break;
        default:
            cog_buf_printf(out, "\\u%04x", c);
        }
    }
    cog_buf_add(out, text + run, len - run);
}

void cog_json_write_text(cog_buf *out, const char *text, size_t len)
{
    char *clean;

    if (len == 0)
        return;
    if (cog_utf8_valid(text, len)) {
        write_valid(out, text, len);
        return;
    }
    clean = cog_alloc(len, 3);
    write_valid(out, clean, cog_utf8_sanitize(clean, text, len));
    cog_free(clean);
}

void cog_json_write_string(cog_buf *out, const char *text)
{
    if (!text) {
        cog_buf_add(out, "null", 4);
        return;
    }
    cog_buf_add(out, "\"", 1);
    cog_json_write_text(out, text, strlen(text));
    cog_buf_add(out, "\"", 1);
}
