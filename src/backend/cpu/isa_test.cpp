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

}  // namespace
}  // namespace sluice
