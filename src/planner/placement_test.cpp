#include "planner/placement.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "program/tiers.h"

namespace sluice {
namespace {

PlacementChoices choices() {
  return {.blocks = 4,
          .recompute = {Recompute::none, Recompute::block},
          .passes = {1, 2, 6},
          .slots = {3, 2},
          .homes = "",
          .resident_passes = 0};
}

// Ten bytes a block's blob at home on the device and a slot, two less for each kind of the ends'
// that leaves; stash by micro-batches at once and recompute.
std::int64_t bytes(const Placement& p) {
  int away = 0;
  for (int count = 0; count <= all_blobs(4); ++count)
    if (homes_with(count, 4) == p.homes) away = count;
  const int off = std::min(away, 12), slots = std::min(off, 3 * p.slots);
  const std::int64_t at_once = p.passes == 0 ? 1 : 6 / p.passes;
  return 10 * (12 - off + slots) - 2 * (away - off) +
         at_once * (p.recompute == Recompute::none ? 50 : 1);
}

Placement chosen(std::int64_t budget) {
  return first_that_fits(choices(), budget, bytes).value_or(Placement{-1, "", 0, {}});
}

TEST(Placement, HomesNameBlobsInOrder) {
  EXPECT_EQ(homes_with(0, 4), "device");
  EXPECT_EQ(homes_with(1, 4), "optimizer@0-0=host");
  EXPECT_EQ(homes_with(4, 4), "optimizer=host");
  EXPECT_EQ(homes_with(6, 4), "optimizer=host,gradients@0-1=host");
  EXPECT_EQ(homes_with(11, 4), "optimizer=host,gradients=host,weights@0-2=host");
  EXPECT_EQ(homes_with(12, 4), "host");
  EXPECT_EQ(homes_with(13, 4), "host,optimizer@ends=host");
  EXPECT_EQ(homes_with(14, 4), "host,optimizer@ends=host,gradients@ends=host");
  EXPECT_EQ(homes_with(15, 4), "host,@ends=host");
}

TEST(Placement, HomesGoOnToDiskInTheSameOrder) {
  EXPECT_EQ(homes_with(12, 4, 12), "disk");
  EXPECT_EQ(homes_with(4, 4, 1), "optimizer@0-0=disk,optimizer@1-3=host");
  EXPECT_EQ(homes_with(6, 4, 5), "optimizer=disk,gradients@0-0=disk,gradients@1-1=host");
  EXPECT_EQ(homes_with(12, 4, 8), "optimizer=disk,gradients=disk,weights=host");
  EXPECT_EQ(homes_with(15, 4, 12), "disk,@ends=host") << "but for the ends";
  for (int count = 0; count <= all_blobs(4); ++count)
    for (int disk = 0; disk <= std::min(count, 12); ++disk) {
      const Homes homes = parse_homes(homes_with(count, 4, disk), 4);
      int off = 0, on_disk = 0;
      for (const Kind kind : {Kind::weights, Kind::gradients, Kind::optimizer})
        off += homes.streaming(kind) + homes.ends_stream(kind), on_disk += homes.on_disk(kind);
      EXPECT_EQ(off, count) << disk;
      EXPECT_EQ(on_disk, disk) << count;
    }
}

TEST(Placement, AsFewBlobsOnDiskAsDo) {
  // Ten bytes a blob on the host, and for each kind on disk four staging slots or as many as
  // needed.
  const auto host = [](const std::string& homes) {
    const Homes parsed = parse_homes(homes, 40);
    std::int64_t bytes = 0;
    for (const Kind kind : {Kind::weights, Kind::gradients, Kind::optimizer})
      bytes += 10 * (parsed.streaming(kind) - parsed.on_disk(kind) +
                     2 * std::min(staging_slots, parsed.on_disk(kind)));
    return bytes;
  };
  const auto within = [&](int count, std::int64_t budget) {
    return homes_within(homes_with(count, 40), 40, budget, host);
  };
  EXPECT_EQ(within(120, 1200), "host");
  EXPECT_EQ(within(120, 1199), homes_with(120, 40, 5));
  EXPECT_EQ(within(120, 840), "optimizer=disk,gradients=host,weights=host");
  EXPECT_EQ(within(120, 120), "disk");
  EXPECT_EQ(within(120, 119), "disk");
  EXPECT_EQ(within(3, 20), homes_with(3, 40)) << "staging slots would take more";
  EXPECT_EQ(within(50, 500), homes_with(50, 40));
  EXPECT_EQ(within(50, 140), homes_with(50, 40, 40));
  EXPECT_EQ(within(123, 1199), homes_with(123, 40, 5));
  EXPECT_EQ(within(122, 119), homes_with(122, 40, 120));
}

TEST(Placement, TheMildestThatFits) {
  EXPECT_EQ(chosen(170), (Placement{0, "device", 3, Recompute::none}));
  EXPECT_EQ(chosen(169), (Placement{0, "device", 3, Recompute::block}));
  EXPECT_EQ(chosen(121), (Placement{0, "device", 3, Recompute::block}));
  EXPECT_EQ(chosen(120),
            (Placement{1, "optimizer=host,gradients=host,weights@0-1=host", 3, Recompute::block}));
  EXPECT_EQ(chosen(96), (Placement{1, "host", 3, Recompute::block}));
  EXPECT_EQ(chosen(66), (Placement{1, "host", 2, Recompute::block}));
  EXPECT_EQ(chosen(65), (Placement{1, "host,optimizer@ends=host", 2, Recompute::block}));
  EXPECT_EQ(chosen(61), (Placement{1, "host,@ends=host", 2, Recompute::block}));
  EXPECT_EQ(chosen(59), (Placement{2, homes_with(14, 4), 2, Recompute::block}));
  EXPECT_EQ(chosen(55), (Placement{6, "host,@ends=host", 2, Recompute::block}));
  EXPECT_EQ(least(choices(), bytes), chosen(55));
  EXPECT_EQ(first_that_fits(choices(), 54, bytes), std::nullopt);
}

// A way out that is none: the host has no room for an end, as its caller says.
TEST(Placement, AnEndStaysWhereTheHostHasNoRoomForIt) {
  const auto with_room_for = [](int ends, std::int64_t budget) {
    const auto narrow = [ends](const Placement& p) {
      for (int count = 13 + ends; count <= all_blobs(4); ++count)
        if (p.homes == homes_with(count, 4)) return std::int64_t{1} << 40;
      return bytes(p);
    };
    return first_that_fits(choices(), budget, narrow).value_or(Placement{-1, "", 0, {}});
  };
  EXPECT_EQ(with_room_for(3, 61), chosen(61));
  EXPECT_EQ(with_room_for(1, 65), chosen(65));
  EXPECT_EQ(with_room_for(1, 61), (Placement{2, homes_with(13, 4), 2, Recompute::block}));
  EXPECT_EQ(with_room_for(0, 65), (Placement{2, "host", 2, Recompute::block}));
  EXPECT_EQ(with_room_for(0, 61).passes, 6);
  EXPECT_EQ(with_room_for(0, 60).passes, -1);
}

// A spilled stash takes so much a slot, however many micro-batches there are.
std::int64_t bytes_with_spilling(const Placement& p) {
  if (p.stash == Stash::kept) return bytes(p);
  Placement none = p;
  none.recompute = Recompute::block;
  const std::int64_t at_once = p.passes == 0 ? 1 : 6 / p.passes;
  const int slot = p.recompute == Recompute::none ? 20 : 1;
  return bytes(none) - at_once + slot * p.slots;
}

TEST(Placement, AStashIsSpilledBeforeThereAreMorePasses) {
  PlacementChoices all = choices();
  all.stash = {Stash::kept, Stash::spilled};
  const auto chosen_for = [&](std::int64_t budget) {
    return first_that_fits(all, budget, bytes_with_spilling).value_or(Placement{-1, "", 0, {}});
  };
  EXPECT_EQ(chosen_for(66), (Placement{1, "host", 2, Recompute::block}));
  EXPECT_EQ(chosen_for(60), (Placement{1, "host,@ends=host", 2, Recompute::block}));
  EXPECT_EQ(chosen_for(59), (Placement{1, homes_with(14, 4), 2, Recompute::block, Stash::spilled}));
  EXPECT_EQ(chosen_for(56), (Placement{1, "host,@ends=host", 2, Recompute::block, Stash::spilled}));
  EXPECT_EQ(chosen_for(55), (Placement{6, "host,@ends=host", 2, Recompute::block}));
  // One micro-batch at a time: two slots are more than its whole stash.
  EXPECT_EQ(least(all, bytes_with_spilling), chosen_for(55));
  EXPECT_EQ(first_that_fits(all, 54, bytes_with_spilling), std::nullopt);
  all.stash = {Stash::spilled};
  EXPECT_EQ(chosen_for(200), (Placement{0, "device", 3, Recompute::block, Stash::spilled}));
  EXPECT_EQ(chosen_for(55).passes, -1);
}

// The example's stash takes as much a slot in its own ring.
TEST(Placement, ASpilledStashTakesTheSlotsThatAreLeft) {
  const auto sized = [](const Placement& p) {
    return bytes_with_spilling(p) + (p.stash_slots > p.slots ? p.stash_slots - p.slots : 0);
  };
  const Placement tight{1, "host", 2, Recompute::block, Stash::spilled};
  const std::int64_t needed = sized(tight);
  EXPECT_EQ(with_stash_slots(tight, 16, needed, sized), tight);
  EXPECT_EQ(with_stash_slots(tight, 16, needed + 5, sized).stash_slots, 7);
  EXPECT_EQ(sized(with_stash_slots(tight, 16, needed + 5, sized)), needed + 5);
  EXPECT_EQ(with_stash_slots(tight, 16, needed + 500, sized).stash_slots, 16);
  const Placement kept{1, "host", 2, Recompute::block};
  EXPECT_EQ(with_stash_slots(kept, 16, 1000, sized), kept);
}

TEST(Placement, WhatAPersonChoseStays) {
  PlacementChoices mine = choices();
  mine.homes = "optimizer=host";
  EXPECT_EQ(first_that_fits(mine, 1000, bytes),
            (Placement{1, "optimizer=host", 3, Recompute::none}));
  mine.homes = "device";
  EXPECT_EQ(first_that_fits(mine, 100, bytes), std::nullopt);
  EXPECT_EQ(least(mine, bytes).homes, "device");
}

// Blobs of half the size need less where nothing else does, and are looked at last.
TEST(Placement, PartsAreForWhatDoesNotFitOtherwise) {
  PlacementChoices open = choices();
  open.blobs = {Blobs::layer, Blobs::parts};
  const auto halved = [](Placement p) {
    if (p.blobs == Blobs::parts) {
      EXPECT_TRUE(p.slots == 4 || p.slots == 2);
      p.slots /= 2;
    }
    return bytes(p);
  };
  const std::int64_t of_layers = bytes(least(choices(), bytes));
  const Placement smallest = least(open, halved);
  EXPECT_EQ(smallest.blobs, Blobs::parts);
  EXPECT_EQ(smallest.slots, 2);
  EXPECT_LT(halved(smallest), of_layers);
  for (std::int64_t budget = halved(smallest) - 1; budget < of_layers + 200; ++budget) {
    const std::optional<Placement> found = first_that_fits(open, budget, halved);
    EXPECT_EQ(found.has_value(), budget >= halved(smallest)) << budget;
    if (!found) continue;
    EXPECT_LE(halved(*found), budget);
    EXPECT_EQ(found->blobs == Blobs::parts, budget < of_layers) << budget;
    if (budget >= of_layers) {
      EXPECT_EQ(*found, chosen(budget));
    }
  }
}

}  // namespace
}  // namespace sluice
