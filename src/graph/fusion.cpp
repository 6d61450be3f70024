#include "graph/fusion.h"

namespace sluice {

std::vector<Op> fuse(const std::vector<Op>& ops) {
  std::vector<Op> out;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto* add = std::get_if<Add>(&ops[i]);
    const auto* norm = i + 1 < ops.size() ? std::get_if<LayerNorm>(&ops[i + 1]) : nullptr;
    if (add != nullptr && norm != nullptr && norm->x == add->y) {
      out.push_back(ResidualNorm{add->a, add->b, add->y, norm->gain, norm->bias, norm->y,
                                 norm->mean, norm->rstd, add->scale_b, norm->eps});
      ++i;
    } else {
      out.push_back(ops[i]);
    }
  }
  return out;
}

std::string fusion_set() { return "residual_norm"; }

}  // namespace sluice
