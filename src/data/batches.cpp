#include "data/batches.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "core/error.h"
#include "data/order.h"

namespace sluice {
namespace {

// One row of a batch.
struct Row {
  std::span<std::int32_t> ids, targets, positions, starts;
  std::span<float> weights;
};

Row row_of(const BatchView& view, std::int64_t b) {
  const auto first = static_cast<std::size_t>(b * view.time);
  const auto time = static_cast<std::size_t>(view.time);
  return {view.ids.subspan(first, time), view.targets.subspan(first, time),
          view.positions.subspan(first, time), view.starts.subspan(first, time),
          view.weights.subspan(first, time)};
}

// Tokens [first, first + count] into the row's first `count` columns; the rest is padding.
void fill_row(const TokenFile& tokens, const RowOptions& options, std::int64_t first,
              std::int64_t count, const Row& row) {
  const auto n = static_cast<std::size_t>(count);
  if (n > 0) {
    tokens.read(first, row.ids.first(n));
    tokens.read(first + 1, row.targets.first(n));
  }
  std::fill(row.ids.begin() + count, row.ids.end(), 0);
  std::fill(row.targets.begin() + count, row.targets.end(), 0);
  std::fill(row.weights.begin(), row.weights.begin() + count, 1.0f);
  std::fill(row.weights.begin() + count, row.weights.end(), 0.0f);
  std::int32_t start = 0;
  for (std::size_t t = 0; t < row.ids.size(); ++t) {
    const auto column = static_cast<std::int32_t>(t);
    const bool begins = options.documents == Documents::separate && t > 0 && t < n &&
                        row.ids[t - 1] == options.end_of_text;
    if (begins) start = column;
    row.starts[t] = start;
    row.positions[t] = column - start;
  }
}

void check(const RowOptions& rows) {
  require(rows.sequence > 0 && rows.sequence < std::int64_t{1} << 31,
          [&] { return Error(fmt::format("a row of {} tokens", rows.sequence)); });
  require(rows.documents == Documents::joined || rows.end_of_text >= 0,
          [] { return Error("documents kept apart need an end-of-text id"); });
}

Error too_short(const TokenFile& tokens, std::int64_t needed, std::vector<std::string> tries) {
  return Error(Exit::input, {.what = "the corpus is shorter than one sequence",
                             .where = tokens.name(),
                             .expected = fmt::format("at least {} tokens", needed),
                             .found = fmt::format("{}", tokens.tokens()),
                             .tries = std::move(tries)});
}

std::int64_t target_count(const TokenFile& tokens, std::int64_t limit) {
  const std::int64_t all = tokens.tokens() - 1;
  return limit > 0 ? std::min(limit, all) : all;
}

}  // namespace

TrainingBatches::TrainingBatches(const TokenFile& tokens, RowOptions rows, std::uint64_t seed)
    : tokens_(tokens), rows_(rows), seed_(seed), samples_(0) {
  check(rows);
  samples_ = (tokens.tokens() - 1) / rows.sequence;
  require(samples_ > 0, [&] {
    std::vector<std::string> tries;
    if (tokens.tokens() > 1) {
      tries.push_back(fmt::format("batch.sequence = {}", tokens.tokens() - 1));
    }
    return too_short(tokens, rows.sequence + 1, std::move(tries));
  });
}

void TrainingBatches::fill(std::int64_t cursor, const BatchView& view) const {
  assert(view.time == rows_.sequence && cursor >= 0);
  for (std::int64_t b = 0; b < view.batch; ++b) {
    const std::int64_t at = cursor + b;
    const std::int64_t sample =
        shuffled(at % samples_, samples_, seed_, static_cast<std::uint64_t>(at / samples_));
    fill_row(tokens_, rows_, sample * rows_.sequence, rows_.sequence, row_of(view, b));
  }
}

WindowBatches::WindowBatches(const TokenFile& tokens, RowOptions rows, std::int64_t limit)
    : tokens_(tokens), rows_(rows), targets_(target_count(tokens, limit)) {
  check(rows);
  require(targets_ > 0, [&] { return too_short(tokens, 2, {}); });
}

void WindowBatches::fill(std::int64_t index, const BatchView& view) const {
  assert(view.time == rows_.sequence && index >= 0);
  for (std::int64_t b = 0; b < view.batch; ++b) {
    const std::int64_t first = (index * view.batch + b) * rows_.sequence;
    const std::int64_t count = std::clamp<std::int64_t>(targets_ - first, 0, rows_.sequence);
    fill_row(tokens_, rows_, first, count, row_of(view, b));
  }
}

std::int64_t target_bytes(const TokenFile& tokens, const Tokenizer& tokenizer, std::int64_t limit) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (std::size_t id = 0; id < lengths.size(); ++id) {
    lengths[id] = tokenizer.byte_length(static_cast<std::int32_t>(id));
  }
  std::vector<std::int32_t> ids(16384);
  const std::int64_t targets = target_count(tokens, limit);
  std::int64_t sum = 0;
  for (std::int64_t at = 0; at < targets;) {
    const auto count = std::min(targets - at, static_cast<std::int64_t>(ids.size()));
    const std::span<std::int32_t> part(ids.data(), static_cast<std::size_t>(count));
    tokens.read(1 + at, part);
    for (const std::int32_t id : part) {
      const auto i = static_cast<std::size_t>(id);
      sum += i < lengths.size() ? lengths[i] : 0;
    }
    at += count;
  }
  return sum;
}

}  // namespace sluice
