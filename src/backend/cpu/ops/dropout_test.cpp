// The generator's numbers, and what closeness of op_cases_test.cpp does not show of dropout: what a
// mask depends on, and what it must not.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "backend/cpu/ops/dropout_kernel.h"
#include "backend/cpu/ops/test_frame.h"
#include "backend/cpu/ops/tiles.h"
#include "core/random.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, S = Axis::scalar;

const DropoutKernels& kernels(Isa isa) {
  return kernels_of(isa, portable_dropout, avx2_dropout, avx512_dropout);
}

// Of n numbers, how many differ from random_bits() of core/random.h, or were written too far.
int wrong_numbers(Isa isa, std::uint64_t seed, std::uint64_t stream, std::uint64_t first,
                  std::int64_t n) {
  constexpr std::uint32_t mark = 0x5a5a5a5a;
  std::vector<std::uint32_t> got(static_cast<std::size_t>(n + 64), mark);
  kernels(isa).random_bits(seed, stream, first, n, got.data());
  int wrong = 0;
  for (std::int64_t i = 0; i < n + 64; ++i) {
    const std::uint32_t one = got[static_cast<std::size_t>(i)];
    if (i < n) wrong += one != random_bits(seed, stream, first + static_cast<std::uint64_t>(i));
    if (i >= (n + 31) / 32 * 32) wrong += one != mark;
  }
  return wrong;
}

// Across the ends of 32 bits of the block counter and of 64 of the index.
TEST(Philox, SameNumbersAsOneByOne) {
  constexpr std::uint64_t seed = 0x123456789abcdef0, stream = 0xfedcba9876543210;
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    for (const std::uint64_t first :
         {std::uint64_t{0}, std::uint64_t{20}, (std::uint64_t{1} << 32) - 8,
          (std::uint64_t{1} << 34) - 16, ~std::uint64_t{0} - 1003}) {
      for (const std::int64_t n : {0, 1, 16, 31, 32, 33, 64, 100, 1000}) {
        EXPECT_EQ(wrong_numbers(isa, seed, stream, first, n), 0) << first << " " << n;
        EXPECT_EQ(wrong_numbers(isa, ~seed, ~stream, first, n), 0) << first << " " << n;
      }
    }
  }
}

struct Dropped {
  RandomFrame f{1};
  Id x, control, y;
  Dropout op;
  explicit Dropped(DType type, std::int64_t rows = 6, double first_row = 0, double step = 7) {
    const Shape shape{{B, rows}, {T, 131}, {D, 83}};
    std::vector<double> numbers;  // element e of the step holds 1 + e % 100
    for (std::int64_t i = 0; i < shape.count(); ++i) {
      const auto e = i + static_cast<std::int64_t>(first_row) * 131 * 83;
      numbers.push_back(static_cast<double>(1 + e % 100));
    }
    x = f.numbers(shape, type, std::move(numbers));
    control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, step, first_row});
    y = f.poisoned(shape, type);
    op = {.x = x, .y = y, .control = control, .key = {.rate = 0.3f, .seed = 5, .stream = 9}};
  }
  std::string bytes(Isa isa, int threads = 1, int layer = 0) const {
    CpuBackend cpu({.threads = threads, .isa = isa});
    TestFrame frame(OpCase{"", op, f.values()});
    Frame there = frame.frame();
    there.layer = layer;
    cpu.run(op, there);
    return frame.bytes(y);
  }
};

// The mask is that of element, seed, stream, layer and step: nothing else changes it.
TEST(Dropout, OneMaskPerKey) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const Dropped one(type);
    std::set<std::string> masks = {one.bytes(best_isa())};
    for (const Isa isa : available_isas())
      for (const int threads : {1, 2, 3}) masks.insert(one.bytes(isa, threads));
    EXPECT_EQ(masks.size(), 1U);
    masks.insert(one.bytes(best_isa(), 1, 1));
    masks.insert(Dropped(type, 6, 0, 8).bytes(best_isa()));
    Dropped other = one;
    other.op.key.seed = 6;
    masks.insert(other.bytes(best_isa()));
    other.op.key = one.op.key;
    other.op.key.stream = 10;
    masks.insert(other.bytes(best_isa()));
    EXPECT_EQ(masks.size(), 5U);
  }
}

// A step in one micro-batch, and in three: the same bits. Forgetting the first row shows.
TEST(Dropout, SameUnderMicroBatchSplits) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const Isa isa : available_isas()) {
      const std::string whole = Dropped(type).bytes(isa);
      std::string split, forgotten;
      for (const double first : {0.0, 1.0, 3.0}) {
        const Dropped part(type, first == 0 ? 1 : first == 1 ? 2 : 3, first);
        split += part.bytes(isa);
        Dropped wrong = part;
        wrong.f[wrong.control].numbers[Control::first_row] = 0;
        forgotten += wrong.bytes(isa);
      }
      EXPECT_EQ(whole, split) << name_of(isa);
      EXPECT_NE(whole, forgotten) << name_of(isa);
    }
}

// Of 65,238 elements, 0.7 are kept to 6 standard deviations, all scaled by 1 / 0.7.
TEST(Dropout, KeepsItsShareAndTheMean) {
  const Dropped one(DType::f32);
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  TestFrame frame(OpCase{"", one.op, one.f.values()});
  cpu.run(one.op, frame.frame());
  const std::vector<double> y = frame.numbers(one.y);
  double kept = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    kept += y[i] != 0;
    if (y[i] == 0) continue;
    EXPECT_NEAR(y[i], one.f[one.x].numbers[i] / 0.7, 1e-5 * y[i]);
  }
  const auto count = static_cast<double>(y.size());
  EXPECT_NEAR(kept / count, 0.7, 6 * std::sqrt(0.7 * 0.3 / count));
}

TEST(Dropout, InPlaceAndNaNDropped) {
  for (const Isa isa : available_isas()) {
    Dropped one(DType::bf16);
    const std::string apart = one.bytes(isa);
    one.op.y = one.x;
    one.y = one.x;
    EXPECT_EQ(one.bytes(isa), apart) << name_of(isa);
    // What is dropped is 0 whatever it was.
    const Dropped clean(DType::f32);
    Dropped poisoned = clean;
    CpuBackend cpu({.threads = 1, .isa = isa});
    TestFrame frame(OpCase{"", clean.op, clean.f.values()});
    cpu.run(clean.op, frame.frame());
    const std::vector<double> y = frame.numbers(clean.y);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (y[i] == 0) poisoned.f[poisoned.x].numbers[i] = std::nan("");
    }
    EXPECT_EQ(poisoned.bytes(isa), clean.bytes(isa)) << name_of(isa);
  }
}

}  // namespace
}  // namespace sluice
