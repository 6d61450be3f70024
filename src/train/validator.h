// Validation while training: the held-out set through the eval program.
#pragma once

#include "inference/evaluate.h"
#include "train/trainer.h"

namespace sluice {

class Validator {
 public:
  // `limit` bounds the targets of every validation but the last one, which is whole; 0: no bound.
  Validator(Trainer& trainer, const TokenFile& tokens, const Tokenizer* tokenizer, RowOptions rows,
            std::int64_t limit)
      : trainer_(trainer),
        tokens_(tokens),
        tokenizer_(tokenizer),
        rows_(rows),
        limit_(limit),
        staging_(trainer.executor().programs().named("eval").batch,
                 trainer.executor().programs().named("eval").micro_batches) {}

  // REQUIRES: the trainer is settled.
  Evaluation run(bool whole) {
    return evaluate(trainer_.executor(), tokens_, tokenizer_, rows_, whole ? 0 : limit_, staging_);
  }

 private:
  Trainer& trainer_;
  const TokenFile& tokens_;
  const Tokenizer* tokenizer_;
  RowOptions rows_;
  std::int64_t limit_;
  Staging staging_;
};

}  // namespace sluice
