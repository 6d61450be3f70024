#include "data/numpy_shuffle.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/file.h"

namespace sluice {
namespace {

// What numpy made: tools/goldens/numpy_shuffle.py.
const nlohmann::json& goldens() {
  static const nlohmann::json all =
      nlohmann::json::parse(read_file(SLUICE_SOURCE_DIR "/tests/goldens/numpy_shuffle.json"));
  return all;
}

std::uint64_t digest(const std::vector<std::uint32_t>& order) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a over the numbers
  for (const std::uint32_t number : order) hash = (hash ^ number) * 0x100000001b3;
  return hash;
}

TEST(NumpyShuffle, raw_numbers) {
  for (const auto& golden : goldens().at("raw")) {
    Pcg64 random(golden.at("seed").get<std::uint64_t>());
    for (const auto& expected : golden.at("numbers"))
      EXPECT_EQ(random.next64(), expected.get<std::uint64_t>());
  }
}

TEST(NumpyShuffle, permutations) {
  for (const auto& golden : goldens().at("permutations")) {
    const auto n = golden.at("n").get<std::int64_t>();
    const auto seed = golden.at("seed").get<std::uint64_t>();
    const std::vector<std::uint32_t> order = numpy_permutation(n, seed);
    EXPECT_EQ(digest(order), golden.at("fnv").get<std::uint64_t>()) << n << " " << seed;
    const std::vector<std::uint32_t> begin = golden.at("begin");
    for (std::size_t i = 0; i < begin.size(); ++i) EXPECT_EQ(order[i], begin[i]) << n << " " << i;
    if (n > 2) {
      EXPECT_NE(digest(numpy_permutation(n, seed + 1)), digest(order));
    }
  }
}

}  // namespace
}  // namespace sluice
