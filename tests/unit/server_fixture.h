/* server_fixture.h - a server in this process, on a port of its own, over the engine's double. */
#ifndef COG_TESTS_SERVER_FIXTURE_H
#define COG_TESTS_SERVER_FIXTURE_H

#include "server/server.h"
#include "tests/unit/fake_engine.h"
#include "tests/unit/http_client.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct fixture {
    cog_server_config cfg; /* may be changed before start */
    cog_engine *engine;
    cog_server *server;
    const char *address;
    pthread_t thread;
    int result; /* of cog_server_run */
    bool is_running;
    char key_file[32]; /* "": none was written */
} fixture;

/* Defaults with short time-outs, a model "test" and its alias "other". */
fixture *fixture_new(void);
void fixture_start(fixture *f);
void fixture_keys(fixture *f,
                  const char *text); /* writes the file of keys; before start or later */
int fixture_stop(fixture *f);        /* SIGTERM; the result of cog_server_run */
int fixture_join(fixture *f);        /* waits for cog_server_run */
void fixture_free(fixture *f);       /* stops it when it runs */

/* For cmocka: a server that is not yet open, one that runs, and the end of either. */
int fixture_create(void **state);
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Waits until get(engine) is want; false after some seconds. */
bool fixture_wait(fixture *f, int (*get)(cog_engine *), int want);

/* A request body with this user text, and more fields (",\"n\":2"). Owned by the caller. */
char *chat_body(const char *text, const char *more);
/* The same with a picture of these bytes. */
char *picture_body(const char *text, const char *picture, const char *more);

/* POST to /v1/chat/completions with a text. */
http_response chat(fixture *f, const char *text, const char *more);
/* The same with a key, and on an open connection. */
http_response chat_as(fixture *f, const char *key, const char *text, const char *more);
void begin_chat_as(http_client *c, const char *key, const char *text, const char *more);

/* The error's code in a body; "" when there is none. Valid until the next call. */
const char *error_code(const http_response *r);
/* A string member of the error object. */
const char *error_member(const http_response *r, const char *name);

#endif
