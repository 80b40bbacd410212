#include "server/cors.h"
#include "server/files.h"
#include "server/generate.h"
#include "server/internal.h"

#include <stdio.h>
#include <string.h>

static const cog_route routes[] = {
    { .path = "/chat/completions",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .is_work = true,
      .begin = cog_chat_begin,
      .fini = cog_generate_fini,
      .cancel = cog_generate_cancel },
    { .path = "/chat/completions/batch",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .is_work = true,
      .begin = cog_batch_begin,
      .fini = cog_generate_fini,
      .cancel = cog_generate_cancel,
      .expire = cog_generate_expire },
    { .path = "/chat/completions/input_tokens",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .begin = cog_tokens_count,
      .fini = cog_tokens_fini },
    { .path = "/completions",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .is_work = true,
      .begin = cog_completions_begin,
      .fini = cog_generate_fini,
      .cancel = cog_generate_cancel },
    { .path = "/responses",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .is_work = true,
      .begin = cog_responses_begin,
      .fini = cog_generate_fini,
      .cancel = cog_generate_cancel,
      .fail_stream = cog_responses_fail_stream },
    { .path = "/responses/input_tokens",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .begin = cog_tokens_count_response,
      .fini = cog_tokens_fini },
    { .path = "/tokenize",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .begin = cog_tokens_tokenize,
      .fini = cog_tokens_fini },
    { .path = "/detokenize",
      .has_v1 = true,
      .is_post = true,
      .needs_engine = true,
      .begin = cog_tokens_detokenize,
      .fini = cog_tokens_fini },
    { .path = "/files",
      .has_v1 = true,
      .is_post = true,
      .is_form = true,
      .needs_engine = true,
      .is_limited = true,
      .begin = cog_upload_begin,
      .fini = cog_upload_fini,
      .cancel = cog_upload_cancel },
    { .path = "/files", .has_v1 = true, .begin = cog_files_list },
    { .path = "/files/",
      .has_v1 = true,
      .is_prefix = true,
      .suffix = "/content",
      .begin = cog_files_content },
    { .path = "/files/", .has_v1 = true, .is_prefix = true, .begin = cog_files_get },
    { .path = "/files/",
      .has_v1 = true,
      .is_prefix = true,
      .is_delete = true,
      .begin = cog_files_delete },
    { .path = "/models", .has_v1 = true, .begin = cog_admin_models },
    { .path = "/models/", .has_v1 = true, .is_prefix = true, .begin = cog_admin_model },
    { .path = "/version", .begin = cog_admin_version },
    { .path = "/openapi.json", .begin = cog_admin_openapi },
    { .path = "/livez", .is_open = true, .begin = cog_admin_livez },
    { .path = "/readyz", .is_open = true, .begin = cog_admin_readyz },
    { .path = "/health", .has_v1 = true, .is_open = true, .begin = cog_admin_health },
    { .path = "preflight", .is_open = true, .is_preflight = true, .begin = cog_cors_answer },
    { .path = "/metrics", .is_open = true, .is_metrics = true, .begin = cog_admin_metrics },
};

enum { N_ROUTES = sizeof(routes) / sizeof(routes[0]) };
_Static_assert((int)N_ROUTES < (int)COG_MAX_HANDLERS, "there is a counter for each route");

static bool matches(const cog_route *r, const char *path, size_t len)
{
    size_t n = strlen(r->path);

    if (r->has_v1 && len > 4 && strncmp(path, "/v1/", 4) == 0) {
        path += 3;
        len -= 3;
    }
    if (strncmp(path, r->path, n < len ? n : len) != 0)
        return false;
    if (!r->is_prefix)
        return len == n;
    if (r->suffix) {
        size_t end = strlen(r->suffix);

        return len > n + end && strncmp(path + len - end, r->suffix, end) == 0;
    }
    return len > n;
}

static bool is_same_address(const cog_route *a, const cog_route *b)
{
    return strcmp(a->path, b->path) == 0 && !a->suffix == !b->suffix;
}

static const cog_route *preflight(void)
{
    const cog_route *r = routes;

    while (!r->is_preflight)
        r++;
    return r;
}

static bool allows(const cog_route *r, const char *method)
{
    if (r->is_post)
        return strcmp(method, "POST") == 0;
    if (r->is_delete)
        return strcmp(method, "DELETE") == 0;
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

bool cog_route_is_open(const cog_server *s, const cog_route *r)
{
    return r->is_open && !(r->is_metrics && s->cfg.metrics_auth);
}

/* The address for metrics has nothing but them and probes, and then no other has them. */
static bool is_here(const cog_exchange *x, const cog_route *r)
{
    const cog_server *s = x->server;

    if (s->shards[x->shard].is_metrics)
        return r->is_open;
    return !r->is_metrics || !s->cfg.metrics_listen;
}

bool cog_route_is_limited(const cog_route *r)
{
    return r->is_work || r->is_limited;
}

void cog_route_allow(char dst[COG_ALLOW_SIZE], const cog_route *r)
{
    size_t n = 0;

    for (size_t i = 0; i < N_ROUTES; i++) {
        const cog_route *other = &routes[i];

        if (is_same_address(other, r))
            n += (size_t)snprintf(dst + n, COG_ALLOW_SIZE - n, "%s%s", n ? ", " : "",
                                  other->is_post     ? "POST"
                                  : other->is_delete ? "DELETE"
                                                     : "GET, HEAD");
    }
}

/* Of those of one address, the one for the method; the first when there is none. */
static const cog_route *by_method(const cog_route *first, const char *method, cog_api_error *err)
{
    char methods[COG_ALLOW_SIZE];

    for (const cog_route *r = first; r < routes + N_ROUTES; r++) {
        if (is_same_address(r, first) && allows(r, method))
            return r;
    }
    cog_route_allow(methods, first);
    cog_api_error_set(err, COG_API_METHOD, NULL, "This address only takes %s.", methods);
    return first;
}

/* On the target as sent, so that nothing but the exact spelling matches. */
const cog_route *cog_route_find(cog_exchange *x, cog_api_error *err)
{
    size_t len = strcspn(x->target, "?");

    *err = (cog_api_error){ 0 };
    if (cog_cors_is_preflight(&x->server->cfg, &x->head))
        return preflight();
    if (len > 1 && x->target[len - 1] == '/')
        len--;
    for (size_t i = 0; i < N_ROUTES; i++) {
        const cog_route *r = &routes[i];

        if (r->is_preflight || !matches(r, x->target, len) || !is_here(x, r))
            continue;
        if (r->is_prefix)
            x->name = strstr(x->target, r->path) + strlen(r->path);
        return by_method(r, x->head.method, err);
    }
    cog_api_error_set(err, COG_API_UNKNOWN_URL, NULL, "There is no such address on this server.");
    return NULL;
}

int cog_route_describe(cog_openapi_route out[COG_MAX_HANDLERS], const cog_server *s)
{
    int n = 0;

    for (int i = 0; i < N_ROUTES; i++) {
        const cog_route *r = &routes[i];

        if (r->is_preflight || (r->is_metrics && s->cfg.metrics_listen))
            continue;
        out[n] = (cog_openapi_route){ .is_post = r->is_post,
                                      .is_form = r->is_form,
                                      .is_delete = r->is_delete,
                                      .is_open = cog_route_is_open(s, r),
                                      .is_limited = cog_route_is_limited(r),
                                      .is_work = r->is_work };
        cog_route_name(out[n++].path, i);
    }
    return n;
}

int cog_route_count(void)
{
    return N_ROUTES + 1;
}

int cog_route_index(const cog_route *r)
{
    return r ? (int)(r - routes) : N_ROUTES;
}

void cog_route_name(char dst[64], int index)
{
    const cog_route *r = &routes[index];

    if (index == N_ROUTES)
        snprintf(dst, 64, "none");
    else
        snprintf(dst, 64, "%s%s%s%s", r->has_v1 ? "/v1" : "", r->path, r->is_prefix ? "{id}" : "",
                 r->suffix ? r->suffix : "");
}
