#include "engine/tokenizer.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "engine/file.h"
#include "engine/sp_shim.h"

#include <math.h>
#include <string.h>

#define FILE_NAME "tokenizer.model"
#define MAX_BYTES ((size_t)64 << 20)
#define MAX_TEXT  ((size_t)1 << 20)

struct cog_tokenizer {
    cog_sp *sp;
    int n;
    cog_buf bytes;   /* what the pieces stand for, one after another */
    uint32_t *start; /* [n + 1] into bytes */
};

/* ------------------------------------------------------------------ the file, before the library
 *
 * libsentencepiece trusts a model's normalisation table and picks its algorithm from the file. So
 * the few fields that decide this are read here first. Protocol Buffers wire format:
 * https://protobuf.dev/programming-guides/encoding; field numbers: sentencepiece_model.proto. */

struct wire {
    const uint8_t *at, *end;
};

struct field {
    uint64_t number;
    int type; /* 0 varint, 1 eight bytes, 2 a run of bytes, 5 four bytes */
    uint64_t value;
    struct wire run;
};

static bool take_varint(struct wire *w, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (w->at == w->end)
            return false;
        *out |= (uint64_t)(*w->at & 0x7f) << shift;
        if (!(*w->at++ & 0x80))
            return true;
    }
    return false;
}

static bool take_field(struct wire *w, struct field *f)
{
    uint64_t tag, len = 0;

    if (!take_varint(w, &tag))
        return false;
    *f = (struct field){ .number = tag >> 3, .type = (int)(tag & 7) };
    switch (f->type) {
    case 0:
        return take_varint(w, &f->value);
    case 1:
        len = 8;
        break;
    case 2:
        if (!take_varint(w, &len))
            return false;
        break;
    case 5:
        len = 4;
        break;
    default:
        return false;
    }
    if (len > (uint64_t)(w->end - w->at))
        return false;
    f->run = (struct wire){ w->at, w->at + len };
    w->at += len;
    return true;
}

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3, MODEL_DENORMALIZER = 5 };
enum { TRAINER_MODEL_TYPE = 3, TRAINER_SPACE_AS_SUFFIX = 24 };
enum { NORM_CHARSMAP = 2, NORM_DUMMY_PREFIX = 3, NORM_REMOVE_SPACES = 4, NORM_ESCAPE_SPACES = 5 };
enum { MODEL_TYPE_UNIGRAM = 1, MODEL_TYPE_BPE = 2 };

struct traits {
    uint64_t pieces, model_type, suffix, dummy_prefix, remove_spaces, escape_spaces;
    bool charsmap;
};

static bool scan_trainer(struct traits *t, struct wire w)
{
    struct field f;

    while (w.at < w.end) {
        if (!take_field(&w, &f))
            return false;
        if (f.number == TRAINER_MODEL_TYPE)
            t->model_type = f.value;
        else if (f.number == TRAINER_SPACE_AS_SUFFIX)
            t->suffix = f.value;
    }
    return true;
}

static bool scan_normalizer(struct traits *t, struct wire w, bool is_denormalizer)
{
    struct field f;

    while (w.at < w.end) {
        if (!take_field(&w, &f))
            return false;
        if (f.number == NORM_CHARSMAP && f.run.at < f.run.end)
            t->charsmap = true;
        if (is_denormalizer)
            continue;
        if (f.number == NORM_DUMMY_PREFIX)
            t->dummy_prefix = f.value;
        else if (f.number == NORM_REMOVE_SPACES)
            t->remove_spaces = f.value;
        else if (f.number == NORM_ESCAPE_SPACES)
            t->escape_spaces = f.value;
    }
    return true;
}

static bool scan_model(struct traits *t, struct wire w)
{
    struct field f;
    bool ok = true;

    while (ok && w.at < w.end) {
        ok = take_field(&w, &f);
        if (ok && f.number == MODEL_PIECE)
            t->pieces++;
        else if (ok && f.number == MODEL_TRAINER)
            ok = scan_trainer(t, f.run);
        else if (ok && (f.number == MODEL_NORMALIZER || f.number == MODEL_DENORMALIZER))
            ok = scan_normalizer(t, f.run, f.number == MODEL_DENORMALIZER);
    }
    return ok;
}

static int check_model(const cog_buf *file, int vocab, cog_err *err)
{
    struct traits t = {
        .model_type = MODEL_TYPE_UNIGRAM, .dummy_prefix = 1, .remove_spaces = 1, .escape_spaces = 1
    };
    const uint8_t *bytes = (const uint8_t *)file->data;

    if (file->len == 0 || !scan_model(&t, (struct wire){ bytes, bytes + file->len }))
        return cog_err_set(err, COG_EFORMAT,
                           FILE_NAME ": not a SentencePiece model (or cut short)");
    if (t.pieces == 0 || t.pieces > (uint64_t)vocab)
        return cog_err_set(err, COG_EFORMAT,
                           FILE_NAME ": %llu pieces, the model's vocabulary has %d",
                           (unsigned long long)t.pieces, vocab);
    if (t.model_type != MODEL_TYPE_BPE)
        return cog_err_set(err, COG_EUNSUPPORTED,
                           FILE_NAME
                           ": not of SentencePiece's BPE type, as LLaMA's and Vicuna's are");
    if (t.charsmap || t.suffix || !t.dummy_prefix || t.remove_spaces || !t.escape_spaces)
        return cog_err_set(err, COG_EUNSUPPORTED,
                           FILE_NAME
                           ": normalises text; LLaMA's and Vicuna's tokenizers only put a "
                           "space in front");
    return 0;
}

/* ------------------------------------------------------------------ pieces */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x41>" */
static bool byte_value(const char *piece, size_t len, char *out)
{
    int hi, lo;

    if (len != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>')
        return false;
    hi = hex_digit(piece[3]);
    lo = hex_digit(piece[4]);
    *out = (char)(hi * 16 + lo);
    return hi >= 0 && lo >= 0;
}

static void add_spaced(cog_buf *out, const char *piece, size_t len)
{
    static const char space[] = "\xe2\x96\x81"; /* U+2581 */

    for (size_t i = 0; i < len;) {
        bool is_space = len - i >= 3 && memcmp(piece + i, space, 3) == 0;
        cog_buf_add(out, is_space ? " " : piece + i, 1);
        i += is_space ? 3 : 1;
    }
}

static int add_piece(cog_tokenizer *t, int id, cog_err *err)
{
    size_t len;
    const char *piece = cog_sp_piece(t->sp, id, &len);
    char byte;

    if (!isfinite(cog_sp_score(t->sp, id)))
        return cog_err_set(err, COG_EFORMAT, FILE_NAME ": the score of piece %d is not finite", id);
    switch (cog_sp_kind_of(t->sp, id)) {
    case COG_SP_BYTE:
        if (!byte_value(piece, len, &byte))
            return cog_err_set(err, COG_EFORMAT,
                               FILE_NAME ": piece %d is of the byte type and not named <0xNN>", id);
        cog_buf_add(&t->bytes, &byte, 1);
        break;
    case COG_SP_NORMAL:
    case COG_SP_UNUSED:
        add_spaced(&t->bytes, piece, len);
        break;
    case COG_SP_UNKNOWN:
    case COG_SP_CONTROL:
        break;
    }
    return 0;
}

static int read_pieces(cog_tokenizer *t, cog_err *err)
{
    int rc = 0;

    t->n = cog_sp_size(t->sp);
    t->start = cog_array(uint32_t, (size_t)t->n + 1);
    for (int id = 0; rc == 0 && id < t->n; id++) {
        rc = add_piece(t, id, err);
        t->start[id + 1] = (uint32_t)t->bytes.len; /* below MAX_BYTES */
    }
    return rc;
}

static int check_ids(const cog_tokenizer *t, int32_t want_bos, cog_err *err)
{
    int unk = cog_sp_unk(t->sp), bos = cog_sp_bos(t->sp), eos = cog_sp_eos(t->sp);

    if (unk < 0 || bos < 0 || eos < 0)
        return cog_err_set(err, COG_EFORMAT,
                           FILE_NAME ": has no unknown, begin or end token (ids %d, %d, %d)", unk,
                           bos, eos);
    if (want_bos >= 0 && bos != want_bos)
        return cog_err_set(err, COG_EFORMAT,
                           FILE_NAME ": begins texts with token %d, the model's configuration says "
                                     "%d (bos_token_id)",
                           bos, want_bos);
    return 0;
}

/* ------------------------------------------------------------------ open and encode */

static int read_file(cog_buf *file, const char *dir, cog_err *err)
{
    if (!cog_file_exists(dir, FILE_NAME))
        return cog_err_set(
            err, COG_EIO,
            "%.300s: no " FILE_NAME "%s; CogVLM uses Vicuna 7B v1.5's, which its "
            "repositories do not hold: copy that file into the folder",
            dir, cog_file_exists(dir, "tokenizer.json") ? " (tokenizer.json is not read)" : "");
    return cog_file_read(file, dir, FILE_NAME, MAX_BYTES, err);
}

int cog_tokenizer_open(cog_tokenizer **out, const char *dir, int vocab, int32_t bos, cog_err *err)
{
    cog_tokenizer *t = cog_new(cog_tokenizer);
    cog_buf file = { 0 };
    char why[256];
    int rc = read_file(&file, dir, err);

    if (rc < 0)
        goto fail;
    rc = check_model(&file, vocab, err);
    if (rc < 0)
        goto fail;
    t->sp = cog_sp_open(file.data, file.len, why, sizeof(why));
    if (!t->sp) {
        rc = cog_err_set(err, COG_EFORMAT, FILE_NAME ": %s", why);
        goto fail;
    }
    rc = check_ids(t, bos, err);
    if (rc < 0)
        goto fail;
    rc = read_pieces(t, err);
    if (rc < 0)
        goto fail;
    cog_buf_fini(&file);
    *out = t;
    return 0;

fail:
    cog_buf_fini(&file);
    cog_tokenizer_close(t);
    return rc;
}

void cog_tokenizer_close(cog_tokenizer *t)
{
    if (!t)
        return;
    cog_sp_close(t->sp);
    cog_buf_fini(&t->bytes);
    cog_free(t->start);
    cog_free(t);
}

int cog_tokenizer_size(const cog_tokenizer *t)
{
    return t->n;
}

int32_t cog_tokenizer_bos(const cog_tokenizer *t)
{
    return cog_sp_bos(t->sp);
}

int32_t cog_tokenizer_eos(const cog_tokenizer *t)
{
    return cog_sp_eos(t->sp);
}

int32_t cog_tokenizer_unk(const cog_tokenizer *t)
{
    return cog_sp_unk(t->sp);
}

int cog_tokenizer_encode(const cog_tokenizer *t, int32_t **ids, int *n_ids, const char *text,
                         size_t len, cog_err *err)
{
    if (len > MAX_TEXT)
        return cog_err_set(err, COG_ELIMIT, "the text has %zu bytes, more than the limit of %zu",
                           len, MAX_TEXT);
    if (!cog_utf8_valid(text, len))
        return cog_err_set(err, COG_EINVAL, "the text is not valid UTF-8");
    if (cog_sp_encode(t->sp, ids, n_ids, text, len) < 0)
        return cog_err_set(err, COG_ENOMEM, "the tokenizer failed on a text of %zu bytes", len);
    return 0;
}

/* ------------------------------------------------------------------ decode */

const char *cog_tokenizer_piece(const cog_tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || id >= t->n || !t->bytes.data) {
        *len = 0;
        return "";
    }
    *len = t->start[id + 1] - t->start[id];
    return t->bytes.data + t->start[id];
}

const char *cog_tokenizer_control(const cog_tokenizer *t, int32_t id, size_t *len)
{
    cog_sp_kind kind = id >= 0 && id < t->n ? cog_sp_kind_of(t->sp, id) : COG_SP_NORMAL;

    *len = 0;
    return kind == COG_SP_CONTROL || kind == COG_SP_UNKNOWN ? cog_sp_piece(t->sp, id, len) : "";
}

/* Moves the first len pending bytes to out, as valid UTF-8. */
static void emit(cog_detokenizer *d, cog_buf *out, size_t len)
{
    if (len == 0)
        return;
    cog_buf_reserve(out, 3 * len);
    out->len += cog_utf8_sanitize(out->data + out->len, d->pending.data, len);
    out->data[out->len] = '\0';
    cog_buf_drop(&d->pending, len);
}

void cog_detokenizer_push(cog_detokenizer *d, cog_buf *out, const cog_tokenizer *t, int32_t id)
{
    size_t len;
    const char *bytes = cog_tokenizer_piece(t, id, &len);

    if (len == 0 && d->shows_controls)
        bytes = cog_tokenizer_control(t, id, &len);
    if (len == 0)
        return;
    if (!d->started && bytes[0] == ' ') {
        bytes++;
        len--;
    }
    d->started = true;
    cog_buf_add(&d->pending, bytes, len);
    emit(d, out, cog_utf8_complete(d->pending.data, d->pending.len));
}

void cog_detokenizer_finish(cog_detokenizer *d, cog_buf *out)
{
    emit(d, out, d->pending.len);
}

void cog_detokenizer_fini(cog_detokenizer *d)
{
    cog_buf_fini(&d->pending);
    d->started = false;
}
