/* server.h - HTTP in, HTTP out. One loop thread owns every socket; pictures and large bodies are
 * worked on in the loop's worker pool; the engine is reached through engine/engine.h only. */
#ifndef COG_SERVER_SERVER_H
#define COG_SERVER_SERVER_H

#include "base/err.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_server cog_server;

typedef enum cog_image_sandbox {
    COG_SANDBOX_AUTO,    /* as much of it as this machine allows; says what is missing */
    COG_SANDBOX_REQUIRE, /* all of it, or the server does not open */
    COG_SANDBOX_OFF,     /* decode in this process */
} cog_image_sandbox;

/* Strings and arrays are borrowed for the server's life. */
typedef struct cog_server_config {
    const char *const *listen; /* "HOST:PORT", "[::1]:PORT", "unix:PATH" */
    int n_listen;
    bool insecure;              /* allow an address beyond loopback without API keys */
    const char *metrics_listen; /* where metrics and probes are, and nothing else; NULL: metrics are
                                   where everything is */
    bool metrics_auth;          /* metrics need a key */
    bool metrics_own_only;      /* only our own names, not those of vLLM, HTTP and processes */
    const char *const *served_names; /* names of the model; the first is the one in answers */
    int n_served_names;
    bool any_model;            /* accept every model name */
    const char *api_key_file;  /* see key_file.h; read at open and on SIGHUP; NULL: open */
    int key_rpm, key_tpm;      /* requests and tokens per minute of one key; 0: no limit. Without
                                  keys all clients together count as one */
    int key_concurrent;        /* requests at a time of one key; 0: no limit */
    size_t max_body_bytes;     /* 32 MiB */
    int max_connections;       /* beyond it only probes are answered, anything else gets a 503 */
    size_t max_inflight_bytes; /* of request bodies that are here at a time, >= max_body_bytes; see
                                  body.c */
    int header_timeout_ms, body_idle_timeout_ms, body_timeout_ms, keepalive_timeout_ms;
    int request_timeout_ms; /* from last body byte to the end of the answer; 0: none */
    int drain_delay_ms, drain_timeout_ms;
    int watchdog_ms;               /* age of the engine's heartbeat at which /livez turns 503 */
    int sse_ping_ms;               /* 0: none */
    size_t max_unsent_bytes;       /* of one stream whose reader is slow; beyond it the request is
                                      cancelled */
    int slow_reader_ms;            /* without progress */
    int max_n;                     /* choices of one request */
    int max_images;                /* of one request: 1, more is refused; see image_policy_last */
    bool image_policy_last;        /* take the last picture instead of refusing several */
    bool strict_parameters;        /* refuse unknown fields */
    bool reject_overflow;          /* refuse max_tokens beyond the context instead of clamping */
    cog_template default_template; /* COG_TEMPLATE_DEFAULT: the checkpoint's */
    cog_image_options image;
    const char *const
        *image_domains; /* to fetch pictures from: see fetch_url.h; none: no fetching */
    int n_image_domains;
    const char *const *cors_origins; /* whose pages may ask: see cors.h; none: no page */
    int n_cors_origins;
    const char *media_root; /* of pictures by file: URLs; NULL: none */
    int image_workers;      /* pictures decoded at a time; 0: by the processors, 2 to 4 */
    /* A program whose main hands its arguments to cog_decode_child_main, for helper processes that
     * decode pictures; NULL: there is none, and pictures are decoded in this process. */
    const char *image_helper;
    cog_image_sandbox image_sandbox;
    size_t image_helper_memory; /* address space of one; 0: what the largest picture takes */
    int image_helper_ms;        /* time for one picture, after which its helper is killed */
    size_t image_pixel_cache;   /* bytes of pictures kept decoded; 0: none */
    /* Pictures that clients upload, with their pixels: in all, and of one key; see file_store.h. */
    size_t files_max_bytes, files_key_bytes;
    int files_max_count, files_key_count;
    int files_expiry_ms;    /* how long one stays unless its upload says otherwise; whole seconds */
    const char *files_node; /* begins their ids, where several servers share an address; NULL:
                               nothing does */
    int image_quarantine_ms; /* how long a file that made a helper fail is refused; 0: not */
} cog_server_config;

extern const cog_server_config cog_server_defaults;

/* Whether a file of keys is one. COG_EIO, COG_EFORMAT, COG_ELIMIT; no message holds a key. */
int cog_server_check_keys(const char *path, cog_err *err);

/* Starts the helpers and binds the listeners (so that probes are answered while the model loads).
 * COG_EINVAL or COG_EIO name the address and the remedy; COG_EUNSUPPORTED: no sandbox, and it is
 * required. The calling thread lives as long as the helpers are to. Raises RLIMIT_NOFILE to its
 * hard limit and ignores SIGPIPE. SIGTERM, SIGINT and SIGHUP have handlers from here on and are
 * unblocked in the calling thread; cog_server_run does what they ask. */
int cog_server_open(cog_server **out, const cog_server_config *cfg, cog_err *err);

/* Any thread: the engine has events or a new state. For cog_engine_config.notify. */
void cog_server_wake(void *server);

/* Serves until SIGTERM or SIGINT drained it (returns 0; a second signal stops at once) or the
 * engine failed (returns 1). The engine was opened with cog_server_wake and outlives the call. */
int cog_server_run(cog_server *s, cog_engine *e);

/* The address a listener got ("127.0.0.1:8000"), for port 0 and the start message. NULL beyond the
 * last; a name may have several. Those of the metrics follow the others. Valid until close. */
const char *cog_server_address(const cog_server *s, int idx);
bool cog_server_is_metrics_address(const cog_server *s, int idx);

void cog_server_close(cog_server *s); /* NULL is fine */

#endif
