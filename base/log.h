/* log.h - the one logger: one line per event, key=value, to standard error, one write each.
 *
 *     cog_log(COG_INFO, "event=end id=%s tokens=%d", id, n);
 *     -> ts=2026-01-01T12:00:00.123Z level=info event=end id=... tokens=118
 *
 * Error: someone must act. Warn: degraded, says what was done instead. Info: start, stop, one line
 * per request. Debug: for developers. Never prompts, pictures, answers or keys; never per token.
 * Any thread. The level is global. */
#ifndef COG_BASE_LOG_H
#define COG_BASE_LOG_H

#include <stddef.h>

typedef enum { COG_ERROR, COG_WARN, COG_INFO, COG_DEBUG } cog_log_level;

void cog_log_set_level(cog_log_level level);
void cog_log(cog_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Writes s into dst as a quoted value with quotes, backslashes and control bytes escaped, cut to
 * fit; returns dst. For text that came from outside. */
char *cog_log_quote(char *dst, size_t dst_size, const char *s);

#endif
