#include "parallel/schedule.h"

#include <algorithm>

namespace sluice {

std::string_view name_of(Phase phase) {
  static constexpr std::string_view names[] = {
      "load",   "update", "derive", "forward", "input_grad", "weight_grad", "norm",
      "finish", "fetch",  "leave",  "read",    "write",      "unpack",      "keep"};
  return names[static_cast<std::size_t>(phase)];
}

std::vector<Scheduled> passes(const ScheduleSpec& spec) {
  std::vector<Scheduled> out;
  for (int begin = 0; begin < spec.micro_batches; begin += spec.at_once) {
    const int end = std::min(begin + spec.at_once, spec.micro_batches);
    const bool last = end == spec.micro_batches;
    for (int micro = begin; micro < end; ++micro) out.push_back({Phase::load, 0, micro});
    for (int layer = 0; layer < spec.layers; ++layer) {
      if (spec.update && begin == 0) out.push_back({Phase::update, layer, 0});
      for (int micro = begin; micro < end; ++micro) out.push_back({Phase::forward, layer, micro});
    }
    if (!spec.backward) continue;
    for (int layer = spec.layers - 1; layer >= 0; --layer) {
      for (int micro = begin; micro < end; ++micro) {
        out.push_back({Phase::input_grad, layer, micro});
        out.push_back({Phase::weight_grad, layer, micro});
      }
      if (last) out.push_back({Phase::norm, layer, end - 1});
    }
  }
  if (spec.backward) out.push_back({Phase::finish, spec.layers, spec.micro_batches - 1});
  return out;
}

std::vector<Scheduled> every_layer(int layers, Phase phase) {
  std::vector<Scheduled> out;
  for (int layer = 0; layer < layers; ++layer) out.push_back({phase, layer, 0});
  return out;
}

}  // namespace sluice
