// When work of a stream began and ended, for a trace: an event for each look, and the host's clock
// beside the first one. Events are made at the first use and used once.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

namespace sluice {

class CudaStamps {
 public:
  CudaStamps() = default;
  ~CudaStamps();
  CudaStamps(const CudaStamps&) = delete;
  CudaStamps& operator=(const CudaStamps&) = delete;

  // Puts a look at the clock on the stream; its number.
  std::int64_t put(cudaStream_t stream);
  // Nanoseconds of the steady clock when the stream came there. REQUIRES: it did.
  std::int64_t time_of(std::int64_t number) const;

 private:
  std::vector<cudaEvent_t> events_;
  std::int64_t began_ = 0;  // the first event on the steady clock
};

}  // namespace sluice
