// How a tensor's role scales its initial values and its update, and the forward multipliers.
//
// Standard parametrization, µP (Yang et al. 2022) and CompleteP (Dey et al. 2025) are rows of
// values of this one table; models read it, nothing branches on its name.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sluice {

enum class Role : std::uint8_t {
  token_embedding,
  position_embedding,
  query,
  key,
  value,
  attention_output,
  mlp_input,
  mlp_output,
  head,
  norm,        // gains and biases of the norms inside blocks
  final_norm,  // of the norm before the head
  bias,        // biases of linear maps
  count,
};

std::string_view name_of(Role role);

struct RoleScale {
  double std = 1;    // multiplies the initial standard deviation
  double lr = 1;     // multiplies the learning rate
  double decay = 1;  // multiplies the weight decay; 0 where the standard recipe does not decay
  double eps = 1;    // multiplies AdamW's eps
};

struct Parametrization {
  std::array<RoleScale, static_cast<std::size_t>(Role::count)> roles;
  double embedding_sum = 1;     // on token + position embeddings
  double attention_logits = 1;  // on q·k / sqrt(head size)
  double attention_branch = 1;  // on the attention's contribution to the residual stream
  double mlp_branch = 1;        // on the MLP's
  double output_logits = 1;     // on the logits

  RoleScale& operator[](Role role) { return roles[static_cast<std::size_t>(role)]; }
  const RoleScale& operator[](Role role) const { return roles[static_cast<std::size_t>(role)]; }
};

// All multipliers 1; norms and biases do not decay.
Parametrization standard_parametrization();

}  // namespace sluice
