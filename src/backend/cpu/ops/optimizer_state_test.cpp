// The formats of weights, moments and gradients in kernels: every stored bit is the one that the
// codecs of ops/optimizer/formats.h give for the float32 update of the same instruction set; and
// what training with them loses.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "backend/cpu/ops/test_frame.h"
#include "core/random.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

constexpr Axis D = Axis::model, F = Axis::hidden, P = Axis::parts, S = Axis::scalar;
constexpr std::uint64_t seed = 3, stream = 77;
constexpr int layer = 5;

// Values that live over many steps.
class World {
 public:
  Id add(const Shape& shape, DType dtype) {
    memory_.emplace_back(static_cast<std::size_t>(shape.count() * size_of(dtype)));
    tensors_.emplace_back(memory_.back().data(), dtype, shape);
    return static_cast<Id>(tensors_.size() - 1);
  }
  template <class T>
  std::span<T> of(Id id) const {
    return tensors_[static_cast<std::size_t>(id)].values<T>();
  }
  Frame frame(int of_layer = layer) const {
    return {.values = tensors_, .workspace = {}, .first = true, .layer = of_layer};
  }

 private:
  std::vector<std::vector<std::byte>> memory_;
  std::vector<Tensor> tensors_;
};

enum class Form { f32, exact, compact };

// One tensor in one form, its gradient, and its update.
struct Trained : World {
  Shape shape;
  AdamW op{};
  Id control;

  Trained(const Shape& tensor, Form form, std::int32_t parts = 1) : shape(tensor) {
    const bool f32 = form == Form::f32, compact = form == Form::compact;
    op.w = add(shape, f32 ? DType::f32 : DType::bf16);
    if (form == Form::exact) op.low = add(shape, DType::i16);
    op.g = add(shape, DType::f32);
    op.m = add(shape, compact ? DType::u8 : DType::f32);
    op.v = add(shape, compact ? DType::u8 : DType::f32);
    const Shape blocks{{S, state_blocks(shape)}};
    if (compact) op.m_scale = add(blocks, DType::f32);
    if (compact) op.v_scale = add(blocks, DType::f32);
    op.pending = add({{S, Pending::slots}}, DType::f64);
    control = add({{S, Control::slots}}, DType::f64);
    op.part[0] = {.lr = 1, .decay = 0.1f, .eps = 1e-8f};
    op.part[1] = {.lr = 0.5f, .decay = 0, .eps = 1e-4f};
    op.part[2] = {.lr = 2, .decay = 0.3f, .eps = 1e-5f};
    op.parts = parts;
    op.parts_inner = shape.last();
    op.seed = seed;
    op.stream = stream;
  }
  void set_weights(std::span<const float> masters) {
    if (op.low != no_value) return split_masters(masters, of<bf16>(op.w), of<std::int16_t>(op.low));
    if (op.m_scale == no_value) return copy(masters, of<float>(op.w));
    for (std::size_t i = 0; i < masters.size(); ++i) of<bf16>(op.w)[i] = bf16(masters[i]);
  }
  std::vector<float> weights() const {
    std::vector<float> w(static_cast<std::size_t>(shape.count()));
    if (op.low != no_value) {
      join_masters(of<bf16>(op.w), of<std::int16_t>(op.low), w);
    } else if (op.m_scale == no_value) {
      copy(of<float>(op.w), w);
    } else {
      for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(of<bf16>(op.w)[i]);
    }
    return w;
  }
  void step(CpuBackend& cpu, std::int64_t t, double lr, int of_layer = layer) {
    const auto pending = of<double>(op.pending);
    pending[Pending::lr] = lr;
    pending[Pending::step] = static_cast<double>(t);
    pending[Pending::scale] = pending[Pending::apply] = 1;
    cpu.run(op, frame(of_layer));
  }
  static void copy(std::span<const float> from, std::span<float> to) {
    std::copy(from.begin(), from.end(), to.begin());
  }
};

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
template <class T>
bool same_bits(std::span<T> a, const std::vector<T>& b) {
  return same_bits(std::span<const T>(a), std::span<const T>(b));
}

// Normal numbers times powers of ten between 10^low and 10^high.
std::vector<float> numbers(std::int64_t count, std::uint64_t key, double low, double high) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const double power = low + (high - low) * random_uniform(key, 1, index);
    x.push_back(random_normal(key, 2, index) * static_cast<float>(std::pow(10.0, power)));
  }
  return x;
}

std::vector<float> wide_weights(std::int64_t count) {
  std::vector<float> w = numbers(count, 9, -12, 12);
  const float most = std::numeric_limits<float>::max();
  const float edges[] = {0.0f, -0.0f, most, -most, 1e-40f, -1e-45f, 1 + 0x1p-8f, -1 - 0x1p-8f};
  std::copy(std::begin(edges), std::end(edges), w.begin());
  return w;
}

// `exact` is float32 with its bf16 copy rounded half up, bit for bit, step after step.
TEST(AdamWExact, IsFloat32BitForBit) {
  const Shape shape{{D, 61}, {P, 3}, {F, 117}};
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 2, .isa = isa});
    Trained plain(shape, Form::f32, 3), exact(shape, Form::exact, 3), bent(shape, Form::exact, 3);
    for (Trained* one : {&plain, &exact, &bent}) one->set_weights(wide_weights(shape.count()));
    bent.of<std::int16_t>(bent.op.low)[6] ^= 1;  // of a weight near 1: no update swallows it
    int to_even = 0;  // copies that rounding to even would have made otherwise
    for (std::int64_t t = 1; t <= 60; ++t) {
      const auto g = numbers(shape.count(), static_cast<std::uint64_t>(100 + t), -20, 15);
      for (Trained* one : {&plain, &exact, &bent}) {
        one->copy(g, one->of<float>(one->op.g));
        one->step(cpu, t, 1e-2);
      }
      const auto w = plain.of<float>(plain.op.w);
      std::vector<bf16> copies(w.size());
      std::vector<std::int16_t> lows(w.size());
      split_masters(w, copies, lows);
      ASSERT_TRUE(same_bits(w, exact.weights())) << name_of(isa) << " step " << t;
      ASSERT_TRUE(same_bits(exact.of<bf16>(exact.op.w), copies));
      ASSERT_TRUE(same_bits(exact.of<std::int16_t>(exact.op.low), lows));
      for (const Id id : {plain.op.m, plain.op.v}) {
        const Id other = id == plain.op.m ? exact.op.m : exact.op.v;
        ASSERT_TRUE(same_bits(std::span<const float>(plain.of<float>(id)),
                              std::span<const float>(exact.of<float>(other))));
      }
      for (std::size_t i = 0; i < w.size(); ++i) to_even += bf16(w[i]).bits != copies[i].bits;
    }
    EXPECT_GT(to_even, 0) << "the other rounding is another one";
    EXPECT_FALSE(same_bits(plain.of<float>(plain.op.w), bent.weights())) << "one low bit counts";
  }
}

// What `compact` must store after one step, by the codecs and the float32 update.
struct Expected {
  std::vector<bf16> w;
  std::vector<std::uint8_t> m, v;
  std::vector<float> m_scale, v_scale;

  Expected(CpuBackend& cpu, const Trained& now, std::int64_t t, int of_layer) {
    const Shape& shape = now.shape;
    const auto count = static_cast<std::size_t>(shape.count());
    std::vector<float> kept(count), read(count), means(count);
    const auto codes = now.of<std::uint8_t>(now.op.v);
    const auto scales = now.of<float>(now.op.v_scale);
    decode_v(shape, codes, scales, kept);
    for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t size) {
      const auto at = static_cast<std::size_t>(first), n = static_cast<std::size_t>(size);
      read_v(codes.subspan(at, n), scales[static_cast<std::size_t>(block)],
             std::span(read).subspan(at, n));
    });
    decode_m(shape, now.of<std::uint8_t>(now.op.m), now.of<float>(now.op.m_scale), means);
    // The weights follow what is read; the v that is kept goes on from what was kept.
    for (const auto* v : {&kept, &read}) {
      Trained plain(shape, Form::f32, now.op.parts);
      plain.set_weights(now.weights());
      plain.copy(now.of<float>(now.op.g), plain.of<float>(plain.op.g));
      plain.copy(means, plain.of<float>(plain.op.m));
      plain.copy(*v, plain.of<float>(plain.op.v));
      plain.step(cpu, t, 1e-2);
      if (v == &kept) {
        plain.copy(plain.of<float>(plain.op.v), kept);
      } else {
        encode(plain, kept, {seed, dropout_stream(stream, of_layer, t)});
        return;
      }
    }
  }
  void encode(const Trained& plain, std::span<const float> kept, const Draws& draws) {
    const std::size_t count = kept.size();
    const auto blocks = static_cast<std::size_t>(state_blocks(plain.shape));
    w.resize(count), m.resize(count), v.resize(count), m_scale.resize(blocks);
    v_scale.resize(blocks);
    encode_m(plain.shape, plain.of<float>(plain.op.m), m, m_scale);
    for_blocks(plain.shape, [&](std::int64_t block, std::int64_t first, std::int64_t size) {
      const auto at = static_cast<std::size_t>(first), n = static_cast<std::size_t>(size);
      std::vector<std::uint32_t> bits;
      for (std::size_t i = at; i < at + n; ++i) {
        bits.push_back(draws(static_cast<std::int64_t>(i)));
        w[i] = round_at_random(plain.of<float>(plain.op.w)[i], bits.back());
      }
      v_scale[static_cast<std::size_t>(block)] =
          encode_v(kept.subspan(at, n), bits, std::span(v).subspan(at, n));
    });
  }
};

TEST(AdamWCompact, IsFloat32ThenTheCodecsBitForBit) {
  for (const Shape& shape : {Shape{{D, 61}, {P, 3}, {F, 117}}, Shape{{D, 300}, {P, 3}, {F, 13}}}) {
    for (const Isa isa : available_isas()) {
      CpuBackend cpu({.threads = 2, .isa = isa});
      Trained compact(shape, Form::compact, 3);
      const AdamW& op = compact.op;
      compact.set_weights(numbers(shape.count(), 9, -3, 0));
      for (std::int64_t t = 1; t <= 8; ++t) {
        // Some blocks without any gradient, some of tiny numbers, some of huge ones.
        auto g = numbers(shape.count(), static_cast<std::uint64_t>(100 + t), -4, 0);
        for (std::size_t i = 0; i < g.size(); ++i)
          g[i] *= std::array{1.0f, 0.0f, 1e-22f, 1e18f}[i / 1000 % 4];
        compact.copy(g, compact.of<float>(op.g));
        const Expected expected(cpu, compact, t, layer), other(cpu, compact, t, layer + 1);
        compact.step(cpu, t, 1e-2);
        ASSERT_TRUE(same_bits(compact.of<bf16>(op.w), expected.w)) << name_of(isa) << " " << t;
        ASSERT_TRUE(same_bits(compact.of<std::uint8_t>(op.m), expected.m));
        ASSERT_TRUE(same_bits(compact.of<std::uint8_t>(op.v), expected.v));
        ASSERT_TRUE(same_bits(compact.of<float>(op.m_scale), expected.m_scale));
        ASSERT_TRUE(same_bits(compact.of<float>(op.v_scale), expected.v_scale));
        EXPECT_FALSE(same_bits(compact.of<bf16>(op.w), other.w)) << "draws of another layer";
        EXPECT_FALSE(same_bits(compact.of<std::uint8_t>(op.v), other.v));
      }
    }
  }
}

// Gradients as the loops of ops/ round them, whatever the numbers.
TEST(RoundGradient, IsTheCodecsBitForBit) {
  const float odd[] = {NAN, INFINITY, -INFINITY, 1e-40f, -0.0f, 3e38f, 1e-31f, 1 + 0x1p-8f};
  for (const GradientFormat format : {GradientFormat::bf16, GradientFormat::int8}) {
    for (const std::int64_t columns : {13, 300}) {
      const Shape shape{{D, 200}, {F, columns}};
      std::vector<float> x = numbers(shape.count(), 4, -2, 2);
      for (std::size_t i = 0; i < 8; ++i) x[i * 311] = odd[i];
      std::fill(x.begin() + 1000, x.begin() + 1800, 1e-35f);
      std::vector<RefValue> frame{{{DType::f32, shape}, {x.begin(), x.end()}},
                                  {{DType::f64, {{S, Control::slots}}}, {1e-3, 9, 0}}};
      const RoundGradient op{
          .g = 0, .control = 1, .format = format, .seed = seed, .stream = stream};
      reference(op, frame, true, layer);
      const std::vector<float> expected(frame[0].numbers.begin(), frame[0].numbers.end());
      for (const Isa isa : available_isas()) {
        CpuBackend cpu({.threads = 2, .isa = isa});
        World world;
        const auto g = world.of<float>(world.add(shape, DType::f32));
        world.of<double>(world.add({{S, Control::slots}}, DType::f64))[Control::step] = 9;
        for (const bool right : {true, false}) {
          std::copy(x.begin(), x.end(), g.begin());
          if (!right && format == GradientFormat::bf16) g[5] *= 1.01f;
          cpu.run(op, world.frame(right ? layer : layer + 1));
          EXPECT_EQ(same_bits(g, expected), right) << name_of(isa) << " " << columns;
        }
      }
    }
  }
}

// What is stored beside the rounded numbers is the codecs', and gives them back, whatever they are.
TEST(RoundGradient, StoresWhatGivesTheSameBitsBack) {
  const float odd[] = {NAN, INFINITY, -INFINITY, 1e-40f, -0.0f, 3e38f, 1e-31f, -1e-31f};
  for (const std::int64_t columns : {13, 300}) {
    const Shape shape{{D, 200}, {F, columns}}, blocks{{S, state_blocks(shape)}};
    std::vector<float> x = numbers(shape.count(), 4, -2, 2);
    for (std::size_t i = 0; i < 8; ++i) x[i * 311] = odd[i];
    std::fill(x.begin() + 1000, x.begin() + 1800, -1e-35f);
    std::vector<std::int8_t> codes(x.size());
    std::vector<float> scales(static_cast<std::size_t>(blocks.count()));
    encode_int8(shape, x, {seed, dropout_stream(stream, layer, 9)}, codes, scales);
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(isa), columns));
      CpuBackend cpu({.threads = 2, .isa = isa});
      World plain, stored;
      RoundGradient op{.g = 0, .control = 1, .format = GradientFormat::int8, .seed = seed};
      op.stream = stream;
      for (World* world : {&plain, &stored}) {
        const auto g = world->of<float>(world->add(shape, DType::f32));
        std::copy(x.begin(), x.end(), g.begin());
        world->of<double>(world->add({{S, Control::slots}}, DType::f64))[Control::step] = 9;
      }
      cpu.run(op, plain.frame());
      op.codes = stored.add(shape, DType::u8);
      op.scales = stored.add(blocks, DType::f32);
      cpu.run(op, stored.frame());
      const auto g = stored.of<float>(op.g);
      const std::vector<float> rounded(g.begin(), g.end());
      EXPECT_TRUE(same_bits(plain.of<float>(op.g), rounded));
      const auto bytes = stored.of<std::uint8_t>(op.codes);
      EXPECT_EQ(std::memcmp(bytes.data(), codes.data(), codes.size()), 0);
      EXPECT_TRUE(same_bits(stored.of<float>(op.scales), scales));
      const RestoreGradient restore{.codes = op.codes, .scales = op.scales, .g = op.g};
      for (const bool right : {true, false}) {
        std::fill(g.begin(), g.end(), 1.0f);
        if (!right) bytes[bytes.size() - 1] ^= 1;
        cpu.run(restore, stored.frame());
        EXPECT_EQ(same_bits(g, rounded), right);
      }
    }
  }
}

// Close to the loops in double, compared as codes: a last bit may move a code to its neighbour.
TEST(CodedCases, AreCloseToTheirLoops) {
  const std::map<DType, double> tolerance = {
      {DType::f32, 1e-6}, {DType::bf16, 2e-4}, {DType::u8, 2e-4}, {DType::i16, 0.05}};
  for (const OpCase& one : coded_cases()) {
    std::vector<RefValue> expected = one.frame;
    reference(one.op, expected);
    for (const Isa isa : available_isas()) {
      CpuBackend alone({.threads = 1, .isa = isa}), many({.threads = 3, .isa = isa});
      SCOPED_TRACE(fmt::format("{}, {}", one.label, name_of(isa)));
      TestFrame result(one), again(one), untouched(one);
      alone.run(one.op, result.frame());
      many.run(one.op, again.frame());
      EXPECT_TRUE(same_bits(one, result, again));
      EXPECT_TRUE(result.guards_hold());
      const bool applied = one.label.find("not applied") == std::string::npos;
      for (const Id id : written_by(one.op)) {
        const RefValue& value = expected[static_cast<std::size_t>(id)];
        const double bound = tolerance.at(value.type.dtype);
        EXPECT_LE(relative_error(result.numbers(id), value.numbers), bound) << "value " << id;
        EXPECT_EQ(relative_error(untouched.numbers(id), value.numbers) > bound, applied);
      }
    }
  }
}

// A noisy quadratic of curvatures 1 to 1e-3, 1500 steps, the learning rate falling to a tenth:
// the mean loss of the last 300.
struct Toy {
  Form form = Form::f32;
  GradientFormat gradients = GradientFormat::f32;
  bool drop_low = false;  // of exact: bf16 weights to nearest

  double loss(CpuBackend& cpu) const {
    constexpr std::int64_t rows = 16, columns = 200, steps = 1500;
    const Shape shape{{D, rows}, {F, columns}};
    Trained trained(shape, form);
    trained.op.part[0].decay = 0;
    const RoundGradient round{.g = trained.op.g,
                              .control = trained.control,
                              .format = gradients,
                              .seed = seed,
                              .stream = stream};
    trained.set_weights(std::vector<float>(rows * columns, 0.0f));
    const std::vector<float> target = numbers(rows * columns, 8, 0, 0);
    std::vector<float> curvature;
    for (int i = 0; i < columns; ++i)
      curvature.push_back(std::pow(10.0f, -3.0f * static_cast<float>(i) / columns));
    double sum = 0;
    for (std::int64_t t = 1; t <= steps; ++t) {
      const std::vector<float> w = trained.weights();
      const auto g = trained.of<float>(trained.op.g);
      double now = 0;
      for (std::size_t i = 0; i < w.size(); ++i) {
        const float a = curvature[i % columns], off = w[i] - target[i];
        const auto bits = random_bits(5, static_cast<std::uint64_t>(t), i);
        const float noise = (static_cast<float>(bits >> 8) * 0x1p-24f - 0.5f) * std::sqrt(a);
        g[i] = a * off + noise;
        now += 0.5 * a * off * off;
      }
      if (t > steps - 300) sum += now / 300 / static_cast<double>(w.size());
      trained.of<double>(trained.control)[Control::step] = static_cast<double>(t);
      cpu.run(round, trained.frame());
      const double fall = t < steps / 2 ? 1 : 1.9 - 1.8 * static_cast<double>(t) / steps;
      trained.step(cpu, t, 5e-3 * fall);
      if (drop_low) std::ranges::fill(trained.of<std::int16_t>(trained.op.low), std::int16_t{0});
    }
    return sum;
  }
};

TEST(StateFormats, TrainAQuadraticAlmostAsWell) {
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  const auto loss = [&](const Toy& toy) { return toy.loss(cpu); };
  const double plain = loss({});
  const auto excess = [&](const char* label, const Toy& toy) {
    const double more = loss(toy) / plain - 1;
    fmt::print("{:16} loss {:+.2f}%\n", label, 100 * more);
    return more;
  };
  EXPECT_EQ(excess("exact", {.form = Form::exact}), 0);
  // All of this loss is distance from the optimum, where bf16 weights are a coarse grid.
  EXPECT_LT(std::abs(excess("compact", {.form = Form::compact})), 0.2);
  EXPECT_LT(std::abs(excess("bf16 gradients", {.gradients = GradientFormat::bf16})), 0.002);
  EXPECT_LT(std::abs(excess("int8 gradients", {.gradients = GradientFormat::int8})), 0.01);
  EXPECT_GT(excess("low bits dropped", {.form = Form::exact, .drop_low = true}), 0.05);
}

}  // namespace
}  // namespace sluice
