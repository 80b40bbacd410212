/* sim.h - a discrete-event simulation of the engine thread: the real scheduler, queue, prefix
 * index, pages, pace and vision passes, on a machine that only says how long things take.
 *
 * Nothing is computed. A page slot holds, instead of keys and values, a hash of the tokens that its
 * keys and values would depend on: so a page that was lost, overwritten, copied wrongly or found
 * under a wrong name shows. Every invariant is checked after each step; the first that does not
 * hold ends the simulation. Everything follows from the seed. */
#ifndef COG_TESTS_SIM_H
#define COG_TESTS_SIM_H

#include "base/rng.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/pace.h"
#include "engine/scheduler.h"
#include "engine/vision.h"

#include <stdbool.h>
#include <stdint.h>

/* What things take, in microseconds, and how the server is set up. */
typedef struct sim_machine {
    const char *name;
    double step_us;       /* any step */
    double decode_row_us; /* a row of each kind */
    double text_row_us, visual_row_us;
    double visual_us;            /* a step with visual rows: the other expert's weights */
    double layer_us, adapter_us; /* for one picture */
    double lane;                 /* 0: pictures and steps take turns. Otherwise pictures have a lane
                                    of their own, and a step beside a slice takes so much longer */
    int layers, image_tokens;
    int max_images; /* of one vision pass */
    int max_features, max_cached;
    int n_blocks, block, max_seqs, step_tokens;
    double stretch;
} sim_machine;

extern const sim_machine sim_machines[];
extern const int sim_n_machines;

/* Who asks what. Shares are of requests, from 0 to 1; lengths are uniform from min to max. */
typedef struct sim_load {
    double rate;  /* requests per second */
    double burst; /* requests that arrive together, on average; 1: a Poisson process */
    int n_requests;
    int max_queue;
    int text_min, text_max, answer_min, answer_max;
    double pictures;        /* with a picture */
    int n_pictures;         /* to choose from, the first ones more often; 0: always a new one */
    int n_tenants, n_light; /* the last n_light of them send single short texts, see light_every */
    double light_every;     /* seconds between a light tenant's requests */
    double flood;           /* by tenant 0, the others share the rest */
    bool unequal;         /* the last tenant's texts are of the greatest length, the others' not */
    int n_priorities;     /* 1: all equal */
    double common;        /* texts that begin like others do */
    double private_share; /* that share nothing through caches */
    int n_salts;
    double several;               /* that want several answers */
    double cancelled, deadline_s; /* 0: none; deadline_s: of a tenth of them, at random up to it */
} sim_load;

/* What is simulated: the server, or the baseline: first come, first served, prompts whole, pictures
 * whole, no caches, no tenants and priorities. */
typedef enum sim_policy { SIM_SERVER, SIM_BASELINE } sim_policy;

/* Planted mistakes: each is one wrong call around the code under test, and one check finds it. */
typedef enum sim_fault {
    SIM_SOUND,
    SIM_FORGETS_A_REQUEST,
    SIM_ENDS_TWICE,
    SIM_LOSES_A_PAGE,
    SIM_SKIPS_A_COPY,
    SIM_TAKES_ALL,
    SIM_REFUSES_TOO_EARLY,
    SIM_IDLES,
    SIM_LEAVES_PLACES_EMPTY,
    SIM_HAS_NO_PATIENCE,
    SIM_KNOWS_NO_TENANTS,
    SIM_TAKES_WHOLE_PROMPTS,
    SIM_TAKES_WHOLE_PASSES,
    SIM_FORGETS_LEADERS,
    SIM_ENCODES_AGAIN,
    SIM_DROPS_FEATURES,
    SIM_IGNORES_A_CANCEL,
    SIM_N_FAULTS,
} sim_fault;

typedef enum sim_check {
    SIM_HOLDS,
    SIM_ENDS_ONCE,
    SIM_PAGES,
    SIM_CONTENTS,
    SIM_QUEUE,
    SIM_WORK_CONSERVING,
    SIM_STARVATION,
    SIM_LIGHT_TENANT,
    SIM_FAIRNESS,
    SIM_PACE,
    SIM_SINGLE_FLIGHT,
    SIM_FEATURES,
} sim_check;

extern const char *const sim_check_names[];

typedef struct sim_series {
    float *v; /* [n] */
    size_t n, max;
} sim_series;

typedef struct sim_result {
    sim_check broken; /* SIM_HOLDS: nothing was */
    char why[200];
    uint64_t now_ns;
    int n_accepted, n_refused, n_finished, n_cancelled, n_expired;
    uint64_t steps, rows, tokens, preempted, passes, found, looked_up;
    uint64_t visual_rows, pictures, encoded; /* pictures: distinct ones that were prefilled */
    uint64_t mixed, over;       /* steps with streams and more; of them, longer than the bound */
    double worst;               /* of them, time over the bound's */
    sim_series ttft, itl, wait; /* ms */
} sim_result;

/* The result is the caller's: sim_result_free. */
sim_result sim_run(const sim_machine *m, const sim_load *l, sim_policy policy, sim_fault fault,
                   uint64_t seed);
void sim_result_free(sim_result *r);

typedef struct sim_scenario {
    const char *name;
    int machine, n_blocks; /* n_blocks: instead of the machine's, 0: its own */
    sim_load load;
    bool has_room; /* for all pictures' pages and features: each is computed once only */
    bool preempts;
    double stretch; /* instead of the machine's, 0: its own */
} sim_scenario;

void sim_load_fill(sim_load *l); /* lengths and counts that are 0 get a default */

extern const sim_scenario sim_scenarios[];
extern const int sim_n_scenarios;

sim_result sim_run_scenario(const sim_scenario *s, sim_fault fault, uint64_t seed);

/* Sorts. p from 0 to 1; 0 for an empty one. */
double sim_percentile(sim_series *s, double p);

/* ------------------------------------------------------------------ inside */

typedef struct sim_request sim_request;

typedef struct sim_seq {
    cog_sched_seq sched; /* first member */
    sim_request *request;
    int32_t *tokens; /* [limit] */
    uint64_t *hash;  /* [limit] of the tokens up to each, or NULL before its first rows */
    int n_hashed, limit;
    bool has_finished;
    uint64_t token_ns; /* when its last token came; 0: none yet */
} sim_seq;

struct sim_request {
    uint64_t id, tokens_key;
    int tenant, priority, salt, n_text, n_answer, n_choices, common;
    int picture; /* which, or -1 */
    bool is_private, is_light;
    uint64_t arrived_ns, cancel_ns, deadline_ns; /* UINT64_MAX: never */
    /* once accepted */
    cog_vision_picture *features;
    sim_seq *seq;                  /* [n_choices] */
    int n_live, n_ends, n_holders; /* holders: the world's list, and each timer */
    bool was_accepted, has_rows, has_forked;
    uint64_t passed_rows;     /* light: others' rows that were admitted while it waited */
    uint64_t before_rows;     /* of its tenant's live requests when it came */
    sim_request *prev, *next; /* live ones */
};

typedef struct sim_timer {
    uint64_t ns;
    sim_request *request;
} sim_timer;

enum { SIM_MAX_TENANTS = 64 };

typedef struct sim_tenant {
    uint64_t rows;      /* computed */
    uint64_t live_rows; /* of its live requests, if all are computed */
    int n_waiting;
    double base[SIM_MAX_TENANTS]; /* rows more than another's when both began to wait */
    bool is_pair[SIM_MAX_TENANTS];
} sim_tenant;

typedef struct sim_log {
    uint64_t ns, rows; /* rows admitted up to then */
} sim_log;

typedef struct sim_world {
    const sim_machine *m;
    const sim_load *l;
    sim_policy policy;
    sim_fault fault;
    cog_rng rng;
    uint64_t now, next_arrival, next_light;
    int n_arrived;
    uint64_t next_order;
    cog_scheduler sched;
    cog_plan plan;
    cog_pace *pace;
    cog_vision vision;
    cog_model model;
    struct cog_backend_ops ops;
    /* the device */
    int n_images, layers_left;
    uint64_t busy_ns, idle_at;         /* of the slice under way; when the lane is through */
    uint8_t **reserve, *reserve_bytes; /* [max_features]: the first n_given are given out */
    int n_given;
    /* requests */
    sim_request *live;
    int n_live, n_waiting; /* accepted; of them, without rows so far */
    sim_timer *timer;      /* a heap */
    int n_timers, max_timers;
    sim_tenant tenant[SIM_MAX_TENANTS];
    /* what the checks keep */
    uint64_t *contents; /* [n_blocks * block] */
    int *held;          /* [n_blocks] */
    uint8_t *prefilled; /* [n_known] pictures that were */
    size_t n_known;
    sim_log *log; /* [n_log] admissions */
    size_t n_log, max_log;
    uint64_t admitted_rows, n_preempted; /* n_preempted: before this plan */
    uint64_t longest; /* rows of the largest request so far, prompt and answers */
    uint64_t largest_cost;
    sim_result result;
} sim_world;

/* machine.c: the device behind cog_vision, and the time of steps */
void sim_device_init(sim_world *w);
void sim_device_fini(sim_world *w);
double sim_step_us(const sim_machine *m, int n_decode, int n_text, int n_visual);
int sim_visual_rows(const cog_sched_seq *q); /* of those planned */
uint64_t sim_lane_ns(const sim_world *w);    /* when the lane has news; UINT64_MAX: never */

/* load.c: requests */
void sim_load_init(sim_world *w);
uint64_t sim_next_arrival(const sim_world *w);          /* UINT64_MAX: none */
sim_request *sim_arrive(sim_world *w);                  /* the next one */
void sim_request_prepare(sim_world *w, sim_request *r); /* its sequences, when it is accepted */
void sim_request_free(sim_request *r);
uint64_t sim_request_rows(const sim_machine *m, const sim_request *r);

/* check.c. Each says what is broken in w->result, at most once. */
void sim_break(sim_world *w, sim_check check, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void sim_check_init(sim_world *w);
void sim_check_fini(sim_world *w);
void sim_check_submit(sim_world *w, bool was_accepted);
void sim_check_admission(sim_world *w, sim_request *r); /* its first rows are in the plan */
void sim_check_plan(sim_world *w);                      /* before its rows are computed */
void sim_check_step(sim_world *w, uint64_t slice_ns, double step_us, int n_streams);
void sim_check_commit(sim_world *w);          /* rows computed, before tokens are added */
void sim_check_seq(sim_world *w, sim_seq *q); /* holds what it should */
void sim_check_idle(sim_world *w);            /* nothing was done in this round */
void sim_check_end(sim_world *w);

void sim_series_add(sim_series *s, double v);

#endif
