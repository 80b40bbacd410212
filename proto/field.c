#include "proto/field.h"

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>

static const char *const kind_name[] = {
    [COG_FIELD_ANY] = "a value",      [COG_FIELD_BOOL] = "a boolean",
    [COG_FIELD_INT] = "an integer",   [COG_FIELD_NUMBER] = "a number",
    [COG_FIELD_STRING] = "a string",  [COG_FIELD_ARRAY] = "an array",
    [COG_FIELD_OBJECT] = "an object",
};

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal number";
    case JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

int cog_field_type_error(cog_api_error *err, const char *param, const char *what, const json_t *v)
{
    return cog_api_error_set(err, COG_API_INVALID_TYPE, param,
                             "Invalid type for '%s': expected %s, but got %s instead.", param, what,
                             type_name(v));
}

static bool is_whole(const json_t *v)
{
    double d;

    if (json_is_integer(v))
        return true;
    if (!json_is_real(v))
        return false;
    d = json_real_value(v);
    return d >= -0x1p53 && d <= 0x1p53 && d == (double)(int64_t)d;
}

static bool has_kind(const json_t *v, cog_field_kind kind)
{
    switch (kind) {
    case COG_FIELD_BOOL:
        return json_is_boolean(v);
    case COG_FIELD_INT:
        return is_whole(v);
    case COG_FIELD_NUMBER:
        return json_is_number(v);
    case COG_FIELD_STRING:
        return json_is_string(v);
    case COG_FIELD_ARRAY:
        return json_is_array(v);
    case COG_FIELD_OBJECT:
        return json_is_object(v);
    default:
        return true;
    }
}

static int range_error(const cog_field *f, bool is_below, cog_api_error *err)
{
    bool is_int = f->kind == COG_FIELD_INT;
    cog_api_code code = is_below ? (is_int ? COG_API_INTEGER_BELOW : COG_API_DECIMAL_BELOW)
                                 : (is_int ? COG_API_INTEGER_ABOVE : COG_API_DECIMAL_ABOVE);

    return cog_api_error_set(err, code, f->name, "Invalid '%s': must be %s%s %.15g.", f->name,
                             is_below ? "above" : "below",
                             f->is_above_min && is_below ? "" : " or equal to",
                             is_below ? f->min : f->max);
}

/* An integer that only a double takes for the largest one allowed. */
static bool is_rounded_above(const cog_field *f, const json_t *v)
{
    return f->kind == COG_FIELD_INT && json_is_integer(v) &&
           json_integer_value(v) > (int64_t)f->max;
}

static int check_range(const cog_field *f, const json_t *v, cog_api_error *err)
{
    if (f->kind == COG_FIELD_STRING) {
        if (f->max > 0 && (double)json_string_length(v) > f->max)
            return cog_api_error_set(err, COG_API_STRING_LONG, f->name,
                                     "Invalid '%s': at most %.0f bytes are allowed, got %zu.",
                                     f->name, f->max, json_string_length(v));
        return 0;
    }
    if ((f->kind == COG_FIELD_INT || f->kind == COG_FIELD_NUMBER) && (f->min != 0 || f->max != 0)) {
        double d = json_number_value(v);
        if (d < f->min || (f->is_above_min && d <= f->min))
            return range_error(f, true, err);
        if (d > f->max || is_rounded_above(f, v))
            return range_error(f, false, err);
    }
    return 0;
}

static bool is_off(const cog_field *f, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_TRUE:
        return f->kind == COG_FIELD_BOOL && f->off == 1;
    case JSON_FALSE:
        return f->off == 0;
    case JSON_INTEGER:
    case JSON_REAL:
        return f->kind != COG_FIELD_ANY && json_number_value(v) == f->off;
    case JSON_ARRAY:
        return f->kind == COG_FIELD_ARRAY && json_array_size(v) == 0;
    case JSON_OBJECT:
        return f->kind == COG_FIELD_OBJECT && json_object_size(v) == 0;
    default:
        return false;
    }
}

static void store(void *dst, const cog_field *f, const json_t *v)
{
    char *at = (char *)dst + f->offset;

    switch (f->kind) {
    case COG_FIELD_BOOL:
        *(bool *)(void *)at = json_is_true(v);
        break;
    case COG_FIELD_INT:
        *(int64_t *)(void *)at =
            json_is_integer(v) ? json_integer_value(v) : (int64_t)json_real_value(v);
        break;
    case COG_FIELD_NUMBER:
        *(double *)(void *)at = json_number_value(v);
        break;
    case COG_FIELD_STRING:
        *(const char **)(void *)at = json_string_value(v);
        break;
    default:
        break;
    }
}

static int read_field(void *dst, const cog_field *f, const json_t *v, cog_api_error *err)
{
    if (!has_kind(v, f->kind))
        return f->use == COG_FIELD_IGNORE
                   ? 0
                   : cog_field_type_error(err, f->name, kind_name[f->kind], v);
    switch (f->use) {
    case COG_FIELD_STORE:
        if (check_range(f, v, err) < 0)
            return COG_EINVAL;
        store(dst, f, v);
        return 0;
    case COG_FIELD_CUSTOM:
        return check_range(f, v, err);
    case COG_FIELD_REFUSE:
        if (is_off(f, v))
            return 0;
        return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, f->name,
                                 "Unsupported parameter: '%s' is not supported yet by this server.",
                                 f->name);
    default:
        return 0;
    }
}

int cog_fields_read(void *dst, const json_t *object, const cog_field_table *table,
                    cog_api_error *err)
{
    for (int i = 0; i < table->n; i++) {
        const json_t *v = json_object_get(object, table->fields[i].name);
        if (!v || json_is_null(v)) {
            if (table->fields[i].is_required)
                return cog_api_error_set(err, COG_API_MISSING, table->fields[i].name,
                                         "Missing required parameter: '%s'.",
                                         table->fields[i].name);
            continue;
        }
        if (read_field(dst, &table->fields[i], v, err) < 0)
            return COG_EINVAL;
    }
    return 0;
}

static bool is_known(const cog_field_table *const *tables, int n_tables, const char *name)
{
    for (int t = 0; t < n_tables; t++) {
        for (int i = 0; i < tables[t]->n; i++) {
            if (strcmp(tables[t]->fields[i].name, name) == 0)
                return true;
        }
    }
    return false;
}

static void add_name(cog_buf *names, const char *name)
{
    if (names->len)
        cog_buf_puts(names, ", ");
    for (int i = 0; name[i] && i < 64; i++) {
        char c = name[i];
        cog_buf_add(names, c > 0x20 && c < 0x7f && c != ',' ? &c : "?", 1);
    }
}

int cog_fields_unknown(cog_buf *names, const json_t *object, const cog_field_table *const *tables,
                       int n_tables, bool strict, cog_api_error *err)
{
    int found = 0;

    for (void *it = json_object_iter((json_t *)object); it && found < 10;
         it = json_object_iter_next((json_t *)object, it)) {
        const char *name = json_object_iter_key(it);
        char quoted[COG_API_QUOTE];

        if (is_known(tables, n_tables, name))
            continue;
        if (strict)
            return cog_api_error_set(err, COG_API_UNKNOWN_PARAMETER, NULL, "Unknown parameter: %s.",
                                     cog_api_quote(quoted, name, strlen(name)));
        add_name(names, name);
        found++;
    }
    return 0;
}
