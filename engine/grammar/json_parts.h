/* json_parts.h - the parts that JSON texts are made of, as expressions. Pure.
 *
 * White space between the parts of a text is nothing, one space, or a line's end with at most 16
 * spaces behind it. Numbers have at most 32 characters, integers at most 18 digits. Strings hold
 * any character but NUL, plain or in any of JSON's escapes. */
#ifndef COG_ENGINE_GRAMMAR_JSON_PARTS_H
#define COG_ENGINE_GRAMMAR_JSON_PARTS_H

#include "engine/grammar/expr.h"

struct json_t;

#define COG_JSON_INTEGER_MAX INT64_C(999999999999999999)

typedef struct cog_json_parts {
    cog_exprs *x;
    int32_t space;     /* white space */
    int32_t quote;     /* '"' */
    int32_t character; /* of a string */
    int32_t plain;     /* one that needs no escape, unescaped */
    int32_t string;    /* any */
    int32_t number, integer, boolean, null;
    int any;               /* the rule of any value */
    int32_t value;         /* its call */
    int32_t object, array; /* any */
} cog_json_parts;

void cog_json_parts_init(cog_json_parts *j, cog_exprs *x);

/* Strings of min to max characters; max may be COG_EXPR_UNBOUNDED. */
int32_t cog_json_string_of(cog_json_parts *j, int min, int max);
/* min..max within +-COG_JSON_INTEGER_MAX; min <= max. */
int32_t cog_json_integer_between(cog_json_parts *j, int64_t min, int64_t max);
/* Exactly this value, without white space. */
int32_t cog_json_literal(cog_json_parts *j, const struct json_t *value);
/* A string that is none of the n, plain characters only. */
int32_t cog_json_string_but(cog_json_parts *j, const char *const *text, int n);

/* "key" : value */
int32_t cog_json_member(cog_json_parts *j, int32_t key, int32_t value);
/* The members or items of min to max values, with commas, between open and close; max may be
 * COG_EXPR_UNBOUNDED. */
int32_t cog_json_list(cog_json_parts *j, char open, int32_t item, int min, int max, char close);
/* "," with its white space. */
int32_t cog_json_comma(cog_json_parts *j);
/* open, what is between, close, and white space inside. */
int32_t cog_json_enclose(cog_json_parts *j, char open, int32_t inside, char close);

#endif
