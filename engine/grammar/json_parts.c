#include "engine/grammar/json_parts.h"

#include "base/alloc.h"
#include "engine/grammar/regex.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEX   "[0-9A-Fa-f]"
#define PLAIN "[^\\x01-\\x1f\"\\\\]"
/* four digits that are neither NUL nor half of a pair, or a whole pair */
#define CODE                                                                      \
    "u(?:[1-9A-CEFa-cef]" HEX "{3}|0(?:[1-9A-Fa-f]" HEX "{2}|0(?:[1-9A-Fa-f]" HEX \
    "|0[1-9A-Fa-f]))"                                                             \
    "|[Dd](?:[0-7]" HEX "{2}|[89ABab]" HEX "{2}\\\\u[Dd][C-Fc-f]" HEX "{2}))"

static int32_t cat(cog_json_parts *j, const int32_t *part, int n)
{
    return cog_expr_cat(j->x, part, n);
}

/* A part that is used in many places: called, so that the automaton has it once. */
static int32_t shared(cog_exprs *x, int32_t part)
{
    int rule = cog_expr_rule(x);

    if (rule < 0)
        return part;
    x->rule[rule] = part;
    return cog_expr_call(x, rule);
}

void cog_json_parts_init(cog_json_parts *j, cog_exprs *x)
{
    int32_t all[6], middle;

    *j = (cog_json_parts){ .x = x };
    j->space = shared(x, cog_regex_make(x, "(?: |\\n {0,16})?"));
    j->quote = cog_expr_bytes(x, "\"", 1);
    j->plain = cog_regex_make(x, PLAIN);
    j->character = cog_regex_make(x, PLAIN "|\\\\(?:[\"\\\\/bfnrt]|" CODE ")");
    middle = cog_expr_repeat(x, j->character, 0, COG_EXPR_UNBOUNDED);
    j->string = cat(j, (int32_t[]){ j->quote, middle, j->quote }, 3);
    j->number =
        cog_regex_make(x, "-?(?:0|[1-9][0-9]{0,14})(?:\\.[0-9]{1,11})?(?:[eE][+-]?[0-9]{1,2})?");
    j->integer = cog_regex_make(x, "0|-?[1-9][0-9]{0,17}");
    j->boolean = cog_regex_make(x, "true|false");
    j->null = cog_expr_bytes(x, "null", 4);
    j->any = cog_expr_rule(x);
    j->value = cog_expr_call(x, j->any);
    j->object =
        cog_json_list(j, '{', cog_json_member(j, j->string, j->value), 0, COG_EXPR_UNBOUNDED, '}');
    j->array = cog_json_list(j, '[', j->value, 0, COG_EXPR_UNBOUNDED, ']');
    memcpy(all, (int32_t[]){ j->string, j->number, j->boolean, j->null, j->object, j->array },
           sizeof(all));
    x->rule[j->any] = cog_expr_alt(x, all, 6);
    j->character = shared(x, j->character);
}

int32_t cog_json_string_of(cog_json_parts *j, int min, int max)
{
    int32_t middle;

    if (min == 0 && max == COG_EXPR_UNBOUNDED)
        return j->string;
    middle = cog_expr_repeat(j->x, j->character, min, max);
    return cat(j, (int32_t[]){ j->quote, middle, j->quote }, 3);
}

/* ------------------------------------------------------------------ integers */

static void add_any_digits(cog_buf *out, size_t n)
{
    if (n > 0)
        cog_buf_printf(out, "[0-9]{%zu}", n);
}

/* A regular expression for the numbers from a to b, of n digits each. */
static void add_between(cog_buf *out, const char *a, const char *b, size_t n)
{
    static const char nines[] = "9999999999999999999", zeros[] = "0000000000000000000";

    if (strncmp(a, zeros, n) == 0 && strncmp(b, nines, n) == 0) {
        add_any_digits(out, n);
        return;
    }
    if (a[0] == b[0]) {
        cog_buf_printf(out, "%c", a[0]);
        add_between(out, a + 1, b + 1, n - 1);
        return;
    }
    cog_buf_printf(out, "(?:%c", a[0]);
    add_between(out, a + 1, nines, n - 1);
    if (b[0] - a[0] > 1) {
        cog_buf_printf(out, "|[%c-%c]", a[0] + 1, b[0] - 1);
        add_any_digits(out, n - 1);
    }
    cog_buf_printf(out, "|%c", b[0]);
    add_between(out, zeros, b + 1, n - 1);
    cog_buf_puts(out, ")");
}

/* The same for 0 <= min <= max. */
static void add_natural(cog_buf *out, int64_t min, int64_t max, const char *sign)
{
    int64_t low = min, top = 9; /* of one length */
    char a[24], b[24];

    while (top < min)
        top = top * 10 + 9;
    for (;;) {
        int64_t high = top < max ? top : max;

        snprintf(a, sizeof(a), "%lld", (long long)low);
        snprintf(b, sizeof(b), "%lld", (long long)high);
        cog_buf_puts(out, out->len ? "|" : "");
        cog_buf_puts(out, sign);
        add_between(out, a, b, strlen(a));
        if (high == max)
            return;
        low = top + 1;
        top = top * 10 + 9;
    }
}

int32_t cog_json_integer_between(cog_json_parts *j, int64_t min, int64_t max)
{
    cog_buf text = { 0 };
    int32_t id;

    if (min < 0)
        add_natural(&text, max < 0 ? -max : 1, -min, "-");
    if (max >= 0)
        add_natural(&text, min > 0 ? min : 0, max, "");
    id = cog_regex_make(j->x, text.data);
    cog_buf_fini(&text);
    return id;
}

/* ------------------------------------------------------------------ given values */

static void write_string(cog_buf *out, const char *text, size_t len)
{
    static const char names[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";

    cog_buf_puts(out, "\"");
    for (size_t i = 0; i < len; i++) {
        const char *name = text[i] ? strchr(values, text[i]) : NULL;

        if (name)
            cog_buf_printf(out, "\\%c", names[name - values]);
        else if ((unsigned char)text[i] < 0x20)
            cog_buf_printf(out, "\\u%04x", (unsigned)text[i]);
        else
            cog_buf_add(out, &text[i], 1);
    }
    cog_buf_puts(out, "\"");
}

/* With as many digits as it takes to be read back the same. */
static void write_real(cog_buf *out, double value)
{
    char text[40];

    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    cog_buf_puts(out, text);
    if (!strpbrk(text, ".e"))
        cog_buf_puts(out, ".0");
}

static void write_value(cog_buf *out, const json_t *v)
{
    const char *key;
    json_t *member;
    size_t i;

    switch (json_typeof(v)) {
    case JSON_OBJECT:
        cog_buf_puts(out, "{");
        json_object_foreach((json_t *)v, key, member)
        {
            cog_buf_puts(out, out->data[out->len - 1] == '{' ? "" : ", ");
            write_string(out, key, strlen(key));
            cog_buf_puts(out, ": ");
            write_value(out, member);
        }
        cog_buf_puts(out, "}");
        return;
    case JSON_ARRAY:
        cog_buf_puts(out, "[");
        json_array_foreach(v, i, member)
        {
            cog_buf_puts(out, i ? ", " : "");
            write_value(out, member);
        }
        cog_buf_puts(out, "]");
        return;
    case JSON_STRING:
        write_string(out, json_string_value(v), json_string_length(v));
        return;
    case JSON_INTEGER:
        cog_buf_printf(out, "%lld", (long long)json_integer_value(v));
        return;
    case JSON_REAL:
        write_real(out, json_real_value(v));
        return;
    default:
        cog_buf_puts(out, json_is_null(v) ? "null" : json_is_true(v) ? "true" : "false");
    }
}

int32_t cog_json_literal(cog_json_parts *j, const json_t *value)
{
    cog_buf text = { 0 };
    int32_t id;

    write_value(&text, value);
    id = cog_expr_bytes(j->x, text.data, text.len);
    cog_buf_fini(&text);
    return id;
}

/* ------------------------------------------------------------------ other keys */

static uint32_t first_char(const char *text, size_t *len)
{
    unsigned char c = (unsigned char)text[0];
    uint32_t value;

    *len = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    value = *len == 1 ? c : c & (0x7fu >> *len);
    for (size_t i = 1; i < *len; i++)
        value = value << 6 | ((unsigned char)text[i] & 0x3f);
    return value;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What may stand behind the first `at` bytes that the n sorted texts have in common. */
static int32_t rest_but(cog_json_parts *j, const char *const *text, int n, size_t at)
{
    cog_char_range *taken = cog_array(cog_char_range, (size_t)n + 3);
    int32_t *way = cog_array(int32_t, (size_t)n + 2), end = j->quote;
    int n_ways = 0, n_taken = 0;

    taken[n_taken++] = (cog_char_range){ 0, 0x1f };
    taken[n_taken++] = (cog_char_range){ '"', '"' };
    taken[n_taken++] = (cog_char_range){ '\\', '\\' };
    if (n == 0 || text[0][at]) /* no text ends here */
        way[n_ways++] = end;
    for (int i = n > 0 && !text[0][at] ? 1 : 0, next; i < n; i = next) {
        size_t len;
        uint32_t c = first_char(text[i] + at, &len);

        for (next = i; next < n && strncmp(text[next] + at, text[i] + at, len) == 0;)
            next++;
        if (c < 0x20 || c == '"' || c == '\\') /* no plain key has it */
            continue;
        taken[n_taken++] = (cog_char_range){ c, c };
        way[n_ways++] = cat(j,
                            (int32_t[]){ cog_expr_bytes(j->x, text[i] + at, len),
                                         rest_but(j, text + i, next - i, at + len) },
                            2);
    }
    way[n_ways++] = cat(j,
                        (int32_t[]){ cog_expr_chars(j->x, taken, n_taken, true, false),
                                     cog_expr_repeat(j->x, j->plain, 0, COG_EXPR_UNBOUNDED), end },
                        3);
    end = cog_expr_alt(j->x, way, n_ways);
    cog_free(taken);
    cog_free(way);
    return end;
}

int32_t cog_json_string_but(cog_json_parts *j, const char *const *text, int n)
{
    const char **sorted = cog_array(const char *, (size_t)n + 1);
    int32_t id;

    if (n > 0)
        memcpy(sorted, text, (size_t)n * sizeof(*sorted));
    qsort(sorted, (size_t)n, sizeof(*sorted), by_text);
    id = cat(j, (int32_t[]){ j->quote, rest_but(j, sorted, n, 0) }, 2);
    cog_free(sorted);
    return id;
}

/* ------------------------------------------------------------------ around values */

int32_t cog_json_comma(cog_json_parts *j)
{
    return cat(j, (int32_t[]){ j->space, cog_expr_bytes(j->x, ",", 1), j->space }, 3);
}

int32_t cog_json_member(cog_json_parts *j, int32_t key, int32_t value)
{
    return cat(j, (int32_t[]){ key, j->space, cog_expr_bytes(j->x, ":", 1), j->space, value }, 5);
}

int32_t cog_json_enclose(cog_json_parts *j, char open, int32_t inside, char close)
{
    return cat(j,
               (int32_t[]){ cog_expr_bytes(j->x, &open, 1), j->space, inside, j->space,
                            cog_expr_bytes(j->x, &close, 1) },
               5);
}

int32_t cog_json_list(cog_json_parts *j, char open, int32_t item, int min, int max, char close)
{
    int more = max == COG_EXPR_UNBOUNDED ? max : max - 1;
    int32_t rest, some, none;

    none = cat(
        j, (int32_t[]){ cog_expr_bytes(j->x, &open, 1), j->space, cog_expr_bytes(j->x, &close, 1) },
        3);
    if (max == 0)
        return none;
    rest = cat(j, (int32_t[]){ cog_json_comma(j), item }, 2);
    rest = cog_expr_repeat(j->x, rest, min > 0 ? min - 1 : 0, more);
    some = cog_json_enclose(j, open, cat(j, (int32_t[]){ item, rest }, 2), close);
    return min > 0 ? some : cog_expr_alt(j->x, (int32_t[]){ none, some }, 2);
}
