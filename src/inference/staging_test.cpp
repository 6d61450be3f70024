#include "inference/staging.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

BatchLayout layout_of(bool positions, bool control) {
  const Shape tokens{{Axis::batch, 3}, {Axis::time, 5}};
  BatchLayout layout;
  const auto add = [&](const char* name, DType dtype, const Shape& shape) {
    layout.fields.push_back({name, layout.bytes, {dtype, shape}});
    layout.bytes += 256;
  };
  add("ids", DType::i32, tokens);
  if (positions) add("positions", DType::i32, tokens);
  add("targets", DType::i32, tokens);
  add("weights", DType::f32, tokens);
  if (control) add("control", DType::f64, {{Axis::scalar, 2}});
  return layout;
}

TEST(Staging, views_lie_where_the_layout_says) {
  const BatchLayout layout = layout_of(true, true);
  Staging staging(layout, 2);
  ASSERT_EQ(staging.blocks().size(), 2u);
  EXPECT_EQ(staging.rows(), 3);
  EXPECT_EQ(staging.time(), 5);
  for (int micro = 0; micro < 2; ++micro) {
    const BatchView view = staging.view(micro);
    const std::byte* block = staging.blocks()[static_cast<std::size_t>(micro)];
    EXPECT_EQ(reinterpret_cast<std::byte*>(view.ids.data()), block);
    EXPECT_EQ(reinterpret_cast<std::byte*>(view.positions.data()), block + 256);
    EXPECT_EQ(reinterpret_cast<std::byte*>(view.targets.data()), block + 512);
    EXPECT_EQ(reinterpret_cast<std::byte*>(view.weights.data()), block + 768);
    EXPECT_EQ(reinterpret_cast<std::byte*>(staging.control(micro)), block + 1024);
    EXPECT_EQ(view.ids.size(), 15u);
  }
}

TEST(Staging, what_the_model_does_not_read_is_still_writable) {
  Staging staging(layout_of(false, false), 2);
  EXPECT_EQ(staging.control(0), nullptr);
  staging.view(0).ids[14] = 7;
  staging.view(0).starts[0] = 9;
  for (auto view = staging.view(1); std::int32_t & position : view.positions) position = -1;
  EXPECT_EQ(staging.view(0).ids[14], 7);
  EXPECT_EQ(staging.view(0).starts[0], 9);  // positions and starts do not overlap
  EXPECT_EQ(staging.view(1).ids[14], 0);
}

TEST(Staging, moving_keeps_the_blocks) {
  Staging first(layout_of(true, true), 1);
  const std::byte* block = first.blocks()[0];
  const Staging second = std::move(first);
  EXPECT_EQ(second.blocks()[0], block);
}

}  // namespace
}  // namespace sluice
