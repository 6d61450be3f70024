#include "planner/placement.h"

#include <algorithm>

#include "core/error.h"

namespace sluice {

std::string homes_with(int count, int blocks) {
  if (count == 0) return "device";
  if (count >= 3 * blocks) return "host";
  std::string out;
  for (const char* kind : {"optimizer", "gradients", "weights"}) {
    if (count <= 0) break;
    if (!out.empty()) out += ",";
    out += count >= blocks ? fmt::format("{}=host", kind)
                           : fmt::format("{}@0-{}=host", kind, count - 1);
    count -= blocks;
  }
  return out;
}

std::string_view name_of(Stash stash) { return stash == Stash::kept ? "kept" : "spilled"; }

namespace {

class Search {
 public:
  Search(const PlacementChoices& choices, std::int64_t budget, const DeviceBytes& bytes)
      : choices_(choices), budget_(budget), bytes_(bytes) {}

  std::optional<Placement> first() {
    const bool never_streams = choices_.homes == "device";
    if (never_streams || choices_.homes.empty())
      for (const Stash stash : choices_.stash) {
        if (auto found = resident(stash)) return found;
        if (!never_streams) break;  // what spills may stream as well
      }
    if (never_streams) return std::nullopt;
    for (const std::int64_t passes : choices_.passes)
      for (const Stash stash : choices_.stash)
        if (auto found = streaming(passes, stash)) return found;
    return std::nullopt;
  }

 private:
  bool fits(const Placement& placement) const { return bytes_(placement) <= budget_; }

  // Mildest first; of what is spilled, the least that can be.
  std::vector<Recompute> levels(Stash stash) const {
    std::vector<Recompute> out = choices_.recompute;
    if (stash == Stash::spilled) std::reverse(out.begin(), out.end());
    return out;
  }

  std::optional<Placement> resident(Stash stash) const {
    for (const Recompute recompute : levels(stash))
      for (const int slots : choices_.slots) {
        const Placement one{choices_.resident_passes, "device", slots, recompute, stash};
        if (fits(one)) return one;
        if (stash == Stash::kept) break;  // there are no slots
      }
    return std::nullopt;
  }

  std::optional<Placement> streaming(std::int64_t passes, Stash stash) const {
    for (const Recompute recompute : levels(stash))
      for (const int slots : choices_.slots) {
        Placement placement{passes, choices_.homes, slots, recompute, stash};
        if (choices_.homes.empty())
          placement.homes = homes_with(3 * choices_.blocks, choices_.blocks);
        if (!fits(placement)) continue;
        if (choices_.homes.empty()) placement.homes = fewest(placement);
        return placement;
      }
    return std::nullopt;
  }

  // A blob more off the device never takes more of it: look for the fewest. With a kept stash some
  // must leave, else it would have been resident.
  std::string fewest(Placement placement) const {
    int most = 3 * choices_.blocks, too_few = placement.stash == Stash::kept ? 0 : -1;
    while (most - too_few > 1) {
      const int middle = (most + too_few) / 2;
      placement.homes = homes_with(middle, choices_.blocks);
      (fits(placement) ? most : too_few) = middle;
    }
    return homes_with(most, choices_.blocks);
  }

  const PlacementChoices& choices_;
  std::int64_t budget_;
  const DeviceBytes& bytes_;
};

}  // namespace

std::optional<Placement> first_that_fits(const PlacementChoices& choices, std::int64_t budget,
                                         const DeviceBytes& bytes) {
  return Search(choices, budget, bytes).first();
}

Placement least(const PlacementChoices& choices, const DeviceBytes& bytes) {
  const bool resident = choices.homes == "device";
  std::optional<Placement> best;
  std::int64_t fewest = 0;
  for (const Stash stash : choices.stash)
    for (const Recompute recompute : choices.recompute) {
      const Placement one{resident ? choices.resident_passes : choices.passes.back(),
                          choices.homes.empty() ? "host" : choices.homes, choices.slots.back(),
                          recompute, stash};
      const std::int64_t needed = bytes(one);
      if (!best || needed <= fewest) best = one, fewest = needed;
    }
  return *best;
}

}  // namespace sluice
