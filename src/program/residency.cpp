#include "program/residency.h"

#include <algorithm>
#include <numeric>

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
    : layers_(models.front()->layer_count()),
      parts_(models.front()->parts),
      homes_(homes),
      one_pass_(one_pass) {
  const ModelGraphs& model = *models.front();
  for (const LayerKind kind : model.kinds()) lay_out(model.of(kind));
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
    if (!blob_region(value.kind, region)) continue;
    if (value.owner != graph.kind) lent_[static_cast<std::size_t>(region)] = true;
    if (value.owner != graph.kind) continue;
    std::int64_t& end = bytes[static_cast<std::size_t>(region)];
    places_[static_cast<std::size_t>(graph.kind)][value.name] = {region, end};
    end = align_up(end + value_bytes(value.type), tensor_alignment);
  }
}

// Packed weights exist where the weights are: their ring goes with the weights'.
std::vector<Region> Residency::regions_of(Kind kind) {
  if (kind == Kind::weights) return {Region::weights, Region::derived};
  return {region_of(kind)};
}

std::int64_t Residency::slot_begin(Kind kind, Region region, int slot) const {
  const std::vector<std::int64_t>& begins = begins_[static_cast<std::size_t>(region)];
  if (slot <= block_slots_[static_cast<std::size_t>(kind)])
    return begins[static_cast<std::size_t>(slot)];
  // The head's behind an embedding that reaches beyond the slots of blocks.
  return std::max(begins.back(),
                  align_up(blob_bytes(LayerKind::embedding, region), blob_alignment));
}

// A slot is as large as the largest blob that passes through it: with two parts of blocks and an
// even number of slots each part has slots of its own size.
void Residency::measure_slots(Kind kind) {
  const auto k = static_cast<std::size_t>(kind);
  for (const Region region : regions_of(kind)) {
    std::vector<std::int64_t>& begins = begins_[static_cast<std::size_t>(region)];
    begins.assign(static_cast<std::size_t>(block_slots_[k]) + 1, 0);
    for (int layer = 1; layer < layers_ - 1; ++layer)
      if (const int slot = slot_of_[k][static_cast<std::size_t>(layer)]; slot >= 0) {
        std::int64_t& bytes = begins[static_cast<std::size_t>(slot) + 1];
        bytes = std::max(bytes, align_up(blob_bytes(kind_of(layer), region), blob_alignment));
      }
    std::partial_sum(begins.begin(), begins.end(), begins.begin());
  }
}

void Residency::place_rings(MemoryMap& memory) {
  rings_.fill(-1);
  for (const Kind kind : owned_kinds) {
    for (const Region region : regions_of(kind)) {
      std::int64_t bytes = slot_begin(kind, region, block_slots_[static_cast<std::size_t>(kind)]);
      for (const int end : {0, layers_ - 1})
        if (const int first = slot(end, kind); first >= 0)
          bytes = std::max(bytes, slot_begin(kind, region, first) +
                                      align_up(blob_bytes(kind_of(end), region), blob_alignment));
      if (bytes > 0)
        rings_[static_cast<std::size_t>(region)] = memory.reserve(region, bytes, blob_alignment);
    }
    staging_[static_cast<std::size_t>(kind)] =
        memory.reserve_host(2 * stagings(kind) * staging_bytes(kind));
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
      blob = rings_[static_cast<std::size_t>(region)] + slot_begin(kind, region, through);
      const bool on_disk = tier(layer, kind) == Tier::disk;
      // Both forms of gradients are at home in one place, one after the other. Codes with their
      // scales may take more than tiny matrices do as float32.
      const bool shares = kind == Kind::packed && home(layer, Kind::gradients) >= 0;
      const std::int64_t room =
          kind == Kind::gradients ? std::max(bytes, blob_bytes(layer_kind, Region::packed)) : bytes;
      if (region != Region::derived && travels(layer, kind))
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

// The j-th part of a block that streams has slot j modulo the slots.
void Residency::number_slots() {
  const bool packs = blob_bytes(LayerKind::block, Region::packed) > 0 ||
                     blob_bytes(LayerKind::mlp, Region::packed) > 0;
  for (const Kind kind : owned_kinds) {
    const auto k = static_cast<std::size_t>(kind);
    int& slots = slots_[k];
    slots = std::min(homes_.slots[static_cast<std::size_t>(home_kind(kind))],
                     parts_ * homes_.streaming(home_kind(kind)));
    if (kind == Kind::packed && !packs) slots = 0;
    // One after the other: made, packed, and done with.
    if (kind == Kind::gradients && packs && one_pass_) slots = std::min(slots, 1);
    block_slots_[k] = slots;
    slot_of_[k].assign(static_cast<std::size_t>(layers_), -1);
    for (int layer = 1, streaming = 0; slots > 0 && layer < layers_ - 1; ++layer)
      if (streams(layer, kind)) slot_of_[k][static_cast<std::size_t>(layer)] = streaming++ % slots;
    measure_slots(kind);
    if (kind != Kind::packed) number_slots_of_ends(kind);
  }
  slot_of_[static_cast<std::size_t>(Kind::stash)].assign(static_cast<std::size_t>(layers_), -1);
  number_stagings();
}

// How many of the slots of blocks an end's blob reaches into from this one on; one more if it
// reaches beyond them.
int Residency::slots_for(LayerKind layer, Kind kind, int first) const {
  int needed = 0;
  for (const Region region : regions_of(kind)) {
    const std::vector<std::int64_t>& begins = begins_[static_cast<std::size_t>(region)];
    const auto begin = begins.begin() + first;
    const std::int64_t bytes = blob_bytes(layer, region);
    const auto end = std::lower_bound(begin, begins.end(), *begin + bytes);
    if (bytes > 0) needed = std::max(needed, static_cast<int>(end - begin));
  }
  return needed;
}

// Embedding and head are used one after the other, and both from the ring's begin on; but what one
// lends to the other is used beside the other's own blob, so then the head comes behind.
void Residency::number_slots_of_ends(Kind kind) {
  const auto k = static_cast<std::size_t>(kind);
  const int blocks = block_slots_[k];
  const auto streams = [&](bool head, LayerKind layer) {
    return homes_.of_end(kind, head) != Tier::device && blob_bytes(layer, region_of(kind)) > 0;
  };
  const auto set = [&](bool head, int first, int count) {
    slot_of_[k][head ? static_cast<std::size_t>(layers_) - 1 : 0] = first;
    covers_[k][head ? 1 : 0] = count;
    slots_[k] = std::max(slots_[k], first + count);
  };
  int begin = 0;
  if (streams(false, LayerKind::embedding)) {
    const int count = slots_for(LayerKind::embedding, kind, 0);
    set(false, 0, count);
    const std::vector<Region> regions = regions_of(kind);
    if (std::any_of(regions.begin(), regions.end(),
                    [&](Region r) { return lent_[static_cast<std::size_t>(r)]; }))
      begin = count;
  }
  if (!streams(true, LayerKind::head)) return;
  if (begin > blocks) return set(true, begin, 1);
  set(true, begin, slots_for(LayerKind::head, kind, begin));
}

LayerKind Residency::kind_of(int layer) const {
  if (layer == 0) return LayerKind::embedding;
  if (layer == layers_ - 1) return LayerKind::head;
  return (layer - 1) % parts_ == 0 ? LayerKind::block : LayerKind::mlp;
}

Tier Residency::tier(int layer, Kind kind) const {
  if (kind == Kind::stash) return Tier::host;
  if (!is_end(layer)) return homes_.of(home_kind(kind), (layer - 1) / parts_);
  // An end without such a blob has it nowhere.
  return kind == Kind::packed || slot(layer, kind) < 0 ? Tier::device
                                                       : homes_.of_end(kind, layer > 0);
}

bool Residency::travels(int layer, Kind kind) const {
  if (kind == Kind::gradients) return is_end(layer) || !(packs() && one_pass_);
  return kind != Kind::packed || packs();
}

// The j-th blob on disk has staging slot j modulo two.
void Residency::number_stagings() {
  for (const Kind kind : owned_kinds) {
    const auto k = static_cast<std::size_t>(kind);
    staging_of_[k].assign(static_cast<std::size_t>(layers_), -1);
    int on_disk = 0;
    for (int layer = 0; layer < layers_; ++layer) {
      if (tier(layer, kind) != Tier::disk || !travels(layer, kind)) continue;
      staging_of_[k][static_cast<std::size_t>(layer)] = on_disk++ % staging_slots;
      staging_bytes_[k] = std::max(staging_bytes_[k], page_bytes(layer, kind));
    }
    stagings_[k] = std::min(staging_slots, on_disk);
  }
  staging_of_[static_cast<std::size_t>(Kind::stash)].assign(static_cast<std::size_t>(layers_), -1);
}

int Residency::slot(int layer, Kind kind) const {
  return slot_of_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(layer)];
}

int Residency::covers(int layer, Kind kind) const {
  return is_end(layer) ? covers_[static_cast<std::size_t>(kind)][layer > 0 ? 1 : 0] : 1;
}

int Residency::staging(int layer, Kind kind) const {
  return staging_of_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(layer)];
}

std::int64_t Residency::staging_in(Kind kind, int staging) const {
  return staging_[static_cast<std::size_t>(kind)] + staging * staging_bytes(kind);
}

std::int64_t Residency::staging_out(Kind kind, int staging) const {
  return staging_in(kind, stagings(kind) + staging);
}

std::int64_t Residency::page_bytes(int layer, Kind kind) const {
  return align_up(blob_bytes(kind_of(layer), region_of(kind)), blob_alignment);
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
