#include "planner/placement.h"

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

namespace {

// With as few blobs off the device as do; none when it does not fit with all of them off.
std::optional<Placement> fewest_away(const PlacementChoices& choices, Placement placement,
                                     const std::function<bool(const Placement&)>& fits) {
  placement.homes = choices.homes;
  if (!choices.homes.empty()) return fits(placement) ? std::optional(placement) : std::nullopt;
  // A blob more off the device never takes more of it: look for the fewest.
  int most = 3 * choices.blocks, too_few = 0;
  placement.homes = homes_with(most, choices.blocks);
  if (!fits(placement)) return std::nullopt;
  while (most - too_few > 1) {
    const int middle = (most + too_few) / 2;
    placement.homes = homes_with(middle, choices.blocks);
    (fits(placement) ? most : too_few) = middle;
  }
  placement.homes = homes_with(most, choices.blocks);
  return placement;
}

}  // namespace

std::optional<Placement> first_that_fits(const PlacementChoices& choices, std::int64_t budget,
                                         const DeviceBytes& bytes) {
  const auto fits = [&](const Placement& placement) { return bytes(placement) <= budget; };
  if (choices.homes.empty() || choices.homes == "device")
    for (const Recompute recompute : choices.recompute) {
      const Placement resident{choices.resident_passes, "device", choices.slots.front(), recompute};
      if (fits(resident)) return resident;
    }
  if (choices.homes == "device") return std::nullopt;
  for (const std::int64_t passes : choices.passes)
    for (const Recompute recompute : choices.recompute)
      for (const int slots : choices.slots)
        if (auto found = fewest_away(choices, {passes, "", slots, recompute}, fits)) return found;
  return std::nullopt;
}

std::vector<Placement> all_that_fit(const PlacementChoices& choices, std::int64_t budget,
                                    const DeviceBytes& bytes) {
  constexpr int most_passes = 3;  // more passes fetch more and keep more on the device
  const auto fits = [&](const Placement& placement) { return bytes(placement) <= budget; };
  std::vector<Placement> out;
  for (const Recompute recompute : choices.recompute) {
    if (choices.homes.empty() || choices.homes == "device") {
      const Placement resident{choices.resident_passes, "device", choices.slots.front(), recompute};
      if (fits(resident)) out.push_back(resident);
    }
    if (choices.homes == "device") continue;
    for (const int slots : choices.slots) {
      int found = 0;
      for (const std::int64_t passes : choices.passes) {
        const auto one = fewest_away(choices, {passes, "", slots, recompute}, fits);
        if (!one) continue;
        out.push_back(*one);
        if (++found == most_passes) break;
      }
    }
  }
  return out;
}

Placement least(const PlacementChoices& choices) {
  if (choices.homes == "device")
    return {choices.resident_passes, "device", choices.slots.back(), choices.recompute.back()};
  return {choices.passes.back(), choices.homes.empty() ? "host" : choices.homes,
          choices.slots.back(), choices.recompute.back()};
}

}  // namespace sluice
