#include "data/batches.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "core/test_folder.h"
#include "data/order.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

// A batch and its memory, poisoned before each fill.
struct Batch {
  std::int64_t batch, time;
  Ids ids, targets, positions, starts;
  std::vector<float> weights;
  Batch(std::int64_t b, std::int64_t t) : batch(b), time(t) { poison(); }
  void poison() {
    const auto n = static_cast<std::size_t>(batch * time);
    for (Ids* each : {&ids, &targets, &positions, &starts}) each->assign(n, -77);
    weights.assign(n, -77.0f);
  }
  BatchView view() { return {batch, time, ids, targets, positions, starts, weights}; }
  Ids row(const Ids& all, std::int64_t b) const {
    return {all.begin() + b * time, all.begin() + (b + 1) * time};
  }
};

class Batches : public testing::Test {
 protected:
  // Raw ids 0, 1, 2, … or the given ones.
  TokenFile raw(std::int64_t tokens) {
    Ids ids(static_cast<std::size_t>(tokens));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
    return raw(ids);
  }
  TokenFile raw(const Ids& ids) {
    std::string bytes;
    for (const std::int32_t id : ids) {
      bytes += static_cast<char>(id & 255);
      bytes += static_cast<char>(id >> 8);
    }
    write_file_atomic(folder_.path("raw.bin"), bytes);
    return TokenFile(folder_.path("raw.bin"));
  }
  TestFolder folder_;
};

TEST_F(Batches, an_epoch_is_every_sample_once) {
  const TokenFile file = raw(103);  // 10 samples of 10, two tokens left over
  const TrainingBatches batches(file, {.sequence = 10}, 5);
  ASSERT_EQ(batches.samples(), 10);
  Batch batch(5, 10);
  std::vector<std::int32_t> order[2];
  for (std::int64_t cursor = 0; cursor < 20; cursor += 5) {
    batch.poison();
    batches.fill(cursor, batch.view());
    for (std::int64_t b = 0; b < 5; ++b) {
      const Ids ids = batch.row(batch.ids, b), targets = batch.row(batch.targets, b);
      for (std::int32_t t = 0; t < 10; ++t) {
        EXPECT_EQ(ids[static_cast<std::size_t>(t)], ids[0] + t);
        EXPECT_EQ(targets[static_cast<std::size_t>(t)], ids[0] + t + 1);
        EXPECT_EQ(batch.row(batch.positions, b)[static_cast<std::size_t>(t)], t);
      }
      EXPECT_EQ(batch.row(batch.starts, b), Ids(10, 0));
      order[cursor / 10].push_back(ids[0]);
    }
    EXPECT_EQ(batch.weights, std::vector<float>(50, 1.0f));
  }
  for (const auto& epoch : order) {
    EXPECT_EQ(std::set<std::int32_t>(epoch.begin(), epoch.end()).size(), 10u);
  }
  EXPECT_NE(order[0], order[1]);
}

TEST_F(Batches, the_cursor_alone_says_what_comes) {
  const TokenFile file = raw(1000);
  const TrainingBatches batches(file, {.sequence = 7}, 5);
  Batch whole(8, 7), halves(4, 7);
  batches.fill(139, whole.view());  // across the end of the first epoch (142 samples)
  for (std::int64_t half = 0; half < 2; ++half) {
    batches.fill(139 + 4 * half, halves.view());
    for (std::int64_t b = 0; b < 4; ++b) {
      EXPECT_EQ(halves.row(halves.ids, b), whole.row(whole.ids, 4 * half + b));
    }
  }
  EXPECT_EQ(whole.ids[21], 7 * shuffled(0, 142, 5, 1));
  const TrainingBatches other(file, {.sequence = 7}, 6);
  other.fill(139, halves.view());
  EXPECT_NE(halves.row(halves.ids, 0), whole.row(whole.ids, 0));
}

TEST_F(Batches, documents_apart) {
  const TokenFile file = raw({5, 6, 9, 9, 7, 8, 9, 4, 3});
  const RowOptions apart{.sequence = 8, .documents = Documents::separate, .end_of_text = 9};
  Batch batch(1, 8);
  TrainingBatches(file, apart, 0).fill(0, batch.view());
  EXPECT_EQ(batch.ids, (Ids{5, 6, 9, 9, 7, 8, 9, 4}));
  EXPECT_EQ(batch.targets, (Ids{6, 9, 9, 7, 8, 9, 4, 3}));
  EXPECT_EQ(batch.starts, (Ids{0, 0, 0, 3, 4, 4, 4, 7}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 0, 0, 1, 2, 0}));
  TrainingBatches(file, {.sequence = 8, .end_of_text = 9}, 0).fill(0, batch.view());
  EXPECT_EQ(batch.starts, Ids(8, 0));
  EXPECT_THROW(TrainingBatches(file, {.sequence = 8, .documents = Documents::separate}, 0), Error);
}

TEST_F(Batches, windows_cover_every_target_once) {
  for (const std::int64_t tokens : {2, 3, 10, 11, 12, 41, 50}) {
    const TokenFile file = raw(tokens);
    const WindowBatches windows(file, {.sequence = 5});
    ASSERT_EQ(windows.targets(), tokens - 1);
    Batch batch(3, 5);
    Ids seen;
    for (std::int64_t k = 0; k < windows.batches(3); ++k) {
      batch.poison();
      windows.fill(k, batch.view());
      for (std::size_t i = 0; i < 15; ++i) {
        if (batch.weights[i] == 1.0f) {
          EXPECT_EQ(batch.targets[i], batch.ids[i] + 1);
          seen.push_back(batch.targets[i]);
        } else {
          EXPECT_EQ(batch.weights[i], 0.0f);
          EXPECT_EQ(batch.ids[i], 0);
          EXPECT_EQ(batch.targets[i], 0);
        }
        EXPECT_EQ(batch.positions[i], static_cast<std::int32_t>(i % 5));
        EXPECT_EQ(batch.starts[i], 0);
      }
    }
    Ids expected;
    for (std::int32_t t = 1; t < tokens; ++t) expected.push_back(t);
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(windows.batches(3), (tokens - 1 + 14) / 15);
  }
}

TEST_F(Batches, a_limit_on_windows) {
  const TokenFile file = raw(100);
  const WindowBatches some(file, {.sequence = 5}, 12);
  EXPECT_EQ(some.targets(), 12);
  EXPECT_EQ(some.windows(), 3);
  Batch batch(3, 5);
  some.fill(0, batch.view());
  EXPECT_EQ(batch.weights[11], 1.0f);
  EXPECT_EQ(batch.weights[12], 0.0f);
  EXPECT_EQ(WindowBatches(file, {.sequence = 5}, 1000).targets(), 99);
}

TEST_F(Batches, too_short) {
  const TokenFile file = raw(8);
  EXPECT_EQ(TrainingBatches(file, {.sequence = 7}, 0).samples(), 1);
  try {
    TrainingBatches(file, {.sequence = 8}, 0);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_EQ(e.report().expected, "at least 9 tokens");
    EXPECT_EQ(e.report().found, "8");
  }
  const TokenFile one = raw(1);
  EXPECT_THROW(WindowBatches(one, {.sequence = 8}), Error);
}

TEST_F(Batches, bytes_of_the_targets) {
  const TokenizerPtr chars = make_chars_tokenizer({'a', 0xE9, 0x6771});  // 1, 2 and 3 bytes
  const TokenFile file = raw(Ids{2, 0, 1, 3, 2, 2});
  EXPECT_EQ(target_bytes(file, *chars), 1 + 2 + 0 + 3 + 3);
  EXPECT_EQ(target_bytes(file, *chars, 2), 1 + 2);
  std::int64_t sum = 0;
  Ids many(40000);
  for (std::size_t i = 0; i < many.size(); ++i) {
    many[i] = static_cast<std::int32_t>(i % 4);
    sum += i == 0 ? 0 : chars->byte_length(many[i]);
  }
  EXPECT_EQ(target_bytes(raw(many), *chars), sum);
}

}  // namespace
}  // namespace sluice
