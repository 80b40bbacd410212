#include "engine/memory_plan.h"

#include <limits.h>

static unsigned long long mib(uint64_t bytes)
{
    return (unsigned long long)((bytes + (1u << 20) - 1) >> 20);
}

uint64_t cog_memory_runtime(const cog_memory_plan *p)
{
    return p->is_shared ? 0 : COG_RUNTIME_BYTES;
}

/* What is left for the pool after everything else, within the share. */
static uint64_t pool_bytes(const cog_memory_plan *p, double utilization)
{
    uint64_t share = (uint64_t)((double)p->total * utilization);
    uint64_t taken = p->used + p->weights + p->activations + p->workspace + cog_memory_runtime(p);

    return share > taken ? share - taken : 0;
}

static uint64_t context_pages(const cog_device_config *d)
{
    return ((uint64_t)d->model->max_positions + (uint64_t)d->block - 1) / (uint64_t)d->block;
}

static bool would_fit(const cog_backend_ops *ops, cog_device_config d, cog_dtype dtype,
                      uint64_t kv_bytes, double utilization)
{
    cog_memory_plan p = { 0 };

    d.weight_bytes = d.weight_bytes / cog_dtype_size(d.dtype) * cog_dtype_size(dtype);
    d.dtype = dtype;
    return ops->memory(&p, &d, NULL) == 0 &&
           pool_bytes(&p, utilization) >= (kv_bytes ? kv_bytes : context_pages(&d) * p.page);
}

static int refuse(const cog_backend_ops *ops, const cog_device_config *d, const cog_memory_plan *p,
                  uint64_t kv_bytes, double utilization, cog_err *err)
{
    uint64_t need = kv_bytes ? kv_bytes : context_pages(d) * p->page;
    const char *remedy = "no type of this build fits";

    if (d->dtype == COG_F32 && would_fit(ops, *d, COG_BF16, kv_bytes, utilization))
        remedy = "bf16 would fit";
    return cog_err_set(err, COG_ELIMIT,
                       "%s does not fit on the device: of its %llu MiB, %g of which may be in use, "
                       "%llu are taken; weights need %llu MiB, activations %llu, workspace %llu, "
                       "runtime %llu, and the keys and values of %s %llu; %s",
                       cog_dtype_name(d->dtype), mib(p->total), utilization, mib(p->used),
                       mib(p->weights), mib(p->activations), mib(p->workspace),
                       mib(cog_memory_runtime(p)), kv_bytes ? "the cache asked for" : "one context",
                       mib(need), remedy);
}

static uint64_t modest_pages(const cog_device_config *d, const cog_memory_plan *p)
{
    uint64_t least = context_pages(d), quarter = pool_bytes(p, 1) / 4 / p->page;
    uint64_t n = least * (uint64_t)d->max_seqs;

    n = n > quarter ? quarter : n;
    return n < least ? least : n;
}

int cog_memory_pages(int *n_blocks, const cog_backend_ops *ops, const cog_device_config *d,
                     const cog_memory_plan *p, uint64_t kv_bytes, double utilization, cog_err *err)
{
    uint64_t least = context_pages(d), n;

    if (kv_bytes && kv_bytes / p->page < least)
        return cog_err_set(err, COG_ELIMIT,
                           "a KV cache of %llu MiB does not hold one context of %d tokens: give at "
                           "least %llu MiB",
                           (unsigned long long)(kv_bytes >> 20), d->model->max_positions,
                           mib(least * p->page));
    if (kv_bytes && !p->is_shared && kv_bytes > pool_bytes(p, 1))
        return refuse(ops, d, p, kv_bytes, 1, err);
    if (kv_bytes)
        n = kv_bytes / p->page;
    else if (p->is_shared)
        n = modest_pages(d, p);
    else
        n = pool_bytes(p, utilization) / p->page;
    if (n < least)
        return refuse(ops, d, p, 0, utilization, err);
    *n_blocks = n > INT_MAX / 2 ? INT_MAX / 2 : (int)n;
    return 0;
}
