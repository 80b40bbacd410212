#include "server/record.h"

#include "base/clock.h"
#include "proto/traceparent.h"

#include <string.h>

const char *cog_at_name(int at)
{
    static const char *const names[COG_N_AT] = {
        [COG_AT_READ] = "read",
        [COG_AT_IMAGE_WAIT] = "image_wait",
        [COG_AT_IMAGE_DECODE] = "image_decode",
        [COG_AT_ENGINE + COG_STAGE_ENCODE_WAIT] = "encode_wait",
        [COG_AT_ENGINE + COG_STAGE_ENCODE] = "encode",
        [COG_AT_ENGINE + COG_STAGE_QUEUE] = "queue",
        [COG_AT_ENGINE + COG_STAGE_PREFILL] = "prefill",
        [COG_AT_ENGINE + COG_STAGE_DECODE] = "decode",
        [COG_AT_WRITE] = "write",
    };

    return names[at];
}

const char *cog_outcome_name(cog_outcome o)
{
    static const char *const names[COG_N_OUT] = {
        [COG_OUT_NONE] = "none",   [COG_OUT_STOP] = "stop",   [COG_OUT_LENGTH] = "length",
        [COG_OUT_ABORT] = "abort", [COG_OUT_ERROR] = "error", [COG_OUT_REJECTED] = "rejected",
    };

    return names[o];
}

const char *cog_reason_name(cog_reason r)
{
    static const char *const names[COG_N_REASONS] = {
        [COG_REASON_OVERLOADED] = "overloaded", [COG_REASON_RATE_LIMIT] = "rate_limit",
        [COG_REASON_DRAINING] = "draining",     [COG_REASON_LOADING] = "loading",
        [COG_REASON_BAD_IMAGE] = "bad_image",   [COG_REASON_CONTEXT] = "context",
        [COG_REASON_INVALID] = "invalid",
    };

    return names[r];
}

cog_reason cog_reason_of(cog_api_code code)
{
    switch (code) {
    case COG_API_OVERLOADED:
        return COG_REASON_OVERLOADED;
    case COG_API_DRAINING:
        return COG_REASON_DRAINING;
    case COG_API_LOADING:
        return COG_REASON_LOADING;
    case COG_API_TOO_MANY_IMAGES:
    case COG_API_IMAGE_URL:
    case COG_API_IMAGE_BASE64:
    case COG_API_IMAGE_EMPTY:
    case COG_API_IMAGE_FILE_SIZE:
    case COG_API_IMAGE_MEDIA_TYPE:
    case COG_API_IMAGE_BROKEN:
    case COG_API_IMAGE_TOO_LARGE:
    case COG_API_IMAGE_TOO_SMALL:
    case COG_API_IMAGE_DOWNLOAD:
    case COG_API_IMAGE_DOWNLOAD_LATER:
    case COG_API_IMAGE_FILE_NOT_FOUND:
    case COG_API_QUARANTINED:
        return COG_REASON_BAD_IMAGE;
    case COG_API_CONTEXT_LENGTH:
        return COG_REASON_CONTEXT;
    default:
        break;
    }
    if (cog_api_error_status(code) == 429)
        return COG_REASON_RATE_LIMIT;
    return cog_api_error_status(code) < 500 ? COG_REASON_INVALID : COG_REASON_NONE;
}

/* ------------------------------------------------------------------ the head */

static const char *const methods[COG_N_METHODS] = { "GET", "HEAD",   "POST", "OPTIONS",
                                                    "PUT", "DELETE", "other" };

const char *cog_method_name(cog_method m)
{
    return methods[m];
}

static cog_method method_of(const char *name)
{
    int i = 0;

    while (i < COG_METHOD_OTHER && strcmp(name, methods[i]) != 0)
        i++;
    return (cog_method)i;
}

/* A value that is short and visible, as names of objectives and clients are; else none. */
static void note(char dst[COG_NOTE_SIZE], const char *value)
{
    size_t n = 0;

    if (!value)
        return;
    while (value[n] > ' ' && value[n] < 0x7f)
        n++;
    if (value[n] == '\0' && n < COG_NOTE_SIZE)
        memcpy(dst, value, n + 1);
}

void cog_record_init(cog_record *r)
{
    r->method = COG_METHOD_OTHER;
    r->image_format = -1;
    r->since_ns = cog_now_ns();
}

void cog_record_head(cog_record *r, const cog_head *h)
{
    cog_traceparent trace;

    r->method = method_of(h->method);
    r->n_retries = h->n_retries;
    note(r->objective, h->objective);
    note(r->fairness, h->fairness);
    if (h->n_traceparent == 1 && cog_traceparent_read(&trace, h->traceparent))
        memcpy(r->trace_id, trace.trace_id, sizeof(r->trace_id));
}

/* ------------------------------------------------------------------ the way */

/* Counts the time up to now for where it is. */
static void spend(cog_record *r, uint64_t now)
{
    uint64_t decode_ns = r->decode_ns;

    if (now < r->since_ns)
        now = r->since_ns;
    if (r->at == COG_AT_IMAGE_WAIT && decode_ns > r->since_ns && decode_ns <= now) {
        r->ns[COG_AT_IMAGE_WAIT] += decode_ns - r->since_ns;
        r->ns[COG_AT_IMAGE_DECODE] += now - decode_ns;
    } else if (r->at != COG_AT_ENGINE) {
        r->ns[r->at] += now - r->since_ns;
    }
    r->since_ns = now;
}

void cog_record_enter(cog_record *r, cog_at at)
{
    spend(r, cog_now_ns());
    r->at = at;
}

cog_at cog_record_at(const cog_record *r)
{
    return r->at == COG_AT_IMAGE_WAIT && r->decode_ns ? COG_AT_IMAGE_DECODE : r->at;
}

void cog_record_picture(cog_record *r, const uint8_t *bytes, size_t len)
{
    r->image_bytes += len;
    r->image_format = -1;
    if (len >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        r->image_format = COG_JPEG;
    else if (len >= 4 && memcmp(bytes, "\x89PNG", 4) == 0)
        r->image_format = COG_PNG;
    else if (len >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        r->image_format = COG_WEBP;
    else if (len >= 4 && memcmp(bytes, "GIF8", 4) == 0)
        r->image_format = COG_GIF;
}

uint64_t cog_record_token(cog_record *r, cog_pace *pace, int n_tokens)
{
    uint64_t now = cog_now_ns(), gap = pace->last_ns ? now - pace->last_ns : 0;

    if (!r->first_ns)
        r->first_ns = now;
    if (pace->last_ns) {
        r->gap_ns += gap;
        r->n_gaps += (uint64_t)n_tokens;
    } else {
        r->n_gaps += (uint64_t)n_tokens - 1;
    }
    r->last_ns = pace->last_ns = now;
    pace->n_tokens += n_tokens;
    if (pace->n_tokens > r->most_tokens)
        r->most_tokens = pace->n_tokens;
    return gap;
}

static cog_at last_stage(const cog_usage *usage)
{
    for (int i = COG_N_STAGES - 1; i >= 0; i--) {
        if (usage->stage_ns[i])
            return (cog_at)(COG_AT_ENGINE + i);
    }
    return (cog_at)(COG_AT_ENGINE + COG_STAGE_QUEUE);
}

void cog_record_usage(cog_record *r, const cog_usage *usage)
{
    r->usage = *usage;
    r->has_usage = true;
    for (int i = 0; i < COG_N_STAGES; i++)
        r->ns[COG_AT_ENGINE + i] = usage->stage_ns[i];
    if (r->has_left && r->left_at == COG_AT_ENGINE)
        r->left_at = last_stage(usage);
    cog_record_enter(r, COG_AT_WRITE);
}

static double ms(uint64_t ns)
{
    return (double)ns * 1e-6;
}

void cog_record_measure(cog_answer_metrics *out, const cog_record *r)
{
    const uint64_t *ns = r->usage.stage_ns;
    uint64_t whole_ns = r->last_ns - r->begin_ns;

    *out = (cog_answer_metrics){
        .time_to_first_token_ms = ms((r->written_ns ? r->written_ns : r->first_ns) - r->begin_ns),
        .generation_time_ms = ms(r->last_ns - r->first_ns),
        .queue_time_ms = ms(ns[COG_STAGE_ENCODE_WAIT] + ns[COG_STAGE_QUEUE]),
        .image_decode_ms = ms(r->ns[COG_AT_IMAGE_DECODE]),
        .vision_encode_ms = ms(ns[COG_STAGE_ENCODE]),
        .prefill_ms = ms(ns[COG_STAGE_PREFILL]),
        .mean_itl_ms = r->n_gaps ? ms(r->gap_ns) / (double)r->n_gaps : -1,
        .tokens_per_second = whole_ns ? r->usage.completion_tokens / ((double)whole_ns * 1e-9) : 0,
    };
}

void cog_record_left(cog_record *r)
{
    if (r->has_left)
        return;
    r->has_left = true;
    r->left_at = cog_record_at(r);
}

void cog_record_done(cog_record *r, bool is_finished)
{
    r->done_ns = cog_now_ns();
    r->is_finished = is_finished;
}

void cog_record_close(cog_record *r)
{
    spend(r, r->done_ns);
}

cog_outcome cog_record_outcome(const cog_record *r)
{
    if (!r->is_work)
        return COG_OUT_NONE;
    if (r->error) {
        cog_reason reason = cog_reason_of(r->error);
        if (reason == COG_REASON_NONE)
            return COG_OUT_ERROR;
        return r->is_submitted ? COG_OUT_ABORT : COG_OUT_REJECTED;
    }
    if (!r->is_finished)
        return COG_OUT_ABORT;
    return r->is_length ? COG_OUT_LENGTH : COG_OUT_STOP;
}
