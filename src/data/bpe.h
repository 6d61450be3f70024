// Byte-pair merges: the table, and the loop that applies it to one piece of text.
//
// The merge of lowest rank is applied first, the leftmost first among equals. Several pairs may
// make one id and share a rank.
// Immutable while used: any number of threads may call encode(), each with its own scratch.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace sluice {

class BpeMerges {
 public:
  static constexpr std::int32_t never = std::numeric_limits<std::int32_t>::max();
  struct Merge {
    std::int32_t rank = never;  // never: the pair does not merge
    std::int32_t merged = 0;
  };

  explicit BpeMerges(std::size_t merges);  // how many add() calls will follow

  void set_byte(unsigned char byte, std::int32_t id) { byte_ids_[byte] = id; }
  // A pair added again takes the later rank. REQUIRES: ids from 0, a rank in [0, never).
  void add(std::int32_t left, std::int32_t right, Merge merge);
  Merge find(std::int32_t left, std::int32_t right) const;

  // Memory of encode() for pieces longer than short_piece; keep one per text.
  struct Scratch {
    struct Symbol {
      std::int32_t id;
      Merge merge;  // of it and its right neighbour
      std::uint32_t previous, next;
    };
    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> heap;
  };
  static constexpr std::size_t short_piece = 64;

  // Appends the ids of one piece. Time O(n log n) with n its bytes, memory 20 to 52 bytes per byte,
  // no recursion. REQUIRES: fewer than 2^32 - 1 bytes.
  void encode(std::string_view piece, std::vector<std::int32_t>& out, Scratch& scratch) const;

 private:
  struct Slot {
    std::uint64_t pair = 0;
    Merge merge;
  };
  std::size_t place(std::uint64_t pair) const;
  void encode_short(std::string_view piece, std::vector<std::int32_t>& out) const;
  void encode_long(std::string_view piece, std::vector<std::int32_t>& out, Scratch& scratch) const;

  std::array<std::int32_t, 256> byte_ids_ = {};
  std::vector<Slot> slots_;  // open addressing, at most half full, a power of two
};

}  // namespace sluice
