/* field.h - reads a JSON object by a table of fields.
 *
 * The table says for each field its type, range and what becomes of it, so that one place drives
 * parsing, and a description of the API can be made from it. Pure. */
#ifndef COG_PROTO_FIELD_H
#define COG_PROTO_FIELD_H

#include "proto/api_error.h"

#include <stdbool.h>
#include <stddef.h>

struct json_t;

typedef enum cog_field_kind {
    COG_FIELD_ANY,
    COG_FIELD_BOOL,
    COG_FIELD_INT, /* 5 and 5.0 */
    COG_FIELD_NUMBER,
    COG_FIELD_STRING,
    COG_FIELD_ARRAY,
    COG_FIELD_OBJECT,
} cog_field_kind;

typedef enum cog_field_use {
    COG_FIELD_STORE,  /* at offset: bool, int64_t, double, or const char * (borrowed) */
    COG_FIELD_CUSTOM, /* type checked here, the rest by code */
    COG_FIELD_IGNORE, /* accepted; cannot change the meaning of the answer */
    COG_FIELD_REFUSE, /* not supported: refused unless off (below) */
} cog_field_use;

typedef struct cog_field {
    const char *name;
    cog_field_kind kind;
    cog_field_use use;
    size_t offset;
    double min, max;    /* numbers; min == max == 0: any. Strings: max bytes, 0: any */
    bool is_above_min;  /* min itself is out of range */
    double off;         /* REFUSE: the harmless value of a bool, int or number. Arrays and objects
                           are harmless when empty, ANY is when false and off is 0 */
    const char *schema; /* what else a value must be, for the API's description: members of a JSON
                           schema with ' in the place of " and @Name for a reference to one of
                           openapi_text.c's, beside those that the columns above give. CUSTOM always
                           has one; "": nothing else */
    bool is_required;   /* absent and null are errors, and so the description says */
} cog_field;

/* Rows of a table. */
#define COG_CUSTOM_FIELD(text, what, more)                                  \
    {                                                                       \
        .name = text, .kind = what, .use = COG_FIELD_CUSTOM, .schema = more \
    }
#define COG_IGNORED_FIELD(text)               \
    {                                         \
        .name = text, .use = COG_FIELD_IGNORE \
    }
#define COG_REFUSED_FIELD(text, what, harmless)                              \
    {                                                                        \
        .name = text, .kind = what, .use = COG_FIELD_REFUSE, .off = harmless \
    }
#define COG_NO_HARMLESS_VALUE (-1e300) /* of a refused field */

typedef struct cog_field_table {
    const cog_field *fields;
    int n;
} cog_field_table;

/* Reads every field of the table, in its order; null equals absent. Stops at the first error with
 * COG_EINVAL, which is COG_API_MISSING for a required field. */
int cog_fields_read(void *dst, const struct json_t *object, const cog_field_table *table,
                    cog_api_error *err);

/* Names that all the tables lack, comma separated, fit for a header: at most 10, each of at most 64
 * visible ASCII characters. With strict the first of them is an error instead. */
int cog_fields_unknown(cog_buf *names, const struct json_t *object,
                       const cog_field_table *const *tables, int n_tables, bool strict,
                       cog_api_error *err);

/* invalid_type: "expected <what>, but got <type of v>". */
int cog_field_type_error(cog_api_error *err, const char *param, const char *what,
                         const struct json_t *v);

#endif
