// When things happen: the lanes of a run as rows of spans, measured by the executor or predicted by
// a simulator, and what both are asked: how long copies lie behind computation, and a picture.
//
// Seconds from the timeline's own zero. Plain values and pure functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/function_ref.h"

namespace sluice {

struct Timeline {
  struct Span {
    std::string name;  // as print_program() says it; of an op, its kind
    double begin = 0, end = 0;
    int depth = 0;  // 0: an action; 1: an op within the action before which it stands in the row
    std::int64_t step = 0;  // 0 is the first one shown
  };
  struct Row {
    std::string name;         // the lane's
    std::vector<Span> spans;  // by begin, an action before its ops
    bool computes = false;    // otherwise it copies
  };
  // A number that changes over time.
  struct Sample {
    double at = 0, value = 0;
  };
  struct Counter {
    std::string name;
    std::vector<Sample> samples;
  };

  std::string name;  // "measured", "predicted"
  std::vector<Row> rows;
  std::vector<Counter> counters;
};

// Of the time that actions of rows that copy take, the part that lies inside actions of rows that
// compute. Both 0 without copies.
struct Hidden {
  double copying = 0, hidden = 0;  // seconds, summed over rows
  double share() const { return copying > 0 ? hidden / copying : 0; }
};
Hidden hidden_copies(const Timeline& timeline);

// The JSON that Perfetto and chrome://tracing read, handed to `write` in pieces: each timeline is a
// process, in the order given from the top, each row a thread of it. Times are rounded to
// nanoseconds.
void write_trace(std::span<const Timeline> timelines, FunctionRef<void(std::string_view)> write);

}  // namespace sluice
