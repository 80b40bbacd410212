#include "server/head.h"

#include "base/err.h"
#include "proto/multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_name(const char *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && strncasecmp(name, wanted, len) == 0;
}

static bool is_clean(const char *name, size_t name_len, const char *value, size_t value_len)
{
    for (size_t i = 0; i < name_len; i++) {
        if ((unsigned char)name[i] <= 0x20 || name[i] == 0x7f)
            return false;
    }
    for (size_t i = 0; i < value_len; i++) {
        if (value[i] == '\0' || value[i] == '\r' || value[i] == '\n')
            return false;
    }
    return name_len > 0;
}

/* What browsers say for a page of another origin. */
static bool add_cors(cog_head *h, const char *name, size_t name_len, const char *value)
{
    if (is_name(name, name_len, "Origin")) {
        h->n_origin++;
        h->origin = value;
    } else if (is_name(name, name_len, "Access-Control-Request-Method")) {
        h->cors_method = value;
    } else if (is_name(name, name_len, "Access-Control-Request-Headers")) {
        h->cors_fields = value;
    } else {
        return false;
    }
    return true;
}

/* What is only noted. */
static void add_context(cog_head *h, const char *name, size_t name_len, const char *value)
{
    if (is_name(name, name_len, "traceparent")) {
        h->n_traceparent++;
        h->traceparent = value;
    } else if (is_name(name, name_len, "X-Stainless-Retry-Count")) {
        size_t digits = strspn(value, "0123456789");
        h->n_retries = digits > 0 && digits < 7 && !value[digits] ? atoi(value) : 0;
    } else if (is_name(name, name_len, "X-Gateway-Inference-Objective") ||
               is_name(name, name_len, "X-Gateway-Inference-Objectives")) {
        h->objective = value;
    } else if (is_name(name, name_len, "X-Gateway-Inference-Fairness-Id")) {
        h->fairness = value;
    }
}

void cog_head_add(cog_head *h, const char *name, size_t name_len, const char *value,
                  size_t value_len)
{
    h->n_fields++;
    if (!value)
        value = "";
    if (!is_clean(name, name_len, value, value_len)) {
        h->is_broken = true;
        return;
    }
    if (is_name(name, name_len, "Content-Length")) {
        h->n_content_length++;
        h->content_length = strtoull(value, NULL, 10);
    } else if (is_name(name, name_len, "Transfer-Encoding")) {
        h->n_transfer_encoding++;
        h->has_coding |= strcasecmp(value, "chunked") != 0;
    } else if (is_name(name, name_len, "Host")) {
        h->n_host++;
    } else if (is_name(name, name_len, "Authorization")) {
        h->n_authorization++;
        h->authorization = value;
    } else if (is_name(name, name_len, "Expect")) {
        h->expects_100 |= strcasecmp(value, "100-continue") == 0;
    } else if (is_name(name, name_len, "Content-Type")) {
        h->content_type = value;
    } else if (is_name(name, name_len, "Content-Encoding")) {
        h->content_encoding = value;
    } else if (is_name(name, name_len, "X-Request-Id")) {
        h->request_id = value;
    } else if (!add_cors(h, name, name_len, value)) {
        add_context(h, name, name_len, value);
    }
}

static bool has_encoded_nul(const char *target)
{
    return strstr(target, "%00") != NULL;
}

int cog_head_check(const cog_head *h, const char *target, cog_api_error *err)
{
    const char *what = NULL;

    if (h->bytes > COG_HEAD_MAX_BYTES || h->n_fields > COG_HEAD_MAX_FIELDS ||
        strlen(target) > COG_HEAD_MAX_TARGET)
        return cog_api_error_set(err, COG_API_HEADERS_TOO_LARGE, NULL,
                                 "The request's head is too large: at most %d bytes, %d fields and "
                                 "%d bytes of address are accepted.",
                                 COG_HEAD_MAX_BYTES, COG_HEAD_MAX_FIELDS, COG_HEAD_MAX_TARGET);
    if (h->is_broken)
        what = "a header field holds forbidden bytes";
    else if (h->n_content_length > 1)
        what = "there is more than one Content-Length";
    else if (h->n_transfer_encoding > 1)
        what = "there is more than one Transfer-Encoding";
    else if (h->n_content_length && h->n_transfer_encoding)
        what = "there are both Content-Length and Transfer-Encoding";
    else if (h->has_coding)
        what = "the only accepted Transfer-Encoding is chunked";
    else if (h->n_host > 1)
        what = "there is more than one Host";
    else if (h->n_host == 0 && strcmp(h->version, "HTTP/1.1") == 0)
        what = "there is no Host";
    else if (has_encoded_nul(target))
        what = "the address holds a NUL";
    if (!what)
        return 0;
    return cog_api_error_set(err, COG_API_BAD_REQUEST, NULL, "Bad HTTP request: %s.", what);
}

bool cog_head_has_body(const cog_head *h)
{
    return h->n_transfer_encoding || h->content_length > 0;
}

static const char *skip_spaces(const char *s)
{
    return s + strspn(s, " \t");
}

/* charset absent or utf-8, in any of the parameters */
static bool has_utf8(const char *parameters)
{
    for (const char *p = strchr(parameters, ';'); p; p = strchr(p, ';')) {
        size_t len;

        p = skip_spaces(p + 1);
        if (strncasecmp(p, "charset", 7) != 0)
            continue;
        p = skip_spaces(p + 7);
        if (*p != '=')
            continue;
        p = skip_spaces(p + 1);
        len = strcspn(p, "; \t");
        if (len >= 2 && p[0] == '"' && p[len - 1] == '"') {
            p++;
            len -= 2;
        }
        if (!(len == 5 && strncasecmp(p, "utf-8", 5) == 0) &&
            !(len == 4 && strncasecmp(p, "utf8", 4) == 0))
            return false;
    }
    return true;
}

static bool is_json(const char *type)
{
    size_t len;

    type = skip_spaces(type);
    len = strcspn(type, "; \t");
    return is_name(type, len, "application/json") ||
           (len > 5 && memchr(type, '/', len) && strncasecmp(type + len - 5, "+json", 5) == 0);
}

static int check_framing(const cog_head *h, cog_api_error *err)
{
    if (h->content_encoding && strcasecmp(h->content_encoding, "identity") != 0)
        return cog_api_error_set(err, COG_API_CONTENT_ENCODING, NULL,
                                 "Compressed request bodies are not accepted.");
    if (!h->n_content_length && !h->n_transfer_encoding)
        return cog_api_error_set(err, COG_API_LENGTH_REQUIRED, NULL,
                                 "The request needs a Content-Length, or the chunked coding.");
    return 0;
}

int cog_head_check_json(const cog_head *h, cog_api_error *err)
{
    if (!h->content_type || !is_json(h->content_type) || !has_utf8(h->content_type))
        return cog_api_error_set(err, COG_API_CONTENT_TYPE, NULL,
                                 "The request needs 'Content-Type: application/json', in UTF-8.");
    return check_framing(h, err);
}

int cog_head_check_form(const cog_head *h, cog_api_error *err)
{
    if (!cog_multipart_is_type(h->content_type))
        return cog_api_error_set(err, COG_API_CONTENT_TYPE, NULL,
                                 "The request needs 'Content-Type: multipart/form-data'.");
    return check_framing(h, err);
}
