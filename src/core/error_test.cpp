#include "core/error.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Error, prints_the_four_line_form) {
  const Error e(Exit::usage, {"770 columns do not divide by 12 heads",
                              "mine.toml:4 model.width",
                              "a multiple of 12",
                              "770",
                              {"model.width = 768", "model.heads = 11"}});
  EXPECT_EQ(e.code(), Exit::usage);
  EXPECT_STREQ(e.what(), "770 columns do not divide by 12 heads");
  EXPECT_EQ(e.text(),
            "sluice: error: 770 columns do not divide by 12 heads\n"
            "  where: mine.toml:4 model.width\n"
            "  expected: a multiple of 12\n"
            "  found: 770\n"
            "  try: model.width = 768\n"
            "  try: model.heads = 11\n");
}

TEST(Error, leaves_out_what_is_not_known) {
  EXPECT_EQ(Error("broken").text(), "sluice: error: broken\n");
  EXPECT_EQ(Error("broken").code(), Exit::internal);
}

TEST(Error, debug_adds_source_and_chain) {
  try {
    doing([] { return std::string("training"); },
          [] {
            doing([] { return std::string("reading a shard"); },
                  []() -> int {
                    throw Error(Exit::input, {"short", {}, {}, {}, {}}, "a.cpp", 7);
                  });
          });
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.text(true),
              "sluice: error: short\n"
              "  thrown at: a.cpp:7\n"
              "  while: reading a shard\n"
              "  while: training\n");
    EXPECT_EQ(e.text(), "sluice: error: short\n");
  }
}

TEST(Error, require_builds_the_message_on_failure_only) {
  int built = 0;
  const auto make = [&] {
    ++built;
    return Error("no");
  };
  require(true, make);
  EXPECT_EQ(built, 0);
  EXPECT_THROW(require(false, make), Error);
  EXPECT_EQ(built, 1);
}

TEST(Error, nearest_name) {
  const std::vector<std::string> names = {"model.width", "model.heads", "optim.lr"};
  EXPECT_EQ(nearest("model.widht", names), "model.width");
  EXPECT_EQ(nearest("model.head", names), "model.heads");
  EXPECT_EQ(nearest("optim.lr", names), "optim.lr");
  EXPECT_EQ(nearest("quite another thing", names), "");
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace sluice
