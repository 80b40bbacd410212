/* expr.h - what an answer may be, before it is an automaton: regular expressions over characters,
 * whose parts may be rules that refer to each other. Pure.
 *
 * Expressions are numbers and may be parts of several others; nothing is ever taken out. */
#ifndef COG_ENGINE_GRAMMAR_EXPR_H
#define COG_ENGINE_GRAMMAR_EXPR_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    COG_EXPR_MAX = 1 << 20, /* nodes, and parts of nodes */
    COG_EXPR_MAX_CHAR = 0x10ffff,
    COG_EXPR_MAX_RULES = 1024,
    COG_EXPR_UNBOUNDED = -1,
};

typedef enum cog_expr_kind {
    COG_EXPR_CHARS,  /* one character of a set */
    COG_EXPR_BYTES,  /* these bytes */
    COG_EXPR_CAT,    /* its parts, one after another; none: the empty text */
    COG_EXPR_ALT,    /* any one of its parts; none: nothing at all */
    COG_EXPR_REPEAT, /* min to max times its part */
    COG_EXPR_CALL,   /* what a rule says */
} cog_expr_kind;

typedef struct cog_expr {
    cog_expr_kind kind;
    bool is_quoted;   /* CHARS: as they are written in a JSON string */
    int32_t first, n; /* CHARS: ranges; BYTES: bytes; CAT, ALT: parts; first is also the part of a
                         REPEAT and the rule of a CALL */
    int32_t min, max; /* of REPEAT; max may be COG_EXPR_UNBOUNDED */
} cog_expr;

typedef struct cog_char_range {
    uint32_t lo, hi; /* code points, lo <= hi */
} cog_char_range;

typedef struct cog_exprs {
    cog_expr *node;
    cog_char_range *range;
    int32_t *part;
    int32_t n, cap, n_ranges, cap_ranges, n_parts, cap_parts;
    cog_buf bytes;
    int32_t rule[COG_EXPR_MAX_RULES]; /* what each says */
    int n_rules;
    bool is_full; /* more than fits was asked for: what was made since means nothing */
} cog_exprs;      /* zero-initialised is empty and valid */

void cog_exprs_fini(cog_exprs *x);

/* Ranges in any order, overlapping or not. Surrogates and NUL are taken out: no text has them. */
int32_t cog_expr_chars(cog_exprs *x, const cog_char_range *range, int n, bool negate,
                       bool is_quoted);
int32_t cog_expr_bytes(cog_exprs *x, const char *bytes, size_t len);
int32_t cog_expr_cat(cog_exprs *x, const int32_t *part, int n);
int32_t cog_expr_alt(cog_exprs *x, const int32_t *part, int n);
int32_t cog_expr_repeat(cog_exprs *x, int32_t part, int min, int max);
int32_t cog_expr_call(cog_exprs *x, int rule);

/* The last parts of a concatenation, from its skip-th on. */
int32_t cog_expr_tail(cog_exprs *x, int32_t cat, int skip);

/* A new rule, to be given its meaning in x->rule; -1 when there are too many. */
int cog_expr_rule(cog_exprs *x);

#endif
