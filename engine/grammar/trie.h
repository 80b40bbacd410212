/* trie.h - a vocabulary as a tree of bytes, in which a grammar's texts are looked up all at once.
 * Immutable: any thread. */
#ifndef COG_ENGINE_GRAMMAR_TRIE_H
#define COG_ENGINE_GRAMMAR_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes that a token stands for, borrowed; none: it stands in no text. */
typedef const char *(*cog_trie_piece)(const void *arg, int32_t token, size_t *len);

typedef struct cog_trie {
    int n;           /* nodes, each before those below it */
    uint8_t *byte;   /* [n] that leads to it */
    uint16_t *depth; /* [n] from 1 */
    int32_t *end;    /* [n] the first node that is not below it */
    int32_t *first;  /* [n + 1] its tokens in token */
    int32_t *token;
    int vocab; /* ids of the model */
    int max_depth;
    int32_t *eos; /* [n_eos] owned */
    int n_eos;
    bool has_bytes; /* each byte is a token, so that any text can be written */
} cog_trie;

cog_trie *cog_trie_new(cog_trie_piece piece, const void *arg, int vocab, const int32_t *eos,
                       int n_eos);
void cog_trie_free(cog_trie *t); /* NULL is fine */

#endif
