// The per-op loops behind reference(): one overload per op, defined in the reference.cpp of the
// op's folder. Private to this room; others call reference() of reference.h.
//
// Written to be read: every loop is the formula of the op's header comment, and shares nothing with
// how kernels work.
#pragma once

#include "ops/reference.h"

namespace sluice::loops {

// The frame as one loop sees it.
class Loop {
 public:
  Loop(std::span<RefValue> frame, bool first, int layer = 0)
      : frame_(frame), first_(first), layer_(layer) {}

  bool has(Id id) const { return id != no_value; }
  const std::vector<double>& in(Id id) const { return value(id).numbers; }
  // Cleared: a write covers every element.
  std::vector<double>& out(Id id) { return cleared(id); }
  // Cleared for the first micro-batch, kept afterwards.
  std::vector<double>& accumulator(Id id) { return first_ ? cleared(id) : value(id).numbers; }
  std::vector<double>& update(Id id) { return value(id).numbers; }

  const Shape& shape(Id id) const { return value(id).type.shape; }
  DType dtype(Id id) const { return value(id).type.dtype; }
  int layer() const { return layer_; }
  std::int64_t tokens_of(Id id) const { return tokens(shape(id)); }
  std::int64_t features_of(Id id) const { return features(shape(id)); }

 private:
  RefValue& value(Id id) const { return frame_[static_cast<std::size_t>(id)]; }
  std::vector<double>& cleared(Id id) {
    value(id).numbers.assign(static_cast<std::size_t>(shape(id).count()), 0.0);
    return value(id).numbers;
  }

  std::span<RefValue> frame_;
  bool first_;
  int layer_;
};

// Numbers are indexed by std::int64_t, as shapes count; vectors want std::size_t.
inline double at(const std::vector<double>& v, std::int64_t i) {
  return v[static_cast<std::size_t>(i)];
}
inline double& at(std::vector<double>& v, std::int64_t i) { return v[static_cast<std::size_t>(i)]; }

// What a value of type `to` keeps of x. Float32 stands for "as exact as can be" here, so that
// finite differences see a smooth function; only bfloat16 rounds.
inline double rounded(double x, DType to) {
  return to == DType::bf16 ? static_cast<float>(bf16(static_cast<float>(x))) : x;
}

void reference(const Embed& op, Loop& loop);
void reference(const EmbedGrad& op, Loop& loop);
void reference(const Add& op, Loop& loop);
void reference(const Scale& op, Loop& loop);
void reference(const Cast& op, Loop& loop);
void reference(const AddInto& op, Loop& loop);
void reference(const LayerNorm& op, Loop& loop);
void reference(const ResidualNorm& op, Loop& loop);
void reference(const LayerNormGradInput& op, Loop& loop);
void reference(const LayerNormGradWeight& op, Loop& loop);
void reference(const Linear& op, Loop& loop);
void reference(const LinearGradInput& op, Loop& loop);
void reference(const LinearGradWeight& op, Loop& loop);
void reference(const LinearGelu& op, Loop& loop);
void reference(const LinearGeluGrad& op, Loop& loop);
void reference(const Gelu& op, Loop& loop);
void reference(const GeluGrad& op, Loop& loop);
void reference(const Rotary& op, Loop& loop);
void reference(const Attention& op, Loop& loop);
void reference(const AttentionGrad& op, Loop& loop);
void reference(const Dropout& op, Loop& loop);
void reference(const HeadLoss& op, Loop& loop);
void reference(const RoundGradient& op, Loop& loop);
void reference(const RestoreGradient& op, Loop& loop);
void reference(const SquaredNorm& op, Loop& loop);
void reference(const FinishStep& op, Loop& loop);
void reference(const AdamW& op, Loop& loop);
void reference(const Ema& op, Loop& loop);
void reference(const Pack& op, Loop& loop);

}  // namespace sluice::loops
