#include "train/algorithms.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/file.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// A GPU that remembers what it was asked to measure.
class FakeTuner final : public ProductTuner {
 public:
  AlgorithmTable machine() const override { return {gpu, library, {}}; }
  std::vector<ProductShape> products_of(const Op&, const Frame&) override { return {}; }
  TunedProduct tune(const ProductShape& shape) override {
    tuned.push_back(shape);
    TunedProduct out{.seconds = 1, .first_seconds = 2};
    out.algorithm.words[0] = static_cast<std::uint64_t>(shape.n);
    out.algorithm.words[1] = tunings;
    return out;
  }
  void use(const AlgorithmTable& table) override { used = table; }

  std::string gpu = "GPU";
  std::int64_t library = 130100;
  std::uint64_t tunings = 0;  // another number: another answer
  std::vector<ProductShape> tuned;
  AlgorithmTable used;
};

std::vector<ProductShape> products(int count) {
  std::vector<ProductShape> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = {.m = 1, .n = static_cast<std::int64_t>(i) + 1, .k = 1, .lda = 1, .ldb = 1, .ldc = 1};
  }
  return out;
}

AlgorithmTable table_of(std::uint64_t tunings, int count, std::int64_t library = 130100) {
  FakeTuner tuner;
  tuner.tunings = tunings, tuner.library = library;
  return settle_algorithms(tuner, products(count), {}).table;
}

class SettledAlgorithmsTest : public testing::Test {
 protected:
  SettledAlgorithmsTest()
      : folder_(fs::temp_directory_path() /
                ("algorithms" + std::to_string(::getpid()) +
                 testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(folder_);
  }
  ~SettledAlgorithmsTest() override { fs::remove_all(folder_); }
  std::string cache() const { return (folder_ / "cache" / "algorithms.json").string(); }
  fs::path folder_;
  FakeTuner tuner_;
};

TEST_F(SettledAlgorithmsTest, EveryProductIsTunedOnceAndKept) {
  const SettledAlgorithms first = settle_algorithms(tuner_, products(3), {.cache_file = cache()});
  EXPECT_EQ(tuner_.tuned.size(), 3u);
  EXPECT_EQ(first.messages.size(), 1u);
  EXPECT_EQ(tuner_.used.hash(), first.table.hash());
  tuner_.tunings = 1;  // another measurement would answer otherwise
  const SettledAlgorithms again = settle_algorithms(tuner_, products(3), {.cache_file = cache()});
  EXPECT_EQ(tuner_.tuned.size(), 3u);
  EXPECT_TRUE(again.messages.empty());
  EXPECT_EQ(again.table.hash(), first.table.hash());
  // The control: without the cache they are measured, and answer otherwise.
  const SettledAlgorithms other = settle_algorithms(tuner_, products(3), {});
  EXPECT_EQ(tuner_.tuned.size(), 6u);
  EXPECT_NE(other.table.hash(), first.table.hash());
}

TEST_F(SettledAlgorithmsTest, CacheGrowsAndGivesAwayWhatIsOfAnotherLibrary) {
  settle_algorithms(tuner_, products(2), {.cache_file = cache()});
  settle_algorithms(tuner_, products(3), {.cache_file = cache()});
  EXPECT_EQ(tuner_.tuned.size(), 3u);
  EXPECT_EQ(load_algorithms(cache()).products.size(), 3u);
  tuner_.library = 130200;
  settle_algorithms(tuner_, products(1), {.cache_file = cache()});
  EXPECT_EQ(tuner_.tuned.size(), 4u);
  EXPECT_EQ(load_algorithms(cache()).products.size(), 1u);
}

TEST_F(SettledAlgorithmsTest, RunKeepsItsOwnWhateverTheCacheSays) {
  save_algorithms(cache(), table_of(7, 4));
  const SettledAlgorithms on =
      settle_algorithms(tuner_, products(4), {.run = table_of(5, 3), .cache_file = cache()});
  EXPECT_TRUE(tuner_.tuned.empty());
  for (const auto& [shape, tuned] : on.table.products)
    EXPECT_EQ(tuned.algorithm.words[1], shape.n <= 3 ? 5u : 7u);
}

TEST_F(SettledAlgorithmsTest, AnotherLibraryIsSaidAndTunedAnew) {
  const AlgorithmTable old = table_of(5, 3, 120900);
  const SettledAlgorithms on = settle_algorithms(tuner_, products(3), {.run = old});
  EXPECT_EQ(tuner_.tuned.size(), 3u);
  EXPECT_NE(on.table.hash(), old.hash());
  ASSERT_EQ(on.messages.size(), 2u);
  EXPECT_EQ(on.messages[0],
            "the run's algorithms are for GPU with cuBLASLt 12.9.0, and this is GPU with cuBLASLt "
            "13.1.0: products are tuned anew, and the run goes on under a new key");
}

TEST_F(SettledAlgorithmsTest, GivenTableIsObeyedOrRefused) {
  AlgorithmSources sources{.given = table_of(9, 2), .given_file = "given.json"};
  const SettledAlgorithms fresh = settle_algorithms(tuner_, products(3), sources);
  EXPECT_EQ(tuner_.tuned.size(), 1u);  // the one that it does not know
  EXPECT_EQ(fresh.table.products.begin()->second.algorithm.words[1], 9u);

  sources.run = table_of(5, 3);
  try {
    settle_algorithms(tuner_, products(3), sources);
    FAIL() << "other algorithms than the run's passed";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_EQ(e.report().where, "given.json");
    EXPECT_EQ(e.report().found, "another one for 2 of its products");
  }
  sources.accepted = true;
  const SettledAlgorithms changed = settle_algorithms(tuner_, products(3), sources);
  EXPECT_EQ(changed.table.products.begin()->second.algorithm.words[1], 9u);
  EXPECT_EQ(changed.table.products.rbegin()->second.algorithm.words[1], 5u);

  sources.accepted = false;
  sources.run = table_of(9, 3);  // the same ones: nothing to refuse
  EXPECT_NO_THROW(settle_algorithms(tuner_, products(3), sources));

  sources.given->library = 1;
  EXPECT_THROW(settle_algorithms(tuner_, products(3), sources), Error);
}

TEST_F(SettledAlgorithmsTest, DamagedCacheIsSaidAndReplaced) {
  fs::create_directories(folder_ / "cache");
  write_file_atomic(cache(), "{");
  const SettledAlgorithms one = settle_algorithms(tuner_, products(2), {.cache_file = cache()});
  EXPECT_EQ(tuner_.tuned.size(), 2u);
  EXPECT_EQ(one.messages.size(), 2u);
  EXPECT_EQ(load_algorithms(cache()).products.size(), 2u);
}

TEST_F(SettledAlgorithmsTest, RunFolderKeepsIt) {
  EXPECT_FALSE(kept_algorithms(folder_));
  const AlgorithmTable table = table_of(3, 2);
  keep_algorithms(folder_, table);
  ASSERT_TRUE(kept_algorithms(folder_));
  EXPECT_EQ(kept_algorithms(folder_)->hash(), table.hash());
  write_file_atomic((folder_ / "algorithms.json").string(), "[]");
  EXPECT_THROW(kept_algorithms(folder_), Error);
}

}  // namespace
}  // namespace sluice
