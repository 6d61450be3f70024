// Proves of a program that no two actions race and that every read finds the value it means.
//
// It looks at lanes, waits, op lists and bindings alone, never at how they were chosen, so a
// mistake of the builder or of an edited program shows. Time is near-linear in the length of the
// two programs; pure functions, any thread.
#pragma once

#include "program/program.h"

namespace sluice {

// Two runs back to back, `before` and then `program`. Throws Exit::internal
//  - when two accesses to the same bytes, at least one of them a write, are not ordered by lanes
//    and waits: both actions are named;
//  - when a read would find nothing, another value, or the same value of another micro-batch or
//    run: reader, value and the action that wrote those bytes are named. Scratch memory and freed
//    ranges (what poison mode fills) count as writes of nothing;
//  - when a read finds an older version of a value that outlives a run: copies carry what they
//    copy;
//  - when a sum takes its micro-batches out of order or is read before the last one is in;
//  - when an operand or its scratch has no place, or lies outside the arena;
//  - when lanes wait for each other for ever.
// Returns how many looks at spans of bytes and at waits it took.
std::int64_t validate(const ProgramSet& set, const Program& before, const Program& program);

// Every program of the set behind every program of the set that may run before it.
void validate(const ProgramSet& set);

}  // namespace sluice
