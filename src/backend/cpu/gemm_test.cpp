#include "backend/cpu/gemm.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"

namespace sluice {
namespace {

constexpr float poison = std::numeric_limits<float>::quiet_NaN();

std::vector<float> numbers(std::int64_t count, std::uint32_t seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = seed * 2654435761u + 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return values;
}

struct Size {
  std::int64_t m, n, k;
};

// A product and all of its operands, each with a line longer than needed and NaN in the gap.
struct Case {
  Size size;
  Stored a_stored = Stored::rows;
  Stored b_stored = Stored::packed;
  bool accumulate = false;
  bool bias = false;
  float alpha = 1.0f;
};

// Lines of `length` numbers, `ld` apart, NaN between them.
std::vector<float> lines(std::int64_t count, std::int64_t length, std::int64_t ld,
                         std::uint32_t seed) {
  std::vector<float> out(static_cast<std::size_t>(count * ld), poison);
  const std::vector<float> values = numbers(count * length, seed);
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t j = 0; j < length; ++j) {
      out[static_cast<std::size_t>(i * ld + j)] = values[static_cast<std::size_t>(i * length + j)];
    }
  }
  return out;
}

// The matrix X[rows, columns] of `lines`, stored the other way round.
std::vector<float> flipped(const std::vector<float>& x, std::int64_t rows, std::int64_t columns,
                           std::int64_t ld, std::int64_t new_ld) {
  std::vector<float> out(static_cast<std::size_t>(columns * new_ld), poison);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      out[static_cast<std::size_t>(j * new_ld + i)] = x[static_cast<std::size_t>(i * ld + j)];
    }
  }
  return out;
}

class Operands {
 public:
  explicit Operands(const Case& what)
      : what_(what),
        lda_(what.size.k + 3),
        ldb_(what.size.n + 5),
        a_(lines(what.size.m, what.size.k, lda_, 1)),
        b_(lines(what.size.k, what.size.n, ldb_, 2)),
        bias_(numbers(what.size.n, 3)),
        c_(lines(what.size.m, what.size.n, ldc(), 4)) {}

  std::int64_t ldc() const { return what_.size.n + 7; }

  // C after the product: NaN stays wherever it was between lines, and C itself starts as NaN
  // unless it is accumulated into.
  std::vector<float> run(int threads, Isa isa) const {
    const auto [m, n, k] = what_.size;
    Pool pool(threads);
    std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_workspace_bytes(threads)),
                                     std::byte{0xff});
    std::vector<float> c = c_;
    if (!what_.accumulate) std::fill(c.begin(), c.end(), poison);
    Gemm g = {.m = m, .n = n, .k = k, .c = c.data(), .ldc = ldc()};
    std::vector<float> a = a_;
    g.lda = lda_;
    if (what_.a_stored == Stored::transposed) {
      g.lda = m + 2;
      a = flipped(a_, m, k, lda_, g.lda);
    }
    std::vector<float> b = b_;
    g.ldb = ldb_;
    if (what_.b_stored == Stored::transposed) {
      g.ldb = k + 1;
      b = flipped(b_, k, n, ldb_, g.ldb);
    } else if (what_.b_stored == Stored::packed) {
      b.assign(static_cast<std::size_t>(packed_floats(k, n)), poison);
      pack_b(pool, k, n, b_.data(), ldb_, false, b.data());
    }
    g.a = a.data();
    g.b = b.data();
    g.a_stored = what_.a_stored;
    g.b_stored = what_.b_stored;
    g.accumulate = what_.accumulate;
    g.alpha = what_.alpha;
    if (what_.bias) g.bias = bias_.data();
    gemm(pool, isa, g, workspace);
    return c;
  }

  // ‖c - exact‖ / ‖exact‖ in double; NaN if any element is.
  double error_of(const std::vector<float>& c) const {
    const auto [m, n, k] = what_.size;
    double wrong = 0;
    double norm = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l) {
          sum += static_cast<double>(a_[static_cast<std::size_t>(i * lda_ + l)]) *
                 static_cast<double>(b_[static_cast<std::size_t>(l * ldb_ + j)]);
        }
        const auto at = static_cast<std::size_t>(i * ldc() + j);
        sum *= static_cast<double>(what_.alpha);
        if (what_.accumulate) sum += static_cast<double>(c_[at]);
        if (what_.bias) sum += static_cast<double>(bias_[static_cast<std::size_t>(j)]);
        wrong += (c[at] - sum) * (c[at] - sum);
        norm += sum * sum;
      }
    }
    return std::sqrt(wrong / norm);
  }

  // True if no float between C's lines was written.
  bool gaps_untouched(const std::vector<float>& c) const {
    for (std::size_t i = 0; i < c.size(); ++i) {
      const bool gap = static_cast<std::int64_t>(i) % ldc() >= what_.size.n;
      if (gap && !std::isnan(c[i])) return false;
    }
    return true;
  }

 private:
  Case what_;
  std::int64_t lda_;
  std::int64_t ldb_;
  std::vector<float> a_, b_, bias_, c_;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

constexpr Size odd_sizes[] = {{1, 1, 1},    {1, 50, 300},  {2, 33, 17},   {3, 130, 513},
                              {5, 16, 256}, {8, 97, 70},   {15, 31, 257}, {17, 100, 64},
                              {29, 47, 33}, {131, 77, 19}, {257, 65, 40}};

std::vector<Case> odd_cases() {
  std::vector<Case> cases;
  for (Size size : odd_sizes) {
    for (Stored a : {Stored::rows, Stored::transposed}) {
      for (Stored b : {Stored::packed, Stored::rows, Stored::transposed}) {
        const std::size_t i = cases.size();
        cases.push_back({.size = size,
                         .a_stored = a,
                         .b_stored = b,
                         .accumulate = i % 3 == 0,
                         .bias = i % 3 == 1,
                         .alpha = i % 2 == 0 ? 1.0f : 0.375f});
      }
    }
  }
  return cases;
}

std::string name_of(const Case& c) {
  return fmt::format("m {} n {} k {} a {} b {} accumulate {} bias {} alpha {}", c.size.m, c.size.n,
                     c.size.k, static_cast<int>(c.a_stored), static_cast<int>(c.b_stored),
                     c.accumulate, c.bias, c.alpha);
}

TEST(Gemm, IsCloseToTheDoubleLoopAtOddSizes) {
  for (const Case& what : odd_cases()) {
    const Operands operands(what);
    for (Isa isa : available_isas()) {
      const std::vector<float> c = operands.run(2, isa);
      EXPECT_LE(operands.error_of(c), 1e-6) << name_of(isa) << ' ' << name_of(what);
      EXPECT_TRUE(operands.gaps_untouched(c)) << name_of(isa) << ' ' << name_of(what);
    }
  }
}

TEST(Gemm, AForgottenBiasOrScaleIsNoticed) {
  Case what = {.size = {29, 47, 33}, .bias = true, .alpha = 0.5f};
  const Operands exact(what);
  what.bias = false;
  EXPECT_GT(exact.error_of(Operands(what).run(1, best_isa())), 1e-3);
  what.bias = true;
  what.alpha = 0.501f;
  EXPECT_GT(exact.error_of(Operands(what).run(1, best_isa())), 1e-5);
}

TEST(Gemm, BitsDependNeitherOnIsaNorThreadsNorStorage) {
  for (Case what : odd_cases()) {
    const Operands operands(what);
    const std::vector<float> expected = operands.run(1, Isa::portable);
    for (Isa isa : available_isas()) {
      for (int threads : {1, 2, 3}) {
        EXPECT_TRUE(same_bits(operands.run(threads, isa), expected))
            << name_of(isa) << ' ' << threads << " threads, " << name_of(what);
      }
    }
    what.a_stored = Stored::rows;
    what.b_stored = Stored::packed;
    EXPECT_TRUE(same_bits(Operands(what).run(1, best_isa()), expected)) << name_of(what);
  }
}

// Every register tile that there is: heights 1 to 16 and more, one to four panels, partial ones.
TEST(Gemm, EveryTileHasTheBitsOfThePortableOne) {
  for (std::int64_t m = 1; m <= 30; ++m) {
    for (std::int64_t n : {9, 25, 48, 64}) {
      const Operands operands({.size = {m, n, 21}});
      const std::vector<float> expected = operands.run(1, Isa::portable);
      EXPECT_LE(operands.error_of(expected), 1e-6);
      for (Isa isa : available_isas()) {
        EXPECT_TRUE(same_bits(operands.run(1, isa), expected))
            << name_of(isa) << " m " << m << " n " << n;
      }
    }
  }
}

// The documented rule, spelled out, and two other rules that must not pass for it.
TEST(Gemm, BitsFollowTheDocumentedRule) {
  const Size size = {3, 20, 700};
  const std::vector<float> a = numbers(size.m * size.k, 1);
  const std::vector<float> b = numbers(size.k * size.n, 2);
  const std::vector<float> bias = numbers(size.n, 3);
  const auto by_rule = [&](std::int64_t block, bool fused) {
    std::vector<float> c;
    for (std::int64_t i = 0; i < size.m; ++i) {
      for (std::int64_t j = 0; j < size.n; ++j) {
        float value = bias[static_cast<std::size_t>(j)];
        for (std::int64_t first = 0; first < size.k; first += block) {
          float sum = 0;
          for (std::int64_t k = first; k < std::min(first + block, size.k); ++k) {
            const float x = a[static_cast<std::size_t>(i * size.k + k)];
            const float y = b[static_cast<std::size_t>(k * size.n + j)];
            sum = fused ? std::fma(x, y, sum) : sum + x * y;
          }
          value = std::fma(0.7f, sum, value);
        }
        c.push_back(value);
      }
    }
    return c;
  };
  Pool pool(2);
  std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_workspace_bytes(2)));
  std::vector<float> c(static_cast<std::size_t>(size.m * size.n), poison);
  for (Isa isa : available_isas()) {
    gemm(pool, isa,
         {.m = size.m,
          .n = size.n,
          .k = size.k,
          .a = a.data(),
          .lda = size.k,
          .b = b.data(),
          .ldb = size.n,
          .b_stored = Stored::rows,
          .c = c.data(),
          .ldc = size.n,
          .alpha = 0.7f,
          .bias = bias.data()},
         workspace);
    EXPECT_TRUE(same_bits(c, by_rule(gemm_block_k, true))) << name_of(isa);
    EXPECT_FALSE(same_bits(c, by_rule(size.k, true))) << "one chain must differ";
    EXPECT_FALSE(same_bits(c, by_rule(gemm_block_k, false))) << "unfused must differ";
  }
}

// Rows and columns computed alone have the bits they have in the whole.
TEST(Gemm, BitsDependNotOnTheTile) {
  const Size size = {300, 450, 300};
  Pool pool(2);
  std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_workspace_bytes(2)));
  const std::vector<float> a = numbers(size.m * size.k, 1);
  const std::vector<float> b = numbers(size.k * size.n, 2);
  const auto part = [&](Isa isa, std::int64_t row, std::int64_t rows, std::int64_t column,
                        std::int64_t columns, std::vector<float>& c) {
    gemm(pool, isa,
         {.m = rows,
          .n = columns,
          .k = size.k,
          .a = a.data() + row * size.k,
          .lda = size.k,
          .b = b.data() + column,
          .ldb = size.n,
          .b_stored = Stored::rows,
          .c = c.data() + row * size.n + column,
          .ldc = size.n},
         workspace);
  };
  for (Isa isa : available_isas()) {
    if (isa == Isa::portable) continue;  // slow here, and equal by the other tests
    std::vector<float> whole(static_cast<std::size_t>(size.m * size.n), poison);
    std::vector<float> cut = whole;
    part(isa, 0, size.m, 0, size.n, whole);
    const std::int64_t rows[] = {0, 1, 8, 33, 170, size.m};
    const std::int64_t columns[] = {0, 5, 64, 257, size.n};
    for (std::size_t i = 0; i + 1 < std::size(rows); ++i) {
      for (std::size_t j = 0; j + 1 < std::size(columns); ++j) {
        part(isa, rows[i], rows[i + 1] - rows[i], columns[j], columns[j + 1] - columns[j], cut);
      }
    }
    EXPECT_TRUE(same_bits(whole, cut)) << name_of(isa);
    std::swap(cut[1], cut[2]);
    EXPECT_FALSE(same_bits(whole, cut));
  }
}

TEST(Gemm, EmptyProductsGiveTheStart) {
  Pool pool(2);
  std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_workspace_bytes(2)));
  const std::vector<float> bias = numbers(20, 1);
  std::vector<float> c(40, poison);
  gemm(pool, best_isa(), {.m = 2, .n = 20, .k = 0, .c = c.data(), .ldc = 20, .bias = bias.data()},
       workspace);
  for (std::size_t i = 0; i < c.size(); ++i) EXPECT_EQ(c[i], bias[i % 20]);
  gemm(pool, best_isa(), {.m = 0, .n = 20, .k = 3}, workspace);
}

TEST(Gemm, RefusesASmallWorkspace) {
  Pool pool(2);
  std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_workspace_bytes(2)) - 1);
  EXPECT_THROW(gemm(pool, best_isa(), {}, workspace), Error);
}

TEST(Gemm, PacksIntoPanelsOfSixteen) {
  for (const auto& [k, n] : {std::pair{1, 1}, {300, 40}, {257, 16}, {18, 129}}) {
    const std::vector<float> b = numbers(k * n, 5);
    const std::vector<float> bt = flipped(b, k, n, n, k);
    std::vector<float> expected(static_cast<std::size_t>(packed_floats(k, n)), 0.0f);
    for (int i = 0; i < k; ++i) {
      for (int j = 0; j < n; ++j) {
        expected[static_cast<std::size_t>(j / 16 * 16 * k + i * 16 + j % 16)] =
            b[static_cast<std::size_t>(i * n + j)];
      }
    }
    for (int threads : {1, 3}) {
      Pool pool(threads);
      std::vector<float> packed(expected.size(), poison);
      pack_b(pool, k, n, b.data(), n, false, packed.data());
      EXPECT_TRUE(same_bits(packed, expected)) << k << 'x' << n;
      std::fill(packed.begin(), packed.end(), poison);
      pack_b(pool, k, n, bt.data(), k, true, packed.data());
      EXPECT_TRUE(same_bits(packed, expected)) << k << 'x' << n << " transposed";
    }
  }
}

// Reserved memory whose pages come when touched.
class Reserved {
 public:
  explicit Reserved(std::int64_t floats)
      : bytes_(static_cast<std::size_t>(floats) * sizeof(float)),
        data_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~Reserved() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  bool ok() const { return data_ != MAP_FAILED; }
  float* data() const { return static_cast<float*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

// Lines so far apart that element 2^31 lies between them, for A, B and C, both ways of storing.
TEST(Gemm, ReachesBeyondTwoToThe31Elements) {
  constexpr std::int64_t ld = (std::int64_t{1} << 30) + 11;
  const Size size = {4, 4, 4};
  const Reserved far_a(ld * 4), far_b(ld * 4), far_c(ld * 4);
  ASSERT_TRUE(far_a.ok() && far_b.ok() && far_c.ok()) << "no address space";
  const std::vector<float> a = numbers(16, 1), b = numbers(16, 2);
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t j = 0; j < 4; ++j) {
      far_a.data()[i * ld + j] = a[static_cast<std::size_t>(4 * i + j)];
      far_b.data()[i * ld + j] = b[static_cast<std::size_t>(4 * i + j)];
    }
  }
  Pool pool(2);
  std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_workspace_bytes(2)));
  for (Isa isa : available_isas()) {
    for (Stored a_stored : {Stored::rows, Stored::transposed}) {
      for (Stored b_stored : {Stored::rows, Stored::transposed}) {
        std::vector<float> near(16, poison);
        Gemm g = {.m = size.m,
                  .n = size.n,
                  .k = size.k,
                  .a = a.data(),
                  .lda = 4,
                  .a_stored = a_stored,
                  .b = b.data(),
                  .ldb = 4,
                  .b_stored = b_stored,
                  .c = near.data(),
                  .ldc = 4};
        gemm(pool, isa, g, workspace);
        g.a = far_a.data();
        g.b = far_b.data();
        g.c = far_c.data();
        g.lda = g.ldb = g.ldc = ld;
        for (std::int64_t i = 0; i < 4; ++i) std::fill_n(far_c.data() + i * ld, 4, poison);
        gemm(pool, isa, g, workspace);
        for (std::int64_t i = 0; i < 16; ++i) {
          EXPECT_EQ(near[static_cast<std::size_t>(i)], far_c.data()[i / 4 * ld + i % 4]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice
