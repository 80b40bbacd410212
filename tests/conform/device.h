/* device.h - memory of a CUDA device for conformance tests, through CUDA's runtime interface: the
 * same code for a GPU and for the emulator.
 *
 * A device_array is rows of cols items, ld apart, between guard zones. All that a test did not set
 * is NaN, the items between cols and ld too: a kernel that reads them shows it, and one that writes
 * them is found when the array is downloaded or freed. A host mirror holds what the array should
 * be: set values there, then upload. */
#ifndef COG_TESTS_CONFORM_DEVICE_H
#define COG_TESTS_CONFORM_DEVICE_H

#include "engine/cuda/kernels.h"
#include "tests/conform/conform.h"

typedef struct device_array {
    void *data; /* device: row 0 */
    char *host; /* the mirror: row 0 */
    int rows, cols;
    size_t ld, size;     /* in items; bytes of an item */
    char *base, *mirror; /* both with their guard zones, bytes in all */
    size_t bytes;
} device_array;

/* ---- arrays ---- */

/* Of NaN. Rows start at multiples of 16 bytes; ld is up to five times 16 bytes more than it must
 * be. */
device_array device_new(conform *c, int rows, int cols);
device_array device_new_ld(conform *c, size_t size, int rows, int cols, size_t ld);
/* One row of n items without padding: floats, int32, structs; copied from values when not NULL. */
device_array device_vector(conform *c, size_t size, size_t n, const void *values);
/* Random elements, uniform in [center - spread, center + spread], uploaded. */
device_array device_random(conform *c, int rows, int cols, float center, float spread);
/* The same rows in an array of its own. */
device_array device_copy(conform *c, const device_array *a);
/* Fails when the device has not what the mirror has: a kernel wrote where it must not, or to an
 * array that was not downloaded. */
void device_free(conform *c, device_array *a);

/* Elements of the mirror. */
float device_get(const conform *c, const device_array *a, int row, int col);
float device_set(const conform *c, device_array *a, int row, int col, float value);
static inline void *device_host_row(const device_array *a, int row)
{
    return a->host + (size_t)row * a->ld * a->size;
}
static inline void *device_row(const device_array *a, int row)
{
    return (char *)a->data + (size_t)row * a->ld * a->size;
}

void device_upload(conform *c, const device_array *a);
/* Waits for the stream, refreshes the mirror, and checks guard zones and padding. */
void device_download(conform *c, device_array *a);

/* rc of a launcher must be 0; waits for the stream. A device error ends the program: there is
 * nothing to test on afterwards. */
void device_done(conform *c, int rc);
/* Ends the program with a reason unless error is cudaSuccess. */
void device_check(cudaError_t error, const char *what);

/* ---- comparing; of downloaded arrays ---- */

/* [rows, cols] items with the same bits as want, whose rows are cols items apart. */
void device_same(conform *c, const char *what, const device_array *got, const void *want);
/* [rows, cols] elements, want and bound [rows, cols]: see conform_elements_near. */
void device_near(conform *c, const device_array *got, const double *want, const double *bound);
/* |got - want| <= limit * |want| over the whole array (Euclidean norms), and at most `most` for
 * each element. */
void device_relative(conform *c, const device_array *got, const double *want, double limit,
                     double most);

/* ---- pages ---- */

typedef struct device_pages {
    cog_cuda_kv kv;
    device_array pool;  /* a row is one slot of one head, of keys or of values */
    device_array table; /* int32 [seqs, max_blocks]; -1 past a sequence's pages */
    int seqs, max_blocks;
} device_pages;

/* A pool for seqs sequences of slots[seq] slots each, of shuffled pages, twice as many as needed,
 * all NaN. */
device_pages device_pages_new(conform *c, int layers, int kv_heads, int block, int head_dim,
                              int seqs, const int *slots);
void device_pages_free(conform *c, device_pages *p);
/* Rows of the pool. */
int device_key_row(const device_pages *p, int layer, int seq, int head, int slot);
int device_value_row(const device_pages *p, int layer, int seq, int head, int slot);
/* Random keys and values for the first n slots of a sequence, all heads of one layer; upload the
 * pool afterwards. */
void device_pages_fill(conform *c, device_pages *p, int layer, int seq, int n, float spread);

#endif
