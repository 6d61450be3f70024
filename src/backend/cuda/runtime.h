// What is ours of CUDA's runtime, and its errors as ours.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "backend/backend.h"

namespace sluice {

// Throws Exit::internal (Exit::memory when memory ran out), `doing` said with the error's name.
inline void check_cuda(cudaError_t code, const char* doing) {
  require(code == cudaSuccess, [&] {
    const Exit exit = code == cudaErrorMemoryAllocation ? Exit::memory : Exit::internal;
    return DeviceError(exit,
                       {fmt::format("the GPU failed at {}", doing),
                        {},
                        {},
                        fmt::format("{}: {}", cudaGetErrorName(code), cudaGetErrorString(code)),
                        {}});
  });
}

// A queue of work; one that waits for no other.
class CudaStream {
 public:
  CudaStream() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  }
  ~CudaStream() { (void)cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A mark in a stream that a thread can wait for, without spinning.
class CudaEvent {
 public:
  CudaEvent() {
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync),
               "making an event");
  }
  ~CudaEvent() { (void)cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Work that was kept, and is enqueued as a whole.
class CudaGraph {
 public:
  // Ends the capture of `stream` and takes what it kept.
  explicit CudaGraph(cudaStream_t stream) {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(stream, &graph), "keeping a stretch of work");
    const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
    (void)cudaGraphDestroy(graph);
    check_cuda(code, "keeping a stretch of work");
  }
  CudaGraph(CudaGraph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&&) = delete;
  ~CudaGraph() {
    if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
  }
  void launch(cudaStream_t stream) const {
    check_cuda(cudaGraphLaunch(graph_, stream), "enqueueing a stretch of work");
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

// A mark that knows when it was passed.
class CudaTimer {
 public:
  CudaTimer() { check_cuda(cudaEventCreate(&event_), "making an event"); }
  ~CudaTimer() { (void)cudaEventDestroy(event_); }
  CudaTimer(const CudaTimer&) = delete;
  CudaTimer& operator=(const CudaTimer&) = delete;
  void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "a mark"); }
  // Waits until this mark was passed.
  double seconds_since(const CudaTimer& before) const {
    check_cuda(cudaEventSynchronize(event_), "waiting for a mark");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, before.event_, event_), "reading the time");
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace sluice
