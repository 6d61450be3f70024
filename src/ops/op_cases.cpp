#include <algorithm>
#include <array>

#include "ops/op_cases.h"
#include "ops/optimizer/formats.h"

namespace sluice {

void add(Cases& cases, const std::string& label, const Op& op, const RandomFrame& frame,
         bool first) {
  cases.push_back({fmt::format("{}: {}", name_of(op), label), op, frame.values(), first});
}

namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, P = Axis::parts, N = Axis::heads,
               H = Axis::head, F = Axis::hidden, V = Axis::vocab, S = Axis::scalar;

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
  float dropped = 0;
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
  const Id control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 70000, 5});
  const DropoutKey dropout{.rate = a.dropped, .seed = 0x9876543210, .stream = 77};
  const Attention forward{.q = in[0],
                          .k = in[1],
                          .v = in[2],
                          .starts = starts,
                          .y = y,
                          .lse = lse,
                          .scale = scale,
                          .control = a.dropped > 0 ? control : no_value,
                          .dropout = dropout};
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
                    .scale = scale,
                    .control = forward.control,
                    .dropout = dropout},
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
  attention_cases(cases, {"a tenth dropped, documents", 2, 77, 5, 5, 16, 20, true, 1, 0.1f});
  attention_cases(cases, {"half dropped, 2 key heads", 2, 131, 6, 2, 24, 0, false, 1, 0.5f});
  cached_attention_case(cases, "decode, ragged caches", 1, {0, 5, 89, 63}, true, false);
  cached_attention_case(cases, "decode, 2 key heads", 1, {12, 64, 3}, false, true);
  cached_attention_case(cases, "prefill into empty caches", 77, {0, 0}, true, true);
  cached_attention_case(cases, "13 more tokens, ragged", 13, {0, 40, 77}, false, false);
  cached_attention_case(cases, "decode, long caches", 1, {255, 256, 610}, false, false, 611);
}

void squared_norm_cases(Cases& cases) {
  for (const std::int64_t count : {1, 80, 65536, 140001}) {
    RandomFrame f(12);
    const Id x = f.random({{D, count}});
    const Id norms = f.random({{S, 5}}, 1, 0, DType::f64);
    add(cases, fmt::format("{} numbers", count), SquaredNorm{.x = x, .norms = norms, .index = 3},
        f);
  }
}

// `seen` steps like each other, and one with a loss of 3.33 and the norm that its norms make.
void spike_case(Cases& cases, double seen, double loss, double norm, double spread) {
  RandomFrame f(14);
  const Id stats = f.numbers({{S, 2}}, DType::f64, {410.5, 123.25});
  const Id norms = f.random({{S, 9}}, 0.5, 2, DType::f64);
  const Id control = f.numbers({{S, Control::slots}}, DType::f64, {3e-4, 7, 0});
  const Id pending = f.poisoned({{S, Pending::slots}}, DType::f64);
  const Id results = f.random({{S, 2 * Results::slots}}, 1, 0, DType::f64);
  std::vector<double> before{seen};
  for (const double mean : {loss, norm})
    for (int i = 0; i < Spikes::window; ++i) before.push_back(mean + spread * (i % 5 - 2));
  const Id spikes = f.numbers({{S, Spikes::slots}}, DType::f64, std::move(before));
  add(cases, fmt::format("{} steps of loss {} and norm {} before", seen, loss, norm),
      FinishStep{.stats = stats,
                 .norms = norms,
                 .control = control,
                 .pending = pending,
                 .results = results,
                 .spikes = spikes,
                 .clip = 1,
                 .deviations = 3},
      f);
}

void finish_step_cases(Cases& cases) {
  for (const double seen : {0.0, 15.0, 16.0, 128.0, 1000.0}) {
    spike_case(cases, seen, 3.3, 0.04, 0.1);  // like them
    spike_case(cases, seen, 2, 0.04, 0.1);    // a loss that lies out
    spike_case(cases, seen, 3.3, 0.001, 1e-4);
    spike_case(cases, seen, 2, 0.001, 1e-4);
  }
  for (const double step : {7.0, 8.0})
    for (const float clip : {0.0f, 0.01f, 100.0f}) {
      RandomFrame f(14);
      const Id stats = f.numbers({{S, 2}}, DType::f64, {410.5, 123.25});
      const Id norms = f.random({{S, 9}}, 0.5, 2, DType::f64);
      const Id control = f.numbers({{S, Control::slots}}, DType::f64, {3e-4, step, 0});
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

// Rows of 1 1/2 blocks, of less than one, and of many.
void round_gradient_cases(Cases& cases) {
  for (const auto& [label, format] : {std::pair{"f32", GradientFormat::f32},
                                      {"bf16", GradientFormat::bf16},
                                      {"int8", GradientFormat::int8}})
    for (const Shape& shape : {Shape{{D, 37}, {F, 192}}, Shape{{V, 1024}, {D, 50}},
                               Shape{{P, 3}, {N, 5}, {H, 7}, {D, 1100}}}) {
      RandomFrame f(16);
      const Id g = f.random(shape, 20);
      const Id control = f.numbers({{S, Control::slots}}, DType::f64, {3e-4, 77, 2});
      add(cases, fmt::format("{} {}", label, shape.text()),
          RoundGradient{.g = g, .control = control, .format = format, .seed = 5, .stream = 1234},
          f);
      if (format != GradientFormat::int8) continue;
      RoundGradient stores{.g = g, .control = control, .format = format, .seed = 5, .stream = 1234};
      const auto count = static_cast<std::size_t>(shape.count());
      stores.codes = f.numbers(shape, DType::u8, std::vector<double>(count, 77));
      stores.scales = f.poisoned({{S, state_blocks(shape)}});
      add(cases, fmt::format("int8 with codes {}", shape.text()), stores, f);
    }
}

// Codes of every byte.
void restore_gradient_cases(Cases& cases) {
  for (const Shape& shape : {Shape{{D, 37}, {F, 192}}, Shape{{V, 1024}, {D, 50}},
                             Shape{{P, 3}, {N, 5}, {H, 7}, {D, 1100}}}) {
    RandomFrame f(19);
    std::vector<double> codes;
    for (std::int64_t e = 0; e < shape.count(); ++e)
      codes.push_back(static_cast<double>(e * 7919 % 256));
    const Id stored = f.numbers(shape, DType::u8, std::move(codes));
    const Id scales = f.random({{S, state_blocks(shape)}}, 0.1);
    const Id g = f.poisoned(shape);
    add(cases, shape.text(), RestoreGradient{.codes = stored, .scales = scales, .g = g}, f);
  }
}

void ema_cases(Cases& cases) {
  for (const double apply : {1.0, 0.0})
    for (const bool master : {true, false})
      for (const DType type : {DType::f32, DType::bf16}) {
        if (master && type == DType::f32) continue;
        RandomFrame f(17);
        const Shape shape{{D, 37}, {F, 1051}};
        const Id w = f.random(shape, 1, 0, type);
        std::vector<double> rest;
        for (std::int64_t e = 0; e < shape.count(); ++e)
          rest.push_back(static_cast<double>(e * 7919 % 65536 - 32768));
        const Id low = master ? f.numbers(shape, DType::i16, std::move(rest)) : no_value;
        const Id average = f.random(shape);
        const Id pending = f.numbers({{S, Pending::slots}}, DType::f64, {2e-3, 3, 0.01, apply});
        add(cases,
            fmt::format("{}{}{}", master ? "master" : name_of(type), apply == 0 ? ", " : "",
                        apply == 0 ? "not applied" : ""),
            Ema{.w = w, .low = low, .average = average, .pending = pending, .decay = 0.9f}, f);
      }
}

}  // namespace

std::vector<OpCase> op_cases() {
  Cases cases;
  stream_cases(cases);
  product_cases(cases);
  attention_cases(cases);
  squared_norm_cases(cases);
  finish_step_cases(cases);
  adamw_cases(cases);
  round_gradient_cases(cases);
  restore_gradient_cases(cases);
  ema_cases(cases);
  return cases;
}

std::vector<RefValue> expected_of(const OpCase& one) {
  std::vector<RefValue> frame = one.frame;
  reference(one.op, frame, one.first);
  return frame;
}

double tolerance_of(const OpCase& one, DType type) {
  if (type == DType::bf16) return bf16_kernel_tolerance;
  if (const auto* head = std::get_if<HeadLoss>(&one.op)) {
    const DType x = one.frame[static_cast<std::size_t>(head->x)].type.dtype;
    return x == DType::bf16 ? 1e-5 : kernel_tolerance;
  }
  return std::holds_alternative<AttentionGrad>(one.op) ? 1e-5 : kernel_tolerance;
}

}  // namespace sluice
