// sluice prepare: text files to token shards.
#include "data/prepare.h"

#include "backend/cpu/host.h"
#include "command.h"

namespace sluice {
namespace {

struct Options {
  PrepareOptions prepare;
  std::string end_of_text = "after";
};

nlohmann::json to_json(const PreparedSet& set) {
  return {{"prefix", set.prefix},
          {"tokens", set.tokens},
          {"documents", set.documents},
          {"bytes", set.text_bytes}};
}

std::string line_of(const PreparedSet& set) {
  return fmt::format("{}: {} tokens, {} documents, {} bytes of text\n", set.prefix, set.tokens,
                     set.documents, set.text_bytes);
}

int run(const Options& options, Context& context) {
  PrepareOptions request = options.prepare;
  request.threads = usable_threads();
  if (request.assets.empty()) request.assets = context.assets;
  request.end_of_text = options.end_of_text == "none" ? EndOfText::none : EndOfText::after;
  const PrepareSummary summary = prepare(request);
  if (context.json) {
    write_json({{"tokenizer", summary.tokenizer.kind},
                {"tokenizer_hash", summary.tokenizer.hash},
                {"vocab", summary.tokenizer.vocab},
                {"end_of_text", summary.tokenizer.end_of_text},
                {"train", to_json(summary.train)},
                {"validation", summary.validation ? to_json(*summary.validation) : nullptr},
                {"seconds", summary.seconds}});
    return 0;
  }
  write_out(line_of(summary.train));
  if (summary.validation) write_out(line_of(*summary.validation));
  write_out(fmt::format("tokenizer {}, {} ids, in {:.1f} s\n", summary.tokenizer.kind,
                        summary.tokenizer.vocab, summary.seconds));
  return 0;
}

}  // namespace

void add_prepare(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "prepare", "Turn text files into token shards", run, o);
  command->add_option("input", o->prepare.inputs, "text files, one document each")
      ->required()
      ->type_name("FILE");
  command
      ->add_option(
          "--tokenizer", o->prepare.tokenizer,
          "bytes, chars, gpt2, train:VOCABULARY (a BPE of the training text), or a tokenizer's "
          "file or folder")
      ->required()
      ->type_name("KIND");
  command
      ->add_option("--pattern", o->prepare.pattern,
                   "how train: and a .tiktoken split text: gpt2, cl100k, llama3 or none")
      ->type_name("NAME");
  command
      ->add_option("--min-frequency", o->prepare.min_frequency,
                   "train: merges pairs that occur at least so often (2)")
      ->check(at_least(1))
      ->type_name("N");
  command->add_option("--out", o->prepare.out, "makes PREFIX.bin, .idx, .json, .tokenizer.json")
      ->required()
      ->type_name("PREFIX");
  command->add_option("--end-of-text", o->end_of_text, "after (each document) or none")
      ->check(one_of({"after", "none"}))
      ->type_name("WHERE");
  command
      ->add_option("--validation", o->prepare.validation,
                   "share of the input, from its end, that goes to PREFIX-val")
      ->type_name("SHARE");
  command->add_option("--assets", o->prepare.assets, "folder with gpt2/vocab.bpe")
      ->type_name("DIR");
}

}  // namespace sluice
