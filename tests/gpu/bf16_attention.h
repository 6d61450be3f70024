// The cases of attention with bf16 storage, for kernels that the CPU has no like of.
#pragma once

#include <vector>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {

// A value becomes bf16, and so do its numbers.
inline void halve(RefValue& value) {
  value.type.dtype = DType::bf16;
  for (double& x : value.numbers) x = stored(DType::bf16, x);
}

// A case of attention with bf16 storage; what a gradient needs of the forward is made anew.
inline OpCase in_bf16(OpCase one) {
  const auto at = [&](Id id) -> RefValue& { return one.frame[static_cast<std::size_t>(id)]; };
  const auto halve_once = [&](Id id) {
    if (id != no_value && at(id).type.dtype == DType::f32) halve(at(id));
  };
  one.label += ", bf16";
  if (const auto* op = std::get_if<Attention>(&one.op)) {
    for (const Id id : {op->q.id, op->k.id, op->v.id, op->k_cache, op->v_cache, op->y})
      halve_once(id);
    return one;
  }
  const auto& op = std::get<AttentionGrad>(one.op);
  for (const Id id : {op.q.id, op.k.id, op.v.id, op.dy, op.dq.id, op.dk.id, op.dv.id})
    halve_once(id);
  reference(Attention{.q = op.q,
                      .k = op.k,
                      .v = op.v,
                      .starts = op.starts,
                      .y = op.y,
                      .lse = op.lse,
                      .scale = op.scale,
                      .control = op.control,
                      .dropout = op.dropout},
            one.frame);
  halve_once(op.y);
  return one;
}

inline std::vector<OpCase> bf16_attention_cases() {
  std::vector<OpCase> out;
  for (OpCase& one : op_cases())
    if (std::holds_alternative<Attention>(one.op) || std::holds_alternative<AttentionGrad>(one.op))
      out.push_back(in_bf16(std::move(one)));
  return out;
}

}  // namespace sluice
