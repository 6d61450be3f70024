#include "train/config.h"

#include <gtest/gtest.h>

#include <random>

#include "core/file.h"
#include "core/test_folder.h"
#include "train/test_error.h"

namespace sluice {
namespace {

std::string parse_error(std::string_view toml) {
  return error_of([&] { parse_config(toml, "mine.toml"); });
}

std::string check_error(std::string_view toml) {
  return error_of([&] { check(parse_config(toml, "mine.toml")); });
}

std::string override_error(std::vector<std::string> overrides) {
  Config config;
  return error_of([&] { apply_overrides(config, overrides); });
}

constexpr std::string_view example = R"(
model = { family = "gpt2", layers = 12, width = 768, heads = 12, context = 1024, vocab = 50257, gelu = "tanh", tied = true, dropout = 0.0 }
data  = { train = "owt/train", validation = "owt/val" }   # prefixes written by `sluice prepare`
batch = { tokens = 524_288, sequence = 1024 }             # of the whole step; micro-batch and accumulation are derived
optim = { lr = 6e-4, lr_end = 6e-5, lr_schedule = "cosine", warmup_tokens = 375_000_000, weight_decay = 0.1, clip = 1.0 }
run   = { tokens = 10_000_000_000, validate_every = 250, save_every = 500, sample_every = 500, seed = 0 }
)";

TEST(Config, the_documented_example_parses_as_it_is) {
  const Config config = parse_config(example, "mine.toml");
  EXPECT_EQ(config.model.width, 768);
  EXPECT_EQ(config.data.validation, "owt/val");
  EXPECT_EQ(config.batch.tokens, 524'288);
  EXPECT_EQ(config.optim.lr, 6e-4);
  EXPECT_EQ(config.optim.warmup_tokens, 375'000'000);
  EXPECT_EQ(config.run.tokens, 10'000'000'000);
  EXPECT_EQ(config.run.sample_every, 500);
  EXPECT_EQ(config.place("optim.clip"), "mine.toml:5 optim.clip");
  EXPECT_EQ(config.place("optim.eps"), "optim.eps");
  check_trainable(config);
  EXPECT_EQ(length_of(config).steps, 19073);
  EXPECT_EQ(length_of(config).tokens_of(1), 524'288);
  EXPECT_EQ(plan_of(config).micro_batch, 2);
}

TEST(Config, sections_and_inline_tables_are_the_same) {
  const Config config =
      parse_config("[model]\nwidth = 96\ninner = \"auto\"\ninit = { std = 0.5 }\n", "a.toml");
  EXPECT_EQ(config.model.width, 96);
}

TEST(Config, nested_and_dotted_keys) {
  for (const char* text : {"model = { init = { std = 0.5 } }", "[model]\ninit.std = 0.5",
                           "[model.init]\nstd = 0.5", "model.init.std = 0.5"})
    EXPECT_EQ(parse_config(text, "a.toml").model.init_std, 0.5) << text;
  EXPECT_NE(parse_config("", "a.toml").model.init_std, 0.5);
}

TEST(Config, unknown_keys_suggest_the_nearest) {
  EXPECT_EQ(parse_error("[model]\nlayers = 2\nwidht = 64\n"),
            "sluice: error: no option is called model.widht\n"
            "  where: mine.toml:3 model.widht\n"
            "  expected: a key that `sluice train --help` lists\n"
            "  found: model.widht\n"
            "  try: model.width\n");
  EXPECT_EQ(parse_error("\nmodel = { init = { sdt = 0.5 } }"),
            "sluice: error: no option is called model.init.sdt\n"
            "  where: mine.toml:2 model.init.sdt\n"
            "  expected: a key that `sluice train --help` lists\n"
            "  found: model.init.sdt\n"
            "  try: model.init.std\n");
  EXPECT_NE(parse_error("[optm]\nlr = 0.1").find("  try: optim.lr\n"), std::string::npos);
  EXPECT_NE(parse_error("warmup_tokens = 5").find("  try: optim.warmup_tokens\n"),
            std::string::npos);
  EXPECT_NE(parse_error("[nothing]\n"), "no error");
  EXPECT_EQ(parse_error("[model]\n"), "no error");
}

TEST(Config, the_first_error_of_the_file_is_told) {
  EXPECT_NE(parse_error("[run]\nzz = 1\n[batch]\naa = 1\n").find("mine.toml:2 run.zz"),
            std::string::npos);
}

TEST(Config, values_of_the_wrong_type) {
  EXPECT_EQ(parse_error("[model]\nwidth = \"768\"\n"),
            "sluice: error: model.width cannot be \"768\"\n"
            "  where: mine.toml:2 model.width\n"
            "  expected: an integer\n"
            "  found: \"768\"\n");
  EXPECT_EQ(parse_error("[optim]\n\nlr_schedule = \"cosin\"\n"),
            "sluice: error: optim.lr_schedule cannot be \"cosin\"\n"
            "  where: mine.toml:3 optim.lr_schedule\n"
            "  expected: one of cosine, linear, constant, wsd\n"
            "  found: \"cosin\"\n");
  EXPECT_EQ(parse_error("[model]\nwidth = [768]\n"),
            "sluice: error: model.width cannot be an array\n"
            "  where: mine.toml:2 model.width\n"
            "  expected: an integer\n"
            "  found: an array\n");
  EXPECT_NE(parse_error("run.name = 2026-01-01").find("cannot be a date or time"),
            std::string::npos);
  EXPECT_NE(parse_error("model.width = 768.0"), "no error");
  EXPECT_NE(parse_error("optim.lr = nan"), "no error");
  EXPECT_EQ(parse_error("optim.lr = 1"), "no error");
  EXPECT_EQ(parse_error("model = 768"),
            "sluice: error: model is a section, not an option\n"
            "  where: mine.toml:1 model\n"
            "  expected: [model] or model = { … }\n"
            "  found: model\n");
  EXPECT_EQ(parse_error("\"model.width\" = 64\nmodel.width = 32\n"),
            "sluice: error: model.width is there twice\n"
            "  where: mine.toml:2 model.width\n"
            "  expected: one value\n"
            "  found: model.width\n");
}

TEST(Config, what_is_not_toml_names_the_line) {
  EXPECT_EQ(parse_error("[model]\nwidth = 768\nwidth = 769\n"),
            "sluice: error: mine.toml is not TOML\n"
            "  where: mine.toml:3\n"
            "  found: Error while parsing key-value pair: cannot redefine existing integer "
            "'width'\n");
  EXPECT_NE(parse_error("[model\n").find("  where: mine.toml:1\n"), std::string::npos);
  EXPECT_NE(parse_error("\nmodel = \xff\n").find("  where: mine.toml:2\n"), std::string::npos);
  EXPECT_NE(parse_error(std::string("a\0b", 3)), "no error");
}

TEST(Config, hostile_nesting_is_refused) {
  std::string deepest = "a";
  for (int i = 0; i < 4000; ++i) deepest += ".a";
  EXPECT_EQ(parse_error("[" + deepest + "]").find("dots"), std::string::npos);
  EXPECT_EQ(parse_error(deepest + ".a = 1"),
            "sluice: error: mine.toml is no config\n"
            "  where: mine.toml\n"
            "  expected: at most 4000 dots, in keys and elsewhere\n"
            "  found: 4001 dots\n");
  std::string dots = "a";
  for (int i = 0; i < 300'000; ++i) dots += ".a";
  EXPECT_NE(parse_error(dots + " = 1"), "no error");
  EXPECT_NE(parse_error("[" + dots + "]"), "no error");
  EXPECT_NE(parse_error("a = " + std::string(500'000, '[')), "no error");
  std::string braces = "a = ";
  for (int i = 0; i < 100'000; ++i) braces += "{a=";
  EXPECT_NE(parse_error(braces), "no error");
}

TEST(Config, damaged_text_is_a_config_or_an_error) {
  std::mt19937 random(7);  // the same damage every time
  int configs = 0, errors = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text(example);
    for (unsigned cuts = random() % 4; cuts < 4; ++cuts) {
      const std::size_t at = random() % text.size(), from = random() % text.size();
      if (random() % 2 == 0) text[at] = static_cast<char>(random());
      if (random() % 4 == 0) text.erase(at, 1 + random() % 9);
      if (random() % 4 == 0) text.insert(at % text.size(), text.substr(from % text.size(), 20));
    }
    const std::string found = check_error(text);
    ++(found == "no error" ? configs : errors);
    EXPECT_EQ(found.find("internal"), std::string::npos);
  }
  EXPECT_GT(configs, 0);
  EXPECT_GT(errors, 1000);
}

TEST(Config, files) {
  const TestFolder folder;
  const std::string path = folder.path("tiny.toml");
  EXPECT_EQ(error_of([&] { load_config(path); }),
            "sluice: error: cannot read " + path + "\n  where: " + path +
                "\n  expected: a readable file\n  found: No such file or directory\n");
  write_file_atomic(path, "model.width = 96\n");
  EXPECT_EQ(load_config(path).model.width, 96);
  EXPECT_EQ(load_config(path).run.name, "tiny");
  EXPECT_EQ(load_config(path).place("model.width"), path + ":1 model.width");
  write_file_atomic(path, "run.name = \"other\"\n" + std::string(1 << 20, '#'));
  EXPECT_EQ(error_of([&] { load_config(path); }),
            "sluice: error: " + path + " is too large\n  where: " + path +
                "\n  expected: at most 1048576 bytes\n  found: 1048595 bytes\n");
  write_file_atomic(path, "run.name = \"other\"\n");
  EXPECT_EQ(load_config(path).run.name, "other");
  EXPECT_NE(error_of([&] { load_config(folder.path()); }), "no error");
}

TEST(Config, overrides) {
  Config config = load_config("gpt2-124m");
  apply_overrides(config, std::vector<std::string>{"--model.width=96", "optim.lr=1e-3",
                                                   "--run.sample-prompt=It is = so", "run.seed=7",
                                                   "--model.inner=auto", "--run.poison=true"});
  EXPECT_EQ(config.model.width, 96);
  EXPECT_EQ(config.optim.lr, 1e-3);
  EXPECT_EQ(config.run.sample_prompt, "It is = so");
  EXPECT_EQ(config.run.seed, 7);
  EXPECT_TRUE(config.run.poison);
  EXPECT_EQ(config.place("model.width"), "command line model.width");
  EXPECT_EQ(config.place("model.heads"), "gpt2-124m:2 model.heads");
  EXPECT_EQ(override_error({"--model.widht=5"}),
            "sluice: error: no option is called model.widht\n"
            "  where: command line model.widht\n"
            "  expected: a key that `sluice train --help` lists\n"
            "  found: model.widht\n"
            "  try: model.width\n");
  EXPECT_EQ(override_error({"--model.width"}),
            "sluice: error: --model.width has no value\n"
            "  where: command line\n"
            "  expected: --section.key=value\n"
            "  found: --model.width\n");
  EXPECT_EQ(override_error({"--run.name=\xff"}),
            "sluice: error: an option on the command line is not text\n"
            "  where: command line, byte 12 of an option\n"
            "  expected: UTF-8\n"
            "  found: byte 0xff\n");
  EXPECT_EQ(override_error({"--run.name=\xc3\xa9"}), "no error");
}

TEST(Config, checks_name_the_place) {
  EXPECT_EQ(check_error("\n\n\nmodel = { width = 770 }"),
            "sluice: error: 770 columns do not divide by 12 heads\n"
            "  where: mine.toml:4 model.width\n"
            "  expected: a multiple of 12\n"
            "  found: 770\n"
            "  try: model.width = 768\n");
  EXPECT_EQ(check_error("optim.beta2 = 1.5"),
            "sluice: error: optim.beta2 is out of range\n"
            "  where: mine.toml:1 optim.beta2\n"
            "  expected: 0 <= beta2 < 1\n"
            "  found: 1.5\n");
  EXPECT_EQ(check_error("batch = { tokens = 1000, sequence = 300 }"),
            "sluice: error: a step of 1000 tokens is no whole number of sequences\n"
            "  where: mine.toml:1 batch.tokens\n"
            "  expected: a multiple of 300\n"
            "  found: 1000\n"
            "  try: batch.tokens = 900\n");
  EXPECT_EQ(check_error("batch = { tokens = 4096, sequence = 2048 }"),
            "sluice: error: a sequence is longer than the model's context\n"
            "  where: mine.toml:1 batch.sequence\n"
            "  expected: at most 1024 tokens\n"
            "  found: 2048\n"
            "  try: batch.sequence = 1024\n");
  EXPECT_EQ(check_error("run.tokens = 1000"),
            "sluice: error: the run is shorter than one step\n"
            "  where: mine.toml:1 run.tokens\n"
            "  expected: at least batch.tokens = 524288\n"
            "  found: 1000\n"
            "  try: run.tokens = 524288\n");
  EXPECT_EQ(check_error("[run]\nkeep_last = 0"),
            "sluice: error: run.keep_last is out of range\n"
            "  where: mine.toml:2 run.keep_last\n"
            "  expected: an integer from 1 to 4503599627370496\n"
            "  found: 0\n");
  EXPECT_NE(check_error("plan.micro_batch = 5").find("  where: mine.toml:1 plan.micro_batch\n"),
            std::string::npos);
  EXPECT_NE(check_error("batch.sequence = 0"), "no error");
  EXPECT_NE(check_error("run.name = \"../x\""), "no error");
  EXPECT_EQ(check_error(""), "no error");
}

TEST(Config, training_needs_data_and_length) {
  EXPECT_EQ(error_of([] { check_trainable(parse_config("run.tokens = 1_000_000", "a.toml")); }),
            "sluice: error: there is nothing to train on\n"
            "  where: data.train\n"
            "  expected: a prefix that `sluice prepare` wrote\n"
            "  found: nothing\n"
            "  try: --data.train=PREFIX\n");
  EXPECT_NE(error_of([] {
              check_trainable(parse_config("data.train = \"x\"", "a.toml"));
            }).find("the run is shorter than one step"),
            std::string::npos);
}

TEST(Config, the_saved_config_reads_back) {
  Config config = load_config("gptj-6b");
  config.data.train = "a \"strange\" \\ path\n\x01\x7fé";
  config.optim.lr = 0.1 + 0.2;
  config.optim.eps = 1e-300;
  config.run.threads = 3;
  const std::string saved = to_toml(config);
  Config again = parse_config(saved, "saved.toml");
  EXPECT_EQ(to_toml(again), saved);
  EXPECT_EQ(again.data.train, config.data.train);
  EXPECT_EQ(again.optim.lr, config.optim.lr);
  EXPECT_EQ(again.optim.eps, config.optim.eps);
  EXPECT_EQ(again.model.init_embedding_std, config.model.init_embedding_std);
  again.run.seed = 1;
  EXPECT_NE(to_toml(again), saved);
}

TEST(Config, help_lists_every_option) {
  Config config;
  const std::string help = help_text();
  const OptionTable table = table_of(config);
  for (const Option& option : table.options())
    EXPECT_NE(help.find("--" + option.key + "="), std::string::npos) << option.key;
  EXPECT_NE(help.find("  * --optim.lr_schedule=cosine         shape of the decay: cosine, "
                      "linear, constant, wsd\n"),
            std::string::npos)
      << help;
}

}  // namespace
}  // namespace sluice
