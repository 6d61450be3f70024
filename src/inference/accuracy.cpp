#include "inference/accuracy.h"

#include <algorithm>

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

// Texts that are read by themselves, and what follows each of their tokens.
struct Texts {
  std::vector<Ids> inputs, targets;
};

// A window in one piece, or one for each of its documents.
void add_window(const Ids& inputs, const Ids& targets, const RowOptions& rows, Texts& texts) {
  std::size_t begin = 0;
  for (std::size_t end = 1; end <= inputs.size(); ++end) {
    const bool ends_document =
        rows.documents == Documents::separate && inputs[end - 1] == rows.end_of_text;
    if (!ends_document && end != inputs.size()) continue;
    const auto from = static_cast<std::ptrdiff_t>(begin), to = static_cast<std::ptrdiff_t>(end);
    texts.inputs.emplace_back(inputs.begin() + from, inputs.begin() + to);
    texts.targets.emplace_back(targets.begin() + from, targets.begin() + to);
    begin = end;
  }
}

}  // namespace

Accuracy token_accuracy(Generator& generator, const TokenFile& tokens, const RowOptions& rows,
                        std::int64_t limit, std::size_t at_once) {
  const WindowBatches windows(tokens, rows, limit);
  Accuracy out;
  out.tokens = windows.targets();
  Texts texts;
  const auto read = [&] {
    generator.each_logits(
        texts.inputs, [&](std::size_t row, std::int64_t token, std::span<const float> logits) {
          const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
          out.right += best == texts.targets[row][static_cast<std::size_t>(token)];
        });
    texts = {};
  };
  for (std::int64_t first = 0; first < windows.targets(); first += rows.sequence) {
    const auto count = static_cast<std::size_t>(std::min(rows.sequence, windows.targets() - first));
    Ids inputs(count), targets(count);
    tokens.read(first, inputs);
    tokens.read(first + 1, targets);
    Texts window;
    add_window(inputs, targets, rows, window);
    for (std::size_t i = 0; i < window.inputs.size(); ++i) {
      texts.inputs.push_back(std::move(window.inputs[i]));
      texts.targets.push_back(std::move(window.targets[i]));
      if (texts.inputs.size() == at_once) read();
    }
  }
  if (!texts.inputs.empty()) read();
  return out;
}

}  // namespace sluice
