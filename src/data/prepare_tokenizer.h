// The tokenizer that prepare() uses: one that there is, or one that the inputs make.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/prepare_check.h"
#include "data/tokenizer.h"

namespace sluice {

struct TokenizerRequest {
  const PrepareOptions& options;
  const std::vector<InputSource>& sources;
  std::optional<Cut> cut;
  std::string fingerprint;  // of these
  std::function<void(std::string_view doing, std::size_t source, const Piece&)> tell;
};

// chars and train: read the inputs, once, and leave what they find in the folder of the TokenStore,
// from where the next call with the same fingerprint takes it.
TokenizerPtr prepare_tokenizer(const TokenizerRequest& request);

// The documents of the two sides, by their numbers in the input's order.
struct Sides {
  std::vector<std::uint32_t> order;  // empty: as they come; else validation first
  std::int64_t documents = 0, validation = 0;
  std::int64_t split = -1;  // where it begins, when it has no order
};
// `split`: the documents before the cut, -1 without one.
Sides find_sides(const PrepareOptions& options, std::int64_t documents, std::int64_t split);

}  // namespace sluice
