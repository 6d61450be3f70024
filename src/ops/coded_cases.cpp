#include "ops/optimizer/formats.h"
#include "ops/random_frame.h"

namespace sluice {

namespace {

constexpr Axis D = Axis::model, P = Axis::parts, N = Axis::heads, H = Axis::head, F = Axis::hidden,
               V = Axis::vocab, S = Axis::scalar;

std::vector<float> floats(const RandomFrame& f, Id id) {
  return {f[id].numbers.begin(), f[id].numbers.end()};
}
template <class T>
Id add(RandomFrame& f, const Shape& shape, DType dtype, const std::vector<T>& values) {
  return f.numbers(shape, dtype, {values.begin(), values.end()});
}

// A float32 master as the pair of `exact`.
void use_master(RandomFrame& f, AdamW& op, const Shape& shape) {
  std::vector<double> weights, lows;
  for (const float x : floats(f, op.w)) {
    const Master one = split_master(x);
    weights.push_back(static_cast<float>(one.weight));
    lows.push_back(one.low);
  }
  op.w = f.numbers(shape, DType::bf16, std::move(weights));
  op.low = f.numbers(shape, DType::i16, std::move(lows));
}

void use_codes(RandomFrame& f, AdamW& op, const Shape& shape) {
  const auto count = static_cast<std::size_t>(shape.count());
  const Shape blocks{{S, state_blocks(shape)}};
  std::vector<std::uint8_t> m(count), v(count);
  std::vector<float> m_scale(static_cast<std::size_t>(state_blocks(shape))), v_scale = m_scale;
  encode_m(shape, floats(f, op.m), m, m_scale);
  encode_v(shape, floats(f, op.v), v, v_scale);
  op.w = f.numbers(shape, DType::bf16, f[op.w].numbers);
  op.m = add(f, shape, DType::u8, m);
  op.v = add(f, shape, DType::u8, v);
  op.m_scale = add(f, blocks, DType::f32, m_scale);
  op.v_scale = add(f, blocks, DType::f32, v_scale);
}

void add_case(std::vector<OpCase>& cases, const std::string& label, const Shape& shape,
              std::int32_t parts, std::int64_t parts_inner, double step, double apply) {
  for (const bool exact : {true, false}) {
    RandomFrame f(18);
    AdamW op{};
    op.w = f.random(shape);
    op.g = f.random(shape, 20);
    op.m = f.random(shape, 0.1);
    op.v = f.random(shape, 0.005, 0.02);
    for (std::size_t e = 0; e < f[op.v].numbers.size(); e += 5) f[op.v].numbers[e] *= 1e-6;
    op.pending = f.numbers({{S, Pending::slots}}, DType::f64, {2e-3, step, 0.01, apply});
    exact ? use_master(f, op, shape) : use_codes(f, op, shape);
    op.part[0] = {.lr = 1, .decay = 0.1f, .eps = 1e-5f};
    op.part[1] = {.lr = 0.5f, .decay = 0, .eps = 1e-4f};
    op.part[2] = {.lr = 2, .decay = 0.3f, .eps = 1e-5f};
    op.parts = parts;
    op.parts_inner = parts_inner;
    op.seed = 3;
    op.stream = 77;
    cases.push_back(
        {fmt::format("adamw: {}, {}", label, exact ? "exact" : "compact"), op, f.values()});
  }
}

}  // namespace

std::vector<OpCase> coded_cases() {
  std::vector<OpCase> cases;
  add_case(cases, "rows of 192", {{D, 37}, {F, 192}}, 1, 0, 1, 1);
  add_case(cases, "rows of 50", {{V, 1024}, {D, 50}}, 1, 0, 1000, 1);
  add_case(cases, "fused [D P N H]", {{D, 40}, {P, 3}, {N, 5}, {H, 16}}, 3, 80, 3, 1);
  add_case(cases, "fused [P N H D]", {{P, 3}, {N, 5}, {H, 7}, {D, 111}}, 3, 3885, 3, 1);
  add_case(cases, "not applied", {{D, 37}, {F, 51}}, 1, 0, 4, 0);
  return cases;
}

}  // namespace sluice
