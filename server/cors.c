#include "server/cors.h"

#include "server/internal.h"

#include <string.h>
#include <strings.h>

enum {
    MAX_ORIGIN = 255, /* bytes */
    MAX_FIELDS = 512, /* bytes of names in one answer */
};

static const char host[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_[]:";

const char cog_cors_exposed[] =
    "x-request-id, retry-after, retry-after-ms, x-should-retry, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, openai-processing-ms, "
    "server-timing, x-ignored-parameters";

int cog_cors_check(const char *origin, cog_err *err)
{
    size_t scheme = strspn(origin, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    const char *at = origin + scheme + 3;

    if (strcmp(origin, "*") == 0)
        return 0;
    if (strlen(origin) <= MAX_ORIGIN && scheme > 0 && strncmp(origin + scheme, "://", 3) == 0 &&
        *at && strspn(at, host) == strlen(at))
        return 0;
    return cog_err_set(err, COG_EINVAL,
                       "'%.64s' is no origin; expected '*', or SCHEME://HOST or "
                       "SCHEME://HOST:PORT in lower case, without a path",
                       origin);
}

const char *cog_cors_origin(const cog_server_config *cfg, const cog_head *head)
{
    if (head->n_origin != 1 || strlen(head->origin) > MAX_ORIGIN)
        return NULL;
    for (int i = 0; i < cfg->n_cors_origins; i++) {
        if (strcmp(cfg->cors_origins[i], "*") == 0 ||
            strcmp(cfg->cors_origins[i], head->origin) == 0)
            return head->origin;
    }
    return NULL;
}

bool cog_cors_is_preflight(const cog_server_config *cfg, const cog_head *head)
{
    return strcmp(head->method, "OPTIONS") == 0 && head->cors_method && cog_cors_origin(cfg, head);
}

static bool is_allowed(const char *name, size_t len)
{
    static const char *const names[] = { "authorization", "content-type", "x-request-id",
                                         "traceparent" };
    static const char *const families[] = { "openai-", "x-stainless-" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (len == strlen(names[i]) && strncasecmp(name, names[i], len) == 0)
            return true;
    }
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        size_t n = strlen(families[i]);

        if (len > n && strncasecmp(name, families[i], n) == 0)
            return true;
    }
    return false;
}

void cog_cors_add_fields(cog_buf *out, const char *asked)
{
    while (*asked) {
        size_t len;

        asked += strspn(asked, ", \t");
        len = strspn(asked, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
        if (is_allowed(asked, len) && strchr(", \t", asked[len]) && out->len + len < MAX_FIELDS) {
            cog_buf_puts(out, out->len ? ", " : "");
            cog_buf_add(out, asked, len);
        }
        asked += strcspn(asked, ",");
    }
}

void cog_cors_answer(cog_exchange *x)
{
    cog_reply *r = &x->reply;
    cog_buf fields = { 0 };

    r->status = 204;
    cog_reply_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    cog_cors_add_fields(&fields, x->head.cors_fields ? x->head.cors_fields : "");
    if (fields.len)
        cog_reply_header(r, "Access-Control-Allow-Headers", "%s", fields.data);
    cog_reply_header(r, "Access-Control-Max-Age", "600");
    cog_buf_fini(&fields);
    cog_exchange_reply(x);
}
