#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "checkpoint/safetensors_header.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

using Bytes = std::vector<std::byte>;

Bytes file_of(const std::string& header, std::size_t data_bytes) {
  Bytes out(8 + header.size() + data_bytes);
  for (std::size_t i = 0; i < 8; ++i) out[i] = std::byte(header.size() >> (8 * i) & 0xff);
  std::memcpy(out.data() + 8, header.data(), header.size());
  return out;
}

// "" when the file is accepted, else the error's text.
std::string refusal(const Bytes& file) {
  try {
    SafetensorsFile::parse(file, "test.safetensors");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    return e.text();
  }
  return "";
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape +
         R"(],"data_offsets":[)" + offsets + "]}";
}

TensorInfo info(std::string name, std::string dtype, std::vector<std::int64_t> shape) {
  return {std::move(name), std::move(dtype), std::move(shape), 0, 0};
}

Bytes pattern(std::int64_t bytes, unsigned seed) {
  Bytes out(static_cast<std::size_t>(bytes));
  std::mt19937 random(seed);
  for (std::byte& b : out) b = std::byte(random() & 0xff);
  return out;
}

struct Case {
  const char* rule;
  std::string header;
  std::size_t data;
  const char* says;  // part of the refusal; "" = accepted
};

std::vector<Case> accepted_headers() {
  const std::string a = entry("a", "F32", "2", "0,8");
  const std::string long_name(1025, 'n');
  return {
      {"plain", "{" + a + "}", 8, ""},
      {"padded", "{" + a + "}     ", 8, ""},
      {"padded by much", "{" + a + "}" + std::string(4096, ' '), 8, ""},
      {"metadata", R"({"__metadata__":{"format":"pt"},)" + a + "}", 8, ""},
      {"empty", "{}", 0, ""},
      {"scalar", "{" + entry("a", "F64", "", "0,8") + "}", 8, ""},
      {"zero size",
       "{" + a + "," + entry("z", "F32", "0,7", "0,0") + "," + entry("y", "I64", "3,0", "8,8") +
           "}",
       8, ""},
      {"four bits", "{" + entry("a", "F4", "2,3", "0,3") + "}", 3, ""},
      {"any order", "{" + entry("b", "BF16", "4", "8,16") + "," + a + "}", 16, ""},
      {"name with escapes", "{" + entry("\\u00e4\\n", "U8", "1", "0,1") + "}", 1, ""},
      {"name at the limit", "{" + entry(long_name.substr(1), "U8", "1", "0,1") + "}", 1, ""},

  };
}

std::vector<Case> headers_that_are_no_json() {
  const std::string a = entry("a", "F32", "2", "0,8");
  return {
      {"no header", "", 0, "begins with {"},
      {"an array", "[]", 0, "begins with {"},
      {"leading space", " {" + a + "}", 8, "begins with {"},
      {"byte order mark", "\xef\xbb\xbf{}", 0, "begins with {"},
      {"padding other than spaces", "{" + a + "}\n", 8, "ends with }"},
      {"zero padding", "{" + a + "}" + std::string(3, '\0'), 8, "zero byte"},
      {"text after a zero byte", "{" + a + "}" + std::string(1, '\0') + "}", 8, "zero byte"},
      {"unclosed", "{" + a + "", 8, "not JSON"},
      {"two values", "{" + a + "}{}", 8, "not JSON"},
      {"comment", "{/* */" + a + "}", 8, "not JSON"},
      {"trailing comma", "{" + a + ",}", 8, "not JSON"},
      {"bad UTF-8", "{" + entry("a\xff", "F32", "2", "0,8") + "}", 8, "not JSON"},
      {"cut UTF-8", "{" + entry("\xc3", "F32", "2", "0,8") + "}", 8, "not JSON"},
      {"lone surrogate", "{" + entry("\\ud800", "F32", "2", "0,8") + "}", 8, "not JSON"},
      {"zero byte in a name", "{" + entry("a\\u0000", "F32", "2", "0,8") + "}", 8, "zero byte"},
      {"long name", "{" + entry(std::string(1025, 'n'), "U8", "1", "0,1") + "}", 1, "too long"},
  };
}

std::vector<Case> headers_of_another_form() {
  const std::string a = entry("a", "F32", "2", "0,8");
  return {
      {"duplicate tensor", "{" + a + "," + entry("a", "F32", "2", "8,16") + "}", 16,
       "occurs twice"},
      {"duplicate zero-size tensor",
       "{" + entry("z", "F32", "0", "0,0") + "," + entry("z", "F32", "0", "0,0") + "}", 0,
       "occurs twice"},
      {"duplicate through an escape", "{" + a + "," + entry("\\u0061", "F32", "2", "8,16") + "}",
       16, "occurs twice"},
      {"duplicate field", R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       8, "field occurs twice"},
      {"duplicate offsets",
       R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4],"data_offsets":[0,8]}})", 8,
       "field occurs twice"},
      {"duplicate metadata", R"({"__metadata__":{},"__metadata__":{}})", 0, "occurs twice"},
      {"duplicate metadata key", R"({"__metadata__":{"a":"1","a":"2"}})", 0, "occurs twice"},
      {"metadata of numbers", R"({"__metadata__":{"a":1}})", 0, "must not"},
      {"nested metadata", R"({"__metadata__":{"a":{}}})", 0, "must not"},
      {"metadata null", R"({"__metadata__":null})", 0, "must not"},
      {"tensor is a string", R"({"a":"F32"})", 0, "must not"},
      {"tensor is an array", R"({"a":[]})", 0, "must not"},
      {"deep", R"({"a":{"shape":[[[[1]]]]}})", 0, "must not"},
      {"very deep", "{\"a\":" + std::string(100000, '[') + "}", 0, "must not"},
      {"unknown field", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8,
       "unknown"},
      {"no dtype", R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, "missing"},
      {"no shape", R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8, "missing"},
      {"no offsets", R"({"a":{"dtype":"F32","shape":[2]}})", 8, "missing"},
      {"unknown dtype", "{" + entry("a", "F31", "2", "0,8") + "}", 8, "type is unknown"},
      {"dtype in lower case", "{" + entry("a", "f32", "2", "0,8") + "}", 8, "type is unknown"},
      {"dtype is a number", R"({"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}})", 8,
       "must not"},
  };
}

std::vector<Case> headers_with_wrong_numbers() {
  const std::string a = entry("a", "F32", "2", "0,8");
  return {
      {"one offset", "{" + entry("a", "F32", "2", "0") + "}", 8, "fewer"},
      {"three offsets", "{" + entry("a", "F32", "2", "0,8,9") + "}", 8, "more than two"},
      {"negative offset", "{" + entry("a", "F32", "2", "-8,0") + "}", 8, "negative"},
      {"fractional size", "{" + entry("a", "F32", "2.0", "0,8") + "}", 8, "no integer"},
      {"boolean size", "{" + entry("a", "F32", "true", "0,8") + "}", 8, "must not"},
      {"null size", "{" + entry("a", "F32", "null", "0,8") + "}", 8, "must not"},
      {"string size", "{" + entry("a", "F32", "\"2\"", "0,8") + "}", 8, "must not"},
      {"negative size", "{" + entry("a", "F32", "-2", "0,8") + "}", 8, "negative"},
      {"size of 2^64", "{" + entry("a", "F32", "18446744073709551616", "0,8") + "}", 8,
       "no integer"},
      {"size of 2^63", "{" + entry("a", "F32", "9223372036854775808", "0,8") + "}", 8, "too large"},
      {"size over the limit", "{" + entry("a", "U8", "1099511627777", "0,8") + "}", 8, "range"},
      {"size product overflows",
       "{" + entry("a", "F32", "1099511627776,1099511627776", "0,0") + "}", 0, "too large"},
      {"overflow to the right bytes",
       "{" + entry("a", "F32", "1099511627776,1099511627776,0", "0,0") + "}", 0, "too large"},
      {"nine dimensions", "{" + entry("a", "U8", "1,1,1,1,1,1,1,1,1", "0,1") + "}", 1, "too many"},
      {"not a whole byte", "{" + entry("a", "F4", "3", "0,2") + "}", 2, "whole number of bytes"},
      {"shape smaller than bytes", "{" + entry("a", "F32", "1", "0,8") + "}", 8, "match its shape"},
      {"shape larger than bytes", "{" + entry("a", "F32", "3", "0,8") + "}", 8, "match its shape"},
      {"end before begin", "{" + entry("a", "F32", "2", "8,0") + "}", 8, "before it begins"},
      {"not from zero", "{" + entry("a", "F32", "2", "4,12") + "}", 12, "hole"},
      {"hole", "{" + a + "," + entry("b", "F32", "1", "12,16") + "}", 16, "hole"},
      {"overlap", "{" + a + "," + entry("b", "F32", "2", "4,12") + "}", 12, "overlap"},
      {"same place", "{" + a + "," + entry("b", "F32", "2", "0,8") + "}", 8, "overlap"},
      {"zero size inside another", "{" + a + "," + entry("z", "F32", "0", "4,4") + "}", 8,
       "overlap"},
      {"zero size past the end", "{" + a + "," + entry("z", "F32", "0", "9,9") + "}", 8, "hole"},
      {"data too short", "{" + a + "}", 7, "another size"},
      {"data too long", "{" + a + "}", 9, "another size"},
      {"no data for the header", "{" + entry("a", "U8", "1099511627776", "0,1099511627776") + "}",
       8, "another size"},
  };
}

TEST(Safetensors, EveryRuleOfTheFormat) {
  for (const Case& c : accepted_headers()) {
    EXPECT_EQ(refusal(file_of(c.header, c.data)), "") << c.rule;
  }
  for (const auto& cases :
       {headers_that_are_no_json(), headers_of_another_form(), headers_with_wrong_numbers()}) {
    for (const Case& c : cases) {
      const std::string text = refusal(file_of(c.header, c.data));
      EXPECT_NE(text, "") << c.rule;
      EXPECT_NE(text.find(c.says), std::string::npos) << c.rule << "\n" << text;
    }
  }
}

TEST(Safetensors, HeaderLengthIsChecked) {
  Bytes file = file_of("{}", 0);
  EXPECT_EQ(refusal(file), "");
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'001}, ~std::uint64_t{0}, ~std::uint64_t{0} - 7,
        std::uint64_t{1} << 63}) {
    std::memcpy(file.data(), &length, 8);
    EXPECT_NE(refusal(file).find("does not fit"), std::string::npos) << length;
  }
  for (std::size_t size = 0; size < 8; ++size) {
    EXPECT_NE(refusal(Bytes(size)).find("too short"), std::string::npos);
  }
}

struct Written {
  Bytes file;
  WrittenFile result;
  std::vector<TensorInfo> tensors;
};

Written write_small(const TestFolder& folder, const std::string& name) {
  Faults faults;
  const std::filesystem::path path = folder.path() / name;
  SafetensorsWriter writer(
      path,
      {info("b.bias", "F32", {5}), info("a.ids", "U8", {3}), info("c", "I64", {}),
       info("a.weight", "F32", {2, 3}), info("empty", "F32", {0, 4}), info("h", "BF16", {3})},
      {{"format", "pt"}}, faults);
  unsigned seed = 0;
  for (const TensorInfo& t : writer.tensors()) {
    const Bytes bytes = pattern(t.bytes, seed++);
    for (std::size_t i = 0; i < bytes.size(); i += 5) {  // in pieces of odd size
      writer.write(t.name, std::span(bytes).subspan(i, std::min<std::size_t>(5, bytes.size() - i)));
    }
  }
  Written out{{}, writer.finish(), writer.tensors()};
  const std::string text = read_text(path);
  out.file.resize(text.size());
  std::memcpy(out.file.data(), text.data(), text.size());
  return out;
}

TEST(Safetensors, WriterAndReaderAgree) {
  const TestFolder folder;
  const Written written = write_small(folder, "m.safetensors");
  EXPECT_EQ(written.result.size, std::ssize(written.file));
  EXPECT_EQ(written.result.hash, hash128_hex(written.file.data(), written.file.size()));

  const SafetensorsFile file = SafetensorsFile::open(folder.path() / "m.safetensors");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  std::vector<std::string> names;
  unsigned seed = 0;
  for (const TensorInfo& t : written.tensors) {
    names.push_back(t.name);
    const TensorInfo* found = file.find(t.name);
    ASSERT_NE(found, nullptr) << t.name;
    EXPECT_EQ(found->dtype, t.dtype);
    EXPECT_EQ(found->shape, t.shape);
    const std::span<const std::byte> bytes = file.bytes(*found);
    EXPECT_EQ(Bytes(bytes.begin(), bytes.end()), pattern(t.bytes, seed++)) << t.name;
    // Aligned to its own type: what the order of writing is for.
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) %
                  static_cast<std::uintptr_t>(*safetensors_bits(t.dtype) / 8),
              0u)
        << t.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"c", "a.weight", "b.bias", "empty", "h", "a.ids"}));
  EXPECT_EQ(file.find("a"), nullptr);
  EXPECT_EQ(file.find("zzz"), nullptr);
}

TEST(Safetensors, HeaderIsPaddedToEightBytes) {
  const TestFolder folder;
  Faults faults;
  for (int length = 1; length < 10; ++length) {
    const std::filesystem::path path = folder.path() / std::to_string(length);
    SafetensorsWriter writer(path, {info(std::string(length, 'n'), "U8", {0})}, {}, faults);
    EXPECT_EQ(writer.finish().size % 8, 0);
    EXPECT_NO_THROW(SafetensorsFile::open(path));
  }
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const TestFolder folder;
  const Written written = write_small(folder, "m.safetensors");
  EXPECT_EQ(refusal(written.file), "");
  for (std::size_t size = 0; size < written.file.size(); ++size) {
    EXPECT_NE(refusal(Bytes(written.file.begin(),
                            written.file.begin() + static_cast<std::ptrdiff_t>(size))),
              "")
        << size;
  }
  Bytes longer = written.file;
  longer.push_back(std::byte{0});
  EXPECT_NE(refusal(longer), "");
}

// Whatever the bytes, the reader accepts or throws Error; spans stay inside the file. Run under
// the sanitizers this is a small fuzzer.
TEST(Safetensors, RandomDamageIsSurvived) {
  const TestFolder folder;
  const Bytes good = write_small(folder, "m.safetensors").file;
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    Bytes file = good;
    const int edits = 1 + static_cast<int>(random() % 4);
    for (int e = 0; e < edits; ++e) {
      const std::size_t at = random() % file.size();
      switch (random() % 4) {
        case 0:
          file[at] = std::byte(random() & 0xff);
          break;
        case 1:
          file[at] ^= std::byte(1u << (random() % 8));
          break;
        case 2:
          file.erase(file.begin() + static_cast<std::ptrdiff_t>(at));
          break;
        default:
          file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), file[at]);
          break;
      }
    }
    try {
      const SafetensorsFile parsed = SafetensorsFile::parse(file, "fuzz");
      for (const TensorInfo& t : parsed.tensors()) {
        const auto bytes = parsed.bytes(t);
        ASSERT_EQ(std::ssize(bytes), t.bytes);
        ASSERT_TRUE(bytes.empty() || (bytes.data() >= file.data() &&
                                      bytes.data() + bytes.size() <= file.data() + file.size()));
      }
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::input);
      ++refused;
    }
  }
  EXPECT_GT(refused, 10000);
}

TEST(Safetensors, WriterRefusesMisuse) {
  const TestFolder folder;
  Faults faults;
  auto path = [&, n = 0]() mutable { return folder.path() / std::to_string(n++); };
  const std::vector<TensorInfo> two{info("a", "U8", {2}), info("b", "U8", {2})};
  const Bytes two_bytes(2), three_bytes(3);
  {
    SafetensorsWriter writer(path(), two, {}, faults);
    EXPECT_THROW(writer.write("b", two_bytes), Error);
    EXPECT_THROW(writer.write("a", three_bytes), Error);
    EXPECT_THROW(writer.finish(), Error);
    writer.write("a", two_bytes);
    EXPECT_THROW(writer.write("a", two_bytes), Error);
    writer.write("b", two_bytes);
    EXPECT_NO_THROW(writer.finish());
  }
  const auto refuses = [&](std::vector<TensorInfo> infos) {
    EXPECT_THROW(SafetensorsWriter(path(), std::move(infos), {}, faults), Error);
  };
  refuses({info("a", "U8", {2}), info("a", "F32", {2})});
  refuses({info("a", "U9", {2})});
  refuses({info("a", "U8", {-2})});
  refuses({info("__metadata__", "U8", {2})});
  refuses({info("\xff", "U8", {2})});
  refuses({info(std::string(2000, 'x'), "U8", {2})});
}

TEST(Safetensors, MissingFileIsAnInputError) {
  try {
    SafetensorsFile::open("/nonexistent/model.safetensors");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
  }
}

}  // namespace
}  // namespace sluice
