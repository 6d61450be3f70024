#include "ops/loops.h"

namespace sluice::loops {

namespace {

// Position of W's entry for input i and output o.
struct Layout {
  std::int64_t in, out;
  bool out_in;
  std::int64_t operator()(std::int64_t i, std::int64_t o) const {
    return out_in ? o * in + i : i * out + o;
  }
};

}  // namespace

void reference(const Linear& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  const auto& w = loop.in(op.w);
  auto& y = loop.out(op.y);
  const Layout entry{loop.features_of(op.x), loop.features_of(op.y), op.out_in};
  for (std::int64_t t = 0; t < loop.tokens_of(op.x); ++t)
    for (std::int64_t o = 0; o < entry.out; ++o) {
      double sum = 0;
      for (std::int64_t i = 0; i < entry.in; ++i)
        sum += at(x, t * entry.in + i) * at(w, entry(i, o));
      const double bias = op.bias == no_value ? 0 : at(loop.in(op.bias), o);
      at(y, t * entry.out + o) = op.scale * sum + bias;
    }
}

void reference(const LinearGradInput& op, Loop& loop) {
  const auto& dy = loop.in(op.dy);
  const auto& w = loop.in(op.w);
  auto& dx = loop.out(op.dx);
  const Layout entry{loop.features_of(op.dx), loop.features_of(op.dy), op.out_in};
  for (std::int64_t t = 0; t < loop.tokens_of(op.dy); ++t)
    for (std::int64_t i = 0; i < entry.in; ++i) {
      double sum = 0;
      for (std::int64_t o = 0; o < entry.out; ++o)
        sum += at(dy, t * entry.out + o) * at(w, entry(i, o));
      at(dx, t * entry.in + i) = op.scale * sum;
    }
}

void reference(const LinearGradWeight& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  const auto& dy = loop.in(op.dy);
  auto& dw = loop.accumulator(op.dw);
  const Layout entry{loop.features_of(op.x), loop.features_of(op.dy), op.out_in};
  const std::int64_t count = loop.tokens_of(op.x);
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t i = 0; i < entry.in; ++i)
      for (std::int64_t o = 0; o < entry.out; ++o)
        at(dw, entry(i, o)) += op.scale * at(x, t * entry.in + i) * at(dy, t * entry.out + o);
  if (op.dbias == no_value) return;
  auto& dbias = loop.accumulator(op.dbias);
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t o = 0; o < entry.out; ++o) at(dbias, o) += at(dy, t * entry.out + o);
}

}  // namespace sluice::loops
