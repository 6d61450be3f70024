// The loss of a model over a token file: consecutive windows through the "eval" program.
#pragma once

#include <cstdint>
#include <optional>

#include "data/batches.h"
#include "executor/executor.h"
#include "inference/staging.h"

namespace sluice {

struct Evaluation {
  double loss = 0;        // mean over the targets, nats
  double perplexity = 0;  // exp(loss)
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;  // of the text that the targets stand for; 0 when unknown
  std::optional<double> bits_per_byte;
};

// Every token but the first is a target exactly once, predicted within its window of
// rows.sequence tokens; `limit` > 0 bounds the number of targets. `tokenizer` tells bytes; null (or
// raw ids): they stay unknown. The sum has one order: bits depend on the file and on the shape of
// `staging` alone.
//
// REQUIRES: `executor` has an "eval" program whose layout and micro-batches `staging` was made for,
// its rows as long as rows.sequence; nothing is enqueued and derived weights are up to date.
// Errors: Exit::input for a file without a target, or an id outside the file's limit.
Evaluation evaluate(Executor& executor, const TokenFile& tokens, const Tokenizer* tokenizer,
                    const RowOptions& rows, std::int64_t limit, Staging& staging);

}  // namespace sluice
