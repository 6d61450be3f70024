#include "graph/derive.h"

namespace sluice {
namespace {

class Packer {
 public:
  Packer(ModelGraphs& model, LayerGraph& user) : model_(model), user_(user) {}

  // B[k n] is the weight as stored, or its transpose.
  Id packed(Id weight, std::int64_t k, std::int64_t n, bool transposed) {
    const Value used = user_[weight];
    LayerGraph& owner = model_.of(used.owner);
    const Id owned = used.owner == user_.kind ? weight : owner.require_value(used.owner_name);
    const std::string name = owner[owned].name + (transposed ? ".packed_t" : ".packed");
    const DType numbers = used.type.dtype;
    const ValueType type{numbers, {{Axis::bytes, packed_count(k, n, numbers)}}};
    Id id = owner.find(name);
    if (id == no_value) {
      id = owner.add_value(name, type, ValueKind::derived);
      owner.derive.push_back(Pack{owned, id, k, n, transposed});
    }
    return &owner == &user_ ? id : borrow(name, type, owner.kind);
  }

 private:
  Id borrow(const std::string& name, const ValueType& type, LayerKind owner) {
    if (const Id known = user_.find(name); known != no_value) return known;
    const Id id = user_.add_value(name, type, ValueKind::derived);
    user_.values.back().owner = owner;
    user_.values.back().owner_name = name;
    return id;
  }

  ModelGraphs& model_;
  LayerGraph& user_;
};

void pack_for(Packer& packer, const LayerGraph& graph, Op& op) {
  const auto size = [&](Id id) { return features(graph[id].type.shape); };
  if (auto* one = std::get_if<Linear>(&op)) {
    one->packed = packer.packed(one->w, size(one->x), size(one->y), one->out_in);
  } else if (auto* grad = std::get_if<LinearGradInput>(&op)) {
    grad->packed = packer.packed(grad->w, size(grad->dy), size(grad->dx), !grad->out_in);
  } else if (auto* loss = std::get_if<HeadLoss>(&op)) {
    const std::int64_t rows = graph[loss->w].type.shape[0].size;
    loss->packed = packer.packed(loss->w, size(loss->x), rows, true);
    if (loss->dx != no_value) loss->packed_t = packer.packed(loss->w, rows, size(loss->x), false);
  }
}

}  // namespace

void derive_packed_weights(ModelGraphs& model) {
  for (const LayerKind kind : model.kinds()) {
    LayerGraph& graph = model.of(kind);
    Packer packer(model, graph);
    for (auto* list : {&graph.forward, &graph.input_grad})
      for (Op& op : *list) pack_for(packer, graph, op);
  }
}

}  // namespace sluice
