#include "engine/vision.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

void cog_vision_init(cog_vision *v, cog_forward *forward, const cog_model *model, int max_images,
                     int max_features, int max_cached)
{
    *v = (cog_vision){
        .forward = forward,
        .model = model,
        .max_images = max_images,
        .max_features = max_features,
        .max_cached = max_cached,
    };
}

/* ------------------------------------------------------------------ pictures */

static cog_vision_picture **bucket_of(cog_vision *v, const cog_sha256 *hash)
{
    return &v->bucket[hash->byte[0] % COG_VISION_BUCKETS];
}

static void drop_features(cog_vision *v, cog_vision_picture *p)
{
    if (!p->features)
        return;
    cog_forward_features_give(v->forward, p->features);
    p->features = NULL;
    p->sched.ready = false;
    v->n_features--;
    v->n_changes++;
}

static void forget(cog_vision *v, cog_vision_picture *p)
{
    cog_vision_picture **link = bucket_of(v, &p->hash);

    while (*link != p)
        link = &(*link)->next;
    *link = p->next;
    drop_features(v, p);
    cog_image_free(p->image);
    cog_free(p);
}

static void keep(cog_vision *v, cog_vision_picture *p)
{
    p->older = v->newest;
    p->newer = NULL;
    *(p->older ? &p->older->newer : &v->oldest) = p;
    v->newest = p;
    v->n_cached++;
}

static void keep_no_more(cog_vision *v, cog_vision_picture *p)
{
    *(p->older ? &p->older->newer : &v->oldest) = p->newer;
    *(p->newer ? &p->newer->older : &v->newest) = p->older;
    v->n_cached--;
}

static void forget_oldest(cog_vision *v)
{
    cog_vision_picture *p = v->oldest;

    keep_no_more(v, p);
    forget(v, p);
}

void cog_vision_unref(cog_vision *v, cog_vision_picture *p)
{
    if (!p || --p->refs > 0)
        return;
    if (!p->features || p->is_private || v->max_cached == 0) {
        forget(v, p);
        return;
    }
    cog_image_free(p->image);
    p->image = NULL;
    keep(v, p);
    if (v->n_cached > v->max_cached)
        forget_oldest(v);
}

static cog_vision_picture *find(cog_vision *v, const cog_sha256 *hash, const cog_sha256 *salt)
{
    cog_vision_picture *p = *bucket_of(v, hash);

    while (p && (p->is_private || memcmp(&p->hash, hash, sizeof(*hash)) != 0 ||
                 memcmp(&p->salt, salt, sizeof(*salt)) != 0))
        p = p->next;
    return p;
}

/* One more reference; one of the two images goes. */
static void share(cog_vision *v, cog_vision_picture *p, cog_image *image)
{
    if (p->refs++ == 0) {
        keep_no_more(v, p);
        p->image = image;
    } else {
        cog_image_free(image);
    }
    v->n_shared++;
}

cog_vision_picture *cog_vision_take(cog_vision *v, cog_image *image, const cog_sha256 *salt,
                                    bool is_private, bool *is_new)
{
    cog_vision_picture *p = is_private ? NULL : find(v, &image->hash, salt), **bucket;

    *is_new = !p;
    if (p) {
        share(v, p, image);
        return p;
    }
    bucket = bucket_of(v, &image->hash);
    p = cog_new(cog_vision_picture);
    p->image = image;
    p->hash = image->hash;
    p->salt = *salt;
    p->is_private = is_private;
    p->refs = 1;
    p->next = *bucket;
    *bucket = p;
    return p;
}

/* ------------------------------------------------------------------ a pass */

static void drop_pass(cog_vision *v)
{
    cog_forward_vision_abort(v->forward);
    while (v->n_pass > 0) {
        cog_vision_picture *p = v->pass[--v->n_pass];
        p->sched.in_pass = false;
        v->n_changes++;
        cog_vision_unref(v, p);
    }
}

/* Waits until the device is through; an error was reported before or no longer matters. */
static void quiesce(cog_vision *v)
{
    bool idle;
    uint64_t busy_ns;

    if (v->is_busy)
        (void)v->model->ops->vision_poll(v->model->be, true, &idle, &busy_ns);
    v->is_busy = false;
}

void cog_vision_fini(cog_vision *v)
{
    if (v->forward) {
        quiesce(v);
        drop_pass(v);
    }
    while (v->oldest)
        forget_oldest(v);
    assert(v->n_features == 0);
    *v = (cog_vision){ 0 };
}

/* Features that nobody holds, those let go first first; or those that nobody needs who holds them;
 * or, for a picture whose turn it is, those that are needed after it: otherwise it might wait for
 * ever. */
static bool reclaim(cog_vision *v, const cog_scheduler *s, bool is_its_turn)
{
    if (v->oldest) {
        forget_oldest(v);
        return true;
    }
    for (int i = 0; i < COG_VISION_BUCKETS; i++) {
        for (cog_vision_picture *p = v->bucket[i]; p; p = p->next) {
            bool is_needed = is_its_turn ? p->sched.met == s->n_walks : p->sched.n_waiting > 0;
            if (p->features && !is_needed && !cog_scheduler_uses_features(s, &p->sched)) {
                drop_features(v, p);
                return true;
            }
        }
    }
    return false;
}

/* Of n pictures, how many there is room for. */
static int make_room(cog_vision *v, const cog_scheduler *s, int n)
{
    for (int i = 0; i < n; i++)
        while (v->max_features - v->n_features <= i)
            if (!reclaim(v, s, i == 0))
                return i;
    return n;
}

static int begin_pass(cog_vision *v, cog_scheduler *s, uint64_t now_ns)
{
    cog_picture *wanted[COG_MAX_PASS_IMAGES];
    const uint8_t *rgb[COG_MAX_PASS_IMAGES];
    int n = make_room(v, s, cog_scheduler_pictures(s, now_ns, wanted, v->max_images));

    for (int i = 0; i < n; i++) {
        cog_vision_picture *p = (cog_vision_picture *)wanted[i];
        p->sched.in_pass = true;
        p->began_ns = now_ns;
        v->n_changes++;
        p->refs++;
        v->pass[v->n_pass++] = p;
        rgb[i] = p->image->rgb;
    }
    v->pass_ns = 0;
    v->n_left = v->model->cfg.vision.layers;
    return n > 0 ? cog_forward_vision_begin(v->forward, rgb, n) : 0;
}

static void end_pass(cog_vision *v)
{
    if (v->batch)
        cog_histogram_add(v->batch, v->n_pass);
    for (int i = 0; i < v->n_pass; i++) {
        cog_vision_picture *p = v->pass[i];
        p->features = v->made[i];
        p->sched.ready = true;
        p->encode_ns = v->pass_ns;
        v->n_features++;
        v->n_encoded++;
    }
    drop_pass(v);
}

/* What the device has done since it was last seen idle. */
static int settle(cog_vision *v)
{
    uint64_t busy_ns = 0;
    bool idle = true;
    int rc;

    if (!v->is_busy)
        return 0;
    rc = v->model->ops->vision_poll(v->model->be, false, &idle, &busy_ns);
    if (rc < 0 || !idle)
        return rc;
    v->is_busy = false;
    v->n_slices++;
    v->pass_ns += busy_ns;
    v->slice_ns = busy_ns;
    if (v->slice == 0)
        end_pass(v);
    else
        v->layer_ns = busy_ns / (uint64_t)(v->n_pass * v->slice) + 1;
    return 0;
}

static int enqueue(cog_vision *v, uint64_t slice_ns)
{
    uint64_t layer_ns = v->layer_ns * (uint64_t)v->n_pass;
    uint64_t n = layer_ns ? slice_ns / layer_ns : 1; /* nothing measured yet */
    int before = v->n_left;
    int rc;

    if (before == 0)
        rc = cog_forward_vision_end(v->forward, v->made);
    else
        rc = cog_forward_vision_layers(v->forward,
                                       n < 1                  ? 1
                                       : n > (uint64_t)before ? before
                                                              : (int)n,
                                       &v->n_left);
    if (rc < 0)
        return rc;
    v->slice = before - v->n_left;
    v->slice_ns = layer_ns * (uint64_t)(v->slice ? v->slice : 1);
    v->is_busy = true;
    return 0;
}

static bool is_wanted(const cog_vision *v)
{
    for (int i = 0; i < v->n_pass; i++)
        if (v->pass[i]->refs > 1)
            return true;
    return false;
}

int cog_vision_work(cog_vision *v, cog_scheduler *s, uint64_t now_ns, uint64_t slice_ns)
{
    int rc = settle(v);

    if (rc < 0 || v->is_busy)
        return rc;
    v->slice_ns = 0;
    if (v->n_pass > 0 && !is_wanted(v))
        drop_pass(v);
    if (slice_ns == 0)
        return 0;
    if (v->n_pass == 0)
        rc = begin_pass(v, s, now_ns);
    if (rc == 0 && v->n_pass > 0)
        rc = enqueue(v, slice_ns);
    return rc < 0 ? rc : settle(v);
}
