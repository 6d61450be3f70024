// The model of the tests that stream: six blocks, with dropout, a frozen tensor and an average of
// the weights.
#pragma once

#include "support/machine.h"

namespace sluice::testing_support {

constexpr int streamed_blocks = 6, streamed_micro_batches = 6;

// `numerics` says precision and formats. Homes and the like are the caller's.
inline MachineSpec streamed_spec(const std::string& family, bool tied, Numerics numerics) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.family = family;
  m.layers = streamed_blocks;
  m.width = 36;
  m.heads = 3;
  m.context = 24;
  m.vocab = 67;
  m.init_std = 0.1;
  m.dropout = 0.1;
  m.tied = tied;
  if (m.family == "gptj") m.rotary = 4;
  out.optim.eps = 1e-5;
  out.optim.freeze = m.family == "gptj" ? "*.attn.v_proj.weight" : "*.mlp.c_fc.weight";
  out.numerics = numerics;
  out.numerics.ema = 0.9;
  out.numerics.seed = 5;
  out.shape = {2, 17};
  out.micro_batches = streamed_micro_batches;
  out.head_chunk = 8;
  return out;
}

// Batch `number` of a step of that model.
inline Batch streamed_batch(const MachineSpec& spec, int number) {
  return Batch::random(2 * streamed_micro_batches, 17, spec.model.vocab,
                       static_cast<std::uint64_t>(number));
}

}  // namespace sluice::testing_support
