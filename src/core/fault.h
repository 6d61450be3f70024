// Faults that a test plants: "at the third write of a save, die", "from the second fsync on, the
// disk is full". Code that must survive such things asks Faults before each system call; without a
// spec every answer is "go on", at the price of a counter.
//
// A spec is a comma-separated list of POINT:ACTION@COUNT, say "save.write:kill@3". COUNT starts at
// 1 and counts the visits of this object; a trailing '+' means "and every later one".
//   kill    raise(SIGKILL)
//   enospc  the system call fails with ENOSPC        eio  the same with EIO
//   einval  the same with EINVAL                     (scratch.direct only)
//   short   half of the bytes are taken              (save.write, scratch.read, scratch.write)
// Points with a free argument, whose action the caller carries out, take any text as ACTION:
//   train.flip:NAME@5   flip one bit of tensor NAME at step 5
//   train.poison:NAME@5 put a NaN into tensor NAME at step 5
//   train.break:OP@5    the device fails at the first op of that name in step 5, and ever after
// There COUNT is what the caller passes (a step number), not a count of visits.
//
// One object per run, passed by reference. One thread at a time visits a point; different points
// may be visited by different threads. Never allocates after parse().
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace sluice {

class Faults {
 public:
  // What the system call about to be made must pretend.
  struct Effect {
    int error = 0;         // the errno it fails with; 0: it is made
    bool shorten = false;  // a write hands over only half of its bytes
  };

  Faults() = default;  // no fault
  bool empty() const { return entries_.empty(); }
  // Throws Error(Exit::usage) for an unknown point or action or a malformed entry.
  static Faults parse(std::string_view spec);

  // Counts one visit of `point` and says what happens there; a planned kill does not return.
  // REQUIRES: point is one of points().
  Effect at(std::string_view point);
  // The same as the errno the call fails with, 0 for none.
  int errno_at(std::string_view point) { return at(point).error; }
  // For a point without a system call of its own: a planned errno becomes Error(Exit::disk).
  void hit(std::string_view point);
  // The argument planned for `point` at `count`, for actions that the caller carries out.
  std::optional<std::string> argument(std::string_view point, std::int64_t count) const;
  // Whether anything is planned for `point`.
  bool plans(std::string_view point) const;
  // Visits so far.
  std::int64_t count(std::string_view point) const { return counts_[index_of(point)]; }

  static std::vector<std::string> points();

 private:
  struct Entry {
    std::size_t point;
    std::string action;
    std::int64_t count;
    bool later_too;
    bool matches(std::size_t p, std::int64_t n) const {
      return p == point && (n == count || (later_too && n > count));
    }
  };
  static constexpr std::size_t max_points = 16;
  static std::size_t index_of(std::string_view point);

  std::vector<Entry> entries_;
  std::array<std::int64_t, max_points> counts_{};
};

// The Error for a failed system call on a file: Exit::disk, the operating system's own words.
// `verb` completes "cannot …".
Error disk_error(std::string_view verb, const std::string& path, int error,
                 const char* file = __builtin_FILE(), int line = __builtin_LINE());

}  // namespace sluice
