/* metrics_text.c - /metrics: first the names that vLLM's dashboards, routers and gateways read,
 * then our own. Everything comes from one snapshot of the engine's statistics and of the exchanges,
 * so that the numbers of one page agree with each other. */
#include "server/metrics.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/prometheus.h"
#include "server/internal.h"

#include <stdio.h>
#include <string.h>

typedef struct page {
    cog_buf *out;
    cog_server *s;
    const cog_metrics *m;
    const cog_engine_info *info; /* NULL while loading */
    cog_engine_state state;
    cog_engine_stats stats;
    cog_buf labels;   /* of all of vLLM's series: model_name, engine */
    int at[COG_N_AT]; /* requests in each place */
} page;

/* ------------------------------------------------------------------ one family at a time */

static void counter(page *p, const char *name, const char *labels, uint64_t value, const char *help)
{
    cog_prom_family(p->out, name, "counter", help);
    cog_prom_count(p->out, name, labels, value);
}

static void gauge(page *p, const char *name, const char *labels, double value, const char *help)
{
    cog_prom_family(p->out, name, "gauge", help);
    cog_prom_value(p->out, name, labels, value);
}

static void histogram(page *p, const char *name, const char *labels, const cog_histogram *h,
                      const char *help)
{
    cog_prom_family(p->out, name, "histogram", help);
    cog_prom_histogram(p->out, name, labels, h);
}

/* A sample of a family whose only label has a value from a list of ours. */
static void labelled(page *p, const char *name, const char *label, const char *value, uint64_t n)
{
    char labels[96];

    snprintf(labels, sizeof(labels), "%s=\"%s\"", label, value);
    cog_prom_count(p->out, name, labels, n);
}

/* ------------------------------------------------------------------ the snapshot */

/* The engine publishes after each step: what it took since, or has not taken yet, is waiting. A
 * request with several prompts is several to it: then its stages are those of all in proportion. */
static void count_engine(page *p)
{
    int *at = p->at + COG_AT_ENGINE;
    int submitted = at[0], seen = 0, passed = 0;

    for (int i = 0; i < COG_N_STAGES; i++)
        seen += p->stats.in_stage[i];
    for (int i = 0; i < COG_N_STAGES; i++) {
        int before = seen > submitted ? (int)((int64_t)passed * submitted / seen) : passed;

        passed += p->stats.in_stage[i];
        at[i] = (seen > submitted ? (int)((int64_t)passed * submitted / seen) : passed) - before;
    }
    if (seen < submitted)
        at[COG_STAGE_QUEUE] += submitted - seen;
}

static void look(page *p, cog_server *s, cog_buf *out)
{
    *p = (page){ .out = out, .s = s, .m = &s->metrics, .info = cog_engine_get_info(s->engine) };
    cog_metrics_fit(&s->metrics, p->info);
    cog_engine_get_state(s->engine, &p->state);
    cog_engine_get_stats(s->engine, &p->stats);
    cog_prom_label(&p->labels, "model_name", s->cfg.served_names[0]);
    cog_prom_label(&p->labels, "engine", "0");
    for (const cog_exchange *x = s->exchanges; x; x = x->next) {
        if (x->record.is_work)
            p->at[cog_record_at(&x->record)]++;
    }
    count_engine(p);
}

/* ------------------------------------------------------------------ vLLM's names */

static void write_state(page *p)
{
    const char *labels = p->labels.data;
    const int *engine = p->at + COG_AT_ENGINE;
    double used = p->info ? (double)p->stats.blocks_used / p->info->n_blocks : 0;

    gauge(
        p, "vllm:num_requests_waiting", labels,
        p->at[COG_AT_IMAGE_WAIT] + p->at[COG_AT_IMAGE_DECODE] + engine[COG_STAGE_ENCODE_WAIT] +
            engine[COG_STAGE_ENCODE] + engine[COG_STAGE_QUEUE],
        "Requests accepted and not yet scheduled, those whose picture is decoded or encoded too.");
    gauge(p, "vllm:num_requests_running", labels,
          engine[COG_STAGE_PREFILL] + engine[COG_STAGE_DECODE], "Requests in prefill or decode.");
    gauge(p, "vllm:kv_cache_usage_perc", labels, used, "Share of the KV pages in use, 0 to 1.");
    gauge(p, "vllm:gpu_cache_usage_perc", labels, used, "Former name of vllm:kv_cache_usage_perc.");
}

static void write_cache_config(page *p)
{
    const cog_engine_info *info = p->info;
    cog_buf labels = { 0 };
    char number[24];

    cog_buf_puts(&labels, p->labels.data);
    snprintf(number, sizeof(number), "%d", info ? info->block : 0);
    cog_prom_label(&labels, "block_size", number);
    snprintf(number, sizeof(number), "%d", info ? info->n_blocks : 0);
    cog_prom_label(&labels, "num_gpu_blocks", number);
    cog_prom_label(&labels, "cache_dtype", info ? info->dtype : "");
    cog_prom_label(&labels, "enable_prefix_caching", info && info->prefix_cache ? "True" : "False");
    gauge(p, "vllm:cache_config_info", labels.data, 1, "How the KV cache is laid out.");
    cog_buf_fini(&labels);
}

static void write_outcomes(page *p)
{
    static const cog_outcome outcomes[] = { COG_OUT_STOP, COG_OUT_LENGTH, COG_OUT_ABORT,
                                            COG_OUT_ERROR };

    cog_prom_family(p->out, "vllm:request_success_total", "counter",
                    "Requests that ended, by how; those that were rejected are not among them.");
    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        cog_buf labels = { 0 };

        cog_buf_puts(&labels, p->labels.data);
        cog_prom_label(&labels, "finished_reason", cog_outcome_name(outcomes[i]));
        cog_prom_count(p->out, "vllm:request_success_total", labels.data, p->m->ended[outcomes[i]]);
        cog_buf_fini(&labels);
    }
}

static void write_vllm_counters(page *p)
{
    const cog_engine_stats *st = &p->stats;
    const char *labels = p->labels.data;
    double rate = st->prefix_queries ? (double)st->prefix_hits / (double)st->prefix_queries : 0;

    counter(p, "vllm:prompt_tokens_total", labels, st->prompt_tokens,
            "Prompt tokens of requests that got a token, picture tokens included.");
    counter(p, "vllm:generation_tokens_total", labels, st->tokens, "Tokens generated.");
    write_outcomes(p);
    counter(p, "vllm:num_preemptions_total", labels, st->preemptions,
            "Times that a running request gave its pages back and waited again.");
    counter(p, "vllm:prefix_cache_queries_total", labels, st->prefix_queries,
            "Prompt tokens looked up in the prefix cache.");
    counter(p, "vllm:prefix_cache_hits_total", labels, st->prefix_hits,
            "Prompt tokens found there.");
    counter(p, "vllm:gpu_prefix_cache_queries_total", labels, st->prefix_queries,
            "Former name of vllm:prefix_cache_queries_total.");
    counter(p, "vllm:gpu_prefix_cache_hits_total", labels, st->prefix_hits,
            "Former name of vllm:prefix_cache_hits_total.");
    gauge(p, "vllm:gpu_prefix_cache_hit_rate", labels, rate,
          "Share of the looked-up prompt tokens that were found since the start, 0 to 1.");
    counter(p, "vllm:mm_cache_queries_total", labels, st->image_queries,
            "Pictures looked up in the caches.");
    counter(p, "vllm:mm_cache_hits_total", labels, st->image_hits,
            "Pictures found encoded or computed.");
}

static void write_vllm_histograms(page *p)
{
    const cog_metrics *m = p->m;
    const struct {
        const char *name;
        const cog_histogram *h;
        const char *help;
    } rows[] = {
        { "vllm:time_to_first_token_seconds", &m->first_token,
          "From the last byte of the request to the first token written." },
        { "vllm:inter_token_latency_seconds", &m->gap, "Between the tokens of an answer, pooled." },
        { "vllm:time_per_output_token_seconds", &m->gap,
          "Former name of vllm:inter_token_latency_seconds." },
        { "vllm:request_time_per_output_token_seconds", &m->per_token,
          "A request's mean time for a token after the first." },
        { "vllm:e2e_request_latency_seconds", &m->whole,
          "From the last byte of the request to the end of its answer." },
        { "vllm:request_queue_time_seconds", &m->queue,
          "From the engine's acceptance to the first step with the request." },
        { "vllm:request_prefill_time_seconds", &m->prefill, "From there to the first token." },
        { "vllm:request_decode_time_seconds", &m->decode, "From the first token to the last." },
        { "vllm:request_inference_time_seconds", &m->inference, "Prefill and decode." },
        { "vllm:request_prompt_tokens", &m->prompt_tokens, "Prompt tokens of a request." },
        { "vllm:request_generation_tokens", &m->output_tokens,
          "Tokens generated for a request, all choices." },
        { "vllm:request_max_num_generation_tokens", &m->most_tokens,
          "Tokens of a request's longest choice." },
        { "vllm:request_params_max_tokens", &m->max_tokens,
          "Limit of the answer, as asked or as the context leaves it." },
        { "vllm:request_params_n", &m->n, "Choices asked for." },
        { "vllm:iteration_tokens_total", &p->stats.step_tokens, "Tokens of an engine step." },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        histogram(p, rows[i].name, p->labels.data, rows[i].h, rows[i].help);
}

/* ------------------------------------------------------------------ usual names */

static void http_labels(char dst[160], int handler, cog_method method)
{
    char name[64];

    cog_route_name(name, handler);
    snprintf(dst, 160, "handler=\"%s\",method=\"%s\"", name, cog_method_name(method));
}

static void write_http(page *p)
{
    static const char requests[] = "http_requests_total", time[] = "http_request_duration_seconds";
    char labels[160], with_status[192];

    cog_prom_family(p->out, requests, "counter",
                    "HTTP requests by the class of their status; 4xx also when the client left.");
    for (int h = 0; h < cog_route_count(); h++) {
        for (int k = 0; k < COG_N_METHODS; k++) {
            http_labels(labels, h, (cog_method)k);
            for (int c = 0; c < COG_N_CLASSES; c++) {
                if (!p->m->http[h][k].status[c])
                    continue;
                snprintf(with_status, sizeof(with_status), "%s,status=\"%dxx\"", labels, c + 1);
                cog_prom_count(p->out, requests, with_status, p->m->http[h][k].status[c]);
            }
        }
    }
    cog_prom_family(p->out, time, "histogram",
                    "From the first byte of a request to the end of its answer.");
    for (int h = 0; h < cog_route_count(); h++) {
        for (int k = 0; k < COG_N_METHODS; k++) {
            const cog_histogram *seconds = &p->m->http[h][k].seconds;
            uint64_t n = 0;

            for (int i = 0; i <= seconds->n; i++)
                n += seconds->count[i];
            http_labels(labels, h, (cog_method)k);
            if (n)
                cog_prom_histogram(p->out, time, labels, seconds);
        }
    }
}

static void write_process(page *p)
{
    cog_process_facts facts;

    cog_process_read(&p->s->process, &facts);
    cog_prom_family(p->out, "process_cpu_seconds_total", "counter", "Processor time used.");
    cog_prom_value(p->out, "process_cpu_seconds_total", NULL, facts.cpu_s);
    gauge(p, "process_resident_memory_bytes", NULL, (double)facts.rss_bytes, "Memory in use.");
    gauge(p, "process_open_fds", NULL, (double)facts.n_fds, "Open file descriptors.");
    gauge(p, "process_max_fds", NULL, (double)facts.max_fds, "Limit of open file descriptors.");
    gauge(p, "process_start_time_seconds", NULL, facts.start_s, "Start, in Unix time.");
}

/* ------------------------------------------------------------------ our own */

static void write_requests(page *p)
{
    static const char ended[] = "cogwheel_requests_ended_total",
                      rejected[] = "cogwheel_rejected_total";

    counter(p, "cogwheel_requests_total", NULL, p->m->requests,
            "Requests for an answer: ended, or in a stage.");
    cog_prom_family(p->out, ended, "counter", "Requests by how they ended.");
    for (int i = COG_OUT_STOP; i < COG_N_OUT; i++)
        labelled(p, ended, "reason", cog_outcome_name((cog_outcome)i), p->m->ended[i]);
    cog_prom_family(p->out, rejected, "counter", "Requests refused before the engine had them.");
    for (int i = 0; i < COG_N_REASONS; i++)
        labelled(p, rejected, "reason", cog_reason_name((cog_reason)i), p->m->rejected[i]);
    counter(p, "cogwheel_sdk_retries_total", NULL, p->m->retries,
            "Requests that an SDK says it tried before.");
}

static void write_stages(page *p)
{
    static const char in_stage[] = "cogwheel_requests_in_stage",
                      seconds[] = "cogwheel_stage_seconds",
                      left[] = "cogwheel_client_disconnects_total";
    char labels[64];

    cog_prom_family(p->out, in_stage, "gauge", "Requests by where they are.");
    for (int i = 0; i < COG_N_AT; i++)
        labelled(p, in_stage, "stage", cog_at_name(i), (uint64_t)p->at[i]);
    cog_prom_family(p->out, seconds, "histogram", "Time of a request in a stage.");
    for (int i = 0; i < COG_N_AT; i++) {
        snprintf(labels, sizeof(labels), "stage=\"%s\"", cog_at_name(i));
        cog_prom_histogram(p->out, seconds, labels, &p->m->stage[i]);
    }
    cog_prom_family(p->out, left, "counter",
                    "Requests whose client left, by where they were then.");
    for (int i = 0; i < COG_N_AT; i++)
        labelled(p, left, "stage", cog_at_name(i), p->m->left[i]);
}

static void write_picture_results(page *p, int format)
{
    static const cog_api_code faults[] = {
        COG_API_IMAGE_URL,        COG_API_IMAGE_BASE64,
        COG_API_IMAGE_EMPTY,      COG_API_IMAGE_FILE_SIZE,
        COG_API_IMAGE_BROKEN,     COG_API_IMAGE_TOO_LARGE,
        COG_API_IMAGE_MEDIA_TYPE, COG_API_IMAGE_TOO_SMALL,
        COG_API_QUARANTINED,      COG_API_IMAGE_FILE_NOT_FOUND,
    };
    static const cog_api_code downloads[] = { COG_API_IMAGE_DOWNLOAD,
                                              COG_API_IMAGE_DOWNLOAD_LATER };
    static const char *const formats[COG_N_FORMATS] = { "jpeg", "png", "webp", "gif", "unknown" };
    const uint64_t *n = p->m->images[format];
    uint64_t other = 0;
    char labels[96];

#define ADD(result, value)                                                                       \
    (snprintf(labels, sizeof(labels), "format=\"%s\",result=\"%s\"", formats[format], (result)), \
     cog_prom_count(p->out, "cogwheel_images_total", labels, (value)))
    for (int i = COG_API_NONE + 1; i < COG_API_N_CODES; i++)
        other += n[i];
    ADD("ok", n[COG_API_NONE]);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        ADD(cog_api_error_name(faults[i]), n[faults[i]]);
        other -= n[faults[i]];
    }
    ADD(cog_api_error_name(downloads[0]), n[downloads[0]] + n[downloads[1]]);
    ADD("error", other - n[downloads[0]] - n[downloads[1]]);
    ADD("abandoned", p->m->abandoned_images[format]);
#undef ADD
}

static void write_pictures(page *p)
{
    const cog_engine_stats *st = &p->stats;
    cog_decoder_stats decoder;

    cog_prom_family(p->out, "cogwheel_images_total", "counter",
                    "Pictures by format and by what became of decoding them.");
    for (int i = 0; i < COG_N_FORMATS; i++)
        write_picture_results(p, i);
    cog_decoder_get_stats(p->s->decoder, &decoder);
    cog_prom_family(p->out, "cogwheel_image_workers", "gauge",
                    "What decodes pictures; down: being started again.");
    labelled(p, "cogwheel_image_workers", "state", "up", (uint64_t)decoder.n_up);
    labelled(p, "cogwheel_image_workers", "state", "down",
             (uint64_t)(decoder.n_workers - decoder.n_up));
    counter(p, "cogwheel_image_files_total", NULL, decoder.n_asked,
            "Picture files looked up among those decoded lately.");
    counter(p, "cogwheel_image_files_cached_total", NULL, decoder.n_found,
            "Picture files that were found there and not decoded.");
    counter(p, "cogwheel_image_workers_died_total", NULL, decoder.n_died,
            "Helpers that died, were too slow or broke their rules.");
    cog_prom_family(p->out, "cogwheel_boxes_total", "counter",
                    "Boxes in answers that were asked for them; broken: left out.");
    labelled(p, "cogwheel_boxes_total", "result", "ok", p->m->boxes);
    labelled(p, "cogwheel_boxes_total", "result", "broken", p->m->broken_boxes);
    histogram(p, "cogwheel_image_pixels", NULL, &p->m->image_pixels, "Pixels of a decoded file.");
    counter(p, "cogwheel_image_tokens_total", NULL, st->image_tokens, "Picture tokens of prompts.");
    counter(p, "cogwheel_image_tokens_cached_total", NULL, st->image_tokens_cached,
            "Picture tokens found computed.");
    counter(p, "cogwheel_images_encoded_total", NULL, st->images_encoded,
            "Pictures that went through the vision tower.");
    histogram(p, "cogwheel_vision_batch_size", NULL, &st->vision_batch,
              "Pictures of a vision pass.");
}

static void write_files(page *p)
{
    static const char events[] = "cogwheel_files_total", lookups[] = "cogwheel_files_lookups_total";
    cog_file_stats st;

    cog_file_store_get_stats(p->s->files, &st);
    gauge(p, "cogwheel_files_stored", NULL, st.n, "Uploaded files that can be asked about.");
    gauge(p, "cogwheel_files_bytes", NULL, (double)st.bytes,
          "Memory of uploaded files and their pixels, deleted ones in use too.");
    gauge(p, "cogwheel_files_pinned_pages", NULL, p->stats.blocks_pinned,
          "Cached pages for keys and values of uploaded pictures, taken after all others.");
    cog_prom_family(p->out, events, "counter",
                    "Uploads that were stored or found no room, and files that went.");
    labelled(p, events, "event", "added", st.added);
    labelled(p, events, "event", "refused", st.refused);
    labelled(p, events, "event", "deleted", st.deleted);
    labelled(p, events, "event", "expired", st.expired);
    cog_prom_family(p->out, lookups, "counter", "Files looked up by their id.");
    labelled(p, lookups, "result", "found", st.found);
    labelled(p, lookups, "result", "missed", st.missed);
}

static void write_engine(page *p)
{
    const cog_engine_stats *st = &p->stats;
    uint64_t now = cog_now_ns(), beat = p->state.heartbeat_ns;

    counter(p, "cogwheel_engine_steps_total", NULL, st->steps, "Steps of the engine.");
    histogram(p, "cogwheel_decode_batch_size", NULL, &st->decode_batch,
              "Answers that grew in a step.");
    cog_prom_family(p->out, "cogwheel_expert_rows_total", "counter",
                    "Rows computed, by the weights that they go through.");
    labelled(p, "cogwheel_expert_rows_total", "expert", "vision", st->vision_rows);
    labelled(p, "cogwheel_expert_rows_total", "expert", "language", st->language_rows);
    cog_prom_family(p->out, "cogwheel_kv_pages", "gauge", "Pages for keys and values.");
    labelled(p, "cogwheel_kv_pages", "state", "free", (uint64_t)st->blocks_free);
    labelled(p, "cogwheel_kv_pages", "state", "used", (uint64_t)st->blocks_used);
    labelled(p, "cogwheel_kv_pages", "state", "cached", (uint64_t)st->blocks_cached);
    counter(p, "cogwheel_prompt_tokens_total", NULL, st->prompt_tokens,
            "Prompt tokens of requests that got a token.");
    counter(p, "cogwheel_output_tokens_total", NULL, st->tokens, "Tokens generated.");
    counter(p, "cogwheel_prefix_tokens_total", NULL, st->prefix_queries,
            "Prompt tokens looked up in the prefix cache.");
    counter(p, "cogwheel_prefix_tokens_cached_total", NULL, st->prefix_hits,
            "Prompt tokens found there.");
    counter(p, "cogwheel_preemptions_total", NULL, st->preemptions,
            "Times that a running request gave its pages back and waited again.");
    gauge(p, "cogwheel_engine_heartbeat_age_seconds", NULL,
          p->state.phase == COG_ENGINE_READY && now > beat ? (double)(now - beat) * 1e-9 : 0,
          "Since the engine last began a step or a wait; it beats once a second when idle.");
}

static void write_server(page *p)
{
    cog_buf labels = { 0 };

    histogram(p, "cogwheel_time_to_first_token_seconds", NULL, &p->m->first_token_fine,
              "From the last byte of the request to the first token written.");
    histogram(p, "cogwheel_inter_token_seconds", NULL, &p->m->gap_fine,
              "Between the tokens of an answer, pooled.");
    histogram(p, "cogwheel_request_seconds", NULL, &p->m->whole_fine,
              "From the last byte of the request to the end of its answer.");
    gauge(p, "cogwheel_connections", NULL, p->s->n_open, "Open connections.");
    counter(p, "cogwheel_connections_refused_total", NULL, p->m->refused_connections,
            "Connections beyond the limit, answered with a 503.");
    counter(p, "cogwheel_connection_shortages_total", NULL, p->s->n_shortages,
            "Connections for which descriptors or memory lacked.");
    gauge(p, "cogwheel_bodies_paused", NULL, p->s->n_paused,
          "Request bodies that wait for room in memory.");
    gauge(p, "cogwheel_inflight_body_bytes", NULL, (double)p->s->inflight,
          "Request bodies held in memory.");
    counter(p, "cogwheel_log_lines_lost_total", NULL, cog_log_lost(),
            "Log lines that standard error did not take.");
    cog_prom_label(&labels, "version", COG_VERSION);
    cog_prom_label(&labels, "commit", cog_commit);
    cog_prom_label(&labels, "engine", p->info ? p->info->backend : "");
    cog_prom_label(&labels, "quantization", p->info ? p->info->dtype : "");
    gauge(p, "cogwheel_build_info", labels.data, 1, "What runs here.");
    cog_buf_fini(&labels);
}

void cog_metrics_write(cog_buf *out, cog_server *s)
{
    page p;

    look(&p, s, out);
    if (!s->cfg.metrics_own_only) {
        write_state(&p);
        write_cache_config(&p);
        write_vllm_counters(&p);
        write_vllm_histograms(&p);
        write_http(&p);
        write_process(&p);
    }
    write_requests(&p);
    write_stages(&p);
    write_pictures(&p);
    write_files(&p);
    write_engine(&p);
    write_server(&p);
    cog_buf_fini(&p.labels);
}
