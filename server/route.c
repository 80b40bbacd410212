#include "server/internal.h"

#include <string.h>

static const cog_route routes[] = {
    { .path = "/chat/completions",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .begin = cog_chat_begin,
      .fini = cog_chat_fini_job,
      .cancel = cog_chat_cancel },
    { .path = "/models", .has_v1 = true, .begin = cog_admin_models },
    { .path = "/models/", .has_v1 = true, .is_prefix = true, .begin = cog_admin_model },
    { .path = "/version", .begin = cog_admin_version },
    { .path = "/livez", .is_open = true, .begin = cog_admin_livez },
    { .path = "/readyz", .is_open = true, .begin = cog_admin_readyz },
    { .path = "/health", .has_v1 = true, .is_open = true, .begin = cog_admin_health },
};

static bool matches(const cog_route *r, const char *path, size_t len)
{
    size_t n = strlen(r->path);

    if (r->has_v1 && len > 4 && strncmp(path, "/v1/", 4) == 0) {
        path += 3;
        len -= 3;
    }
    return (r->is_prefix ? len > n : len == n) && strncmp(path, r->path, n) == 0;
}

static bool allows(const cog_route *r, const char *method)
{
    if (r->is_post)
        return strcmp(method, "POST") == 0;
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* On the target as sent, so that nothing but the exact spelling matches. */
const cog_route *cog_route_find(cog_exchange *x, cog_api_error *err)
{
    size_t len = strcspn(x->target, "?");

    *err = (cog_api_error){ 0 };
    if (len > 1 && x->target[len - 1] == '/')
        len--;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const cog_route *r = &routes[i];

        if (!matches(r, x->target, len))
            continue;
        if (r->is_prefix)
            x->name = strstr(x->target, r->path) + strlen(r->path);
        if (!allows(r, x->head.method))
            cog_api_error_set(err, COG_API_METHOD, NULL, "This address only takes %s.",
                              r->is_post ? "POST" : "GET and HEAD");
        return r;
    }
    cog_api_error_set(err, COG_API_UNKNOWN_URL, NULL, "There is no such address on this server.");
    return NULL;
}
