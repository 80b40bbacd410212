/* runtime.cc - the device, its memory, copies, launches. */
#include "fiber.h"
#include "shadow.h"
#include "stream.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <random>

namespace emu
{

std::recursive_mutex lock;

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtol(text, nullptr, 0) : otherwise;
}

Options options = {
    from_environment("CUDAEMU_LATE", 0),          from_environment("CUDAEMU_SEED", 0),
    from_environment("CUDAEMU_MEMORY_MIB", 4096), from_environment("CUDAEMU_CAPABILITY", 90),
    from_environment("CUDAEMU_FAIL_AFTER", 0),    from_environment("CUDAEMU_CHECKS", 1),
    from_environment("CUDAEMU_CODE", 0),
};

static std::mt19937 generator(static_cast<uint32_t>(options.seed));
static std::map<const void *, int> shared_limits; /* of kernels that were prepared */
static long launches;
static thread_local cudaError_t last_error;
static thread_local const char *launch_name;

uint32_t choose(uint32_t n)
{
    return static_cast<uint32_t>(generator() % n);
}

cudaError_t failed(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

cudaError_t count_launch()
{
    if (options.fail_after && ++launches > options.fail_after)
        device_error = cudaErrorIllegalAddress;
    return device_error;
}

void execute(const Work &work)
{
    if (work.is_kernel)
        run_kernel(work);
    else
        run_host(work);
}

static size_t device_bytes()
{
    return static_cast<size_t>(options.memory_mib) << 20;
}

/* An error when a recording forbids what may wait or allocate. */
static cudaError_t unsafe_now()
{
    if (device_error != cudaSuccess)
        return device_error;
    if (!any_capture())
        return cudaSuccess;
    invalidate(nullptr);
    return failed(cudaErrorStreamCaptureUnsupported);
}

} // namespace emu

using namespace emu;
using Guard = std::lock_guard<std::recursive_mutex>;

/* ---- the emulator's own ---- */

void cudaemu_name_launch(const char *name)
{
    launch_name = name;
}

void cudaemu_set(cudaemu_option option, long value)
{
    Guard guard(lock);

    switch (option) {
    case CUDAEMU_LATE:
        options.late = value;
        break;
    case CUDAEMU_SEED:
        options.seed = value;
        generator.seed(static_cast<uint32_t>(value));
        break;
    case CUDAEMU_MEMORY_MIB:
        options.memory_mib = value;
        break;
    case CUDAEMU_CAPABILITY:
        options.capability = value;
        break;
    case CUDAEMU_FAIL_AFTER:
        options.fail_after = value;
        launches = 0;
        break;
    case CUDAEMU_CHECKS:
        options.checks = value;
        break;
    case CUDAEMU_CODE:
        options.code = value;
        break;
    }
}

void cudaemu_reset(void)
{
    Guard guard(lock);

    finish_all();
    reset_streams();
    device.clear();
    pinned.clear();
    check_reset();
    shared_limits.clear();
    launches = 0;
    last_error = cudaSuccess;
}

int cudaemu_enqueue(struct CUstream_st *stream, const char *name, void (*fn)(void *args),
                    const void *args, size_t bytes)
{
    Guard guard(lock);
    std::string kept(static_cast<const char *>(args), bytes);
    Work work;

    work.name = name;
    work.run = [fn, kept] {
        std::vector<max_align_t> copy(kept.size() / sizeof(max_align_t) + 1);

        memcpy(copy.data(), kept.data(), kept.size());
        fn(copy.data());
    };
    return enqueue(stream, std::move(work));
}

/* ---- device ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int ordinal)
{
    return ordinal == 0 ? device_error : failed(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *ordinal)
{
    *ordinal = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int ordinal)
{
    if (ordinal != 0 || !prop)
        return failed(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    strcpy(prop->name, "cudaemu");
    prop->totalGlobalMem = device_bytes();
    prop->sharedMemPerBlock = 48 * 1024;
    prop->sharedMemPerBlockOptin = MAX_SHARED;
    prop->sharedMemPerMultiprocessor = 228 * 1024;
    prop->reservedSharedMemPerBlock = 1024;
    prop->regsPerBlock = prop->regsPerMultiprocessor = 65536;
    prop->warpSize = WARP;
    prop->maxThreadsPerBlock = prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = MAX_THREADS;
    prop->maxThreadsDim[2] = 64;
    prop->maxGridSize[0] = INT_MAX;
    prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->major = static_cast<int>(options.capability / 10);
    prop->minor = static_cast<int>(options.capability % 10);
    prop->multiProcessorCount = 4;
    prop->canMapHostMemory = prop->concurrentKernels = prop->unifiedAddressing = 1;
    prop->asyncEngineCount = 2;
    prop->l2CacheSize = 32 << 20;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->maxBlocksPerMultiProcessor = 32;
    prop->streamPrioritiesSupported = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int ordinal)
{
    struct cudaDeviceProp prop;

    if (cudaGetDeviceProperties(&prop, ordinal) != cudaSuccess || !value)
        return failed(cudaErrorInvalidDevice);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = prop.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(prop.sharedMemPerBlock);
        break;
    case cudaDevAttrWarpSize:
        *value = prop.warpSize;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = prop.multiProcessorCount;
        break;
    case cudaDevAttrL2CacheSize:
        *value = prop.l2CacheSize;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = prop.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = prop.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = prop.minor;
        break;
    case cudaDevAttrStreamPrioritiesSupported:
        *value = prop.streamPrioritiesSupported;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = static_cast<int>(prop.sharedMemPerMultiprocessor);
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(prop.sharedMemPerBlockOptin);
        break;
    default:
        return failed(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *pciBusId, int len, int ordinal)
{
    if (!pciBusId || len < 13 || ordinal != 0)
        return failed(cudaErrorInvalidValue);
    strcpy(pciBusId, "0000:00:00.0");
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    cudaemu_reset();
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = device_error != cudaSuccess ? device_error : last_error;

    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return device_error != cudaSuccess ? device_error : last_error;
}

/* Name and text of each error. */
static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ERROR(name, text) \
    {                     \
        name, #name, text \
    }
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInitializationError, "initialization error"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ERROR(cudaErrorInsufficientDriver, "driver too old for the runtime"),
    ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ERROR(cudaErrorNoDevice, "no device"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR(cudaErrorNotSupported, "operation not supported"),
    ERROR(cudaErrorStreamCaptureUnsupported, "not permitted while a stream is capturing"),
    ERROR(cudaErrorStreamCaptureInvalidated, "an earlier error ended the capture"),
    ERROR(cudaErrorStreamCaptureMerge, "two captures would become one"),
    ERROR(cudaErrorStreamCaptureUnmatched, "the capture was begun on another stream"),
    ERROR(cudaErrorStreamCaptureUnjoined, "captured work not joined to the first stream"),
    ERROR(cudaErrorStreamCaptureIsolation, "captured work would depend on work outside"),
    ERROR(cudaErrorStreamCaptureImplicit, "the default stream would join the capture"),
    ERROR(cudaErrorCapturedEvent, "not permitted on an event recorded in a capture"),
#undef ERROR
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.error == error)
            return e.name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.error == error)
            return e.text;
    return "unknown error";
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    Guard guard(lock);
    cudaError_t error = unsafe_now();

    if (error != cudaSuccess)
        return error;
    if (!p)
        return failed(cudaErrorInvalidValue);
    *p = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > device_bytes() || device.live_bytes > device_bytes() - bytes ||
        !(*p = device.take(bytes)))
        return failed(cudaErrorMemoryAllocation);
    check_allocated(*p, bytes);
    return cudaSuccess;
}

static cudaError_t give_back(Arena &arena, void *p)
{
    Guard guard(lock);
    cudaError_t error = p ? unsafe_now() : device_error;

    if (error != cudaSuccess || !p)
        return error;
    finish_all();
    if (!arena.give(p))
        return failed(cudaErrorInvalidValue);
    check_freed(p);
    return device_error;
}

cudaError_t cudaFree(void *p)
{
    return give_back(device, p);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned int)
{
    Guard guard(lock);
    cudaError_t error = unsafe_now();

    if (error != cudaSuccess)
        return error;
    if (!p)
        return failed(cudaErrorInvalidValue);
    *p = bytes ? pinned.take(bytes) : nullptr;
    if (bytes && !*p)
        return failed(cudaErrorMemoryAllocation);
    if (*p)
        check_allocated(*p, bytes);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

cudaError_t cudaFreeHost(void *p)
{
    return give_back(pinned, p);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    Guard guard(lock);

    if (available)
        *available = device_bytes() - std::min(device_bytes(), device.live_bytes);
    if (total)
        *total = device_bytes();
    return device_error;
}

/* ---- copies ---- */

struct Rows {
    unsigned char *to;
    const unsigned char *from;
    size_t to_pitch, from_pitch, width, height;
};

static bool direction_fits(const Rows &r, enum cudaMemcpyKind kind)
{
    bool to = is_device(r.to), from = is_device(r.from);

    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to && !from;
    case cudaMemcpyHostToDevice:
        return to && !from;
    case cudaMemcpyDeviceToHost:
        return !to && from;
    case cudaMemcpyDeviceToDevice:
        return to && from;
    default:
        return true;
    }
}

static void move_rows(const Rows &r)
{
    for (size_t i = 0; i < r.height; i++) {
        const unsigned char *from = r.from + i * r.from_pitch;
        unsigned char *to = r.to + i * r.to_pitch;

        cudaemu_reads(from, r.width);
        cudaemu_writes(to, r.width);
        memcpy(to, from, r.width);
    }
}

/* Between device memory, bytes that nobody has written may travel: they stay so. */
static void move_on_device(const Rows &r)
{
    for (size_t i = 0; i < r.height; i++) {
        global_copy(r.to + i * r.to_pitch, r.from + i * r.from_pitch, r.width);
        memcpy(r.to + i * r.to_pitch, r.from + i * r.from_pitch, r.width);
    }
}

/* Pageable memory is read at the call; pinned memory when the copy runs, and must then be what it
 * was at the call. */
static Work copy_work(const char *name, const Rows &r)
{
    Work work;
    auto kept = std::make_shared<std::string>();
    bool from_host = !is_device(r.from), from_pinned = is_pinned(r.from);

    if (from_host && !from_pinned)
        for (size_t i = 0; i < r.height; i++)
            kept->append(reinterpret_cast<const char *>(r.from) + i * r.from_pitch, r.width);
    work.name = name;
    if (!from_host && is_device(r.to)) {
        work.run = [r] { move_on_device(r); };
    } else if (from_host && !from_pinned)
        work.run = [r, kept] {
            Rows copy_of = r;

            copy_of.from = reinterpret_cast<const unsigned char *>(kept->data());
            copy_of.from_pitch = r.width;
            move_rows(copy_of);
        };
    else
        work.run = [r] { move_rows(r); };
    if (from_pinned)
        work.source = { r.from, r.from_pitch, r.width, r.height };
    return work;
}

static cudaError_t copy(const char *name, const Rows &r, enum cudaMemcpyKind kind,
                        cudaStream_t stream, bool waits)
{
    Guard guard(lock);

    if (device_error != cudaSuccess)
        return device_error;
    if (r.width == 0 || r.height == 0)
        return cudaSuccess;
    if (!direction_fits(r, kind))
        return failed(cudaErrorInvalidMemcpyDirection);
    if (r.width > r.to_pitch || r.width > r.from_pitch)
        return failed(cudaErrorInvalidPitchValue);
    if (waits && any_capture()) {
        invalidate(nullptr);
        return failed(cudaErrorStreamCaptureImplicit);
    }
    cudaError_t error = enqueue(stream, copy_work(name, r));
    /* to or from pageable memory the call returns when it is done */
    bool pageable = (!is_device(r.to) && !is_pinned(r.to));
    CUstream_st *s = stream_of(stream);
    if (error == cudaSuccess && !s->capture &&
        ((waits && !(is_device(r.to) && is_device(r.from))) || pageable)) {
        finish(s);
        error = failed(device_error);
    }
    return error;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return copy("cudaMemcpyAsync",
                { static_cast<unsigned char *>(dst), static_cast<const unsigned char *>(src), bytes,
                  bytes, bytes, 1 },
                kind, stream, false);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    return copy("cudaMemcpy",
                { static_cast<unsigned char *>(dst), static_cast<const unsigned char *>(src), bytes,
                  bytes, bytes, 1 },
                kind, nullptr, true);
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    return copy("cudaMemcpy2DAsync",
                { static_cast<unsigned char *>(dst), static_cast<const unsigned char *>(src),
                  dpitch, spitch, width, height },
                kind, stream, false);
}

cudaError_t cudaMemcpy2D(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width,
                         size_t height, enum cudaMemcpyKind kind)
{
    return copy("cudaMemcpy2D",
                { static_cast<unsigned char *>(dst), static_cast<const unsigned char *>(src),
                  dpitch, spitch, width, height },
                kind, nullptr, true);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    Guard guard(lock);
    Work work;

    if (bytes == 0)
        return device_error;
    work.name = "cudaMemsetAsync";
    work.run = [p, value, bytes] {
        cudaemu_writes(p, bytes);
        memset(p, value, bytes);
    };
    return enqueue(stream, std::move(work));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* ---- kernels ---- */

static int shared_limit(const void *kernel)
{
    auto it = shared_limits.find(kernel);

    return it == shared_limits.end() ? 48 * 1024 : it->second;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    Guard guard(lock);

    if (!attributes || !kernel)
        return failed(cudaErrorInvalidDeviceFunction);
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = MAX_THREADS;
    attributes->numRegs = 64;
    attributes->ptxVersion = static_cast<int>(code_version());
    attributes->binaryVersion = static_cast<int>(options.capability);
    attributes->maxDynamicSharedSizeBytes = shared_limit(kernel);
    return device_error;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    Guard guard(lock);

    if (!kernel)
        return failed(cudaErrorInvalidDeviceFunction);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return device_error;
    if (value < 0 || static_cast<size_t>(value) > MAX_SHARED)
        return failed(cudaErrorInvalidValue);
    shared_limits[kernel] = value;
    return device_error;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel,
                                                          int threads, size_t shared_bytes)
{
    Guard guard(lock);

    if (!blocks || !kernel || threads < 1 || threads > static_cast<int>(MAX_THREADS))
        return failed(cudaErrorInvalidValue);
    size_t by_shared = 228 * 1024 / (shared_bytes + 1024);
    size_t by_threads = static_cast<size_t>(2048 / threads);
    *blocks = static_cast<int>(std::min<size_t>({ by_shared, by_threads, 32 }));
    return device_error;
}

static cudaError_t launch_error(const cudaLaunchConfig_t *c, const void *kernel)
{
    uint64_t threads = static_cast<uint64_t>(c->blockDim.x) * c->blockDim.y * c->blockDim.z;

    if (c->gridDim.x == 0 || c->gridDim.y == 0 || c->gridDim.z == 0 || threads == 0 ||
        threads > MAX_THREADS || c->blockDim.z > 64 || c->gridDim.x > INT_MAX ||
        c->gridDim.y > 65535 || c->gridDim.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (c->dynamicSmemBytes > static_cast<size_t>(shared_limit(kernel)))
        return cudaErrorInvalidValue;
    for (unsigned i = 0; i < c->numAttrs; i++)
        if (c->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization &&
            c->attrs[i].val.programmaticStreamSerializationAllowed && options.capability < 90)
            return cudaErrorNotSupported;
    return cudaSuccess;
}

cudaError_t cudaemu_launch(const cudaLaunchConfig_t *config, const void *kernel,
                           void (*call)(const void *kernel, const void *arguments),
                           const void *arguments, size_t bytes)
{
    Guard guard(lock);
    Work work;
    cudaError_t error = launch_error(config, kernel);

    work.name = launch_name ? launch_name : "kernel";
    launch_name = nullptr;
    if (error != cudaSuccess)
        return failed(error);
    if (count_launch() != cudaSuccess)
        return failed(device_error);
    work.call = call;
    work.kernel = kernel;
    auto kept = std::make_shared<std::vector<max_align_t>>(bytes / sizeof(max_align_t) + 1);
    memcpy(kept->data(), arguments, bytes);
    work.arguments = { reinterpret_cast<const unsigned char *>(kept->data()), bytes };
    work.kept_arguments = kept;
    work.is_kernel = true;
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
            work.dependent = config->attrs[i].val.programmaticStreamSerializationAllowed != 0;
    work.grid = { config->gridDim.x, config->gridDim.y, config->gridDim.z };
    work.block = { config->blockDim.x, config->blockDim.y, config->blockDim.z };
    work.shared = config->dynamicSmemBytes;
    return failed(enqueue(config->stream, std::move(work)));
}
