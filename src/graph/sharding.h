// How a model may be cut over ranks: which axis of which weight. A table beside the model; passes
// that partition read it, the model's mathematics does not.
#pragma once

#include <string>
#include <vector>

#include "core/shape.h"

namespace sluice {

struct ShardingRule {
  std::string weight;  // name inside its layer
  Axis axis;           // the axis that tensor parallelism cuts
};
using ShardingTable = std::vector<ShardingRule>;

}  // namespace sluice
