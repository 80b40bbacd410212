/* fuzz_json.h - JSON for the harnesses: properties of what our writers wrote, and mutations that
 * keep a text near JSON. */
#ifndef COG_TESTS_FUZZ_JSON_H
#define COG_TESTS_FUZZ_JSON_H

#include "proto/api_error.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

/* The error is whole: status, name, message and param within their limits and valid UTF-8; what
 * cog_api_error_write makes of it parses and says the same. */
void fuzz_check_api_error(const cog_api_error *e);

/* text is one JSON value and nothing else; the caller's. */
json_t *fuzz_parse(const char *text, size_t len);

/* Mutates a text by whole values and members: drops, doubles, swaps or replaces them, by a word of
 * the table (as JSON, "\"n\":" or "1e999") or by another value of the text. Now and then by bytes.
 */
size_t fuzz_mutate_json(uint8_t *bytes, size_t len, size_t room, unsigned seed,
                        const char *const *words, size_t n_words);

#endif
