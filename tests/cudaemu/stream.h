/* stream.h - queues of work.
 *
 * Every stream has a queue and a clock (how much of each stream lies before whatever it is given
 * next). Work gets its clock when it is enqueued: waiting for an event, and the host waiting for
 * something, join clocks. So what is ordered with what does not depend on when things run, which is
 * when somebody waits, in an order that CUDAEMU_LATE chooses among the allowed ones. */
#ifndef COG_TESTS_CUDAEMU_STREAM_H
#define COG_TESTS_CUDAEMU_STREAM_H

#include "emu.h"

#include <deque>

namespace emu
{

/* One recording of an event. */
struct Record {
    bool done = false;
    double ms = 0;
    Clock clock;
};

/* Something at the head of a stream. */
struct Item {
    uint64_t order = 0; /* of enqueueing, over all streams */
    std::vector<std::shared_ptr<Record>> after;
    std::shared_ptr<Record> record; /* set when it is reached */
    std::function<void()> run;
};

} // namespace emu

/* A recording under way or done: nodes in the order of enqueueing. */
struct CUgraph_st {
    struct Node {
        emu::Work work;
        std::function<void()> run; /* empty for kernels */
        std::vector<size_t> after;
        int lane; /* stream of the recording it was on, 0 is the first */
    };
    std::vector<Node> nodes;
    std::vector<CUstream_st *> lanes;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    bool invalid = false;
};

struct CUgraphExec_st {
    CUgraph_st graph;
    std::vector<int> slots; /* of clocks, for its lanes */
};

struct CUstream_st {
    int slot = 0; /* of clocks */
    int priority = 0;
    bool blocking = true;
    std::deque<emu::Item> queue;
    std::vector<std::shared_ptr<emu::Record>> after; /* of the next item */
    emu::Clock clock;
    CUgraph_st *capture = nullptr;
    int lane = 0;
    std::vector<size_t> frontier; /* nodes that the next one follows */
    int queries = 0;
};

struct CUevent_st {
    bool timing = true;
    std::shared_ptr<emu::Record> record;
    CUgraph_st *capture = nullptr;
    std::vector<size_t> frontier;
};

namespace emu
{

extern cudaError_t device_error; /* sticky */
extern Clock host_clock;
extern std::vector<CUstream_st *> streams;

CUstream_st *stream_of(cudaStream_t s); /* NULL handle: the default stream */
int new_slot();
uint32_t tick(int slot);
bool any_capture(); /* one that forbids unsafe calls */
void invalidate(CUstream_st *s);

/* Enqueues, or records, one thing to do; work.run of a kernel runs in fibers, otherwise on the
 * host. */
cudaError_t enqueue(cudaStream_t stream, Work work);
/* Runs what is queued until the stream is empty; the host then lies behind it. */
void finish(CUstream_st *s);
void finish_all();
void reset_streams();
void everything_is_before(); /* order.cc */

/* runtime.cc: what runs now */
void execute(const Work &work);
cudaError_t count_launch();            /* the error that a launch after so many is to have */
cudaError_t failed(cudaError_t error); /* remembers it for cudaGetLastError, and returns it */

} // namespace emu

#endif
