// Cases of matrix products: see op_cases.h.
#include "ops/op_cases.h"

namespace sluice {

namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, P = Axis::parts, N = Axis::heads,
               H = Axis::head, F = Axis::hidden, V = Axis::vocab, S = Axis::scalar, Y = Axis::bytes;

// One product: features of x and y may be factored.
struct Product {
  DType type;
  std::string label;
  std::int64_t batch, time;
  Shape in, out;
  bool out_in = false, with_bias = true;
  float scale = 1;
};

Shape joined(const Shape& a, const Shape& b) {
  Shape shape = a;
  for (const Dim& dim : b) shape.push_back(dim);
  return shape;
}

struct ProductIds {
  Id x, dy, w, bias, packed, packed_back;
};

std::string label_of(const Product& p, const std::string& rest = "") {
  return fmt::format("{}{}{}", p.type == DType::bf16 ? "bf16, " : "", p.label, rest);
}

// Linear and the gradient of its input, and each with the GELU beside it.
void forward_cases(Cases& cases, const Product& p, RandomFrame f, const ProductIds& v,
                   bool use_packed) {
  const std::string label = label_of(p, use_packed ? ", packed" : "");
  const Id y = f.poisoned(f[v.dy].type.shape, p.type);
  const Id dx = f.poisoned(f[v.x].type.shape, p.type);
  const Id gelu = f.poisoned(f[v.dy].type.shape, p.type);
  const Id h = f.random(f[v.x].type.shape, 2, 0, p.type);
  const GeluForm form = p.out_in ? GeluForm::exact : GeluForm::tanh;
  const Id packed = use_packed ? v.packed : no_value;
  const Id packed_back = use_packed ? v.packed_back : no_value;
  Linear forward{.x = v.x,
                 .w = v.w,
                 .bias = v.bias,
                 .y = y,
                 .out_in = p.out_in,
                 .scale = p.scale,
                 .packed = packed};
  add(cases, label, forward, f);
  add(cases, label, LinearGelu{v.x, v.w, v.bias, y, gelu, p.out_in, p.scale, form, packed}, f);
  add(cases, label,
      LinearGradInput{.dy = v.dy,
                      .w = v.w,
                      .dx = dx,
                      .out_in = p.out_in,
                      .scale = p.scale,
                      .packed = packed_back},
      f);
  add(cases, label, LinearGeluGrad{v.dy, v.w, h, dx, p.out_in, p.scale, form, packed_back}, f);
  if (p.type != DType::bf16) return;
  forward.y = f.poisoned(f[v.dy].type.shape);
  add(cases, label + ", to f32", forward, f);
}

void weight_cases(Cases& cases, const Product& p, const RandomFrame& f, const ProductIds& v) {
  for (const bool first : {true, false}) {
    RandomFrame g = f;
    const Id dw = g.accumulator(f[v.w].type.shape, first);
    const Id dbias = p.with_bias ? g.accumulator(p.out, first) : no_value;
    LinearGradWeight op{
        .x = v.x, .dy = v.dy, .dw = dw, .dbias = dbias, .out_in = p.out_in, .scale = p.scale};
    add(cases, label_of(p, first ? "" : ", second micro-batch"), op, g, first);
    if (!p.with_bias) continue;
    op.dbias = no_value;
    const char* const later = first ? "" : ", second micro-batch";
    add(cases, label_of(p, fmt::format(", frozen bias{}", later)), op, g, first);
    op.x = op.dw = no_value, op.dbias = dbias;
    add(cases, label_of(p, fmt::format(", frozen weight{}", later)), op, g, first);
  }
}

void linear_cases(Cases& cases, const Product& p) {
  RandomFrame f(7);
  const std::int64_t in = p.in.count();
  const std::int64_t out = p.out.count();
  ProductIds v{};
  v.x = f.random(joined({{B, p.batch}, {T, p.time}}, p.in), 1, 0, p.type);
  v.dy = f.random(joined({{B, p.batch}, {T, p.time}}, p.out), 1, 0, p.type);
  v.w = f.random(p.out_in ? joined(p.out, p.in) : joined(p.in, p.out), 0.2, 0, p.type);
  v.bias = p.with_bias ? f.random(p.out) : no_value;
  v.packed = f.poisoned({{Y, packed_count(in, out, p.type)}}, p.type);
  v.packed_back = f.poisoned({{Y, packed_count(out, in, p.type)}}, p.type);
  f.run(Pack{.w = v.w, .packed = v.packed, .k = in, .n = out, .transposed = p.out_in});
  f.run(Pack{.w = v.w, .packed = v.packed_back, .k = out, .n = in, .transposed = !p.out_in});
  for (const bool use_packed : {false, true}) forward_cases(cases, p, f, v, use_packed);
  weight_cases(cases, p, f, v);
}

void linear_cases(Cases& cases, DType t) {
  const Shape heads{{N, 5}, {H, 16}};
  const Shape fused{{P, 3}, {N, 5}, {H, 16}};
  const auto width = [](Axis axis, std::int64_t size) { return Shape{{axis, size}}; };
  linear_cases(cases, {t, "80 -> 320", 2, 77, width(D, 80), width(F, 320)});
  linear_cases(cases, {t, "320 -> 80, [out in]", 2, 77, width(F, 320), width(D, 80), true});
  linear_cases(cases, {t, "80 -> fused qkv", 2, 77, width(D, 80), fused});
  linear_cases(
      cases, {t, "heads -> 80, no bias, scaled", 2, 77, heads, width(D, 80), false, false, 0.125f});
  linear_cases(cases,
               {t, "80 -> heads, [out in], no bias", 2, 77, width(D, 80), heads, true, false});
  linear_cases(cases, {t, "303 tokens, 37 -> 51", 3, 101, width(D, 37), width(F, 51)});
  linear_cases(cases,
               {t, "303 tokens, 51 -> 37, [out in]", 3, 101, width(D, 51), width(F, 37), true});
  linear_cases(cases, {t, "decode, 527 -> 80", 3, 1, width(F, 527), width(D, 80)});
  linear_cases(cases, {t, "one number", 1, 1, width(D, 1), width(F, 1)});
}

struct Head {
  DType type;
  std::string label;
  std::int64_t rows, vocab, chunk;
  bool with_bias, with_gradient, first = true, packed = false;
  float scale = 1;
  bool frozen = false;  // the weight: dx without dw
};

void head_loss_case(Cases& cases, const Head& h) {
  RandomFrame f(11);
  const Shape xs{{B, 2}, {T, 77}, {D, 80}};
  const Shape ws{{V, h.rows}, {D, 80}};
  const Shape per_token{{B, 2}, {T, 77}};
  const Id x = f.random(xs, 1, 0, h.type);
  const Id w = f.random(ws, 0.3, 0, h.type);
  const Id bias = h.with_bias ? f.random({{V, h.rows}}) : no_value;
  const Id targets = f.integers(per_token, 0, h.vocab - 1);
  const Id weights = f.random(per_token, 0.2, 0.6);
  // Padding rows must not be seen, nor tokens of weight 0, whatever they hold.
  auto& padding = f[w].numbers;
  std::fill(padding.begin() + static_cast<std::ptrdiff_t>(h.vocab * 80), padding.end(), 40.0);
  for (const std::size_t t : {0U, 63U, 64U, 100U, 153U}) {
    f[weights].numbers[t] = 0;
    f[targets].numbers[t] = t == 64 ? -1 : 100000;
  }
  f[weights].numbers[10] = 1;
  const Id stats = f.accumulator({{S, 2}}, h.first, DType::f64);
  Id dx = no_value, dw = no_value, dbias = no_value, packed = no_value, packed_t = no_value;
  if (h.with_gradient) {
    dx = f.poisoned(xs, h.type);
    if (!h.frozen) dw = f.accumulator(ws, h.first);
    if (h.with_bias) dbias = f.accumulator({{V, h.rows}}, h.first);
  }
  if (h.packed) {
    packed = f.poisoned({{Y, packed_count(80, h.rows, h.type)}}, h.type);
    packed_t = f.poisoned({{Y, packed_count(h.rows, 80, h.type)}}, h.type);
    f.run(Pack{.w = w, .packed = packed, .k = 80, .n = h.rows, .transposed = true});
    f.run(Pack{.w = w, .packed = packed_t, .k = h.rows, .n = 80});
  }
  add(cases, h.type == DType::bf16 ? "bf16, " + h.label : h.label,
      HeadLoss{.x = x,
               .w = w,
               .bias = bias,
               .targets = targets,
               .weights = weights,
               .stats = stats,
               .dx = dx,
               .dw = dw,
               .dbias = dbias,
               .vocab = h.vocab,
               .chunk = h.chunk,
               .scale = h.scale,
               .packed = packed,
               .packed_t = packed_t},
      f, h.first);
}

void head_loss_cases(Cases& cases, DType t) {
  head_loss_case(cases, {t, "1003 of 1024, chunks of 64", 1024, 1003, 64, false, true});
  head_loss_case(cases, {t, "bias, second micro-batch", 1024, 1003, 64, true, true, false});
  head_loss_case(cases, {t, "packed, bias, scaled", 1024, 1003, 64, true, true, true, true, 0.5f});
  head_loss_case(cases, {t, "one chunk", 384, 257, 4096, false, true});
  head_loss_case(cases, {t, "no padding, no gradient", 131, 131, 50, true, false});
  head_loss_case(cases, {t, "much padding", 3300, 1100, 64, true, true});
  head_loss_case(cases, {t, "frozen", 147, 131, 50, true, true, true, true, 0.5f, true});
}

void pack_cases(Cases& cases, DType t) {
  for (const bool transposed : {false, true})
    for (const std::int64_t n : {5, 80, 51}) {
      RandomFrame f(13);
      const std::int64_t k = 37;
      const Id w = f.random(transposed ? Shape{{F, n}, {D, k}} : Shape{{D, k}, {F, n}}, 1, 0, t);
      const Id packed = f.poisoned({{Y, packed_count(k, n, t)}}, t);
      add(cases, fmt::format("{} 37 x {}{}", name_of(t), n, transposed ? ", transposed" : ""),
          Pack{.w = w, .packed = packed, .k = k, .n = n, .transposed = transposed}, f);
    }
}

}  // namespace

void product_cases(Cases& cases) {
  for (const DType type : {DType::f32, DType::bf16}) {
    linear_cases(cases, type);
    head_loss_cases(cases, type);
    pack_cases(cases, type);
  }
}

}  // namespace sluice
