// Which steps are spikes: the one piece of arithmetic that the kernels of every backend share as
// source, so that it is constexpr (device code too may call it) and is given its square root.
#pragma once

#include <cstdint>

namespace sluice {

// The losses and gradient norms of the last steps, by which a spike is known: `count` finite steps
// so far, the newest at (count - 1) % window of each list. Part of a run's state.
struct Spikes {
  static constexpr int window = 128, least = 16;  // nothing is judged by fewer than `least`
  enum : int { count, losses, norms = losses + window, slots = norms + window };
  enum : int { by_loss = 1, by_norm = 2 };  // Results::skipped, added
};

// Whether `now` lies more than `deviations` standard deviations (of the sample) above the mean of
// `count` numbers.
template <class Root>
constexpr bool stands_out(const double* numbers, std::int64_t count, double now, double deviations,
                          Root root) {
  const auto n = static_cast<double>(count);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += numbers[i];
  const double mean = sum / n;
  double squares = 0;
  for (std::int64_t i = 0; i < count; ++i) squares += (numbers[i] - mean) * (numbers[i] - mean);
  return now > mean + deviations * root(squares / (n - 1));
}

// Whether a step is a spike beside those before it, which it then joins; 0, or what stands out.
template <class Root>
constexpr int judge_spike(double* spikes, double loss, double norm, double deviations, Root root) {
  const auto seen = static_cast<std::int64_t>(spikes[Spikes::count]);
  const std::int64_t count = seen < Spikes::window ? seen : Spikes::window;
  int out = 0;
  if (count >= Spikes::least) {
    if (stands_out(spikes + Spikes::losses, count, loss, deviations, root)) out |= Spikes::by_loss;
    if (stands_out(spikes + Spikes::norms, count, norm, deviations, root)) out |= Spikes::by_norm;
  }
  spikes[Spikes::losses + seen % Spikes::window] = loss;
  spikes[Spikes::norms + seen % Spikes::window] = norm;
  spikes[Spikes::count] = static_cast<double>(seen + 1);
  return out;
}

}  // namespace sluice
