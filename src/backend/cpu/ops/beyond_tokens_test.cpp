// Embeddings, rotations and attention on tensors of more than 2^31 elements. What lies at the
// start, across element 2^31 and at the end is held against the same numbers in a small tensor.
#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/beyond.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab, S = Axis::scalar,
               P = Axis::parts, N = Axis::heads, H = Axis::head;

template <class Number>
void embedding_tables(Beyond& beyond) {
  constexpr std::int64_t width = 640, rows = border / width + 50;
  const std::int64_t places[] = {0, border / width - 1, border / width, rows - 1};
  const DType type = dtype_of<Number>();
  Reserved r;
  const Id ids = r.add({{B, 1}, {T, 4}}, DType::i32);
  const Id table = r.add({{V, rows}, {D, width}}, type), dtable = r.add({{V, rows}, {D, width}});
  const Id y = r.add({{B, 1}, {T, 4}, {D, width}}, type);
  for (int i = 0; i < 4; ++i) {
    r.at<std::int32_t>(ids)[i] = static_cast<std::int32_t>(places[i]);
    fill(r.at<Number>(table, places[i] * width), width, i);
    fill(r.at<float>(dtable, places[i] * width), width, i + 10);
  }
  beyond.run(r, Embed{.ids = ids, .table = table, .y = y});
  for (int i = 0; i < 4; ++i) {
    const Number* const row = r.at<Number>(table, places[i] * width);
    EXPECT_TRUE(same(r.at<Number>(y, i * width), row, width));
    EXPECT_FALSE(same(r.at<Number>(y, i * width), row + 1, width));
  }
  // Each row gains what was looked up there, exactly once.
  beyond.run(r, EmbedGrad{.ids = ids, .dy = y, .dtable = dtable}, {}, false);
  std::vector<float> before(width);
  for (int i = 0; i < 4; ++i) {
    fill(before.data(), width, i + 10);
    for (std::int64_t d = 0; d < width; ++d)
      ASSERT_EQ(*r.at<float>(dtable, places[i] * width + d),
                before[static_cast<std::size_t>(d)] +
                    static_cast<float>(*r.at<Number>(y, i * width + d)));
  }
}

template <class Number>
void embedded_tokens(Beyond& beyond) {
  constexpr std::int64_t width = 640, count = border / width + 2 * embed_tile + 5;
  const DType type = dtype_of<Number>();
  Reserved r;
  const Id ids = r.add({{B, 1}, {T, count}}, DType::i32);
  const Id table = r.add({{V, 9}, {D, width}}, type);
  const Id y = r.add({{B, 1}, {T, count}, {D, width}}, type);
  const Id dtable = r.add({{V, 9}, {D, width}});
  fill(r.at<Number>(table), 9 * width, 3);
  const std::int64_t tiles = (count + embed_tile - 1) / embed_tile;
  std::vector<double> expected(9 * width, 0.0);
  for (const std::int64_t tile : {std::int64_t{0}, border / width / embed_tile, tiles - 1}) {
    const std::int64_t begin = tile * embed_tile, end = std::min(count, begin + embed_tile);
    for (std::int64_t i = begin; i < end; ++i)
      *r.at<std::int32_t>(ids, i) = static_cast<std::int32_t>(1 + i % 8);
    beyond.run(r, Embed{.ids = ids, .table = table, .y = y}, {tile, tile + 1});
    for (std::int64_t i = begin; i < end; ++i) {
      const Number* const row = r.at<Number>(y, i * width);
      EXPECT_TRUE(same(row, r.at<Number>(table, (1 + i % 8) * width), width));
      EXPECT_FALSE(same(row, r.at<Number>(table, i % 8 * width), width));
      for (std::int64_t d = 0; d < width; ++d)
        expected[static_cast<std::size_t>((1 + i % 8) * width + d)] += static_cast<float>(row[d]);
    }
  }
  // All other tokens have id 0 and a gradient of zero.
  beyond.run(r, EmbedGrad{.ids = ids, .dy = y, .dtable = dtable});
  for (std::int64_t i = 0; i < 9 * width; ++i)
    ASSERT_NEAR(*r.at<float>(dtable, i), expected[static_cast<std::size_t>(i)], 1e-5) << i;
}

template <class Number>
void rotations(Beyond& beyond) {
  constexpr std::int64_t heads = 10, size = 64, width = heads * size;
  constexpr std::int64_t count = border / width + 2 * rotary_tile + 5;
  const auto make = [&](Reserved& r, std::int64_t time) {
    const Shape shape{{B, 1}, {T, time}, {N, heads}, {H, size}};
    const Id x = r.add(shape, dtype_of<Number>());
    const Id positions = r.add({{B, 1}, {T, time}}, DType::i32);
    const Id y = r.add(shape, dtype_of<Number>());
    return Rotary{.x = x, .positions = positions, .y = y, .dims = 48};
  };
  Reserved large;
  const Rotary op = make(large, count);
  const std::int64_t tiles = (count + rotary_tile - 1) / rotary_tile;
  for (const std::int64_t tile : {std::int64_t{0}, border / width / rotary_tile, tiles - 1}) {
    const std::int64_t begin = tile * rotary_tile;
    const std::int64_t time = std::min(rotary_tile, count - begin);
    Reserved small;
    make(small, time);
    for (std::int64_t t = 0; t < time; ++t)
      *large.at<std::int32_t>(op.positions, begin + t) = *small.at<std::int32_t>(op.positions, t) =
          static_cast<std::int32_t>(t + 3);
    fill(large.at<Number>(op.x, begin * width), time * width, tile);
    fill(small.at<Number>(op.x), time * width, tile);
    beyond.run(large, op, {tile, tile + 1});
    beyond.run(small, op);
    const Number* const turned = large.at<Number>(op.y, begin * width);
    EXPECT_TRUE(same(turned, small.at<Number>(op.y), time * width));
    EXPECT_FALSE(same(turned, small.at<Number>(op.x), time * width));
  }
}

// Forward and backward over many rows of a batch; both qkv and y pass element 2^31.
struct Trained {
  Attention forward;
  AttentionGrad backward;
};
constexpr std::int64_t tokens_of_row = 70, heads = 4, size = 64;
constexpr std::int64_t row_of_y = tokens_of_row * heads * size;

Trained make_attention(Reserved& r, std::int64_t batch, DType type) {
  const Shape fused{{B, batch}, {T, tokens_of_row}, {P, 3}, {N, heads}, {H, size}};
  const Shape plain{{B, batch}, {T, tokens_of_row}, {N, heads}, {H, size}};
  const DropoutKey dropout{.rate = 0.2f, .seed = 3, .stream = 5};
  const Id in = r.add(fused, type), starts = r.add({{B, batch}, {T, tokens_of_row}}, DType::i32);
  const Id y = r.add(plain, type), lse = r.add({{B, batch}, {N, heads}, {T, tokens_of_row}});
  const Id dy = r.add(plain, type), out = r.add(fused, type);
  const Id control = r.add({{S, Control::slots}}, DType::f64);
  const Slice q{in, 0, 3}, k{in, 1, 3}, v{in, 2, 3}, dq{out, 0, 3}, dk{out, 1, 3}, dv{out, 2, 3};
  return {{.q = q,
           .k = k,
           .v = v,
           .starts = starts,
           .y = y,
           .lse = lse,
           .scale = 0.3f,
           .control = control,
           .dropout = dropout},
          {.q = q,
           .k = k,
           .v = v,
           .starts = starts,
           .y = y,
           .lse = lse,
           .dy = dy,
           .dq = dq,
           .dk = dk,
           .dv = dv,
           .scale = 0.3f,
           .control = control,
           .dropout = dropout}};
}

template <class Number>
void attention_over_many_rows(Beyond& beyond) {
  constexpr std::int64_t batch = border / row_of_y + 3;
  constexpr std::int64_t places[] = {0, border / (3 * row_of_y), border / row_of_y, batch - 1};
  const DType type = dtype_of<Number>();
  Reserved large;
  const auto [forward, backward] = make_attention(large, batch, type);
  const Id in = forward.q.id, out = backward.dq.id;
  for (const std::int64_t b : places) {
    Reserved small;
    make_attention(small, 1, type);
    small.at<double>(forward.control)[Control::first_row] = static_cast<double>(b);
    for (Reserved* r : {&large, &small}) {
      const std::int64_t row = r == &large ? b : 0;
      fill(r->at<Number>(in, row * 3 * row_of_y), 3 * row_of_y, b);
      fill(r->at<Number>(backward.dy, row * row_of_y), row_of_y, b + 1);
      beyond.run(*r, forward, {row * 2 * heads, (row + 1) * 2 * heads});
      beyond.run(*r, backward, {row * heads, (row + 1) * heads});
    }
    const Number* const made = large.at<Number>(out, b * 3 * row_of_y);
    EXPECT_TRUE(
        same(large.at<Number>(forward.y, b * row_of_y), small.at<Number>(forward.y), row_of_y));
    EXPECT_TRUE(same(made, small.at<Number>(out), 3 * row_of_y));
    small.at<double>(forward.control)[Control::first_row] += 1;
    beyond.run(small, forward);
    EXPECT_FALSE(
        same(large.at<Number>(forward.y, b * row_of_y), small.at<Number>(forward.y), row_of_y))
        << "dropped as in another row";
    EXPECT_FALSE(same(made, small.at<Number>(in), 3 * row_of_y));
  }
}

// One head whose only row is a cache of 2^31 numbers and more. The last key outweighs all others.
template <class Number>
void long_caches(Beyond& beyond) {
  constexpr std::int64_t room = border / size + 10;
  const DType type = dtype_of<Number>();
  const double tolerance = type == DType::bf16 ? 4e-3 : 1e-6;
  for (const std::int64_t time : {1, 3}) {
    Reserved r;
    const Shape plain{{B, 1}, {T, time}, {N, 1}, {H, size}};
    const Id q = r.add(plain, type), k = r.add(plain, type), v = r.add(plain, type);
    const Id y = r.add(plain, type), lengths = r.add({{B, 1}}, DType::i32);
    const Id k_cache = r.add(plain.with(T, room), type);
    const Id v_cache = r.add(plain.with(T, room), type);
    *r.at<std::int32_t>(lengths) = static_cast<std::int32_t>(room - time);
    for (std::int64_t i = 0; i < time * size; ++i) {
      *r.at<Number>(q, i) = Number(1.0f);
      *r.at<Number>(k, i) = Number(static_cast<float>(i / size + 1));  // each outweighs the last
    }
    fill(r.at<Number>(v), time * size, 5);
    beyond.run(r, Attention{.q = {q},
                            .k = {k},
                            .v = {v},
                            .lengths = lengths,
                            .k_cache = k_cache,
                            .v_cache = v_cache,
                            .y = y});
    const std::int64_t end = (room - time) * size;
    EXPECT_TRUE(same(r.at<Number>(k_cache, end), r.at<Number>(k), time * size));
    EXPECT_TRUE(same(r.at<Number>(v_cache, end), r.at<Number>(v), time * size));
    double other = 0;
    for (std::int64_t i = 0; i < time * size; ++i) {
      const auto made = static_cast<float>(*r.at<Number>(y, i));
      ASSERT_NEAR(made, static_cast<float>(*r.at<Number>(v, i)), tolerance) << i;
      const auto next = static_cast<float>(*r.at<Number>(v, (i + 1) % (time * size)));
      other = std::max<double>(other, std::abs(made - next));
    }
    EXPECT_GT(other, tolerance);
    EXPECT_EQ(static_cast<float>(*r.at<Number>(k_cache)), 0);
  }
}

}  // namespace

std::vector<BeyondCase> token_beyond_cases() {
  std::vector<BeyondCase> all;
  const std::vector<std::string> embed = {"embed", "embed_grad"};
  add_both(&all, "embedding_tables", embed,
           []<class Number>(Beyond& b) { embedding_tables<Number>(b); });
  add_both(&all, "embedded_tokens", embed,
           []<class Number>(Beyond& b) { embedded_tokens<Number>(b); });
  add_both(
      &all, "rotations", {"rotary"}, []<class Number>(Beyond& b) { rotations<Number>(b); }, true);
  add_both(
      &all, "attention_over_many_rows", {"attention", "attention_grad"},
      []<class Number>(Beyond& b) { attention_over_many_rows<Number>(b); }, true);
  add_both(&all, "long_caches", {"attention"},
           []<class Number>(Beyond& b) { long_caches<Number>(b); });
  return all;
}

}  // namespace sluice
