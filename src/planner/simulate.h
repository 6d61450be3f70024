// Walks a program as the executor would, on lanes with waits, and costs it instead of running it:
// what a step takes once steps follow each other, what hides behind what, and what bounds it.
//
// The one simulator: `sluice plan` prints it, tests of schedules use it, a run is compared with it
// when it ends. Deterministic; linear in the length of the program; any thread.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "planner/costs.h"

namespace sluice {

// What an action takes. A copy that takes `seconds` alone takes longer beside the other way of its
// link, and the compute lane is slower beside copies.
struct LaneCosts {
  std::vector<double> seconds;  // by action, alone
  // Speeds while other lanes are busy too: by lane and by the set of busy lanes, bit i being lane
  // i.
  std::array<std::array<double, std::size_t{1} << lanes>, lanes> speed;
  LaneCosts();  // every speed 1
};
LaneCosts costs_of(const Machine& machine, const Program& program);

struct Span {
  int run = 0, action = 0;
  double begin = 0, end = 0;  // seconds
};

// Of one step between two others like it.
struct Simulated {
  double seconds = 0;
  std::array<double, lanes> busy{};         // seconds in which a lane works
  std::array<double, lanes> hidden{};       // of those, while the compute lane works too
  std::array<std::int64_t, lanes> bytes{};  // copied between tiers
  // Seconds that the compute lane spends waiting, by the lane whose work it waits for in the end: a
  // copy in that waits for the disk is the disk's.
  std::array<double, lanes> waited{};
  Lane bound = Lane::compute;  // that the step would be shorter without
  std::vector<Span> spans;     // of all runs that were simulated, if asked for
};

struct SimulateOptions {
  int runs = 3;  // at least 2, back to back; the last one is reported
  bool spans = false;
};

// REQUIRES: costs are of this program, which can follow itself. Error when lanes wait for ever.
Simulated simulate(const Program& program, const LaneCosts& costs,
                   const SimulateOptions& options = {});

// The steady program on a machine.
Simulated simulate(const ProgramSet& set, const Machine& machine);

// "step: 12.3 s, 5,312 tokens/s, bound by compute; in: 40.1 GB …", a few lines; tokens of a step.
std::string to_text(const Simulated& step, std::int64_t tokens);
nlohmann::json to_json(const Simulated& step, std::int64_t tokens);

}  // namespace sluice
