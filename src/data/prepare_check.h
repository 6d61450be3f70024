// What of a request to prepare() is decided before anything is read: parts of data/prepare.cpp.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/inputs.h"
#include "data/prepare.h"

namespace sluice {

// Throws Exit::usage for options that are wrong by themselves.
void check(const PrepareOptions& options);

// N of "train:N"; absent: another tokenizer.
std::optional<std::int32_t> vocabulary_to_train(const PrepareOptions& options);

// Whether `validation` is a share of documents.
bool shares_documents(const PrepareOptions& options, const std::vector<InputSource>& sources);

// Where in a source validation begins. Absent: it is a share of documents, or there is none.
struct Cut {
  std::size_t source = 0;
  std::int64_t at = 0;  // the byte after the training side, at least 1
};
std::optional<Cut> find_cut(const PrepareOptions& options, const std::vector<InputSource>& sources);

// The error of a share that leaves a side empty.
Error share_leaves_nothing(const PrepareOptions& options, const std::string& of);

// A hash of all that decides what tokens come out, the tokenizer left out.
std::string fingerprint_of(const PrepareOptions& options, const std::vector<InputSource>& sources,
                           const std::optional<Cut>& cut);

}  // namespace sluice
