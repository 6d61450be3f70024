// The one list of ops. A backend that misses one does not compile. Include it only where ops are
// dispatched: graph, program, backend, executor.
#pragma once

#include <variant>

#include "ops/attention/attention.h"
#include "ops/derived/derived.h"
#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embed/embed.h"
#include "ops/gelu/gelu.h"
#include "ops/head_loss/head_loss.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/linear/linear.h"
#include "ops/optimizer/optimizer.h"
#include "ops/rotary/rotary.h"

namespace sluice {

using Op = std::variant<Embed, EmbedGrad, Add, Scale, Cast, AddInto, LayerNorm, ResidualNorm,
                        LayerNormGradInput, LayerNormGradWeight, Linear, LinearGradInput,
                        LinearGradWeight, LinearGelu, LinearGeluGrad, Gelu, GeluGrad, Rotary,
                        Attention, AttentionGrad, Dropout, HeadLoss, RoundGradient, RestoreGradient,
                        SquaredNorm, FinishStep, AdamW, Ema, Pack>;

inline const char* name_of(const Op& op) {
  return std::visit([](const auto& one) { return std::remove_cvref_t<decltype(one)>::name; }, op);
}

// Calls visit(Id&, Access) for every operand that is present.
template <class OpOrConst, class Visit>
void for_each_operand(OpOrConst& op, Visit visit) {
  std::visit(
      [&](auto& one) {
        std::remove_cvref_t<decltype(one)>::operands(one, [&](auto& id, Access access) {
          if (id != no_value) visit(id, access);
        });
      },
      op);
}

// The rules, dispatched over the variant (each op's own overloads live in its folder).
void check(const Op& op, Types types);                                     // shape rule; throws
Cost cost(const Op& op, Types types);                                      // FLOPs and bytes
std::int64_t workspace_bytes(const Op& op, Types types, Workers workers);  // an upper bound

}  // namespace sluice
