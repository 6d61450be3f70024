#include "data/unpack.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "core/test_folder.h"
#include "data/clean.h"
#include "data/json_text.h"
#include "data/tar.h"
#include "data/test_pack.h"

namespace sluice {
namespace {

const std::vector<Packing> packings = {Packing::none, Packing::gzip, Packing::zstd, Packing::xz};

class Unpack : public testing::Test {
 protected:
  FileRange file(const std::string& content) const {
    write_text(folder_.path("file"), content);
    return {folder_.path("file"), "file", 0, static_cast<std::int64_t>(content.size())};
  }
  static std::string all_of(Unpacker& from, std::size_t room = 4096) {
    std::string out, part(room, '\0');
    for (std::size_t got; (got = from.read(part.data(), room)) > 0;) out.append(part, 0, got);
    return out;
  }
  static std::string text() {
    std::string out;
    for (const std::string& document : some_documents(500)) out += document;
    return out;
  }
  TestFolder folder_;
};

TEST_F(Unpack, one_member_or_many) {
  const std::string a = text(), b = "more", c = a.substr(1000);
  for (const Packing packing : packings) {
    std::string content =
        packed(a, packing) + packed("", packing) + packed(b, packing) + packed(c, packing);
    for (const std::size_t room : {1U, 7U, 4096U, 1U << 20}) {
      if (room == 1) content = packed(b, packing) + packed(b, packing);
      EXPECT_EQ(all_of(*Unpacker::open(file(content), packing), room),
                room == 1 ? b + b : a + b + c);
      content = packed(a, packing) + packed("", packing) + packed(b, packing) + packed(c, packing);
    }
  }
}

// A part of a file is read as a file of its own.
TEST_F(Unpack, ranges) {
  for (const Packing packing : packings) {
    const std::string content = packed("in the middle", packing);
    FileRange range = file("before" + content + "after");
    range.begin = 6;
    range.end = 6 + static_cast<std::int64_t>(content.size());
    EXPECT_EQ(all_of(*Unpacker::open(range, packing)), "in the middle");
  }
}

// From a point on, the rest comes out as if all had been read; the window matters.
TEST_F(Unpack, points) {
  std::string whole;
  for (unsigned seed = 1; whole.size() < 4'000'000; ++seed)
    for (const std::string& document : some_documents(500, seed)) whole += document;
  for (const Packing packing : packings) {
    std::string content;
    for (std::size_t at = 0; at < whole.size(); at += 1'700'000)
      content += packed(whole.substr(at, 1'700'000), packing);
    const FileRange range = file(content);
    const auto first = Unpacker::open(range, packing);
    std::int64_t latest = 0;
    for (std::int64_t at = 0; at < static_cast<std::int64_t>(whole.size()); at += 1'111'111) {
      first->skip_to(at);
      const ReadPoint point = first->point_before(at);
      EXPECT_LE(point.unpacked, at);
      latest = point.unpacked;
      const auto second = Unpacker::open(range, packing, point);
      second->skip_to(at);
      EXPECT_TRUE(all_of(*second, 1 << 16) == whole.substr(static_cast<std::size_t>(at)));
      if (packing != Packing::gzip || !point.window) continue;
      ReadPoint other = point;
      other.window = std::make_shared<std::string>(point.window->size(), 'x');
      const auto third = Unpacker::open(range, packing, other);
      EXPECT_FALSE(all_of(*third, 1 << 16) ==
                   whole.substr(static_cast<std::size_t>(point.unpacked)));
    }
    EXPECT_GT(latest, packing == Packing::xz ? -1 : 1'500'000);
  }
}

TEST_F(Unpack, truncated_or_damaged) {
  const std::string whole = text();
  for (const Packing packing : {Packing::gzip, Packing::zstd, Packing::xz}) {
    const std::string content = packed(whole, packing);
    const auto what = [&](const std::string& bytes) -> std::string {
      try {
        return all_of(*Unpacker::open(file(bytes), packing)) == whole ? "right" : "wrong";
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Exit::input);
        return e.report().what;
      }
    };
    EXPECT_EQ(what(content), "right");
    for (const std::size_t size : {content.size() - 1, content.size() - 9, content.size() / 2,
                                   std::size_t{5}, std::size_t{1}})
      EXPECT_EQ(what(content.substr(0, size)), "the packed file is truncated") << size;
    EXPECT_EQ(what("no such thing, and long enough"), "the packed file is damaged");
    std::string flipped = content;
    flipped[content.size() / 2] = static_cast<char>(flipped[content.size() / 2] ^ 0x10);
    EXPECT_NE(what(flipped), packing == Packing::zstd ? "right" : "wrong");
  }
}

TEST(Tar, entries_and_what_is_none) {
  const std::string archive =
      tar_of({{"folder/a.txt", "alpha"}, {"b.bin", std::string(600, 'x')}, {"c.txt", ""}});
  std::size_t at = 0;
  const ReadAll read = [&](char* out, std::size_t bytes) {
    if (archive.size() - at < bytes) return false;
    archive.copy(out, bytes, at);
    at += bytes;
    return true;
  };
  std::vector<std::string> names;
  while (const auto entry = next_tar_entry(read, "archive")) {
    EXPECT_TRUE(entry->file);
    names.push_back(fmt::format("{} {}", entry->name, entry->size));
    at += static_cast<std::size_t>(in_blocks(entry->size));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"folder/a.txt 5", "b.bin 600", "c.txt 0"}));
  EXPECT_TRUE(is_tar(std::string_view(archive).substr(0, 512)));
  std::string other = archive;
  other[3] = 'x';
  EXPECT_FALSE(is_tar(std::string_view(other).substr(0, 512)));
  at = 512;  // content is no header
  EXPECT_THROW(next_tar_entry(read, "archive"), Error);
}

std::string found(const std::string& line, const std::string& field = "text") {
  JsonText json(field);
  const std::string padded = line + std::string(JsonText::slack, ' ');
  const auto text = json.find(std::string_view(padded).substr(0, line.size()));
  return text ? "= " + std::string(*text) : json.problem();
}

TEST(JsonText, finds_the_text) {
  EXPECT_EQ(found(R"({"text":"a\n\u00e9\ud83d\ude00\"b"})"), "= a\n\u00e9\U0001F600\"b");
  EXPECT_EQ(found(R"( {"a":[1,{"text":"no"}],"text" : "yes","b":null} )"), "= yes");
  EXPECT_EQ(found(R"({"text":"first","text":"last"})"), "= last");
  EXPECT_EQ(found(R"({"content":"c","text":"t"})", "content"), "= c");
  EXPECT_EQ(found(R"({"n":123456789012345678901234567890,"text":"big"})"), "= big");
  EXPECT_EQ(found(R"({"text":""})"), "= ");
  const std::string large(3'000'000, 'x');  // by the other parser
  EXPECT_EQ(found(R"({"meta":{"text":"no"},"text":")" + large + R"("})"), "= " + large);
}

TEST(JsonText, says_what_is_wrong) {
  EXPECT_EQ(found(R"({"text":"a")"), "no JSON from its byte 12 on");
  EXPECT_EQ(found(R"({"text":"a"} x)"), "no JSON from its byte 14 on");
  EXPECT_EQ(found(R"(["text"])"), "JSON, and no object");
  EXPECT_EQ(found(R"("text")"), "JSON, and no object");
  EXPECT_EQ(found(R"({"txt":"a"})"), "no \"text\"");
  EXPECT_EQ(found(R"({"a":{"text":"a"}})"), "no \"text\"");
  EXPECT_EQ(found(R"({"text":null})"), "null in \"text\"");
  EXPECT_EQ(found(R"({"text":["a"]})"), "an array in \"text\"");
  EXPECT_EQ(found(R"({"text":"a","text":3})"), "a number in \"text\"");
  EXPECT_EQ(found("{\"text\":\"\xff\"}"), "no JSON from its byte 10 on");
  EXPECT_EQ(found(R"({"text":"\ud800"})"), "no JSON from its byte 16 on");
  EXPECT_EQ(found(std::string(100'000, '[')), "no JSON from its byte 100001 on");
}

TEST(Clean, as_the_dataset_does) {
  const auto cleaned = [](std::string text) {
    clean(Clean::openwebtext, text);
    return text;
  };
  EXPECT_EQ(cleaned("\n\n a\n\n\n\nb\n\nc \u3000\x1f\n"), "a\n\nb\n\nc");
  EXPECT_EQ(cleaned("\u2028\u00a0x\u200b\u0085"), "x\u200b");
  EXPECT_EQ(cleaned(" \n\t "), "");
  EXPECT_EQ(cleaned("\xA0x\xE3\x80"), "\xA0x\xE3\x80");
  EXPECT_EQ(cleaned("a\r\n\r\n\r\nb"), "a\r\n\r\n\r\nb");
  std::string same = "\n";
  clean(Clean::none, same);
  EXPECT_EQ(same, "\n");
}

}  // namespace
}  // namespace sluice
