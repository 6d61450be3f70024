// The head on tensors of more than 2^31 elements: many tokens, a large vocabulary, and training's
// gradients chunk by chunk.
#include <cmath>

#include "backend/cpu/ops/beyond.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab, S = Axis::scalar;

// All tokens weigh nothing but for four.
template <class Number>
void head_over_many_tokens(Beyond& beyond) {
  constexpr std::int64_t wide = 1024, count = border / wide + 3, vocab = 5;
  const std::int64_t places[] = {0, border / wide - 1, border / wide, count - 1};
  const DType type = dtype_of<Number>();
  double nll[2][2];
  for (const bool large : {false, true}) {
    Reserved r;
    const std::int64_t time = large ? count : 4;
    const Id x = r.add({{B, 1}, {T, time}, {D, wide}}, type);
    const Id w = r.add({{V, vocab}, {D, wide}}, type);
    const Id targets = r.add({{B, 1}, {T, time}}, DType::i32);
    const Id weights = r.add({{B, 1}, {T, time}}), stats = r.add({{S, 2}}, DType::f64);
    fill(r.at<Number>(w), vocab * wide, 1);
    for (int i = 0; i < 4; ++i) {
      const std::int64_t row = large ? places[i] : i;
      fill(r.at<Number>(x, row * wide), wide, i + 2);
      *r.at<std::int32_t>(targets, row) = i;
      *r.at<float>(weights, row) = static_cast<float>(i + 1);
    }
    beyond.run(r, HeadLoss{.x = x,
                           .w = w,
                           .targets = targets,
                           .weights = weights,
                           .stats = stats,
                           .vocab = vocab});
    std::memcpy(nll[large], r.at<double>(stats), sizeof(nll[0]));
  }
  EXPECT_EQ(nll[0][0], nll[1][0]);
  EXPECT_EQ(nll[1][1], 10);
  EXPECT_GT(nll[1][0], 1);
}

constexpr std::int64_t wide_row = 1000;  // does not divide 2^31: a row lies across it
constexpr std::int64_t vocab = 5, chunk = 64, odd = 5;

HeadLoss make_training_head(Reserved& r, std::int64_t time, DType type) {
  HeadLoss op{.x = r.add({{B, 1}, {T, time}, {D, wide_row}}, type),
              .w = r.add({{V, vocab}, {D, wide_row}}, type),
              .bias = r.add({{V, vocab}}),
              .targets = r.add({{B, 1}, {T, time}}, DType::i32),
              .weights = r.add({{B, 1}, {T, time}}),
              .stats = r.add({{S, 2}}, DType::f64),
              .vocab = vocab,
              .chunk = chunk};
  op.dx = r.add({{B, 1}, {T, time}, {D, wide_row}}, type);
  op.dw = r.add({{V, vocab}, {D, wide_row}});
  op.dbias = r.add({{V, vocab}});
  fill(r.at<float>(op.bias), vocab, 2);
  return op;
}

// Chunks at the start, before and across element 2^31 of x and dx, and at the end, one call each,
// are the chunks of one small tensor; dw, dbias and the losses sum over them.
template <class Number>
void gradients_over_many_tokens(Beyond& beyond) {
  constexpr std::int64_t across = border / wide_row / chunk;
  constexpr std::int64_t places[] = {0, across - 1, across, across + 3};
  const DType type = dtype_of<Number>();
  Reserved large, small;
  const HeadLoss op = make_training_head(large, places[3] * chunk + odd, type);
  make_training_head(small, 3 * chunk + odd, type);
  const auto fill_tokens = [&](Reserved& r, std::int64_t begin, std::int64_t count, int seed) {
    fill(r.at<Number>(op.x, begin * wide_row), count * wide_row, seed);
    fill(r.at<float>(op.weights, begin), count, seed);
    for (std::int64_t t = 0; t < count; ++t)
      *r.at<std::int32_t>(op.targets, begin + t) = static_cast<std::int32_t>((t + seed) % vocab);
  };
  for (Reserved* r : {&large, &small}) fill(r->at<Number>(op.w), vocab * wide_row, 1);
  for (int i = 0; i < 4; ++i) fill_tokens(small, i * chunk, i < 3 ? chunk : odd, i);
  beyond.run(small, op);
  const auto same_sums = [&](Id id, std::int64_t count) {
    return same(large.at<float>(id), small.at<float>(id), count);
  };
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(same_sums(op.dw, vocab * wide_row)) << i;
    const std::int64_t begin = places[i] * chunk, count = i < 3 ? chunk : odd;
    fill_tokens(large, begin, count, i);
    beyond.run(large, op, {places[i], places[i] + 1}, i == 0);
    const Number* const made = large.at<Number>(op.dx, begin * wide_row);
    EXPECT_TRUE(same(made, small.at<Number>(op.dx, i * chunk * wide_row), count * wide_row)) << i;
    EXPECT_FALSE(same(made, small.at<Number>(op.dx, (i * chunk + 1) * wide_row), wide_row)) << i;
  }
  EXPECT_TRUE(same_sums(op.dw, vocab * wide_row));
  EXPECT_TRUE(same_sums(op.dbias, vocab));
  EXPECT_TRUE(same(large.at<double>(op.stats), small.at<double>(op.stats), 2));
}

// A vocabulary whose weight passes element 2^31: all logits are zero but for three.
template <class Number>
void head_over_an_enormous_vocabulary(Beyond& beyond) {
  constexpr std::int64_t wide = 1024, words = border / wide + 5;
  const DType type = dtype_of<Number>();
  Reserved r;
  const Id x = r.add({{B, 1}, {T, 2}, {D, wide}}, type), w = r.add({{V, words}, {D, wide}}, type);
  const Id targets = r.add({{B, 1}, {T, 2}}, DType::i32);
  const Id weights = r.add({{B, 1}, {T, 2}}), stats = r.add({{S, 2}}, DType::f64);
  const std::int64_t places[] = {0, border / wide, words - 1};
  double sum = static_cast<double>(words - 3), logits[3];
  for (std::int64_t t = 0; t < 2; ++t) {
    *r.at<Number>(x, t * wide + wide - 1) = Number(2.0f);
    *r.at<float>(weights, t) = 1;
    *r.at<std::int32_t>(targets, t) = static_cast<std::int32_t>(places[t + 1]);
  }
  for (int i = 0; i < 3; ++i) {
    *r.at<Number>(w, places[i] * wide + wide - 1) = Number(static_cast<float>(6 + i));
    logits[i] = 2 * (6 + i);
    sum += std::exp(logits[i]);
  }
  beyond.run(
      r,
      HeadLoss{
          .x = x, .w = w, .targets = targets, .weights = weights, .stats = stats, .vocab = words});
  const double expected = 2 * std::log(sum) - logits[1] - logits[2];
  EXPECT_NEAR(*r.at<double>(stats), expected, 1e-5 * expected);
}

}  // namespace

std::vector<BeyondCase> head_beyond_cases() {
  std::vector<BeyondCase> all;
  add_both(&all, "head_over_many_tokens", {"head_loss"},
           []<class Number>(Beyond& b) { head_over_many_tokens<Number>(b); });
  add_both(
      &all, "head_gradients_over_many_tokens", {"head_loss"},
      []<class Number>(Beyond& b) { gradients_over_many_tokens<Number>(b); }, true);
  add_both(&all, "head_over_an_enormous_vocabulary", {"head_loss"},
           []<class Number>(Beyond& b) { head_over_an_enormous_vocabulary<Number>(b); });
  return all;
}

}  // namespace sluice
