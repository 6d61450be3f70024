// What ops and copies cost on a described machine. Pure functions; any thread.
#pragma once

#include "planner/description.h"
#include "program/program.h"

namespace sluice {

// Seconds that an op takes alone: a product at gemm_rate(), attention at attention_rate(), each no
// faster than its bytes pass through memory, every other op as its bytes do; and the launch.
double seconds_of(const Machine& machine, const Op& op, Types types);
// Of all ops of a list, one after the other.
double seconds_of(const Machine& machine, const OpList& list, const LayerGraph& graph);

// A way that bytes go. Each lane of copies is on one.
enum class Way : std::uint8_t { none, host_in, host_out, disk_in, disk_out };
Way way_of(Lane lane);
// Bytes per second of a way while nothing else moves. 0: not known.
double rate_of(const Machine& machine, Way way);
// The part of that rate which is left while the other way of the same link is in use too.
double share_of(const Machine& machine, Way way);
// The part of the compute lane's speed that is left beside copies over the host's link, of so many
// bytes per second together.
double compute_share(const Machine& machine, double copied_per_second);

}  // namespace sluice
