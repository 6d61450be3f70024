#include "parallel/schedule.h"

namespace sluice {

std::string_view name_of(Phase phase) {
  static constexpr std::string_view names[] = {"load",       "update",      "derive", "forward",
                                               "input_grad", "weight_grad", "norm",   "finish"};
  return names[static_cast<std::size_t>(phase)];
}

std::vector<Scheduled> micro_batch_major(const ScheduleSpec& spec) {
  std::vector<Scheduled> out;
  const int last = spec.micro_batches - 1;
  for (int micro = 0; micro < spec.micro_batches; ++micro) {
    out.push_back({Phase::load, 0, micro});
    for (int layer = 0; layer < spec.layers; ++layer) {
      if (spec.update && micro == 0) out.push_back({Phase::update, layer, 0});
      out.push_back({Phase::forward, layer, micro});
    }
    if (!spec.backward) continue;
    for (int layer = spec.layers - 1; layer >= 0; --layer) {
      out.push_back({Phase::input_grad, layer, micro});
      out.push_back({Phase::weight_grad, layer, micro});
      if (micro == last) out.push_back({Phase::norm, layer, micro});
    }
  }
  if (spec.backward) out.push_back({Phase::finish, spec.layers, last});
  return out;
}

std::vector<Scheduled> every_layer(int layers, Phase phase) {
  std::vector<Scheduled> out;
  for (int layer = 0; layer < layers; ++layer) out.push_back({phase, layer, 0});
  return out;
}

}  // namespace sluice
