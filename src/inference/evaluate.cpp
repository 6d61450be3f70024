#include "inference/evaluate.h"

#include <cmath>
#include <numbers>

namespace sluice {

Evaluation evaluate(Executor& executor, const TokenFile& tokens, const Tokenizer* tokenizer,
                    const RowOptions& rows, std::int64_t limit, Staging& staging) {
  const WindowBatches windows(tokens, rows, limit);
  const int program = executor.programs().index_of("eval");
  const std::int64_t micro_batches = staging.micro_batches();
  double sum = 0, weight = 0;
  for (std::int64_t first = 0; first < windows.batches(staging.rows()); first += micro_batches) {
    // Batches beyond the last are all padding: weight 0.
    for (int micro = 0; micro < micro_batches; ++micro)
      windows.fill(first + micro, staging.view(micro));
    executor.wait(executor.enqueue(program, staging.blocks()));
    const Tensor stats = executor.global("stats", DType::f64, {{Axis::scalar, 2}});
    sum += stats.data<double>()[0];
    weight += stats.data<double>()[1];
  }
  Evaluation out;
  out.tokens = windows.targets();
  out.loss = sum / weight;
  out.perplexity = std::exp(out.loss);
  if (tokenizer != nullptr && tokens.tokenizer()) {
    out.bytes = target_bytes(tokens, *tokenizer, limit);
    if (out.bytes > 0) out.bits_per_byte = sum / std::numbers::ln2 / static_cast<double>(out.bytes);
  }
  return out;
}

}  // namespace sluice
