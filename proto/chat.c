#include "proto/chat.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/base64.h"
#include "proto/chat_messages.h"
#include "proto/field.h"
#include "proto/json_body.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(cog_chat, member)
#define INT(member, lo, hi)                                                                \
    {                                                                                      \
        .name = #member, .kind = COG_FIELD_INT, .offset = AT(member), .min = lo, .max = hi \
    }
_Static_assert(COG_CHAT_MAX_MESSAGES == 256 && COG_CHAT_MAX_BATCH == 64,
               "the schemas of messages have it");

/* All but messages. */
#define FIELDS_BESIDE                                                                              \
    INT(max_completion_tokens, 1, COG_PARAMS_MAX_TOKENS),                                          \
        INT(max_tokens, 1, COG_PARAMS_MAX_TOKENS),                                                 \
        { .name = "logprobs", .kind = COG_FIELD_BOOL, .offset = AT(logprobs) },                    \
        INT(top_logprobs, 0, 20), INT(prompt_logprobs, -1, 20),                                    \
        COG_CUSTOM_FIELD("template_version", COG_FIELD_STRING,                                     \
                         "'enum':['chat','vqa','base',null]"),                                     \
        COG_CUSTOM_FIELD("chat_template_kwargs", COG_FIELD_OBJECT,                                 \
                         "'properties':{'template_version':{'enum':['chat','vqa','base',null]}}"), \
        COG_CUSTOM_FIELD("grounding", COG_FIELD_ANY,                                               \
                         "'anyOf':[{'type':'boolean'},{'type':'object','properties':"              \
                         "{'format':{'enum':['pixel','norm1000','norm1',null]}}}]"),               \
        { .name = "return_token_ids",                                                              \
          .kind = COG_FIELD_BOOL,                                                                  \
          .offset = AT(params.return_token_ids) },                                                 \
        COG_CUSTOM_FIELD("tools", COG_FIELD_ARRAY, ""),                                            \
        COG_CUSTOM_FIELD("tool_choice", COG_FIELD_ANY, "'enum':['none','auto']"),                  \
        COG_CUSTOM_FIELD("functions", COG_FIELD_ARRAY, ""),                                        \
        COG_CUSTOM_FIELD("function_call", COG_FIELD_ANY, "'enum':['none','auto']"),                \
        COG_CUSTOM_FIELD("modalities", COG_FIELD_ARRAY, "'items':{'const':'text'}"),               \
        COG_REFUSED_FIELD("audio", COG_FIELD_ANY, 0),                                              \
        COG_REFUSED_FIELD("web_search_options", COG_FIELD_ANY, 0),                                 \
        COG_CUSTOM_FIELD("add_generation_prompt", COG_FIELD_BOOL, ""),                             \
        { .name = "continue_final_message",                                                        \
          .kind = COG_FIELD_BOOL,                                                                  \
          .offset = AT(continue_final) },                                                          \
        COG_REFUSED_FIELD("echo", COG_FIELD_BOOL, 0),                                              \
        COG_REFUSED_FIELD("chat_template", COG_FIELD_ANY, COG_NO_HARMLESS_VALUE),                  \
        COG_IGNORED_FIELD("metadata"), COG_IGNORED_FIELD("reasoning_effort"),                      \
        COG_IGNORED_FIELD("verbosity"), COG_IGNORED_FIELD("prediction"),                           \
        COG_IGNORED_FIELD("parallel_tool_calls"), COG_IGNORED_FIELD("add_special_tokens"),         \
        COG_IGNORED_FIELD("mm_processor_kwargs"), COG_IGNORED_FIELD("media_io_kwargs")

static const cog_field fields[] = {
    { .name = "messages",
      .kind = COG_FIELD_ARRAY,
      .use = COG_FIELD_CUSTOM,
      .schema = "'minItems':1,'maxItems':256,'items':@Message",
      .is_required = true },
    FIELDS_BESIDE,
};
static const cog_field batch_fields[] = {
    { .name = "messages",
      .kind = COG_FIELD_ARRAY,
      .use = COG_FIELD_CUSTOM,
      .schema = "'minItems':1,'maxItems':64,'items':{'description':'A conversation. One that is "
                "not as this says has an error in its choice.',"
                "'x-alone':{'type':'array','minItems':1,'maxItems':256,'items':@Message}}",
      .is_required = true },
    FIELDS_BESIDE,
};

const cog_field_table cog_chat_fields = { fields, sizeof(fields) / sizeof(fields[0]) };
const cog_field_table cog_chat_batch_fields = { batch_fields,
                                                sizeof(batch_fields) / sizeof(batch_fields[0]) };

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
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
int cog_chat_tools_read(const cog_chat *c, const char *list, const char *choice, cog_api_error *err)
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

static int check_grounding(const cog_chat *c, cog_api_error *err)
{
    if (c->grounding == COG_GROUNDING_OFF || c->picture.kind != COG_PICTURE_NONE)
        return 0;
    return cog_api_error_set(err, COG_API_INVALID_VALUE, "grounding",
                             "Invalid 'grounding': it needs a picture, and the request has none.");
}

int cog_chat_form_read(cog_chat *c, cog_api_error *err)
{
    const json_t *kwargs = get(c->root, "chat_template_kwargs");

    if (read_form(c, kwargs ? get(kwargs, "template_version") : NULL,
                  "chat_template_kwargs.template_version", err) < 0)
        return COG_EINVAL;
    return read_form(c, get(c->root, "template_version"), "template_version", err);
}

static int read_custom(cog_chat *c, cog_api_error *err)
{
    if (c->top_logprobs && !c->logprobs)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "top_logprobs",
                                 "Invalid 'top_logprobs': it needs 'logprobs' to be true.");
    if (c->prompt_logprobs >= -1 && c->params.stream)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "prompt_logprobs",
                                 "Invalid 'prompt_logprobs': it cannot be used with 'stream'.");
    if (cog_chat_form_read(c, err) < 0 || cog_chat_tools_read(c, "tools", "tool_choice", err) < 0 ||
        cog_chat_tools_read(c, "functions", "function_call", err) < 0 ||
        read_modalities(c, err) < 0)
        return COG_EINVAL;
    return cog_grounding_read_field(&c->grounding, get(c->root, "grounding"), err);
}

/* How the prompt ends. */
static int read_ending(cog_chat *c, cog_api_error *err)
{
    const json_t *adds = get(c->root, "add_generation_prompt");

    c->is_open = json_is_false(adds) && !c->continue_final;
    if (!c->continue_final || !json_is_true(adds))
        return 0;
    return cog_api_error_set(err, COG_API_INVALID_VALUE, "continue_final_message",
                             "Invalid 'continue_final_message': it cannot be true together with "
                             "'add_generation_prompt'.");
}

int cog_chat_init(cog_chat *out, const char *body, size_t len, const cog_chat_options *opt,
                  cog_api_error *err)
{
    *out = (cog_chat){ .params = cog_params_defaults, .field = "messages", .prompt_logprobs = -2 };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, opt->nonce, err) < 0 ||
        cog_params_read(&out->params, out->root, opt->max_n, opt->vocab, err) < 0 ||
        cog_fields_read(out, out->root, &cog_chat_fields, err) < 0)
        return COG_EINVAL;
    if (read_ending(out, err) < 0 ||
        cog_chat_messages_read(out, get(out->root, "messages"), opt, err) < 0 ||
        read_custom(out, err) < 0 || check_grounding(out, err) < 0)
        return COG_EINVAL;
    return cog_fields_unknown(
        &out->ignored, out->root,
        (const cog_field_table *const[]){ &cog_params_fields, &cog_chat_fields }, 2, opt->strict,
        err);
}

/* ------------------------------------------------------------------ several conversations */

static int check_batch(const cog_chat *c, int max, cog_api_error *err)
{
    size_t n = json_array_size(get(c->root, "messages"));

    if (c->params.stream)
        return cog_api_error_set(err, COG_API_UNSUPPORTED_VALUE, "stream",
                                 "Unsupported value: several conversations are not streamed.");
    if (n == 0)
        return cog_api_error_set(err, COG_API_ARRAY_EMPTY, "messages",
                                 "Invalid 'messages': the array must not be empty.");
    if (n > (size_t)max)
        return cog_api_error_set(err, COG_API_ARRAY_LONG, "messages",
                                 "Invalid 'messages': at most %d conversations are allowed, got "
                                 "%zu.",
                                 max, n);
    return 0;
}

int cog_chat_batch_init(cog_chat *out, int *n, const char *body, size_t len, int max,
                        const cog_chat_options *opt, cog_api_error *err)
{
    *out = (cog_chat){ .params = cog_params_defaults, .field = "messages", .prompt_logprobs = -2 };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, opt->nonce, err) < 0 ||
        cog_params_read(&out->params, out->root, 1, opt->vocab, err) < 0 ||
        cog_fields_read(out, out->root, &cog_chat_batch_fields, err) < 0 ||
        check_batch(out, max, err) < 0 || read_ending(out, err) < 0 || read_custom(out, err) < 0 ||
        cog_fields_unknown(
            &out->ignored, out->root,
            (const cog_field_table *const[]){ &cog_params_fields, &cog_chat_batch_fields }, 2,
            opt->strict, err) < 0)
        return COG_EINVAL;
    *n = (int)json_array_size(get(out->root, "messages"));
    return 0;
}

int cog_chat_batch_read(cog_chat *out, const cog_chat *batch, int i, const cog_chat_options *opt,
                        cog_api_error *err)
{
    const json_t *messages = json_array_get(get(batch->root, "messages"), (size_t)i);
    int rc;

    *out = (cog_chat){ .scan = batch->scan,
                       .max_completion_tokens = cog_chat_max_tokens(batch),
                       .form = batch->form,
                       .logprobs = batch->logprobs,
                       .top_logprobs = batch->top_logprobs,
                       .prompt_logprobs = batch->prompt_logprobs,
                       .grounding = batch->grounding,
                       .continue_final = batch->continue_final,
                       .is_open = batch->is_open };
    snprintf(out->field, sizeof(out->field), "messages[%d]", i);
    if (json_is_array(messages))
        rc = cog_chat_messages_read(out, messages, opt, err);
    else
        rc = cog_field_type_error(err, out->field, "an array of messages", messages);
    out->scan = (cog_json_scan){ 0 }; /* the batch's */
    return rc < 0 ? rc : check_grounding(out, err);
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
    cog_params_fini(&c->params);
    cog_buf_fini(&c->ignored);
    cog_json_scan_fini(&c->scan);
    json_decref(c->root);
    *c = (cog_chat){ 0 };
}

int64_t cog_chat_max_tokens(const cog_chat *c)
{
    if (c->max_completion_tokens)
        return c->max_completion_tokens;
    return c->max_tokens ? c->max_tokens : c->params.n_predict;
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
