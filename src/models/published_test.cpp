#include "models/published.h"

#include <gtest/gtest.h>

#include <set>

namespace sluice {
namespace {

ModelConfig config_of(const PublishedModel& row) {
  ModelConfig config;
  config.family = row.family;
  config.layers = row.layers;
  config.width = row.width;
  config.heads = row.heads;
  config.inner = row.inner;
  config.vocab = row.vocab;
  config.context = row.context;
  if (config.family == "gptj") config.tied = false, config.rotary = 64;
  return config;
}

TEST(Published, every_row_reaches_its_parameters) {
  std::set<std::string> names;
  for (const PublishedModel& row : published_models()) {
    const ModelConfig config = config_of(row);
    check(config);
    const std::int64_t count = parameters_of(config);
    EXPECT_TRUE(row.parameters.reached_by(count)) << row.name << ": " << count;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(find_published(row.name), &row);
    // An eighth more of anything misses it.
    for (std::int64_t ModelConfig::*size :
         {&ModelConfig::layers, &ModelConfig::width, &ModelConfig::inner}) {
      ModelConfig other = config;
      other.*size += config.*size / 8;
      EXPECT_FALSE(row.parameters.reached_by(parameters_of(other))) << row.name;
    }
  }
  EXPECT_EQ(names.size(), 4u + 7 + 5 + 1 + 10);
  EXPECT_EQ(find_published("gpt2-125m"), nullptr);
}

TEST(Published, a_count_is_reached_to_its_digits) {
  const PublishedCount exact{1000, 1}, rounded{1.7e9, 0.1e9};
  EXPECT_TRUE(exact.reached_by(1000));
  EXPECT_FALSE(exact.reached_by(999));
  EXPECT_FALSE(exact.reached_by(1001));
  EXPECT_TRUE(rounded.reached_by(1'650'000'001));
  EXPECT_TRUE(rounded.reached_by(1'749'999'999));
  EXPECT_FALSE(rounded.reached_by(1'640'000'000));
  EXPECT_FALSE(rounded.reached_by(1'760'000'000));
}

}  // namespace
}  // namespace sluice
