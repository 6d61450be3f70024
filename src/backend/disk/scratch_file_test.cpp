#include "backend/disk/scratch_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "backend/disk/disk_space.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

constexpr std::int64_t page = ScratchFile::page;

// Pages as a device's memory has them.
struct Pages {
  explicit Pages(std::int64_t count)
      : bytes(count * page),
        data(static_cast<std::byte*>(std::aligned_alloc(page, static_cast<std::size_t>(bytes))),
             std::free) {}
  void fill(int first) const {
    for (std::int64_t i = 0; i < bytes; ++i)
      data.get()[i] = static_cast<std::byte>(first + i / page + i % 251);
  }
  bool operator==(const Pages& other) const {
    return std::memcmp(data.get(), other.data.get(), static_cast<std::size_t>(bytes)) == 0;
  }
  std::int64_t bytes;
  std::unique_ptr<std::byte, void (*)(void*)> data;
};

void expect_keeps(ScratchFile& file) {
  const Pages some(3), others(5), zeros(1), found(3), found_others(5), found_zeros(1);
  some.fill(1), others.fill(100);
  std::memset(zeros.data.get(), 0, page);
  file.write(some.data.get(), 2 * page, some.bytes);
  file.write(others.data.get(), 11 * page, others.bytes);
  file.read(found.data.get(), 2 * page, found.bytes);
  file.read(found_others.data.get(), 11 * page, found_others.bytes);
  file.read(found_zeros.data.get(), 7 * page, page);
  EXPECT_EQ(found, some);
  EXPECT_EQ(found_others, others);
  EXPECT_EQ(found_zeros, zeros);
  file.read(found.data.get(), 3 * page, found.bytes);
  EXPECT_FALSE(found == some) << "another place";
}

TEST(ScratchFile, KeepsPagesAndLeavesNothing) {
  const TestFolder folder;
  Faults faults;
  {
    ScratchFile file(folder.path().string(), 16 * page, faults);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "it has a name";
    expect_keeps(file);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(ScratchFile, GoesThroughThePageCacheWhereItMust) {
  const TestFolder folder;
  Faults faults = Faults::parse("scratch.direct:einval@1");
  ScratchFile file(folder.path().string(), 16 * page, faults);
  EXPECT_FALSE(file.direct());
  expect_keeps(file);
}

TEST(ScratchFile, GoesOnAfterHalfOfTheBytes) {
  const TestFolder folder;
  Faults faults = Faults::parse("scratch.read:short@1+,scratch.write:short@1+");
  ScratchFile file(folder.path().string(), 16 * page, faults);
  expect_keeps(file);
  EXPECT_GT(faults.count("scratch.write"), 2);
}

TEST(ScratchFile, SaysWhatFailed) {
  const TestFolder folder;
  const Pages pages(1);
  const auto text = [&](const char* spec) {
    Faults faults = Faults::parse(spec);
    try {
      ScratchFile file(folder.path().string(), 16 * page, faults);
      file.write(pages.data.get(), 0, page);
      file.read(pages.data.get(), 0, page);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::disk);
      EXPECT_EQ(e.report().where, folder.path().string());
      return e.report().what + ": " + e.report().found;
    }
    return std::string("nothing");
  };
  EXPECT_EQ(text("scratch.open:eio@1"), "cannot make the scratch file: Input/output error");
  EXPECT_EQ(text("scratch.allocate:enospc@1"),
            "cannot take room for the scratch file: No space left on device");
  EXPECT_EQ(text("scratch.write:enospc@1"),
            "cannot write the scratch file: No space left on device");
  EXPECT_EQ(text("scratch.read:eio@1"), "cannot read the scratch file: Input/output error");
  EXPECT_EQ(text("scratch.read:eio@2"), "nothing");
  Faults none;
  EXPECT_THROW(ScratchFile((folder.path() / "nowhere").string(), page, none), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(DiskSpace, IsThatOfTheNearestFolderThatIsThere) {
  const TestFolder folder;
  const std::string deep = (folder.path() / "not/there/yet").string();
  EXPECT_GT(free_disk_bytes(deep), 0);
  EXPECT_TRUE(same_disk(deep, folder.path().string()));
  EXPECT_FALSE(same_disk(deep, "/proc"));
}

}  // namespace
}  // namespace sluice
