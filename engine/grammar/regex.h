/* regex.h - regular expressions as Python's re and ECMAScript write them, as far as they are
 * regular: characters, ".", classes, \d \w \s and their complements (of ASCII), groups, "|", and
 * "* + ? {n} {n,} {n,m}", greedy or not. No back references, look-around, flags, properties, word
 * boundaries. Pure. */
#ifndef COG_ENGINE_GRAMMAR_REGEX_H
#define COG_ENGINE_GRAMMAR_REGEX_H

#include "engine/grammar/expr.h"

typedef struct cog_regex_options {
    bool is_quoted; /* matches what stands in a JSON string, escaped in one way for each character
                     */
    bool is_search; /* matches texts in which it is found somewhere, unless it begins with ^ and
                       ends with $; else it is the whole text, and these two say nothing */
} cog_regex_options;

/* Writes the expression to *out. COG_EINVAL with the reason; COG_ELIMIT for too deep a nesting or
 * too large a count. */
int cog_regex_parse(int32_t *out, cog_exprs *x, const char *text, size_t len, cog_regex_options opt,
                    cog_err *err);

/* The same for a text of this program's own, which is right. */
int32_t cog_regex_make(cog_exprs *x, const char *text);

#endif
