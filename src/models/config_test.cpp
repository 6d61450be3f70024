#include "models/config.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sluice {
namespace {

std::string error_of(void (*change)(ModelConfig&)) {
  ModelConfig config;
  change(config);
  try {
    check(config);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return "no error";
}

TEST(ModelConfig, heads_divide_the_width) {
  EXPECT_EQ(error_of([](ModelConfig& c) { c.width = 770; }),
            "sluice: error: 770 columns do not divide by 12 heads\n"
            "  where: model.width\n"
            "  expected: a multiple of 12\n"
            "  found: 770\n"
            "  try: model.width = 768\n");
  EXPECT_NE(error_of([](ModelConfig& c) { c.width = 7; }).find("  try: model.width = 12\n"),
            std::string::npos);
  EXPECT_EQ(error_of([](ModelConfig& c) { c.width = 780; }), "no error");
}

TEST(ModelConfig, sizes_have_limits) {
  EXPECT_EQ(error_of([](ModelConfig& c) { c.layers = 0; }),
            "sluice: error: model.layers is out of range\n"
            "  where: model.layers\n"
            "  expected: an integer from 1 to 16384\n"
            "  found: 0\n");
  EXPECT_NE(error_of([](ModelConfig& c) { c.vocab = INT64_MAX; }), "no error");
  EXPECT_NE(error_of([](ModelConfig& c) { c.width = -768; }), "no error");
  EXPECT_NE(error_of([](ModelConfig& c) { c.inner = -1; }), "no error");
  EXPECT_NE(error_of([](ModelConfig& c) { c.norm_eps = 0; }), "no error");
  EXPECT_NE(error_of([](ModelConfig& c) { c.init_output_std = -0.02; }), "no error");
}

TEST(ModelConfig, families_refuse_what_is_not_theirs) {
  EXPECT_EQ(error_of([](ModelConfig& c) { c.dropout = 0.1; }), "no error");
  EXPECT_EQ(error_of([](ModelConfig& c) { c.dropout = 1; }),
            "sluice: error: model.dropout is out of range\n"
            "  where: model.dropout\n"
            "  expected: 0 <= dropout < 1\n"
            "  found: 1\n");
  EXPECT_NE(error_of([](ModelConfig& c) { c.dropout = -0.1; }), "no error");
  EXPECT_EQ(error_of([](ModelConfig& c) { c.rotary = 64; }),
            "sluice: error: gpt2 has learned positions, nothing to rotate\n"
            "  where: model.rotary\n"
            "  expected: 0\n"
            "  found: 64\n"
            "  try: model.rotary = 0\n"
            "  try: model.family = \"gptj\"\n");
  EXPECT_EQ(error_of([](ModelConfig& c) { c.family = "gptj", c.tied = false, c.rotary = 65; }),
            "sluice: error: the rotated part does not fit the heads\n"
            "  where: model.rotary\n"
            "  expected: an even number from 2 to 64\n"
            "  found: 65\n"
            "  try: model.rotary = 64\n");
  EXPECT_EQ(error_of([](ModelConfig& c) { c.family = "gptj", c.rotary = 64; }),
            "sluice: error: gptj has a head of its own\n"
            "  where: model.tied\n"
            "  expected: false\n"
            "  found: true\n"
            "  try: model.tied = false\n");
  EXPECT_EQ(error_of([](ModelConfig& c) { c.family = "gptj", c.tied = false, c.rotary = 64; }),
            "no error");
}

TEST(ModelConfig, places_come_from_the_caller) {
  ModelConfig config;
  config.width = 770;
  const Where where{[](const void* file, std::string_view key) {
                      return fmt::format("{}:4 {}", static_cast<const char*>(file), key);
                    },
                    "mine.toml"};
  try {
    check(config, where);
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.report().where, "mine.toml:4 model.width");
  }
}

TEST(ModelConfig, initial_values_follow_from_std) {
  ModelConfig config;
  config.layers = 8;
  EXPECT_EQ(config.weight_init().std, 0.02);
  EXPECT_EQ(config.embedding_init().std, 0.02);
  EXPECT_DOUBLE_EQ(config.output_init().std, 0.005);
  EXPECT_EQ(config.output_init().kind, Init::Kind::normal);
  config.init_kind = "truncated_normal";
  config.init_output_std = 0.003;
  config.init_embedding_std = 0.01;
  EXPECT_EQ(config.output_init().std, 0.003);
  EXPECT_EQ(config.embedding_init().std, 0.01);
  EXPECT_EQ(config.weight_init().kind, Init::Kind::truncated_normal);
  EXPECT_EQ(config.inner_width(), 3072);
}

TEST(ModelConfig, every_option_is_numerics) {
  ModelConfig config;
  OptionTable table;
  describe(table, config);
  EXPECT_EQ(table.options().size(), 17u);
  for (const Option& option : table.options()) {
    EXPECT_EQ(option.effect, Effect::numerics) << option.key;
    EXPECT_TRUE(option.key.starts_with("model.")) << option.key;
  }
}

}  // namespace
}  // namespace sluice
