#include "ops/loops.h"

namespace sluice::loops {

namespace {

// The row that token `t` names; outside the table is an error, since ids are input.
std::int64_t row_of(const Loop& loop, Id ids, Id table, std::int64_t t) {
  const auto row = static_cast<std::int64_t>(at(loop.in(ids), t));
  const std::int64_t rows = loop.shape(table)[0].size;
  require(row >= 0 && row < rows, [&] {
    return Error(Exit::input, {"an index lies outside its table",
                               {},
                               fmt::format("0 to {}", rows - 1),
                               fmt::format("{}", row),
                               {}});
  });
  return row;
}

}  // namespace

void reference(const Embed& op, Loop& loop) {
  const auto& table = loop.in(op.table);
  auto& y = loop.out(op.y);
  const std::int64_t width = loop.features_of(op.y);
  for (std::int64_t t = 0; t < loop.tokens_of(op.y); ++t) {
    const std::int64_t row = row_of(loop, op.ids, op.table, t);
    for (std::int64_t d = 0; d < width; ++d) at(y, t * width + d) = at(table, row * width + d);
  }
}

void reference(const EmbedGrad& op, Loop& loop) {
  const auto& dy = loop.in(op.dy);
  auto& dtable = loop.accumulator(op.dtable);
  const std::int64_t width = loop.features_of(op.dy);
  for (std::int64_t t = 0; t < loop.tokens_of(op.dy); ++t) {
    const std::int64_t row = row_of(loop, op.ids, op.dtable, t);
    for (std::int64_t d = 0; d < width; ++d) at(dtable, row * width + d) += at(dy, t * width + d);
  }
}

}  // namespace sluice::loops
