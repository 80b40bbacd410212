/* safetensors.h - reads a checkpoint folder's weights: one model.safetensors, or shards listed by
 * model.safetensors.index.json. Files are mapped, never copied.
 *
 * Files are hostile: header length, offsets, overlaps, holes, dtype, shape products, duplicate
 * names and trailing bytes are all checked at open, so that a cog_tensor handed out afterwards is
 * safe to read in full - as long as nobody shortens the file while it is mapped: reading beyond its
 * new end is a bus error, which is not caught. Values are not looked at: a NaN among the weights is
 * the model's affair. Format: https://github.com/huggingface/safetensors#format
 *
 * Immutable after open: any thread. */
#ifndef COG_ENGINE_SAFETENSORS_H
#define COG_ENGINE_SAFETENSORS_H

#include "base/err.h"
#include "engine/tensor.h"

typedef struct cog_safetensors cog_safetensors;

/* Opens the folder's weights. A folder with both forms is read as the reference reads it: the
 * single file counts and the index is ignored. COG_EIO when files are absent, COG_EFORMAT when they
 * are not sound, COG_ELIMIT for a header beyond 100 MiB, a million JSON values or 1024 shards; the
 * message names file and tensor. */
int cog_safetensors_open(cog_safetensors **out, const char *dir, cog_err *err);
void cog_safetensors_close(cog_safetensors *s); /* NULL is fine; unmaps: tensors are gone */

int cog_safetensors_count(const cog_safetensors *s);
const cog_tensor *cog_safetensors_at(const cog_safetensors *s, int idx); /* sorted by name */
const cog_tensor *cog_safetensors_find(const cog_safetensors *s,
                                       const char *name);              /* NULL when absent */
int cog_safetensors_index(const cog_safetensors *s, const char *name); /* for at(), or -1 */
uint64_t cog_safetensors_bytes(const cog_safetensors *s);              /* of all tensors */

#endif
