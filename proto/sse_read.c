#include "proto/sse_read.h"

#include <string.h>

/* A field of an event: "data", "data:x" or "data: x". */
static void take_field(cog_sse_reader *r)
{
    const char *line = r->line.data;
    size_t len = r->line.len, at = 4;

    if (len < 4 || memcmp(line, "data", 4) != 0 || (len > 4 && line[4] != ':'))
        return;
    if (at < len)
        at++;
    if (at < len && line[at] == ' ')
        at++;
    if (r->has_data)
        cog_buf_puts(&r->data, "\n");
    cog_buf_add(&r->data, line + at, len - at);
    r->has_data = true;
}

static void end_line(cog_sse_reader *r, void (*event)(void *arg, const char *data, size_t len),
                     void *arg)
{
    if (r->line.len > 0) {
        take_field(r);
    } else if (r->has_data) {
        event(arg, r->data.data, r->data.len);
        cog_buf_clear(&r->data);
        r->has_data = false;
    }
    cog_buf_clear(&r->line);
}

void cog_sse_read(cog_sse_reader *r, const char *bytes, size_t len,
                  void (*event)(void *arg, const char *data, size_t len), void *arg)
{
    size_t begin = 0;

    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];

        if (c == '\n' && r->after_cr) {
            r->after_cr = false;
            begin = i + 1;
            continue;
        }
        r->after_cr = c == '\r';
        if (c != '\n' && c != '\r')
            continue;
        cog_buf_add(&r->line, bytes + begin, i - begin);
        end_line(r, event, arg);
        begin = i + 1;
    }
    cog_buf_add(&r->line, bytes + begin, len - begin);
}

void cog_sse_reader_fini(cog_sse_reader *r)
{
    cog_buf_fini(&r->line);
    cog_buf_fini(&r->data);
    *r = (cog_sse_reader){ 0 };
}
