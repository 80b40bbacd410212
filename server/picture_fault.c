#include "server/picture_fault.h"

#include "base/err.h"
#include "base/log.h"

#include <stdio.h>

static int refuse(cog_api_error *err, const cog_decode *d, const char *param, bool is_bare,
                  const cog_image_options *o)
{
    cog_api_code code = COG_API_IMAGE_BROKEN;
    char text[600];

    snprintf(text, sizeof(text), "The picture cannot be decoded: %s.", d->err.text);

    switch (d->fault) {
    case COG_IMAGE_EMPTY:
        code = COG_API_IMAGE_EMPTY;
        snprintf(text, sizeof(text), "The picture has no bytes.");
        break;
    case COG_IMAGE_FILE_SIZE:
        code = COG_API_IMAGE_FILE_SIZE;
        snprintf(text, sizeof(text), "The picture's file is larger than the %zu bytes allowed.",
                 o->max_bytes);
        break;
    case COG_IMAGE_UNKNOWN:
        code = is_bare ? COG_API_IMAGE_URL : COG_API_IMAGE_MEDIA_TYPE;
        snprintf(text, sizeof(text), "The picture is none of JPEG, PNG, WebP and GIF.");
        break;
    case COG_IMAGE_TOO_LARGE:
        code = COG_API_IMAGE_TOO_LARGE;
        snprintf(text, sizeof(text),
                 "The picture is larger than the %llu pixels and the side of %d pixels allowed.",
                 (unsigned long long)o->max_pixels, o->max_side);
        break;
    case COG_IMAGE_TOO_SMALL:
        code = COG_API_IMAGE_TOO_SMALL;
        snprintf(text, sizeof(text), "The picture has a side of zero pixels.");
        break;
    default:
        break;
    }
    return cog_api_error_set(err, code, param, "%s", text);
}

void cog_picture_fault_later(cog_api_error *err)
{
    cog_api_error_set(err, COG_API_OVERLOADED, NULL,
                      "The server cannot decode a picture now. Try again shortly.");
    err->retry_after_ms = 1000;
}

int cog_picture_fault(cog_api_error *err, const cog_decode *d, const char *param, bool is_bare,
                      const cog_exchange *x)
{
    switch (d->status) {
    case COG_DECODE_REFUSED:
        return refuse(err, d, param, is_bare, &x->server->cfg.image);
    case COG_DECODE_NO_MEMORY: /* within the limits of size: a smaller picture is the remedy */
        cog_api_error_set(err, COG_API_IMAGE_TOO_LARGE, param,
                          "The picture takes more memory to decode than this server allows.");
        break;
    case COG_DECODE_FAILED:
        cog_log(COG_ERROR, "event=picture_failed id=%s", x->id);
        cog_status_fail(err, x->id);
        break;
    case COG_DECODE_QUARANTINED:
        cog_log(COG_WARN, "event=picture_quarantined id=%s", x->id);
        cog_api_error_set(err, COG_API_QUARANTINED, param,
                          "This picture made the server fail before and is not tried again.");
        break;
    case COG_DECODE_UNAVAILABLE:
        cog_log(COG_ERROR, "event=picture_not_read id=%s reason=\"no helper\"", x->id);
        cog_picture_fault_later(err);
        break;
    case COG_DECODE_DONE:
    case COG_DECODE_CANCELED:
        return 0;
    }
    return COG_EINVAL;
}
