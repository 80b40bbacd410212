/* Pictures that are named, not sent: from a server of the test's own, and from a folder. Names are
 * resolved by the getaddrinfo below, and this program is linked so that the test decides which
 * addresses are public; all else is the real server's way. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/picture_server.h"
#include "tests/unit/server_fixture.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool __real_cog_fetch_is_public(const struct sockaddr *a);
bool __wrap_cog_fetch_is_public(const struct sockaddr *a);

static picture_server web;
static char domain[64], folder[64];
static const char *const domains[] = { domain };

/* The machine's first address stands for a public one. */
bool __wrap_cog_fetch_is_public(const struct sockaddr *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;

    return (a->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) == INADDR_LOOPBACK) ||
           __real_cog_fetch_is_public(a);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    struct in_addr at = { htonl(INADDR_LOOPBACK + (name[0] == 'i')) };
    struct addrinfo *a;
    struct sockaddr_in *in;

    if (inet_pton(AF_INET, name, &at) != 1 && strcmp(name, "pictures.test") != 0 &&
        strcmp(name, "inside.test") != 0)
        return EAI_NONAME;
    a = calloc(1, sizeof(*a) + sizeof(*in));
    in = (struct sockaddr_in *)(a + 1);
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)(service ? atoi(service) : 0));
    in->sin_addr = at;
    *a = (struct addrinfo){ .ai_family = AF_INET,
                            .ai_socktype = SOCK_STREAM,
                            .ai_addrlen = sizeof(*in),
                            .ai_addr = (struct sockaddr *)in };
    *out = a;
    return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
    free(a);
}

/* ------------------------------------------------------------------ the rig */

static int create(void **state)
{
    fixture *f = fixture_new();

    picture_server_start(&web);
    snprintf(domain, sizeof(domain), ".test:%d", web.port);
    f->cfg.image_domains = domains;
    f->cfg.n_image_domains = 1;
    *state = f;
    return 0;
}

static int setup(void **state)
{
    create(state);
    fixture_start(*state);
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    picture_server_stop(&web);
    return 0;
}

static char *url_body(const char *url, const char *more)
{
    return cog_sprintf("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                       "\"image_url\":{\"url\":\"%s\"}},{\"type\":\"text\",\"text\":\"x\"}]}]%s}",
                       url, more);
}

static http_response ask(fixture *f, const char *url, const char *more)
{
    char *body = url_body(url, more);
    http_response r = client_post(f->address, "/v1/chat/completions", body);

    cog_free(body);
    return r;
}

static http_response fetch(fixture *f, const char *host, const char *path)
{
    char *url = cog_sprintf("http://%s:%d%s", host, web.port, path);
    http_response r = ask(f, url, "");

    cog_free(url);
    return r;
}

static void expect(http_response r, const char *code, const char *retry)
{
    const char *got = response_header(&r, "x-should-retry");

    if (r.status != 400 || strcmp(error_code(&r), code) != 0)
        fail_msg("%d %s, expected %s", r.status, r.body.data, code);
    assert_string_equal(error_member(&r, "param"), "messages[0].content[0].image_url.url");
    assert_string_equal(got ? got : "-", retry);
    assert_null(strstr(r.body.data, "secret"));
    assert_null(strstr(r.body.data, "test"));
    assert_null(strstr(r.body.data, "127."));
    assert_null(strstr(r.body.data, "/tmp"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ the web */

static void pictures_are_fetched(void **state)
{
    fixture *f = *state;
    int decoded = fake_engine_decoded();
    http_response r;

    picture_server_set(&web, "FAKE");
    r = fetch(f, "pictures.test", "/picture");
    assert_int_equal(r.status, 200);
    assert_int_equal(fake_engine_decoded(), decoded + 1);
    response_fini(&r);
    picture_server_set(&web, "no picture");
    expect(fetch(f, "pictures.test", "/picture"), "unsupported_image_media_type", "-");
    picture_server_set(&web, "");
    expect(fetch(f, "pictures.test", "/picture"), "empty_image_file", "-");
}

static void failures_are_told_without_detail(void **state)
{
    static const struct {
        const char *host, *path, *retry;
    } cases[] = {
        { "pictures.test", "/not-found", "false" }, { "pictures.test", "/redirect", "false" },
        { "pictures.test", "/broken", "true" },     { "pictures.test", "/nothing", "true" },
        { "inside.test", "/ok", "false" },          { "unknown.test", "/ok", "false" },
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(fetch(f, cases[i].host, cases[i].path), "failed_to_download_image", cases[i].retry);
    expect(fetch(f, "pictures.invalid", "/ok"), "invalid_image_url", "-");
    expect(ask(f, "http://pictures.test/ok", ""), "invalid_image_url", "-"); /* another port */
    expect(ask(f, "file:///etc/passwd", ""), "invalid_image_url", "-");
    expect(ask(f, "ftp://pictures.test/ok", ""), "invalid_image_url", "-");
}

static void large_ones_are_refused(void **state)
{
    fixture *f = *state;

    f->cfg.image.max_bytes = 100000;
    fixture_start(f);
    expect(fetch(f, "pictures.test", "/endless"), "image_file_too_large", "-");
}

/* Bytes to come count as bytes that are there. */
static void the_budget_counts_them(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.image.max_bytes = 100000;
    f->cfg.max_inflight_bytes = 60000;
    fixture_start(f);
    r = fetch(f, "pictures.test", "/ok");
    assert_int_equal(r.status, 503);
    assert_string_equal(error_code(&r), "server_is_overloaded");
    assert_int_equal(web.n_connections, 0);
    response_fini(&r);
    r = chat(f, "x", "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

static void wait_until(int (*count)(picture_server *s), int n)
{
    for (int i = 0; count(&web) != n; i++) {
        assert_true(i < 20000);
        usleep(1000);
    }
}

static http_client begin(fixture *f, const char *path)
{
    http_client c = client_open(f->address);
    char *url = cog_sprintf("http://pictures.test:%d%s", web.port, path);
    char *body = url_body(url, ""), *head;

    head = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                       strlen(body));
    client_puts(&c, head);
    client_puts(&c, body);
    cog_free(url);
    cog_free(body);
    cog_free(head);
    return c;
}

/* A client that leaves takes its transfer along; nobody else notices. */
static void leaving_ends_a_transfer(void **state)
{
    fixture *f = *state;
    http_client other = begin(f, "/stay"), c;
    http_response r;

    wait_until(picture_server_requests, 1);
    c = begin(f, "/hang");
    wait_until(picture_server_hanging, 1);
    client_close(&c);
    wait_until(picture_server_hanging, 0);
    wait_until(picture_server_open, 1);
    r = chat(f, "x", "");
    assert_int_equal(r.status, 200);
    assert_int_equal(picture_server_open(&web), 1); /* the older one has not had its time yet */
    response_fini(&r);
    client_close(&other);
}

static void deadlines_pass(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.request_timeout_ms = 300;
    fixture_start(f);
    r = fetch(f, "pictures.test", "/hang");
    assert_int_equal(r.status, 504);
    assert_string_equal(error_code(&r), "request_deadline_exceeded");
    response_fini(&r);
}

static void stopping_ends_a_transfer(void **state)
{
    fixture *f = *state;
    http_client c;
    http_response r;

    f->cfg.drain_delay_ms = f->cfg.drain_timeout_ms = 0;
    fixture_start(f);
    c = begin(f, "/hang");
    wait_until(picture_server_hanging, 1);
    assert_int_equal(fixture_stop(f), 0);
    r = client_read(&c, false);
    assert_int_equal(r.status, 503);
    assert_string_equal(error_code(&r), "server_draining");
    response_fini(&r);
    client_close(&c);
}

static void places_are_checked_at_the_start(void **state)
{
    static const char *const bad[] = { "https://example.com/" };
    fixture *f = *state;
    cog_server *s = NULL;
    cog_err err;

    f->cfg.image_domains = bad;
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, bad[0]));
    f->cfg.n_image_domains = 0;
    f->cfg.media_root = "/none/at/all";
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EIO);
    assert_non_null(strstr(err.text, "/none/at/all"));
    assert_null(s);
}

/* ------------------------------------------------------------------ files */

static void put(const char *name, const char *text)
{
    char *path = cog_sprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
    cog_free(path);
}

static int setup_folder(void **state)
{
    fixture *f;
    char *pipe;

    create(state);
    f = *state;
    snprintf(folder, sizeof(folder), "/tmp/cog-pictures-XXXXXX");
    assert_non_null(mkdtemp(folder));
    put("good.png", "FAKE");
    put("bad.png", "secret");
    put("empty.png", "");
    pipe = cog_sprintf("%s/pipe.png", folder);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    cog_free(pipe);
    f->cfg.n_image_domains = 0;
    f->cfg.image.max_bytes = 10;
    f->cfg.media_root = folder;
    put("large.png", "FAKE and more");
    fixture_start(f);
    return 0;
}

static int teardown_folder(void **state)
{
    char *command = cog_sprintf("rm -rf '%s'", folder);

    teardown(state);
    assert_int_equal(system(command), 0);
    cog_free(command);
    return 0;
}

static http_response ask_file(fixture *f, const char *name)
{
    char *url = cog_sprintf("file://%s/%s", folder, name);
    http_response r = ask(f, url, "");

    cog_free(url);
    return r;
}

static void files_are_read(void **state)
{
    static const char *const refused[] = {
        "none.png", "pipe.png", "../none", "..", "", "good.png/"
    };
    fixture *f = *state;
    int decoded = fake_engine_decoded();
    char *text = NULL;
    http_response r = ask_file(f, "good.png");

    assert_int_equal(r.status, 200);
    assert_int_equal(fake_engine_decoded(), decoded + 1);
    response_fini(&r);
    expect(ask_file(f, "bad.png"), "unsupported_image_media_type", "-");
    expect(ask_file(f, "empty.png"), "empty_image_file", "-");
    expect(ask_file(f, "large.png"), "image_file_too_large", "-");
    expect(ask(f, "http://pictures.test/ok", ""), "invalid_image_url", "-");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        r = ask_file(f, refused[i]);
        if (!text)
            text = cog_strdup(error_member(&r, "message"));
        assert_string_equal(error_member(&r, "message"), text);
        expect(r, "invalid_image_url", "-");
    }
    cog_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pictures_are_fetched, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_told_without_detail, setup, teardown),
        cmocka_unit_test_setup_teardown(large_ones_are_refused, create, teardown),
        cmocka_unit_test_setup_teardown(the_budget_counts_them, create, teardown),
        cmocka_unit_test_setup_teardown(leaving_ends_a_transfer, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_pass, create, teardown),
        cmocka_unit_test_setup_teardown(stopping_ends_a_transfer, create, teardown),
        cmocka_unit_test_setup_teardown(places_are_checked_at_the_start, create, teardown),
        cmocka_unit_test_setup_teardown(files_are_read, setup_folder, teardown_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
