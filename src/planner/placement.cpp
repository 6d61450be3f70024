#include "planner/placement.h"

#include <algorithm>

#include "core/error.h"
#include "program/tiers.h"

namespace sluice {

void add_homes(std::string& homes, std::string_view kind, int first, int end, int blocks,
               std::string_view tier) {
  first = std::max(first, 0), end = std::min(end, blocks);
  if (first >= end) return;
  if (!homes.empty()) homes += ",";
  homes += end - first == blocks ? fmt::format("{}={}", kind, tier)
                                 : fmt::format("{}@{}-{}={}", kind, first, end - 1, tier);
}

std::string homes_with(int count, int blocks, int disk) {
  if (count > 3 * blocks) {
    std::string out = homes_with(3 * blocks, blocks, disk);
    if (count >= all_blobs(blocks)) return out + ",@ends=host";
    out += ",optimizer@ends=host";
    return count == 3 * blocks + 1 ? out : out + ",gradients@ends=host";
  }
  if (count == 0) return "device";
  if (disk >= 3 * blocks) return "disk";
  if (count >= 3 * blocks && disk == 0) return "host";
  std::string out;
  int before = 0;  // blobs of the kinds before
  for (const char* kind : {"optimizer", "gradients", "weights"}) {
    add_homes(out, kind, 0, disk - before, blocks, "disk");
    add_homes(out, kind, disk - before, count - before, blocks, "host");
    before += blocks;
  }
  return out;
}

std::string_view name_of(Stash stash) { return stash == Stash::kept ? "kept" : "spilled"; }

std::string homes_within(const std::string& homes, int blocks, std::int64_t budget,
                         const std::function<std::int64_t(const std::string&)>& bytes) {
  if (bytes(homes) <= budget) return homes;
  const Homes parsed = parse_homes(homes, blocks);
  int count = 0, ends = 0;
  for (int kind = 0; kind < blob_kinds; ++kind) {
    count += parsed.streaming(static_cast<Kind>(kind));
    ends += parsed.ends_stream(static_cast<Kind>(kind)) ? 1 : 0;
  }
  const auto with = [&](int disk) { return homes_with(count + ends, blocks, disk); };
  const auto fits = [&](int disk) { return bytes(with(disk)) <= budget; };
  // With one blob more on disk the host has less, but for the first few of a kind, which need
  // staging slots: whole kinds first, then the fewest of the last one.
  int most = std::min(blocks, count), too_few = 0;
  while (most < count && !fits(most)) {
    too_few = most;
    most = std::min(most + blocks, count);
  }
  if (const std::int64_t least = bytes(with(most)); least > budget)
    return least < bytes(homes) ? with(most) : homes;
  while (most - too_few > 1) {
    const int middle = (most + too_few) / 2;
    (fits(middle) ? most : too_few) = middle;
  }
  return with(most);
}

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
    for (const Blobs blobs : choices_.blobs)
      for (const std::int64_t passes : choices_.passes)
        for (const Stash stash : choices_.stash)
          if (auto found = streaming(passes, stash, blobs)) return found;
    return std::nullopt;
  }

  std::vector<Placement> all() const {
    std::vector<Placement> out;
    for (const Stash stash : choices_.stash)
      for (const Recompute recompute : choices_.recompute) {
        const bool resident_first = choices_.homes.empty() && stash == Stash::kept;
        if (resident_first || choices_.homes == "device")
          if (auto found = resident(stash, recompute)) out.push_back(*found);
        if (choices_.homes != "device") add_streaming(stash, recompute, out);
      }
    return out;
  }

 private:
  void add_streaming(Stash stash, Recompute recompute, std::vector<Placement>& out) const {
    constexpr int most_passes = 3;  // more passes fetch more and keep more on the device
    std::vector<int> most_away = {3 * choices_.blocks};
    if (choices_.homes.empty()) most_away.push_back(all_blobs(choices_.blocks));
    const Blobs blobs = choices_.blobs.front();
    for (const int most : most_away)
      for (const int slots : choices_.slots_of(blobs)) {
        int found = 0;
        for (const std::int64_t passes : choices_.passes) {
          const auto one = fewest_away({passes, "", slots, recompute, stash, 0, blobs}, most);
          if (!one) continue;
          if (std::find(out.begin(), out.end(), *one) == out.end()) out.push_back(*one);
          if (++found == most_passes) break;
        }
      }
  }

  bool fits(const Placement& placement) const { return bytes_(placement) <= budget_; }

  // Mildest first; of what is spilled, the least that can be.
  std::vector<Recompute> levels(Stash stash) const {
    std::vector<Recompute> out = choices_.recompute;
    if (stash == Stash::spilled) std::reverse(out.begin(), out.end());
    return out;
  }

  std::optional<Placement> resident(Stash stash) const {
    for (const Recompute recompute : levels(stash))
      if (auto found = resident(stash, recompute)) return found;
    return std::nullopt;
  }
  std::optional<Placement> resident(Stash stash, Recompute recompute) const {
    const Blobs blobs = choices_.blobs.front();
    for (const int slots : choices_.slots_of(blobs)) {
      const Placement one{choices_.resident_passes, "device", slots, recompute, stash, 0, blobs};
      if (fits(one)) return one;
      if (stash == Stash::kept) break;  // there are no slots
    }
    return std::nullopt;
  }

  std::optional<Placement> streaming(std::int64_t passes, Stash stash, Blobs blobs) const {
    for (const Recompute recompute : levels(stash))
      for (const int slots : choices_.slots_of(blobs))
        if (auto found = fewest_away({passes, "", slots, recompute, stash, 0, blobs})) return found;
    return std::nullopt;
  }

  std::optional<Placement> fewest_away(const Placement& placement) const {
    return fewest_away(placement, all_blobs(choices_.blocks));
  }
  // With as few blobs off the device as do, at most so many; none when that is not enough. A blob
  // more off the device never takes more of it. With a kept stash some must leave, else it would
  // have been resident.
  std::optional<Placement> fewest_away(Placement placement, int most) const {
    placement.homes = choices_.homes;
    if (!choices_.homes.empty()) return fits(placement) ? std::optional(placement) : std::nullopt;
    const auto fits_with = [&](int count) {
      placement.homes = homes_with(count, choices_.blocks);
      return fits(placement);
    };
    int too_few = placement.stash == Stash::kept ? 0 : -1;
    // Where the host has no room for an end, blocks may be enough.
    while (most > 3 * choices_.blocks && !fits_with(most)) --most;
    if (!fits_with(most)) return std::nullopt;
    while (most - too_few > 1) {
      const int middle = (most + too_few) / 2;
      (fits_with(middle) ? most : too_few) = middle;
    }
    placement.homes = homes_with(most, choices_.blocks);
    return placement;
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

std::vector<Placement> all_that_fit(const PlacementChoices& choices, std::int64_t budget,
                                    const DeviceBytes& bytes) {
  return Search(choices, budget, bytes).all();
}

Placement with_stash_slots(Placement placement, int most, std::int64_t budget,
                           const DeviceBytes& bytes) {
  if (placement.stash != Stash::spilled || most <= placement.slots) return placement;
  int fits = placement.slots, too_many = most + 1;
  while (too_many - fits > 1) {
    placement.stash_slots = (fits + too_many) / 2;
    (bytes(placement) <= budget ? fits : too_many) = placement.stash_slots;
  }
  placement.stash_slots = fits == placement.slots ? 0 : fits;
  return placement;
}

Placement least(const PlacementChoices& choices, const DeviceBytes& bytes) {
  const bool resident = choices.homes == "device";
  std::optional<Placement> best;
  std::int64_t fewest = 0;
  const auto consider = [&](const Placement& one) {
    const std::int64_t needed = bytes(one);
    if (!best || needed <= fewest) best = one, fewest = needed;
  };
  for (const Blobs blobs : choices.blobs)
    for (const Stash stash : choices.stash)
      for (const Recompute recompute : choices.recompute)
        consider({resident ? choices.resident_passes : choices.passes.back(),
                  choices.homes.empty() ? homes_with(all_blobs(choices.blocks), choices.blocks)
                                        : choices.homes,
                  choices.slots_of(blobs).back(), recompute, stash, 0, blobs});
  return *best;
}

}  // namespace sluice
