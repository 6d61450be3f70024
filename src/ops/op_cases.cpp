#include <algorithm>
#include <array>

#include "ops/random_frame.h"

namespace sluice {

namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, P = Axis::parts, N = Axis::heads,
               H = Axis::head, F = Axis::hidden, V = Axis::vocab, S = Axis::scalar, Y = Axis::bytes;

using Cases = std::vector<OpCase>;

void add(Cases& cases, const std::string& label, const Op& op, const RandomFrame& frame,
         bool first = true) {
  cases.push_back({fmt::format("{}: {}", name_of(op), label), op, frame.values(), first});
}

void embed_cases(Cases& cases) {
  for (const bool first : {true, false}) {
    RandomFrame f(1);
    const Id ids = f.integers({{B, 2}, {T, 77}}, 0, 40);  // rows repeat, some are never named
    const Id dy = f.random({{B, 2}, {T, 77}, {D, 80}});
    const Id dtable = f.accumulator({{V, 50}, {D, 80}}, first);
    add(cases, first ? "repeated rows" : "repeated rows, second micro-batch",
        EmbedGrad{.ids = ids, .dy = dy, .dtable = dtable}, f, first);
  }
  RandomFrame f(2);
  const Id ids = f.integers({{B, 2}, {T, 77}}, 0, 1002);
  const Id table = f.random({{V, 1024}, {D, 80}});
  const Id y = f.poisoned({{B, 2}, {T, 77}, {D, 80}});
  add(cases, "1003 of 1024 rows", Embed{.ids = ids, .table = table, .y = y}, f);
}

void elementwise_cases(Cases& cases) {
  for (const Shape& shape : {Shape{{B, 2}, {T, 77}, {D, 80}}, Shape{{B, 1}, {T, 1}, {D, 3}},
                             Shape{{B, 1}, {T, 2}, {D, 40001}}}) {
    for (const float scale : {1.0f, -0.3f}) {
      RandomFrame f(3);
      const Id a = f.random(shape);
      const Id b = f.random(shape);
      const Id y = f.poisoned(shape);
      const std::string label = fmt::format("{}, factor {}", shape.text(), scale);
      add(cases, label, Add{.a = a, .b = b, .y = y, .scale_b = scale}, f);
      add(cases, label, Scale{.x = a, .y = y, .factor = scale}, f);
    }
    RandomFrame f(4);
    const Id x = f.random(shape);
    const Id half = f.random(shape, 1, 0, DType::bf16);
    const Id y = f.random(shape);
    const Id out = f.poisoned(shape);
    const Id half_out = f.poisoned(shape, DType::bf16);
    add(cases, shape.text(), AddInto{.x = x, .y = y}, f);
    add(cases, "f32 to bf16 " + shape.text(), Cast{.x = x, .y = half_out}, f);
    add(cases, "bf16 to f32 " + shape.text(), Cast{.x = half, .y = out}, f);
  }
}

void gelu_cases(Cases& cases) {
  for (const GeluForm form : {GeluForm::exact, GeluForm::tanh})
    for (const std::int64_t width : {320, 37}) {
      RandomFrame f(5);
      const Shape shape{{B, 2}, {T, 77}, {F, width}};
      const Id x = f.random(shape, 4);  // both tails
      const Id dy = f.random(shape);
      const Id out = f.poisoned(shape);
      const std::string label =
          fmt::format("{}, {}", form == GeluForm::exact ? "exact" : "tanh", width);
      add(cases, label, Gelu{.x = x, .y = out, .form = form}, f);
      add(cases, label, GeluGrad{.x = x, .dy = dy, .dx = out, .form = form}, f);
    }
}

void layer_norm_case(Cases& cases, std::int64_t width, bool with_bias, bool first) {
  RandomFrame f(6);
  const Shape shape{{B, 2}, {T, 77}, {D, width}};
  const Shape row{{D, width}};
  const Shape per_token{{B, 2}, {T, 77}};
  const Id x = f.random(shape, 1, 3);
  const Id b = f.random(shape);
  const Id gain = f.random(row, 0.3, 1);
  const Id bias = with_bias ? f.random(row) : no_value;
  const Id y = f.poisoned(shape);
  const Id sum = f.poisoned(shape);
  const Id mean = f.poisoned(per_token);
  const Id rstd = f.poisoned(per_token);
  const std::string label = fmt::format("{} wide, {}{}", width, with_bias ? "bias" : "no bias",
                                        first ? "" : ", second micro-batch");
  const LayerNorm norm{.x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .rstd = rstd};
  if (first) {
    add(cases, label, norm, f);
    add(cases, label,
        ResidualNorm{.a = x,
                     .b = b,
                     .sum = sum,
                     .gain = gain,
                     .bias = bias,
                     .y = y,
                     .mean = mean,
                     .rstd = rstd,
                     .scale_b = with_bias ? 0.7f : 1.0f},
        f);
  }
  f.run(norm);
  const Id dy = f.random(shape);
  const Id dx = f.poisoned(shape);
  const Id dgain = f.accumulator(row, first);
  const Id dbias = with_bias ? f.accumulator(row, first) : no_value;
  if (first)
    add(cases, label,
        LayerNormGradInput{.x = x, .gain = gain, .mean = mean, .rstd = rstd, .dy = dy, .dx = dx},
        f);
  add(cases, label,
      LayerNormGradWeight{
          .x = x, .mean = mean, .rstd = rstd, .dy = dy, .dgain = dgain, .dbias = dbias},
      f, first);
}

void layer_norm_cases(Cases& cases) {
  for (const std::int64_t width : {80, 37, 333})
    for (const bool with_bias : {true, false}) layer_norm_case(cases, width, with_bias, true);
  layer_norm_case(cases, 80, true, false);
}

// One product: features of x and y may be factored.
struct Product {
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

void product_cases(Cases& cases, const Product& p) {
  RandomFrame f(7);
  const std::int64_t in = p.in.count();
  const std::int64_t out = p.out.count();
  const Shape xs = joined({{B, p.batch}, {T, p.time}}, p.in);
  const Shape ys = joined({{B, p.batch}, {T, p.time}}, p.out);
  const Shape ws = p.out_in ? joined(p.out, p.in) : joined(p.in, p.out);
  const Id x = f.random(xs);
  const Id dy = f.random(ys);
  const Id w = f.random(ws, 0.2);
  const Id bias = p.with_bias ? f.random(p.out) : no_value;
  const Id y = f.poisoned(ys);
  const Id dx = f.poisoned(xs);
  const Id packed = f.poisoned({{Y, packed_count(in, out)}});
  const Id packed_back = f.poisoned({{Y, packed_count(out, in)}});
  f.run(Pack{.w = w, .packed = packed, .k = in, .n = out, .transposed = p.out_in});
  f.run(Pack{.w = w, .packed = packed_back, .k = out, .n = in, .transposed = !p.out_in});
  for (const bool use_packed : {false, true}) {
    const std::string label = p.label + (use_packed ? ", packed" : "");
    add(cases, label,
        Linear{.x = x,
               .w = w,
               .bias = bias,
               .y = y,
               .out_in = p.out_in,
               .scale = p.scale,
               .packed = use_packed ? packed : no_value},
        f);
    add(cases, label,
        LinearGradInput{.dy = dy,
                        .w = w,
                        .dx = dx,
                        .out_in = p.out_in,
                        .scale = p.scale,
                        .packed = use_packed ? packed_back : no_value},
        f);
  }
  for (const bool first : {true, false}) {
    RandomFrame g = f;
    const Id dw = g.accumulator(ws, first);
    const Id dbias = p.with_bias ? g.accumulator(p.out, first) : no_value;
    add(cases, p.label + (first ? "" : ", second micro-batch"),
        LinearGradWeight{
            .x = x, .dy = dy, .dw = dw, .dbias = dbias, .out_in = p.out_in, .scale = p.scale},
        g, first);
  }
}

void linear_cases(Cases& cases) {
  const Shape heads{{N, 5}, {H, 16}};
  const Shape fused{{P, 3}, {N, 5}, {H, 16}};
  const auto width = [](Axis axis, std::int64_t size) { return Shape{{axis, size}}; };
  product_cases(cases, {"80 -> 320", 2, 77, width(D, 80), width(F, 320)});
  product_cases(cases, {"320 -> 80, [out in]", 2, 77, width(F, 320), width(D, 80), true});
  product_cases(cases, {"80 -> fused qkv", 2, 77, width(D, 80), fused});
  product_cases(cases,
                {"heads -> 80, no bias, scaled", 2, 77, heads, width(D, 80), false, false, 0.125f});
  product_cases(cases, {"80 -> heads, [out in], no bias", 2, 77, width(D, 80), heads, true, false});
  product_cases(cases, {"303 tokens, 37 -> 51", 3, 101, width(D, 37), width(F, 51)});
  product_cases(cases,
                {"303 tokens, 51 -> 37, [out in]", 3, 101, width(D, 51), width(F, 37), true});
  product_cases(cases, {"decode, 527 -> 80", 3, 1, width(F, 527), width(D, 80)});
  product_cases(cases, {"one number", 1, 1, width(D, 1), width(F, 1)});
}

void rotary_cases(Cases& cases) {
  for (const std::int32_t dims : {16, 24, 0})
    for (const bool inverse : {false, true}) {
      RandomFrame f(8);
      const Shape shape{{B, 2}, {T, 77}, {N, 5}, {H, 24}};
      const Id x = f.random(shape);
      const Id positions = f.integers({{B, 2}, {T, 77}}, 0, 500);
      const Id y = f.poisoned(shape);
      add(cases, fmt::format("{} of 24{}", dims, inverse ? ", inverse" : ""),
          Rotary{.x = x, .positions = positions, .y = y, .dims = dims, .inverse = inverse}, f);
    }
}

// First token of its document for every token: documents of `length` tokens (one more in each
// further row), the last one shorter. length 0: one document per row.
Id document_starts(RandomFrame& f, std::int64_t batch, std::int64_t time, std::int64_t length) {
  std::vector<double> starts;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t t = 0; t < time; ++t) {
      const std::int64_t into = length == 0 ? t : t % (length + b);
      starts.push_back(static_cast<double>(t - into));
    }
  return f.numbers({{B, batch}, {T, time}}, DType::i32, std::move(starts));
}

struct Attended {
  std::string label;
  std::int64_t batch, time, heads, key_heads, head, document;
  bool fused;
  double deviation = 1;  // of queries and keys: large ones make the softmax sharp
};

void attention_cases(Cases& cases, const Attended& a) {
  RandomFrame f(9);
  const Shape qs{{B, a.batch}, {T, a.time}, {N, a.heads}, {H, a.head}};
  const Shape ks = qs.with(N, a.key_heads);
  const Shape fused{{B, a.batch}, {T, a.time}, {P, 3}, {N, a.heads}, {H, a.head}};
  const auto three = [&](auto make) -> std::array<Slice, 3> {
    if (!a.fused) return {Slice{make(qs)}, Slice{make(ks)}, Slice{make(ks)}};
    const Id id = make(fused);
    return {Slice{id, 0, 3}, Slice{id, 1, 3}, Slice{id, 2, 3}};
  };
  const auto in = three([&](const Shape& shape) { return f.random(shape, a.deviation); });
  const Id starts = document_starts(f, a.batch, a.time, a.document);
  const Id y = f.poisoned(qs);
  const Id lse = f.poisoned({{B, a.batch}, {N, a.heads}, {T, a.time}});
  const float scale = a.head == 24 ? 0.2f : 0.25f;
  const Attention forward{
      .q = in[0], .k = in[1], .v = in[2], .starts = starts, .y = y, .lse = lse, .scale = scale};
  add(cases, a.label, forward, f);
  f.run(forward);
  const Id dy = f.random(qs);
  const auto out = three([&](const Shape& shape) { return f.poisoned(shape); });
  add(cases, a.label,
      AttentionGrad{.q = in[0],
                    .k = in[1],
                    .v = in[2],
                    .starts = starts,
                    .y = y,
                    .lse = lse,
                    .dy = dy,
                    .dq = out[0],
                    .dk = out[1],
                    .dv = out[2],
                    .scale = scale},
      f);
}

// Rows of a batch that hold caches of unequal length.
void cached_attention_case(Cases& cases, const std::string& label, std::int64_t time,
                           std::vector<double> lengths, bool fused, bool with_lse,
                           std::int64_t capacity = 90) {
  RandomFrame f(10);
  const auto batch = static_cast<std::int64_t>(lengths.size());
  const std::int64_t heads = 6;
  const std::int64_t key_heads = fused ? 6 : 2;
  const Shape qs{{B, batch}, {T, time}, {N, heads}, {H, 24}};
  const Shape ks = qs.with(N, key_heads);
  Slice q, k, v;
  if (fused) {
    const Id qkv = f.random({{B, batch}, {T, time}, {P, 3}, {N, heads}, {H, 24}});
    q = {qkv, 0, 3}, k = {qkv, 1, 3}, v = {qkv, 2, 3};
  } else {
    q = {f.random(qs)}, k = {f.random(ks)}, v = {f.random(ks)};
  }
  const Id length = f.numbers({{B, batch}}, DType::i32, std::move(lengths));
  const Id k_cache = f.random(ks.with(T, capacity));
  const Id v_cache = f.random(ks.with(T, capacity));
  const Id y = f.poisoned(qs);
  const Id lse = with_lse ? f.poisoned({{B, batch}, {N, heads}, {T, time}}) : no_value;
  add(cases, label,
      Attention{.q = q,
                .k = k,
                .v = v,
                .lengths = length,
                .k_cache = k_cache,
                .v_cache = v_cache,
                .y = y,
                .lse = lse,
                .scale = 0.2f},
      f);
}

void attention_cases(Cases& cases) {
  attention_cases(cases, {"fused, 5 heads of 16, 77 tokens", 2, 77, 5, 5, 16, 0, true});
  attention_cases(cases, {"fused, packed documents of 20", 2, 77, 5, 5, 16, 20, true});
  attention_cases(cases, {"6 heads of 24, 2 key heads", 2, 77, 6, 2, 24, 0, false});
  attention_cases(cases, {"2 heads of 24, 261 tokens, documents", 1, 261, 2, 2, 24, 90, false});
  attention_cases(cases, {"sharp, head of 64", 1, 130, 1, 1, 64, 0, true, 2.5});
  attention_cases(cases, {"3 heads of 80, 1 key head", 1, 67, 3, 1, 80, 30, false});
  attention_cases(cases, {"one token, head of 7", 3, 1, 3, 3, 7, 0, true});
  cached_attention_case(cases, "decode, ragged caches", 1, {0, 5, 89, 63}, true, false);
  cached_attention_case(cases, "decode, 2 key heads", 1, {12, 64, 3}, false, true);
  cached_attention_case(cases, "prefill into empty caches", 77, {0, 0}, true, true);
  cached_attention_case(cases, "13 more tokens, ragged", 13, {0, 40, 77}, false, false);
  cached_attention_case(cases, "decode, long caches", 1, {255, 256, 610}, false, false, 611);
}

struct Head {
  std::string label;
  std::int64_t rows, vocab, chunk;
  bool with_bias, with_gradient, first = true, packed = false;
  float scale = 1;
};

void head_loss_case(Cases& cases, const Head& h) {
  RandomFrame f(11);
  const Shape xs{{B, 2}, {T, 77}, {D, 80}};
  const Shape ws{{V, h.rows}, {D, 80}};
  const Shape per_token{{B, 2}, {T, 77}};
  const Id x = f.random(xs);
  const Id w = f.random(ws, 0.3);
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
    dx = f.poisoned(xs);
    dw = f.accumulator(ws, h.first);
    if (h.with_bias) dbias = f.accumulator({{V, h.rows}}, h.first);
  }
  if (h.packed) {
    packed = f.poisoned({{Y, packed_count(80, h.rows)}});
    packed_t = f.poisoned({{Y, packed_count(h.rows, 80)}});
    f.run(Pack{.w = w, .packed = packed, .k = 80, .n = h.rows, .transposed = true});
    f.run(Pack{.w = w, .packed = packed_t, .k = h.rows, .n = 80});
  }
  add(cases, h.label,
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

void head_loss_cases(Cases& cases) {
  head_loss_case(cases, {"1003 of 1024, chunks of 64", 1024, 1003, 64, false, true});
  head_loss_case(cases, {"bias, second micro-batch", 1024, 1003, 64, true, true, false});
  head_loss_case(cases, {"packed, bias, scaled", 1024, 1003, 64, true, true, true, true, 0.5f});
  head_loss_case(cases, {"one chunk", 384, 257, 4096, false, true});
  head_loss_case(cases, {"no padding, no gradient", 131, 131, 50, true, false});
}

void squared_norm_and_pack_cases(Cases& cases) {
  for (const std::int64_t count : {1, 80, 65536, 140001}) {
    RandomFrame f(12);
    const Id x = f.random({{D, count}});
    const Id norms = f.random({{S, 5}}, 1, 0, DType::f64);
    add(cases, fmt::format("{} numbers", count), SquaredNorm{.x = x, .norms = norms, .index = 3},
        f);
  }
  for (const bool transposed : {false, true})
    for (const std::int64_t n : {5, 80, 51}) {
      RandomFrame f(13);
      const std::int64_t k = 37;
      const Id w = f.random(transposed ? Shape{{F, n}, {D, k}} : Shape{{D, k}, {F, n}});
      const Id packed = f.poisoned({{Y, packed_count(k, n)}});
      add(cases, fmt::format("37 x {}{}", n, transposed ? ", transposed" : ""),
          Pack{.w = w, .packed = packed, .k = k, .n = n, .transposed = transposed}, f);
    }
}

void finish_step_cases(Cases& cases) {
  for (const double step : {7.0, 8.0})
    for (const float clip : {0.0f, 0.01f, 100.0f}) {
      RandomFrame f(14);
      const Id stats = f.numbers({{S, 2}}, DType::f64, {410.5, 123.25});
      const Id norms = f.random({{S, 9}}, 0.5, 2, DType::f64);
      const Id control = f.numbers({{S, Control::slots}}, DType::f64, {3e-4, step});
      const Id pending = f.poisoned({{S, Pending::slots}}, DType::f64);
      const Id results = f.random({{S, 2 * Results::slots}}, 1, 0, DType::f64);
      add(cases, fmt::format("step {}, clip {}", step, clip),
          FinishStep{.stats = stats,
                     .norms = norms,
                     .control = control,
                     .pending = pending,
                     .results = results,
                     .clip = clip},
          f);
    }
}

void adamw_case(Cases& cases, const std::string& label, const Shape& shape, std::int32_t parts,
                std::int64_t parts_inner, double step, double apply) {
  RandomFrame f(15);
  const Id w = f.random(shape);
  const Id g = f.random(shape, 20);
  const Id m = f.random(shape, 0.1);
  const Id v = f.random(shape, 0.005, 0.02);
  const Id pending = f.numbers({{S, Pending::slots}}, DType::f64, {2e-3, step, 0.01, apply});
  AdamW op{.w = w, .g = g, .m = m, .v = v, .pending = pending, .part = {}};
  op.part[0] = {.lr = 1, .decay = 0.1f, .eps = 1e-5f};
  op.part[1] = {.lr = 0.5f, .decay = 0, .eps = 1e-4f};
  op.part[2] = {.lr = 2, .decay = 0.3f, .eps = 1e-5f};
  op.parts = parts;
  op.parts_inner = parts_inner;
  add(cases, label, op, f);
}

void adamw_cases(Cases& cases) {
  adamw_case(cases, "first step", {{D, 37}, {F, 51}}, 1, 0, 1, 1);
  adamw_case(cases, "step 1000", {{V, 1024}, {D, 80}}, 1, 0, 1000, 1);
  adamw_case(cases, "fused [D P N H]", {{D, 80}, {P, 3}, {N, 5}, {H, 16}}, 3, 80, 3, 1);
  adamw_case(cases, "fused [P N H D]", {{P, 3}, {N, 5}, {H, 7}, {D, 11}}, 3, 385, 3, 1);
  adamw_case(cases, "not applied", {{D, 37}, {F, 51}}, 1, 0, 4, 0);
}

}  // namespace

std::vector<OpCase> op_cases() {
  Cases cases;
  embed_cases(cases);
  elementwise_cases(cases);
  gelu_cases(cases);
  layer_norm_cases(cases);
  linear_cases(cases);
  rotary_cases(cases);
  attention_cases(cases);
  head_loss_cases(cases);
  squared_norm_and_pack_cases(cases);
  finish_step_cases(cases);
  adamw_cases(cases);
  return cases;
}

}  // namespace sluice
