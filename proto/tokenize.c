#include "proto/tokenize.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/field.h"
#include "proto/json_body.h"

#include <jansson.h>
#include <stdio.h>

#define AT(member) offsetof(cog_tokenize, member)

#define FLAG(text, member)                                         \
    {                                                              \
        .name = text, .kind = COG_FIELD_BOOL, .offset = AT(member) \
    }

static const cog_field fields[] = {
    { .name = "model", .kind = COG_FIELD_STRING, .offset = AT(model) },
    { .name = "prompt",
      .kind = COG_FIELD_STRING,
      .use = COG_FIELD_CUSTOM,
      .max = COG_TOKENIZE_MAX_LEN,
      .schema = "" },
    { .name = "content",
      .kind = COG_FIELD_STRING,
      .use = COG_FIELD_CUSTOM,
      .max = COG_TOKENIZE_MAX_LEN,
      .schema = "" },
    { .name = "messages", .kind = COG_FIELD_ARRAY, .use = COG_FIELD_CUSTOM, .schema = "" },
    FLAG("add_special_tokens", add_special),
    FLAG("add_special", add_special),
    FLAG("return_token_strs", token_strings),
    FLAG("with_pieces", pieces),
    { .name = "parse_special", .use = COG_FIELD_IGNORE },
};

static const cog_field id_fields[] = {
    { .name = "model", .kind = COG_FIELD_STRING, .offset = offsetof(cog_detokenize, model) },
    { .name = "tokens",
      .kind = COG_FIELD_ARRAY,
      .use = COG_FIELD_CUSTOM,
      .schema = "'items':@TokenId",
      .is_required = true },
};

const cog_field_table cog_tokenize_fields = { fields, sizeof(fields) / sizeof(fields[0]) };
const cog_field_table cog_detokenize_fields = { id_fields,
                                                sizeof(id_fields) / sizeof(id_fields[0]) };

static const json_t *get(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return v && !json_is_null(v) ? v : NULL;
}

static int read_custom(cog_tokenize *t, bool strict, cog_api_error *err)
{
    const json_t *prompt = get(t->root, "prompt"), *content = get(t->root, "content");
    const json_t *messages = get(t->root, "messages");

    if (!prompt && !content && !messages)
        return cog_api_error_set(err, COG_API_MISSING, "prompt",
                                 "Missing required parameter: 'prompt', 'messages' or 'content'.");
    if ((prompt != NULL) + (content != NULL) + (messages != NULL) > 1)
        return cog_api_error_set(err, COG_API_INVALID_VALUE, "prompt",
                                 "Only one of 'prompt', 'messages' and 'content' is allowed.");
    t->has_messages = messages != NULL;
    if (messages)
        return 0; /* its other fields are a chat's */
    if (content && !get(t->root, "add_special") && !get(t->root, "add_special_tokens"))
        t->add_special = false;
    t->text = json_string_value(prompt ? prompt : content);
    t->text_len = json_string_length(prompt ? prompt : content);
    return cog_fields_unknown(&t->ignored, t->root,
                              (const cog_field_table *const[]){ &cog_tokenize_fields }, 1, strict,
                              err);
}

int cog_tokenize_init(cog_tokenize *out, const char *body, size_t len, const char *nonce,
                      bool strict, cog_api_error *err)
{
    *out = (cog_tokenize){ .add_special = true };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, nonce, err) < 0 ||
        cog_fields_read(out, out->root, &cog_tokenize_fields, err) < 0)
        return COG_EINVAL;
    return read_custom(out, strict, err);
}

void cog_tokenize_fini(cog_tokenize *t)
{
    cog_buf_fini(&t->ignored);
    cog_json_scan_fini(&t->scan);
    json_decref(t->root);
    *t = (cog_tokenize){ 0 };
}

int cog_tokens_read(int32_t *tokens, const json_t *array, const char *param, int vocab,
                    cog_api_error *err)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *v = json_array_get(array, i);
        double id = json_number_value(v);
        char at[64];

        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        if (json_is_number(v) && !(id >= 0 && id < vocab))
            return cog_api_error_set(err, COG_API_INVALID_VALUE, at,
                                     "Invalid '%s': token ids of this model are 0 to %d.", param,
                                     vocab - 1); /* an index might read like a status */
        if (!json_is_number(v) || id != (int32_t)id)
            return cog_field_type_error(err, at, "an integer", v);
        tokens[i] = (int32_t)id;
    }
    return 0;
}

int cog_detokenize_init(cog_detokenize *out, const char *body, size_t len, const char *nonce,
                        int vocab, bool strict, cog_api_error *err)
{
    const json_t *array;

    *out = (cog_detokenize){ 0 };
    if (cog_json_body_parse(&out->root, &out->scan, body, len, nonce, err) < 0 ||
        cog_fields_read(out, out->root, &cog_detokenize_fields, err) < 0)
        return COG_EINVAL;
    array = get(out->root, "tokens");
    out->n_tokens = (int)json_array_size(array);
    out->tokens = cog_array(int32_t, json_array_size(array) + 1);
    if (cog_tokens_read(out->tokens, array, "tokens", vocab, err) < 0)
        return COG_EINVAL;
    return cog_fields_unknown(&out->ignored, out->root,
                              (const cog_field_table *const[]){ &cog_detokenize_fields }, 1, strict,
                              err);
}

void cog_detokenize_fini(cog_detokenize *d)
{
    cog_free(d->tokens);
    cog_buf_fini(&d->ignored);
    cog_json_scan_fini(&d->scan);
    json_decref(d->root);
    *d = (cog_detokenize){ 0 };
}
