// Reads the matrix once: limit = its bytes over the memory bandwidth. One task per strip of
// columns.
#include "backend/cpu/ops/column_sum.h"

#include <algorithm>

namespace sluice {
namespace {

constexpr std::int64_t strip = 128;  // columns: eight cache lines of a row at a time
constexpr std::int64_t chunk = 64;   // rows

template <class T>
void sum_strip(const T* x, std::int64_t rows, std::int64_t columns, std::int64_t ld, float* sum) {
  float total[strip] = {};
  for (std::int64_t r0 = 0; r0 < rows; r0 += chunk) {
    float part[strip] = {};
    for (std::int64_t r = r0; r < std::min(rows, r0 + chunk); ++r) {
      const T* row = x + r * ld;
      for (std::int64_t c = 0; c < columns; ++c) part[c] += static_cast<float>(row[c]);
    }
    for (std::int64_t c = 0; c < columns; ++c) total[c] += part[c];
  }
  for (std::int64_t c = 0; c < columns; ++c) sum[c] += total[c];
}

template <class T>
void sum_columns(Pool& pool, const T* x, std::int64_t rows, std::int64_t columns, std::int64_t ld,
                 bool accumulate, float* sum) {
  pool.run((columns + strip - 1) / strip, [&](std::int64_t task, int) {
    const std::int64_t c = task * strip;
    const std::int64_t width = std::min(strip, columns - c);
    if (!accumulate) std::fill_n(sum + c, width, 0.0f);
    sum_strip(x + c, rows, width, ld, sum + c);
  });
}

}  // namespace

void column_sum(Pool& pool, const float* x, std::int64_t rows, std::int64_t columns,
                std::int64_t ld, bool accumulate, float* sum) {
  sum_columns(pool, x, rows, columns, ld, accumulate, sum);
}

void column_sum(Pool& pool, const bf16* x, std::int64_t rows, std::int64_t columns, std::int64_t ld,
                bool accumulate, float* sum) {
  sum_columns(pool, x, rows, columns, ld, accumulate, sum);
}

}  // namespace sluice
