// Encoding of a long text by several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "data/tokenizer.h"

namespace sluice {

// Calls take() on this thread with the ids of one part of the text after the other: together the
// ids of the whole, for any number of threads. Parts end at safe cuts, about a megabyte each; eight
// for each thread are in memory at a time, as text only where they are mapped. What a part throws
// is thrown here, after the parts before it were taken.
void encode_in_parts(const Tokenizer& tokenizer, std::string_view text, int threads,
                     const std::function<void(std::span<const std::int32_t>)>& take);

}  // namespace sluice
