#include "graph/initial.h"

#include <algorithm>

#include "core/random.h"

namespace sluice {

void fill_initial(const Tensor& weight, const Parameter& p, std::string_view unique_name,
                  std::uint64_t seed, const Parametrization& scales) {
  const std::span<float> w = weight.values<float>();
  std::fill(w.begin(), w.end(), 0.0f);
  const std::span<float> real = w.first(static_cast<std::size_t>(p.count()));
  if (p.init.kind == Init::Kind::ones) std::fill(real.begin(), real.end(), 1.0f);
  if (p.init.kind == Init::Kind::ones || p.init.kind == Init::Kind::zeros) return;

  const std::uint64_t stream = stream_of(unique_name);
  // A fused projection scales each part by its own role; its parts lie side by side in a row.
  const std::size_t parts = p.roles.size();
  const Shape& shape = weight.shape();
  const std::size_t inner =
      parts == 1 ? real.size()
                 : static_cast<std::size_t>(shape.size(Axis::heads) * shape.size(Axis::head));
  const bool truncated = p.init.kind == Init::Kind::truncated_normal;
  for (std::size_t i = 0; i < real.size(); ++i) {
    const Role role = p.roles[i / inner % parts];
    const float draw =
        truncated ? random_truncated_normal(seed, stream, i) : random_normal(seed, stream, i);
    real[i] = static_cast<float>(static_cast<double>(draw) * p.init.std * scales[role].std);
  }
}

}  // namespace sluice
