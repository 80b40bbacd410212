/* options.c - the one table behind flags, environment, file, --help and --print-config. */
#include "config/options.h"

#include <ctype.h>
#include <string.h>

#define SERVE   COG_COMMAND_SERVE
#define CAPTION COG_COMMAND_CAPTION
#define INSPECT COG_COMMAND_INSPECT
#define BENCH   COG_COMMAND_BENCH
#define RUNNERS (SERVE | CAPTION)
#define ALL     (SERVE | CAPTION | INSPECT | BENCH)

#define FIELD(member) \
    .offset = offsetof(cog_config, member), .width = sizeof(((cog_config *)0)->member)
#define LIST_FIELD(member, count) FIELD(member), .count_offset = offsetof(cog_config, count)

#define TEXT(id, set, unit_, help_, field, default_)                                         \
    {                                                                                        \
        .name = id, .type = COG_OPTION_TEXT, .commands = set, .group = GROUP, .unit = unit_, \
        .help = help_, FIELD(field), .default_text = default_                                \
    }
#define LIST(id, set, unit_, help_, field, count, default_)                                  \
    {                                                                                        \
        .name = id, .type = COG_OPTION_LIST, .commands = set, .group = GROUP, .unit = unit_, \
        .help = help_, LIST_FIELD(field, count), .default_text = default_                    \
    }
#define BOOL(id, set, help_, field)                                                          \
    {                                                                                        \
        .name = id, .type = COG_OPTION_BOOL, .commands = set, .group = GROUP, .help = help_, \
        FIELD(field)                                                                         \
    }
#define RANGED(kind, id, set, unit_, help_, field, low, high, default_)                          \
    {                                                                                            \
        .name = id, .type = kind, .commands = set, .group = GROUP, .unit = unit_, .help = help_, \
        .min = low, .max = high, FIELD(field), .default_text = default_                          \
    }
#define INT(id, set, help_, field, low, high) \
    RANGED(COG_OPTION_INT, id, set, "N", help_, field, low, high, NULL)
#define SIZE(id, set, help_, field, low, high) \
    RANGED(COG_OPTION_SIZE, id, set, "SIZE", help_, field, low, high, NULL)
#define TIME(id, set, help_, field, low, high) \
    RANGED(COG_OPTION_TIME, id, set, "TIME", help_, field, low, high, NULL)
#define NUMBER(id, set, help_, field, low, high) \
    RANGED(COG_OPTION_NUMBER, id, set, "X", help_, field, low, high, NULL)
#define WORD(id, set, words, help_, field)                                                   \
    {                                                                                        \
        .name = id, .type = COG_OPTION_WORD, .commands = set, .group = GROUP, .unit = words, \
        .help = help_, .choices = words, FIELD(field)                                        \
    }
#define CHOICE(id, set, words, help_, field, first)                                            \
    {                                                                                          \
        .name = id, .type = COG_OPTION_CHOICE, .commands = set, .group = GROUP, .unit = words, \
        .help = help_, .choices = words, .min = first, FIELD(field)                            \
    }

#define KIB    1024.0
#define MIB    (1024.0 * KIB)
#define GIB    (1024.0 * MIB)
#define TIB    (1024.0 * GIB)
#define SECOND 1000.0
#define HOUR   (3600.0 * SECOND)

const cog_option cog_options[] = {
#define GROUP "Model"
    TEXT("model", SERVE | CAPTION, "DIR",
         "folder of a CogVLM or CogVLM2 checkpoint in Hugging Face form", engine.model_dir,
         "the shipped demo model"),
    WORD("backend", RUNNERS, "auto|cpu|cuda",
         "what computes; auto is the first GPU, or else the CPU", engine.backend),
    WORD("dtype", RUNNERS, "auto|f32|bf16", "type of weights and activations; auto is bf16",
         engine.dtype),
    INT("threads", RUNNERS | BENCH, "compute threads; 0: one for each available core",
        engine.threads, 0, 1024),
    INT("max-seqs", RUNNERS, "answers worked on in one step", engine.max_seqs, 1, 1024),
    INT("step-tokens", RUNNERS, "tokens computed in one step; what answers leave goes to prompts",
        engine.step_tokens, 16, 65536),
    SIZE("kv-cache", RUNNERS,
         "memory for keys and values; 0 on a CPU: enough for max-seqs contexts, at most a quarter "
         "of the free memory; 0 on a GPU: what gpu-memory-utilization leaves",
         engine.kv_bytes, 0, 64 * TIB),
    NUMBER("gpu-memory-utilization", RUNNERS,
           "share of a GPU's memory that may be in use in all, keys and values included",
           engine.memory_utilization, 0.05, 1),
    BOOL("batch-invariant", RUNNERS,
         "on GPUs, one path for all rows, so that an answer is the same bits in any company; "
         "slower; a CPU is always so",
         engine.batch_invariant),
    INT("kv-block", RUNNERS, "tokens in one page of that memory; a power of two", engine.block, 16,
        256),
    INT("vision-batch", RUNNERS,
        "pictures encoded in one pass; 0: as many as the device gains from", engine.max_images, 0,
        64),
    BOOL("prefix-cache", RUNNERS,
         "keep keys and values of what was computed while there is room, so that a question about "
         "a picture that was asked about computes its own words only",
         engine.prefix_cache),
    SIZE("image-cache", RUNNERS,
         "encoded pictures kept when no request has them any more; on a CPU at most an eighth of "
         "the free memory; 0: none",
         engine.image_cache_bytes, 0, 64 * TIB),
    NUMBER("step-stretch", SERVE,
           "a step takes at most this many times what its running answers alone take; the rest "
           "goes to new prompts and pictures",
           engine.step_stretch, 1.1, 1000),
    INT("max-queue", SERVE, "requests that may wait; beyond it clients get a 503", engine.max_queue,
        1, 1000000),
#undef GROUP
#define GROUP "Network"
    LIST("listen", SERVE, "ADDRESS",
         "where to listen: HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one",
         server.listen, server.n_listen, "127.0.0.1:8000"),
    TEXT("api-key-file", SERVE, "FILE",
         "file of accepted API keys, one on a line; SIGHUP reads it again", server.api_key_file,
         "none: the server is open"),
    INT("key-rpm", SERVE, "requests per minute of one API key; 0: no limit; the file may say more",
        server.key_rpm, 0, 1000000000),
    INT("key-tpm", SERVE, "tokens per minute of one API key, of prompts and answers; 0: no limit",
        server.key_tpm, 0, 1000000000),
    INT("key-concurrent", SERVE, "requests at a time of one API key; 0: no limit",
        server.key_concurrent, 0, 1000000000),
    TEXT("metrics-listen", SERVE, "ADDRESS",
         "an address of their own for /metrics and the probes, open to whoever reaches it",
         server.metrics_listen, "none: /metrics is where the rest is"),
    BOOL("metrics-auth", SERVE, "ask for an API key at /metrics", server.metrics_auth),
    CHOICE("metrics-compat", SERVE, "vllm|none",
           "whose names metrics have beside our own; none leaves cogwheel_ alone",
           server.metrics_own_only, 0),
    BOOL("insecure", SERVE, "allow an address beyond this machine without API keys",
         server.insecure),
    LIST("cors-origin", SERVE, "ORIGIN",
         "pages that browsers may let ask this server: SCHEME://HOST or SCHEME://HOST:PORT; * for "
         "all",
         server.cors_origins, server.n_cors_origins, "none: no page of another origin"),
    INT("max-connections", SERVE, "open connections; beyond them only probes are answered",
        server.max_connections, 1, 1000000),
    TIME("header-timeout", SERVE, "time a client has to send the head of a request",
         server.header_timeout_ms, 1, HOUR),
    TIME("body-idle-timeout", SERVE, "longest pause in sending a body", server.body_idle_timeout_ms,
         1, HOUR),
    TIME("body-timeout", SERVE, "time a client has to send a body", server.body_timeout_ms, 1,
         HOUR),
    TIME("keepalive-timeout", SERVE, "how long an idle connection stays open",
         server.keepalive_timeout_ms, 1, HOUR),
    SIZE("max-unsent-bytes", SERVE, "output held for a slow reader before its request is ended",
         server.max_unsent_bytes, 4 * KIB, GIB),
    TIME("slow-reader-timeout", SERVE, "how long a reader may take nothing before its request ends",
         server.slow_reader_ms, 1, HOUR),
    TIME("sse-ping-interval", SERVE, "comment sent on a silent stream this often; 0: never",
         server.sse_ping_ms, 0, HOUR),
#undef GROUP
#define GROUP "Requests"
    LIST("served-model-name", SERVE, "NAME", "name of the model; the first is the one in answers",
         server.served_names, server.n_served_names, "the model folder's name"),
    BOOL("any-model", SERVE, "accept every model name", server.any_model),
    SIZE("max-body-bytes", SERVE, "size of one request", server.max_body_bytes, KIB, GIB),
    SIZE("max-inflight-bytes", SERVE, "size of all requests being read; beyond it 503",
         server.max_inflight_bytes, KIB, 64 * TIB),
    TIME("request-timeout", SERVE, "time for one answer from the last byte read; 0: no limit",
         server.request_timeout_ms, 0, 24 * HOUR),
    INT("max-n", SERVE, "answers to one request", server.max_n, 1, COG_MAX_CHOICES),
    CHOICE("image-policy", SERVE, "one|last",
           "of several pictures in one request: refuse (one), or take the last",
           server.image_policy_last, 0),
    BOOL("strict-parameters", SERVE, "refuse request fields that are not known",
         server.strict_parameters),
    CHOICE("max-tokens-overflow", SERVE, "clamp|reject",
           "when max_tokens is more than the context has left", server.reject_overflow, 0),
    CHOICE("template-version", SERVE, "default|chat|vqa|base",
           "form of the prompt when a request names none; default is the checkpoint's own",
           server.default_template, COG_TEMPLATE_DEFAULT),
#undef GROUP
#define GROUP "Load"
    TEXT("request-model", BENCH, "NAME", "model that requests name", bench.model,
         "the first that the server lists"),
    TEXT("key-file", BENCH, "FILE", "file whose first line is the API key", bench.key_file,
         "the environment's OPENAI_API_KEY, or none"),
    TEXT("ca-file", BENCH, "FILE", "certificates to trust instead of the system's", bench.ca_file,
         "none"),
    INT("concurrency", BENCH,
        "requests under way at a time; 0: one without a request-rate, no limit with one",
        bench.concurrency, 0, 16384),
    NUMBER("request-rate", BENCH,
           "requests due in a second (open loop); 0: the next one when one ends (closed loop)",
           bench.request_rate, 0, 100000),
    NUMBER("burstiness", BENCH,
           "shape of the gamma distribution of gaps in an open loop; 1: Poisson, less: bursts",
           bench.burstiness, 0.01, 1000),
    INT("num-prompts", BENCH, "requests; 0: 100, or as many as the duration brings",
        bench.n_prompts, 0, 10000000),
    TIME("duration", BENCH, "no request begins after this; 0: no limit", bench.duration_ms, 0,
         24 * HOUR),
    INT("warmup", BENCH,
        "requests before, not counted; at least one about each picture that is repeated",
        bench.n_warmup, 1, 100000),
    TIME("timeout", BENCH, "time for one answer", bench.timeout_ms, 1, 24 * HOUR),
    TEXT("goodput", BENCH, "LIMITS",
         "milliseconds within which an answer counts as good, like ttft:500,tpot:50,e2el:5000",
         bench.goodput, "none"),
#undef GROUP
#define GROUP "Question"
    INT("prompt-words", BENCH, "random words after the prompt", bench.prompt_words, 0, 1000000),
    NUMBER("length-spread", BENCH,
           "prompt-words and max-tokens are drawn evenly from 1 - X to 1 + X times theirs",
           bench.length_spread, 0, 1),
    CHOICE("ignore-eos", BENCH, "auto|on|off",
           "ask for answers of full length; auto: if the server takes the field", bench.eos,
           COG_BENCH_EOS_AUTO),
    BOOL("stream", BENCH, "ask for streams; without, there are no times of tokens", bench.stream),
    LIST("images", BENCH, "PATH", "pictures, or folders of them", images, n_images,
         "random pictures"),
    TEXT("image-size", BENCH, "WxH", "size of random pictures", bench.image_size, NULL),
    NUMBER("image-share", BENCH, "share of requests with a picture", bench.image_share, 0, 1),
    NUMBER("repeated-image-share", BENCH,
           "share of those whose picture is one of a few that others show too",
           bench.repeated_image_share, 0, 1),
    INT("repeated-images", BENCH, "how many these few are", bench.repeated_images, 1, 4096),
    TEXT("prompt", CAPTION | BENCH, "TEXT", "what is asked about each picture", caption.prompt,
         NULL),
    CHOICE("template", CAPTION, "default|chat|vqa|base",
           "form of the prompt; default is the checkpoint's own", caption.template_version,
           COG_TEMPLATE_DEFAULT),
    INT("max-tokens", CAPTION | BENCH, "length of one answer", caption.max_tokens, 1, 1000000),
    NUMBER("temperature", CAPTION | BENCH, "0 takes the likeliest token",
           caption.sampling.temperature, 0, 2),
    NUMBER("top-p", CAPTION, "draw from the likeliest tokens that sum to this",
           caption.sampling.top_p, 0, 1),
    INT("top-k", CAPTION, "draw from this many likeliest tokens; 0: all", caption.sampling.top_k, 0,
        1000000),
    NUMBER("min-p", CAPTION, "drop tokens less likely than this share of the likeliest; 0: none",
           caption.sampling.min_p, 0, 1),
    NUMBER("repetition-penalty", CAPTION, "1 is none", caption.sampling.repetition_penalty, 0.01,
           2),
    RANGED(COG_OPTION_COUNT, "seed", CAPTION | BENCH, "N",
           "same seed, same answers (of caption; on a GPU only with batch-invariant) or same "
           "requests (of bench)",
           caption.sampling.seed, 0, 9007199254740992.0, NULL),
#undef GROUP
#define GROUP "Input and output"
    BOOL("recursive", CAPTION | BENCH, "look into folders inside a folder", caption.recursive),
    TEXT("out", CAPTION, "FILE",
         "write JSON lines to FILE; pictures that it already answers are skipped", caption.out,
         "none: standard output"),
    BOOL("json", CAPTION | INSPECT | BENCH, "JSON on standard output instead of text", json),
#undef GROUP
#define GROUP "Pictures"
    SIZE("max-image-bytes", RUNNERS, "size of one picture's file", server.image.max_bytes, 1, GIB),
    RANGED(COG_OPTION_COUNT, "max-image-pixels", RUNNERS, "N", "width times height of one picture",
           server.image.max_pixels, 1, 1e9, NULL),
    INT("max-image-side", RUNNERS, "width or height of one picture", server.image.max_side, 1,
        65535),
    INT("max-image-scans", RUNNERS, "scans of a progressive JPEG", server.image.max_scans, 1,
        10000),
    SIZE("max-image-metadata", RUNNERS, "size of what is no pixels in one picture's file",
         server.image.max_metadata, 0, GIB),
    TIME("image-decode-time", RUNNERS, "time of one processor for decoding one picture",
         server.image.max_ms, 1, HOUR),
    INT("image-workers", SERVE, "pictures decoded at a time; 0: by the processors, 2 to 4",
        server.image_workers, 0, 64),
    CHOICE("image-sandbox", SERVE, "auto|require|off",
           "decode pictures in helper processes that may do nothing else: as far as this machine "
           "allows (auto), or not at all without (require); off: in the server's own process",
           server.image_sandbox, COG_SANDBOX_AUTO),
    SIZE("image-helper-memory", SERVE,
         "address space of one helper; 0: what the largest picture allowed takes",
         server.image_helper_memory, 0, TIB),
    TIME("image-helper-timeout", SERVE, "time for one picture, after which its helper is killed",
         server.image_helper_ms, 100, HOUR),
    SIZE("image-pixel-cache", SERVE,
         "pictures kept decoded, so that the same file is not decoded again; 0: none",
         server.image_pixel_cache, 0, TIB),
    TIME("image-quarantine", SERVE,
         "how long a picture that made a helper fail is refused; 0: not at all",
         server.image_quarantine_ms, 0, 24 * HOUR),
    CHOICE("alpha", RUNNERS, "white|drop",
           "transparent pixels: on white, or the colour underneath as the reference does",
           server.image.drop_alpha, 0),
    CHOICE("exif", RUNNERS, "apply|ignore",
           "turn a picture upright as its camera says, or leave it as the reference does",
           server.image.ignore_exif, 0),
    LIST("allow-image-domain", SERVE, "DOMAIN",
         "where pictures may be fetched from by http and https: HOST, HOST:PORT, or .SUFFIX for "
         "every host below it",
         server.image_domains, server.n_image_domains, "none: nothing is fetched"),
    TEXT("media-root", SERVE, "DIR", "folder whose pictures may be named by file: URLs",
         server.media_root, "none: no file is read"),
#undef GROUP
#define GROUP "Files"
    SIZE("files-max-bytes", SERVE,
         "memory for pictures uploaded to /v1/files, with their pixels; 0: none are taken",
         server.files_max_bytes, 0, TIB),
    SIZE("files-key-bytes", SERVE, "of that, what the files of one API key may take",
         server.files_key_bytes, 0, TIB),
    INT("files-max-count", SERVE, "uploaded files in all", server.files_max_count, 0, 1000000),
    INT("files-key-count", SERVE, "uploaded files of one API key", server.files_key_count, 0,
        1000000),
    TIME("files-expiry", SERVE, "how long an uploaded file stays unless its upload says otherwise",
         server.files_expiry_ms, SECOND, 576 * HOUR),
    TEXT("files-node", SERVE, "NAME",
         "begins the ids of files, so that a load balancer knows which server has one",
         server.files_node, "none"),
#undef GROUP
#define GROUP "Operation"
    TIME("drain-delay", SERVE, "after SIGTERM, how long connections are still accepted",
         server.drain_delay_ms, 0, HOUR),
    TIME("drain-timeout", SERVE, "after that, how long running answers may take",
         server.drain_timeout_ms, 0, 24 * HOUR),
    TIME("watchdog-seconds", SERVE, "silence of the engine at which /livez turns 503",
         server.watchdog_ms, SECOND, 24 * HOUR),
    CHOICE("log-level", ALL, "error|warn|info|debug", "what is logged to standard error", log_level,
           0),
    CHOICE("log-format", SERVE, "auto|text|json",
           "form of the log's lines; auto is text on a terminal, or else JSON", log_form,
           COG_LOG_AUTO),
#undef GROUP
};

const int cog_n_options = (int)(sizeof(cog_options) / sizeof(cog_options[0]));

const cog_option *cog_option_find(const char *name, size_t len)
{
    for (int i = 0; i < cog_n_options; i++)
        if (strlen(cog_options[i].name) == len && memcmp(cog_options[i].name, name, len) == 0)
            return &cog_options[i];
    return NULL;
}

enum { MAX_NAME = 64 };

/* Levenshtein's distance: insertions, deletions and replacements that turn a into b. */
static int distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int row[MAX_NAME + 1];

    for (size_t j = 0; j <= b_len; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= a_len; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_len; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len];
}

const cog_option *cog_option_nearest(const char *name, size_t len, unsigned commands)
{
    const cog_option *best = NULL;
    int best_distance = 4;

    if (len < 2 || len > MAX_NAME)
        return NULL;
    for (int i = 0; i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        size_t o_len = strlen(o->name);
        int d;

        if (!(o->commands & commands))
            continue;
        d = distance(name, len, o->name, o_len);
        /* A name left unfinished ("--api-key") is nearer than its distance says. */
        if (len >= 4 && o_len > len && memcmp(o->name, name, len) == 0)
            d = 1;
        if (d < best_distance && d < (int)o_len) {
            best = o;
            best_distance = d;
        }
    }
    return best;
}

void cog_option_env_name(char *dst, size_t dst_size, const cog_option *o)
{
    int n = snprintf(dst, dst_size, "COGWHEEL_%s", o->name);

    for (int i = 0; i < n && (size_t)i < dst_size; i++)
        dst[i] = dst[i] == '-' ? '_' : (char)toupper((unsigned char)dst[i]);
}

void cog_option_defaults(cog_config *out, cog_command command)
{
    *out = (cog_config){ .command = command,
                         .engine = cog_engine_defaults,
                         .server = cog_server_defaults,
                         .caption = cog_caption_defaults,
                         .bench = cog_bench_defaults,
                         .log_level = command == COG_COMMAND_SERVE ? COG_INFO : COG_WARN };
    /* One struct's initialiser cannot hold another's value, so server's copy is made here. */
    out->server.image = cog_image_defaults;
    if (command == COG_COMMAND_CAPTION) /* nobody reads along: what is done sooner counts */
        out->engine.step_stretch = 1000;
}
