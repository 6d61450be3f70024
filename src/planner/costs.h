// What ops and copies cost on a described machine. Pure functions; any thread.
#pragma once

#include "planner/description.h"
#include "program/program.h"

namespace sluice {

// Which ops go alike: those of one kind over operands of the same types. Their rates differ with
// three sizes: m, k and n of a product; a sequence and a head of attention; else the bytes that
// move. The work is the product's or attention's FLOPs, or those bytes.
struct OpClass {
  std::string name;  // "linear bf16 f32"
  std::int64_t sizes[3] = {1, 1, 1};
  double work = 0;
};
OpClass class_of(const Op& op, Types types);

// Seconds that an op takes alone. Where ops of its class were measured, its work at op_rate(). Else
// a product at gemm_rate(), attention at attention_rate(), each no faster than its bytes pass
// through memory, every other op as its bytes do. And the launch.
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
// The part that is left while the compute lane works.
double beside_share(const Machine& machine, Way way);
// The part of the compute lane's speed that is left beside copies over the host's link, of so many
// bytes per second together.
double compute_share(const Machine& machine, double copied_per_second);

}  // namespace sluice
