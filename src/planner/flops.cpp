#include "planner/flops.h"

#include "models/published.h"

namespace sluice {
namespace {

// Sizes as numbers: products of them pass 2^63.
struct Sizes {
  explicit Sizes(const ModelConfig& m, std::int64_t sequence)
      : layers(static_cast<double>(m.layers)),
        width(static_cast<double>(m.width)),
        heads(static_cast<double>(m.heads)),
        inner(static_cast<double>(m.inner_width())),
        vocab(static_cast<double>(m.vocab)),
        sequence(static_cast<double>(sequence)) {}
  double layers, width, heads, inner, vocab, sequence;

  // Of one token's products with all keys, and of the weighted sum of all values.
  double scores() const { return 2 * sequence * width; }
};

}  // namespace

double flops_six_n(const ModelConfig& model, std::int64_t) {
  return 6 * static_cast<double>(parameters_of(model));
}

double flops_model_zoo(const ModelConfig& model, std::int64_t sequence) {
  const Sizes s(model, sequence);
  const double projections = 8 * s.width * s.width;  // q, k, v and the output
  const double softmax = 3 * s.heads * s.sequence;
  const double mlp = 4 * s.width * s.inner;
  const double layer = projections + 2 * s.scores() + softmax + mlp;
  const double table = 2 * s.vocab * s.width;  // the embedding's, and the head's
  return 2 * table + 3 * (s.layers * layer + table);
}

double flops_paper(const ModelConfig& model, std::int64_t sequence) {
  const Sizes s(model, sequence);
  return flops_model_zoo(model, sequence) + 3 * s.layers * 2 * s.scores();
}

std::span<const FlopsRule> flops_rules() {
  static constexpr FlopsRule all[] = {
      {"six_n", flops_six_n}, {"model_zoo", flops_model_zoo}, {"paper", flops_paper}};
  return all;
}

double megatron_parameters(const ModelConfig& model) {
  const Sizes s(model, model.context);
  return 12 * s.layers * s.width * s.width *
         (1 + 13 / (12 * s.width) + (s.vocab + s.sequence) / (12 * s.layers * s.width));
}

}  // namespace sluice
