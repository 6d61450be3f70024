// What is done to a document before it is tokenized.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

// openwebtext: three line feeds and more become two, white space at both ends goes: what the
// Hugging Face dataset of that name does to the files of its archive.
enum class Clean : std::uint8_t { none, openwebtext };

// `text` changed in place. White space is what Python's str.strip() takes; bytes that are no UTF-8
// are none.
void clean(Clean how, std::string& text);

}  // namespace sluice
