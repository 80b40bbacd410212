#include "engine/pace.h"

#include "base/alloc.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* Two tables: what n streams take alone, and what r rows of prompts add to whatever streams there
 * are. Both in buckets, eight to a doubling, with the last few samples each, of which the cautious
 * one is believed: the least of the one, the most of the other. What is far from what is believed
 * is no sample, until it comes several times in a row. */
enum {
    PER_OCTAVE = 8,
    HALF_OCTAVE = PER_OCTAVE / 2,
    BUCKETS = 17 * PER_OCTAVE, /* up to 131,071 */
    SAMPLES = 8,
    ALONE_SAMPLES = 5,
    /* ages, in steps with streams, and for `more` in such steps with rows of prompts */
    ALONE_KEPT = 1024, /* of a sample that is still believed */
    ALONE_DUE = 256,   /* when it is measured again */
    MORE_KEPT = 64,
    /* so many steps in a row that took more, or less, than expected: everything has changed. Fewer
     * rows of text than these between two pictures are no change. */
    SLOWER = 3,
    QUICKER = 8,
};

/* The share of the room that is given away: a bucket is an eighth wide at most, so that trying the
 * next larger one stays within the bound, with some noise. */
static const double SHARE = 0.85;

/* A step that differs by more from what was expected counts as drift. */
static const double EXPECTED = 1.25;

typedef struct samples {
    double ns[SAMPLES];
    int n, at;
    double value; /* the one that is believed */
    uint64_t last;
} samples;

struct cog_pace {
    double stretch;
    int max_rows, max_streams;
    uint64_t n_steps, n_mixed;            /* with streams; of these, with rows of prompts */
    uint64_t changed_step, changed_mixed; /* both when the machine or the work changed last */
    int n_slow, n_quick; /* steps in a row that were slower, or quicker, than expected */
    bool had_prompts;    /* the last step with streams */
    samples alone[BUCKETS], more[BUCKETS];
};

cog_pace *cog_pace_new(double stretch, int max_rows, int max_streams)
{
    cog_pace *p = cog_new(cog_pace);

    assert(stretch >= 1.1 && max_rows > 0 && max_streams <= COG_PACE_MAX_STREAMS);
    p->stretch = stretch;
    p->max_rows = max_rows;
    p->max_streams = max_streams;
    return p;
}

void cog_pace_free(cog_pace *p)
{
    cog_free(p);
}

static int bucket_of(int n)
{
    int octave = 31 - __builtin_clz((unsigned)n);
    int bucket = octave * PER_OCTAVE + (int)((((int64_t)n * PER_OCTAVE) >> octave) % PER_OCTAVE);

    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The smallest number of the bucket, rounded up. */
static int number_of(int bucket)
{
    int octave = bucket / PER_OCTAVE, part = PER_OCTAVE + bucket % PER_OCTAVE;

    return (int)((((int64_t)part << octave) + PER_OCTAVE - 1) / PER_OCTAVE);
}

static void push(samples *s, double ns, int max, uint64_t now, uint64_t kept, uint64_t changed)
{
    if (now - s->last > kept || s->last <= changed)
        s->n = s->at = 0; /* of another time */
    s->ns[s->at] = ns;
    s->at = (s->at + 1) % max;
    s->n += s->n < max;
    s->last = now;
}

static bool is_kept(const samples *s, uint64_t now, uint64_t kept)
{
    return s->n > 0 && now - s->last <= kept;
}

/* ------------------------------------------------------------------ streams alone */

static const samples *alone_at(const cog_pace *p, int bucket)
{
    const samples *s = bucket >= 0 && bucket < BUCKETS ? &p->alone[bucket] : NULL;

    return s && is_kept(s, p->n_steps, ALONE_KEPT) ? s : NULL;
}

/* What a step of n streams takes, 0 when nothing is known. Between two known numbers on the line,
 * elsewhere too little rather than too much: n streams take no less than fewer do, nor less than
 * their share of what more take. */
static double alone_ns(const cog_pace *p, int n)
{
    int at = bucket_of(n), low = at, high = at + 1;
    double value;

    while (low >= 0 && !alone_at(p, low))
        low--;
    if (low == at)
        return p->alone[at].value;
    while (high < BUCKETS && !alone_at(p, high))
        high++;
    if (high == BUCKETS)
        return low < 0 ? 0 : p->alone[low].value;
    value = p->alone[high].value;
    if (low < 0)
        return value * n / number_of(high);
    return p->alone[low].value + (value - p->alone[low].value) * (n - number_of(low)) /
                                     (number_of(high) - number_of(low));
}

/* Steps of about n streams alone were not seen for long, or not since things changed. */
static bool is_due(const cog_pace *p, int n)
{
    int at = bucket_of(n);

    for (int b = at - HALF_OCTAVE; b <= at + HALF_OCTAVE; b++) {
        const samples *s = alone_at(p, b);
        if (s && s->last > p->changed_step && p->n_steps - s->last < ALONE_DUE)
            return false;
    }
    return true;
}

static void see_alone(cog_pace *p, int n, double ns)
{
    samples *s = &p->alone[bucket_of(n)];

    push(s, ns, ALONE_SAMPLES, p->n_steps, ALONE_KEPT, p->changed_step);
    s->value = ns;
    for (int i = 0; i < s->n; i++)
        s->value = fmin(s->value, s->ns[i]);
}

/* ------------------------------------------------------------------ prompts beside them */

static bool is_more_kept(const cog_pace *p, int bucket)
{
    return is_kept(&p->more[bucket], p->n_mixed, MORE_KEPT);
}

/* Rows of a picture cost more than rows of text: the dearer count. */
static void see_more(cog_pace *p, int rows, double ns)
{
    samples *s = &p->more[bucket_of(rows)];

    push(s, ns, SAMPLES, p->n_mixed, MORE_KEPT, p->changed_mixed);
    s->value = ns;
    for (int i = 0; i < s->n; i++)
        s->value = fmax(s->value, s->ns[i]);
}

/* The most rows, at least `least`, for which there is room; 0 when not even these are known to fit.
 * What was never seen is tried, twice what is known at most, in proportion: rows have a fixed cost
 * and do not become dearer by being many. Where the fixed cost is nearly all, the proportion would
 * never let them grow, and what was too much once may have become less: so the next bucket is tried
 * whenever what is known about it is old. */
static int rows_for(const cog_pace *p, double room_ns, int least)
{
    int at = BUCKETS - 1, next, rows;
    double known, ratio;

    while (at >= bucket_of(least) && !(is_more_kept(p, at) && p->more[at].value <= room_ns))
        at--;
    if (at < bucket_of(least))
        return 0;
    for (next = at + 1; next < BUCKETS && p->more[next].n == 0;)
        next++;
    known = p->more[at].value;
    rows = number_of(at);
    if (next == BUCKETS)
        rows = known * 2 > room_ns ? (int)(rows * (room_ns / known)) : rows * 2;
    else if (is_more_kept(p, next)) {
        ratio = (room_ns - known) / (p->more[next].value - known);
        rows += (int)(ratio * (number_of(next) - rows));
    }
    if (at + 1 < BUCKETS && !is_more_kept(p, at + 1) && rows < number_of(at + 1))
        rows = number_of(at + 1);
    return number_of(bucket_of(rows));
}

/* Known, and since things changed: buckets that are compared have to be of one time. */
static bool is_comparable(const cog_pace *p, int bucket)
{
    return is_more_kept(p, bucket) && p->more[bucket].last > p->changed_mixed;
}

/* The bucket that is farthest from `at`, half an octave at least; -1 for none. */
static int farthest(const cog_pace *p, int at)
{
    int best = -1;

    for (int b = 0; b < BUCKETS; b++)
        if (is_comparable(p, b) && abs(b - at) >= HALF_OCTAVE &&
            (best < 0 || abs(b - at) > abs(best - at)))
            best = b;
    return best;
}

/* `rows`, for which there is room, or as many more as cost no more than the fixed cost that comes
 * with any, for up to twice the room. Two buckets tell the fixed cost; where only one is known, one
 * step tries the other. */
static int worth_their_cost(const cog_pace *p, int rows, double room_ns, int least)
{
    int at = bucket_of(rows < least ? least : rows), far = farthest(p, at), most;
    double slope, fixed, spent, here = p->more[at].value;

    if (!is_comparable(p, at))
        return rows;
    if (far < 0 && at - HALF_OCTAVE >= bucket_of(least))
        return number_of(at - PER_OCTAVE >= bucket_of(least) ? at - PER_OCTAVE : bucket_of(least));
    if (far < 0)
        return here <= room_ns ? number_of(at + HALF_OCTAVE) : rows;
    slope = (p->more[far].value - here) / (number_of(far) - number_of(at));
    fixed = here - slope * number_of(at);
    spent = fmin(2 * fixed, 2 * room_ns);
    if (slope <= 0 || spent <= fmax(here, room_ns)) /* rows of two kinds, or not worth it */
        return rows;
    most = 2 * number_of(far > at ? far : at);
    if (slope * most > spent - fixed)
        most = (int)((spent - fixed) / slope);
    return most > rows ? number_of(bucket_of(most)) : rows;
}

/* Whether a step was as expected. Forgets, in effect, what was seen before it when it is one more
 * of several that were not: to wait until the old samples are outvoted would take too long, because
 * with a prompt in every step, streams are seldom seen alone. */
static bool is_as_expected(cog_pace *p, double ns, double least, double most)
{
    p->n_slow = ns > most * EXPECTED ? p->n_slow + 1 : 0;
    p->n_quick = ns < least / EXPECTED ? p->n_quick + 1 : 0;
    if (p->n_slow == SLOWER || p->n_quick == QUICKER) {
        p->n_slow = p->n_quick = 0;
        p->changed_step = p->n_steps - 1;
        p->changed_mixed = p->n_mixed - 1;
        return false;
    }
    return p->n_slow + p->n_quick == 0;
}

static void observe_alone(cog_pace *p, int n, double ns)
{
    const samples *s = alone_at(p, bucket_of(n));

    if (!s || is_as_expected(p, ns, s->value, s->value) || s->last <= p->changed_step)
        see_alone(p, n, ns);
}

/* Rows cost at least what fewer do, and at most what more do. */
static void observe_mixed(cog_pace *p, int n, int rows, double ns)
{
    double alone = alone_ns(p, n), least = alone, most = INFINITY;
    int low = bucket_of(rows), high = low;

    if (alone <= 0)
        return;
    while (low >= 0 && !is_comparable(p, low))
        low--;
    while (high < BUCKETS && !is_comparable(p, high))
        high++;
    if (low >= 0)
        least += p->more[low].value;
    if (high < BUCKETS)
        most = alone + p->more[high].value;
    if (is_as_expected(p, ns, least, most))
        see_more(p, rows, ns > alone ? ns - alone : 0);
}

void cog_pace_observe(cog_pace *p, int n_streams, int n_prompt, uint64_t step_ns)
{
    assert(n_streams <= p->max_streams);
    if (n_streams == 0)
        return;
    p->n_steps++;
    p->n_mixed += n_prompt > 0;
    p->had_prompts = n_prompt > 0;
    if (n_prompt > 0)
        observe_mixed(p, n_streams, n_prompt, (double)step_ns);
    else
        observe_alone(p, n_streams, (double)step_ns);
}

static double room_ns(const cog_pace *p, int n_streams)
{
    return SHARE * (p->stretch - 1) * alone_ns(p, n_streams);
}

uint64_t cog_pace_vision_ns(const cog_pace *p, int n_streams, int n_prompt_waiting)
{
    double room;

    if (n_streams == 0)
        return UINT64_MAX;
    if (n_prompt_waiting > 0 && !p->had_prompts)
        return 0;
    room = room_ns(p, n_streams);
    return room > 1 ? (uint64_t)room : 1;
}

int cog_pace_rows(const cog_pace *p, int n_streams, uint64_t vision_ns)
{
    int most = p->max_rows - n_streams, least, rows;
    double room;

    if (n_streams == 0 || most <= 0)
        return most > 0 ? most : 0;
    if (p->had_prompts && is_due(p, n_streams))
        return 0;
    least = most < COG_PACE_MIN_ROWS ? most : COG_PACE_MIN_ROWS;
    room = room_ns(p, n_streams) - (double)vision_ns;
    rows = worth_their_cost(p, rows_for(p, room, least), room, least);
    if (rows == 0 && vision_ns > 0 && p->had_prompts)
        return 0;
    return rows < least ? least : rows > most ? most : rows;
}
