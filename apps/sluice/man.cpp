// sluice man: the manual's pages, from the parser and the table of options.
#include <algorithm>
#include <filesystem>

#include "command.h"
#include "core/file.h"
#include "verbs.h"

namespace sluice {
namespace {

struct Options {
  std::string page, out;
};

// Text in roff: nothing in it is a request.
std::string roff(std::string_view text) {
  std::string out;
  if (text.starts_with('.') || text.starts_with('\'')) out += "\\&";
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c == '\n')
      out += "\n.br\n";
    else
      out += c;
  }
  return out;
}

std::string bold(std::string_view text) { return fmt::format("\\fB{}\\fR", roff(text)); }
std::string slanted(std::string_view text) { return fmt::format("\\fI{}\\fR", roff(text)); }

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string head(const std::string& name, const std::string& help) {
  return fmt::format(".TH {} 1 \"\" Sluice \"Sluice\"\n.SH NAME\n{} \\- {}\n", upper(name),
                     roff(name), roff(help));
}

std::string entry(const VerbOption& option) {
  std::string out = fmt::format(".TP\n{}", bold("--" + option.name));
  if (option.in_table)
    out += fmt::format("={}", slanted(option.default_text));
  else if (!option.type.empty())
    out += fmt::format(" {}", slanted(option.type));
  out += "\n" + roff(option.help);
  if (option.in_table && !option.choices.empty())
    out += roff(fmt::format(": {}", fmt::join(option.choices, ", ")));
  return out + "\n";
}

constexpr const char* codes =
    ".SH EXIT STATUS\n"
    "0 done; 1 a fault of our own; 2 wrong usage; 3 a file that cannot be used; 4 too little "
    "memory; 5 numbers that are not finite; 6 a disk that fails or is full; 75 stopped by a signal "
    "and saved: run it again.\n";

std::string page_of(const Verb& verb) {
  const std::string name = "sluice-" + verb.name;
  std::string out = head(name, verb.help);
  out += fmt::format(".SH SYNOPSIS\n{} {}", bold("sluice"), bold(verb.name));
  for (const VerbOption& one : verb.positionals) out += " " + slanted(one.type);
  out += fmt::format(" [{}]\n", slanted("options"));
  if (!verb.positionals.empty()) out += ".SH ARGUMENTS\n";
  for (const VerbOption& one : verb.positionals)
    out += fmt::format(".TP\n{}\n{}\n", slanted(one.type), roff(one.help));
  out += ".SH OPTIONS\n";
  std::string section;
  for (const VerbOption& option : verb.options) {
    const std::string here = option.in_table ? option.name.substr(0, option.name.find('.')) : "";
    if (here != section)
      out += fmt::format(".SH \"OPTIONS OF [{}]\"\nThe value that is shown is the default.\n",
                         roff(here));
    section = here;
    out += entry(option);
  }
  return out + codes + ".SH SEE ALSO\n.BR sluice (1)\n";
}

std::string first_page(const std::vector<Verb>& verbs) {
  std::string out = head("sluice", "train GPT-style language models and use them");
  out += fmt::format(".SH SYNOPSIS\n{} {} [{}]\n.SH COMMANDS\n", bold("sluice"), slanted("command"),
                     slanted("options"));
  for (const Verb& verb : verbs)
    out += fmt::format(".TP\n{}\n{}: see {}(1)\n", bold(verb.name), roff(verb.help),
                       bold("sluice-" + verb.name));
  out += fmt::format(
      ".SH OPTIONS\n.TP\n{}\nwhat there is\n.TP\n{}\nthe version\n.TP\n{}\nerrors with their "
      "source line and what led to them\n.TP\n{}\none JSON object on stdout instead of text\n",
      bold("--help"), bold("--version"), bold("--debug"), bold("--json"));
  return out + codes;
}

int run(const Options& options, const std::vector<Verb>& verbs) {
  if (!options.out.empty()) {
    const std::filesystem::path folder = options.out;
    write_file_atomic((folder / "sluice.1").string(), first_page(verbs));
    for (const Verb& verb : verbs)
      write_file_atomic((folder / fmt::format("sluice-{}.1", verb.name)).string(), page_of(verb));
    return 0;
  }
  const auto found = std::find_if(verbs.begin(), verbs.end(),
                                  [&](const Verb& verb) { return verb.name == options.page; });
  require(options.page.empty() || found != verbs.end(), [&] {
    std::vector<std::string> names;
    for (const Verb& verb : verbs) names.push_back(verb.name);
    const std::string near = nearest(options.page, names);
    Error error = usage_error(fmt::format("there is no page of {}", options.page),
                              fmt::format("{}", fmt::join(names, ", ")), options.page);
    if (!near.empty()) error.report().tries.push_back("sluice man " + near);
    return error;
  });
  write_out(options.page.empty() ? first_page(verbs) : page_of(*found));
  return 0;
}

}  // namespace

void add_man(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("man", "The manual: sluice man train | man -l -");
  command->add_option("page", options->page, "a command (default: the page of sluice itself)")
      ->type_name("COMMAND");
  command->add_option("--out", options->out, "write all pages into this folder")->type_name("DIR");
  command->callback([&app, &context, options] {
    context.action = [&app, options] { return run(*options, verbs_of(app)); };
  });
}

}  // namespace sluice
