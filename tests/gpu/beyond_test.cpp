// Every op on values of more than 2³¹ numbers (scattered.h): an index of 32 bits anywhere shows, in
// a unit at the end or as a number that nobody wrote. FinishStep's tables are short.
#include <gtest/gtest.h>

#include "ops/optimizer/formats.h"
#include "poison.h"
#include "scattered.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, F = Axis::hidden, P = Axis::parts,
               N = Axis::heads, H = Axis::head, V = Axis::vocab, S = Axis::scalar, Y = Axis::bytes;
constexpr std::int64_t units = Scattered::units;
constexpr DType f32 = DType::f32, half = DType::bf16;

std::string label_of(const Op& op, const std::string& more = "") {
  return fmt::format("{}{}{}", name_of(op), more.empty() ? "" : ", ", more);
}

void expect_close_beyond(const Op& op, const RandomFrame& f, const std::string& more = "",
                         double bf16_bound = bf16_kernel_tolerance) {
  const Scattered big({label_of(op, more), op, f.values()});
  SCOPED_TRACE(label_of(op, more));
  big.expect_close(big.run(), bf16_bound);
}

TEST(GpuBeyond, Elementwise) {
  const Shape shape{{B, units}, {T, 3}, {D, 1000}};
  RandomFrame f(1);
  const Id a = f.random(shape, 1, 0, half), b = f.random(shape, 2, 0, half);
  const Id y = f.poisoned(shape, half), wide = f.random(shape), sum = f.random(shape);
  const Id cast = f.poisoned(shape);
  expect_close_beyond(Add{.a = a, .b = b, .y = y, .scale_b = 0.3f}, f);
  expect_close_beyond(Scale{.x = a, .y = y, .factor = 0.3f}, f);
  expect_close_beyond(Cast{.x = wide, .y = y}, f, "to bf16");
  expect_close_beyond(Cast{.x = a, .y = cast}, f, "to float32");
  expect_close_beyond(AddInto{.x = wide, .y = sum}, f);
  expect_close_beyond(Gelu{.x = b, .y = y}, f);
  expect_close_beyond(GeluGrad{.x = b, .dy = a, .dx = y, .form = GeluForm::exact}, f);
}

// Each unit's mask is that of its place, so each is a case of its own.
TEST(GpuBeyond, Dropout) {
  const Shape shape{{B, units}, {T, 3}, {D, 1000}};
  RandomFrame f(2);
  const Id x = f.random(shape, 1, 1, half), y = f.poisoned(shape, half);
  const Id control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 5, 2});
  const Dropout op{
      .x = x, .y = y, .control = control, .key = {.rate = 0.3f, .seed = 7, .stream = 9}};
  const Scattered big({label_of(op), op, f.values()});
  const std::vector<double> found = big.run().numbers(y);
  const std::size_t row = found.size() / units;
  for (std::size_t i = 0; i < units; ++i) {
    RandomFrame one(2);
    const std::vector<double>& all = f[x].numbers;
    const auto from = all.begin() + static_cast<std::ptrdiff_t>(i * row);
    const Shape alone = shape.with(B, 1);
    const Id in = one.numbers(alone, half, {from, from + static_cast<std::ptrdiff_t>(row)});
    const Id out = one.poisoned(alone, half);
    const double first = 2 + static_cast<double>(big.places()[i]);
    const Id key = one.numbers({{S, Control::slots}}, DType::f64, {1e-3, 5, first});
    one.run(Dropout{.x = in, .y = out, .control = key, .key = op.key});
    const auto at = found.begin() + static_cast<std::ptrdiff_t>(i * row);
    EXPECT_EQ(std::vector<double>(at, at + static_cast<std::ptrdiff_t>(row)), one[out].numbers)
        << "unit " << i;
  }
}

TEST(GpuBeyond, Embeddings) {
  const Shape tokens{{B, units}, {T, 3}}, shape{{B, units}, {T, 3}, {D, 1000}};
  RandomFrame f(3);
  const Id ids = f.integers(tokens, 0, 1002);
  const Id table = f.random({{V, 1003}, {D, 1000}}, 1, 0, half), y = f.poisoned(shape, half);
  const Id dy = f.random(shape, 1, 0, half), dtable = f.random({{V, 1003}, {D, 1000}});
  const auto all = [](std::int64_t unit) { return static_cast<std::int32_t>(unit % 1003); };
  for (const Op& op : {Op(Embed{.ids = ids, .table = table, .y = y}),
                       Op(EmbedGrad{.ids = ids, .dy = dy, .dtable = dtable})}) {
    Scattered big({label_of(op), op, f.values()});
    big.set_background(ids, all);
    big.expect_close(big.run());
  }
}

// Rows of a table that is larger than 2³¹ numbers itself.
TEST(GpuBeyond, Tables) {
  const Shape tokens{{B, 1}, {T, 10}}, shape{{B, 1}, {T, 10}, {D, 1000}};
  const Shape table_shape{{V, units}, {D, 1000}};
  RandomFrame f(4);
  const Id ids = f.integers(tokens, 0, units - 1);
  const Id table = f.random(table_shape, 1, 0, half), y = f.poisoned(shape, half);
  const Id dy = f.random(shape, 1, 0, half), dtable = f.random(table_shape);
  for (const Op& op : {Op(Embed{.ids = ids, .table = table, .y = y}),
                       Op(EmbedGrad{.ids = ids, .dy = dy, .dtable = dtable})}) {
    Scattered big({label_of(op, "table"), op, f.values()});
    const std::vector<RefValue> expected = expected_of(big.small());
    for (double& id : big.small().frame[static_cast<std::size_t>(ids)].numbers)
      id = static_cast<double>(big.places()[static_cast<std::size_t>(id)]);
    const TestFrame found = big.run();
    for (const Id id : written_by(op))
      EXPECT_LE(error_of(id, found, expected), kernel_tolerance) << label_of(op);
  }
}

TEST(GpuBeyond, Norms) {
  for (const std::int64_t width : {1000, 64}) {
    const Shape shape{{B, units}, {T, 3}, {D, width}}, tokens{{B, units}, {T, 3}};
    const std::string more = fmt::format("{} wide", width);
    RandomFrame f(5);
    const Id a = f.random(shape, 1, 2, half), b = f.random(shape, 1, 0, half);
    const Id gain = f.random({{D, width}}, 0.3, 1), bias = f.random({{D, width}});
    const Id y = f.poisoned(shape, half), sum = f.poisoned(shape, half);
    const Id mean = f.poisoned(tokens), rstd = f.poisoned(tokens);
    const Id dgain = f.random({{D, width}}), dbias = f.random({{D, width}});
    const LayerNorm norm{.x = a, .gain = gain, .bias = bias, .y = y, .mean = mean, .rstd = rstd};
    expect_close_beyond(norm, f, more);
    expect_close_beyond(ResidualNorm{.a = a,
                                     .b = b,
                                     .sum = sum,
                                     .gain = gain,
                                     .bias = bias,
                                     .y = y,
                                     .mean = mean,
                                     .rstd = rstd,
                                     .scale_b = 0.3f},
                        f, more);
    f.run(norm);
    expect_close_beyond(
        LayerNormGradInput{.x = a, .gain = gain, .mean = mean, .rstd = rstd, .dy = b, .dx = sum}, f,
        more);
    expect_close_beyond(
        LayerNormGradWeight{
            .x = a, .mean = mean, .rstd = rstd, .dy = b, .dgain = dgain, .dbias = dbias},
        f, more);
  }
}

TEST(GpuBeyond, Products) {
  constexpr std::int64_t in = 64, out = 4096;
  for (const DType type : {half, f32}) {
    const std::string more(name_of(type));
    const Shape narrow{{B, units}, {T, 1}, {D, in}}, wide{{B, units}, {T, 1}, {F, out}};
    RandomFrame f(6);
    const Id x = f.random(narrow, 1, 0, type), w = f.random({{D, in}, {F, out}}, 0.1, 0, type);
    const Id bias = f.random({{F, out}});
    const Id y = f.poisoned(wide, type);
    expect_close_beyond(Linear{.x = x, .w = w, .bias = bias, .y = y}, f, more);
    expect_close_beyond(Linear{.x = x, .w = w, .bias = no_value, .y = y}, f, more + ", no bias");
    const Id dy = f.random(wide, 1, 0, type);
    const Id dw = f.random({{D, in}, {F, out}}), dbias = f.random({{F, out}});
    expect_close_beyond(LinearGradWeight{.x = x, .dy = dy, .dw = dw, .dbias = dbias}, f, more);
    const Id back = f.random({{D, out}, {F, in}}, 0.1, 0, type);
    const Shape from{{B, units}, {T, 1}, {F, in}}, to{{B, units}, {T, 1}, {D, out}};
    const Id small = f.random(from, 1, 0, type), dx = f.poisoned(to, type);
    expect_close_beyond(LinearGradInput{.dy = small, .w = back, .dx = dx}, f, more);
    if (type == f32) continue;  // two results more: too large
    const Id h = f.poisoned(wide, type), before = f.random(to, 1, 0, type);
    expect_close_beyond(LinearGelu{.x = x, .w = w, .bias = bias, .h = h, .y = y}, f, more);
    expect_close_beyond(LinearGeluGrad{.dy = small, .w = back, .h = before, .dh = dx}, f, more);
  }
}

TEST(GpuBeyond, Rotary) {
  const Shape shape{{B, units}, {T, 3}, {N, 8}, {H, 128}};
  RandomFrame f(7);
  const Rotary op{.x = f.random(shape, 1, 0, half),
                  .positions = f.integers({{B, units}, {T, 3}}, 0, 2047),
                  .y = f.poisoned(shape, half),
                  .dims = 64};
  expect_close_beyond(op, f);
}

TEST(GpuBeyond, Attention) {
  for (const DType type : {half, f32}) {
    const std::string more(name_of(type));
    const Shape fused{{B, units}, {T, 64}, {P, 3}, {N, 4}, {H, 64}};
    const Shape shape{{B, units}, {T, 64}, {N, 4}, {H, 64}};
    RandomFrame f(8);
    const Id qkv = f.random(fused, 1, 0, type), dqkv = f.poisoned(fused, type);
    const Id starts = f.integers({{B, units}, {T, 64}}, 0, 0);
    const Id y = f.poisoned(shape, type), lse = f.poisoned({{B, units}, {N, 4}, {T, 64}});
    const Attention op{.q = {qkv, 0, 3},
                       .k = {qkv, 1, 3},
                       .v = {qkv, 2, 3},
                       .starts = starts,
                       .y = y,
                       .lse = lse,
                       .scale = 0.125f};
    expect_close_beyond(op, f, more, 1e-2);
    f.run(op);
    const Id dy = f.random(shape, 1, 0, type);
    expect_close_beyond(AttentionGrad{.q = op.q,
                                      .k = op.k,
                                      .v = op.v,
                                      .starts = starts,
                                      .y = y,
                                      .lse = lse,
                                      .dy = dy,
                                      .dq = {dqkv, 0, 3},
                                      .dk = {dqkv, 1, 3},
                                      .dv = {dqkv, 2, 3},
                                      .scale = op.scale},
                        f, more, 1e-2);
  }
}

TEST(GpuBeyond, Caches) {
  const Shape shape{{B, units}, {T, 1}, {N, 4}, {H, 64}};
  const Shape cache{{B, units}, {T, 700}, {N, 4}, {H, 64}};
  RandomFrame f(9);
  const Id q = f.random(shape, 1, 0, half), k = f.random(shape, 1, 0, half);
  const Id v = f.random(shape, 1, 0, half), y = f.poisoned(shape, half);
  const Attention op{.q = {q},
                     .k = {k},
                     .v = {v},
                     .lengths = f.integers({{B, units}}, 0, 699),
                     .k_cache = f.random(cache, 1, 0, half),
                     .v_cache = f.random(cache, 1, 0, half),
                     .y = y,
                     .scale = 0.125f};
  expect_close_beyond(op, f, "cached", 1e-2);
}

// A chunk with more than 2³¹ logits; tokens that are not the case's weigh nothing.
TEST(GpuBeyond, HeadLoss) {
  constexpr std::int64_t vocab = 33000, rows = 33024, tokens = 65100;
  const Shape shape{{B, units}, {T, 1}, {D, 64}};
  RandomFrame f(10);
  HeadLoss op{.x = f.random(shape, 1, 0, half),
              .w = f.random({{V, rows}, {D, 64}}, 0.1, 0, half),
              .targets = f.integers({{B, units}, {T, 1}}, 0, vocab - 1),
              .weights = f.random({{B, units}, {T, 1}}, 0.1, 1),
              .stats = f.random({{S, 2}}, 1, 0, DType::f64),
              .dx = f.poisoned(shape, half),
              .dw = f.random({{V, rows}, {D, 64}}),
              .vocab = vocab,
              .chunk = tokens};
  Scattered big({label_of(op), op, f.values()}, tokens);
  ASSERT_GT(big.count() * head_loss_line(rows, half), Scattered::border);
  big.expect_close(big.run(), 1e-3);  // dx sums 33,000 dlogits, each rounded to bf16
}

TEST(GpuBeyond, RoundedGradients) {
  constexpr std::int64_t row = 1000;
  const Shape shape{{D, units}, {F, row}};
  RandomFrame f(11);
  const Id g = f.random(shape, 3);
  const Id control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 5, 0});
  expect_close_beyond(RoundGradient{.g = g, .control = control, .format = GradientFormat::bf16}, f,
                      "bf16");
  const std::int64_t blocks = row_blocks(shape);
  const Id codes = f.numbers(shape, DType::u8, std::vector<double>(units * row));
  const Id scales = f.poisoned({{S, units * blocks}});
  const RoundGradient op{.g = g,
                         .control = control,
                         .codes = codes,
                         .scales = scales,
                         .format = GradientFormat::int8,
                         .seed = 7,
                         .stream = 9};
  const Scattered big({label_of(op, "int8"), op, f.values()});
  TestFrame found = big.run();
  const Draws draws{7, dropout_stream(9, 0, 5)};
  for (std::int64_t i = 0; i < units; ++i)
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t at = block * state_block, count = std::min(state_block, row - at);
      std::vector<float> x;
      std::vector<std::uint32_t> bits;
      for (std::int64_t j = 0; j < count; ++j) {
        x.push_back(static_cast<float>(f[g].numbers[static_cast<std::size_t>(i * row + at + j)]));
        bits.push_back(draws(big.places()[static_cast<std::size_t>(i)] * row + at + j));
      }
      std::vector<std::int8_t> expected(x.size());
      const float scale = encode_int8(x, bits, expected);
      const auto* ours = found.frame()[codes].data<std::uint8_t>() + i * row + at;
      EXPECT_EQ(std::memcmp(ours, expected.data(), expected.size()), 0)
          << "unit " << i << ", block " << block;
      EXPECT_EQ(found.frame()[scales].data<float>()[i * blocks + block], scale);
    }
}

TEST(GpuBeyond, RestoredGradients) {
  constexpr std::int64_t row = 1000, blocks = 8;
  RandomFrame f(12);
  const RestoreGradient op{.codes = f.numbers({{D, units}, {F, row}}, DType::u8,
                                              [] {
                                                std::vector<double> all;
                                                for (int i = 0; i < units * row; ++i)
                                                  all.push_back(i * 37 % 256);
                                                return all;
                                              }()),
                           .scales = f.random({{S, units * blocks}}, 0.1, 1),
                           .g = f.poisoned({{D, units}, {F, row}})};
  expect_close_beyond(op, f);
}

TEST(GpuBeyond, GradientNorms) {
  RandomFrame f(13);
  const SquaredNorm op{.x = f.random({{D, units}, {F, 1000}}),
                       .norms = f.random({{S, 3}}, 1, 0, DType::f64),
                       .index = 1};
  expect_close_beyond(op, f);
}

AdamW adamw(RandomFrame& f, const Shape& shape) {
  AdamW op{.w = f.random(shape),
           .g = f.random(shape, 20),
           .m = f.random(shape, 0.1),
           .v = f.random(shape, 0.005, 0.02),
           .pending = f.numbers({{S, Pending::slots}}, DType::f64, {2e-3, 3, 0.01, 1}),
           .part = {{.lr = 1, .decay = 0.1f, .eps = 1e-5f},
                    {.lr = 0.5f, .decay = 0, .eps = 1e-4f},
                    {.lr = 2, .decay = 0.3f, .eps = 1e-5f}},
           .seed = 3,
           .stream = 77};
  if (shape.has(P)) op.parts = 3, op.parts_inner = shape.count() / shape[0].size / 3;
  return op;
}

TEST(GpuBeyond, Updates) {
  RandomFrame f(14);
  const AdamW op = adamw(f, {{D, units}, {P, 3}, {N, 5}, {H, 70}});
  expect_close_beyond(op, f, "float32");
  const Ema ema{.w = op.w, .average = op.g, .pending = op.pending, .decay = 0.9f};
  expect_close_beyond(ema, f);
}

// The pair of bf16 and 16 bits is the master of float32: the same bits, put together.
TEST(GpuBeyond, ExactUpdates) {
  const Shape shape{{D, units}, {F, 1000}};
  RandomFrame f(15);
  AdamW op = adamw(f, shape);
  RandomFrame wide = f;
  std::vector<double> upper, lower;
  for (const double x : f[op.w].numbers) {
    const Master one = split_master(static_cast<float>(x));
    upper.push_back(static_cast<float>(one.weight)), lower.push_back(one.low);
  }
  const AdamW plain = op;
  op.w = f.numbers(shape, half, upper);
  op.low = f.numbers(shape, DType::i16, lower);
  const Scattered big({label_of(op, "exact"), op, f.values()});
  TestFrame found = big.run();
  const TestFrame alone = result_of({label_of(plain), plain, wide.values()});
  const std::vector<double> masters = alone.numbers(plain.w);
  for (std::size_t i = 0; i < masters.size(); ++i)
    ASSERT_EQ(join_master(found.frame()[op.w].data<bf16>()[i],
                          found.frame()[op.low].data<std::int16_t>()[i]),
              static_cast<float>(masters[i]))
        << i;
  EXPECT_EQ(found.bytes(op.m), alone.bytes(op.m));
  EXPECT_EQ(found.bytes(op.v), alone.bytes(op.v));
  expect_close_beyond(
      Ema{.w = op.w, .low = op.low, .average = op.g, .pending = op.pending, .decay = 0.9f}, f,
      "masters");
}

// What is rounded at random is one of two neighbours; which one hangs on the place, and is
// RoundedGradients' to test, whose draws are the same.
TEST(GpuBeyond, CompactUpdates) {
  const Shape shape{{D, units}, {F, 1000}};
  RandomFrame f(16);
  AdamW op = adamw(f, shape);
  const auto floats = [&](Id id) {
    return std::vector<float>(f[id].numbers.begin(), f[id].numbers.end());
  };
  const auto count = static_cast<std::size_t>(shape.count());
  std::vector<std::uint8_t> m(count), v(count);
  std::vector<float> m_scale(static_cast<std::size_t>(state_blocks(shape))), v_scale = m_scale;
  encode_m(shape, floats(op.m), m, m_scale);
  encode_v(shape, floats(op.v), v, v_scale);
  const Shape blocks{{S, state_blocks(shape)}};
  op.w = f.numbers(shape, half, f[op.w].numbers);
  op.m = f.numbers(shape, DType::u8, {m.begin(), m.end()});
  op.v = f.numbers(shape, DType::u8, {v.begin(), v.end()});
  op.m_scale = f.numbers(blocks, f32, {m_scale.begin(), m_scale.end()});
  op.v_scale = f.numbers(blocks, f32, {v_scale.begin(), v_scale.end()});
  const OpCase one{label_of(op, "compact"), op, f.values()};
  const TestFrame found = Scattered(one).run();
  const TestFrame alone = result_of(one);
  EXPECT_EQ(found.bytes(op.m), alone.bytes(op.m));
  EXPECT_EQ(found.bytes(op.m_scale), alone.bytes(op.m_scale));
  EXPECT_EQ(found.bytes(op.v_scale), alone.bytes(op.v_scale));
  const std::vector<double> w = found.numbers(op.w), w_alone = alone.numbers(op.w);
  const std::vector<double> codes = found.numbers(op.v), codes_alone = alone.numbers(op.v);
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_NEAR(w[i], w_alone[i], 0x1p-7 * std::abs(w_alone[i])) << i;
    ASSERT_NEAR(codes[i], codes_alone[i], 1) << i;
  }
}

// Panels of 16 columns are the units.
TEST(GpuBeyond, Packed) {
  constexpr std::int64_t k = 1000;
  RandomFrame f(17);
  Pack op{.w = f.random({{V, 16 * units}, {D, k}}, 1, 0, half),
          .packed = f.poisoned({{Y, 16 * units * k}}, half),
          .k = k,
          .n = 16 * units,
          .transposed = true};
  Scattered big({label_of(op), op, f.values()});
  op.n = 16 * big.count();
  big.set_op(op);
  big.expect_close(big.run());
}

// The controls: a unit that is another's, and a unit that was not written.
TEST(GpuBeyond, WhatIsWrongIsNoticed) {
  const Shape shape{{B, units}, {T, 3}, {D, 1000}};
  RandomFrame f(1);
  const Id a = f.random(shape, 1, 0, half), y = f.poisoned(shape, half);
  const Op op = Scale{.x = a, .y = y, .factor = 0.3f};
  const Scattered big({label_of(op), op, f.values()});
  TestFrame found = big.run();
  const std::vector<RefValue> expected = expected_of({label_of(op), op, f.values()});
  EXPECT_LE(error_of(y, found, expected), bf16_kernel_tolerance);
  bf16* const last = found.frame()[y].data<bf16>() + 3000 * (units - 1);
  std::swap_ranges(last, last + 3000, last - 3000);
  EXPECT_GT(error_of(y, found, expected), bf16_kernel_tolerance);
  std::byte* const data = shared_gpu().take(4096);
  fill_bytes(data, poison_byte, 4096);
  fill_bytes(data, 0, 4000);
  EXPECT_EQ(poisoned_words(data, 4096), 24);
}

}  // namespace
}  // namespace sluice
