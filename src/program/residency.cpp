#include "program/residency.h"

#include <algorithm>

namespace sluice {
namespace {

// The region of a value that every layer owns a blob of.
bool blob_region(ValueKind kind, Region& region) {
  switch (kind) {
    case ValueKind::weight:
      region = Region::weights;
      return true;
    case ValueKind::gradient:
      region = Region::gradients;
      return true;
    case ValueKind::state:
      region = Region::optimizer;
      return true;
    case ValueKind::derived:
      region = Region::derived;
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string_view name_of(Region region) {
  static constexpr std::string_view names[] = {"weights", "gradients", "optimizer", "derived",
                                               "globals", "batch",     "cache",     "stash",
                                               "carry",   "frame"};
  return names[static_cast<std::size_t>(region)];
}

std::int64_t MemoryMap::reserve(Region region, std::int64_t bytes, std::int64_t alignment) {
  std::int64_t& size = sizes_[static_cast<std::size_t>(region)];
  const std::int64_t offset = align_up(size, alignment);
  size = align_up(offset + bytes, tensor_alignment);
  return offset;
}

void MemoryMap::at_least(Region region, std::int64_t bytes) {
  std::int64_t& size = sizes_[static_cast<std::size_t>(region)];
  size = std::max(size, align_up(bytes, tensor_alignment));
}

std::int64_t MemoryMap::base(Region region) const {
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(region); ++i)
    offset += align_up(sizes_[i], blob_alignment);
  return offset;
}

std::int64_t MemoryMap::total() const { return base(Region::count); }

Residency::Residency(const std::vector<const ModelGraphs*>& models, MemoryMap& memory)
    : layers_(models.front()->layer_count()) {
  const ModelGraphs& model = *models.front();
  places_.resize(static_cast<std::size_t>(layers_));
  std::int64_t norms = 0;
  for (int layer = 0; layer < layers_; ++layer) {
    first_norm_.push_back(norms);
    norms += model.of(model.kind_of(layer)).trained();
    place_layer(model, layer, memory);
  }
  place_globals(models, memory);
}

void Residency::place_layer(const ModelGraphs& model, int layer, MemoryMap& memory) {
  const LayerGraph& graph = model.of(model.kind_of(layer));
  std::array<bool, static_cast<std::size_t>(Region::count)> begun{};
  for (const Value& value : graph.values) {
    Region region;
    if (value.owner != graph.kind || !blob_region(value.kind, region)) continue;
    bool& started = begun[static_cast<std::size_t>(region)];
    const std::int64_t alignment = started ? tensor_alignment : blob_alignment;
    started = true;
    const std::int64_t offset = memory.reserve(region, value_bytes(value.type), alignment);
    places_[static_cast<std::size_t>(layer)][value.name] = {region, offset};
  }
}

void Residency::place_globals(const std::vector<const ModelGraphs*>& models, MemoryMap& memory) {
  std::map<std::string, std::int64_t> sizes;  // a name's largest use
  for (const ModelGraphs* model : models)
    for (const LayerGraph* graph : {&model->step, &model->embedding, &model->block, &model->head})
      for (const Value& value : graph->values)
        if (value.kind == ValueKind::global)
          sizes[value.name] = std::max(sizes[value.name], value_bytes(value.type));
  for (const auto& [name, bytes] : sizes)
    globals_[name] = {Region::globals, memory.reserve(Region::globals, bytes)};
}

int Residency::layer_of(LayerKind owner, int layer) const {
  if (owner == LayerKind::embedding) return 0;
  return owner == LayerKind::head ? layers_ - 1 : layer;
}

Place Residency::global(const std::string& name) const {
  const auto found = globals_.find(name);
  return found == globals_.end() ? Place{} : found->second;
}

Place Residency::find(const ModelGraphs& model, int layer, const Value& value) const {
  if (value.kind == ValueKind::global) {
    Place place = global(value.name);
    if (value.name == "norms" && layer < layers_)
      place.offset += norm_index(layer) * static_cast<std::int64_t>(sizeof(double));
    return place;
  }
  if (layer >= layers_) return {};
  const bool borrowed = value.owner != model.kind_of(layer);
  const auto& layer_places =
      places_[static_cast<std::size_t>(borrowed ? layer_of(value.owner, layer) : layer)];
  const auto found = layer_places.find(borrowed ? value.owner_name : value.name);
  return found == layer_places.end() ? Place{} : found->second;
}

const BatchLayout::Field* BatchLayout::find(std::string_view name) const {
  for (const Field& field : fields)
    if (field.name == name) return &field;
  return nullptr;
}

BatchLayout batch_layout(const ModelGraphs& model) {
  BatchLayout layout;
  for (const LayerGraph* graph : {&model.embedding, &model.block, &model.head, &model.step})
    for (const Value& value : graph->values) {
      if (value.kind != ValueKind::batch || layout.find(value.name) != nullptr) continue;
      layout.fields.push_back({value.name, layout.bytes, value.type});
      layout.bytes = align_up(layout.bytes + value_bytes(value.type), tensor_alignment);
    }
  return layout;
}

}  // namespace sluice
