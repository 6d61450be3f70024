// Every touch of memory by a program, by op: which bytes, which value is meant, read or written.
// What the validator checks; private to it.
//
// Bytes are counted in spans: the arena cut at every place where some access begins or ends, so
// that an access is a short range of whole spans.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "program/program.h"

namespace sluice {

// Which value is meant, whatever each layer calls it: an activation between two layers has one
// meaning for both, a tied weight one for owner and user.
struct Meaning {
  ValueKind kind = ValueKind::activation;
  int layer = -1;  // of a carry: the upper one of the two layers
  int name = -1;   // index into Accesses::names
  bool operator==(const Meaning&) const = default;
};

struct Touch {
  int op;
  bool reads, writes;  // of an accumulator: as in a later micro-batch
  bool accumulates;    // reads only when the action is not the first
  bool scratch;        // workspace or freed: written, but means nothing
  Spot spot;
  std::int64_t bytes;
  Meaning meaning;
  bool relative;  // meaning.layer counts from the action's layer
};

// Touches of an op list in the order of its ops: an op's reads first, then its writes, then what is
// freed after it.
using Trace = std::vector<Touch>;

// A range of whole spans.
struct Spans {
  int first = 0, last = 0;  // [first, last)
};

class Accesses {
 public:
  // Both programs outlive this. Throws when an operand has no place.
  Accesses(const ProgramSet& set, const Program& before, const Program& program);

  // How many places were noted and looked up to find the spans.
  std::int64_t looks() const { return looks_; }
  int spans() const { return static_cast<int>(cuts_.size()); }
  std::int64_t begin(int span) const { return cuts_[static_cast<std::size_t>(span)]; }
  const Trace& of(int run, const Action& action) const;  // empty for a load
  // Where each touch of `of(run, action)` lies, in its order.
  std::span<const Spans> spans_of(int run, const Action& action);
  // What a copy reads and writes; of a load, its slot alone. Two ranges of as many spans.
  Spans copied_from(const Action& copy) const { return range(copy.from, copy.bytes); }
  Spans copied_to(const Action& copy) const { return range(copy.to, copy.bytes); }
  Spans range(std::int64_t begin, std::int64_t bytes) const {
    return {span_at(begin), span_at(begin + bytes)};
  }
  static Meaning meaning(const Action& action, const Touch& touch);
  Meaning batch_data() const { return {ValueKind::batch, -1, 0}; }
  const std::string& name(const Meaning& meaning) const {
    return names_[static_cast<std::size_t>(meaning.name)];
  }

 private:
  // The touches of a trace by the base that they count from: actions share lists and bases, so what
  // was found out about a list at one place of a base is kept.
  using ByBase = std::array<std::vector<int>, static_cast<std::size_t>(Base::count) + 1>;
  struct At {
    int trace;  // of either run
    Base base;
    std::int64_t offset;
    bool operator==(const At&) const = default;
  };
  struct Hash {
    std::size_t operator()(const At& at) const;
  };

  void add(int run, const Program& program);
  Trace trace(const Program& program, const OpList& list);
  Touch touch_of(const Program& program, const LayerGraph& graph, Id id);
  void sort_by_base(const Trace& trace, ByBase& out) const;
  void cut(const Program& program, int index, const Touch& touch);
  void cut_copy(const Program& program, int index);
  void mirror_cuts();
  int intern(const std::string& name);
  int span_at(std::int64_t offset) const;

  std::int64_t looks_ = 0;
  const MemoryMap& memory_;
  std::int64_t arena_;
  Workers workers_;
  std::vector<std::int64_t> cuts_;
  std::vector<std::string> names_;
  std::map<std::string, int> ids_;
  std::vector<Trace> traces_[2];      // per run and list
  std::vector<ByBase> by_base_[2];    // the same
  std::vector<Spans> found_, spans_;  // of touches at the places that known_ has; of one action
  std::unordered_map<At, std::size_t, Hash> known_;  // where in found_ they begin
  Trace none_;
  struct Mirror {
    std::int64_t near, far, bytes;  // the end nearer to the device, and the other one
    auto operator<=>(const Mirror&) const = default;
  };
  std::set<Mirror> mirrors_;  // copies: what lies at both ends is cut at the same places
};

}  // namespace sluice
