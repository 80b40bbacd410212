#include "engine/backend.h"

#include <string.h>

size_t cog_kv_block_bytes(const cog_model_config *m, cog_dtype dtype, int block)
{
    return (size_t)m->layers * 2 * (size_t)block * (size_t)m->kv_heads * (size_t)m->head_dim *
           cog_dtype_size(dtype);
}

int cog_backend_find(const cog_backend_ops **out, const char *name, cog_err *err)
{
    static const cog_backend_ops *const present[] = { &cog_cpu_ops }; /* best first */

    for (size_t i = 0; i < sizeof(present) / sizeof(present[0]); i++) {
        if (strcmp(name, "auto") == 0 || strcmp(name, present[i]->name) == 0) {
            *out = present[i];
            return 0;
        }
    }
    return cog_err_set(err, COG_EINVAL, "backend '%s' is not in this build; it has: auto, cpu",
                       name);
}
