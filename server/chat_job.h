/* chat_job.h - what becomes of a chat that was understood, whichever route's body had it. */
#ifndef COG_SERVER_CHAT_JOB_H
#define COG_SERVER_CHAT_JOB_H

#include "proto/chat.h"
#include "server/generate.h"

typedef struct cog_chat_job {
    cog_generate_job job;
    cog_chat chat;
} cog_chat_job;

/* Of a cog_chat_job. Worker: chat is filled; from it, and what is said beside it, to the engine's
 * request. */
int cog_chat_job_take(cog_generate_job *j, const cog_params *p);
/* The release and fini of a form. */
void cog_chat_job_release(cog_generate_job *j);
void cog_chat_job_fini(cog_generate_job *j);

#endif
