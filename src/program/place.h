// Where the operands of an op list lie: relative to bases, of which every action says where they
// begin. So layers and micro-batches share one list, and a program is as long as its actions.
#pragma once

#include <array>
#include <cstdint>

namespace sluice {

enum class Base : std::uint8_t {
  weights,  // the layer's own blobs
  gradients,
  packed,
  optimizer,
  derived,
  lent_weights,  // those of the layer that lends a value: a tied weight
  lent_gradients,
  lent_derived,
  globals,
  norms,  // the layer's part of that table
  batch,  // the micro-batch's slot
  cache,  // the layer's keys and values of decoding
  stash,  // of this layer and micro-batch
  x,      // the activation from the layer below, and to the layer above
  y,
  dx,  // their gradients
  dy,
  side_x,  // what goes beside them between the parts of a block
  side_y,
  side_dx,
  side_dy,
  frame,
  count,
};

// Arena offsets of the bases; -1: not there.
class Bases {
 public:
  Bases() { at_.fill(-1); }
  std::int64_t& operator[](Base base) { return at_[static_cast<std::size_t>(base)]; }
  std::int64_t operator[](Base base) const { return at_[static_cast<std::size_t>(base)]; }
  bool operator==(const Bases&) const = default;

 private:
  std::array<std::int64_t, static_cast<std::size_t>(Base::count)> at_;
};

// A place relative to a base.
struct Spot {
  Base base = Base::count;
  std::int64_t offset = 0;
  bool known() const { return base != Base::count; }
  // Its arena offset; -1 when it is not there.
  std::int64_t in(const Bases& bases) const {
    return known() && bases[base] >= 0 ? bases[base] + offset : -1;
  }
};

}  // namespace sluice
