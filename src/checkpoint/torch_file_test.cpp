// Pickles and archives of PyTorch: those that torch.save wrote (tests/goldens/checkpoints), and
// what somebody else may have made of them.
#include "checkpoint/torch_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/pickle.h"
#include "checkpoint/zip_file.h"
#include "core/error.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

using namespace std::string_literals;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string golden(const std::string& name) {
  return read_text(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/goldens/checkpoints" / name /
                   "pytorch_model.bin");
}

// The whole text of the error, or "read".
std::string outcome(const std::string& file) {
  try {
    (void)read_torch_file(bytes_of(file), "file.bin");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    return e.text();
  }
  return "read";
}

bool says(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The old form, its object being `object`.
std::string legacy(const std::string& object, const std::string& rest = "") {
  const std::string start =
      "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
      "\x80\x02M\xe9\x03.\x80\x02}."s;
  return start + "\x80\x02"s + object + rest;
}
constexpr std::size_t object_at = 27;  // of legacy(): the byte after PROTO 2

std::string text(const std::string& value) {
  return "X"s + static_cast<char>(value.size()) + "\0\0\0"s + value;
}
// {"w": a tensor of [2, 3] float32 with these strides, from `offset` in a storage of `numbers`}
std::string one_tensor(char offset = 0, char numbers = 6, char row = 3, char column = 1,
                       const std::string& more = "N") {
  return "}"s + text("w") + "ctorch._utils\n_rebuild_tensor_v2\n(("s + text("storage") +
         "ctorch\nFloatStorage\n"s + text("7") + text("cpu") + "K"s + numbers + more + "tQK"s +
         offset + "K\2K\3\x86K"s + row + "K"s + column + "\x86\x89" +
         "ccollections\nOrderedDict\n)RtRs."s;
}
std::string storage(std::int64_t count, const std::vector<float>& numbers) {
  std::string out(8 + numbers.size() * 4, '\0');
  std::memcpy(out.data(), &count, 8);
  std::memcpy(out.data() + 8, numbers.data(), numbers.size() * 4);
  return "\x80\x02]"s + text("7") + "a."s + out;
}
const std::vector<float> six{0, 1, 2, 3, 4, 5};

std::vector<float> numbers_of(const StoredTensor& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.count()));
  read_numbers(tensor, 0, out);
  return out;
}

TEST(TorchFile, ReadsATensorAlongItsStrides) {
  const std::string file = legacy(one_tensor(), storage(6, six));
  const auto tensors = read_torch_file(bytes_of(file), "file.bin");
  ASSERT_EQ(tensors.size(), 1u) << outcome(file);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].text(), "F32 [2, 3]");
  EXPECT_EQ(numbers_of(tensors[0]), six);
  const std::string columns = legacy(one_tensor(0, 6, 1, 2), storage(6, six));
  const auto transposed = read_torch_file(bytes_of(columns), "file.bin");
  EXPECT_EQ(numbers_of(transposed.at(0)), (std::vector<float>{0, 2, 4, 1, 3, 5}));
  std::vector<float> part(2);  // from the middle of a row
  read_numbers(transposed.at(0), 2, part);
  EXPECT_EQ(part, (std::vector<float>{4, 1}));
}

TEST(TorchFile, NamesWhatIsForbiddenAndWhere) {
  const auto at = [](std::size_t byte) { return fmt::format("(object) byte {}\n", byte); };
  const struct {
    std::string object;
    const char* found;
    std::size_t byte;
  } forbidden[] = {
      {"cposix\nsystem\n.", "found: global posix.system", object_at},
      {"c__builtin__\neval\n.", "found: global __builtin__.eval", object_at},
      {"}ctorch.storage\n_load_from_bytes\n.", "found: global torch.storage._load_from_bytes",
       object_at + 1},
      {"ccollections\nOrderedDict.x\n.", "found: global collections.OrderedDict.x", object_at},
      {"}\x8c\5posix\x8c\6system\x93.", "found: opcode SHORT_BINUNICODE (0x8c)", object_at + 1},
      {"}}\x93.", "found: opcode STACK_GLOBAL (0x93)", object_at + 2},
      {"(iposix\nsystem\n.", "found: opcode INST (0x69)", object_at + 1},
      {"(o.", "found: opcode OBJ (0x6f)", object_at + 1},
      {")\x81.", "found: opcode NEWOBJ (0x81)", object_at + 1},
      {"\x82\1.", "found: opcode EXT1 (0x82)", object_at},
      {"}2.", "found: opcode DUP (0x32)", object_at + 1},
      {"\xff.", "found: opcode 0xff", object_at},
  };
  for (const auto& one : forbidden) {
    const std::string found = outcome(legacy(one.object));
    EXPECT_TRUE(says(found, "something that is not allowed")) << found;
    EXPECT_TRUE(says(found, one.found)) << found;
    EXPECT_TRUE(says(found, at(one.byte))) << found;
  }
  EXPECT_EQ(outcome(legacy("}.", "\x80\x02].")), "read");  // the judge: no tensors are fine
}

TEST(TorchFile, HoldsEveryValueAgainstItsUse) {
  for (const auto& [object, problem] : {
           std::pair{"]K\1K\2s."s, "another kind than its use"},  // SETITEM on a list
           {"}K\1a."s, "another kind than its use"},              // APPEND on a dict
           {"}(K\1u."s, "a key has no value"},
           {"(K\1"s, "ends early"},
           {"K\1K\1."s, "does not end with one value"},
           {"(."s, "does not end with one value"},
           {"s."s, "its stack is empty"},
           {"}(s."s, "its stack is empty"},  // what lies below a mark is not reached
           {"u."s, "there is no mark"},
           {"h\1."s, "did not remember"},
           {"}r\xff\xff\xff\xffh\1."s, "remembers too much"},
           {"X\xff\xff\xff\xffw."s, "ends early"},
           {"K\1)R."s, "another kind than its use"},  // a call of a number
           {"ctorch\nFloatStorage\n)R."s, "calls what cannot be called"},
           {"ccollections\nOrderedDict\nK\1\x85R."s, "another number of arguments"},
           {"K\1Q."s, "another kind than its use"},
           {text("module") + "\x85Q."s, "refers to something that is no storage"},
           {"\x80\4}."s, "its protocol is another"},
           {one_tensor(0, 6, 3, 1, "K\1"), "a view of another one"},
       })
    EXPECT_TRUE(says(outcome(legacy(object)), problem)) << outcome(legacy(object));
  EXPECT_TRUE(says(outcome(legacy("K\1.", "\x80\x02].")), "holds no state dict"));
  EXPECT_TRUE(says(outcome(legacy("}"s + text("w") + "}s.", "\x80\x02].")), "more than tensors"));
  EXPECT_TRUE(says(outcome(legacy("}K\1K\1s.", "\x80\x02].")), "has no name"));
}

TEST(TorchFile, HoldsTensorsAgainstStoragesAndStoragesAgainstTheFile) {
  EXPECT_EQ(outcome(legacy(one_tensor(), storage(6, six))), "read");
  for (const auto& [object, problem] : {std::pair{one_tensor(1), "lies outside its storage"},
                                        {one_tensor(0, 6, 4), "lies outside its storage"},
                                        {one_tensor(0, 6, 3, 2), "lies outside its storage"},
                                        {one_tensor(0, 6, 0, 0), "a number at two places"},
                                        {one_tensor(0, 6, 1, 1), "a number at two places"},
                                        {one_tensor(0, 7), "another size"}})
    EXPECT_TRUE(says(outcome(legacy(object, storage(6, six))), problem))
        << outcome(legacy(object, storage(6, six)));
  EXPECT_TRUE(says(outcome(legacy(one_tensor(), storage(6, {0, 1, 2}))), "another size"));
  EXPECT_TRUE(says(outcome(legacy(one_tensor(), "\x80\x02].")), "does not fit its tensors"));
  EXPECT_TRUE(says(outcome(legacy(one_tensor(), "\x80\x02]"s + text("8") + "a.")),
                   "does not fit its tensors"));
}

// What torch.save makes of tied, transposed, empty and scalar tensors, of parameters and of a
// module's state with its _metadata: the seeds of the fuzzer.
TEST(TorchFile, ReadsEverySeed) {
  const std::filesystem::path seeds =
      std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/fuzz/corpus/torch_file";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(seeds)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".zip") && !name.ends_with(".legacy")) continue;
    const std::string file = read_text(entry.path());
    ASSERT_EQ(outcome(file), "read") << name;
    const auto tensors = read_torch_file(bytes_of(file), name);
    EXPECT_FALSE(tensors.empty()) << name;
    for (const StoredTensor& tensor : tensors)
      EXPECT_TRUE((tensor.name != "w" && tensor.name != "b") || numbers_of(tensor) == six) << name;
    ++files;
  }
  EXPECT_EQ(files, 12);
}

// Nested a million deep: nothing recurses, neither on the way in nor on the way out.
TEST(TorchFile, DepthIsNoDanger) {
  std::string deep = "]";
  for (int i = 0; i < 300'000; ++i) deep += "\x85";
  EXPECT_TRUE(says(outcome(legacy(deep + ".", "\x80\x02].")), "holds no state dict"));
  EXPECT_TRUE(says(outcome(legacy(std::string(1'100'000, '}') + ".")), "too many values"));
  EXPECT_TRUE(says(outcome(legacy(std::string(1'100'000, '(') + ".")), "too many marks"));
  EXPECT_TRUE(says(outcome(legacy(std::string(1'100'000, 'N') + ".")), "stack is too deep"));
  // A list that is its own element, and a tuple in itself by way of it.
  EXPECT_TRUE(says(outcome(legacy("]q\1h\1a.", "\x80\x02].")), "holds no state dict"));
}

class TorchGoldens : public testing::TestWithParam<const char*> {};

TEST_P(TorchGoldens, EveryTruncationIsRefused) {
  const std::string whole = golden(GetParam());
  ASSERT_EQ(outcome(whole), "read");
  for (std::size_t size = 0; size < whole.size(); size += 1 + size / 100) {
    const std::string part = whole.substr(0, size);
    if (is_torch_file(bytes_of(part))) {
      EXPECT_NE(outcome(part), "read") << size;
    }
  }
}

// Whatever one byte becomes, what is read lies inside the file (the sanitizer watches).
TEST_P(TorchGoldens, NoByteLeadsOutOfTheFile) {
  const std::string whole = golden(GetParam());
  std::size_t refused = 0;
  for (std::size_t at = 0; at < whole.size(); at += 7) {  // 7: every bit of a byte in turn
    std::string other = whole;
    other[at] = static_cast<char>(other[at] ^ (1 << at % 8));
    if (!is_torch_file(bytes_of(other))) continue;
    try {
      double sum = 0;
      for (const StoredTensor& tensor : read_torch_file(bytes_of(other), "file.bin"))
        for (const std::byte byte : tensor.bytes) sum += std::to_integer<int>(byte);
      EXPECT_GE(sum, 0);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 50u);
}

INSTANTIATE_TEST_SUITE_P(Each, TorchGoldens,
                         testing::Values("gpt2-bin", "gpt2-legacy", "gptj-legacy-bf16"),
                         [](const auto& one) {
                           std::string name = one.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(TorchFile, ChecksumsFindAFlippedBit) {
  const auto verified = [](const std::string& file) {
    try {
      return verify_torch_file(bytes_of(file), "file.bin", [](std::span<const std::byte>) {})
                 ? "good"s
                 : "no checksums"s;
    } catch (const Error& e) {
      return e.text();
    }
  };
  std::string file = golden("gpt2-bin");
  EXPECT_EQ(verified(file), "good");
  const auto entries = read_zip(bytes_of(file), "file.bin");
  const auto weights = std::find_if(entries.begin(), entries.end(), [](const ZipEntry& entry) {
    return entry.name.ends_with("/data/3");
  });
  ASSERT_NE(weights, entries.end());
  file[static_cast<std::size_t>(weights->bytes.data() - bytes_of(file).data()) + 5] ^= 4;
  EXPECT_TRUE(says(verified(file), "an entry is damaged")) << verified(file);
  EXPECT_EQ(verified(golden("gpt2-legacy")), "no checksums");
}

TEST(Half, IsWhatIeeeSays) {
  EXPECT_EQ(half_to_float(0x3c00), 1.0f);
  EXPECT_EQ(half_to_float(0xc000), -2.0f);
  EXPECT_EQ(half_to_float(0x7bff), 65504.0f);
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(half_to_float(0x0400), 0x1p-14f);
  EXPECT_EQ(half_to_float(0xfc00), -INFINITY);
  EXPECT_TRUE(std::isnan(half_to_float(0x7e00)));
  for (std::uint32_t half = 0; half < 0x10000; ++half) {
    const float x = half_to_float(static_cast<std::uint16_t>(half));
    ASSERT_TRUE(std::isnan(x) || float_to_half(x) == half) << half;
  }
  EXPECT_EQ(float_to_half(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(1.0f + 0x1p-11f), 0x3c00);  // a tie goes to the even one
  EXPECT_EQ(float_to_half(1.0f + 0x3p-11f), 0x3c02);
  EXPECT_EQ(float_to_half(0x3p-25f), 0x0002);
}

}  // namespace
}  // namespace sluice
