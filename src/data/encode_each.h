// Encoding of many short texts at once: what one of them needed is not looked up again for the
// next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace sluice {

// A tokenizer that has a better way than one encode() after the other.
class EncodesEach {
 public:
  virtual ~EncodesEach() = default;
  virtual void encode_each(std::span<const std::string_view> texts, std::vector<std::int32_t>& out,
                           std::vector<std::size_t>& ends) const = 0;
};

// Appends the ids of each text to `out`, and where in it they end to `ends`: those of encode().
void encode_each(const Tokenizer& tokenizer, std::span<const std::string_view> texts,
                 std::vector<std::int32_t>& out, std::vector<std::size_t>& ends);

}  // namespace sluice
