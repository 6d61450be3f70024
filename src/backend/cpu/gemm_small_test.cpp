#include "backend/cpu/gemm_small.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace sluice {
namespace {

constexpr float poison = std::numeric_limits<float>::quiet_NaN();

float number(std::int64_t i) { return static_cast<float>((i * 7919 + 13) % 2003) / 1001.0f - 1.0f; }

struct Size {
  std::int64_t m, n, k;
};

// Every element by the rule of gemm.h, for each instruction set, each storage, odd sizes.
TEST(BlockGemm, FollowsTheRuleInEveryForm) {
  for (const auto& [m, n, k] :
       {Size{1, 1, 1}, {1, 64, 64}, {64, 64, 80}, {33, 17, 5}, {15, 80, 256}, {128, 40, 77}}) {
    const std::int64_t lda = std::max(m, k) + 3;
    const std::int64_t ldb = std::max(n, k) + 2;
    const std::int64_t ldc = n + 5;
    for (int form = 0; form < 8; ++form) {
      const bool a_transposed = form & 1, b_transposed = form & 2, accumulate = form & 4;
      std::vector<float> a(static_cast<std::size_t>(lda * std::max(m, k)), poison);
      std::vector<float> b(static_cast<std::size_t>(ldb * std::max(n, k)), poison);
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t l = 0; l < k; ++l) {
          a[static_cast<std::size_t>(a_transposed ? l * lda + i : i * lda + l)] = number(i * k + l);
        }
      }
      for (std::int64_t l = 0; l < k; ++l) {
        for (std::int64_t j = 0; j < n; ++j) {
          b[static_cast<std::size_t>(b_transposed ? j * ldb + l : l * ldb + j)] =
              number(l * n + j + 99);
        }
      }
      for (Isa isa : available_isas()) {
        std::vector<float> packed(static_cast<std::size_t>(packed_block_floats(k, n)), poison);
        pack_block(isa, b.data(), ldb, k, n, b_transposed, packed.data());
        std::vector<float> c(static_cast<std::size_t>(m * ldc), accumulate ? 0.5f : poison);
        block_gemm(isa, m, n, k, a.data(), lda, packed.data(), c.data(), ldc, accumulate,
                   a_transposed);
        int wrong = 0;
        for (std::int64_t i = 0; i < m; ++i) {
          for (std::int64_t j = 0; j < ldc; ++j) {
            const float got = c[static_cast<std::size_t>(i * ldc + j)];
            float sum = 0;
            for (std::int64_t l = 0; l < k; ++l) {
              sum = std::fma(number(i * k + l), number(l * n + j + 99), sum);
            }
            if (accumulate) sum += 0.5f;
            const bool in_gap = j >= n;
            const bool untouched = accumulate ? got == 0.5f : std::isnan(got);
            if (in_gap ? !untouched : got != sum) ++wrong;
          }
        }
        EXPECT_EQ(wrong, 0) << name_of(isa) << " form " << form << " m " << m << " n " << n << " k "
                            << k;
      }
    }
  }
}

}  // namespace
}  // namespace sluice
