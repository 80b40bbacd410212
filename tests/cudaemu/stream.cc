/* stream.cc - streams, events, graphs: see stream.h. */
#include "stream.h"

#include "memory.h"

#include <time.h>

#include <algorithm>

namespace emu
{

cudaError_t device_error;
Clock host_clock;
std::vector<CUstream_st *> streams;

static CUstream_st default_stream;

static uint64_t enqueued;
static std::vector<uint32_t> ticks; /* of each slot */

void join(Clock &into, const Clock &from)
{
    if (into.size() < from.size())
        into.resize(from.size());
    for (size_t i = 0; i < from.size(); i++)
        into[i] = std::max(into[i], from[i]);
}

int new_slot()
{
    ticks.push_back(0);
    return static_cast<int>(ticks.size()) - 1;
}

uint32_t tick(int slot)
{
    return ++ticks[static_cast<size_t>(slot)];
}

static void note(Clock &clock, int slot, uint32_t number)
{
    size_t i = static_cast<size_t>(slot);

    if (clock.size() <= i)
        clock.resize(i + 1);
    clock[i] = std::max(clock[i], number);
}

static double now_ms()
{
    static double last;
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    last = std::max(last + 0.0005,
                    static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6);
    return last;
}

CUstream_st *stream_of(cudaStream_t s)
{
    if (streams.empty()) {
        default_stream.slot = new_slot();
        streams.push_back(&default_stream);
    }
    if (!s)
        return streams[0];
    return std::find(streams.begin(), streams.end(), s) == streams.end() ? nullptr : s;
}

bool any_capture()
{
    for (const CUstream_st *s : streams)
        if (s->capture && s->capture->mode != cudaStreamCaptureModeRelaxed)
            return true;
    return false;
}

void invalidate(CUstream_st *s)
{
    for (CUstream_st *each : streams)
        if (each->capture && (!s || each == s))
            each->capture->invalid = true;
}

/* ---- running ---- */

static bool allowed(const CUstream_st *s)
{
    if (s->queue.empty())
        return false;
    for (const auto &r : s->queue.front().after)
        if (!r->done)
            return false;
    return true;
}

/* The stream whose head runs next: the one enqueued first, or any. */
static CUstream_st *next_stream()
{
    std::vector<CUstream_st *> heads;

    for (CUstream_st *s : streams)
        if (allowed(s))
            heads.push_back(s);
    if (heads.empty())
        return nullptr;
    if (options.late == 1)
        return heads[choose(static_cast<uint32_t>(heads.size()))];
    return *std::min_element(heads.begin(), heads.end(), [](auto *a, auto *b) {
        return a->queue.front().order < b->queue.front().order;
    });
}

static void run_one()
{
    CUstream_st *s = next_stream();

    if (!s)
        die("streams wait for each other");
    Item item = std::move(s->queue.front());
    s->queue.pop_front();
    if (item.run && device_error == cudaSuccess) {
        Open open;

        item.run();
    }
    if (item.record) {
        item.record->done = true;
        item.record->ms = now_ms();
    }
}

static bool nothing_is_queued()
{
    for (const CUstream_st *s : streams)
        if (!s->queue.empty())
            return false;
    return true;
}

/* Whether the host lies behind all that was ever enqueued. */
static bool host_knows_all()
{
    for (size_t i = 0; i < ticks.size(); i++)
        if (ticks[i] && (i >= host_clock.size() || host_clock[i] < ticks[i]))
            return false;
    return nothing_is_queued();
}

void finish(CUstream_st *s)
{
    if (!s->queue.empty()) {
        Open open; /* once for all */

        while (!s->queue.empty())
            run_one();
    }
    join(host_clock, s->clock);
    if (host_knows_all())
        everything_is_before();
}

void finish_all()
{
    for (CUstream_st *s : streams)
        finish(s);
}

static void push(CUstream_st *s, Item item)
{
    item.order = ++enqueued;
    item.after.insert(item.after.end(), s->after.begin(), s->after.end());
    s->after.clear();
    s->queue.push_back(std::move(item));
    if (options.late == 2)
        while (allowed(s))
            run_one();
}

/* The default stream and the blocking ones are in order with each other. */
static void order_with_default(CUstream_st *s)
{
    for (CUstream_st *other : streams) {
        if (other == s || !other->blocking || !s->blocking ||
            (s != streams[0] && other != streams[0]))
            continue;
        if (!other->queue.empty()) {
            auto r = std::make_shared<Record>();
            Item item;

            item.record = r;
            push(other, std::move(item));
            s->after.push_back(r);
        }
        join(s->clock, other->clock);
    }
}

static cudaError_t record_node(CUstream_st *s, Work work)
{
    CUgraph_st *g = s->capture;
    CUgraph_st::Node node;

    if (g->invalid)
        return failed(cudaErrorStreamCaptureInvalidated);
    node.work = std::move(work);
    node.after = s->frontier;
    node.lane = s->lane;
    s->frontier = { g->nodes.size() };
    g->nodes.push_back(std::move(node));
    return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, Work work)
{
    CUstream_st *s = stream_of(stream);

    if (device_error != cudaSuccess)
        return device_error;
    if (!s)
        return failed(cudaErrorInvalidResourceHandle);
    if (s->capture)
        return record_node(s, std::move(work));
    if (s->blocking && any_capture() && s == streams[0]) {
        invalidate(nullptr);
        return failed(cudaErrorStreamCaptureImplicit);
    }
    order_with_default(s);
    join(s->clock, host_clock);
    work.stream = s->slot;
    work.number = tick(s->slot);
    work.clock = s->clock;
    note(s->clock, s->slot, work.number);
    keep_source(work);

    Item item;
    auto kept = std::make_shared<Work>(std::move(work));
    item.run = [kept] { execute(*kept); };
    push(s, std::move(item));
    return cudaSuccess;
}

void reset_streams()
{
    for (CUstream_st *s : streams)
        if (s != &default_stream)
            delete s;
    default_stream = CUstream_st{};
    streams.clear();
    ticks.clear();
    host_clock.clear();
    device_error = cudaSuccess;
}

} // namespace emu

using namespace emu;
using Guard = std::lock_guard<std::recursive_mutex>;

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority)
{
    Guard guard(lock);

    if (!stream || (flags & ~static_cast<unsigned>(cudaStreamNonBlocking)))
        return failed(cudaErrorInvalidValue);
    stream_of(nullptr);
    CUstream_st *s = new CUstream_st;
    s->slot = new_slot();
    s->priority = std::min(0, std::max(-5, priority));
    s->blocking = !(flags & cudaStreamNonBlocking);
    streams.push_back(s);
    *stream = s;
    return device_error;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (!s || !priority)
        return failed(cudaErrorInvalidResourceHandle);
    *priority = s->priority;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    Guard guard(lock);

    if (!stream || !stream_of(stream))
        return failed(cudaErrorInvalidResourceHandle);
    while (!stream->queue.empty()) /* the device would go on; nobody can tell */
        run_one();
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return device_error;
}

/* Whether a stream may be waited for: it is one, and nothing records it. */
static cudaError_t waitable(CUstream_st *s)
{
    if (!s)
        return failed(cudaErrorInvalidResourceHandle);
    if (!s->capture)
        return cudaSuccess;
    invalidate(s);
    return failed(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);
    cudaError_t error = waitable(s);

    if (error != cudaSuccess)
        return error;
    finish(s);
    return failed(device_error);
}

/* Not ready a few times, where something is queued. */
static bool ready_yet(int *queries)
{
    return options.late != 1 || ++*queries % 4 == 0;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);
    cudaError_t error = waitable(s);

    if (error != cudaSuccess)
        return error;
    if (!s->queue.empty() && !ready_yet(&s->queries))
        return cudaErrorNotReady;
    finish(s);
    return failed(device_error);
}

cudaError_t cudaDeviceSynchronize(void)
{
    Guard guard(lock);

    if (any_capture()) {
        invalidate(nullptr);
        return failed(cudaErrorStreamCaptureUnsupported);
    }
    finish_all();
    return failed(device_error);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *data)
{
    Guard guard(lock);
    Work work;

    work.name = "cudaLaunchHostFunc";
    work.run = [fn, data] { fn(data); };
    return enqueue(stream, std::move(work));
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    Guard guard(lock);

    if (!event)
        return failed(cudaErrorInvalidValue);
    *event = new CUevent_st;
    (*event)->timing = !(flags & cudaEventDisableTiming);
    return device_error;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    Guard guard(lock);

    if (!event)
        return failed(cudaErrorInvalidResourceHandle);
    delete event;
    return device_error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (!event || !s)
        return failed(cudaErrorInvalidResourceHandle);
    if (s->capture) {
        event->capture = s->capture;
        event->frontier = s->frontier;
        event->record = nullptr;
        return cudaSuccess;
    }
    order_with_default(s);
    join(s->clock, host_clock);
    event->capture = nullptr;
    event->record = std::make_shared<Record>();
    event->record->clock = s->clock;
    Item item;
    item.record = event->record;
    push(s, std::move(item));
    return failed(device_error);
}

static cudaError_t wait_captured(CUstream_st *s, const CUevent_st *event)
{
    if (!s->capture) {
        s->capture = event->capture;
        s->lane = static_cast<int>(s->capture->lanes.size());
        s->capture->lanes.push_back(s);
        s->frontier.clear();
    }
    if (s->capture != event->capture) {
        invalidate(s);
        return failed(cudaErrorStreamCaptureMerge);
    }
    for (size_t node : event->frontier)
        if (std::find(s->frontier.begin(), s->frontier.end(), node) == s->frontier.end())
            s->frontier.push_back(node);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (!event || !s)
        return failed(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return wait_captured(s, event);
    if (s->capture) {
        invalidate(s);
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (event->record) {
        if (!event->record->done)
            s->after.push_back(event->record);
        join(s->clock, event->record->clock);
    }
    return failed(device_error);
}

static cudaError_t finish_event(cudaEvent_t event)
{
    if (!event)
        return failed(cudaErrorInvalidResourceHandle);
    if (event->capture) {
        event->capture->invalid = true;
        return failed(cudaErrorCapturedEvent);
    }
    if (event->record) {
        if (!event->record->done) {
            Open open;

            while (!event->record->done)
                run_one();
        }
        join(host_clock, event->record->clock);
        if (host_knows_all())
            everything_is_before();
    }
    return failed(device_error);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    Guard guard(lock);

    return finish_event(event);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    Guard guard(lock);
    static int queries;

    if (event && !event->capture && event->record && !event->record->done && !ready_yet(&queries))
        return cudaErrorNotReady;
    return finish_event(event);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    Guard guard(lock);

    if (!ms || !start || !end || !start->timing || !end->timing || !start->record || !end->record)
        return failed(cudaErrorInvalidResourceHandle);
    if (!start->record->done || !end->record->done)
        return failed(cudaErrorNotReady);
    *ms = static_cast<float>(end->record->ms - start->record->ms);
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (device_error != cudaSuccess)
        return device_error;
    if (!s)
        return failed(cudaErrorInvalidResourceHandle);
    if (s == streams[0])
        return failed(cudaErrorStreamCaptureUnsupported);
    if (s->capture)
        return failed(cudaErrorInvalidValue);
    s->capture = new CUgraph_st;
    s->capture->mode = mode;
    s->capture->lanes = { s };
    s->lane = 0;
    s->frontier.clear();
    return cudaSuccess;
}

/* Whether everything recorded lies before the frontier. */
static bool joined(const CUgraph_st *g, const std::vector<size_t> &frontier)
{
    std::vector<bool> seen(g->nodes.size());
    std::vector<size_t> left = frontier;

    while (!left.empty()) {
        size_t node = left.back();

        left.pop_back();
        if (seen[node])
            continue;
        seen[node] = true;
        left.insert(left.end(), g->nodes[node].after.begin(), g->nodes[node].after.end());
    }
    return std::find(seen.begin(), seen.end(), false) == seen.end();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (!s || !graph)
        return failed(cudaErrorInvalidValue);
    *graph = nullptr;
    if (!s->capture)
        return failed(cudaErrorInvalidValue);
    CUgraph_st *g = s->capture;
    if (g->lanes[0] != s)
        return failed(cudaErrorStreamCaptureUnmatched);
    bool complete = joined(g, s->frontier);
    for (CUstream_st *lane : streams)
        if (lane->capture == g)
            lane->capture = nullptr;
    if (g->invalid || !complete) {
        cudaError_t error =
            g->invalid ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined;
        delete g;
        return failed(error);
    }
    *graph = g;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (!s || !status)
        return failed(cudaErrorInvalidValue);
    *status = !s->capture           ? cudaStreamCaptureStatusNone
              : s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    Guard guard(lock);

    if (!graph || !n)
        return failed(cudaErrorInvalidValue);
    if (nodes)
        for (size_t i = 0; i < *n && i < graph->nodes.size(); i++)
            nodes[i] = reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]);
    *n = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    Guard guard(lock);

    if (!exec || !graph)
        return failed(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{ *graph, {} };
    for (size_t i = 1; i < graph->lanes.size(); i++)
        (*exec)->slots.push_back(new_slot());
    return device_error;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t)
{
    return exec ? device_error : failed(cudaErrorInvalidValue);
}

/* A node that nothing unfinished precedes: the first, or any. */
static size_t pick_node(const CUgraph_st &g, const std::vector<bool> &done)
{
    std::vector<size_t> can;

    for (size_t i = 0; i < g.nodes.size(); i++) {
        bool open = !done[i];

        for (size_t before : g.nodes[i].after)
            open = open && done[before];
        if (!open)
            continue;
        if (options.late != 1)
            return i;
        can.push_back(i);
    }
    return can[choose(static_cast<uint32_t>(can.size()))];
}

static void run_graph(const std::vector<Work> &works, const CUgraph_st &g)
{
    std::vector<bool> done(g.nodes.size());

    for (size_t n = 0; n < g.nodes.size() && device_error == cudaSuccess; n++) {
        size_t i = g.lanes.size() == 1 ? n : pick_node(g, done);

        execute(works[i]);
        done[i] = true;
    }
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    Guard guard(lock);
    CUstream_st *s = stream_of(stream);

    if (device_error != cudaSuccess)
        return device_error;
    if (!exec || !s)
        return failed(cudaErrorInvalidValue);
    if (s->capture) /* child graphs are not needed */
        return failed(cudaErrorStreamCaptureUnsupported);
    if (count_launch() != cudaSuccess)
        return device_error;
    order_with_default(s);
    join(s->clock, host_clock);

    auto works = std::make_shared<std::vector<Work>>();
    auto graph = std::make_shared<CUgraph_st>(exec->graph);
    Clock start = s->clock;
    std::vector<Clock> after;
    for (const CUgraph_st::Node &node : exec->graph.nodes) {
        Work w = node.work;

        keep_source(w);
        w.clock = start;
        for (size_t before : node.after)
            join(w.clock, after[before]);
        w.stream = node.lane ? exec->slots[static_cast<size_t>(node.lane) - 1] : s->slot;
        w.number = tick(w.stream);
        after.push_back(w.clock);
        note(after.back(), w.stream, w.number);
        join(s->clock, after.back());
        works->push_back(std::move(w));
    }
    Item item;
    item.run = [works, graph] { run_graph(*works, *graph); };
    push(s, std::move(item));
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    Guard guard(lock);

    delete exec;
    return device_error;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    Guard guard(lock);

    delete graph;
    return device_error;
}
