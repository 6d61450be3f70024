// Embed moves M rows: 2 M D numbers. EmbedGrad reads M D numbers of dy and updates the rows that
// occur, and clears the table (4 V D bytes) in the first micro-batch: limit of both, those bytes
// over the memory bandwidth, of which on an H200 (4.3 TB/s, bench_gpu_kernels, 32 x 1024 tokens as
// frequent as words are, width 768) Embed reached 99%. EmbedGrad takes 276 us where that limit is
// 26: seven launches, and the additions of the most frequent row, one after the other.
//
// The gradient's sum has one order: tokens ascending for every row, as on the CPU, so that its
// bits are the CPU's. Tokens are sorted by row first: how often each row occurs, where its tokens
// begin, the tokens put there in an order of chance, and then each at its rank among them.
#include <algorithm>

#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

// An index outside its table is data: the host reads about it.
__device__ inline std::int64_t row_of(std::int32_t id, std::int64_t rows, std::int64_t token,
                                      int* bad) {
  if (0 <= id && id < rows) return id;
  *bad = static_cast<int>(token + 1);
  return 0;
}

template <class Word>
__global__ void embed_kernel(const std::int32_t* ids, std::int64_t rows, const Word* table, Word* y,
                             std::int64_t words, int* bad) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t row = row_of(ids[token], rows, token, bad);
  for (std::int64_t i = threadIdx.x; i < words; i += blockDim.x)
    y[token * words + i] = table[row * words + i];
}

// What EmbedGrad keeps in scratch: per row how many tokens it has, which becomes where they end;
// the rows that have any, frequent ones from the back, and how many both are; the tokens row by
// row, in an order of chance and in theirs.
struct Sorted {
  int *ends, *present, *presents, *loose, *tokens;
  std::int64_t rows;
};
constexpr int frequent = 64;

__global__ void count_kernel(const std::int32_t* ids, int tokens, std::int64_t rows, int* counts,
                             int* bad) {
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t < tokens) atomicAdd(counts + row_of(ids[t], rows, t, bad), 1);
}

// Each row's count becomes where its tokens begin, and rows that have any are listed: one block, a
// stretch of rows to a thread.
__global__ void __launch_bounds__(1024) begin_kernel(Sorted to) {
  __shared__ unsigned long long room[1024];
  __shared__ int frequents;
  const std::int64_t rows = to.rows;
  if (threadIdx.x == 0) frequents = 0;
  constexpr int ahead = 8;
  const std::int64_t size = (rows + 1023) / 1024;
  const std::int64_t first = threadIdx.x * size, last = min(rows, first + size);
  const auto each = [&](auto body) {
    for (std::int64_t i = first; i < last; i += ahead) {
      int counts[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) counts[k] = i + k < last ? to.ends[i + k] : 0;
#pragma unroll
      for (int k = 0; k < ahead; ++k)
        if (i + k < last) body(i + k, counts[k]);
    }
  };
  int tokens = 0, present = 0;
  each([&](std::int64_t, int count) {
    tokens += count;
    present += 0 < count && count < frequent ? 1 : 0;
  });
  const auto both = static_cast<unsigned long long>(present) << 32 | static_cast<unsigned>(tokens);
  room[threadIdx.x] = both;
  __syncthreads();
  for (unsigned step = 1; step < 1024; step *= 2) {
    const unsigned long long before = threadIdx.x < step ? 0 : room[threadIdx.x - step];
    __syncthreads();
    room[threadIdx.x] += before;
    __syncthreads();
  }
  const unsigned long long begin = room[threadIdx.x] - both;
  int at = static_cast<int>(begin), place = static_cast<int>(begin >> 32);
  each([&](std::int64_t row, int count) {
    to.ends[row] = at;
    at += count;
    if (count >= frequent)
      to.present[rows - 1 - atomicAdd(&frequents, 1)] = static_cast<int>(row);
    else if (count > 0)
      to.present[place++] = static_cast<int>(row);
  });
  if (threadIdx.x == 1023) to.presents[0] = place;
  __syncthreads();
  if (threadIdx.x == 0) to.presents[1] = frequents;
}

// Afterwards each row's number is where its tokens end.
__global__ void place_kernel(const std::int32_t* ids, int tokens, std::int64_t rows, Sorted to) {
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= tokens) return;
  const std::int32_t id = 0 <= ids[t] && ids[t] < rows ? ids[t] : 0;
  to.loose[atomicAdd(to.ends + id, 1)] = t;
}

__global__ void rank_kernel(const std::int32_t* ids, int tokens, std::int64_t rows, Sorted to) {
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= tokens) return;
  const std::int32_t id = 0 <= ids[t] && ids[t] < rows ? ids[t] : 0;
  const int begin = id == 0 ? 0 : to.ends[id - 1], end = to.ends[id];
  int rank = 0;
#pragma unroll 4
  for (int i = begin; i < end; ++i) rank += to.loose[i] < t ? 1 : 0;
  to.tokens[begin + rank] = t;
}

// Two neighbours' numbers, as they are stored. The loads are volatile so that all of a lot are on
// their way before the first is used.
__device__ inline float2 numbers_of(float2 x) { return x; }
__device__ inline float2 numbers_of(unsigned x) {
  return make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u));
}
__device__ inline float2 pair_at(const float* p) {
  float2 x;
  asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "l"(p));
  return x;
}
__device__ inline unsigned pair_at(const bfloat* p) {
  unsigned x;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(x) : "l"(p));
  return x;
}

// All at once: a row's numbers of `count` tokens, of which the last ones may repeat.
template <int count, class T, class Add>
__device__ inline void add_tokens(const T* dy, std::int64_t width, const int* tokens, int last,
                                  Add add) {
  int at[count];
#pragma unroll
  for (int k = 0; k < count; ++k) at[k] = tokens[min(k, last)];
  __syncwarp(__activemask());
  decltype(pair_at(dy)) x[count];
#pragma unroll
  for (int k = 0; k < count; ++k) x[k] = pair_at(dy + static_cast<std::int64_t>(at[k]) * width);
  __syncwarp(__activemask());
#pragma unroll
  for (int k = 0; k < count; ++k)
    if (k <= last) add(numbers_of(x[k]));
}

constexpr int sum_threads = 128;
// Blocks take the rows that have tokens in turn, a thread two columns. A frequent row is a chain of
// additions, which is as fast as the number of its tokens that are on their way; the others are
// many, and as fast as the number of blocks.
template <bool often, class T>
__global__ void __launch_bounds__(sum_threads, often ? 3 : 12)
    sum_kernel(const T* dy, float* dtable, std::int64_t width, Sorted from) {
  constexpr int ahead = !often ? 4 : sizeof(T) == 2 ? 64 : 32;
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * sum_threads + threadIdx.x) * 2;
  if (column >= width) return;
  const int count = from.presents[often ? 1 : 0];
  for (int r = blockIdx.x; r < count; r += gridDim.x) {
    const std::int64_t row = from.present[often ? from.rows - 1 - r : r];
    const int end = from.ends[row];
    float2* const to = reinterpret_cast<float2*>(dtable + row * width + column);
    float2 sum = *to;
    for (int i = row == 0 ? 0 : from.ends[row - 1]; i < end; i += ahead)
      add_tokens<ahead>(dy + column, width, from.tokens + i, min(ahead, end - i) - 1,
                        [&](float2 x) { sum.x += x.x, sum.y += x.y; });
    *to = sum;
  }
}

// The same for rows of an odd width, a thread a column.
template <class T>
__global__ void __launch_bounds__(sum_threads)
    odd_sum_kernel(const T* dy, float* dtable, std::int64_t width, Sorted from) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * sum_threads + threadIdx.x;
  if (column >= width) return;
  const int few = from.presents[0], all = few + from.presents[1];
  for (int r = blockIdx.x; r < all; r += gridDim.x) {
    const std::int64_t row = from.present[r < few ? r : from.rows - 1 - (r - few)];
    const int end = from.ends[row];
    float sum = dtable[row * width + column];
    for (int i = row == 0 ? 0 : from.ends[row - 1]; i < end; ++i)
      sum += load(dy + static_cast<std::int64_t>(from.tokens[i]) * width + column);
    dtable[row * width + column] = sum;
  }
}

}  // namespace

void embed(cudaStream_t s, const std::int32_t* ids, std::int64_t tokens, std::int64_t rows,
           const void* table, void* y, std::int64_t row_bytes, int* bad) {
  const auto grid = static_cast<unsigned>(tokens);
  if (row_bytes % 16 == 0) {
    embed_kernel<<<grid, 128, 0, s>>>(ids, rows, static_cast<const uint4*>(table),
                                      static_cast<uint4*>(y), row_bytes / 16, bad);
  } else {
    embed_kernel<<<grid, 128, 0, s>>>(ids, rows, static_cast<const std::uint16_t*>(table),
                                      static_cast<std::uint16_t*>(y), row_bytes / 2, bad);
  }
}

void embed_grad(cudaStream_t s, Type type, const std::int32_t* ids, std::int64_t tokens,
                std::int64_t rows, const void* dy, float* dtable, std::int64_t width, bool clear,
                int* scratch, int* bad) {
  int* const tokens_of = scratch + 2 * rows + 2;
  const Sorted sorted{scratch,   scratch + rows,     scratch + 2 * rows,
                      tokens_of, tokens_of + tokens, rows};
  if (clear) cudaMemsetAsync(dtable, 0, static_cast<std::size_t>(rows * width) * 4, s);
  cudaMemsetAsync(sorted.ends, 0, static_cast<std::size_t>(rows) * sizeof(int), s);
  const auto grid = static_cast<unsigned>((tokens + 255) / 256);
  const int count = static_cast<int>(tokens);
  count_kernel<<<grid, 256, 0, s>>>(ids, count, rows, sorted.ends, bad);
  begin_kernel<<<1, 1024, 0, s>>>(sorted);
  place_kernel<<<grid, 256, 0, s>>>(ids, count, rows, sorted);
  rank_kernel<<<grid, 256, 0, s>>>(ids, count, rows, sorted);
  const auto blocks = [&](std::int64_t most, int columns) {
    return dim3(static_cast<unsigned>(std::min(most, std::min(tokens, rows))),
                static_cast<unsigned>((width + columns - 1) / columns));
  };
  with_type(type, [&]<class T>(T*) {
    const auto run = [&](auto kernel, dim3 grid) {
      kernel<<<grid, sum_threads, 0, s>>>(static_cast<const T*>(dy), dtable, width, sorted);
    };
    if (width % 2 != 0) return run(odd_sum_kernel<T>, blocks(2112, sum_threads));
    run(sum_kernel<true, T>, blocks(132, 2 * sum_threads));
    run(sum_kernel<false, T>, blocks(2112, 2 * sum_threads));
  });
}

}  // namespace sluice::gpu
