#include "proto/token_lists.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/field.h"
#include "proto/tokenize.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int by_token(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return x < y ? -1 : x > y;
}

static int too_many(const char *param, const char *what, size_t n, size_t max, cog_api_error *err)
{
    return cog_api_error_set(err, COG_API_ARRAY_LONG, param,
                             "Invalid '%s': at most %zu %s are allowed, got %zu.", param, max, what,
                             n);
}

/* As a number is written: one spelling for each id, so no id comes twice. */
static bool read_id(int32_t *token, const char *text, int vocab)
{
    size_t len = strspn(text, "0123456789");
    long id;

    if (len == 0 || len > 10 || text[len] || (text[0] == '0' && len > 1))
        return false;
    id = strtol(text, NULL, 10);
    *token = (int32_t)id;
    return id < vocab;
}

static int read_bias(cog_token_bias *out, const char *key, const json_t *v, int vocab,
                     cog_api_error *err)
{
    static const char name[] = "logit_bias";
    double bias = json_number_value(v);

    if (!read_id(&out->token, key, vocab)) /* without the key: no message may look like a 429 */
        return cog_api_error_set(err, COG_API_INVALID_VALUE, name,
                                 "Invalid '%s': its keys are token ids of this model, 0 to %d, in "
                                 "decimal.",
                                 name, vocab - 1);
    if (!json_is_number(v))
        return cog_field_type_error(err, name, "numbers as its values", v);
    if (!(bias >= -100 && bias <= 100))
        return cog_api_error_set(err, bias < 0 ? COG_API_DECIMAL_BELOW : COG_API_DECIMAL_ABOVE,
                                 name, "Invalid '%s': its values must be -100 to 100.", name);
    out->bias = (float)bias;
    return 0;
}

static int read_biases(cog_token_lists *t, json_t *object, int vocab, cog_api_error *err)
{
    size_t n = json_object_size(object);
    const char *key;
    json_t *v;

    if (n > COG_MAX_TOKEN_BIASES)
        return too_many("logit_bias", "tokens", n, COG_MAX_TOKEN_BIASES, err);
    if (n == 0)
        return 0;
    t->bias = cog_array(cog_token_bias, n);
    json_object_foreach(object, key, v)
    {
        if (read_bias(&t->bias[t->n_bias], key, v, vocab, err) < 0)
            return COG_EINVAL;
        t->n_bias++;
    }
    qsort(t->bias, n, sizeof(t->bias[0]), by_token);
    return 0;
}

static int read_stops(cog_token_lists *t, const json_t *array, int vocab, cog_api_error *err)
{
    size_t n = json_array_size(array);

    if (n > COG_MAX_TOKEN_STOPS)
        return too_many("stop_token_ids", "ids", n, COG_MAX_TOKEN_STOPS, err);
    t->n_stop = (int)n;
    return cog_tokens_read(t->stop, array, "stop_token_ids", vocab, err);
}

static int read_allowed(cog_token_lists *t, const json_t *array, int vocab, cog_api_error *err)
{
    static const char name[] = "allowed_token_ids";
    size_t n = json_array_size(array);

    if (n == 0)
        return cog_api_error_set(err, COG_API_ARRAY_EMPTY, name,
                                 "Invalid '%s': at least one id is needed.", name);
    if (n > (size_t)vocab)
        return too_many(name, "ids", n, (size_t)vocab, err);
    t->allowed = cog_array(int32_t, n);
    if (cog_tokens_read(t->allowed, array, name, vocab, err) < 0)
        return COG_EINVAL;
    qsort(t->allowed, n, sizeof(t->allowed[0]), by_token);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || t->allowed[i] != t->allowed[i - 1])
            t->allowed[t->n_allowed++] = t->allowed[i];
    return 0;
}

int cog_token_lists_read(cog_token_lists *out, const json_t *root, int vocab, cog_api_error *err)
{
    json_t *bias = json_object_get(root, "logit_bias");
    json_t *stop = json_object_get(root, "stop_token_ids");
    json_t *allowed = json_object_get(root, "allowed_token_ids");

    if (json_is_object(bias) && read_biases(out, bias, vocab, err) < 0)
        return COG_EINVAL;
    if (json_is_array(stop) && read_stops(out, stop, vocab, err) < 0)
        return COG_EINVAL;
    return json_is_array(allowed) ? read_allowed(out, allowed, vocab, err) : 0;
}

void cog_token_lists_fini(cog_token_lists *t)
{
    cog_free(t->bias);
    cog_free(t->allowed);
    *t = (cog_token_lists){ 0 };
}
