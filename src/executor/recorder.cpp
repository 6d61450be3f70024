#include "executor/recorder.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace sluice {
namespace {

bool is_steady(const Program& program) { return program.name.starts_with("steady"); }

double seconds(std::int64_t nanoseconds) { return 1e-9 * static_cast<double>(nanoseconds); }

}  // namespace

std::int64_t Recorder::events_of(const ProgramSet& programs, int lane) {
  std::int64_t most = 0;
  for (const Program& program : programs.programs) {
    if (!is_steady(program)) continue;
    std::int64_t events = 0;
    for (const Action& action : program.actions) {
      if (static_cast<int>(action.lane) != lane) continue;
      events += 1;
      if (!action.copies()) events += static_cast<std::int64_t>(program.list_of(action).ops.size());
    }
    most = std::max(most, events);
  }
  return most;
}

std::int64_t Recorder::bytes(const ProgramSet& programs, int runs) {
  std::int64_t events = 0;
  for (int lane = 0; lane < lanes; ++lane) events += events_of(programs, lane);
  constexpr auto each = static_cast<std::int64_t>(sizeof(Event) + 4 * sizeof(Timeline::Span));
  return runs * events * each;
}

Recorder::Recorder(const ProgramSet& programs, int runs, int skip) : runs_(runs), skip_(skip) {
  for (const Program& program : programs.programs) steady_.push_back(is_steady(program));
  program_of_.reserve(static_cast<std::size_t>(runs));
  for (int lane = 0; lane < lanes; ++lane)
    events_[lane].reserve(static_cast<std::size_t>(runs * events_of(programs, lane)));
}

int Recorder::claim(int program) {
  if (!steady_[static_cast<std::size_t>(program)] || full()) return -1;
  if (skip_ > 0) return --skip_, -1;
  program_of_.push_back(program);
  return claimed_++;
}

std::int64_t Recorder::now() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Recorder::add(int lane, const Event& event) {
  std::vector<Event>& events = events_[lane];
  assert(events.size() < events.capacity());
  events.push_back(event);
}

namespace {

// On the host's clock. What waited for the device has not been asked for by its clock.
std::vector<Recorder::Event> on_one_clock(const std::vector<Recorder::Event>& events,
                                          const Backend& device) {
  std::vector<Recorder::Event> out = events;
  for (Recorder::Event& event : out) {
    if (!event.on_device) continue;
    event.begin = device.stamped(event.begin), event.end = device.stamped(event.end);
    event.asked = event.op >= 0 ? event.begin : std::min(event.asked, event.begin);
  }
  return out;
}

}  // namespace

Timeline Recorder::timeline(const ProgramSet& programs, const Backend& device) const {
  std::vector<Event> all[lanes];
  std::int64_t zero = INT64_MAX;
  for (int lane = 0; lane < lanes; ++lane) {
    all[lane] = on_one_clock(events_[lane], device);
    for (const Event& event : all[lane]) zero = std::min(zero, event.begin);
  }
  Timeline out;
  out.name = "measured";
  for (int lane = 0; lane < lanes; ++lane) {
    std::vector<Event>& events = all[lane];
    // Ops were recorded before their action.
    std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.op < b.op;
    });
    Timeline::Row row;
    row.name = name_of(static_cast<Lane>(lane));
    row.computes = static_cast<Lane>(lane) == Lane::compute;
    Timeline::Counter waited{row.name + " has waited, ms", {}};
    std::int64_t sum = 0;
    for (const Event& event : events) {
      const auto record = static_cast<std::size_t>(event.record);
      const Program& program = programs.programs[static_cast<std::size_t>(program_of_[record])];
      const Action& action = program.actions[static_cast<std::size_t>(event.action)];
      Timeline::Span span{program.action_name(event.action), seconds(event.begin - zero),
                          seconds(event.end - zero), 0, event.record};
      if (event.op >= 0) {
        span.name = name_of(program.list_of(action).ops[static_cast<std::size_t>(event.op)]);
        span.depth = 1;
      } else {
        sum += event.begin - event.asked;
        waited.samples.push_back({span.begin, 1e3 * seconds(sum)});
      }
      row.spans.push_back(std::move(span));
    }
    if (row.spans.empty()) continue;
    out.rows.push_back(std::move(row));
    out.counters.push_back(std::move(waited));
  }
  return out;
}

}  // namespace sluice
