// The helper of the tests is tested too.
#include "process.h"

#include <gtest/gtest.h>

#include "core/test_folder.h"

namespace sluice {
namespace {

TEST(Process, SaysHowAChildEnded) {
  const TestFolder folder;
  const Ended ended = run_command("echo out; echo err >&2; exit 7", folder.path());
  EXPECT_EQ(ended.exit, 7);
  EXPECT_EQ(ended.out, "out\n");
  EXPECT_EQ(ended.err, "err\n");
  EXPECT_EQ(run_command("kill -9 $$", folder.path()).exit, 137);
  EXPECT_EQ(run_command("sleep 60", folder.path(), 0.05).exit, 137);  // patience has an end
}

TEST(Process, ContentsSeeEveryChange) {
  const TestFolder folder;
  run_command("mkdir sub; echo a > sub/file", folder.path());
  const auto before = contents_of(folder.path());
  EXPECT_EQ(before.size(), 2u);
  EXPECT_EQ(contents_of(folder.path()), before);
  run_command("printf b | dd of=sub/file conv=notrunc 2>/dev/null", folder.path());
  EXPECT_NE(contents_of(folder.path()), before);
  run_command("printf a | dd of=sub/file conv=notrunc 2>/dev/null; mkdir empty", folder.path());
  EXPECT_NE(contents_of(folder.path()), before);
}

}  // namespace
}  // namespace sluice
