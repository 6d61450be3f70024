// Rotary reads x and writes y once: limit, those bytes over the memory bandwidth, and one sine and
// cosine in float64 for each token and pair, shared by its heads. Pack moves a weight once.
#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

// A block for each token; a thread turns the same pair of all heads.
template <class T>
__global__ void rotary_kernel(const T* x, const std::int32_t* positions, T* y, std::int64_t heads,
                              std::int64_t head, int dims, double base, bool inverse) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t at = token * heads * head;
  for (int pair = threadIdx.x; pair < dims / 2; pair += blockDim.x) {
    const double frequency = pow(base, -2.0 * pair / dims);
    const double angle = positions[token] * frequency;
    const auto cosine = static_cast<float>(cos(angle));
    const auto sine = static_cast<float>(inverse ? -sin(angle) : sin(angle));
    for (std::int64_t n = 0; n < heads; ++n) {
      const std::int64_t even = at + n * head + 2 * pair;
      const float a = load(x + even), b = load(x + even + 1);
      store(y + even, a * cosine - b * sine);
      store(y + even + 1, b * cosine + a * sine);
    }
  }
  const std::int64_t rest = head - dims;
  for (std::int64_t i = threadIdx.x; i < rest * heads; i += blockDim.x) {
    const std::int64_t place = at + i / rest * head + dims + i % rest;
    y[place] = x[place];
  }
}

template <class T>
__global__ void pack_kernel(const T* w, T* packed, std::int64_t k, std::int64_t n, bool transposed,
                            int group, std::int64_t count) {
  const std::int64_t lines = (k + group - 1) / group;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t word = i / group, column = word % 16 + word / 16 / lines * 16;
  const std::int64_t row = word / 16 % lines * group + i % group;
  const bool there = row < k && column < n;
  const std::int64_t from = transposed ? column * k + row : row * n + column;
  store(packed + i, there ? load(w + from) : 0.0f);
}

}  // namespace

void rotary(cudaStream_t s, Type type, const void* x, const std::int32_t* positions, void* y,
            std::int64_t tokens, std::int64_t heads, std::int64_t head, int dims, float base,
            bool inverse) {
  with_type(type, [&]<class T>(T*) {
    rotary_kernel<<<static_cast<unsigned>(tokens), 128, 0, s>>>(
        static_cast<const T*>(x), positions, static_cast<T*>(y), heads, head, dims,
        static_cast<double>(base), inverse);
  });
}

void pack(cudaStream_t s, Type type, const void* w, void* packed, std::int64_t k, std::int64_t n,
          bool transposed) {
  const int group = type == Type::bf16 ? 2 : 1;
  const std::int64_t count = (n + 15) / 16 * 16 * ((k + group - 1) / group * group);
  with_type(type, [&]<class T>(T*) {
    pack_kernel<<<static_cast<unsigned>((count + 255) / 256), 256, 0, s>>>(
        static_cast<const T*>(w), static_cast<T*>(packed), k, n, transposed, group, count);
  });
}

}  // namespace sluice::gpu
