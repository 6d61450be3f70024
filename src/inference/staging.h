// Host memory for the batches of one run of a program: a block per micro-batch, laid out as the
// program's BatchLayout says, and views of it that any filler may write.
//
// Allocates at construction only. One thread fills; a lane may read one Staging's blocks while
// another's are being filled, so whoever runs ahead keeps two.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "data/batches.h"
#include "program/residency.h"

namespace sluice {

class Staging {
 public:
  // All zero at first. REQUIRES: micro_batches >= 1 and the layout has "ids" [B T].
  Staging(const BatchLayout& layout, int micro_batches);
  Staging(Staging&&) = default;  // views and blocks stay valid
  Staging& operator=(Staging&&) = default;

  // The five arrays of one micro-batch. One that the model does not read ("positions", say) lies
  // in memory that all micro-batches share and nobody looks at.
  BatchView view(int micro);
  // f64[2] of the micro-batch, or null when the program takes none.
  double* control(int micro);
  // What Executor::enqueue() takes: one pointer per micro-batch.
  std::span<const std::byte* const> blocks() const { return blocks_; }

  int micro_batches() const { return static_cast<int>(blocks_.size()); }
  std::int64_t rows() const { return rows_; }  // of one micro-batch
  std::int64_t time() const { return time_; }  // tokens in a row

 private:
  enum Array : std::uint8_t { ids, targets, positions, starts, weights, arrays };
  template <class T>
  std::span<T> array(Array which, int micro);

  std::int64_t rows_ = 0, time_ = 0;
  std::array<std::int64_t, arrays> offset_{};  // in a block; -1: absent
  std::int64_t control_ = -1;                  // offset of "control"
  std::vector<std::vector<std::byte>> memory_;
  std::vector<const std::byte*> blocks_;
  std::vector<std::byte> unread_;  // room for each absent array
};

}  // namespace sluice
