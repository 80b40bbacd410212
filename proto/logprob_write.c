#include "proto/logprob_write.h"

#include "proto/json_write.h"

/* Without the end of the object. */
static void write_token(cog_buf *out, const cog_logprob_token *t)
{
    cog_buf_puts(out, "{\"token\":\"");
    cog_json_write_text(out, t->bytes, t->len);
    cog_buf_printf(out, "\",\"logprob\":%.9g,\"bytes\":[", t->logprob > -9999 ? t->logprob : -9999);
    for (size_t i = 0; i < t->len; i++)
        cog_buf_printf(out, "%s%d", i ? "," : "", (unsigned char)t->bytes[i]);
    cog_buf_puts(out, "]");
}

void cog_logprob_add(cog_buf *entries, const cog_logprob_token *token, const cog_logprob_token *top,
                     int n_top)
{
    if (entries->len)
        cog_buf_puts(entries, ",");
    write_token(entries, token);
    cog_buf_puts(entries, ",\"top_logprobs\":[");
    for (int i = 0; i < n_top; i++) {
        if (i)
            cog_buf_puts(entries, ",");
        write_token(entries, &top[i]);
        cog_buf_puts(entries, "}");
    }
    cog_buf_puts(entries, "]}");
}

void cog_logprob_write(cog_buf *out, const cog_buf *entries)
{
    if (!entries) {
        cog_buf_puts(out, "null");
        return;
    }
    cog_buf_puts(out, "{\"content\":[");
    cog_buf_add(out, entries->data, entries->len);
    cog_buf_puts(out, "],\"refusal\":null}");
}
