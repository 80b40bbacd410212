/* gemm_load.c - finds cuBLASLt when the first object is opened, so that one binary runs on machines
 * that do not have it. */
#include "engine/cuda/gemm_lt.h"
#include "engine/cuda/library.h"

#include <stdio.h>
#include <string.h>

static const int OWN_MAJOR = CUDART_VERSION / 1000;
static const int known_major[] = { 13, 12 };

enum { N_MAJORS = sizeof(known_major) / sizeof(*known_major), MAX_NAMES = N_MAJORS + 2 };

typedef char library_name[32];

static int names(library_name out[MAX_NAMES])
{
    int n = 0;

    snprintf(out[n++], sizeof(library_name), "libcublasLt.so.%d", OWN_MAJOR);
    for (int i = 0; i < N_MAJORS; i++)
        if (known_major[i] != OWN_MAJOR)
            snprintf(out[n++], sizeof(library_name), "libcublasLt.so.%d", known_major[i]);
    snprintf(out[n++], sizeof(library_name), "libcublasLt.so");
    return n;
}

static int load_one(cog_cublaslt *lt, const char *name, cublasLtHandle_t *handle, cog_err *err)
{
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    int rc = cog_cuda_library_open(&lt->library, name, err);

    if (rc < 0)
        return rc;
#define FIND(f)                                                   \
    lt->f = (__typeof__(lt->f))dlsym(lt->library, "cublasLt" #f); \
    if (!lt->f)                                                   \
        return cog_err_set(err, COG_EUNSUPPORTED, "no cublasLt" #f);
    COG_CUBLASLT(FIND)
    if (handle)
        status = lt->Create(handle);
    if (status == CUBLAS_STATUS_SUCCESS)
        return 0;
    *handle = NULL;
    return cog_err_set(err, COG_EDEVICE, "version %zu does not start: %s", lt->GetVersion(),
                       lt->GetStatusString(status));
}

int cog_cublaslt_load(cog_cublaslt *lt, cublasLtHandle_t *handle, cog_err *err)
{
    library_name name[MAX_NAMES];
    char reasons[sizeof(err->text)] = "";
    int n = names(name), worst = COG_EUNSUPPORTED;

    for (int i = 0; i < n; i++) {
        size_t at = strlen(reasons);
        cog_err one = { 0 };
        int rc = load_one(lt, name[i], handle, &one);
        if (rc == 0)
            return 0;
        cog_cublaslt_unload(lt);
        if (rc == COG_EDEVICE)
            worst = rc;
        snprintf(reasons + at, sizeof(reasons) - at, "%s%s (%.100s)", i > 0 ? ", " : "", name[i],
                 one.text);
    }
    return cog_err_set(err, worst,
                       "cuBLASLt cannot be used: %s; install the CUDA libraries or add their "
                       "folder to LD_LIBRARY_PATH",
                       reasons);
}

void cog_cublaslt_unload(cog_cublaslt *lt)
{
    if (lt->library)
        dlclose(lt->library);
    *lt = (cog_cublaslt){ 0 };
}

int cog_cuda_gemm_available(cog_err *err)
{
    cog_cublaslt lt = { 0 };
    int rc = cog_cublaslt_load(&lt, NULL, err);

    cog_cublaslt_unload(&lt);
    return rc;
}
