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
  Blobs& blobs = blobs_.emplace_back();
  blobs.fill(-1);
  for (const Value& value : graph.values) {
    Region region;
    if (value.owner != graph.kind || !blob_region(value.kind, region)) continue;
    std::int64_t& blob = blobs[static_cast<std::size_t>(region)];
    const std::int64_t alignment = blob >= 0 ? tensor_alignment : blob_alignment;
    const std::int64_t offset = memory.reserve(region, value_bytes(value.type), alignment);
    if (blob < 0) blob = offset;
    places_[static_cast<std::size_t>(graph.kind)][value.name] = {region, offset - blob};
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

int Residency::owner_of(LayerKind kind, int layer, const Value& value) const {
  Region region;
  if (!blob_region(value.kind, region)) return -1;
  if (value.owner == kind) return layer;
  if (value.owner == LayerKind::embedding) return 0;
  return value.owner == LayerKind::head ? layers_ - 1 : -1;
}

std::int64_t Residency::blob(int layer, Region region) const {
  return blobs_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(region)];
}

Place Residency::global(const std::string& name) const {
  const auto found = globals_.find(name);
  return found == globals_.end() ? Place{} : found->second;
}

Place Residency::find(LayerKind kind, const Value& value) const {
  if (value.kind == ValueKind::global) return global(value.name);
  Region region;
  if (!blob_region(value.kind, region)) return {};
  const auto& places = places_[static_cast<std::size_t>(value.owner)];
  const auto found = places.find(value.owner == kind ? value.name : value.owner_name);
  return found == places.end() ? Place{} : found->second;
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
