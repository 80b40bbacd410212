#include "proto/openapi.h"

#include "proto/api_error.h"
#include "proto/field.h"
#include "proto/json_write.h"
#include "proto/openapi_text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* JSON as openapi_text.h has it. */
static void put(cog_buf *out, const char *text)
{
    while (*text) {
        size_t run = strcspn(text, "'@");

        cog_buf_add(out, text, run);
        text += run;
        if (*text == '\'') {
            cog_buf_add(out, "\"", 1);
            text++;
        } else if (*text == '@') {
            run = strcspn(text + 1, ",]}");
            cog_buf_printf(out, "{\"$ref\":\"#/components/schemas/%.*s\"}", (int)run, text + 1);
            text += 1 + run;
        }
    }
}

/* A comma before all but the first. */
static void separate(cog_buf *out, bool *is_first)
{
    if (!*is_first)
        cog_buf_puts(out, ",");
    *is_first = false;
}

static void put_ref(cog_buf *out, const char *kind, const char *name)
{
    cog_buf_printf(out, "{\"$ref\":\"#/components/%s/%s\"}", kind, name);
}

/* ------------------------------------------------------------------ fields */

static const char *const json_type[] = {
    [COG_FIELD_BOOL] = "boolean",  [COG_FIELD_INT] = "integer", [COG_FIELD_NUMBER] = "number",
    [COG_FIELD_STRING] = "string", [COG_FIELD_ARRAY] = "array", [COG_FIELD_OBJECT] = "object",
};

/* max_n: of the choices of one request. */
static void write_range(cog_buf *out, const cog_field *f, int max_n)
{
    double max = f->max;

    if (strcmp(f->name, "n") == 0 && max_n < max)
        max = max_n;
    if (f->kind == COG_FIELD_STRING && f->max > 0)
        cog_buf_printf(out, ",\"maxLength\":%.0f", f->max);
    if (f->kind != COG_FIELD_INT && f->kind != COG_FIELD_NUMBER)
        return;
    if (f->min != 0 || f->max != 0)
        cog_buf_printf(out, ",\"%s\":%.17g,\"maximum\":%.17g",
                       f->is_above_min ? "exclusiveMinimum" : "minimum", f->min, max);
    else if (f->kind == COG_FIELD_INT)
        put(out, ",'minimum':-9223372036854775808,'maximum':9223372036854775807");
}

static void write_value(cog_buf *out, const cog_field *f, int max_n)
{
    const char *more = f->schema ? f->schema : "";

    if (f->kind == COG_FIELD_ANY) {
        put(out, f->is_required ? "{" : "{'anyOf':[{");
        put(out, more);
        put(out, f->is_required ? "}" : "},{'type':'null'}]}");
        return;
    }
    put(out, f->is_required ? "{'type':'" : "{'type':['");
    cog_buf_puts(out, json_type[f->kind]);
    put(out, f->is_required ? "'" : "','null']");
    write_range(out, f, max_n);
    if (*more)
        cog_buf_puts(out, ",");
    put(out, more);
    cog_buf_puts(out, "}");
}

/* Only what does no harm is taken: see off in field.h. */
static void write_refused(cog_buf *out, const cog_field *f)
{
    put(out, "{'x-refused':true,");
    switch (f->kind) {
    case COG_FIELD_ARRAY:
        put(out, "'type':['array','null'],'maxItems':0}");
        break;
    case COG_FIELD_OBJECT:
        put(out, "'type':['object','null'],'maxProperties':0}");
        break;
    case COG_FIELD_INT:
    case COG_FIELD_NUMBER:
        if (f->off > -1e299)
            cog_buf_printf(out, "\"enum\":[%.17g,null]}", f->off);
        else
            put(out, "'type':'null'}");
        break;
    default:
        if (f->off == 0 || f->off == 1)
            put(out, f->off == 0 ? "'enum':[false,null]}" : "'enum':[true,null]}");
        else
            put(out, "'type':'null'}");
    }
}

static void write_fields(cog_buf *out, const cog_field_table *table, int max_n, bool *is_first)
{
    for (int i = 0; i < table->n; i++) {
        const cog_field *f = &table->fields[i];

        separate(out, is_first);
        cog_buf_printf(out, "\"%s\":", f->name);
        if (f->use == COG_FIELD_IGNORE)
            put(out, "{'x-ignored':true}");
        else if (f->use == COG_FIELD_REFUSE)
            write_refused(out, f);
        else
            write_value(out, f, max_n);
    }
}

static void write_required(cog_buf *out, const cog_openapi_request *r)
{
    bool is_first = true;

    put(out, "'required':[");
    for (int t = 0; t < 2 && r->tables[t]; t++) {
        for (int i = 0; i < r->tables[t]->n; i++) {
            if (!r->tables[t]->fields[i].is_required)
                continue;
            separate(out, &is_first);
            cog_json_write_string(out, r->tables[t]->fields[i].name);
        }
    }
    cog_buf_puts(out, "]");
}

static void write_request(cog_buf *out, const cog_openapi_request *r, const cog_openapi_server *s)
{
    bool is_first = true;

    cog_buf_printf(out, "\"%s\":", r->name);
    put(out, "{'type':'object',");
    write_required(out, r);
    put(out, ",'properties':{");
    for (int t = 0; t < 2 && r->tables[t]; t++)
        write_fields(out, r->tables[t], r->has_one_choice ? 1 : s->max_n, &is_first);
    cog_buf_puts(out, "}");
    if (s->has_strict && !r->takes_unknown)
        put(out, ",'additionalProperties':false");
    put(out, r->more);
    cog_buf_puts(out, "}");
}

/* ------------------------------------------------------------------ errors */

/* Those that an operation may end with, beside those of its kind. */
static const int statuses[] = { 400, 401, 404, 408, 411, 413, 415, 429, 431, 500, 503, 504 };

enum { N_STATUSES = sizeof(statuses) / sizeof(statuses[0]) };

static bool is_named_before(cog_api_code code)
{
    for (int c = COG_API_NONE + 1; c < (int)code; c++) {
        if (strcmp(cog_api_error_name((cog_api_code)c), cog_api_error_name(code)) == 0)
            return true;
    }
    return false;
}

/* Error400: the codes that come with the status, which have one type. */
static void write_error_schema(cog_buf *out, int status)
{
    const char *type = "";
    bool is_first = true;

    cog_buf_printf(out, "\"Error%d\":", status);
    put(out, "{'type':'object','required':['error'],'properties':{'error':{'type':'object',"
             "'required':['message','type','param','code'],'properties':{"
             "'message':{'type':'string'},'param':{'type':['string','null']},'code':{'enum':[");
    for (int c = COG_API_NONE + 1; c < COG_API_N_CODES; c++) {
        cog_api_code code = (cog_api_code)c;

        if (cog_api_error_status(code) != status || is_named_before(code))
            continue;
        type = cog_api_error_type(code);
        separate(out, &is_first);
        cog_json_write_string(out, cog_api_error_name(code));
    }
    put(out, "]},'type':{'const':");
    cog_json_write_string(out, type);
    cog_buf_puts(out, "}}}}}");
}

static bool has_retry(int status)
{
    for (int c = COG_API_NONE + 1; c < COG_API_N_CODES; c++) {
        if (cog_api_error_status((cog_api_code)c) == status && cog_api_error_retry((cog_api_code)c))
            return true;
    }
    return false;
}

static void put_header(cog_buf *out, const char *name)
{
    cog_buf_printf(out, ",\"%s\":", name);
    put_ref(out, "headers", name);
}

static void put_request_id(cog_buf *out)
{
    put(out, "'headers':{'x-request-id':");
    put_ref(out, "headers", "x-request-id");
}

static void write_error_response(cog_buf *out, int status)
{
    char name[16];

    snprintf(name, sizeof(name), "Error%d", status);
    cog_buf_printf(out, "\"%s\":", name);
    put(out, "{'description':'An error.',");
    put_request_id(out);
    if (status == 429 || status == 503) {
        put_header(out, "Retry-After");
        put_header(out, "retry-after-ms");
    }
    if (status == 401)
        put_header(out, "WWW-Authenticate");
    if (has_retry(status))
        put_header(out, "x-should-retry");
    put(out, "},'content':{'application/json':{'schema':");
    put_ref(out, "schemas", name);
    cog_buf_puts(out, "}}}");
}

static bool may_end_with(const cog_openapi_route *r, const cog_openapi_operation *op,
                         const cog_openapi_server *s, int status)
{
    switch (status) {
    case 401:
        return s->has_keys && !r->is_open;
    case 404:
        return op->has_model || strstr(r->path, "{id}") != NULL;
    case 411:
    case 413:
    case 415:
        return r->is_post;
    case 429:
    case 504:
        return r->is_limited;
    default:
        return true;
    }
}

/* ------------------------------------------------------------------ operations */

/* A 503 that says more than that there is no room. */
static void write_unready(cog_buf *out, const char *schema)
{
    put(out, ",'503':{'description':'Not now.',");
    put_request_id(out);
    put(out, "},'content':{'application/json':{'schema':{'anyOf':[");
    put_ref(out, "schemas", schema);
    cog_buf_puts(out, ",");
    put_ref(out, "schemas", "Error503");
    cog_buf_puts(out, "]}}}}");
}

static void write_stream(cog_buf *out, const cog_openapi_operation *op)
{
    put(out, ",'text/event-stream':{'schema':{'type':'string','description':");
    put(out,
        op->has_named_events ? "'Events with names.'" : "'Events, the last of which is [DONE].'");
    put(out, "},'x-event':{'anyOf':[");
    put_ref(out, "schemas", op->chunk);
    if (!op->has_named_events) {
        cog_buf_puts(out, ",");
        put_ref(out, "schemas", "Error500");
        cog_buf_puts(out, ",");
        put_ref(out, "schemas", "Error504");
    }
    cog_buf_puts(out, "]}}");
}

static void write_success(cog_buf *out, const cog_openapi_route *r, const cog_openapi_operation *op)
{
    put(out, "'200':{'description':'The answer.',");
    put_request_id(out);
    if (r->is_post)
        put_header(out, "x-ignored-parameters");
    if (r->is_work) {
        put_header(out, "openai-processing-ms");
        put_header(out, "Server-Timing");
    }
    put(out, "},'content':{");
    if (op->response) {
        put(out, "'application/json':{'schema':");
        put_ref(out, "schemas", op->response);
        cog_buf_puts(out, "}");
    } else {
        cog_buf_printf(out, "\"%s\":", op->type ? op->type : "text/plain");
        put(out, op->type ? "{}" : "{'schema':{'type':'string'}}");
    }
    if (op->chunk)
        write_stream(out, op);
    cog_buf_puts(out, "}}");
}

static void write_responses(cog_buf *out, const cog_openapi_route *r,
                            const cog_openapi_operation *op, const cog_openapi_server *s)
{
    put(out, "'responses':{");
    write_success(out, r, op);
    for (int i = 0; i < N_STATUSES; i++) {
        char name[16];

        if (!may_end_with(r, op, s, statuses[i]))
            continue;
        if (statuses[i] == 503 && op->unready) {
            write_unready(out, op->unready);
            continue;
        }
        snprintf(name, sizeof(name), "Error%d", statuses[i]);
        cog_buf_printf(out, ",\"%d\":", statuses[i]);
        put_ref(out, "responses", name);
    }
    cog_buf_puts(out, "}");
}

static void write_operation(cog_buf *out, const cog_openapi_route *r,
                            const cog_openapi_operation *op, const cog_openapi_server *s)
{
    cog_buf_printf(out, "\"%s\":{\"operationId\":\"%s\",\"summary\":",
                   r->is_post     ? "post"
                   : r->is_delete ? "delete"
                                  : "get",
                   op->id);
    cog_json_write_string(out, op->summary);
    if (r->is_open)
        put(out, ",'security':[]");
    if (strstr(r->path, "{id}"))
        put(out, ",'parameters':[{'name':'id','in':'path','required':true,"
                 "'schema':{'type':'string'}}]");
    if (op->query) {
        put(out, ",'parameters':[");
        put(out, op->query);
        cog_buf_puts(out, "]");
    }
    if (op->request) {
        put(out, ",'requestBody':{'required':true,'content':{");
        put(out, r->is_form ? "'multipart/form-data':{'schema':" : "'application/json':{'schema':");
        put_ref(out, "schemas", op->request);
        cog_buf_puts(out, "}}}");
    }
    cog_buf_puts(out, ",");
    write_responses(out, r, op, s);
    cog_buf_puts(out, "}");
}

static const cog_openapi_operation *find(const cog_openapi_route *r)
{
    for (const cog_openapi_operation *op = cog_openapi_operations; op->path; op++) {
        if (strcmp(op->path, r->path) == 0 && !op->request == !r->is_post &&
            op->is_delete == r->is_delete)
            return op;
    }
    return NULL;
}

static bool is_path_before(const cog_openapi_server *s, int i)
{
    for (int k = 0; k < i; k++) {
        if (strcmp(s->routes[k].path, s->routes[i].path) == 0)
            return true;
    }
    return false;
}

/* The operations of one address. */
static void write_path(cog_buf *out, const cog_openapi_server *s, const char *path)
{
    bool is_first = true;

    cog_buf_printf(out, "\"%s\":{", path);
    for (int i = 0; i < s->n_routes; i++) {
        const cog_openapi_operation *op = find(&s->routes[i]);

        if (!op || strcmp(s->routes[i].path, path) != 0)
            continue;
        separate(out, &is_first);
        write_operation(out, &s->routes[i], op, s);
    }
    cog_buf_puts(out, "}");
}

static void write_paths(cog_buf *out, const cog_openapi_server *s)
{
    bool is_first = true;

    put(out, "'paths':{");
    for (int i = 0; i < s->n_routes; i++) {
        if (!find(&s->routes[i]) || is_path_before(s, i))
            continue;
        separate(out, &is_first);
        write_path(out, s, s->routes[i].path);
    }
    cog_buf_puts(out, "}");
}

/* ------------------------------------------------------------------ the whole */

static void write_components(cog_buf *out, const cog_openapi_server *s)
{
    put(out, "'components':{'schemas':{'TokenId':{'type':'integer','minimum':0,'maximum':");
    cog_buf_printf(out, "%d},", s->vocab ? s->vocab - 1 : INT32_MAX);
    for (const cog_openapi_schema *schema = cog_openapi_schemas; schema->name; schema++) {
        cog_buf_printf(out, "%s\"%s\":", schema == cog_openapi_schemas ? "" : ",", schema->name);
        put(out, schema->text);
    }
    for (const cog_openapi_request *r = cog_openapi_requests; r->name; r++) {
        cog_buf_puts(out, ",");
        write_request(out, r, s);
    }
    for (int i = 0; i < N_STATUSES; i++) {
        cog_buf_puts(out, ",");
        write_error_schema(out, statuses[i]);
    }
    put(out, "},'responses':{");
    for (int i = 0; i < N_STATUSES; i++) {
        if (i)
            cog_buf_puts(out, ",");
        write_error_response(out, statuses[i]);
    }
    put(out, "},'headers':{");
    put(out, cog_openapi_headers);
    cog_buf_puts(out, "}");
    if (s->has_keys)
        put(out, ",'securitySchemes':{'key':{'type':'http','scheme':'bearer'}}");
    cog_buf_puts(out, "}");
}

void cog_openapi_write(cog_buf *out, const cog_openapi_server *s)
{
    put(out, "{'openapi':'3.1.0','info':{'title':'Cogwheel','version':");
    cog_json_write_string(out, s->version);
    put(out, ",'description':");
    cog_json_write_string(out, cog_openapi_description);
    put(out, ",'license':{'name':'Apache-2.0','identifier':'Apache-2.0'}},");
    if (s->has_keys)
        put(out, "'security':[{'key':[]}],");
    write_paths(out, s);
    cog_buf_puts(out, ",");
    write_components(out, s);
    cog_buf_puts(out, "}");
}

const char *cog_openapi_path(int i)
{
    return cog_openapi_operations[i].path;
}
