#include "graph/initial.h"

#include <algorithm>

#include "core/random.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

// Draws of one parameter, by element. A fused projection scales each part by its own role; its
// parts lie side by side in a row.
class Draw {
 public:
  Draw(const Shape& shape, const Parameter& p, std::string_view unique_name, std::uint64_t seed,
       const Parametrization& scales)
      : p_(p), seed_(seed), stream_(stream_of(unique_name)), scales_(scales) {
    if (p.roles.size() > 1)
      inner_ = static_cast<std::size_t>(shape.size(Axis::heads) * shape.size(Axis::head));
  }

  float operator()(std::size_t i) const {
    if (p_.init.kind == Init::Kind::zeros) return 0.0f;
    if (p_.init.kind == Init::Kind::ones) return 1.0f;
    const Role role = p_.roles[inner_ == 0 ? 0 : i / inner_ % p_.roles.size()];
    const float draw = p_.init.kind == Init::Kind::truncated_normal
                           ? random_truncated_normal(seed_, stream_, i)
                           : random_normal(seed_, stream_, i);
    return static_cast<float>(static_cast<double>(draw) * p_.init.std * scales_[role].std);
  }

 private:
  const Parameter& p_;
  std::uint64_t seed_, stream_;
  const Parametrization& scales_;
  std::size_t inner_ = 0;  // numbers per part of a row; 0: one part
};

}  // namespace

void fill_initial(const Tensor& weight, const Tensor& low, const Parameter& p,
                  std::string_view unique_name, std::uint64_t seed, const Parametrization& scales,
                  std::int64_t begin, std::int64_t end) {
  const Draw draw(weight.shape(), p, unique_name, seed, scales);
  const std::int64_t drawn = std::clamp(p.count(), begin, end);  // padding is zero
  for (std::int64_t i = begin; i < end; ++i) {
    const float number = i < drawn ? draw(static_cast<std::size_t>(i)) : 0.0f;
    if (weight.dtype() == DType::f32) {
      weight.data<float>()[i] = number;
      continue;
    }
    const Master master = split_master(number);
    weight.data<bf16>()[i] = master.weight;
    if (low) low.data<std::int16_t>()[i] = master.low;
  }
}

void fill_initial(const Tensor& weight, const Tensor& low, const Parameter& p,
                  std::string_view unique_name, std::uint64_t seed, const Parametrization& scales) {
  fill_initial(weight, low, p, unique_name, seed, scales, 0, weight.count());
}

}  // namespace sluice
