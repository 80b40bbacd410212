#include "proto/chat_messages.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/data_url.h"
#include "proto/field.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum role { ROLE_NONE, ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT };

struct reader {
    cog_chat *chat;
    const cog_chat_options *opt;
    cog_api_error *err;
    cog_buf system;
    enum role last; /* of the turns so far */
    int n_images;
};

/* The model has no place for an empty part, so one leaves no separator behind. */
static void join(cog_buf *dst, const char *separator, const char *text, size_t len)
{
    if (dst->len && len)
        cog_buf_puts(dst, separator);
    cog_buf_add(dst, text, len);
}

static int refuse_part(struct reader *r, const char *param, const char *type)
{
    static const char *const known[] = { "image_embeds", "input_audio", "video_url", "audio_url",
                                         "input_file" };
    char quoted[COG_API_QUOTE];

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(type, known[i]) == 0)
            return cog_api_error_set(r->err, COG_API_UNSUPPORTED_VALUE, param,
                                     "Unsupported value: content parts of type '%s' are not "
                                     "supported by this server.",
                                     known[i]);
    }
    return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param,
                             "Invalid content part type: %s. Supported are 'text' and 'image_url'.",
                             cog_api_quote(quoted, type, strlen(type)));
}

static int add_text(struct reader *r, cog_buf *text, const json_t *v, const char *separator,
                    const char *param)
{
    if (!json_is_string(v)) {
        if (!v || json_is_null(v))
            return cog_api_error_set(r->err, COG_API_MISSING, param,
                                     "Missing required parameter: '%s'.", param);
        return cog_field_type_error(r->err, param, "a string", v);
    }
    join(text, separator, json_string_value(v), json_string_length(v));
    return 0;
}

static int url_error(struct reader *r, cog_url_kind kind, const char *param)
{
    const char *what = "this kind of address is not accepted; send the picture in the request, as "
                       "data:image/jpeg;base64,...";

    switch (kind) {
    case COG_URL_WEB:
        what = "this server does not fetch pictures from the web; send the picture in the request, "
               "as data:image/jpeg;base64,...";
        break;
    case COG_URL_NOT_BASE64:
        what = "a data: URL needs the form data:image/jpeg;base64,...";
        break;
    case COG_URL_NOT_IMAGE:
        what = "the data: URL declares a type that is no picture";
        break;
    default:
        break;
    }
    return cog_api_error_set(r->err, COG_API_IMAGE_URL, param, "Invalid image URL: %s.", what);
}

static bool is_taken(const cog_chat_options *opt, cog_url_kind kind)
{
    switch (kind) {
    case COG_URL_DATA:
    case COG_URL_BARE:
        return true;
    case COG_URL_WEB:
        return opt->takes_web;
    case COG_URL_FILE:
        return opt->takes_files;
    default:
        return false;
    }
}

static cog_picture_kind picture_kind(cog_url_kind kind)
{
    if (kind == COG_URL_WEB)
        return COG_PICTURE_WEB;
    return kind == COG_URL_FILE ? COG_PICTURE_FILE : COG_PICTURE_INLINE;
}

static int count_picture(struct reader *r, const char *param)
{
    if (++r->n_images > r->opt->max_images && !r->opt->image_policy_last)
        return cog_api_error_set(r->err, COG_API_TOO_MANY_IMAGES, param,
                                 "Too many images: this model takes at most %d per request.",
                                 r->opt->max_images);
    return 0;
}

/* The request's picture; a later one takes its place. */
static int keep_picture(struct reader *r, const cog_chat_picture *p, const char *param)
{
    cog_free(r->chat->picture.owned);
    r->chat->picture = *p;
    snprintf(r->chat->picture.param, sizeof(r->chat->picture.param), "%s", param);
    return 0;
}

static int add_picture(struct reader *r, const json_t *v, const char *param)
{
    const cog_json_piece *piece = cog_json_scan_find(&r->chat->scan, json_string_value(v));
    const char *url = json_string_value(v);
    size_t len = json_string_length(v);
    cog_chat_picture p = { 0 };
    cog_url_kind kind;

    if (count_picture(r, param) < 0)
        return COG_EINVAL;
    if (piece) {
        url = piece->data;
        len = piece->len;
    }
    if (piece && piece->is_escaped)
        url = p.owned = cog_json_piece_unescape(piece, &len);
    kind = cog_data_url_split(&p.base64, &p.len, url, len);
    if (!is_taken(r->opt, kind)) {
        cog_free(p.owned);
        return url_error(r, kind, param);
    }
    p.kind = picture_kind(kind);
    p.is_bare = kind == COG_URL_BARE;
    p.url = p.kind == COG_PICTURE_INLINE ? NULL : url;
    return keep_picture(r, &p, param);
}

/* A picture that was uploaded before. Whether it is there is not looked at here. */
static int add_stored(struct reader *r, const json_t *v, const char *param)
{
    cog_chat_picture p = { .kind = COG_PICTURE_STORED, .url = json_string_value(v) };

    if (!json_is_string(v))
        return cog_field_type_error(r->err, param, "a string", v);
    return count_picture(r, param) < 0 ? COG_EINVAL : keep_picture(r, &p, param);
}

static int check_detail(struct reader *r, const json_t *v, const char *param)
{
    static const char *const known[] = { "auto", "low", "high", "original" };
    char quoted[COG_API_QUOTE];

    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return cog_field_type_error(r->err, param, "a string", v);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(json_string_value(v), known[i]) == 0)
            return 0;
    }
    return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param,
                             "Invalid '%s': %s. Supported values are 'auto', 'low' and 'high'.",
                             param,
                             cog_api_quote(quoted, json_string_value(v), json_string_length(v)));
}

static int check_uuid(struct reader *r, const json_t *part, const char *at)
{
    const json_t *v = json_object_get(part, "uuid");
    char param[128];

    if (!v || json_is_null(v))
        return 0;
    snprintf(param, sizeof(param), "%s.uuid", at);
    if (!json_is_string(v))
        return cog_field_type_error(r->err, param, "a string", v);
    if (json_string_length(v) > 128)
        return cog_api_error_set(r->err, COG_API_STRING_LONG, param,
                                 "Invalid '%s': at most 128 bytes are allowed.", param);
    return 0;
}

/* {"image_url": {"url", "detail"}}, {"image_url": "..."}; the Responses form has detail beside it.
 */
static int read_image_part(struct reader *r, const json_t *part, const char *at)
{
    const json_t *v = json_object_get(part, "image_url");
    const json_t *detail = json_object_get(part, "detail");
    char param[128];

    if (json_object_get(part, "file_id") && (!v || json_is_null(v))) {
        snprintf(param, sizeof(param), "%s.detail", at);
        if (check_detail(r, detail, param) < 0)
            return COG_EINVAL;
        snprintf(param, sizeof(param), "%s.file_id", at);
        return add_stored(r, json_object_get(part, "file_id"), param);
    }
    if (check_uuid(r, part, at) < 0)
        return COG_EINVAL;
    snprintf(param, sizeof(param), "%s.image_url", at);
    if (json_is_object(v)) {
        detail = json_object_get(v, "detail");
        v = json_object_get(v, "url");
        snprintf(param, sizeof(param), "%s.image_url.detail", at);
        if (check_detail(r, detail, param) < 0)
            return COG_EINVAL;
        snprintf(param, sizeof(param), "%s.image_url.url", at);
    } else if (check_detail(r, detail, param) < 0) {
        return COG_EINVAL;
    }
    if (!v || json_is_null(v))
        return cog_api_error_set(r->err, COG_API_MISSING, param,
                                 "Missing required parameter: '%s'.", param);
    if (!json_is_string(v))
        return cog_field_type_error(r->err, param, "a string", v);
    return add_picture(r, v, param);
}

/* {"type": "file", "file": {"file_id"}}, or {"file_data", "filename"}; {"type": "image_file",
 * "image_file": {"file_id", "detail"}}. type is the name of either. */
static int read_file_part(struct reader *r, const json_t *part, const char *type, const char *at)
{
    const json_t *v = json_object_get(part, type), *id, *data;
    char param[128];

    snprintf(param, sizeof(param), "%s.%s", at, type);
    if (!json_is_object(v)) {
        if (!v || json_is_null(v))
            return cog_api_error_set(r->err, COG_API_MISSING, param,
                                     "Missing required parameter: '%s'.", param);
        return cog_field_type_error(r->err, param, "an object", v);
    }
    id = json_object_get(v, "file_id");
    data = strcmp(type, "file") == 0 ? json_object_get(v, "file_data") : NULL;
    snprintf(param, sizeof(param), "%s.%s.detail", at, type);
    if (check_detail(r, json_object_get(v, "detail"), param) < 0)
        return COG_EINVAL;
    if (data && !json_is_null(data) && (!id || json_is_null(id))) {
        snprintf(param, sizeof(param), "%s.%s.file_data", at, type);
        if (!json_is_string(data))
            return cog_field_type_error(r->err, param, "a string", data);
        return add_picture(r, data, param);
    }
    snprintf(param, sizeof(param), "%s.%s.file_id", at, type);
    if (!id || json_is_null(id))
        return cog_api_error_set(r->err, COG_API_MISSING, param,
                                 "Missing required parameter: '%s'.", param);
    return add_stored(r, id, param);
}

static int read_part(struct reader *r, cog_buf *text, const json_t *part, enum role role,
                     const char *at)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const char *text_name = "text";
    char param[128];

    if (!json_is_object(part))
        return cog_field_type_error(r->err, at, "an object", part);
    snprintf(param, sizeof(param), "%s.type", at);
    if (!type)
        return cog_api_error_set(r->err, COG_API_MISSING, param,
                                 "Missing required parameter: '%s'.", param);
    if (role == ROLE_USER && (strcmp(type, "image_url") == 0 || strcmp(type, "input_image") == 0))
        return read_image_part(r, part, at);
    if (role == ROLE_USER && (strcmp(type, "file") == 0 || strcmp(type, "image_file") == 0))
        return read_file_part(r, part, type, at);
    if (role == ROLE_ASSISTANT && strcmp(type, "refusal") == 0)
        text_name = type;
    else if (strcmp(type, "text") != 0 &&
             !(role != ROLE_ASSISTANT && strcmp(type, "input_text") == 0) &&
             !(role == ROLE_ASSISTANT && strcmp(type, "output_text") == 0))
        return refuse_part(r, at, type);
    snprintf(param, sizeof(param), "%s.%s", at, text_name);
    return add_text(r, text, json_object_get(part, text_name), " ", param);
}

static int read_content(struct reader *r, cog_buf *text, const json_t *v, enum role role, int idx)
{
    char param[64];

    snprintf(param, sizeof(param), "%s[%d].content", r->chat->field, idx);
    if (!v || json_is_null(v)) {
        if (role == ROLE_ASSISTANT)
            return 0;
        return cog_api_error_set(r->err, COG_API_MISSING, param,
                                 "Missing required parameter: '%s'.", param);
    }
    if (json_is_string(v))
        return add_text(r, text, v, "", param);
    if (!json_is_array(v))
        return cog_field_type_error(r->err, param, "a string or an array of parts", v);
    if (json_array_size(v) == 0)
        return cog_api_error_set(r->err, COG_API_ARRAY_EMPTY, param,
                                 "Invalid '%s': the array must not be empty.", param);
    for (size_t i = 0; i < json_array_size(v); i++) {
        snprintf(param, sizeof(param), "%s[%d].content[%zu]", r->chat->field, idx, i);
        if (read_part(r, text, json_array_get(v, i), role, param) < 0)
            return COG_EINVAL;
    }
    return 0;
}

static int read_role(struct reader *r, enum role *role, const json_t *message, int idx)
{
    static const struct {
        const char *name;
        enum role role;
    } roles[] = {
        { "system", ROLE_SYSTEM },
        { "developer", ROLE_SYSTEM },
        { "user", ROLE_USER },
        { "assistant", ROLE_ASSISTANT },
    };
    const json_t *v = json_object_get(message, "role");
    char param[64], quoted[COG_API_QUOTE];

    snprintf(param, sizeof(param), "%s[%d].role", r->chat->field, idx);
    if (!v || json_is_null(v))
        return cog_api_error_set(r->err, COG_API_MISSING, param,
                                 "Missing required parameter: '%s'.", param);
    if (!json_is_string(v))
        return cog_field_type_error(r->err, param, "a string", v);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (strcmp(json_string_value(v), roles[i].name) == 0) {
            *role = roles[i].role;
            return 0;
        }
    }
    if (strcmp(json_string_value(v), "tool") == 0 || strcmp(json_string_value(v), "function") == 0)
        return cog_api_error_set(r->err, COG_API_UNSUPPORTED_VALUE, param,
                                 "Unsupported value: this model was not trained to call tools, so "
                                 "messages of role '%s' are not accepted.",
                                 json_string_value(v));
    return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param,
                             "Invalid '%s': %s. Supported values are 'system', 'developer', 'user' "
                             "and 'assistant'.",
                             param,
                             cog_api_quote(quoted, json_string_value(v), json_string_length(v)));
}

static cog_chat_turn *new_turn(cog_chat *c)
{
    c->turns = cog_realloc(c->turns, (size_t)c->n_turns + 1, sizeof(*c->turns));
    c->turns[c->n_turns] = (cog_chat_turn){ 0 };
    return &c->turns[c->n_turns++];
}

/* Neighbours of one role are one message; what remains must be user, assistant, user, ... */
static int place(struct reader *r, enum role role, const cog_buf *text, int idx)
{
    cog_chat *c = r->chat;
    char param[64];
    cog_buf *dst;

    if (role == ROLE_SYSTEM) {
        join(&r->system, "\n", text->data, text->len);
        return 0;
    }
    if (role == ROLE_ASSISTANT && r->last == ROLE_NONE) {
        snprintf(param, sizeof(param), "%s[%d]", r->chat->field, idx);
        return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param,
                                 "Invalid '%s': the first message besides 'system' must be of role "
                                 "'user'.",
                                 param);
    }
    if (role == ROLE_USER && r->last != ROLE_USER)
        new_turn(c);
    dst = role == ROLE_USER ? &c->turns[c->n_turns - 1].query : &c->turns[c->n_turns - 1].answer;
    join(dst, "\n", text->data, text->len);
    r->last = role;
    return 0;
}

static int read_message(struct reader *r, const json_t *message, int idx)
{
    cog_buf text = { 0 };
    char param[64];
    enum role role = ROLE_NONE;
    int rc;

    snprintf(param, sizeof(param), "%s[%d]", r->chat->field, idx);
    if (!json_is_object(message))
        return cog_field_type_error(r->err, param, "an object", message);
    rc = read_role(r, &role, message, idx);
    if (rc < 0)
        return rc;
    if (json_array_size(json_object_get(message, "tool_calls")) > 0) {
        snprintf(param, sizeof(param), "%s[%d].tool_calls", r->chat->field, idx);
        return cog_api_error_set(r->err, COG_API_UNSUPPORTED_VALUE, param,
                                 "Unsupported value: this model was not trained to call tools.");
    }
    rc = read_content(r, &text, json_object_get(message, "content"), role, idx);
    if (rc == 0)
        rc = place(r, role, &text, idx);
    cog_buf_fini(&text);
    return rc;
}

/* The model has no system slot: that text goes before the first user text. */
static void place_system(struct reader *r)
{
    cog_buf *first = &r->chat->turns[0].query;

    if (r->system.len == 0)
        return;
    join(&r->system, "\n", first->data, first->len);
    cog_buf_fini(first);
    *first = r->system;
    r->system = (cog_buf){ 0 };
}

static int read_all(struct reader *r, const json_t *messages)
{
    size_t n = json_array_size(messages);
    const char *field = r->chat->field;
    char param[64];

    if (n == 0)
        return cog_api_error_set(r->err, COG_API_ARRAY_EMPTY, field,
                                 "Invalid '%s': the array must not be empty.", field);
    if (n > COG_CHAT_MAX_MESSAGES)
        return cog_api_error_set(r->err, COG_API_ARRAY_LONG, field,
                                 "Invalid '%s': at most %d are allowed, got %zu.", field,
                                 COG_CHAT_MAX_MESSAGES, n);
    for (size_t i = 0; i < n; i++) {
        if (read_message(r, json_array_get(messages, i), (int)i) < 0)
            return COG_EINVAL;
    }
    if (r->last == ROLE_NONE)
        return cog_api_error_set(r->err, COG_API_INVALID_VALUE, field,
                                 "Invalid '%s': at least one message of role 'user' is needed.",
                                 field);
    if (r->chat->continue_final && r->last != ROLE_ASSISTANT)
        return cog_api_error_set(r->err, COG_API_INVALID_VALUE, "continue_final_message",
                                 "Invalid 'continue_final_message': the last message must be of "
                                 "role 'assistant'.");
    if (r->last == ROLE_ASSISTANT && !r->chat->continue_final) {
        snprintf(param, sizeof(param), "%s[%zu]", r->chat->field, n - 1);
        return cog_api_error_set(r->err, COG_API_INVALID_VALUE, param,
                                 "Invalid '%s': the last message must be of role 'user'.", param);
    }
    place_system(r);
    return 0;
}

static void finish(struct reader *r)
{
    cog_chat *c = r->chat;

    cog_buf_fini(&r->system);
    for (int i = 0; i < c->n_turns; i++)
        c->text_len += c->turns[i].query.len + c->turns[i].answer.len;
}

int cog_chat_messages_read(cog_chat *chat, const json_t *messages, const cog_chat_options *opt,
                           cog_api_error *err)
{
    struct reader r = { .chat = chat, .opt = opt, .err = err };
    int rc = read_all(&r, messages);

    finish(&r);
    return rc;
}

/* Items of a response that are no messages are calls of tools and what came of them. */
static int check_items(struct reader *r, const json_t *items)
{
    const json_t *item;
    size_t i;

    json_array_foreach(items, i, item)
    {
        const json_t *type = json_object_get(item, "type");
        char param[64], quoted[COG_API_QUOTE];

        if (!type || json_is_null(type))
            continue;
        snprintf(param, sizeof(param), "%s[%zu].type", r->chat->field, i);
        if (!json_is_string(type))
            return cog_field_type_error(r->err, param, "a string", type);
        if (strcmp(json_string_value(type), "message") != 0)
            return cog_api_error_set(
                r->err, COG_API_UNSUPPORTED_VALUE, param,
                "Unsupported value: items of type %s are not accepted, only 'message'.",
                cog_api_quote(quoted, json_string_value(type), json_string_length(type)));
    }
    return 0;
}

static int read_input(struct reader *r, const json_t *input)
{
    cog_buf text = { 0 };

    if (json_is_array(input))
        return check_items(r, input) < 0 ? COG_EINVAL : read_all(r, input);
    if (!json_is_string(input))
        return cog_field_type_error(r->err, r->chat->field, "a string or an array of items", input);
    cog_buf_add(&text, json_string_value(input), json_string_length(input));
    place(r, ROLE_USER, &text, 0);
    place_system(r);
    cog_buf_fini(&text);
    return 0;
}

int cog_chat_input_read(cog_chat *chat, const json_t *instructions, const json_t *input,
                        const cog_chat_options *opt, cog_api_error *err)
{
    struct reader r = { .chat = chat, .opt = opt, .err = err };
    int rc;

    join(&r.system, "\n", json_string_value(instructions), json_string_length(instructions));
    rc = read_input(&r, input);
    finish(&r);
    return rc;
}
