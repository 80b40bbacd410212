#include "proto/logprob_write.h"

#include "base/utf8.h"
#include "proto/json_write.h"

#include <math.h>
#include <string.h>

static void write_value(cog_buf *out, double logprob)
{
    cog_buf_printf(out, "%.9g", fmax(logprob, COG_LOGPROB_LEAST));
}

/* Without the end of the object. */
static void write_token(cog_buf *out, const cog_logprob_token *t)
{
    cog_buf_puts(out, "{\"token\":\"");
    cog_json_write_text(out, t->bytes, t->len);
    cog_buf_puts(out, "\",\"logprob\":");
    write_value(out, t->logprob);
    cog_buf_puts(out, ",\"bytes\":[");
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

/* Names of members may have no U+0000: parsers refuse it. */
static bool is_name(const cog_logprob_token *t)
{
    return t->len == 0 || (cog_utf8_valid(t->bytes, t->len) && !memchr(t->bytes, '\0', t->len));
}

static void write_name(cog_buf *out, const cog_logprob_token *t)
{
    cog_buf_puts(out, "\"");
    if (is_name(t)) {
        cog_json_write_text(out, t->bytes, t->len);
    } else {
        cog_buf_puts(out, "bytes:");
        for (size_t i = 0; i < t->len; i++)
            cog_buf_printf(out, "\\\\x%02x", (unsigned char)t->bytes[i]);
    }
    cog_buf_puts(out, "\"");
}

static bool is_among(const cog_logprob_token *t, const cog_logprob_token *list, int n)
{
    for (int i = 0; i < n; i++) {
        if (list[i].len == t->len && (t->len == 0 || memcmp(list[i].bytes, t->bytes, t->len) == 0))
            return true;
    }
    return false;
}

static void write_pair(cog_buf *out, const cog_logprob_token *t)
{
    if (out->data[out->len - 1] != '{')
        cog_buf_puts(out, ",");
    write_name(out, t);
    cog_buf_puts(out, ":");
    write_value(out, t->logprob);
}

void cog_logprob_add_row(cog_buf *columns, const cog_logprob_token *token,
                         const cog_logprob_token *top, int n_top, size_t offset)
{
    for (int i = 0; columns[0].len && i < COG_LOGPROB_COLUMNS; i++)
        cog_buf_puts(&columns[i], ",");
    write_name(&columns[0], token);
    write_value(&columns[1], token->logprob);
    cog_buf_puts(&columns[2], "{");
    for (int i = 0; i < n_top; i++) {
        if (!is_among(&top[i], top, i))
            write_pair(&columns[2], &top[i]);
    }
    if (!is_among(token, top, n_top))
        write_pair(&columns[2], token);
    cog_buf_puts(&columns[2], "}");
    cog_buf_printf(&columns[3], "%zu", offset);
}

void cog_logprob_add_first(cog_buf *columns, const cog_logprob_token *token)
{
    write_name(&columns[0], token);
    cog_buf_puts(&columns[1], "null");
    cog_buf_puts(&columns[2], "null");
    cog_buf_puts(&columns[3], "0");
}

static void write_ranked(cog_buf *list, const cog_logprob_ranked *r)
{
    cog_buf_printf(list, "\"%d\":{\"logprob\":", r->id);
    write_value(list, r->token.logprob);
    cog_buf_printf(list, ",\"rank\":%d,\"decoded_token\":\"", r->rank);
    cog_json_write_text(list, r->token.bytes, r->token.len);
    cog_buf_puts(list, "\"}");
}

void cog_logprob_add_ranked(cog_buf *list, const cog_logprob_ranked *self,
                            const cog_logprob_ranked *top, int n_top)
{
    cog_buf_puts(list, list->len ? ",{" : "{");
    write_ranked(list, self);
    for (int i = 0; i < n_top; i++) {
        if (top[i].id == self->id)
            continue;
        cog_buf_puts(list, ",");
        write_ranked(list, &top[i]);
    }
    cog_buf_puts(list, "}");
}

void cog_logprob_write_columns(cog_buf *out, const cog_buf *columns)
{
    static const char *const names[COG_LOGPROB_COLUMNS] = {
        "{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[", "],\"text_offset\":["
    };

    if (!columns) {
        cog_buf_puts(out, "null");
        return;
    }
    for (int i = 0; i < COG_LOGPROB_COLUMNS; i++) {
        cog_buf_puts(out, names[i]);
        cog_buf_add(out, columns[i].data, columns[i].len);
    }
    cog_buf_puts(out, "]}");
}

static void write_choices(cog_buf *out, char *const *choice, const double *logprob, int n)
{
    double max = -INFINITY, total = 0;

    for (int i = 0; i < n; i++)
        max = fmax(max, logprob[i]);
    for (int i = 0; i < n; i++)
        total += max > -INFINITY ? exp(logprob[i] - max) : 1;
    for (int i = 0; i < n; i++) {
        double share = max > -INFINITY ? exp(logprob[i] - max) : 1;
        cog_buf_puts(out, i ? ",{\"text\":" : "{\"text\":");
        cog_json_write_string(out, choice[i]);
        cog_buf_puts(out, ",\"logprob\":");
        write_value(out, logprob[i]);
        cog_buf_printf(out, ",\"probability\":%.9g}", share / total);
    }
}

void cog_logprob_write_confidence(cog_buf *out, double sum, int n_tokens, char *const *choice,
                                  const double *logprob, int n_choices)
{
    cog_buf_puts(out, "{\"mean_logprob\":");
    if (n_tokens > 0)
        write_value(out, sum / n_tokens);
    else
        cog_buf_puts(out, "null");
    if (n_choices > 0) {
        cog_buf_puts(out, ",\"choices\":[");
        write_choices(out, choice, logprob, n_choices);
        cog_buf_puts(out, "]");
    }
    cog_buf_puts(out, "}");
}
