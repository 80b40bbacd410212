/* spm_file.h - writes tokenizer.model files piece by piece, in the Protocol Buffers wire format. */
#ifndef COG_TESTS_SPM_FILE_H
#define COG_TESTS_SPM_FILE_H

#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SPM_NORMAL = 1, SPM_UNKNOWN = 2, SPM_CONTROL = 3, SPM_UNUSED = 5, SPM_BYTE = 6 };
enum { SPM_FIRST = 259 }; /* ids below: unk, bos, eos, the 256 bytes */

static inline void spm_varint(cog_buf *b, uint64_t value)
{
    do {
        char byte = (char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        cog_buf_add(b, &byte, 1);
        value >>= 7;
    } while (value);
}

static inline void spm_int(cog_buf *b, int field, uint64_t value)
{
    spm_varint(b, (uint64_t)field << 3);
    spm_varint(b, value);
}

static inline void spm_bytes(cog_buf *b, int field, const void *bytes, size_t len)
{
    spm_varint(b, (uint64_t)field << 3 | 2);
    spm_varint(b, len);
    cog_buf_add(b, bytes, len);
}

static inline void spm_piece(cog_buf *model, const char *text, float score, int type)
{
    cog_buf b = { 0 };

    spm_bytes(&b, 1, text, strlen(text));
    spm_varint(&b, 2 << 3 | 5);
    cog_buf_add(&b, &score, sizeof(score));
    spm_int(&b, 3, (uint64_t)type);
    spm_bytes(model, 1, b.data, b.len);
    cog_buf_fini(&b);
}

/* The first SPM_FIRST pieces of every LLaMA tokenizer. */
static inline void spm_begin(cog_buf *model)
{
    char name[8];

    cog_buf_clear(model);
    spm_piece(model, "<unk>", 0, SPM_UNKNOWN);
    spm_piece(model, "<s>", 0, SPM_CONTROL);
    spm_piece(model, "</s>", 0, SPM_CONTROL);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "<0x%02X>", i & 255);
        spm_piece(model, name, 0, SPM_BYTE);
    }
}

/* model_type 2 is BPE. normalizer: a serialised NormalizerSpec; NULL: LLaMA's. */
static inline void spm_end(cog_buf *model, int model_type, const cog_buf *normalizer)
{
    cog_buf trainer = { 0 }, llama = { 0 };

    spm_int(&trainer, 3, (uint64_t)model_type);
    spm_int(&trainer, 35, 1); /* byte_fallback */
    spm_bytes(model, 2, trainer.data, trainer.len);
    spm_bytes(&llama, 1, "identity", 8);
    spm_int(&llama, 3, 1); /* add_dummy_prefix */
    spm_int(&llama, 4, 0); /* remove_extra_whitespaces */
    normalizer = normalizer ? normalizer : &llama;
    spm_bytes(model, 3, normalizer->data, normalizer->len);
    cog_buf_fini(&trainer);
    cog_buf_fini(&llama);
}

#endif
