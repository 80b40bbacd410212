#include "proto/chat_read.h"

#include "base/alloc.h"
#include "base/err.h"

#include <jansson.h>

static bool is_truthy(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v);
}

static int count_of(const json_t *object, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(object, name));

    return n > 0 && n <= 0x7fffffff ? (int)n : 0;
}

static void read_choice(cog_chat_chunk *out, const json_t *choice)
{
    const json_t *part = json_object_get(choice, "delta");

    if (!part)
        part = json_object_get(choice, "message");
    if (json_string_length(json_object_get(part, "content")) > 0)
        out->has_text = true;
    if (json_is_string(json_object_get(choice, "finish_reason")))
        out->is_finished = true;
}

static void read_usage(cog_chat_chunk *out, const json_t *usage)
{
    const json_t *details = json_object_get(usage, "prompt_tokens_details");

    out->has_usage = true;
    out->prompt_tokens = count_of(usage, "prompt_tokens");
    out->completion_tokens = count_of(usage, "completion_tokens");
    out->cached_tokens = count_of(details, "cached_tokens");
    out->image_tokens = count_of(details, "image_tokens");
}

int cog_chat_read(cog_chat_chunk *out, const char *bytes, size_t len)
{
    json_t *root = json_loadb(bytes, len, JSON_ALLOW_NUL, NULL);
    const json_t *choices = json_object_get(root, "choices");
    const json_t *usage = json_object_get(root, "usage");
    cog_chat_chunk chunk = { 0 };
    int rc = json_is_object(root) ? 0 : COG_EFORMAT;

    chunk.is_error = is_truthy(json_object_get(root, "error"));
    chunk.has_choices = json_array_size(choices) > 0;
    for (size_t i = 0; i < json_array_size(choices); i++)
        read_choice(&chunk, json_array_get(choices, i));
    if (json_is_object(usage))
        read_usage(&chunk, usage);
    json_decref(root);
    if (rc == 0)
        *out = chunk;
    return rc;
}

int cog_chat_read_models(char **id, const char *bytes, size_t len)
{
    json_t *root = json_loadb(bytes, len, 0, NULL);
    const json_t *first = json_array_get(json_object_get(root, "data"), 0);
    const char *name = json_string_value(json_object_get(first, "id"));
    int rc = name ? 0 : COG_EFORMAT;

    if (name)
        *id = cog_strdup(name);
    json_decref(root);
    return rc;
}

char *cog_chat_read_error(const char *bytes, size_t len)
{
    json_t *root = json_loadb(bytes, len, 0, NULL);
    const char *text =
        json_string_value(json_object_get(json_object_get(root, "error"), "message"));
    char *copy = text ? cog_strdup(text) : NULL;

    json_decref(root);
    return copy;
}
