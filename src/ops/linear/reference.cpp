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

// To what its type keeps: it is stored before anything else reads it.
void round_value(Loop& loop, Id id) {
  for (double& x : loop.update(id)) x = rounded(x, loop.dtype(id));
}

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

void reference(const LinearGelu& op, Loop& loop) {
  reference(Linear{op.x, op.w, op.bias, op.h, op.out_in, op.scale}, loop);
  round_value(loop, op.h);
  reference(Gelu{op.h, op.y, op.form}, loop);
}

void reference(const LinearGeluGrad& op, Loop& loop) {
  reference(LinearGradInput{op.dy, op.w, op.dh, op.out_in, op.scale}, loop);
  round_value(loop, op.dh);
  reference(GeluGrad{.x = op.h, .dy = op.dh, .dx = op.dh, .form = op.form}, loop);
}

void reference(const LinearGradWeight& op, Loop& loop) {
  const auto& dy = loop.in(op.dy);
  const std::int64_t count = loop.tokens_of(op.dy), out = loop.features_of(op.dy);
  if (op.dw != no_value) {
    const Layout entry{loop.features_of(op.x), out, op.out_in};
    const auto& x = loop.in(op.x);
    auto& dw = loop.accumulator(op.dw);
    for (std::int64_t t = 0; t < count; ++t)
      for (std::int64_t i = 0; i < entry.in; ++i)
        for (std::int64_t o = 0; o < entry.out; ++o)
          at(dw, entry(i, o)) += op.scale * at(x, t * entry.in + i) * at(dy, t * entry.out + o);
  }
  if (op.dbias == no_value) return;
  auto& dbias = loop.accumulator(op.dbias);
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t o = 0; o < out; ++o) at(dbias, o) += at(dy, t * out + o);
}

}  // namespace sluice::loops
