#include "program/copies.h"

#include <algorithm>

#include "core/error.h"

namespace sluice {
namespace {

constexpr Kind all_kinds[] = {Kind::weights, Kind::gradients, Kind::optimizer};

std::size_t at(Kind kind) { return static_cast<std::size_t>(kind); }
std::size_t at(int index) { return static_cast<std::size_t>(index); }

class CopyPlanner {
 public:
  CopyPlanner(const std::vector<Scheduled>& schedule, const CopySpec& spec)
      : schedule_(schedule), spec_(spec), residency_(*spec.residency) {}

  std::vector<Stop> plan() {
    look_back();
    begin();
    for (std::size_t i = 0; i < schedule_.size(); ++i) add(i);
    require_end();
    return std::move(out_);
  }

 private:
  using Leaves = std::array<bool, blob_kinds>;

  int slot(Kind kind, int layer) const {
    return layer < spec_.layers ? residency_.slot(layer, kind) : -1;
  }

  bool on_disk(Kind kind, int layer) const { return residency_.tier(layer, kind) == Tier::disk; }

  bool skipped(const Scheduled& item) const {
    return item.phase == Phase::derive && slot(Kind::weights, item.layer) >= 0;
  }

  // In a slot when an update is pending: the lowest layers, which the last sweep ended with.
  int left_in(Kind kind, int slot) const { return residency_.streaming_layer(kind, slot); }

  // What comes after a place of the list, as a stay in a slot sees it.
  struct Later {
    int layer = -1;       // whose stay is next in the slot
    bool write = false;   // within that stay
    bool needed = false;  // after that stay somebody reads what it holds
  };

  // From the end: after which items do blobs leave?
  void look_back() {
    leaves_.assign(schedule_.size(), {});
    std::array<std::vector<Later>, blob_kinds> slots;
    std::array<std::vector<bool>, blob_kinds> read_next;  // by layer: the next use reads it
    for (const Kind kind : all_kinds) {
      const bool gradients = kind == Kind::gradients;
      slots[at(kind)].resize(at(residency_.slots(kind)));
      // Gradients are of no use once they are applied; those that stay in their slots until then
      // need not come home at all.
      read_next[at(kind)].assign(at(spec_.layers), !gradients || !spec_.ends_settled);
      if (spec_.ends_settled || kind == Kind::optimizer) continue;
      for (int s = 0; s < residency_.slots(kind); ++s)
        slots[at(kind)][at(s)] = {left_in(kind, s), false, !gradients};
    }
    for (std::size_t i = schedule_.size(); i-- > 0;) {
      const Scheduled& item = schedule_[i];
      if (item.phase == Phase::load || skipped(item)) continue;
      const BlobUses uses = spec_.uses(item);
      for (const Kind kind : all_kinds) {
        const BlobUse& use = uses.of(kind);
        const int s = slot(kind, item.layer);
        if (s < 0 || !use.any()) continue;
        Later& later = slots[at(kind)][at(s)];
        if (later.layer != item.layer)
          later = {item.layer, false, read_next[at(kind)][at(item.layer)]};
        leaves_[i][at(kind)] = use.writes && !later.write && later.needed;
        later.write |= use.writes;
        read_next[at(kind)][at(item.layer)] = reads(use, item);
      }
    }
  }

  static bool reads(const BlobUse& use, const Scheduled& item) {
    return use.reads || (use.adds && item.micro > 0);
  }

  void begin() {
    for (const Kind kind : all_kinds) {
      content_[at(kind)].assign(at(residency_.slots(kind)), -1);
      if (spec_.begins_settled || kind == Kind::optimizer) continue;
      for (int s = 0; s < residency_.slots(kind); ++s) content_[at(kind)][at(s)] = left_in(kind, s);
    }
    packed_.assign(at(residency_.slots(Kind::weights)), !spec_.begins_settled);
  }

  void add(std::size_t i) {
    const Scheduled& item = schedule_[i];
    if (item.phase == Phase::load) {
      out_.push_back({item});
      return;
    }
    if (skipped(item)) return;
    const BlobUses uses = spec_.uses(item);
    for (const Kind kind : all_kinds) {
      const int s = slot(kind, item.layer);
      if (s < 0 || !uses.of(kind).any() || content_[at(kind)][at(s)] == item.layer) continue;
      content_[at(kind)][at(s)] = item.layer;
      if (kind == Kind::weights) packed_[at(s)] = false;
      if (!reads(uses.of(kind), item)) continue;
      if (on_disk(kind, item.layer)) out_.push_back({{Phase::read, item.layer, item.micro}, kind});
      out_.push_back({{Phase::fetch, item.layer, item.micro}, kind});
    }
    if (const int s = slot(Kind::weights, item.layer); s >= 0) {
      if (uses.reads_packed && !packed_[at(s)]) {
        out_.push_back({{Phase::derive, item.layer, item.micro}});
        packed_[at(s)] = true;
      }
      if (uses.writes_packed) packed_[at(s)] = true;
    }
    out_.push_back({item});
    for (const Kind kind : all_kinds)
      if (leaves_[i][at(kind)]) {
        out_.push_back({{Phase::leave, item.layer, item.micro}, kind});
        if (on_disk(kind, item.layer))
          out_.push_back({{Phase::write, item.layer, item.micro}, kind});
      }
  }

  // What the next program takes for granted.
  void require_end() const {
    if (spec_.ends_settled) return;
    for (const Kind kind : {Kind::weights, Kind::gradients})
      for (int s = 0; s < residency_.slots(kind); ++s)
        require(content_[at(kind)][at(s)] == left_in(kind, s), [&] {
          return Error(fmt::format("a sweep ends with layer {} in slot {} of {}, not with {}",
                                   content_[at(kind)][at(s)], s, name_of(kind), left_in(kind, s)));
        });
  }

  const std::vector<Scheduled>& schedule_;
  const CopySpec& spec_;
  const Residency& residency_;
  std::vector<Leaves> leaves_;
  std::array<std::vector<int>, blob_kinds> content_;  // by slot: the layer
  std::vector<bool> packed_;                          // by slot of weights
  std::vector<Stop> out_;
};

}  // namespace

std::vector<Stop> with_copies(const std::vector<Scheduled>& schedule, const CopySpec& spec) {
  return CopyPlanner(schedule, spec).plan();
}

}  // namespace sluice
