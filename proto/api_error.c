#include "proto/api_error.h"

#include "base/err.h"
#include "base/utf8.h"
#include "proto/json_write.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char invalid_request[] = "invalid_request_error";
static const char unavailable[] = "service_unavailable_error";

static const struct code_row {
    int status;
    const char *type, *name;
    const char *retry; /* x-should-retry */
} codes[COG_API_N_CODES] = {
    [COG_API_NONE] = { 200, invalid_request, "none", NULL },
    [COG_API_BAD_REQUEST] = { 400, invalid_request, "bad_request", NULL },
    [COG_API_INVALID_JSON] = { 400, invalid_request, "invalid_json", NULL },
    [COG_API_INVALID_FORM] = { 400, invalid_request, "invalid_form", NULL },
    [COG_API_MISSING] = { 400, invalid_request, "missing_required_parameter", NULL },
    [COG_API_INVALID_TYPE] = { 400, invalid_request, "invalid_type", NULL },
    [COG_API_INVALID_VALUE] = { 400, invalid_request, "invalid_value", NULL },
    [COG_API_INTEGER_BELOW] = { 400, invalid_request, "integer_below_min_value", NULL },
    [COG_API_INTEGER_ABOVE] = { 400, invalid_request, "integer_above_max_value", NULL },
    [COG_API_DECIMAL_BELOW] = { 400, invalid_request, "decimal_below_min_value", NULL },
    [COG_API_DECIMAL_ABOVE] = { 400, invalid_request, "decimal_above_max_value", NULL },
    [COG_API_STRING_LONG] = { 400, invalid_request, "string_above_max_length", NULL },
    [COG_API_ARRAY_LONG] = { 400, invalid_request, "array_above_max_length", NULL },
    [COG_API_ARRAY_EMPTY] = { 400, invalid_request, "empty_array", NULL },
    [COG_API_UNSUPPORTED_PARAMETER] = { 400, invalid_request, "unsupported_parameter", NULL },
    [COG_API_UNSUPPORTED_VALUE] = { 400, invalid_request, "unsupported_value", NULL },
    [COG_API_UNKNOWN_PARAMETER] = { 400, invalid_request, "unknown_parameter", NULL },
    [COG_API_CONTEXT_LENGTH] = { 400, invalid_request, "context_length_exceeded", NULL },
    [COG_API_INVALID_SCHEMA] = { 400, invalid_request, "invalid_json_schema", NULL },
    [COG_API_INVALID_GRAMMAR] = { 400, invalid_request, "invalid_grammar", NULL },
    [COG_API_SCHEMA_COMPLEX] = { 400, invalid_request, "schema_too_complex", NULL },
    [COG_API_TOO_MANY_IMAGES] = { 400, invalid_request, "too_many_images", NULL },
    [COG_API_IMAGE_URL] = { 400, invalid_request, "invalid_image_url", NULL },
    [COG_API_IMAGE_BASE64] = { 400, invalid_request, "invalid_base64_image", NULL },
    [COG_API_IMAGE_EMPTY] = { 400, invalid_request, "empty_image_file", NULL },
    [COG_API_IMAGE_FILE_SIZE] = { 400, invalid_request, "image_file_too_large", NULL },
    [COG_API_IMAGE_MEDIA_TYPE] = { 400, invalid_request, "unsupported_image_media_type", NULL },
    [COG_API_IMAGE_BROKEN] = { 400, invalid_request, "image_parse_error", NULL },
    [COG_API_IMAGE_TOO_LARGE] = { 400, invalid_request, "image_too_large", NULL },
    [COG_API_IMAGE_TOO_SMALL] = { 400, invalid_request, "image_too_small", NULL },
    [COG_API_IMAGE_DOWNLOAD] = { 400, invalid_request, "failed_to_download_image", "false" },
    [COG_API_IMAGE_DOWNLOAD_LATER] = { 400, invalid_request, "failed_to_download_image", "true" },
    [COG_API_IMAGE_FILE_NOT_FOUND] = { 400, invalid_request, "image_file_not_found", NULL },
    [COG_API_FILES_FULL] = { 400, invalid_request, "file_quota_exceeded", NULL },
    [COG_API_INVALID_KEY] = { 401, "authentication_error", "invalid_api_key", NULL },
    [COG_API_MODEL_NOT_FOUND] = { 404, invalid_request, "model_not_found", NULL },
    [COG_API_UNKNOWN_URL] = { 404, invalid_request, "unknown_url", NULL },
    [COG_API_FILE_NOT_FOUND] = { 404, invalid_request, "file_not_found", NULL },
    [COG_API_METHOD] = { 405, invalid_request, "method_not_allowed", NULL },
    [COG_API_REQUEST_TIMEOUT] = { 408, "timeout_error", "request_timeout", "false" },
    [COG_API_LENGTH_REQUIRED] = { 411, invalid_request, "length_required", NULL },
    [COG_API_BODY_TOO_LARGE] = { 413, invalid_request, "request_body_too_large", NULL },
    [COG_API_CONTENT_TYPE] = { 415, invalid_request, "unsupported_content_type", NULL },
    [COG_API_CONTENT_ENCODING] = { 415, invalid_request, "unsupported_content_encoding", NULL },
    [COG_API_RATE_LIMIT] = { 429, "rate_limit_error", "rate_limit_exceeded", NULL },
    [COG_API_HEADERS_TOO_LARGE] = { 431, invalid_request, "headers_too_large", NULL },
    [COG_API_INTERNAL] = { 500, "server_error", "internal_error", NULL },
    [COG_API_QUARANTINED] = { 500, "server_error", "request_quarantined", "false" },
    [COG_API_OVERLOADED] = { 503, unavailable, "server_is_overloaded", NULL },
    [COG_API_LOADING] = { 503, unavailable, "model_loading", NULL },
    [COG_API_DRAINING] = { 503, unavailable, "server_draining", NULL },
    [COG_API_DEADLINE] = { 504, "timeout_error", "request_deadline_exceeded", "false" },
};

int cog_api_error_set(cog_api_error *e, cog_api_code code, const char *param, const char *fmt, ...)
{
    va_list ap;

    *e = (cog_api_error){ .code = code };
    if (param) {
        snprintf(e->param, sizeof(e->param), "%s", param);
        e->param[cog_utf8_complete(e->param, strlen(e->param))] = '\0';
    }
    va_start(ap, fmt);
    vsnprintf(e->message, sizeof(e->message), fmt, ap);
    va_end(ap);
    e->message[cog_utf8_complete(e->message, strlen(e->message))] = '\0';
    return COG_EINVAL;
}

int cog_api_error_status(cog_api_code code)
{
    assert(code < COG_API_N_CODES);
    return codes[code].status;
}

const char *cog_api_error_name(cog_api_code code)
{
    assert(code < COG_API_N_CODES);
    return codes[code].name;
}

const char *cog_api_error_type(cog_api_code code)
{
    assert(code < COG_API_N_CODES);
    return codes[code].type;
}

const char *cog_api_error_retry(cog_api_code code)
{
    assert(code < COG_API_N_CODES);
    return codes[code].retry;
}

void cog_api_error_write(cog_buf *out, const cog_api_error *e)
{
    cog_buf_puts(out, "{\"error\":{\"message\":");
    cog_json_write_string(out, e->message);
    cog_buf_printf(out, ",\"type\":\"%s\",\"param\":", codes[e->code].type);
    cog_json_write_string(out, e->param[0] ? e->param : NULL);
    cog_buf_printf(out, ",\"code\":\"%s\"}}", codes[e->code].name);
}

char *cog_api_quote(char *dst, const char *text, size_t len)
{
    enum { CUT = 64 };
    size_t n = 0;
    size_t used = len;

    if (len > CUT)
        used = cog_utf8_complete(text, CUT);
    dst[n++] = '\'';
    /* An escape takes four bytes, so the worst case needs another bound than the 64. */
    for (size_t i = 0; i < used && n + 12 < COG_API_QUOTE; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(dst + n, COG_API_QUOTE - n, "\\x%02x", c);
        else
            dst[n++] = (char)c;
    }
    n = 1 + cog_utf8_complete(dst + 1, n - 1);
    if (used < len)
        n += (size_t)snprintf(dst + n, COG_API_QUOTE - n, "...");
    dst[n++] = '\'';
    dst[n] = '\0';
    return dst;
}
