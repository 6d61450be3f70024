// The same bits twenty times, with copies both ways beside the kernels: every case of every op, and
// the products, the head and attention at the shapes of a real model, for which the library takes
// other algorithms.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "bf16_attention.h"
#include "copies.h"
#include "shared_gpu.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, F = Axis::hidden, P = Axis::parts,
               N = Axis::heads, H = Axis::head, V = Axis::vocab, S = Axis::scalar;

void expect_same_twenty_times(const std::vector<OpCase>& cases) {
  const Copies copies;
  const std::int64_t before = copies.ended();
  for (const OpCase& one : cases) {
    TestFrame frame(one, {}, true);
    const std::string first = shared_room().after(one, frame);
    for (int time = 1; time < 20; ++time)
      ASSERT_TRUE(shared_room().after(one, frame) == first) << one.label << ", time " << time;
  }
  const std::int64_t beside = copies.ended() - before;
  EXPECT_GT(beside, 20);
  fmt::print("{} cases, {} copies of {} MiB beside them\n", cases.size(), beside,
             Copies::bytes >> 20);
}

TEST(GpuRepeats, EveryOpHasTheSameBitsTwentyTimes) {
  std::vector<OpCase> cases = op_cases();
  for (OpCase& one : coded_cases()) cases.push_back(std::move(one));
  for (OpCase& one : bf16_attention_cases()) cases.push_back(std::move(one));
  expect_same_twenty_times(cases);
}

// The products of a block over `tokens` tokens.
std::vector<OpCase> products(std::int64_t tokens, std::int64_t width, DType type) {
  std::vector<OpCase> cases;
  const std::int64_t inner = 4 * width;
  const auto add = [&](std::int64_t in, std::int64_t out) {
    RandomFrame f(7);
    const Id x = f.random({{B, 1}, {T, tokens}, {D, in}}, 1, 0, type);
    const Id w = f.random({{D, in}, {F, out}}, 0.05, 0, type);
    const Id bias = f.random({{F, out}});
    const Id dy = f.random({{B, 1}, {T, tokens}, {F, out}}, 1, 0, type);
    const Id y = f.poisoned({{B, 1}, {T, tokens}, {F, out}}, type);
    const Id dx = f.poisoned({{B, 1}, {T, tokens}, {D, in}}, type);
    const Id dw = f.random({{D, in}, {F, out}});
    const Id dbias = f.random({{F, out}});
    const auto put = [&](const Op& op) {
      cases.push_back(
          {fmt::format("{} {} tokens, {} -> {}, {}", name_of(op), tokens, in, out, name_of(type)),
           op, f.values(), false});
    };
    put(Linear{.x = x, .w = w, .bias = bias, .y = y});
    put(LinearGradInput{.dy = dy, .w = w, .dx = dx});
    put(LinearGradWeight{.x = x, .dy = dy, .dw = dw, .dbias = dbias});
    if (out != inner) return;
    const Id h = f.poisoned({{B, 1}, {T, tokens}, {F, out}}, type);
    put(LinearGelu{.x = x, .w = w, .bias = bias, .h = h, .y = y});
  };
  add(width, 3 * width);
  add(width, width);
  add(width, inner);
  add(inner, width);
  return cases;
}

OpCase head(std::int64_t tokens, std::int64_t width, std::int64_t vocab) {
  RandomFrame f(8);
  const std::int64_t rows = (vocab + 127) / 128 * 128;
  const HeadLoss op{.x = f.random({{B, 1}, {T, tokens}, {D, width}}, 1, 0, DType::bf16),
                    .w = f.random({{V, rows}, {D, width}}, 0.05, 0, DType::bf16),
                    .targets = f.integers({{B, 1}, {T, tokens}}, 0, vocab - 1),
                    .weights = f.random({{B, 1}, {T, tokens}}, 0.1, 1),
                    .stats = f.random({{S, 2}}, 1, 0, DType::f64),
                    .dx = f.poisoned({{B, 1}, {T, tokens}, {D, width}}, DType::bf16),
                    .dw = f.random({{V, rows}, {D, width}}),
                    .vocab = vocab,
                    .chunk = 512};
  return {fmt::format("head_loss {} tokens, {} words", tokens, vocab), op, f.values(), false};
}

std::vector<OpCase> attention(std::int64_t time, std::int64_t heads, std::int64_t head,
                              DType type) {
  RandomFrame f(9);
  const Shape shape{{B, 2}, {T, time}, {N, heads}, {H, head}};
  const Shape fused{{B, 2}, {T, time}, {P, 3}, {N, heads}, {H, head}};
  const Id qkv = f.random(fused, 1, 0, type), dqkv = f.poisoned(fused, type);
  const Id starts = f.integers({{B, 2}, {T, time}}, 0, 0);
  const Id y = f.random(shape, 0.1, 0, type), dy = f.random(shape, 1, 0, type);
  const Id lse = f.random({{B, 2}, {N, heads}, {T, time}}, 0.1, 7);
  const float scale = 0.125f;
  const auto label = [&](const char* name) {
    return fmt::format("{} {} tokens, {} heads of {}, {}", name, time, heads, head, name_of(type));
  };
  return {{label("attention"),
           Attention{.q = {qkv, 0, 3},
                     .k = {qkv, 1, 3},
                     .v = {qkv, 2, 3},
                     .starts = starts,
                     .y = y,
                     .lse = lse,
                     .scale = scale},
           f.values()},
          {label("attention_grad"),
           AttentionGrad{.q = {qkv, 0, 3},
                         .k = {qkv, 1, 3},
                         .v = {qkv, 2, 3},
                         .starts = starts,
                         .y = y,
                         .lse = lse,
                         .dy = dy,
                         .dq = {dqkv, 0, 3},
                         .dk = {dqkv, 1, 3},
                         .dv = {dqkv, 2, 3},
                         .scale = scale},
           f.values()}};
}

TEST(GpuRepeats, ShapesOfARealModelHaveTheSameBitsTwentyTimes) {
  std::vector<OpCase> cases;
  const auto add = [&](std::vector<OpCase> more) {
    for (OpCase& one : more) cases.push_back(std::move(one));
  };
  add(products(2048, 768, DType::bf16));
  add(products(1024, 768, DType::f32));
  add(products(8, 768, DType::bf16));  // decoding
  cases.push_back(head(1024, 768, 12001));
  add(attention(1024, 12, 64, DType::bf16));
  add(attention(512, 4, 128, DType::bf16));
  add(attention(256, 2, 256, DType::bf16));
  add(attention(512, 4, 64, DType::f32));
  expect_same_twenty_times(cases);
}

// The control: another input shows, and so does one bit.
TEST(GpuRepeats, OtherBitsAreNoticed) {
  std::vector<OpCase> cases = products(8, 768, DType::bf16);
  OpCase& one = cases.front();
  const auto after = [&] {
    TestFrame frame(one, {}, true);
    return shared_room().after(one, frame);
  };
  const std::string first = after();
  EXPECT_TRUE(after() == first);
  one.frame[static_cast<std::size_t>(std::get<Linear>(one.op).x)].numbers[5] += 1;
  EXPECT_FALSE(after() == first);
}

}  // namespace
}  // namespace sluice
