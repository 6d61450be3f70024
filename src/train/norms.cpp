#include "train/norms.h"

#include <cmath>

namespace sluice {
namespace {

// Padding is zero and adds nothing.
double squares_of(const Tensor& weight) {
  double sum = 0;
  const bool half = weight.dtype() == DType::bf16;
  for (std::int64_t i = 0; i < weight.count(); ++i) {
    const double value =
        half ? static_cast<float>(weight.data<bf16>()[i]) : weight.data<float>()[i];
    sum += value * value;
  }
  return sum;
}

}  // namespace

LayerNorms layer_norms(Trainer& trainer, double weight) {
  const std::vector<ModelTensor>& tensors = trainer.tensors();
  std::int64_t trained = 0;
  for (const ModelTensor& tensor : tensors) trained += tensor.frozen ? 0 : 1;
  const Tensor squares = trainer.executor().global("norms", DType::f64, {{Axis::scalar, trained}});
  const auto layers = static_cast<std::size_t>(trainer.executor().programs().model->layer_count());
  LayerNorms out{std::vector<double>(layers), std::vector<double>(layers)};
  std::int64_t index = 0;
  for (const ModelTensor& tensor : tensors) {
    const auto layer = static_cast<std::size_t>(tensor.layer);
    out.weights[layer] += squares_of(trainer.tensor(tensor.layer, tensor.value, Access::read));
    if (!tensor.frozen) out.gradients[layer] += squares.data<double>()[index++];
  }
  for (double& sum : out.weights) sum = std::sqrt(sum);
  for (double& sum : out.gradients) sum = std::sqrt(sum) / weight;
  return out;
}

double total(const std::vector<double>& norms) {
  double sum = 0;
  for (const double norm : norms) sum += norm * norm;
  return std::sqrt(sum);
}

std::string layer_label(std::size_t layer, std::size_t layers) {
  if (layer == 0) return "embedding";
  return layer + 1 == layers ? "head" : fmt::format("block-{:02}", layer - 1);
}

}  // namespace sluice
