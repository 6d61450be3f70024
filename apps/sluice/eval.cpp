// sluice eval: the loss of a checkpoint over tokens.
#include "command.h"
#include "inference/evaluate.h"
#include "train/config.h"

namespace sluice {
namespace {

struct Options {
  std::string checkpoint, data;
  std::int64_t sequence = 0, tokens = 0;
  ReadOptions read;
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

int run(const Options& options, Context& context) {
  const ModelFolder folder = find_checkpoint(options.checkpoint);
  TokenFile tokens(options.data);
  SessionOptions how = session_options(options.read, context, folder);
  how.sequence = options.sequence;
  Session session = open_session(folder, how, context);
  const Tokenizer* tokenizer = session.tokenizer();
  TokenizerPtr of_data;
  if (tokenizer != nullptr) {
    require_tokenizer(tokens, identity_of(*tokenizer),
                      fmt::format("the checkpoint in {}", folder.path.string()));
  } else if (tokens.tokenizer()) {
    of_data = load_tokenizer(tokens.tokenizer_path());
    tokenizer = of_data.get();
  }
  tokens.limit_ids(static_cast<int>(session.model().vocab));
  Staging staging(session.executor().programs().named("eval").batch, 1);
  const Evaluation result =
      evaluate(session.executor(), tokens, tokenizer, rows_of(folder, tokens, session.sequence()),
               options.tokens, staging);
  if (context.json) {
    write_json({{"loss", result.loss},
                {"perplexity", result.perplexity},
                {"tokens", result.tokens},
                {"bytes", or_null(result.bytes > 0, result.bytes)},
                {"bits_per_byte",
                 or_null(result.bits_per_byte.has_value(), result.bits_per_byte.value_or(0))},
                {"sequence", session.sequence()},
                {"device", session.executor().programs().memory.total()},
                {"host", session.executor().programs().memory.host_bytes()},
                {"disk", session.executor().programs().memory.disk_bytes()},
                {"homes", session.placement().homes},
                {"blobs", name_of(session.placement().blobs)},
                {"checkpoint", folder.path.string()}});
    return 0;
  }
  write_out(fmt::format("loss {:.6f} | perplexity {:.4f} | {} tokens", result.loss,
                        result.perplexity, result.tokens));
  if (result.bits_per_byte)
    write_out(
        fmt::format(" | {:.4f} bits per byte of {} bytes", *result.bits_per_byte, result.bytes));
  write_out("\n");
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
  command->add_option("--data", o->data, "token shards, or raw little-endian u16 ids in a .bin")
      ->required()
      ->type_name("PREFIX");
  command->add_option("--sequence", o->sequence, "tokens of a window (default: the context)")
      ->check(at_least(1))
      ->type_name("N");
  command->add_option("--tokens", o->tokens, "stop after so many (default: all)")
      ->check(at_least(1))
      ->type_name("N");
  add_read_options(*command, o->read);
}

}  // namespace sluice
