// For tests: packed bytes, archives and JSON lines.
#pragma once

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "data/unpack.h"

namespace sluice {

inline std::string gzip_of(const std::string& text, int level = 6) {
  z_stream stream = {};
  deflateInit2(&stream, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) throw std::runtime_error("deflate");
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string zstd_of(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

inline std::string xz_of(const std::string& text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t size = 0;
  if (lzma_easy_buffer_encode(
          0, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
          text.size(), reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()) != LZMA_OK)
    throw std::runtime_error("lzma");
  out.resize(size);
  return out;
}

inline std::string packed(const std::string& text, Packing packing) {
  switch (packing) {
    case Packing::none:
      return text;
    case Packing::gzip:
      return gzip_of(text);
    case Packing::zstd:
      return zstd_of(text);
    case Packing::xz:
      return xz_of(text);
  }
  throw std::runtime_error("packing");
}

using TarFiles = std::vector<std::pair<std::string, std::string>>;  // name, content

inline std::string tar_of(const TarFiles& files) {
  std::string out;
  for (const auto& [name, content] : files) {
    std::string header(512, '\0');
    header.replace(0, name.size(), name);
    header.replace(100, 7, "0000644");
    header.replace(124, 11, fmt::format("{:011o}", content.size()));
    header.replace(148, 8, "        ");
    header[156] = '0';
    header.replace(257, 5, "ustar");
    header.replace(263, 2, "00");
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    header.replace(148, 6, fmt::format("{:06o}", sum));
    header[154] = '\0';
    out += header + content + std::string((512 - content.size() % 512) % 512, '\0');
  }
  return out + std::string(1024, '\0');
}

inline std::string json_lines(const std::vector<std::string>& documents) {
  std::string out;
  for (const std::string& text : documents)
    out +=
        nlohmann::json{{"id", 7}, {"text", text}, {"meta", {{"text", "not this"}}}}.dump() + "\n";
  return out;
}

// `count` documents of many sizes, with escapes, other scripts and white space in them.
inline std::vector<std::string> some_documents(int count, unsigned seed = 1) {
  std::vector<std::string> out;
  std::uint64_t state = seed;
  const auto next = [&](unsigned below) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<unsigned>(state >> 33) % below;
  };
  static const std::vector<std::string> words = {
      "the ", "mill ", "turned ", "it's ", "\"quoted\" ", "caf\u00e9 ", "\u6771\u4eac", "\n",
      "\n\n", "\t",    "1234 ",   "\\ ",   "\U0001F600 ", "don't ",     "  ",           ". "};
  for (int i = 0; i < count; ++i) {
    std::string& text = out.emplace_back();
    for (unsigned words_left = next(400); words_left > 0; --words_left)
      text += words[next(static_cast<unsigned>(words.size()))];
  }
  return out;
}

}  // namespace sluice
