#include "proto/caption_line.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A JSON string of s. */
static json_t *text_value(const char *s)
{
    size_t len = strlen(s);
    char *clean = cog_alloc(3 * len + 1, 1);
    json_t *v = json_stringn(clean, cog_utf8_sanitize(clean, s, len));

    cog_free(clean);
    return v;
}

void cog_caption_line_write(cog_buf *dst, const cog_caption_line *line)
{
    json_t *root = json_object();
    char *text;

    json_object_set_new(root, "image", text_value(line->image));
    if (line->error) {
        json_object_set_new(root, "error", text_value(line->error));
    } else {
        json_object_set_new(root, "text", text_value(line->text));
        json_object_set_new(root, "finish_reason", json_string(line->finish_reason));
        json_object_set_new(root, "prompt_tokens", json_integer(line->prompt_tokens));
        json_object_set_new(root, "completion_tokens", json_integer(line->completion_tokens));
    }
    text = json_dumps(root, JSON_COMPACT);
    cog_buf_puts(dst, text);
    cog_buf_puts(dst, "\n");
    free(text);
    json_decref(root);
}

int cog_caption_line_parse(char **image, bool *answered, const char *bytes, size_t len,
                           cog_err *err)
{
    json_error_t at;
    json_t *root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &at);
    const char *path = json_string_value(json_object_get(root, "image"));
    bool has_text = json_is_string(json_object_get(root, "text"));
    bool has_error = json_is_string(json_object_get(root, "error"));
    int rc = 0;

    if (!path || has_text == has_error) {
        rc = cog_err_set(err, COG_EFORMAT, "is no caption line: %s",
                         root ? "needs \"image\" and one of \"text\" and \"error\"" : at.text);
    } else {
        *image = cog_strdup(path);
        *answered = has_text;
    }
    json_decref(root);
    return rc;
}
