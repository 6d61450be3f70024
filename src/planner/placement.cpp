#include "planner/placement.h"

#include <algorithm>

#include "core/error.h"
#include "program/tiers.h"

namespace sluice {

std::string homes_with(int count, int blocks, int disk) {
  if (count == 0) return "device";
  if (disk >= 3 * blocks) return "disk";
  if (count >= 3 * blocks && disk == 0) return "host";
  std::string out;
  int before = 0;  // blobs of the kinds before
  for (const char* kind : {"optimizer", "gradients", "weights"}) {
    // [first, end) of this kind's blocks to `tier`.
    const auto add = [&](int first, int end, const char* tier) {
      first = std::max(first, 0), end = std::min(end, blocks);
      if (first >= end) return;
      if (!out.empty()) out += ",";
      out += end - first == blocks ? fmt::format("{}={}", kind, tier)
                                   : fmt::format("{}@{}-{}={}", kind, first, end - 1, tier);
    };
    add(0, disk - before, "disk");
    add(disk - before, count - before, "host");
    before += blocks;
  }
  return out;
}

std::string homes_within(const std::string& homes, int blocks, std::int64_t budget,
                         const std::function<std::int64_t(const std::string&)>& bytes) {
  if (bytes(homes) <= budget) return homes;
  const Homes parsed = parse_homes(homes, blocks);
  int count = 0;
  for (int kind = 0; kind < blob_kinds; ++kind) count += parsed.streaming(static_cast<Kind>(kind));
  const auto with = [&](int disk) { return homes_with(count, blocks, disk); };
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
