// Causal training attention in bf16 on the tensor cores, both directions, for heads of a multiple
// of 8 numbers, at most 128. The method is that of attention.cu; probabilities and their gradients
// are rounded to bf16 before they are multiplied again, and stay in the registers that made them.
//
// A block of four warps owns 64 rows of one head (queries; in key_kernel keys), a warp 16 of them,
// and walks over tiles of the other side, of which the next one is on its way. Forward 4 B N T² H /
// 2 operations, gradient 14: three products in the kernel of dq, four in that of dk and dv, so that
// every sum has one owner and one order. Limit: the tensor cores, or shared memory, which is read
// once by each warp for two of its products (a warp of 16 rows uses half of what they could do).
#include "backend/cuda/kernels/attention_mma.h"
#include "backend/cuda/kernels/mma.cuh"

namespace sluice::gpu {
namespace {

constexpr int own = 64, warps = 4, threads = 32 * warps;
constexpr float log2_e = 1.44269504f;

// Within two units in the last place; what is below the normal numbers is 0.
__device__ inline float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Positions within a sequence are 32 bits wide: the masks are most of the integer work.
struct Place {
  std::int64_t b, n;
  int first, warp, lane, row;  // row: the lane's upper one in the block
  __device__ Place()
      : b(blockIdx.z),
        n(blockIdx.y),
        first(static_cast<int>(blockIdx.x) * own),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        row(warp * 16 + lane / 4) {}
};

__device__ inline bfloat* head_of(const Heads& h, std::int64_t b, std::int64_t n, int head) {
  return static_cast<bfloat*>(h.data) + b * h.batch + n * head;
}

// Rows first … first + rows - 1, on their way; zeros beyond `end` and beyond the head.
template <int rows, int width>
__device__ void fetch(Tile<width> to, const bfloat* from, std::int64_t token, int first, int end,
                      int head) {
  constexpr int pieces = width / 8;
  for (int i = threadIdx.x; i < rows * pieces; i += threads) {
    const int row = i / pieces, column = i % pieces * 8;
    const bool there = first + row < end && column < head;
    const bfloat* source = there ? from + (first + row) * token + column : from;
    copy_16(to.at(row, column), source, there ? 16 : 0);
  }
}

template <int width>
__device__ void put(const float (&sums)[width / 8][4], float upper, float lower, const Place& p,
                    bfloat* to, std::int64_t token, int end, int head) {
  for (int half = 0; half < 2; ++half) {
    const int row = p.first + p.row + 8 * half;
    const float by = half == 0 ? upper : lower;
    if (row >= end) continue;
#pragma unroll
    for (int j = 0; j < width / 8; ++j) {
      const int column = 8 * j + 2 * (p.lane % 4);
      if (column < head)
        *reinterpret_cast<unsigned*>(to + row * token + column) =
            packed(sums[j][2 * half] * by, sums[j][2 * half + 1] * by);
    }
  }
}

// What a probability is multiplied by: 0 or 1 / (1 - rate). Two neighbouring keys share a draw.
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

// The first key that any of the block's queries sees, down to a whole tile.
__device__ int first_key(const AttentionShape& a, const Place& p, int tile) {
  __shared__ int least;
  if (threadIdx.x == 0) least = INT_MAX;
  __syncthreads();
  const int t = p.first + static_cast<int>(threadIdx.x);
  if (threadIdx.x < own && t < a.time) atomicMin(&least, a.starts[p.b * a.time + t]);
  __syncthreads();
  return least / tile * tile;
}

__device__ inline float of_four(float x, bool largest) {
  for (int other = 1; other <= 2; other *= 2) {
    const float y = __shfl_xor_sync(~0u, x, other);
    x = largest ? fmaxf(x, y) : x + y;
  }
  return x;
}

// Two tiles of two values each, of which the next pair is on its way.
template <int tile, int width>
struct Stream {
  static constexpr int size = tile * Tile<width>::line;
  bfloat* room;
  const bfloat *x, *y;
  std::int64_t x_token, y_token;
  int end, head;
  __device__ Tile<width> left(int i) const { return {room + i % 2 * 2 * size}; }
  __device__ Tile<width> right(int i) const { return {room + (i % 2 * 2 + 1) * size}; }
  __device__ void ask(int i, int first) const {
    if (first < end) {
      fetch<tile>(left(i), x, x_token, first, end, head);
      fetch<tile>(right(i), y, y_token, first, end, head);
    }
    end_copies();
  }
};

// One of the lane's two rows of sums, times `by`.
template <int tiles>
__device__ inline void scale_row(float (&sums)[tiles][4], int half, float by) {
#pragma unroll
  for (auto& tile : sums) tile[2 * half] *= by, tile[2 * half + 1] *= by;
}

// The logarithms of the lane's two sums; lse may be null.
__device__ inline void put_lse(const AttentionShape& a, const Place& p, const int (&t)[2],
                               const float (&largest)[2], const float (&total)[2], float* lse) {
  for (int half = 0; half < 2; ++half)
    if (p.lane % 4 == 0 && t[half] < a.time && lse != nullptr)
      lse[(p.b * a.heads + p.n) * a.time + t[half]] = largest[half] / log2_e + logf(total[half]);
}

template <int tile, int width>
__global__ void __launch_bounds__(threads)
    forward_kernel(AttentionShape a, Heads q, Heads k, Heads v, Heads y, float* lse) {
  extern __shared__ uint4 shared[];
  auto* const room = reinterpret_cast<bfloat*>(shared);
  const Place p;
  const int head = static_cast<int>(a.head);
  const std::int64_t key_head = p.n / (a.heads / a.key_heads);
  const int time = static_cast<int>(a.time), end = min(time, p.first + own);
  const Tile<width> queries{room};
  const Stream<tile, width> keys{room + own * Tile<width>::line,
                                 head_of(k, p.b, key_head, head),
                                 head_of(v, p.b, key_head, head),
                                 k.token,
                                 v.token,
                                 end,
                                 head};
  const Kept kept(a, p.b, p.n);
  const int low = first_key(a, p, tile);
  fetch<own>(queries, head_of(q, p.b, p.n, head), q.token, p.first, end, head);
  keys.ask(0, low);
  int t[2], start[2];
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {};
  for (int half = 0; half < 2; ++half) {
    t[half] = p.first + p.row + 8 * half;
    start[half] = t[half] < time ? a.starts[p.b * a.time + t[half]] : time;
  }
  const float scale = a.scale * log2_e;
  float sums[width / 8][4] = {};
  for (int first = low, i = 0; first < end; first += tile, ++i) {
    keys.ask(i + 1, first + tile);
    await_copies<1>();
    __syncthreads();
    float scores[tile / 8][4];
    times_transposed(queries, p.warp * 16, keys.left(i), scores);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[half];
#pragma unroll
      for (int j = 0; j < tile / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int key = first + 8 * j + 2 * (p.lane % 4) + c;
          float& score = scores[j][2 * half + c];
          score = start[half] <= key && key <= t[half] ? scale * score : -INFINITY;
          most = fmaxf(most, score);
        }
      most = of_four(most, true);
      const float base = most == -INFINITY ? 0.0f : most;
      const float shrink = power_of_two(largest[half] - base);
      float sum = 0;
#pragma unroll
      for (int j = 0; j < tile / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& score = scores[j][2 * half + c];
          score = power_of_two(score - base);
          sum += score;
          score *= kept(t[half], first + 8 * j + 2 * (p.lane % 4) + c);
        }
      total[half] = total[half] * shrink + of_four(sum, false), largest[half] = most;
      scale_row(sums, half, shrink);
    }
    add_times(scores, keys.right(i), sums);
    __syncthreads();
  }
  await_copies<0>();
  put_lse(a, p, t, largest, total, lse);
  put<width>(sums, 1 / total[0], 1 / total[1], p, head_of(y, p.b, p.n, head), y.token, time, head);
}

template <int tile, int width>
__global__ void __launch_bounds__(threads)
    query_kernel(AttentionShape a, Heads q, Heads k, Heads v, const float* lse, Heads dy,
                 const float* delta, Heads dq) {
  extern __shared__ uint4 shared[];
  auto* const room = reinterpret_cast<bfloat*>(shared);
  const Place p;
  const int head = static_cast<int>(a.head);
  const std::int64_t key_head = p.n / (a.heads / a.key_heads);
  const int time = static_cast<int>(a.time), end = min(time, p.first + own);
  const Tile<width> queries{room}, dys{room + own * Tile<width>::line};
  const Stream<tile, width> keys{room + 2 * own * Tile<width>::line,
                                 head_of(k, p.b, key_head, head),
                                 head_of(v, p.b, key_head, head),
                                 k.token,
                                 v.token,
                                 end,
                                 head};
  const Kept kept(a, p.b, p.n);
  const int low = first_key(a, p, tile);
  fetch<own>(queries, head_of(q, p.b, p.n, head), q.token, p.first, end, head);
  fetch<own>(dys, head_of(dy, p.b, p.n, head), dy.token, p.first, end, head);
  keys.ask(0, low);
  int t[2], start[2];
  float top[2], mean[2];
  for (int half = 0; half < 2; ++half) {
    t[half] = p.first + p.row + 8 * half;
    const bool there = t[half] < time;
    const std::int64_t line = (p.b * a.heads + p.n) * a.time + t[half];
    start[half] = there ? a.starts[p.b * a.time + t[half]] : time;
    top[half] = there ? lse[line] * log2_e : 0;
    mean[half] = there ? delta[line] : 0;
  }
  const float scale = a.scale * log2_e;
  float sums[width / 8][4] = {};
  int i = 0;
  for (int first = low; first < end; first += tile, ++i) {
    keys.ask(i + 1, first + tile);
    await_copies<1>();
    __syncthreads();
    float scores[tile / 8][4], dp[tile / 8][4];
    times_transposed(queries, p.warp * 16, keys.left(i), scores);
    times_transposed(dys, p.warp * 16, keys.right(i), dp);
#pragma unroll
    for (int j = 0; j < tile / 8; ++j)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int half = c / 2;
        const int key = first + 8 * j + 2 * (p.lane % 4) + c % 2;
        const bool sees = start[half] <= key && key <= t[half];
        const float prob = sees ? power_of_two(scale * scores[j][c] - top[half]) : 0.0f;
        const float m = sees ? kept(t[half], key) : 0.0f;
        scores[j][c] = prob * (m * dp[j][c] - mean[half]);
      }
    add_times(scores, keys.left(i), sums);
    __syncthreads();
  }
  await_copies<0>();
  put<width>(sums, a.scale, a.scale, p, head_of(dq, p.b, p.n, head), dq.token, time, head);
}

template <int tile, int width>
__global__ void __launch_bounds__(threads)
    key_kernel(AttentionShape a, Heads q, Heads k, Heads v, const float* lse, Heads dy,
               const float* delta, Heads dk, Heads dv) {
  extern __shared__ uint4 shared[];
  __shared__ float tops[tile], means[tile];
  __shared__ int starts[tile];
  auto* const room = reinterpret_cast<bfloat*>(shared);
  const Place p;
  const int head = static_cast<int>(a.head);
  const std::int64_t group = a.heads / a.key_heads;
  const int time = static_cast<int>(a.time);
  const Tile<width> keys{room}, values{room + own * Tile<width>::line};
  fetch<own>(keys, head_of(k, p.b, p.n, head), k.token, p.first, time, head);
  fetch<own>(values, head_of(v, p.b, p.n, head), v.token, p.first, time, head);
  const float scale = a.scale * log2_e;
  float key_sums[width / 8][4] = {}, value_sums[width / 8][4] = {};
  for (std::int64_t n = p.n * group; n < (p.n + 1) * group; ++n) {
    const Kept kept(a, p.b, n);
    const Stream<tile, width> queries{room + 2 * own * Tile<width>::line,
                                      head_of(q, p.b, n, head),
                                      head_of(dy, p.b, n, head),
                                      q.token,
                                      dy.token,
                                      time,
                                      head};
    const std::int64_t line = (p.b * a.heads + n) * a.time;
    queries.ask(0, p.first);
    int i = 0;
    for (int first = p.first; first < time; first += tile, ++i) {
      queries.ask(i + 1, first + tile);
      if (threadIdx.x < tile) {
        const int t = first + static_cast<int>(threadIdx.x);
        const bool there = t < time;
        starts[threadIdx.x] = there ? a.starts[p.b * a.time + t] : INT_MAX;
        tops[threadIdx.x] = there ? lse[line + t] * log2_e : 0;
        means[threadIdx.x] = there ? delta[line + t] : 0;
      }
      await_copies<1>();
      __syncthreads();
      float scores[tile / 8][4], dp[tile / 8][4];  // rows are keys, columns queries
      times_transposed(keys, p.warp * 16, queries.left(i), scores);
      times_transposed(values, p.warp * 16, queries.right(i), dp);
#pragma unroll
      for (int j = 0; j < tile / 8; ++j)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int column = 8 * j + 2 * (p.lane % 4) + c % 2;
          const int key = p.first + p.row + c / 2 * 8, t = first + column;
          const bool sees = starts[column] <= key && key <= t;  // starts past the end: INT_MAX
          const float prob = sees ? power_of_two(scale * scores[j][c] - tops[column]) : 0.0f;
          const float m = sees ? kept(t, key) : 0.0f;
          scores[j][c] = m * prob;
          dp[j][c] = prob * (m * dp[j][c] - means[column]);
        }
      add_times(scores, queries.right(i), value_sums);
      add_times(dp, queries.left(i), key_sums);
      __syncthreads();
    }
    await_copies<0>();
  }
  put<width>(key_sums, a.scale, a.scale, p, head_of(dk, p.b, p.n, head), dk.token, time, head);
  put<width>(value_sums, 1, 1, p, head_of(dv, p.b, p.n, head), dv.token, time, head);
}

template <int tile, int width, class Kernel, class... X>
void launch(cudaStream_t s, Kernel kernel, const AttentionShape& a, std::int64_t heads,
            int own_tiles, X... x) {
  constexpr int row = static_cast<int>(sizeof(bfloat)) * Tile<width>::line;
  const int bytes = row * (own_tiles * own + 4 * tile);
  const dim3 grid(static_cast<unsigned>((a.time + own - 1) / own), static_cast<unsigned>(heads),
                  static_cast<unsigned>(a.batch));
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  kernel<<<grid, threads, static_cast<unsigned>(bytes), s>>>(a, x...);
}

// f.operator()<tile, width>(); in the gradient of wide heads a tile is half as high, for the sake
// of registers.
template <class F>
void with_width(std::int64_t head, F f) {
  if (head <= 64)
    f.template operator()<64, 64>();
  else
    f.template operator()<32, 128>();
}

}  // namespace

bool on_tensor_cores(const AttentionShape& a) {
  return a.type == Type::bf16 && a.lengths == nullptr && a.head % 8 == 0 && a.head <= 128;
}

void attention_mma(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v, Heads y,
                   float* lse) {
  with_width(a.head, [&]<int tile, int width>() {
    launch<tile, width>(s, forward_kernel<tile, width>, a, a.heads, 1, q, k, v, y, lse);
  });
}

void attention_grad_mma(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v,
                        const float* lse, Heads dy, const AttentionGradients& out) {
  with_width(a.head, [&]<int tile, int width>() {
    launch<tile, width>(s, query_kernel<tile, width>, a, a.heads, 2, q, k, v, lse, dy, out.delta,
                        out.dq);
    launch<tile, width>(s, key_kernel<tile, width>, a, a.key_heads, 2, q, k, v, lse, dy, out.delta,
                        out.dk, out.dv);
  });
}

}  // namespace sluice::gpu
