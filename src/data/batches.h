// Rows of tokens for training and evaluation, written into memory that the caller owns.
//
// Objects here are immutable after their making and refer to a TokenFile that outlives them; any
// number of threads may fill different views. Filling allocates nothing (unless it throws).
#pragma once

#include <cstdint>
#include <span>

#include "data/shards.h"
#include "data/tokenizer.h"

namespace sluice {

// One batch, five row-major arrays of [batch, time] each.
struct BatchView {
  std::int64_t batch = 0, time = 0;
  std::span<std::int32_t> ids;
  std::span<std::int32_t> targets;    // what follows each id
  std::span<std::int32_t> positions;  // place in the row, or in its document
  std::span<std::int32_t> starts;     // the first column that this token may attend to
  std::span<float> weights;           // of each target in the loss: 1, or 0 for padding
};

// joined: a row is one text, whatever documents it touches. separate: a token sees its own document
// only, and positions begin anew in each (the part before a row's first end of text counts from 0).
enum class Documents : std::uint8_t { joined, separate };

struct RowOptions {
  std::int64_t sequence = 0;  // tokens in a row (T)
  Documents documents = Documents::joined;
  std::int32_t end_of_text = -1;  // ends a document; asked for when they are separate
};

// Sample s is the tokens [s T, s T + T] of the file: T inputs and, shifted by one, T targets.
// Epochs take them in the order of data/order.h. What is left over at the file's end is not used.
class TrainingBatches {
 public:
  // Error (Exit::input) when the file has no whole sample.
  TrainingBatches(const TokenFile& tokens, RowOptions rows, std::uint64_t seed);

  std::int64_t samples() const { return samples_; }  // (tokens - 1) / T
  // Row b gets the sample at cursor + b, the cursor being the samples consumed before, epochs
  // included. REQUIRES: view.time == T.
  void fill(std::int64_t cursor, const BatchView& view) const;

 private:
  const TokenFile& tokens_;
  RowOptions rows_;
  std::uint64_t seed_;
  std::int64_t samples_;
};

// Consecutive windows in the file's order: every token but the first is a target exactly once. The
// last window and the last batch are filled up with id 0, target 0, weight 0.
class WindowBatches {
 public:
  // `limit` > 0 bounds the number of targets. Error (Exit::input) when there is no target.
  WindowBatches(const TokenFile& tokens, RowOptions rows, std::int64_t limit = 0);

  std::int64_t targets() const { return targets_; }
  std::int64_t windows() const { return (targets_ + rows_.sequence - 1) / rows_.sequence; }
  std::int64_t batches(std::int64_t batch) const { return (windows() + batch - 1) / batch; }
  // Batch number `index` of batches(view.batch). REQUIRES: view.time == T.
  void fill(std::int64_t index, const BatchView& view) const;

 private:
  const TokenFile& tokens_;
  RowOptions rows_;
  std::int64_t targets_;
};

// The bytes of text that a WindowBatches' targets stand for: what bits per byte divides by. `limit`
// as there. Reads the tokens once. Error (Exit::input) for ids outside the file's limit.
std::int64_t target_bytes(const TokenFile& tokens, const Tokenizer& tokenizer,
                          std::int64_t limit = 0);

}  // namespace sluice
