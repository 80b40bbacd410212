#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static _Atomic int max_level = COG_INFO;

void cog_log_set_level(cog_log_level level)
{
    atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void cog_log(cog_log_level level, const char *fmt, ...)
{
    static const char *const name[] = { "error", "warn", "info", "debug" };
    char line[2048];
    struct timespec now;
    struct tm utc;
    size_t len;
    va_list ap;

    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = strftime(line, sizeof(line), "ts=%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(line + len, sizeof(line) - len, ".%03ldZ level=%s ",
                            now.tv_nsec / 1000000, name[level]);
    va_start(ap, fmt);
    len += (size_t)vsnprintf(line + len, sizeof(line) - len, fmt, ap);
    va_end(ap);
    if (len > sizeof(line) - 2)
        len = sizeof(line) - 2;
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nowhere left to complain */
}

char *cog_log_quote(char *dst, size_t dst_size, const char *s)
{
    size_t n = 0;

    if (dst_size < 8) {
        if (dst_size)
            dst[0] = '\0';
        return dst;
    }
    dst[n++] = '"';
    for (; *s && n + 6 < dst_size; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            dst[n++] = '\\';
            dst[n++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            n += (size_t)snprintf(dst + n, dst_size - n, "\\x%02x", c);
        } else {
            dst[n++] = (char)c;
        }
    }
    dst[n++] = '"';
    dst[n] = '\0';
    return dst;
}
