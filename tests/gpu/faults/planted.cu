// Kernels with one fault each, that compute-sanitizer must find: what shows that a clean report
// means something. `planted_faults TOOL` runs the one that is for TOOL; nothing else of Sluice is
// in this program.
#include <cstdio>
#include <cstring>

namespace {

constexpr int threads = 64;

// One number past the end of `to`.
__global__ void writes_too_far(float* to) { to[threadIdx.x + 1] = 1; }

// A number that another warp writes is read with no barrier between.
__global__ void reads_without_waiting(float* to) {
  __shared__ float room[threads];
  room[threadIdx.x] = static_cast<float>(threadIdx.x);
  to[threadIdx.x] = room[(threadIdx.x + 32) % threads];
}

// Memory that nobody wrote.
__global__ void reads_what_is_not_there(const float* from, float* to) {
  to[threadIdx.x] = from[threadIdx.x] + 1;
}

// Half of a warp waits for the other half by a mask that it is not in itself.
__global__ void waits_for_others(float* to, unsigned mask) {
  __shared__ float room[threads];
  room[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (threadIdx.x % 32 >= 16) {
    __syncwarp(mask);
    to[threadIdx.x] = room[threadIdx.x - 16];
  }
}

// Half of a warp comes to another barrier than the rest.
__global__ void waits_apart(float* to) {
  __shared__ float room[threads];
  room[threadIdx.x] = to[threadIdx.x];
  if (room[threadIdx.x] + static_cast<float>(threadIdx.x % 32) < 16) {
    __syncthreads();
    to[threadIdx.x] = room[threads - 1 - threadIdx.x];
  } else {
    to[threadIdx.x] = 2 * room[threadIdx.x];
    __syncthreads();
  }
}

bool good(cudaError_t code) {
  if (code != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(code));
  return code == cudaSuccess;
}

}  // namespace

int main(int count, char** arguments) {
  const char* const tool = count == 2 ? arguments[1] : "";
  const auto is = [&](const char* name) { return std::strcmp(tool, name) == 0; };
  float *from = nullptr, *to = nullptr;
  if (!good(cudaMalloc(&from, threads * sizeof(float)))) return 3;
  if (!good(cudaMalloc(&to, threads * sizeof(float)))) return 3;
  if (is("memcheck"))
    writes_too_far<<<1, threads>>>(to);
  else if (is("racecheck"))
    reads_without_waiting<<<1, threads>>>(to);
  else if (is("initcheck"))
    reads_what_is_not_there<<<1, threads>>>(from, to);
  else if (is("synccheck")) {
    cudaMemset(to, 0, threads * sizeof(float));
    waits_apart<<<1, threads>>>(to);
    (void)good(cudaDeviceSynchronize());
    waits_for_others<<<1, threads>>>(to, 0xffffu);
  } else
    return 2;
  (void)good(cudaDeviceSynchronize());
  (void)cudaFree(from), (void)cudaFree(to);
  return 0;
}
