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
    case ValueKind::packed:
      region = Region::packed;
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
  static constexpr std::string_view names[] = {"weights", "gradients", "packed", "optimizer",
                                               "derived", "globals",   "batch",  "cache",
                                               "stash",   "carry",     "frame"};
  return names[static_cast<std::size_t>(region)];
}

Region region_of(Kind kind) {
  static constexpr Region regions[] = {Region::weights, Region::gradients, Region::optimizer,
                                       Region::packed, Region::stash};
  return regions[static_cast<std::size_t>(kind)];
}

std::int64_t MemoryMap::reserve_host(std::int64_t bytes) {
  const std::int64_t offset = host_;
  host_ += align_up(bytes, blob_alignment);
  return offset;
}

std::int64_t MemoryMap::reserve_disk(std::int64_t bytes) {
  const std::int64_t offset = disk_;
  disk_ += align_up(bytes, blob_alignment);
  return offset;
}

std::int64_t MemoryMap::begin(Tier tier) const {
  if (tier == Tier::device) return 0;
  return tier == Tier::host ? total() : total() + host_;
}

std::int64_t MemoryMap::end(Tier tier) const {
  return tier == Tier::disk ? begin(tier) + disk_
                            : begin(tier == Tier::device ? Tier::host : Tier::disk);
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

Residency::Residency(const std::vector<const ModelGraphs*>& models, const Homes& homes,
                     bool one_pass, MemoryMap& memory)
    : layers_(models.front()->layer_count()), homes_(homes), one_pass_(one_pass) {
  const ModelGraphs& model = *models.front();
  for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head})
    lay_out(model.of(kind));
  number_slots();
  place_rings(memory);
  std::int64_t norms = 0;
  for (int layer = 0; layer < layers_; ++layer) {
    first_norm_.push_back(norms);
    norms += model.of(model.kind_of(layer)).trained();
    place_layer(model, layer, memory);
  }
  place_globals(models, memory);
}

void Residency::lay_out(const LayerGraph& graph) {
  Blobs& bytes = bytes_[static_cast<std::size_t>(graph.kind)];
  for (const Value& value : graph.values) {
    Region region;
    if (value.owner != graph.kind || !blob_region(value.kind, region)) continue;
    std::int64_t& end = bytes[static_cast<std::size_t>(region)];
    places_[static_cast<std::size_t>(graph.kind)][value.name] = {region, end};
    end = align_up(end + value_bytes(value.type), tensor_alignment);
  }
}

// Packed weights exist where the weights are: their ring goes with the weights'.
void Residency::place_rings(MemoryMap& memory) {
  rings_.fill(-1);
  for (const Kind kind : owned_kinds) {
    const int slots = this->slots(kind);
    const auto ring = [&](Region region) {
      const std::int64_t bytes = align_up(blob_bytes(LayerKind::block, region), blob_alignment);
      if (slots > 0 && bytes > 0)
        rings_[static_cast<std::size_t>(region)] =
            memory.reserve(region, slots * bytes, blob_alignment);
    };
    ring(region_of(kind));
    if (kind == Kind::weights) ring(Region::derived);
    staging_[static_cast<std::size_t>(kind)] =
        memory.reserve_host(2 * stagings(kind) * slot_bytes(kind));
  }
}

void Residency::place_layer(const ModelGraphs& model, int layer, MemoryMap& memory) {
  const LayerKind layer_kind = model.kind_of(layer);
  Blobs& blobs = blobs_.emplace_back();
  at_home_.emplace_back().fill(-1);
  for (const Region region :
       {Region::weights, Region::gradients, Region::packed, Region::optimizer, Region::derived}) {
    std::int64_t& blob = blobs[static_cast<std::size_t>(region)];
    blob = -1;
    const std::int64_t bytes = blob_bytes(layer_kind, region);
    if (bytes == 0) continue;
    const Kind kind = region == Region::gradients   ? Kind::gradients
                      : region == Region::packed    ? Kind::packed
                      : region == Region::optimizer ? Kind::optimizer
                                                    : Kind::weights;
    if (const int through = slot(layer, kind); through >= 0) {
      blob = rings_[static_cast<std::size_t>(region)] + through * align_up(bytes, blob_alignment);
      const bool on_disk = tier(layer, kind) == Tier::disk;
      // Both forms of gradients are at home in one place, one after the other. Codes with their
      // scales may take more than tiny matrices do as float32.
      const bool shares = kind == Kind::packed && home(layer, Kind::gradients) >= 0;
      const std::int64_t room =
          kind == Kind::gradients ? std::max(bytes, blob_bytes(layer_kind, Region::packed)) : bytes;
      if (region != Region::derived && travels(kind))
        at_home_.back()[static_cast<std::size_t>(kind)] = shares    ? home(layer, Kind::gradients)
                                                          : on_disk ? memory.reserve_disk(room)
                                                                    : memory.reserve_host(room);
    } else if (kind != Kind::packed) {
      blob = memory.reserve(region, bytes, blob_alignment);
    }
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

std::int64_t Residency::blob_bytes(LayerKind kind, Region region) const {
  return bytes_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(region)];
}

std::int64_t Residency::home(int layer, Kind kind) const {
  return at_home_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(kind)];
}

// The j-th block that streams has slot j modulo the slots.
void Residency::number_slots() {
  const bool packs = blob_bytes(LayerKind::block, Region::packed) > 0;
  for (const Kind kind : owned_kinds) {
    const auto k = static_cast<std::size_t>(kind);
    int& slots = slots_[k];
    slots = std::min(homes_.slots[static_cast<std::size_t>(home_kind(kind))], streaming(kind));
    if (kind == Kind::packed && !packs) slots = 0;
    // One after the other: made, packed, and done with.
    if (kind == Kind::gradients && packs && one_pass_) slots = std::min(slots, 1);
    slot_of_[k].assign(static_cast<std::size_t>(layers_), -1);
    if (slots == 0) continue;
    for (int block = 0; block < layers_ - 2; ++block) {
      if (homes_.of(home_kind(kind), block) == Tier::device) continue;
      slot_of_[k][static_cast<std::size_t>(block) + 1] =
          static_cast<int>(streaming_[k].size()) % slots;
      streaming_[k].push_back(block + 1);
    }
  }
  slot_of_[static_cast<std::size_t>(Kind::stash)].assign(static_cast<std::size_t>(layers_), -1);
}

Tier Residency::tier(int layer, Kind kind) const {
  if (kind == Kind::stash) return Tier::host;
  const bool block = layer > 0 && layer < layers_ - 1;
  return block ? homes_.of(home_kind(kind), layer - 1) : Tier::device;
}

bool Residency::travels(Kind kind) const {
  if (kind == Kind::gradients) return !(packs() && one_pass_);
  return kind != Kind::packed || packs();
}

int Residency::stagings(Kind kind) const {
  if (kind == Kind::stash || !travels(kind)) return 0;
  return std::min(staging_slots, homes_.on_disk(home_kind(kind)));
}

int Residency::slot(int layer, Kind kind) const {
  if (layer == 0 || layer == layers_ - 1) return -1;  // embedding, head, and loads of no kind
  return slot_of_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(layer)];
}

int Residency::staging(int layer, Kind kind) const {
  if (tier(layer, kind) != Tier::disk || !travels(kind)) return -1;
  return homes_.disk_index_of(home_kind(kind), layer - 1) % stagings(kind);
}

std::int64_t Residency::staging_in(Kind kind, int staging) const {
  return staging_[static_cast<std::size_t>(kind)] + staging * slot_bytes(kind);
}

std::int64_t Residency::staging_out(Kind kind, int staging) const {
  return staging_in(kind, stagings(kind) + staging);
}

std::int64_t Residency::slot_bytes(Kind kind) const {
  return align_up(blob_bytes(LayerKind::block, region_of(kind)), blob_alignment);
}

int Residency::streaming_layer(Kind kind, int index) const {
  const auto& layers = streaming_[static_cast<std::size_t>(kind)];
  return index < static_cast<int>(layers.size()) ? layers[static_cast<std::size_t>(index)] : -1;
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
