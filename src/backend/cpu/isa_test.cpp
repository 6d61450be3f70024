#include "backend/cpu/isa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "core/error.h"

namespace sluice {
namespace {

TEST(Isa, ListsAscendingFromPortableToBest) {
  const std::vector<Isa> found = available_isas();
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found.front(), Isa::portable);
  EXPECT_EQ(found.back(), best_isa());
  EXPECT_TRUE(std::is_sorted(found.begin(), found.end()));
  for (Isa isa : found) {
    EXPECT_TRUE(available(isa));
    EXPECT_EQ(parse_isa(name_of(isa)), isa);
  }
  EXPECT_EQ(parse_isa("auto"), best_isa());
}

TEST(Isa, AnUnknownNameListsWhatThereIs) {
  try {
    parse_isa("avx3");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::usage);
    for (Isa isa : available_isas()) {
      EXPECT_NE(error.text().find(name_of(isa)), std::string::npos) << error.text();
    }
  }
}

TEST(Isa, ForcedBf16WithoutItSaysSo) {
  for (Isa isa : {Isa::avx512_bf16, Isa::amx}) {
    if (available(isa)) {
      EXPECT_EQ(parse_isa(name_of(isa)), isa);
      continue;
    }
    try {
      parse_isa(name_of(isa));
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      EXPECT_NE(error.text().find("bf16 instructions"), std::string::npos) << error.text();
      EXPECT_NE(error.text().find(name_of(best_isa())), std::string::npos) << error.text();
    }
  }
}

TEST(Isa, EachHasVectorKernels) {
  for (Isa isa : available_isas()) {
    EXPECT_TRUE(available(vector_isa(isa)));
    EXPECT_EQ(vector_isa(isa) == isa, isa <= Isa::avx512) << name_of(isa);
  }
}

}  // namespace
}  // namespace sluice
