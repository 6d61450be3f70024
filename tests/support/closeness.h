// "Close", as DESIGN §7 defines it: for every tensor ‖a−b‖₂ <= tol ‖b‖₂ in double, the worst one
// named.
#pragma once

#include <map>
#include <ostream>
#include <span>
#include <string>
#include <vector>

namespace sluice::testing_support {

// Tensors by Hugging Face's names, flat, in double (which holds float32 exactly).
using Tensors = std::map<std::string, std::vector<double>>;

struct Distance {
  double worst = 0;  // infinite when names or sizes differ or a number is not finite
  std::string name;  // of the worst tensor
};
std::ostream& operator<<(std::ostream& out, const Distance& distance);

// ‖a−b‖₂ / ‖b‖₂ of one tensor.
double distance(std::span<const double> a, std::span<const double> b);

// Of every tensor of b, by name, and infinite for one that only a or b has. The part "~key" of a
// fused bias, whose exact gradient is zero, and tensors that are zero in b are measured against the
// largest norm in their layer.
std::map<std::string, double> distances(const Tensors& a, const Tensors& b);
// The worst of them.
Distance distance(const Tensors& a, const Tensors& b);

// Gradients with a fused query-key-value bias in three parts, NAME~query, ~key and ~value: a key
// bias has no effect under softmax, so its gradient is rounding noise and needs a rule of its own.
Tensors with_bias_parts(Tensors tensors);

std::vector<double> to_double(std::span<const float> values);

}  // namespace sluice::testing_support
