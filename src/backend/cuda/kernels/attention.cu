// Causal attention without T x T scores, both directions and cached, float32 arithmetic on float32
// or bf16 storage: the softmax is made tile by tile with a running maximum (Dao et al. 2022).
//
// A block of 16 x 16 threads owns `tile` queries (or keys) of one head and walks over the tiles it
// can see; a thread owns rows ty + 16 r and columns tx + 16 c of a tile of scores, and of a tile of
// results rows ty + 16 r and features 4 tx + 64 k. Rows lie in shared memory, `capacity` + 4
// numbers apart, so that eight neighbours' 16-byte reads fall into different banks.
//
// Forward 4 B N T² H / 2 operations, gradient 14 (three of seven products in the kernel of dq, four
// in that of dk and dv). Limit: the float32 units, at most half used, since a thread reads one
// number of shared memory for every two multiply-adds; no tensor cores.
#include "backend/cuda/kernels/attention_mma.h"
#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

constexpr int side = 16;
constexpr float nothing = -INFINITY;

// One tile of rows in shared memory.
template <int capacity>
struct Rows {
  static constexpr int line = capacity + 4;
  float* data;
  __device__ float* operator[](int row) const { return data + row * line; }
};

// Rows first … first + tile - 1 of a head, `end` the first that is not there; zeros around them.
template <int tile, int capacity, class T>
__device__ void fetch(Rows<capacity> to, const T* from, std::int64_t token, std::int64_t first,
                      std::int64_t end, int head) {
  const int thread = threadIdx.y * side + threadIdx.x;
  for (int i = thread; i < tile * capacity; i += side * side) {
    const int row = i / capacity, h = i % capacity;
    const bool there = first + row < end && h < head;
    to[row][h] = there ? load(from + (first + row) * token + h) : 0.0f;
  }
}

__device__ inline float dot4(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// scores[r][c] = row (ty + 16 r) of a times row (tx + 16 c) of b.
template <int tile, int capacity>
__device__ void dots(Rows<capacity> a, Rows<capacity> b,
                     float (&scores)[tile / side][tile / side]) {
  constexpr int each = tile / side;
  for (auto& row : scores)
    for (float& score : row) score = 0;
#pragma unroll 4
  for (int h = 0; h < capacity; h += 4) {
    float4 left[each], right[each];
#pragma unroll
    for (int r = 0; r < each; ++r) {
      left[r] = *reinterpret_cast<const float4*>(a[threadIdx.y + side * r] + h);
      right[r] = *reinterpret_cast<const float4*>(b[threadIdx.x + side * r] + h);
    }
#pragma unroll
    for (int r = 0; r < each; ++r)
#pragma unroll
      for (int c = 0; c < each; ++c) scores[r][c] = dot4(left[r], right[c], scores[r][c]);
  }
}

// sums[r] += Σ_i weights[ty + 16 r][i] rows[i], at the thread's features.
template <int tile, int capacity>
__device__ void add_rows(Rows<tile> weights, Rows<capacity> rows,
                         float (&sums)[tile / side][capacity / side]) {
#pragma unroll 2
  for (int i = 0; i < tile; ++i) {
    float4 x[capacity / 64];
#pragma unroll
    for (int k = 0; k < capacity / 64; ++k)
      x[k] = *reinterpret_cast<const float4*>(rows[i] + 4 * threadIdx.x + 64 * k);
#pragma unroll
    for (int r = 0; r < tile / side; ++r) {
      const float w = weights[threadIdx.y + side * r][i];
#pragma unroll
      for (int k = 0; k < capacity / 64; ++k) {
        sums[r][4 * k] = fmaf(w, x[k].x, sums[r][4 * k]);
        sums[r][4 * k + 1] = fmaf(w, x[k].y, sums[r][4 * k + 1]);
        sums[r][4 * k + 2] = fmaf(w, x[k].z, sums[r][4 * k + 2]);
        sums[r][4 * k + 3] = fmaf(w, x[k].w, sums[r][4 * k + 3]);
      }
    }
  }
}

template <int tile, int capacity, class T>
__device__ void put(const float (&sums)[tile / side][capacity / side],
                    const float (&by)[tile / side], T* to, std::int64_t token, std::int64_t first,
                    std::int64_t end, int head) {
  for (int r = 0; r < tile / side; ++r) {
    const std::int64_t row = first + threadIdx.y + side * r;
    if (row >= end) continue;
    for (int k = 0; k < capacity / 64; ++k)
      for (int i = 0; i < 4; ++i) {
        const int h = 4 * threadIdx.x + 64 * k + i;
        if (h < head) store(to + row * token + h, sums[r][4 * k + i] * by[r]);
      }
  }
}

// Over the 16 threads of a row.
template <class Join>
__device__ float row_joined(float x, Join join) {
#pragma unroll
  for (int other = 8; other > 0; other /= 2) x = join(x, __shfl_xor_sync(~0u, x, other));
  return x;
}

// What a block works on.
struct Place {
  std::int64_t b, n, key_head, first;
  __device__ Place(const AttentionShape& a, int tile)
      : b(blockIdx.z),
        n(blockIdx.y),
        key_head(n / (a.heads / a.key_heads)),
        first(static_cast<std::int64_t>(blockIdx.x) * tile) {}
};

template <class T>
__device__ T* at(const Heads& h, std::int64_t b, std::int64_t n, int head) {
  return static_cast<T*>(h.data) + b * h.batch + n * head;
}

// The keys that query t of sequence b sees, first to last.
struct Seen {
  std::int64_t first, last;
  __device__ bool has(std::int64_t key) const { return first <= key && key <= last; }
};
__device__ Seen seen_by(const AttentionShape& a, std::int64_t b, std::int64_t t) {
  if (t >= a.time) return {1, 0};
  if (a.lengths != nullptr) return {0, a.lengths[b] + t};
  return {a.starts[b * a.time + t], t};
}

// What probabilities are multiplied by: 0 or 1 / (1 - rate).
struct Kept {
  Mask mask;
  std::uint64_t stream = 0, row = 0, line = 0;
  __device__ Kept(const AttentionShape& a, std::int64_t b, std::int64_t n) : mask(a.mask) {
    if (mask.threshold == 0) return;
    stream = stream_now(mask);
    const auto first = static_cast<std::int64_t>(mask.control[control_first_row]);
    row = static_cast<std::uint64_t>(((first + b) * a.heads + n) * a.time);
    line = static_cast<std::uint64_t>((a.time + 3) / 4 * 4);
  }
  __device__ float operator()(std::int64_t t, std::int64_t key) const {
    if (mask.threshold == 0) return 1;
    const std::uint64_t element =
        (row + static_cast<std::uint64_t>(t)) * line + static_cast<std::uint64_t>(key);
    return random_bits(mask.seed, stream, element) < mask.threshold ? 0.0f : mask.scale;
  }
};

template <int tile, int capacity, class T>
__global__ void __launch_bounds__(side* side)
    forward_kernel(AttentionShape a, Heads q, Heads k, Heads v, Heads y, float* lse) {
  constexpr int each = tile / side;
  extern __shared__ float4 shared[];
  float* room = reinterpret_cast<float*>(shared);
  const Rows<capacity> queries{room}, keys{room + tile * Rows<capacity>::line};
  const Rows<tile> weights{room + 2 * tile * Rows<capacity>::line};
  const Place place(a, tile);
  const int head = static_cast<int>(a.head);
  const Kept kept(a, place.b, place.n);
  fetch<tile>(queries, at<const T>(q, place.b, place.n, head), q.token, place.first, a.time, head);
  Seen seen[each];
  float largest[each], total[each], sums[each][capacity / side] = {};
  std::int64_t low = INT64_MAX, high = -1;
  for (int r = 0; r < each; ++r) {
    seen[r] = seen_by(a, place.b, place.first + threadIdx.y + side * r);
    largest[r] = nothing, total[r] = 0;
  }
  // The block's range: starts may stand anywhere, so every thread looks at all rows.
  for (int i = 0; i < tile; ++i) {
    const Seen one = seen_by(a, place.b, place.first + i);
    if (one.last < one.first) continue;
    low = min(low, one.first), high = max(high, one.last);
  }
  for (std::int64_t first = low / tile * tile; first <= high; first += tile) {
    __syncthreads();
    fetch<tile>(keys, at<const T>(k, place.b, place.key_head, head), k.token, first, high + 1,
                head);
    __syncthreads();
    float scores[each][each];
    dots<tile, capacity>(queries, keys, scores);
    __syncthreads();
    fetch<tile>(keys, at<const T>(v, place.b, place.key_head, head), v.token, first, high + 1,
                head);
    for (int r = 0; r < each; ++r) {
      const std::int64_t t = place.first + threadIdx.y + side * r;
      float most = largest[r];
      for (int c = 0; c < each; ++c) {
        const std::int64_t key = first + threadIdx.x + side * c;
        scores[r][c] = seen[r].has(key) ? a.scale * scores[r][c] : nothing;
        most = fmaxf(most, scores[r][c]);
      }
      most = row_joined(most, [](float p, float o) { return fmaxf(p, o); });
      const float shrink = most == nothing ? 1.0f : expf(largest[r] - most);
      float sum = 0;
      for (int c = 0; c < each; ++c) {
        const std::int64_t key = first + threadIdx.x + side * c;
        const float p = scores[r][c] == nothing ? 0.0f : expf(scores[r][c] - most);
        sum += p;
        weights[threadIdx.y + side * r][threadIdx.x + side * c] = p == 0 ? 0 : p * kept(t, key);
      }
      total[r] = total[r] * shrink + row_joined(sum, [](float p, float o) { return p + o; });
      largest[r] = most;
      for (float& x : sums[r]) x *= shrink;
    }
    __syncthreads();
    add_rows<tile, capacity>(weights, keys, sums);
  }
  float by[each];
  for (int r = 0; r < each; ++r) {
    by[r] = total[r] == 0 ? 0.0f : 1.0f / total[r];
    const std::int64_t t = place.first + threadIdx.y + side * r;
    if (lse != nullptr && threadIdx.x == 0 && t < a.time)
      lse[(place.b * a.heads + place.n) * a.time + t] = largest[r] + logf(total[r]);
  }
  put<tile, capacity>(sums, by, at<T>(y, place.b, place.n, head), y.token, place.first, a.time,
                      head);
}

// delta[b n t] = y · dy, a warp to each; Σ p dp of the softmax's gradient.
template <class T>
__global__ void delta_kernel(AttentionShape a, Heads y, Heads dy, float* delta) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (row >= a.batch * a.heads * a.time) return;
  const std::int64_t t = row % a.time, n = row / a.time % a.heads, b = row / a.time / a.heads;
  const int head = static_cast<int>(a.head);
  const T* const left = at<const T>(y, b, n, head) + t * y.token;
  const T* const right = at<const T>(dy, b, n, head) + t * dy.token;
  float sum = 0;
  for (int h = threadIdx.x % 32; h < head; h += 32)
    sum = fmaf(load(left + h), load(right + h), sum);
#pragma unroll
  for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(~0u, sum, other);
  if (threadIdx.x % 32 == 0) delta[row] = sum;
}

// The scores of a tile and their gradients: p = exp(scale s - lse), ds = p (m dp - delta).
template <int tile>
__device__ void slopes(const AttentionShape& a, const Place& place, const Kept& kept,
                       std::int64_t query, std::int64_t key, float lse, float delta, float& score,
                       float& dp) {
  const bool has = seen_by(a, place.b, query).has(key);
  const float p = has ? expf(a.scale * score - lse) : 0.0f;
  const float m = p == 0 ? 0.0f : kept(query, key);
  score = m * p;
  dp = p * (m * dp - delta);
}

template <int tile, int capacity, class T>
__global__ void __launch_bounds__(side* side)
    query_grad_kernel(AttentionShape a, Heads q, Heads k, Heads v, const float* lse, Heads dy,
                      const float* delta, Heads dq) {
  constexpr int each = tile / side;
  extern __shared__ float4 shared[];
  float* room = reinterpret_cast<float*>(shared);
  constexpr int size = tile * Rows<capacity>::line;
  const Rows<capacity> queries{room}, dys{room + size}, keys{room + 2 * size};
  const Rows<capacity> values{room + 3 * size};
  const Rows<tile> weights{room + 4 * size};
  const Place place(a, tile);
  const int head = static_cast<int>(a.head);
  const Kept kept(a, place.b, place.n);
  fetch<tile>(queries, at<const T>(q, place.b, place.n, head), q.token, place.first, a.time, head);
  fetch<tile>(dys, at<const T>(dy, place.b, place.n, head), dy.token, place.first, a.time, head);
  const std::int64_t line = (place.b * a.heads + place.n) * a.time;
  const std::int64_t end = min(a.time, place.first + tile);
  std::int64_t low = end;
  for (std::int64_t t = place.first; t < end; ++t) low = min(low, seen_by(a, place.b, t).first);
  float sums[each][capacity / side] = {};
  for (std::int64_t first = low / tile * tile; first < end; first += tile) {
    __syncthreads();
    fetch<tile>(keys, at<const T>(k, place.b, place.key_head, head), k.token, first, end, head);
    fetch<tile>(values, at<const T>(v, place.b, place.key_head, head), v.token, first, end, head);
    __syncthreads();
    float scores[each][each], dp[each][each];
    dots<tile, capacity>(queries, keys, scores);
    dots<tile, capacity>(dys, values, dp);
    for (int r = 0; r < each; ++r) {
      const std::int64_t t = place.first + threadIdx.y + side * r;
      const float top = t < a.time ? lse[line + t] : 0, mean = t < a.time ? delta[line + t] : 0;
      for (int c = 0; c < each; ++c) {
        const int column = threadIdx.x + side * c;
        slopes<tile>(a, place, kept, t, first + column, top, mean, scores[r][c], dp[r][c]);
        weights[threadIdx.y + side * r][column] = dp[r][c];
      }
    }
    __syncthreads();
    add_rows<tile, capacity>(weights, keys, sums);
  }
  float by[each];
  for (float& one : by) one = a.scale;
  put<tile, capacity>(sums, by, at<T>(dq, place.b, place.n, head), dq.token, place.first, a.time,
                      head);
}

// A block owns keys; queries of all heads that share them come by, in order.
template <int tile, int capacity, class T>
__global__ void __launch_bounds__(side* side)
    key_grad_kernel(AttentionShape a, Heads q, Heads k, Heads v, const float* lse, Heads dy,
                    const float* delta, Heads dk, Heads dv) {
  constexpr int each = tile / side;
  extern __shared__ float4 shared[];
  float* room = reinterpret_cast<float*>(shared);
  constexpr int size = tile * Rows<capacity>::line;
  const Rows<capacity> queries{room}, dys{room + size}, keys{room + 2 * size};
  const Rows<capacity> values{room + 3 * size};
  const Rows<tile> weights{room + 4 * size}, dweights{weights.data + tile * Rows<tile>::line};
  Place place(a, tile);
  const std::int64_t key_head = blockIdx.y, group = a.heads / a.key_heads;
  const int head = static_cast<int>(a.head);
  fetch<tile>(keys, at<const T>(k, place.b, key_head, head), k.token, place.first, a.time, head);
  fetch<tile>(values, at<const T>(v, place.b, key_head, head), v.token, place.first, a.time, head);
  float key_sums[each][capacity / side] = {}, value_sums[each][capacity / side] = {};
  for (std::int64_t n = key_head * group; n < (key_head + 1) * group; ++n) {
    const Kept kept(a, place.b, n);
    const std::int64_t line = (place.b * a.heads + n) * a.time;
    for (std::int64_t first = place.first; first < a.time; first += tile) {
      __syncthreads();
      fetch<tile>(queries, at<const T>(q, place.b, n, head), q.token, first, a.time, head);
      fetch<tile>(dys, at<const T>(dy, place.b, n, head), dy.token, first, a.time, head);
      __syncthreads();
      float scores[each][each], dp[each][each];  // [key][query]
      dots<tile, capacity>(keys, queries, scores);
      dots<tile, capacity>(values, dys, dp);
      for (int c = 0; c < each; ++c) {
        const int column = threadIdx.x + side * c;
        const std::int64_t t = first + column;
        const float top = t < a.time ? lse[line + t] : 0, mean = t < a.time ? delta[line + t] : 0;
        for (int r = 0; r < each; ++r) {
          const int row = threadIdx.y + side * r;
          slopes<tile>(a, place, kept, t, place.first + row, top, mean, scores[r][c], dp[r][c]);
          weights[row][column] = scores[r][c];
          dweights[row][column] = dp[r][c];
        }
      }
      __syncthreads();
      add_rows<tile, capacity>(weights, dys, value_sums);
      add_rows<tile, capacity>(dweights, queries, key_sums);
    }
  }
  float by[each], one[each];
  for (int r = 0; r < each; ++r) by[r] = a.scale, one[r] = 1;
  put<tile, capacity>(key_sums, by, at<T>(dk, place.b, key_head, head), dk.token, place.first,
                      a.time, head);
  put<tile, capacity>(value_sums, one, at<T>(dv, place.b, key_head, head), dv.token, place.first,
                      a.time, head);
}

template <class T>
__global__ void append_kernel(AttentionShape a, Heads from, Heads cache, std::int64_t capacity,
                              int* bad) {
  const std::int64_t t = blockIdx.x, b = blockIdx.y;
  const std::int64_t place = a.lengths[b] + t;
  if (place < 0 || place >= capacity) {
    if (threadIdx.x == 0) *bad = static_cast<int>(b + 1);
    return;
  }
  const T* const x = static_cast<const T*>(from.data) + b * from.batch + t * from.token;
  T* const y = static_cast<T*>(cache.data) + b * cache.batch + place * cache.token;
  for (std::int64_t i = threadIdx.x; i < a.key_heads * a.head; i += blockDim.x) y[i] = x[i];
}

dim3 grid_of(const AttentionShape& a, std::int64_t heads, int tile) {
  return {static_cast<unsigned>((a.time + tile - 1) / tile), static_cast<unsigned>(heads),
          static_cast<unsigned>(a.batch)};
}

// A kernel with `rows` tiles of rows and `squares` of weights in shared memory.
template <int tile, int capacity, class Kernel, class... X>
void launch(cudaStream_t s, Kernel kernel, dim3 grid, int rows, int squares, X... x) {
  const int bytes = 4 * tile * (rows * Rows<capacity>::line + squares * Rows<tile>::line);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  kernel<<<grid, dim3(side, side), static_cast<unsigned>(bytes), s>>>(x...);
}

// f.operator()<tile, capacity>() for heads of at most 64, 128 or 256 numbers.
template <class F>
void with_capacity(std::int64_t head, F f) {
  if (head <= 64)
    f.template operator()<64, 64>();
  else if (head <= 128)
    f.template operator()<64, 128>();
  else
    f.template operator()<32, 256>();
}

}  // namespace

void append(cudaStream_t s, const AttentionShape& a, Heads from, Heads cache, std::int64_t capacity,
            int* bad) {
  const dim3 grid(static_cast<unsigned>(a.time), static_cast<unsigned>(a.batch));
  with_type(a.type, [&]<class T>(T*) {
    append_kernel<T><<<grid, 128, 0, s>>>(a, from, cache, capacity, bad);
  });
}

void attention(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v, Heads y,
               float* lse) {
  if (on_tensor_cores(a)) return attention_mma(s, a, q, k, v, y, lse);
  with_type(a.type, [&]<class T>(T*) {
    with_capacity(a.head, [&]<int tile, int capacity>() {
      launch<tile, capacity>(s, forward_kernel<tile, capacity, T>, grid_of(a, a.heads, tile), 2, 1,
                             a, q, k, v, y, lse);
    });
  });
}

void attention_grad(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v, Heads y,
                    const float* lse, Heads dy, const AttentionGradients& out) {
  const std::int64_t warps = a.batch * a.heads * a.time;
  with_type(a.type, [&]<class T>(T*) {
    delta_kernel<T><<<static_cast<unsigned>((warps + 7) / 8), 256, 0, s>>>(a, y, dy, out.delta);
    if (on_tensor_cores(a)) return attention_grad_mma(s, a, q, k, v, lse, dy, out);
    with_capacity(a.head, [&]<int tile, int capacity>() {
      launch<tile, capacity>(s, query_grad_kernel<tile, capacity, T>, grid_of(a, a.heads, tile), 4,
                             1, a, q, k, v, lse, dy, out.delta, out.dq);
      launch<tile, capacity>(s, key_grad_kernel<tile, capacity, T>, grid_of(a, a.key_heads, tile),
                             4, 2, a, q, k, v, lse, dy, out.delta, out.dk, out.dv);
    });
  });
}

}  // namespace sluice::gpu
