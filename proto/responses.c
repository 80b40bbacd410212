#include "proto/responses.h"

#include "base/err.h"
#include "proto/chat_messages.h"
#include "proto/json_body.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(COG_RESPONSES_MAX_METADATA == 16 && COG_RESPONSES_MAX_KEY == 64 &&
                   COG_RESPONSES_MAX_VALUE == 512 && COG_CHAT_MAX_MESSAGES == 256,
               "the schemas below have them");

#define SCHEMA   "{'type':['object','boolean','string','null']}"
#define LOGPROBS "message.output_text.logprobs"

static const cog_field fields[] = {
    { .name = "input",
      .kind = COG_FIELD_ANY,
      .use = COG_FIELD_CUSTOM,
      .schema = "'anyOf':[{'type':'string'},"
                "{'type':'array','minItems':1,'maxItems':256,'items':@InputItem}]",
      .is_required = true },
    COG_CUSTOM_FIELD("instructions", COG_FIELD_STRING, ""),
    { .name = "max_output_tokens",
      .kind = COG_FIELD_INT,
      .offset = offsetof(cog_chat, max_completion_tokens),
      .min = 1,
      .max = COG_PARAMS_MAX_TOKENS },
    { .name = "top_logprobs",
      .kind = COG_FIELD_INT,
      .offset = offsetof(cog_chat, top_logprobs),
      .max = 20 },
    COG_CUSTOM_FIELD("include", COG_FIELD_ARRAY,
                     "'items':{'enum':['message.output_text.logprobs',"
                     "'message.input_image.image_url','reasoning.encrypted_content',"
                     "'file_search_call.results','web_search_call.results',"
                     "'web_search_call.action.sources','computer_call_output.output.image_url',"
                     "'code_interpreter_call.outputs']}"),
    COG_CUSTOM_FIELD(
        "text", COG_FIELD_OBJECT,
        "'properties':{'format':{'type':['object','null'],'required':['type'],'properties':{"
        "'type':{'enum':['text','json_object','json_schema']},"
        "'name':{'type':'string','pattern':'^[A-Za-z0-9_-]{1,64}$'},'schema':" SCHEMA "}}}"),
    COG_CUSTOM_FIELD("metadata", COG_FIELD_OBJECT,
                     "'maxProperties':16,'propertyNames':{'maxLength':64},"
                     "'additionalProperties':{'type':'string','maxLength':512}"),
    COG_CUSTOM_FIELD("truncation", COG_FIELD_STRING, "'enum':['disabled',null]"),
    COG_CUSTOM_FIELD("template_version", COG_FIELD_STRING, "'enum':['chat','vqa','base',null]"),
    COG_CUSTOM_FIELD("chat_template_kwargs", COG_FIELD_OBJECT,
                     "'properties':{'template_version':{'enum':['chat','vqa','base',null]}}"),

    COG_CUSTOM_FIELD("tools", COG_FIELD_ARRAY, ""),
    COG_CUSTOM_FIELD("tool_choice", COG_FIELD_ANY, "'enum':['none','auto']"),
    COG_REFUSED_FIELD("background", COG_FIELD_BOOL, 0),
    COG_REFUSED_FIELD("return_token_ids", COG_FIELD_BOOL, 0),
    COG_REFUSED_FIELD("prompt_logprobs", COG_FIELD_INT, COG_NO_HARMLESS_VALUE),
    COG_REFUSED_FIELD("previous_response_id", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),
    COG_REFUSED_FIELD("conversation", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),
    COG_REFUSED_FIELD("prompt", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),

    COG_IGNORED_FIELD("reasoning"),
    COG_IGNORED_FIELD("parallel_tool_calls"),
    COG_IGNORED_FIELD("max_tool_calls"),
};

const cog_field_table cog_responses_fields = { fields, sizeof(fields) / sizeof(fields[0]) };

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
}

/* ------------------------------------------------------------------ fields */

/* Says what is done instead, before the table refuses them. */
static int refuse_state(const json_t *root, cog_api_error *err)
{
    static const struct {
        const char *name, *instead;
    } fields_of_state[] = {
        { "previous_response_id", "send the whole conversation in 'input'" },
        { "conversation", "send the whole conversation in 'input'" },
        { "prompt", "send the prompt itself in 'instructions' and 'input'" },
    };

    for (size_t i = 0; i < sizeof(fields_of_state) / sizeof(fields_of_state[0]); i++) {
        const char *name = fields_of_state[i].name;

        if (get(root, name))
            return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, name,
                                     "Unsupported parameter: this server keeps nothing of a "
                                     "request, so there is no '%s'; %s.",
                                     name, fields_of_state[i].instead);
    }
    if (json_is_true(get(root, "background")))
        return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, "background",
                                 "Unsupported parameter: this server keeps no answers, so "
                                 "nothing is answered in the background.");
    return 0;
}

static bool is_one_of(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; word && i < n; i++) {
        if (strcmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

/* What is to be told beside the text. This server has only log-probabilities: it calls no tools
 * and does not repeat its input. */
static int read_include(cog_chat *c, cog_api_error *err)
{
    static const char *const known[] = {
        LOGPROBS,
        "message.input_image.image_url",
        "reasoning.encrypted_content",
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    };
    const json_t *list = get(c->root, "include"), *v;
    size_t i;

    json_array_foreach(list, i, v)
    {
        char param[32];

        snprintf(param, sizeof(param), "include[%zu]", i);
        if (!json_is_string(v))
            return cog_field_type_error(err, param, "a string", v);
        if (!is_one_of(json_string_value(v), known, sizeof(known) / sizeof(known[0])))
            return cog_api_error_set(err, COG_API_INVALID_VALUE, param,
                                     "Invalid '%s': it is none of the names that the API has.",
                                     param);
        c->logprobs |= strcmp(json_string_value(v), LOGPROBS) == 0;
    }
    if (c->top_logprobs && !c->logprobs)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "top_logprobs",
                                 "Invalid 'top_logprobs': it needs '" LOGPROBS "' in 'include'.");
    return 0;
}

static int read_metadata(const cog_chat *c, cog_api_error *err)
{
    json_t *all = json_object_get(c->root, "metadata"), *v;
    const char *name;

    if (json_object_size(all) > COG_RESPONSES_MAX_METADATA)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "metadata",
                                 "Invalid 'metadata': at most %d members are allowed.",
                                 COG_RESPONSES_MAX_METADATA);
    json_object_foreach(all, name, v)
    {
        if (!json_is_string(v))
            return cog_field_type_error(err, "metadata", "strings as values", v);
        if (strlen(name) > COG_RESPONSES_MAX_KEY ||
            json_string_length(v) > COG_RESPONSES_MAX_VALUE ||
            cog_json_scan_find(&c->scan, json_string_value(v)))
            return cog_api_error_set(err, COG_API_STRING_LONG, "metadata",
                                     "Invalid 'metadata': names may have %d bytes, values %d.",
                                     COG_RESPONSES_MAX_KEY, COG_RESPONSES_MAX_VALUE);
    }
    return 0;
}

static int read_text(cog_chat *c, cog_api_error *err)
{
    const json_t *text = get(c->root, "text"), *format = text ? get(text, "format") : NULL;

    if (format && !json_is_object(format))
        return cog_field_type_error(err, "text.format", "an object", format);
    return cog_structured_read_text(&c->params.structured, format, err);
}

static int read_truncation(const cog_chat *c, cog_api_error *err)
{
    const char *word = json_string_value(get(c->root, "truncation"));
    char quoted[COG_API_QUOTE];

    if (!word || strcmp(word, "disabled") == 0)
        return 0;
    return cog_api_error_set(err, COG_API_UNSUPPORTED_VALUE, "truncation",
                             "Unsupported value: 'truncation' may only be 'disabled', and is %s.",
                             cog_api_quote(quoted, word, strlen(word)));
}

/* ------------------------------------------------------------------ what is repeated */

static void write_value(cog_buf *echo, const char *before, const json_t *v, const char *otherwise)
{
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    cog_buf_puts(echo, before);
    cog_buf_puts(echo, text ? text : otherwise);
    free(text);
}

static void repeat(cog_buf *echo, const char *name, const json_t *root, const char *otherwise)
{
    char before[32];

    snprintf(before, sizeof(before), ",\"%s\":", name);
    write_value(echo, before, get(root, name), otherwise);
}

static void repeat_all(cog_buf *echo, const cog_chat *c)
{
    const json_t *text = get(c->root, "text");

    repeat(echo, "instructions", c->root, "null");
    repeat(echo, "max_output_tokens", c->root, "null");
    repeat(echo, "metadata", c->root, "{}");
    repeat(echo, "temperature", c->root, "1");
    repeat(echo, "top_p", c->root, "1");
    repeat(echo, "top_logprobs", c->root, "0");
    repeat(echo, "tool_choice", c->root, "\"auto\"");
    repeat(echo, "user", c->root, "null");
    write_value(echo, ",\"text\":{\"format\":", text ? get(text, "format") : NULL,
                "{\"type\":\"text\"}");
    cog_buf_puts(echo, "}");
}

/* ------------------------------------------------------------------ the whole */

int cog_responses_init(cog_chat *out, cog_buf *echo, const char *body, size_t len,
                       const cog_chat_options *opt, cog_api_error *err)
{
    *out = (cog_chat){ .params = cog_params_defaults, .field = "input", .prompt_logprobs = -2 };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, opt->nonce, err) < 0 ||
        refuse_state(out->root, err) < 0 ||
        cog_params_read(&out->params, out->root, 1, opt->vocab, err) < 0 ||
        cog_fields_read(out, out->root, &cog_responses_fields, err) < 0 ||
        cog_chat_input_read(out, get(out->root, "instructions"), get(out->root, "input"), opt,
                            err) < 0 ||
        read_include(out, err) < 0 || read_metadata(out, err) < 0 || read_text(out, err) < 0 ||
        read_truncation(out, err) < 0 || cog_chat_form_read(out, err) < 0 ||
        cog_chat_tools_read(out, "tools", "tool_choice", err) < 0)
        return COG_EINVAL;
    repeat_all(echo, out);
    if (strstr(echo->data, opt->nonce)) /* lifted, as only a picture's may be: see json_scan.h */
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "text.format",
                                 "Invalid 'text.format': it holds a picture.");
    return cog_fields_unknown(
        &out->ignored, out->root,
        (const cog_field_table *const[]){ &cog_params_fields, &cog_responses_fields }, 2,
        opt->strict, err);
}
