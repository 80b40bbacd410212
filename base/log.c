#include "base/log.h"

#include "base/utf8.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_VALUE = 512, /* bytes of one value, before it is escaped */
    TAIL = 2,        /* of a line: what ends it */
};

#define KEY_BYTES "abcdefghijklmnopqrstuvwxyz0123456789_"

static _Atomic int max_level = COG_INFO;
static _Atomic bool is_json;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t lost; /* changed under the lock */
static uint64_t reported;     /* of these */
static bool is_torn;          /* the last line that went out lacks its end */

void cog_log_set_level(cog_log_level level)
{
    atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void cog_log_set_form(cog_log_form form)
{
    atomic_store_explicit(&is_json,
                          form == COG_LOG_AUTO ? !isatty(STDERR_FILENO) : form == COG_LOG_JSON,
                          memory_order_relaxed);
}

uint64_t cog_log_lost(void)
{
    return atomic_load_explicit(&lost, memory_order_relaxed);
}

/* ------------------------------------------------------------------ one line */

static bool is_off(cog_log_level level)
{
    return (int)level > atomic_load_explicit(&max_level, memory_order_relaxed);
}

static void start(cog_log_line *l, cog_log_level level)
{
    static const char *const name[] = { "error", "warn", "info", "debug" };
    struct timespec now;
    struct tm utc;
    char date[32];

    l->level = level;
    l->is_json = atomic_load_explicit(&is_json, memory_order_relaxed);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    l->len = (size_t)snprintf(l->text, sizeof(l->text),
                              l->is_json ? "{\"ts\":\"%s.%03ldZ\",\"level\":\"%s\""
                                         : "ts=%s.%03ldZ level=%s",
                              date, now.tv_nsec / 1000000, name[level]);
}

/* Adds key and value as they are; nothing when they do not fit. */
static void add(cog_log_line *l, const char *key, size_t key_len, const char *value)
{
    size_t room = sizeof(l->text) - TAIL - l->len;
    int n = snprintf(l->text + l->len, room, l->is_json ? ",\"%.*s\":%s" : " %.*s=%s", (int)key_len,
                     key, value);

    if ((size_t)n < room)
        l->len += (size_t)n;
}

static bool is_bare(const char *s)
{
    for (; *s; s++) {
        if (*s <= ' ' || *s > '~' || *s == '"' || *s == '\\')
            return false;
    }
    return true;
}

/* value as a JSON string. dst has room for 6 * 3 * MAX_VALUE bytes. */
static void quote_json(char *dst, const char *value, size_t len)
{
    char text[3 * MAX_VALUE];
    size_t n = cog_utf8_sanitize(text, value, len);

    *dst++ = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) {
            dst += sprintf(dst, "\\u%04x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            *dst++ = '\\';
        *dst++ = (char)c;
    }
    *dst++ = '"';
    *dst = '\0';
}

static void add_text(cog_log_line *l, const char *key, size_t key_len, const char *value)
{
    char quoted[18 * MAX_VALUE + 3];
    size_t len = strlen(value);

    if (len > MAX_VALUE)
        len = cog_utf8_complete(value, MAX_VALUE);
    if (l->is_json) {
        quote_json(quoted, value, len);
    } else {
        char cut[MAX_VALUE + 1];
        memcpy(cut, value, len);
        cut[len] = '\0';
        if (is_bare(cut))
            memcpy(quoted, cut, len + 1);
        else
            cog_log_quote(quoted, sizeof(quoted), cut);
    }
    add(l, key, key_len, quoted);
}

/* A pipe whose reader sleeps, a paused terminal, a full socket: none may stop the caller, and the
 * descriptor is shared with other programs, so its flags are not ours to change. A pipe that takes
 * anything takes a whole line. */
static bool write_now(const char *text, size_t len)
{
    ssize_t n = send(STDERR_FILENO, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK) {
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT)
            n = write(STDERR_FILENO, text, len);
    }
    if (n > 0)
        is_torn = (size_t)n < len;
    return n == (ssize_t)len;
}

static void close_line(cog_log_line *l)
{
    if (l->is_json)
        l->text[l->len++] = '}';
    l->text[l->len++] = '\n';
}

static bool report_lost(void)
{
    cog_log_line l;
    char count[24];

    if (is_torn && !write_now("\n", 1))
        return false;
    if (lost == reported)
        return true;
    start(&l, COG_WARN);
    add_text(&l, "event", strlen("event"), "log_lost");
    snprintf(count, sizeof(count), "%llu", (unsigned long long)(lost - reported));
    add(&l, "lines", strlen("lines"), count);
    close_line(&l);
    if (!write_now(l.text, l.len))
        return false;
    reported = lost;
    return true;
}

static void finish(cog_log_line *l)
{
    close_line(l);
    pthread_mutex_lock(&lock);
    if (!report_lost() || !write_now(l->text, l->len))
        lost++;
    pthread_mutex_unlock(&lock);
}

void cog_log_begin(cog_log_line *l, cog_log_level level, const char *event)
{
    l->is_off = is_off(level);
    if (l->is_off)
        return;
    start(l, level);
    cog_log_text(l, "event", event);
}

void cog_log_text(cog_log_line *l, const char *key, const char *value)
{
    if (!l->is_off && value && *value)
        add_text(l, key, strlen(key), value);
}

void cog_log_int(cog_log_line *l, const char *key, int64_t value)
{
    char text[24];

    if (l->is_off)
        return;
    snprintf(text, sizeof(text), "%lld", (long long)value);
    add(l, key, strlen(key), text);
}

void cog_log_ms(cog_log_line *l, const char *key, uint64_t ns)
{
    char text[32];

    if (l->is_off || ns == 0)
        return;
    snprintf(text, sizeof(text), "%.1f", (double)ns * 1e-6);
    add(l, key, strlen(key), text);
}

void cog_log_end(cog_log_line *l)
{
    if (!l->is_off)
        finish(l);
}

/* ------------------------------------------------------------------ lines of printf's making */

/* Undoes cog_log_quote, in place. */
static void unquote(char *s)
{
    size_t len = strlen(s), n = 0;

    if (len < 2 || s[0] != '"' || s[len - 1] != '"')
        return;
    for (size_t i = 1; i < len - 1; i++) {
        char hex[3] = { 0 };
        if (s[i] != '\\' || i + 1 == len - 1) {
            s[n++] = s[i];
        } else if (s[i + 1] == 'x' && i + 3 < len - 1) {
            memcpy(hex, s + i + 2, 2);
            s[n++] = (char)strtol(hex, NULL, 16);
            i += 3;
        } else {
            s[n++] = s[++i];
        }
    }
    s[n] = '\0';
}

/* Whether the format prints this key's value with a conversion for numbers, and nothing else. */
static bool is_number(const char *fmt, const char *key, size_t key_len, const char *value)
{
    for (const char *at = fmt; (at = strstr(at, "=%")); at++) {
        const char *end = at + 2 + strspn(at + 2, "0123456789.+-# lhzjt");

        if ((size_t)(at - fmt) < key_len || memcmp(at - key_len, key, key_len) != 0 ||
            (at - key_len > fmt && at[-(ptrdiff_t)key_len - 1] != ' '))
            continue;
        return *end && strchr("diufge", *end) && (end[1] == ' ' || end[1] == '\0') &&
               strspn(value, "0123456789.+-e") == strlen(value);
    }
    return false;
}

/* Where the value that begins here ends: before the next " key=", or at the end. */
static char *value_end(char *value)
{
    char *p = value;

    if (*p == '"') {
        for (p++; *p && *p != '"'; p++)
            p += *p == '\\' && p[1];
    }
    for (; *p; p++) {
        size_t key_len = *p == ' ' ? strspn(p + 1, KEY_BYTES) : 0;
        if (key_len > 0 && p[1 + key_len] == '=')
            break;
    }
    return p;
}

static void add_parsed(cog_log_line *l, const char *fmt, char *text)
{
    while (*text) {
        size_t key_len = strspn(text, KEY_BYTES);
        char *value = text + key_len + (text[key_len] == '='), *end = value_end(value);
        bool is_last = !*end;

        *end = '\0';
        unquote(value);
        if (is_number(fmt, text, key_len, value))
            add(l, text, key_len, value);
        else
            add_text(l, text, key_len, value);
        text = is_last ? end : end + 1;
    }
}

void cog_log(cog_log_level level, const char *fmt, ...)
{
    char text[2048];
    cog_log_line l;
    va_list ap;
    int n;

    if (is_off(level))
        return;
    start(&l, level);
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if (l.is_json) {
        add_parsed(&l, fmt, text);
    } else {
        l.text[l.len++] = ' ';
        memcpy(l.text + l.len, text, strlen(text));
        l.len += strlen(text);
    }
    finish(&l);
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
