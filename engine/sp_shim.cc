#include "engine/sp_shim.h"

extern "C" {
#include "base/alloc.h"
}

#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <sentencepiece_processor.h>
#include <vector>

struct cog_sp {
    sentencepiece::SentencePieceProcessor processor;
};

cog_sp *cog_sp_open(const void *bytes, size_t len, char *why, size_t why_size)
{
    try {
        auto sp = std::make_unique<cog_sp>();
        auto status =
            sp->processor.LoadFromSerializedProto({ static_cast<const char *>(bytes), len });
        if (status.ok())
            return sp.release();
        snprintf(why, why_size, "%s", status.ToString().c_str());
    } catch (const std::exception &e) {
        snprintf(why, why_size, "%s", e.what());
    } catch (...) {
        snprintf(why, why_size, "unknown failure");
    }
    return nullptr;
}

void cog_sp_close(cog_sp *sp)
{
    delete sp;
}

int cog_sp_size(const cog_sp *sp)
{
    return sp->processor.GetPieceSize();
}

const char *cog_sp_piece(const cog_sp *sp, int id, size_t *len)
{
    const std::string &piece = sp->processor.IdToPiece(id);

    *len = piece.size();
    return piece.data();
}

float cog_sp_score(const cog_sp *sp, int id)
{
    return sp->processor.GetScore(id);
}

cog_sp_kind cog_sp_kind_of(const cog_sp *sp, int id)
{
    if (sp->processor.IsUnknown(id))
        return COG_SP_UNKNOWN;
    if (sp->processor.IsControl(id))
        return COG_SP_CONTROL;
    if (sp->processor.IsByte(id))
        return COG_SP_BYTE;
    return sp->processor.IsUnused(id) ? COG_SP_UNUSED : COG_SP_NORMAL;
}

int cog_sp_unk(const cog_sp *sp)
{
    return sp->processor.unk_id();
}

int cog_sp_bos(const cog_sp *sp)
{
    return sp->processor.bos_id();
}

int cog_sp_eos(const cog_sp *sp)
{
    return sp->processor.eos_id();
}

int cog_sp_encode(const cog_sp *sp, int32_t **ids, int *n_ids, const char *text, size_t len)
{
    try {
        std::vector<int> found;
        if (!sp->processor.Encode({ text, len }, &found).ok() ||
            found.size() > static_cast<size_t>(std::numeric_limits<int>::max()))
            return -1;
        *ids = static_cast<int32_t *>(cog_alloc(found.size(), sizeof(int32_t)));
        for (size_t i = 0; i < found.size(); i++)
            (*ids)[i] = found[i];
        *n_ids = static_cast<int>(found.size());
        return 0;
    } catch (...) {
        return -1;
    }
}
