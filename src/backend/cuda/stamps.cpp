#include "backend/cuda/stamps.h"

#include <chrono>

#include "backend/cuda/runtime.h"

namespace sluice {

CudaStamps::~CudaStamps() {
  for (const cudaEvent_t event : events_) (void)cudaEventDestroy(event);
}

std::int64_t CudaStamps::put(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "making an event");
  events_.push_back(event);
  check_cuda(cudaEventRecord(event, stream), "looking at the clock");
  if (events_.size() == 1) {
    check_cuda(cudaEventSynchronize(event), "looking at the clock");
    began_ = std::chrono::duration_cast<std::chrono::nanoseconds>(
                 std::chrono::steady_clock::now().time_since_epoch())
                 .count();
  }
  return static_cast<std::int64_t>(events_.size()) - 1;
}

std::int64_t CudaStamps::time_of(std::int64_t number) const {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, events_.front(),
                                  events_[static_cast<std::size_t>(number)]),
             "reading a clock");
  return began_ + static_cast<std::int64_t>(1e6 * static_cast<double>(milliseconds));
}

}  // namespace sluice
