#include "engine/backend.h"

#include "base/buf.h"

#include <string.h>

size_t cog_kv_block_bytes(const cog_model_config *m, cog_dtype dtype, int block)
{
    return (size_t)m->layers * 2 * (size_t)block * (size_t)m->kv_heads * (size_t)m->head_dim *
           cog_dtype_size(dtype);
}

bool cog_backend_is_built(const cog_backend_ops *ops)
{
    return ops->weight != NULL;
}

int cog_backend_find(const cog_backend_ops *out[COG_MAX_BACKENDS], const char *name, cog_err *err)
{
    static const cog_backend_ops *const known[COG_MAX_BACKENDS] = { &cog_cuda_ops, &cog_cpu_ops };
    cog_buf names = { 0 };
    int n = 0, rc;

    for (int i = 0; i < COG_MAX_BACKENDS; i++)
        if (strcmp(name, "auto") == 0 || strcmp(name, known[i]->name) == 0)
            out[n++] = known[i];
    if (n > 0)
        return n;
    for (int i = 0; i < COG_MAX_BACKENDS; i++)
        if (cog_backend_is_built(known[i]))
            cog_buf_printf(&names, ", %s", known[i]->name);
    rc = cog_err_set(err, COG_EINVAL, "backend '%s' is not known; this build has: auto%s", name,
                     names.data);
    cog_buf_fini(&names);
    return rc;
}
