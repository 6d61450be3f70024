// Sampling with a cache of keys and values: prefill in pieces, then one token per run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "executor/executor.h"
#include "inference/repeats.h"
#include "models/config.h"

namespace sluice {

struct SamplingOptions {
  std::int64_t max_tokens = 64;
  double temperature = 1;  // 0: greedy
  std::int64_t top_k = 0;  // 0: all
  double top_p = 1;        // nucleus: the smallest set of ids that holds this share
  std::uint64_t seed = 0;
  std::int32_t stop_id = -1;  // end of text; -1: none
  RepeatOptions repeats = {};
  // The number of the first prompt's stream of draws, the others following: a text that is one of
  // many has the same draws in whatever company it is made.
  std::uint64_t first_row = 0;
};

enum class Finish : std::uint8_t { length, stop };

struct Generated {
  std::vector<std::int32_t> ids;  // without the prompt and without the stop id
  Finish finish = Finish::length;
};

// Called with each new id of a row as it is drawn; returning false ends that row (a stop string was
// met).
using OnToken = FunctionRef<bool(std::size_t row, std::int32_t id)>;

// Called with the logits that follow a token of a prompt.
using OnLogits =
    FunctionRef<void(std::size_t row, std::int64_t token, std::span<const float> logits)>;

// Draws one id from `logits` (the first `vocab` of a row). Draw number `index` of stream `row`
// under the seed: the same on every machine for the same logits.
std::int32_t draw_token(std::span<const float> logits, const SamplingOptions& options,
                        std::uint64_t row, std::int64_t index);

class Generator {
 public:
  // `executor` has "prefill" and "decode" programs (inference/assembly.h) for `rows` sequences and
  // its derived weights are up to date. Its memory is all that is used, host staging apart.
  Generator(Executor& executor, const ModelConfig& model, std::int64_t rows);

  // Continues each prompt (1 <= prompts.size() <= rows; a prompt has at least one id). Prompts may
  // differ in length; each row has the logits it would have alone (draws
  // of one temperature differ from row to row). When prompt and continuation reach the
  // context, the last half of it is prefilled again and sampling goes on.
  std::vector<Generated> generate(const std::vector<std::vector<std::int32_t>>& prompts,
                                  const SamplingOptions& options, OnToken on_token);

  // Reads prompts, and tells the logits after each of their tokens. REQUIRES: 1 <= prompts.size()
  // <= rows, each of at least one id and at most the context.
  void each_logits(const std::vector<std::vector<std::int32_t>>& prompts, OnLogits on_logits);
  // The same: [prompt][token][vocab], by prefill or `one_by_one`. For tests.
  std::vector<std::vector<std::vector<float>>> all_logits(
      const std::vector<std::vector<std::int32_t>>& prompts, bool one_by_one);

 private:
  struct Row {
    std::vector<std::int32_t> text;  // prompt and continuation
    std::int64_t cached = 0;         // tokens of `text` whose keys are in the cache
    std::int64_t window = 0;         // index in `text` of the first cached token
    bool done = false;
  };
  void feed(std::vector<Row>& rows, int program, std::int64_t time);
  void walk(const std::vector<std::vector<std::int32_t>>& prompts, bool one_by_one,
            OnLogits on_logits);
  std::span<const float> logits(std::size_t row, std::int64_t time, std::int64_t token) const;

  Executor& executor_;
  std::int64_t rows_, context_, vocab_, padded_, prefill_time_;
  int prefill_, decode_;
  std::vector<std::byte> staging_;
  std::vector<std::int64_t> fed_;  // per row: tokens of the last run that count
};

}  // namespace sluice
