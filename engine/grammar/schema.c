#include "engine/grammar/schema.h"

#include "base/alloc.h"
#include "engine/grammar/regex.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_COUNT = 100000, MAX_KEY = 256, MAX_QUOTE = 48 };

typedef struct compiler {
    cog_exprs *x;
    cog_json_parts part;
    json_t *root;
    const json_t *target[COG_EXPR_MAX_RULES]; /* what each rule stands for; NULL: a part of JSON */
    int depth;
    cog_err *err;
} compiler;

static int compile(compiler *c, int32_t *out, const json_t *schema);

/* ------------------------------------------------------------------ keywords */

enum { ANY_FORM = 1, TYPED = 2, ENUMERATED = 4 };

/* Where a keyword may stand: in schemas of every form, with a type, beside enum and const. The
 * others are a form of their own. */
static const struct keyword {
    const char *name;
    int forms;
} keywords[] = {
    { "title", ANY_FORM },
    { "description", ANY_FORM },
    { "default", ANY_FORM },
    { "examples", ANY_FORM },
    { "$schema", ANY_FORM },
    { "$id", ANY_FORM },
    { "$comment", ANY_FORM },
    { "$defs", ANY_FORM },
    { "definitions", ANY_FORM },
    { "deprecated", ANY_FORM },
    { "readOnly", ANY_FORM },
    { "writeOnly", ANY_FORM },
    { "type", TYPED | ENUMERATED },
    { "properties", TYPED },
    { "required", TYPED },
    { "additionalProperties", TYPED },
    { "items", TYPED },
    { "prefixItems", TYPED },
    { "minItems", TYPED },
    { "maxItems", TYPED },
    { "minLength", TYPED },
    { "maxLength", TYPED },
    { "pattern", TYPED },
    { "format", TYPED },
    { "minimum", TYPED },
    { "maximum", TYPED },
    { "enum", ENUMERATED },
    { "const", ENUMERATED },
    { "anyOf", 0 },
    { "oneOf", 0 },
    { "allOf", 0 },
    { "$ref", 0 },
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

static int fail(compiler *c, const char *key, const char *why)
{
    return cog_err_set(c->err, COG_EINVAL, "'%s' %s", key, why);
}

static int too_complex(compiler *c, const char *what, int limit)
{
    return cog_err_set(c->err, COG_ELIMIT, "%s (at most %d)", what, limit);
}

/* Every key of a schema whose form is decided by `head` is one that it may have. */
static int check_keys(compiler *c, const json_t *schema, const char *head, int form)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)schema, key, value)
    {
        const struct keyword *k = find_keyword(key);

        if (!k)
            return cog_err_set(c->err, COG_EINVAL, "the keyword '%.*s' is not supported", MAX_QUOTE,
                               key);
        if (strcmp(key, head) != 0 && !(k->forms & (ANY_FORM | form)))
            return cog_err_set(c->err, COG_EINVAL, "'%s' beside '%s' is not supported", key, head);
    }
    return 0;
}

/* A count of at least 0; absent when the key is. */
static int read_count(compiler *c, const json_t *schema, const char *key, int absent, int *out)
{
    const json_t *v = json_object_get(schema, key);
    double d = json_number_value(v);

    *out = absent;
    if (!v)
        return 0;
    if (!json_is_number(v) || d < 0 || d != floor(d))
        return fail(c, key, "is no whole number of at least 0");
    if (d > MAX_COUNT)
        return too_complex(c, key, MAX_COUNT);
    *out = (int)d;
    return 0;
}

static int read_counts(compiler *c, const json_t *schema, const char *min_key, const char *max_key,
                       int *min, int *max)
{
    if (read_count(c, schema, min_key, 0, min) < 0 ||
        read_count(c, schema, max_key, COG_EXPR_UNBOUNDED, max) < 0)
        return c->err->code;
    if (*max != COG_EXPR_UNBOUNDED && *max < *min)
        return fail(c, max_key, "is below its minimum");
    return 0;
}

/* ------------------------------------------------------------------ strings and numbers */

#define DAY_31 "(?:0[1-9]|[12][0-9]|3[01])"
#define DAY_30 "(?:0[1-9]|[12][0-9]|30)"
#define DAY_28 "(?:0[1-9]|1[0-9]|2[0-8])"
#define YEAR   "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP   "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                               \
    "(?:" YEAR "-(?:(?:0[13578]|1[02])-" DAY_31 "|(?:0[469]|11)-" DAY_30 "|02-" DAY_28 ")" \
    "|" LEAP "-02-29)"
#define HOUR "(?:[01][0-9]|2[0-3])"
#define TIME HOUR ":[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-]" HOUR ":[0-5][0-9])"
#define UUID "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

static const char *const formats[][2] = {
    { "date", DATE }, { "time", TIME }, { "date-time", DATE "T" TIME }, { "uuid", UUID }
};

static int32_t quoted(compiler *c, int32_t inside)
{
    return cog_expr_cat(c->x, (int32_t[]){ c->part.quote, inside, c->part.quote }, 3);
}

static int compile_format(compiler *c, int32_t *out, const json_t *v)
{
    const char *name = json_string_value(v);

    for (size_t i = 0; name && i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(name, formats[i][0]) == 0) {
            *out = quoted(c, cog_regex_make(c->x, formats[i][1]));
            return 0;
        }
    }
    return fail(c, "format", "is none of date, time, date-time and uuid");
}

static int compile_pattern(compiler *c, int32_t *out, const json_t *v)
{
    int32_t inside = 0;
    int rc;

    if (!json_is_string(v))
        return fail(c, "pattern", "is no string");
    rc = cog_regex_parse(&inside, c->x, json_string_value(v), json_string_length(v),
                         (cog_regex_options){ .is_quoted = true, .is_search = true }, c->err);
    if (rc < 0)
        cog_err_prefix(c->err, "'pattern'");
    *out = quoted(c, inside);
    return rc;
}

static int compile_string(compiler *c, int32_t *out, const json_t *schema)
{
    const json_t *format = json_object_get(schema, "format");
    const json_t *pattern = json_object_get(schema, "pattern");
    bool has_length = json_object_get(schema, "minLength") || json_object_get(schema, "maxLength");
    int min, max;

    if (!!format + !!pattern + has_length > 1)
        return fail(c, format ? "format" : "pattern",
                    "together with other limits of a string is not supported");
    if (format)
        return compile_format(c, out, format);
    if (pattern)
        return compile_pattern(c, out, pattern);
    if (read_counts(c, schema, "minLength", "maxLength", &min, &max) < 0)
        return c->err->code;
    *out = cog_json_string_of(&c->part, min, max);
    return 0;
}

/* One end of a range, as the nearest integer inside it and what can be written. */
static int read_bound(compiler *c, const json_t *schema, const char *key, bool is_upper,
                      int64_t *out)
{
    const json_t *v = json_object_get(schema, key);
    double d = json_number_value(v);
    int64_t most = COG_JSON_INTEGER_MAX;

    *out = is_upper ? most : -most;
    if (!v)
        return 0;
    if (!json_is_number(v))
        return fail(c, key, "is no number");
    if (json_is_integer(v))
        *out = json_integer_value(v);
    else if (d < (double)most && d > -(double)most)
        *out = (int64_t)(is_upper ? floor(d) : ceil(d));
    else
        *out = d > 0 ? most + 1 : -most - 1;
    if (is_upper ? *out < -most : *out > most)
        return fail(c, key, "leaves no integer of at most 18 digits");
    *out = *out > most ? most : *out < -most ? -most : *out;
    return 0;
}

static int compile_integer(compiler *c, int32_t *out, const json_t *schema)
{
    int64_t min, max;

    if (read_bound(c, schema, "minimum", false, &min) < 0 ||
        read_bound(c, schema, "maximum", true, &max) < 0)
        return c->err->code;
    if (min > max)
        return fail(c, "maximum", "leaves no integer");
    *out = json_object_get(schema, "minimum") || json_object_get(schema, "maximum")
               ? cog_json_integer_between(&c->part, min, max)
               : c->part.integer;
    return 0;
}

static int compile_number(compiler *c, int32_t *out, const json_t *schema)
{
    if (json_object_get(schema, "minimum") || json_object_get(schema, "maximum"))
        return fail(c, json_object_get(schema, "minimum") ? "minimum" : "maximum",
                    "is supported for integers only");
    *out = c->part.number;
    return 0;
}

/* ------------------------------------------------------------------ arrays */

/* The first n_fixed items, some of which may be missing from the end, then others. */
static int32_t fixed_items(compiler *c, const int32_t *fixed, int n_fixed, int32_t rest, int min,
                           int max)
{
    int32_t tail = cog_expr_cat(c->x, NULL, 0), comma = cog_json_comma(&c->part);
    int at = n_fixed;

    if (rest >= 0) {
        int32_t more = cog_expr_cat(c->x, (int32_t[]){ comma, rest }, 2);
        tail = cog_expr_repeat(c->x, more, min > n_fixed ? min - n_fixed : 0,
                               max == COG_EXPR_UNBOUNDED ? max
                               : max > n_fixed           ? max - n_fixed
                                                         : 0);
    }
    if (max != COG_EXPR_UNBOUNDED && max < at)
        at = max;
    while (at-- > 0) { /* item `at` and what follows it */
        int32_t here = cog_expr_cat(c->x, (int32_t[]){ fixed[at], tail }, 2);
        if (at > 0)
            here = cog_expr_cat(c->x, (int32_t[]){ comma, here }, 2);
        tail = at < min || at == 0 ? here : cog_expr_repeat(c->x, here, 0, 1);
    }
    return tail;
}

static int compile_prefix(compiler *c, int32_t *out, const json_t *prefix, int32_t rest, int min,
                          int max)
{
    int n = (int)json_array_size(prefix), rc = 0;
    int32_t *fixed = cog_array(int32_t, (size_t)n + 1), inside;

    for (int i = 0; i < n && rc == 0; i++)
        rc = compile(c, &fixed[i], json_array_get(prefix, (size_t)i));
    if (rc == 0) {
        inside = fixed_items(c, fixed, n, rest, min, max);
        *out = cog_json_enclose(&c->part, '[', inside, ']');
        if (min == 0)
            *out = cog_expr_alt(c->x,
                                (int32_t[]){ *out, cog_json_list(&c->part, '[', 0, 0, 0, ']') }, 2);
        if (max == 0)
            *out = cog_json_list(&c->part, '[', 0, 0, 0, ']');
    }
    cog_free(fixed);
    return rc;
}

static int compile_array(compiler *c, int32_t *out, const json_t *schema)
{
    const json_t *items = json_object_get(schema, "items");
    const json_t *prefix = json_object_get(schema, "prefixItems");
    int n_prefix = (int)json_array_size(prefix), min, max;
    int32_t item = c->part.value;

    if (read_counts(c, schema, "minItems", "maxItems", &min, &max) < 0)
        return c->err->code;
    if (prefix && (!json_is_array(prefix) || n_prefix == 0))
        return fail(c, "prefixItems", "is no array with items");
    if (json_is_false(items)) {
        if (min > n_prefix)
            return fail(c, "minItems", "is more than there may be");
        max = max < 0 || max > n_prefix ? n_prefix : max;
        item = -1;
    } else if (items && compile(c, &item, items) < 0) {
        return c->err->code;
    }
    if (prefix)
        return compile_prefix(c, out, prefix, item, min, max);
    *out = cog_json_list(&c->part, '[', item < 0 ? 0 : item, min, max, ']');
    return 0;
}

/* ------------------------------------------------------------------ objects */

typedef struct members {
    int32_t *pair;     /* [n + 1] each property's "key": value */
    const char **name; /* [n] */
    bool *is_required; /* [n] */
    int n;
    int32_t other; /* a pair with another key, or -1 */
} members;

static int read_required(compiler *c, members *m, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "required"), *name;
    size_t at;
    int i;

    if (list && !json_is_array(list))
        return fail(c, "required", "is no array");
    json_array_foreach(list, at, name)
    {
        if (!json_is_string(name))
            return fail(c, "required", "holds something else than names");
        for (i = 0; i < m->n; i++)
            if (strcmp(m->name[i], json_string_value(name)) == 0)
                break;
        if (i == m->n)
            return cog_err_set(c->err, COG_EINVAL,
                               "'required' names '%.*s', which is not among the properties",
                               MAX_QUOTE, json_string_value(name));
        m->is_required[i] = true;
    }
    return 0;
}

static int read_properties(compiler *c, members *m, const json_t *properties)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)properties, key, value)
    {
        json_t *text = json_string(key);
        int32_t id = 0, name;
        int rc = compile(c, &id, value);

        name = cog_json_literal(&c->part, text);
        json_decref(text);
        if (rc < 0)
            return rc;
        m->name[m->n] = key;
        m->pair[m->n++] = cog_json_member(&c->part, name, id);
    }
    return 0;
}

static int read_other(compiler *c, members *m, const json_t *schema)
{
    const json_t *v = json_object_get(schema, "additionalProperties");
    int32_t value = c->part.value;

    m->other = -1;
    if (json_is_false(v) || (!v && json_object_get(schema, "properties")))
        return 0;
    if (v && compile(c, &value, v) < 0)
        return c->err->code;
    for (int i = 0; i < m->n; i++)
        if (strlen(m->name[i]) > MAX_KEY)
            return too_complex(c, "bytes of a property's name beside others", MAX_KEY);
    m->other = cog_json_member(&c->part, cog_json_string_but(&c->part, m->name, m->n), value);
    return 0;
}

/* The pairs in their order. rest is all of them with commas before each; a text begins with one of
 * those up to the first that is required, without its comma, and goes on with the rest after it. */
static int32_t join_members(compiler *c, const members *m)
{
    int n = m->n, n_ways = 0;
    int32_t comma = cog_json_comma(&c->part), rest, inside;
    int32_t *part = cog_array(int32_t, (size_t)n + 1), *way = cog_array(int32_t, (size_t)n + 2);
    bool may_be_empty = true;

    for (int i = 0; i < n; i++) {
        part[i] = cog_expr_cat(c->x, (int32_t[]){ comma, m->pair[i] }, 2);
        if (!m->is_required[i])
            part[i] = cog_expr_repeat(c->x, part[i], 0, 1);
    }
    part[n] = cog_expr_cat(c->x, NULL, 0);
    if (m->other >= 0)
        part[n] = cog_expr_repeat(c->x, cog_expr_cat(c->x, (int32_t[]){ comma, m->other }, 2), 0,
                                  COG_EXPR_UNBOUNDED);
    rest = cog_expr_cat(c->x, part, n + 1);
    for (int i = 0; i < n && may_be_empty; i++) {
        way[n_ways++] =
            cog_expr_cat(c->x, (int32_t[]){ m->pair[i], cog_expr_tail(c->x, rest, i + 1) }, 2);
        may_be_empty = !m->is_required[i];
    }
    if (may_be_empty && m->other >= 0)
        way[n_ways++] = cog_expr_cat(c->x, (int32_t[]){ m->other, part[n] }, 2);
    inside = cog_expr_alt(c->x, way, n_ways);
    inside = cog_json_enclose(&c->part, '{', inside, '}');
    if (may_be_empty)
        inside = cog_expr_alt(c->x,
                              (int32_t[]){ inside, cog_json_list(&c->part, '{', 0, 0, 0, '}') }, 2);
    cog_free(part);
    cog_free(way);
    return inside;
}

static int compile_object(compiler *c, int32_t *out, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties");
    size_t n = json_object_size(properties);
    members m = { .pair = cog_array(int32_t, n + 1),
                  .name = cog_array(const char *, n + 1),
                  .is_required = cog_array(bool, n + 1) };
    int rc = 0;

    if (properties && !json_is_object(properties))
        rc = fail(c, "properties", "is no object");
    if (rc == 0)
        rc = read_properties(c, &m, properties);
    if (rc == 0)
        rc = read_required(c, &m, schema);
    if (rc == 0)
        rc = read_other(c, &m, schema);
    if (rc == 0)
        *out = join_members(c, &m);
    cog_free(m.pair);
    cog_free(m.name);
    cog_free(m.is_required);
    return rc;
}

/* ------------------------------------------------------------------ forms of a schema */

static const char *const types[] = { "string", "integer", "number", "boolean",
                                     "null",   "object",  "array" };
enum { STRING, INTEGER, NUMBER, BOOLEAN, NOTHING, OBJECT, ARRAY, N_TYPES };

/* The bits of the types that a value or a list of them names. */
static int read_types(compiler *c, const json_t *v, unsigned *out)
{
    size_t n = json_is_array(v) ? json_array_size(v) : 1;

    *out = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_is_array(v) ? json_array_get(v, i) : v);
        int t = 0;

        while (name && t < N_TYPES && strcmp(types[t], name) != 0)
            t++;
        if (!name || t == N_TYPES)
            return fail(c, "type", "is none of the types of JSON, nor a list of them");
        *out |= 1u << t;
    }
    return *out ? 0 : fail(c, "type", "is an empty list");
}

/* A schema that names no type is taken to mean the one that its keywords are about. */
static unsigned type_of_keywords(const json_t *schema)
{
    static const struct {
        const char *key;
        int type;
    } means[] = {
        { "properties", OBJECT }, { "required", OBJECT },   { "additionalProperties", OBJECT },
        { "items", ARRAY },       { "prefixItems", ARRAY }, { "minItems", ARRAY },
        { "maxItems", ARRAY },    { "minLength", STRING },  { "maxLength", STRING },
        { "pattern", STRING },    { "format", STRING },     { "minimum", INTEGER },
        { "maximum", INTEGER },
    };

    for (size_t i = 0; i < sizeof(means) / sizeof(means[0]); i++)
        if (json_object_get(schema, means[i].key))
            return 1u << means[i].type;
    return 0;
}

static int compile_type(compiler *c, int32_t *out, int type, const json_t *schema)
{
    switch (type) {
    case STRING:
        return compile_string(c, out, schema);
    case INTEGER:
        return compile_integer(c, out, schema);
    case NUMBER:
        return compile_number(c, out, schema);
    case OBJECT:
        return compile_object(c, out, schema);
    case ARRAY:
        return compile_array(c, out, schema);
    default:
        *out = type == BOOLEAN ? c->part.boolean : c->part.null;
        return 0;
    }
}

static int compile_typed(compiler *c, int32_t *out, const json_t *schema)
{
    const json_t *named = json_object_get(schema, "type");
    unsigned wanted = type_of_keywords(schema);
    int32_t way[N_TYPES];
    int n = 0;

    if (check_keys(c, schema, "type", TYPED) < 0 || (named && read_types(c, named, &wanted) < 0))
        return c->err->code;
    if (!wanted) {
        *out = c->part.value;
        return 0;
    }
    if (wanted & 1u << NUMBER)
        wanted &= ~(1u << INTEGER);
    for (int t = 0; t < N_TYPES; t++)
        if (wanted & 1u << t && compile_type(c, &way[n++], t, schema) < 0)
            return c->err->code;
    *out = cog_expr_alt(c->x, way, n);
    return 0;
}

static bool has_type(const json_t *v, unsigned wanted)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        return wanted & 1u << STRING;
    case JSON_INTEGER:
        return wanted & (1u << INTEGER | 1u << NUMBER);
    case JSON_REAL:
        return wanted & 1u << NUMBER ||
               (wanted & 1u << INTEGER && json_real_value(v) == floor(json_real_value(v)));
    case JSON_OBJECT:
        return wanted & 1u << OBJECT;
    case JSON_ARRAY:
        return wanted & 1u << ARRAY;
    case JSON_NULL:
        return wanted & 1u << NOTHING;
    default:
        return wanted & 1u << BOOLEAN;
    }
}

static int compile_values(compiler *c, int32_t *out, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "enum");
    const json_t *only = json_object_get(schema, "const"), *type = json_object_get(schema, "type");
    const char *head = list ? "enum" : "const";
    unsigned wanted = ~0u;
    size_t size = list ? json_array_size(list) : 1;
    int32_t *way;
    int n = 0;

    if (check_keys(c, schema, head, ENUMERATED) < 0 || (type && read_types(c, type, &wanted) < 0))
        return c->err->code;
    if (list && (only || !json_is_array(list) || size == 0))
        return fail(c, "enum", "is no list of values, or beside 'const'");
    way = cog_array(int32_t, size + 1);
    for (size_t i = 0; i < size; i++) {
        const json_t *v = list ? json_array_get(list, i) : only;
        if (has_type(v, wanted))
            way[n++] = cog_json_literal(&c->part, v);
    }
    *out = cog_expr_alt(c->x, way, n);
    cog_free(way);
    return n > 0 ? 0 : fail(c, head, "has no value of the type");
}

static int compile_any_of(compiler *c, int32_t *out, const json_t *schema, const char *head)
{
    const json_t *list = json_object_get(schema, head);
    size_t n = json_array_size(list);
    int32_t *way;
    int rc = check_keys(c, schema, head, 0);

    if (rc < 0)
        return rc;
    if (!json_is_array(list) || n == 0)
        return fail(c, head, "is no list of schemas");
    if (strcmp(head, "allOf") == 0 && n > 1)
        return fail(c, head, "of more than one schema is not supported");
    way = cog_array(int32_t, n);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = compile(c, &way[i], json_array_get(list, i));
    if (rc == 0)
        *out = cog_expr_alt(c->x, way, (int)n);
    cog_free(way);
    return rc;
}

/* ------------------------------------------------------------------ references */

/* One step of a JSON pointer (RFC 6901), its escapes undone. */
static const json_t *step_into(const json_t *v, const char *name, size_t len)
{
    cog_buf key = { 0 };
    char *end;

    cog_buf_puts(&key, "");
    for (size_t i = 0; i < len; i++) {
        bool is_escape =
            name[i] == '~' && i + 1 < len && (name[i + 1] == '0' || name[i + 1] == '1');
        cog_buf_add(&key, !is_escape ? &name[i] : name[i + 1] == '0' ? "~" : "/", 1);
        i += is_escape;
    }
    if (json_is_array(v)) {
        unsigned long i = key.len ? strtoul(key.data, &end, 10) : 0;
        v = key.len && !*end ? json_array_get(v, i) : NULL;
    } else {
        v = json_object_get(v, cog_buf_text(&key));
    }
    cog_buf_fini(&key);
    return v;
}

static const json_t *find_target(const compiler *c, const char *ref)
{
    const json_t *v = c->root;

    if (*ref++ != '#')
        return NULL;
    while (v && *ref == '/') {
        size_t len = strcspn(++ref, "/");
        v = step_into(v, ref, len);
        ref += len;
    }
    return *ref ? NULL : v;
}

static int compile_ref(compiler *c, int32_t *out, const json_t *schema)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *target = ref ? find_target(c, ref) : NULL;
    int rule = 0;

    if (check_keys(c, schema, "$ref", 0) < 0)
        return c->err->code;
    if (!target)
        return fail(c, "$ref", "does not point into this schema (\"#/$defs/name\")");
    while (rule < c->x->n_rules && c->target[rule] != target)
        rule++;
    if (rule == c->x->n_rules) {
        rule = cog_expr_rule(c->x);
        if (rule < 0)
            return too_complex(c, "different references", COG_EXPR_MAX_RULES);
        c->target[rule] = target;
    }
    *out = cog_expr_call(c->x, rule);
    return 0;
}

static int compile_form(compiler *c, int32_t *out, const json_t *schema)
{
    if (json_is_true(schema)) {
        *out = c->part.value;
        return 0;
    }
    if (!json_is_object(schema))
        return cog_err_set(c->err, COG_EINVAL, "a schema is no object");
    if (json_object_get(schema, "$ref"))
        return compile_ref(c, out, schema);
    if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        return compile_values(c, out, schema);
    if (json_object_get(schema, "anyOf"))
        return compile_any_of(c, out, schema, "anyOf");
    if (json_object_get(schema, "oneOf"))
        return compile_any_of(c, out, schema, "oneOf");
    if (json_object_get(schema, "allOf"))
        return compile_any_of(c, out, schema, "allOf");
    return compile_typed(c, out, schema);
}

static int compile(compiler *c, int32_t *out, const json_t *schema)
{
    int rc;

    if (c->x->is_full)
        return cog_err_set(c->err, COG_ELIMIT, "the schema has too many parts");
    if (++c->depth > MAX_DEPTH)
        return too_complex(c, "the schema is nested too deep", MAX_DEPTH);
    rc = compile_form(c, out, schema);
    c->depth--;
    return rc;
}

int cog_schema_parse(int32_t *out, cog_exprs *x, const char *text, size_t len, cog_err *err)
{
    compiler *c = cog_new(compiler);
    cog_err none;
    int rc;

    c->x = x;
    c->err = err ? err : &none;
    cog_json_parts_init(&c->part, x);
    c->root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    rc = c->root ? compile(c, out, c->root)
                 : cog_err_set(c->err, COG_EINVAL, "the schema is not valid JSON");
    for (int rule = 0; rc == 0 && rule < x->n_rules; rule++) /* more may come up meanwhile */
        if (c->target[rule])
            rc = compile(c, &x->rule[rule], c->target[rule]);
    json_decref(c->root);
    cog_free(c);
    return rc;
}
