#include "program/copies.h"

#include <algorithm>

#include "core/error.h"

namespace sluice {
namespace {

constexpr Kind all_kinds[] = {Kind::weights, Kind::gradients, Kind::optimizer, Kind::packed,
                              Kind::stash};

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
  using Leaves = std::array<bool, copied_kinds>;

  // Of the item with this number.
  int slot(Kind kind, std::size_t i) const {
    if (kind == Kind::stash) return spec_.stash_slots.empty() ? -1 : spec_.stash_slots[i];
    const int layer = schedule_[i].layer;
    return layer < spec_.layers ? residency_.slot(layer, kind) : -1;
  }
  int slots(Kind kind) const {
    return kind == Kind::stash ? spec_.stash_ring : residency_.slots(kind);
  }
  // What lies in a slot: a layer's blob, or its stash of a micro-batch.
  int key(Kind kind, const Scheduled& item) const {
    return kind == Kind::stash ? item.layer * spec_.micro_batches + item.micro : item.layer;
  }
  std::size_t keys(Kind kind) const {
    return at(spec_.layers) * (kind == Kind::stash ? at(spec_.micro_batches) : 1);
  }

  bool on_disk(Kind kind, int layer) const { return residency_.tier(layer, kind) == Tier::disk; }

  bool skipped(std::size_t i) const {
    return schedule_[i].phase == Phase::derive && slot(Kind::weights, i) >= 0;
  }

  // Its slots' contents are taken over by the next program while an update is pending.
  bool hands_over(Kind kind) const {
    if (kind == Kind::gradients) return !residency_.packs();
    return kind == Kind::weights || kind == Kind::packed;
  }
  // In a slot when an update is pending: the lowest layers, which the last sweep ended with.
  int left_in(Kind kind, int slot) const { return residency_.streaming_layer(kind, slot); }

  // What comes after a place of the list, as a stay in a slot sees it.
  struct Later {
    int key = -1;         // whose stay is next in the slot
    bool write = false;   // within that stay
    bool needed = false;  // after that stay somebody reads what it holds
  };

  // From the end: after which items do blobs leave?
  void look_back() {
    leaves_.assign(schedule_.size(), {});
    std::array<std::vector<Later>, copied_kinds> slots;
    std::array<std::vector<bool>, copied_kinds> read_next;  // by key: the next use reads it
    for (const Kind kind : all_kinds) {
      const bool gradients = kind == Kind::gradients || kind == Kind::packed;
      slots[at(kind)].resize(at(this->slots(kind)));
      // Gradients are of no use once they are applied. What is not handed over is of no use to the
      // next program, but for optimizer state.
      const bool needed = kind == Kind::optimizer || hands_over(kind);
      read_next[at(kind)].assign(keys(kind), needed && (!gradients || !spec_.ends_settled));
      if (spec_.ends_settled || !hands_over(kind)) continue;
      // What stays in its slot until the next program applies the update need not come home: that
      // one uses gradients up and makes weights anew.
      for (int s = 0; s < residency_.slots(kind); ++s)
        slots[at(kind)][at(s)] = {left_in(kind, s), false, false};
    }
    for (std::size_t i = schedule_.size(); i-- > 0;) {
      const Scheduled& item = schedule_[i];
      if (item.phase == Phase::load || skipped(i)) continue;
      const BlobUses uses = spec_.uses(item);
      for (const Kind kind : all_kinds) {
        const BlobUse& use = uses.of(kind);
        const int s = slot(kind, i), key = this->key(kind, item);
        if (s < 0 || !use.any()) continue;
        Later& later = slots[at(kind)][at(s)];
        if (later.key != key) later = {key, false, read_next[at(kind)][at(key)]};
        leaves_[i][at(kind)] = use.writes && !later.write && later.needed;
        later.write |= use.writes;
        read_next[at(kind)][at(key)] = reads(use, item);
      }
    }
  }

  static bool reads(const BlobUse& use, const Scheduled& item) {
    return use.reads || (use.adds && item.micro > 0);
  }

  void begin() {
    for (const Kind kind : all_kinds) {
      content_[at(kind)].assign(at(slots(kind)), -1);
      if (spec_.begins_settled || !hands_over(kind)) continue;
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
    if (skipped(i)) return;
    const BlobUses uses = spec_.uses(item);
    for (const Kind kind : all_kinds) {
      const int s = slot(kind, i), key = this->key(kind, item);
      if (s < 0 || !uses.of(kind).any() || content_[at(kind)][at(s)] == key) continue;
      content_[at(kind)][at(s)] = key;
      if (kind == Kind::weights) packed_[at(s)] = false;
      if (!reads(uses.of(kind), item)) continue;
      if (on_disk(kind, item.layer)) out_.push_back({{Phase::read, item.layer, item.micro}, kind});
      out_.push_back({{Phase::fetch, item.layer, item.micro}, kind, slot(Kind::stash, i)});
    }
    if (const int s = slot(Kind::weights, i); s >= 0) {
      if (uses.reads_packed && !packed_[at(s)]) {
        out_.push_back({{Phase::derive, item.layer, item.micro}});
        packed_[at(s)] = true;
      }
      if (uses.writes_packed) packed_[at(s)] = true;
    }
    const int stash = slot(Kind::stash, i);
    if (stash >= 0 && item.phase == Phase::forward && spec_.keeps_input(item.layer))
      out_.push_back({{Phase::keep, item.layer, item.micro}, Kind::stash, stash});
    out_.push_back({item, Kind::count, stash});
    for (const Kind kind : all_kinds)
      if (leaves_[i][at(kind)]) {
        out_.push_back({{Phase::leave, item.layer, item.micro}, kind, stash});
        if (on_disk(kind, item.layer))
          out_.push_back({{Phase::write, item.layer, item.micro}, kind});
      }
  }

  // What the next program takes for granted.
  void require_end() const {
    if (spec_.ends_settled) return;
    for (const Kind kind : all_kinds)
      for (int s = 0; hands_over(kind) && s < slots(kind); ++s)
        require(content_[at(kind)][at(s)] == left_in(kind, s), [&] {
          return Error(fmt::format("a sweep ends with layer {} in slot {} of {}, not with {}",
                                   content_[at(kind)][at(s)], s, name_of(kind), left_in(kind, s)));
        });
  }

  const std::vector<Scheduled>& schedule_;
  const CopySpec& spec_;
  const Residency& residency_;
  std::vector<Leaves> leaves_;
  std::array<std::vector<int>, copied_kinds> content_;  // by slot: the key
  std::vector<bool> packed_;                            // by slot of weights
  std::vector<Stop> out_;
};

}  // namespace

std::vector<Stop> with_copies(const std::vector<Scheduled>& schedule, const CopySpec& spec) {
  return CopyPlanner(schedule, spec).plan();
}

}  // namespace sluice
