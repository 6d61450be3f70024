// Where everything that outlives a step lies: each layer owns its blobs of weights, gradients,
// optimizer state and derived weights; short tables and batch slots lie beside them. Offsets are in
// bytes from the start of one arena.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "program/tiers.h"

namespace sluice {

inline std::int64_t value_bytes(const ValueType& type) {
  return type.shape.count() * size_of(type.dtype);
}

enum class Region : std::uint8_t {
  weights,
  gradients,
  packed,
  optimizer,
  derived,
  globals,
  batch,
  cache,
  stash,
  carry,
  frame,
  count,
};
std::string_view name_of(Region region);
Region region_of(Kind kind);

inline std::int64_t align_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}
inline constexpr std::int64_t tensor_alignment = 256;
inline constexpr std::int64_t blob_alignment = 4096;

// Hands out a region's bytes in order; the arena's layout is fixed once every region's size is
// known.
class MemoryMap {
 public:
  // Reserves `bytes` in `region`; the result is relative to the region.
  std::int64_t reserve(Region region, std::int64_t bytes,
                       std::int64_t alignment = tensor_alignment);
  // Makes a region at least this large (regions shared by programs, one at a time).
  void at_least(Region region, std::int64_t bytes);
  std::int64_t bytes(Region region) const { return sizes_[static_cast<std::size_t>(region)]; }
  std::int64_t base(Region region) const;  // offset of the region in the arena
  std::int64_t total() const;              // bytes of the arena
  // The same for host memory and disk, in whole pages. Offsets of a program are counted on: host
  // memory begins where the arena ends, the disk where host memory ends.
  std::int64_t reserve_host(std::int64_t bytes);
  std::int64_t reserve_disk(std::int64_t bytes);
  std::int64_t host_bytes() const { return host_; }
  std::int64_t disk_bytes() const { return disk_; }
  std::int64_t begin(Tier tier) const;
  std::int64_t end(Tier tier) const;

 private:
  std::array<std::int64_t, static_cast<std::size_t>(Region::count)> sizes_{};
  std::int64_t host_ = 0, disk_ = 0;
};

// A place relative to its region (of globals) or to a layer's blob in it.
struct Place {
  Region region = Region::frame;
  std::int64_t offset = -1;
  bool known() const { return offset >= 0; }
};

// Places of weights, gradients, state and derived weights within the blobs of each kind of layer,
// of the blobs in their regions, and of global tables.
class Residency {
 public:
  // The first model owns the weights (and gradients and optimizer state, when it has them); the
  // others share its weights and may bring further global tables. `one_pass`: of every step, so
  // that gradients which rest packed never leave as float32.
  Residency(const std::vector<const ModelGraphs*>& models, const Homes& homes, bool one_pass,
            MemoryMap& memory);

  // The place of a value that outlives a step, as layers of `kind` see it; unknown for all others.
  // Borrowed values (a tied weight) have their owner's place.
  Place find(LayerKind kind, const Value& value) const;
  Place global(const std::string& name) const;
  // The layer whose blob a value of `layer` lies in; -1: in none.
  int owner_of(LayerKind kind, int layer, const Value& value) const;
  // Where a layer's blob begins in its region, when it is on the device: its own place, or the slot
  // it passes through. -1: it has none.
  std::int64_t blob(int layer, Region region) const;
  std::int64_t blob_bytes(LayerKind kind, Region region) const;  // in whole alignment
  std::int64_t page_bytes(int layer, Kind kind) const;           // of its blob, in whole pages
  // Where a blob that streams is at home, counted from the begin of its tier; -1: on the device.
  std::int64_t home(int layer, Kind kind) const;
  Tier tier(int layer, Kind kind) const;  // of a stash: the host, where it is at home if spilled
  // Of its ring; -1: it does not stream. A block has one slot, and an end so many from this one on
  // (`covers`). Behind the slots that blocks turn in there may be more, for ends that reach beyond.
  int slot(int layer, Kind kind) const;
  int covers(int layer, Kind kind) const;
  int slots(Kind kind) const { return slots_[static_cast<std::size_t>(kind)]; }
  // Where a slot begins in a region, counted from the region's begin.
  std::int64_t slot_begin(Kind kind, Region region, int slot) const;
  // Gradients of blocks that stream leave packed when a step's last micro-batch is in.
  bool packs() const { return slots(Kind::packed) > 0; }
  bool is_end(int layer) const { return layer == 0 || layer == layers_ - 1; }
  // Of a blob at home on disk: its staging slots' number, and where the one that it comes through
  // and the one that it leaves through begin, counted from the begin of host memory.
  int staging(int layer, Kind kind) const;  // -1: it needs none
  int stagings(Kind kind) const { return stagings_[static_cast<std::size_t>(kind)]; }
  // Of one such slot: the largest blob's.
  std::int64_t staging_bytes(Kind kind) const {
    return staging_bytes_[static_cast<std::size_t>(kind)];
  }
  std::int64_t staging_in(Kind kind, int staging) const;
  std::int64_t staging_out(Kind kind, int staging) const;
  std::int64_t norm_index(int layer) const { return first_norm_[static_cast<std::size_t>(layer)]; }

 private:
  using Blobs = std::array<std::int64_t, static_cast<std::size_t>(Region::count)>;
  // What lies in a slot of a kind.
  static std::vector<Region> regions_of(Kind kind);
  LayerKind kind_of(int layer) const;
  // A block that streams brings each of its parts through a slot of its own.
  bool streams(int layer, Kind kind) const {
    return homes_.of(home_kind(kind), (layer - 1) / parts_) != Tier::device;
  }
  // Leaves its slot for home: gradients need not when they do so packed.
  bool travels(int layer, Kind kind) const;
  void lay_out(const LayerGraph& graph);  // places within blobs
  void number_slots();
  void measure_slots(Kind kind);
  void number_slots_of_ends(Kind kind);
  int slots_for(LayerKind layer, Kind kind, int first) const;
  void number_stagings();
  void place_rings(MemoryMap& memory);
  void place_layer(const ModelGraphs& model, int layer, MemoryMap& memory);
  void place_globals(const std::vector<const ModelGraphs*>& models, MemoryMap& memory);

  int layers_, parts_;
  Homes homes_;
  bool one_pass_;
  std::array<int, copied_kinds> slots_{}, block_slots_{}, stagings_{};
  std::array<std::vector<int>, copied_kinds> slot_of_;  // by layer; -1: it does not stream
  // Where blocks' slots begin, and after the last of them where it ends.
  std::array<std::vector<std::int64_t>, static_cast<std::size_t>(Region::count)> begins_;
  std::array<std::array<int, 2>, copied_kinds> covers_{};  // of embedding and head
  std::array<std::vector<int>, copied_kinds> staging_of_;  // by layer; -1: it needs none
  std::array<std::int64_t, copied_kinds> staging_bytes_{};
  std::array<bool, static_cast<std::size_t>(Region::count)> lent_{};  // by one end to the other
  std::array<std::map<std::string, Place>, layer_kinds> places_;      // within blobs
  std::array<Blobs, layer_kinds> bytes_{};                            // of blobs
  std::vector<Blobs> blobs_;                                          // per layer
  Blobs rings_{};                                                     // where each begins
  std::vector<std::array<std::int64_t, copied_kinds>> at_home_;       // per layer
  std::array<std::int64_t, copied_kinds> staging_{};                  // where each kind's begin
  std::map<std::string, Place> globals_;
  std::vector<std::int64_t> first_norm_;
};

// Batch data of one micro-batch: one block, the same in host staging and in a device slot.
struct BatchLayout {
  struct Field {
    std::string name;
    std::int64_t offset;
    ValueType type;
  };
  std::vector<Field> fields;
  std::int64_t bytes = 0;
  const Field* find(std::string_view name) const;
};
BatchLayout batch_layout(const ModelGraphs& model);

}  // namespace sluice
