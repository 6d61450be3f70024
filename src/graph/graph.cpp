#include "graph/graph.h"

namespace sluice {

std::string_view name_of(Role role) {
  static constexpr std::string_view names[] = {
      "token_embedding", "position_embedding", "query", "key",  "value",      "attention_output",
      "mlp_input",       "mlp_output",         "head",  "norm", "final_norm", "bias"};
  return names[static_cast<std::size_t>(role)];
}

Parametrization standard_parametrization() {
  Parametrization out;
  for (Role role : {Role::norm, Role::final_norm, Role::bias}) out[role].decay = 0;
  return out;
}

std::string_view name_of(LayerKind kind) {
  static constexpr std::string_view names[] = {"embedding", "block", "mlp", "head", "step"};
  return names[static_cast<std::size_t>(kind)];
}

std::string_view name_of(ValueKind kind) {
  static constexpr std::string_view names[] = {"weight",  "gradient",  "packed", "state",
                                               "derived", "batch",     "global", "cache",
                                               "carry",   "activation"};
  return names[static_cast<std::size_t>(kind)];
}

Id LayerGraph::add_value(std::string name, ValueType type, ValueKind value_kind) {
  require(find(name) == no_value, [&] {
    return Error(fmt::format("{} graph: the name {} is taken", name_of(kind), name));
  });
  values.push_back({std::move(name), type, value_kind, kind, {}});
  return static_cast<Id>(values.size()) - 1;
}

Id LayerGraph::find(std::string_view name) const {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].name == name) return static_cast<Id>(i);
  return no_value;
}

Id LayerGraph::require_value(std::string_view name) const {
  const Id id = find(name);
  require(id != no_value,
          [&] { return Error(fmt::format("{} graph has no value {}", name_of(kind), name)); });
  return id;
}

std::vector<ValueType> LayerGraph::types() const {
  std::vector<ValueType> out;
  for (const Value& value : values) out.push_back(value.type);
  return out;
}

std::int64_t LayerGraph::trained() const {
  std::int64_t count = 0;
  for (const Parameter& p : parameters) count += p.frozen ? 0 : 1;
  return count;
}

LayerGraph& ModelGraphs::of(LayerKind kind) {
  return const_cast<LayerGraph&>(std::as_const(*this).of(kind));
}

const LayerGraph& ModelGraphs::of(LayerKind kind) const {
  switch (kind) {
    case LayerKind::embedding:
      return embedding;
    case LayerKind::block:
      return block;
    case LayerKind::mlp:
      return mlp;
    case LayerKind::head:
      return head;
    case LayerKind::step:
      return step;
  }
  throw Error("corrupt LayerKind");
}

std::span<const LayerKind> ModelGraphs::kinds() const {
  static constexpr LayerKind whole[] = {LayerKind::embedding, LayerKind::block, LayerKind::head};
  static constexpr LayerKind cut[] = {LayerKind::embedding, LayerKind::block, LayerKind::mlp,
                                      LayerKind::head};
  return parts == 1 ? std::span<const LayerKind>(whole) : std::span<const LayerKind>(cut);
}

std::string_view ModelGraphs::name_of(LayerKind kind) const {
  return parts == 2 && kind == LayerKind::block ? "attention" : sluice::name_of(kind);
}

std::string ModelGraphs::layer_name(int layer) const {
  if (layer >= layer_count()) return "step";
  const LayerKind kind = kind_of(layer);
  return is_block(kind) ? fmt::format("{} {}", name_of(kind), block_of(layer))
                        : std::string(name_of(kind));
}

std::string ModelGraphs::uncut_name(int layer) const {
  const bool block = layer < layer_count() && is_block(kind_of(layer));
  return block ? fmt::format("block {}", block_of(layer)) : layer_name(layer);
}

std::int64_t ModelGraphs::parameters() const {
  std::int64_t total = 0;
  for (int layer = 0; layer < layer_count(); ++layer)
    for (const Parameter& p : of(kind_of(layer)).parameters) total += p.count();
  return total;
}

}  // namespace sluice
