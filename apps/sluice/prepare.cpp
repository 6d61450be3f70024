// sluice prepare: text to token shards.
#include "data/prepare.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <limits>

#include "backend/cpu/host.h"
#include "command.h"
#include "core/options.h"
#include "data/recipe.h"
#include "train/options_toml.h"
#include "train/progress.h"

namespace sluice {
namespace {

struct Options {
  PrepareOptions prepare;
  std::string end_of_text = "after", on_bad_line = "fail", clean = "none", share_of = "auto";
  std::string shuffle, recipe;
  const CLI::App* command = nullptr;  // tells what was said on the command line
};

const std::vector<std::string> cleanings = {"none", "openwebtext"};
const std::vector<std::string> shares = {"auto", "bytes", "characters", "documents"};
const std::vector<std::string> ends_of_text = {"after", "none"};

std::string recipe_text(const std::string& name) {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name) return std::string(recipe.text);
    names.emplace_back(recipe.name);
  }
  if (name.ends_with(".toml")) return read_file(name, std::size_t{1} << 20);
  const std::string near = nearest(name, names);
  throw Error(Exit::usage,
              {.what = "there is no such recipe",
               .where = "--recipe",
               .expected = fmt::format("one of {}, or a .toml file", fmt::join(names, ", ")),
               .found = name,
               .tries = {"--recipe " + (near.empty() ? names.front() : near)}});
}

// What the recipe says and the command line does not.
void apply_recipe(Options& o) {
  Options from;
  std::int64_t seed = 0;
  struct Row {
    std::string key;
    Option::Target target;
    std::function<void()> take;
    std::vector<std::string> choices = {};
  };
  const std::vector<Row> rows = {
      {"tokenizer", &from.prepare.tokenizer, [&] { o.prepare.tokenizer = from.prepare.tokenizer; }},
      {"pattern", &from.prepare.pattern, [&] { o.prepare.pattern = from.prepare.pattern; }},
      {"field", &from.prepare.field, [&] { o.prepare.field = from.prepare.field; }},
      {"validation", &from.prepare.validation,
       [&] { o.prepare.validation = from.prepare.validation; }},
      {"shuffle", &seed, [&] { o.shuffle = fmt::format("{}", seed); }},
      {"clean", &from.clean, [&] { o.clean = from.clean; }, cleanings},
      {"share_of", &from.share_of, [&] { o.share_of = from.share_of; }, shares},
      {"end_of_text", &from.end_of_text, [&] { o.end_of_text = from.end_of_text; }, ends_of_text},
  };
  OptionTable table;
  for (const Row& row : rows)
    table.add("prepare." + row.key, row.target, Effect::numerics, "").choices = row.choices;
  read_options(recipe_text(o.recipe), o.recipe, table, "an option of sluice prepare");
  for (const Row& row : rows) {
    std::string flag = "--" + row.key;
    std::replace(flag.begin(), flag.end(), '_', '-');
    if (table.was_set("prepare." + row.key) && o.command->count(flag) == 0) row.take();
  }
}

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

// One line on a terminal, redrawn; nothing is left of it.
class Bar {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Bar(bool draws) : draws_(draws) {}
  Bar(const Bar&) = delete;
  Bar& operator=(const Bar&) = delete;
  ~Bar() { write(""); }

  void show(const PrepareProgress& at) {
    const Clock::time_point now = Clock::now();
    if (!draws_ || now - drawn_at_ < std::chrono::milliseconds(100)) return;
    if (at.doing != doing_) doing_ = at.doing, began_ = now, from_ = at.read;
    drawn_at_ = now;
    const double seconds = std::chrono::duration<double>(now - began_).count();
    const double rate = seconds > 0 ? static_cast<double>(at.read - from_) / seconds : 0;
    const double left = rate > 0 ? static_cast<double>(at.total - at.read) / rate
                                 : std::numeric_limits<double>::infinity();
    std::array<char, 32> eta;
    const double share =
        at.total > 0 ? static_cast<double>(at.read) / static_cast<double>(at.total) : 1;
    std::string line =
        fmt::format("{} {:.1f}% | {:.1f} of {:.1f} MB | {:.1f} MB/s", at.doing, 100 * share,
                    megabytes(at.read), megabytes(at.total), rate / 1e6);
    if (at.tokens > 0) line += fmt::format(" | {:.1f}M tokens", megabytes(at.tokens));
    line += fmt::format(" | eta {}", clock_text(eta, left));
    write(line);
  }

 private:
  static double megabytes(std::int64_t count) { return static_cast<double>(count) / 1e6; }
  void write(const std::string& line) {
    if (line.empty() && !drawn_) return;
    const std::string text = "\r\x1b[K" + line;
    (void)!::write(STDERR_FILENO, text.data(), text.size());
    drawn_ = !line.empty();
  }

  bool draws_, drawn_ = false;
  std::string doing_;
  Clock::time_point began_, drawn_at_;
  std::int64_t from_ = 0;
};

PrepareOptions request_of(Options options, Context& context) {
  if (!options.recipe.empty()) apply_recipe(options);
  PrepareOptions out = options.prepare;
  if (out.threads == 0) out.threads = usable_threads();
  if (out.assets.empty()) out.assets = context.assets;
  out.end_of_text = options.end_of_text == "none" ? EndOfText::none : EndOfText::after;
  out.on_bad_line = options.on_bad_line == "skip" ? OnBadLine::skip : OnBadLine::fail;
  out.clean = options.clean == "openwebtext" ? Clean::openwebtext : Clean::none;
  out.share_of = options.share_of == "bytes"        ? ShareOf::bytes
                 : options.share_of == "characters" ? ShareOf::characters
                 : options.share_of == "documents"  ? ShareOf::documents
                                                    : ShareOf::automatic;
  if (!options.shuffle.empty()) out.shuffle = std::stoull(options.shuffle);
  out.faults = &context.faults;
  return out;
}

void tell(const PrepareSummary& summary) {
  write_out(line_of(summary.train));
  if (summary.validation) write_out(line_of(*summary.validation));
  write_out(fmt::format("tokenizer {}, {} ids, in {:.1f} s\n", summary.tokenizer.kind,
                        summary.tokenizer.vocab, summary.seconds));
}

int run(const Options& options, Context& context) {
  PrepareOptions request = request_of(options, context);
  PrepareSummary summary;
  {
    Bar bar(context.draws);
    request.progress = [&](const PrepareProgress& at) { bar.show(at); };
    summary = prepare(request);
  }
  if (summary.begun_anew)
    note("what an earlier call had begun was of other inputs or options: all was done anew");
  if (summary.begun_at > 0)
    note(fmt::format("went on where an earlier call stopped, after {} bytes of the input",
                     summary.begun_at));
  if (summary.bad.count > 0)
    note(fmt::format("left out {} line{} without a document; the first: {}", summary.bad.count,
                     summary.bad.count == 1 ? "" : "s", summary.bad.first));
  if (!context.json) {
    tell(summary);
    return 0;
  }
  write_json({{"tokenizer", summary.tokenizer.kind},
              {"tokenizer_hash", summary.tokenizer.hash},
              {"vocab", summary.tokenizer.vocab},
              {"end_of_text", summary.tokenizer.end_of_text},
              {"train", to_json(summary.train)},
              {"validation", summary.validation ? to_json(*summary.validation) : nullptr},
              {"bad_lines", summary.bad.count},
              {"begun_at", summary.begun_at},
              {"seconds", summary.seconds}});
  return 0;
}

void add_tokenizer_options(CLI::App& command, Options& o) {
  command
      .add_option(
          "--tokenizer", o.prepare.tokenizer,
          "bytes, chars, gpt2, train:VOCABULARY (a BPE of the training text), or a tokenizer's "
          "file or folder")
      ->type_name("KIND");
  command
      .add_option("--pattern", o.prepare.pattern,
                  "how train: and a .tiktoken split text: gpt2, cl100k, llama3 or none")
      ->type_name("NAME");
  command
      .add_option("--min-frequency", o.prepare.min_frequency,
                  "train: merges pairs that occur at least so often (2)")
      ->check(at_least(1))
      ->type_name("N");
  command.add_option("--assets", o.prepare.assets, "folder with gpt2/vocab.bpe")->type_name("DIR");
}

void add_text_options(CLI::App& command, Options& o) {
  command.add_option("--field", o.prepare.field, "of a JSON line: where its text is (text)")
      ->type_name("NAME");
  command
      .add_option("--on-bad-line", o.on_bad_line,
                  "fail (default), or skip: leave out lines without a document, and count them")
      ->check(one_of({"fail", "skip"}))
      ->type_name("WHAT");
  command
      .add_option("--clean", o.clean,
                  "openwebtext: no more than two line feeds in a row, no white space at the ends "
                  "of a document; none (default)")
      ->check(one_of(cleanings))
      ->type_name("HOW");
  command.add_option("--end-of-text", o.end_of_text, "after (each document) or none")
      ->check(one_of(ends_of_text))
      ->type_name("WHERE");
}

void add_split_options(CLI::App& command, Options& o) {
  command
      .add_option("--validation", o.prepare.validation,
                  "share of the input, from its end, that goes to PREFIX-val")
      ->type_name("SHARE");
  command
      .add_option("--share-of", o.share_of,
                  "bytes (default for plain text), characters or documents (default for all else)")
      ->check(one_of(shares))
      ->type_name("WHAT");
  command
      .add_option(
          "--shuffle", o.shuffle,
          "documents in the order of numpy's permutation of this seed, those for validation "
          "first: as Hugging Face's datasets split and shuffle")
      ->check([](const std::string& text) {
        std::uint64_t seed = 0;
        return CLI::detail::lexical_cast(text, seed) && text.find('-') == std::string::npos
                   ? std::string()
                   : text + " is not a whole number of at least 0";
      })
      ->type_name("SEED");
}

}  // namespace

void add_prepare(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command = add_command(app, context, "prepare", "Turn text into token shards", run, o);
  o->command = command;
  o->prepare.threads = 0;
  command
      ->add_option("input", o->prepare.inputs,
                   "text (.txt, a document each), JSON lines (.jsonl, .json), archives of texts "
                   "(.tar), each also as .gz, .zst or .xz; folders of these")
      ->required()
      ->type_name("PATH");
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) names.emplace_back(recipe.name);
  command
      ->add_option(
          "--recipe", o->recipe,
          fmt::format("the options for a known data set: {}, or a .toml file like those of "
                      "configs/data; others given here stand above it",
                      fmt::join(names, ", ")))
      ->type_name("NAME");
  add_tokenizer_options(*command, *o);
  command->add_option("--out", o->prepare.out, "makes PREFIX.bin, .idx, .json, .tokenizer.json")
      ->required()
      ->type_name("PREFIX");
  add_text_options(*command, *o);
  add_split_options(*command, *o);
  command->add_option("--threads", o->prepare.threads, "CPU threads (default: those there are)")
      ->check(at_least(1))
      ->type_name("N");
  command->footer(
      "\nWhat was done is kept in PREFIX.partial until the shards are whole: the same command goes "
      "on after a kill.\n");
}

}  // namespace sluice
