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

}  // namespace sluice
