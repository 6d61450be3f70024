// sluice completion: what bash, zsh and fish need to complete a command line.
#include <algorithm>

#include "command.h"
#include "train/config.h"
#include "verbs.h"

namespace sluice {
namespace {

struct Options {
  std::string shell;
};

bool is_file(const VerbOption& option) {
  for (const char* type : {"FILE", "DIR", "PREFIX", "PATH", "RUN", "CONFIG", "FOLDER"})
    if (option.type == type) return true;
  return false;
}

bool takes_config(const Verb& verb) {
  return std::any_of(verb.positionals.begin(), verb.positionals.end(),
                     [](const VerbOption& one) { return one.type == "CONFIG"; });
}

// Inside of single quotes.
std::string in_quotes(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out;
}

std::string configs() { return fmt::format("{}", fmt::join(builtin_names(), " ")); }

std::string bash_options(const Verb& verb) {
  std::string out;
  for (const VerbOption& option : verb.options)
    out += fmt::format("{}--{}{}", out.empty() ? "" : " ", option.name, option.in_table ? "=" : "");
  return out;
}

// bash cuts words at '=' too: --key=value is three of them.
constexpr const char* bash_script =
    R"sh(# Completion of sluice for bash: eval "$(sluice completion bash)"
_sluice() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local command= options= words=- files= i
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} != -* ]]; then
      command=${COMP_WORDS[i]}
      break
    fi
  done
  COMPREPLY=()
  case $command in
    '') COMPREPLY=($(compgen -W '@commands@ --help --version' -- "$word")); return ;;
@options@  esac
  case "$command $before" in
@values@  esac
  if [[ $words != - ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    return
  fi
  if [[ -z $files && $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options --help" -- "$word"))
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
      compopt -o nospace 2>/dev/null
    fi
    return
  fi
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen -f -- "$word"))
  case $command in
    @with_config@) COMPREPLY+=($(compgen -W '@configs@' -- "$word")) ;;
  esac
}
complete -F _sluice sluice
)sh";

constexpr const char* zsh_script = R"sh(#compdef sluice
# Completion of sluice for zsh: source <(sluice completion zsh), after compinit.
_sluice() {
  local -a commands
  commands=(
@commands@  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
@cases@  esac
}
compdef _sluice sluice
)sh";

// The script with each @name@ replaced.
std::string filled(std::string script,
                   std::initializer_list<std::pair<const char*, std::string>> parts) {
  for (const auto& [name, text] : parts) {
    const std::string mark = fmt::format("@{}@", name);
    script.replace(script.find(mark), mark.size(), text);
  }
  return script;
}

std::string bash(const std::vector<Verb>& verbs) {
  std::string names, options, values, with_config;
  for (const Verb& verb : verbs) {
    names += (names.empty() ? "" : " ") + verb.name;
    options += fmt::format("    {}) options='{}' ;;\n", verb.name, bash_options(verb));
    if (takes_config(verb)) with_config += (with_config.empty() ? "" : "|") + verb.name;
    for (const VerbOption& option : verb.options) {
      if (!option.choices.empty())
        values += fmt::format("    '{} --{}') words='{}' ;;\n", verb.name, option.name,
                              fmt::join(option.choices, " "));
      else if (is_file(option))
        values += fmt::format("    '{} --{}') files=1 ;;\n", verb.name, option.name);
      else if (!option.type.empty())
        values += fmt::format("    '{} --{}') words= ;;\n", verb.name, option.name);
    }
  }
  return filled(bash_script, {{"commands", names},
                              {"options", options},
                              {"values", values},
                              {"with_config", with_config},
                              {"configs", configs()}});
}

std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : in_quotes(text)) {
    if (c == '[' || c == ']' || c == ':') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh(const std::vector<Verb>& verbs) {
  std::string names, cases;
  for (const Verb& verb : verbs) {
    names += fmt::format("    '{}:{}'\n", verb.name, zsh_text(verb.help));
    cases += fmt::format("    {})\n      _arguments -S \\\n", verb.name);
    for (const VerbOption& option : verb.options) {
      const std::string values = !option.choices.empty()
                                     ? fmt::format("({})", fmt::join(option.choices, " "))
                                 : is_file(option) ? "_files"
                                                   : "";
      const std::string what =
          option.type.empty() ? "" : fmt::format(":{}:{}", zsh_text(option.type), values);
      cases += fmt::format("        '--{}{}[{}]{}' \\\n", option.name, option.in_table ? "=" : "",
                           zsh_text(option.help), what);
    }
    cases += takes_config(verb)
                 ? fmt::format("        '*:CONFIG:{{compadd {}; _files}}'\n      ;;\n", configs())
                 : "        '*:file:_files'\n      ;;\n";
  }
  return filled(zsh_script, {{"commands", names}, {"cases", cases}});
}

std::string fish(const std::vector<Verb>& verbs) {
  std::string out =
      "# Completion of sluice for fish: sluice completion fish | source\n"
      "complete -c sluice -f\n";
  for (const Verb& verb : verbs) {
    out += fmt::format("complete -c sluice -n __fish_use_subcommand -a {} -d '{}'\n", verb.name,
                       in_quotes(verb.help));
    const std::string head =
        fmt::format("complete -c sluice -n '__fish_seen_subcommand_from {}'", verb.name);
    if (takes_config(verb)) out += fmt::format("{} -a '{}'\n", head, configs());
    if (!verb.positionals.empty()) out += fmt::format("{} -F\n", head);
    for (const VerbOption& option : verb.options) {
      const std::string values = !option.choices.empty()
                                     ? fmt::format(" -x -a '{}'", fmt::join(option.choices, " "))
                                 : is_file(option)     ? " -r -F"
                                 : option.type.empty() ? ""
                                                       : " -x";
      out +=
          fmt::format("{} -l '{}' -d '{}'{}\n", head, option.name, in_quotes(option.help), values);
    }
  }
  return out;
}

}  // namespace

void add_completion(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("completion", "What a shell needs to complete commands");
  command
      ->add_option("shell", options->shell, "bash, zsh or fish: how to load it is its first line")
      ->required()
      ->check(one_of({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
  command->callback([&app, &context, options] {
    context.action = [&app, options] {
      const std::vector<Verb> verbs = verbs_of(app);
      write_out(options->shell == "bash"  ? bash(verbs)
                : options->shell == "zsh" ? zsh(verbs)
                                          : fish(verbs));
      return 0;
    };
  });
}

}  // namespace sluice
