#include "server/internal.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static int clamp(double v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : (int)v;
}

/* Accepted and not yet running, wherever they are. */
static int n_waiting(const cog_server *s)
{
    cog_engine_stats stats = { 0 };

    if (s->engine)
        cog_engine_get_stats(s->engine, &stats);
    return stats.waiting + s->n_preparing + s->n_parsing;
}

bool cog_status_has_room(const cog_server *s, int n)
{
    return n_waiting(s) + n <= cog_engine_get_info(s->engine)->max_queue;
}

/* How long the queue that is there now takes at the pace of late. */
int cog_status_retry_ms(cog_server *s)
{
    uint64_t ns = cog_outflow_ns(&s->outflow, cog_now_ns(), n_waiting(s));

    return clamp((double)ns * 1e-6, 1000, 30000);
}

static int loading_ms(cog_server *s)
{
    double age = (double)(cog_now_ns() - s->open_ns) * 1e-9;
    cog_engine_state state;

    cog_engine_get_state(s->engine, &state);
    if (state.progress < 0.01)
        return 5000;
    return clamp(1000 * age * (1 - state.progress) / state.progress, 1000, 60000);
}

void cog_status_text(cog_server *s, cog_api_code code, cog_api_error *err)
{
    const char *text = "The server failed to answer this request.";
    int retry = 0;

    switch (code) {
    case COG_API_OVERLOADED:
        text = "The server has as much work as it can hold. Try again shortly.";
        retry = cog_status_retry_ms(s);
        break;
    case COG_API_LOADING:
        text = "The model is still being loaded. Try again shortly.";
        retry = loading_ms(s);
        break;
    case COG_API_DRAINING:
        text = "The server is shutting down. Try again.";
        retry = 1000;
        break;
    case COG_API_SCHEMA_COMPLEX:
        text = "The schema is too ambiguous: too many of its alternatives look the same for long.";
        break;
    case COG_API_DEADLINE:
        text = "The request took longer than the time limit of this server.";
        break;
    default:
        break;
    }
    cog_api_error_set(err, code, NULL, "%s", text);
    err->retry_after_ms = retry;
}

void cog_status_fail(cog_api_error *err, const char *id)
{
    cog_api_error_set(err, COG_API_INTERNAL, NULL,
                      "The server failed to answer this request (request id %s).", id);
}

bool cog_status_check(cog_server *s, cog_api_error *err)
{
    cog_engine_state state;

    cog_engine_get_state(s->engine, &state);
    if (s->phase != COG_SERVER_SERVING)
        cog_status_text(s, COG_API_DRAINING, err);
    else if (state.phase == COG_ENGINE_LOADING)
        cog_status_text(s, COG_API_LOADING, err);
    else if (state.phase == COG_ENGINE_FAILED)
        cog_status_text(s, COG_API_INTERNAL, err);
    else
        return true;
    return false;
}

const char *cog_status_fingerprint(cog_server *s)
{
    const cog_engine_info *info = cog_engine_get_info(s->engine);
    cog_sha256 digest;

    if (s->fingerprint[0] || !info)
        return s->fingerprint;
    digest = cog_sha256_of((const cog_span[]){ { &info->fingerprint, sizeof(info->fingerprint) },
                                               { info->backend, strlen(info->backend) + 1 },
                                               { info->dtype, strlen(info->dtype) + 1 },
                                               { COG_VERSION, strlen(COG_VERSION) } },
                           4);
    snprintf(s->fingerprint, sizeof(s->fingerprint), "fp_%02x%02x%02x%02x%02x", digest.byte[0],
             digest.byte[1], digest.byte[2], digest.byte[3], digest.byte[4]);
    return s->fingerprint;
}
