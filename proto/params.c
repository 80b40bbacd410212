#include "proto/params.h"

#include "base/err.h"
#include "proto/field.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(cog_params, member)
#define INT(member, lo, hi)                                                                \
    {                                                                                      \
        .name = #member, .kind = COG_FIELD_INT, .offset = AT(member), .min = lo, .max = hi \
    }
#define NUM(member, lo, hi)                                                                   \
    {                                                                                         \
        .name = #member, .kind = COG_FIELD_NUMBER, .offset = AT(member), .min = lo, .max = hi \
    }
#define BOOL(text, member)                                         \
    {                                                              \
        .name = text, .kind = COG_FIELD_BOOL, .offset = AT(member) \
    }
#define TEXT(member, most, more)                                                      \
    {                                                                                 \
        .name = #member, .kind = COG_FIELD_STRING, .offset = AT(member), .max = most, \
        .schema = more                                                                \
    }
/* a JSON schema; what is taken of them is docs/api.md's */
#define SCHEMA  "{'type':['object','boolean','string','null']}"
#define CHOICES "{'type':'array','minItems':1,'items':{'type':'string','minLength':1}}"
_Static_assert(COG_PARAMS_MAX_STOPS == 16, "stop's schema has it");
_Static_assert(COG_MAX_TOKEN_BIASES == 1024 && COG_MAX_TOKEN_STOPS == 64, "their schemas have it");
#define MAX_TOP_K 2147483647.0

const cog_params cog_params_defaults = {
    .temperature = 1,
    .top_p = 1,
    .repetition_penalty = 1,
    .n = 1,
    .cache_prompt = true,
    .skip_special_tokens = true,
};

static const cog_field fields[] = {
    TEXT(model, 0, NULL),
    INT(n_predict, 1, COG_PARAMS_MAX_TOKENS),
    NUM(temperature, 0, 2),
    NUM(top_p, 0, 1),
    INT(n, 1, 128),
    COG_CUSTOM_FIELD("stop", COG_FIELD_ANY,
                     "'anyOf':[@StopString,{'type':'array','maxItems':16,"
                     "'items':@StopString}]"),
    INT(seed, 0, 0),
    BOOL("stream", stream),
    BOOL("return_metrics", return_metrics),
    COG_CUSTOM_FIELD("stream_options", COG_FIELD_OBJECT,
                     "'properties':{'include_usage':{'type':['boolean','null']},"
                     "'continuous_usage_stats':{'type':['boolean','null']}}"),
    NUM(presence_penalty, -2, 2),
    NUM(frequency_penalty, -2, 2),
    COG_CUSTOM_FIELD("logit_bias", COG_FIELD_OBJECT,
                     "'maxProperties':1024,'propertyNames':{'pattern':'^(0|[1-9][0-9]{0,9})$'},"
                     "'additionalProperties':{'type':'number','minimum':-100,'maximum':100}"),
    COG_CUSTOM_FIELD(
        "response_format", COG_FIELD_OBJECT,
        "'required':['type'],'properties':{'type':{'enum':['text','json_object','json_schema']},"
        "'schema':" SCHEMA ",'json_schema':{'type':['object','null'],'required':['name'],"
        "'properties':{'name':{'type':'string','pattern':'^[A-Za-z0-9_-]{1,64}$'},"
        "'schema':" SCHEMA "}}}"),
    TEXT(user, 512, NULL),

    INT(top_k, -1, MAX_TOP_K),
    NUM(min_p, 0, 1),
    { .name = "repetition_penalty",
      .kind = COG_FIELD_NUMBER,
      .offset = AT(repetition_penalty),
      .max = 2,
      .is_above_min = true },
    TEXT(request_id, 128, "'pattern':'^[A-Za-z0-9._:-]{1,128}$'"),
    TEXT(cache_salt, COG_PARAMS_MAX_SALT_LEN, "'minLength':1"),
    BOOL("cache_prompt", cache_prompt),
    INT(priority, -100, 100),
    COG_CUSTOM_FIELD("stop_token_ids", COG_FIELD_ARRAY, "'maxItems':64,'items':@TokenId"),
    COG_CUSTOM_FIELD("allowed_token_ids", COG_FIELD_ARRAY, "'minItems':1,'items':@TokenId"),
    COG_CUSTOM_FIELD("structured_outputs", COG_FIELD_OBJECT,
                     "'minProperties':1,'properties':{'json':" SCHEMA
                     ",'regex':{'type':['string','null']},"
                     "'choice':{'anyOf':[" CHOICES ",{'type':'null'}]},"
                     "'boxes':{'type':['boolean','null']}},'additionalProperties':{'type':'null'}"),
    COG_CUSTOM_FIELD("guided_json", COG_FIELD_ANY, "'anyOf':[" SCHEMA "]"),
    COG_CUSTOM_FIELD("guided_regex", COG_FIELD_STRING, ""),
    COG_CUSTOM_FIELD("guided_choice", COG_FIELD_ARRAY,
                     "'minItems':1,'items':{'type':'string','minLength':1}"),
    COG_CUSTOM_FIELD("json_schema", COG_FIELD_ANY, "'anyOf':[" SCHEMA "]"),
    COG_CUSTOM_FIELD("regex", COG_FIELD_STRING, ""),
    COG_CUSTOM_FIELD("bad_words", COG_FIELD_ARRAY,
                     "'maxItems':64,'items':{'type':'string','minLength':1,'maxLength':128}"),
    INT(min_tokens, 0, COG_PARAMS_MAX_TOKENS),
    INT(min_new_tokens, 0, COG_PARAMS_MAX_TOKENS),
    BOOL("ignore_eos", ignore_eos),
    BOOL("include_stop_str_in_output", keep_stop),
    BOOL("no_stop_trim", no_stop_trim),
    BOOL("skip_special_tokens", skip_special_tokens),

    COG_REFUSED_FIELD("return_tokens_as_token_ids", COG_FIELD_BOOL, 0),
    COG_REFUSED_FIELD("use_beam_search", COG_FIELD_BOOL, 0),
    COG_REFUSED_FIELD("best_of", COG_FIELD_INT, 1),
    COG_REFUSED_FIELD("guided_grammar", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),
    COG_REFUSED_FIELD("ebnf", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),
    COG_REFUSED_FIELD("grammar", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),

    COG_IGNORED_FIELD("store"),
    COG_IGNORED_FIELD("service_tier"),
    COG_IGNORED_FIELD("safety_identifier"),
    COG_IGNORED_FIELD("prompt_cache_key"),
    COG_IGNORED_FIELD("prompt_cache_retention"),
    COG_IGNORED_FIELD("prompt_cache_options"),
    COG_IGNORED_FIELD("moderation"),
    COG_IGNORED_FIELD("spaces_between_special_tokens"),
    COG_IGNORED_FIELD("length_penalty"),
};

const cog_field_table cog_params_fields = { fields, sizeof(fields) / sizeof(fields[0]) };

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
}

static int add_stop(cog_params *p, const json_t *v, const char *param, cog_api_error *err)
{
    size_t len;

    if (!json_is_string(v))
        return cog_field_type_error(err, param, "a string", v);
    len = json_string_length(v);
    if (len == 0)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, param,
                                 "Invalid '%s': a stop string must not be empty.", param);
    if (len > COG_PARAMS_MAX_STOP_LEN)
        return cog_api_error_set(err, COG_API_STRING_LONG, param,
                                 "Invalid '%s': at most %d bytes are allowed, got %zu.", param,
                                 COG_PARAMS_MAX_STOP_LEN, len);
    p->stop[p->n_stop++] = json_string_value(v);
    return 0;
}

static int read_stop(cog_params *p, const json_t *root, cog_api_error *err)
{
    const json_t *v = get(root, "stop");
    size_t n;

    if (!v)
        return 0;
    if (json_is_string(v))
        return add_stop(p, v, "stop", err);
    if (!json_is_array(v))
        return cog_field_type_error(err, "stop", "a string or an array of strings", v);
    n = json_array_size(v);
    if (n > COG_PARAMS_MAX_STOPS)
        return cog_api_error_set(err, COG_API_ARRAY_LONG, "stop",
                                 "Invalid 'stop': at most %d strings are allowed, got %zu.",
                                 COG_PARAMS_MAX_STOPS, n);
    for (size_t i = 0; i < n; i++) {
        char param[32];

        snprintf(param, sizeof(param), "stop[%zu]", i);
        if (add_stop(p, json_array_get(v, i), param, err) < 0)
            return COG_EINVAL;
    }
    return 0;
}

static int read_stream_options(cog_params *p, const json_t *root, cog_api_error *err)
{
    static const struct {
        const char *name, *param;
        size_t offset;
    } members[] = {
        { "include_usage", "stream_options.include_usage", AT(include_usage) },
        { "continuous_usage_stats", "stream_options.continuous_usage_stats", AT(continuous_usage) },
    };
    const json_t *v = get(root, "stream_options");

    if (!v)
        return 0;
    if (!p->stream)
        return cog_api_error_set(
            err, COG_API_INVALID_VALUE, "stream_options",
            "Invalid 'stream_options': it is only allowed when 'stream' is true.");
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const json_t *b = get(v, members[i].name);
        if (!b)
            continue;
        if (!json_is_boolean(b))
            return cog_field_type_error(err, members[i].param, "a boolean", b);
        *(bool *)(void *)((char *)p + members[i].offset) = json_is_true(b);
    }
    return 0;
}

int cog_params_read(cog_params *p, const json_t *root, int max_n, int vocab, cog_api_error *err)
{
    if (cog_fields_read(p, root, &cog_params_fields, err) < 0)
        return COG_EINVAL;
    p->has_seed = get(root, "seed") != NULL;
    if (p->n > max_n)
        return cog_api_error_set(err, COG_API_INTEGER_ABOVE, "n",
                                 "Invalid 'n': this server answers with at most %d choices.",
                                 max_n);
    if (p->request_id && !cog_params_is_request_id(p->request_id))
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "request_id",
                                 "Invalid 'request_id': 1 to 128 letters, digits, '.', '_', ':' "
                                 "and '-' are allowed.");
    if (p->cache_salt && !*p->cache_salt)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "cache_salt",
                                 "Invalid 'cache_salt': it must not be empty.");
    if (cog_token_lists_read(&p->tokens, root, vocab, err) < 0 || read_stop(p, root, err) < 0 ||
        read_stream_options(p, root, err) < 0)
        return COG_EINVAL;
    return cog_structured_read(&p->structured, root, err);
}

void cog_params_fini(cog_params *p)
{
    cog_token_lists_fini(&p->tokens);
    cog_structured_fini(&p->structured);
}

bool cog_params_is_request_id(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");

    return len >= 1 && len <= 128 && text[len] == '\0';
}
