#include "data/json_text.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace sluice {
namespace {

using nlohmann::json;

// Sees every value of the line and keeps nothing but the field's.
class Finder final : public nlohmann::json_sax<json> {
 public:
  Finder(const std::string& field, std::string& text) : field_(field), text_(text) {}

  bool null() override { return other("null"); }
  bool boolean(bool /*value*/) override { return other("true or false"); }
  bool number_integer(std::int64_t /*value*/) override { return other("a number"); }
  bool number_unsigned(std::uint64_t /*value*/) override { return other("a number"); }
  bool number_float(double /*value*/, const std::string& /*text*/) override {
    return other("a number");
  }
  bool binary(binary_t& /*value*/) override { return other("bytes"); }
  bool string(std::string& value) override {
    if (depth_ == 0) return other("a string");
    if (depth_ == 1 && here_) found_ = true, text_ = std::move(value);
    return true;
  }
  bool start_object(std::size_t /*size*/) override { return deeper("an object"); }
  bool start_array(std::size_t /*size*/) override {
    is_object_ = is_object_ && depth_ > 0;
    return deeper("an array");
  }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(std::string& name) override {
    if (depth_ == 1) here_ = name == field_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const json::exception& /*error*/) override {
    problem_ = fmt::format("no JSON from its byte {} on", position);
    return false;
  }

  bool found() const { return found_ && is_object_; }
  std::string problem() const {
    if (!problem_.empty()) return problem_;
    if (!is_object_) return "JSON, and no object";
    return held_.empty() ? fmt::format("no \"{}\"", field_)
                         : fmt::format("{} in \"{}\"", held_, field_);
  }

 private:
  bool other(const char* what) {
    if (depth_ == 0) is_object_ = false;
    if (depth_ == 1 && here_) found_ = false, held_ = what;
    return true;
  }
  bool deeper(const char* what) {
    if (depth_ == 1 && here_) found_ = false, held_ = what;
    ++depth_;
    return true;
  }

  const std::string& field_;
  std::string& text_;
  std::int64_t depth_ = 0;
  bool here_ = false;  // the field's value comes next
  bool found_ = false, is_object_ = true;
  std::string held_, problem_;
};

}  // namespace

struct JsonText::Parser {
  simdjson::dom::parser parser;
};

JsonText::JsonText(std::string field)
    : field_(std::move(field)), parser_(std::make_unique<Parser>()) {}
JsonText::~JsonText() = default;

// The quick way takes what is right; who is to say what is wrong reads it again, slowly.
std::optional<std::string_view> JsonText::find(std::string_view line) {
  if (line.size() > short_line) return find_slowly(line);
  simdjson::dom::object object;
  if (parser_->parser.parse(line.data(), line.size(), false).get(object) != simdjson::SUCCESS)
    return find_slowly(line);
  std::optional<std::string_view> out;
  for (const auto field : object) {
    if (field.key != field_) continue;
    std::string_view text;
    if (field.value.get(text) != simdjson::SUCCESS) return find_slowly(line);
    out = text;
  }
  return out ? out : find_slowly(line);
}

std::optional<std::string_view> JsonText::find_slowly(std::string_view line) {
  Finder finder(field_, text_);
  const bool whole = json::sax_parse(line.begin(), line.end(), &finder);
  if (whole && finder.found()) return text_;
  problem_ = finder.problem();
  return std::nullopt;
}

}  // namespace sluice
