#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/chat.h"
#include "proto/completion.h"
#include "proto/responses.h"
#include "proto/tokenize.h"
#include "server/internal.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct request {
    const char *name;
    const cog_field_table *tables[2]; /* the second may be NULL */
} requests[] = {
    { "chat", { &cog_params_fields, &cog_chat_fields } },
    { "batch", { &cog_params_fields, &cog_chat_batch_fields } },
    { "completion", { &cog_params_fields, &cog_completion_fields } },
    { "response", { &cog_params_fields, &cog_responses_fields } },
    { "tokenize", { &cog_tokenize_fields, NULL } },
    { "detokenize", { &cog_detokenize_fields, NULL } },
};

enum { N_REQUESTS = sizeof(requests) / sizeof(requests[0]) };

/* The members of a field's schema; NULL when they are none. */
static json_t *members(const char *schema)
{
    char *text = cog_strdup(schema);
    cog_buf whole = { 0 };
    json_t *object;

    for (char *c = text; *c; c++) {
        if (*c == '\'')
            *c = '"';
        if (*c != '@')
            continue;
        *c = '1'; /* any value will do */
        while (c[1] && !strchr(",]}", c[1]))
            *++c = ' ';
    }
    cog_buf_printf(&whole, "{%s}", text);
    object = json_loads(whole.data, JSON_REJECT_DUPLICATES, NULL);
    cog_buf_fini(&whole);
    cog_free(text);
    return object;
}

static void check_field(const char *request, const cog_field *f)
{
    json_t *schema;

    if (f->use == COG_FIELD_CUSTOM && !f->schema)
        fail_msg("%s: what '%s' takes is not described: give its table entry a schema", request,
                 f->name);
    if (!f->schema)
        return;
    schema = members(f->schema);
    if (!schema)
        fail_msg("%s: the schema of '%s' is no JSON: %s", request, f->name, f->schema);
    if (json_object_get(schema, "type"))
        fail_msg("%s: the type of '%s' follows from its kind", request, f->name);
    json_decref(schema);
}

static void fields_are_described(void **state)
{
    for (int r = 0; r < N_REQUESTS; r++) {
        json_t *seen = json_object();

        for (int t = 0; t < 2 && requests[r].tables[t]; t++) {
            const cog_field_table *table = requests[r].tables[t];

            for (int i = 0; i < table->n; i++) {
                check_field(requests[r].name, &table->fields[i]);
                if (json_object_get(seen, table->fields[i].name))
                    fail_msg("%s: '%s' is there twice", requests[r].name, table->fields[i].name);
                json_object_set_new(seen, table->fields[i].name, json_true());
            }
        }
        json_decref(seen);
    }
}

static json_t *document(fixture *f, const char *key)
{
    http_client c = client_open(f->address);
    http_response r;
    char head[256];
    json_t *d;

    snprintf(head, sizeof(head),
             "GET /openapi.json HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %s\r\n\r\n", key);
    client_puts(&c, head);
    r = client_read(&c, false);
    client_close(&c);
    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "Content-Type"), "application/json");
    d = json_loads(r.body.data, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(d);
    response_fini(&r);
    return d;
}

static void routes_are_described(void **state)
{
    json_t *d = document(*state, ""), *paths = json_object_get(d, "paths");
    const char *path;
    size_t n = 0;
    json_t *item;

    for (int i = 0; i < cog_route_count(); i++) {
        char name[64];

        cog_route_name(name, i);
        if (name[0] != '/') /* preflights, and what is no address */
            continue;
        n++;
        if (!json_object_get(paths, name))
            fail_msg("%s has no entry among the operations of proto/openapi_text.c", name);
    }
    json_object_foreach(paths, path, item) n -= json_object_size(item);
    assert_int_equal(n, 0);
    for (int i = 0; cog_openapi_path(i); i++) {
        if (!json_object_get(paths, cog_openapi_path(i)))
            fail_msg("proto/openapi_text.c describes %s, which is no route", cog_openapi_path(i));
    }
    json_decref(d);
}

/* Follows the names, each a member; fails when there is none. */
static json_t *at(json_t *v, const char *const *names)
{
    for (; *names; names++) {
        v = json_object_get(v, *names);
        if (!v)
            fail_msg("there is no %s", *names);
    }
    return v;
}

#define AT(v, ...) at(v, (const char *const[]){ __VA_ARGS__, NULL })

static void says_what_the_server_is(void **state)
{
    fixture *f = *state;
    json_t *d, *schemas, *chat;

    f->cfg.max_n = 3;
    f->cfg.strict_parameters = true;
    fixture_keys(f, "sk-one\n");
    fixture_start(f);
    d = document(f, "sk-one");
    schemas = AT(d, "components", "schemas");
    chat = AT(schemas, "ChatRequest");
    assert_true(json_is_false(AT(chat, "additionalProperties")));
    assert_int_equal(json_integer_value(AT(chat, "properties", "n", "maximum")), 3);
    assert_int_equal(json_integer_value(AT(schemas, "TokenId", "maximum")) + 1,
                     cog_engine_get_info(f->engine)->vocab);
    AT(d, "paths", "/v1/models", "get", "responses", "401");
    assert_int_equal(json_array_size(AT(d, "security")), 1);
    assert_int_equal(json_array_size(AT(d, "paths", "/livez", "get", "security")), 0);
    assert_null(json_object_get(AT(d, "paths", "/livez", "get", "responses"), "401"));
    json_decref(d);
}

static void needs_a_key(void **state)
{
    fixture *f = *state;
    http_response r;

    fixture_keys(f, "sk-one\n");
    fixture_start(f);
    r = client_get(f->address, "/openapi.json");
    assert_int_equal(r.status, 401);
    response_fini(&r);
}

static void errors_are_those_of_the_code(void **state)
{
    json_t *d = document(*state, ""), *schemas = AT(d, "components", "schemas");
    json_t *codes = AT(schemas, "Error503", "properties", "error", "properties", "code", "enum");

    assert_int_equal(json_array_size(codes), 3);
    assert_string_equal(json_string_value(json_array_get(codes, 0)), "server_is_overloaded");
    codes = AT(schemas, "Error400", "properties", "error", "properties", "code", "enum");
    for (int c = COG_API_NONE + 1; c < COG_API_N_CODES; c++) {
        int n = 0;

        for (size_t i = 0; i < json_array_size(codes); i++)
            n += strcmp(json_string_value(json_array_get(codes, i)),
                        cog_api_error_name((cog_api_code)c)) == 0;
        assert_int_equal(n, cog_api_error_status((cog_api_code)c) == 400);
    }
    json_decref(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_described),
        cmocka_unit_test_setup_teardown(routes_are_described, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(errors_are_those_of_the_code, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(says_what_the_server_is, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(needs_a_key, fixture_create, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
