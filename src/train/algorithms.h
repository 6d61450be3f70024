// Which algorithm table a run multiplies by: the one it began with, one that was given or kept, or
// one that is measured now. Decided before step 1, and never again while the GPU and its library
// are the same.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "backend/tuner.h"
#include "program/program.h"

namespace sluice {

// The table in a run's folder; none: it has none. Exit::input when it is damaged.
std::optional<AlgorithmTable> kept_algorithms(const std::filesystem::path& run);
void keep_algorithms(const std::filesystem::path& run, const AlgorithmTable& table);

// Products of the programs that train: first and steady ones.
std::vector<ProductShape> training_products(ProductTuner& tuner, const ProgramSet& programs);

struct AlgorithmSources {
  std::optional<AlgorithmTable> run = {};    // of the run that goes on
  std::optional<AlgorithmTable> given = {};  // --algorithms, read from `given_file`
  std::string given_file = {};
  bool accepted = false;        // --change algorithms
  std::string cache_file = {};  // empty: none
};

struct SettledAlgorithms {
  AlgorithmTable table;               // of these products, all of them
  std::vector<std::string> messages;  // a line each
};

// Exit::usage: the given table is for another GPU or library, or not what the run began with
// (unless accepted). A cache that cannot be read or written is said and does without. The tuner
// uses the table from here on.
SettledAlgorithms settle_algorithms(ProductTuner& tuner, const std::vector<ProductShape>& products,
                                    const AlgorithmSources& sources);

}  // namespace sluice
