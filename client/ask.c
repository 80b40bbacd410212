#include "client/ask.h"

#include "base/alloc.h"
#include "proto/chat_read.h"

#include <string.h>

/* What the clock needs to know of the bytes being read. */
typedef struct reading {
    cog_ask *x;
    uint64_t ns;
} reading;

static void take_usage(cog_ask *x, const cog_chat_chunk *chunk)
{
    cog_bench_sample *s = &x->sample;

    if (!chunk->has_usage)
        return;
    x->has_usage = true;
    s->prompt_tokens = chunk->prompt_tokens;
    s->output_tokens = chunk->completion_tokens;
    s->cached_tokens = chunk->cached_tokens;
    s->image_tokens = chunk->image_tokens;
}

static void take_choices(cog_ask *x, uint64_t ns)
{
    cog_bench_sample *s = &x->sample;

    if (s->first_ns) {
        float gap = (float)((double)(ns - s->last_ns) / 1e6);
        cog_buf_add(&x->gaps, &gap, sizeof(gap));
    } else {
        s->first_ns = ns;
    }
    s->last_ns = ns;
}

static void take_event(void *arg, const char *data, size_t len)
{
    reading *r = arg;
    cog_ask *x = r->x;
    cog_chat_chunk chunk;

    if (x->is_done)
        return;
    if (len == 6 && memcmp(data, "[DONE]", 6) == 0) {
        x->is_done = true;
    } else if (cog_chat_read(&chunk, data, len) < 0) {
        x->is_malformed = true;
    } else {
        x->has_error |= chunk.is_error;
        x->n_texts += chunk.has_text;
        take_usage(x, &chunk);
        if (chunk.has_choices)
            take_choices(x, r->ns);
    }
}

static void on_bytes(cog_wire_call *c, uint64_t ns, const char *data, size_t len)
{
    cog_ask *x = c->user;
    reading r = { .x = x, .ns = ns };

    if (x->is_stream && c->status == 200)
        cog_sse_read(&x->events, data, len, take_event, &r);
    else
        cog_buf_add(&x->whole, data, len);
}

/* An answer in one piece: it has an end, and no first token. */
static void read_whole(cog_ask *x)
{
    cog_chat_chunk answer;

    if (cog_chat_read(&answer, x->whole.data, x->whole.len) < 0) {
        x->is_malformed = true;
        return;
    }
    x->has_error = answer.is_error;
    x->n_texts = answer.has_text;
    take_usage(x, &answer);
    if (answer.has_choices)
        x->sample.last_ns = x->call.end_ns;
    x->is_done = true;
}

static cog_bench_outcome outcome_of(const cog_ask *x, cog_wire_end how)
{
    if (how == COG_WIRE_CONNECT)
        return COG_BENCH_CONNECT;
    if (how == COG_WIRE_TIMEOUT)
        return COG_BENCH_TIMEOUT;
    if (how == COG_WIRE_BAD)
        return COG_BENCH_MALFORMED;
    if (x->call.status == 503 && x->call.has_retry_after)
        return COG_BENCH_OVERLOADED;
    if (x->call.status && x->call.status != 200)
        return COG_BENCH_STATUS;
    if (x->has_error)
        return COG_BENCH_STREAM_ERROR;
    if (how == COG_WIRE_CUT)
        return COG_BENCH_CUT;
    if (x->is_malformed)
        return COG_BENCH_MALFORMED;
    if (!x->is_done)
        return COG_BENCH_UNFINISHED;
    return x->sample.last_ns ? COG_BENCH_OK : COG_BENCH_EMPTY;
}

static void on_end(cog_wire_call *c, cog_wire_end how)
{
    cog_ask *x = c->user;
    cog_bench_sample *s = &x->sample;
    size_t bytes;

    if (how == COG_WIRE_WHOLE && c->status == 200 && !x->is_stream)
        read_whole(x);
    s->status = c->status;
    s->end_ns = c->end_ns;
    s->outcome = outcome_of(x, how);
    s->is_estimated = s->outcome == COG_BENCH_OK && !x->has_usage;
    if (!x->has_usage)
        s->output_tokens = x->n_texts;
    s->gaps = (float *)(void *)cog_buf_detach(&x->gaps, &bytes);
    s->n_gaps = bytes / sizeof(float);
    x->end(x, x->arg);
}

cog_ask *cog_ask_new(bool is_stream, void (*end)(cog_ask *x, void *arg), void *arg)
{
    cog_ask *x = cog_new(cog_ask);

    x->call =
        (cog_wire_call){ .path = "/chat/completions", .user = x, .bytes = on_bytes, .end = on_end };
    x->is_stream = is_stream;
    x->end = end;
    x->arg = arg;
    return x;
}

void cog_ask_free(cog_ask *x)
{
    if (!x)
        return;
    cog_buf_fini(&x->call.body);
    cog_sse_reader_fini(&x->events);
    cog_buf_fini(&x->whole);
    cog_buf_fini(&x->gaps);
    cog_free(x);
}
