/* sp_shim.h - libsentencepiece for C: no C++ type and no exception crosses it. Immutable after
 * open: any thread. */
#ifndef COG_ENGINE_SP_SHIM_H
#define COG_ENGINE_SP_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_sp cog_sp;

typedef enum cog_sp_kind {
    COG_SP_NORMAL,
    COG_SP_UNKNOWN,
    COG_SP_CONTROL,
    COG_SP_BYTE,
    COG_SP_UNUSED,
} cog_sp_kind;

/* Parses a serialised SentencePiece model. NULL when the library refuses it; why then holds its
 * reason, cut to why_size and NUL-terminated. */
cog_sp *cog_sp_open(const void *bytes, size_t len, char *why, size_t why_size);
void cog_sp_close(cog_sp *sp); /* NULL is fine */

int cog_sp_size(const cog_sp *sp);
/* A piece's text as the file has it, U+2581 for spaces; borrowed, not NUL-terminated. id is below
 * size. */
const char *cog_sp_piece(const cog_sp *sp, int id, size_t *len);
float cog_sp_score(const cog_sp *sp, int id);
cog_sp_kind cog_sp_kind_of(const cog_sp *sp, int id);
int cog_sp_unk(const cog_sp *sp); /* ids, -1 when the model has none */
int cog_sp_bos(const cog_sp *sp);
int cog_sp_eos(const cog_sp *sp);

/* *ids is the caller's, cog_free. 0, or -1 when the library fails or the memory it wants is not
 * there. */
int cog_sp_encode(const cog_sp *sp, int32_t **ids, int *n_ids, const char *text, size_t len);

#ifdef __cplusplus
}
#endif

#endif
