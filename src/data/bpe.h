// Byte-pair merges: the table, and the loop that applies it to one piece of text.
//
// The merge of lowest rank is applied first, the leftmost first among equals. Ranks are the ids of
// the merged symbols, as in GPT-2, where a later merge has a larger id.
// Immutable while used: any number of threads may call encode(), each with its own scratch.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice {

class BpeMerges {
 public:
  static constexpr std::int32_t none = -1;

  explicit BpeMerges(std::size_t merges);  // how many add() calls will follow

  void set_byte(unsigned char byte, std::int32_t id) { byte_ids_[byte] = id; }
  // REQUIRES: ids in [0, 65536), merged > left, merged > right, the pair not added before.
  void add(std::int32_t left, std::int32_t right, std::int32_t merged);
  // What the pair becomes, or none.
  std::int32_t find(std::int32_t left, std::int32_t right) const;

  // Memory of encode() for pieces longer than short_piece; keep one per text.
  struct Scratch {
    struct Symbol {
      std::int32_t id;
      std::int32_t merged;  // what it and its right neighbour would become, or none
      std::uint32_t previous, next;
    };
    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> heap;
  };
  static constexpr std::size_t short_piece = 64;

  // Appends the ids of one piece. Time O(n log n) with n its bytes, memory 16 to 48 bytes per byte,
  // no recursion. REQUIRES: fewer than 2^32 - 1 bytes.
  void encode(std::string_view piece, std::vector<std::int32_t>& out, Scratch& scratch) const;

 private:
  struct Slot {
    std::uint32_t pair = 0;
    std::int32_t merged = none;
  };
  std::size_t place(std::uint32_t pair) const;
  void encode_short(std::string_view piece, std::vector<std::int32_t>& out) const;
  void encode_long(std::string_view piece, std::vector<std::int32_t>& out, Scratch& scratch) const;

  std::array<std::int32_t, 256> byte_ids_ = {};
  std::vector<Slot> slots_;  // open addressing, at most half full, a power of two
};

}  // namespace sluice
