#include "train/key.h"

#include <gtest/gtest.h>

#include "train/test_error.h"

namespace sluice {
namespace {

KeyFacts facts_of(const Config& config) {
  return {.backend = "cpu",
          .isa = "avx512",
          .data = "00ff",
          .fusions = "residual_norm",
          .formats = "state 1",
          .plan = plan_of(config)};
}

NumericsKey key_of(const Config& config) { return numerics_key(config, facts_of(config)); }

Config with(std::vector<std::string> overrides) {
  Config config = load_config("gpt2-124m");
  apply_overrides(config, overrides);
  return config;
}

TEST(Key, is_sorted_lines_of_what_was_resolved) {
  const NumericsKey key = key_of(with({}));
  EXPECT_TRUE(
      key.text.starts_with("backend = \"cpu\"\n"
                           "batch.ramp = \"\"\n"
                           "batch.sequence = 1024\n"
                           "batch.tokens = 524288\n"
                           "data.checksum = \"00ff\"\n"
                           "data.documents = \"join\"\n"
                           "formats = \"state 1\"\n"
                           "fusions = \"residual_norm\"\n"
                           "model.biases = true\n"))
      << key.text;
  for (const char* line : {"run.isa = \"avx512\"\n", "plan.micro_batch = 2\n",
                           "plan.head_chunk = 4096\n", "run.tokens = 10000000000\n"})
    EXPECT_NE(key.text.find(line), std::string::npos) << line;
  EXPECT_EQ(key.text.find("recompute"), std::string::npos);
  EXPECT_EQ(key.hash().size(), 16u);
}

TEST(Key, free_options_leave_it_alone) {
  const NumericsKey key = key_of(with({}));
  for (const char* text : {"data.train=x",         "data.validation=y",     "run.threads=3",
                           "run.validate_every=1", "run.validate_tokens=1", "run.save_every=1",
                           "run.sample_every=1",   "run.sample_prompt=x",   "run.sample_tokens=1",
                           "run.keep_last=1",      "run.keep_every=3",      "run.keep_best=true",
                           "run.norms_every=2",    "run.tensorboard=true",  "run.log_hashes=true",
                           "run.poison=true",      "run.eager=true",        "run.sync=true",
                           "run.name=x",           "plan.device=cpu",       "plan.recompute=block",
                           "plan.micro_batch=2",   "plan.head_chunk=4096",  "plan.stash=spilled",
                           "plan.blobs=parts"})
    EXPECT_EQ(key_of(with({text})).text, key.text) << text;
  // What the instruction set decides when it is left to: the precision.
  EXPECT_EQ(key_of(with({"plan.precision=float32", "run.isa=portable"})).text,
            key_of(with({"plan.precision=float32"})).text);
}

TEST(Key, numerics_options_change_it) {
  const NumericsKey key = key_of(with({}));
  for (const char* text :
       {"data.documents=separate", "batch.tokens=1048576", "batch.sequence=512",
        "run.tokens=524288", "run.seed=1", "optim.lr=1", "optim.skip_spikes=4", "model.layers=3",
        "model.init.std=1", "plan.micro_batch=4", "plan.head_chunk=64"}) {
    EXPECT_NE(key_of(with({text})).text, key.text) << text;
    EXPECT_NE(key_of(with({text})).hash(), key.hash()) << text;
  }
  KeyFacts facts = facts_of(with({}));
  facts.algorithms = "0123456789abcdef";
  EXPECT_NE(numerics_key(with({}), facts).text, key.text);
  facts = facts_of(with({}));
  facts.isa = "avx2";
  EXPECT_NE(numerics_key(with({}), facts).hash(), key.hash());
  facts = facts_of(with({}));
  facts.data = "other";
  EXPECT_NE(numerics_key(with({}), facts).hash(), key.hash());
}

TEST(Key, has_the_attention_of_a_gpu) {
  const auto line = [](std::vector<std::string> options) {
    options.emplace_back("plan.device=cuda:0");
    const Config config = with(options);
    KeyFacts facts = facts_of(config);
    facts.backend = "cuda";
    const std::string text = numerics_key(config, facts).text;
    const std::size_t at = text.find("plan.attention");
    return text.substr(at, text.find('\n', at) - at);
  };
  EXPECT_EQ(line({}), "plan.attention = \"cudnn\"");
  EXPECT_EQ(line({"plan.attention=cudnn"}), "plan.attention = \"cudnn\"");
  EXPECT_EQ(line({"plan.attention=own"}), "plan.attention = \"own\"");
  EXPECT_EQ(line({"plan.attention=cudnn-unordered"}), "plan.attention = \"cudnn-unordered\"");
  EXPECT_EQ(line({"data.documents=separate"}), "plan.attention = \"own\"");
  // A CPU has no other, and its keys are those of before there was one.
  EXPECT_EQ(key_of(with({})).text.find("plan.attention"), std::string::npos);
  EXPECT_EQ(key_of(with({"plan.attention=cudnn"})).text, key_of(with({})).text);
}

TEST(Key, the_saved_config_reproduces_it) {
  const Config config = with({"optim.lr=0.00012345678901234567", "model.init.output_std=0.003"});
  const Config saved = parse_config(to_toml(config), "config.toml");
  EXPECT_EQ(key_of(saved).text, key_of(config).text);
  EXPECT_NE(key_of(saved).text, key_of(with({})).text);
}

TEST(Key, changes_are_listed_old_and_new) {
  const std::vector<Change> changes = compare_keys(
      key_of(with({})).text, key_of(with({"run.tokens=1048576", "optim.lr=3e-4"})).text);
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].key, "optim.lr");
  EXPECT_EQ(changes[0].was, "0.0006");
  EXPECT_EQ(changes[0].now, "0.0003");
  EXPECT_EQ(error_of([&] { require_accepted(changes, {}, "runs/a"); }),
            "sluice: error: options that change the numbers differ from the run's\n"
            "  where: runs/a\n"
            "  expected: what the run began with\n"
            "  found: optim.lr 0.0006 → 0.0003\n"
            "         run.tokens 10000000000 → 1048576\n"
            "  try: --change optim.lr,run.tokens\n"
            "  try: --out DIR for a run of its own\n");
  EXPECT_EQ(error_of([&] { require_accepted(changes, {"optim.lr"}, "runs/a"); }),
            "sluice: error: options that change the numbers differ from the run's\n"
            "  where: runs/a\n"
            "  expected: what the run began with\n"
            "  found: run.tokens 10000000000 → 1048576\n"
            "  try: --change optim.lr,run.tokens\n"
            "  try: --out DIR for a run of its own\n");
  EXPECT_EQ(error_of([&] {
              require_accepted(changes, {"optim.lr", "run.tokens"}, "runs/a");
            }),
            "no error");
  EXPECT_EQ(error_of([&] { require_accepted({}, {}, "runs/a"); }), "no error");
}

TEST(Key, another_device_is_no_change_that_is_asked_for) {
  const Config config = with({});
  KeyFacts facts = facts_of(config);
  const auto on = [&](const char* backend, const char* model, const Config& asked) {
    facts.backend = backend, facts.isa = model;
    facts.fusions = facts.backend == "cpu" ? "a" : "a b";
    return numerics_key(asked, facts).text;
  };
  const auto taken = [](const std::string& was, const std::string& now) {
    std::vector<Change> changes = compare_keys(was, now);
    const std::string said = take_other_device(was, now, changes);
    std::string rest;
    for (const Change& change : changes) rest += change.key + " ";
    return std::pair(said, rest);
  };
  const std::string cpu = on("cpu", "avx512", config), gpu = on("cuda", "NVIDIA H200", config);
  const auto [said, rest] = taken(cpu, gpu);
  EXPECT_EQ(said.substr(0, said.find(';')),
            "this run goes on on another device: \"cuda\" \"NVIDIA H200\", until now \"cpu\" "
            "\"avx512\"");
  EXPECT_EQ(rest, "");
  EXPECT_EQ(taken(gpu, cpu).second, "");
  EXPECT_EQ(taken(gpu, on("cuda", "NVIDIA H100", config)).second, "");
  // What is no device's remains, and so do instruction sets; on the same device nothing is said.
  EXPECT_EQ(taken(cpu, on("cuda", "NVIDIA H200", with({"optim.lr=1"}))).second, "optim.lr ");
  EXPECT_EQ(taken(cpu, on("cpu", "avx2", config)),
            std::pair(std::string(), std::string("run.isa ")));
  EXPECT_EQ(taken(gpu, gpu).first, "");
}

TEST(Key, another_model_is_another_run) {
  const auto changes = compare_keys(key_of(with({})).text, key_of(with({"model.layers=3"})).text);
  EXPECT_EQ(error_of([&] { require_accepted(changes, {}, "runs/a"); }),
            "sluice: error: the folder holds a run of another model\n"
            "  where: runs/a\n"
            "  expected: what the run began with\n"
            "  found: model.layers 12 → 3\n"
            "  try: --out DIR for a run of its own\n");
  EXPECT_EQ(error_of([] { parse_accepted("run.tokens,model.layers"); }),
            "sluice: error: model.layers cannot change within a run\n"
            "  where: command line --change model.layers\n"
            "  expected: an option outside [model] and [batch]\n"
            "  found: model.layers\n"
            "  try: --out DIR for a run of its own\n");
}

TEST(Key, another_batch_is_another_run) {
  const auto changes =
      compare_keys(key_of(with({})).text, key_of(with({"batch.tokens=1048576"})).text);
  const std::string refused = error_of([&] { require_accepted(changes, {}, "runs/a"); });
  EXPECT_NE(refused.find("batch.tokens 524288 → 1048576"), std::string::npos) << refused;
  EXPECT_EQ(refused.find("--change"), std::string::npos) << refused;
  EXPECT_NE(error_of([] { parse_accepted("batch.tokens"); }).find("cannot change within a run"),
            std::string::npos);
}

TEST(Key, lines_that_came_or_went) {
  const auto changes = compare_keys("a = 1\nb = 2\n", "b = 2\nc = 3\n");
  EXPECT_NE(error_of([&] {
              require_accepted(changes, {}, "");
            }).find("  found: a 1 → nothing\n         c nothing → 3\n"),
            std::string::npos);
}

TEST(Key, accepted_names_exist) {
  EXPECT_EQ(parse_accepted("run.tokens,optim.lr,data.checksum"),
            (std::vector<std::string>{"run.tokens", "optim.lr", "data.checksum"}));
  EXPECT_EQ(parse_accepted(""), std::vector<std::string>{});
  EXPECT_EQ(error_of([] { parse_accepted("run.tokns"); }),
            "sluice: error: no option is called run.tokns\n"
            "  where: command line --change run.tokns\n"
            "  expected: a key that `sluice train --help` lists\n"
            "  found: run.tokns\n"
            "  try: run.tokens\n");
  EXPECT_NE(error_of([] { parse_accepted("run.tokens,,optim.lr"); }), "no error");
}

}  // namespace
}  // namespace sluice
