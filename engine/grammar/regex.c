#include "engine/grammar/regex.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <assert.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_COUNT = 100000, MAX_SET = 4096 };

typedef struct parser {
    cog_exprs *x;
    const char *at, *end;
    cog_regex_options opt;
    int depth;
    cog_err *err;
} parser;

/* A list of parts that grows. */
typedef struct parts {
    int32_t *id;
    int n, cap;
} parts;

static void push(parts *p, int32_t id)
{
    if (p->n == p->cap) {
        p->cap = 2 * p->cap + 8;
        p->id = cog_realloc(p->id, (size_t)p->cap, sizeof(int32_t));
    }
    p->id[p->n++] = id;
}

typedef struct set {
    cog_char_range *range; /* [MAX_SET] */
    int n;
    bool negate;
} set;

static int fail(parser *p, const char *why)
{
    return cog_err_set(p->err, COG_EINVAL, "%s", why);
}

static bool eat(parser *p, char c)
{
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

/* The next character of text that is known to be UTF-8. */
static uint32_t take(parser *p)
{
    unsigned char c = (unsigned char)*p->at++;
    int more = c < 0xc0 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    uint32_t value = more == 0 ? c : c & (0x3fu >> more);

    while (more-- > 0)
        value = value << 6 | ((unsigned char)*p->at++ & 0x3f);
    return value;
}

/* ------------------------------------------------------------------ sets of characters */

static int add_range(parser *p, set *s, uint32_t lo, uint32_t hi)
{
    if (s->n == MAX_SET)
        return cog_err_set(p->err, COG_ELIMIT, "a class of more than %d ranges", MAX_SET);
    s->range[s->n++] = (cog_char_range){ lo, hi };
    return 0;
}

static const cog_char_range digits[] = { { '0', '9' } };
static const cog_char_range word[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } };
static const cog_char_range spaces[] = { { '\t', '\r' }, { ' ', ' ' } };

/* Adds \d, \W and the like; false when c is none of them. */
static bool add_named(parser *p, set *s, char c, int *rc)
{
    const cog_char_range *r;
    uint32_t next = 0;
    int n;

    switch (c | 0x20) {
    case 'd':
        r = digits, n = 1;
        break;
    case 'w':
        r = word, n = 4;
        break;
    case 's':
        r = spaces, n = 2;
        break;
    default:
        return false;
    }
    *rc = 0;
    for (int i = 0; i < n && *rc == 0; i++) {
        if (c & 0x20)
            *rc = add_range(p, s, r[i].lo, r[i].hi);
        else if (r[i].lo > next)
            *rc = add_range(p, s, next, r[i].lo - 1);
        next = r[i].hi + 1;
    }
    if (*rc == 0 && !(c & 0x20))
        *rc = add_range(p, s, next, COG_EXPR_MAX_CHAR);
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The digits of \xHH, \uHHHH and \u{H...}. */
static int take_hex(parser *p, uint32_t *out, int n)
{
    bool is_braced = n == 4 && eat(p, '{');

    *out = 0;
    for (int i = 0; is_braced ? p->at < p->end && *p->at != '}' : i < n; i++) {
        int digit = p->at < p->end ? hex_digit(*p->at) : -1;
        if (digit < 0 || i == 6)
            return fail(p, "an escape lacks hexadecimal digits or has too many");
        *out = *out << 4 | (uint32_t)digit;
        p->at++;
    }
    if (is_braced && !eat(p, '}'))
        return fail(p, "an escape lacks its closing brace");
    if (*out > COG_EXPR_MAX_CHAR || *out == 0 || (*out >= 0xd800 && *out <= 0xdfff))
        return fail(p, "an escape names a character that no text has");
    return 0;
}

/* One character after a backslash. */
static int take_escape(parser *p, uint32_t *out)
{
    static const char names[] = "ntrfv", values[] = "\n\t\r\f\v";
    const char *name;

    if (p->at == p->end)
        return fail(p, "it ends with a backslash");
    *out = take(p);
    if (*out == 'x' || *out == 'u')
        return take_hex(p, out, *out == 'x' ? 2 : 4);
    name = *out < 0x80 ? strchr(names, (int)*out) : NULL;
    if (name && *name) {
        *out = (uint32_t)values[name - names];
        return 0;
    }
    if ((*out >= '0' && *out <= '9') || (*out >= 'A' && *out <= 'Z') ||
        (*out >= 'a' && *out <= 'z'))
        return cog_err_set(p->err, COG_EINVAL, "the escape \\%c is not supported", (int)*out);
    return 0;
}

/* One end of a range in brackets; *is_set: it was \d or the like. */
static int take_member(parser *p, set *s, uint32_t *out, bool *is_set)
{
    int rc = 0;

    *is_set = false;
    if (!eat(p, '\\')) {
        *out = take(p);
        return 0;
    }
    if (p->at < p->end && add_named(p, s, *p->at, &rc)) {
        p->at++;
        *is_set = true;
        return rc;
    }
    return take_escape(p, out);
}

static int parse_set(parser *p, set *s)
{
    int rc = 0;

    s->negate = eat(p, '^');
    for (bool is_first = true; rc == 0; is_first = false) {
        uint32_t lo, hi;
        bool is_set, is_range;

        if (p->at == p->end)
            return fail(p, "a class lacks its closing bracket");
        if (!is_first && eat(p, ']'))
            return 0;
        rc = take_member(p, s, &lo, &is_set);
        if (rc < 0)
            return rc;
        is_range = p->end - p->at >= 2 && p->at[0] == '-' && p->at[1] != ']';
        if (is_set) {
            if (is_range)
                return fail(p, "a range begins with a class");
            continue;
        }
        hi = lo;
        if (is_range) {
            p->at++;
            rc = take_member(p, s, &hi, &is_set);
            if (rc == 0 && (is_set || hi < lo))
                return fail(p, "a range ends before it begins");
        }
        if (rc == 0)
            rc = add_range(p, s, lo, hi);
    }
    return rc;
}

/* ------------------------------------------------------------------ expressions */

static int parse_alt(parser *p, int32_t *out);

static int32_t chars(parser *p, const cog_char_range *r, int n, bool negate)
{
    return cog_expr_chars(p->x, r, n, negate, p->opt.is_quoted);
}

static int parse_class(parser *p, int32_t *out)
{
    set s = { .range = cog_array(cog_char_range, MAX_SET) };
    int rc = parse_set(p, &s);

    if (rc == 0)
        *out = chars(p, s.range, s.n, s.negate);
    cog_free(s.range);
    return rc;
}

/* After "(?": the name of a group, or nothing of it. */
static int skip_group_head(parser *p)
{
    if (eat(p, ':'))
        return 0;
    eat(p, 'P');
    if (!eat(p, '<') || p->at == p->end || *p->at == '=' || *p->at == '!')
        return fail(p, "look-around, flags and conditions are not supported");
    while (p->at < p->end && *p->at != '>')
        p->at++;
    return eat(p, '>') ? 0 : fail(p, "a group's name does not end");
}

static int parse_group(parser *p, int32_t *out)
{
    int rc = eat(p, '?') ? skip_group_head(p) : 0;

    if (rc < 0)
        return rc;
    if (++p->depth > MAX_DEPTH)
        return cog_err_set(p->err, COG_ELIMIT, "groups are nested more than %d deep", MAX_DEPTH);
    rc = parse_alt(p, out);
    p->depth--;
    if (rc == 0 && !eat(p, ')'))
        return fail(p, "a group lacks its closing parenthesis");
    return rc;
}

static int parse_escape(parser *p, int32_t *out)
{
    cog_char_range room[8];
    set s = { .range = room };
    uint32_t c = 0;
    int rc = 0;

    if (p->at < p->end && add_named(p, &s, *p->at, &rc)) {
        p->at++;
        *out = chars(p, s.range, s.n, false);
        return rc;
    }
    rc = take_escape(p, &c);
    if (rc == 0)
        *out = chars(p, &(cog_char_range){ c, c }, 1, false);
    return rc;
}

static int parse_atom(parser *p, int32_t *out)
{
    static const cog_char_range newline = { '\n', '\n' };
    uint32_t c;

    if (eat(p, '('))
        return parse_group(p, out);
    if (eat(p, '['))
        return parse_class(p, out);
    if (eat(p, '\\'))
        return parse_escape(p, out);
    if (eat(p, '.')) {
        *out = chars(p, &newline, 1, true);
        return 0;
    }
    c = take(p);
    if (c == '*' || c == '+' || c == '?')
        return fail(p, "there is nothing that a quantifier could repeat");
    if (c == '^' || c == '$')
        return fail(p, "an anchor stands elsewhere than at the beginning or the end");
    *out = chars(p, &(cog_char_range){ c, c }, 1, false);
    return 0;
}

/* A number of a count; -1: there is none. */
static int take_count(parser *p)
{
    int n = -1;

    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        n = (n < 0 ? 0 : n) * 10 + (*p->at++ - '0');
        if (n > MAX_COUNT)
            n = MAX_COUNT + 1;
    }
    return n;
}

/* "{2,5}"; what is none is text, and stays. */
static bool take_braces(parser *p, int *min, int *max)
{
    const char *begin = p->at;

    if (!eat(p, '{'))
        return false;
    *min = take_count(p);
    *max = *min;
    if (eat(p, ',')) {
        *max = take_count(p);
        if (*max < 0 && *min >= 0)
            *max = COG_EXPR_UNBOUNDED;
        else if (*min < 0 && *max >= 0)
            *min = 0;
    }
    if (*min >= 0 && eat(p, '}'))
        return true;
    p->at = begin;
    return false;
}

static bool take_quantifier(parser *p, int *min, int *max)
{
    *max = COG_EXPR_UNBOUNDED;
    *min = 0;
    if (eat(p, '*'))
        return true;
    if (eat(p, '+')) {
        *min = 1;
        return true;
    }
    if (eat(p, '?')) {
        *max = 1;
        return true;
    }
    return take_braces(p, min, max);
}

static int parse_quantified(parser *p, int32_t *out)
{
    int min, max, rc = parse_atom(p, out);

    if (rc < 0 || !take_quantifier(p, &min, &max))
        return rc;
    if (min > MAX_COUNT || max > MAX_COUNT)
        return cog_err_set(p->err, COG_ELIMIT, "a count is above %d", MAX_COUNT);
    if (max != COG_EXPR_UNBOUNDED && max < min)
        return fail(p, "a count ends before it begins");
    eat(p, '?'); /* as few as possible: the same texts */
    if (p->at < p->end && (*p->at == '*' || *p->at == '+' || *p->at == '?'))
        return fail(p, "a quantifier follows another");
    *out = cog_expr_repeat(p->x, *out, min, max);
    return 0;
}

static int32_t anything(parser *p)
{
    return cog_expr_repeat(p->x, chars(p, NULL, 0, true), 0, COG_EXPR_UNBOUNDED);
}

static bool is_alternative_over(const parser *p)
{
    return p->at == p->end || *p->at == '|' || (p->depth > 0 && *p->at == ')');
}

static int parse_cat(parser *p, int32_t *out)
{
    bool is_top = p->depth == 0, has_end = false;
    parts list = { 0 };
    int rc = 0;

    if (!(is_top && eat(p, '^')) && is_top && p->opt.is_search)
        push(&list, anything(p));
    while (rc == 0 && !is_alternative_over(p)) {
        int32_t id = 0;

        if (is_top && *p->at == '$' && (p->at + 1 == p->end || p->at[1] == '|')) {
            p->at++;
            has_end = true;
            break;
        }
        rc = *p->at == ')' ? fail(p, "a parenthesis closes no group") : parse_quantified(p, &id);
        push(&list, id);
    }
    if (is_top && p->opt.is_search && !has_end)
        push(&list, anything(p));
    if (rc == 0)
        *out = cog_expr_cat(p->x, list.id, list.n);
    cog_free(list.id);
    return rc;
}

static int parse_alt(parser *p, int32_t *out)
{
    parts list = { 0 };
    int rc;

    do {
        int32_t id = 0;

        rc = parse_cat(p, &id);
        push(&list, id);
    } while (rc == 0 && eat(p, '|'));
    if (rc == 0)
        *out = cog_expr_alt(p->x, list.id, list.n);
    cog_free(list.id);
    return rc;
}

int cog_regex_parse(int32_t *out, cog_exprs *x, const char *text, size_t len, cog_regex_options opt,
                    cog_err *err)
{
    parser p = { .x = x, .at = text, .end = text + len, .opt = opt, .err = err };

    if (!cog_utf8_valid(text, len))
        return fail(&p, "it is not valid UTF-8");
    return parse_alt(&p, out);
}

int32_t cog_regex_make(cog_exprs *x, const char *text)
{
    int32_t id = 0;
    int rc = cog_regex_parse(&id, x, text, strlen(text), (cog_regex_options){ 0 }, NULL);

    assert(rc == 0);
    return id;
}
