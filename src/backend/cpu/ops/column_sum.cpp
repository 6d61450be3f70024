// Reads the matrix once: limit = its bytes over the memory bandwidth. One task per strip of
// columns.
#include "backend/cpu/ops/column_sum.h"

#include <algorithm>

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

constexpr std::int64_t strip = 128;  // columns: a few cache lines of a row at a time
constexpr std::int64_t chunk = 64;   // rows
constexpr std::int64_t ahead = 32;   // rows: no hardware prefetcher follows from row to row

template <class T>
using AddTo = void (*)(const T* x, float* sum, std::int64_t n);

template <class T>
void sum_strip(AddTo<T> add_row, AddTo<float> add, const T* x, std::int64_t rows,
               std::int64_t columns, std::int64_t ld, float* sum) {
  constexpr std::int64_t line = 64 / sizeof(T);
  float total[strip] = {};
  for (std::int64_t r0 = 0; r0 < rows; r0 += chunk) {
    float part[strip] = {};
    for (std::int64_t r = r0; r < std::min(rows, r0 + chunk); ++r) {
      const T* const row = x + r * ld;
      for (std::int64_t c = 0; c < columns; c += line) __builtin_prefetch(row + ahead * ld + c);
      add_row(row, part, columns);
    }
    add(part, total, columns);
  }
  add(total, sum, columns);
}

template <class T>
void sum_columns(Pool& pool, Isa isa, const T* x, std::int64_t rows, std::int64_t columns,
                 std::int64_t ld, bool accumulate, float* sum) {
  const ElementwiseKernels& kernels =
      kernels_of(isa, portable_elementwise, avx2_elementwise, avx512_elementwise);
  pool.run((columns + strip - 1) / strip, [&](std::int64_t task, int) {
    const std::int64_t c = task * strip;
    const std::int64_t width = std::min(strip, columns - c);
    if (!accumulate) std::fill_n(sum + c, width, 0.0f);
    sum_strip(kernels.of<T>().add_to, kernels.f32.add_to, x + c, rows, width, ld, sum + c);
  });
}

}  // namespace

void column_sum(Pool& pool, Isa isa, const float* x, std::int64_t rows, std::int64_t columns,
                std::int64_t ld, bool accumulate, float* sum) {
  sum_columns(pool, isa, x, rows, columns, ld, accumulate, sum);
}

void column_sum(Pool& pool, Isa isa, const bf16* x, std::int64_t rows, std::int64_t columns,
                std::int64_t ld, bool accumulate, float* sum) {
  sum_columns(pool, isa, x, rows, columns, ld, accumulate, sum);
}

}  // namespace sluice
