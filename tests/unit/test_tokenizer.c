#include "tests/unit/unit.h"

#include "base/rng.h"
#include "base/utf8.h"
#include "engine/sp_shim.h"
#include "engine/tokenizer.h"
#include "tests/unit/folder.h"
#include "tests/unit/spm_file.h"

#define FILE_NAME "tokenizer.model"
#define SPACE     "\xe2\x96\x81" /* U+2581 */

/* ------------------------------------------------------------------ a random BPE tokenizer */

static const char *const letters[] = {
    SPACE,
    "a",
    "b",
    "c",
    "e",
    "n",
    "o",
    "r",
    "s",
    "t",
    "Q",
    ":",
    ".",
    ",",
    "[",
    "]",
    "<",
    ">",
    "/",
    "0",
    "1",
    "9",
    "x",
    "\xc3\xa9" /* e acute */,
    "\xd0\xb6" /* zhe */,
    "\xe4\xbd\xa0" /* ni */,
    "\xe5\xa5\xbd" /* hao */,
    "\xf0\x9f\xa6\x99" /* llama */
};

enum { N_LETTERS = sizeof(letters) / sizeof(letters[0]), N_MERGES = 500 };

/* Merges of random pieces, with coarse scores so that ties are common. */
static void random_model(cog_buf *model, uint64_t key)
{
    static char piece[N_LETTERS + N_MERGES][64];
    cog_rng rng = { .key = key };
    int n = 0;

    spm_begin(model);
    for (; n < N_LETTERS; n++)
        snprintf(piece[n], sizeof(piece[n]), "%s", letters[n]);
    while (n < N_LETTERS + N_MERGES) {
        const char *a = piece[cog_rng_below(&rng, (uint64_t)n)];
        const char *b = piece[cog_rng_below(&rng, (uint64_t)n)];
        char joined[sizeof(piece[0])];
        int same = 0;
        if (strlen(a) + strlen(b) > 12)
            continue;
        snprintf(joined, sizeof(joined), "%s%s", a, b);
        memcpy(piece[n], joined, sizeof(joined));
        for (int i = 0; i < n; i++)
            same += strcmp(piece[i], joined) == 0;
        n += !same;
    }
    for (int i = N_LETTERS; i < n; i++)
        spm_piece(model, piece[i], -(float)cog_rng_below(&rng, 60), SPM_NORMAL);
    for (int i = 0; i < N_LETTERS; i++)
        spm_piece(model, piece[i], -1000.0f - (float)i, SPM_NORMAL);
    spm_end(model, 2, NULL);
}

static cog_tokenizer *open_model(const char *dir, const cog_buf *model)
{
    cog_tokenizer *t;
    cog_err err = { 0 };

    folder_write(dir, FILE_NAME, model->data, model->len);
    if (cog_tokenizer_open(&t, dir, 1 << 20, 1, &err) < 0)
        fail_msg("%s", err.text);
    return t;
}

static int encode(const cog_tokenizer *t, int32_t **ids, const char *text, size_t len)
{
    cog_err err = { 0 };
    int n;

    if (cog_tokenizer_encode(t, ids, &n, text, len, &err) < 0)
        fail_msg("%s", err.text);
    return n;
}

/* ------------------------------------------------------------------ the reference algorithm
 *
 * One space in front, spaces to U+2581, then: merge the adjacent pair whose concatenation is a
 * piece with the highest score, leftmost on ties, until there is none; what is no piece becomes
 * bytes. */

static int find_piece(const cog_sp *sp, const char *text, size_t len)
{
    for (int id = 0; id < cog_sp_size(sp); id++) {
        size_t n;
        const char *piece = cog_sp_piece(sp, id, &n);
        if (n == len && memcmp(piece, text, n) == 0 && cog_sp_kind_of(sp, id) == COG_SP_NORMAL)
            return id;
    }
    return -1;
}

static size_t char_len(const char *s)
{
    unsigned char c = (unsigned char)*s;

    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

static int reference_encode(const cog_sp *sp, int32_t *ids, const char *text, size_t len)
{
    struct symbol {
        size_t at, len;
    } sym[512];
    cog_buf s = { 0 };
    int n = 0, n_ids = 0;

    if (len == 0)
        return 0;
    cog_buf_puts(&s, SPACE);
    for (size_t i = 0; i < len; i++)
        cog_buf_add(&s, text[i] == ' ' ? SPACE : text + i, text[i] == ' ' ? 3 : 1);
    for (size_t i = 0; i < s.len; i += sym[n++].len)
        sym[n] = (struct symbol){ i, char_len(s.data + i) };
    for (;;) {
        int best = -1;
        float best_score = 0;
        for (int i = 0; i + 1 < n; i++) {
            int id = find_piece(sp, s.data + sym[i].at, sym[i].len + sym[i + 1].len);
            if (id >= 0 && (best < 0 || cog_sp_score(sp, id) > best_score)) {
                best = i;
                best_score = cog_sp_score(sp, id);
            }
        }
        if (best < 0)
            break;
        sym[best].len += sym[best + 1].len;
        n--;
        memmove(sym + best + 1, sym + best + 2, (size_t)(n - best - 1) * sizeof(*sym));
    }
    for (int i = 0; i < n; i++) {
        int id = find_piece(sp, s.data + sym[i].at, sym[i].len);
        for (size_t k = 0; id < 0 && k < sym[i].len; k++)
            ids[n_ids++] = 3 + (unsigned char)s.data[sym[i].at + k];
        if (id >= 0)
            ids[n_ids++] = id;
    }
    cog_buf_fini(&s);
    return n_ids;
}

static size_t random_text(char *dst, cog_rng *rng)
{
    static const char *const odd[] = { " ",
                                       " ",
                                       "  ",
                                       "\n",
                                       "\t",
                                       "</s>",
                                       "<s>",
                                       "<unk>",
                                       "<0x0A>",
                                       "z",
                                       "Z",
                                       "\xc3\x9f",
                                       "\xe0\xa4\x95",
                                       "\xf0\x9f\x98\x80",
                                       "\xef\xbf\xbd",
                                       "\x01",
                                       "7",
                                       SPACE };
    size_t len = 0;

    dst[0] = '\0';
    for (uint64_t n = cog_rng_below(rng, 24); n > 0; n--) {
        const char *s = cog_rng_below(rng, 4) ? letters[cog_rng_below(rng, N_LETTERS)]
                                              : odd[cog_rng_below(rng, sizeof(odd) / sizeof(*odd))];
        strcpy(dst + len, s);
        len += strlen(s);
    }
    return len;
}

static void encode_follows_the_reference_algorithm(void **state)
{
    cog_buf model = { 0 };
    cog_rng rng = { .key = 3 };
    char text[512], why[128];
    int32_t *ids, expected[512];

    for (uint64_t key = 1; key <= 4; key++) {
        cog_tokenizer *t;
        cog_sp *sp;
        random_model(&model, key);
        t = open_model(*state, &model);
        sp = cog_sp_open(model.data, model.len, why, sizeof(why));
        assert_non_null(sp);
        assert_int_equal(cog_tokenizer_size(t), SPM_FIRST + N_LETTERS + N_MERGES);
        for (int round = 0; round < 300; round++) {
            size_t len = random_text(text, &rng);
            int n = encode(t, &ids, text, len);
            assert_int_equal(n, reference_encode(sp, expected, text, len));
            assert_memory_equal(ids, expected, (size_t)n * sizeof(*ids));
            cog_free(ids);
        }
        cog_sp_close(sp);
        cog_tokenizer_close(t);
    }
    cog_buf_fini(&model);
}

/* ------------------------------------------------------------------ published vectors
 *
 * Pieces of Vicuna's tokenizer that the vectors below consist of, at Vicuna's ids. The pieces on
 * the way to them (prefixes) and fillers stand at the ids between. */

struct vicuna_piece {
    int id;
    const char *text;
};

#define W SPACE

static const struct vicuna_piece vicuna_pieces[] = {
    { 259, W W },
    { 263, W "a" },
    { 278, W "the" },
    { 282, W "p" },
    { 297, W "in" },
    { 304, W "to" },
    { 310, W "of" },
    { 319, W "A" },
    { 322, W "and" },
    { 335, "ig" },
    { 338, W "is" },
    { 363, W "for" },
    { 366, W "you" },
    { 372, W "it" },
    { 385, W "an" },
    { 411, W "with" },
    { 445, W "this" },
    { 450, W "The" },
    { 526, W "are" },
    { 568, "ite" },
    { 673, W "Answer" },
    { 727, W "there" },
    { 894, W "Question" },
    { 904, W "\xc3\xa9" },
    { 915, "ribe" },
    { 1001, "ER" },
    { 1023, W "two" },
    { 1128, W "How" },
    { 1203, W "object" },
    { 1234, W "answer" },
    { 1248, W "pol" },
    { 1269, W "each" },
    { 1404, W "user" },
    { 1546, W "between" },
    { 1724, W "What" },
    { 1784, W "many" },
    { 1799, "SS" },
    { 1815, W "Can" },
    { 1927, "gy" },
    { 1967, W "image" },
    { 3148, W "US" },
    { 3160, W "include" },
    { 3402, W "format" },
    { 3867, W "provide" },
    { 4076, W "gives" },
    { 5155, W "questions" },
    { 5262, "]]" },
    { 5276, W "mentioned" },
    { 5519, W "[[" },
    { 6089, W "answers" },
    { 6139, W "description" },
    { 6150, "oon" },
    { 6324, W "Hi" },
    { 6804, W "Where" },
    { 7774, W "cart" },
    { 8162, W "spaces" },
    { 8444, W "helpful" },
    { 9047, "IST" },
    { 9124, W "bank" },
    { 10350, W "coordinates" },
    { 11203, W "dog" },
    { 12758, W "curious" },
    { 12938, "nl" },
    { 12955, W "houses" },
    { 13173, W "detailed" },
    { 13563, W "chat" },
    { 13566, "ANT" },
    { 13899, W "Short" },
    { 15043, W "Hello" },
    { 16492, "Question" },
    { 17819, W "smile" },
    { 20255, W "assistant" },
    { 20355, W "Desc" },
    { 21082, W "intelligence" },
    { 23116, W "artificial" },
    { 29871, W },
    { 29879, "s" },
    { 29889, "." },
    { 29891, "y" },
    { 29892, "," },
    { 29896, "1" },
    { 29900, "0" },
    { 29901, ":" },
    { 29906, "2" },
    { 29915, "'" },
    { 29916, "x" },
    { 29929, "9" },
    { 29936, ";" },
    { 29941, "3" },
    { 29945, "5" },
    { 29946, "4" },
    { 29947, "8" },
    { 29953, "6" },
    { 29955, "7" },
    { 29973, "?" },
    { 30919, "\xe4\xbd\xa0" },
    { 31076, "\xe5\xa5\xbd" },
};

enum { VICUNA_SIZE = 32000, N_VICUNA = sizeof(vicuna_pieces) / sizeof(vicuna_pieces[0]) };

static void place(char **slot, int id, const char *text, size_t len)
{
    for (int i = SPM_FIRST; i < VICUNA_SIZE; i++)
        if (slot[i] && strlen(slot[i]) == len && memcmp(slot[i], text, len) == 0)
            return;
    while (slot[id])
        id++;
    slot[id] = cog_strndup(text, len);
}

/* Prefixes that begin with a space merge before others, so that words grow from the left. */
static void vicuna_model(cog_buf *model)
{
    char **slot = cog_array(char *, VICUNA_SIZE);
    char filler[32];

    for (int i = 0; i < N_VICUNA; i++)
        place(slot, vicuna_pieces[i].id, vicuna_pieces[i].text, strlen(vicuna_pieces[i].text));
    for (int i = 0; i < N_VICUNA; i++) {
        const char *text = vicuna_pieces[i].text;
        for (size_t n = 2; n < strlen(text); n++)
            if ((text[n] & 0xc0) != 0x80 && n > char_len(text))
                place(slot, 31100, text, n);
    }
    spm_begin(model);
    for (int i = SPM_FIRST; i < VICUNA_SIZE; i++) {
        bool is_word = slot[i] && strncmp(slot[i], W, 3) == 0 && strcmp(slot[i], W W) != 0;
        snprintf(filler, sizeof(filler), "\xee\x80\x80%d", i); /* a private-use character */
        spm_piece(model, slot[i] ? slot[i] : filler, -(float)i - (is_word ? 0 : 1e6f), SPM_NORMAL);
        cog_free(slot[i]);
    }
    spm_end(model, 2, NULL);
    cog_free(slot);
}

struct vector {
    const char *text;
    int32_t ids[48]; /* ends with 0 */
};

#define COMMA 29892
#define X0Y0X1Y1 \
    5519, 29916, 29900, COMMA, 29891, 29900, COMMA, 29916, 29896, COMMA, 29891, 29896, 5262

static const struct vector vectors[] = {
    { "Question: Describe this image Answer:", { 894, 29901, 20355, 915, 445, 1967, 673, 29901 } },
    { "Question: How many houses are there in this cartoon? Short answer:",
      { 894, 29901, 1128, 1784, 12955, 526, 727, 297, 445, 7774, 6150, 29973, 13899, 1234,
        29901 } },
    { "Question: Hi Answer: Hello\nQuestion: What is it? Answer:",
      { 894, 29901, 6324, 673, 29901, 15043, 13, 16492, 29901, 1724, 338, 372, 29973, 673,
        29901 } },
    { "Describe this image.", { 20355, 915, 445, 1967, 29889 } },
    { "Where is the dog? answer in [[x0,y0,x1,y1]] format.",
      { 6804, 338, 278, 11203, 29973, 1234, 297, X0Y0X1Y1, 3402, 29889 } },
    { "Can you provide a description of the image and include the coordinates [[x0,y0,x1,y1]] for "
      "each mentioned object?",
      { 1815, 366, 3867, 263, 6139, 310, 278, 1967, 322, 3160, 278, 10350, X0Y0X1Y1, 363, 1269,
        5276, 1203, 29973 } },
    { "A piggy bank [[302,198,694,857]] with a smile",
      { 319,   282,   335,   1927,  9124,  5519,  29941, 29900, 29906, COMMA, 29896, 29929, 29947,
        COMMA, 29953, 29929, 29946, COMMA, 29947, 29945, 29955, 5262,  411,   263,   17819 } },
    { "[[028,820,986,997;526,763,636,952]]",
      { 5519,  29900, 29906, 29947, COMMA, 29947, 29906, 29900, COMMA, 29929, 29947,
        29953, COMMA, 29929, 29929, 29955, 29936, 29945, 29906, 29953, COMMA, 29955,
        29953, 29941, COMMA, 29953, 29941, 29953, COMMA, 29929, 29945, 29906, 5262 } },
    { "  two  spaces\n\nnl", { 259, 1023, 29871, 8162, 13, 13, 12938 } },
    { "4", { 29871, 29946 } },
    { "\xe4\xbd\xa0\xe5\xa5\xbd", { 29871, 30919, 31076 } },
    { "\xc3\xa9\xf0\x9f\xa6\x99", { 904, 243, 162, 169, 156 } },
    { "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
      "helpful, detailed, and polite answers to the user's questions. USER: Hi ASSISTANT:",
      { 319,   13563, 1546, 263,   12758, 1404,  322,   385,  23116, 21082, 20255, 29889, 450,
        20255, 4076,  8444, COMMA, 13173, COMMA, 322,   1248, 568,   6089,  304,   278,   1404,
        29915, 29879, 5155, 29889, 3148,  1001,  29901, 6324, 319,   1799,  9047,  13566, 29901 } },
    { "", { 0 } },
};

static void decode(cog_buf *out, const cog_tokenizer *t, const int32_t *ids, int n)
{
    cog_detokenizer d = { 0 };

    cog_buf_clear(out);
    cog_buf_puts(out, "");
    for (int i = 0; i < n; i++) {
        size_t from = out->len;
        cog_detokenizer_push(&d, out, t, ids[i]);
        assert_true(cog_utf8_valid(out->data + from, out->len - from));
    }
    cog_detokenizer_finish(&d, out);
    cog_detokenizer_fini(&d);
    assert_true(cog_utf8_valid(out->data, out->len));
}

/* Also the trap of the dummy prefix: the first word has a space in front, and decoding drops it. */
static void trap_published_vectors_with_dummy_prefix(void **state)
{
    cog_buf model = { 0 }, text = { 0 };
    cog_tokenizer *t;
    int32_t *ids;

    vicuna_model(&model);
    t = open_model(*state, &model);
    assert_int_equal(cog_tokenizer_size(t), VICUNA_SIZE);
    assert_int_equal(cog_tokenizer_unk(t), 0);
    assert_int_equal(cog_tokenizer_bos(t), 1);
    assert_int_equal(cog_tokenizer_eos(t), 2);
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        int n = encode(t, &ids, vectors[i].text, strlen(vectors[i].text));
        for (int k = 0; k < n; k++)
            if (ids[k] != vectors[i].ids[k])
                fail_msg("'%s': token %d is %d, expected %d", vectors[i].text, k, ids[k],
                         vectors[i].ids[k]);
        assert_int_equal(vectors[i].ids[n], 0);
        decode(&text, t, ids, n);
        assert_string_equal(text.data, vectors[i].text);
        cog_free(ids);
    }
    cog_tokenizer_close(t);
    cog_buf_fini(&model);
    cog_buf_fini(&text);
}

/* ------------------------------------------------------------------ properties */

/* What a client types is text, whatever it looks like. */
static void trap_control_text_stays_text(void **state)
{
    static const char *const typed[] = {
        "</s>", "<s>", "<unk>", "<0x0A>", "a</s>b <s> <unk><0x00>", "</s></s></s>"
    };
    cog_buf model = { 0 }, text = { 0 };
    cog_tokenizer *t;
    int32_t *ids;

    random_model(&model, 9);
    t = open_model(*state, &model);
    for (size_t i = 0; i < sizeof(typed) / sizeof(typed[0]); i++) {
        int n = encode(t, &ids, typed[i], strlen(typed[i]));
        for (int k = 0; k < n; k++) {
            assert_int_not_equal(ids[k], 0);
            assert_int_not_equal(ids[k], 1);
            assert_int_not_equal(ids[k], 2);
            assert_int_not_equal(ids[k], 3 + 0x0a);
            assert_int_not_equal(ids[k], 3 + 0x00);
        }
        decode(&text, t, ids, n);
        assert_string_equal(text.data, typed[i]);
        cog_free(ids);
    }
    cog_tokenizer_close(t);
    cog_buf_fini(&model);
    cog_buf_fini(&text);
}

static void decoding_gives_the_text_back(void **state)
{
    cog_buf model = { 0 }, text = { 0 };
    cog_rng rng = { .key = 8 };
    cog_tokenizer *t;
    char in[512];
    int32_t *ids;

    random_model(&model, 6);
    t = open_model(*state, &model);
    for (int round = 0; round < 2000; round++) {
        size_t len = random_text(in, &rng);
        int n;
        if (strstr(in, SPACE)) /* indistinguishable from a space, as in the reference */
            continue;
        n = encode(t, &ids, in, len);
        decode(&text, t, ids, n);
        assert_int_equal(text.len, len);
        assert_memory_equal(text.data, in, len);
        cog_free(ids);
    }
    cog_tokenizer_close(t);
    cog_buf_fini(&model);
    cog_buf_fini(&text);
}

/* A quadratic encoder would run into the test's timeout. */
static void long_runs_are_encoded(void **state)
{
    enum { LEN = 1 << 18 };
    static const char *const unit[] = { "a", " ", "7", "\xe4\xbd\xa0", "\n" };
    cog_buf model = { 0 }, in = { 0 }, text = { 0 };
    cog_tokenizer *t;
    int32_t *ids;

    random_model(&model, 2);
    t = open_model(*state, &model);
    for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++) {
        int n;
        cog_buf_clear(&in);
        while (in.len < LEN)
            cog_buf_puts(&in, unit[i]);
        n = encode(t, &ids, in.data, in.len);
        decode(&text, t, ids, n);
        assert_int_equal(text.len, in.len);
        assert_memory_equal(text.data, in.data, in.len);
        cog_free(ids);
    }
    cog_tokenizer_close(t);
    cog_buf_fini(&model);
    cog_buf_fini(&in);
    cog_buf_fini(&text);
}

static void bad_text_is_refused(void **state)
{
    const size_t limit = (size_t)1 << 20;
    cog_buf model = { 0 };
    char *text = cog_alloc(limit + 1, 1);
    cog_tokenizer *t;
    int32_t *ids = NULL;
    cog_err err = { 0 };
    int n;

    random_model(&model, 2);
    t = open_model(*state, &model);
    assert_int_equal(cog_tokenizer_encode(t, &ids, &n, "a\xff", 2, &err), COG_EINVAL);
    assert_int_equal(cog_tokenizer_encode(t, &ids, &n, "\xed\xa0\x80", 3, &err), COG_EINVAL);
    assert_int_equal(cog_tokenizer_encode(t, &ids, &n, "\xe4\xbd", 2, &err), COG_EINVAL);
    memset(text, 'a', limit + 1);
    assert_int_equal(cog_tokenizer_encode(t, &ids, &n, text, limit + 1, &err), COG_ELIMIT);
    assert_mentions(err.text, "1048577");
    assert_null(ids);
    n = encode(t, &ids, "a\0b", 3); /* a zero byte is text like any other */
    assert_in_range(n, 3, 4);
    cog_free(ids);
    cog_tokenizer_close(t);
    cog_tokenizer_close(NULL);
    cog_free(text);
    cog_buf_fini(&model);
}

static void expect_decoded(const cog_tokenizer *t, const int32_t *ids, int n, const char *expected)
{
    cog_buf text = { 0 };

    decode(&text, t, ids, n);
    assert_string_equal(text.data, expected);
    cog_buf_fini(&text);
}

#define DECODED(t, expected, ...)                       \
    expect_decoded(t, (const int32_t[]){ __VA_ARGS__ }, \
                   sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t), expected)

static void detokenizer_rules(void **state)
{
    enum { SP = 29871, FOUR = 29946, HI = 6324 };
    cog_buf model = { 0 }, text = { 0 };
    cog_detokenizer d = { 0 };
    cog_tokenizer *t;
    size_t len;

    vicuna_model(&model);
    t = open_model(*state, &model);
    DECODED(t, "Hi", HI);
    DECODED(t, "Hi", 1, 2, 0, HI, 2);            /* control and unknown tokens are nothing */
    DECODED(t, "Hi", -1, 32000, INT32_MAX, HI);  /* nor are ids that are none */
    DECODED(t, "4 4", SP, FOUR, SP, FOUR);       /* one leading space goes */
    DECODED(t, " 4", SP, SP, FOUR);              /* and no more than one */
    DECODED(t, "  Hi", 259, HI);                 /* three, less one */
    DECODED(t, "Hi", 3 + ' ', 3 + 'H', 3 + 'i'); /* a byte piece may be that space */
    DECODED(t, "\xf0\x9f\xa6\x99", 243, 162, 169, 156);
    DECODED(t, "\xef\xbf\xbd", 243, 162, 169); /* never finished */
    DECODED(t, "\xef\xbf\xbdHi", 243, 162, 3 + 'H', 3 + 'i');
    DECODED(t, "\xef\xbf\xbd\xef\xbf\xbd", 3 + 0xff, 3 + 0x80);
    DECODED(t, "", 1);

    /* nothing comes out before the character is whole */
    cog_detokenizer_push(&d, &text, t, 243);
    cog_detokenizer_push(&d, &text, t, 162);
    cog_detokenizer_push(&d, &text, t, 169);
    assert_int_equal(text.len, 0);
    cog_detokenizer_push(&d, &text, t, 156);
    assert_int_equal(text.len, 4);
    cog_detokenizer_fini(&d);

    /* by their names, when that is wanted */
    cog_buf_clear(&text);
    d.shows_controls = true;
    for (int i = 0; i < 6; i++)
        cog_detokenizer_push(&d, &text, t, (int32_t[]){ 1, HI, 0, 243, 2, 32000 }[i]);
    cog_detokenizer_finish(&d, &text);
    assert_string_equal(text.data, "<s> Hi<unk>\xef\xbf\xbd</s>");
    cog_detokenizer_fini(&d);
    assert_memory_equal(cog_tokenizer_control(t, 2, &len), "</s>", 4);
    assert_int_equal(len, 4);
    for (int i = 0; i < 4; i++) {
        cog_tokenizer_control(t, (int32_t[]){ HI, 32000, -1, 243 }[i], &len);
        assert_int_equal(len, 0);
    }

    assert_memory_equal(cog_tokenizer_piece(t, HI, &len), " Hi", 3);
    assert_int_equal(len, 3);
    assert_memory_equal(cog_tokenizer_piece(t, 13, &len), "\n", 1);
    assert_int_equal(len, 1);
    cog_tokenizer_piece(t, 2, &len);
    assert_int_equal(len, 0);
    cog_tokenizer_piece(t, -5, &len);
    assert_int_equal(len, 0);
    cog_tokenizer_close(t);
    cog_buf_fini(&model);
    cog_buf_fini(&text);
}

/* Random ids: whatever a model emits, the pieces are valid text and join to the whole. */
static void any_ids_decode_the_same_in_steps(void **state)
{
    cog_buf model = { 0 }, text = { 0 }, all = { 0 };
    cog_rng rng = { .key = 4 };
    cog_tokenizer *t;
    int32_t ids[40];
    char *whole;

    random_model(&model, 2);
    t = open_model(*state, &model);
    for (int round = 0; round < 2000; round++) {
        int n = (int)cog_rng_below(&rng, 40);
        size_t len, skip;
        cog_buf_clear(&all);
        cog_buf_puts(&all, "");
        for (int i = 0; i < n; i++) {
            const char *piece;
            ids[i] = (int32_t)cog_rng_below(&rng, cog_rng_below(&rng, 2) ? 259 : 700);
            piece = cog_tokenizer_piece(t, ids[i], &len);
            cog_buf_add(&all, piece, len);
        }
        skip = all.len > 0 && all.data[0] == ' ';
        whole = cog_alloc(3 * all.len + 1, 1);
        len = cog_utf8_sanitize(whole, all.data + skip, all.len - skip);
        decode(&text, t, ids, n);
        assert_int_equal(text.len, len);
        assert_memory_equal(text.data, whole, len);
        cog_free(whole);
    }
    cog_tokenizer_close(t);
    cog_buf_fini(&model);
    cog_buf_fini(&text);
    cog_buf_fini(&all);
}

/* ------------------------------------------------------------------ bad files */

static void expect_refusal(const char *dir, int vocab, int code, const char *part)
{
    cog_tokenizer *t = NULL;
    cog_err err = { 0 };
    int rc = cog_tokenizer_open(&t, dir, vocab, 1, &err);

    if (rc == 0)
        fail_msg("opened, expected '%s'", part);
    assert_null(t);
    assert_mentions(err.text, part);
    assert_int_equal(rc, code);
}

static void refuse_model(const char *dir, cog_buf *model, int code, const char *part)
{
    folder_write(dir, FILE_NAME, model->data, model->len);
    expect_refusal(dir, 1000, code, part);
    cog_buf_fini(model);
}

static void other_tokenizers_are_refused(void **state)
{
    cog_buf m = { 0 }, norm = { 0 };
    cog_tokenizer *t;
    cog_err err = { 0 };
    char *path = cog_sprintf("%s/" FILE_NAME, (const char *)*state);

    expect_refusal(*state, 32000, COG_EIO, "uses Vicuna 7B v1.5's");
    folder_puts(*state, "tokenizer.json", "{}");
    expect_refusal(*state, 32000, COG_EIO, "tokenizer.json is not read");
    folder_puts(*state, FILE_NAME, "");
    expect_refusal(*state, 32000, COG_EFORMAT, "not a SentencePiece model");
    folder_puts(*state, FILE_NAME, "version https://git-lfs.github.com/spec/v1\n");
    expect_refusal(*state, 32000, COG_EFORMAT, "not a SentencePiece model");
    assert_int_equal(truncate(path, ((off_t)64 << 20) + 1), 0);
    expect_refusal(*state, 32000, COG_ELIMIT, "more than the limit");

    random_model(&m, 1);
    folder_write(*state, FILE_NAME, m.data, m.len);
    expect_refusal(*state, SPM_FIRST + N_LETTERS + N_MERGES - 1, COG_EFORMAT,
                   "787 pieces, the model's vocabulary has 786");
    assert_int_equal(cog_tokenizer_open(&t, *state, 32000, 5, &err), COG_EFORMAT);
    assert_mentions(err.text, "begins texts with token 1, the model's configuration says 5");
    spm_begin(&m);
    spm_end(&m, 1, NULL);
    refuse_model(*state, &m, COG_EUNSUPPORTED, "not of SentencePiece's BPE type");
    spm_begin(&m);
    spm_int(&norm, 3, 1); /* remove_extra_whitespaces is on unless said otherwise */
    spm_end(&m, 2, &norm);
    refuse_model(*state, &m, COG_EUNSUPPORTED, "normalises text");
    spm_begin(&m);
    spm_int(&norm, 4, 0);
    spm_bytes(&norm, 2, "\x04\0\0\0abcd", 8); /* a normalisation table */
    spm_end(&m, 2, &norm);
    refuse_model(*state, &m, COG_EUNSUPPORTED, "normalises text");
    spm_piece(&m, "<unk>", 0, SPM_UNKNOWN);
    spm_piece(&m, "a", 0, SPM_NORMAL);
    spm_end(&m, 2, NULL);
    refuse_model(*state, &m, COG_EFORMAT, FILE_NAME);
    spm_begin(&m);
    spm_piece(&m, "a", __builtin_nanf(""), SPM_NORMAL);
    spm_end(&m, 2, NULL);
    refuse_model(*state, &m, COG_EFORMAT, "not finite");
    spm_begin(&m);
    spm_piece(&m, "a", 0, SPM_NORMAL);
    spm_piece(&m, "a", 0, SPM_NORMAL);
    spm_end(&m, 2, NULL);
    refuse_model(*state, &m, COG_EFORMAT, "already defined");
    cog_buf_fini(&norm);
    cog_free(path);
}

static void damaged_files_never_crash(void **state)
{
    static const char text[] = "Question: a </s> \xe4\xbd\xa0\xf0\x9f\xa6\x99 9\n";
    cog_buf good = { 0 }, bad = { 0 }, out = { 0 };
    cog_rng rng = { .key = 1 };
    int opened = 0;

    random_model(&good, 7);
    for (int round = 0; round < 1500; round++) {
        cog_tokenizer *t;
        cog_err err;
        int32_t *ids;
        int n_ids;
        cog_buf_clear(&bad);
        cog_buf_add(&bad, good.data, good.len);
        for (uint64_t n = 1 + cog_rng_below(&rng, 4); n > 0; n--) {
            size_t tail = cog_rng_below(&rng, 3) ? good.len : 60; /* the specifications, often */
            bad.data[good.len - 1 - cog_rng_below(&rng, tail)] = (char)cog_rng_next(&rng);
        }
        if (round % 8 == 0)
            bad.len = cog_rng_below(&rng, bad.len + 1);
        folder_write(*state, FILE_NAME, bad.data, bad.len);
        if (cog_tokenizer_open(&t, *state, 32000, -1, &err) < 0)
            continue;
        opened++;
        n_ids = encode(t, &ids, text, sizeof(text) - 1);
        decode(&out, t, ids, n_ids);
        cog_free(ids);
        cog_tokenizer_close(t);
    }
    assert_in_range(opened, 10, 1400); /* both outcomes were met */
    cog_buf_fini(&good);
    cog_buf_fini(&bad);
    cog_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        folder_test(encode_follows_the_reference_algorithm),
        folder_test(trap_published_vectors_with_dummy_prefix),
        folder_test(trap_control_text_stays_text),
        folder_test(decoding_gives_the_text_back),
        folder_test(long_runs_are_encoded),
        folder_test(bad_text_is_refused),
        folder_test(detokenizer_rules),
        folder_test(any_ids_decode_the_same_in_steps),
        folder_test(other_tokenizers_are_refused),
        folder_test(damaged_files_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
