// How often a model's best guess is the token that follows: consecutive windows of a token file, as
// evaluate() has them, read through the "prefill" program, whose logits the host can see.
#pragma once

#include "data/batches.h"
#include "inference/generate.h"

namespace sluice {

struct Accuracy {
  std::int64_t right = 0, tokens = 0;
  double share() const { return static_cast<double>(right) / static_cast<double>(tokens); }
};

// Every token but the first is a target once, in windows of rows.sequence tokens; `limit` > 0
// bounds their number. Of equal logits the least id is the guess. `at_once`: sequences that
// `generator` was made for. REQUIRES: rows.sequence is at most the context. Errors: Exit::input for
// a file without a target, or an id outside the file's limit.
Accuracy token_accuracy(Generator& generator, const TokenFile& tokens, const RowOptions& rows,
                        std::int64_t limit, std::size_t at_once);

}  // namespace sluice
