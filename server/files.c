#include "server/files.h"

#include "base/alloc.h"
#include "proto/json_write.h"
#include "server/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_LIST = 10000 };

const char *const cog_file_purposes[] = { "vision", "user_data", NULL };

static const cog_sha256 *owner_of(const cog_exchange *x)
{
    return &x->client->digest;
}

/* What was computed of its picture goes as that of any other from now on. */
static void unpin(void *server, const cog_file *f)
{
    cog_server *s = server;

    if (s->engine)
        cog_engine_unpin(s->engine, f->number);
}

cog_file_store *cog_files_open(cog_server *s)
{
    const cog_server_config *cfg = &s->cfg;
    cog_file_limits limits = { .bytes = cfg->files_max_bytes,
                               .bytes_of_one = cfg->files_key_bytes,
                               .files = cfg->files_max_count,
                               .files_of_one = cfg->files_key_count };

    return cog_file_store_new(&limits, cfg->files_node, unpin, s);
}

static bool is_key(const void *arg, const cog_sha256 *owner)
{
    const cog_server *s = arg;

    for (int i = 0; i < s->n_clients; i++) {
        if (memcmp(&s->clients[i]->digest, owner, sizeof(*owner)) == 0)
            return true;
    }
    return false;
}

void cog_files_forget_keys(cog_server *s)
{
    cog_file_store_forget(s->files, is_key, s);
}

/* ------------------------------------------------------------------ answers */

void cog_files_write(cog_buf *out, const cog_file *f)
{
    cog_buf_printf(out,
                   "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%zu,\"created_at\":%lld,"
                   "\"expires_at\":%lld,\"filename\":",
                   f->id, f->len, (long long)f->created, (long long)f->expires);
    cog_json_write_string(out, f->filename);
    cog_buf_printf(out, ",\"purpose\":\"%s\",\"status\":\"processed\"}", f->purpose);
}

static void answer(cog_exchange *x)
{
    x->reply.status = 200;
    x->reply.type = "application/json";
    cog_exchange_reply(x);
}

/* The id of an address: between the route's path and its end. Longer than any that there is: cut.
 */
static void copy_id(char id[COG_FILE_ID_SIZE], const cog_exchange *x)
{
    size_t n = strcspn(x->name, "?");

    if (n > 1 && x->name[n - 1] == '/')
        n--;
    if (x->route->suffix)
        n -= strlen(x->route->suffix);
    if (n >= COG_FILE_ID_SIZE)
        n = COG_FILE_ID_SIZE - 1;
    memcpy(id, x->name, n);
    id[n] = '\0';
}

static void refuse(cog_exchange *x, const char *id)
{
    char quoted[COG_API_QUOTE];
    cog_api_error err;

    cog_api_error_set(&err, COG_API_FILE_NOT_FOUND, "id", "There is no file %s.",
                      cog_api_quote(quoted, id, strlen(id)));
    cog_exchange_fail(x, &err);
}

static cog_file *find(cog_exchange *x)
{
    char id[COG_FILE_ID_SIZE];
    cog_file *f;

    copy_id(id, x);
    f = cog_file_store_find(x->server->files, owner_of(x), id, time(NULL));
    if (!f)
        refuse(x, id);
    return f;
}

void cog_files_get(cog_exchange *x)
{
    const cog_file *f = find(x);

    if (!f)
        return;
    cog_files_write(&x->reply.body, f);
    answer(x);
}

/* As something to be saved, never to be shown by whoever follows a link. */
void cog_files_content(cog_exchange *x)
{
    static const char *const types[] = { [COG_JPEG] = "image/jpeg",
                                         [COG_PNG] = "image/png",
                                         [COG_WEBP] = "image/webp",
                                         [COG_GIF] = "image/gif" };
    cog_file *f = find(x);

    if (!f)
        return;
    cog_file_ref(f);
    x->reply.status = 200;
    x->reply.type = types[f->image->format];
    x->reply.file = f;
    cog_reply_header(&x->reply, "Content-Disposition", "attachment");
    cog_reply_header(&x->reply, "X-Content-Type-Options", "nosniff");
    cog_exchange_reply(x);
}

void cog_files_delete(cog_exchange *x)
{
    cog_file_store *files = x->server->files;
    char id[COG_FILE_ID_SIZE];
    cog_file *f;

    copy_id(id, x);
    f = cog_file_store_find(files, owner_of(x), id, time(NULL));
    if (!f && !cog_file_store_was_deleted(files, owner_of(x), id)) {
        refuse(x, id);
        return;
    }
    if (f)
        cog_file_store_delete(files, f);
    cog_buf_printf(&x->reply.body, "{\"id\":\"%s\",\"object\":\"file\",\"deleted\":true}", id);
    answer(x);
}

/* ------------------------------------------------------------------ the list */

typedef struct list_query {
    char purpose[16], order[8], after[COG_FILE_ID_SIZE], limit_text[12];
    long limit;
    bool newest_first;
} list_query;

static int refuse_query(cog_api_error *err, const char *name, const char *what)
{
    return cog_api_error_set(err, COG_API_INVALID_VALUE, name, "Invalid '%s': expected %s.", name,
                             what);
}

static bool is_purpose(const char *text)
{
    for (const char *const *p = cog_file_purposes; *p; p++) {
        if (strcmp(*p, text) == 0)
            return true;
    }
    return false;
}

static int read_query(list_query *q, const char *target, cog_api_error *err)
{
    int has_purpose = cog_query_get(q->purpose, sizeof(q->purpose), target, "purpose");
    int has_order = cog_query_get(q->order, sizeof(q->order), target, "order");
    int has_limit = cog_query_get(q->limit_text, sizeof(q->limit_text), target, "limit");
    char *end;

    q->limit = MAX_LIST;
    if (has_limit <= 0) {
        q->limit = strtol(q->limit_text, &end, 10);
        if (has_limit < 0 || end == q->limit_text || *end || q->limit < 1 || q->limit > MAX_LIST)
            return refuse_query(err, "limit", "a whole number from 1 to 10000");
    }
    q->newest_first = strcmp(q->order, "asc") != 0;
    if (has_order < 0 || (has_order == 0 && q->newest_first && strcmp(q->order, "desc") != 0))
        return refuse_query(err, "order", "'asc' or 'desc'");
    if (has_purpose < 0 || (has_purpose == 0 && !is_purpose(q->purpose)))
        return refuse_query(err, "purpose", "'vision' or 'user_data'");
    if (cog_query_get(q->after, sizeof(q->after), target, "after") < 0)
        return refuse_query(err, "after", "the id of a file");
    return 0;
}

/* The first of the page; NULL: there is none. */
static int first_of(const cog_file **out, cog_exchange *x, const list_query *q, cog_api_error *err)
{
    const cog_file *f;

    if (!q->after[0]) {
        *out = cog_file_first(x->server->files, owner_of(x), q->newest_first);
        return 0;
    }
    f = cog_file_store_find(x->server->files, owner_of(x), q->after, time(NULL));
    if (!f)
        return refuse_query(err, "after", "the id of a file");
    *out = cog_file_next(f, q->newest_first);
    return 0;
}

static bool is_listed(const cog_file *f, const list_query *q, int64_t now)
{
    return now < f->expires && (!q->purpose[0] || strcmp(q->purpose, f->purpose) == 0);
}

static void write_list(cog_buf *out, const cog_file *f, const list_query *q)
{
    const cog_file *first = NULL, *last = NULL;
    int64_t now = time(NULL);
    bool has_more = false;
    long n = 0;

    cog_buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (; f; f = cog_file_next(f, q->newest_first)) {
        if (!is_listed(f, q, now))
            continue;
        has_more = n == q->limit;
        if (has_more)
            break;
        cog_buf_puts(out, n++ ? "," : "");
        cog_files_write(out, f);
        first = first ? first : f;
        last = f;
    }
    cog_buf_puts(out, "],\"first_id\":");
    cog_json_write_string(out, first ? first->id : NULL);
    cog_buf_puts(out, ",\"last_id\":");
    cog_json_write_string(out, last ? last->id : NULL);
    cog_buf_printf(out, ",\"has_more\":%s}", has_more ? "true" : "false");
}

void cog_files_list(cog_exchange *x)
{
    const cog_file *f = NULL;
    list_query q;
    cog_api_error err;

    if (read_query(&q, x->target, &err) < 0 || first_of(&f, x, &q, &err) < 0) {
        cog_exchange_fail(x, &err);
        return;
    }
    write_list(&x->reply.body, f, &q);
    answer(x);
}
