// What torch asks of the CUDA runtime beyond what the kernels need: the rest of libcudart.so, on top of a CUDA runtime
// for CPUs ($(CUDACPU)), which executes every kernel before its launch returns. New here: stream capture and graphs,
// with the rules that capture has on a device (CUDA Programming Guide, "CUDA Graphs": prohibited and unhandled
// operations).
//
// The Makefile renames those of the CPU runtime's functions that are redefined here, cudaX, to cudacpu_cudaX, and wraps
// cudacpu::Launch::run, where a launch has its parameters but has not begun.
#include "runtime.h"

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "machine.h"

namespace {

using Work = std::vector<std::function<void()>>;

struct Recorded {
  cudaStream_t stream;
  std::function<void()> work;  // none: here is waited for what the stream was given before `position`
  size_t position;
};

struct Capture {
  std::unique_ptr<std::vector<Recorded>> work;  // none: no capture is on
  cudaStream_t origin = nullptr;
  // The origin and those that waited for one of them, with how much work there was after the last of each.
  std::map<cudaStream_t, size_t> streams;
  std::map<cudaEvent_t, std::pair<cudaStream_t, size_t>> events;  // recorded in one of them, likewise
  cudaError_t broken = cudaSuccess;
  unsigned long long id = 0;
};

Capture& capture() {
  static Capture it;
  return it;
}

thread_local cudaStream_t launched_on = nullptr;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

bool capture_is_on() { return capture().work != nullptr; }
bool is_legacy(cudaStream_t stream) { return stream == nullptr || stream == cudaStreamLegacy; }

// What is not allowed in a capture ends it.
cudaError_t refuse(cudaError_t why) {
  if (capture().broken == cudaSuccess) capture().broken = why;
  return why;
}

// The legacy default stream waits for all others, which a captured one cannot grant.
cudaError_t check_stream(cudaStream_t stream) {
  return capture_is_on() && is_legacy(stream) ? refuse(cudaErrorStreamCaptureImplicit) : cudaSuccess;
}

template <class F> cudaError_t do_or_record(cudaStream_t stream, F work) {
  if (const cudaError_t error = check_stream(stream)) return error;
  if (!stand_in::capturing(stream)) return work();
  stand_in::record(stream, [work] { work(); });
  return cudaSuccess;
}

// An order that the device may choose, too: what other streams were given comes as late as the origin's waiting allows.
// Memory that changes hands too early, or an edge that is missing, gives wrong numbers so.
std::optional<Work> as_late_as_allowed(std::vector<Recorded> recorded, cudaStream_t origin) {
  Work work;
  std::vector<Recorded> waiting;
  for (Recorded& next : recorded) {
    if (next.work && next.stream == origin) {
      work.push_back(std::move(next.work));
    } else if (next.work) {
      waiting.push_back(std::move(next));
    } else {
      std::erase_if(waiting, [&](Recorded& other) {
        const bool awaited = other.stream == next.stream && other.position < next.position;
        if (awaited) work.push_back(std::move(other.work));
        return awaited;
      });
    }
  }
  if (!waiting.empty()) return std::nullopt;
  return work;
}

Work& work_of(void* graph) { return *static_cast<Work*>(graph); }

}  // namespace

namespace stand_in {

bool capturing(cudaStream_t stream) { return capture_is_on() && capture().streams.count(stream); }
void record(cudaStream_t stream, std::function<void()> work) {
  capture().work->push_back({stream, std::move(work), capture().work->size()});
  capture().streams[stream] = capture().work->size();
}

}  // namespace stand_in

extern "C" {

// --- kernels, copies, fills: executed or recorded ------------------------------------------------

void __real__ZN7cudacpu6Launch3runEv(cudacpu::Launch*);
void __wrap__ZN7cudacpu6Launch3runEv(cudacpu::Launch* launch) {
  if (!stand_in::capturing(launched_on)) return __real__ZN7cudacpu6Launch3runEv(launch);
  stand_in::record(launched_on, [copy = *launch]() mutable { __real__ZN7cudacpu6Launch3runEv(&copy); });
}

#define LAUNCH(function, Kernel)                                                                                     \
  cudaError_t cudacpu_##function(Kernel, dim3, dim3, void**, size_t, cudaStream_t);                                  \
  cudaError_t function(Kernel kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) { \
    if (const cudaError_t error = check_stream(stream)) return error;                                                \
    launched_on = stream;                                                                                            \
    return cudacpu_##function(kernel, grid, block, arguments, shared, stream);                                       \
  }
LAUNCH(cudaLaunchKernel, const void*)
LAUNCH(cudaLaunchCooperativeKernel, const void*)
LAUNCH(__cudaLaunchKernel, cudaKernel_t)
LAUNCH(__cudaLaunchKernel_ptsz, cudaKernel_t)

cudaError_t cudacpu_cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**);
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* launch, const void* kernel, void** arguments) {
  if (const cudaError_t error = check_stream(launch->stream)) return error;
  launched_on = launch->stream;
  return cudacpu_cudaLaunchKernelExC(launch, kernel, arguments);
}

cudaError_t cudacpu_cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return do_or_record(stream, [=] { return cudacpu_cudaMemcpyAsync(to, from, bytes, kind, stream); });
}

cudaError_t cudacpu_cudaMemsetAsync(void*, int, size_t, cudaStream_t);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return do_or_record(stream, [=] { return cudacpu_cudaMemsetAsync(to, value, bytes, stream); });
}

// --- waiting, in a capture: between its streams alone ---------------------------------------------

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = check_stream(stream)) return error;
  return stand_in::capturing(stream) ? refuse(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return capture_is_on() ? refuse(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return capture().events.count(event) ? refuse(cudaErrorCapturedEvent) : cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

cudaError_t cudacpu_cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = check_stream(stream)) return error;
  if (stand_in::capturing(stream)) capture().events[event] = {stream, capture().streams[stream]};
  else capture().events.erase(event);
  return cudacpu_cudaEventRecord(event, stream);
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = check_stream(stream)) return error;
  if (!capture_is_on()) return cudaSuccess;
  const auto found = capture().events.find(event);
  if (found == capture().events.end())
    return stand_in::capturing(stream) ? refuse(cudaErrorStreamCaptureIsolation) : cudaSuccess;
  capture().streams.try_emplace(stream, 0);
  const auto& [recorded_in, work] = found->second;
  if (recorded_in != stream && recorded_in != capture().origin) capture().work->push_back({recorded_in, {}, work});
  return cudaSuccess;
}

// --- capture and graphs --------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (is_legacy(stream)) return cudaErrorStreamCaptureUnsupported;
  if (capture_is_on()) return cudaErrorIllegalState;
  static unsigned long long captures = 0;
  capture() = {std::make_unique<std::vector<Recorded>>(), stream, {{stream, 0}}, {}, cudaSuccess, ++captures};
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!capture_is_on() || stream != capture().origin) return cudaErrorIllegalState;
  Capture ended = std::exchange(capture(), {});
  if (ended.broken) return cudaErrorStreamCaptureInvalidated;
  std::optional<Work> work = as_late_as_allowed(std::move(*ended.work), stream);
  if (!work) return cudaErrorStreamCaptureUnjoined;
  *graph = reinterpret_cast<cudaGraph_t>(new Work(std::move(*work)));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const bool active = stand_in::capturing(stream), broken = capture().broken != cudaSuccess;
  *status = !active  ? cudaStreamCaptureStatusNone
            : broken ? cudaStreamCaptureStatusInvalidated
                     : cudaStreamCaptureStatusActive;
  return check_stream(stream);
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges,
                                     size_t* count) {
  if (graph || nodes || edges || count) return cudaErrorNotSupported;
  if (id) *id = capture().id;
  return cudaStreamIsCapturing(stream, status);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Work(work_of(graph)));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  if (stand_in::capturing(stream)) return cudaErrorNotSupported;  // a graph in a graph
  if (const cudaError_t error = check_stream(stream)) return error;
  for (const auto& work : work_of(graph)) work();
  return cudaSuccess;
}

// How many nodes there are; torch warns of a graph without any. The nodes themselves have no handles.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes) return cudaErrorNotSupported;
  *count = work_of(graph).size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete &work_of(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete &work_of(graph);
  return cudaSuccess;
}

// --- memory: a device has less than the machine that stands in for it ------------------------------

constexpr size_t kMemory = size_t(4) << 30;

cudaError_t cudacpu_cudaMemGetInfo(size_t*, size_t*);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  cudacpu_cudaMemGetInfo(free, total);
  const size_t used = *total - *free;
  *total = kMemory;
  *free = used < kMemory ? kMemory - used : 0;
  return cudaSuccess;
}

// Memory comes and goes beside a capture only where the thread has said that it knows.
cudaError_t check_memory_mode() {
  return capture_is_on() && capture_mode == cudaStreamCaptureModeGlobal ? refuse(cudaErrorStreamCaptureUnsupported)
                                                                        : cudaSuccess;
}

cudaError_t cudacpu_cudaMalloc(void**, size_t);
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (const cudaError_t error = check_memory_mode()) return error;
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return bytes > free ? cudaErrorMemoryAllocation : cudacpu_cudaMalloc(memory, bytes);
}

cudaError_t cudacpu_cudaFree(void*);
cudaError_t cudaFree(void* memory) {
  if (const cudaError_t error = check_memory_mode()) return error;
  return cudacpu_cudaFree(memory);
}

// --- one device, streams of one priority, nothing asynchronous ------------------------------------

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) {
  *priority = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int) {
  std::string("0000:00:00.0").copy(id, bytes);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void*, size_t, unsigned) { return cudaSuccess; }
cudaError_t cudaHostUnregister(void*) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) {
  function(data);
  return cudaSuccess;
}
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

}  // extern "C"
