#include <cmath>
#include <limits>

#include "core/random.h"
#include "ops/loops.h"

namespace sluice::loops {

namespace {

// One part [B T N H] of a value, by its four indices.
template <class Numbers>
class Heads {
 public:
  Heads(Numbers& numbers, const Shape& shape, Slice slice)
      : numbers_(numbers),
        time_(shape.size(Axis::time)),
        heads_(shape.size(Axis::heads)),
        head_(shape.size(Axis::head)),
        slice_(slice) {}

  auto& operator()(std::int64_t b, std::int64_t t, std::int64_t n, std::int64_t h) const {
    const std::int64_t token = b * time_ + t;
    const std::int64_t row = (token * slice_.parts + slice_.part) * heads_ + n;
    return numbers_[static_cast<std::size_t>(row * head_ + h)];
  }
  std::int64_t heads() const { return heads_; }
  std::int64_t head() const { return head_; }
  std::int64_t time() const { return time_; }

 private:
  Numbers& numbers_;
  std::int64_t time_, heads_, head_;
  Slice slice_;
};

Heads<const std::vector<double>> read(const Loop& loop, Slice slice) {
  return {loop.in(slice.id), loop.shape(slice.id), slice};
}

// Keys from first to last, both included.
struct Span {
  std::int64_t first, last;
};

Span visible(const Loop& loop, Id starts, Id lengths, std::int64_t time, std::int64_t b,
             std::int64_t t) {
  if (lengths != no_value) return {0, static_cast<std::int64_t>(at(loop.in(lengths), b)) + t};
  return {static_cast<std::int64_t>(at(loop.in(starts), b * time + t)), t};
}

// What the probability of query (b, n, t) for key j is multiplied by: 0 or 1 / (1 - rate).
class Kept {
 public:
  Kept(const Loop& loop, const DropoutKey& key, Id control, std::int64_t heads, std::int64_t time)
      : key_(key), heads_(heads), time_(time) {
    if (key.rate == 0) return;
    const auto& now = loop.in(control);
    first_row_ = static_cast<std::int64_t>(at(now, Control::first_row));
    stream_ =
        dropout_stream(key.stream, loop.layer(), static_cast<std::int64_t>(at(now, Control::step)));
  }

  double operator()(std::int64_t b, std::int64_t n, std::int64_t t, std::int64_t j) const {
    if (key_.rate == 0) return 1;
    const std::int64_t query = ((first_row_ + b) * heads_ + n) * time_ + t;
    const auto element = static_cast<std::uint64_t>(query * ((time_ + 3) / 4 * 4) + j);
    if (random_bits(key_.seed, stream_, element) < dropout_threshold(key_.rate)) return 0;
    return 1 / (1 - static_cast<double>(key_.rate));
  }

 private:
  DropoutKey key_;
  std::int64_t heads_, time_, first_row_ = 0;
  std::uint64_t stream_ = 0;
};

// The new keys (or values) take their places in the cache.
void append(Loop& loop, Slice from, Id cache, Id lengths) {
  const auto source = read(loop, from);
  const Shape& shape = loop.shape(cache);
  const Heads<std::vector<double>> target(loop.update(cache), shape, {cache});
  for (std::int64_t b = 0; b < shape.size(Axis::batch); ++b) {
    const auto length = static_cast<std::int64_t>(at(loop.in(lengths), b));
    require(length >= 0 && length + source.time() <= target.time(), [&] {
      return Error(fmt::format("attention: {} + {} tokens do not fit a cache of {}", length,
                               source.time(), target.time()));
    });
    for (std::int64_t t = 0; t < source.time(); ++t)
      for (std::int64_t n = 0; n < source.heads(); ++n)
        for (std::int64_t h = 0; h < source.head(); ++h)
          target(b, length + t, n, h) = source(b, t, n, h);
  }
}

}  // namespace

void reference(const Attention& op, Loop& loop) {
  const bool cached = op.lengths != no_value;
  if (cached) {
    append(loop, op.k, op.k_cache, op.lengths);
    append(loop, op.v, op.v_cache, op.lengths);
  }
  const auto q = read(loop, op.q);
  const auto k = read(loop, cached ? Slice{op.k_cache} : op.k);
  const auto v = read(loop, cached ? Slice{op.v_cache} : op.v);
  const Shape shape = loop.shape(op.y);
  const Heads<std::vector<double>> y(loop.out(op.y), shape, {op.y});
  const std::int64_t time = q.time();
  const std::int64_t group = q.heads() / k.heads();
  const Kept kept(loop, cached ? DropoutKey{} : op.dropout, op.control, q.heads(), time);
  std::vector<double> scores;
  if (op.lse != no_value) loop.out(op.lse);
  for (std::int64_t b = 0; b < shape.size(Axis::batch); ++b)
    for (std::int64_t n = 0; n < q.heads(); ++n)
      for (std::int64_t t = 0; t < time; ++t) {
        const Span keys = visible(loop, op.starts, op.lengths, time, b, t);
        scores.assign(static_cast<std::size_t>(keys.last + 1), 0.0);
        double largest = -std::numeric_limits<double>::infinity();
        for (std::int64_t j = keys.first; j <= keys.last; ++j) {
          double dot = 0;
          for (std::int64_t h = 0; h < q.head(); ++h) dot += q(b, t, n, h) * k(b, j, n / group, h);
          at(scores, j) = op.scale * dot;
          largest = std::max(largest, at(scores, j));
        }
        double sum = 0;
        for (std::int64_t j = keys.first; j <= keys.last; ++j)
          sum += std::exp(at(scores, j) - largest);
        for (std::int64_t j = keys.first; j <= keys.last; ++j) {
          const double p = kept(b, n, t, j) * std::exp(at(scores, j) - largest) / sum;
          for (std::int64_t h = 0; h < q.head(); ++h) y(b, t, n, h) += p * v(b, j, n / group, h);
        }
        if (op.lse != no_value)
          at(loop.update(op.lse), (b * q.heads() + n) * time + t) = largest + std::log(sum);
      }
}

// p = softmax(s), s = scale q k, m what p was multiplied by when some were dropped:
// dv += m p dy;  dp = m dy v;  ds = p (dp - Σ p dp);  dq += scale ds k;  dk += scale ds q.
void reference(const AttentionGrad& op, Loop& loop) {
  const auto q = read(loop, op.q);
  const auto k = read(loop, op.k);
  const auto v = read(loop, op.v);
  const auto dy = read(loop, {op.dy});
  for (const Slice& part : {op.dq, op.dk, op.dv}) loop.out(part.id);
  const auto gradient = [&](Slice part) {
    return Heads<std::vector<double>>(loop.update(part.id), loop.shape(part.id), part);
  };
  const auto dq = gradient(op.dq);
  const auto dk = gradient(op.dk);
  const auto dv = gradient(op.dv);
  const std::int64_t time = q.time();
  const std::int64_t group = q.heads() / k.heads();
  const Kept kept(loop, op.dropout, op.control, q.heads(), time);
  std::vector<double> p(static_cast<std::size_t>(time));
  std::vector<double> dp(static_cast<std::size_t>(time));
  for (std::int64_t b = 0; b < loop.shape(op.y).size(Axis::batch); ++b)
    for (std::int64_t n = 0; n < q.heads(); ++n)
      for (std::int64_t t = 0; t < time; ++t) {
        const Span keys = visible(loop, op.starts, no_value, time, b, t);
        const double lse = at(loop.in(op.lse), (b * q.heads() + n) * time + t);
        double delta = 0;
        for (std::int64_t j = keys.first; j <= keys.last; ++j) {
          double score = 0;
          at(dp, j) = 0;
          for (std::int64_t h = 0; h < q.head(); ++h) {
            score += op.scale * q(b, t, n, h) * k(b, j, n / group, h);
            at(dp, j) += dy(b, t, n, h) * v(b, j, n / group, h);
          }
          at(dp, j) *= kept(b, n, t, j);
          at(p, j) = std::exp(score - lse);
          delta += at(p, j) * at(dp, j);
        }
        for (std::int64_t j = keys.first; j <= keys.last; ++j) {
          const double ds = at(p, j) * (at(dp, j) - delta);
          for (std::int64_t h = 0; h < q.head(); ++h) {
            dq(b, t, n, h) += op.scale * ds * k(b, j, n / group, h);
            dk(b, j, n / group, h) += op.scale * ds * q(b, t, n, h);
            dv(b, j, n / group, h) += kept(b, n, t, j) * at(p, j) * dy(b, t, n, h);
          }
        }
      }
}

}  // namespace sluice::loops
