#include "core/random.h"
#include "ops/loops.h"

namespace sluice::loops {

void reference(const Dropout& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  auto& y = loop.out(op.y);
  if (op.key.rate == 0) {
    y = x;
    return;
  }
  const auto& control = loop.in(op.control);
  const auto step = static_cast<std::int64_t>(at(control, Control::step));
  const std::uint64_t stream = dropout_stream(op.key.stream, loop.layer(), step);
  const std::int64_t row = loop.shape(op.x).count() / loop.shape(op.x)[0].size;
  const std::int64_t first = static_cast<std::int64_t>(at(control, Control::first_row)) * row;
  for (std::int64_t e = 0; e < loop.shape(op.x).count(); ++e) {
    const std::uint32_t bits =
        random_bits(op.key.seed, stream, static_cast<std::uint64_t>(first + e));
    const bool kept = bits >= dropout_threshold(op.key.rate);
    at(y, e) = kept ? at(x, e) / (1.0 - static_cast<double>(op.key.rate)) : 0.0;
  }
}

}  // namespace sluice::loops
