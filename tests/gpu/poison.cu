#include "poison.h"

namespace sluice {
namespace {

__global__ void count_kernel(const unsigned* words, long long count, unsigned long long* found) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  unsigned long long mine = 0;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride)
    mine += words[i] == 0xffffffffu ? 1 : 0;
  if (mine != 0) atomicAdd(found, mine);
}

}  // namespace

std::int64_t poisoned_words(const void* data, std::int64_t bytes) {
  unsigned long long *on_device = nullptr, found = 0;
  if (cudaMalloc(&on_device, sizeof(found)) != cudaSuccess) return -1;
  cudaMemset(on_device, 0, sizeof(found));
  count_kernel<<<1024, 256>>>(static_cast<const unsigned*>(data), bytes / 4, on_device);
  const cudaError_t code = cudaMemcpy(&found, on_device, sizeof(found), cudaMemcpyDeviceToHost);
  cudaFree(on_device);
  return code == cudaSuccess ? static_cast<std::int64_t>(found) : -1;
}

void fill_bytes(void* data, int byte, std::int64_t bytes) {
  cudaMemset(data, byte, static_cast<std::size_t>(bytes));
  cudaDeviceSynchronize();
}

}  // namespace sluice
