/* tokenizer.h - text <-> token ids for CogVLM v1: SentencePiece BPE from tokenizer.model.
 *
 * Text that a client typed is always plain text: "</s>" or "<unk>" in it are spelled out in
 * ordinary pieces and never become the control token. Immutable after open: any thread. */
#ifndef COG_ENGINE_TOKENIZER_H
#define COG_ENGINE_TOKENIZER_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cog_tokenizer cog_tokenizer;

/* Loads DIR/tokenizer.model. vocab and bos are the model's: more pieces than vocab, or another
 * begin token than bos (-1: any), is COG_EFORMAT. A SentencePiece model of another type, or one
 * that normalises text, is COG_EUNSUPPORTED. */
int cog_tokenizer_open(cog_tokenizer **out, const char *dir, int vocab, int32_t bos, cog_err *err);
void cog_tokenizer_close(cog_tokenizer *t);     /* NULL is fine */
int cog_tokenizer_size(const cog_tokenizer *t); /* number of pieces */
/* Ids of the control tokens and of the unknown token, all below size. */
int32_t cog_tokenizer_bos(const cog_tokenizer *t);
int32_t cog_tokenizer_eos(const cog_tokenizer *t);
int32_t cog_tokenizer_unk(const cog_tokenizer *t);

/* The ids of text, without BOS. *ids is the caller's, cog_free. Text is UTF-8 (COG_EINVAL
 * otherwise) of at most 1 MiB (COG_ELIMIT): far more than any context holds, and the library takes
 * some 300 bytes of memory for each. Time grows as n log n: 0.3 s for 1 MiB of anything. */
int cog_tokenizer_encode(const cog_tokenizer *t, int32_t **ids, int *n_ids, const char *text,
                         size_t len, cog_err *err);

/* The bytes one token stands for: a byte piece gives its byte, a normal piece its text with U+2581
 * as a space, control and unknown tokens (and ids beyond the pieces) nothing. Borrowed, not
 * NUL-terminated. */
const char *cog_tokenizer_piece(const cog_tokenizer *t, int32_t id, size_t *len);

/* The name of a control token or the unknown one, as "</s>"; nothing for others. Borrowed, not
 * NUL-terminated. */
const char *cog_tokenizer_control(const cog_tokenizer *t, int32_t id, size_t *len);

/* Incremental decoding: what comes out, joined, equals decoding all ids at once; no chunk ends
 * inside a UTF-8 character; one leading space of the whole text is dropped (the dummy prefix). */
typedef struct cog_detokenizer {
    cog_buf pending;     /* bytes that do not end on a character yet */
    bool started;        /* something was produced: a leading space is text from now on */
    bool shows_controls; /* the caller's choice: control and unknown tokens are their names */
} cog_detokenizer;

/* Appends to out what id completes (often nothing or one word). */
void cog_detokenizer_push(cog_detokenizer *d, cog_buf *out, const cog_tokenizer *t, int32_t id);
/* The end: unfinished bytes come out as U+FFFD. */
void cog_detokenizer_finish(cog_detokenizer *d, cog_buf *out);
void cog_detokenizer_fini(cog_detokenizer *d);

#endif
