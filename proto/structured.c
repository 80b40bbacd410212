#include "proto/structured.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/field.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

enum { MAX_NAME = 64, MAX_WORDS = 64, MAX_WORD = 128 };

typedef struct reader {
    cog_structured *out;
    cog_api_error *err;
} reader;

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
}

static int fail(reader *r, const char *param, const char *why)
{
    return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param, "Invalid '%s': %s.", param, why);
}

/* Only one field may say what answers are. */
static int set(reader *r, cog_structured_kind kind, const char *text, size_t len, const char *param)
{
    const char *first = r->out->param;

    if (r->out->kind != COG_STRUCTURED_NONE)
        return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param,
                                 "Invalid '%s': '%s' says already what form answers have.", param,
                                 first);
    *r->out = (cog_structured){ .kind = kind, .len = len, .param = param };
    if (text)
        r->out->text = cog_strndup(text, len);
    return 0;
}

static int set_text(reader *r, cog_structured_kind kind, const json_t *v, const char *param)
{
    return set(r, kind, json_string_value(v), json_string_length(v), param);
}

/* Stops the writing when there is more than anybody takes. */
static int add_text(const char *bytes, size_t len, void *arg)
{
    cog_buf *text = arg;

    cog_buf_add(text, bytes, len);
    return text->len > COG_STRUCTURED_MAX ? -1 : 0;
}

static int set_json(reader *r, cog_structured_kind kind, const json_t *v, const char *param)
{
    cog_buf text = { 0 };
    int rc;

    json_dump_callback(v, add_text, &text, JSON_COMPACT | JSON_ENCODE_ANY);
    rc = set(r, kind, text.data, text.len, param);
    cog_buf_fini(&text);
    return rc;
}

/* A schema, or a string that has one. */
static int read_schema(reader *r, const json_t *v, const char *param)
{
    if (json_is_string(v))
        return set_text(r, COG_STRUCTURED_SCHEMA, v, param);
    if (!json_is_object(v) && !json_is_boolean(v))
        return cog_field_type_error(r->err, param, "a JSON schema", v);
    return set_json(r, COG_STRUCTURED_SCHEMA, v, param);
}

static int read_regex(reader *r, const json_t *v, const char *param)
{
    if (!json_is_string(v))
        return cog_field_type_error(r->err, param, "a string", v);
    return set_text(r, COG_STRUCTURED_REGEX, v, param);
}

static void take_choice(cog_structured *s, const char *text)
{
    for (int i = 0; i < s->n_choices; i++)
        if (strcmp(s->choice[i], text) == 0)
            return;
    s->choice[s->n_choices++] = cog_strdup(text);
}

static int read_choice(reader *r, const json_t *v, const char *param)
{
    const json_t *one;
    size_t i;

    if (!json_is_array(v))
        return cog_field_type_error(r->err, param, "an array of strings", v);
    if (json_array_size(v) == 0)
        return cog_api_error_set(r->err, COG_API_ARRAY_EMPTY, param,
                                 "Invalid '%s': it must not be empty.", param);
    json_array_foreach(v, i, one)
    {
        if (!json_is_string(one))
            return cog_field_type_error(r->err, param, "an array of strings", one);
        if (json_string_length(one) == 0)
            return fail(r, param, "a choice must not be empty");
    }
    if (set_json(r, COG_STRUCTURED_CHOICE, v, param) < 0)
        return COG_EINVAL;
    r->out->choice = cog_array(char *, json_array_size(v));
    json_array_foreach(v, i, one) take_choice(r->out, json_string_value(one));
    return 0;
}

/* false says as little as null. */
static int read_boxes(reader *r, const json_t *v, const char *param)
{
    if (!json_is_boolean(v))
        return cog_field_type_error(r->err, param, "a boolean", v);
    return json_is_true(v) ? set(r, COG_STRUCTURED_BOXES, NULL, 0, param) : 0;
}

static int read_bad_words(reader *r, const json_t *v, const char *param)
{
    const json_t *one;
    size_t i;

    if (!json_is_array(v))
        return cog_field_type_error(r->err, param, "an array of strings", v);
    if (json_array_size(v) > MAX_WORDS)
        return cog_api_error_set(r->err, COG_API_ARRAY_LONG, param,
                                 "Invalid '%s': at most %d strings are allowed, got %zu.", param,
                                 MAX_WORDS, json_array_size(v));
    json_array_foreach(v, i, one)
    {
        if (!json_is_string(one))
            return cog_field_type_error(r->err, param, "an array of strings", one);
        if (json_string_length(one) == 0)
            return fail(r, param, "a word must not be empty");
        if (json_string_length(one) > MAX_WORD)
            return cog_api_error_set(r->err, COG_API_STRING_LONG, param,
                                     "Invalid '%s': at most %d bytes are allowed, got %zu.", param,
                                     MAX_WORD, json_string_length(one));
    }
    return json_array_size(v) ? set_json(r, COG_STRUCTURED_WITHOUT, v, param) : 0;
}

/* ------------------------------------------------------------------ response_format */

static bool is_name(const char *name)
{
    size_t n = name ? strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789_-")
                    : 0;

    return n >= 1 && n <= MAX_NAME && !name[n];
}

/* The words of a field that has the form of response_format. */
typedef struct format_field {
    const char *param, *type, *schema;
    int (*read_named)(reader *r, const json_t *v);
} format_field;

static int read_named_schema(reader *r, const json_t *v)
{
    const json_t *named = get(v, "json_schema"), *schema;

    if (!named && get(v, "schema"))
        return read_schema(r, get(v, "schema"), "response_format.schema");
    if (!named)
        return cog_api_error_set(r->err, COG_API_MISSING, "response_format.json_schema",
                                 "Missing required parameter: 'response_format.json_schema'.");
    if (!json_is_object(named))
        return cog_field_type_error(r->err, "response_format.json_schema", "an object", named);
    if (!is_name(json_string_value(get(named, "name"))))
        return fail(r, "response_format.json_schema.name",
                    "1 to 64 letters, digits, '_' and '-' are needed");
    schema = get(named, "schema");
    if (schema)
        return read_schema(r, schema, "response_format.json_schema.schema");
    return set(r, COG_STRUCTURED_OBJECT, NULL, 0, "response_format");
}

/* That of a response, which has name and schema beside the type. */
static int read_flat_schema(reader *r, const json_t *v)
{
    const json_t *schema = get(v, "schema");

    if (!is_name(json_string_value(get(v, "name"))))
        return fail(r, "text.format.name", "1 to 64 letters, digits, '_' and '-' are needed");
    if (schema)
        return read_schema(r, schema, "text.format.schema");
    return set(r, COG_STRUCTURED_OBJECT, NULL, 0, "text.format");
}

static int read_format(reader *r, const json_t *v, const format_field *f)
{
    const char *type = v ? json_string_value(get(v, "type")) : "text";
    char quoted[COG_API_QUOTE];

    if (!type)
        return fail(r, f->type, "it must be a string");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_schema") == 0)
        return f->read_named(r, v);
    if (strcmp(type, "json_object") != 0)
        return cog_api_error_set(r->err, COG_API_INVALID_VALUE, f->type,
                                 "Invalid '%s': %s. Supported values are 'text', 'json_object' "
                                 "and 'json_schema'.",
                                 f->type, cog_api_quote(quoted, type, strlen(type)));
    if (get(v, "schema"))
        return read_schema(r, get(v, "schema"), f->schema);
    return set(r, COG_STRUCTURED_OBJECT, NULL, 0, f->param);
}

static const format_field response_format = { "response_format", "response_format.type",
                                              "response_format.schema", read_named_schema };
static const format_field text_format = { "text.format", "text.format.type", "text.format.schema",
                                          read_flat_schema };

/* ------------------------------------------------------------------ the others */

static const struct field {
    const char *name;     /* at the top of a request; NULL: none */
    const char *member;   /* of structured_outputs; NULL: none */
    const char *as_param; /* that member's path */
    int (*read)(reader *r, const json_t *v, const char *param);
} fields[] = {
    { "guided_json", "json", "structured_outputs.json", read_schema },
    { "guided_regex", "regex", "structured_outputs.regex", read_regex },
    { "guided_choice", "choice", "structured_outputs.choice", read_choice },
    { "json_schema", NULL, NULL, read_schema },
    { "regex", NULL, NULL, read_regex },
    { NULL, "boxes", "structured_outputs.boxes", read_boxes },
    { "bad_words", NULL, NULL, read_bad_words },
};

enum { N_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static const struct field *find_member(const char *name)
{
    for (int i = 0; i < N_FIELDS; i++)
        if (fields[i].member && strcmp(fields[i].member, name) == 0)
            return &fields[i];
    return NULL;
}

static int read_structured_outputs(reader *r, const json_t *root)
{
    const json_t *v = get(root, "structured_outputs");
    const char *name;
    json_t *member;
    int n = 0;

    if (!v)
        return 0;
    json_object_foreach((json_t *)v, name, member)
    {
        const struct field *f = find_member(name);
        char quoted[COG_API_QUOTE];

        if (json_is_null(member))
            continue;
        if (!f)
            return cog_api_error_set(r->err, COG_API_UNSUPPORTED_VALUE, "structured_outputs",
                                     "Unsupported value: 'structured_outputs' has %s; supported "
                                     "are 'json', 'regex', 'choice' and 'boxes'.",
                                     cog_api_quote(quoted, name, strlen(name)));
        if (f->read(r, member, f->as_param) < 0)
            return COG_EINVAL;
        n++;
    }
    return n ? 0
             : fail(r, "structured_outputs",
                    "it needs one of 'json', 'regex', 'choice' and 'boxes'");
}

int cog_structured_read(cog_structured *out, const json_t *root, cog_api_error *err)
{
    reader r = { out, err };

    *out = (cog_structured){ 0 };
    if (read_format(&r, get(root, "response_format"), &response_format) < 0 ||
        read_structured_outputs(&r, root) < 0)
        return COG_EINVAL;
    for (int i = 0; i < N_FIELDS; i++) {
        const json_t *v = fields[i].name ? get(root, fields[i].name) : NULL;
        if (v && fields[i].read(&r, v, fields[i].name) < 0)
            return COG_EINVAL;
    }
    return 0;
}

int cog_structured_read_text(cog_structured *out, const json_t *format, cog_api_error *err)
{
    reader r = { out, err };

    return read_format(&r, format, &text_format);
}

void cog_structured_fini(cog_structured *s)
{
    cog_free(s->text);
    for (int i = 0; i < s->n_choices; i++)
        cog_free(s->choice[i]);
    cog_free(s->choice);
    *s = (cog_structured){ 0 };
}
