#include "checkpoint/events_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/test_folder.h"

namespace sluice {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// RFC 3720, B.4.
TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(crc32c(bytes_of(std::string(32, '\0'))), 0x8a9136aaU);
  EXPECT_EQ(crc32c(bytes_of(std::string(32, '\xff'))), 0x62a8ab43U);
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283U);
  EXPECT_NE(crc32c(bytes_of("123456788")), 0xe3069283U);
}

std::uint32_t masked(std::string_view text) {
  const std::uint32_t crc = crc32c(bytes_of(text));
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

template <class T>
T read_at(const std::string& text, std::size_t at) {
  T value{};
  std::memcpy(&value, text.data() + at, sizeof(T));
  return value;
}

// The events of a file whose frames are whole; their checksums are checked.
std::vector<std::string> events_of(const std::string& file) {
  std::vector<std::string> events;
  for (std::size_t at = 0; at < file.size();) {
    const auto size = static_cast<std::size_t>(read_at<std::uint64_t>(file, at));
    EXPECT_EQ(read_at<std::uint32_t>(file, at + 8), masked(file.substr(at, 8)));
    events.push_back(file.substr(at + 12, size));
    EXPECT_EQ(read_at<std::uint32_t>(file, at + 12 + size), masked(events.back()));
    at += 16 + size;
  }
  return events;
}

// Without its time, which is 9 bytes at the start: key 0x09 and a double.
std::string untimed(const std::string& event) {
  EXPECT_EQ(event[0], '\x09');
  EXPECT_GT(read_at<double>(event, 1), 1.6e9);
  return event.substr(9);
}

TEST(EventsFile, IsWhatTensorFlowWrites) {
  const TestFolder folder;
  {
    EventsFile file(folder.path(), 300);
    file.add(301, {{"a/b", 0.5}, {"nothing", std::nan("")}, {"c", -2}});
    file.add(302, {{"nothing", std::nan("")}});
    file.add(303, {{std::string(5000, 'x'), 1}});
    EXPECT_EQ(file.lost(), 1) << "the tag finds no room";
  }
  std::string name;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    name = entry.path().filename().string();
  EXPECT_TRUE(name.starts_with("events.out.tfevents.")) << name;
  const std::vector<std::string> events = events_of(read_text(folder.path(name)));
  ASSERT_EQ(events.size(), 3u);
  using namespace std::string_literals;
  EXPECT_EQ(untimed(events[0]),
            "\x10\x00\x1a\x0d"
            "brain.Event:2"s);
  EXPECT_EQ(untimed(events[1]), "\x10\xad\x02\x3a\x02\x08\x01"s) << "step 301, session started";
  EXPECT_EQ(untimed(events[2]),
            "\x10\xad\x02\x2a\x16"
            "\x0a\x0a\x0a\x03"
            "a/b\x15\x00\x00\x00\x3f"
            "\x0a\x08\x0a\x01"
            "c\x15\x00\x00\x00\xc0"s);
}

}  // namespace
}  // namespace sluice
