// A tokenizer.json of Hugging Face: every part is looked at, and what is not supported is refused.
#include <algorithm>
#include <array>

#include "data/tokenizer_read.h"

namespace sluice {

using nlohmann::json;

namespace {

// Where we are in the file, for errors.
class Part {
 public:
  Part(const std::string& path, std::string name) : path_(path), name_(std::move(name)) {}
  Part at(std::string_view key) const {
    return {path_, name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key)};
  }
  Part at(std::size_t i) const { return {path_, fmt::format("{}[{}]", name_, i)}; }
  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }
  Error refused(std::string expected, std::string found) const {
    return refused_tokenizer(path_, name_, std::move(expected), std::move(found));
  }

 private:
  const std::string& path_;
  std::string name_;
};

// A member, or null when it is not there.
const json& member(const json& object, const char* key) {
  static const json nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

void require_object(const json& value, const Part& part) {
  require(value.is_object(),
          [&] { return part.refused("an object", value.is_null() ? "nothing" : brief(value)); });
}

template <class Keys>
void require_known(const json& object, const Part& part, const Keys& known) {
  for (const auto& [key, value] : object.items())
    require(std::find(known.begin(), known.end(), key) != known.end(),
            [&] { return part.at(brief(json(key))).refused("a part that is known", "another"); });
}

bool flag(const json& object, const Part& part, const char* key, bool absent) {
  const json& value = member(object, key);
  if (value.is_null()) return absent;
  require(value.is_boolean(), [&] { return part.at(key).refused("true or false", brief(value)); });
  return value.get<bool>();
}

const std::string& text(const json& object, const Part& part, const char* key) {
  const json& value = member(object, key);
  require(value.is_string(), [&] {
    return part.at(key).refused("a string", value.is_null() ? "nothing" : brief(value));
  });
  return value.get_ref<const std::string&>();
}

// null, false or "": what switches a part off.
void require_off(const json& object, const Part& part, const char* key) {
  const json& value = member(object, key);
  const bool off = value.is_null() || value == json(false) || value == json("") ||
                   (value.is_number() && value == json(0.0));
  require(off, [&] { return part.at(key).refused("null", brief(value)); });
}

bool is_type(const json& value, std::string_view type) {
  return value.is_object() && member(value, "type").is_string() &&
         member(value, "type").get_ref<const std::string&>() == type;
}

// Whether it splits as GPT-2 does.
bool byte_level_splits(const json& value, const Part& part) {
  require(is_type(value, "ByteLevel"),
          [&] { return part.refused("ByteLevel", value.is_null() ? "nothing" : brief(value)); });
  const bool prefix = flag(value, part, "add_prefix_space", true);
  require(!prefix, [&] { return part.at("add_prefix_space").refused("false", "true"); });
  return flag(value, part, "use_regex", true);
}

Splitter split_of(const json& value, const Part& part) {
  require(is_type(value, "Split"),
          [&] { return part.refused("Split, with ByteLevel after it", brief(value)); });
  const Part pattern = part.at("pattern");
  require_object(member(value, "pattern"), pattern);
  const std::string& regex = text(member(value, "pattern"), pattern, "Regex");
  const std::optional<Splitter> splitter = splitter_of_pattern(regex);
  require(splitter.has_value(), [&] {
    return pattern.at("Regex").refused("the pattern of GPT-2, cl100k or Llama 3",
                                       brief(json(regex)));
  });
  // The patterns match every character, so what is left between matches is nothing.
  const std::string& behavior = text(value, part, "behavior");
  const bool invert = flag(value, part, "invert", false);
  require(invert ? behavior == "Removed" || behavior == "Isolated" : behavior == "Isolated",
          [&] { return part.at("behavior").refused("\"Isolated\"", brief(json(behavior))); });
  return *splitter;
}

Splitter splitter_of(const json& value, const Part& part) {
  if (!is_type(value, "Sequence"))
    return byte_level_splits(value, part) ? Splitter::gpt2 : Splitter::none;
  const json& steps = member(value, "pretokenizers");
  const Part list = part.at("pretokenizers");
  require(steps.is_array() && (steps.size() == 1 || steps.size() == 2), [&] {
    return list.refused("Split and ByteLevel", steps.is_array() ? brief(steps) : "no list");
  });
  if (steps.size() == 1)
    return byte_level_splits(steps[0], list.at(std::size_t{0})) ? Splitter::gpt2 : Splitter::none;
  const Splitter splitter = split_of(steps[0], list.at(std::size_t{0}));
  const Part second = list.at(std::size_t{1});
  require(!byte_level_splits(steps[1], second),
          [&] { return second.at("use_regex").refused("false after Split", "true"); });
  return splitter;
}

// What adds special tokens around a text, or moves offsets: neither changes the ids of the text.
void check_processor(const json& value, const Part& part) {
  static constexpr std::array<std::string_view, 3> harmless = {"ByteLevel", "TemplateProcessing",
                                                               "RobertaProcessing"};
  const auto check = [](const json& one, const Part& where) {
    const bool known = std::any_of(harmless.begin(), harmless.end(),
                                   [&](std::string_view type) { return is_type(one, type); });
    require(known, [&] {
      return where.refused("null, ByteLevel, TemplateProcessing or RobertaProcessing", brief(one));
    });
  };
  if (value.is_null()) return;
  if (!is_type(value, "Sequence")) return check(value, part);
  const json& steps = member(value, "processors");
  require(steps.is_array(), [&] { return part.at("processors").refused("a list", brief(steps)); });
  for (std::size_t i = 0; i < steps.size(); ++i) check(steps[i], part.at("processors").at(i));
}

void read_merges(const json& merges, const Part& part, BpeReader& reader) {
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    const Part here = part.at(i);
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      reader.add_merge(here.name(), merge[0].get_ref<const std::string&>(),
                       merge[1].get_ref<const std::string&>());
      continue;
    }
    const std::string line = merge.is_string() ? merge.get<std::string>() : std::string();
    const std::size_t space = line.find(' ');
    require(space != std::string::npos && line.find(' ', space + 1) == std::string::npos,
            [&] { return here.refused("\"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]", brief(merge)); });
    reader.add_merge(here.name(), line.substr(0, space), line.substr(space + 1));
  }
}

void read_model(const json& model, const Part& part, BpeReader& reader) {
  static constexpr std::array<std::string_view, 10> known = {"type",
                                                             "dropout",
                                                             "unk_token",
                                                             "continuing_subword_prefix",
                                                             "end_of_word_suffix",
                                                             "fuse_unk",
                                                             "vocab",
                                                             "byte_fallback",
                                                             "ignore_merges",
                                                             "merges"};
  require_known(model, part, known);
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
    require_off(model, part, key);
  // All bytes are tokens, so nothing is unknown: unk_token, fuse_unk and byte_fallback are idle.
  reader.definition().whole_pieces = flag(model, part, "ignore_merges", false);
  const Part vocab = part.at("vocab");
  for (const auto& [name, id] : member(model, "vocab").items()) {
    require(id.is_number_integer() && id >= 0 && id < reader.id_limit(), [&] {
      return vocab.refused("ids from 0, with fewer holes than tokens",
                           fmt::format("{} for {}", brief(id), brief(json(name))));
    });
    reader.add_named(vocab.name(), name, id.get<std::int64_t>());
  }
  reader.require_all_bytes(vocab.name());
  const json& merges = member(model, "merges");
  require(merges.is_array(), [&] {
    return part.at("merges").refused("a list", merges.is_null() ? "nothing" : brief(merges));
  });
  read_merges(merges, part.at("merges"), reader);
}

void read_added(const json& tokens, const Part& part, BpeReader& reader) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const json& token = tokens[i];
    const Part here = part.at(i);
    require_object(token, here);
    AddedToken out;
    out.text = text(token, here, "content");
    out.special = flag(token, here, "special", false);
    out.normalized = flag(token, here, "normalized", !out.special);
    const json& id = member(token, "id");
    require(id.is_number_integer() && id >= 0 && id < reader.id_limit(), [&] {
      return here.at("id").refused("ids from 0, with fewer holes than tokens",
                                   id.is_null() ? "nothing" : brief(id));
    });
    out.id = id.get<std::int32_t>();
    // Special tokens are not looked for in text, so how they would be does not matter.
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      if (!out.special) require_off(token, here, key);
    reader.add_added(here.name(), std::move(out));
  }
}

}  // namespace

BpeDefinition bpe_of_json(const std::string& path, const json& file) {
  static constexpr std::array<std::string_view, 9> known = {
      "version",       "truncation",     "padding", "added_tokens", "normalizer",
      "pre_tokenizer", "post_processor", "decoder", "model"};
  const Part whole(path, "");
  require_known(file, whole, known);
  const json& version = member(file, "version");
  require(version.is_null() || version == json("1.0"),
          [&] { return whole.at("version").refused("\"1.0\"", brief(version)); });
  for (const char* key : {"truncation", "padding", "normalizer"}) require_off(file, whole, key);
  const Splitter splitter = splitter_of(member(file, "pre_tokenizer"), whole.at("pre_tokenizer"));
  check_processor(member(file, "post_processor"), whole.at("post_processor"));
  const json& decoder = member(file, "decoder");
  require(decoder.is_null() || is_type(decoder, "ByteLevel"),
          [&] { return whole.at("decoder").refused("ByteLevel", brief(decoder)); });

  const json& model = member(file, "model");
  const json& added = member(file, "added_tokens");
  require(added.is_null() || added.is_array(),
          [&] { return whole.at("added_tokens").refused("a list", brief(added)); });
  BpeReader reader(path, member(model, "vocab").size() + added.size());
  reader.definition().splitter = splitter;
  read_model(model, whole.at("model"), reader);
  read_added(added, whole.at("added_tokens"), reader);
  return reader.finish();
}

}  // namespace sluice
