// Ops that go element by element or row by row, beyond 2^31 elements: an op runs on some tiles of a
// large tensor, and the same op on small tensors with the same numbers in them.
#include <optional>

#include "backend/cpu/ops/beyond.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model;

// The number at element i of operand `id`: any function that repeats nowhere near a power of two.
float number_at(Id id, std::int64_t i) {
  return 0.25f + static_cast<float>((i * 7 + id * 13) % 1009) / 1009.0f;
}

// One operand of the op under test: per element of the large tensor, per row of it, or of a fixed
// size (the same in both worlds).
enum class Per { element, row, whole };
struct Operand {
  Per per;
  bool written = false;
  DType dtype = DType::f32;
  std::int64_t count = 0;  // of Per::whole
};

struct Case {
  std::string label;
  Op op;
  std::vector<Operand> operands;  // by id
  std::int64_t columns;           // of a row
  std::int64_t tile;              // elements, whole rows
  std::int64_t tiles = 1;         // of the op, in one `tile`
  Id control = no_value;          // whose first_row says where the small tensor begins
};

Shape shape_of(const Operand& operand, std::int64_t rows, std::int64_t columns) {
  if (operand.per == Per::whole) return {{D, operand.count}};
  if (operand.per == Per::row) return {{B, rows}, {T, 1}};
  return {{B, rows}, {T, 1}, {D, columns}};
}

// All operands of a case at some number of rows.
struct World : Reserved {
  World(const Case& one, std::int64_t rows) {
    for (const Operand& operand : one.operands)
      add(shape_of(operand, rows, one.columns), operand.dtype);
  }
  void set(Id id, DType dtype, std::int64_t k, std::int64_t number) const {
    const float x = number_at(id, number);
    if (dtype == DType::f64) *at<double>(id, k) = static_cast<double>(k + 1);
    if (dtype == DType::f32) *at<float>(id, k) = x;
    if (dtype == DType::bf16) *at<bf16>(id, k) = bf16(x);
    if (dtype == DType::i16) *at<std::int16_t>(id, k) = static_cast<std::int16_t>(number * 37);
  }
  // Numbers for the rows [first, last) as if they were the rows from `as` of the large tensor.
  void fill(const Case& one, std::int64_t first, std::int64_t last, std::int64_t as) const {
    for (std::size_t i = 0; i < one.operands.size(); ++i) {
      const Operand& operand = one.operands[i];
      const std::int64_t width = operand.per == Per::element ? one.columns : 1;
      const std::int64_t begin = operand.per == Per::whole ? 0 : first * width;
      const std::int64_t end = operand.per == Per::whole ? operand.count : last * width;
      const std::int64_t shift = operand.per == Per::whole ? 0 : (as - first) * width;
      for (std::int64_t k = begin; k < end; ++k)
        set(static_cast<Id>(i), operand.dtype, k, k + shift);
    }
    if (one.control != no_value)
      at<double>(one.control)[Control::first_row] = static_cast<double>(as - first);
  }
};

// Rows of the large tensor; its last tile is an odd one.
std::int64_t large_rows(const Case& one) {
  return border / one.columns + 3 * one.tile / one.columns + 4;
}

// The tiles of the large tensor that matter.
std::vector<std::int64_t> places(const Case& one) {
  const std::int64_t tiles = (large_rows(one) * one.columns + one.tile - 1) / one.tile;
  return {0, border / one.tile - 1, border / one.tile, tiles - 1};
}

// One tile of the large tensor, and a small world of nothing else: its rows, its numbers.
struct Twin {
  std::int64_t first, last;  // rows of the large tensor
  World small;

  // The op runs in both.
  Twin(Beyond& beyond, const Case& one, World& large, std::int64_t tile)
      : first(tile * one.tile / one.columns),
        last(std::min(large_rows(one), first + one.tile / one.columns)),
        small(one, last - first) {
    large.fill(one, first, last, first);
    small.fill(one, 0, last - first, first);
    beyond.run(large, one.op, {tile * one.tiles, (tile + 1) * one.tiles});
    beyond.run(small, one.op);
  }
};

bool same_bytes(const Tensor& large, std::int64_t at, const Tensor& small, std::int64_t count) {
  const std::int64_t size = size_of(large.dtype());
  return std::memcmp(static_cast<const std::byte*>(large.raw()) + at * size, small.raw(),
                     static_cast<std::size_t>(count * size)) == 0;
}

void check_tiles(Beyond& beyond, const Case& one) {
  World large(one, large_rows(one));
  for (const std::int64_t tile : places(one)) {
    const Twin twin(beyond, one, large, tile);
    const auto& [first, last, small] = twin;
    for (std::size_t i = 0; i < one.operands.size(); ++i) {
      const Operand& operand = one.operands[i];
      const auto id = static_cast<Id>(i);
      if (!operand.written || operand.per == Per::whole) continue;
      const std::int64_t width = operand.per == Per::element ? one.columns : 1;
      const std::int64_t count = (last - first) * width;
      EXPECT_TRUE(same_bytes(large[id], first * width, small[id], count))
          << "operand " << i << ", tile " << tile;
      // The comparison reads what it should: one row further it fails.
      EXPECT_FALSE(same_bytes(large[id], (first + 1) * width, small[id], width));
    }
  }
}

// An op that sums over the tensor: with one chunk of numbers near an edge, everything else zero,
// the sum is that chunk's. Chunks that were not run are zero in the untouched workspace.
void check_sums(Beyond& beyond, const Case& one) {
  for (const std::int64_t tile : places(one)) {
    World large(one, large_rows(one));
    Twin twin(beyond, one, large, tile);
    World& small = twin.small;
    for (std::size_t i = 0; i < one.operands.size(); ++i) {
      const auto id = static_cast<Id>(i);
      if (!one.operands[i].written) continue;
      EXPECT_TRUE(same_bytes(large[id], 0, small[id], one.operands[i].count)) << tile;
    }
    small.fill(one, 0, 1, 12345);  // the control: one row of other numbers
    beyond.run(small, one.op);
    const auto last = static_cast<Id>(one.operands.size() - 1);
    EXPECT_FALSE(same_bytes(large[last], 0, small[last], one.operands.back().count));
  }
}

constexpr std::int64_t n = 640;  // does not divide 2^31: tiles lie across it
constexpr Operand in{Per::element}, out{Per::element, true};
constexpr Operand pending{Per::whole, false, DType::f64, Pending::slots};
constexpr Operand control{Per::whole, false, DType::f64, Control::slots};

// Elements of activations of one type.
std::vector<Case> stream_cases(DType type) {
  const Operand from{Per::element, false, type}, to{Per::element, true, type};
  const DropoutKey key{.rate = 0.3f, .seed = 3, .stream = 5};
  std::vector<Case> cases = {
      {"add", Add{.a = 0, .b = 1, .y = 2, .scale_b = 0.3f}, {from, from, to}, 64, element_tile},
      {"scale", Scale{.x = 0, .y = 1, .factor = 0.3f}, {from, to}, 64, element_tile},
      {"dropout",
       Dropout{.x = 0, .y = 2, .control = 1, .key = key},
       {from, control, to},
       64,
       element_tile,
       1,
       1}};
  for (const GeluForm form : {GeluForm::exact, GeluForm::tanh}) {
    const std::string suffix = form == GeluForm::exact ? "_exact" : "_tanh";
    const Gelu gelu{.x = 0, .y = 1, .form = form};
    const GeluGrad grad{.x = 0, .dy = 1, .dx = 2, .form = form};
    cases.push_back({"gelu" + suffix, gelu, {from, to}, 64, element_tile});
    cases.push_back({"gelu_grad" + suffix, grad, {from, from, to}, 64, element_tile});
  }
  return cases;
}

// Rows of activations of one type.
std::vector<Case> norm_cases(DType type) {
  const Operand from{Per::element, false, type}, to{Per::element, true, type};
  constexpr Operand per_row{Per::row}, row_out{Per::row, true};
  const Operand whole{Per::whole, false, DType::f32, n};
  constexpr std::int64_t tile = row_tile(n) * n;
  return {
      {"layer_norm",
       LayerNorm{.x = 0, .gain = 1, .bias = 2, .y = 3, .mean = 4, .rstd = 5},
       {from, whole, whole, to, row_out, row_out},
       n,
       tile},
      {"residual_norm",
       ResidualNorm{.a = 0, .b = 1, .sum = 2, .gain = 3, .bias = 4, .y = 5, .mean = 6, .rstd = 7},
       {from, from, to, whole, whole, to, row_out, row_out},
       n,
       tile},
      {"layer_norm_grad_input",
       LayerNormGradInput{.x = 0, .gain = 1, .mean = 2, .rstd = 3, .dy = 4, .dx = 5},
       {from, whole, per_row, per_row, from, to},
       n,
       tile},
  };
}

// Weights, their state and gradients, and casts: types of their own.
std::vector<Case> weight_cases() {
  constexpr Operand half{Per::element, false, DType::bf16},
      half_out{Per::element, true, DType::bf16};
  constexpr Operand low{Per::element, false, DType::i16}, low_out{Per::element, true, DType::i16};
  constexpr Operand wide{Per::element, true, DType::f64};
  const AdamW plain{.w = 0, .g = 1, .m = 2, .v = 3, .pending = 4, .part = {}};
  const AdamW exact{.w = 0, .low = 1, .g = 2, .m = 3, .v = 4, .pending = 5, .part = {}};
  AdamW parts = plain;  // three parts, 64 numbers each in turn
  parts.parts = 3;
  parts.parts_inner = 64;
  for (int i = 0; i < 3; ++i) parts.part[i].lr = 1.0f + static_cast<float>(i);
  const RoundGradient round{.g = 0, .control = 1, .format = GradientFormat::bf16};
  return {
      {"add_into", AddInto{.x = 0, .y = 1}, {in, out}, 64, element_tile},
      {"cast_down", Cast{.x = 0, .y = 1}, {in, half_out}, 64, element_tile},
      {"cast_up", Cast{.x = 0, .y = 1}, {half, out}, 64, element_tile},
      {"cast_f64", Cast{.x = 0, .y = 1}, {in, wide}, 64, element_tile},
      {"adamw", plain, {out, in, out, out, pending}, 64, element_tile},
      {"adamw_parts", parts, {out, in, out, out, pending}, 64, 3 * element_tile, 3},
      {"adamw_exact", exact, {half_out, low_out, in, out, out, pending}, 64, element_tile},
      {"ema", Ema{.w = 0, .average = 1, .pending = 2}, {in, out, pending}, 64, element_tile},
      {"ema_bf16", Ema{.w = 0, .average = 1, .pending = 2}, {half, out, pending}, 64, element_tile},
      {"ema_exact",
       Ema{.w = 0, .low = 1, .average = 2, .pending = 3},
       {half, low, out, pending},
       64,
       element_tile},
      {"round_gradient_bf16", round, {out, control}, 64, element_tile},
  };
}

Case squared_norm() {
  const Operand norms{Per::whole, true, DType::f64, 3};
  return {"squared_norm", SquaredNorm{.x = 0, .norms = 1, .index = 1}, {in, norms}, 64, norm_chunk};
}

Case norm_weights(DType type) {
  const Operand from{Per::element, false, type}, whole{Per::whole, true, DType::f32, n};
  return {"layer_norm_grad_weight",
          LayerNormGradWeight{.x = 0, .mean = 1, .rstd = 2, .dy = 3, .dgain = 4, .dbias = 5},
          {from, {Per::row}, {Per::row}, from, whole, whole},
          n,
          token_chunk * n};
}

}  // namespace

std::vector<BeyondCase> row_beyond_cases() {
  std::vector<BeyondCase> all;
  const auto add = [&](Case one, auto check, const std::string& suffix = "") {
    std::vector<ValueType> types;
    for (const Operand& operand : one.operands) types.push_back({operand.dtype, {}});
    all.push_back({.label = one.label + suffix,
                   .forms = {form_of(one.op, types)},
                   .body = [=](Beyond& beyond) { check(beyond, one); },
                   .every_isa = true});
  };
  for (const DType type : {DType::f32, DType::bf16}) {
    const std::string suffix = type == DType::bf16 ? "_bf16" : "";
    for (const Case& one : stream_cases(type)) add(one, check_tiles, suffix);
    for (const Case& one : norm_cases(type)) add(one, check_tiles, suffix);
    add(norm_weights(type), check_sums, suffix);
  }
  for (const Case& one : weight_cases()) add(one, check_tiles);
  add(squared_norm(), check_sums);
  return all;
}

}  // namespace sluice
