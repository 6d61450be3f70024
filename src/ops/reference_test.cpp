// The loops against facts that do not come from them: published values, identities between ops.
// (Their gradients: gradient_test.cpp; the optimizer: optimizer/optimizer_test.cpp.)
#include "ops/reference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ops/random_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, P = Axis::parts, N = Axis::heads,
               H = Axis::head, F = Axis::hidden, V = Axis::vocab, S = Axis::scalar, Y = Axis::bytes;

std::vector<double> result(RandomFrame f, const Op& op, Id id, bool first = true) {
  std::vector<RefValue> frame = f.values();
  reference(op, frame, first);
  return frame[static_cast<std::size_t>(id)].numbers;
}

// erf and tanh forms at 1, from the closed formulas.
TEST(Reference, GeluAtOne) {
  RandomFrame f(1);
  const Id x = f.numbers({{B, 1}, {T, 1}, {F, 2}}, DType::f32, {1, -1});
  const Id y = f.poisoned({{B, 1}, {T, 1}, {F, 2}});
  const auto exact = result(f, Gelu{.x = x, .y = y, .form = GeluForm::exact}, y);
  EXPECT_NEAR(exact[0], 0.8413447460685429, 1e-14);
  EXPECT_NEAR(exact[1], -0.15865525393145707, 1e-14);
  const auto tanh = result(f, Gelu{.x = x, .y = y, .form = GeluForm::tanh}, y);
  EXPECT_NEAR(tanh[0], 0.8411919906082768, 1e-14);
  EXPECT_NE(exact[0], tanh[0]);
}

TEST(Reference, LayerNormHasMeanZeroAndVarianceOne) {
  RandomFrame f(2);
  const Id x = f.numbers({{B, 1}, {T, 1}, {D, 4}}, DType::f32, {1, 2, 3, 6});
  const Id gain = f.numbers({{D, 4}}, DType::f32, {1, 1, 1, 2});
  const Id bias = f.numbers({{D, 4}}, DType::f32, {0, 0, 0, 5});
  const Id y = f.poisoned({{B, 1}, {T, 1}, {D, 4}});
  const Id mean = f.poisoned({{B, 1}, {T, 1}});
  const Id rstd = f.poisoned({{B, 1}, {T, 1}});
  const LayerNorm op{
      .x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .rstd = rstd, .eps = 0.5f};
  const double r = 1 / std::sqrt(3.5 + 0.5);  // variance (4 + 1 + 0 + 9) / 4
  EXPECT_DOUBLE_EQ(result(f, op, mean)[0], 3);
  EXPECT_DOUBLE_EQ(result(f, op, rstd)[0], r);
  const auto out = result(f, op, y);
  EXPECT_DOUBLE_EQ(out[0], -2 * r);
  EXPECT_DOUBLE_EQ(out[3], 3 * r * 2 + 5);
}

TEST(Reference, ResidualNormIsAddThenNorm) {
  RandomFrame f(3);
  const Shape shape{{B, 2}, {T, 3}, {D, 5}};
  const Id a = f.random(shape), b = f.random(shape), gain = f.random({{D, 5}});
  const Id sum = f.poisoned(shape), y = f.poisoned(shape);
  const Id mean = f.poisoned({{B, 2}, {T, 3}}), rstd = f.poisoned({{B, 2}, {T, 3}});
  const ResidualNorm fused{.a = a,
                           .b = b,
                           .sum = sum,
                           .gain = gain,
                           .bias = no_value,
                           .y = y,
                           .mean = mean,
                           .rstd = rstd,
                           .scale_b = 0.3f};
  std::vector<RefValue> frame = f.values();
  reference(Add{.a = a, .b = b, .y = sum, .scale_b = 0.3f}, frame);
  reference(LayerNorm{.x = sum, .gain = gain, .bias = no_value, .y = y, .mean = mean, .rstd = rstd},
            frame);
  EXPECT_EQ(result(f, fused, y), frame[static_cast<std::size_t>(y)].numbers);
}

// The two layouts of one weight, and the weight read back from its tiles, give the same product.
TEST(Reference, LinearAgreesAcrossLayoutsAndPackedTiles) {
  RandomFrame f(4);
  const std::int64_t in = 3, out = 21;
  const Id x = f.random({{B, 1}, {T, 2}, {D, in}});
  const Id w = f.random({{D, in}, {F, out}});
  std::vector<double> turned;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t i = 0; i < in; ++i)
      turned.push_back(f[w].numbers[static_cast<std::size_t>(i * out + o)]);
  const Id wt = f.numbers({{F, out}, {D, in}}, DType::f32, turned);
  const Id y = f.poisoned({{B, 1}, {T, 2}, {F, out}});
  const Id packed = f.poisoned({{Y, packed_count(in, out)}});
  const Linear plain{.x = x, .w = w, .bias = no_value, .y = y};
  const Linear other{.x = x, .w = wt, .bias = no_value, .y = y, .out_in = true};
  EXPECT_EQ(result(f, plain, y), result(f, other, y));
  EXPECT_NE(result(f, plain, y),
            result(f, Linear{.x = x, .w = w, .bias = no_value, .y = y, .out_in = true}, y));

  const auto tiles = result(f, Pack{.w = w, .packed = packed, .k = in, .n = out}, packed);
  const auto from_turned =
      result(f, Pack{.w = wt, .packed = packed, .k = in, .n = out, .transposed = true}, packed);
  EXPECT_EQ(tiles, from_turned);
  ASSERT_EQ(tiles.size(), 32U * 3U);
  EXPECT_EQ(tiles[1 * 16 + 5], f[w].numbers[1 * 21 + 5]);            // panel 0, row 1, column 5
  EXPECT_EQ(tiles[3 * 16 + 2 * 16 + 4], f[w].numbers[2 * 21 + 20]);  // panel 1, row 2, column 20
  EXPECT_EQ(tiles[3 * 16 + 2 * 16 + 5], 0);                          // column 21: padding
}

// (x0 + i x1) turns by position * base^(-2i/dims), the rest stays; the inverse undoes it.
TEST(Reference, RotaryTurnsPairs) {
  RandomFrame f(5);
  const Shape shape{{B, 1}, {T, 2}, {N, 1}, {H, 5}};
  const Id x = f.numbers(shape, DType::f32, {1, 0, 1, 0, 7, 0, 1, 0, 1, 7});
  const Id positions = f.numbers({{B, 1}, {T, 2}}, DType::i32, {0, 3});
  const Id y = f.poisoned(shape), back = f.poisoned(shape);
  Rotary op{.x = x, .positions = positions, .y = y, .dims = 4, .base = 100};
  std::vector<RefValue> frame = f.values();
  reference(op, frame);
  const auto turned = frame[static_cast<std::size_t>(y)].numbers;
  const std::vector<double> expected{
      1, 0, 1, 0, 7, -std::sin(3), std::cos(3), -std::sin(0.3), std::cos(0.3), 7};
  for (std::size_t i = 0; i < 10; ++i) EXPECT_NEAR(turned[i], expected[i], 1e-12);
  op.x = y, op.y = back, op.inverse = true;
  reference(op, frame);
  for (std::size_t i = 0; i < 10; ++i)
    EXPECT_NEAR(frame[static_cast<std::size_t>(back)].numbers[i], f[x].numbers[i], 1e-12);
}

struct Attended {
  RandomFrame f{6};
  Id qkv, starts, y, lse;
  Attended(std::int64_t time, std::vector<double> first) {
    qkv = f.random({{B, 1}, {T, time}, {P, 3}, {N, 2}, {H, 3}});
    starts = f.numbers({{B, 1}, {T, time}}, DType::i32, std::move(first));
    y = f.poisoned({{B, 1}, {T, time}, {N, 2}, {H, 3}});
    lse = f.poisoned({{B, 1}, {N, 2}, {T, time}});
  }
  Attention op() const {
    return {.q = {qkv, 0, 3},
            .k = {qkv, 1, 3},
            .v = {qkv, 2, 3},
            .starts = starts,
            .y = y,
            .lse = lse,
            .scale = 0.5f};
  }
};

// The first token of a document sees itself alone; packed documents do not see each other.
TEST(Reference, PackedDocumentsAreAsAlone) {
  const Attended packed(7, {0, 0, 0, 3, 3, 3, 3});
  Attended alone(4, {0, 0, 0, 0});
  const auto& all = packed.f[packed.qkv].numbers;
  alone.f[alone.qkv].numbers.assign(all.begin() + 3 * 18, all.end());
  const auto both = result(packed.f, packed.op(), packed.y);
  const auto second = result(alone.f, alone.op(), alone.y);
  EXPECT_EQ(std::vector<double>(both.begin() + 3 * 6, both.end()), second);
  for (int h = 0; h < 3; ++h)
    EXPECT_DOUBLE_EQ(both[static_cast<std::size_t>(3 * 6 + h)],
                     all[static_cast<std::size_t>(3 * 18 + 12 + h)]);
  const Attended joined(7, {0, 0, 0, 0, 0, 0, 0});
  EXPECT_NE(result(joined.f, joined.op(), joined.y), both);
}

// A prompt in two pieces through a cache equals the whole at once.
TEST(Reference, CachedAttentionIsAsUncached) {
  const Attended whole(5, {0, 0, 0, 0, 0});
  const auto expected = result(whole.f, whole.op(), whole.y);
  RandomFrame f(7);
  const Id k_cache = f.random({{B, 1}, {T, 6}, {N, 2}, {H, 3}});
  const Id v_cache = f.random({{B, 1}, {T, 6}, {N, 2}, {H, 3}});
  std::vector<double> found;
  const auto& all = whole.f[whole.qkv].numbers;
  std::vector<RefValue> caches;
  for (const auto& [from, to] : {std::pair{0, 2}, std::pair{2, 5}}) {
    const std::int64_t time = to - from;
    const Id qkv = f.numbers({{B, 1}, {T, time}, {P, 3}, {N, 2}, {H, 3}}, DType::f32,
                             {all.begin() + from * 18, all.begin() + to * 18});
    const Id lengths = f.numbers({{B, 1}}, DType::i32, {static_cast<double>(from)});
    const Id y = f.poisoned({{B, 1}, {T, time}, {N, 2}, {H, 3}});
    f.run(Attention{.q = {qkv, 0, 3},
                    .k = {qkv, 1, 3},
                    .v = {qkv, 2, 3},
                    .lengths = lengths,
                    .k_cache = k_cache,
                    .v_cache = v_cache,
                    .y = y,
                    .scale = 0.5f});
    found.insert(found.end(), f[y].numbers.begin(), f[y].numbers.end());
  }
  EXPECT_LE(relative_error(found, expected), 1e-7);
}

// Two real tokens of equal logits cost log 2 whatever the padded row holds; weights scale and
// weight 0 hides a target that is no token.
TEST(Reference, HeadLossOfEqualLogits) {
  RandomFrame f(8);
  const Id x = f.numbers({{B, 1}, {T, 2}, {D, 1}}, DType::f32, {3, 4});
  const Id w = f.numbers({{V, 3}, {D, 1}}, DType::f32, {0.5, 0.5, 1000});
  const Id targets = f.numbers({{B, 1}, {T, 2}}, DType::i32, {1, -7});
  const Id weights = f.numbers({{B, 1}, {T, 2}}, DType::f32, {0.25, 0});
  const Id stats = f.poisoned({{S, 2}}, DType::f64);
  const Id dx = f.poisoned({{B, 1}, {T, 2}, {D, 1}});
  const Id dw = f.poisoned({{V, 3}, {D, 1}});
  const HeadLoss op{.x = x,
                    .w = w,
                    .targets = targets,
                    .weights = weights,
                    .stats = stats,
                    .dx = dx,
                    .dw = dw,
                    .vocab = 2};
  EXPECT_DOUBLE_EQ(result(f, op, stats)[0], 0.25 * std::log(2));
  EXPECT_DOUBLE_EQ(result(f, op, stats)[1], 0.25);
  const std::vector<double> expected{0.25 * 0.5 * 3, -0.25 * 0.5 * 3, 0};
  const auto found = result(f, op, dw);
  for (std::size_t v = 0; v < 3; ++v) EXPECT_DOUBLE_EQ(found[v], expected[v]);
  for (const double d : result(f, op, dx)) EXPECT_NEAR(d, 0, 1e-15);
}

TEST(Reference, CastRoundsToNearestEven) {
  RandomFrame f(9);
  const Id x = f.numbers({{D, 3}}, DType::f32, {1 + 1.0 / 256, 1 + 3.0 / 256, 0.1});
  const Id y = f.poisoned({{D, 3}}, DType::bf16);
  const auto out = result(f, Cast{.x = x, .y = y}, y);
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[1], 1 + 4.0 / 256);
  EXPECT_NEAR(out[2], 0.1, 0.1 / 256);
}

TEST(Reference, IndicesOutsideTheirTablesAreNamed) {
  RandomFrame f(10);
  const Id ids = f.numbers({{B, 1}, {T, 2}}, DType::i32, {0, 9});
  const Id table = f.random({{V, 9}, {D, 2}});
  const Id y = f.poisoned({{B, 1}, {T, 2}, {D, 2}});
  try {
    result(f, Embed{.ids = ids, .table = table, .y = y}, y);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_EQ(e.report().expected, "0 to 8");
    EXPECT_EQ(e.report().found, "9");
  }
}

}  // namespace
}  // namespace sluice
