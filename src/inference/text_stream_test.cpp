#include "inference/text_stream.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(TextStream, characters_come_whole) {
  TextStream stream({});
  EXPECT_EQ(stream.push("a\xE2"), "a");
  EXPECT_EQ(stream.push("\x82"), "");
  EXPECT_EQ(stream.push("\xAC!"), "\xE2\x82\xAC!");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, what_is_no_utf8_is_replaced) {
  const std::string mark = "\xEF\xBF\xBD";
  TextStream stream({});
  EXPECT_EQ(stream.push("\xFF"
                        "a"),
            mark + "a");
  EXPECT_EQ(stream.push("\xE2\x82"), "");
  EXPECT_EQ(stream.push("b"), mark + "b");
  EXPECT_EQ(stream.push("\xF0\x9F"), "");
  EXPECT_EQ(stream.finish(), mark);
  EXPECT_EQ(valid_utf8("\xC0\x80"), mark + mark);             // overlong
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), mark + mark + mark);  // a surrogate
  EXPECT_EQ(valid_utf8("\xF4\x90\x80\x80"), mark + mark + mark + mark);
  EXPECT_EQ(valid_utf8("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
}

TEST(TextStream, stop_strings_are_cut_across_pieces) {
  TextStream stream({"END", "", "\n\n"});
  EXPECT_EQ(stream.push("one E"), "one ");
  EXPECT_EQ(stream.push("N"), "");
  EXPECT_EQ(stream.push("Q E"), "ENQ ");
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.push("NDless"), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.push("more"), "");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, the_earliest_stop_wins) {
  TextStream stream({"cd", "bcde"});
  EXPECT_EQ(stream.push("abcdef"), "a");
  EXPECT_TRUE(stream.stopped());
}

TEST(TextStream, a_beginning_without_its_end_is_text) {
  TextStream stream({"stop"});
  EXPECT_EQ(stream.push("sto"), "");
  EXPECT_EQ(stream.finish(), "sto");
  EXPECT_FALSE(stream.stopped());
}

}  // namespace
}  // namespace sluice
