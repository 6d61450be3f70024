#include "ops/reference.h"

#include "ops/loops.h"

namespace sluice {

void reference(const Op& op, std::span<RefValue> frame, bool first, int layer) {
  loops::Loop loop(frame, first, layer);
  std::visit([&](const auto& one) { loops::reference(one, loop); }, op);
}

}  // namespace sluice
