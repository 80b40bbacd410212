/* auth.c - who may ask: the keys and their clients. The file is read again on SIGHUP, by a thread
 * of the pool: whatever its file system does, the loop does not wait for it. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/files.h"
#include "server/internal.h"
#include "server/key_file.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

static cog_limits limits_of(const cog_server_config *cfg, const cog_key_entry *e)
{
    return (cog_limits){
        .requests = e && e->requests >= 0 ? e->requests : cfg->key_rpm,
        .tokens = e && e->tokens >= 0 ? e->tokens : cfg->key_tpm,
        .concurrent = e && e->concurrent >= 0 ? e->concurrent : cfg->key_concurrent,
    };
}

/* Compares with every key, so that the time tells nothing about which one, or how much of it. */
static cog_client *find(const cog_server *s, const cog_sha256 *digest)
{
    cog_client *found = NULL;

    for (int i = 0; i < s->n_clients; i++) {
        bool is_it = CRYPTO_memcmp(&s->clients[i]->digest, digest, sizeof(*digest)) == 0;
        found = is_it ? s->clients[i] : found;
    }
    return found;
}

/* A key that stays keeps its client: what it has used, and what runs. */
static cog_client *client_for(const cog_server *s, const cog_key_entry *e, uint64_t now_ns)
{
    cog_limits limits = limits_of(&s->cfg, e);
    cog_client *c = find(s, &e->digest);

    if (!c)
        return cog_client_new(&e->digest, &limits, now_ns);
    cog_client_ref(c);
    cog_client_set_limits(c, &limits, now_ns);
    return c;
}

static void unref_all(cog_client **clients, int n)
{
    for (int i = 0; i < n; i++)
        cog_client_unref(clients[i]);
    cog_free(clients);
}

static void take_keys(cog_server *s, const cog_key_entry *entries, int n)
{
    uint64_t now_ns = cog_now_ns();
    cog_client **clients = cog_array(cog_client *, (size_t)n);

    for (int i = 0; i < n; i++)
        clients[i] = client_for(s, &entries[i], now_ns);
    unref_all(s->clients, s->n_clients);
    s->clients = clients;
    s->n_clients = n;
    cog_files_forget_keys(s);
}

int cog_auth_open(cog_server *s, cog_err *err)
{
    cog_limits limits = limits_of(&s->cfg, NULL);
    cog_key_entry *entries;
    int n, rc;

    if (!s->cfg.api_key_file) {
        s->everybody = cog_client_new(&(cog_sha256){ 0 }, &limits, cog_now_ns());
        return 0;
    }
    rc = cog_key_file_read(&entries, &n, s->cfg.api_key_file, err);
    if (rc < 0)
        return rc;
    take_keys(s, entries, n);
    cog_free(entries);
    return 0;
}

/* ------------------------------------------------------------------ reading again */

typedef struct key_read {
    uv_work_t work;
    cog_server *server;
    cog_key_entry *entries;
    int n, rc;
    cog_err err;
} key_read;

static void read_in_pool(uv_work_t *work)
{
    key_read *k = work->data;

    k->rc = cog_key_file_read(&k->entries, &k->n, k->server->cfg.api_key_file, &k->err);
}

static void after_read(uv_work_t *work, int status)
{
    key_read *k = work->data;
    cog_server *s = k->server;
    char why[560];

    if (k->rc < 0) {
        cog_log(COG_ERROR, "event=keys_kept keys=%d reason=%s", s->n_clients,
                cog_log_quote(why, sizeof(why), k->err.text));
    } else {
        take_keys(s, k->entries, k->n);
        cog_log(COG_INFO, "event=keys_read keys=%d", s->n_clients);
    }
    cog_free(k->entries);
    cog_free(k);
    s->is_reading_keys = false;
    if (s->is_reading_late && s->phase != COG_SERVER_ENDING)
        cog_auth_reload(s);
}

/* One at a time: however often it is asked for, a file that hangs holds one thread. */
void cog_auth_reload(cog_server *s)
{
    key_read *k;

    if (!s->cfg.api_key_file) {
        cog_log(COG_WARN, "event=keys_kept reason=\"there is no file of keys\"");
        return;
    }
    s->is_reading_late = s->is_reading_keys;
    if (s->is_reading_keys)
        return;
    s->is_reading_keys = true;
    k = cog_new(key_read);
    k->server = s;
    k->work.data = k;
    uv_queue_work(&s->loop, &k->work, read_in_pool, after_read);
}

void cog_auth_close(cog_server *s)
{
    unref_all(s->clients, s->n_clients);
    cog_client_unref(s->everybody);
}

cog_client *cog_auth_find(const cog_server *s, const cog_head *head, cog_api_error *err)
{
    const char *value = head->authorization;
    cog_client *client;
    cog_sha256 given;

    if (s->everybody)
        return s->everybody;
    if (head->n_authorization != 1 || strncasecmp(value, "Bearer ", 7) != 0) {
        cog_api_error_set(err, COG_API_INVALID_KEY, NULL,
                          "This server needs an API key: send one header 'Authorization: Bearer "
                          "<key>'.");
        return NULL;
    }
    value += 7;
    value += strspn(value, " ");
    given = cog_sha256_of(&(cog_span){ value, strlen(value) }, 1);
    client = find(s, &given);
    if (!client)
        cog_api_error_set(err, COG_API_INVALID_KEY, NULL, "Incorrect API key provided.");
    return client;
}

/* ------------------------------------------------------------------ limits */

static bool refuse(const cog_client *c, cog_limit limit, uint64_t wait_ms, cog_api_error *err)
{
    const cog_limits *l = &c->limits;
    char reset[COG_RESET_SIZE];

    cog_reset_text(reset, wait_ms);
    if (limit == COG_LIMIT_REQUESTS)
        cog_api_error_set(err, COG_API_RATE_LIMIT, NULL,
                          "Rate limit reached: %d requests per minute. Try again in %s.",
                          l->requests, reset);
    else if (limit == COG_LIMIT_TOKENS)
        cog_api_error_set(err, COG_API_RATE_LIMIT, NULL,
                          "Rate limit reached: %d tokens per minute. Try again in %s.", l->tokens,
                          reset);
    else
        cog_api_error_set(
            err, COG_API_RATE_LIMIT, NULL,
            "Rate limit reached: %d requests at a time. Try again when one has ended.",
            l->concurrent);
    err->retry_after_ms = wait_ms < 1000 ? 1000 : wait_ms > 60000 ? 60000 : (int)wait_ms;
    return false;
}

bool cog_auth_count(cog_exchange *x, cog_api_error *err)
{
    uint64_t wait_ms;
    cog_limit limit = cog_client_begin(x->client, cog_now_ns(), &wait_ms);

    if (limit != COG_LIMIT_NONE)
        return refuse(x->client, limit, wait_ms, err);
    x->is_counted = true;
    return true;
}

bool cog_auth_count_prompt(cog_exchange *x, int n_tokens, cog_api_error *err)
{
    uint64_t wait_ms;
    cog_limit limit = cog_client_take_prompt(x->client, cog_now_ns(), n_tokens, &wait_ms);

    return limit == COG_LIMIT_NONE || refuse(x->client, limit, wait_ms, err);
}

int cog_server_check_keys(const char *path, cog_err *err)
{
    cog_key_entry *entries = NULL;
    int n, rc = cog_key_file_read(&entries, &n, path, err);

    cog_free(entries);
    return rc;
}
