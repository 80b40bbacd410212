/* The header fields of a request: what passes the checks can be read in one way only. The input:
 * method, target and version on one line, then fields, a line each. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "server/head.h"

#include <string.h>
#include <strings.h>

enum { MAX_FIELDS = 200 };

typedef struct request {
    char *method, *target, *version;
    char *name[MAX_FIELDS], *value[MAX_FIELDS];
    size_t name_len[MAX_FIELDS], value_len[MAX_FIELDS];
    int n;
} request;

static char *copy(fuzz_cut c)
{
    return cog_strndup((const char *)c.bytes, c.len);
}

static void read_request(request *r, fuzz_cut rest)
{
    fuzz_cut line = { (const uint8_t *)"", 0 }, word = line;

    *r = (request){ 0 };
    fuzz_next(&line, &rest, '\n');
    r->method = fuzz_next(&word, &line, ' ') ? copy(word) : cog_strdup("");
    r->target = fuzz_next(&word, &line, ' ') ? copy(word) : cog_strdup("");
    r->version = copy(line);
    while (r->n < MAX_FIELDS && fuzz_next(&line, &rest, '\n')) {
        fuzz_cut name = { (const uint8_t *)"", 0 };

        fuzz_next(&name, &line, ':');
        if (line.len > 0 && line.bytes[0] == ' ') {
            line.bytes++;
            line.len--;
        }
        r->name_len[r->n] = name.len;
        r->name[r->n] = copy(name);
        r->value_len[r->n] = line.len;
        r->value[r->n++] = copy(line);
    }
}

static void free_request(request *r)
{
    cog_free(r->method);
    cog_free(r->target);
    cog_free(r->version);
    for (int i = 0; i < r->n; i++) {
        cog_free(r->name[i]);
        cog_free(r->value[i]);
    }
}

static int count(const request *r, const char *name)
{
    int n = 0;

    for (int i = 0; i < r->n; i++)
        n += r->name_len[i] == strlen(name) && strncasecmp(r->name[i], name, strlen(name)) == 0;
    return n;
}

static void check_accepted(const request *r, const cog_head *h)
{
    int lengths = count(r, "Content-Length"), codings = count(r, "Transfer-Encoding");

    REQUIRE(lengths + codings <= 1);
    REQUIRE(count(r, "Host") <= 1);
    REQUIRE(count(r, "Host") == 1 || strcmp(r->version, "HTTP/1.1") != 0);
    REQUIRE(strlen(r->target) <= COG_HEAD_MAX_TARGET && r->n <= COG_HEAD_MAX_FIELDS);
    REQUIRE(h->bytes <= COG_HEAD_MAX_BYTES);
    if (codings)
        REQUIRE(cog_head_has_body(h));
    if (lengths + codings == 0)
        REQUIRE(!cog_head_has_body(h));
    for (int i = 0; i < r->n; i++) {
        REQUIRE(r->name_len[i] > 0);
        REQUIRE(!memchr(r->value[i], '\r', r->value_len[i]));
        REQUIRE(strlen(r->value[i]) == r->value_len[i]);
        if (strcasecmp(r->name[i], "Transfer-Encoding") == 0)
            REQUIRE(strcasecmp(r->value[i], "chunked") == 0);
    }
}

static void check_json(const request *r, const cog_head *h)
{
    cog_api_error err = { 0 };

    if (cog_head_check_json(h, &err) < 0) {
        fuzz_check_api_error(&err);
        return;
    }
    REQUIRE(count(r, "Content-Length") + count(r, "Transfer-Encoding") > 0);
    REQUIRE(strcasestr(h->content_type, "json"));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cog_head h = { 0 };
    cog_api_error err = { 0 };
    request r;

    read_request(&r, (fuzz_cut){ bytes, len });
    h.method = r.method;
    h.version = r.version;
    h.bytes = len;
    for (int i = 0; i < r.n; i++)
        cog_head_add(&h, r.name[i], r.name_len[i], r.value[i], r.value_len[i]);
    if (cog_head_check(&h, r.target, &err) < 0) {
        fuzz_check_api_error(&err);
    } else {
        check_accepted(&r, &h);
        check_json(&r, &h);
    }
    free_request(&r);
    return 0;
}
