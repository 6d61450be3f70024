#include "backend/cpu/gemm_bf16.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "backend/cpu/gemm_bf16_pack.h"
#include "core/error.h"

namespace sluice {
namespace {

constexpr float poison = std::numeric_limits<float>::quiet_NaN();
using Numbers = std::vector<float>;
using Halves = std::vector<bf16>;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Numbers in [-1, 1) that bf16 holds exactly.
Numbers numbers(std::int64_t count, std::uint32_t seed) {
  Numbers values(at(count));
  std::uint32_t state = seed * 2654435761u + 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(bf16(static_cast<float>(state >> 8) / 8388608.0f - 1.0f));
  }
  return values;
}

Halves halves(const Numbers& x) {
  Halves out;
  for (float value : x) out.push_back(bf16(value));
  return out;
}

enum class Output { f32, bf16, finish };

struct Case {
  std::int64_t m, n, k;
  Stored a_stored = Stored::rows;
  Stored b_stored = Stored::packed;
  bool accumulate = false;
  bool bias = false;
  float alpha = 1.0f;
  Output output = Output::f32;
};

std::string name_of(const Case& c) {
  return fmt::format("m {} n {} k {} a {} b {} accumulate {} bias {} alpha {} output {}", c.m, c.n,
                     c.k, static_cast<int>(c.a_stored), static_cast<int>(c.b_stored), c.accumulate,
                     c.bias, c.alpha, static_cast<int>(c.output));
}

// The matrix X[rows, columns] in lines `ld` apart with NaN between them, or the other way round.
Halves stored(const Numbers& x, std::int64_t rows, std::int64_t columns, bool transposed,
              std::int64_t ld) {
  Halves out(at((transposed ? columns : rows) * ld), bf16(poison));
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      out[at(transposed ? j * ld + i : i * ld + j)] = bf16(x[at(i * columns + j)]);
    }
  }
  return out;
}

// A product's operands and the rows of its C, ldc apart; between them stays NaN.
class Operands {
 public:
  explicit Operands(const Case& what)
      : what_(what),
        a_(numbers(what.m * what.k, 1)),
        b_(numbers(what.k * what.n, 2)),
        bias_(numbers(what.n, 3)),
        c_(at(what.m * ldc()), poison) {
    if (!what.accumulate) return;
    const Numbers start = numbers(what.m * what.n, 4);
    for (std::int64_t i = 0; i < what.m * what.n; ++i) c_[at(index(i))] = start[at(i)];
  }

  std::int64_t ldc() const { return what_.n + 7; }
  std::int64_t index(std::int64_t i) const { return i / what_.n * ldc() + i % what_.n; }

  Numbers run(int threads, Isa isa) const {
    const auto [m, n, k] = std::tuple(what_.m, what_.n, what_.k);
    Pool pool(threads);
    std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(threads)), std::byte{0xff});
    const bool a_transposed = what_.a_stored == Stored::transposed;
    const bool b_transposed = what_.b_stored == Stored::transposed;
    GemmBf16 g = {.m = m, .n = n, .k = k};
    g.lda = (a_transposed ? m : k) + 3;
    g.ldb = (b_transposed ? k : n) + 5;
    const Halves a = stored(a_, m, k, a_transposed, g.lda);
    Halves b = stored(b_, k, n, b_transposed, g.ldb);
    if (what_.b_stored == Stored::packed) {
      const Halves rows = b;
      b.assign(at(packed_bf16_count(k, n)), bf16(poison));
      pack_b_bf16(pool, k, n, rows.data(), g.ldb, false, b.data());
    }
    g.a = a.data();
    g.b = b.data();
    g.a_stored = what_.a_stored;
    g.b_stored = what_.b_stored;
    g.accumulate = what_.accumulate;
    g.alpha = what_.alpha;
    if (what_.bias) g.bias = bias_.data();
    return output(pool, isa, g, workspace);
  }

  // ‖c - exact‖ / ‖exact‖ in double; NaN if any element is.
  double error_of(const Numbers& c) const {
    double wrong = 0;
    double norm = 0;
    for (std::int64_t i = 0; i < what_.m; ++i) {
      for (std::int64_t j = 0; j < what_.n; ++j) {
        double sum = 0;
        for (std::int64_t l = 0; l < what_.k; ++l) {
          sum += static_cast<double>(a_[at(i * what_.k + l)]) * b_[at(l * what_.n + j)];
        }
        sum *= static_cast<double>(what_.alpha);
        if (what_.accumulate) sum += static_cast<double>(c_[at(i * ldc() + j)]);
        if (what_.bias) sum += static_cast<double>(bias_[at(j)]);
        wrong += (c[at(i * ldc() + j)] - sum) * (c[at(i * ldc() + j)] - sum);
        norm += sum * sum;
      }
    }
    return std::sqrt(wrong / norm);
  }

  bool gaps_untouched(const Numbers& c) const {
    for (std::int64_t i = 0; i < what_.m * ldc(); ++i) {
      if (i % ldc() >= what_.n && !std::isnan(c[at(i)])) return false;
    }
    return true;
  }

 private:
  Numbers output(Pool& pool, Isa isa, GemmBf16& g, std::span<std::byte> workspace) const {
    Numbers c = c_;
    g.ldc = ldc();
    if (what_.output == Output::f32) {
      g.c = c.data();
      gemm_bf16(pool, isa, g, workspace);
    } else if (what_.output == Output::bf16) {
      Halves rounded(c.size(), bf16(poison));
      g.c_bf16 = rounded.data();
      gemm_bf16(pool, isa, g, workspace);
      for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(rounded[i]);
    } else {
      const auto keep = [&](const FinishedTile& tile) {
        for (std::int64_t i = 0; i < tile.rows; ++i) {
          for (std::int64_t j = 0; j < tile.columns; ++j) {
            float& to = c[at((tile.row + i) * g.ldc + tile.column + j)];
            EXPECT_TRUE(std::isnan(to)) << "finished twice";
            to = tile.data[i * tile.ld + j];
          }
        }
      };
      g.finish = keep;
      gemm_bf16(pool, isa, g, workspace);
    }
    return c;
  }

  Case what_;
  Numbers a_, b_, bias_, c_;
};

bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Sets whose sums follow one rule.
bool widens(Isa isa) { return isa <= Isa::avx512; }

std::vector<Case> odd_cases() {
  constexpr std::int64_t sizes[][3] = {{1, 1, 1},    {1, 50, 300},  {2, 33, 17},   {3, 130, 1030},
                                       {5, 16, 512}, {8, 97, 70},   {15, 31, 257}, {17, 100, 64},
                                       {29, 47, 33}, {131, 77, 19}, {257, 65, 40}};
  std::vector<Case> cases;
  for (const auto& [m, n, k] : sizes) {
    for (Stored a : {Stored::rows, Stored::transposed}) {
      for (Stored b : {Stored::packed, Stored::rows, Stored::transposed}) {
        const std::size_t i = cases.size();
        const Output output = static_cast<Output>(i / 6 % 3);
        cases.push_back({.m = m,
                         .n = n,
                         .k = k,
                         .a_stored = a,
                         .b_stored = b,
                         .accumulate = output == Output::f32 && i % 3 == 0,
                         .bias = i % 3 == 1,
                         .alpha = i % 2 == 0 ? 1.0f : 0.375f,
                         .output = output});
      }
    }
  }
  return cases;
}

TEST(GemmBf16, IsCloseToTheDoubleLoopAtOddSizes) {
  for (const Case& what : odd_cases()) {
    const Operands operands(what);
    for (Isa isa : available_isas()) {
      const Numbers c = operands.run(2, isa);
      const double bound = what.output == Output::bf16 ? 4e-3 : 1e-6;
      EXPECT_LE(operands.error_of(c), bound) << name_of(isa) << ' ' << name_of(what);
      EXPECT_TRUE(operands.gaps_untouched(c)) << name_of(isa) << ' ' << name_of(what);
    }
  }
}

TEST(GemmBf16, AForgottenBiasOrScaleIsNoticed) {
  Case what = {.m = 29, .n = 47, .k = 33, .bias = true, .alpha = 0.5f};
  const Operands exact(what);
  what.bias = false;
  EXPECT_GT(exact.error_of(Operands(what).run(1, best_isa())), 1e-3);
  what.bias = true;
  what.alpha = 0.501f;
  EXPECT_GT(exact.error_of(Operands(what).run(1, best_isa())), 1e-5);
}

TEST(GemmBf16, BitsDependNeitherOnThreadsNorStorage) {
  for (Case what : odd_cases()) {
    for (Isa isa : available_isas()) {
      const Operands operands(what);
      const Numbers expected = operands.run(1, isa);
      for (int threads : {2, 3}) {
        EXPECT_TRUE(same_bits(operands.run(threads, isa), expected))
            << name_of(isa) << ' ' << threads << " threads, " << name_of(what);
      }
      if (widens(isa)) {
        EXPECT_TRUE(same_bits(operands.run(1, Isa::portable), expected)) << name_of(what);
      }
      Case plain = what;
      plain.a_stored = Stored::rows;
      plain.b_stored = Stored::packed;
      if (plain.output == Output::finish) plain.output = Output::f32;
      EXPECT_TRUE(same_bits(Operands(plain).run(1, isa), expected)) << name_of(what);
    }
  }
}

// Every register tile that there is: heights 1 to 32 and more, one to four panels, partial ones;
// each row has the bits that it has alone.
TEST(GemmBf16, EveryTileHasTheBitsOfOneRow) {
  constexpr std::int64_t k = 90, most = 70;
  for (Isa isa : available_isas()) {
    Pool pool(1);
    std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(1)));
    for (std::int64_t n : {9, 25, 48, 64}) {
      const Halves a = halves(numbers(most * k, 1)), b = halves(numbers(k * n, 2));
      const auto rows = [&](std::int64_t first, std::int64_t count, float* c) {
        gemm_bf16(pool, isa,
                  {.m = count,
                   .n = n,
                   .k = k,
                   .a = a.data() + first * k,
                   .lda = k,
                   .b = b.data(),
                   .ldb = n,
                   .b_stored = Stored::rows,
                   .c = c + first * n,
                   .ldc = n},
                  workspace);
      };
      Numbers expected(at(most * n), poison);
      for (std::int64_t i = 0; i < most; ++i) rows(i, 1, expected.data());
      for (std::int64_t m = 2; m <= most; m += m < 36 ? 1 : 17) {
        Numbers c(at(m * n), poison);
        rows(0, m, c.data());
        EXPECT_EQ(std::memcmp(c.data(), expected.data(), c.size() * 4), 0)
            << name_of(isa) << " m " << m << " n " << n;
        std::swap(c[0], c[1]);
        EXPECT_NE(std::memcmp(c.data(), expected.data(), c.size() * 4), 0);
      }
    }
  }
}

// More rows of A than the workspace has room for, beside packed B, which needs no room for A.
TEST(GemmBf16, ManyRowsComeInPieces) {
  for (Isa isa : available_isas()) {
    Case what = {.m = widens(isa) ? 4000 : 1000,
                 .n = 3,
                 .k = widens(isa) ? 257 : 1030,
                 .a_stored = Stored::transposed,
                 .b_stored = Stored::rows,
                 .accumulate = true};
    const Numbers c = Operands(what).run(1, isa);
    what.b_stored = Stored::packed;
    EXPECT_TRUE(same_bits(Operands(what).run(1, isa), c)) << name_of(isa);
    what.alpha = 0.99f;
    EXPECT_FALSE(same_bits(Operands(what).run(1, isa), c)) << name_of(isa);
  }
}

// Without bf16 instructions: the bits of the float32 product over the same numbers.
TEST(GemmBf16, WideningHasTheBitsOfTheFloat32Product) {
  constexpr std::int64_t m = 33, n = 70, k = 700;
  const Numbers a = numbers(m * k, 1), b = numbers(k * n, 2);
  const Halves a_bf16 = halves(a), b_bf16 = halves(b);
  Pool pool(2);
  std::vector<std::byte> workspace(
      at(std::max(gemm_bf16_workspace_bytes(2), gemm_workspace_bytes(2))));
  for (Isa isa : available_isas()) {
    Numbers expected(at(m * n), poison), c = expected;
    const Gemm g = {.m = m,
                    .n = n,
                    .k = k,
                    .a = a.data(),
                    .lda = k,
                    .b = b.data(),
                    .ldb = n,
                    .b_stored = Stored::rows,
                    .c = expected.data(),
                    .ldc = n,
                    .alpha = 0.7f};
    gemm(pool, isa, g, workspace);
    const GemmBf16 h = {.m = m,
                        .n = n,
                        .k = k,
                        .a = a_bf16.data(),
                        .lda = k,
                        .b = b_bf16.data(),
                        .ldb = n,
                        .b_stored = Stored::rows,
                        .c = c.data(),
                        .ldc = n,
                        .alpha = 0.7f};
    gemm_bf16(pool, isa, h, workspace);
    EXPECT_EQ(same_bits(c, expected), widens(isa)) << name_of(isa);
  }
}

// The rule's blocks: accumulating block after block gives the bits of the whole, other cuts do not.
TEST(GemmBf16, BlocksOfKAreThoseOfTheRule) {
  constexpr std::int64_t m = 5, n = 40, k = 2500;
  const Halves a = halves(numbers(m * k, 1)), b = halves(numbers(k * n, 2));
  Pool pool(1);
  std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(1)));
  for (Isa isa : available_isas()) {
    const auto in_blocks = [&](std::int64_t block) {
      Numbers c(at(m * n), 0.0f);
      for (std::int64_t first = 0; first < k; first += block) {
        gemm_bf16(pool, isa,
                  {.m = m,
                   .n = n,
                   .k = std::min(block, k - first),
                   .a = a.data() + first,
                   .lda = k,
                   .b = b.data() + first * n,
                   .ldb = n,
                   .b_stored = Stored::rows,
                   .c = c.data(),
                   .ldc = n,
                   .accumulate = true,
                   .alpha = 0.7f},
                  workspace);
      }
      return c;
    };
    const Numbers whole = in_blocks(k);
    const std::int64_t block = gemm_bf16_kernel(isa).block_k;
    EXPECT_EQ(block, widens(isa) ? 256 : 1024);
    EXPECT_TRUE(same_bits(in_blocks(block), whole)) << name_of(isa);
    EXPECT_FALSE(same_bits(in_blocks(block / 2), whole)) << name_of(isa);
  }
}

// Rows and columns computed alone have the bits they have in the whole.
TEST(GemmBf16, BitsDependNotOnTheTile) {
  constexpr std::int64_t m = 300, n = 450, k = 600;
  Pool pool(2);
  std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(2)));
  const Halves a = halves(numbers(m * k, 1)), b = halves(numbers(k * n, 2));
  for (Isa isa : available_isas()) {
    if (isa == Isa::portable) continue;  // slow here, and equal by the other tests
    const auto part = [&](std::int64_t row, std::int64_t rows, std::int64_t column,
                          std::int64_t columns, Halves& c) {
      gemm_bf16(pool, isa,
                {.m = m,
                 .n = columns,
                 .k = k,
                 .a = a.data(),
                 .lda = k,
                 .b = b.data() + column,
                 .ldb = n,
                 .b_stored = Stored::rows,
                 .c_bf16 = c.data() + column,
                 .ldc = n,
                 .first_row = row,
                 .last_row = row + rows},
                workspace);
    };
    Halves whole(at(m * n), bf16(poison));
    Halves cut = whole;
    part(0, INT64_MAX / 2, 0, n, whole);
    const std::int64_t rows[] = {0, 1, 8, 33, 170, m};
    const std::int64_t columns[] = {0, 5, 64, 257, n};
    for (std::size_t i = 0; i + 1 < std::size(rows); ++i) {
      for (std::size_t j = 0; j + 1 < std::size(columns); ++j) {
        part(rows[i], rows[i + 1] - rows[i], columns[j], columns[j + 1] - columns[j], cut);
      }
    }
    EXPECT_EQ(std::memcmp(whole.data(), cut.data(), whole.size() * 2), 0) << name_of(isa);
    std::swap(cut[1], cut[2]);
    EXPECT_NE(std::memcmp(whole.data(), cut.data(), whole.size() * 2), 0);
  }
}

// What a caller does to a finished tile: here, a residual added and two outputs written.
TEST(GemmBf16, AFinishedTileMayBeChangedAndRounded) {
  constexpr std::int64_t m = 140, n = 410, k = 1100;
  const Halves a = halves(numbers(m * k, 1)), b = halves(numbers(k * n, 2));
  const Numbers residual = numbers(m * n, 3);
  Pool pool(3);
  std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(3)));
  for (Isa isa : available_isas()) {
    if (isa == Isa::portable) continue;
    GemmBf16 g = {.m = m,
                  .n = n,
                  .k = k,
                  .a = a.data(),
                  .lda = k,
                  .b = b.data(),
                  .ldb = n,
                  .b_stored = Stored::rows};
    Numbers product(at(m * n), poison);
    g.c = product.data();
    g.ldc = n;
    gemm_bf16(pool, isa, g, workspace);
    g.c = nullptr;
    Halves before(at(m * n), bf16(poison)), after = before;
    const auto finish = [&](const FinishedTile& tile) {
      EXPECT_LT(tile.worker, 3);
      const std::int64_t first = tile.row * n + tile.column;
      round_to_bf16(isa, tile.data, tile.ld, tile.rows, tile.columns, before.data() + first, n);
      for (std::int64_t i = 0; i < tile.rows; ++i) {
        for (std::int64_t j = 0; j < tile.columns; ++j) {
          tile.data[i * tile.ld + j] += residual[at(first + i * n + j)];
        }
      }
      round_to_bf16(isa, tile.data, tile.ld, tile.rows, tile.columns, after.data() + first, n);
    };
    g.finish = finish;
    gemm_bf16(pool, isa, g, workspace);
    std::int64_t wrong = 0, changed = 0;
    for (std::size_t i = 0; i < product.size(); ++i) {
      wrong += before[i].bits != bf16(product[i]).bits;
      wrong += after[i].bits != bf16(product[i] + residual[i]).bits;
      changed += before[i].bits != after[i].bits;
    }
    EXPECT_EQ(wrong, 0) << name_of(isa);
    EXPECT_GT(changed, m * n / 2);
  }
}

TEST(GemmBf16, RoundsAsBf16Does) {
  Numbers x = {0.0f,    -0.0f,   1.0f,     1.00390625f, 1.01171875f, -1.00390625f,
               3.3e38f, 3.4e38f, 1e-40f,   1e-45f,      INFINITY,    -INFINITY,
               poison,  -poison, 65280.0f, 1.0039063f,  0.1f};
  std::uint32_t signalling = 0x7f800001u;
  x.push_back(0);
  std::memcpy(&x.back(), &signalling, 4);
  const Numbers more = numbers(200, 9);
  for (float value : more) x.push_back(value * 1.2345f);
  for (Isa isa : available_isas()) {
    for (std::size_t count : {x.size(), std::size_t{16}, std::size_t{19}}) {
      Halves y(x.size(), bf16(7.0f));
      round_to_bf16(isa, x.data(), 0, 1, static_cast<std::int64_t>(count), y.data(), 0);
      for (std::size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(y[i].bits, i < count ? bf16(x[i]).bits : bf16(7.0f).bits) << name_of(isa) << i;
      }
    }
  }
}

TEST(GemmBf16, EmptyProductsGiveTheStart) {
  Pool pool(2);
  std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(2)));
  const Numbers bias = numbers(20, 1);
  for (Isa isa : available_isas()) {
    Halves c(40, bf16(poison));
    gemm_bf16(pool, isa,
              {.m = 2, .n = 20, .k = 0, .c_bf16 = c.data(), .ldc = 20, .bias = bias.data()},
              workspace);
    for (std::size_t i = 0; i < c.size(); ++i) EXPECT_EQ(static_cast<float>(c[i]), bias[i % 20]);
    gemm_bf16(pool, isa, {.m = 0, .n = 20, .k = 3}, workspace);
  }
}

TEST(GemmBf16, RefusesASmallWorkspace) {
  Pool pool(2);
  std::vector<std::byte> workspace(at(gemm_bf16_workspace_bytes(2)) - 1);
  EXPECT_THROW(gemm_bf16(pool, best_isa(), {}, workspace), Error);
}

TEST(GemmBf16, PacksPairsIntoPanelsOfSixteen) {
  constexpr std::int64_t sizes[][2] = {{1, 1}, {300, 40}, {515, 16}, {18, 129}, {1025, 150}};
  for (const auto& [k, n] : sizes) {
    const Numbers b = numbers(k * n, 5);
    Halves expected(at(packed_bf16_count(k, n)), bf16(0.0f));
    for (std::int64_t i = 0; i < k; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        expected[at(j / 16 * 16 * (k + k % 2) + i / 2 * 32 + j % 16 * 2 + i % 2)] =
            bf16(b[at(i * n + j)]);
      }
    }
    for (int threads : {1, 3}) {
      for (bool transposed : {false, true}) {
        Pool pool(threads);
        const std::int64_t ld = (transposed ? k : n) + 1;
        const Halves src = stored(b, k, n, transposed, ld);
        for (const std::size_t shift : {0, 16}) {  // aligned to 64 bytes and not
          Halves room(expected.size() + 64, bf16(poison));
          const auto address = reinterpret_cast<std::uintptr_t>(room.data());
          bf16* const packed = room.data() + (64 - address % 64) % 64 / 2 + shift;
          pack_b_bf16(pool, k, n, src.data(), ld, transposed, packed, 0, 1);
          pack_b_bf16(pool, k, n, src.data(), ld, transposed, packed, 1);
          EXPECT_EQ(std::memcmp(packed, expected.data(), expected.size() * 2), 0)
              << k << 'x' << n << (transposed ? " transposed" : "") << ' ' << shift;
          EXPECT_TRUE(std::isnan(static_cast<float>(packed[expected.size()])));
        }
      }
    }
  }
}

// The moves of each set, beside the portable ones: A's groups of every height and both storages.
TEST(GemmBf16, EverySetMovesAlike) {
  constexpr std::int64_t ld = 70;
  const Halves x = halves(numbers(ld * ld, 6));
  for (Isa isa : available_isas()) {
    const Bf16Kernel& kernel = gemm_bf16_kernel(isa);
    for (int width = 1; width <= 16; ++width) {
      for (std::int64_t k : {1, 2, 31, 32, 33, 64, 67}) {
        const std::int64_t stride = (k + 1) / 2 * width;
        const std::int64_t columns = 3 * width - width / 2;
        std::vector<Half> expected(at(6 * stride + 32)), got = expected;
        portable_gemm_bf16.interleave(halves_of(x.data()), ld, k, columns, width, stride,
                                      expected.data());
        kernel.interleave(halves_of(x.data()), ld, k, columns, width, stride, got.data());
        EXPECT_EQ(expected, got) << name_of(isa) << " interleave " << width << ' ' << k;
        portable_gemm_bf16.transpose(halves_of(x.data()), ld, k, width - width / 3, width,
                                     expected.data());
        kernel.transpose(halves_of(x.data()), ld, k, width - width / 3, width, got.data());
        expected.resize(at(2 * stride));
        got.resize(at(2 * stride));
        EXPECT_EQ(expected, got) << name_of(isa) << " transpose " << width << ' ' << k;
      }
    }
  }
}

// AMX's form of A needs AVX-512 alone: tiles [16 rows][16 words], from either storage.
TEST(GemmBf16, AmxTilesOfAAreTheSameFromRowsAndFromColumns) {
#if defined(__x86_64__)
  if (best_isa() < Isa::avx512) return;
  constexpr std::int64_t ld = 70;
  const Halves x = halves(numbers(ld * ld, 7));
  for (int rows : {1, 15, 16, 17, 31, 32}) {
    for (std::int64_t k : {1, 31, 32, 33, 64, 67}) {
      const std::int64_t blocks = (k + 31) / 32;
      const int tall = (rows + 15) / 16;
      std::vector<Half> expected(at(tall * blocks * 512)), from_rows(expected.size(), 0x7fff);
      std::vector<Half> from_columns = from_rows;
      Halves flipped(at(ld * ld), bf16(0.0f));
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < k; ++i) {
          flipped[at(i * ld + r)] = x[at(r * ld + i)];
          expected[at(((r / 16 * blocks + i / 32) * 16 + r % 16) * 32 + i % 32)] =
              x[at(r * ld + i)].bits;
        }
      }
      amx_gemm_bf16.tiles_of_rows(halves_of(x.data()), ld, k, rows, from_rows.data());
      amx_gemm_bf16.interleave(halves_of(flipped.data()), ld, k, rows, 16, blocks * 256,
                               from_columns.data());
      amx_gemm_bf16.tiles_of_panels(from_columns.data(), k, rows);
      EXPECT_EQ(from_rows, expected) << rows << ' ' << k;
      EXPECT_EQ(from_columns, expected) << rows << ' ' << k;
    }
  }
#endif
}

}  // namespace
}  // namespace sluice
