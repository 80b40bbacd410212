#include "proto/chat.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/base64.h"
#include "proto/chat_messages.h"
#include "proto/field.h"
#include "proto/json_body.h"

#include <jansson.h>
#include <string.h>

#define AT(member) offsetof(cog_chat, member)
#define INT(name, lo, hi)                                                 \
    {                                                                     \
#name, COG_FIELD_INT, COG_FIELD_STORE, AT(name), lo, hi, false, 0 \
    }
#define NUM(name, lo, hi)                                                    \
    {                                                                        \
#name, COG_FIELD_NUMBER, COG_FIELD_STORE, AT(name), lo, hi, false, 0 \
    }
#define CUSTOM(name, kind)                              \
    {                                                   \
        name, kind, COG_FIELD_CUSTOM, 0, 0, 0, false, 0 \
    }
#define IGNORE(name)                                             \
    {                                                            \
        name, COG_FIELD_ANY, COG_FIELD_IGNORE, 0, 0, 0, false, 0 \
    }
#define REFUSE(name, kind, off)                           \
    {                                                     \
        name, kind, COG_FIELD_REFUSE, 0, 0, 0, false, off \
    }
#define MAX_TOKENS        9007199254740992.0 /* clients send 2^32 - 1 for "no limit" */
#define MAX_TOP_K         2147483647.0
#define NO_HARMLESS_VALUE (-1e300)

static const cog_field fields[] = {
    { "model", COG_FIELD_STRING, COG_FIELD_STORE, AT(model), 0, 0, false, 0 },
    CUSTOM("messages", COG_FIELD_ARRAY),
    INT(max_completion_tokens, 1, MAX_TOKENS),
    INT(max_tokens, 1, MAX_TOKENS),
    INT(n_predict, 1, MAX_TOKENS),
    NUM(temperature, 0, 2),
    NUM(top_p, 0, 1),
    INT(n, 1, 128),
    CUSTOM("stop", COG_FIELD_ANY),
    INT(seed, 0, 0),
    { "stream", COG_FIELD_BOOL, COG_FIELD_STORE, AT(stream), 0, 0, false, 0 },
    { "return_metrics", COG_FIELD_BOOL, COG_FIELD_STORE, AT(return_metrics), 0, 0, false, 0 },
    CUSTOM("stream_options", COG_FIELD_OBJECT),
    REFUSE("logprobs", COG_FIELD_BOOL, 0),
    { "top_logprobs", COG_FIELD_INT, COG_FIELD_CUSTOM, 0, 0, 20, false, 0 },
    NUM(presence_penalty, -2, 2),
    NUM(frequency_penalty, -2, 2),
    REFUSE("logit_bias", COG_FIELD_OBJECT, 0),
    CUSTOM("response_format", COG_FIELD_OBJECT),
    { "user", COG_FIELD_STRING, COG_FIELD_STORE, AT(user), 0, 512, false, 0 },

    INT(top_k, -1, MAX_TOP_K),
    NUM(min_p, 0, 1),
    { "repetition_penalty", COG_FIELD_NUMBER, COG_FIELD_STORE, AT(repetition_penalty), 0, 2, true,
      0 },
    CUSTOM("template_version", COG_FIELD_STRING),
    CUSTOM("chat_template_kwargs", COG_FIELD_OBJECT),
    { "request_id", COG_FIELD_STRING, COG_FIELD_STORE, AT(request_id), 0, 128, false, 0 },
    { "cache_salt", COG_FIELD_STRING, COG_FIELD_STORE, AT(cache_salt), 0, COG_CHAT_MAX_SALT_LEN,
      false, 0 },
    { "cache_prompt", COG_FIELD_BOOL, COG_FIELD_STORE, AT(cache_prompt), 0, 0, false, 0 },
    INT(priority, -100, 100),

    CUSTOM("tools", COG_FIELD_ARRAY),
    CUSTOM("tool_choice", COG_FIELD_ANY),
    CUSTOM("functions", COG_FIELD_ARRAY),
    CUSTOM("function_call", COG_FIELD_ANY),
    CUSTOM("modalities", COG_FIELD_ARRAY),
    REFUSE("audio", COG_FIELD_ANY, 0),
    REFUSE("web_search_options", COG_FIELD_ANY, 0),

    REFUSE("stop_token_ids", COG_FIELD_ARRAY, 0),
    REFUSE("include_stop_str_in_output", COG_FIELD_BOOL, 0),
    REFUSE("no_stop_trim", COG_FIELD_BOOL, 0),
    REFUSE("ignore_eos", COG_FIELD_BOOL, 0),
    REFUSE("min_tokens", COG_FIELD_INT, 0),
    REFUSE("min_new_tokens", COG_FIELD_INT, 0),
    REFUSE("bad_words", COG_FIELD_ARRAY, 0),
    REFUSE("allowed_token_ids", COG_FIELD_ARRAY, 0),
    REFUSE("skip_special_tokens", COG_FIELD_BOOL, 1),
    REFUSE("add_generation_prompt", COG_FIELD_BOOL, 1),
    REFUSE("continue_final_message", COG_FIELD_BOOL, 0),
    REFUSE("echo", COG_FIELD_BOOL, 0),
    REFUSE("prompt_logprobs", COG_FIELD_INT, NO_HARMLESS_VALUE),
    REFUSE("return_token_ids", COG_FIELD_BOOL, 0),
    REFUSE("return_tokens_as_token_ids", COG_FIELD_BOOL, 0),
    REFUSE("use_beam_search", COG_FIELD_BOOL, 0),
    REFUSE("best_of", COG_FIELD_INT, 1),
    REFUSE("grounding", COG_FIELD_ANY, 0),
    REFUSE("chat_template", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("structured_outputs", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("guided_json", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("guided_regex", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("guided_choice", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("guided_grammar", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("json_schema", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("regex", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("ebnf", COG_FIELD_ANY, NO_HARMLESS_VALUE),
    REFUSE("grammar", COG_FIELD_ANY, NO_HARMLESS_VALUE),

    IGNORE("metadata"),
    IGNORE("store"),
    IGNORE("service_tier"),
    IGNORE("safety_identifier"),
    IGNORE("prompt_cache_key"),
    IGNORE("prompt_cache_retention"),
    IGNORE("prompt_cache_options"),
    IGNORE("reasoning_effort"),
    IGNORE("verbosity"),
    IGNORE("prediction"),
    IGNORE("parallel_tool_calls"),
    IGNORE("moderation"),
    IGNORE("spaces_between_special_tokens"),
    IGNORE("add_special_tokens"),
    IGNORE("mm_processor_kwargs"),
    IGNORE("media_io_kwargs"),
    IGNORE("length_penalty"),
};

enum { N_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
}

static int add_stop(cog_chat *c, const json_t *v, const char *param, cog_api_error *err)
{
    size_t len;

    if (!json_is_string(v))
        return cog_field_type_error(err, param, "a string", v);
    len = json_string_length(v);
    if (len == 0)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, param,
                                 "Invalid '%s': a stop string must not be empty.", param);
    if (len > COG_CHAT_MAX_STOP_LEN)
        return cog_api_error_set(err, COG_API_STRING_LONG, param,
                                 "Invalid '%s': at most %d bytes are allowed, got %zu.", param,
                                 COG_CHAT_MAX_STOP_LEN, len);
    c->stop[c->n_stop++] = json_string_value(v);
    return 0;
}

static int read_stop(cog_chat *c, cog_api_error *err)
{
    const json_t *v = get(c->root, "stop");
    size_t n;

    if (!v)
        return 0;
    if (json_is_string(v))
        return add_stop(c, v, "stop", err);
    if (!json_is_array(v))
        return cog_field_type_error(err, "stop", "a string or an array of strings", v);
    n = json_array_size(v);
    if (n > COG_CHAT_MAX_STOPS)
        return cog_api_error_set(err, COG_API_ARRAY_LONG, "stop",
                                 "Invalid 'stop': at most %d strings are allowed, got %zu.",
                                 COG_CHAT_MAX_STOPS, n);
    for (size_t i = 0; i < n; i++) {
        char param[32];

        snprintf(param, sizeof(param), "stop[%zu]", i);
        if (add_stop(c, json_array_get(v, i), param, err) < 0)
            return COG_EINVAL;
    }
    return 0;
}

static int read_stream_options(cog_chat *c, cog_api_error *err)
{
    static const struct {
        const char *name, *param;
        size_t offset;
    } members[] = {
        { "include_usage", "stream_options.include_usage", AT(include_usage) },
        { "continuous_usage_stats", "stream_options.continuous_usage_stats", AT(continuous_usage) },
    };
    const json_t *v = get(c->root, "stream_options");

    if (!v)
        return 0;
    if (!c->stream)
        return cog_api_error_set(
            err, COG_API_INVALID_VALUE, "stream_options",
            "Invalid 'stream_options': it is only allowed when 'stream' is true.");
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const json_t *b = get(v, members[i].name);
        if (!b)
            continue;
        if (!json_is_boolean(b))
            return cog_field_type_error(err, members[i].param, "a boolean", b);
        *(bool *)(void *)((char *)c + members[i].offset) = json_is_true(b);
    }
    return 0;
}

static int read_response_format(const cog_chat *c, cog_api_error *err)
{
    const json_t *v = get(c->root, "response_format");
    const char *type;
    char quoted[COG_API_QUOTE];

    if (!v)
        return 0;
    type = json_string_value(json_object_get(v, "type"));
    if (!type)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "response_format.type",
                                 "Invalid 'response_format': it needs a 'type' of 'text'.");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0)
        return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, "response_format",
                                 "Unsupported parameter: a 'response_format' of type '%s' is not "
                                 "supported yet by this server. Use 'text'.",
                                 type);
    return cog_api_error_set(err, COG_API_INVALID_VALUE, "response_format.type",
                             "Invalid 'response_format.type': %s. The supported value is 'text'.",
                             cog_api_quote(quoted, type, strlen(type)));
}

static int read_form(cog_chat *c, const json_t *v, const char *param, cog_api_error *err)
{
    static const char *const names[] = {
        [COG_CHAT_FORM_CHAT] = "chat", [COG_CHAT_FORM_VQA] = "vqa", [COG_CHAT_FORM_BASE] = "base"
    };
    char quoted[COG_API_QUOTE];

    if (!v)
        return 0;
    if (!json_is_string(v))
        return cog_field_type_error(err, param, "a string", v);
    for (int i = COG_CHAT_FORM_CHAT; i <= COG_CHAT_FORM_BASE; i++) {
        if (strcmp(json_string_value(v), names[i]) == 0) {
            c->form = (cog_chat_form)i;
            return 0;
        }
    }
    return cog_api_error_set(err, COG_API_INVALID_VALUE, param,
                             "Invalid '%s': %s. Supported values are 'chat', 'vqa' and 'base'.",
                             param,
                             cog_api_quote(quoted, json_string_value(v), json_string_length(v)));
}

/* Tools may be listed by agents that always send their list, as long as no call is wanted. */
static int read_tools(const cog_chat *c, const char *list, const char *choice, cog_api_error *err)
{
    const json_t *wanted = get(c->root, choice);
    const char *word = json_string_value(wanted);
    bool has_list = json_array_size(get(c->root, list)) > 0;
    bool is_none = word && strcmp(word, "none") == 0;
    bool is_auto = word && strcmp(word, "auto") == 0;

    if (has_list ? is_none : !wanted || is_none || is_auto)
        return 0;
    return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, list,
                             "Unsupported parameter: this model was not trained to call tools. "
                             "Leave out '%s' or send '%s': 'none'.",
                             list, choice);
}

static int read_modalities(const cog_chat *c, cog_api_error *err)
{
    const json_t *v = get(c->root, "modalities");

    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *word = json_string_value(json_array_get(v, i));
        if (!word || strcmp(word, "text") != 0)
            return cog_api_error_set(err, COG_API_UNSUPPORTED_VALUE, "modalities",
                                     "Unsupported value: 'modalities' may only hold 'text'.");
    }
    return 0;
}

static int read_custom(cog_chat *c, const cog_chat_options *opt, cog_api_error *err)
{
    const json_t *kwargs = get(c->root, "chat_template_kwargs");
    const json_t *top_logprobs = get(c->root, "top_logprobs");

    c->has_seed = get(c->root, "seed") != NULL;
    if (c->n > opt->max_n)
        return cog_api_error_set(err, COG_API_INTEGER_ABOVE, "n",
                                 "Invalid 'n': this server answers with at most %d choices.",
                                 opt->max_n);
    if (top_logprobs && json_number_value(top_logprobs) != 0)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "top_logprobs",
                                 "Invalid 'top_logprobs': it needs 'logprobs' to be true.");
    if (c->request_id && !cog_chat_is_request_id(c->request_id))
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "request_id",
                                 "Invalid 'request_id': 1 to 128 letters, digits, '.', '_', ':' "
                                 "and '-' are allowed.");
    if (c->cache_salt && !*c->cache_salt)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "cache_salt",
                                 "Invalid 'cache_salt': it must not be empty.");
    if (read_stop(c, err) < 0 || read_stream_options(c, err) < 0 ||
        read_response_format(c, err) < 0 ||
        read_form(c, kwargs ? get(kwargs, "template_version") : NULL,
                  "chat_template_kwargs.template_version", err) < 0 ||
        read_form(c, get(c->root, "template_version"), "template_version", err) < 0 ||
        read_tools(c, "tools", "tool_choice", err) < 0 ||
        read_tools(c, "functions", "function_call", err) < 0 || read_modalities(c, err) < 0)
        return COG_EINVAL;
    return 0;
}

int cog_chat_init(cog_chat *out, const char *body, size_t len, const cog_chat_options *opt,
                  cog_api_error *err)
{
    const json_t *messages;

    *out = (cog_chat){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .n = 1, .cache_prompt = true
    };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, opt->nonce, err) < 0 ||
        cog_fields_read(out, out->root, fields, N_FIELDS, err) < 0)
        return COG_EINVAL;
    messages = get(out->root, "messages");
    if (!messages)
        return cog_api_error_set(err, COG_API_MISSING, "messages",
                                 "Missing required parameter: 'messages'.");
    if (cog_chat_messages_read(out, messages, opt, err) < 0 || read_custom(out, opt, err) < 0)
        return COG_EINVAL;
    return cog_fields_unknown(&out->ignored, out->root, fields, N_FIELDS, opt->strict, err);
}

void cog_chat_release(cog_chat *c)
{
    cog_chat_picture picture = c->picture;

    cog_chat_fini(c);
    c->picture.kind = picture.kind;
    c->picture.is_bare = picture.is_bare;
    memcpy(c->picture.param, picture.param, sizeof(picture.param));
}

void cog_chat_fini(cog_chat *c)
{
    for (int i = 0; i < c->n_turns; i++) {
        cog_buf_fini(&c->turns[i].query);
        cog_buf_fini(&c->turns[i].answer);
    }
    cog_free(c->turns);
    cog_free(c->picture.owned);
    cog_buf_fini(&c->ignored);
    cog_json_scan_fini(&c->scan);
    json_decref(c->root);
    *c = (cog_chat){ 0 };
}

int64_t cog_chat_max_tokens(const cog_chat *c)
{
    if (c->max_completion_tokens)
        return c->max_completion_tokens;
    return c->max_tokens ? c->max_tokens : c->n_predict;
}

int cog_chat_picture_room(size_t *room, const cog_chat_picture *p, size_t max_bytes,
                          cog_api_error *err)
{
    if (p->len == 0)
        return cog_api_error_set(err, COG_API_IMAGE_EMPTY, p->param, "The picture has no bytes.");
    if (p->len / 4 * 3 > max_bytes + 2)
        return cog_api_error_set(err, COG_API_IMAGE_FILE_SIZE, p->param,
                                 "The picture's file is larger than the %zu bytes allowed.",
                                 max_bytes);
    *room = cog_base64_room(p->len);
    return 0;
}

int cog_chat_picture_decode(const cog_chat_picture *p, uint8_t *dst, size_t *len,
                            cog_api_error *err)
{
    if (cog_base64_decode(dst, len, p->base64, p->len) == 0)
        return 0;
    if (p->is_bare)
        return cog_api_error_set(err, COG_API_IMAGE_URL, p->param,
                                 "The url is neither a data: URL nor a picture in base64.");
    return cog_api_error_set(err, COG_API_IMAGE_BASE64, p->param,
                             "The picture's data is not valid base64: only the standard "
                             "alphabet, without spaces or line breaks, is accepted.");
}

bool cog_chat_is_request_id(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");

    return len >= 1 && len <= 128 && text[len] == '\0';
}
