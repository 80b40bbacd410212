/* picture_server.h - an HTTP server of somebody else, good and bad by the path that is asked for.
 */
#ifndef COG_TESTS_UNIT_PICTURE_SERVER_H
#define COG_TESTS_UNIT_PICTURE_SERVER_H

#include <pthread.h>

typedef struct picture_server {
    int fd, port;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t left;
    int n_connections, n_requests, n_open;
    int n_hanging;        /* requests for /hang; /stay is the same and not counted */
    int n_late, max_late; /* requests for /later, which are answered after a while */
    char last_head[2048]; /* of the last request */
    char picture[64];     /* what /picture is */
} picture_server;

void picture_server_start(picture_server *s);
void picture_server_stop(picture_server *s); /* waits for clients to close theirs */

void picture_server_reset(picture_server *s); /* forgets what was counted */
void picture_server_set(picture_server *s, const char *picture);
int picture_server_requests(picture_server *s);
int picture_server_open(picture_server *s); /* connections */
int picture_server_hanging(picture_server *s);
void picture_server_wait(picture_server *s); /* until no connection is open */

#endif
