#include "backend/cpu/measure.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "core/test_folder.h"

namespace sluice {
namespace {

TEST(Measure, MedianIsTheMiddle) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 100, 2}), 3);
}

// 111 million: that of the weights in the products, with a head that is not the embedding's.
TEST(Measure, ProductsAreThoseOfTheModel) {
  std::int64_t weights = 0;
  for (const StepProduct& p : step_products()) weights += p.in * p.out * p.count;
  EXPECT_EQ(weights, 10 * 12 * 768 * 768 + 768 * 50304);
}

TEST(Measure, EveryProductThatFitsIsTimed) {
  CpuBackend cpu({.threads = 2, .isa = best_isa()});
  // 64 tokens, and too little memory for the head.
  const ProductOptions options{.seconds = 0.01, .tokens = 64, .repeats = 1, .memory = 64 << 20};
  for (const ProductType& type : product_types()) {
    const auto products = measure_products(cpu, type, options);
    ASSERT_EQ(products.size(), 12u) << type.name;
    for (const MeasuredProduct& p : products) {
      EXPECT_GT(p.seconds, 0);
      EXPECT_EQ(p.repeats, 1);
      EXPECT_EQ(p.m * p.k * p.n, 64 * p.of.in * p.of.out);
      EXPECT_EQ(p.direction == Direction::weight_gradient, p.k == 64);
    }
  }
  // With it, all stand for the same tokens.
  const auto all = measure_products(
      cpu, product_types()[1], {.seconds = 0.01, .tokens = 64, .repeats = 1, .memory = 1 << 30});
  ASSERT_EQ(all.size(), 15u);
  for (const MeasuredProduct& p : all) {
    const std::int64_t times = p.m * p.k * p.n * p.of.count / (p.of.in * p.of.out);
    EXPECT_EQ(times, std::string_view(p.of.name) == "head" ? 64 : 640) << p.of.name;
  }
  try {
    measure_products(cpu, product_types()[0],
                     {.seconds = 0.01, .tokens = 64, .repeats = 1, .memory = 1 << 10});
    FAIL() << "1 KiB held a product";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::memory);
  }
}

// What is timed is the product that it says: each type's multiply beside a plain loop.
TEST(Measure, TimesTheProductItNames) {
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  std::vector<float> a(12), b(12 * 16), c(16);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 7);
  MeasuredProduct product{{"", 12, 16, 1}, Direction::forward, 1, 12, 16};
  const ProductType& type = product_types()[0];
  std::vector<std::byte> workspace(static_cast<std::size_t>(type.workspace_bytes(1)) + 64);
  void* start = workspace.data();
  std::size_t space = workspace.size();
  std::align(64, static_cast<std::size_t>(type.workspace_bytes(1)), start, space);
  type.multiply(
      cpu, product, reinterpret_cast<std::byte*>(a.data()), reinterpret_cast<std::byte*>(b.data()),
      reinterpret_cast<std::byte*>(c.data()),
      {static_cast<std::byte*>(start), static_cast<std::size_t>(type.workspace_bytes(1))});
  for (std::size_t j = 0; j < 16; ++j) {
    float sum = 0;
    for (std::size_t k = 0; k < 12; ++k) sum += a[k] * b[k * 16 + j];
    EXPECT_EQ(c[j], sum);
  }
  EXPECT_NE(c[0], c[1]);
}

TEST(Measure, RandomNumbersAreSpreadAndFinite) {
  Pool pool(2);
  std::vector<float> values(200'000);
  product_types()[0].fill(pool, reinterpret_cast<std::byte*>(values.data()),
                          static_cast<std::int64_t>(values.size()));
  double sum = 0, squares = 0;
  for (const float v : values) {
    ASSERT_TRUE(v >= -1 && v <= 1);
    sum += v, squares += v * v;
  }
  EXPECT_NEAR(sum / 200'000, 0, 0.01);
  EXPECT_NEAR(squares / 200'000, 1.0 / 3, 0.01);
}

TEST(Measure, MemoryRatesArePositive) {
  CpuBackend cpu({.threads = 2, .isa = Isa::portable});
  const MemoryRates rates = measure_memory(cpu, 4 << 20, 0.01);
  for (const double rate : {rates.read_one, rates.read_all, rates.copy_one, rates.copy_all})
    EXPECT_TRUE(rate > 1e6 && std::isfinite(rate)) << rate;
}

TEST(Measure, DiskLeavesNothingBehind) {
  const TestFolder folder;
  const DiskRates rates = measure_disk(folder.path(), 2 << 20, 0.05);
  EXPECT_GT(rates.write, 1e3);
  EXPECT_GT(rates.read, 1e3);
  EXPECT_EQ(rates.bytes % (1 << 20), 0);
  EXPECT_LE(rates.bytes, 2 << 20);
  EXPECT_TRUE(folder.names().empty());
}

TEST(Measure, AFolderThatTakesNoFileIsADiskError) {
  const TestFolder folder;
  for (const char* name : {"missing", "missing/deeper"}) {
    try {
      measure_disk(folder.path(name), 1 << 20, 0.05);
      FAIL() << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::disk);
      EXPECT_EQ(e.report().found, "No such file or directory");
    }
  }
}

}  // namespace
}  // namespace sluice
