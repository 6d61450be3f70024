// Norms, one block of threads to a row. Bytes per number in float32 (bf16: half): LayerNorm 8,
// ResidualNorm 16, GradInput 12, GradWeight 8; further reads of a row come from the L1 or L2
// cache. Limit: the memory bandwidth. Column sums read their numbers once.
#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

constexpr int row_threads = 256;
constexpr int chunk_rows = 64;  // ops/rules.h's token_chunk

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
                                  const float* rstd, const T* dy, T* dx, std::int64_t width) {
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
    store(dx + at + d, r * (e - mean_e - h * mean_eh));
  }
}

// parts: [chunk][dgain, dbias][width]
template <class T>
__global__ void grad_weight_kernel(const T* x, const float* mean, const float* rstd, const T* dy,
                                   float* parts, std::int64_t rows, std::int64_t width) {
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (d >= width) return;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * chunk_rows;
  const std::int64_t end = min(rows, begin + chunk_rows);
  float dgain = 0, dbias = 0;
  for (std::int64_t t = begin; t < end; ++t) {
    const float g = load(dy + t * width + d);
    dgain = fmaf(g, (load(x + t * width + d) - mean[t]) * rstd[t], dgain);
    dbias += g;
  }
  float* const to = parts + static_cast<std::int64_t>(blockIdx.y) * 2 * width + d;
  to[0] = dgain;
  to[width] = dbias;
}

// sums (+)= Σ over `count` rows of parts, `line` numbers apart: eight threads to a column, each
// every eighth row, and their sums in order.
__global__ void sum_parts_kernel(const float* parts, std::int64_t count, std::int64_t line,
                                 float* sums, std::int64_t width, bool accumulate) {
  __shared__ float room[8][32];
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.x;
  float sum = 0;
  if (d < width)
#pragma unroll 4
    for (std::int64_t i = threadIdx.y; i < count; i += 8) sum += parts[i * line + d];
  room[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || d >= width) return;
  float all = accumulate ? sums[d] : 0.0f;
  for (const auto& row : room) all += row[threadIdx.x];
  sums[d] = all;
}

void sum_parts(cudaStream_t s, const float* parts, std::int64_t count, std::int64_t line,
               float* sums, std::int64_t width, bool accumulate) {
  const auto grid = static_cast<unsigned>((width + 31) / 32);
  sum_parts_kernel<<<grid, dim3(32, 8), 0, s>>>(parts, count, line, sums, width, accumulate);
}

// Blocks of 64 columns by 4 threads each, over `size` rows.
template <class T>
__global__ void column_sum_kernel(const T* x, std::int64_t rows, std::int64_t columns,
                                  std::int64_t line, std::int64_t size, float* parts) {
  __shared__ float room[4][64];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * 64 + threadIdx.x;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * size;
  const std::int64_t end = min(rows, begin + size);
  float sum = 0;
  if (column < columns)
    for (std::int64_t t = begin + threadIdx.y; t < end; t += 4) sum += load(x + t * line + column);
  room[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  const int c = threadIdx.x;
  parts[static_cast<std::int64_t>(blockIdx.y) * columns + column] =
      (room[0][c] + room[1][c]) + (room[2][c] + room[3][c]);
}

// Rows of one partial sum: at least 64, and at most 128 sums.
std::int64_t rows_of_part(std::int64_t rows) {
  return (rows + 127) / 128 < 64 ? 64 : (rows + 127) / 128;
}

}  // namespace

void layer_norm(cudaStream_t s, Type type, const void* x, const void* b, float scale, void* sum,
                const float* gain, const float* bias, float eps, void* y, float* mean, float* rstd,
                std::int64_t rows, std::int64_t width) {
  with_type(type, [&]<class T>(T*) {
    norm_kernel<<<static_cast<unsigned>(rows), row_threads, 0, s>>>(
        static_cast<const T*>(x), static_cast<const T*>(b), scale, static_cast<T*>(sum), gain, bias,
        eps, static_cast<T*>(y), mean, rstd, width);
  });
}

void layer_norm_grad_input(cudaStream_t s, Type type, const void* x, const float* gain,
                           const float* mean, const float* rstd, const void* dy, void* dx,
                           std::int64_t rows, std::int64_t width) {
  with_type(type, [&]<class T>(T*) {
    grad_input_kernel<<<static_cast<unsigned>(rows), row_threads, 0, s>>>(
        static_cast<const T*>(x), gain, mean, rstd, static_cast<const T*>(dy), static_cast<T*>(dx),
        width);
  });
}

void layer_norm_grad_weight(cudaStream_t s, Type type, const void* x, const float* mean,
                            const float* rstd, const void* dy, float* dgain, float* dbias,
                            bool accumulate, float* parts, std::int64_t rows, std::int64_t width) {
  const std::int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  const dim3 grid(static_cast<unsigned>((width + 127) / 128), static_cast<unsigned>(chunks));
  with_type(type, [&]<class T>(T*) {
    grad_weight_kernel<<<grid, 128, 0, s>>>(static_cast<const T*>(x), mean, rstd,
                                            static_cast<const T*>(dy), parts, rows, width);
  });
  if (dgain != nullptr) sum_parts(s, parts, chunks, 2 * width, dgain, width, accumulate);
  if (dbias != nullptr) sum_parts(s, parts + width, chunks, 2 * width, dbias, width, accumulate);
}

std::int64_t column_sum_parts(std::int64_t rows, std::int64_t columns) {
  const std::int64_t size = rows_of_part(rows);
  return (rows + size - 1) / size * columns;
}

void column_sum(cudaStream_t s, Type type, const void* x, std::int64_t rows, std::int64_t columns,
                std::int64_t line, bool accumulate, float* sums, float* parts) {
  const std::int64_t size = rows_of_part(rows), count = (rows + size - 1) / size;
  const dim3 grid(static_cast<unsigned>((columns + 63) / 64), static_cast<unsigned>(count));
  with_type(type, [&]<class T>(T*) {
    column_sum_kernel<<<grid, dim3(64, 4), 0, s>>>(static_cast<const T*>(x), rows, columns, line,
                                                   size, parts);
  });
  sum_parts(s, parts, count, columns, sums, columns, accumulate);
}

}  // namespace sluice::gpu
