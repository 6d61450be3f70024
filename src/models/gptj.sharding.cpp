// GPT-J's cut: attention by heads, MLP by hidden columns; both branches close into one sum, so one
// all-reduce per direction serves the block.
#include "models/tables.h"

namespace sluice {

ShardingTable gptj_sharding() {
  return {
      {"wte", Axis::vocab},
      {"lm_head", Axis::vocab},
      {"lm_head.bias", Axis::vocab},
      {"attn.q_proj.weight", Axis::heads},
      {"attn.k_proj.weight", Axis::heads},
      {"attn.v_proj.weight", Axis::heads},
      {"attn.out_proj.weight", Axis::heads},
      {"mlp.fc_in.weight", Axis::hidden},
      {"mlp.fc_in.bias", Axis::hidden},
      {"mlp.fc_out.weight", Axis::hidden},
  };
}

}  // namespace sluice
