#include "backend/cpu/cpu.h"

#include <gtest/gtest.h>

#include "backend/null/null.h"

namespace sluice {
namespace {

TEST(CpuBackend, TakesZeroedPages) {
  CpuBackend cpu({.threads = 2, .isa = Isa::portable});
  for (const std::int64_t bytes : {0, 1, 4096, 5'000'001}) {
    std::byte* data = cpu.take(bytes);
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 4096, 0u);
    for (std::int64_t i = 0; i < bytes; ++i) ASSERT_EQ(data[i], std::byte{0});
    if (bytes > 0) data[bytes - 1] = std::byte{1};
  }
}

TEST(CpuBackend, RefusesWhatNoMachineHas) {
  CpuBackend cpu({.threads = 1, .isa = Isa::portable});
  for (const std::int64_t bytes : {std::int64_t{1} << 60, INT64_MAX, std::int64_t{-1}}) {
    try {
      cpu.take(bytes);
      ADD_FAILURE() << bytes << " bytes were given";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::memory);
    }
  }
}

TEST(CpuBackend, ScratchOfWorkersLiesApart) {
  CpuBackend cpu({.threads = 3, .isa = Isa::portable});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(cpu.scratch(i).size(), static_cast<std::size_t>(CpuBackend::scratch_bytes));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(cpu.scratch(i).data()) % 64, 0u);
    EXPECT_EQ(cpu.scratch(i).data(), cpu.scratch(0).data() + i * CpuBackend::scratch_bytes);
  }
}

TEST(CpuBackend, CopiesIn) {
  CpuBackend cpu({.threads = 1, .isa = Isa::portable});
  std::byte* data = cpu.take(100);
  const std::byte from[3] = {std::byte{7}, std::byte{8}, std::byte{9}};
  cpu.copy_in(data + 50, from, 3);
  EXPECT_EQ(data[49], std::byte{0});
  EXPECT_EQ(data[52], std::byte{9});
  EXPECT_EQ(data[53], std::byte{0});
}

TEST(NullBackend, OwnsNothingAndCounts) {
  NullBackend backend;
  EXPECT_EQ(backend.take(std::int64_t{1} << 60), nullptr);
  const std::vector<Tensor> values = {Tensor(nullptr, DType::f32, {{Axis::model, 1'000'000}}),
                                      Tensor(nullptr, DType::f32, {{Axis::model, 1'000'000}})};
  for (int i = 0; i < 3; ++i) backend.run(Scale{.x = 0, .y = 1}, Frame{values, {}});
  backend.copy_in(nullptr, nullptr, 80);
  EXPECT_EQ(backend.ops(), 3);
  EXPECT_EQ(backend.bytes_taken(), std::int64_t{1} << 60);
  EXPECT_EQ(backend.bytes_copied(), 80);
}

}  // namespace
}  // namespace sluice
