#include "proto/completion.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/field.h"
#include "proto/json_body.h"
#include "proto/tokenize.h"

#include <jansson.h>
#include <stdio.h>

#define AT(member) offsetof(cog_completion, member)

_Static_assert(COG_COMPLETION_MAX_PROMPTS == 64, "the schema of prompt has it");

static const cog_field fields[] = {
    { .name = "prompt",
      .kind = COG_FIELD_ANY,
      .use = COG_FIELD_CUSTOM,
      .schema = "'anyOf':[{'type':'string'},"
                "{'type':'array','minItems':1,'maxItems':64,'items':{'type':'string'}},"
                "{'type':'array','minItems':1,'items':@TokenId},"
                "{'type':'array','minItems':1,'maxItems':64,'items':{'type':'array','minItems':1,"
                "'items':@TokenId}}]",
      .is_required = true },
    { .name = "max_tokens",
      .kind = COG_FIELD_INT,
      .offset = AT(max_tokens),
      .max = COG_PARAMS_MAX_TOKENS },
    { .name = "echo", .kind = COG_FIELD_BOOL, .offset = AT(echo) },
    { .name = "suffix",
      .kind = COG_FIELD_STRING,
      .use = COG_FIELD_CUSTOM,
      .schema = "'maxLength':0" },
    { .name = "logprobs", .kind = COG_FIELD_INT, .offset = AT(logprobs), .max = 20 },
    { .name = "prompt_logprobs",
      .kind = COG_FIELD_INT,
      .offset = AT(prompt_logprobs),
      .min = -1,
      .max = 20 },
    { .name = "return_token_ids", .kind = COG_FIELD_BOOL, .offset = AT(params.return_token_ids) },
    COG_IGNORED_FIELD("metadata"),
    { .name = "add_special_tokens", .kind = COG_FIELD_BOOL, .use = COG_FIELD_REFUSE, .off = 1 },
};

const cog_field_table cog_completion_fields = { fields, sizeof(fields) / sizeof(fields[0]) };

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
}

/* ------------------------------------------------------------------ prompts */

static int refuse_empty(const char *param, cog_api_error *err)
{
    return cog_api_error_set(err, COG_API_ARRAY_EMPTY, param,
                             "Invalid '%s': the array must not be empty.", param);
}

static void take_text(cog_completion_prompt *p, const json_t *v)
{
    p->text = json_string_value(v);
    p->text_len = json_string_length(v);
}

static int take_tokens(cog_completion_prompt *p, const json_t *v, int vocab, cog_api_error *err)
{
    size_t n = json_array_size(v);

    if (n == 0)
        return refuse_empty(p->param, err);
    p->tokens = cog_array(int32_t, n);
    p->n_tokens = (int)n;
    return cog_tokens_read(p->tokens, v, p->param, vocab, err);
}

/* A list of texts, or of lists of ids: all as the first. */
static int read_list(cog_completion *c, const json_t *list, const cog_completion_options *opt,
                     cog_api_error *err)
{
    size_t n = json_array_size(list);
    bool is_text = json_is_string(json_array_get(list, 0));

    if (n > (size_t)opt->max_prompts)
        return cog_api_error_set(err, COG_API_ARRAY_LONG, "prompt",
                                 "Invalid 'prompt': at most %d prompts are allowed, got %zu.",
                                 opt->max_prompts, n);
    c->prompts = cog_array(cog_completion_prompt, n);
    for (size_t i = 0; i < n; i++) {
        cog_completion_prompt *p = &c->prompts[c->n_prompts++];
        const json_t *v = json_array_get(list, i);

        snprintf(p->param, sizeof(p->param), "prompt[%zu]", i);
        if (is_text ? !json_is_string(v) : !json_is_array(v))
            return cog_field_type_error(err, p->param,
                                        is_text ? "a string, as the one before it"
                                                : "a string or an array of token ids",
                                        v);
        if (is_text)
            take_text(p, v);
        else if (take_tokens(p, v, opt->vocab, err) < 0)
            return COG_EINVAL;
    }
    return 0;
}

static int read_prompts(cog_completion *c, const cog_completion_options *opt, cog_api_error *err)
{
    const json_t *v = get(c->root, "prompt");
    bool is_text = json_is_string(v);

    if (!is_text && !json_is_array(v))
        return cog_field_type_error(err, "prompt", "a string or an array", v);
    if (!is_text && json_array_size(v) == 0)
        return refuse_empty("prompt", err);
    if (!is_text && !json_is_number(json_array_get(v, 0)))
        return read_list(c, v, opt, err);
    c->prompts = cog_array(cog_completion_prompt, 1);
    c->n_prompts = 1;
    snprintf(c->prompts[0].param, sizeof(c->prompts[0].param), "prompt");
    if (!is_text)
        return take_tokens(&c->prompts[0], v, opt->vocab, err);
    take_text(&c->prompts[0], v);
    return 0;
}

/* ------------------------------------------------------------------ the whole */

static int check(const cog_completion *c, cog_api_error *err)
{
    if (json_string_length(get(c->root, "suffix")) > 0)
        return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, "suffix",
                                 "Unsupported parameter: this model cannot write what stands "
                                 "before a 'suffix'.");
    if (c->max_tokens == 0 && !c->echo)
        return cog_api_error_set(err, COG_API_INTEGER_BELOW, "max_tokens",
                                 "Invalid 'max_tokens': must be above or equal to 1, or 0 "
                                 "together with 'echo'.");
    if (c->logprobs >= 0 && c->echo && c->params.stream)
        return cog_api_error_set(err, COG_API_UNSUPPORTED_PARAMETER, "logprobs",
                                 "Unsupported parameter: 'logprobs' is not supported together with "
                                 "'echo' and 'stream'.");
    if (c->prompt_logprobs >= -1 && c->params.stream)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "prompt_logprobs",
                                 "Invalid 'prompt_logprobs': it cannot be used with 'stream'.");
    return 0;
}

int cog_completion_init(cog_completion *out, const char *body, size_t len,
                        const cog_completion_options *opt, cog_api_error *err)
{
    *out = (cog_completion){
        .params = cog_params_defaults, .max_tokens = -1, .logprobs = -1, .prompt_logprobs = -2
    };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, opt->nonce, err) < 0 ||
        cog_params_read(&out->params, out->root, opt->max_n, opt->vocab, err) < 0 ||
        cog_fields_read(out, out->root, &cog_completion_fields, err) < 0 || check(out, err) < 0 ||
        read_prompts(out, opt, err) < 0)
        return COG_EINVAL;
    return cog_fields_unknown(
        &out->ignored, out->root,
        (const cog_field_table *const[]){ &cog_params_fields, &cog_completion_fields }, 2,
        opt->strict, err);
}

void cog_completion_fini(cog_completion *c)
{
    for (int i = 0; i < c->n_prompts; i++)
        cog_free(c->prompts[i].tokens);
    cog_free(c->prompts);
    cog_params_fini(&c->params);
    cog_buf_fini(&c->ignored);
    cog_json_scan_fini(&c->scan);
    json_decref(c->root);
    *c = (cog_completion){ 0 };
}

int64_t cog_completion_max_tokens(const cog_completion *c)
{
    if (c->max_tokens >= 0)
        return c->max_tokens;
    return c->params.n_predict ? c->params.n_predict : COG_COMPLETION_MAX_TOKENS;
}
