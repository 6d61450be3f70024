#include "verbs.h"

#include <algorithm>

#include "command.h"
#include "train/config.h"

namespace sluice {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

VerbOption option_of(CLI::Option& option) {
  VerbOption out;
  const std::vector<std::string>& names = option.get_lnames();
  out.help = option.get_description();
  const bool takes_value = option.get_items_expected_max() > 0;
  if (takes_value) out.type = option.get_type_name();
  out.name = names.empty() ? option.get_type_name() : names.front();
  // one_of() names its validator by its words.
  try {
    if (takes_value) out.choices = words_of(option.get_validator(0)->get_name());
  } catch (const CLI::OptionNotFound&) {  // it has none
  }
  return out;
}

void add_table(Verb& verb, const std::vector<std::string_view>& only) {
  Config defaults;
  const OptionTable table = table_of(defaults);
  for (const Option& option : table.options()) {
    if (!only.empty() && std::find(only.begin(), only.end(), option.key) == only.end()) continue;
    verb.options.push_back({option.key, option.help, "VALUE", option.choices, true, option.text()});
    if (std::holds_alternative<bool*>(option.target))
      verb.options.back().choices = {"true", "false"};
  }
}

}  // namespace

std::vector<Verb> verbs_of(const CLI::App& app) {
  std::vector<Verb> verbs;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    Verb verb{command->get_name(), command->get_description(), {}, {}};
    for (CLI::Option* option : const_cast<CLI::App*>(command)->get_options()) {
      if (option->get_group().empty()) continue;  // hidden
      VerbOption one = option_of(*option);
      (option->get_lnames().empty() ? verb.positionals : verb.options).push_back(std::move(one));
    }
    const auto is = [&](std::initializer_list<const char*> names) {
      return std::find(names.begin(), names.end(), verb.name) != names.end();
    };
    const auto of_use = plan_keys_in_use();
    if (is({"train", "plan", "bench"})) add_table(verb, {});
    if (is({"eval", "generate"})) add_table(verb, {of_use.begin(), of_use.end()});
    verbs.push_back(std::move(verb));
  }
  return verbs;
}

}  // namespace sluice
