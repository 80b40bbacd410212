/* warp.cc - what the lanes of a warp do together: shuffles, votes, products. */
#include "fiber.h"

using namespace emu;

/* Kinds of rendezvous: one number for each instruction. */
enum { SYNCWARP, SHUFFLE = 16, VOTE = 32, MATCH = 48, REDUCE = 64, MMA = 96, LDMATRIX = 112 };

void cudaemu_syncwarp(unsigned mask)
{
    meet(mask, SYNCWARP, [](Warp *w, uint32_t m) { check_syncwarp(w, m); });
}

uint64_t cudaemu_shfl(unsigned mask, enum cudaemu_shuffle kind, uint64_t value, int lane, int width)
{
    int me = static_cast<int>(self->lane), first = me & ~(width - 1), last = first + width - 1;
    int from = kind == CUDAEMU_IDX    ? first | (lane & (width - 1))
               : kind == CUDAEMU_UP   ? me - lane
               : kind == CUDAEMU_DOWN ? me + lane
                                      : me ^ lane;

    if (kind == CUDAEMU_BFLY ? from > last : from < first || from > last)
        from = me;
    check_shuffle(mask, from);
    self->value = value;
    self->from = static_cast<uint32_t>(from);
    meet(mask, SHUFFLE + kind, [](Warp *w, uint32_t m) {
        for (uint32_t left = m; left; left &= left - 1) {
            Fiber *f = &w->fibers[__builtin_ctz(left)];

            f->result = w->fibers[f->from].value;
        }
    });
    return self->result;
}

unsigned cudaemu_warp_vote(unsigned mask, enum cudaemu_vote kind, int predicate)
{
    self->value = predicate != 0;
    meet(mask, VOTE, [](Warp *w, uint32_t m) {
        uint32_t votes = 0;

        for (uint32_t left = m; left; left &= left - 1)
            votes |= static_cast<uint32_t>(w->fibers[__builtin_ctz(left)].value)
                     << __builtin_ctz(left);
        for (uint32_t left = m; left; left &= left - 1)
            w->fibers[__builtin_ctz(left)].result = votes;
    });
    uint32_t votes = static_cast<uint32_t>(self->result);
    return kind == CUDAEMU_BALLOT ? votes : kind == CUDAEMU_ANY ? votes != 0 : votes == mask;
}

unsigned cudaemu_match_any(unsigned mask, uint64_t value)
{
    self->value = value;
    meet(mask, MATCH, [](Warp *w, uint32_t m) {
        for (uint32_t left = m; left; left &= left - 1) {
            Fiber *f = &w->fibers[__builtin_ctz(left)];

            f->result = 0;
            for (uint32_t other = m; other; other &= other - 1)
                if (w->fibers[__builtin_ctz(other)].value == f->value)
                    f->result |= 1u << __builtin_ctz(other);
        }
    });
    return static_cast<unsigned>(self->result);
}

static uint32_t reduced(int kind, uint32_t a, uint32_t b)
{
    bool is_signed = kind & 8,
         less = is_signed ? static_cast<int32_t>(b) < static_cast<int32_t>(a) : b < a;

    switch (kind & 7) {
    case CUDAEMU_ADD:
        return a + b;
    case CUDAEMU_MIN:
        return less ? b : a;
    case CUDAEMU_MAX:
        return less ? a : b;
    case CUDAEMU_AND:
        return a & b;
    case CUDAEMU_OR:
        return a | b;
    default:
        return a ^ b;
    }
}

unsigned cudaemu_warp_reduce(unsigned mask, enum cudaemu_reduce kind, unsigned value, int is_signed)
{
    self->value = value;
    meet(mask, REDUCE + kind + (is_signed ? 8 : 0), [](Warp *w, uint32_t m) {
        const Fiber *first = &w->fibers[__builtin_ctz(m)];
        uint32_t r = static_cast<uint32_t>(first->value);

        for (uint32_t left = m & (m - 1); left; left &= left - 1)
            r = reduced(first->kind - REDUCE, r,
                        static_cast<uint32_t>(w->fibers[__builtin_ctz(left)].value));
        for (uint32_t left = m; left; left &= left - 1)
            w->fibers[__builtin_ctz(left)].result = r;
    });
    return static_cast<unsigned>(self->result);
}

unsigned cudaemu_activemask(void)
{
    const Warp *w = &block.warps[self->warp];

    return w->exists & ~w->exited;
}

/* ---- tensor cores ---- */

/* What the lanes of each warp multiply. A lane may come back for the next product before the others
 * have taken their part of this one: it does not touch theirs of d, and a and b are done with. */
static struct Matrices {
    float a[16][16], b[16][8], d[16][8];
} matrices[MAX_THREADS / WARP];

static float bf16(uint32_t pair, uint32_t high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

/* Each product of two bf16 is exact in f32; they are added to d one after the other, k ascending,
 * each sum rounded to nearest even. Hardware adds groups of them with other roundings: results
 * agree with it within f32 noise, not bit for bit. */
static void multiply(Warp *w, uint32_t)
{
    typedef float row __attribute__((vector_size(32), aligned(32)));
    Matrices &m = matrices[w->index];
    row b[16];

    memcpy(b, m.b, sizeof b);
    for (int i = 0; i < 16; i += 4) {
        row d[4];

        memcpy(d, m.d[i], sizeof d);
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 4; j++)
                d[j] += m.a[i + j][k] * b[k];
        memcpy(m.d[i], d, sizeof d);
    }
}

cudaemu_f32x4 cudaemu_mma_bf16(cudaemu_f32x4 d, cudaemu_u32x4 a, uint64_t b)
{
    Matrices &m = matrices[self->warp];
    uint32_t g = self->lane / 4, t = self->lane % 4;

    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t h = 0; h < 2; h++)
            m.a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + h] = bf16(a[i], h);
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t h = 0; h < 2; h++)
            m.b[2 * t + 8 * i + h][g] = bf16(static_cast<uint32_t>(b >> 32 * i), h);
    for (uint32_t i = 0; i < 4; i++)
        m.d[g + 8 * (i >> 1)][2 * t + (i & 1)] = d[i];
    meet(~0u, MMA, multiply);
    for (uint32_t i = 0; i < 4; i++)
        d[i] = m.d[g + 8 * (i >> 1)][2 * t + (i & 1)];
    return d;
}

static void load_matrices(Warp *w, uint32_t)
{
    int trans = w->fibers[0].predicate;

    for (int i = 0; i < 4; i++) {
        uint16_t m[8][8];

        for (int row = 0; row < 8; row++)
            memcpy(m[row], reinterpret_cast<const void *>(w->fibers[8 * i + row].value), 16);
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            uint32_t low = trans ? m[2 * t][g] : m[g][2 * t];
            uint32_t high = trans ? m[2 * t + 1][g] : m[g][2 * t + 1];

            w->fibers[lane].matrix[i] = high << 16 | low;
        }
    }
}

cudaemu_u32x4 cudaemu_ldmatrix_x4(const void *shared_row, int trans)
{
    check_shared_read(shared_row, 16, 16);
    self->value = reinterpret_cast<uint64_t>(shared_row);
    self->predicate = trans;
    meet(~0u, LDMATRIX + trans, load_matrices);
    return self->matrix;
}
