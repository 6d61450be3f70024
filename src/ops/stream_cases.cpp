// Cases of the ops that walk over activations once, each in float32 and in bf16.
#include "ops/op_cases.h"

namespace sluice {

namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, N = Axis::heads, H = Axis::head,
               F = Axis::hidden, V = Axis::vocab, S = Axis::scalar;

std::string in_type(const std::string& label, DType type) {
  return type == DType::f32 ? label : fmt::format("{}, {}", label, name_of(type));
}

void embed_cases(Cases& cases, DType type) {
  for (const bool first : {true, false}) {
    RandomFrame f(1);
    const Id ids = f.integers({{B, 2}, {T, 77}}, 0, 40);  // rows repeat, some are never named
    const Id dy = f.random({{B, 2}, {T, 77}, {D, 83}}, 1, 0, type);
    const Id dtable = f.accumulator({{V, 50}, {D, 83}}, first);
    add(cases, in_type(first ? "repeated rows" : "repeated rows, second micro-batch", type),
        EmbedGrad{.ids = ids, .dy = dy, .dtable = dtable}, f, first);
  }
  RandomFrame f(2);
  const Id ids = f.integers({{B, 2}, {T, 77}}, 0, 1002);
  const Id table = f.random({{V, 1024}, {D, 80}}, 1, 0, type);
  const Id y = f.poisoned({{B, 2}, {T, 77}, {D, 80}}, type);
  add(cases, in_type("1003 of 1024 rows", type), Embed{.ids = ids, .table = table, .y = y}, f);
}

const Shape elementwise_shapes[] = {
    {{B, 2}, {T, 77}, {D, 80}}, {{B, 1}, {T, 1}, {D, 3}}, {{B, 1}, {T, 2}, {D, 40001}}};

void elementwise_cases(Cases& cases, DType type) {
  for (const Shape& shape : elementwise_shapes)
    for (const float scale : {1.0f, -0.3f}) {
      RandomFrame f(3);
      const Id a = f.random(shape, 1, 0, type);
      const Id b = f.random(shape, 1, 0, type);
      const Id y = f.poisoned(shape, type);
      const std::string label = in_type(fmt::format("{}, factor {}", shape.text(), scale), type);
      add(cases, label, Add{.a = a, .b = b, .y = y, .scale_b = scale}, f);
      add(cases, label, Scale{.x = a, .y = y, .factor = scale}, f);
    }
}

void accumulate_and_cast_cases(Cases& cases) {
  for (const Shape& shape : elementwise_shapes) {
    RandomFrame f(4);
    const Id x = f.random(shape);
    const Id y = f.random(shape);
    add(cases, shape.text(), AddInto{.x = x, .y = y}, f);
    for (const DType from : {DType::f32, DType::bf16, DType::f64})
      for (const DType to : {DType::f32, DType::bf16, DType::f64}) {
        RandomFrame g(4);
        const Id in = g.random(shape, 1, 0, from);
        const Id out = g.poisoned(shape, to);
        add(cases, fmt::format("{} to {} {}", name_of(from), name_of(to), shape.text()),
            Cast{.x = in, .y = out}, g);
      }
  }
}

void gelu_cases(Cases& cases, DType type) {
  for (const GeluForm form : {GeluForm::exact, GeluForm::tanh})
    for (const std::int64_t width : {320, 37}) {
      RandomFrame f(5);
      const Shape shape{{B, 2}, {T, 77}, {F, width}};
      const Id x = f.random(shape, 4, 0, type);  // both tails
      const Id dy = f.random(shape, 1, 0, type);
      const Id out = f.poisoned(shape, type);
      const std::string label =
          in_type(fmt::format("{}, {}", form == GeluForm::exact ? "exact" : "tanh", width), type);
      add(cases, label, Gelu{.x = x, .y = out, .form = form}, f);
      add(cases, label, GeluGrad{.x = x, .dy = dy, .dx = out, .form = form}, f);
    }
}

struct NormCase {
  std::int64_t width;
  bool with_bias;
  DType type;
};

// What the forward op of a case reads and writes.
LayerNorm norm_of(RandomFrame& f, const NormCase& c) {
  const Shape shape{{B, 2}, {T, 77}, {D, c.width}};
  const Shape row{{D, c.width}};
  const Shape per_token{{B, 2}, {T, 77}};
  LayerNorm norm{};
  norm.x = f.random(shape, 1, 3, c.type);
  norm.gain = f.random(row, 0.3, 1);
  norm.bias = c.with_bias ? f.random(row) : no_value;
  norm.y = f.poisoned(shape, c.type);
  norm.mean = f.poisoned(per_token);
  norm.rstd = f.poisoned(per_token);
  return norm;
}

void layer_norm_cases(Cases& cases, const NormCase& c) {
  RandomFrame f(6);
  const LayerNorm norm = norm_of(f, c);
  const Shape shape = f[norm.x].type.shape;
  const Id b = f.random(shape, 1, 0, c.type);
  const Id sum = f.poisoned(shape, c.type);
  const std::string label =
      in_type(fmt::format("{} wide, {}", c.width, c.with_bias ? "bias" : "no bias"), c.type);
  add(cases, label, norm, f);
  add(cases, label,
      ResidualNorm{.a = norm.x,
                   .b = b,
                   .sum = sum,
                   .gain = norm.gain,
                   .bias = norm.bias,
                   .y = norm.y,
                   .mean = norm.mean,
                   .rstd = norm.rstd,
                   .scale_b = c.with_bias ? 0.7f : 1.0f},
      f);
  f.run(norm);
  const Id dx = f.poisoned(shape, c.type);
  add(cases, label,
      LayerNormGradInput{
          .x = norm.x, .gain = norm.gain, .mean = norm.mean, .rstd = norm.rstd, .dy = b, .dx = dx},
      f);
  const Id plus = f.random(shape, 1, 0, c.type);
  add(cases, label + ", plus",
      LayerNormGradInput{.x = norm.x,
                         .gain = norm.gain,
                         .mean = norm.mean,
                         .rstd = norm.rstd,
                         .dy = b,
                         .dx = dx,
                         .plus = plus},
      f);
}

// Gain or bias may be frozen: then its gradient is absent.
void layer_norm_weight_cases(Cases& cases, const NormCase& c, bool first) {
  for (const bool with_gain : {true, false}) {
    if (!with_gain && !c.with_bias) continue;
    RandomFrame f(6);
    const LayerNorm norm = norm_of(f, c);
    f.run(norm);
    const Shape row{{D, c.width}};
    const Id dy = f.random(f[norm.x].type.shape, 1, 0, c.type);
    const Id dgain = with_gain ? f.accumulator(row, first) : no_value;
    const Id dbias = c.with_bias ? f.accumulator(row, first) : no_value;
    const std::string label =
        fmt::format("{} wide{}{}{}", c.width, with_gain ? ", gain" : "",
                    c.with_bias ? ", bias" : "", first ? "" : ", second micro-batch");
    add(cases, in_type(label, c.type),
        LayerNormGradWeight{.x = norm.x,
                            .mean = norm.mean,
                            .rstd = norm.rstd,
                            .dy = dy,
                            .dgain = dgain,
                            .dbias = dbias},
        f, first);
  }
}

void layer_norm_cases(Cases& cases, DType type) {
  for (const std::int64_t width : {80, 37, 333})
    for (const bool with_bias : {true, false}) {
      layer_norm_cases(cases, {width, with_bias, type});
      layer_norm_weight_cases(cases, {width, with_bias, type}, true);
    }
  layer_norm_weight_cases(cases, {80, true, type}, false);
}

void rotary_cases(Cases& cases, DType type) {
  for (const std::int32_t dims : {16, 24, 0})
    for (const bool inverse : {false, true}) {
      RandomFrame f(8);
      const Shape shape{{B, 2}, {T, 77}, {N, 5}, {H, 24}};
      const Id x = f.random(shape, 1, 0, type);
      const Id positions = f.integers({{B, 2}, {T, 77}}, 0, 500);
      const Id y = f.poisoned(shape, type);
      add(cases, in_type(fmt::format("{} of 24{}", dims, inverse ? ", inverse" : ""), type),
          Rotary{.x = x, .positions = positions, .y = y, .dims = dims, .inverse = inverse}, f);
    }
}

// Rows of every remainder by four, far into a step, so that blocks of four random numbers begin
// before a row does.
void dropout_cases(Cases& cases, DType type) {
  for (const Shape& shape : elementwise_shapes)
    for (const float rate : {0.0f, 0.1f, 0.75f})
      for (const double row : {0.0, 3.0, 4e9}) {
        if (rate == 0 && row != 0) continue;
        RandomFrame f(18);
        const Id x = f.random(shape, 1, 0, type);
        const Id control = f.numbers({{S, Control::slots}}, DType::f64, {3e-4, 123456, row});
        const Id y = f.poisoned(shape, type);
        add(cases, in_type(fmt::format("{}, {} from row {}", shape.text(), rate, row), type),
            Dropout{.x = x,
                    .y = y,
                    .control = rate == 0 ? no_value : control,
                    .key = {.rate = rate, .seed = 0x123456789abcdef0, .stream = ~77ull}},
            f);
      }
}

}  // namespace

void stream_cases(Cases& cases) {
  for (const DType type : {DType::f32, DType::bf16}) {
    embed_cases(cases, type);
    elementwise_cases(cases, type);
    gelu_cases(cases, type);
    layer_norm_cases(cases, type);
    rotary_cases(cases, type);
    dropout_cases(cases, type);
  }
  accumulate_and_cast_cases(cases);
}

}  // namespace sluice
