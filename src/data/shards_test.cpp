#include "data/shards.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "core/error.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

Ids read_all(const TokenFile& file) {
  Ids out(static_cast<std::size_t>(file.tokens()));
  file.read(0, out);
  return out;
}

class Shards : public testing::Test {
 protected:
  // Documents of 3, 0 and 5 bytes, each with end of text: 11 tokens.
  void write(const std::string& prefix = "set") const {
    const TokenizerPtr bytes = make_bytes_tokenizer();
    ShardWriter writer(path(prefix), *bytes);
    for (const std::string_view text : {"abc", "", "hello"}) {
      Ids ids;
      bytes->encode(text, ids);
      writer.append(ids);
      writer.append(Ids{256});
      writer.end_document(static_cast<std::int64_t>(text.size()));
    }
    writer.finish();
    writer.publish();
  }
  std::string path(const std::string& name) const { return folder_.path(name); }
  std::string content(const std::string& name) const { return read_file(path(name)); }
  // The error of opening (and verifying) after `name` got this content; the file is put back.
  std::string refused(const std::string& name, const std::string& now, bool verify = false) const {
    const std::string before = content(name);
    write_file_atomic(path(name), now);
    std::string what = "accepted";
    try {
      const TokenFile file(path("set"));
      if (verify) file.verify();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      EXPECT_EQ(e.report().where.rfind(path("set"), 0), 0u) << e.report().where;
      what = e.report().what;
    }
    write_file_atomic(path(name), before);
    return what;
  }
  template <class T>
  std::string changed(const std::string& name, std::size_t at, T value) const {
    std::string out = content(name);
    std::memcpy(out.data() + at, &value, sizeof value);
    return out;
  }
  TestFolder folder_;
};

TEST_F(Shards, round_trip) {
  write();
  EXPECT_EQ(folder_.names(),
            (std::set<std::string>{"set.bin", "set.idx", "set.json", "set.tokenizer.json"}));
  const TokenFile file(path("set"));
  file.verify();
  EXPECT_EQ(file.tokens(), 11);
  EXPECT_EQ(file.documents(), 3);
  EXPECT_EQ(file.text_bytes(), 8);
  EXPECT_EQ(read_all(file), (Ids{'a', 'b', 'c', 256, 256, 'h', 'e', 'l', 'l', 'o', 256}));
  Ids part(3);
  file.read(5, part);
  EXPECT_EQ(part, (Ids{'h', 'e', 'l'}));
  file.read(11, std::span<std::int32_t>());
  EXPECT_THROW(file.read(9, part), Error);
  EXPECT_THROW(file.read(-1, part), Error);
  EXPECT_EQ(*file.tokenizer(), identity_of(*make_bytes_tokenizer()));
  EXPECT_EQ(load_tokenizer(file.tokenizer_path())->hash(), file.tokenizer()->hash);
  EXPECT_EQ(TokenFile(path("set.bin")).documents(), 3);
}

TEST_F(Shards, layout_is_megatrons) {
  write();
  const std::string idx = content("set.idx");
  EXPECT_EQ(idx.size(), 34u + 3 * 12 + 4 * 8);
  EXPECT_EQ(idx.substr(0, 9), std::string("MMIDIDX\0\0", 9));
  const auto expect_at = [&]<class T>(std::size_t offset, T value) {
    T found;
    std::memcpy(&found, idx.data() + offset, sizeof found);
    EXPECT_EQ(found, value) << offset;
  };
  expect_at(9, std::uint64_t{1});
  expect_at(17, std::uint8_t{8});
  expect_at(18, std::uint64_t{3});
  expect_at(26, std::uint64_t{4});
  expect_at(34, std::int32_t{4}), expect_at(38, std::int32_t{1}), expect_at(42, std::int32_t{6});
  expect_at(46, std::int64_t{0}), expect_at(54, std::int64_t{8}), expect_at(62, std::int64_t{10});
  expect_at(70, std::int64_t{0}), expect_at(78, std::int64_t{1}), expect_at(86, std::int64_t{2}),
      expect_at(94, std::int64_t{3});
  EXPECT_EQ(content("set.bin").substr(0, 8), std::string("a\0b\0c\0\0\1", 8));
}

TEST_F(Shards, wide_ids_and_split_documents) {
  std::vector<char32_t> alphabet(70000);
  std::iota(alphabet.begin(), alphabet.end(), char32_t{0x10000});
  const TokenizerPtr chars = make_chars_tokenizer(alphabet);
  Ids ids(2500);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 28);
  ShardWriter writer(path("wide"), *chars, 1000);
  writer.append(std::span(ids).first(700));
  writer.append(std::span(ids).subspan(700));
  writer.end_document(1);
  writer.append(std::span(ids).first(1000));
  writer.end_document(1);
  writer.finish();
  writer.publish();
  const TokenFile file(path("wide"));
  file.verify();
  EXPECT_EQ(file.documents(), 2);
  EXPECT_EQ(file.tokens(), 3500);
  Ids found = read_all(file);
  found.resize(2500);
  EXPECT_EQ(found, ids);
  EXPECT_EQ(content("wide.idx").size(), 34u + 4 * 12 + 3 * 8);  // 1000 1000 500 | 1000
}

TEST_F(Shards, nothing_half_written) {
  {
    const TokenizerPtr bytes = make_bytes_tokenizer();
    ShardWriter writer(path("new/set"), *bytes);
    writer.append(Ids{1, 2, 3});
    writer.end_document(3);
    writer.finish();
  }
  EXPECT_TRUE(std::filesystem::is_empty(path("new")));
  write();
  const TokenFile old(path("set"));
  write();  // over a set that is mapped: the old pages stay
  EXPECT_EQ(read_all(old), read_all(TokenFile(path("set"))));
}

TEST_F(Shards, truncated_or_altered) {
  write();
  const std::string bin = content("set.bin"), idx = content("set.idx"),
                    sidecar = content("set.json");
  for (std::size_t size = 0; size < bin.size(); ++size) {
    EXPECT_EQ(refused("set.bin", bin.substr(0, size)),
              "the token shard is truncated or from another run");
  }
  EXPECT_NE(refused("set.bin", bin + "xx"), "accepted");
  for (std::size_t size = 0; size < idx.size(); ++size) {
    EXPECT_EQ(refused("set.idx", idx.substr(0, size)), "the shards' index is damaged");
  }
  for (std::size_t size = 0; size + 2 < sidecar.size(); ++size) {
    EXPECT_EQ(refused("set.json", sidecar.substr(0, size)), "the shards' sidecar is damaged");
  }
  const std::string damaged = "the shards' index is damaged";
  EXPECT_EQ(refused("set.idx", changed("set.idx", 9, std::uint64_t{2})), damaged);
  EXPECT_EQ(refused("set.idx", changed("set.idx", 17, std::uint8_t{6})), damaged);
  EXPECT_EQ(refused("set.idx", changed("set.idx", 18, ~std::uint64_t{0})), damaged);
  EXPECT_EQ(refused("set.idx", changed("set.idx", 34, std::int32_t{-4})), damaged);
  EXPECT_EQ(refused("set.idx", changed("set.idx", 42, std::int32_t{7})), damaged);
  EXPECT_EQ(refused("set.idx", changed("set.idx", 62, std::int64_t{1} << 40)), damaged);
  EXPECT_EQ(refused("set.idx", changed("set.idx", 94, std::int64_t{4})), damaged);
  EXPECT_EQ(refused("set.idx", idx), "accepted");
}

TEST_F(Shards, every_flipped_bit_is_found) {
  write();
  for (const char* name : {"set.bin", "set.idx"}) {
    const std::string good = content(name);
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      ASSERT_NE(refused(name, bad, true), "accepted") << name << " bit " << bit;
    }
    EXPECT_EQ(refused(name, good, true), "accepted");
  }
}

// Whatever the sidecar says: an error or a set that reads, never a crash.
TEST_F(Shards, random_sidecars) {
  write();
  std::mt19937 random(1);
  const std::string good = content("set.json");
  int refusals = 0;
  for (int trial = 0; trial < 500; ++trial) {
    std::string bad = good;
    for (int k = 0; k < 3; ++k) {
      bad[random() % bad.size()] = "0123456789-.\"{}[],:e"[random() % 20];
    }
    refusals += refused("set.json", bad, true) != "accepted";
  }
  EXPECT_GT(refusals, 250);
  nlohmann::json sidecar = nlohmann::json::parse(good);
  sidecar["version"] = 2;
  EXPECT_EQ(refused("set.json", sidecar.dump()),
            "these shards have a format that this version does not read");
}

TEST_F(Shards, missing_files) {
  write();
  const auto what = [&](const std::string& name) -> std::string {
    try {
      TokenFile file(path(name));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      return e.report().what;
    }
    return "accepted";
  };
  EXPECT_EQ(what("none"), "there are no token shards at " + path("none"));
  std::filesystem::remove(path("set.json"));
  EXPECT_EQ(what("set"), "the shards are incomplete");
  write();
  std::filesystem::remove(path("set.idx"));
  EXPECT_NE(what("set"), "accepted");
  EXPECT_EQ(what("set.bin"), "accepted");  // as raw ids
}

TEST_F(Shards, raw_ids) {
  write_file_atomic(path("raw.bin"), std::string("\1\0\2\1\xff\xff", 6));
  TokenFile file(path("raw.bin"));
  EXPECT_EQ(read_all(file), (Ids{1, 258, 65535}));
  EXPECT_FALSE(file.tokenizer());
  EXPECT_FALSE(file.text_bytes());
  EXPECT_EQ(file.checksum(), hash128_hex("\1\0\2\1\xff\xff", 6));
  file.verify();
  file.limit_ids(259);
  Ids two(2), three(3);
  file.read(0, two);
  try {
    file.read(0, three);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_EQ(e.report().where, path("raw.bin") + " token 2");
    EXPECT_EQ(e.report().found, "65535");
  }
  for (const char* bad : {"", "abc"}) {
    write_file_atomic(path("bad.bin"), bad);
    EXPECT_THROW(TokenFile(path("bad.bin")), Error);
  }
}

template <class T>
std::string bytes_of(const std::vector<T>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

std::string llmc_shard(std::vector<std::int32_t> header, const std::string& ids) {
  header.resize(256);
  return bytes_of(header) + ids;
}

TEST_F(Shards, shards_of_llm_c) {
  const std::vector<std::uint16_t> ids = {50256, 1, 2, 40000};
  write_file_atomic(path("a_1.bin"), llmc_shard({20240520, 1, 4}, bytes_of(ids)));
  write_file_atomic(path("a_2.bin"),
                    llmc_shard({20240520, 1, 3}, bytes_of(std::vector<std::uint16_t>{7, 8, 9})));
  const Ids one = {50256, 1, 2, 40000};
  EXPECT_EQ(read_all(TokenFile(path("a_1.bin"))), one);
  const Ids both = {50256, 1, 2, 40000, 7, 8, 9};
  const TokenFile file(path("a_*.bin"));
  EXPECT_EQ(read_all(file), both);
  EXPECT_EQ(file.documents(), 0);
  EXPECT_FALSE(file.tokenizer());
  for (std::int64_t at = 0; at < 7; ++at)
    for (std::int64_t count = 0; count <= 7 - at; ++count) {
      Ids part(static_cast<std::size_t>(count));
      file.read(at, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), both.begin() + at));
    }
  // The same ids as one raw file have the same checksum, others have another.
  write_file_atomic(path("raw.bin"),
                    bytes_of(std::vector<std::uint16_t>{50256, 1, 2, 40000, 7, 8, 9}));
  EXPECT_EQ(file.checksum(), TokenFile(path("raw.bin")).checksum());
  EXPECT_NE(file.checksum(), TokenFile(path("a_1.bin")).checksum());
  write_file_atomic(path("wide.bin"),
                    llmc_shard({20240801, 7, 2}, bytes_of(std::vector<std::int32_t>{128000, 5})));
  EXPECT_EQ(read_all(TokenFile(path("wide.bin"))), (Ids{128000, 5}));
  TokenFile limited(path("a_*.bin"));
  limited.limit_ids(50000);
  Ids part(3);
  limited.read(1, part);
  try {
    limited.read(0, part);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.report().where, path("a_1.bin") + " token 0");
  }
}

TEST_F(Shards, headers_that_are_refused) {
  const std::string ids = bytes_of(std::vector<std::uint16_t>{1, 2, 3});
  const auto what = [&](const std::string& content) -> std::string {
    write_file_atomic(path("x.bin"), content);
    try {
      const TokenFile file(path("x.bin"));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      EXPECT_EQ(e.report().where, path("x.bin"));
      return e.report().what;
    }
    return "accepted";
  };
  EXPECT_EQ(what(llmc_shard({20240520, 1, 3}, ids)), "accepted");
  const std::string size = "the size of this shard of llm.c is not what its header says";
  EXPECT_EQ(what(llmc_shard({20240520, 1, 2}, ids)), size);
  EXPECT_EQ(what(llmc_shard({20240520, 1, 4}, ids)), size);
  EXPECT_EQ(what(llmc_shard({20240520, 1, -3}, ids)), size);
  EXPECT_EQ(what(llmc_shard({20240520, 2, 3}, ids)),
            "this shard of llm.c has a version that is not read");
  EXPECT_EQ(what(llmc_shard({20240520, 1, 3}, ids).substr(0, 900)),
            "this shard of llm.c is truncated");
  for (const std::int32_t magic : {20240522, 20240326, 20240328})
    EXPECT_EQ(what(llmc_shard({magic, 1, 3}, ids)),
              "this file of llm.c holds no tokens to train on");
  EXPECT_EQ(what("abc"), "this is no file of raw token ids");
  write_file_atomic(path("y_1.bin"), llmc_shard({20240520, 1, 3}, ids));
  write_file_atomic(path("y_2.bin"), llmc_shard({20240801, 7, 1}, bytes_of(Ids{1})));
  EXPECT_THROW(TokenFile(path("y_*.bin")), Error);
  EXPECT_THROW(TokenFile(path("z_*.bin")), Error);
}

TEST_F(Shards, the_wrong_tokenizer) {
  write();
  write_file_atomic(path("raw.bin"), "ab");
  const TokenizerIdentity bytes = identity_of(*make_bytes_tokenizer());
  const TokenizerIdentity chars = identity_of(*make_chars_tokenizer({'a', 'b'}));
  require_tokenizer(TokenFile(path("set")), bytes, "the model");
  require_tokenizer(TokenFile(path("raw.bin")), chars, "the model");
  try {
    require_tokenizer(TokenFile(path("set")), chars, "the model");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_EQ(e.report().where, path("set"));
  }
}

}  // namespace
}  // namespace sluice
