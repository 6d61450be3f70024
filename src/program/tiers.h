// Where blobs live: homes, rings and slots.
//
// A block's blob of weights, gradients or optimizer state has a home. At home on the device it has
// a place of its own there. From any other home it passes through a ring of slots, each as large as
// one such blob: the j-th block of those that stream uses slot j modulo the slots. Sweeps go up and
// down the layers, so each turn finds as many blobs in place as there are slots, which is as good
// as any other rule. Embedding, head and short tables are always on the device.
//
// What is at home on disk passes through host memory too: on its way in through one of two staging
// slots of its kind, on its way out through one of two others, again by turns.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

enum class Tier : std::uint8_t { device, host, disk };
std::string_view name_of(Tier tier);

// What is copied between tiers. The first three are blobs that layers own and have homes; packed
// gradients are another form of gradients, and at home where those are; a stash is of a layer and a
// micro-batch.
enum class Kind : std::uint8_t { weights, gradients, optimizer, packed, stash, count };
inline constexpr int blob_kinds = static_cast<int>(Kind::packed);
inline constexpr int copied_kinds = static_cast<int>(Kind::count);
// What layers own, in every form.
inline constexpr Kind owned_kinds[] = {Kind::weights, Kind::gradients, Kind::optimizer,
                                       Kind::packed};
// Whose homes are those of what layers own.
constexpr Kind home_kind(Kind kind) { return kind == Kind::packed ? Kind::gradients : kind; }
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
  // The same of those at home on disk.
  int disk_index_of(Kind kind, int block) const;
  int on_disk(Kind kind) const;
};

// Staging slots of a kind in each direction, unless fewer blobs are at home on disk.
inline constexpr int staging_slots = 2;

// "device", "host", "disk", or a list of "KIND=TIER" and "KIND@FIRST-LAST=TIER", later ones on top
// of earlier ones; blocks count from 0. Throws Exit::usage.
Homes parse_homes(std::string_view text, int blocks);

}  // namespace sluice
