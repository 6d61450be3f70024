// Where blobs live: homes, rings and slots.
//
// A block's blob of weights, gradients or optimizer state has a home. At home on the device it has
// a place of its own there. From any other home it passes through a ring of slots, each as large as
// one such blob: the j-th block of those that stream uses slot j modulo the slots. Sweeps go up and
// down the layers, so each turn finds as many blobs in place as there are slots, which is as good
// as any other rule. Embedding, head and short tables are always on the device.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

enum class Tier : std::uint8_t { device, host };
std::string_view name_of(Tier tier);

// What is copied between tiers. The first three are blobs that layers own and have homes; packed
// gradients are another form of gradients, and at home where those are; a stash is of a layer and a
// micro-batch.
enum class Kind : std::uint8_t { weights, gradients, optimizer, packed, stash, count };
inline constexpr int blob_kinds = static_cast<int>(Kind::packed);
inline constexpr int copied_kinds = static_cast<int>(Kind::count);
std::string_view name_of(Kind kind);

struct Homes {
  std::array<std::vector<Tier>, blob_kinds> blocks;  // by block; none at all: all on the device
  std::array<int, blob_kinds> slots = {3, 3, 3};     // of each ring, 2 or more

  Tier of(Kind kind, int block) const;
  bool streams(Kind kind) const;
  bool streams() const;
  // Of a streaming block: how many streaming ones of this kind come before it.
  int index_of(Kind kind, int block) const;
  int streaming(Kind kind) const;  // how many there are
};

// "device", "host", or a list of "KIND=TIER" and "KIND@FIRST-LAST=TIER", later ones on top of
// earlier ones; blocks count from 0. Throws Exit::usage.
Homes parse_homes(std::string_view text, int blocks);

}  // namespace sluice
