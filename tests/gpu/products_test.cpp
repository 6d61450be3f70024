// Products of the library: with what their epilogues do, by algorithms that were measured, and kept
// to be enqueued as a whole.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "device_frame.h"

namespace sluice {
namespace {

class GpuProducts : public testing::Test {
 protected:
  GpuProducts() : gpu((cuda_device(0), 0)), room(gpu, std::int64_t{256} << 20) {}
  TestFrame result_of(const OpCase& one) {
    TestFrame frame(one, {}, true);
    room.run(one.op, frame);
    return frame;
  }
  CudaBackend gpu;
  DeviceRoom room;
};

// Worst error of what an op writes against its loop.
double error_of(const OpCase& one, const TestFrame& result) {
  std::vector<RefValue> expected = one.frame;
  reference(one.op, expected, one.first);
  EXPECT_TRUE(result.guards_hold()) << one.label;
  return worst_error(one, result, expected);
}

// GELU of what was not rounded: a rounding of bf16 away from the loop, which rounds it, and no
// more.
TEST_F(GpuProducts, GeluInAProductIsCloseAndTheSameTwentyTimes) {
  int cases = 0, other = 0;
  for (OpCase& one : op_cases()) {
    auto* const op = std::get_if<LinearGelu>(&one.op);
    if (op == nullptr || op->form != GeluForm::tanh) continue;
    if (one.frame[static_cast<std::size_t>(op->x)].type.dtype != DType::bf16) continue;
    const TestFrame apart = result_of(one);
    op->in_product = true;
    const TestFrame result = result_of(one);
    EXPECT_LE(error_of(one, result), 5e-3) << one.label;
    for (int i = 1; i < 20; ++i)
      ASSERT_TRUE(same_bits(one, result, result_of(one))) << one.label << ", time " << i;
    ++cases, other += same_bits(one, result, apart) ? 0 : 1;
  }
  fmt::print("{} cases, {} of them not as when they run apart\n", cases, other);
  EXPECT_GT(cases, 0);
}

// With a bias that bf16 can hold the sum is rounded once.
TEST_F(GpuProducts, BiasIsAddedBeforeTheOneRounding) {
  int cases = 0;
  for (OpCase& one : op_cases()) {
    const auto* op = std::get_if<Linear>(&one.op);
    if (op == nullptr || op->bias == no_value) continue;
    if (one.frame[static_cast<std::size_t>(op->y)].type.dtype != DType::bf16) continue;
    for (double& x : one.frame[static_cast<std::size_t>(op->bias)].numbers)
      x = stored(DType::bf16, x);
    EXPECT_LE(error_of(one, result_of(one)), 2e-4) << one.label;
    // The control: another bias is seen.
    one.frame[static_cast<std::size_t>(op->bias)].numbers[0] += 1;
    const TestFrame result = result_of(one);
    one.frame[static_cast<std::size_t>(op->bias)].numbers[0] -= 1;
    EXPECT_GT(error_of(one, result), 2e-4) << one.label;
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

TEST_F(GpuProducts, AlgorithmsAreMeasuredAndObeyed) {
  ProductShape shape{.m = 2048, .n = 768, .k = 768, .lda = 768, .ldb = 768, .ldc = 768};
  shape.type = shape.c_type = DType::bf16;
  AlgorithmTable table = gpu.machine();
  EXPECT_FALSE(table.gpu.empty());
  EXPECT_GE(table.library, 130000);
  for (const Epilogue epilogue : {Epilogue::none, Epilogue::bias, Epilogue::gelu}) {
    shape.epilogue = epilogue;
    const TunedProduct tuned = gpu.tune(shape);
    ASSERT_FALSE(tuned.own) << shape.text();
    EXPECT_GT(tuned.seconds, 0);
    EXPECT_LE(tuned.seconds, tuned.first_seconds);
    table.products[shape] = tuned;
    fmt::print("{}: {:.1f} us, first answer {:.1f} us\n", shape.text(), 1e6 * tuned.seconds,
               1e6 * tuned.first_seconds);
  }
  EXPECT_NO_THROW(gpu.use(parse_algorithms(to_json(table), "table")));
  table.products[shape].algorithm.words.fill(0xffffffffffffffffu);
  EXPECT_THROW(gpu.use(table), Error);
}

// The products of an op are listed without a look at its operands, and nothing runs.
TEST_F(GpuProducts, AreListed) {
  std::size_t products = 0;
  for (const OpCase& one : op_cases()) {
    TestFrame frame(one, {}, true);
    const TestFrame before(one, {}, true);
    Frame host = frame.frame();
    const std::vector<ProductShape> all = gpu.products_of(one.op, host);
    EXPECT_TRUE(same_bits(one, frame, before)) << one.label;
    products += all.size();
    if (std::holds_alternative<Linear>(one.op)) {
      EXPECT_GE(all.size(), 1u) << one.label;
    } else if (std::holds_alternative<Add>(one.op)) {
      EXPECT_TRUE(all.empty()) << one.label;
    }
  }
  EXPECT_GT(products, 20u);
}

// What is kept does nothing until it is replayed, and then what it would have done.
TEST_F(GpuProducts, WhatIsKeptHasTheSameBits) {
  constexpr std::int64_t bytes = 1 << 20;
  std::byte* const device = gpu.take(bytes);
  std::byte* const host = gpu.take_host(bytes);
  const Shape shape{{Axis::batch, 1}, {Axis::time, 64}, {Axis::model, 64}};
  auto* const numbers = reinterpret_cast<float*>(host);
  for (int i = 0; i < 4096; ++i) numbers[i] = static_cast<float>(i % 97) / 31;
  gpu.copy_in(device, host, 4096 * 4);
  const std::vector<Tensor> values{{device, DType::f32, shape},
                                   {device + 4096 * 4, DType::f32, shape}};
  const Op op = Gelu{.x = 0, .y = 1};
  gpu.run(op, {.values = values, .workspace = {}});
  gpu.finish();
  gpu.copy_out(host, device + 4096 * 4, 4096 * 4);
  const std::string eager(reinterpret_cast<char*>(host), 4096 * 4);

  const auto cleared = [&] {
    std::fill_n(host, 4096 * 4, std::byte{0});
    gpu.copy_in(device + 4096 * 4, host, 4096 * 4);
  };
  const auto seen = [&] {
    gpu.finish();
    gpu.copy_out(host, device + 4096 * 4, 4096 * 4);
    return std::string(reinterpret_cast<char*>(host), 4096 * 4);
  };
  cleared();
  gpu.record();
  gpu.run(op, {.values = values, .workspace = {}});
  const int kept = gpu.recorded();
  EXPECT_EQ(seen(), std::string(4096 * 4, '\0'));
  for (int i = 0; i < 3; ++i) {
    cleared();
    gpu.replay(kept);
    EXPECT_EQ(seen(), eager);
  }
  gpu.record();
  gpu.run(op, {.values = values, .workspace = {}});
  gpu.abandon();
  gpu.run(op, {.values = values, .workspace = {}});
  EXPECT_EQ(seen(), eager);
}

}  // namespace
}  // namespace sluice
