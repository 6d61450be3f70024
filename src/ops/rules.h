// The per-op rules behind check(), cost(), workspace_bytes() and gradient(): one overload per op,
// defined in the op's folder. Private to this room; others call the dispatchers of all.h.
//
// They live in a namespace of their own so that a missing overload is a compile error and not a
// conversion to Op that calls itself for ever.
#pragma once

#include "ops/gradient.h"

namespace sluice::rules {

// Reads the operands of one op for a shape rule; every error names the op and the operand.
class Operands {
 public:
  Operands(const char* op, Types types) : op_(op), types_(types) {}

  // The operand's type; an absent one is an error.
  const ValueType& at(const char* operand, Id id) const;
  // The shape of an activation [B T …], f32 or bf16, with at least one feature axis.
  const Shape& activation(const char* operand, Id id) const;
  // [B T N H] of an activation, or of one part of [B T P N H].
  Shape heads(const char* operand, Slice slice) const;

  // The type of a present operand.
  DType dtype(const char* operand, Id id) const { return at(operand, id).dtype; }
  // A type that activations and matrices may have: f32 or bf16.
  DType floating(const char* operand, Id id) const;

  void expect(const char* operand, Id id, const Shape& shape, DType dtype = DType::f32) const;
  void expect_if_present(const char* operand, Id id, const Shape& shape,
                         DType dtype = DType::f32) const;
  // Any shape of `count` elements: for operands whose axes may be factored.
  void expect_count(const char* operand, Id id, std::int64_t count, DType dtype = DType::f32) const;
  void expect_count_if_present(const char* operand, Id id, std::int64_t count,
                               DType dtype = DType::f32) const;
  // The general form, for rules that are not about one shape.
  void expect_that(bool ok, const std::string& expected, const std::string& found) const;

 private:
  const char* op_;
  Types types_;
};

inline const ValueType& type_of(Types types, Id id) { return types[static_cast<std::size_t>(id)]; }
inline const Shape& shape_of(Types types, Id id) { return type_of(types, id).shape; }
inline double bytes_of(Types types, Id id) {
  const ValueType& value = type_of(types, id);
  return static_cast<double>(value.shape.count() * size_of(value.dtype));
}

// [B T] of an activation: the shape of its per-token values.
Shape token_axes(const Shape& activation);

// Cost with `flops` and every operand moved once: reads and writes by its access, accumulators and
// updates both ways. A fused value that is named by several slices counts once.
template <class OneOp>
Cost cost_of(const OneOp& op, Types types, double flops) {
  Cost total{.flops = flops};
  Id seen[16];
  int count = 0;
  OneOp::operands(op, [&](Id id, Access access) {
    for (int i = 0; i < count; ++i)
      if (seen[i] == id) return;
    if (id == no_value) return;
    seen[count++] = id;
    if (access != Access::write) total.read_bytes += bytes_of(types, id);
    if (access != Access::read) total.write_bytes += bytes_of(types, id);
  });
  return total;
}

inline std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline constexpr std::int64_t workspace_alignment = 256;
// Tokens per partial sum of a gradient that is summed over tokens (biases, gains).
inline constexpr std::int64_t token_chunk = 64;

// Shape rules. Each throws an Error that says operand, expected and found.
void check(const Embed& op, Types types);
void check(const EmbedGrad& op, Types types);
void check(const Add& op, Types types);
void check(const Scale& op, Types types);
void check(const Cast& op, Types types);
void check(const AddInto& op, Types types);
void check(const LayerNorm& op, Types types);
void check(const ResidualNorm& op, Types types);
void check(const LayerNormGradInput& op, Types types);
void check(const LayerNormGradWeight& op, Types types);
void check(const Linear& op, Types types);
void check(const LinearGradInput& op, Types types);
void check(const LinearGradWeight& op, Types types);
void check(const LinearGelu& op, Types types);
void check(const LinearGeluGrad& op, Types types);
void check(const Gelu& op, Types types);
void check(const GeluGrad& op, Types types);
void check(const Rotary& op, Types types);
void check(const Attention& op, Types types);
void check(const AttentionGrad& op, Types types);
void check(const Dropout& op, Types types);
void check(const HeadLoss& op, Types types);
void check(const RoundGradient& op, Types types);
void check(const RestoreGradient& op, Types types);
void check(const SquaredNorm& op, Types types);
void check(const FinishStep& op, Types types);
void check(const AdamW& op, Types types);
void check(const Ema& op, Types types);
void check(const Pack& op, Types types);

// FLOPs and bytes. REQUIRES: check() passed.
Cost cost(const Embed& op, Types types);
Cost cost(const EmbedGrad& op, Types types);
Cost cost(const Add& op, Types types);
Cost cost(const Scale& op, Types types);
Cost cost(const Cast& op, Types types);
Cost cost(const AddInto& op, Types types);
Cost cost(const LayerNorm& op, Types types);
Cost cost(const ResidualNorm& op, Types types);
Cost cost(const LayerNormGradInput& op, Types types);
Cost cost(const LayerNormGradWeight& op, Types types);
Cost cost(const Linear& op, Types types);
Cost cost(const LinearGradInput& op, Types types);
Cost cost(const LinearGradWeight& op, Types types);
Cost cost(const LinearGelu& op, Types types);
Cost cost(const LinearGeluGrad& op, Types types);
Cost cost(const Gelu& op, Types types);
Cost cost(const GeluGrad& op, Types types);
Cost cost(const Rotary& op, Types types);
Cost cost(const Attention& op, Types types);
Cost cost(const AttentionGrad& op, Types types);
Cost cost(const Dropout& op, Types types);
Cost cost(const HeadLoss& op, Types types);
Cost cost(const RoundGradient& op, Types types);
Cost cost(const RestoreGradient& op, Types types);
Cost cost(const SquaredNorm& op, Types types);
Cost cost(const FinishStep& op, Types types);
Cost cost(const AdamW& op, Types types);
Cost cost(const Ema& op, Types types);
Cost cost(const Pack& op, Types types);

// Scratch memory. Ops without an overload need none.
template <class OneOp>
std::int64_t workspace_bytes(const OneOp&, Types, Workers) {
  return 0;
}
std::int64_t workspace_bytes(const LayerNormGradWeight& op, Types types, Workers workers);
std::int64_t workspace_bytes(const Attention& op, Types types, Workers workers);
std::int64_t workspace_bytes(const AttentionGrad& op, Types types, Workers workers);
std::int64_t workspace_bytes(const HeadLoss& op, Types types, Workers workers);
std::int64_t workspace_bytes(const SquaredNorm& op, Types types, Workers workers);

// Gradient rules. Ops without an overload refuse.
[[noreturn]] void no_gradient(const char* op, const char* reason);
template <class OneOp>
void gradient(const OneOp&, GradientBuilder&) {
  no_gradient(OneOp::name, "no gradient passes through it");
}
void gradient(const Embed& op, GradientBuilder& builder);
void gradient(const Add& op, GradientBuilder& builder);
void gradient(const Scale& op, GradientBuilder& builder);
void gradient(const Cast& op, GradientBuilder& builder);
void gradient(const LayerNorm& op, GradientBuilder& builder);
void gradient(const ResidualNorm& op, GradientBuilder& builder);
void gradient(const Linear& op, GradientBuilder& builder);
void gradient(const Gelu& op, GradientBuilder& builder);
void gradient(const Rotary& op, GradientBuilder& builder);
void gradient(const Attention& op, GradientBuilder& builder);
void gradient(const Dropout& op, GradientBuilder& builder);
void gradient(const HeadLoss& op, GradientBuilder& builder);

}  // namespace sluice::rules
