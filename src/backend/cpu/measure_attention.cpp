#include <chrono>

#include "backend/cpu/measure.h"
#include "core/random.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

// One layer's attention on random numbers, both directions over the same values.
class Attentions {
 public:
  Attentions(CpuBackend& memory, const MeasuredAttention& of) {
    const std::int64_t batch = 2, heads = 4;
    const Shape token{{Axis::batch, batch}, {Axis::time, of.sequence}};
    const Shape qkv{
        token[0], token[1], {Axis::parts, 3}, {Axis::heads, heads}, {Axis::head, of.head}};
    const Shape y{token[0], token[1], {Axis::heads, heads}, {Axis::head, of.head}};
    const Shape lse{token[0], {Axis::heads, heads}, token[1]};
    const DType type = DType::f32;
    types_ = {{type, qkv},       {DType::i32, token}, {type, y},
              {DType::f32, lse}, {type, y},           {type, qkv}};
    for (const ValueType& one : types_) {
      const std::int64_t count = one.shape.count();
      std::byte* const data = memory.take(count * size_of(one.dtype));
      values_.emplace_back(data, one.dtype, one.shape);
      if (one.dtype != DType::f32) continue;  // every token sees all before it
      auto* const numbers = reinterpret_cast<float*>(data);
      for (std::int64_t i = 0; i < count; ++i)
        numbers[i] = static_cast<float>(random_uniform(1, 2, static_cast<std::uint64_t>(i))) - 0.5f;
    }
    const float scale = 0.125f;
    forward_ = Attention{.q = {0, 0, 3},
                         .k = {0, 1, 3},
                         .v = {0, 2, 3},
                         .starts = 1,
                         .y = 2,
                         .lse = 3,
                         .scale = scale};
    backward_ = AttentionGrad{.q = {0, 0, 3},
                              .k = {0, 1, 3},
                              .v = {0, 2, 3},
                              .starts = 1,
                              .y = 2,
                              .lse = 3,
                              .dy = 4,
                              .dq = {5, 0, 3},
                              .dk = {5, 1, 3},
                              .dv = {5, 2, 3},
                              .scale = scale};
  }

  // FLOPs per second, as the op counts them: the causal half.
  double rate(CpuBackend& cpu, bool backward, double seconds) const {
    const Op& op = backward ? backward_ : forward_;
    const Clock::time_point begin = Clock::now();
    const auto since = [](Clock::time_point from) {
      return std::chrono::duration<double>(Clock::now() - from).count();
    };
    std::vector<double> times;
    cpu.run(op, {.values = values_, .workspace = {}});  // its pages are there
    do {
      const Clock::time_point start = Clock::now();
      cpu.run(op, {.values = values_, .workspace = {}});
      times.push_back(since(start));
    } while (times.size() < 15 && since(begin) < seconds);
    return cost(op, types_).flops / median(times);
  }

 private:
  std::vector<ValueType> types_;
  std::vector<Tensor> values_;
  Op forward_, backward_;
};

}  // namespace

std::vector<MeasuredAttention> measure_attention(CpuBackend& cpu, double seconds) {
  std::vector<MeasuredAttention> out = {{64, 256}, {64, 1024}, {128, 1024}};
  for (MeasuredAttention& one : out) {
    CpuBackend memory({.threads = 1, .isa = Isa::portable});  // gives it back at the end
    const Attentions attentions(memory, one);
    const double share = seconds / (2 * static_cast<double>(out.size()));
    one.forward = attentions.rate(cpu, false, share);
    one.backward = attentions.rate(cpu, true, share);
  }
  return out;
}

}  // namespace sluice
