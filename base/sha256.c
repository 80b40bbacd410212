#include "base/sha256.h"

#include <openssl/evp.h>
#include <stdlib.h>

cog_sha256 cog_sha256_of(const cog_span *spans, int n)
{
    cog_sha256 digest;
    unsigned len = sizeof(digest.byte);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (!ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
        abort(); /* libcrypto without SHA-256, or out of memory */
    for (int i = 0; i < n; i++)
        if (!EVP_DigestUpdate(ctx, spans[i].data, spans[i].len))
            abort();
    if (!EVP_DigestFinal_ex(ctx, digest.byte, &len))
        abort();
    EVP_MD_CTX_free(ctx);
    return digest;
}
