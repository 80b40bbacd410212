/* schema.h - the subset of JSON Schema that answers can be held to, as expressions: docs/api.md
 * lists it. A keyword outside it is an error that names it, never dropped. Pure.
 *
 * What is generated is valid by the schema; not everything valid is generated: the properties come
 * in the schema's order, white space, numbers and escapes are those of json_parts.h. */
#ifndef COG_ENGINE_GRAMMAR_SCHEMA_H
#define COG_ENGINE_GRAMMAR_SCHEMA_H

#include "engine/grammar/json_parts.h"

/* COG_EINVAL: no JSON, or a schema outside the subset, or one that nothing satisfies as far as a
 * look at it shows; COG_ELIMIT: too deep, too many parts. */
int cog_schema_parse(int32_t *out, cog_exprs *x, const char *text, size_t len, cog_err *err);

#endif
