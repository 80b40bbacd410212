#include "server/internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "proto/json_write.h"
#include "proto/percent.h"
#include "server/chat_prompt.h"

#include <string.h>

static void answer(cog_exchange *x, int status, const char *type)
{
    x->reply.status = status;
    x->reply.type = type;
    cog_exchange_reply(x);
}

static void answer_json(cog_exchange *x, int status)
{
    answer(x, status, "application/json");
}

/* ------------------------------------------------------------------ models */

static void write_model(cog_buf *out, const cog_server *s, const char *id)
{
    const cog_engine_info *info = cog_engine_get_info(s->engine);

    cog_buf_puts(out, "{\"id\":");
    cog_json_write_string(out, id);
    cog_buf_printf(out,
                   ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"cogwheel\",\"root\":",
                   (long long)s->created);
    cog_json_write_string(out, s->cfg.served_names[0]);
    cog_buf_puts(out, ",\"parent\":null");
    if (info)
        cog_buf_printf(out, ",\"max_model_len\":%d", info->context);
    cog_buf_puts(out,
                 ",\"permission\":[],\"architecture\":{\"input_modalities\":[\"text\",\"image\"],"
                 "\"output_modalities\":[\"text\"]}");
    if (info) {
        cog_buf_printf(out,
                       ",\"meta\":{\"image_tokens\":%d,\"image_size\":%d,\"max_images\":%d,"
                       "\"quantization\":",
                       info->image_tokens, info->image_side, s->cfg.max_images);
        cog_json_write_string(out, info->dtype);
        cog_buf_puts(out, ",\"engine\":");
        cog_json_write_string(out, info->backend);
        cog_buf_printf(out, ",\"weights_fingerprint\":\"%016llx\"}",
                       (unsigned long long)info->fingerprint);
    }
    cog_buf_puts(out, "}");
}

void cog_admin_models(cog_exchange *x)
{
    const cog_server *s = x->server;
    cog_buf *out = &x->reply.body;

    cog_buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < s->cfg.n_served_names; i++) {
        if (i)
            cog_buf_puts(out, ",");
        write_model(out, s, s->cfg.served_names[i]);
    }
    cog_buf_puts(out, "]}");
    answer_json(x, 200);
}

/* %XX undone; the length loses one final slash, as every path does. */
static char *decode_name(const char *name)
{
    size_t len = strcspn(name, "?"), n = 0;
    char *out = cog_strndup(name, len);

    if (len > 1 && name[len - 1] == '/')
        len--;
    for (size_t i = 0; i < len; i++) {
        int byte = cog_percent_byte(name + i, len - i);

        out[n++] = byte < 0 ? name[i] : (char)byte;
        i += byte < 0 ? 0 : 2;
    }
    out[n] = '\0';
    return out;
}

void cog_admin_model(cog_exchange *x)
{
    const cog_server *s = x->server;
    char *id = decode_name(x->name);
    char quoted[COG_API_QUOTE];
    cog_api_error err;

    for (int i = 0; i < s->cfg.n_served_names; i++) {
        if (strcmp(id, s->cfg.served_names[i]) == 0) {
            write_model(&x->reply.body, s, id);
            answer_json(x, 200);
            cog_free(id);
            return;
        }
    }
    cog_api_error_set(&err, COG_API_MODEL_NOT_FOUND, "model", "The model %s does not exist.",
                      cog_api_quote(quoted, id, strlen(id)));
    cog_free(id);
    cog_exchange_fail(x, &err);
}

void cog_admin_version(cog_exchange *x)
{
    const cog_engine_info *info = cog_engine_get_info(x->server->engine);
    cog_buf *out = &x->reply.body;

    cog_buf_printf(out,
                   "{\"version\":\"" COG_VERSION "\",\"commit\":\"%s\",\"engine\":", cog_commit);
    cog_json_write_string(out, info ? info->backend : NULL);
    cog_buf_puts(out, ",\"model\":");
    cog_json_write_string(out, x->server->cfg.served_names[0]);
    cog_buf_puts(out, ",\"quantization\":");
    cog_json_write_string(out, info ? info->dtype : NULL);
    cog_buf_puts(out, "}");
    answer_json(x, 200);
}

/* Written anew each time: what is known of the model changes when it is loaded. */
void cog_admin_openapi(cog_exchange *x)
{
    const cog_server *s = x->server;
    const cog_engine_info *info = cog_engine_get_info(s->engine);
    cog_openapi_route routes[COG_MAX_HANDLERS];
    cog_openapi_server about = { .version = COG_VERSION,
                                 .routes = routes,
                                 .n_routes = cog_route_describe(routes, s),
                                 .max_n = cog_chat_prompt_max_n(s),
                                 .vocab = info ? info->vocab : 0,
                                 .has_keys = !s->everybody,
                                 .has_strict = s->cfg.strict_parameters };

    cog_openapi_write(&x->reply.body, &about);
    answer_json(x, 200);
}

void cog_admin_metrics(cog_exchange *x)
{
    cog_metrics_write(&x->reply.body, x->server);
    answer(x, 200, "text/plain; version=0.0.4; charset=utf-8");
}

/* ------------------------------------------------------------------ probes */

/* An idle engine waits without a beat, so age only counts while it has work. */
static bool is_stuck(const cog_server *s, const cog_engine_state *state)
{
    uint64_t last = state->heartbeat_ns > s->submitted_ns ? state->heartbeat_ns : s->submitted_ns;

    return state->phase == COG_ENGINE_READY && s->n_submitted > 0 &&
           cog_now_ns() > last + (uint64_t)s->cfg.watchdog_ms * 1000000;
}

void cog_admin_livez(cog_exchange *x)
{
    cog_engine_state state;
    const char *word = NULL;

    cog_engine_get_state(x->server->engine, &state);
    if (state.phase == COG_ENGINE_FAILED || x->server->has_failed)
        word = "failed";
    else if (is_stuck(x->server, &state))
        word = "stuck";
    if (word) {
        cog_buf_printf(&x->reply.body, "{\"status\":\"%s\"}", word);
        answer_json(x, 503);
    } else {
        cog_buf_puts(&x->reply.body, "ok");
        answer(x, 200, "text/plain; charset=utf-8");
    }
}

void cog_admin_readyz(cog_exchange *x)
{
    cog_engine_state state;
    const char *word = "ready";

    cog_engine_get_state(x->server->engine, &state);
    if (state.phase == COG_ENGINE_FAILED)
        word = "failed";
    else if (x->server->phase != COG_SERVER_SERVING)
        word = "draining";
    else if (state.phase == COG_ENGINE_LOADING)
        word = "loading";
    cog_buf_printf(&x->reply.body, "{\"status\":\"%s\",\"progress\":%.3f}", word,
                   state.phase == COG_ENGINE_READY ? 1.0 : state.progress);
    answer_json(x, strcmp(word, "ready") == 0 ? 200 : 503);
}

void cog_admin_health(cog_exchange *x)
{
    cog_api_error err;

    if (!cog_status_check(x->server, &err)) {
        cog_api_error_write(&x->reply.body, &err);
        if (err.retry_after_ms)
            cog_reply_header(&x->reply, "Retry-After", "%d", (err.retry_after_ms + 999) / 1000);
        answer_json(x, 503);
        return;
    }
    cog_buf_puts(&x->reply.body, "{\"status\":\"ok\"}");
    answer_json(x, 200);
}
