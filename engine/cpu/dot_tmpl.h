/* dot_tmpl.h - products and attention for one way of multiplying, on the vectors of a
 * simd_*_tmpl.h. Included once per way with
 *
 *   NAME     adds the way's suffix
 *   T        the element type
 *   PAIR     elements in a 32-bit unit: consecutive k (or slots) side by side, 1 or 2
 *   A, B     what ACC takes: a unit spread over all lanes, and VL units
 *   A_SET(w) A from a unit
 *   B_OF(v)  B from a vu
 *   ACC(acc, a, b)  acc + a * b, the unit's elements in order
 *   STORE, STORE_N  floats to elements
 *   MICRO_ROWS      rows of a micro-tile, 4 or 6, as registers allow
 *   MIX_V           vectors of a value row taken at a time, 8
 *
 * All loops count units. An output element's operations are the same in every shape of micro-tile,
 * so results do not depend on how rows are grouped. */

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    NAME(PANEL_V) = COG_PANEL / VL, /* vectors */
    NAME(TILE_V) = COG_TILE / VL,
    NAME(STEP_V) = COG_ATTN_STEP / VL,
    NAME(PIECE) = 32,              /* units of k: 8 KiB of a panel */
    NAME(WIDE) = VL == 16 ? 4 : 2, /* vectors of a micro-tile: rows x wide of 32 or 16 registers */
};

SIMD uint32_t NAME(unit)(const T *p)
{
    uint32_t u;

    memcpy(&u, p, sizeof(u));
    return u;
}

/* The last unit of an odd count: its second element does not exist. */
SIMD uint32_t NAME(half_unit)(const T *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof(h));
    return h;
}

/* ---- products ---- */

SIMD void NAME(gemm_step)(vf *c, int rows, int wide, const T *a, size_t lda, bool half,
                          const uint32_t *w)
{
    B b[NAME(PANEL_V)];

    UNROLL
    for (int v = 0; v < wide; v++)
        b[v] = B_OF(u_load(w + v * VL));
    UNROLL
    for (int r = 0; r < rows; r++) {
        const T *p = a + (size_t)r * lda;
        A s = A_SET(half ? NAME(half_unit)(p) : NAME(unit)(p));
        UNROLL
        for (int v = 0; v < wide; v++)
            c[r * wide + v] = ACC(c[r * wide + v], s, b[v]);
    }
}

/* rows x (wide * VL) outputs; rows and wide are constants after inlining. */
SIMD void NAME(gemm_tile)(float *acc, const T *a, size_t lda, int rows, int wide, const uint32_t *w,
                          int k, bool add)
{
    vf c[MICRO_ROWS * NAME(PANEL_V)];

    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < wide; v++)
            c[r * wide + v] = add ? v_load(acc + r * COG_PANEL + v * VL) : v_zero();
    }
    for (int u = 0; u < k / PAIR; u++, w += COG_PANEL)
        NAME(gemm_step)(c, rows, wide, a + u * PAIR, lda, false, w);
    if (k % PAIR)
        NAME(gemm_step)(c, rows, wide, a + k - 1, lda, true, w);
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < wide; v++)
            v_store(acc + r * COG_PANEL + v * VL, c[r * wide + v]);
    }
}

SIMD void NAME(gemm_rows)(float *acc, const T *a, size_t lda, int rows, const uint32_t *w, int k,
                          bool add)
{
    for (int v = 0; v < NAME(PANEL_V); v += NAME(WIDE))
        NAME(gemm_tile)(acc + v * VL, a, lda, rows, NAME(WIDE), w + v * VL, k, add);
}

/* Fewer rows than a micro-tile, of which the panel is too wide: row by row over short pieces, so
 * that memory is read in order, which the hardware's prefetcher needs, and the other rows find the
 * piece in L1. */
static void NAME(gemm_pieces)(float *acc, const T *a, size_t lda, int rows, const uint32_t *w,
                              int k, bool add)
{
    for (int first = 0; first < k; first += NAME(PIECE) * PAIR, w += NAME(PIECE) * COG_PANEL) {
        int n = k - first < NAME(PIECE) * PAIR ? k - first : NAME(PIECE) * PAIR;
        for (int r = 0; r < rows; r++)
            NAME(gemm_tile)
        (acc + r * COG_PANEL, a + (size_t)r * lda + first, lda, 1, NAME(PANEL_V), w, n,
         add || first > 0);
    }
}

static void NAME(gemm)(float *acc, const void *a_, size_t lda, int rows, const void *panel, int k,
                       bool add)
{
    const T *a = a_;

    if (NAME(WIDE) < NAME(PANEL_V)) {
        int few = rows <= 8 ? rows : rows % MICRO_ROWS;
        NAME(gemm_pieces)(acc, a, lda, few, panel, k, add);
        acc += few * COG_PANEL;
        a += (size_t)few * lda;
        rows -= few;
    }
    for (; rows >= MICRO_ROWS; rows -= MICRO_ROWS) {
        NAME(gemm_rows)(acc, a, lda, MICRO_ROWS, panel, k, add);
        acc += MICRO_ROWS * COG_PANEL;
        a += MICRO_ROWS * lda;
    }
    if (NAME(WIDE) < NAME(PANEL_V))
        return;
    switch (rows) {
    case 1:
        NAME(gemm_rows)(acc, a, lda, 1, panel, k, add);
        break;
    case 2:
        NAME(gemm_rows)(acc, a, lda, 2, panel, k, add);
        break;
    case 3:
        NAME(gemm_rows)(acc, a, lda, 3, panel, k, add);
        break;
    case 4:
        NAME(gemm_rows)(acc, a, lda, 4, panel, k, add);
        break;
    case 5:
        NAME(gemm_rows)(acc, a, lda, 5, panel, k, add);
        break;
    }
}

/* ---- attention ---- */

/* score[r][COG_ATTN_STEP] += q[r] * K^T for wide vectors of slots; all tiles of K are read with one
 * q unit in a register. tile[t]: K tiles in the step. */
SIMD void NAME(score_tile)(float *score, const T *const *q, int rows, int tiles,
                           const uint32_t *const *tile, int head_dim)
{
    vf c[MICRO_ROWS * NAME(STEP_V)];
    int wide = tiles * NAME(TILE_V);

    UNROLL
    for (int i = 0; i < rows * wide; i++)
        c[i] = v_zero();
    for (int d = 0; d < head_dim; d += PAIR) {
        B b[NAME(STEP_V)];
        UNROLL
        for (int v = 0; v < wide; v++)
            b[v] =
                B_OF(u_load(tile[v / NAME(TILE_V)] + d / PAIR * COG_TILE + v % NAME(TILE_V) * VL));
        UNROLL
        for (int r = 0; r < rows; r++) {
            A s = A_SET(d + PAIR > head_dim ? NAME(half_unit)(q[r] + d) : NAME(unit)(q[r] + d));
            UNROLL
            for (int v = 0; v < wide; v++)
                c[r * wide + v] = ACC(c[r * wide + v], s, b[v]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < wide; v++)
            v_store(score + r * COG_ATTN_STEP + v * VL, c[r * wide + v]);
    }
}

SIMD void NAME(score_rows)(float *score, const T *const *q, int rows, int tiles,
                           const uint32_t *const *tile, int head_dim)
{
    /* One row is bound by memory, which a walk over four tiles at a time would read 4 KiB apart and
     * a third slower. */
    if (rows > 1 && tiles == COG_ATTN_STEP / COG_TILE && NAME(WIDE) == NAME(STEP_V)) {
        NAME(score_tile)(score, q, rows, COG_ATTN_STEP / COG_TILE, tile, head_dim);
        return;
    }
    for (int t = 0; t < tiles; t++)
        NAME(score_tile)(score + t * COG_TILE, q, rows, 1, tile + t, head_dim);
}

static void NAME(scores)(float *score, const T *const *q, int rows, int tiles,
                         const uint32_t *const *tile, int head_dim)
{
    switch (rows) {
#if MICRO_ROWS > 4
    case 6:
        NAME(score_rows)(score, q, 6, tiles, tile, head_dim);
        break;
    case 5:
        NAME(score_rows)(score, q, 5, tiles, tile, head_dim);
        break;
#endif
    case 4:
        NAME(score_rows)(score, q, 4, tiles, tile, head_dim);
        break;
    case 3:
        NAME(score_rows)(score, q, 3, tiles, tile, head_dim);
        break;
    case 2:
        NAME(score_rows)(score, q, 2, tiles, tile, head_dim);
        break;
    case 1:
        NAME(score_rows)(score, q, 1, tiles, tile, head_dim);
        break;
    }
}

/* Turns n <= COG_ATTN_STEP scores into weights, in place as units; updates maximum and sum. Returns
 * what the row's earlier result is to be multiplied by. */
SIMD float NAME(weigh)(float *score, int n, float scale, float *max, float *sum)
{
    vf s[NAME(STEP_V)], top = v_set(*max);
    vf least = v_set(-INFINITY), total = v_zero();

    UNROLL
    for (int v = 0; v < NAME(STEP_V); v++) {
        s[v] = v_first_or(v_mul(v_load(score + v * VL), v_set(scale)), n - v * VL, least);
        top = v_max(s[v], top);
    }
    float new_max = v_largest(top), keep = 1;
    if (new_max != *max)
        keep = v_lane0(v_exp(v_set(*max - new_max)));
    UNROLL
    for (int v = 0; v < NAME(STEP_V); v++) {
        s[v] = v_first_or(v_exp(v_sub(s[v], v_set(new_max))), n - v * VL, v_zero());
        total = v_add(total, s[v]);
        STORE((T *)(void *)score + v * VL, s[v]);
    }
    *sum = *sum * keep + v_sum(total);
    *max = new_max;
    return keep;
}

/* out[wide vectors of dimensions] = keep * out + weights * V over n slots; the last vector has m
 * lanes. A slot past the last may hold anything, and a weight of 0 would not stop a NaN: the half
 * unit is cut from V as well. */
SIMD void NAME(mix_tile)(float *out, int wide, int m, float keep, const char *weight, int n,
                         const uint32_t *const *tile, size_t dim)
{
    vf c[MIX_V];

    UNROLL
    for (int v = 0; v < wide; v++)
        c[v] = v_mul(v_load(out + v * VL), v_set(keep));
    for (int first = 0; first < n; first += COG_TILE, tile++, weight += COG_TILE / PAIR * 4) {
        int slots = n - first < COG_TILE ? n - first : COG_TILE;
        const uint32_t *row = *tile;
        int u = 0;
        for (; u < slots / PAIR; u++, row += dim) {
            A s = A_SET(NAME(unit)((const T *)(weight + 4 * u)));
            UNROLL
            for (int v = 0; v < wide; v++)
                c[v] = ACC(c[v], s,
                           B_OF(v + 1 < wide ? u_load(row + v * VL) : u_load_n(row + v * VL, m)));
        }
        if (slots % PAIR) {
            A s = A_SET(NAME(half_unit)((const T *)(weight + 4 * u)));
            UNROLL
            for (int v = 0; v < wide; v++) {
                vu raw = v + 1 < wide ? u_load(row + v * VL) : u_load_n(row + v * VL, m);
                c[v] = ACC(c[v], s, B_OF(u_and(raw, u_set(0xffff))));
            }
        }
    }
    UNROLL
    for (int v = 0; v < wide; v++)
        v_store(out + v * VL, c[v]);
}

static void NAME(mix)(float *out, int head_dim, float keep, const char *weight, int n,
                      const uint32_t *const *tile)
{
    size_t dim = (size_t)((head_dim + 1) & ~1);
    const uint32_t *at[COG_ATTN_STEP / COG_TILE];

    for (int d = 0; d < head_dim; d += MIX_V * VL) {
        int vectors = (head_dim - d + VL - 1) / VL;
        int m = head_dim - d - (vectors - 1) * VL;
        for (int t = 0; t < COG_ATTN_STEP / COG_TILE && t * COG_TILE < n; t++)
            at[t] = tile[t] + d;
        switch (vectors) {
#define WIDTH(v)                                                 \
    case v:                                                      \
        NAME(mix_tile)(out + d, v, m, keep, weight, n, at, dim); \
        break;
            WIDTH(1)
            WIDTH(2)
            WIDTH(3)
            WIDTH(4)
            WIDTH(5)
            WIDTH(6)
            WIDTH(7)
#undef WIDTH
        default:
            NAME(mix_tile)(out + d, MIX_V, vectors == MIX_V ? m : VL, keep, weight, n, at, dim);
        }
    }
}

/* A call's scratch, per query row. */
typedef struct NAME(state) {
    float *out; /* [rows, dim]: weighted sum of values, not yet divided by sum */
    size_t dim; /* head_dim rounded up to whole vectors */
    float *score;
    float *max, *sum;
} NAME(state);

/* The slots first .. first + COG_ATTN_STEP - 1 for a few rows. */
static void NAME(attention_step)(const NAME(state) * st, const T *const *q, const int32_t *slots,
                                 int row, int rows, int first, int tiles, int head_dim, float scale,
                                 const cog_kv_view *kv)
{
    const uint32_t *k[COG_ATTN_STEP / COG_TILE], *v[COG_ATTN_STEP / COG_TILE];

    for (int t = 0; t < tiles; t++) {
        size_t at = cog_kv_tile_at(kv, first / COG_TILE + t);
        k[t] = (const uint32_t *)(kv->k + at);
        v[t] = (const uint32_t *)(kv->v + at);
    }
    NAME(scores)(st->score, q + row, rows, tiles, k, head_dim);
    for (int r = row; r < row + rows; r++) {
        int n = slots[r] - first < COG_ATTN_STEP ? slots[r] - first : COG_ATTN_STEP;
        float *score = st->score + (r - row) * COG_ATTN_STEP;
        if (n <= 0)
            continue;
        float keep = NAME(weigh)(score, n, scale, &st->max[r], &st->sum[r]);
        NAME(mix)(st->out + (size_t)r * st->dim, head_dim, keep, (const char *)score, n, v);
    }
}

static void NAME(attention)(void *const *out, const void *const *q_, const int32_t *slots, int rows,
                            int head_dim, float scale, const cog_kv_view *kv, float *scratch)
{
    const T *const *q = (const T *const *)q_;
    NAME(state) st = { .out = scratch, .dim = (size_t)((head_dim + 15) & ~15) };
    int last = 0;

    st.score = st.out + COG_ATTN_ROWS * st.dim;
    st.max = st.score + COG_ATTN_ROWS * COG_ATTN_STEP;
    st.sum = st.max + COG_ATTN_ROWS;
    memset(st.out, 0, (size_t)rows * st.dim * sizeof(float));
    for (int r = 0; r < rows; r++) {
        st.max[r] = -INFINITY;
        st.sum[r] = 0;
        last = slots[r] > last ? slots[r] : last;
    }
    for (int first = 0; first < last; first += COG_ATTN_STEP) {
        int n = last - first < COG_ATTN_STEP ? last - first : COG_ATTN_STEP;
        for (int r = 0; r < rows; r += MICRO_ROWS)
            NAME(attention_step)
        (&st, q, slots, r, rows - r < MICRO_ROWS ? rows - r : MICRO_ROWS, first,
         (n + COG_TILE - 1) / COG_TILE, head_dim, scale, kv);
    }
    for (int r = 0; r < rows; r++) {
        for (int d = 0; d < head_dim; d += VL) {
            vf y = v_div(v_load(st.out + (size_t)r * st.dim + d), v_set(st.sum[r]));
            if (head_dim - d < VL)
                STORE_N((T *)out[r] + d, y, head_dim - d);
            else
                STORE((T *)out[r] + d, y);
        }
    }
}

static float NAME(peak)(int n)
{
    vf c[12];
    A a = A_SET(0x3f803f80u);
    B b = B_OF(u_set(0x3f803f80u));

    UNROLL
    for (int i = 0; i < 12; i++)
        c[i] = v_set((float)i);
    for (int j = 0; j < n; j++) {
        UNROLL
        for (int i = 0; i < 12; i++)
            c[i] = ACC(c[i], a, b);
    }
    for (int i = 1; i < 12; i++)
        c[0] = v_add(c[0], c[i]);
    return v_sum(c[0]);
}

static void NAME(fill_dot)(cog_kernels *k)
{
    k->gemm = NAME(gemm);
    k->attention = NAME(attention);
    k->peak = NAME(peak);
    k->peak_flop = 12 * VL * PAIR * 2;
}

#undef UNROLL
