/* fake_engine.h - a test double of engine/engine.h that does what a request's words tell it.
 *
 * The text of the last turn is the script, words separated by spaces:
 *     count=N   N tokens "t0 ", "t1 ", ... instead of repeating the script itself
 *     every=MS  between tokens (default 0)
 *     bytes=N   of each token's text
 *     cut=N     words of the script are tokens of at most N bytes
 *     stamp     tokens say when they were made: "@NS ", CLOCK_MONOTONIC
 *     burst=N   tokens at once (default 1)
 *     first=MS  before the first token
 *     fail=N    END with COG_EDEVICE after N tokens
 *     ambiguous  then with COG_ELIMIT instead
 *     hold      no token until the request is cancelled or its deadline passes
 *     utf8      tokens are not ASCII
 *     stop_token=ID  ended it, when no stop string did
 *     cached=N  tokens of the prompt were found computed
 * A picture is a file that begins with FAKE; "FAKE slow=MS" takes that long to decode;
 * "FAKE width=W height=H" is of that size; other first words name a fault: EMPTY, UNKNOWN, BROKEN,
 * LARGE, SMALL. */
#ifndef COG_TESTS_FAKE_ENGINE_H
#define COG_TESTS_FAKE_ENGINE_H

#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    FAKE_SIDE = 8,
    FAKE_IMAGE_TOKENS = 18,
    FAKE_CONTEXT = 4000,
    FAKE_QUEUE = 4,
    FAKE_SEEN_TOKENS = 8
};

typedef struct fake_seen {
    char text[4096]; /* of the prompt: turns as "query|answer|query", cut */
    cog_template form;
    cog_sampling sampling; /* but for its lists, whose first members are these */
    cog_logit_bias bias[FAKE_SEEN_TOKENS];
    int32_t allowed[FAKE_SEEN_TOKENS];
    int32_t stop_token[COG_MAX_STOP_TOKENS];
    int n_stop_tokens, min_tokens;
    bool ignore_eos, keep_stop, show_controls;
    int n, max_tokens, n_stop, n_prompt, n_image_tokens;
    bool has_image, no_cache, continues_prompt, has_grammar;
    cog_sha256 salt;
    uint64_t tenant;
    int priority;
    uint64_t pin;
} fake_seen;

cog_engine *fake_engine_new(void);
void fake_engine_notify(cog_engine *e, void (*notify)(void *), void *arg);
void fake_engine_set_phase(cog_engine *e, cog_engine_phase phase, double progress);
void fake_engine_set_queue(cog_engine *e, int max_queue); /* before the server runs */
void fake_engine_pause(cog_engine *e, bool is_paused);    /* accepted requests stay in the queue */
void fake_engine_stall(cog_engine *e); /* its thread does nothing more, as if a debugger held it */

/* Counts since the start. */
int fake_engine_accepted(cog_engine *e);
int fake_engine_cancelled(cog_engine *e);
int fake_engine_live(cog_engine *e);
uint64_t fake_engine_unpinned(cog_engine *e); /* the last one; 0: none was */
int fake_engine_take_max_decoding(void);   /* most pictures decoded at a time since the last call */
int fake_engine_decoding(void);            /* pictures being decoded now */
int fake_engine_decoded(void);             /* pictures of the whole program */
fake_seen fake_engine_seen(cog_engine *e); /* the last accepted request */
fake_seen fake_engine_seen_before(cog_engine *e); /* the one before it */

#endif
