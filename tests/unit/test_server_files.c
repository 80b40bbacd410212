/* Uploaded pictures through a socket: forms, limits, whose they are, and questions about them. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PURPOSE(text) "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" text "\r\n"
#define FILE_HEAD     "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"
#define ANCHOR(text) \
    "--x\r\nContent-Disposition: form-data; name=\"expires_after[anchor]\"\r\n\r\n" text "\r\n"
#define SECONDS(text) \
    "--x\r\nContent-Disposition: form-data; name=\"expires_after[seconds]\"\r\n\r\n" text "\r\n"
#define END "--x--\r\n"

static http_response call(fixture *f, const char *key, const char *method, const char *path)
{
    http_client c = client_open(f->address);
    char *head = cog_sprintf("%s %s HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %s\r\n\r\n",
                             method, path, key);
    http_response r;

    client_puts(&c, head);
    r = client_read(&c, strcmp(method, "HEAD") == 0);
    client_close(&c);
    cog_free(head);
    return r;
}

static void send_form(http_client *c, const char *key, const char *body, const char *type)
{
    char *head = cog_sprintf("POST /v1/files HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %s\r\n"
                             "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                             key, type, strlen(body));

    client_puts(c, head);
    client_puts(c, body);
    cog_free(head);
}

static http_response post_form(fixture *f, const char *key, const char *body)
{
    http_client c = client_open(f->address);
    http_response r;

    send_form(&c, key, body, "multipart/form-data; boundary=x");
    r = client_read(&c, false);
    client_close(&c);
    return r;
}

static http_response upload(fixture *f, const char *key, const char *picture)
{
    char *body = cog_sprintf(PURPOSE("vision") FILE_HEAD "%s\r\n" END, picture);
    http_response r = post_form(f, key, body);

    cog_free(body);
    return r;
}

static char *member(const http_response *r, const char *name)
{
    json_t *v = json_loads(r->body.data, 0, NULL);
    const char *text = json_string_value(json_object_get(v, name));
    char *copy = cog_strdup(text ? text : "");

    json_decref(v);
    return copy;
}

static json_int_t number(const http_response *r, const char *name)
{
    json_t *v = json_loads(r->body.data, 0, NULL);
    json_int_t n = json_integer_value(json_object_get(v, name));

    json_decref(v);
    return n;
}

/* Uploads a picture that is to be taken; its id. */
static char *stored(fixture *f, const char *key, const char *picture)
{
    http_response r = upload(f, key, picture);
    char *id;

    if (r.status != 200)
        fail_msg("%d %s", r.status, r.body.data);
    id = member(&r, "id");
    response_fini(&r);
    return id;
}

static void expect(http_response r, int status, const char *code, const char *param)
{
    if (r.status != status || strcmp(error_code(&r), code) != 0 ||
        strcmp(error_member(&r, "param"), param) != 0)
        fail_msg("%d %s, expected %d %s %s", r.status, r.body.data, status, code, param);
    response_fini(&r);
}

static void begin_ask(http_client *c, const char *key, const char *part, const char *text)
{
    char *body = cog_sprintf("{\"messages\":[{\"role\":\"user\",\"content\":[%s,"
                             "{\"type\":\"text\",\"text\":\"%s\"}]}]}",
                             part, text);
    char *head =
        cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %s\r\n"
                    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                    key, strlen(body));

    client_puts(c, head);
    client_puts(c, body);
    cog_free(head);
    cog_free(body);
}

static char *file_part(const char *id)
{
    return cog_sprintf("{\"type\":\"file\",\"file\":{\"file_id\":\"%s\"}}", id);
}

static http_response ask(fixture *f, const char *key, const char *id)
{
    http_client c = client_open(f->address);
    char *part = file_part(id);
    http_response r;

    begin_ask(&c, key, part, "x");
    r = client_read(&c, false);
    client_close(&c);
    cog_free(part);
    return r;
}

static char *path_of(const char *id, const char *more)
{
    return cog_sprintf("/v1/files/%s%s", id, more);
}

static http_response call_id(fixture *f, const char *key, const char *method, const char *id,
                             const char *more)
{
    char *path = path_of(id, more);
    http_response r = call(f, key, method, path);

    cog_free(path);
    return r;
}

/* ------------------------------------------------------------------ uploads */

static void a_file_comes_back(void **state)
{
    fixture *f = *state;
    http_response r = upload(f, "", "FAKE \xff picture");
    char *id = member(&r, "id"), *name = member(&r, "filename");

    assert_int_equal(r.status, 200);
    assert_int_equal(strlen(id), 5 + 32);
    assert_memory_equal(id, "file-", 5);
    assert_string_equal(name, "a.png");
    assert_int_equal(number(&r, "bytes"), 14);
    assert_int_equal(number(&r, "expires_at") - number(&r, "created_at"), 24 * 3600);
    response_fini(&r);
    r = call_id(f, "", "GET", id, "/content");
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body.len, 14);
    assert_memory_equal(r.body.data, "FAKE \xff picture", 14);
    assert_string_equal(response_header(&r, "Content-Disposition"), "attachment");
    assert_string_equal(response_header(&r, "X-Content-Type-Options"), "nosniff");
    response_fini(&r);
    r = call_id(f, "", "HEAD", id, "/content");
    assert_string_equal(response_header(&r, "Content-Length"), "14");
    response_fini(&r);
    r = call_id(f, "", "GET", id, "/");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    expect(call_id(f, "", "GET", id, "x"), 404, "file_not_found", "id");
    expect(call_id(f, "", "GET", id, "/x"), 404, "file_not_found", "id");
    cog_free(id);
    cog_free(name);
}

static void forms_are_checked(void **state)
{
    static const struct {
        const char *body, *code, *param;
        int status;
    } cases[] = {
        { PURPOSE("vision") END, "missing_required_parameter", "file", 400 },
        { FILE_HEAD "FAKE\r\n" END, "missing_required_parameter", "purpose", 400 },
        { PURPOSE("batch") FILE_HEAD "FAKE\r\n" END, "invalid_value", "purpose", 400 },
        { PURPOSE("") FILE_HEAD "FAKE\r\n" END, "invalid_value", "purpose", 400 },
        { PURPOSE("vision") PURPOSE("vision") FILE_HEAD "FAKE\r\n" END, "invalid_value", "purpose",
          400 },
        { PURPOSE("vision") FILE_HEAD "FAKE\r\n" FILE_HEAD "FAKE\r\n" END, "invalid_value", "file",
          400 },
        { PURPOSE("vision") FILE_HEAD "\r\n" END, "empty_image_file", "file", 400 },
        { PURPOSE("vision") FILE_HEAD "BROKEN\r\n" END, "image_parse_error", "file", 400 },
        { PURPOSE("vision") FILE_HEAD "words\r\n" END, "unsupported_image_media_type", "file",
          400 },
        { PURPOSE("vision") FILE_HEAD "LARGE\r\n" END, "image_too_large", "file", 400 },
        { PURPOSE("vision") ANCHOR("created_at") FILE_HEAD "FAKE\r\n" END,
          "missing_required_parameter", "expires_after[seconds]", 400 },
        { PURPOSE("vision") SECONDS("3600") FILE_HEAD "FAKE\r\n" END, "missing_required_parameter",
          "expires_after[anchor]", 400 },
        { PURPOSE("vision") ANCHOR("now") SECONDS("3600") FILE_HEAD "FAKE\r\n" END, "invalid_value",
          "expires_after[anchor]", 400 },
        { PURPOSE("vision") ANCHOR("created_at") SECONDS("3599") FILE_HEAD "FAKE\r\n" END,
          "integer_below_min_value", "expires_after[seconds]", 400 },
        { PURPOSE("vision") ANCHOR("created_at") SECONDS("2592001") FILE_HEAD "FAKE\r\n" END,
          "integer_above_max_value", "expires_after[seconds]", 400 },
        { PURPOSE("vision") ANCHOR("created_at") SECONDS("1e4") FILE_HEAD "FAKE\r\n" END,
          "invalid_type", "expires_after[seconds]", 400 },
        { PURPOSE("vision") ANCHOR("created_at") SECONDS("") FILE_HEAD "FAKE\r\n" END,
          "invalid_type", "expires_after[seconds]", 400 },
        { PURPOSE("vision") FILE_HEAD "FAKE\r\n--x", "invalid_form", "", 400 },
        { "no form", "invalid_form", "", 400 },
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(post_form(f, "", cases[i].body), cases[i].status, cases[i].code, cases[i].param);
}

static void its_head_is_checked(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);

    send_form(&c, "", "{}", "application/json");
    expect(client_read(&c, false), 415, "unsupported_content_type", "");
    client_close(&c);
    c = client_open(f->address);
    send_form(&c, "", END, "multipart/form-data");
    expect(client_read(&c, false), 400, "invalid_form", "");
    client_close(&c);
    c = client_open(f->address);
    client_puts(&c,
                "POST /v1/files HTTP/1.1\r\nHost: t\r\nContent-Type: multipart/form-data\r\n\r\n");
    expect(client_read(&c, false), 411, "length_required", "");
    client_close(&c);
}

static void methods_are_told(void **state)
{
    static const struct {
        const char *path, *allow;
    } cases[] = { { "/v1/files", "POST, GET, HEAD" },
                  { "/v1/files/file-1", "GET, HEAD, DELETE" },
                  { "/v1/files/file-1/content", "GET, HEAD" } };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_response r = call(*state, "", "PUT", cases[i].path);

        assert_int_equal(r.status, 405);
        assert_string_equal(response_header(&r, "Allow"), cases[i].allow);
        response_fini(&r);
    }
}

static void a_time_may_be_asked_for(void **state)
{
    http_response r = post_form(*state, "",
                                PURPOSE("user_data") ANCHOR("created_at") SECONDS("3600") FILE_HEAD
                                "FAKE\r\n" END);

    assert_int_equal(r.status, 200);
    assert_int_equal(number(&r, "expires_at") - number(&r, "created_at"), 3600);
    response_fini(&r);
}

static void unknown_parts_are_named(void **state)
{
    static const char body[] = PURPOSE("vision") FILE_HEAD
        "FAKE\r\n--x\r\nContent-Disposition: form-data; name=color\r\n\r\nred\r\n" END;
    fixture *f = *state;
    http_response r = post_form(f, "", body);

    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "x-ignored-parameters"), "color");
    response_fini(&r);
}

static void strict_servers_refuse_them(void **state)
{
    fixture *f = *state;

    f->cfg.strict_parameters = true;
    fixture_start(f);
    expect(
        post_form(f, "",
                  PURPOSE("vision") FILE_HEAD
                  "FAKE\r\n--x\r\nContent-Disposition: form-data; name=color\r\n\r\nred\r\n" END),
        400, "unknown_parameter", "color");
}

/* ------------------------------------------------------------------ limits */

static void quotas_hold(void **state)
{
    fixture *f = *state;
    char *first;
    http_response r;

    fixture_keys(f, "sk-one\nsk-two\nsk-three\n");
    f->cfg.files_key_count = 2;
    f->cfg.files_max_count = 3;
    fixture_start(f);
    first = stored(f, "sk-one", "FAKE");
    cog_free(stored(f, "sk-one", "FAKE"));
    expect(upload(f, "sk-one", "FAKE"), 400, "file_quota_exceeded", "");
    cog_free(stored(f, "sk-two", "FAKE"));
    expect(upload(f, "sk-three", "FAKE"), 400, "file_quota_exceeded", "");
    r = call_id(f, "sk-one", "DELETE", first, "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    cog_free(stored(f, "sk-three", "FAKE"));
    cog_free(first);
}

static void bytes_are_bounded(void **state)
{
    char picture[3000] = "FAKE";
    fixture *f = *state;

    memset(picture + 4, ' ', sizeof(picture) - 5);
    f->cfg.files_key_bytes = 8000;
    f->cfg.image.max_bytes = 2999;
    fixture_start(f);
    cog_free(stored(f, "", picture));
    expect(upload(f, "", picture), 400, "file_quota_exceeded", "");
    cog_free(stored(f, "", "FAKE"));
}

static void large_files_are_refused(void **state)
{
    fixture *f = *state;

    f->cfg.image.max_bytes = 8;
    fixture_start(f);
    cog_free(stored(f, "", "FAKE 678"));
    expect(upload(f, "", "FAKE 6789"), 400, "image_file_too_large", "file");
}

static void none_may_be_taken(void **state)
{
    fixture *f = *state;

    f->cfg.files_max_bytes = 0;
    fixture_start(f);
    expect(upload(f, "", "FAKE"), 400, "file_quota_exceeded", "");
}

/* An upload has a place in the queue like a request whose picture waits. */
static void uploads_count_as_waiting(void **state)
{
    fixture *f = *state;
    http_client slow[FAKE_QUEUE];
    http_response r;

    f->cfg.image_workers = 1;
    fixture_start(f);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        slow[i] = client_open(f->address);
        send_form(&slow[i], "", PURPOSE("vision") FILE_HEAD "FAKE slow=400\r\n" END,
                  "multipart/form-data; boundary=x");
    }
    usleep(200000);
    expect(upload(f, "", "FAKE"), 503, "server_is_overloaded", "");
    for (int i = 0; i < FAKE_QUEUE; i++) {
        r = client_read(&slow[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&slow[i]);
    }
    cog_free(stored(f, "", "FAKE"));
}

static void who_leaves_stores_nothing(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    http_response r;

    send_form(&c, "", PURPOSE("vision") FILE_HEAD "FAKE slow=300\r\n" END,
              "multipart/form-data; boundary=x");
    usleep(100000);
    client_close(&c);
    usleep(500000);
    r = call(f, "", "GET", "/v1/files");
    assert_non_null(strstr(r.body.data, "\"data\":[]"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ whose they are */

static void keys_do_not_share(void **state)
{
    fixture *f = *state;
    http_response r;
    char *id;

    fixture_keys(f, "sk-one\nsk-two\n");
    fixture_start(f);
    id = stored(f, "sk-one", "FAKE");
    expect(call_id(f, "sk-two", "GET", id, ""), 404, "file_not_found", "id");
    expect(call_id(f, "sk-two", "GET", id, "/content"), 404, "file_not_found", "id");
    expect(call_id(f, "sk-two", "DELETE", id, ""), 404, "file_not_found", "id");
    expect(ask(f, "sk-two", id), 400, "image_file_not_found",
           "messages[0].content[0].file.file_id");
    r = call(f, "sk-two", "GET", "/v1/files");
    assert_null(strstr(r.body.data, id));
    response_fini(&r);
    expect(call_id(f, "sk-three", "GET", id, ""), 401, "invalid_api_key", "");
    r = ask(f, "sk-one", id);
    assert_int_equal(r.status, 200);
    response_fini(&r);
    /* what one key deleted, another never had */
    r = call_id(f, "sk-one", "DELETE", id, "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    expect(call_id(f, "sk-two", "DELETE", id, ""), 404, "file_not_found", "id");
    r = call_id(f, "sk-one", "DELETE", id, "");
    assert_non_null(strstr(r.body.data, "\"deleted\":true"));
    response_fini(&r);
    expect(call_id(f, "sk-one", "GET", id, ""), 404, "file_not_found", "id");
    cog_free(id);
}

/* ------------------------------------------------------------------ lists */

static void lists_are_paged(void **state)
{
    fixture *f = *state;
    char *id[3], *path, *last;
    http_response r;

    for (int i = 0; i < 3; i++)
        id[i] = stored(f, "", "FAKE");
    r = call(f, "", "GET", "/v1/files?limit=2");
    assert_non_null(strstr(r.body.data, id[2]));
    assert_non_null(strstr(r.body.data, id[1]));
    assert_null(strstr(r.body.data, id[0]));
    assert_non_null(strstr(r.body.data, "\"has_more\":true"));
    last = member(&r, "last_id");
    assert_string_equal(last, id[1]);
    response_fini(&r);
    path = cog_sprintf("/v1/files?limit=2&after=%s", last);
    r = call(f, "", "GET", path);
    assert_non_null(strstr(r.body.data, id[0]));
    assert_non_null(strstr(r.body.data, "\"has_more\":false"));
    response_fini(&r);
    cog_free(last);
    cog_free(path);
    r = call(f, "", "GET", "/v1/files?order=asc&limit=1");
    last = member(&r, "first_id");
    assert_string_equal(last, id[0]);
    response_fini(&r);
    cog_free(last);
    r = call(f, "", "GET", "/v1/files?purpose=user_data");
    assert_non_null(strstr(r.body.data, "\"data\":[],\"first_id\":null"));
    response_fini(&r);
    expect(call(f, "", "GET", "/v1/files?limit=0"), 400, "invalid_value", "limit");
    expect(call(f, "", "GET", "/v1/files?limit=10001"), 400, "invalid_value", "limit");
    expect(call(f, "", "GET", "/v1/files?order=up"), 400, "invalid_value", "order");
    expect(call(f, "", "GET", "/v1/files?purpose=batch"), 400, "invalid_value", "purpose");
    expect(call(f, "", "GET", "/v1/files?after=file-1"), 400, "invalid_value", "after");
    for (int i = 0; i < 3; i++)
        cog_free(id[i]);
}

/* ------------------------------------------------------------------ questions */

/* Decoded once, however often it is asked about. */
static void it_is_not_decoded_again(void **state)
{
    static const char *const parts[] = {
        "{\"type\":\"file\",\"file\":{\"file_id\":\"%s\"}}",
        "{\"type\":\"input_image\",\"file_id\":\"%s\",\"detail\":\"low\"}",
        "{\"type\":\"image_file\",\"image_file\":{\"file_id\":\"%s\",\"detail\":\"auto\"}}",
    };
    fixture *f = *state;
    char *id = stored(f, "", "FAKE"), part[160];
    int decoded = fake_engine_decoded();

    for (int i = 0; i < 3; i++) {
        http_client c = client_open(f->address);
        http_response r;

        snprintf(part, sizeof(part), parts[i], id);
        begin_ask(&c, "", part, "x");
        r = client_read(&c, false);
        assert_int_equal(r.status, 200);
        assert_true(fake_engine_seen(f->engine).has_image);
        assert_int_equal(fake_engine_seen(f->engine).pin, 1);
        response_fini(&r);
        client_close(&c);
    }
    assert_int_equal(fake_engine_decoded(), decoded);
    expect(ask(f, "", "file-0"), 400, "image_file_not_found",
           "messages[0].content[0].file.file_id");
    cog_free(id);
}

/* Its picture is the request's until that has ended. */
static void a_request_keeps_what_is_deleted(void **state)
{
    fixture *f = *state;
    char *id = stored(f, "", "FAKE"), *part = file_part(id);
    http_client c = client_open(f->address);
    http_response r;

    fake_engine_pause(f->engine, true);
    begin_ask(&c, "", part, "an answer");
    assert_true(fixture_wait(f, fake_engine_accepted, 1));
    r = call_id(f, "", "DELETE", id, "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    expect(ask(f, "", id), 400, "image_file_not_found", "messages[0].content[0].file.file_id");
    fake_engine_pause(f->engine, false);
    r = client_read(&c, false);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "an answer"));
    response_fini(&r);
    client_close(&c);
    cog_free(part);
    cog_free(id);
}

/* The engine keeps what it computed for a file's picture, until the file goes. */
static void a_file_pins_until_it_goes(void **state)
{
    fixture *f = *state;
    char *first = stored(f, "", "FAKE"), *second = stored(f, "", "FAKE");
    http_response r = ask(f, "", second);

    assert_int_equal(fake_engine_seen(f->engine).pin, 2);
    response_fini(&r);
    r = chat(f, "x", "");
    assert_int_equal(fake_engine_seen(f->engine).pin, 0);
    response_fini(&r);
    assert_int_equal(fake_engine_unpinned(f->engine), 0);
    r = call_id(f, "", "DELETE", second, "");
    response_fini(&r);
    assert_int_equal(fake_engine_unpinned(f->engine), 2);
    cog_free(first);
    cog_free(second);
}

/* The rest of a body whose reader is slow is there, whatever becomes of the file. */
static void a_reader_keeps_what_is_deleted(void **state)
{
    enum { SIZE = 9 << 20 };
    fixture *f = *state;
    char *picture = cog_alloc(SIZE + 1, 1), *id, *head;
    http_client c = client_open(f->address);
    http_response r;

    memset(picture, 'x', SIZE);
    memcpy(picture, "FAKE ", 5);
    picture[SIZE - 1] = 'z';
    id = stored(f, "", picture);
    head = cog_sprintf("GET /v1/files/%s/content HTTP/1.1\r\nHost: t\r\n\r\n", id);
    client_puts(&c, head);
    usleep(100000);
    r = call_id(f, "", "DELETE", id, "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    r = client_read(&c, false);
    assert_int_equal(r.body.len, SIZE);
    assert_memory_equal(r.body.data, picture, SIZE);
    response_fini(&r);
    client_close(&c);
    cog_free(head);
    cog_free(id);
    cog_free(picture);
}

static void files_expire(void **state)
{
    fixture *f = *state;
    http_response r;
    char *id;

    f->cfg.files_expiry_ms = 1000;
    fixture_start(f);
    id = stored(f, "", "FAKE");
    r = ask(f, "", id);
    assert_int_equal(r.status, 200);
    response_fini(&r);
    for (int i = 0; i < 200; i++) {
        r = call(f, "", "GET", "/metrics");
        if (strstr(r.body.data, "cogwheel_files_total{event=\"expired\"} 1"))
            break;
        response_fini(&r);
        usleep(50000);
    }
    assert_non_null(r.body.data);
    assert_non_null(strstr(r.body.data, "cogwheel_files_bytes 0"));
    response_fini(&r);
    expect(call_id(f, "", "GET", id, ""), 404, "file_not_found", "id");
    expect(ask(f, "", id), 400, "image_file_not_found", "messages[0].content[0].file.file_id");
    cog_free(id);
}

static void a_key_that_goes_takes_its_files(void **state)
{
    fixture *f = *state;
    http_response r;
    char *one, *two;

    fixture_keys(f, "sk-one\nsk-two\n");
    fixture_start(f);
    one = stored(f, "sk-one", "FAKE");
    two = stored(f, "sk-two", "FAKE");
    fixture_keys(f, "sk-two\n");
    kill(getpid(), SIGHUP);
    for (int i = 0; i < 200; i++) {
        r = call_id(f, "sk-one", "GET", one, "");
        if (r.status == 401)
            break;
        response_fini(&r);
        usleep(20000);
    }
    assert_int_equal(r.status, 401);
    response_fini(&r);
    r = call(f, "sk-two", "GET", "/metrics");
    assert_non_null(strstr(r.body.data, "cogwheel_files_stored 1"));
    response_fini(&r);
    r = call_id(f, "sk-two", "GET", two, "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    cog_free(one);
    cog_free(two);
}

static void ids_have_the_node(void **state)
{
    fixture *f = *state;
    char *id;

    f->cfg.files_node = "a1";
    fixture_start(f);
    id = stored(f, "", "FAKE");
    assert_int_equal(strlen(id), 8 + 32);
    assert_memory_equal(id, "file-a1-", 8);
    cog_free(id);
}

#define RUNNING(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
#define CREATED(test) cmocka_unit_test_setup_teardown(test, fixture_create, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUNNING(a_file_comes_back),
        RUNNING(forms_are_checked),
        RUNNING(its_head_is_checked),
        RUNNING(methods_are_told),
        RUNNING(a_time_may_be_asked_for),
        RUNNING(unknown_parts_are_named),
        CREATED(strict_servers_refuse_them),
        CREATED(quotas_hold),
        CREATED(bytes_are_bounded),
        CREATED(large_files_are_refused),
        CREATED(none_may_be_taken),
        CREATED(uploads_count_as_waiting),
        RUNNING(who_leaves_stores_nothing),
        CREATED(keys_do_not_share),
        RUNNING(lists_are_paged),
        RUNNING(it_is_not_decoded_again),
        RUNNING(a_request_keeps_what_is_deleted),
        RUNNING(a_file_pins_until_it_goes),
        RUNNING(a_reader_keeps_what_is_deleted),
        CREATED(files_expire),
        CREATED(a_key_that_goes_takes_its_files),
        CREATED(ids_have_the_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
