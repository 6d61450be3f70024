#include "core/file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

class File : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path(name); }
  TestFolder folder_;
};

template <class Body>
Exit exit_of(Body body, std::string* where = nullptr) {
  try {
    body();
  } catch (const Error& e) {
    if (where != nullptr) *where = e.report().where;
    return e.code();
  }
  return Exit::ok;
}

TEST_F(File, writes_and_reads_back) {
  const std::string bytes("a\0b\n\xff", 5);
  write_file_atomic(path("a"), bytes);
  EXPECT_EQ(read_file(path("a")), bytes);
  EXPECT_EQ(MappedFile(path("a")).text(), bytes);
  write_file_atomic(path("a"), "other");
  EXPECT_EQ(read_file(path("a")), "other");
  EXPECT_NE(read_file(path("a")), bytes);
  EXPECT_EQ(folder_.names(), std::set<std::string>{"a"});
}

TEST_F(File, empty_files_are_files) {
  write_file_atomic(path("empty"), "");
  EXPECT_EQ(read_file(path("empty")), "");
  const MappedFile file(path("empty"));
  EXPECT_EQ(file.size(), 0u);
  EXPECT_TRUE(file.text().empty());
}

TEST_F(File, a_mapping_moves) {
  write_file_atomic(path("a"), "first");
  write_file_atomic(path("b"), "second");
  MappedFile a(path("a"));
  MappedFile b(std::move(a));
  EXPECT_EQ(b.text(), "first");
  b = MappedFile(path("b"));
  EXPECT_EQ(b.text(), "second");
}

TEST_F(File, unreadable_input_is_an_input_error) {
  std::string where;
  EXPECT_EQ(exit_of([&] { MappedFile file(path("none")); }, &where), Exit::input);
  EXPECT_EQ(where, path("none"));
  EXPECT_EQ(exit_of([&] { read_file(path("none")); }), Exit::input);
  EXPECT_EQ(exit_of([&] { read_file(folder_.path()); }), Exit::input);
  EXPECT_EQ(exit_of([&] { MappedFile file(folder_.path()); }), Exit::input);
  EXPECT_EQ(exit_of([&] { MappedFile file("/dev/null"); }), Exit::input);
  write_file_atomic(path("long"), "12345");
  EXPECT_EQ(exit_of([&] { read_file(path("long"), 4); }), Exit::input);
  EXPECT_EQ(exit_of([&] { read_file(path("long"), 5); }), Exit::ok);
}

TEST_F(File, failed_writing_keeps_the_old_file) {
  std::string where;
  EXPECT_EQ(exit_of([&] { write_file_atomic(path("no/such/folder"), "x"); }, &where), Exit::disk);
  EXPECT_EQ(where, path("no/such/folder"));
  EXPECT_EQ(exit_of([] {
              AtomicFile full("/dev/full-is-not-a-folder/x");
              full.append("x");
            }),
            Exit::disk);
  write_file_atomic(path("a"), "old");
  {
    AtomicFile file(path("a"));
    file.append("new, but never published");
    file.finish();
    EXPECT_TRUE(fs::exists(path("a.tmp")));
  }
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_FALSE(fs::exists(path("a.tmp")));
}

TEST_F(File, pieces_add_up) {
  AtomicFile file(path("a"));
  file.append("one ");
  file.append("two");
  EXPECT_FALSE(fs::exists(path("a")));
  file.publish();
  EXPECT_EQ(read_file(path("a")), "one two");
  EXPECT_EQ(folder_of("a/b/c"), "a/b");
  EXPECT_EQ(folder_of("/c"), "/");
  EXPECT_EQ(folder_of("c"), ".");
}

}  // namespace
}  // namespace sluice
