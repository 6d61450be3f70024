// What a plan takes, in bytes, and what to change when it does not fit.
//
// Everything is known before the run: the regions of the memory map, and a formula for the rest of
// the process. Pure functions, any thread; how much memory there is, the caller says.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "program/program.h"

namespace sluice {

// Bytes. `optimizer` is AdamW's moments, `derived` packed weights, `stash` what backward needs of
// forward, `carry` the activation and gradient between layers, `frame` temporaries and scratch,
// `host` the homes of blobs that stream, `process` everything else outside the arena. On a GPU
// `rest` is what its context, libraries and workspaces take of its memory, and `total` is of that
// memory alone: `host` and `process` lie elsewhere.
struct MemoryBytes {
  std::int64_t weights = 0, gradients = 0, optimizer = 0, derived = 0, globals = 0, batch = 0,
               cache = 0, stash = 0, carry = 0, frame = 0, host = 0, process = 0, rest = 0,
               total = 0;
};

// What the process takes besides the arena depends on.
struct ProcessShape {
  std::int64_t threads = 1;
  std::int64_t worker_scratch = 0;  // bytes per thread of the backend's own tiles
  std::int64_t micro_batches = 1;   // of a step
  std::int64_t batch_bytes = 0;     // of a micro-batch's block (BatchLayout::bytes)
  std::int64_t actions = 0;         // of all programs
};

// Resident bytes outside the arena:
//   program_bytes (code, libraries, heap of a small run) + actions * action_bytes
//   + threads * (worker_scratch + stack_bytes) + reader_bytes
//   + 2 * micro_batches * batch_bytes rounded up to pages (host staging of two steps)
std::int64_t process_bytes(const ProcessShape& shape);
inline constexpr std::int64_t program_bytes = 14 << 20;
inline constexpr std::int64_t reader_bytes = 1 << 20;  // pages of token shards in use
inline constexpr std::int64_t stack_bytes = 64 << 10;  // touched, per thread
inline constexpr std::int64_t action_bytes = 160;      // of the list, and what the executor adds

ProcessShape process_shape(const ProgramSet& set, std::int64_t threads,
                           std::int64_t worker_scratch);

// The regions of the map and `process`; total is their sum, padding between regions included.
MemoryBytes memory_bytes(const ProgramSet& set, std::int64_t process);
// The same on a GPU. REQUIRES: rest > 0.
MemoryBytes memory_on_gpu(const ProgramSet& set, std::int64_t process, std::int64_t rest);

// What weights, gradients (in the form in which they rest) and optimizer state of all layers take
// where they are at home.
std::int64_t at_rest_bytes(const ProgramSet& set);

// {"weights": …, "gradients": …, …, "total": …}
nlohmann::json to_json(const MemoryBytes& bytes);
// A table for a person, one region a line, empty ones left out.
std::string to_text(const MemoryBytes& bytes);
std::string human_bytes(double bytes);  // "12.3 GiB"
template <std::integral T>
std::string human_bytes(T bytes) {
  return human_bytes(static_cast<double>(bytes));
}

// Options that, set together, make a plan smaller: "plan.recompute = block".
struct PlanChange {
  struct Setting {
    std::string key, value;
  };
  std::vector<Setting> settings;
  bool changes_key = false;  // some of them are numerics
  std::string note = {};     // what else a person is told, or all of it when nothing is set
  std::string text() const;
};

// What a change starts from.
struct PlanChoices {
  std::string recompute = "none";
  std::int64_t micro_batch = 1;  // sequences; its divisors are tried
  std::int64_t sequence = 1024;  // tokens
  bool samples = false;          // run.sample_every > 0: caches for decoding are kept
};
// From the mildest: recompute and samples, which change nothing of the result, then smaller
// micro-batches, then both, then shorter sequences.
std::vector<PlanChange> candidate_changes(const PlanChoices& now);

// The first three of `candidates` that fit into `available` bytes. `total_of` plans a change again
// and says its total; it may throw Error for a change that makes no plan, which is then skipped.
std::vector<PlanChange> changes_that_fit(
    const std::vector<PlanChange>& candidates, std::int64_t available,
    const std::function<std::int64_t(const PlanChange&)>& total_of);

// Throws Exit::memory, naming `changes` (those that fit) as things to try, unless the plan fits.
// `taken`: bytes of a GPU's memory that other programs have; what would fit without them says so.
void require_fits(const MemoryBytes& bytes, std::int64_t available,
                  const std::function<std::vector<PlanChange>()>& changes, std::int64_t taken = 0);

}  // namespace sluice
