// The softmax of a chunk of logits: reads them and writes the dlogits, 8 bytes a logit in float32,
// 6 in bf16. Limit: the memory bandwidth, of which on an H200 (4.3 TB/s, bench_gpu_kernels) 4,096
// tokens of 50,257 words reached 87% in bf16, a row in the shared memory of a cluster. Before: 52%
// with a row in that of one block of 1,024 threads, which waited for its sums; 41% where each row
// is read twice, the second time mostly from the L2 cache.
//
// bf16 dlogits take the front half of their token's logits: what is written lies before what has
// been read.
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

// The same with a token's logits in shared memory, so that they are read once. A cluster of blocks
// has a row, each block a part of it, and a multiprocessor parts of four rows, so that while one
// waits for its cluster another computes and a third reads. While a block writes its part it asks
// for that of its next row, place by place: a thread reads and overwrites its own places alone,
// each after the number that was there has been used. From reading to writing no block waits but
// for the sum.
constexpr int part_threads = 256, part_groups = 4, part_each = 4;
constexpr int part_most = part_threads * part_groups * part_each;  // fours of a part
constexpr int most_parts = 8;                                      // that any GPU with clusters has
constexpr int part_warps = part_threads / 32;

// Σ e^(x - base), in what is cheap: float32 as it is; for dlogits that are rounded to bf16 base and
// exponent in powers of two, which are one multiply-add and one of the units for exponentials,
// those being what limits the kernel next to the memory.
template <class T>
struct Power {
  static __device__ float base(float x) { return x; }
  static __device__ float of(float x, float base) { return expf(x - base); }
  static __device__ double between(float base, float other) {
    return exp(static_cast<double>(base) - static_cast<double>(other));
  }
  static __device__ double natural(float base) { return static_cast<double>(base); }
};
template <>
struct Power<bfloat> {
  static constexpr float log2_e = 1.44269504f;
  static __device__ float two_to(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ float base(float x) { return x * log2_e; }
  static __device__ float of(float x, float base) { return two_to(fmaf(x, log2_e, -base)); }
  static __device__ double between(float base, float other) {
    return static_cast<double>(two_to(base - other));
  }
  static __device__ double natural(float base) {
    return static_cast<double>(base) * 0.69314718055994531;
  }
};

template <class T>
struct PowerSum {
  float base = -INFINITY, sum = 0;
  template <int count>
  __device__ void add(const float4 (&all)[count]) {
    float most = -INFINITY;
#pragma unroll
    for (const float4& x : all) most = fmaxf(fmaxf(most, fmaxf(x.x, x.y)), fmaxf(x.z, x.w));
    const float before = base;
    base = fmaxf(before, Power<T>::base(most));
    const float by = base == -INFINITY ? 0.0f : base;  // a NaN is not lost
    float more = 0;
#pragma unroll
    for (const float4& x : all)
      more += (Power<T>::of(x.x, by) + Power<T>::of(x.y, by)) +
              (Power<T>::of(x.z, by) + Power<T>::of(x.w, by));
    sum = fmaf(sum, sum == 0 ? 0.0f : static_cast<float>(Power<T>::between(before, by)), more);
  }
};
// The same of several threads.
struct WideSum {
  float base;
  double sum;
};
template <class T>
__device__ inline WideSum joined_in_warp(WideSum mine) {
  float base = mine.base;
#pragma unroll
  for (int other = 16; other > 0; other /= 2) base = fmaxf(base, __shfl_xor_sync(~0u, base, other));
  double sum = mine.sum == 0 ? 0.0 : mine.sum * Power<T>::between(mine.base, base);
#pragma unroll
  for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(~0u, sum, other);
  return {base, sum};
}

// The blocks of a cluster wait for each other; what they wrote to each other's memory is there.
__device__ inline void meet() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
#endif
}
// Into the same place of another block's shared memory.
__device__ inline void put_into(unsigned block, WideSum* to, const WideSum& x) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(to)), "r"(block));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(x.base) : "memory");
  asm volatile("st.shared::cluster.f64 [%0+8], %1;" ::"r"(there), "d"(x.sum) : "memory");
#endif
}

// A row's part that lies in a block's shared memory; all numbers are fours, counted from the
// part's first. `left`: those from this thread's first on.
struct RowPart {
  float4* row;
  int count, left;
  __device__ bool has(int place) const { return place * part_threads < left; }
  __device__ float4& at(int place) const { return row[place * part_threads + threadIdx.x]; }
};

// grid: `parts` blocks for each row in flight, which are a cluster; part: fours of a part.
template <class T>
__global__ void __launch_bounds__(part_threads, 4)
    row_kernel(HeadChunk c, int parts, int part, int* bad) {
  extern __shared__ float4 row[];
  // In turns for two rows: when a sum of the next but one row arrives, all have met since.
  __shared__ WideSum sums[2][most_parts * part_warps];
  const int rank = static_cast<int>(blockIdx.x) % parts, warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int fours = static_cast<int>((c.rows + 3) / 4), vocab = static_cast<int>(c.vocab);
  const int first = rank * part, count = min(part, fours - first);
  const RowPart mine{row, count, count - static_cast<int>(threadIdx.x)};
  const int rows_at_once = static_cast<int>(gridDim.x) / parts;
  const std::int64_t next = static_cast<std::int64_t>(rows_at_once) * c.line;
  const int begin = (first + static_cast<int>(threadIdx.x)) * 4;  // this thread's first logit
  // Numbers that are to be added to, or are beyond the vocabulary.
  const bool patched = c.bias != nullptr || (first + count) * 4 > vocab;
  const auto patch = [&](int place) {
    const int v = begin + place * part_threads * 4;
    if (c.bias == nullptr && v + 3 < vocab) return;
    float4& x = mine.at(place);
    const auto number = [&](float logit, int j) {
      if (v + j >= vocab) return -INFINITY;
      return c.bias == nullptr ? logit : logit + c.bias[v + j];
    };
    x = make_float4(number(x.x, 0), number(x.y, 1), number(x.z, 2), number(x.w, 3));
  };
  int token = static_cast<int>(blockIdx.x) / parts;
  float* logits = c.logits + token * c.line + begin;
  const auto ask = [&](const float* from, int place) {
    copy_16(reinterpret_cast<bfloat*>(&mine.at(place)),
            reinterpret_cast<const bfloat*>(from + place * part_threads * 4), 16);
  };
#pragma unroll
  for (int group = 0; group < part_groups; ++group) {
#pragma unroll
    for (int k = 0; k < part_each; ++k)
      if (token < c.tokens && mine.has(group * part_each + k)) ask(logits, group * part_each + k);
    end_copies();
  }
  meet();  // all blocks of the cluster are there before anybody writes to them
  for (int turn = 0; token < c.tokens; token += rows_at_once, logits += next, turn ^= 1) {
    const float weight = c.weights[token];
    const std::int32_t target = c.targets[token];
    const bool counts = weight != 0 && 0 <= target && target < vocab;
    PowerSum<T> own;
    const auto add = [&](int group) {
      const int place = group * part_each;
      if (patched) {
#pragma unroll
        for (int k = 0; k < part_each; ++k)
          if (mine.has(place + k)) patch(place + k);
      }
      if (mine.has(place + part_each - 1)) {
        float4 x[part_each];
#pragma unroll
        for (int k = 0; k < part_each; ++k) x[k] = mine.at(place + k);
        own.add(x);
      } else {
#pragma unroll
        for (int k = 0; k < part_each - 1; ++k)
          if (mine.has(place + k)) own.add({mine.at(place + k)});
      }
    };
    await_copies<3>(), add(0);
    await_copies<2>(), add(1);
    await_copies<1>(), add(2);
    await_copies<0>(), add(3);
    // Who has the target's logit.
    const int place = (target - begin) / (part_threads * 4), beside = (target - begin) % 4;
    const bool owns = counts && target >= begin && mine.has(place) &&
                      begin + place * part_threads * 4 + beside == target;
    const float logit = owns ? reinterpret_cast<const float*>(&mine.at(place))[beside] : 0.0f;
    const WideSum of_warp = joined_in_warp<T>({own.base, static_cast<double>(own.sum)});
    if (lane < parts)
      put_into(static_cast<unsigned>(lane), &sums[turn][rank * part_warps + warp], of_warp);
    meet();
    WideSum all{-INFINITY, 0};
    if (lane < parts * part_warps) all = sums[turn][lane];
    if (lane + 32 < parts * part_warps) {
      const WideSum more = sums[turn][lane + 32];
      const float base = fmaxf(all.base, more.base);
      const auto scaled = [&](const WideSum& x) {
        return x.sum == 0 ? 0.0 : x.sum * Power<T>::between(x.base, base);
      };
      all = {base, scaled(all) + scaled(more)};
    }
    all = joined_in_warp<T>(all);
    const float factor = weight / static_cast<float>(all.sum), base = all.base;
    T* const dlogits = reinterpret_cast<T*>(logits - begin) + begin;
    const bool more = token + rows_at_once < c.tokens;
#pragma unroll
    for (int group = 0; group < part_groups; ++group) {
#pragma unroll
      for (int k = 0; k < part_each; ++k) {
        const int at = group * part_each + k;
        if (!mine.has(at)) continue;
        if (c.gradient) {
          const float4 x = mine.at(at);
          const auto slope = [&](float number) {
            return counts ? factor * Power<T>::of(number, base) : 0.0f;
          };
          put(dlogits + at * part_threads * 4,
              make_float4(slope(x.x), slope(x.y), slope(x.z), slope(x.w)));
        }
        if (more) ask(logits + next, at);
      }
      end_copies();
    }
    if (owns) {  // over what it wrote itself
      if (c.gradient) store(dlogits - begin + target, factor * Power<T>::of(logit, base) - weight);
      c.nll[token] = Power<T>::natural(base) + log(all.sum) - static_cast<double>(logit);
    }
    if (!counts && rank == 0 && threadIdx.x == 0) {
      c.nll[token] = 0;
      if (weight != 0) *bad = token + 1;
    }
  }
}

// Whether rows go that way: wide ones, on a GPU with clusters.
bool launch_rows(cudaStream_t s, const HeadChunk& c, int* bad) {
  const std::int64_t fours = (c.rows + 3) / 4, parts = (fours + part_most - 1) / part_most;
  if (fours < 4096 || parts > most_parts || c.line % 4 != 0) return false;
  int device = 0, major = 0;
  (void)cudaGetDevice(&device);
  (void)cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (major < 9) return false;
  const std::int64_t part = (fours + parts - 1) / parts;
  return with_type(c.type, [&]<class T>(T*) {
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = static_cast<unsigned>(parts);
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(parts);
    config.blockDim = part_threads;
    config.dynamicSmemBytes = static_cast<std::size_t>(part) * 16;
    config.stream = s;
    config.attrs = &cluster;
    config.numAttrs = 1;
    (void)cudaFuncSetAttribute(row_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(config.dynamicSmemBytes));
    int at_once = 0;
    if (cudaOccupancyMaxActiveClusters(&at_once, row_kernel<T>, &config) != cudaSuccess ||
        at_once == 0) {
      (void)cudaGetLastError();
      return false;
    }
    config.gridDim.x *= static_cast<unsigned>(std::min<std::int64_t>(c.tokens, at_once));
    (void)cudaLaunchKernelEx(&config, row_kernel<T>, c, static_cast<int>(parts),
                             static_cast<int>(part), bad);
    return true;
  });
}

__global__ void losses_kernel(HeadChunk c, double* stats, bool clear) {
  __shared__ double room[33];
  double loss = 0, weight = 0;
#pragma unroll 4
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
  if (launch_rows(s, chunk, bad)) return;
  with_type(chunk.type, [&]<class T>(T*) {
    softmax_kernel<T><<<static_cast<unsigned>(chunk.tokens), threads, 0, s>>>(chunk, bad);
  });
}

void head_losses(cudaStream_t s, const HeadChunk& chunk, double* stats, bool clear) {
  losses_kernel<<<1, 1024, 0, s>>>(chunk, stats, clear);
}

}  // namespace sluice::gpu
