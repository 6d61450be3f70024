// What the executor's lanes did and when, in memory that was taken before: for `--trace`.
//
// Each lane writes events of its own, so nothing is shared and nothing waits. The host asks for the
// timeline after the last recorded run was waited for.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "program/program.h"
#include "program/timeline.h"

namespace sluice {

class Recorder {
 public:
  // Room for `runs` of the programs called "steady" (of all stretches), whatever the order. The
  // first `skip` of them are not recorded.
  Recorder(const ProgramSet& programs, int runs, int skip = 1);
  // Bytes that a recorder takes, its timeline and a predicted one included.
  static std::int64_t bytes(const ProgramSet& programs, int runs);

  // The host, at enqueue: the number of the record that this run gets; -1: none.
  int claim(int program);
  bool full() const { return claimed_ == runs_; }
  int claimed() const { return claimed_; }
  int program_of(int record) const { return program_of_[static_cast<std::size_t>(record)]; }

  // A lane, for itself alone. `op` -1: the action as a whole, which has waited since `asked`.
  struct Event {
    std::int32_t record, action, op;
    std::int64_t asked, begin, end;  // nanoseconds; of a device, looks at its clock
    bool on_device = false;
  };
  std::int64_t now() const;
  void add(int lane, const Event& event);

  // An action or an op, from here to the end of the scope. `recorder` null: nothing.
  // `clock`: of a device that works later than it is told; null: the host's.
  class Timed {
   public:
    Timed(Recorder* recorder, int record, int lane, int action, int op, std::int64_t asked,
          Backend* clock = nullptr)
        : recorder_(recorder), event_{record, action, op, asked, 0, 0}, lane_(lane), clock_(clock) {
      if (recorder_ == nullptr) return;
      event_.begin = now();
      event_.on_device = clock != nullptr;
      if (asked < 0) event_.asked = event_.begin;
    }
    ~Timed() {
      if (recorder_ == nullptr) return;
      try {
        event_.end = now();
        recorder_->add(lane_, event_);
      } catch (const Error&) {  // the device has failed, and will say so elsewhere
      }
    }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

   private:
    std::int64_t now() const { return clock_ != nullptr ? clock_->stamp() : recorder_->now(); }

    Recorder* recorder_;
    Event event_;
    int lane_;
    Backend* clock_;
  };

  // What was recorded: a row for each lane, a counter of what each has waited. REQUIRES: the runs
  // that were claimed have ended.
  Timeline timeline(const ProgramSet& programs, const Backend& device) const;

 private:
  static std::int64_t events_of(const ProgramSet& programs, int lane);  // of the longest run

  int runs_, skip_, claimed_ = 0;
  std::vector<bool> steady_;     // by program
  std::vector<int> program_of_;  // by record
  std::vector<Event> events_[lanes];
};

}  // namespace sluice
