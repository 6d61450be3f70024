// The constants of the shard files (data/shards.h says their layout), shared by writer and reader.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluice {

inline constexpr std::string_view index_magic("MMIDIDX\0\0", 9);
inline constexpr std::size_t index_header = 34;  // magic, version, type, two counts
inline constexpr std::uint8_t index_u16 = 8;
inline constexpr std::uint8_t index_i32 = 4;
inline constexpr std::string_view sidecar_format = "sluice-tokens";
inline constexpr int sidecar_version = 1;

}  // namespace sluice
