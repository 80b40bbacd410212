#include "server/picture/source.h"

#include "base/err.h"
#include "server/picture/fetch_url.h"

#include <string.h>

int cog_picture_source_check(cog_picture_source *s, const cog_chat_picture *picture,
                             const cog_server_config *cfg, cog_api_error *err)
{
    s->picture = picture->kind == COG_PICTURE_NONE ? NULL : picture;
    if (picture->kind == COG_PICTURE_WEB &&
        cog_fetch_url_parse(&s->url, picture->url, cfg->image_domains, cfg->n_image_domains) < 0)
        return cog_api_error_set(err, COG_API_IMAGE_URL, picture->param,
                                 "Invalid image URL: it is not one of the addresses that this "
                                 "server fetches pictures from.");
    return 0;
}

bool cog_picture_source_is_remote(const cog_picture_source *s)
{
    return s->url != NULL;
}

void cog_picture_source_start(cog_picture_source *s, cog_fetcher *fetcher, uint64_t deadline_ns,
                              size_t max_bytes, void (*done)(cog_fetch *f), void *user)
{
    s->fetch = (cog_fetch){ .url = s->url,
                            .max_bytes = max_bytes,
                            .deadline_ns = deadline_ns,
                            .done = done,
                            .user = user };
    s->url = NULL;
    cog_fetch_start(fetcher, &s->fetch);
}

static int refuse_size(const cog_picture_source *s, size_t max_bytes, cog_api_error *err)
{
    return cog_api_error_set(err, COG_API_IMAGE_FILE_SIZE, s->picture->param,
                             "The picture's file is larger than the %zu bytes allowed.", max_bytes);
}

int cog_picture_source_fetched(const cog_picture_source *s, size_t max_bytes, cog_api_error *err)
{
    switch (s->fetch.status) {
    case COG_FETCH_TOO_LARGE:
        return refuse_size(s, max_bytes, err);
    case COG_FETCH_LATER:
        return cog_api_error_set(err, COG_API_IMAGE_DOWNLOAD_LATER, s->picture->param,
                                 "The picture could not be downloaded in time.");
    case COG_FETCH_REFUSED:
        return cog_api_error_set(err, COG_API_IMAGE_DOWNLOAD, s->picture->param,
                                 "The picture could not be downloaded.");
    case COG_FETCH_CANCELED: /* nobody waits for the answer */
    case COG_FETCH_OK:
        break;
    }
    return 0;
}

int cog_picture_source_room(cog_picture_source *s, size_t *room, const cog_media_root *root,
                            size_t max_bytes, cog_api_error *err)
{
    int rc;

    switch (s->picture->kind) {
    case COG_PICTURE_WEB:
        *room = s->fetch.body.len;
        break;
    case COG_PICTURE_FILE:
        rc = cog_media_open_file(&s->file, root, s->picture->url, max_bytes);
        if (rc == COG_ELIMIT)
            return refuse_size(s, max_bytes, err);
        if (rc < 0)
            return cog_api_error_set(err, COG_API_IMAGE_URL, s->picture->param,
                                     "Invalid image URL: it names no file that this server reads "
                                     "pictures from.");
        s->has_file = true;
        *room = s->file.size;
        break;
    default:
        return cog_chat_picture_room(room, s->picture, max_bytes, err);
    }
    if (*room == 0)
        return cog_api_error_set(err, COG_API_IMAGE_EMPTY, s->picture->param,
                                 "The picture has no bytes.");
    return 0;
}

int cog_picture_source_read(cog_picture_source *s, uint8_t *dst, size_t *len, cog_api_error *err)
{
    switch (s->picture->kind) {
    case COG_PICTURE_WEB:
        memcpy(dst, s->fetch.body.data, s->fetch.body.len);
        *len = s->fetch.body.len;
        return 0;
    case COG_PICTURE_FILE:
        if (cog_media_read_file(dst, len, &s->file) == 0)
            return 0;
        return cog_api_error_set(err, COG_API_IMAGE_BROKEN, s->picture->param,
                                 "The picture's file cannot be read.");
    default:
        return cog_chat_picture_decode(s->picture, dst, len, err);
    }
}

void cog_picture_source_fini(cog_picture_source *s)
{
    cog_fetch_url_free(s->url);
    cog_buf_fini(&s->fetch.body);
    if (s->has_file)
        cog_media_close_file(&s->file);
    *s = (cog_picture_source){ 0 };
}
