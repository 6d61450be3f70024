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

  SlotContents left() {
    begin();
    for (std::size_t i = 0; i < schedule_.size(); ++i) {
      if (schedule_[i].phase == Phase::load || skipped(i)) continue;
      const BlobUses uses = spec_.uses(schedule_[i]);
      each_use(i, uses, [&](const Used& used) { take(used); });
      each_packed(i, uses, [&](const Slots& slots, int, bool) { set_packed(slots); });
    }
    for (const Kind kind : all_kinds)
      for (int& key : contents_.key[at(kind)])
        if (key >= 0 && !(hands_over(kind, key) && holds(slots_of(kind, key), kind, key))) key = -1;
    contents_.key[at(Kind::stash)].clear();
    return std::move(contents_);
  }

 private:
  using Leaves = std::array<std::array<bool, 2>, copied_kinds>;  // own blobs, lent ones

  struct Slots {
    int first = -1, count = 1;
    int end() const { return first < 0 ? -1 : first + count; }
  };
  Slots slots_of(Kind kind, int layer) const {
    if (layer >= spec_.layers) return {};
    return {residency_.slot(layer, kind), residency_.covers(layer, kind)};
  }
  // Of the item with this number.
  int stash_slot(std::size_t i) const {
    return spec_.stash_slots.empty() ? -1 : spec_.stash_slots[i];
  }

  // A blob that streams and that an item uses.
  struct Used {
    Kind kind;
    bool lent;
    int layer, key;  // whose it is; what says so in a slot
    Slots slots;
    const BlobUse& use;
  };
  template <class Visit>
  void each_use(std::size_t i, const BlobUses& uses, Visit visit) const {
    const Scheduled& item = schedule_[i];
    for (const Kind kind : all_kinds)
      for (const bool lent : {false, true}) {
        const BlobUse& use = lent ? uses.lent[at(kind)] : uses.of(kind);
        if (!use.any()) continue;
        const int layer = lent ? lender(item.layer) : item.layer;
        const Slots slots = kind == Kind::stash ? Slots{stash_slot(i)} : slots_of(kind, layer);
        if (slots.first < 0) continue;
        visit(Used{kind, lent, layer, kind == Kind::stash ? key(kind, item) : layer, slots, use});
      }
  }
  // visit(slots, layer, writes) of weights that are read or written packed.
  template <class Visit>
  void each_packed(std::size_t i, const BlobUses& uses, Visit visit) const {
    const int layer = schedule_[i].layer, other = lender(layer);
    if (const Slots own = slots_of(Kind::weights, layer); own.first >= 0) {
      if (uses.reads_packed) visit(own, layer, false);
      if (uses.writes_packed) visit(own, layer, true);
    }
    if (!uses.reads_lent_packed) return;
    if (const Slots lent = slots_of(Kind::weights, other); lent.first >= 0)
      visit(lent, other, false);
  }
  // The end that lends to another.
  int lender(int layer) const { return layer == 0 ? spec_.layers - 1 : 0; }

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
    return schedule_[i].phase == Phase::derive &&
           slots_of(Kind::weights, schedule_[i].layer).first >= 0;
  }

  // What lies in its slot is taken over by the next program while an update is pending.
  bool hands_over(Kind kind, int layer) const {
    if (kind == Kind::gradients) return residency_.is_end(layer) || !residency_.packs();
    return kind == Kind::weights || kind == Kind::packed;
  }

  bool holds(const Slots& slots, Kind kind, int key) const {
    const auto& all = contents_.key[at(kind)];
    return std::all_of(all.begin() + slots.first, all.begin() + slots.end(),
                       [&](int one) { return one == key; });
  }
  // False when it is there already.
  bool take(const Used& used) {
    if (holds(used.slots, used.kind, used.key)) return false;
    auto& all = contents_.key[at(used.kind)];
    std::fill(all.begin() + used.slots.first, all.begin() + used.slots.end(), used.key);
    if (used.kind == Kind::weights) set_packed(used.slots, false);
    return true;
  }
  void set_packed(const Slots& slots, bool to = true) {
    std::fill(contents_.packed.begin() + slots.first, contents_.packed.begin() + slots.end(), to);
  }

  // Gradients that are in their slot when an update is pending, and not when it comes to them:
  // updates go up the layers, and a lower one takes the slot.
  bool loses_slot(Kind kind, int layer) const {
    const Slots own = slots_of(kind, layer);
    for (int lower = 0; lower < layer; ++lower) {
      const Slots other = slots_of(kind, lower);
      if (other.first >= 0 && other.first < own.end() && own.first < other.end()) return true;
    }
    return false;
  }

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
      if (kind == Kind::stash) {
        read_next[at(kind)].assign(keys(kind), false);
        continue;
      }
      // Gradients are of no use once they are applied. What is not handed over is of no use to the
      // next program, but for optimizer state.
      for (int layer = 0; layer < spec_.layers; ++layer)
        read_next[at(kind)].push_back((kind == Kind::optimizer || hands_over(kind, layer)) &&
                                      (!gradients || !spec_.ends_settled));
      if (spec_.ends_settled) continue;
      // What stays in its slot until the next program applies the update need not come home: that
      // one uses gradients up and makes weights anew.
      for (int s = 0; s < residency_.slots(kind); ++s)
        if (const int left = spec_.pending.key[at(kind)][at(s)]; left >= 0)
          slots[at(kind)][at(s)] = {left, false, loses_slot(kind, left)};
    }
    for (std::size_t i = schedule_.size(); i-- > 0;) {
      const Scheduled& item = schedule_[i];
      if (item.phase == Phase::load || skipped(i)) continue;
      each_use(i, spec_.uses(item), [&](const Used& used) {
        auto& all = slots[at(used.kind)];
        const auto begin = all.begin() + used.slots.first, end = all.begin() + used.slots.end();
        // Its stay ends where anybody else takes one of its slots.
        Later later = *begin;
        if (!std::all_of(begin, end, [&](const Later& one) { return one.key == used.key; }))
          later = {used.key, false, read_next[at(used.kind)][at(used.key)]};
        leaves_[i][at(used.kind)][used.lent] = used.use.writes && !later.write && later.needed;
        later.write |= used.use.writes;
        std::fill(begin, end, later);
        read_next[at(used.kind)][at(used.key)] = reads(used.use, item);
      });
    }
  }

  static bool reads(const BlobUse& use, const Scheduled& item) {
    return use.reads || (use.adds && item.micro > 0);
  }

  void begin() {
    if (!spec_.begins_settled) contents_ = spec_.pending;
    for (const Kind kind : all_kinds) contents_.key[at(kind)].resize(at(slots(kind)), -1);
    contents_.packed.resize(at(residency_.slots(Kind::weights)));
  }

  void add(std::size_t i) {
    const Scheduled& item = schedule_[i];
    if (item.phase == Phase::load) {
      out_.push_back({item});
      return;
    }
    if (skipped(i)) return;
    const BlobUses uses = spec_.uses(item);
    const int stash = stash_slot(i);
    each_use(i, uses, [&](const Used& used) {
      if (!take(used) || !reads(used.use, item)) return;
      if (on_disk(used.kind, used.layer))
        out_.push_back({{Phase::read, used.layer, item.micro}, used.kind});
      out_.push_back({{Phase::fetch, used.layer, item.micro}, used.kind, stash});
    });
    each_packed(i, uses, [&](const Slots& slots, int layer, bool writes) {
      if (!writes && !contents_.packed[at(slots.first)])
        out_.push_back({{Phase::derive, layer, item.micro}});
      set_packed(slots);
    });
    if (stash >= 0 && item.phase == Phase::forward && spec_.keeps_input(item.layer))
      out_.push_back({{Phase::keep, item.layer, item.micro}, Kind::stash, stash});
    out_.push_back({item, Kind::count, stash});
    each_use(i, uses, [&](const Used& used) {
      if (!leaves_[i][at(used.kind)][used.lent]) return;
      out_.push_back({{Phase::leave, used.layer, item.micro}, used.kind, stash});
      if (on_disk(used.kind, used.layer))
        out_.push_back({{Phase::write, used.layer, item.micro}, used.kind});
    });
  }

  // What the next program takes for granted.
  void require_end() const {
    if (spec_.ends_settled) return;
    for (const Kind kind : all_kinds)
      for (std::size_t s = 0; s < spec_.pending.key[at(kind)].size(); ++s) {
        const int found = contents_.key[at(kind)][s], left = spec_.pending.key[at(kind)][s];
        require(left < 0 || found == left, [&] {
          return Error(fmt::format("a sweep ends with layer {} in slot {} of {}, not with {}",
                                   found, s, name_of(kind), left));
        });
      }
  }

  const std::vector<Scheduled>& schedule_;
  const CopySpec& spec_;
  const Residency& residency_;
  std::vector<Leaves> leaves_;
  SlotContents contents_;
  std::vector<Stop> out_;
};

}  // namespace

std::vector<Stop> with_copies(const std::vector<Scheduled>& schedule, const CopySpec& spec) {
  return CopyPlanner(schedule, spec).plan();
}

SlotContents left_pending(const std::vector<Scheduled>& schedule, const CopySpec& spec) {
  CopySpec from_rest = spec;
  from_rest.begins_settled = true;
  return CopyPlanner(schedule, from_rest).left();
}

}  // namespace sluice
