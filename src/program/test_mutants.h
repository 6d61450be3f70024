// Programs with one mistake in them, for tests of the validator: a wait missing, a release too
// early, a copy left out.
#pragma once

#include <gtest/gtest.h>

#include "program/happens_before.h"
#include "program/validate.h"

namespace sluice::testing {

// Whether the validator refuses `program` behind some program of the set.
inline bool refused(const ProgramSet& set, const Program& program) {
  for (const Program& before : set.programs) {
    if (before.ends_settled != program.begins_settled) continue;
    try {
      validate(set, before, program);
    } catch (const Error&) {
      return true;
    }
  }
  return false;
}

// Whether `program`, without a wait of `action` for `other`, still runs it behind that one.
inline bool implied(const ProgramSet& set, const Program& program, int action, const Wait& wait) {
  for (const Program& before : set.programs) {
    if (before.ends_settled != program.begins_settled) continue;
    const HappensBefore order(before, program);
    const int first = static_cast<int>(before.actions.size());
    const int other =
        wait.action >= 0 ? wait.action + first : before.marks[static_cast<std::size_t>(wait.mark)];
    if (other >= 0 && !order.ordered(other, action + first)) return false;
  }
  return true;
}

// The program without an action; who waited for it waits for what it waited for.
inline Program without(const Program& program, int dropped) {
  Program out = program;
  const std::vector<Wait> inherited = out.actions[static_cast<std::size_t>(dropped)].waits;
  out.actions.erase(out.actions.begin() + dropped);
  const auto moved = [&](int action) { return action > dropped ? action - 1 : action; };
  for (Action& action : out.actions) {
    std::vector<Wait> waits;
    for (const Wait& wait : action.waits) {
      if (wait.action == dropped)
        waits.insert(waits.end(), inherited.begin(), inherited.end());
      else
        waits.push_back(wait);
    }
    for (Wait& wait : waits) wait.action = moved(wait.action);
    action.waits = waits;
  }
  for (int& action : out.marks) action = action == dropped ? -1 : moved(action);
  return out;
}

struct Mutants {
  int refused = 0, implied = 0;
  bool operator==(const Mutants&) const = default;
};

// Each wait of a program left out, one at a time.
inline Mutants without_waits(const ProgramSet& set, const Program& program) {
  Mutants out;
  for (std::size_t a = 0; a < program.actions.size(); ++a)
    for (std::size_t w = 0; w < program.actions[a].waits.size(); ++w) {
      Program cut = program;
      auto& waits = cut.actions[a].waits;
      const Wait wait = waits[w];
      waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(w));
      const bool seen = refused(set, cut);
      EXPECT_TRUE(seen || implied(set, cut, static_cast<int>(a), wait))
          << program.action_name(static_cast<int>(a));
      ++(seen ? out.refused : out.implied);
    }
  return out;
}

// Each wait for an action of the same run moved to the action before that one on its lane.
inline Mutants with_early_releases(const ProgramSet& set, const Program& program,
                                   bool of_copies_alone) {
  Mutants out;
  for (std::size_t a = 0; a < program.actions.size(); ++a)
    for (std::size_t w = 0; w < program.actions[a].waits.size(); ++w) {
      const Wait wait = program.actions[a].waits[w];
      if ((of_copies_alone && !program.actions[a].copies()) || wait.action < 0) continue;
      int earlier = wait.action - 1;
      const Lane lane = program.actions[static_cast<std::size_t>(wait.action)].lane;
      while (earlier >= 0 && program.actions[static_cast<std::size_t>(earlier)].lane != lane)
        --earlier;
      if (earlier < 0) continue;
      Program early = program;
      early.actions[a].waits[w].action = earlier;
      const bool seen = refused(set, early);
      EXPECT_TRUE(seen || implied(set, early, static_cast<int>(a), wait))
          << program.action_name(static_cast<int>(a));
      ++(seen ? out.refused : out.implied);
    }
  return out;
}

// Whether a copy of a program of the set is missed when it is left out: by the program itself, or
// by the next one.
inline bool is_missed(const ProgramSet& set, const std::string& name, int copy) {
  ProgramSet mutant = set;
  Program& cut = mutant.programs[static_cast<std::size_t>(set.index_of(name))];
  cut = without(set.named(name), copy);
  bool seen = refused(mutant, cut);
  for (const Program& next : mutant.programs) seen = seen || refused(mutant, next);
  return seen;
}

}  // namespace sluice::testing
