// The numerics key: everything that may change the bits of a run, as sorted lines, and their hash.
// Two runs of one key have the same bits at every step. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/config.h"

namespace sluice {

// What the key needs beyond the options: facts of this machine, this data and this build. None of
// them depends on how much memory there is.
struct KeyFacts {
  std::string backend;          // "cpu"
  std::string isa;              // resolved: "avx512"
  std::string data;             // checksum of the training shards, tokenizer included
  std::string fusions;          // graph/fusion.h
  std::string algorithms = {};  // hash of backend/algorithms.h's table; empty: the backend has none
  std::string from = {};        // hash of the weights that the run began with; empty: random ones
  std::string formats;          // versions of what state, gradients and random numbers look like
  Plan plan;                    // resolved; its recompute is not part of the key
};

struct NumericsKey {
  std::string text;          // lines "key = value\n", sorted
  std::string hash() const;  // 16 hexadecimal digits
};

// run.isa, plan.micro_batch and plan.head_chunk enter as resolved, so that "auto" and what it
// stands for are one key.
NumericsKey numerics_key(const Config& config, const KeyFacts& facts);

struct Change {
  std::string key;
  std::string was;  // empty: there was no such line
  std::string now;  // empty: there is no such line
};

// Lines that differ between two key texts, sorted by key.
std::vector<Change> compare_keys(std::string_view was, std::string_view now);

// What another device brings with it: a run may go on on another backend, or on another model of
// GPU, unasked, though its numbers differ in their last bits from there on. Takes those changes out
// of `changes` between two key texts and returns a line about them; empty when the device is the
// same. Another instruction set of a CPU is a choice like any other, and remains.
std::string take_other_device(std::string_view was, std::string_view now,
                              std::vector<Change>& changes);

// "a,b" of --change. Exit::usage for names that no option and no fact of the key has, for model.*
// (another model is another run) and for batch.* (steps and cursor count in batches of one size).
std::vector<std::string> parse_accepted(std::string_view names);

// Throws Exit::usage listing every change that `accepted` does not name, each old → new. `where` is
// the run's folder.
void require_accepted(const std::vector<Change>& changes, const std::vector<std::string>& accepted,
                      const std::string& where);

}  // namespace sluice
