// Embed moves M rows: 2 M D numbers. EmbedGrad reads M D numbers of dy and updates the rows that
// occur, and clears the table (4 V D bytes) in the first micro-batch: limit of both, those bytes
// over the memory bandwidth.
//
// The gradient's sum has one order: tokens ascending for every row, as on the CPU, so that its
// bits are the CPU's. Tokens are sorted by row first: how often each row occurs, where its tokens
// begin, the tokens put there in an order of chance, and then each at its rank among them. The
// first token of a row adds all of them, whose numbers are on their way eight at a time.
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
// the tokens row by row, in an order of chance and in theirs.
struct Sorted {
  int *ends, *loose, *tokens;
};

__global__ void count_kernel(const std::int32_t* ids, int tokens, std::int64_t rows, int* counts,
                             int* bad) {
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t < tokens) atomicAdd(counts + row_of(ids[t], rows, t, bad), 1);
}

// counts becomes where each row's tokens begin: one block, a stretch of rows to a thread.
__global__ void __launch_bounds__(1024) begin_kernel(int* counts, std::int64_t rows) {
  __shared__ int room[1024];
  const std::int64_t size = (rows + 1023) / 1024;
  const std::int64_t first = threadIdx.x * size, last = min(rows, first + size);
  int sum = 0;
  for (std::int64_t i = first; i < last; ++i) sum += counts[i];
  room[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 1; step < 1024; step *= 2) {
    const int before = static_cast<int>(threadIdx.x) < step ? 0 : room[threadIdx.x - step];
    __syncthreads();
    room[threadIdx.x] += before;
    __syncthreads();
  }
  int at = room[threadIdx.x] - sum;
  for (std::int64_t i = first; i < last; ++i) {
    const int count = counts[i];
    counts[i] = at;
    at += count;
  }
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

// A block to each place among the sorted tokens; those that begin a row have work. `whole`: rows
// are whole lots.
template <bool whole, class T>
__global__ void __launch_bounds__(128)
    sum_kernel(const std::int32_t* ids, std::int64_t rows, const T* dy, float* dtable,
               std::int64_t width, Sorted from) {
  const int place = blockIdx.x;
  const std::int32_t found = ids[from.tokens[place]];
  const std::int64_t row = 0 <= found && found < rows ? found : 0;
  if (place != (row == 0 ? 0 : from.ends[row - 1])) return;
  const int end = from.ends[row];
  constexpr int ahead = 8;
  for (std::int64_t column = threadIdx.x * lot; column < width; column += 128 * lot) {
    const int count = whole ? lot : static_cast<int>(min(width - column, long{lot}));
    float* const to = dtable + row * width + column;
    Lot sum = load_lot(to, count);
    for (int i = place; i < end; i += ahead) {
      Lot x[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        const T* const at =
            dy + static_cast<std::int64_t>(from.tokens[min(i + k, end - 1)]) * width + column;
        if constexpr (whole)
          load_whole(at, x[k]);
        else
          x[k] = load_lot(at, count);
      }
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        if (i + k >= end) break;
#pragma unroll
        for (int j = 0; j < lot; ++j) sum.x[j] += x[k].x[j];
      }
    }
    store_lot(to, sum, count);
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
  const Sorted sorted{scratch, scratch + rows, scratch + rows + tokens};
  if (clear) cudaMemsetAsync(dtable, 0, static_cast<std::size_t>(rows * width) * 4, s);
  cudaMemsetAsync(sorted.ends, 0, static_cast<std::size_t>(rows) * sizeof(int), s);
  const auto grid = static_cast<unsigned>((tokens + 255) / 256);
  const int count = static_cast<int>(tokens);
  count_kernel<<<grid, 256, 0, s>>>(ids, count, rows, sorted.ends, bad);
  begin_kernel<<<1, 1024, 0, s>>>(sorted.ends, rows);
  place_kernel<<<grid, 256, 0, s>>>(ids, count, rows, sorted);
  rank_kernel<<<grid, 256, 0, s>>>(ids, count, rows, sorted);
  const auto blocks = static_cast<unsigned>(tokens);
  with_type(type, [&]<class T>(T*) {
    const T* const from = static_cast<const T*>(dy);
    const auto run = width % lot == 0 ? sum_kernel<true, T> : sum_kernel<false, T>;
    run<<<blocks, 128, 0, s>>>(ids, rows, from, dtable, width, sorted);
  });
}

}  // namespace sluice::gpu
