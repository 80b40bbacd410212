#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/chat.h"
#include "proto/completion.h"
#include "proto/tokenize.h"

#include <jansson.h>
#include <string.h>

static const struct request {
    const char *name;
    const cog_field_table *tables[2]; /* the second may be NULL */
} requests[] = {
    { "chat", { &cog_params_fields, &cog_chat_fields } },
    { "completion", { &cog_params_fields, &cog_completion_fields } },
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

    for (char *at = strchr(text, '\''); at; at = strchr(at, '\''))
        *at = '"';
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
