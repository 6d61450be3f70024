// Megatron-LM's cut of a GPT-2 block (Shoeybi et al. 2019): projections that open a branch are cut
// by heads or hidden columns, those that close it contract the cut axis.
#include "models/tables.h"

namespace sluice {

ShardingTable gpt2_sharding() {
  return {
      {"wte", Axis::vocab},
      {"lm_head", Axis::vocab},
      {"attn.c_attn.weight", Axis::heads},
      {"attn.c_attn.bias", Axis::heads},
      {"attn.c_proj.weight", Axis::heads},
      {"mlp.c_fc.weight", Axis::hidden},
      {"mlp.c_fc.bias", Axis::hidden},
      {"mlp.c_proj.weight", Axis::hidden},
  };
}

}  // namespace sluice
