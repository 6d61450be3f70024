// sluice eval: the loss of a checkpoint over sets of tokens.
#include <algorithm>

#include "command.h"
#include "inference/accuracy.h"
#include "inference/evaluate.h"
#include "train/config.h"

namespace sluice {
namespace {

struct Options {
  std::string checkpoint;
  std::vector<std::string> data;
  std::int64_t sequence = 0, tokens = 0;
  bool accuracy = false;
  ReadOptions read;
};

// Sequences that are read at once for their logits: few, since their keys and values are kept.
constexpr std::int64_t accuracy_rows = 4;

// A set of tokens and what it is called.
struct Named {
  std::string name, prefix;
};

// NAME=PREFIX; a prefix alone is its own name.
Named named(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || text.find('/') < equals) return {text, text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::vector<Named> sets_of(const Options& options) {
  std::vector<Named> sets;
  for (const std::string& text : options.data) {
    sets.push_back(named(text));
    const auto alike = [&](const Named& other) { return other.name == sets.back().name; };
    require(std::count_if(sets.begin(), sets.end(), alike) == 1, [&] {
      return usage_error("two sets have one name", "--data NAME=PREFIX with names that differ",
                         sets.back().name);
    });
  }
  return sets;
}

struct Measured {
  Evaluation loss;
  std::optional<Accuracy> accuracy;
};

nlohmann::json or_null(bool known, const nlohmann::json& value) {
  return known ? value : nlohmann::json();
}

// As the run itself validates: documents joined, unless its config says otherwise.
RowOptions rows_of(const ModelFolder& folder, const TokenFile& tokens, std::int64_t sequence) {
  RowOptions rows;
  rows.sequence = sequence;
  if (!folder.run.is_object() || !folder.run.contains("config") || !tokens.tokenizer()) return rows;
  const Config config = parse_config(folder.run["config"].get<std::string>(), "manifest.json");
  if (config.data.documents != "separate") return rows;
  rows.documents = Documents::separate;
  rows.end_of_text = tokens.tokenizer()->end_of_text;
  return rows;
}

// Loss and, when it is asked for, accuracy of one set.
class Measure {
 public:
  Measure(const Options& options, const ModelFolder& folder, Session& session)
      : options_(options),
        folder_(folder),
        session_(session),
        staging_(session.executor().programs().named("eval").batch, 1) {
    if (options.accuracy) generator_.emplace(session.executor(), session.model(), accuracy_rows);
  }

  Measured of(const std::string& prefix) {
    TokenFile tokens(prefix);
    const Tokenizer* tokenizer = session_.tokenizer();
    TokenizerPtr of_data;
    if (tokenizer != nullptr) {
      require_tokenizer(tokens, identity_of(*tokenizer),
                        fmt::format("the checkpoint in {}", folder_.path.string()));
    } else if (tokens.tokenizer()) {
      of_data = load_tokenizer(tokens.tokenizer_path());
      tokenizer = of_data.get();
    }
    tokens.limit_ids(static_cast<int>(session_.model().vocab));
    const RowOptions rows = rows_of(folder_, tokens, session_.sequence());
    Measured out;
    out.loss = evaluate(session_.executor(), tokens, tokenizer, rows, options_.tokens, staging_);
    if (generator_)
      out.accuracy = token_accuracy(*generator_, tokens, rows, options_.tokens, accuracy_rows);
    return out;
  }

 private:
  const Options& options_;
  const ModelFolder& folder_;
  Session& session_;
  Staging staging_;
  std::optional<Generator> generator_;
};

nlohmann::json to_json(const Measured& measured) {
  const Evaluation& e = measured.loss;
  nlohmann::json out = {
      {"loss", e.loss},
      {"perplexity", e.perplexity},
      {"tokens", e.tokens},
      {"bytes", or_null(e.bytes > 0, e.bytes)},
      {"bits_per_byte", or_null(e.bits_per_byte.has_value(), e.bits_per_byte.value_or(0))}};
  if (measured.accuracy) out["accuracy"] = measured.accuracy->share();
  return out;
}

std::string line_of(const Measured& measured) {
  const Evaluation& e = measured.loss;
  std::string out =
      fmt::format("loss {:.6f} | perplexity {:.4f} | {} tokens", e.loss, e.perplexity, e.tokens);
  if (e.bits_per_byte)
    out += fmt::format(" | {:.4f} bits per byte of {} bytes", *e.bits_per_byte, e.bytes);
  if (measured.accuracy)
    out += fmt::format(" | {:.2f}% of tokens guessed", 100 * measured.accuracy->share());
  return out;
}

int run(const Options& options, Context& context) {
  const std::vector<Named> sets = sets_of(options);
  const ModelFolder folder = find_checkpoint(options.checkpoint);
  for (const Named& set : sets) TokenFile(set.prefix);  // refused before anything is loaded
  SessionOptions how = session_options(options.read, context, folder);
  how.sequence = options.sequence;
  if (options.accuracy) how.rows = accuracy_rows;
  Session session = open_session(folder, how, context);
  Measure measure(options, folder, session);
  // One set as ever; several under their names.
  const bool plain = sets.size() == 1 && sets[0].name == sets[0].prefix;
  nlohmann::json results;
  std::size_t longest = 0;
  for (const Named& set : sets) longest = std::max(longest, set.name.size());
  for (const Named& set : sets) {
    const Measured measured = measure.of(set.prefix);
    if (plain)
      results = to_json(measured);
    else
      results["sets"][set.name] = to_json(measured);
    if (!context.json)
      write_out(plain ? line_of(measured) + "\n"
                      : fmt::format("{:<{}} {}\n", set.name + ":", longest + 1, line_of(measured)));
  }
  if (!context.json) return 0;
  const MemoryMap& memory = session.executor().programs().memory;
  results.update({{"sequence", session.sequence()},
                  {"device", memory.total()},
                  {"host", memory.host_bytes()},
                  {"disk", memory.disk_bytes()},
                  {"homes", session.placement().homes},
                  {"blobs", name_of(session.placement().blobs)},
                  {"checkpoint", folder.path.string()}});
  write_json(results);
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "eval", "Measure a checkpoint's loss over tokens", run, o);
  command->add_option("--checkpoint", o->checkpoint, "a run, a step or a Hugging Face folder")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--data", o->data,
                   "token shards, or raw little-endian u16 ids in a .bin; NAME=PREFIX, several "
                   "times, for sets that are told apart")
      ->required()
      ->allow_extra_args(false)
      ->type_name("PREFIX");
  command->add_option("--sequence", o->sequence, "tokens of a window (default: the context)")
      ->check(at_least(1))
      ->type_name("N");
  command->add_option("--tokens", o->tokens, "stop after so many (default: all)")
      ->check(at_least(1))
      ->type_name("N");
  command->add_flag("--accuracy", o->accuracy,
                    "how often the best guess is right, too: reads all of it once more");
  add_read_options(*command, o->read);
}

}  // namespace sluice
