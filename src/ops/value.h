// Names of values inside one graph, and how an op touches them.
#pragma once

#include <cstdint>

namespace sluice {

// A value of a graph: an index into its value table. `no_value` marks an absent optional operand.
using Id = std::int32_t;
inline constexpr Id no_value = -1;

// One part of a value that is fused along its `parts` axis, such as the keys in qkv [B T P3 N H].
// With parts == 1 it is the whole value. Kernels step from token to token by parts * N * H.
struct Slice {
  Id id = no_value;
  std::int32_t part = 0;
  std::int32_t parts = 1;
};

// How an op touches an operand.
enum class Access : std::uint8_t {
  read,
  write,       // every element is written; what was there before is not read
  accumulate,  // first micro-batch of a step: write; later ones: add
  update,      // read and written in place
};

}  // namespace sluice
