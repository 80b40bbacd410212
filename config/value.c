/* value.c - every field is read and written through its option's offset and type, so that no source
 * of values knows a field by name. */
#include "config/value.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct unit {
    const char *name;
    double factor;
} unit;

/* Largest binary unit first: formatting takes the first that divides. */
static const unit size_units[] = {
    { "TiB", 1099511627776.0 },
    { "GiB", 1073741824.0 },
    { "MiB", 1048576.0 },
    { "KiB", 1024.0 },
    { "B", 1 },
    { "TB", 1e12 },
    { "GB", 1e9 },
    { "MB", 1e6 },
    { "kB", 1e3 },
    { "KB", 1e3 },
    { NULL, 0 },
};
static const unit time_units[] = {
    { "h", 3600e3 }, { "min", 60e3 }, { "s", 1e3 }, { "ms", 1 }, { "m", 60e3 }, { NULL, 0 },
};

static void *field(cog_config *c, const cog_option *o)
{
    return (char *)c + o->offset;
}

static const void *field_of(const cog_config *c, const cog_option *o)
{
    return (const char *)c + o->offset;
}

void *cog_value_keep(cog_config *c, void *p)
{
    cog_config_own *own = c->own;

    own->block = cog_realloc(own->block, (size_t)own->n_blocks + 1, sizeof(void *));
    own->block[own->n_blocks++] = p;
    return p;
}

static void store_integer(cog_config *c, const cog_option *o, uint64_t value)
{
    uint32_t half = (uint32_t)value;
    bool truth = value != 0;

    switch (o->width) {
    case 8:
        memcpy(field(c, o), &value, 8);
        break;
    case 4:
        memcpy(field(c, o), &half, 4);
        break;
    default:
        assert(o->width == sizeof(bool));
        memcpy(field(c, o), &truth, sizeof(bool));
    }
}

static int64_t fetch_integer(const cog_config *c, const cog_option *o)
{
    int64_t whole;
    int32_t half;
    bool truth;

    switch (o->width) {
    case 8:
        memcpy(&whole, field_of(c, o), 8);
        return whole;
    case 4:
        memcpy(&half, field_of(c, o), 4);
        return half;
    default:
        memcpy(&truth, field_of(c, o), sizeof(bool));
        return truth;
    }
}

void cog_value_format_number(cog_buf *dst, const cog_option *o, double value)
{
    const unit *u = o->type == COG_OPTION_SIZE ? size_units : time_units;

    if ((o->type != COG_OPTION_SIZE && o->type != COG_OPTION_TIME) || value == 0) {
        cog_buf_printf(dst, o->type == COG_OPTION_NUMBER ? "%g" : "%.0f", value);
        return;
    }
    while (u->factor > 1 && fmod(value, u->factor) != 0)
        u++;
    cog_buf_printf(dst, "%.0f%s", value / u->factor, u->name);
}

static int refuse_range(const cog_option *o, bool below, cog_err *err)
{
    cog_buf low = { 0 }, high = { 0 };

    cog_value_format_number(&low, o, o->min);
    cog_value_format_number(&high, o, o->max);
    cog_err_set(err, COG_EINVAL, "is %s the range; give %s to %s", below ? "below" : "above",
                low.data, high.data);
    cog_buf_fini(&low);
    cog_buf_fini(&high);
    return COG_EINVAL;
}

/* A decimal number and what follows it. strtod alone would take "inf", "nan" and "0x10". */
static bool parse_decimal(double *value, const char **rest, const char *text)
{
    size_t digits = strspn(text[0] == '-' ? text + 1 : text, "0123456789.");
    char *end;

    if (!digits || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
        return false;
    errno = 0;
    *value = strtod(text, &end);
    *rest = end;
    return end != text && isfinite(*value);
}

static const unit *find_unit(const unit *units, const char *name)
{
    for (; units->name; units++)
        if (strcmp(units->name, name) == 0)
            return units;
    return NULL;
}

static int parse_number(double *out, const cog_option *o, const char *text, cog_err *err)
{
    bool is_size = o->type == COG_OPTION_SIZE, is_time = o->type == COG_OPTION_TIME;
    double value;
    const char *rest;

    if (!parse_decimal(&value, &rest, text))
        return cog_err_set(err, COG_EINVAL, "is no %s",
                           is_size   ? "size; give for example 512MiB or 4GiB"
                           : is_time ? "time; give for example 500ms, 30s or 5min"
                                     : "number");
    if (*rest && (is_size || is_time)) {
        const unit *u = find_unit(is_size ? size_units : time_units, rest);
        if (!u)
            return cog_err_set(err, COG_EINVAL, "has an unknown unit; known are %s",
                               is_size ? "B, KiB, MiB, GiB, TiB, kB, MB, GB, TB" : "ms, s, min, h");
        value *= u->factor;
    } else if (*rest) {
        return cog_err_set(err, COG_EINVAL, "is no number");
    } else if (is_time) {
        value *= 1000;
    }
    if (o->type != COG_OPTION_NUMBER && value != floor(value))
        return cog_err_set(err, COG_EINVAL, "is no whole number%s",
                           is_size   ? " of bytes"
                           : is_time ? " of milliseconds"
                                     : "");
    if (value < o->min || value > o->max)
        return refuse_range(o, value < o->min, err);
    *out = value;
    return 0;
}

/* The index of a word in "a|b|c", or -1. */
static int find_choice(const char *choices, const char *word)
{
    size_t len = strlen(word);
    int idx = 0;

    for (const char *p = choices;; idx++) {
        size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, word, n) == 0)
            return idx;
        if (!p[n])
            return -1;
        p += n + 1;
    }
}

static int parse_bool(const char *text)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
        return 1;
    if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
        return 0;
    return -1;
}

static void append(cog_config *c, const cog_option *o, const char *text)
{
    const char *const *old;
    const char **grown;
    int n;

    memcpy(&old, field(c, o), sizeof(old));
    memcpy(&n, (char *)c + o->count_offset, sizeof(n));
    grown = cog_value_keep(c, cog_array(const char *, (size_t)n + 1));
    if (n)
        memcpy(grown, old, (size_t)n * sizeof(*grown));
    grown[n++] = cog_value_keep(c, cog_strdup(text));
    memcpy(field(c, o), &grown, sizeof(grown));
    memcpy((char *)c + o->count_offset, &n, sizeof(n));
}

void cog_value_clear(cog_config *c, const cog_option *o)
{
    memset(field(c, o), 0, sizeof(char *));
    memset((char *)c + o->count_offset, 0, sizeof(int));
}

static int set_text(cog_config *c, const cog_option *o, const char *text, cog_err *err)
{
    const char *kept;

    if (!*text)
        return cog_err_set(err, COG_EINVAL, "is empty");
    if (o->type == COG_OPTION_LIST) {
        append(c, o, text);
        return 0;
    }
    if (o->type == COG_OPTION_WORD && find_choice(o->choices, text) < 0)
        return cog_err_set(err, COG_EINVAL, "is none of %s", o->choices);
    kept = cog_value_keep(c, cog_strdup(text));
    memcpy(field(c, o), &kept, sizeof(kept));
    return 0;
}

int cog_value_set(cog_config *c, const cog_option *o, const char *text, cog_err *err)
{
    double number = 0;
    float single;
    int idx, rc;

    switch (o->type) {
    case COG_OPTION_TEXT:
    case COG_OPTION_LIST:
    case COG_OPTION_WORD:
        return set_text(c, o, text, err);
    case COG_OPTION_BOOL:
        idx = parse_bool(text);
        if (idx < 0)
            return cog_err_set(err, COG_EINVAL, "is neither true nor false");
        store_integer(c, o, (uint64_t)idx);
        return 0;
    case COG_OPTION_CHOICE:
        idx = find_choice(o->choices, text);
        if (idx < 0)
            return cog_err_set(err, COG_EINVAL, "is none of %s", o->choices);
        store_integer(c, o, (uint64_t)((int64_t)o->min + idx));
        return 0;
    default:
        rc = parse_number(&number, o, text, err);
        if (rc < 0)
            return rc;
        single = (float)number;
        if (o->type == COG_OPTION_NUMBER)
            memcpy(field(c, o), &single, sizeof(single));
        else
            store_integer(c, o, (uint64_t)(int64_t)number);
        return 0;
    }
}

static void format_choice(cog_buf *dst, const cog_option *o, int64_t value)
{
    const char *p = o->choices;

    for (int64_t i = (int64_t)o->min; i < value; i++)
        p += strcspn(p, "|") + 1;
    cog_buf_add(dst, p, strcspn(p, "|"));
}

void cog_value_format(cog_buf *dst, const cog_config *c, const cog_option *o)
{
    const char *text, *const *list;
    float single;
    int n;

    switch (o->type) {
    case COG_OPTION_TEXT:
    case COG_OPTION_WORD:
        memcpy(&text, field_of(c, o), sizeof(text));
        cog_buf_puts(dst, text ? text : "");
        return;
    case COG_OPTION_LIST:
        memcpy(&list, field_of(c, o), sizeof(list));
        memcpy(&n, (const char *)c + o->count_offset, sizeof(n));
        for (int i = 0; i < n; i++)
            cog_buf_printf(dst, "%s%s", i ? "," : "", list[i]);
        return;
    case COG_OPTION_BOOL:
        cog_buf_puts(dst, fetch_integer(c, o) ? "true" : "false");
        return;
    case COG_OPTION_CHOICE:
        format_choice(dst, o, fetch_integer(c, o));
        return;
    case COG_OPTION_NUMBER:
        memcpy(&single, field_of(c, o), sizeof(single));
        cog_value_format_number(dst, o, (double)single);
        return;
    default:
        cog_value_format_number(dst, o, (double)fetch_integer(c, o));
        return;
    }
}
