/* golden.c - parity with the reference on the fixtures beside it.
 *
 *     golden DIR MODE [FLAGS|cuda]     DIR a fixture, MODE f32 or bf16, FLAGS a mask of CPU
 * instruction sets; cuda: on that backend, where there is a device
 *
 * Two kinds of test, in TAP. "blocks" runs one prompt through forward.c and compares after every
 * block, so that the first wrong one is named. "greedy" runs every case through the whole engine
 * and compares the tokens. */
#include "base/alloc.h"
#include "base/buf.h"
#include "engine/cpu/cpuflags.h"
#include "engine/engine.h"
#include "engine/forward.h"
#include "engine/load.h"
#include "engine/prompt.h"
#include "engine/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Relative L2 distance allowed. f32: the reference computes in double, f32 sums differ by some
 * 1e-6. bf16: both round at the same places; a sum in another order now and then lands on the other
 * side of a rounding. "bf16_limit" of cases.json replaces the bf16 values. */
static struct {
    double pixels, blocks, logits;
} limit[] = { [COG_F32] = { 1e-6, 1e-4, 1e-4 }, [COG_BF16] = { 1e-6, 1e-2, 1e-2 } };

static int n_tests, n_failed;
static const char *backend = "cpu";

static void result(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void result(bool ok, const char *fmt, ...)
{
    va_list ap;

    n_tests++;
    n_failed += !ok;
    printf("%s %d - ", ok ? "ok" : "not ok", n_tests);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
}

static void die(const char *what, const cog_err *err)
{
    printf("Bail out! %s: %s\n", what, err ? err->text : "");
    exit(1);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    cog_buf b = { 0 };
    char piece[4096];
    size_t n;

    if (!f) {
        printf("Bail out! cannot read %s\n", path);
        exit(1);
    }
    while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
        cog_buf_add(&b, piece, n);
    fclose(f);
    return cog_buf_detach(&b, len);
}

static int int_at(const json_t *array, size_t i)
{
    return (int)json_integer_value(json_array_get(array, i));
}

static cog_image *load_picture(const char *dir, const char *name, int side)
{
    cog_image_options opt = cog_image_defaults;
    char *path = cog_sprintf("%s/%s", dir, name);
    cog_image_fault fault;
    cog_image *image;
    size_t len;
    char *bytes = read_file(path, &len);
    cog_err err;

    opt.drop_alpha = opt.ignore_exif = true; /* as the reference decodes */
    if (cog_image_load(&image, &fault, bytes, len, side, &opt, &err) < 0)
        die(path, &err);
    cog_free(path);
    cog_free(bytes);
    return image;
}

/* ------------------------------------------------------------------ blocks */

typedef struct blocks {
    const char *mode;
    cog_dtype dtype;
    int id;
    const cog_safetensors *expected;
    const cog_model *model;
    const json_t *rows;
    const int *row_of; /* [n_tokens]: where the batch put each token */
    double worst;      /* relative distance, over the blocks that passed */
    char first_wrong[96];
} blocks;

/* Compares one stage: actual row at(i) for each stored row i. */
static void compare(blocks *b, const char *stage, const json_t *stored, const float *actual,
                    int cols, const int *row_of, double allowed)
{
    char *name = cog_sprintf("c%d.%s.%s", b->id, b->mode, stage);
    const cog_tensor *t = cog_safetensors_find(b->expected, name);
    double diff = 0, norm = 0, distance;
    float *want;
    size_t n_rows;

    if (!t) {
        printf("Bail out! no tensor %s\n", name);
        exit(1);
    }
    n_rows = t->bytes / cog_dtype_size(t->dtype) / (size_t)cols;
    want = cog_array(float, n_rows *(size_t)cols);
    cog_tensor_read(want, t, 0, n_rows * (size_t)cols);
    for (size_t r = 0; r < n_rows; r++) {
        size_t token = json_is_array(stored) ? (size_t)int_at(stored, r) : r;
        size_t at = row_of ? (size_t)row_of[token] : token;
        for (int c = 0; c < cols; c++) {
            double w = want[r * (size_t)cols + (size_t)c];
            double d = (double)actual[at * (size_t)cols + (size_t)c] - w;
            diff += d * d;
            norm += w * w;
        }
    }
    distance = norm > 0 ? sqrt(diff / norm) : sqrt(diff);
    if (!(distance <= allowed) && !b->first_wrong[0])
        snprintf(b->first_wrong, sizeof(b->first_wrong), "%s differs by %.3g, allowed %.1g", stage,
                 distance, allowed);
    if (distance > b->worst)
        b->worst = distance;
    cog_free(want);
    cog_free(name);
}

static void on_trace(void *arg, cog_trace_point point, int layer, const cog_act *a, int rows)
{
    blocks *b = arg;
    const cog_model_config *m = &b->model->cfg;
    bool is_vision = point == COG_TRACE_VIT_EMBED || point == COG_TRACE_VIT_BLOCK;
    int cols = is_vision ? m->vision.hidden : m->hidden;
    float *actual = cog_array(float, (size_t)rows *(size_t)cols);
    char stage[32] = "vit.embed";

    if (b->model->ops->act_read(b->model->be, actual, a, 0, rows) < 0)
        die("act_read", NULL);
    if (point == COG_TRACE_VIT_BLOCK)
        snprintf(stage, sizeof(stage), "vit.%d", layer);
    else if (point == COG_TRACE_FEATURES)
        snprintf(stage, sizeof(stage), "adapter");
    else if (point == COG_TRACE_EMBED)
        snprintf(stage, sizeof(stage), "embed");
    else if (point == COG_TRACE_LAYER)
        snprintf(stage, sizeof(stage), "layer.%d", layer);
    compare(b, stage,
            json_object_get(b->rows, is_vision                     ? "vit"
                                     : point == COG_TRACE_FEATURES ? "adapter"
                                                                   : "decoder"),
            actual, cols, point == COG_TRACE_EMBED || point == COG_TRACE_LAYER ? b->row_of : NULL,
            limit[b->dtype].blocks);
    cog_free(actual);
}

/* The normalised picture, from the pixels that the decoder and resizer made. */
static void compare_pixels(blocks *b, const cog_image *image)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    const json_t *lines = json_object_get(b->rows, "pixels");
    int s = image->side, n = json_is_array(lines) ? (int)json_array_size(lines) : s;
    float *actual = cog_array(float, (size_t)3 * (size_t)n * (size_t)s);

    for (int c = 0; c < 3; c++)
        for (int i = 0; i < n; i++)
            for (int x = 0; x < s; x++) {
                int y = json_is_array(lines) ? int_at(lines, (size_t)i) : i;
                float v = ((float)image->rgb[(y * s + x) * 3 + c] / 255 - mean[c]) / std[c];
                actual[(c * n + i) * s + x] = b->dtype == COG_BF16 ? cog_round_bf16(v) : v;
            }
    compare(b, "pixels", NULL, actual, s, NULL, limit[b->dtype].pixels);
    cog_free(actual);
}

/* One whole prompt as one batch, language rows first, made from the fixture's own routes and
 * positions. */
static void run_prompt(blocks *b, cog_forward *f, const json_t *c, const cog_act *features)
{
    const json_t *ids = json_object_get(c, "prompt_ids"), *expert = json_object_get(c, "expert");
    const json_t *positions = json_object_get(c, "position_ids"),
                 *types = json_object_get(c, "token_type_ids");
    int n = (int)json_array_size(ids), row = 0, feature = 0, block = 32,
        n_blocks = (n + block - 1) / block;
    int32_t *token = cog_array(int32_t, (size_t)n), *feat = cog_array(int32_t, (size_t)n);
    int32_t *position = cog_array(int32_t, (size_t)n), *slot = cog_array(int32_t, (size_t)n);
    int32_t *seq = cog_array(int32_t, (size_t)n), *table = cog_array(int32_t, (size_t)n_blocks);
    int *row_of = cog_array(int, (size_t)n), *feature_of = cog_array(int, (size_t)n);
    float *logits = cog_array(float, (size_t)b->model->cfg.vocab);
    cog_batch batch = { .rows = n,
                        .token = token,
                        .feature = feat,
                        .position = position,
                        .slot = slot,
                        .seq = seq,
                        .seqs = 1,
                        .block_table = table,
                        .max_blocks = n_blocks,
                        .features = &features,
                        .n_logits = 1 };
    bool has_image = features != NULL, routes_agree = true;
    int32_t last;
    int rc;

    for (int i = 0; i < n; i++)
        feature_of[i] = int_at(types, (size_t)i) ? feature++ : -1;
    for (int e = 0; e < 2; e++) {
        for (int i = 0; i < n; i++) {
            if (int_at(expert, (size_t)i) != e)
                continue;
            token[row] = int_at(ids, (size_t)i);
            feat[row] = feature_of[i];
            position[row] = int_at(positions, (size_t)i);
            slot[row] = i;
            row_of[i] = row++;
        }
        if (e == 0)
            batch.language_rows = row;
    }
    for (int i = 0; i < n; i++) {
        int it = b->model->cfg.image_tokens;
        routes_agree &=
            cog_prompt_is_vision(i, has_image, it) == (int_at(expert, (size_t)i) == 1) &&
            cog_prompt_position(i, has_image, it) == int_at(positions, (size_t)i) &&
            cog_prompt_feature(i, has_image, it) == feature_of[i];
    }
    result(routes_agree, "case %d: experts, positions and feature rows", b->id);
    for (int i = 0; i < n_blocks; i++)
        table[i] = n_blocks - 1 - i; /* pages in no particular order */
    last = row_of[n - 1];
    batch.logits_row = &last;
    b->row_of = row_of;
    rc = cog_forward_step(f, &batch, NULL);
    if (rc == 0)
        rc = b->model->ops->logits_read(b->model->be, logits);
    if (rc < 0)
        die("forward", NULL);
    if (b->dtype == COG_BF16) {
        bool rounded =
            true; /* the reference's logits are bf16, so that ties at the top are common */
        for (int i = 0; i < b->model->cfg.vocab; i++)
            rounded &= logits[i] == cog_round_bf16(logits[i]);
        result(rounded, "case %d: trap: logits are bf16 values", b->id);
    }
    compare(b, "logits", NULL, logits, b->model->cfg.vocab, NULL, limit[b->dtype].logits);
    cog_free(token);
    cog_free(feat);
    cog_free(position);
    cog_free(slot);
    cog_free(seq);
    cog_free(table);
    cog_free(row_of);
    cog_free(feature_of);
    cog_free(logits);
}

static void check_blocks(const char *dir, const char *mode, cog_forward *f, cog_model *model,
                         const json_t *c, const cog_safetensors *expected)
{
    const char *picture = json_string_value(json_object_get(c, "picture"));
    blocks b = { .mode = mode,
                 .dtype = strcmp(mode, "f32") == 0 ? COG_F32 : COG_BF16,
                 .expected = expected,
                 .model = model,
                 .rows = json_object_get(c, "rows"),
                 .id = (int)json_integer_value(json_object_get(c, "id")) };
    cog_act *features = NULL;

    cog_forward_trace(f, on_trace, &b);
    if (picture) {
        cog_image *image = load_picture(dir, picture, model->cfg.vision.image_side);
        const uint8_t *rgb = image->rgb;
        uint64_t busy_ns;
        bool idle;
        int n_left = 1;

        compare_pixels(&b, image);
        if (cog_forward_vision_begin(f, &rgb, 1) < 0)
            die("vision", NULL);
        while (n_left > 0)
            if (cog_forward_vision_layers(f, 1, &n_left) < 0)
                die("vision", NULL);
        if (cog_forward_vision_end(f, &features) < 0 ||
            model->ops->vision_poll(model->be, true, &idle, &busy_ns) < 0)
            die("vision", NULL);
        cog_image_free(image);
    }
    run_prompt(&b, f, c, features);
    cog_forward_features_give(f, features);
    result(!b.first_wrong[0], "case %d: blocks, largest difference %.2g%s%s", b.id, b.worst,
           b.first_wrong[0] ? "; first wrong: " : "", b.first_wrong);
}

static void check_all_blocks(const char *dir, const char *mode, const json_t *cases)
{
    cog_engine_config cfg = cog_engine_defaults;
    char *expected_dir = cog_sprintf("%s/expected", dir);
    cog_safetensors *expected;
    cog_loaded loaded = { 0 };
    cog_forward *f;
    cog_err err;
    const json_t *c;
    size_t i;

    cfg.model_dir = dir;
    cfg.dtype = mode;
    cfg.backend = backend;
    cfg.step_tokens = 2048;
    if (cog_safetensors_open(&expected, expected_dir, &err) < 0 ||
        cog_load(&loaded, &cfg, NULL, NULL, &err) < 0 ||
        cog_forward_open(&f, loaded.model, cfg.step_tokens, 1, 1, &err) < 0)
        die(dir, &err);
    json_array_foreach(cases, i, c) if (!json_is_null(json_object_get(c, "rows")))
        check_blocks(dir, mode, f, loaded.model, c, expected);
    cog_forward_close(f);
    cog_unload(&loaded);
    cog_safetensors_close(expected);
    cog_free(expected_dir);
}

/* ------------------------------------------------------------------ greedy */

typedef struct answer {
    int32_t token[64];
    float gap[64]; /* in bf16: how far the reference's token lies below the top */
    int n;
    const json_t *want; /* the reference's tokens: what the gap is measured to */
} answer;

static void on_logits(void *arg, uint64_t id, int choice, int index, const float *logits, int vocab)
{
    answer *a = (answer *)arg + id;
    int best = 0,
        want = index < (int)json_array_size(a->want) ? int_at(a->want, (size_t)index) : -1;

    for (int i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    if (index < 64) {
        a->token[index] = best;
        a->gap[index] = want >= 0 ? logits[best] - logits[want] : 0;
        a->n = index + 1;
    }
}

static cog_request *make_request(const char *dir, cog_engine *e, const json_t *c)
{
    const json_t *history = json_object_get(c, "history"), *turn;
    const char *query = json_string_value(json_object_get(c, "query"));
    const char *tmpl = json_string_value(json_object_get(c, "template"));
    const char *picture = json_string_value(json_object_get(c, "picture"));
    int n = (int)json_array_size(history) + 1;
    cog_turn turns[8] = { 0 };
    cog_request *r = cog_new(cog_request);
    cog_err err;
    size_t i;

    json_array_foreach(history, i, turn)
    {
        turns[i].query = json_string_value(json_array_get(turn, 0));
        turns[i].query_len = strlen(turns[i].query);
        turns[i].answer = json_string_value(json_array_get(turn, 1));
        turns[i].answer_len = strlen(turns[i].answer);
    }
    turns[n - 1] = (cog_turn){ .query = query, .query_len = strlen(query) };
    if (cog_engine_prompt(&r->prompt, e,
                          strcmp(tmpl, "chat") == 0  ? COG_TEMPLATE_CHAT
                          : strcmp(tmpl, "vqa") == 0 ? COG_TEMPLATE_VQA
                                                     : COG_TEMPLATE_BASE,
                          turns, n, picture != NULL, &err) < 0)
        die("prompt", &err);
    if (picture)
        r->image = load_picture(dir, picture, cog_engine_get_info(e)->image_side);
    r->id = (uint64_t)json_integer_value(json_object_get(c, "id"));
    r->n = 1;
    r->max_tokens = (int)json_integer_value(json_object_get(c, "max_tokens"));
    r->sampling = (cog_sampling){ .top_p = 1, .repetition_penalty = 1 };
    r->deadline_ns = UINT64_MAX;
    return r;
}

static bool same_prompt(const cog_prompt *p, const json_t *ids)
{
    if ((int)json_array_size(ids) != p->n_tokens)
        return false;
    for (int i = 0; i < p->n_tokens; i++)
        if (p->tokens[i] != int_at(ids, (size_t)i))
            return false;
    return true;
}

/* f32: every token. bf16: a token may differ where the two lie within the rounding error of the
 * logits, and then the answers part, so nothing after it is compared. */
static void check_answer(const answer *a, const json_t *c, bool is_bf16)
{
    int id = (int)json_integer_value(json_object_get(c, "id")), n = (int)json_array_size(a->want);
    const char *tie = "";

    for (int i = 0; i < n; i++) {
        if (i < a->n && a->token[i] == int_at(a->want, (size_t)i))
            continue;
        if (is_bf16 && i < a->n && a->gap[i] <= 0.0625f &&
            json_number_value(json_array_get(json_object_get(c, "margins_bf16"), (size_t)i)) <=
                0.0625) {
            tie = ", up to a tie";
            break;
        }
        result(false, "case %d: greedy token %d is %d, expected %d (%g above it)", id, i,
               i < a->n ? a->token[i] : -1, int_at(a->want, (size_t)i),
               i < a->n ? (double)a->gap[i] : 0.0);
        return;
    }
    result(true, "case %d: greedy, %d tokens%s", id, n, tie);
}

static void check_greedy(const char *dir, const char *mode, const json_t *cases)
{
    cog_engine_config cfg = cog_engine_defaults;
    size_t n_cases = json_array_size(cases), i;
    answer *answers = cog_array(answer, n_cases);
    bool is_bf16 = strcmp(mode, "bf16") == 0;
    size_t n_ended = 0;
    cog_engine *e;
    const json_t *c;
    cog_err err;

    cfg.model_dir = dir;
    cfg.dtype = mode;
    cfg.backend = backend;
    cfg.on_logits = on_logits;
    cfg.on_logits_arg = answers;
    if (cog_engine_open(&e, &cfg, &err) < 0 || cog_engine_wait(e, &err) < 0)
        die(dir, &err);
    json_array_foreach(cases, i, c)
    {
        cog_request *r = make_request(dir, e, c);
        answers[i].want = json_object_get(c, is_bf16 ? "greedy_ids_bf16" : "greedy_ids_f32");
        result(same_prompt(&r->prompt, json_object_get(c, "prompt_ids")), "case %zu: prompt tokens",
               i);
        if (cog_engine_submit(e, r, &err) < 0)
            die("submit", &err);
    }
    while (n_ended < n_cases) {
        for (cog_event *ev = cog_engine_wait_events(e, 1000000000), *next; ev; ev = next) {
            next = (cog_event *)ev->link.next;
            if (ev->type == COG_EVENT_END) {
                n_ended++;
                if (ev->status)
                    die("a request", &ev->err);
            }
            cog_event_free(ev);
        }
    }
    cog_engine_close(e);
    json_array_foreach(cases, i, c) check_answer(&answers[i], c, is_bf16);
    cog_free(answers);
}

int main(int argc, char **argv)
{
    json_t *root, *cases;
    json_error_t why;
    char *path;

    if (argc < 3) {
        fprintf(stderr, "usage: golden DIR f32|bf16 [CPU FLAGS|cuda]\n");
        return 2;
    }
    if (argc > 3 && strcmp(argv[3], "cuda") == 0) {
        backend = argv[3];
    } else if (argc > 3) {
        unsigned mask = (unsigned)strtoul(argv[3], NULL, 0);
        if ((cog_cpu_flags() & mask) != mask) {
            printf("1..0 # SKIP this CPU lacks the instruction set\n");
            return 0;
        }
        cog_cpu_set_mask(mask);
    }
    path = cog_sprintf("%s/cases.json", argv[1]);
    root = json_load_file(path, 0, &why);
    cases = json_object_get(root, "cases");
    if (!json_is_array(cases) || json_array_size(cases) == 0)
        die(path, NULL);
    if (json_is_number(json_object_get(root, "bf16_limit")))
        limit[COG_BF16].blocks = limit[COG_BF16].logits =
            json_number_value(json_object_get(root, "bf16_limit"));
    check_all_blocks(argv[1], argv[2], cases);
    check_greedy(argv[1], argv[2], cases);
    printf("1..%d\n", n_tests);
    json_decref(root);
    cog_free(path);
    return n_failed > 0;
}
