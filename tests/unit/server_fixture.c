#include "tests/unit/unit.h"

#include "tests/unit/server_fixture.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

fixture *fixture_new(void)
{
    static const char *const listen[] = { "127.0.0.1:0" };
    static const char *const names[] = { "test", "other" };
    fixture *f = cog_new(fixture);

    cog_log_set_level(COG_ERROR);
    f->cfg = cog_server_defaults;
    f->cfg.listen = listen;
    f->cfg.n_listen = 1;
    f->cfg.served_names = names;
    f->cfg.n_served_names = 2;
    f->cfg.drain_delay_ms = 0;
    f->cfg.drain_timeout_ms = 300;
    f->engine = fake_engine_new();
    return f;
}

void fixture_keys(fixture *f, const char *text)
{
    FILE *file;

    if (!f->key_file[0]) {
        snprintf(f->key_file, sizeof(f->key_file), "%s/cog-keys-XXXXXX", P_tmpdir);
        close(mkstemp(f->key_file));
    }
    file = fopen(f->key_file, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    f->cfg.api_key_file = f->key_file;
}

static void *run(void *arg)
{
    fixture *f = arg;

    f->result = cog_server_run(f->server, f->engine);
    return NULL;
}

void fixture_start(fixture *f)
{
    cog_err err = { 0 };
    int rc = cog_server_open(&f->server, &f->cfg, &err);

    if (rc < 0)
        fail_msg("%s", err.text);
    fake_engine_notify(f->engine, cog_server_wake, f->server);
    f->address = cog_server_address(f->server, 0);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    f->is_running = true;
}

int fixture_join(fixture *f)
{
    pthread_join(f->thread, NULL);
    f->is_running = false;
    return f->result;
}

int fixture_stop(fixture *f)
{
    http_response r = client_get(f->address, "/livez"); /* its signal handlers are there by now */

    response_fini(&r);
    kill(getpid(), SIGTERM);
    return fixture_join(f);
}

void fixture_free(fixture *f)
{
    if (f->is_running)
        fixture_stop(f);
    cog_engine_close(f->engine);
    cog_server_close(f->server);
    if (f->key_file[0])
        unlink(f->key_file);
    cog_free(f);
}

int fixture_create(void **state)
{
    *state = fixture_new();
    return 0;
}

int fixture_setup(void **state)
{
    fixture_create(state);
    fixture_start(*state);
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

bool fixture_wait(fixture *f, int (*get)(cog_engine *), int want)
{
    uint64_t end = cog_now_ns() + (uint64_t)CLIENT_WAIT_MS * 1000000;

    while (get(f->engine) != want) {
        if (cog_now_ns() > end)
            return false;
        usleep(1000);
    }
    return true;
}

char *chat_body(const char *text, const char *more)
{
    return cog_sprintf("{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]%s}", text, more);
}

char *picture_body(const char *text, const char *picture, const char *more)
{
    unsigned char base64[512];

    assert_true(strlen(picture) < 300);
    EVP_EncodeBlock(base64, (const unsigned char *)picture, (int)strlen(picture));
    return cog_sprintf("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                       "\"%s\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;"
                       "base64,%s\"}}]}]%s}",
                       text, (char *)base64, more);
}

http_response chat(fixture *f, const char *text, const char *more)
{
    char *body = chat_body(text, more);
    http_response r = client_post(f->address, "/v1/chat/completions", body);

    cog_free(body);
    return r;
}

void begin_chat_as(http_client *c, const char *key, const char *text, const char *more)
{
    char *body = chat_body(text, more);
    char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                            "application/json\r\nAuthorization: Bearer %s\r\n"
                            "Content-Length: %zu\r\n\r\n%s",
                            key, strlen(body), body);

    client_puts(c, raw);
    cog_free(raw);
    cog_free(body);
}

http_response chat_as(fixture *f, const char *key, const char *text, const char *more)
{
    http_client c = client_open(f->address);
    http_response r;

    begin_chat_as(&c, key, text, more);
    r = client_read(&c, false);
    client_close(&c);
    return r;
}

const char *error_member(const http_response *r, const char *name)
{
    static char value[1024];
    json_t *root = json_loads(cog_buf_text(&r->body), 0, NULL);
    const char *s = json_string_value(json_object_get(json_object_get(root, "error"), name));

    snprintf(value, sizeof(value), "%s", s ? s : "");
    json_decref(root);
    return value;
}

const char *error_code(const http_response *r)
{
    return error_member(r, "code");
}
