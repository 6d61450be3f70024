#include "scattered.h"

#include <gtest/gtest.h>

#include <map>

#include "poison.h"

namespace sluice {
namespace {

constexpr std::int64_t room_bytes = std::int64_t{56} << 30;

// Memory of all cases, one after the other.
std::byte* room() {
  static std::byte* const data = shared_gpu().take(room_bytes);
  return data;
}

}  // namespace

bool Scattered::in_units(Id id) const {
  const Shape& shape = small_.frame[static_cast<std::size_t>(id)].type.shape;
  return shape.rank() > 0 && shape[0].size % units == 0;
}

Scattered::Scattered(OpCase small, std::int64_t count) : small_(std::move(small)), op_(small_.op) {
  std::int64_t largest = 0;
  for_each_operand(small_.op, [&](Id id, Access) {
    if (in_units(id))
      largest =
          std::max(largest, small_.frame[static_cast<std::size_t>(id)].type.shape.count() / units);
  });
  const std::int64_t across = count > 0 ? count - 5 : border / largest;
  count_ = across + 5;
  places_ = {0, across / 2, across - 1, across, across + 1, across + 3, across + 4};
}

TestFrame Scattered::run() const {
  CudaBackend& gpu = shared_gpu();
  TestFrame frame(small_, {}, true);
  const Frame host = frame.frame();
  std::byte* next = room();
  const auto take = [&](std::int64_t bytes) {
    std::byte* const at = next;
    next += (bytes + 511) / 256 * 256;
    require(next <= room() + room_bytes, [] { return Error("the test's memory is full"); });
    return at;
  };
  std::map<Id, Access> access;
  for_each_operand(op_, [&](Id id, Access how) { access[id] = how; });
  std::vector<Tensor> values(host.values.size());
  std::vector<ValueType> types = types_of(small_.frame);
  for (const auto& [id, how] : access) {
    const Tensor& small = host[id];
    Tensor& big = values[static_cast<std::size_t>(id)];
    auto* const from = static_cast<std::byte*>(small.raw());
    if (!in_units(id)) {
      big = {take(small.bytes()), small.dtype(), small.shape()};
      gpu.copy_in(static_cast<std::byte*>(big.raw()), from, small.bytes());
      continue;
    }
    const Dim first = small.shape()[0];
    const Shape shape = small.shape().with(first.axis, first.size / units * count_);
    big = {take(shape.count() * size_of(small.dtype())), small.dtype(), shape};
    types[static_cast<std::size_t>(id)].shape = shape;
    fill_bytes(big.raw(), how == Access::write ? poison_byte : 0, big.bytes());
    const std::int64_t unit = small.bytes() / units;
    for (const auto& [filled, numbers] : background_) {
      if (filled != id) continue;
      std::vector<std::int32_t> all;
      for (std::int64_t i = 0; i < count_; ++i)
        all.insert(all.end(), static_cast<std::size_t>(unit / 4), numbers(i));
      gpu.copy_in(static_cast<std::byte*>(big.raw()), reinterpret_cast<std::byte*>(all.data()),
                  big.bytes());
    }
    for (std::int64_t i = 0; i < units; ++i)
      gpu.copy_in(static_cast<std::byte*>(big.raw()) + places_[i] * unit, from + i * unit, unit);
  }
  check(op_, types);
  const std::int64_t workspace = workspace_bytes(op_, types, {});
  gpu.run(op_, {.values = values,
                .workspace = {take(workspace), static_cast<std::size_t>(workspace)},
                .first = small_.first});
  gpu.finish();
  for (const auto& [id, how] : access) {
    const Tensor& small = host[id];
    const Tensor& big = values[static_cast<std::size_t>(id)];
    auto* const to = static_cast<std::byte*>(small.raw());
    const auto* const from = static_cast<const std::byte*>(big.raw());
    if (how == Access::read) continue;
    if (!in_units(id)) {
      gpu.copy_out(to, from, small.bytes());
      continue;
    }
    if (how == Access::write && big.dtype() != DType::u8) {
      EXPECT_EQ(poisoned_words(from, big.bytes()), 0) << "value " << id << " was not all written";
    }
    const std::int64_t unit = small.bytes() / units;
    for (std::int64_t i = 0; i < units; ++i)
      gpu.copy_out(to + i * unit, from + places_[i] * unit, unit);
  }
  return frame;
}

void Scattered::expect_close(const TestFrame& found, double bf16_bound) const {
  const std::vector<RefValue> expected = expected_of(small_);
  EXPECT_TRUE(found.guards_hold());
  for (const Id id : written_by(small_.op)) {
    const DType type = small_.frame[static_cast<std::size_t>(id)].type.dtype;
    const double bound = type == DType::bf16 ? bf16_bound : tolerance_of(small_, type);
    const double error = error_of(id, found, expected);
    EXPECT_LE(error, bound) << "value " << id;
    fmt::print("{:44} {:.1e}\n", small_.label, error);
  }
}

}  // namespace sluice
