// Every op on the GPU against its double loop: close to it, nothing written outside. The cases are
// those that the CPU's kernels are held to; that bits repeat is repeat_test.cpp's.
#include <gtest/gtest.h>

#include <map>

#include "bf16_attention.h"
#include "shared_gpu.h"

namespace sluice {
namespace {

// As of every backend, but for what the library does in the epilogue: it adds a bias that was
// rounded to bf16 (products_test.cpp has those that need not be), and does not round a gradient
// before it meets GELU's slope.
double bound_of(const OpCase& one, DType type) {
  const auto* linear = std::get_if<Linear>(&one.op);
  const auto* gelu = std::get_if<LinearGelu>(&one.op);
  const auto* slope = std::get_if<LinearGeluGrad>(&one.op);
  const bool biased = (linear != nullptr && linear->bias != no_value) ||
                      (gelu != nullptr && gelu->bias != no_value);
  if (type == DType::bf16 && (biased || slope != nullptr)) return 5e-3;
  return tolerance_of(one, type);
}

std::string kind_of(const OpCase& one, DType type) {
  return fmt::format("{} {}", name_of(one.op), name_of(type));
}

void check_cases(const std::vector<OpCase>& cases) {
  std::map<std::string, WorstError> worst;
  for (const OpCase& one : cases) {
    SCOPED_TRACE(one.label);
    const std::vector<RefValue> expected = expected_of(one);
    const TestFrame result = result_of(one);
    EXPECT_TRUE(result.guards_hold());
    for (const Id id : written_by(one.op)) {
      const DType type = one.frame[static_cast<std::size_t>(id)].type.dtype;
      const double error = error_of(id, result, expected);
      EXPECT_LE(error, bound_of(one, type)) << "value " << id;
      worst[kind_of(one, type)].add(error, one.label);
    }
  }
  for (const auto& [op, one] : worst) fmt::print("{:28} {:.1e}  {}\n", op, one.error, one.where);
}

TEST(Gpu, EveryOpIsCloseToItsLoop) { check_cases(op_cases()); }

// For tools that make kernels a hundred times slower: some of each op and of each type.
TEST(Gpu, SomeOfEveryOpAreCloseToTheirLoops) {
  std::map<std::string, int> seen;
  std::vector<OpCase> cases;
  for (OpCase& one : op_cases()) {
    const Id first = written_by(one.op).front();
    const DType type = one.frame[static_cast<std::size_t>(first)].type.dtype;
    if (seen[kind_of(one, type)]++ < 2) cases.push_back(std::move(one));
  }
  check_cases(cases);
}

// State of 8 and 16 bits, rounded gradients and dropout: the bits of the CPU's kernels, where those
// multiply and add in one rounding.
TEST(Gpu, StateAndMasksHaveTheBitsOfTheCpu) {
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

// Probabilities are bf16 when they are multiplied by values, so a result has some of their
// roundings; lse has none.
TEST(Gpu, AttentionInBf16IsClose) {
  for (const OpCase& one : bf16_attention_cases()) {
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
  }
}

struct Words {
  std::int64_t vocab, rows, tokens, width;
};

void expect_head_is_close(const Words& words) {
  const auto [vocab, rows, tokens, width] = words;
  for (const DType type : {DType::f32, DType::bf16})
    for (const bool biased : {false, true}) {
      RandomFrame f(11);
      const Shape shape{{Axis::batch, 1}, {Axis::time, tokens}, {Axis::model, width}};
      const Shape each{{Axis::batch, 1}, {Axis::time, tokens}};
      const Shape table{{Axis::vocab, rows}, {Axis::model, width}};
      HeadLoss op{.x = f.random(shape, 1, 0, type),
                  .w = f.random(table, 1, 0, type),
                  .targets = f.integers(each, 0, vocab - 1),
                  .weights = f.random(each, 0.1, 1),
                  .stats = f.random({{Axis::scalar, 2}}, 1, 0, DType::f64),
                  .dx = f.poisoned(shape, type),
                  .dw = f.random(table),
                  .vocab = vocab,
                  .chunk = 256};
      if (biased) op.bias = f.random({{Axis::vocab, rows}});
      for (const std::int64_t token : {std::int64_t{0}, std::int64_t{7}, tokens - 1})
        f[op.weights].numbers[static_cast<std::size_t>(token)] = 0;
      const OpCase one{fmt::format("head_loss of {}: {}, bias {}", vocab, name_of(type), biased),
                       op, f.values()};
      const TestFrame result = result_of(one);
      EXPECT_TRUE(result.guards_hold());
      const std::vector<RefValue> expected = expected_of(one);
      for (const Id id : written_by(one.op)) {
        const DType written = f[id].type.dtype;
        const double error = error_of(id, result, expected);
        EXPECT_LE(error, written == DType::bf16 ? 1e-3 : tolerance_of(one, written))
            << one.label << ", value " << id;
        fmt::print("{} value {}: {:.1e}\n", one.label, id, error);
      }
    }
}

// Vocabularies whose logits lie in the shared memory of two, four and five blocks, which take
// several tokens, and one that is too large for that.
TEST(Gpu, AHeadOfManyWordsIsClose) {
  for (const Words& words : {Words{30011, 30080, 301, 16}, Words{50257, 50304, 150, 8},
                             Words{70001, 70016, 150, 8}, Words{140003, 140032, 9, 8}})
    expect_head_is_close(words);
}

// What the checks above must not let pass.
TEST(Gpu, NegativeControls) {
  const std::vector<OpCase> cases = op_cases();
  const auto one = std::find_if(cases.begin(), cases.end(), [](const OpCase& c) {
    return std::holds_alternative<Linear>(c.op);
  });
  ASSERT_NE(one, cases.end());
  const std::vector<RefValue> expected = expected_of(*one);
  TestFrame result = result_of(*one);
  const TestFrame untouched(*one, {}, true);
  EXPECT_LE(worst_error(*one, result, expected), kernel_tolerance);
  EXPECT_GT(worst_error(*one, untouched, expected), kernel_tolerance);
  const Tensor y = result.frame()[std::get<Linear>(one->op).y];
  y.data<float>()[3] += 1e-2f;
  EXPECT_GT(worst_error(*one, result, expected), kernel_tolerance);
  y.data<float>()[y.count()] = 0;
  EXPECT_FALSE(result.guards_hold());
}

TEST(Gpu, DataThatIsBadIsNamed) {
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
