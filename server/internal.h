/* internal.h - what the files of server/ share. Everything here belongs to the loop thread, except
 * where a comment says otherwise.
 *
 *     connection (http.c)   a socket, from accept to close; its read deadlines
 *     exchange (exchange.c) one request on it, from its first line until the answer is sent
 *     job (generate.h)      the work behind an exchange: workers, pool, engine, events
 *
 * An exchange lives until its connection, its pool work and its engine request have all let go: the
 * client may leave while the other two still run. */
#ifndef COG_SERVER_INTERNAL_H
#define COG_SERVER_INTERNAL_H

#include "base/buf.h"
#include "base/sha256.h"
#include "proto/api_error.h"
#include "proto/openapi.h"
#include "server/head.h"
#include "server/grammars.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/outflow.h"
#include "server/picture/decoder.h"
#include "server/picture/fetch.h"
#include "server/picture/file_store.h"
#include "server/picture/media_file.h"
#include "server/process.h"
#include "server/record.h"
#include "server/server.h"
#include "server/workers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct MHD_Connection;
struct MHD_Daemon;

typedef struct cog_exchange cog_exchange;

enum {
    COG_MAX_SHARDS = 32,
    COG_MAX_REPLY_HEADERS = 10,
    COG_PROBE_CONNECTIONS = 64, /* beyond max_connections, read for the sake of probes */
    COG_ID_SIZE = 129,          /* bytes of a request id with its NUL */
    COG_ALLOW_SIZE = 32,        /* bytes of the methods of an address */
};

/* ------------------------------------------------------------------ connections */

typedef enum cog_conn_phase {
    COG_CONN_NEW,  /* nothing of a request seen */
    COG_CONN_IDLE, /* between two requests */
    COG_CONN_HEAD,
    COG_CONN_BODY,
    COG_CONN_PAUSED, /* in a body that finds no room: no read deadline */
    COG_CONN_BUSY,   /* the request is complete: no read deadline */
} cog_conn_phase;

typedef struct cog_conn {
    struct cog_conn *prev, *next;
    cog_server *server;
    int fd;        /* MHD's: shut down here, never closed */
    bool is_extra; /* beyond max_connections when it came */
    cog_conn_phase phase;
    uint64_t phase_ns, body_ns; /* when the phase began; when body bytes last came */
} cog_conn;

/* ------------------------------------------------------------------ answers */

typedef struct cog_reply {
    int status; /* 0: none yet */
    const char *type;
    cog_buf body;
    cog_file *file; /* a reference: its bytes are the body; NULL: body is */
    int n_headers;
    struct {
        const char *name; /* static */
        char *value;      /* owned */
    } header[COG_MAX_REPLY_HEADERS];
} cog_reply;

void cog_reply_header(cog_reply *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ------------------------------------------------------------------ exchanges */

typedef struct cog_route {
    const char *path;                /* after "/v1" where has_v1 */
    bool has_v1;                     /* also below /v1 */
    bool is_prefix;                  /* path continues with a name */
    bool is_open;                    /* without a key; also where metrics are */
    bool is_metrics;                 /* may need a key, and may be only there */
    bool is_preflight;               /* of browsers: found by its head, whatever its path */
    const char *suffix;              /* what follows that name; NULL: nothing */
    bool is_post;                    /* POST with a JSON body; else GET and HEAD */
    bool is_form;                    /* or with a form's */
    bool is_delete;                  /* DELETE and no other */
    bool needs_engine;               /* refused while loading or draining */
    bool is_limited;                 /* counts against the limits of its key, and needs a place */
    bool is_work;                    /* the same, and asks for an answer: queued, counted */
    void (*begin)(cog_exchange *x);  /* the request is complete: reply now or later */
    void (*fini)(cog_exchange *x);   /* frees x->job; NULL: has none */
    void (*expire)(cog_exchange *x); /* its time is up, fails what is not ready; NULL: all of it */
    /* Ends x->out, a stream that has begun, with an error; NULL: as OpenAI's chats do. */
    void (*fail_stream)(cog_exchange *x, const cog_api_error *err);
    void (*cancel)(
        cog_exchange *x); /* the client left, or the server gave up; NULL: nothing runs */
} cog_route;

struct cog_watch;

struct cog_exchange {
    cog_exchange *prev, *next;
    int refs;
    cog_server *server;
    int shard;
    cog_conn *conn;
    struct MHD_Connection *mhd; /* NULL once the connection let go */
    struct cog_watch *watch;

    char id[COG_ID_SIZE];
    bool has_client_id; /* from the X-Request-Id header */
    char *target;       /* owned: the request target as sent */
    const cog_route *route;
    const char *name;   /* after a prefix route's path: a view of target */
    cog_client *client; /* whose limits it counts against; NULL on open routes */
    bool is_counted;    /* among those that the client has running */
    char key[9];        /* beginning of the key's digest, for logs */
    cog_head head;
    cog_api_error verdict; /* what the head or the body's size earned; answered after the body */

    cog_buf body;
    uint64_t n_body, n_dropped; /* bytes */
    size_t reserved;            /* bytes of the budget beside the body */
    bool is_short;              /* its body found no room at least once */
    size_t paused_len;          /* bytes that wait for room; 0: none do */
    uint64_t paused_ns;

    bool is_begun, is_suspended, is_queued, is_finished;
    bool is_gone; /* the client left, or the server gave the request up: nothing more to send */
    uint64_t start_ns, begin_ns;
    uint64_t deadline_ns;        /* UINT64_MAX: none */
    uint64_t wrote_ns, taken_ns; /* when stream bytes were last added, and taken by MHD */

    cog_reply reply;
    bool is_stream;    /* answered, or to be answered, with a stream */
    bool is_streaming; /* status and headers are decided */
    bool is_stream_done;
    cog_buf out;  /* stream bytes not taken yet */
    int answered; /* HTTP status; see cog_exchange_status */
    cog_record record;

    void *job; /* the route's */
};

cog_exchange *cog_exchange_new(cog_server *s, const char *target);
void cog_exchange_ref(cog_exchange *x);
void cog_exchange_unref(cog_exchange *x);

/* Answers with the error: as the reply, or inside the stream when that has begun. Does nothing for
 * an exchange that was answered or whose client left. */
void cog_exchange_fail(cog_exchange *x, const cog_api_error *err);
void cog_exchange_fail_code(cog_exchange *x, cog_api_code code);

/* Answers with x->reply, whose status is set. */
void cog_exchange_reply(cog_exchange *x);

/* The stream has bytes, or its end: sends them. Cuts a reader that lets too many pile up. */
void cog_exchange_send(cog_exchange *x);

/* Nothing more is sent: cancels the work and closes the connection. */
void cog_exchange_abandon(cog_exchange *x);

/* The HTTP status that the client has had; 499 when it left before. */
int cog_exchange_status(const cog_exchange *x);

/* ------------------------------------------------------------------ the server */

typedef struct cog_shard {
    cog_server *server;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    bool is_dirty;
    bool is_metrics; /* only metrics and probes are here */
} cog_shard;

typedef struct cog_listener {
    struct cog_listener *next;
    cog_server *server;
    int fd;                                 /* -1: closed */
    bool is_polled, is_metrics, is_resting; /* resting: until descriptors are there again */
    uv_poll_t poll;
    char address[160];
    char *unix_path; /* owned; to be removed at close */
} cog_listener;

typedef enum cog_server_phase {
    COG_SERVER_SERVING,
    COG_SERVER_DELAY,    /* told to stop; still accepting, so that balancers notice */
    COG_SERVER_DRAINING, /* running requests finish */
    COG_SERVER_ENDING,   /* every request was ended; answers are flushed */
} cog_server_phase;

enum { COG_ID_BYTES = 12 };

typedef struct cog_id_pool {
    unsigned char bytes[64 * COG_ID_BYTES];
    size_t left; /* bytes not used, at the beginning */
} cog_id_pool;

struct cog_server {
    cog_server_config cfg; /* immutable after open: any thread */
    cog_client **clients;  /* one for each key */
    int n_clients;
    cog_client *everybody;                 /* on a server without keys; else NULL */
    bool is_reading_keys, is_reading_late; /* late: the file is to be read once more after that */
    int64_t created;                       /* Unix seconds */
    uint64_t open_ns;

    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t sweep;
    uv_signal_t term, interrupt, hangup;
    cog_shard shards[COG_MAX_SHARDS + 1];
    int n_shards; /* the one for metrics, if there is one, is last */
    int next_shard;
    cog_listener *listeners; /* in the order of the configuration; those for metrics last */
    uint64_t shortage_ns; /* when descriptors or memory last lacked for a connection; 0: never, or
                             that is over */
    uint64_t n_shortages; /* connections for which they lacked */
    int spare_fd;         /* given up to refuse a connection when descriptors are out */

    cog_engine *engine; /* while run runs */
    char fingerprint[32];
    cog_grammars *grammars;

    cog_conn *conns;
    cog_exchange *exchanges;
    cog_id_pool ids;
    int n_open;          /* connections */
    int n_metrics_open;  /* to the address for metrics; not among n_open */
    int n_submitted;     /* engine requests without END */
    int n_working;       /* jobs in the pool or the decoder */
    int n_preparing;     /* admitted requests whose pictures are being decoded */
    int n_parsing;       /* requests whose JSON is being read */
    size_t inflight;     /* bytes of bodies that are here */
    int n_short;         /* bodies that found no room at least once */
    int n_paused;        /* bodies that wait for room */
    uint64_t used_up_ns; /* when a body's bytes were last given back, or the first began to wait */
    cog_workers *workers;
    cog_decoder *decoder;
    cog_fetcher *fetcher; /* NULL: pictures are not fetched */
    cog_media_root media;
    cog_file_store *files;
    uint64_t next_id;
    uint64_t submitted_ns; /* when n_submitted last left 0 */
    cog_outflow outflow;   /* of the engine */

    cog_metrics metrics;
    cog_process process;

    cog_server_phase phase;
    uint64_t phase_ns;
    bool has_failed;
};

/* http.c */
int cog_http_open(cog_server *s, cog_err *err);
void cog_http_close(cog_server *s); /* no exchange is suspended */
void cog_http_add(const cog_listener *l, int fd, const struct sockaddr *addr, socklen_t len);
void cog_http_resume(cog_exchange *x); /* if it is suspended; flush does the work */
void cog_http_cut(cog_exchange *x);    /* ends its connection, whatever it waits for */
void cog_http_flush(cog_server *s);    /* after resumes; never from inside MHD's callbacks */
void cog_http_watch(cog_exchange *x);  /* notices the client leaving, until completion */
void cog_http_refuse(int fd, cog_api_code code); /* a whole answer by hand, for a socket outside
                                        MHD's care or whose request never became complete */

/* body.c: bytes of bodies, within a budget */
bool cog_body_admit(const cog_exchange *x); /* there is room for what its head announces */
/* False: there is no room; x is paused, and resumed when it may be tried again. */
bool cog_body_take(cog_exchange *x, const char *data, size_t len);
/* Counts bytes that the request has brought from elsewhere, until its body is dropped; false when
 * there is no room for them. */
bool cog_body_reserve(cog_exchange *x, size_t bytes);
void cog_body_drop(cog_exchange *x); /* gives the body's memory back; ends a pause */
/* The same, but the body's bytes, and no more memory than they take, become the caller's. */
char *cog_body_detach(cog_exchange *x);
void cog_body_sweep(cog_server *s, uint64_t now);

/* listen.c */
/* On all addresses of a name. */
int cog_listen(cog_server *s, const char *spec, bool is_metrics, cog_err *err);
void cog_listen_sweep(cog_server *s, uint64_t now);
void cog_listener_start(cog_listener *l);
void cog_listener_stop(cog_listener *l);

/* sweep.c: deadlines of connections and streams */
unsigned cog_sweep_period_ms(const cog_server_config *cfg);
void cog_sweep_run(cog_server *s);

/* route.c */
bool cog_route_is_open(const cog_server *s, const cog_route *r);
const cog_route *cog_route_find(cog_exchange *x, cog_api_error *err);
/* Routes have numbers from 0; one more stands for an address that is none. */
int cog_route_count(void);                    /* with that one; at most COG_MAX_HANDLERS */
int cog_route_index(const cog_route *r);      /* NULL is none */
void cog_route_name(char dst[64], int index); /* "/v1/models/{id}", "none" */
bool cog_route_is_limited(const cog_route *r);
/* The methods that the route's address takes: "POST", "GET, HEAD, DELETE". */
void cog_route_allow(char dst[COG_ALLOW_SIZE], const cog_route *r);

/* Those of the address for requests, for their description; how many. */
int cog_route_describe(cog_openapi_route out[COG_MAX_HANDLERS], const cog_server *s);

/* auth.c */
int cog_auth_open(cog_server *s, cog_err *err);
/* Reads the key file again, in the pool; the old keys stay until then, and when it is bad. */
void cog_auth_reload(cog_server *s);
void cog_auth_close(cog_server *s);
/* Whose the request is; NULL when it may not be here. */
cog_client *cog_auth_find(const cog_server *s, const cog_head *head, cog_api_error *err);
/* The client's limits let it begin; false with the refusal. */
bool cog_auth_count(cog_exchange *x, cog_api_error *err);
/* They have room for the prompt. */
bool cog_auth_count_prompt(cog_exchange *x, int n_tokens, cog_api_error *err);

/* chat.c */
void cog_chat_begin(cog_exchange *x);

/* batch.c */
void cog_batch_begin(cog_exchange *x);

/* completions.c */
void cog_completions_begin(cog_exchange *x);

/* responses.c */
void cog_responses_begin(cog_exchange *x);
void cog_responses_fail_stream(cog_exchange *x, const cog_api_error *err);

/* tokens.c */
void cog_tokens_tokenize(cog_exchange *x);
void cog_tokens_detokenize(cog_exchange *x);
void cog_tokens_count(cog_exchange *x);          /* of a chat */
void cog_tokens_count_response(cog_exchange *x); /* of what a response answers */
void cog_tokens_fini(cog_exchange *x);

/* admin.c */
void cog_admin_models(cog_exchange *x);
void cog_admin_model(cog_exchange *x);
void cog_admin_version(cog_exchange *x);
void cog_admin_openapi(cog_exchange *x);
void cog_admin_livez(cog_exchange *x);
void cog_admin_readyz(cog_exchange *x);
void cog_admin_health(cog_exchange *x);
void cog_admin_metrics(cog_exchange *x);

/* status.c: what the server can say about itself */
bool cog_status_check(cog_server *s, cog_api_error *err); /* false: loading, draining or failed */
bool cog_status_has_room(const cog_server *s, int n);     /* for n more requests; needs READY */
int cog_status_retry_ms(cog_server *s);                   /* estimate for a full queue */
void cog_status_text(cog_server *s, cog_api_code code, cog_api_error *err); /* standard text */

/* Changes with weights, numbers, backend and version. */
const char *cog_status_fingerprint(cog_server *s);

extern const char cog_commit[]; /* of the sources, for people; "unknown" */

/* Any thread: internal_error, with the id that the log has. */
void cog_status_fail(cog_api_error *err, const char *id);

/* A new id: "req_" and 24 hex digits. pool holds random bytes for the next ones, because drawing
 * them costs more than all else here; NULL: draws for this one alone. */
void cog_id_new(char id[COG_ID_SIZE], cog_id_pool *pool);

#endif
