#include "executor/window.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/test_folder.h"

namespace sluice {
namespace {

constexpr std::int64_t page = ScratchFile::page, pages = 4;

class WindowTest : public testing::Test {
 protected:
  WindowTest()
      : file_(folder_.path().string(), 3 * pages * page, faults_),
        slot_(static_cast<std::byte*>(std::aligned_alloc(page, pages * page)), std::free),
        window_(file_, slot_.get(), pages * page) {}

  // A number of page `p` of blob `b`, through the window.
  int read(std::int64_t b, std::int64_t at) {
    return static_cast<int>(*window_.see(b * pages * page, at, 1, false));
  }
  void write(std::int64_t b, std::int64_t at, int number) {
    *window_.see(b * pages * page, at, 1, true) = static_cast<std::byte>(number);
  }

  TestFolder folder_;
  Faults faults_;
  ScratchFile file_;
  std::unique_ptr<std::byte, void (*)(void*)> slot_;
  Window window_;
};

TEST_F(WindowTest, ChangesComeHome) {
  for (std::int64_t b = 0; b < 3; ++b)
    for (std::int64_t at = 5; at < pages * page; at += 700)
      write(b, at, static_cast<int>(b * 70 + at / 700));
  for (std::int64_t b = 3; b-- > 0;)
    for (std::int64_t at = 5; at < pages * page; at += 700) {
      EXPECT_EQ(read(b, at), b * 70 + at / 700);
      EXPECT_EQ(read(b, at + 1), 0);
    }
}

TEST_F(WindowTest, WhatIsOnlyReadIsNotWritten) {
  write(1, 100, 1);
  window_.close();
  const std::int64_t writes = faults_.count("scratch.write");
  *window_.see(pages * page, 100, 1, false) = std::byte{2};
  EXPECT_EQ(read(1, 100), 2) << "it is the same page until the window is closed";
  window_.close();
  EXPECT_EQ(read(1, 100), 1);
  EXPECT_EQ(faults_.count("scratch.write"), writes);
}

// Two values that share a page, and one that crosses into the next.
TEST_F(WindowTest, NeighboursKeepWhatTheyHave) {
  write(0, page - 1, 1);
  *window_.see(0, page - 300, 200, true) = std::byte{2};
  std::byte* const across = window_.see(0, page - 50, 100, true);
  EXPECT_EQ(across[49], std::byte{1});
  across[50] = std::byte{3};
  EXPECT_EQ(read(1, 0), 0);
  EXPECT_EQ(read(0, page - 300), 2);
  EXPECT_EQ(read(0, page - 1), 1);
  EXPECT_EQ(read(0, page), 3);
}

TEST_F(WindowTest, ReadsEachPageOnce) {
  read(0, 0), read(0, 1), read(0, page), read(0, 2 * page - 1);
  EXPECT_EQ(faults_.count("scratch.read"), 2);
  window_.see(0, 0, pages * page, false);
  EXPECT_EQ(faults_.count("scratch.read"), 3);
}

}  // namespace
}  // namespace sluice
