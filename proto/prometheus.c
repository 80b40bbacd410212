#include "proto/prometheus.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void cog_prom_family(cog_buf *out, const char *name, const char *type, const char *help)
{
    cog_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void cog_prom_label(cog_buf *labels, const char *name, const char *value)
{
    size_t len = strlen(value);
    char *text = cog_alloc(len + 1, 3);

    len = cog_utf8_sanitize(text, value, len);
    cog_buf_printf(labels, "%s%s=\"", labels->len ? "," : "", name);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n')
            cog_buf_puts(labels, "\\n");
        else if (text[i] == '\\' || text[i] == '"')
            cog_buf_printf(labels, "\\%c", text[i]);
        else
            cog_buf_add(labels, text + i, 1);
    }
    cog_buf_puts(labels, "\"");
    cog_free(text);
}

static void begin(cog_buf *out, const char *name, const char *suffix, const char *labels)
{
    cog_buf_puts(out, name);
    cog_buf_puts(out, suffix);
    if (labels && *labels) {
        cog_buf_puts(out, "{");
        cog_buf_puts(out, labels);
        cog_buf_puts(out, "}");
    }
    cog_buf_puts(out, " ");
}

static void write_double(cog_buf *out, double value)
{
    if (isnan(value))
        cog_buf_puts(out, "NaN");
    else if (isinf(value))
        cog_buf_puts(out, value > 0 ? "+Inf" : "-Inf");
    else
        cog_buf_printf(out, "%.15g", value);
}

/* A page has some thousand numbers and is made on the loop: printf would take half of its time. */
static void end_count(cog_buf *out, uint64_t value)
{
    char text[24], *at = text + sizeof(text);

    *--at = '\n';
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    cog_buf_add(out, at, (size_t)(text + sizeof(text) - at));
}

void cog_prom_count(cog_buf *out, const char *name, const char *labels, uint64_t value)
{
    begin(out, name, "", labels);
    end_count(out, value);
}

void cog_prom_value(cog_buf *out, const char *name, const char *labels, double value)
{
    begin(out, name, "", labels);
    write_double(out, value);
    cog_buf_puts(out, "\n");
}

/* As the Python client writes bounds, "1.0" and not "1": to a query they are different labels. */
static void write_bound(char dst[32], double bound)
{
    int n = snprintf(dst, 32, "%g", bound);

    if (!strpbrk(dst, ".e"))
        snprintf(dst + n, 32 - (size_t)n, ".0");
}

void cog_prom_histogram(cog_buf *out, const char *name, const char *labels, const cog_histogram *h)
{
    bool has_labels = labels && *labels;
    uint64_t total = 0;

    for (int i = 0; i <= h->n; i++) {
        char bound[32] = "+Inf";

        if (i < h->n)
            write_bound(bound, h->bounds[i]);
        total += h->count[i];
        cog_buf_puts(out, name);
        cog_buf_puts(out, "_bucket{");
        if (has_labels)
            cog_buf_puts(out, labels);
        cog_buf_puts(out, has_labels ? ",le=\"" : "le=\"");
        cog_buf_puts(out, bound);
        cog_buf_puts(out, "\"} ");
        end_count(out, total);
    }
    begin(out, name, "_sum", labels);
    write_double(out, h->sum);
    cog_buf_puts(out, "\n");
    begin(out, name, "_count", labels);
    end_count(out, total);
}
