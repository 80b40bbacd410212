#include "server/internal.h"

#include "base/alloc.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

static cog_sha256 digest(const char *key)
{
    return cog_sha256_of(&(cog_span){ key, strlen(key) }, 1);
}

void cog_auth_init(cog_server *s)
{
    if (s->cfg.n_api_keys == 0)
        return;
    s->keys = cog_array(cog_sha256, (size_t)s->cfg.n_api_keys);
    for (int i = 0; i < s->cfg.n_api_keys; i++)
        s->keys[i] = digest(s->cfg.api_keys[i]);
}

/* Compares with every key, so that the time tells nothing about which one, or how much of it. */
static bool is_key(const cog_server *s, const cog_sha256 *given)
{
    int found = 0;

    for (int i = 0; i < s->cfg.n_api_keys; i++)
        found |= CRYPTO_memcmp(&s->keys[i], given, sizeof(*given)) == 0;
    return found;
}

bool cog_auth_check(const cog_server *s, const cog_head *head, cog_sha256 *key, cog_api_error *err)
{
    const char *value = head->authorization;
    cog_sha256 given;

    if (s->cfg.n_api_keys == 0)
        return true;
    if (head->n_authorization != 1 || strncasecmp(value, "Bearer ", 7) != 0) {
        cog_api_error_set(err, COG_API_INVALID_KEY, NULL,
                          "This server needs an API key: send one header 'Authorization: Bearer "
                          "<key>'.");
        return false;
    }
    value += 7;
    given = digest(value + strspn(value, " "));
    if (!is_key(s, &given)) {
        cog_api_error_set(err, COG_API_INVALID_KEY, NULL, "Incorrect API key provided.");
        return false;
    }
    *key = given;
    return true;
}
