// Linear maps and packed weights with more than 2^31 elements on one side. What lies at the start,
// across element 2^31 and at the end is held against the same numbers in a small product.
#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/beyond.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab, F = Axis::hidden;

// Products whose left side has 2^31 numbers and more: all rows are zero but for four.
template <class Number>
void tall_products(Beyond& beyond) {
  constexpr std::int64_t wide = 1024, count = border / wide + 3;
  const std::int64_t places[] = {0, border / wide - 1, border / wide, count - 1};
  const DType type = dtype_of<Number>();
  Reserved large, small;
  Id ids[8] = {};
  for (Reserved* r : {&large, &small}) {
    const std::int64_t time = r == &large ? count : 4;
    ids[0] = r->add({{B, 1}, {T, time}, {D, wide}}, type);  // x of width 1024, or dy
    ids[1] = r->add({{B, 1}, {T, time}, {F, 1}}, type);
    ids[2] = r->add({{D, wide}, {F, 1}}, type);  // w [in out], or [out in] the other way
    ids[3] = r->add({{D, wide}, {F, 1}});
    ids[4] = r->add({{B, 1}, {T, time}, {F, 1}}, type);
    ids[5] = r->add({{F, 1}});
    ids[6] = r->add({{F, 1}, {D, wide}});
    ids[7] = r->add({{D, wide}});
    fill(r->at<Number>(ids[2]), wide, 1);
    for (int i = 0; i < 4; ++i)
      fill(r->at<Number>(ids[0], (r == &large ? places[i] : i) * wide), wide, i + 2);
    beyond.run(*r, Linear{.x = ids[0], .w = ids[2], .bias = no_value, .y = ids[1]});
    beyond.run(*r, LinearGradInput{.dy = ids[0], .w = ids[2], .dx = ids[4], .out_in = true});
    beyond.run(*r, LinearGradWeight{.x = ids[0], .dy = ids[1], .dw = ids[3], .dbias = ids[5]});
    beyond.run(*r, LinearGradWeight{.x = ids[1], .dy = ids[0], .dw = ids[6], .dbias = ids[7]});
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(same(large.at<Number>(ids[1], places[i]), small.at<Number>(ids[1], i), 1));
    EXPECT_TRUE(same(large.at<Number>(ids[4], places[i]), small.at<Number>(ids[4], i), 1));
    EXPECT_FALSE(
        same(large.at<Number>(ids[1], places[i]), small.at<Number>(ids[1], (i + 1) % 4), 1));
  }
  // The sums over tokens have the same terms, in blocks cut elsewhere.
  for (const Id id : {ids[3], ids[5], ids[6], ids[7]})
    for (std::int64_t i = 0; i < small[id].count(); ++i)
      ASSERT_NEAR(*large.at<float>(id, i), *small.at<float>(id, i), 1e-5) << id;
  EXPECT_GT(std::abs(*large.at<float>(ids[7]) - *small.at<float>(ids[7], 1)), 1e-3);
}

// Some rows of a product; `beside` them is one that is not to be written.
struct Rows {
  std::int64_t first, last;
  std::int64_t count() const { return last - first; }
  std::int64_t beside() const { return first == 0 ? last : first - 1; }
};
constexpr std::int64_t wide_row = 1000;  // does not divide 2^31: a row lies across it
constexpr std::int64_t many_rows = border / wide_row + 6;
constexpr Rows product_rows[] = {
    {0, 3}, {border / wide_row - 1, border / wide_row + 2}, {many_rows - 2, many_rows}};

// Only `rows` of the large matrix were made, and they are the rows of the small one.
template <class Number>
void expect_rows(const Reserved& large, const Reserved& small, Id id, const Rows& rows) {
  SCOPED_TRACE(fmt::format("value {} row {}", id, rows.first));
  const Number* const made = large.at<Number>(id, rows.first * wide_row);
  EXPECT_TRUE(same(made, small.at<Number>(id), rows.count() * wide_row));
  EXPECT_FALSE(same(made, small.at<Number>(id, wide_row), wide_row));
  const Number* const beside = large.at<Number>(id, rows.beside() * wide_row);
  EXPECT_TRUE(
      std::all_of(beside, beside + wide_row, [](Number x) { return static_cast<float>(x) == 0; }));
}

// Products of many rows, forward and backward, alone and with their GELU.
template <class Number>
void products_of_many_rows(Beyond& beyond) {
  constexpr std::int64_t narrow = 8;
  constexpr Id x = 0, w = 1, bias = 2, y = 3, dx = 4, h = 5, gelu = 6, dh = 7;
  const DType type = dtype_of<Number>();
  for (const bool out_in : {false, true}) {
    const auto make = [&](Reserved& r, std::int64_t time) {
      r.add({{B, 1}, {T, time}, {D, narrow}}, type);
      r.add(out_in ? Shape{{F, wide_row}, {D, narrow}} : Shape{{D, narrow}, {F, wide_row}}, type);
      r.add({{F, wide_row}});
      for (int i = 0; i < 5; ++i) r.add({{B, 1}, {T, time}, {F, wide_row}}, type);
      fill(r.at<Number>(w), narrow * wide_row, 1);
      fill(r.at<float>(bias), wide_row, 2);
    };
    const std::vector<Op> ops = {
        Linear{.x = x, .w = w, .bias = bias, .y = y, .out_in = out_in},
        LinearGradInput{.dy = x, .w = w, .dx = dx, .out_in = !out_in},
        LinearGelu{.x = x, .w = w, .bias = bias, .h = h, .y = gelu, .out_in = out_in},
        LinearGeluGrad{.dy = x, .w = w, .h = h, .dh = dh, .out_in = !out_in}};
    Reserved large;
    make(large, many_rows);
    for (const Rows& rows : product_rows) {
      Reserved small;
      make(small, rows.count());
      fill(large.at<Number>(x, rows.first * narrow), rows.count() * narrow, rows.first);
      fill(small.at<Number>(x), rows.count() * narrow, rows.first);
      for (const Op& op : ops) {
        beyond.run(large, op, {rows.first, rows.last});
        beyond.run(small, op);
      }
      for (const Id made : {y, dx, h, gelu, dh}) expect_rows<Number>(large, small, made, rows);
    }
  }
}

template <class Number>
void gradients_of_enormous_weights(Beyond& beyond) {
  constexpr std::int64_t time = 5;
  constexpr Id left = 0, right = 1, dw = 2;
  const DType type = dtype_of<Number>();
  for (const bool out_in : {false, true}) {
    const auto make = [&](Reserved& r, std::int64_t rows) {
      r.add({{B, 1}, {T, time}, {D, rows}}, type);
      r.add({{B, 1}, {T, time}, {F, wide_row}}, type);
      r.add({{D, rows}, {F, wide_row}});
      fill(r.at<Number>(right), time * wide_row, 1);
    };
    LinearGradWeight op{.x = left, .dy = right, .dw = dw, .dbias = no_value, .out_in = out_in};
    if (out_in) std::swap(op.x, op.dy);
    Reserved large;
    make(large, many_rows);
    for (const Rows& rows : product_rows) {
      Reserved small;
      make(small, rows.count());
      for (std::int64_t t = 0; t < time; ++t) {
        fill(large.at<Number>(left, t * many_rows + rows.first), rows.count(), rows.first + t);
        fill(small.at<Number>(left, t * rows.count()), rows.count(), rows.first + t);
      }
      for (const bool first : {true, false}) {
        beyond.run(large, op, {rows.first, rows.last}, first);
        beyond.run(small, op, {}, first);
      }
      expect_rows<float>(large, small, dw, rows);
    }
  }
}

// A tile of Pack, and where its numbers lie in panels of 16 columns.
constexpr std::int64_t pack_columns = 128;
template <class Number>
constexpr std::int64_t pack_rows = std::is_same_v<Number, bf16> ? 512 : 256;
template <class Number>
std::int64_t panel(std::int64_t k) {
  return 16 * (std::is_same_v<Number, bf16> ? k + k % 2 : k);
}

// Tiles at the start, where weight and packed weight pass 2^31, at the end.
template <class Number>
void packed_weights(Beyond& beyond) {
  constexpr std::int64_t k = 70'000, n = 31'000, rows = pack_rows<Number>, columns = pack_columns;
  constexpr std::int64_t blocks = (k + rows - 1) / rows, strips = (n + columns - 1) / columns;
  constexpr std::int64_t across = border / k / columns * blocks + border / n / rows;
  const DType type = dtype_of<Number>();
  for (const bool transposed : {false, true})
    for (const std::int64_t tile : {std::int64_t{0}, across, strips * blocks - 1}) {
      const std::int64_t row = tile % blocks * rows, column = tile / blocks * columns;
      const std::int64_t height = std::min(rows, k - row), width = std::min(columns, n - column);
      const auto pack = [&](Reserved& m, std::int64_t kk, std::int64_t nn, std::int64_t r0,
                            std::int64_t c0, Tiles tiles) {
        const Id w = m.add(transposed ? Shape{{V, nn}, {D, kk}} : Shape{{D, kk}, {F, nn}}, type);
        const Id packed = m.add({{Axis::bytes, packed_count(kk, nn, type)}}, type);
        for (std::int64_t r = 0; r < height; ++r)
          for (std::int64_t c = 0; c < width; ++c)
            *m.at<Number>(w, transposed ? (c0 + c) * kk + r0 + r : (r0 + r) * nn + c0 + c) =
                Number(static_cast<float>((r * columns + c) % 251 + 1));
        beyond.run(m, Pack{w, packed, kk, nn, transposed}, tiles);
        return m.at<Number>(packed);
      };
      Reserved large, small;
      const Number* whole = pack(large, k, n, row, column, {tile, tile + 1});
      const Number* alone = pack(small, height, width, 0, 0, {});
      for (std::int64_t p = 0; p < (width + 15) / 16; ++p) {
        const Number* made = whole + (column / 16 + p) * panel<Number>(k) + row * 16;
        EXPECT_TRUE(same(made, alone + p * panel<Number>(height), height * 16)) << tile;
        EXPECT_FALSE(same(made + 1, alone + p * panel<Number>(height), height * 16 - 1));
      }
    }
}

// A product with a packed weight of more than 2^31 elements, all zero but for four tiles: every
// column is the sum of what was packed of it.
template <class Number>
void products_with_packed_weights(Beyond& beyond) {
  constexpr std::int64_t k = 1 << 15, n = (std::int64_t{1} << 16) + 40;
  constexpr std::int64_t rows = pack_rows<Number>, columns = pack_columns, blocks = k / rows;
  constexpr std::int64_t places[] = {0, border / k / columns * blocks - 1,
                                     border / k / columns * blocks,
                                     (n + columns - 1) / columns * blocks - 1};
  if (beyond.cpu.isa() == Isa::portable) return;  // minutes
  const DType type = dtype_of<Number>();
  Reserved r;
  const Id x = r.add({{B, 1}, {T, 1}, {D, k}}, type), w = r.add({{D, k}, {F, n}}, type);
  const Id packed = r.add({{Axis::bytes, packed_count(k, n, type)}}, type);
  const Id y = r.add({{B, 1}, {T, 1}, {F, n}});
  std::vector<float> expected(static_cast<std::size_t>(n), 0.0f);
  std::fill_n(r.at<Number>(x), k, Number(1.0f));
  for (const std::int64_t tile : places) {
    const std::int64_t row = tile % blocks * rows, column = tile / blocks * columns;
    for (std::int64_t i = row; i < row + rows; ++i)
      for (std::int64_t j = column; j < std::min(n, column + columns); ++j) {
        const auto number = static_cast<float>((i * 5 + j) % 7 + j % 3);  // all sums are exact
        *r.at<Number>(w, i * n + j) = Number(number);
        expected[static_cast<std::size_t>(j)] += number;
      }
    beyond.run(r, Pack{w, packed, k, n, false}, {tile, tile + 1});
  }
  beyond.run(r, Linear{.x = x, .w = w, .bias = no_value, .y = y, .packed = packed});
  EXPECT_TRUE(same(r.at<float>(y), expected.data(), n));
  EXPECT_FALSE(same(r.at<float>(y) + 1, expected.data(), n - 1));
}

}  // namespace

std::vector<BeyondCase> product_beyond_cases() {
  std::vector<BeyondCase> all;
  add_both(&all, "tall_products", {"linear", "linear_grad_input", "linear_grad_weight"},
           []<class Number>(Beyond& b) { tall_products<Number>(b); });
  add_both(
      &all, "products_of_many_rows",
      {"linear", "linear_grad_input", "linear_gelu", "linear_gelu_grad"},
      []<class Number>(Beyond& b) { products_of_many_rows<Number>(b); }, true);
  add_both(
      &all, "gradients_of_enormous_weights", {"linear_grad_weight"},
      []<class Number>(Beyond& b) { gradients_of_enormous_weights<Number>(b); }, true);
  add_both(&all, "packed_weights", {"pack"},
           []<class Number>(Beyond& b) { packed_weights<Number>(b); });
  add_both(
      &all, "products_with_packed_weights", {"pack", "linear"},
      []<class Number>(Beyond& b) { products_with_packed_weights<Number>(b); }, true);
  return all;
}

}  // namespace sluice
