// Column sums of bf16: the bits of the same numbers in float32, with every instruction set.
// (Float32: linear_test.cpp.)
#include "backend/cpu/ops/column_sum.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice {
namespace {

TEST(ColumnSum, SameBitsFromBf16AsFromFloat32) {
  Pool pool(2);
  constexpr std::int64_t rows = 130, columns = 299, ld = 305;
  std::vector<bf16> x(rows * ld);
  std::vector<float> wide(rows * ld);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = bf16(0.01f * static_cast<float>(i * 7919 % 1009) - 5);
    wide[i] = static_cast<float>(x[i]);
  }
  for (const Isa isa : available_isas()) {
    for (const bool accumulate : {true, false}) {
      std::vector<float> sum(columns + 1, 3.0f), expected(columns + 1, 3.0f);
      column_sum(pool, Isa::portable, wide.data(), rows, columns, ld, accumulate, expected.data());
      column_sum(pool, isa, x.data(), rows, columns, ld, accumulate, sum.data());
      EXPECT_EQ(sum, expected);
      EXPECT_EQ(sum[columns], 3.0f);
      std::swap(x[3], x[ld + 4]);  // another column's number
      column_sum(pool, isa, x.data(), rows, columns, ld, accumulate, sum.data());
      EXPECT_NE(sum, expected);
      std::swap(x[3], x[ld + 4]);
    }
  }
}

}  // namespace
}  // namespace sluice
