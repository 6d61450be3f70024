// Launchers of ops whose activations are float32 or bf16: one body for both.
#pragma once

#include "core/dtype.h"

namespace sluice {

// Calls f.operator()<T>() with the storage type of an activation, float or bf16. The shape rules
// let no other type pass.
template <class F>
void with_storage(DType type, F f) {
  if (type == DType::bf16) {
    f.template operator()<bf16>();
  } else {
    require(type == DType::f32,
            [&] { return Error(fmt::format("an activation of type {}", name_of(type))); });
    f.template operator()<float>();
  }
}

}  // namespace sluice
