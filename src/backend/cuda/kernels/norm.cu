// Norms. Bytes per number in float32 (bf16: half): LayerNorm 8, ResidualNorm 16, GradInput 12
// (16 where it adds), GradWeight 8, column sums 4. Limit: the memory bandwidth, of which on an H200
// (4.3 TB/s, bench_gpu_kernels) in bf16 rows of 768 (32 x 1024 tokens) and of 2048 (8 x 2048)
// reached: LayerNorm 77% and 69%, ResidualNorm 87% and 89%, GradInput 85% and 95%, GradWeight 67%
// and 74% (two launches, and sums over chunks), column sums of 3072 and 8192 columns 88% and 89%.
#include <algorithm>

#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

constexpr int row_threads = 256;
constexpr int chunk_rows = 64;  // ops/rules.h's token_chunk

// A row in the registers of its team: lot i of a thread begins at (i * team + thread) * 8. A team
// of 32 is a warp, of which four make a block; a larger one is a block.
template <int team, int lots>
struct Dealt {
  static constexpr int threads = team < 128 ? 128 : team;
  std::int64_t row;
  int thread;
  __device__ Dealt()
      : row(static_cast<std::int64_t>(blockIdx.x) * (threads / team) + threadIdx.x / team),
        thread(threadIdx.x % team) {}
  __device__ int at(int i) const { return (i * team + thread) * lot; }
  template <class T>
  __device__ void load(const T* from, int width, Lot (&to)[lots]) const {
#pragma unroll
    for (int i = 0; i < lots; ++i) {
      to[i] = {};
      if (at(i) < width) load_whole(from + at(i), to[i]);
    }
  }
  static __device__ float sum(float x, float* room) {
    if constexpr (team > 32) {
      return block_sum(x, room);
    } else {
#pragma unroll
      for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(~0u, x, other);
      return x;
    }
  }
};

template <int team, int lots, class T>
__global__ void __launch_bounds__(Dealt<team, lots>::threads)
    dealt_norm_kernel(const T* x, const T* b, float scale, T* sum, const float* gain,
                      const float* bias, float eps, T* y, float* mean, float* rstd,
                      std::int64_t rows, int width) {
  __shared__ float room[33];
  const Dealt<team, lots> mine;
  if (mine.row >= rows) return;  // whole warps of teams of 32
  const std::int64_t at = mine.row * width;
  Lot v[lots];
  mine.load(x + at, width, v);
  if (b != nullptr) {
    Lot w[lots];
    mine.load(b + at, width, w);
#pragma unroll
    for (int i = 0; i < lots; ++i) {
#pragma unroll
      for (int j = 0; j < lot; ++j) v[i].x[j] = kept(sum, fmaf(scale, w[i].x[j], v[i].x[j]));
      if (mine.at(i) < width) store_whole(sum + at + mine.at(i), v[i]);
    }
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < lots; ++i)
#pragma unroll
    for (int j = 0; j < lot; ++j) total += v[i].x[j];
  const float mu = mine.sum(total, room) / static_cast<float>(width);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < lots; ++i) {
    if (mine.at(i) >= width) continue;
#pragma unroll
    for (int j = 0; j < lot; ++j) {
      const float centred = v[i].x[j] - mu;
      squares = fmaf(centred, centred, squares);
    }
  }
  const float variance = mine.sum(squares, room) / static_cast<float>(width);
  const float r = 1.0f / sqrtf(variance + eps);
#pragma unroll
  for (int i = 0; i < lots; ++i) {
    const int d = mine.at(i);
    if (d >= width) continue;
    Lot by = {}, more = {};
    load_whole(gain + d, by);
    if (bias != nullptr) load_whole(bias + d, more);
#pragma unroll
    for (int j = 0; j < lot; ++j) v[i].x[j] = fmaf((v[i].x[j] - mu) * r, by.x[j], more.x[j]);
    store_whole(y + at + d, v[i]);
  }
  if (mine.thread == 0) mean[mine.row] = mu, rstd[mine.row] = r;
}

template <int team, int lots, bool adds, class T>
__global__ void __launch_bounds__(Dealt<team, lots>::threads)
    dealt_grad_input_kernel(const T* x, const float* gain, const float* mean, const float* rstd,
                            const T* dy, const T* plus, T* dx, std::int64_t rows, int width) {
  __shared__ float room[33];
  const Dealt<team, lots> mine;
  if (mine.row >= rows) return;
  const std::int64_t at = mine.row * width;
  Lot h[lots], e[lots], more[lots];
  mine.load(x + at, width, h);
  mine.load(dy + at, width, e);
  if constexpr (adds) mine.load(plus + at, width, more);
  const float mu = mean[mine.row], r = rstd[mine.row];
  float sum_e = 0, sum_eh = 0;
#pragma unroll
  for (int i = 0; i < lots; ++i) {
    Lot by = {};
    if (mine.at(i) < width) load_whole(gain + mine.at(i), by);  // zeros beyond it
#pragma unroll
    for (int j = 0; j < lot; ++j) {
      h[i].x[j] = (h[i].x[j] - mu) * r;
      e[i].x[j] *= by.x[j];
      sum_e += e[i].x[j];
      sum_eh = fmaf(e[i].x[j], h[i].x[j], sum_eh);
    }
  }
  const float mean_e = mine.sum(sum_e, room) / static_cast<float>(width);
  const float mean_eh = mine.sum(sum_eh, room) / static_cast<float>(width);
#pragma unroll
  for (int i = 0; i < lots; ++i) {
    if (mine.at(i) >= width) continue;
#pragma unroll
    for (int j = 0; j < lot; ++j) {
      e[i].x[j] = r * (e[i].x[j] - mean_e - h[i].x[j] * mean_eh);
      if constexpr (adds) e[i].x[j] = more[i].x[j] + kept(dx, e[i].x[j]);
    }
    store_whole(dx + at + mine.at(i), e[i]);
  }
}

// f.operator()<team, lots>() for the rows that can be dealt: of whole lots, up to 16,384 numbers.
// False for the others.
template <class F>
bool dealt(std::int64_t width, F f) {
  if (width % lot != 0 || width > 16384) return false;
  const std::int64_t lots = width / lot;
  if (lots <= 32)
    f.template operator()<32, 1>();
  else if (lots <= 64)
    f.template operator()<32, 2>();
  else if (lots <= 96)
    f.template operator()<32, 3>();
  else if (lots <= 128)
    f.template operator()<32, 4>();
  else if (lots <= 256)
    f.template operator()<128, 2>();
  else if (lots <= 512)
    f.template operator()<128, 4>();
  else
    f.template operator()<512, 4>();
  return true;
}
template <int team, int lots>
unsigned blocks_of(std::int64_t rows) {
  constexpr int each = Dealt<team, lots>::threads / team;
  return static_cast<unsigned>((rows + each - 1) / each);
}

// Rows that cannot be dealt: a block to each, which reads it again from the cache.
template <class T>
__global__ void norm_kernel(const T* x, const T* b, float scale, T* sum, const float* gain,
                            const float* bias, float eps, T* y, float* mean, float* rstd,
                            std::int64_t width) {
  __shared__ float room[33];
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * width;
  const T* from = x + at;
  float total = 0;
  for (std::int64_t d = threadIdx.x; d < width; d += blockDim.x) {
    float v = load(from + d);
    if (b != nullptr) {
      v = kept(sum, fmaf(scale, load(b + at + d), v));
      store(sum + at + d, v);
    }
    total += v;
  }
  if (b != nullptr) from = sum + at;  // what this thread wrote, it reads again
  const float mu = block_sum(total, room) / static_cast<float>(width);
  float squares = 0;
  for (std::int64_t d = threadIdx.x; d < width; d += blockDim.x) {
    const float centred = load(from + d) - mu;
    squares = fmaf(centred, centred, squares);
  }
  const float variance = block_sum(squares, room) / static_cast<float>(width);
  const float r = 1.0f / sqrtf(variance + eps);
  for (std::int64_t d = threadIdx.x; d < width; d += blockDim.x) {
    const float h = (load(from + d) - mu) * r;
    store(y + at + d, fmaf(h, gain[d], bias == nullptr ? 0.0f : bias[d]));
  }
  if (threadIdx.x == 0) mean[blockIdx.x] = mu, rstd[blockIdx.x] = r;
}

template <class T>
__global__ void grad_input_kernel(const T* x, const float* gain, const float* mean,
                                  const float* rstd, const T* dy, const T* plus, T* dx,
                                  std::int64_t width) {
  __shared__ float room[33];
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * width;
  const float mu = mean[blockIdx.x], r = rstd[blockIdx.x];
  float sum_e = 0, sum_eh = 0;
  for (std::int64_t d = threadIdx.x; d < width; d += blockDim.x) {
    const float e = load(dy + at + d) * gain[d];
    sum_e += e;
    sum_eh = fmaf(e, (load(x + at + d) - mu) * r, sum_eh);
  }
  const float mean_e = block_sum(sum_e, room) / static_cast<float>(width);
  const float mean_eh = block_sum(sum_eh, room) / static_cast<float>(width);
  for (std::int64_t d = threadIdx.x; d < width; d += blockDim.x) {
    const float e = load(dy + at + d) * gain[d];
    const float h = (load(x + at + d) - mu) * r;
    const float own = r * (e - mean_e - h * mean_eh);
    store(dx + at + d, plus == nullptr ? own : load(plus + at + d) + kept(dx, own));
  }
}

// Sums over rows: blocks of 32 x 8 threads, a thread with eight columns of every eighth row, and
// the eight sums of a column in order.
constexpr int sum_columns = 32 * lot;
constexpr int blocks_at_once = 4;  // of a multiprocessor
template <int sums>
struct Columns {
  float room[sums][8][sum_columns];
  __device__ void put(int which, const Lot& x) {
    for (int j = 0; j < lot; ++j) room[which][threadIdx.y][threadIdx.x * lot + j] = x.x[j];
  }
  __device__ float of(int which, int column) const {
    float all = 0;
    for (int y = 0; y < 8; ++y) all += room[which][y][column];
    return all;
  }
};
// Eight columns of a row; `whole`: all there and aligned, so that loads ask nothing and do not wait
// for each other.
template <bool whole, class T>
__device__ inline Lot some(const T* from, int count) {
  if constexpr (!whole) return load_lot(from, count);
  Lot out;
  load_whole(from, out);
  return out;
}
__device__ inline int columns_left(std::int64_t column, std::int64_t width) {
  return static_cast<int>(width - column < lot ? width - column : lot);
}

// parts: [chunk][dgain, dbias][width]
template <class T>
__global__ void __launch_bounds__(256, blocks_at_once)
    grad_weight_kernel(const T* x, const float* mean, const float* rstd, const T* dy, float* parts,
                       std::int64_t rows, std::int64_t size, std::int64_t width) {
  __shared__ Columns<2> shared;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * sum_columns;
  const std::int64_t column = first + threadIdx.x * lot;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * size;
  const std::int64_t end = min(rows, begin + size);
  Lot dgain = {}, dbias = {};
  const int count = columns_left(column, width);
  const auto sum = [&]<bool whole>() {
#pragma unroll 4
    for (std::int64_t t = begin + threadIdx.y; t < end; t += 8) {
      const Lot g = some<whole>(dy + t * width + column, count);
      const Lot v = some<whole>(x + t * width + column, count);
      const float mu = mean[t], r = rstd[t];
#pragma unroll
      for (int j = 0; j < lot; ++j) {
        dgain.x[j] = fmaf(g.x[j], (v.x[j] - mu) * r, dgain.x[j]);
        dbias.x[j] += g.x[j];
      }
    }
  };
  if (width % lot == 0 && count == lot && aligned(x) && aligned(dy))
    sum.template operator()<true>();
  else if (count > 0)
    sum.template operator()<false>();
  shared.put(0, dgain), shared.put(1, dbias);
  __syncthreads();
  const int mine = threadIdx.y * 32 + threadIdx.x;
  if (first + mine >= width) return;
  float* const to = parts + static_cast<std::int64_t>(blockIdx.x) * 2 * width + first + mine;
  to[0] = shared.of(0, mine);
  to[width] = shared.of(1, mine);
}

template <class T>
__global__ void __launch_bounds__(256, blocks_at_once)
    column_sum_kernel(const T* x, std::int64_t rows, std::int64_t columns, std::int64_t line,
                      std::int64_t size, float* parts) {
  __shared__ Columns<1> shared;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * sum_columns;
  const std::int64_t column = first + threadIdx.x * lot;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * size;
  const std::int64_t end = min(rows, begin + size);
  Lot sum = {};
  const int count = columns_left(column, columns);
  const auto add = [&]<bool whole>() {
#pragma unroll 8
    for (std::int64_t t = begin + threadIdx.y; t < end; t += 8) {
      const Lot v = some<whole>(x + t * line + column, count);
#pragma unroll
      for (int j = 0; j < lot; ++j) sum.x[j] += v.x[j];
    }
  };
  if (line % lot == 0 && count == lot && aligned(x))
    add.template operator()<true>();
  else if (count > 0)
    add.template operator()<false>();
  shared.put(0, sum);
  __syncthreads();
  const int mine = threadIdx.y * 32 + threadIdx.x;
  if (first + mine < columns)
    parts[static_cast<std::int64_t>(blockIdx.y) * columns + first + mine] = shared.of(0, mine);
}

// sums (+)= Σ over `count` rows of parts, `line` numbers apart, for up to two sums that lie `width`
// apart in a row: 32 threads to a column, each every 32nd row, and their sums in order.
struct Sums {
  float* to[2];
};
__global__ void __launch_bounds__(1024)
    sum_parts_kernel(const float* parts, std::int64_t count, std::int64_t line, Sums sums,
                     std::int64_t width, bool accumulate) {
  __shared__ float room[32][33];
  float* const to = blockIdx.y == 0 ? sums.to[0] : sums.to[1];
  if (to == nullptr) return;
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.x;
  const float* const from = parts + blockIdx.y * width + d;
  float sum = 0;
  if (d < width)
#pragma unroll 4
    for (std::int64_t i = threadIdx.y; i < count; i += 32) sum += from[i * line];
  room[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || d >= width) return;
  float all = accumulate ? to[d] : 0.0f;
#pragma unroll 8
  for (int y = 0; y < 32; ++y) all += room[y][threadIdx.x];
  to[d] = all;
}

void sum_parts(cudaStream_t s, const float* parts, std::int64_t count, std::int64_t line, Sums sums,
               std::int64_t width, bool accumulate) {
  const dim3 grid(static_cast<unsigned>((width + 31) / 32), sums.to[1] == nullptr ? 1 : 2);
  sum_parts_kernel<<<grid, dim3(32, 32), 0, s>>>(parts, count, line, sums, width, accumulate);
}

// Rows of one partial sum: at least 64, and as many sums as there are blocks at work at once, so
// that none of them works while others have ended.
std::int64_t rows_of_part(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t blocks = 132 * blocks_at_once;  // of an H100 or H200
  const std::int64_t wide = (columns + sum_columns - 1) / sum_columns;
  const std::int64_t parts = std::max<std::int64_t>(blocks / wide, 1);
  return std::max<std::int64_t>(chunk_rows, (rows + parts - 1) / parts);
}

}  // namespace

void layer_norm(cudaStream_t s, Type type, const void* x, const void* b, float scale, void* sum,
                const float* gain, const float* bias, float eps, void* y, float* mean, float* rstd,
                std::int64_t rows, std::int64_t width) {
  with_type(type, [&]<class T>(T*) {
    const auto run = [&](auto kernel, unsigned blocks, int threads, auto... more) {
      kernel<<<blocks, static_cast<unsigned>(threads), 0, s>>>(
          static_cast<const T*>(x), static_cast<const T*>(b), scale, static_cast<T*>(sum), gain,
          bias, eps, static_cast<T*>(y), mean, rstd, more...);
    };
    const bool done = dealt(width, [&]<int team, int lots>() {
      run(dealt_norm_kernel<team, lots, T>, blocks_of<team, lots>(rows), Dealt<team, lots>::threads,
          rows, static_cast<int>(width));
    });
    if (!done) run(norm_kernel<T>, static_cast<unsigned>(rows), row_threads, width);
  });
}

void layer_norm_grad_input(cudaStream_t s, Type type, const void* x, const float* gain,
                           const float* mean, const float* rstd, const void* dy, const void* plus,
                           void* dx, std::int64_t rows, std::int64_t width) {
  with_type(type, [&]<class T>(T*) {
    const auto run = [&](auto kernel, unsigned blocks, int threads, auto... more) {
      kernel<<<blocks, static_cast<unsigned>(threads), 0, s>>>(
          static_cast<const T*>(x), gain, mean, rstd, static_cast<const T*>(dy),
          static_cast<const T*>(plus), static_cast<T*>(dx), more...);
    };
    const bool done = dealt(width, [&]<int team, int lots>() {
      run(plus == nullptr ? dealt_grad_input_kernel<team, lots, false, T>
                          : dealt_grad_input_kernel<team, lots, true, T>,
          blocks_of<team, lots>(rows), Dealt<team, lots>::threads, rows, static_cast<int>(width));
    });
    if (!done) run(grad_input_kernel<T>, static_cast<unsigned>(rows), row_threads, width);
  });
}

void layer_norm_grad_weight(cudaStream_t s, Type type, const void* x, const float* mean,
                            const float* rstd, const void* dy, float* dgain, float* dbias,
                            bool accumulate, float* parts, std::int64_t rows, std::int64_t width) {
  const std::int64_t size = rows_of_part(rows, width);
  const std::int64_t chunks = (rows + size - 1) / size;
  const dim3 grid(static_cast<unsigned>(chunks),
                  static_cast<unsigned>((width + sum_columns - 1) / sum_columns));
  with_type(type, [&]<class T>(T*) {
    grad_weight_kernel<<<grid, dim3(32, 8), 0, s>>>(
        static_cast<const T*>(x), mean, rstd, static_cast<const T*>(dy), parts, rows, size, width);
  });
  sum_parts(s, parts, chunks, 2 * width, {{dgain, dbias}}, width, accumulate);
}

std::int64_t column_sum_parts(std::int64_t rows, std::int64_t columns) {
  const std::int64_t size = rows_of_part(rows, columns);
  return (rows + size - 1) / size * columns;
}

void column_sum(cudaStream_t s, Type type, const void* x, std::int64_t rows, std::int64_t columns,
                std::int64_t line, bool accumulate, float* sums, float* parts) {
  const std::int64_t size = rows_of_part(rows, columns), count = (rows + size - 1) / size;
  const dim3 grid(static_cast<unsigned>((columns + sum_columns - 1) / sum_columns),
                  static_cast<unsigned>(count));
  with_type(type, [&]<class T>(T*) {
    column_sum_kernel<<<grid, dim3(32, 8), 0, s>>>(static_cast<const T*>(x), rows, columns, line,
                                                   size, parts);
  });
  sum_parts(s, parts, count, columns, {{sums, nullptr}}, columns, accumulate);
}

}  // namespace sluice::gpu
