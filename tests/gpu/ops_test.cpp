// Every op on the GPU against its double loop: close to it, nothing written outside, the same bits
// twenty times. The cases are those that the CPU's kernels are held to.
#include <gtest/gtest.h>

#include <map>

#include "backend/cuda/cuda.h"
#include "device_frame.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

constexpr double tolerance = 1e-6;
constexpr double bf16_tolerance = 2e-4;

// As backend/cpu/ops/op_cases_test.cpp has them. Attention's scores reach 200 here, so that a
// rounding of one is 1e-5 of a probability.
double tolerance_of(const OpCase& one, DType type) {
  // The library adds a bias that was rounded to bf16 (products_test.cpp has those that need not
  // be), and does not round a gradient before it meets GELU's slope.
  const auto* linear = std::get_if<Linear>(&one.op);
  const auto* gelu = std::get_if<LinearGelu>(&one.op);
  const auto* slope = std::get_if<LinearGeluGrad>(&one.op);
  const bool biased = (linear != nullptr && linear->bias != no_value) ||
                      (gelu != nullptr && gelu->bias != no_value);
  if (type == DType::bf16 && (biased || slope != nullptr)) return 5e-3;
  if (type == DType::bf16) return bf16_tolerance;
  if (const auto* head = std::get_if<HeadLoss>(&one.op)) {
    const DType x = one.frame[static_cast<std::size_t>(head->x)].type.dtype;
    return x == DType::bf16 ? 1e-5 : tolerance;
  }
  return std::holds_alternative<AttentionGrad>(one.op) ? 1e-5 : tolerance;
}

struct Worst {
  double error = 0;
  std::string where = "nothing";
};

class Gpu : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    backend() = std::make_unique<CudaBackend>((cuda_device(0), 0));
    room() = std::make_unique<DeviceRoom>(*backend(), std::int64_t{256} << 20);
  }
  static void TearDownTestSuite() {
    room().reset();
    backend().reset();
  }
  static std::unique_ptr<CudaBackend>& backend() {
    static std::unique_ptr<CudaBackend> one;
    return one;
  }
  static std::unique_ptr<DeviceRoom>& room() {
    static std::unique_ptr<DeviceRoom> one;
    return one;
  }
  static TestFrame result_of(const OpCase& one) {
    TestFrame frame(one, {}, true);
    room()->run(one.op, frame);
    return frame;
  }
};

std::vector<RefValue> expected_of(const OpCase& one) {
  std::vector<RefValue> frame = one.frame;
  reference(one.op, frame, one.first);
  return frame;
}

TEST_F(Gpu, EveryOpIsCloseToItsLoop) {
  std::map<std::string, Worst> worst;
  for (const OpCase& one : op_cases()) {
    SCOPED_TRACE(one.label);
    const std::vector<RefValue> expected = expected_of(one);
    const TestFrame result = result_of(one);
    EXPECT_TRUE(result.guards_hold());
    for (const Id id : written_by(one.op)) {
      const DType type = one.frame[static_cast<std::size_t>(id)].type.dtype;
      const double error = error_of(id, result, expected);
      EXPECT_LE(error, tolerance_of(one, type)) << "value " << id;
      Worst& before = worst[fmt::format("{} {}", name_of(one.op), name_of(type))];
      if (error >= before.error) before = {error, one.label};
    }
  }
  for (const auto& [op, one] : worst) fmt::print("{:28} {:.1e}  {}\n", op, one.error, one.where);
}

TEST_F(Gpu, EveryOpHasTheSameBitsTwentyTimes) {
  for (const OpCase& one : op_cases()) {
    const TestFrame first = result_of(one);
    for (int i = 1; i < 20; ++i) {
      const TestFrame again = result_of(one);
      ASSERT_TRUE(same_bits(one, first, again)) << one.label << ", time " << i;
    }
  }
}

// State of 8 and 16 bits, rounded gradients and dropout: the bits of the CPU's kernels, where those
// multiply and add in one rounding.
TEST_F(Gpu, StateAndMasksHaveTheBitsOfTheCpu) {
  if (!available(Isa::avx2)) return;
  CpuBackend cpu({.threads = 1, .isa = Isa::avx2});
  std::vector<OpCase> cases = coded_cases();
  for (OpCase& one : op_cases()) {
    const Op& op = one.op;
    if (std::holds_alternative<AdamW>(op) || std::holds_alternative<RoundGradient>(op) ||
        std::holds_alternative<Ema>(op) || std::holds_alternative<Dropout>(op) ||
        std::holds_alternative<EmbedGrad>(op) || std::holds_alternative<Embed>(op) ||
        std::holds_alternative<Cast>(op) || std::holds_alternative<AddInto>(op) ||
        std::holds_alternative<Pack>(op))
      cases.push_back(std::move(one));
  }
  for (const OpCase& one : cases) {
    TestFrame expected(one, {}, true);
    cpu.run(one.op, expected.frame());
    EXPECT_TRUE(same_bits(one, result_of(one), expected)) << one.label;
  }
}

// A value becomes bf16, and so do its numbers.
void halve(RefValue& value) {
  value.type.dtype = DType::bf16;
  for (double& x : value.numbers) x = stored(DType::bf16, x);
}

// A case of attention with bf16 storage; what a gradient needs of the forward is made anew.
OpCase in_bf16(OpCase one) {
  const auto at = [&](Id id) -> RefValue& { return one.frame[static_cast<std::size_t>(id)]; };
  const auto halve_once = [&](Id id) {
    if (id != no_value && at(id).type.dtype == DType::f32) halve(at(id));
  };
  one.label += ", bf16";
  if (const auto* op = std::get_if<Attention>(&one.op)) {
    for (const Id id : {op->q.id, op->k.id, op->v.id, op->k_cache, op->v_cache, op->y})
      halve_once(id);
    return one;
  }
  const auto& op = std::get<AttentionGrad>(one.op);
  for (const Id id : {op.q.id, op.k.id, op.v.id, op.dy, op.dq.id, op.dk.id, op.dv.id})
    halve_once(id);
  reference(Attention{.q = op.q,
                      .k = op.k,
                      .v = op.v,
                      .starts = op.starts,
                      .y = op.y,
                      .lse = op.lse,
                      .scale = op.scale,
                      .control = op.control,
                      .dropout = op.dropout},
            one.frame);
  halve_once(op.y);
  return one;
}

// Probabilities are bf16 when they are multiplied by values, so a result has some of their
// roundings; lse has none.
TEST_F(Gpu, AttentionInBf16IsCloseAndTheSameTwentyTimes) {
  std::vector<OpCase> cases = op_cases();
  for (OpCase& f32 : cases) {
    if (!std::holds_alternative<Attention>(f32.op) &&
        !std::holds_alternative<AttentionGrad>(f32.op))
      continue;
    const OpCase one = in_bf16(std::move(f32));
    SCOPED_TRACE(one.label);
    const std::vector<RefValue> expected = expected_of(one);
    const TestFrame result = result_of(one);
    EXPECT_TRUE(result.guards_hold());
    std::string errors;
    for (const Id id : written_by(one.op)) {
      const bool half = one.frame[static_cast<std::size_t>(id)].type.dtype == DType::bf16;
      const double error = error_of(id, result, expected);
      EXPECT_LE(error, half ? 1e-2 : 1e-5) << "value " << id;
      errors += fmt::format(" {:.1e}", error);
    }
    fmt::print("{:70}{}\n", one.label, errors);
    for (int i = 1; i < 20; ++i)
      ASSERT_TRUE(same_bits(one, result, result_of(one))) << one.label << ", time " << i;
  }
}

// What the checks above must not let pass.
TEST_F(Gpu, NegativeControls) {
  const std::vector<OpCase> cases = op_cases();
  const auto one = std::find_if(cases.begin(), cases.end(), [](const OpCase& c) {
    return std::holds_alternative<Linear>(c.op);
  });
  ASSERT_NE(one, cases.end());
  const std::vector<RefValue> expected = expected_of(*one);
  TestFrame result = result_of(*one);
  const TestFrame untouched(*one, {}, true);
  EXPECT_LE(worst_error(*one, result, expected), tolerance);
  EXPECT_GT(worst_error(*one, untouched, expected), tolerance);
  const Tensor y = result.frame()[std::get<Linear>(one->op).y];
  y.data<float>()[3] += 1e-2f;
  EXPECT_GT(worst_error(*one, result, expected), tolerance);
  y.data<float>()[y.count()] = 0;
  EXPECT_FALSE(result.guards_hold());
}

TEST_F(Gpu, DataThatIsBadIsNamed) {
  RandomFrame f(1);
  const Id ids = f.numbers({{Axis::batch, 1}, {Axis::time, 3}}, DType::i32, {0, 7, 1});
  const Id table = f.random({{Axis::vocab, 5}, {Axis::model, 8}});
  const Id y = f.poisoned({{Axis::batch, 1}, {Axis::time, 3}, {Axis::model, 8}});
  const OpCase one{"embed", Embed{.ids = ids, .table = table, .y = y}, f.values()};
  CudaBackend gpu(0);
  DeviceRoom room(gpu, 1 << 20);
  TestFrame frame(one);
  try {
    room.run(one.op, frame);
    FAIL() << "an id outside the table passed";
  } catch (const Error& e) {
    EXPECT_EQ(e.report().where, "token 1 of the batch");
  }
}

}  // namespace
}  // namespace sluice
