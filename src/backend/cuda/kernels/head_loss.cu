// The softmax of a chunk of logits, a block to a token: reads them twice and writes the dlogits
// once, 12 bytes a logit in float32, 10 in bf16, of which the second read mostly hits the L2
// cache. Limit: the memory bandwidth.
//
// bf16 dlogits take the front half of their token's logits: what a round of the block writes lies
// before what it has read.
#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

constexpr int threads = 512;

// Σ exp(x - largest), with its largest.
struct Sum {
  float largest = -INFINITY;
  float sum = 0;
  __device__ void add(float x) {
    if (x > largest) {
      sum = fmaf(sum, expf(largest - x), 1.0f);
      largest = x;
    } else {
      sum += expf(x - largest);
    }
  }
};

template <class T>
__global__ void __launch_bounds__(threads) softmax_kernel(HeadChunk c, int* bad) {
  __shared__ float float_room[33];
  __shared__ double room[33];
  const std::int64_t token = blockIdx.x;
  float* const logits = c.logits + token * c.line;
  T* const dlogits = reinterpret_cast<T*>(logits);
  const float weight = c.weights[token];
  const std::int32_t target = c.targets[token];
  const bool inside = 0 <= target && target < c.vocab;
  if (weight == 0 || !inside) {
    if (weight != 0 && threadIdx.x == 0) *bad = static_cast<int>(token + 1);
    for (std::int64_t v = threadIdx.x; c.gradient && v < c.rows; v += threads)
      store(dlogits + v, 0);
    if (threadIdx.x == 0) c.nll[token] = 0;
    return;
  }
  Sum mine;
  for (std::int64_t v = threadIdx.x; v < c.vocab; v += threads)
    mine.add(logits[v] + (c.bias == nullptr ? 0.0f : c.bias[v]));
  const float largest =
      joined(mine.largest, float_room, [](float a, float b) { return fmaxf(a, b); });
  const double part =
      mine.sum == 0 ? 0.0
                    : static_cast<double>(mine.sum) *
                          exp(static_cast<double>(mine.largest) - static_cast<double>(largest));
  const double sum = block_sum(part, room);
  const float at_target = logits[target] + (c.bias == nullptr ? 0.0f : c.bias[target]);
  if (threadIdx.x == 0)
    c.nll[token] = static_cast<double>(largest) + log(sum) - static_cast<double>(at_target);
  if (!c.gradient) return;
  __syncthreads();  // nobody overwrites the target's logit before it was read
  const auto inverse = static_cast<float>(1 / sum);
  for (std::int64_t begin = 0; begin < c.rows; begin += threads) {
    const std::int64_t v = begin + threadIdx.x;
    float d = 0;
    if (v < c.vocab) {
      const float x = logits[v] + (c.bias == nullptr ? 0.0f : c.bias[v]);
      d = weight * (expf(x - largest) * inverse - (v == target ? 1.0f : 0.0f));
    }
    if constexpr (sizeof(T) < sizeof(float)) __syncthreads();
    if (v < c.rows) store(dlogits + v, d);
  }
}

__global__ void losses_kernel(HeadChunk c, double* stats, bool clear) {
  __shared__ double room[33];
  double loss = 0, weight = 0;
  for (std::int64_t t = threadIdx.x; t < c.tokens; t += blockDim.x) {
    const double w = c.weights[t];
    if (w != 0) loss += w * c.nll[t];
    weight += w;
  }
  loss = block_sum(loss, room);
  weight = block_sum(weight, room);
  if (threadIdx.x != 0) return;
  stats[0] = (clear ? 0 : stats[0]) + loss;
  stats[1] = (clear ? 0 : stats[1]) + weight;
}

}  // namespace

void head_softmax(cudaStream_t s, const HeadChunk& chunk, int* bad) {
  with_type(chunk.type, [&]<class T>(T*) {
    softmax_kernel<T><<<static_cast<unsigned>(chunk.tokens), threads, 0, s>>>(chunk, bad);
  });
}

void head_losses(cudaStream_t s, const HeadChunk& chunk, double* stats, bool clear) {
  losses_kernel<<<1, 256, 0, s>>>(chunk, stats, clear);
}

}  // namespace sluice::gpu
