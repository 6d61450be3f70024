// Embed moves M rows: 2 M D numbers. EmbedGrad reads M D numbers of dy and updates the rows that
// occur, and clears the table (4 V D bytes) in the first micro-batch: limit of both, those bytes
// over the memory bandwidth. A row that occurs c times is a chain of c dependent loads.
//
// The gradient's sum has one order: tokens ascending for every row, as on the CPU, so that its
// bits are the CPU's. Each token finds the next token of its row by looking forward (about one
// batch's ids in the worst case, a few for common rows); the first token of a row then walks them.
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

// next[t] = the next token of t's row, 0 if none; led[t] = 1 if there was one before.
__global__ void link_kernel(const std::int32_t* ids, int tokens, int* next, int* led) {
  constexpr int tile = 256;
  __shared__ std::int32_t later[tile];
  const int t = blockIdx.x * tile + threadIdx.x;
  const std::int32_t id = t < tokens ? ids[t] : -1;
  int found = t < tokens ? 0 : 1;
  for (int begin = blockIdx.x * tile; begin < tokens; begin += tile) {
    const int mine = begin + threadIdx.x;
    later[threadIdx.x] = mine < tokens ? ids[mine] : -1;
    __syncthreads();
    const int end = min(tile, tokens - begin);
    for (int i = max(0, t + 1 - begin); found == 0 && i < end; ++i)
      if (later[i] == id) found = begin + i;
    if (__syncthreads_and(found != 0)) break;
  }
  if (t >= tokens) return;
  next[t] = found;
  if (found != 0) led[found] = 1;
}

template <class T>
__global__ void sum_kernel(const std::int32_t* ids, std::int64_t rows, const T* dy, float* dtable,
                           std::int64_t width, const int* next, const int* led, int* bad) {
  const std::int64_t first = blockIdx.x;
  if (led[first] != 0) return;
  const std::int64_t row = row_of(ids[first], rows, first, bad);
  for (std::int64_t column = threadIdx.x; column < width; column += blockDim.x) {
    float sum = dtable[row * width + column];
    std::int64_t token = first;
    do {
      sum += load(dy + token * width + column);
      token = next[token];
    } while (token != 0);
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
                int* links, int* bad) {
  int* const next = links;
  int* const led = links + tokens;
  if (clear) cudaMemsetAsync(dtable, 0, static_cast<std::size_t>(rows * width) * 4, s);
  cudaMemsetAsync(led, 0, static_cast<std::size_t>(tokens) * sizeof(int), s);
  const auto grid = static_cast<unsigned>((tokens + 255) / 256);
  link_kernel<<<grid, 256, 0, s>>>(ids, static_cast<int>(tokens), next, led);
  with_type(type, [&]<class T>(T*) {
    sum_kernel<<<static_cast<unsigned>(tokens), 256, 0, s>>>(ids, rows, static_cast<const T*>(dy),
                                                             dtable, width, next, led, bad);
  });
}

}  // namespace sluice::gpu
