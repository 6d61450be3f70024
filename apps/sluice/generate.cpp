// sluice generate: a checkpoint continues prompts.
#include "inference/generate.h"

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <iostream>

#include "command.h"
#include "core/file.h"
#include "inference/text_stream.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

struct Options {
  std::string checkpoint, prompt, prompt_ids, prompt_file, prompts;
  bool has_prompt = false, has_ids = false, interactive = false;
  std::int64_t samples = 1, at_once = 8;
  SamplingOptions sampling;
  std::vector<std::string> stops;
  ReadOptions read;
};

Ids parse_ids(const std::string& text, std::int64_t vocab) {
  Ids ids;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (;; ++at) {
    std::int32_t id = -1;
    const auto [next, error] = std::from_chars(at, end, id);
    require(error == std::errc() && (next == end || *next == ',') && id >= 0 && id < vocab, [&] {
      return usage_error("--prompt-ids holds no id of this model",
                         fmt::format("numbers from 0 to {}, say 1,2,3", vocab - 1),
                         std::string(at, std::find(at, end, ',')));
    });
    ids.push_back(id);
    at = next;
    if (at == end) return ids;
  }
}

// A prompt a line; what follows the last newline is one too, unless it is empty.
std::vector<std::string> lines_of(const std::string& file) {
  constexpr std::size_t most = std::size_t{1} << 30;
  const std::string text = read_file(file, most);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    if (lines.back().ends_with('\r')) lines.back().pop_back();
    at = end + 1;
  }
  require(!lines.empty(), [&] {
    return Error(Exit::input, {"the file has no prompt", file, "a prompt a line", "0 bytes", {}});
  });
  return lines;
}

Ids encoded(const Tokenizer& tokenizer, const std::string& text) {
  Ids ids;
  tokenizer.encode(text, ids);
  // An empty prompt is the beginning of a document, which follows the end of another.
  if (ids.empty()) ids.push_back(tokenizer.end_of_text());
  return ids;
}

std::vector<std::string> texts_of(const Options& options) {
  constexpr std::size_t most = std::size_t{1} << 30;
  if (!options.prompts.empty()) return lines_of(options.prompts);
  if (!options.prompt_file.empty()) return {read_file(options.prompt_file, most)};
  return {options.prompt};
}

std::vector<Ids> prompts_of(const Options& options, const std::vector<std::string>& texts,
                            const Session& session, const std::string& folder) {
  if (options.has_ids) return {parse_ids(options.prompt_ids, session.model().vocab)};
  require(session.tokenizer() != nullptr, [&] {
    return Error(Exit::input, {"a prompt in words needs a tokenizer",
                               folder,
                               "a tokenizer.json that Sluice can use",
                               session.without_tokenizer(),
                               {"--prompt-ids 1,2,3"}});
  });
  std::vector<Ids> out;
  for (const std::string& text : texts) out.push_back(encoded(*session.tokenizer(), text));
  return out;
}

void check(const Options& options, const Context& context) {
  const int given = options.has_prompt + options.has_ids + !options.prompt_file.empty() +
                    !options.prompts.empty();
  require(given == 1 || (options.interactive && given == 0), [&] {
    return usage_error(
        "generate takes one kind of prompt",
        "--prompt TEXT, --prompt-file FILE, --prompts FILE, --prompt-ids 1,2,3 or --interactive",
        given == 0 ? "none" : "several");
  });
  if (!options.interactive) return;
  const std::pair<const char*, bool> others[] = {{"--json", context.json},
                                                 {"--samples", options.samples != 1},
                                                 {"--prompt-ids", options.has_ids},
                                                 {"--prompt-file", !options.prompt_file.empty()},
                                                 {"--prompts", !options.prompts.empty()}};
  for (const auto& [name, is_there] : others)
    require(!is_there, [&, what = name] {
      return usage_error(fmt::format("--interactive does not go with {}", what),
                         "at most a --prompt to begin with", what);
    });
}

// One text of those that are made together.
struct Text {
  std::size_t prompt = 0;
  std::int64_t sample = 0;
  Generated made;
  std::string shown;
};

// Shows texts in their order while they grow side by side: the first that is not done as it comes,
// what follows it when its turn has come.
class Show {
 public:
  Show(const Options& options, std::size_t prompts, bool silent)
      : options_(options), prompts_(prompts), silent_(silent) {}

  void begin(std::vector<Text>& texts) {
    texts_ = &texts, front_ = 0, done_.assign(texts.size(), false);
    head();
  }
  void add(std::size_t index, const std::string& piece) {
    (*texts_)[index].shown += piece;
    if (index == front_ && !silent_) write_out(piece);
  }
  void end(std::size_t index) {
    done_[index] = true;
    while (front_ < done_.size() && done_[front_]) {
      if (!silent_) write_out("\n");
      if (++front_ == done_.size()) return;
      head();
      if (!silent_) write_out((*texts_)[front_].shown);
    }
  }

 private:
  void head() {
    const Text& text = (*texts_)[front_];
    if (silent_ || prompts_ * static_cast<std::size_t>(options_.samples) == 1) return;
    std::string line =
        prompts_ > 1 ? fmt::format("prompt {} of {}", text.prompt + 1, prompts_) : "";
    if (options_.samples > 1)
      line += fmt::format("{}sample {} of {}", line.empty() ? "" : ", ", text.sample + 1,
                          options_.samples);
    write_out(fmt::format("--- {} ---\n", line));
  }

  const Options& options_;
  std::size_t prompts_;
  bool silent_;
  std::vector<Text>* texts_ = nullptr;
  std::vector<bool> done_;
  std::size_t front_ = 0;
};

// Continues texts[i] from prompts[texts[i].prompt], all at once.
void generate(Generator& generator, const Tokenizer* tokenizer, const Options& options,
              const SamplingOptions& sampling, const std::vector<Ids>& prompts,
              std::vector<Text>& texts, Show& show) {
  std::vector<Ids> begins;
  for (const Text& text : texts) begins.push_back(prompts[text.prompt]);
  std::vector<TextStream> streams(texts.size(), TextStream(options.stops));
  std::vector<bool> first(texts.size(), true);
  show.begin(texts);
  const auto on_token = [&](std::size_t row, std::int32_t id) {
    if (tokenizer != nullptr)
      show.add(row, streams[row].push(tokenizer->bytes_of(id)));
    else
      show.add(row, fmt::format("{}{}", first[row] ? "" : ",", id));
    first[row] = false;
    return !streams[row].stopped();
  };
  std::vector<Generated> made = generator.generate(begins, sampling, on_token);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    texts[i].made = std::move(made[i]);
    show.add(i, streams[i].finish());
    show.end(i);
  }
}

nlohmann::json to_json(const Text& text, const Tokenizer* tokenizer, const Ids& prompt) {
  return {{"ids", text.made.ids},
          {"text", tokenizer == nullptr ? nlohmann::json() : nlohmann::json(text.shown)},
          {"finish_reason", text.made.finish == Finish::stop ? "stop" : "length"},
          {"prompt_tokens", prompt.size()}};
}

// All texts, a group at a time.
int run_all(const Options& options, Session& session, SamplingOptions sampling,
            const std::vector<Ids>& prompts, std::int64_t rows, const Context& context) {
  Generator generator(session.executor(), session.model(), rows);
  Show show(options, prompts.size(), context.json);
  const auto samples = static_cast<std::size_t>(options.samples);
  const std::size_t all = prompts.size() * samples;
  nlohmann::json list = nlohmann::json::array();
  std::int64_t tokens = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t at = 0; at < all; at += static_cast<std::size_t>(rows)) {
    std::vector<Text> texts(std::min(static_cast<std::size_t>(rows), all - at));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      texts[i].prompt = (at + i) / samples;
      texts[i].sample = static_cast<std::int64_t>((at + i) % samples);
    }
    sampling.first_row = at;
    generate(generator, session.tokenizer(), options, sampling, prompts, texts, show);
    for (const Text& text : texts) {
      tokens += std::ssize(text.made.ids);
      if (!context.json) continue;
      nlohmann::json one = to_json(text, session.tokenizer(), prompts[text.prompt]);
      if (all > 1) one["prompt"] = text.prompt, one["sample"] = text.sample;
      list.push_back(std::move(one));
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double speed = static_cast<double>(tokens) / seconds;
  if (!context.json) {
    note(fmt::format("{} tokens, {:.1f} per second", tokens, speed));
    return 0;
  }
  const MemoryMap& memory = session.executor().programs().memory;
  nlohmann::json out = all == 1 ? list[0] : nlohmann::json{{"samples", list}};
  out.update({{"tokens_per_second", speed},
              {"device", memory.total()},
              {"host", memory.host_bytes()},
              {"disk", memory.disk_bytes()},
              {"homes", session.placement().homes},
              {"blobs", name_of(session.placement().blobs)}});
  write_json(out);
  return 0;
}

// Lines of stdin, each after what was said so far. What is on the screen is what the model sees.
int run_interactive(const Options& options, Session& session, SamplingOptions sampling,
                    const Context& context) {
  const Tokenizer& tokenizer = *session.tokenizer();
  Generator generator(session.executor(), session.model(), 1);
  Show show(options, 1, context.json);
  const bool asks = ::isatty(STDIN_FILENO) == 1;
  if (asks)
    note("a line goes after the text so far, an empty one lets it go on; /new forgets, /quit ends");
  std::string text = options.prompt;
  const auto ask = [&] {
    if (asks) fmt::print(stderr, "> ");
    return true;
  };
  for (std::string line; ask() && std::getline(std::cin, line);) {
    if (line == "/quit") break;
    if (line == "/new") {
      text.clear();
      continue;
    }
    const std::string before = text;
    text += line;
    std::vector<Text> texts(1);
    try {
      generate(generator, &tokenizer, options, sampling, {encoded(tokenizer, text)}, texts, show);
    } catch (const Error& e) {  // of a character that the tokenizer has not
      if (e.code() != Exit::input) throw;
      fmt::print(stderr, "{}", e.text());
      text = before;
      continue;
    }
    text += texts[0].shown;
    if (!text.ends_with('\n')) text += '\n';
    ++sampling.first_row;  // another turn has other draws
  }
  return 0;
}

int run(const Options& options, Context& context) {
  check(options, context);
  const std::vector<std::string> texts = texts_of(options);
  const ModelFolder folder = find_checkpoint(options.checkpoint);
  SessionOptions how = session_options(options.read, context, folder);
  const std::int64_t all = std::ssize(texts) * options.samples;
  how.rows = options.interactive ? 1 : std::min(all, options.at_once);
  Session session = open_session(folder, how, context);
  const std::vector<Ids> prompts = prompts_of(options, texts, session, folder.path.string());
  const Tokenizer* tokenizer = session.tokenizer();
  require(tokenizer != nullptr || options.stops.empty(),
          [&] { return usage_error("--stop needs a tokenizer", "", session.without_tokenizer()); });
  SamplingOptions sampling = options.sampling;
  sampling.stop_id = tokenizer == nullptr ? -1 : tokenizer->end_of_text();
  if (options.interactive) return run_interactive(options, session, sampling, context);
  return run_all(options, session, sampling, prompts, how.rows, context);
}

CLI::Validator number_between(double least, double most) {
  const auto check = [=](const std::string& text) {
    double value = 0;
    const bool number = CLI::detail::lexical_cast(text, value);
    return number && value >= least && value <= most
               ? std::string()
               : fmt::format("{} is not a number from {} to {}", text, least, most);
  };
  return CLI::Validator(check, "");
}

void add_sampling(CLI::App& command, SamplingOptions& sampling) {
  command.add_option("--max-tokens", sampling.max_tokens, "at most so many new tokens (64)")
      ->check(at_least(0))
      ->type_name("N");
  command.add_option("--seed", sampling.seed, "of the drawing (0)")->type_name("S");
  command
      .add_option("--temperature", sampling.temperature, "1: as the model says, 0: the best (1)")
      ->check(at_least(0))
      ->type_name("T");
  command.add_option("--top-k", sampling.top_k, "draw among the K best only (0: all)")
      ->check(at_least(0))
      ->type_name("K");
  command.add_option("--top-p", sampling.top_p, "draw among the best that hold the share P (1)")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P");
  RepeatOptions& repeats = sampling.repeats;
  command
      .add_option("--repetition-penalty", repeats.repetition,
                  "above 1: less of what prompt and text have already (1: off)")
      ->check(number_between(0.01, 100))
      ->type_name("R");
  command
      .add_option("--presence-penalty", repeats.presence,
                  "off the logit of what was drawn before (0)")
      ->check(number_between(-100, 100))
      ->type_name("R");
  command
      .add_option("--frequency-penalty", repeats.frequency,
                  "off that logit for each time it was drawn (0)")
      ->check(number_between(-100, 100))
      ->type_name("R");
}

void add_prompts(CLI::App& command, Options& options) {
  const auto keep = [](std::string& value, bool& given) {
    return [&value, &given](const std::string& text) { value = text, given = true; };
  };
  command
      .add_option_function<std::string>("--prompt", keep(options.prompt, options.has_prompt),
                                        "the text to continue; empty: begin a document")
      ->type_name("TEXT");
  command.add_option("--prompt-file", options.prompt_file, "the text to continue is a file's")
      ->type_name("FILE");
  command.add_option("--prompts", options.prompts, "a prompt in every line of a file")
      ->type_name("FILE");
  command
      .add_option_function<std::string>("--prompt-ids", keep(options.prompt_ids, options.has_ids),
                                        "a prompt as token ids: 1,2,3")
      ->type_name("IDS");
  command.add_flag("--interactive", options.interactive,
                   "prompts from the terminal, each after the text so far");
  command.add_option("--samples", options.samples, "so many texts from each prompt (1)")
      ->check(between(1, 1'000'000))
      ->type_name("N");
  command.add_option("--at-once", options.at_once, "of them side by side, at most (8)")
      ->check(between(1, 1024))
      ->type_name("N");
}

}  // namespace

void add_generate(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "generate", "Continue a text with a checkpoint", run, o);
  Options& options = *o;
  command->add_option("--checkpoint", o->checkpoint, "a run, a step or a Hugging Face folder")
      ->required()
      ->type_name("DIR");
  add_prompts(*command, options);
  add_sampling(*command, options.sampling);
  command->add_option("--stop", o->stops, "end before this text; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  add_read_options(*command, o->read);
}

}  // namespace sluice
