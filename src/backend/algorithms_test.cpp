#include "backend/algorithms.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sluice {
namespace {

AlgorithmTable example() {
  AlgorithmTable table{"NVIDIA H200", 130100, {}};
  ProductShape shape{.m = 16384, .n = 768, .k = 3072, .lda = 3072, .ldb = 768, .ldc = 768};
  shape.type = shape.c_type = DType::bf16;
  TunedProduct tuned{.seconds = 1.5e-4, .first_seconds = 1.6e-4};
  for (std::size_t i = 0; i < tuned.algorithm.words.size(); ++i)
    tuned.algorithm.words[i] = 0xfedcba9876543210u + i;
  table.products[shape] = tuned;
  shape.epilogue = Epilogue::gelu;
  shape.adds = shape.a_transposed = true, shape.c_align = 16;
  tuned.own = true, tuned.algorithm = {};
  table.products[shape] = tuned;
  return table;
}

TEST(AlgorithmTable, ComesBackFromItsFile) {
  const AlgorithmTable table = example(), again = parse_algorithms(to_json(table), "file");
  EXPECT_EQ(to_json(again), to_json(table));
  EXPECT_EQ(again.hash(), table.hash());
  EXPECT_TRUE(again.same_machine(table));
  for (const auto& [shape, tuned] : table.products) {
    ASSERT_TRUE(again.products.contains(shape));
    EXPECT_EQ(again.products.at(shape).algorithm, tuned.algorithm);
    EXPECT_EQ(again.products.at(shape).own, tuned.own);
  }
}

// Whatever decides about bits is in the hash, and times are not.
TEST(AlgorithmTable, HashKnowsAlgorithmsAndNoTimes) {
  const AlgorithmTable table = example();
  AlgorithmTable other = table;
  other.products.begin()->second.seconds *= 2;
  EXPECT_EQ(other.hash(), table.hash());
  other.products.rbegin()->second.algorithm.words[7] ^= 1;
  EXPECT_NE(other.hash(), table.hash());
  other = table;
  other.library += 1;
  EXPECT_NE(other.hash(), table.hash());
  EXPECT_FALSE(other.same_machine(table));
  other = table;
  other.products.erase(other.products.begin());
  EXPECT_NE(other.hash(), table.hash());
}

// Every key of the file taken away, and every value made a thing of another kind.
TEST(AlgorithmTable, DamageIsRefusedWithItsPlace) {
  const nlohmann::json good = nlohmann::json::parse(to_json(example()));
  const auto refused = [](const std::string& text, const std::string& place) {
    try {
      parse_algorithms(text, "table.json");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      return e.report().where.starts_with(place) && !e.report().expected.empty();
    }
    return false;
  };
  EXPECT_NO_THROW(parse_algorithms(good.dump(), "table.json"));
  for (const auto& [key, value] : good.items()) {
    nlohmann::json bad = good;
    bad.erase(key);
    EXPECT_TRUE(refused(bad.dump(), "table.json")) << key;
    bad[key] = nlohmann::json::object();
    EXPECT_TRUE(refused(bad.dump(), "table.json")) << key;
  }
  for (const auto& [key, value] : good["products"][1].items()) {
    nlohmann::json bad = good;
    bad["products"][1].erase(key);
    EXPECT_TRUE(refused(bad.dump(), "table.json products[1]")) << key;
    bad["products"][1][key] = nlohmann::json::object();
    EXPECT_TRUE(refused(bad.dump(), "table.json products[1]")) << key;
  }
  nlohmann::json bad = good;
  bad["products"][1] = bad["products"][0];
  EXPECT_TRUE(refused(bad.dump(), "table.json products[1]"));
  bad = good;
  bad["products"][0]["m"] = 0;
  EXPECT_TRUE(refused(bad.dump(), "table.json products[0]"));
  bad["products"][0]["m"] = 1e30;
  EXPECT_TRUE(refused(bad.dump(), "table.json products[0]"));
  bad = good;
  bad["products"][0]["a_align"] = 48;
  EXPECT_TRUE(refused(bad.dump(), "table.json products[0]"));
  bad = good;
  bad["version"] = 2;
  EXPECT_TRUE(refused(bad.dump(), "table.json"));
  EXPECT_TRUE(refused("", "table.json"));
  EXPECT_TRUE(refused("[1]", "table.json"));
}

// Candidates whose times are written down: of the first round and of the second.
class Written final : public ProductTrials {
 public:
  struct Candidate {
    double first, second;
    bool repeats = true;
  };
  explicit Written(std::vector<Candidate> all) : all_(std::move(all)), asked_(all_.size()) {}

  int count() const override { return static_cast<int>(all_.size()); }
  double seconds(int candidate) override {
    const auto c = static_cast<std::size_t>(candidate);
    // A fifth of all measurements is disturbed; the medians are not.
    const double disturbed = asked_[c] % 5 == 2 ? 3.0 : 1.0;
    return disturbed * (asked_[c]++ < 5 ? all_[c].first : all_[c].second);
  }
  bool repeats(int candidate) override { return all_[static_cast<std::size_t>(candidate)].repeats; }

 private:
  std::vector<Candidate> all_;
  std::vector<int> asked_;
};

int chosen(std::vector<Written::Candidate> all) {
  Written trials(std::move(all));
  return choose(trials).candidate;
}

TEST(AlgorithmChoice, TheFirstAnswerStaysUnlessAnotherIsThreePercentFasterTwice) {
  EXPECT_EQ(chosen({{100, 100}}), 0);
  EXPECT_EQ(chosen({{100, 100}, {98, 98}}), 0);            // 2%: not enough
  EXPECT_EQ(chosen({{100, 100}, {96, 96}}), 1);            // 4%, twice
  EXPECT_EQ(chosen({{100, 100}, {90, 98}}), 0);            // the second round does not agree
  EXPECT_EQ(chosen({{100, 100}, {98, 50}}), 0);            // nor the first
  EXPECT_EQ(chosen({{100, 90}, {96, 88}}), 0);             // the first answer is faster then, too
  EXPECT_EQ(chosen({{100, 100}, {90, 92}, {91, 90}}), 2);  // of two, the second round's faster
}

TEST(AlgorithmChoice, WhatDoesNotRepeatIsDropped) {
  EXPECT_EQ(chosen({{100, 100}, {80, 80, false}, {90, 90}}), 2);
  EXPECT_EQ(chosen({{100, 100}, {80, 80, false}}), 0);
  EXPECT_EQ(chosen({{100, 100, false}, {120, 120}, {110, 110}}), 2);
  EXPECT_EQ(chosen({{100, 100, false}, {120, 120, false}}), -1);
  EXPECT_EQ(chosen({}), -1);
}

TEST(AlgorithmChoice, SaysBothTimes) {
  Written trials({{100, 100}, {90, 80}});
  const Chosen one = choose(trials);
  EXPECT_EQ(one.candidate, 1);
  EXPECT_EQ(one.seconds, 80);
  EXPECT_EQ(one.first_seconds, 100);
}

}  // namespace
}  // namespace sluice
