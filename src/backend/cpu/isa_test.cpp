#include "backend/cpu/isa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "backend/cpu/isa_choice.h"
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

std::string choice(std::string_view name, const std::vector<Isa>& there) {
  try {
    return std::string(name_of(choose_isa(name, there)));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::usage);
    return error.text();
  }
}

// On machines that this one is not.
TEST(Isa, ForcedWithoutItSaysSoAndListsWhatThereIs) {
  const std::vector<Isa> old{Isa::portable}, common{Isa::portable, Isa::avx2},
      wide{Isa::portable, Isa::avx2, Isa::avx512},
      half{Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16};
  EXPECT_EQ(choice("avx2", old),
            "sluice: error: this machine lacks an instruction set that was asked for\n"
            "  where: run.isa\n"
            "  expected: one of auto, portable\n"
            "  found: avx2\n"
            "  try: --run.isa=auto\n");
  EXPECT_EQ(choice("avx512_bf16", wide),
            "sluice: error: this processor has no bf16 instructions\n"
            "  where: run.isa\n"
            "  expected: one of auto, portable, avx2, avx512\n"
            "  found: avx512_bf16\n"
            "  try: --run.isa=auto\n");
  EXPECT_EQ(choice("amx", half),
            "sluice: error: this processor, or its kernel, offers no AMX bf16 instructions\n"
            "  where: run.isa\n"
            "  expected: one of auto, portable, avx2, avx512, avx512_bf16\n"
            "  found: amx\n"
            "  try: --run.isa=auto\n");
  for (const auto& there : {old, common, wide, half}) {
    EXPECT_EQ(choice("auto", there), name_of(there.back()));
    for (const Isa isa : there) EXPECT_EQ(choice(name_of(isa), there), name_of(isa));
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
