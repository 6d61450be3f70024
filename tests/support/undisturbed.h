// What tests of bit-equal runs share: whatever stops a run of tests/tiny.sh, and however it is
// resumed, it ends as an undisturbed one.
#pragma once

#include <initializer_list>
#include <string>

#include "tiny_run.h"

namespace sluice::testing_support {

// Run `out` ended with the weights, the state, the rows and the files of `undisturbed`, and what
// resuming put aside.
void expect_whole(const TinyRun& tiny, const std::string& out, const std::string& undisturbed);

// A run killed after each of `points`, and resumed, ends as one of `steps` that was not.
void expect_resumes_at(const TinyRun& tiny, std::initializer_list<int> points, int steps);

// Threads, recompute, saves, folders, … do not show in the bits; seed, rate and length (`longer`:
// an option that makes the run longer) do, and so does each of `others`.
void expect_free_options_change_no_bits(const TinyRun& tiny, const std::string& longer,
                                        std::initializer_list<const char*> others = {});

// kill -9: `in_saves` times at a fault point of a save, `by_clock` times whenever the clock says.
// REQUIRES: the run saves four times.
void expect_survives_kills(const TinyRun& tiny, unsigned seed, int in_saves, int by_clock);

}  // namespace sluice::testing_support
