// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A number is a pure function of (seed, stream, index): there is no state to
// save, and any cut of a tensor over ranks or threads draws the same values.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sluice {

using Philox = std::array<std::uint32_t, 4>;

// The ten-round block function. Known answer: counter 0, key 0 -> 6627e8d5 e169c58d bc57ac4c
// 9b00dbd8.
Philox philox(Philox counter, std::array<std::uint32_t, 2> key);

// The stream number of a name, such as a tensor's; the step may be mixed in by the caller.
std::uint64_t stream_of(std::string_view name);

// Draw `index` of stream `stream` under `seed`.
std::uint32_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
double random_uniform(std::uint64_t seed, std::uint64_t stream,
                      std::uint64_t index);  // [0, 1), 32 bits

// Standard normal by inversion (Acklam's rational approximation, |error| < 1.2e-9 before rounding),
// in double with + - * / and a fixed-polynomial logarithm, so that every machine draws the same
// bits.
float random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
// The same, conditioned on |x| <= 2.
float random_truncated_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

}  // namespace sluice
