#include "support/closeness.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice::testing_support {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

double norm(std::span<const double> x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

double norm_of_difference(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) return infinite;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::isfinite(sum) ? std::sqrt(sum) : infinite;
}

// "transformer.h.3" of "transformer.h.3.mlp.c_fc.bias"; "" outside blocks.
std::string layer_of(const std::string& name) {
  constexpr std::string_view prefix = "transformer.h.";
  if (!name.starts_with(prefix)) return {};
  return name.substr(0, name.find('.', prefix.size()));
}

double largest_norm_of_layer(const Tensors& tensors, const std::string& name) {
  const std::string layer = layer_of(name);
  double largest = 0;
  for (const auto& [other, values] : tensors)
    if (layer_of(other) == layer) largest = std::max(largest, norm(values));
  return largest;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Distance& distance) {
  return out << distance.worst << " (" << distance.name << ")";
}

double distance(std::span<const double> a, std::span<const double> b) {
  const double difference = norm_of_difference(a, b);
  return difference == 0 ? 0 : difference / norm(b);
}

std::map<std::string, double> distances(const Tensors& a, const Tensors& b) {
  std::map<std::string, double> out;
  for (const auto& [name, values] : a)
    if (!b.contains(name)) out[name] = infinite;
  for (const auto& [name, expected] : b) {
    const auto found = a.find(name);
    if (found == a.end()) {
      out[name] = infinite;
      continue;
    }
    const double difference = norm_of_difference(found->second, expected);
    const double own = norm(expected);
    const bool zero = name.ends_with("~key") || own == 0;
    const double size = zero ? largest_norm_of_layer(b, name) : own;
    out[name] = difference == 0 ? 0 : difference / size;
  }
  return out;
}

Distance distance(const Tensors& a, const Tensors& b) {
  Distance worst;
  for (const auto& [name, relative] : distances(a, b))
    if (worst.name.empty() || !(relative <= worst.worst)) worst = {relative, name};
  return worst;
}

Tensors with_bias_parts(Tensors tensors) {
  Tensors out;
  for (auto& [name, values] : tensors) {
    if (!name.ends_with("attn.c_attn.bias")) {
      out[name] = std::move(values);
      continue;
    }
    const auto third = static_cast<std::ptrdiff_t>(values.size() / 3);
    const auto at = values.begin();
    out[name + "~query"] = {at, at + third};
    out[name + "~key"] = {at + third, at + 2 * third};
    out[name + "~value"] = {at + 2 * third, values.end()};
  }
  return out;
}

std::vector<double> to_double(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace sluice::testing_support
