// Any bytes as a JSON line: the quick parser and the one that judges agree, and nothing else
// happens.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "data/json_text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static sluice::JsonText json("text");
  std::string line(reinterpret_cast<const char*>(data), size);
  for (char& c : line)
    if (c == '\n') c = ' ';
  std::string padded = line + std::string(sluice::JsonText::slack, '"');
  const auto found = json.find(std::string_view(padded).substr(0, size));
  const auto whole = nlohmann::json::parse(line, nullptr, false);
  const bool right = whole.is_object() && whole.contains("text") && whole["text"].is_string();
  if (found.has_value() != right) std::abort();
  if (found && *found != whole["text"].get_ref<const std::string&>()) std::abort();
  if (!found && json.problem().empty()) std::abort();
  return 0;
}
