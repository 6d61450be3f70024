// Coded state and gradients, and the end of a step, beyond 2^31 elements. Their draws count the
// elements of the whole tensor, so what is expected comes from the float32 update of a small tensor
// and the codecs of ops/optimizer/formats.h, element by element of the large one.
#include <cmath>
#include <limits>

#include "backend/cpu/ops/beyond.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

constexpr Axis D = Axis::model, F = Axis::hidden, S = Axis::scalar;
constexpr std::uint64_t seed = 3, stream = 77;
constexpr std::int64_t step = 9;

// Rows of two and a half blocks; block_tile rows are three tiles of block_tile blocks.
constexpr std::int64_t columns = 320, blocks = 3;
constexpr std::int64_t all_rows = border / columns + 2 * block_tile + 100;

struct Place {
  std::int64_t first, last;  // rows
  std::int64_t rows() const { return last - first; }
  Tiles tiles() const {
    return {first / block_tile * blocks, first / block_tile * blocks + blocks};
  }
  Shape shape() const { return {{D, rows()}, {F, columns}}; }
};

std::vector<Place> places() {
  std::vector<Place> all;
  for (const std::int64_t row : {std::int64_t{0}, border / columns, all_rows - 1}) {
    const std::int64_t first = row / block_tile * block_tile;
    all.push_back({first, std::min(all_rows, first + block_tile)});
  }
  return all;
}

template <class T>
std::span<T> numbers(const Reserved& r, Id id, std::int64_t begin, std::int64_t count) {
  return {r.at<T>(id, begin), static_cast<std::size_t>(count)};
}

// body(block, its elements within the place, their draws in a tensor whose row 0 is `row`).
template <class Body>
void for_drawn_blocks(const Place& place, std::int64_t row, Body body) {
  const Draws draws{seed, dropout_stream(stream, 0, step)};
  for_blocks(place.shape(), [&](std::int64_t block, std::int64_t first, std::int64_t size) {
    std::vector<std::uint32_t> bits;
    for (std::int64_t i = first; i < first + size; ++i) bits.push_back(draws(row * columns + i));
    body(static_cast<std::size_t>(block), static_cast<std::size_t>(first),
         static_cast<std::size_t>(size), bits);
  });
}

// A place's numbers as int8 stores them, its first row's draws being those of `row`, and as they
// are read back.
struct Rounded {
  std::vector<float> numbers, scales;
  std::vector<std::int8_t> codes;

  Rounded(const Place& place, std::span<const float> g, std::int64_t row)
      : numbers(g.size()),
        scales(static_cast<std::size_t>(place.rows() * blocks)),
        codes(g.size()) {
    for_drawn_blocks(place, row, [&](auto block, auto first, auto size, const auto& bits) {
      const auto stored = std::span(codes).subspan(first, size);
      scales[block] = encode_int8(g.subspan(first, size), bits, stored);
      decode_int8(stored, scales[block], std::span(numbers).subspan(first, size));
    });
  }
};

// In place, or with what is stored beside it, from which the same numbers come back.
void round_to_int8(Beyond& beyond, bool stores) {
  Reserved r;
  RoundGradient op{.g = r.add({{D, all_rows}, {F, columns}}),
                   .control = r.add({{S, Control::slots}}, DType::f64),
                   .format = GradientFormat::int8,
                   .seed = seed,
                   .stream = stream};
  if (stores) op.codes = r.add({{D, all_rows}, {F, columns}}, DType::u8);
  if (stores) op.scales = r.add({{S, all_rows * blocks}});
  r.at<double>(op.control)[Control::step] = static_cast<double>(step);
  for (const Place& place : places()) {
    SCOPED_TRACE(place.first);
    const std::int64_t begin = place.first * columns, count = place.rows() * columns;
    const auto g = numbers<float>(r, op.g, begin, count);
    fill(g.data(), count, place.first);
    const Rounded expected(place, g, place.first), moved(place, g, place.first + 1);
    beyond.run(r, op, place.tiles());
    EXPECT_TRUE(same(g.data(), expected.numbers.data(), count));
    EXPECT_FALSE(same(g.data(), moved.numbers.data(), count)) << "draws of the next row";
    if (!stores) continue;
    const auto* codes = reinterpret_cast<const std::int8_t*>(r.at<std::uint8_t>(op.codes, begin));
    const float* scales = r.at<float>(op.scales, place.first * blocks);
    EXPECT_TRUE(same(codes, expected.codes.data(), count));
    EXPECT_TRUE(same(scales, expected.scales.data(), place.rows() * blocks));
    EXPECT_FALSE(same(codes, moved.codes.data(), count));
    std::fill(g.begin(), g.end(), 1.0f);
    beyond.run(r, RestoreGradient{.codes = op.codes, .scales = op.scales, .g = op.g},
               place.tiles());
    EXPECT_TRUE(same(g.data(), expected.numbers.data(), count));
  }
}

// The compact form of one tensor.
struct Compact : Reserved {
  AdamW op{};
  explicit Compact(std::int64_t rows) {
    const Shape shape{{D, rows}, {F, columns}}, scales{{S, rows * blocks}};
    op = {.w = add(shape, DType::bf16),
          .g = add(shape),
          .m = add(shape, DType::u8),
          .v = add(shape, DType::u8),
          .m_scale = add(scales),
          .v_scale = add(scales),
          .pending = add({{S, Pending::slots}}, DType::f64),
          .part = {},
          .seed = seed,
          .stream = stream};
    set_pending(*this, op.pending);
  }
  static void set_pending(const Reserved& r, Id id) {
    const auto pending = r.at<double>(id);
    pending[Pending::lr] = 0.01;
    pending[Pending::step] = static_cast<double>(step);
    pending[Pending::scale] = pending[Pending::apply] = 1;
  }
  void fill_rows(const Place& place) const {
    const std::int64_t begin = place.first * columns, count = place.rows() * columns;
    fill(at<bf16>(op.w, begin), count, place.first);
    fill(at<float>(op.g, begin), count, place.first + 1);
    for (std::int64_t i = 0; i < count; ++i) {
      *at<std::uint8_t>(op.m, begin + i) = static_cast<std::uint8_t>((i * 31 + place.first) % 120);
      *at<std::uint8_t>(op.v, begin + i) = static_cast<std::uint8_t>((i * 17 + place.first) % 250);
    }
    for (std::int64_t i = place.first * blocks; i < place.last * blocks; ++i) {
      *at<float>(op.m_scale, i) = 0.001f * static_cast<float>(1 + i % 7);
      *at<float>(op.v_scale, i) = 1e-5f * static_cast<float>(1 + i % 5);
    }
  }
};

// w, m and v of a place after the float32 update whose division uses v.
struct Updated {
  std::vector<float> w, m, v;
  Updated(Beyond& beyond, const Compact& now, const Place& place, std::span<const float> means,
          std::span<const float> squares) {
    const std::int64_t count = place.rows() * columns;
    Reserved r;
    AdamW op{.w = r.add(place.shape()),
             .g = r.add(place.shape()),
             .m = r.add(place.shape()),
             .v = r.add(place.shape()),
             .pending = r.add({{S, Pending::slots}}, DType::f64),
             .part = {}};
    Compact::set_pending(r, op.pending);
    for (std::int64_t i = 0; i < count; ++i) {
      *r.at<float>(op.w, i) =
          static_cast<float>(*now.at<bf16>(now.op.w, place.first * columns + i));
      *r.at<float>(op.g, i) = *now.at<float>(now.op.g, place.first * columns + i);
    }
    std::copy(means.begin(), means.end(), r.at<float>(op.m));
    std::copy(squares.begin(), squares.end(), r.at<float>(op.v));
    beyond.run(r, op);
    const auto copy = [&](Id id) {
      return std::vector<float>(r.at<float>(id), r.at<float>(id, count));
    };
    w = copy(op.w), m = copy(op.m), v = copy(op.v);
  }
};

// What must be stored in a place whose first row's draws are those of `row`.
struct Coded {
  std::vector<bf16> w;
  std::vector<std::uint8_t> m, v;
  std::vector<float> m_scale, v_scale;

  Coded(const Place& place, const Updated& kept, const Updated& read, std::int64_t row)
      : w(kept.w.size()),
        m(kept.w.size()),
        v(kept.w.size()),
        m_scale(static_cast<std::size_t>(place.rows() * blocks)),
        v_scale(m_scale.size()) {
    encode_m(place.shape(), read.m, m, m_scale);
    for_drawn_blocks(place, row, [&](auto block, auto first, auto size, const auto& bits) {
      for (std::size_t i = 0; i < size; ++i)
        w[first + i] = round_at_random(read.w[first + i], bits[i]);
      v_scale[block] =
          encode_v(std::span(kept.v).subspan(first, size), bits, std::span(v).subspan(first, size));
    });
  }
};

void compact_adamw(Beyond& beyond) {
  Compact large(all_rows);
  const AdamW& op = large.op;
  for (const Place& place : places()) {
    SCOPED_TRACE(place.first);
    large.fill_rows(place);
    const std::int64_t begin = place.first * columns, count = place.rows() * columns;
    const std::int64_t block = place.first * blocks, scales = place.rows() * blocks;
    const auto size = static_cast<std::size_t>(count);
    std::vector<float> means(size), kept(size), read(size);
    const auto codes = numbers<std::uint8_t>(large, op.v, begin, count);
    const auto v_scales = numbers<float>(large, op.v_scale, block, scales);
    decode_m(place.shape(), numbers<std::uint8_t>(large, op.m, begin, count),
             numbers<float>(large, op.m_scale, block, scales), means);
    decode_v(place.shape(), codes, v_scales, kept);
    for_drawn_blocks(place, 0, [&](auto one, auto first, auto of_block, const auto&) {
      read_v(codes.subspan(first, of_block), v_scales[one],
             std::span(read).subspan(first, of_block));
    });
    const Updated from_kept(beyond, large, place, means, kept);
    const Updated from_read(beyond, large, place, means, read);
    const Coded expected(place, from_kept, from_read, place.first);
    const Coded moved(place, from_kept, from_read, place.first + 1);
    beyond.run(large, op, place.tiles());
    EXPECT_TRUE(same(large.at<bf16>(op.w, begin), expected.w.data(), count));
    EXPECT_TRUE(same(large.at<std::uint8_t>(op.m, begin), expected.m.data(), count));
    EXPECT_TRUE(same(large.at<std::uint8_t>(op.v, begin), expected.v.data(), count));
    EXPECT_TRUE(same(large.at<float>(op.m_scale, block), expected.m_scale.data(), scales));
    EXPECT_TRUE(same(large.at<float>(op.v_scale, block), expected.v_scale.data(), scales));
    EXPECT_FALSE(same(large.at<bf16>(op.w, begin), moved.w.data(), count)) << "other draws";
    EXPECT_FALSE(same(large.at<std::uint8_t>(op.v, begin), moved.v.data(), count));
  }
}

// As many norms: their root is five, and the first that is not finite lies beyond the border.
void end_of_a_step(Beyond& beyond) {
  Reserved r;
  constexpr std::int64_t count = border + 100;
  const FinishStep op{.stats = r.add({{S, 2}}, DType::f64),
                      .norms = r.add({{S, count}}, DType::f64),
                      .control = r.add({{S, Control::slots}}, DType::f64),
                      .pending = r.add({{S, Pending::slots}}, DType::f64),
                      .results = r.add({{S, 2 * Results::slots}}, DType::f64)};
  r.at<double>(op.stats)[1] = 1;
  double* const norms = r.at<double>(op.norms);
  norms[0] = norms[border - 1] = norms[border] = 3;
  norms[count - 1] = 16;
  beyond.run(r, op);
  const double* const results = r.at<double>(op.results);
  EXPECT_EQ(results[Results::grad_norm], 5);
  EXPECT_EQ(results[Results::bad], -1);
  norms[border + 1] = std::numeric_limits<double>::infinity();
  beyond.run(r, op);
  EXPECT_EQ(results[Results::bad], static_cast<double>(border + 1));
  EXPECT_EQ(r.at<double>(op.pending)[Pending::apply], 0);
}

}  // namespace

std::vector<BeyondCase> state_beyond_cases() {
  return {{"round_gradient_int8",
           {"round_gradient int8"},
           [](Beyond& beyond) { round_to_int8(beyond, false); },
           true},
          {"round_gradient_int8_codes",
           {"round_gradient u8 int8", "restore_gradient u8"},
           [](Beyond& beyond) { round_to_int8(beyond, true); },
           true},
          {"adamw_compact", {"adamw", "adamw bf16 u8"}, compact_adamw, true},
          {"finish_step", {"finish_step"}, end_of_a_step}};
}

}  // namespace sluice
