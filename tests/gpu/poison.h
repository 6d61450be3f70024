// Device memory filled with one byte, and how many words of it still are: what tells that a kernel
// wrote all of a result.
#pragma once

#include <cstdint>

namespace sluice {

constexpr int poison_byte = 0xff;  // NaN, in every type of float
void fill_bytes(void* data, int byte, std::int64_t bytes);
// Words of four bytes that are poison; -1 when the device failed.
std::int64_t poisoned_words(const void* data, std::int64_t bytes);

}  // namespace sluice
