/* engine.h - all the rest of the program may know about inference: tokens and pixels in, events
 * out.
 *
 * A request goes in through cog_engine_submit; what becomes of it comes out as events. Every
 * accepted request gets exactly one COG_EVENT_END, and nothing after it: that event ends the
 * engine's interest in the request. */
#ifndef COG_ENGINE_ENGINE_H
#define COG_ENGINE_ENGINE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/histogram.h"
#include "base/mailbox.h"
#include "base/sha256.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ------------------------------------------------------------------ pictures */

typedef enum cog_image_fault {
    COG_IMAGE_FINE,
    COG_IMAGE_EMPTY,     /* no bytes */
    COG_IMAGE_FILE_SIZE, /* more bytes than max_bytes */
    COG_IMAGE_UNKNOWN,   /* the first bytes are none of JPEG, PNG, WebP, GIF */
    COG_IMAGE_BROKEN,    /* a known format, damaged or cut short, or a bomb (scans, chunks, time) */
    COG_IMAGE_TOO_LARGE, /* pixels or side above the limit */
    COG_IMAGE_TOO_SMALL, /* a side of zero */
} cog_image_fault;

typedef enum cog_image_format { COG_JPEG, COG_PNG, COG_WEBP, COG_GIF } cog_image_format;

typedef struct cog_image_options {
    size_t max_bytes;    /* of the file */
    uint64_t max_pixels; /* width * height, known from the header before anything is allocated */
    int max_side;        /* pixels */
    int max_scans;       /* of a progressive JPEG */
    size_t max_metadata; /* bytes of chunks that are not pixels */
    uint32_t max_ms;     /* CPU time of one decode, on the decoding thread */
    bool drop_alpha; /* show the colour under transparent pixels (the reference) instead of white */
    bool ignore_exif; /* do not turn the picture upright (the reference) */
} cog_image_options;

extern const cog_image_options cog_image_defaults;

/* A picture as the model sees it. Immutable, and counted. */
typedef struct cog_image {
    atomic_int refs;
    int side;                /* the model's */
    uint8_t *rgb;            /* [side, side, 3], resized as Pillow's BICUBIC does, to the bit */
    cog_image_format format; /* of the file */
    int source_width, source_height; /* as a person sees it: after EXIF orientation */
    cog_sha256 hash;                 /* of side and rgb: equal pictures are encoded once */
} cog_image;

/* Decodes a file and resizes it to side x side, discarding the aspect ratio. *fault says what a
 * client may be told, err adds detail that is safe to show. Pure, any thread; memory is bounded by
 * the options. */
int cog_image_load(cog_image **out, cog_image_fault *fault, const void *bytes, size_t len, int side,
                   const cog_image_options *opt, cog_err *err);

/* The two halves of cog_image_load, for when they run in two processes. Reading writes rgb [side,
 * side, 3] and *out; what it leaves there on failure is undefined. Making copies rgb before it
 * looks at it, so another process may still write there: the picture then is what the copy holds.
 */
typedef struct cog_image_source {
    cog_image_format format;
    int width, height; /* as source_width and source_height */
} cog_image_source;

int cog_image_read(uint8_t *rgb, cog_image_source *out, cog_image_fault *fault, const void *bytes,
                   size_t len, int side, const cog_image_options *opt, cog_err *err);
cog_image *cog_image_new(const uint8_t *rgb, int side, const cog_image_source *source);

/* One more reference, of any thread's; returns im. */
cog_image *cog_image_ref(cog_image *im);
void cog_image_free(cog_image *im); /* gives one back; NULL is fine */

/* The header alone: format and size as stored, checked against the options. Cheap; for admission.
 */
int cog_image_probe(cog_image_format *format, int *width, int *height, cog_image_fault *fault,
                    const void *bytes, size_t len, const cog_image_options *opt, cog_err *err);

/* ------------------------------------------------------------------ the engine */

typedef struct cog_engine cog_engine;

typedef struct cog_engine_config {
    const char *model_dir;
    const char *backend; /* "auto", "cpu", "cuda" */
    const char *dtype;   /* "auto" (bf16), "f32", "bf16" */
    int threads;         /* 0: one per available core */
    int max_seqs;        /* sequences in one step (default 32) */
    int step_tokens;   /* rows in one step: decode rows first, the rest for prefill chunks (default
                          256) */
    int block;         /* KV slots per page (default 32) */
    uint64_t kv_bytes; /* KV pool; 0 on a CPU: enough for max_seqs contexts, at most a quarter of
                          free memory; 0 on a GPU: what memory_utilization leaves */
    float memory_utilization; /* of a GPU's memory, the share that may be taken, 0.05..1 (0.90) */
    bool batch_invariant; /* on a GPU: an answer's bits do not depend on its company; slower. A CPU
                             is always so */
    int max_images;       /* pictures of one vision pass; 0: as many as the device gains from */
    int max_queue;        /* requests accepted and not yet running (default 256) */
    bool prefix_cache;    /* keep the keys and values of what was computed (default true) */
    uint64_t image_cache_bytes; /* encoded pictures kept after their last request, at most (default
                                   256 MiB); 0: none */
    float step_stretch; /* a step with running streams takes at most this many times what the
                           streams alone take (default 2, >= 1.1); pace.h */
    /* Runs on the engine thread when the event list stops being empty or the state changes: it may
     * wake a loop (uv_async_send) and nothing more. Wake-ups coalesce, so always drain. NULL is
     * fine. */
    void (*notify)(void *arg);
    void *notify_arg;
    /* For tests: sees every row of logits that a token was drawn from, before penalties; once for
     * each token, before its event. On the engine thread. */
    void (*on_logits)(void *arg, uint64_t id, int choice, int index, const float *logits,
                      int vocab);
    void *on_logits_arg;
} cog_engine_config;

extern const cog_engine_config cog_engine_defaults;

typedef enum cog_engine_phase {
    COG_ENGINE_LOADING,
    COG_ENGINE_READY,
    COG_ENGINE_FAILED, /* did not load, or the device failed: final */
} cog_engine_phase;

typedef struct cog_engine_state {
    cog_engine_phase phase;
    double progress;       /* of loading, 0..1 */
    uint64_t heartbeat_ns; /* when the engine thread last began a step, or a wait for anything but
                              the device (CLOCK_MONOTONIC) */
    cog_err err;           /* why it failed */
} cog_engine_state;

/* Starts the engine thread, which loads the model: returns at once. Fails only for options out of
 * range. */
int cog_engine_open(cog_engine **out, const cog_engine_config *cfg, cog_err *err);
/* Ends every request (COG_ECANCELED), joins the thread, frees everything, events not taken too.
 * NULL is fine. */
void cog_engine_close(cog_engine *e);
/* Blocks until loading ended; 0 when ready. For programs without a loop. */
int cog_engine_wait(cog_engine *e, cog_err *err);
void cog_engine_get_state(cog_engine *e,
                          cog_engine_state *out); /* any thread, never blocks on work */

/* Facts of the loaded model. Valid from READY to close, immutable; NULL before. */
typedef enum cog_template {
    COG_TEMPLATE_DEFAULT = -1, /* the checkpoint's own */
    COG_TEMPLATE_CHAT,
    COG_TEMPLATE_VQA,
    COG_TEMPLATE_BASE,
} cog_template;

typedef struct cog_engine_info {
    const char *backend, *device; /* "cpu"; a line that describes it */
    const char *dtype;            /* "bf16" */
    uint64_t fingerprint;         /* of the weights */
    int vocab;
    int32_t bos;        /* the token that begins a prompt */
    const int32_t *eos; /* [n_eos] those that end an answer */
    int n_eos;
    int context;                  /* tokens of prompt and answer together */
    int image_side, image_tokens; /* tokens one picture takes, boi and eoi included */
    cog_template default_template;
    int block, n_blocks; /* the KV pool */
    int max_queue;       /* requests accepted and not yet running, at most */
    bool prefix_cache;   /* is on */
    bool takes_grammars; /* its tokens can spell any text */
} cog_engine_info;

const cog_engine_info *cog_engine_get_info(cog_engine *e);

/* Where an accepted request is. */
typedef enum cog_engine_stage {
    COG_STAGE_ENCODE_WAIT, /* its picture waits for a vision pass */
    COG_STAGE_ENCODE,      /* that pass is under way */
    COG_STAGE_QUEUE,       /* nothing is missing but a place in a step */
    COG_STAGE_PREFILL,     /* had rows; no token yet */
    COG_STAGE_DECODE,      /* from the first token on, also while preempted */
    COG_N_STAGES,
} cog_engine_stage;

typedef struct cog_engine_stats {
    int waiting, running; /* requests; waiting: accepted and without rows so far */
    int in_stage[COG_N_STAGES];
    int blocks_free, blocks_used, blocks_cached; /* KV pages; cached: nobody's, and can be had */
    int blocks_pinned;                           /* of those cached; see cog_request.pin */
    int features;                                /* encoded pictures held for live requests */
    int features_cached;                         /* and for none */
    uint64_t steps, language_rows, vision_rows, tokens; /* since the start */
    uint64_t prompt_tokens;                             /* of requests that got a token */
    uint64_t images_encoded, images_shared, preemptions;
    uint64_t prefix_queries, prefix_hits; /* prompt tokens looked up, and found computed */
    uint64_t image_queries, image_hits;   /* pictures looked up, and found encoded or computed */
    uint64_t image_tokens, image_tokens_cached; /* of prompts, and those found computed */
    cog_histogram step_tokens;                  /* rows of each step */
    cog_histogram decode_batch;                 /* decode rows of each step that had any */
    cog_histogram vision_batch;                 /* pictures of each vision pass */
} cog_engine_stats;

void cog_engine_get_stats(cog_engine *e, cog_engine_stats *out); /* any thread */

/* ------------------------------------------------------------------ prompts */

typedef struct cog_turn {
    const char *query; /* borrowed */
    size_t query_len;
    const char *answer; /* NULL in the last turn, or what its answer begins with */
    size_t answer_len;
    bool is_open; /* of the last turn: nothing follows the query, it may go on itself */
} cog_turn;

typedef struct cog_prompt {
    int32_t *tokens; /* owned: BOS, image_tokens placeholders if there is a picture, text */
    int n_tokens;
    int n_image_tokens; /* 0 or the model's image_tokens */
} cog_prompt;

/* Needs READY. Pure otherwise; any thread. Does not look at the context length. */
int cog_engine_prompt(cog_prompt *out, cog_engine *e, cog_template tmpl, const cog_turn *turns,
                      int n_turns, bool has_image, cog_err *err);
void cog_prompt_fini(cog_prompt *p);

/* Text and ids as prompts and answers have them; the rules are tokenizer.h's. Need READY; any
 * thread. */
/* Without the token that begins a prompt. *ids is the caller's, cog_free. COG_EINVAL: no UTF-8;
 * COG_ELIMIT: more than 1 MiB. */
int cog_engine_tokenize(int32_t **ids, int *n_ids, cog_engine *e, const char *text, size_t len,
                        cog_err *err);
/* The bytes of one token, nothing for control tokens. Borrowed, not NUL-terminated. */
const char *cog_engine_piece(cog_engine *e, int32_t id, size_t *len);
/* The name of a control token or the unknown one, as "</s>"; nothing for others. As above. */
const char *cog_engine_control(cog_engine *e, int32_t id, size_t *len);
/* Appends the text of an answer of these ids, each in [0, vocab). UTF-8. */
void cog_engine_detokenize(cog_buf *out, cog_engine *e, const int32_t *ids, int n_ids);
const char *cog_template_name(cog_template t);

/* ------------------------------------------------------------------ requests */

enum {
    COG_MAX_STOPS = 16,
    COG_MAX_STOP_TOKENS = 64,
    COG_MAX_BIASES = 1024,
    COG_MAX_TOP = 20,
    COG_MAX_CHOICES = 128,
    COG_MAX_CANDIDATES = 128,
};

typedef struct cog_logit_bias {
    int32_t token;
    float bias; /* -100..100 */
} cog_logit_bias;

typedef struct cog_sampling {
    float temperature;        /* below 1e-5: the highest logit, lowest id on ties */
    float top_p;              /* (0, 1]; 0 is greedy */
    int top_k;                /* 0: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* > 0; 1: off; over prompt text and output */
    float frequency_penalty, presence_penalty; /* over output */
    uint64_t seed;
    cog_logit_bias *bias; /* added to the logits, before penalties; each token once, ascending */
    int n_bias;           /* 0..COG_MAX_BIASES */
    int32_t *allowed;     /* no other tokens are drawn; each once, ascending */
    int n_allowed;        /* 0: all are allowed */
} cog_sampling;

/* What an answer may be. Immutable and counted: any thread. */
typedef struct cog_grammar cog_grammar;

typedef enum cog_grammar_kind {
    COG_GRAMMAR_REGEX,   /* a regular expression that the whole answer matches */
    COG_GRAMMAR_CHOICE,  /* a JSON array of strings: the answer is one of them */
    COG_GRAMMAR_SCHEMA,  /* a JSON schema: the answer is a JSON text that is valid by it */
    COG_GRAMMAR_OBJECT,  /* no text: any JSON object */
    COG_GRAMMAR_BOXES,   /* no text: anything, but after "[[" boxes (engine/grammar/boxes.h) */
    COG_GRAMMAR_WITHOUT, /* a JSON array of 1..64 strings of 1..128 bytes: none is in the answer */
} cog_grammar_kind;

enum { COG_GRAMMAR_MAX_TEXT = 64 << 10 }; /* bytes */

/* Compiles a grammar, in at most 150 ms of CPU time. COG_EINVAL: it is wrong, not supported, or
 * nothing satisfies it; COG_ELIMIT: it is too large or too complex. err is fit for a client. */
int cog_grammar_new(cog_grammar **out, cog_grammar_kind kind, const char *text, size_t len,
                    cog_err *err);
cog_grammar *cog_grammar_ref(cog_grammar *g);   /* one more reference; returns g; NULL is fine */
void cog_grammar_free(cog_grammar *g);          /* gives one back; NULL is fine */
size_t cog_grammar_bytes(const cog_grammar *g); /* of memory */

/* A text that might be an answer, whatever is answered. Its probability is that the model, left
 * alone, draws these tokens and then one that ends an answer. The end counts: so one text is not
 * part of another that begins with it, and of different candidates at most one comes true. */
typedef struct cog_candidate {
    int32_t *token; /* [n], without the end */
    int n;          /* perhaps 0; prompt.n_tokens + n <= context */
} cog_candidate;

typedef struct cog_request {
    uint64_t id;               /* unique among live requests; the caller's choice */
    void *user;                /* comes back in the events */
    cog_prompt prompt;         /* owned */
    cog_image *image;          /* owned; non-NULL exactly when prompt.n_image_tokens > 0 */
    cog_sampling sampling;     /* its arrays are owned */
    cog_grammar *grammar;      /* a reference, or NULL: answers hold to it. Not with allowed tokens;
                                  where it leaves nothing but the end, min_tokens gives way */
    int n;                     /* choices, 1..COG_MAX_CHOICES */
    int max_tokens;            /* per choice, >= 1, or 0 when the prompt is scored: it ends then;
                                  prompt.n_tokens + max_tokens <= context */
    int min_tokens;            /* per choice, 0..max_tokens: before an answer has so many, no end
                                  and no stop token is drawn, and no stop string looked for */
    char *stop[COG_MAX_STOPS]; /* owned, UTF-8, not empty */
    int n_stop;
    int32_t stop_token[COG_MAX_STOP_TOKENS]; /* an answer ends with any of them */
    int n_stop_tokens;
    bool logprobs;     /* events tell how likely the model found the tokens, */
    int n_top;         /* and the likeliest, 0..COG_MAX_TOP */
    bool score_prompt; /* the same of the prompt's text, */
    int n_prompt_top;  /* with so many of the likeliest, 0..COG_MAX_TOP. It is computed for that:
                          only the picture's part is taken from the cache */
    cog_candidate *candidate; /* [n_candidates], owned, and each one's tokens: texts that might be
                                 the answer. An event tells how likely each of them is */
    int n_candidates;         /* 0..COG_MAX_CANDIDATES, 0 with max_tokens 0 */
    bool ignore_eos;          /* the model's end tokens end nothing */
    bool keep_stop;       /* what ended an answer, a stop string or a token, stays in its text */
    bool show_controls;   /* the text has the names of control tokens, as "</s>"; else nothing */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; UINT64_MAX: none */
    cog_sha256 salt;      /* caches are shared only between requests of equal salt */
    bool no_cache;        /* neither takes from the caches nor leaves anything there; its choices
                             share their prompt all the same */
    uint64_t pin; /* keeps the keys and values of its picture for longer than those of others, until
                     cog_engine_unpin, but no request waits for it; 0: not. Not with no_cache */
    uint64_t tenant; /* whose turn it uses: tenants are served evenly */
    int priority;    /* -100..100, smaller first */
    /* The text goes on where the prompt's ends: a space before its first word is kept. */
    bool continues_prompt;
} cog_request;

void cog_request_free(cog_request *r); /* with all it owns; NULL is fine */

/* Whether a token is left to draw while min_tokens keeps the answer from ending; its tokens are the
 * model's. Pure. */
bool cog_request_has_token(const cog_request *r, const cog_engine_info *info);

/* So many tokens may follow the prompt, of an answer or a candidate; negative when it does not fit
 * itself. Pure. */
int cog_request_room(const cog_prompt *p, const cog_engine_info *info);

/* Any thread. Takes the request when it returns 0. COG_EBUSY (queue full), COG_EINVAL (cannot ever
 * run) leave it with the caller. */
int cog_engine_submit(cog_engine *e, cog_request *r, cog_err *err);
/* Any thread. The request ends with COG_ECANCELED soon; unknown ids are ignored. */
void cog_engine_cancel(cog_engine *e, uint64_t id);
/* Any thread: nothing is kept for that pin any more, nor for requests under way that have it. */
void cog_engine_unpin(cog_engine *e, uint64_t pin);

typedef enum cog_event_type {
    COG_EVENT_PROMPT,     /* the next tokens of the prompt's text were scored; in order, all of them
                             before any other event */
    COG_EVENT_CANDIDATES, /* the candidates were: once, before any choice ends */
    COG_EVENT_TEXT,       /* a choice's text grew (and/or its token count) */
    COG_EVENT_FINISH,     /* a choice ended well */
    COG_EVENT_END,        /* the request ended: nothing follows */
} cog_event_type;

typedef enum cog_finish { COG_FINISH_STOP, COG_FINISH_LENGTH } cog_finish;

/* The natural logarithm of a token's probability, before anything of the request's changed it:
 * logprob.h. -infinity for a token without a logit. */
typedef struct cog_logprob {
    int32_t token;
    float logprob;
} cog_logprob;

/* A token of an answer's or a prompt's text. */
typedef struct cog_scored_token {
    cog_logprob self;
    int rank;      /* 1 + how many are likelier */
    bool is_first; /* begins the text: a space in front of it is dropped */
    size_t at; /* byte of the answer's text where the character begins that has its first bytes */
    int n_top;
    cog_logprob top[COG_MAX_TOP]; /* the likeliest, and of equal ones the lower id, first */
} cog_scored_token;

typedef struct cog_usage {
    int prompt_tokens, image_tokens, completion_tokens; /* completion: all choices */
    int cached_tokens;               /* of the prompt, that were not computed for it */
    uint64_t stage_ns[COG_N_STAGES]; /* time spent in each */
    uint64_t vision_ns; /* time of the vision pass that encoded its picture, 0 when shared */
} cog_usage;

typedef struct cog_event {
    cog_link link;
    cog_event_type type;
    uint64_t id;
    void *user;
    int choice;
    /* TEXT */
    char *text; /* owned by the event, UTF-8, whole characters, possibly empty; NUL-terminated */
    size_t text_len;
    int n_tokens;  /* tokens this event accounts for: one */
    int32_t token; /* this one; also when its text is held back, or it has none */
    /* Owned, [n_scored]: the tokens of which this text has the first bytes, when the request asks
     * for logprobs. Tokens without text, as the end token, and those whose text a stop string took
     * away are in no event. Where a character is made of several tokens, its first bytes are all of
     * theirs. */
    cog_scored_token *scored;
    int n_scored;
    /* PROMPT: n_scored of its tokens, from prompt.tokens[first] on, in scored */
    int first;
    /* CANDIDATES. Owned, [n_candidates]: natural logarithms of their probabilities. */
    double *candidate;
    int n_candidates;
    /* FINISH */
    cog_finish finish;
    int stop;           /* index into the request's stop strings, or -1 */
    int32_t stop_token; /* the one of the request's stop tokens that was drawn, or -1 */
    /* END */
    int status; /* 0, COG_ECANCELED, COG_ETIMEOUT, COG_EDEVICE; COG_ELIMIT: its grammar became too
                   ambiguous to follow */
    cog_err err;
    cog_usage usage;
} cog_event;

/* One consumer. Detaches all pending events, oldest first, linked by link.next; give each to
 * cog_event_free. */
cog_event *cog_engine_take_events(cog_engine *e);
/* Same, waiting up to timeout_ns for the first one. For programs without a loop. */
cog_event *cog_engine_wait_events(cog_engine *e, uint64_t timeout_ns);
void cog_event_free(cog_event *ev);

/* ------------------------------------------------------------------ tools */

/* Describes a checkpoint folder for people (or as JSON): what it is, every tensor accounted for,
 * memory per dtype, whether it will load and why not. Returns 0 when it will load. */
int cog_inspect(FILE *out, const char *dir, bool as_json, cog_err *err);

/* Measures this machine's read bandwidth and FLOP ceilings and prints every kernel as a fraction of
 * them. */
int cog_bench_kernels(FILE *out, int threads, bool as_json, cog_err *err);

#endif
