#include "proto/json_body.h"

#include "base/err.h"

#include <jansson.h>

/* Says what is wrong in words of ours: the parser's text may quote the client at length. */
static int parse_error(cog_api_error *err, const json_error_t *e)
{
    const char *what = "it is not valid JSON";

    switch (json_error_code(e)) {
    case json_error_duplicate_key:
        what = "an object has the same key twice";
        break;
    case json_error_numeric_overflow:
        what = "a number is out of range";
        break;
    case json_error_null_character:
    case json_error_null_byte_in_key:
        what = "a string holds a NUL character";
        break;
    case json_error_invalid_utf8:
        what = "it is not valid UTF-8";
        break;
    case json_error_premature_end_of_input:
        what = "it ends too early";
        break;
    case json_error_end_of_input_expected:
        what = "something follows the JSON object";
        break;
    default:
        break;
    }
    return cog_api_error_set(err, COG_API_INVALID_JSON, NULL,
                             "The request body could not be parsed: %s (line %d, column %d).", what,
                             e->line, e->column);
}

int cog_json_body_parse(json_t **root, cog_json_scan *scan, const char *body, size_t len,
                        const char *nonce, cog_api_error *err)
{
    json_error_t e;

    *root = NULL;
    if (cog_json_scan_init(scan, body, len, nonce, err) < 0)
        return COG_EINVAL;
    *root = json_loadb(scan->skeleton.data, scan->skeleton.len, JSON_REJECT_DUPLICATES, &e);
    cog_buf_fini(&scan->skeleton);
    if (!*root)
        return parse_error(err, &e);
    if (!json_is_object(*root))
        return cog_api_error_set(err, COG_API_INVALID_JSON, NULL,
                                 "The request body must be a JSON object.");
    return cog_json_scan_restore(scan, *root, err);
}
