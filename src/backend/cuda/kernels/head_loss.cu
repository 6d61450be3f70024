// The softmax of a chunk of logits, a block to a token: reads them and writes the dlogits, 8 bytes
// a logit in float32, 6 in bf16. Limit: the memory bandwidth, of which on an H200 (4.3 TB/s,
// bench_gpu_kernels) 4,096 tokens of 50,257 words reached 52% in bf16, rows in shared memory; 41%
// where each row is read twice, the second time mostly from the L2 cache.
//
// bf16 dlogits take the front half of their token's logits: what a round of the block writes lies
// before what it has read.
#include <algorithm>

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace sluice::gpu {
namespace {

constexpr int threads = 512;

template <class T>
__device__ inline float exponential(float x) {
  if constexpr (sizeof(T) < sizeof(float)) return __expf(x);  // dlogits are rounded to bf16
  return expf(x);
}

// Four neighbours' logits, the bias added; -inf from the vocabulary's end on.
struct Logits {
  const float *logits, *bias;
  std::int64_t vocab;
  __device__ float one(std::int64_t v) const {
    return logits[v] + (bias == nullptr ? 0.0f : bias[v]);
  }
  __device__ float4 operator()(std::int64_t v) const {
    float4 x = *reinterpret_cast<const float4*>(logits + v);  // rows are whole cache lines
    if (bias != nullptr) {
      const auto at = [this](std::int64_t i) { return i < vocab ? bias[i] : 0.0f; };
      x.x += at(v), x.y += at(v + 1), x.z += at(v + 2), x.w += at(v + 3);
    }
    if (v + 3 < vocab) return x;
    if (v >= vocab) x.x = -INFINITY;
    if (v + 1 >= vocab) x.y = -INFINITY;
    if (v + 2 >= vocab) x.z = -INFINITY;
    x.w = -INFINITY;
    return x;
  }
};

// Σ exp(x - largest), with its largest.
template <class T>
struct Sum {
  float largest = -INFINITY;
  float sum = 0;
  template <int count>
  __device__ void add(const float4 (&all)[count]) {
    float most = largest;
#pragma unroll
    for (const float4& x : all) most = fmaxf(fmaxf(fmaxf(most, x.x), fmaxf(x.y, x.z)), x.w);
    const float base = most == -INFINITY ? 0.0f : most;  // a NaN is not lost
    sum *= exponential<T>(largest - base);
    largest = most;
#pragma unroll
    for (const float4& x : all)
      sum += (exponential<T>(x.x - base) + exponential<T>(x.y - base)) +
             (exponential<T>(x.z - base) + exponential<T>(x.w - base));
  }
};

// Of all threads of the block.
struct Joined {
  float largest;
  double sum;
};
template <class T>
__device__ inline Joined join_sums(const Sum<T>& mine, float* float_room, double* room) {
  const float largest =
      joined(mine.largest, float_room, [](float a, float b) { return fmaxf(a, b); });
  const double part =
      mine.sum == 0 ? 0.0
                    : static_cast<double>(mine.sum) *
                          exp(static_cast<double>(mine.largest) - static_cast<double>(largest));
  return {largest, block_sum(part, room)};
}

__device__ inline void put(float* to, const float4& d) { *reinterpret_cast<float4*>(to) = d; }
__device__ inline void put(bfloat* to, const float4& d) {
  const auto two = [](float a, float b) {
    return static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(a))) |
           static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(b))) << 16;
  };
  *reinterpret_cast<uint2*>(to) = make_uint2(two(d.x, d.y), two(d.z, d.w));
}

// A whole number of fours is written, what is beyond c.rows into the line's padding.
template <class T>
__global__ void __launch_bounds__(threads, 2) softmax_kernel(HeadChunk c, int* bad) {
  __shared__ float float_room[33];
  __shared__ double room[33];
  constexpr int each = 4, round = each * threads * 4;
  const std::int64_t token = blockIdx.x;
  float* const logits = c.logits + token * c.line;
  T* const dlogits = reinterpret_cast<T*>(logits);
  const float weight = c.weights[token];
  const std::int32_t target = c.targets[token];
  const bool inside = 0 <= target && target < c.vocab;
  if (weight == 0 || !inside) {
    if (weight != 0 && threadIdx.x == 0) *bad = static_cast<int>(token + 1);
    for (std::int64_t v = 4 * threadIdx.x; c.gradient && v < c.rows; v += 4 * threads)
      put(dlogits + v, make_float4(0, 0, 0, 0));
    if (threadIdx.x == 0) c.nll[token] = 0;
    return;
  }
  const Logits at{logits, c.bias, c.vocab};
  const float4 none = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
  const auto fetch = [&](std::int64_t begin, float4(&to)[each]) {
#pragma unroll
    for (int k = 0; k < each; ++k) {
      const std::int64_t v = begin + (k * threads + threadIdx.x) * 4;
      to[k] = v < c.vocab ? at(v) : none;
    }
  };
  Sum<T> mine;
  for (std::int64_t begin = 0; begin < c.vocab; begin += round) {
    float4 x[each];
    fetch(begin, x);
    mine.add(x);
  }
  const auto [largest, sum] = join_sums(mine, float_room, room);
  if (threadIdx.x == 0)
    c.nll[token] = static_cast<double>(largest) + log(sum) - static_cast<double>(at.one(target));
  if (!c.gradient) return;
  __syncthreads();  // nobody overwrites the target's logit before it was read
  const float factor = weight * static_cast<float>(1 / sum);
  for (std::int64_t begin = 0; begin < c.rows; begin += round) {
    float4 x[each];
    fetch(begin, x);
    if constexpr (sizeof(T) < sizeof(float)) __syncthreads();
#pragma unroll
    for (int k = 0; k < each; ++k) {
      const std::int64_t v = begin + (k * threads + threadIdx.x) * 4;
      if (v >= c.rows) continue;
      const auto slope = [&](float logit, int j) {
        const float p = factor * exponential<T>(logit - largest);
        return v + j == target ? p - weight : p;
      };
      put(dlogits + v,
          make_float4(slope(x[k].x, 0), slope(x[k].y, 1), slope(x[k].z, 2), slope(x[k].w, 3)));
    }
  }
}

// The same with a token's logits in shared memory, so that they are read once: a multiprocessor has
// one block, which while it writes a row asks for its next one, place by place. A thread reads and
// overwrites its own places alone, each after the number that was there has been used.
constexpr int row_threads = 1024, row_groups = 4, row_each = 4;
constexpr std::int64_t row_most = 227 * 1024 / 16 - 64;  // fours

template <class T>
__global__ void __launch_bounds__(row_threads, 1) row_kernel(HeadChunk c, int* bad) {
  extern __shared__ float4 row[];
  __shared__ float float_room[33];
  __shared__ double room[33];
  const std::int64_t fours = (c.rows + 3) / 4;
  const auto logits_of = [&](std::int64_t token) { return c.logits + token * c.line; };
  const auto place = [](int group, int k) {
    return static_cast<std::int64_t>(group * row_each + k) * row_threads + threadIdx.x;
  };
  const auto ask = [&](std::int64_t token, std::int64_t i) {
    if (token < c.tokens && i < fours)
      copy_16(reinterpret_cast<bfloat*>(row + i),
              reinterpret_cast<const bfloat*>(logits_of(token)) + 8 * i, 16);
  };
#pragma unroll
  for (int group = 0; group < row_groups; ++group) {
#pragma unroll
    for (int k = 0; k < row_each; ++k) ask(blockIdx.x, place(group, k));
    end_copies();
  }
  const float4 none = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
  for (std::int64_t token = blockIdx.x; token < c.tokens; token += gridDim.x) {
    const Logits at{reinterpret_cast<const float*>(row), c.bias, c.vocab};
    T* const dlogits = reinterpret_cast<T*>(logits_of(token));
    const float weight = c.weights[token];
    const std::int32_t target = c.targets[token];
    const bool counts = weight != 0 && 0 <= target && target < c.vocab;
    if (weight != 0 && !counts && threadIdx.x == 0) *bad = static_cast<int>(token + 1);
    Sum<T> mine;
    const auto add = [&](int group) {
      float4 x[row_each];
#pragma unroll
      for (int k = 0; k < row_each; ++k) {
        const std::int64_t i = place(group, k);
        x[k] = i * 4 < c.vocab ? at(i * 4) : none;
      }
      mine.add(x);
    };
    await_copies<3>(), add(0);
    await_copies<2>(), add(1);
    await_copies<1>(), add(2);
    await_copies<0>(), add(3);
    const auto [largest, sum] = join_sums(mine, float_room, room);
    if (threadIdx.x == 0)
      c.nll[token] =
          counts ? static_cast<double>(largest) + log(sum) - static_cast<double>(at.one(target))
                 : 0.0;
    __syncthreads();  // nobody asks for the next row before the target's logit was read
    const float factor = weight * static_cast<float>(1 / sum);
#pragma unroll
    for (int group = 0; group < row_groups; ++group) {
#pragma unroll
      for (int k = 0; k < row_each; ++k) {
        const std::int64_t i = place(group, k), v = i * 4;
        if (i >= fours) continue;
        if (c.gradient) {
          const float4 x = v < c.vocab ? at(v) : none;
          const auto slope = [&](float logit, int j) {
            const float p = factor * exponential<T>(logit - largest);
            return !counts ? 0.0f : v + j == target ? p - weight : p;
          };
          put(dlogits + v, make_float4(slope(x.x, 0), slope(x.y, 1), slope(x.z, 2), slope(x.w, 3)));
        }
        ask(token + gridDim.x, i);
      }
      end_copies();
    }
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
  const std::int64_t fours = (chunk.rows + 3) / 4;
  with_type(chunk.type, [&]<class T>(T*) {
    // Narrower rows leave room for several blocks, which the caches serve as well.
    if (fours * 2 <= row_most || fours > row_most || chunk.line % 4 != 0) {
      softmax_kernel<T><<<static_cast<unsigned>(chunk.tokens), threads, 0, s>>>(chunk, bad);
      return;
    }
    const auto bytes = static_cast<int>(fours * 16);
    cudaFuncSetAttribute(row_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    row_kernel<T><<<static_cast<unsigned>(std::min<std::int64_t>(chunk.tokens, 132)), row_threads,
                    static_cast<std::size_t>(bytes), s>>>(chunk, bad);
  });
}

void head_losses(cudaStream_t s, const HeadChunk& chunk, double* stats, bool clear) {
  losses_kernel<<<1, 256, 0, s>>>(chunk, stats, clear);
}

}  // namespace sluice::gpu
