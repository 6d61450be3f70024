// The formats that a run computes and keeps its numbers in: part of the numerics key, chosen before
// the graphs are built. Models do not see them; the Builder does.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/dtype.h"
#include "ops/attention/attention.h"
#include "ops/optimizer/optimizer.h"

namespace sluice {

// What is kept of a matrix besides its gradient when the run computes in bf16 (DESIGN §6); vectors
// (norm gains, biases) and float32 runs keep float32 weights and moments.
enum class StateFormat : std::uint8_t {
  exact,    // 12 bytes: bf16 weight + int16 remainder of a float32 master, float32 moments
  compact,  // about 4 bytes: bf16 weight rounded stochastically, moments in 8 bits
};

struct Numerics {
  DType precision = DType::f32;  // of activations and matrices: f32 or bf16
  StateFormat state = StateFormat::exact;
  GradientFormat gradients = GradientFormat::f32;
  AttentionKernels attention = AttentionKernels::own;
  // GELU (tanh, in bf16) is made where its product is stored, of what was not rounded yet.
  bool gelu_in_product = false;
  double ema = 0;          // decay of the averaged weights; 0: none are kept
  bool dropout = false;    // the model's dropout is on: training
  std::uint64_t seed = 0;  // of dropout and stochastic rounding
};

std::string_view name_of(StateFormat format);
std::string_view name_of(GradientFormat format);
std::string_view name_of(AttentionKernels kernels);

}  // namespace sluice
