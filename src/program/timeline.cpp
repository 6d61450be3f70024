#include "program/timeline.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace sluice {
namespace {

std::int64_t nanoseconds(double seconds) { return std::llround(1e9 * seconds); }

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// Microseconds, the unit of the format, to the nanosecond.
std::string time_text(std::int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

class TraceWriter {
 public:
  explicit TraceWriter(FunctionRef<void(std::string_view)> write) : write_(write) {}

  void write(std::span<const Timeline> timelines) {
    write_(R"({"displayTimeUnit":"ms","traceEvents":[)");
    for (std::size_t i = 0; i < timelines.size(); ++i) add(timelines[i], static_cast<int>(i) + 1);
    write_("\n]}\n");
  }

 private:
  void add(const Timeline& timeline, int process) {
    tell("process_name", process, 0, fmt::format(R"("name":{})", quoted(timeline.name)));
    tell("process_sort_index", process, 0, fmt::format(R"("sort_index":{})", process));
    for (std::size_t row = 0; row < timeline.rows.size(); ++row) {
      const int thread = static_cast<int>(row) + 1;
      tell("thread_name", process, thread,
           fmt::format(R"("name":{})", quoted(timeline.rows[row].name)));
      tell("thread_sort_index", process, thread, fmt::format(R"("sort_index":{})", thread));
      for (const Timeline::Span& span : timeline.rows[row].spans) {
        const std::int64_t begin = nanoseconds(span.begin), end = nanoseconds(span.end);
        event(fmt::format(
            R"("ph":"X","name":{},"cat":"{}","pid":{},"tid":{},"ts":{},"dur":{},"args":{{"step":{}}})",
            quoted(span.name), span.depth == 0 ? "action" : "op", process, thread, time_text(begin),
            time_text(end - begin), span.step));
      }
    }
    for (const Timeline::Counter& counter : timeline.counters)
      for (const Timeline::Sample& sample : counter.samples)
        event(fmt::format(R"("ph":"C","name":{},"pid":{},"ts":{},"args":{{"value":{:.6f}}})",
                          quoted(counter.name), process, time_text(nanoseconds(sample.at)),
                          sample.value));
  }

  void tell(const char* what, int process, int thread, const std::string& args) {
    event(fmt::format(R"("ph":"M","name":"{}","pid":{},"tid":{},"args":{{{}}})", what, process,
                      thread, args));
  }

  void event(const std::string& fields) {
    write_(first_ ? "\n{" : ",\n{");
    first_ = false;
    write_(fields);
    write_("}");
  }

  FunctionRef<void(std::string_view)> write_;
  bool first_ = true;
};

struct Stretch {
  double begin, end;
};

// The actions of rows that compute, joined where they touch.
std::vector<Stretch> computing(const Timeline& timeline) {
  std::vector<Stretch> all, out;
  for (const Timeline::Row& row : timeline.rows)
    for (const Timeline::Span& span : row.spans)
      if (row.computes && span.depth == 0) all.push_back({span.begin, span.end});
  std::sort(all.begin(), all.end(),
            [](const Stretch& a, const Stretch& b) { return a.begin < b.begin; });
  for (const Stretch& one : all) {
    if (!out.empty() && one.begin <= out.back().end)
      out.back().end = std::max(out.back().end, one.end);
    else
      out.push_back(one);
  }
  return out;
}

}  // namespace

Hidden hidden_copies(const Timeline& timeline) {
  const std::vector<Stretch> busy = computing(timeline);
  Hidden out;
  for (const Timeline::Row& row : timeline.rows)
    for (const Timeline::Span& span : row.spans) {
      if (row.computes || span.depth != 0) continue;
      out.copying += span.end - span.begin;
      auto at = std::lower_bound(busy.begin(), busy.end(), span.begin,
                                 [](const Stretch& one, double t) { return one.end <= t; });
      for (; at != busy.end() && at->begin < span.end; ++at)
        out.hidden += std::min(at->end, span.end) - std::max(at->begin, span.begin);
    }
  return out;
}

void write_trace(std::span<const Timeline> timelines, FunctionRef<void(std::string_view)> write) {
  TraceWriter(write).write(timelines);
}

}  // namespace sluice
