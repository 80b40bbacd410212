/* prometheus.h - the Prometheus text format, version 0.0.4. Pure.
 *
 *     cog_prom_family(out, "x_total", "counter", "What it counts.");
 *     cog_prom_count(out, "x_total", "reason=\"a\"", 5);
 *
 * A family comes first and once, its samples follow at once. labels is what stands between the
 * braces, made with cog_prom_label; NULL or "": none. Names are ours and not checked. */
#ifndef COG_PROTO_PROMETHEUS_H
#define COG_PROTO_PROMETHEUS_H

#include "base/buf.h"
#include "base/histogram.h"

#include <stdint.h>

/* # HELP and # TYPE. help is one line; type is counter, gauge or histogram. */
void cog_prom_family(cog_buf *out, const char *name, const char *type, const char *help);

/* Adds name="value" to a list of labels. value is any text: it is escaped, and bytes that are not
 * UTF-8 become U+FFFD. */
void cog_prom_label(cog_buf *labels, const char *name, const char *value);

void cog_prom_count(cog_buf *out, const char *name, const char *labels, uint64_t value);
void cog_prom_value(cog_buf *out, const char *name, const char *labels, double value);

/* name_bucket for each bound and for +Inf, cumulative; name_sum; name_count. */
void cog_prom_histogram(cog_buf *out, const char *name, const char *labels, const cog_histogram *h);

#endif
