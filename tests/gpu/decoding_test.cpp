// Decoding on the GPU: logits by way of the cache are close to those of all tokens at once, at
// every position, and rows of unequal length close to each row alone.
#include <gtest/gtest.h>

#include "shared_gpu.h"
#include "support/machine.h"

namespace sluice {
namespace {

using namespace testing_support;

using Ids = std::vector<std::int32_t>;
using Logits = std::vector<std::vector<std::vector<float>>>;  // [row][token][vocab]

struct Decoded {
  const char* family;
  DType precision;
  double bound;
};

class Decoding : public testing::TestWithParam<Decoded> {
 protected:
  static MachineSpec spec() {
    MachineSpec out;
    ModelConfig& m = out.model;
    m.family = GetParam().family;
    m.layers = 4;
    m.width = 256;
    m.heads = 4;
    m.context = 200;
    m.vocab = 997;
    m.init_std = 0.05;
    m.tied = m.family == "gpt2";
    if (m.family == "gptj") m.rotary = 32;
    out.shape = {1, 16};
    out.numerics = {.precision = GetParam().precision, .seed = 5};
    out.device = &shared_gpu();
    return out;
  }
  static Ids ids(std::int64_t count, std::uint64_t seed) {
    return Batch::random(1, count, 997, seed).ids;
  }
};
INSTANTIATE_TEST_SUITE_P(Gpu, Decoding,
                         testing::Values(Decoded{"gpt2", DType::f32, 1e-5},
                                         Decoded{"gptj", DType::f32, 1e-5},
                                         Decoded{"gpt2", DType::bf16, 2e-2},
                                         Decoded{"gptj", DType::bf16, 2e-2}));

std::vector<double> row_of(const std::vector<double>& all, std::int64_t token, std::int64_t vocab) {
  return {all.begin() + token * vocab, all.begin() + (token + 1) * vocab};
}

double distance_of(const std::vector<float>& a, const std::vector<float>& b) {
  return distance(to_double(a), to_double(b));
}

TEST_P(Decoding, CachedLogitsAreTheUncachedOnesAtEveryPosition) {
  Machine machine(spec());
  machine.initialize(1);
  const std::int64_t rows = 2, time = 170, vocab = spec().model.vocab;
  Batch batch = Batch::random(rows, time, vocab, 3);
  const std::vector<double> expected = machine.logits(batch);
  for (const bool one_by_one : {false, true}) {
    const std::vector<double> found = machine.cached_logits(batch, one_by_one);
    double worst = 0;
    for (std::int64_t token = 0; token < rows * time; ++token)
      worst =
          std::max(worst, distance(row_of(found, token, vocab), row_of(expected, token, vocab)));
    EXPECT_LE(worst, GetParam().bound);
    fmt::print("{} {}, {}: worst of {} positions {:.1e}\n", GetParam().family,
               name_of(GetParam().precision), one_by_one ? "token by token" : "in pieces",
               rows * time, worst);
  }
  // The control: one other id at the start shows at the end.
  batch.ids[0] = (batch.ids[0] + 1) % static_cast<std::int32_t>(vocab);
  const std::vector<double> other = machine.cached_logits(batch, true);
  EXPECT_GT(distance(row_of(other, time - 1, vocab), row_of(expected, time - 1, vocab)),
            GetParam().bound);
}

TEST_P(Decoding, RowsOfARaggedBatchAreEachAlone) {
  Machine machine(spec());
  machine.initialize(1);
  const std::vector<Ids> rows = {ids(70, 1), ids(1, 2), ids(64, 3), ids(170, 4), ids(129, 5)};
  for (const bool one_by_one : {false, true}) {
    const Logits together = machine.cached_logits(rows, one_by_one);
    double worst = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const Logits alone = machine.cached_logits({rows[r]}, one_by_one);
      ASSERT_EQ(together[r].size(), rows[r].size());
      for (std::size_t t = 0; t < rows[r].size(); ++t)
        worst = std::max(worst, distance_of(together[r][t], alone[0][t]));
      // The control: another row is another.
      const Logits& other = together;
      EXPECT_GT(distance_of(other[(r + 1) % rows.size()][0], alone[0][0]), GetParam().bound);
    }
    EXPECT_LE(worst, GetParam().bound);
    fmt::print("{} {}, ragged, {}: worst {:.1e}\n", GetParam().family,
               name_of(GetParam().precision), one_by_one ? "token by token" : "in pieces", worst);
  }
}

}  // namespace
}  // namespace sluice
