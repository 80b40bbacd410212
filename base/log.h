/* log.h - the one logger: one line per event to standard error, one write each, in one of two
 * forms.
 *
 *     cog_log(COG_INFO, "event=end id=%s tokens=%d", id, n);
 *     -> ts=2026-01-01T12:00:00.123Z level=info event=end id=... tokens=118
 *     -> {"ts":"2026-01-01T12:00:00.123Z","level":"info","event":"end","id":"...","tokens":118}
 *
 * A format is a list of key=value, and what a %s prints without spaces or in quotes. In JSON a
 * value is a number exactly when its conversion is one (%d, %llu, %f), never because it looks like
 * one.
 *
 * Error: someone must act. Warn: degraded, says what was done instead. Info: start, stop, one line
 * per request. Debug: for developers. Never prompts, pictures, answers or keys; never per token.
 * Any thread. Never waits for whoever reads: what a full pipe or disk does not take is lost,
 * counted, and told as event=log_lost before the next line that gets through. Level, form and count
 * are global. */
#ifndef COG_BASE_LOG_H
#define COG_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { COG_ERROR, COG_WARN, COG_INFO, COG_DEBUG } cog_log_level;
typedef enum {
    COG_LOG_AUTO, /* text on a terminal, else JSON */
    COG_LOG_TEXT,
    COG_LOG_JSON,
} cog_log_form;

void cog_log_set_level(cog_log_level level);
void cog_log_set_form(cog_log_form form); /* COG_LOG_TEXT before the first call */
void cog_log(cog_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

uint64_t cog_log_lost(void); /* lines since the start */

/* Writes s into dst as a quoted value with quotes, backslashes and control bytes escaped, cut to
 * fit; returns dst. For text that came from outside. */
char *cog_log_quote(char *dst, size_t dst_size, const char *s);

/* A line with many fields, put together one by one. What does not fit is left out whole, so that a
 * line of JSON stays one. */
typedef struct cog_log_line {
    cog_log_level level;
    bool is_off, is_json;
    size_t len;
    char text[4096]; /* no longer than what a pipe takes whole */
} cog_log_line;

void cog_log_begin(cog_log_line *l, cog_log_level level, const char *event);
/* Text from anywhere: escaped, made UTF-8 in JSON, cut to some 500 bytes. NULL and "" add nothing.
 */
void cog_log_text(cog_log_line *l, const char *key, const char *value);
void cog_log_int(cog_log_line *l, const char *key, int64_t value);
/* A time in milliseconds with one decimal; 0 adds nothing. */
void cog_log_ms(cog_log_line *l, const char *key, uint64_t ns);
void cog_log_end(cog_log_line *l); /* writes it */

#endif
