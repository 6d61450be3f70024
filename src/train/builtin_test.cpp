// The built-in configs, one by one, beside the table of what was published.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/file.h"
#include "core/test_folder.h"
#include "models/published.h"
#include "train/config.h"
#include "train/test_error.h"

namespace sluice {
namespace {

TEST(Builtins, have_names) {
  const std::vector<std::string> names = builtin_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const char* name : {"demo", "gigagpt-111m", "gpt2-124m", "gptj-6b", "ptdp-1008b"})
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
  EXPECT_EQ(error_of([] { load_config("gpt2-123m"); }),
            "sluice: error: no config is called gpt2-123m\n"
            "  expected: a TOML file, or a name that `sluice train --list` lists\n"
            "  found: gpt2-123m\n"
            "  try: gpt2-124m\n");
  EXPECT_EQ(load_config("gpt2-124m").run.name, "gpt2-124m");
  EXPECT_NE(builtin_text("gpt2-124m").find("# GPT-2 124M"), std::string_view::npos);
}

// What a config says that the row says otherwise, or nothing.
std::string difference(const Config& c, const PublishedModel& row) {
  std::string out;
  const auto compare = [&](const char* what, auto is, auto published) {
    if (published != 0 && is != published)
      out += fmt::format("{} is {}, published {}\n", what, is, published);
  };
  if (c.model.family != row.family) out += "family\n";
  compare("layers", c.model.layers, row.layers);
  compare("width", c.model.width, row.width);
  compare("heads", c.model.heads, row.heads);
  compare("inner", c.model.inner_width(), row.inner);
  compare("vocab", c.model.vocab, row.vocab);
  compare("context", c.model.context, row.context);
  compare("sequence", c.batch.sequence, row.context);
  compare("batch", c.batch.tokens / c.batch.sequence, row.batch);
  compare("steps", length_of(c).steps, row.steps);
  compare("lr", c.optim.lr, row.lr);
  compare("lr_end", c.optim.lr_end, row.lr_end);
  const RunLength length = length_of(c);
  const std::int64_t warmup =
      c.optim.warmup_steps > 0 ? c.optim.warmup_steps : length.steps_for(c.optim.warmup_tokens);
  compare("warm-up", warmup, row.warmup_steps);
  if (!row.parameters.reached_by(parameters_of(c.model))) out += "parameters\n";
  return out;
}

TEST(Builtins, agree_with_the_published_table) {
  for (const PublishedModel& row : published_models()) {
    const Config config = load_config(row.name);
    check_trainable(config);
    EXPECT_EQ(difference(config, row), "") << row.name;
    for (const char* change : {"model.layers=7", "model.heads=2", "batch.tokens=4096",
                               "model.inner=64", "model.vocab=50000"}) {
      Config other = config;
      const std::string text = change;
      apply_overrides(other, {&text, 1});
      EXPECT_NE(difference(other, row), "") << row.name << " " << change;
    }
    if (row.lr == 0) continue;
    Config other = config;
    other.optim.lr *= 1.1, other.optim.lr_end *= 1.1;
    EXPECT_NE(difference(other, row).find("lr_end"), std::string::npos) << row.name;
  }
  for (const std::string& name : builtin_names())
    EXPECT_TRUE(name == "demo" || find_published(name) != nullptr) << name << " is in no table";
}

TEST(Builtins, a_copy_keeps_its_name_only_with_its_parameters) {
  const TestFolder folder;
  const std::string path = folder.path("gpt2-124m.toml");
  const std::string text(builtin_text("gpt2-124m"));
  write_file_atomic(path, text);
  EXPECT_EQ(load_config(path).run.name, "gpt2-124m");
  std::string smaller = text;
  smaller.replace(smaller.find("layers = 12"), 11, "layers = 11");
  write_file_atomic(path, smaller);
  EXPECT_EQ(error_of([&] { load_config(path); }),
            "sluice: error: this is not the gpt2-124m that was published\n"
            "  where: " +
                path +
                ":2 model.layers\n"
                "  expected: 124439808 parameters\n"
                "  found: 117351936\n"
                "  try: model.layers = 12\n"
                "  try: run.name = \"another\" in the file, for a model of its own\n");
  write_file_atomic(path, smaller + "[run2]\n");
  EXPECT_NE(error_of([&] { load_config(path); }), "no error");
  smaller.replace(smaller.find("run   = {"), 9, "run   = { name = \"mine\",");
  write_file_atomic(path, smaller);
  EXPECT_EQ(load_config(path).run.name, "mine");
  // On the command line any model may be made of it, and what such a run saves can be used again.
  Config config = load_config("gpt2-124m");
  const std::string layers = "model.layers=2";
  apply_overrides(config, {&layers, 1});
  check_trainable(config);
  const std::string saved = folder.path("config.toml");
  write_file_atomic(saved, to_toml(config));
  EXPECT_EQ(load_config(saved).model.layers, 2);
  EXPECT_EQ(load_config(saved).run.name, "gpt2-124m");
}

// modelzoo's two configs of 13B, by their own steps: 720 sequences, 254 steps of warm-up and cosine
// over 174,081; 1080 sequences, 169 and 116,054, its step 38,000 being the other's 57,000.
double modelzoo_rate(double step, double warmup, double decay) {
  if (step < warmup) return 1.2e-4 * step / warmup;
  const double x = std::min(1.0, (step - warmup) / decay);
  return 1.2e-5 + (1.2e-4 - 1.2e-5) * 0.5 * (1 + std::cos(std::numbers::pi * x));
}

TEST(Builtins, cerebras_13b_follows_the_published_ramp) {
  const Config config = load_config("cerebras-gpt-13b");
  const RunLength run = length_of(config);
  ASSERT_EQ(run.stretches.size(), 2u);
  EXPECT_EQ(run.stretches[1].first_step, 57'000);
  EXPECT_EQ(run.stretches[1].first_tokens, std::int64_t{38'000} * 1080 * 2048);
  EXPECT_EQ(run.tokens(), std::int64_t{116'223} * 1080 * 2048);
  const auto off_by = [&](std::int64_t step, double expected) {
    return std::abs(learning_rate(config.optim, run, step) - expected) / 1.2e-5;
  };
  double first = 0, second = 0, shifted = 0;
  for (std::int64_t step = 0; step < 57'000; step += 19)
    first = std::max(first, off_by(step, modelzoo_rate(static_cast<double>(step), 254, 174'081)));
  for (std::int64_t step = 57'000; step < run.steps; step += 19) {
    const auto theirs = static_cast<double>(step - 57'000 + 38'000);
    second = std::max(second, off_by(step, modelzoo_rate(theirs, 169, 116'054)));
    shifted = std::max(shifted, off_by(step, modelzoo_rate(theirs + 20, 169, 116'054)));
  }
  EXPECT_LT(first, 1e-9);
  // Their second curve begins half a step earlier and ends a third of a step earlier than the
  // first.
  EXPECT_LT(second, 5e-5);
  EXPECT_GT(shifted, 5e-4);
  // At the boundary the two agree, and the curve has no step there.
  EXPECT_LT(off_by(57'000, modelzoo_rate(57'000, 254, 174'081)), 1e-9);
  EXPECT_LT(off_by(57'000, modelzoo_rate(38'000, 169, 116'054)), 5e-5);
}

TEST(Builtins, gptj_stays_at_its_last_rate) {
  const Config config = load_config("gptj-6b");
  const RunLength run = length_of(config);
  EXPECT_GT(learning_rate(config.optim, run, 302'999), 1.2e-5);
  EXPECT_EQ(learning_rate(config.optim, run, 303'000), 1.2e-5);
  EXPECT_EQ(learning_rate(config.optim, run, 349'999), 1.2e-5);
}

std::string ramp_error(const std::string& ramp) {
  return error_of([&] {
    check(parse_config("batch = { tokens = 4096, sequence = 1024, ramp = \"" + ramp +
                           "\" }\nmodel.context = 1024\n",
                       "mine.toml"));
  });
}

TEST(Ramp, is_read) {
  const Config config = parse_config(
      "batch = { tokens = 2048, sequence = 1024, ramp = \"1_000_000:4096, 3000000 : 8_192\" }\n"
      "run.tokens = 10_000_000",
      "a.toml");
  check(config);
  const auto ramp = ramp_of(config);
  ASSERT_EQ(ramp.size(), 2u);
  EXPECT_EQ(ramp[0].tokens, 1'000'000);
  EXPECT_EQ(ramp[1].tokens_per_step, 8192);
  EXPECT_EQ(length_of(config).stretches.size(), 3u);
  EXPECT_EQ(plan_of(config).later_micro_batches, (std::vector<std::int64_t>{2, 4}));
  EXPECT_TRUE(ramp_of(parse_config("", "a.toml")).empty());
}

TEST(Ramp, errors_say_what_is_wrong) {
  EXPECT_EQ(ramp_error("100000:5000"),
            "sluice: error: a step of 5000 tokens in the batch ramp is no whole number of "
            "sequences\n"
            "  where: mine.toml:1 batch.ramp\n"
            "  expected: a multiple of 1024\n"
            "  found: 5000\n"
            "  try: 100000:5120\n");
  EXPECT_EQ(ramp_error("200000:8192, 100000:16384"),
            "sluice: error: the boundaries of the batch ramp do not ascend\n"
            "  where: mine.toml:1 batch.ramp\n"
            "  expected: more than 200000 tokens\n"
            "  found: 100000\n");
  EXPECT_EQ(ramp_error("200000:8192, 8192"),
            "sluice: error: batch.ramp cannot be read\n"
            "  where: mine.toml:1 batch.ramp\n"
            "  expected: \"DONE:TOKENS, …\": after DONE tokens, steps have TOKENS\n"
            "  found: \" 8192\"\n");
  for (const char* bad : {"x", ":", "5:", ":1024", "0:1024", "-5:1024", "1024:-1024", "1e6:1024",
                          ",", "1:2:3", "99999999999999999999:1024", "5 5:1024"})
    EXPECT_NE(ramp_error(bad), "no error") << bad;
  EXPECT_EQ(ramp_error("200000:8192,200001:2048"), "no error");
  EXPECT_EQ(ramp_error(""), "no error");
}

TEST(Ramp, schedules_have_places) {
  EXPECT_EQ(error_of([] {
              check(
                  parse_config("optim.lr_schedule = \"wsd\"\n\noptim.decay_steps = 5\n"
                               "batch.tokens = 1024\nrun.tokens = 4096",
                               "mine.toml"));
            }),
            "sluice: error: the warm-up and the decay are longer than the run\n"
            "  where: mine.toml:3 optim.decay_steps\n"
            "  expected: at most 4096 tokens together\n"
            "  found: 0 tokens and 5 steps\n");
}

}  // namespace
}  // namespace sluice
