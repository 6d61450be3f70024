// A whole model in double precision: the model's own graphs, walked with the textbook loops of
// ops/reference.h. One micro-batch, no packing, no fusion, no memory plan, no clever order.
#pragma once

#include <map>

#include "ops/reference.h"
#include "support/machine.h"

namespace sluice::testing_support {

class ReferenceModel {
 public:
  // `spec` as a machine takes it; only its mathematics counts. REQUIRES: one micro-batch.
  explicit ReferenceModel(const MachineSpec& spec);

  void set_weights(const Tensors& weights);
  // Forward, backward, norms, clipping and the update at once.
  StepNumbers step(const Batch& batch, double lr, std::int64_t number);
  Tensors weights() const;
  Tensors gradients() const;  // of the newest step's mean loss
  std::vector<double> logits(const Batch& batch);

 private:
  // Graphs and the values of each layer; globals and batch data by name, shared by all layers.
  struct Walk {
    ModelGraphs graphs;
    std::vector<std::vector<RefValue>> frames;  // per layer, the step's own last
    std::map<std::string, std::vector<double>> globals, batch;

    explicit Walk(ModelGraphs made);
    LayerKind kind_of(int layer) const;
    RefValue& value(int layer, const std::string& name);
    void run(int layer, const std::vector<Op>& ops);
    void forward();
    void backward();

   private:
    std::span<double> global(int layer, const Value& value);
    int owner_of(const Value& value, int layer) const;
    std::int64_t first_norm(int layer) const;
  };
  static void give(Walk& walk, const Batch& batch, double lr, double number);
  Tensors read(const std::string& prefix, double factor) const;

  std::int64_t vocab_;
  std::vector<ModelTensor> tensors_;
  mutable Walk training_;
  Walk logits_;
  double weight_sum_ = 1;
};

}  // namespace sluice::testing_support
