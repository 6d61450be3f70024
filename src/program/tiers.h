// Where blobs live: homes, rings and slots.
//
// A layer's blob of weights, gradients or optimizer state has a home. At home on the device it has
// a place of its own there. From any other home it passes through a ring of slots, each as large as
// the largest blob that uses it: the j-th block of those that stream, or the j-th part of blocks
// that are cut (graph/parts.h), uses slot j modulo the slots. Sweeps go up and down the layers, so
// each turn finds as many blobs in place as there are slots, which is as good as any other rule.
// The ends, embedding and head, are larger or smaller than a block: one that streams covers as many
// slots as it needs, from the ring's begin. Short tables are always on the device.
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
  std::array<std::vector<Tier>, blob_kinds> blocks;    // by block; none at all: all on the device
  std::array<std::array<Tier, 2>, blob_kinds> ends{};  // of embedding and head
  std::array<int, blob_kinds> slots = {3, 3, 3};       // of each ring, 2 or more

  Tier of(Kind kind, int block) const;
  Tier of_end(Kind kind, bool head) const {
    return ends[static_cast<std::size_t>(kind)][head ? 1 : 0];
  }
  bool streams(Kind kind) const;  // some layer's
  bool streams() const;
  bool ends_stream(Kind kind) const;
  // Of a streaming block: how many streaming ones of this kind come before it.
  int index_of(Kind kind, int block) const;
  int streaming(Kind kind) const;  // how many blocks there are
  int on_disk(Kind kind) const;    // how many of them are at home on disk
};

// Staging slots of a kind in each direction, unless fewer blobs are at home on disk.
inline constexpr int staging_slots = 2;

// "device", "host", "disk", or a list of "KIND=TIER" and "KIND@WHERE=TIER", later ones on top of
// earlier ones. WHERE is FIRST-LAST (blocks count from 0), embedding, head, or ends, which is both;
// without it all blocks are meant, and without KIND all kinds: "@ends=host". Throws Exit::usage.
Homes parse_homes(std::string_view text, int blocks);

}  // namespace sluice
