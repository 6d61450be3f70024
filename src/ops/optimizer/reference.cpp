#include <algorithm>
#include <cmath>

#include "ops/loops.h"
#include "ops/optimizer/formats.h"

namespace sluice::loops {

void reference(const SquaredNorm& op, Loop& loop) {
  double sum = 0;
  for (double x : loop.in(op.x)) sum += x * x;
  at(loop.update(op.norms), op.index) = sum;
}

namespace {

// Whether a number lies out of the window's list that begins at `first`.
bool lies_out(const std::vector<double>& spikes, int first, double number, double deviations) {
  const auto count =
      std::min<std::int64_t>(static_cast<std::int64_t>(at(spikes, Spikes::count)), Spikes::window);
  if (count < Spikes::least) return false;
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += at(spikes, first + i);
  const double mean = sum / static_cast<double>(count);
  for (std::int64_t i = 0; i < count; ++i)
    squares += (at(spikes, first + i) - mean) * (at(spikes, first + i) - mean);
  return number > mean + deviations * std::sqrt(squares / static_cast<double>(count - 1));
}

// Judges a finite step, and notes it.
int spike(const FinishStep& op, Loop& loop, double loss, double norm) {
  auto& spikes = loop.update(op.spikes);
  int out = 0;
  if (lies_out(spikes, Spikes::losses, loss, op.deviations)) out += Spikes::by_loss;
  if (lies_out(spikes, Spikes::norms, norm, op.deviations)) out += Spikes::by_norm;
  double& count = at(spikes, Spikes::count);
  const std::int64_t place = static_cast<std::int64_t>(count) % Spikes::window;
  at(spikes, Spikes::losses + place) = loss;
  at(spikes, Spikes::norms + place) = norm;
  count += 1;
  return out;
}

}  // namespace

void reference(const FinishStep& op, Loop& loop) {
  const auto& stats = loop.in(op.stats);
  const auto& control = loop.in(op.control);
  const double weight = at(stats, 1);
  const double loss = at(stats, 0) / weight;
  double squares = 0;
  double bad = -1;
  const auto& norms = loop.in(op.norms);
  for (std::size_t i = 0; i < norms.size(); ++i) {
    squares += norms[i];
    if (bad < 0 && !std::isfinite(norms[i])) bad = static_cast<double>(i);
  }
  const double norm = std::sqrt(squares) / weight;
  const bool finite = std::isfinite(loss) && std::isfinite(norm);
  const int skipped = op.spikes != no_value && finite ? spike(op, loop, loss, norm) : 0;
  double clipped = 1;
  if (op.clip > 0 && norm > op.clip) clipped = op.clip / norm;

  auto& results = loop.update(op.results);
  const auto step = static_cast<std::int64_t>(at(control, Control::step));
  const std::int64_t row = step % 2 * Results::slots;
  at(results, row + Results::loss) = loss;
  at(results, row + Results::grad_norm) = norm;
  at(results, row + Results::weight) = weight;
  at(results, row + Results::finite) = finite ? 1 : 0;
  at(results, row + Results::step) = at(control, Control::step);
  at(results, row + Results::bad) = bad;
  at(results, row + Results::skipped) = skipped;

  auto& pending = loop.out(op.pending);
  at(pending, Pending::lr) = at(control, Control::lr);
  at(pending, Pending::step) = at(control, Control::step);
  at(pending, Pending::scale) = clipped / weight;
  at(pending, Pending::apply) = finite && skipped == 0 ? 1 : 0;
}

namespace {

// Float32 numbers that a frame holds in double.
std::vector<float> floats(const std::vector<double>& numbers) {
  return {numbers.begin(), numbers.end()};
}
template <class T>
void put(std::vector<double>& numbers, const std::vector<T>& values) {
  numbers.assign(values.begin(), values.end());
}

// A weight in any form, in double.
std::vector<double> weight_of(Id w, Id low, const Loop& loop) {
  std::vector<double> numbers = loop.in(w);
  if (!loop.has(low)) return numbers;
  for (std::int64_t e = 0; e < loop.shape(w).count(); ++e) {
    const auto hi = bf16(static_cast<float>(at(numbers, e)));
    at(numbers, e) = join_master(hi, static_cast<std::int16_t>(at(loop.in(low), e)));
  }
  return numbers;
}

// Weight and moments between their forms at rest and the loop of AdamW.
struct Moments {
  std::vector<double> w, m, v;
  std::vector<double> read;  // v as the division sees it
};

Moments load(const AdamW& op, const Loop& loop) {
  if (op.m_scale == no_value) {
    const auto& v = loop.in(op.v);
    return {weight_of(op.w, op.low, loop), loop.in(op.m), v, v};
  }
  const Shape& shape = loop.shape(op.w);
  const auto count = static_cast<std::size_t>(shape.count());
  const std::vector<std::uint8_t> m(loop.in(op.m).begin(), loop.in(op.m).end());
  const std::vector<std::uint8_t> v(loop.in(op.v).begin(), loop.in(op.v).end());
  std::vector<float> mean(count), square(count), read(count);
  decode_m(shape, m, floats(loop.in(op.m_scale)), mean);
  decode_v(shape, v, floats(loop.in(op.v_scale)), square);
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t size) {
    const auto begin = static_cast<std::size_t>(first), n = static_cast<std::size_t>(size);
    read_v(std::span(v).subspan(begin, n), static_cast<float>(at(loop.in(op.v_scale), block)),
           std::span(read).subspan(begin, n));
  });
  return {loop.in(op.w),
          {mean.begin(), mean.end()},
          {square.begin(), square.end()},
          {read.begin(), read.end()}};
}

void store_compact(const AdamW& op, Loop& loop, const Moments& now) {
  const Shape& shape = loop.shape(op.w);
  const auto step = static_cast<std::int64_t>(at(loop.in(op.pending), Pending::step));
  const Draws draws{op.seed, dropout_stream(op.stream, loop.layer(), step)};
  std::vector<std::uint8_t> codes(now.m.size());
  std::vector<float> scales(static_cast<std::size_t>(state_blocks(shape)));
  encode_m(shape, floats(now.m), codes, scales);
  put(loop.update(op.m), codes);
  put(loop.update(op.m_scale), scales);
  const std::vector<float> square = floats(now.v);
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t size) {
    std::vector<std::uint32_t> bits;
    for (std::int64_t e = first; e < first + size; ++e) {
      bits.push_back(draws(e));
      at(loop.update(op.w), e) =
          static_cast<float>(round_at_random(static_cast<float>(at(now.w, e)), bits.back()));
    }
    const auto begin = static_cast<std::size_t>(first), n = static_cast<std::size_t>(size);
    scales[static_cast<std::size_t>(block)] =
        encode_v(std::span(square).subspan(begin, n), bits, std::span(codes).subspan(begin, n));
  });
  put(loop.update(op.v), codes);
  put(loop.update(op.v_scale), scales);
}

void store(const AdamW& op, Loop& loop, const Moments& now) {
  if (op.m_scale != no_value) return store_compact(op, loop, now);
  loop.update(op.m) = now.m;
  loop.update(op.v) = now.v;
  loop.update(op.w) = now.w;
  if (!loop.has(op.low)) return;
  for (std::int64_t e = 0; e < loop.shape(op.w).count(); ++e) {
    const Master one = split_master(static_cast<float>(at(now.w, e)));
    at(loop.update(op.w), e) = static_cast<float>(one.weight);
    at(loop.update(op.low), e) = one.low;
  }
}

}  // namespace

void reference(const AdamW& op, Loop& loop) {
  const auto& pending = loop.in(op.pending);
  if (at(pending, Pending::apply) == 0) return;
  const double t = at(pending, Pending::step);
  const double beta1 = op.beta1;
  const double beta2 = op.beta2;
  Moments now = load(op, loop);
  for (std::int64_t e = 0; e < loop.shape(op.w).count(); ++e) {
    const AdamWPart& part = op.part[op.parts == 1 ? 0 : e / op.parts_inner % op.parts];
    const double g = at(pending, Pending::scale) * at(loop.in(op.g), e);
    const double lr = at(pending, Pending::lr) * part.lr;
    at(now.m, e) = beta1 * at(now.m, e) + (1 - beta1) * g;
    at(now.v, e) = beta2 * at(now.v, e) + (1 - beta2) * g * g;
    at(now.read, e) = beta2 * at(now.read, e) + (1 - beta2) * g * g;
    const double m_hat = at(now.m, e) / (1 - std::pow(beta1, t));
    const double v_hat = at(now.read, e) / (1 - std::pow(beta2, t));
    at(now.w, e) -= lr * (m_hat / (std::sqrt(v_hat) + part.eps) + part.decay * at(now.w, e));
  }
  store(op, loop, now);
}

void reference(const Ema& op, Loop& loop) {
  if (at(loop.in(op.pending), Pending::apply) == 0) return;
  const std::vector<double> w = weight_of(op.w, op.low, loop);
  auto& average = loop.update(op.average);
  const double decay = op.decay;
  for (std::int64_t e = 0; e < loop.shape(op.w).count(); ++e)
    at(average, e) = decay * at(average, e) + (1 - decay) * at(w, e);
}

void reference(const RoundGradient& op, Loop& loop) {
  auto& numbers = loop.update(op.g);
  if (op.format == GradientFormat::bf16) {
    for (double& x : numbers) x = static_cast<float>(bf16(static_cast<float>(x)));
  }
  if (op.format != GradientFormat::int8) return;
  const Shape& shape = loop.shape(op.g);
  const auto step = static_cast<std::int64_t>(at(loop.in(op.control), Control::step));
  const Draws draws{op.seed, dropout_stream(op.stream, loop.layer(), step)};
  std::vector<float> g = floats(numbers);
  std::vector<std::int8_t> codes(g.size());
  std::vector<float> scales(static_cast<std::size_t>(state_blocks(shape)));
  encode_int8(shape, g, draws, codes, scales);
  decode_int8(shape, codes, scales, g);
  put(numbers, g);
  if (!loop.has(op.codes)) return;
  put(loop.out(op.codes), std::vector<std::uint8_t>(codes.begin(), codes.end()));
  put(loop.out(op.scales), scales);
}

void reference(const RestoreGradient& op, Loop& loop) {
  const Shape& shape = loop.shape(op.g);
  auto& g = loop.out(op.g);
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    for (std::int64_t e = first; e < first + count; ++e) {
      const auto byte = static_cast<std::uint8_t>(at(loop.in(op.codes), e));
      at(g, e) = static_cast<std::int8_t>(byte) * at(loop.in(op.scales), block);
    }
  });
}

}  // namespace sluice::loops
